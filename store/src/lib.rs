//! Chunk KV blobs on disk: checksummed, append-only segment files, and RocksDB for the metadata. To
//! the store a blob is opaque: it returns the bytes it was given or a miss, never other bytes.
//!
//! This crate's `README.md` describes the format to the byte, the commit order and the crash cases.
//!
//! ```
//! use ragweave_store::{
//!     BlobGeometry, BlobKey, ChunkRecord, Document, Identity, Store, StoreOptions,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let identity = Identity {
//!     fingerprint: [7; 32],
//!     description: "tiny model".to_owned(),
//!     fields: Default::default(),
//! };
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
//! store.commit_document(&document, vec![blob])?; // now it is durable
//!
//! let reader = store.open_blob(&key, &ids)?.expect("committed above");
//! let (mut k, mut v) = ([0; 4], [0; 4]);
//! reader.read_layer(0, &mut k, &mut v)?;
//! assert_eq!((&k, &v), (b"keys", b"vals"));
//! # Ok(())
//! # }
//! ```

mod blob;
mod data_dir;
mod disk;
mod document;
mod documents;
mod error;
mod identity;
mod kv_io;
mod lookup;
mod marker;
mod meta;
mod options;
pub mod page_cache;
mod reclaim;
mod recovery;
mod segment;
mod stats;
mod store;
mod uring;
mod verify;

pub use blob::{BlobGeometry, BlobKey, ParseBlobKeyError};
pub use data_dir::{is_data_directory, stored_fields};
pub use disk::{Disk, OsDisk};
pub use document::{
    ChunkRecord, Document, DocumentSummary, MAX_DOCUMENT_ID_BYTES, MAX_NOTES_BYTES, StoredChunk,
    VectorRow, text_of,
};
pub use error::StoreError;
pub use identity::{Fields, Identity};
pub use kv_io::{KvIo, ParseKvIoError};
pub use marker::{REQUIREMENTS, STORE_VERSION};
pub use options::{DEFAULT_MAX_SEGMENT_BYTES, DEFAULT_MIN_FREE_BYTES, StoreOptions};
pub use segment::{BlobReader, PendingBlob, format};
pub use stats::{MissStats, StoreStats};
pub use store::Store;
pub use verify::{BadBlob, VerifyProgress, VerifyReport};
