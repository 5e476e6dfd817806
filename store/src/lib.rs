//! Chunk KV blobs on disk: checksummed, append-only segment files, and RocksDB for everything that
//! names them. The store does not know what a tensor is. It returns the bytes it was given or it
//! returns a miss, never other bytes.
//!
//! The format to the byte, the commit order and the crash cases are in this crate's `README.md`.
//!
//! ```
//! use ragweave_store::{
//!     BlobGeometry, BlobKey, ChunkRecord, Document, Identity, Store, StoreOptions,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let identity = Identity { fingerprint: [7; 32], description: "tiny model".to_owned() };
//! let store = Store::open(dir.path(), StoreOptions::new(identity))?;
//!
//! let (key, ids) = (BlobKey([1; 32]), [5, 6]);
//! let geometry =
//!     BlobGeometry { n_layers: 1, n_tokens: 2, k_block_bytes: 4, v_block_bytes: 4, dtype: 0 };
//! let blob = store.append_blob(key, geometry, &ids, [(&b"keys"[..], &b"vals"[..])].into_iter())?;
//! let chunk = ChunkRecord {
//!     id: "note#0".to_owned(),
//!     start_byte: 0,
//!     end_byte: 5,
//!     token_ids: ids.to_vec(),
//!     conditioning_ids: Vec::new(),
//!     key,
//!     vector: Vec::new(),
//!     notes: Vec::new(),
//! };
//! let document = Document {
//!     id: "note".to_owned(),
//!     text: "hello".to_owned(),
//!     metadata: Default::default(),
//!     content_hash: [0; 32],
//!     chunks: vec![chunk],
//! };
//! store.commit_document(&document, vec![blob])?; // durable from here on
//!
//! let reader = store.open_blob(&key, &ids)?.expect("committed above");
//! let (mut k, mut v) = ([0; 4], [0; 4]);
//! reader.read_layer(0, &mut k, &mut v)?;
//! assert_eq!((&k, &v), (b"keys", b"vals"));
//! # Ok(())
//! # }
//! ```

mod blob;
mod document;
mod documents;
mod error;
mod fs;
mod kv_io;
mod meta;
mod options;
pub mod page_cache;
mod reclaim;
mod recovery;
mod segment;
mod stats;
mod store;
mod verify;

pub use blob::{BlobGeometry, BlobKey, ParseBlobKeyError, PendingBlob};
pub use document::{
    ChunkRecord, Document, DocumentSummary, MAX_DOCUMENT_ID_BYTES, MAX_NOTES_BYTES, StoredChunk,
    VectorRow, text_of,
};
pub use error::StoreError;
pub use fs::{Disk, OsDisk, STORE_VERSION, is_data_directory};
pub use kv_io::{KvIo, ParseKvIoError};
pub use options::{DEFAULT_MAX_SEGMENT_BYTES, DEFAULT_MIN_FREE_BYTES, Identity, StoreOptions};
pub use segment::{BlobReader, format};
pub use stats::{MissStats, StoreStats};
pub use store::Store;
pub use verify::{BadBlob, VerifyProgress, VerifyReport};
