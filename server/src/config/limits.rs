//! What the sizes of `[limits]` must be to one another.

use super::Limits;

/// A message must hold a document's id twice and what stands beside it.
pub(crate) const MIN_MESSAGE_BYTES: usize = 4096;
/// What the length of a gRPC message is written in.
const MAX_MESSAGE_BYTES: usize = u32::MAX as usize;
/// What the store keeps in one value.
const MAX_DOCUMENT_BYTES: usize = 1 << 31;
/// Metadata of one document where nothing is set: with it the sources of 64 chunks fit the default message.
const DEFAULT_METADATA_BYTES: usize = 32 << 10;

impl Limits {
    /// Largest metadata of one document: bytes of its keys and values together.
    pub fn max_metadata_bytes(&self) -> usize {
        let default = DEFAULT_METADATA_BYTES.min(self.max_message_bytes / 2);
        self.metadata_setting.unwrap_or(default)
    }

    /// Returns the key at fault and what is wrong with it.
    pub(super) fn validate_bytes(&self) -> Result<(), (&'static str, String)> {
        let (message, document) = (self.max_message_bytes, self.max_document_bytes);
        let messages = MIN_MESSAGE_BYTES..=MAX_MESSAGE_BYTES;
        for (key, value, range) in [
            ("limits.max_message_bytes", message, messages),
            (
                "limits.max_document_bytes",
                document,
                1..=MAX_DOCUMENT_BYTES,
            ),
        ] {
            if !range.contains(&value) {
                let (least, most) = range.into_inner();
                return Err((key, format!("must lie in {least}..={most}, is {value}")));
            }
        }
        let half = message / 2;
        if self.max_metadata_bytes() > half {
            let message = format!(
                "is above half of limits.max_message_bytes, {half}: no answer could carry it"
            );
            return Err(("limits.max_metadata_bytes", message));
        }
        Ok(())
    }
}
