//! Stored KV as the engine reads it: a `LayerSource` over a blob of the store.

use std::sync::Arc;

use ragweave_engine::{LayerSource, SourceError};
use ragweave_store::{BlobReader, Store};

/// Layers of one stored chunk. A block that cannot be read or does not verify puts the blob in quarantine, so that
/// later requests miss it at once and its replacement is computed.
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
    fn read_layer(&mut self, layer: usize, k: &mut [u8], v: &mut [u8]) -> Result<(), SourceError> {
        self.reader.read_layer(layer, k, v).map_err(|error| {
            let (key, message) = (self.reader.key(), error.to_string());
            tracing::warn!(%key, layer, %message, "stored KV is unusable; computing the chunk instead");
            if let Err(error) = self.store.quarantine(&key, &message) {
                tracing::error!(%key, %error, "quarantine of a bad blob failed");
            }
            SourceError { message }
        })
    }
}
