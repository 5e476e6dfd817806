//! The fingerprint of a model's KV.

use ragweave_engine::EngineHandle;

/// Identity of the KV a loaded model makes, lowercase hex.
pub fn fingerprint(engine: &EngineHandle) -> String {
    hex(engine.model().identity.fingerprint())
}

/// The text form of a fingerprint, used in files and messages.
pub fn hex(fingerprint: [u8; 32]) -> String {
    blake3::Hash::from(fingerprint).to_hex().to_string()
}
