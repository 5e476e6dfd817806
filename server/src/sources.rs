//! Stored KV as the engine reads it: a `LayerSource` over a blob of the store.

use std::sync::Arc;

use ragweave_engine::{HostBuffer, LayerSource, SourceError, Tier};
use ragweave_store::{BlobReader, Store, StoreError};

/// Layers of one stored chunk. A block that does not verify puts the blob in quarantine, so that later requests miss it
/// at once and its replacement is computed. One that the device does not give is a miss for this request only: it may
/// be there the next time.
pub struct BlobSource {
    store: Arc<Store>,
    reader: BlobReader,
}

impl BlobSource {
    pub fn new(store: Arc<Store>, reader: BlobReader) -> Self {
        Self { store, reader }
    }
}

impl LayerSource for BlobSource {
    fn read_layer(&self, layer: usize, into: &mut HostBuffer) -> Result<(), SourceError> {
        let read = self.reader.read_layer_into(layer, into.bytes_mut());
        read.map_err(|error| {
            let (key, message) = (self.reader.key(), error.to_string());
            tracing::warn!(%key, layer, %message, "stored KV is unusable; computing the chunk instead");
            if is_damage(&error)
                && let Err(error) = self.store.quarantine(&key, &message)
            {
                tracing::error!(%key, %error, "quarantine of a bad blob failed");
            }
            SourceError { message }
        })
    }

    fn tier(&self) -> Tier {
        Tier::Disk
    }
}

/// Whether the stored bytes themselves are bad, so that reading them again cannot help.
fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt { .. })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn only_bad_bytes_are_held_against_a_blob() {
        let path = PathBuf::from("a.seg");
        let corrupt = StoreError::Corrupt {
            path: path.clone(),
            offset: 4096,
            what: "checksum".to_owned(),
        };
        let io = StoreError::Io {
            path,
            source: io::ErrorKind::TimedOut.into(),
        };
        assert!(is_damage(&corrupt));
        assert!(!is_damage(&io));
    }
}
