//! What can go wrong in a store. The variants are named by what the caller can do about it.
//!
//! A lookup of a blob that cannot be read is a miss, not an error: see `Store::open_blob`.

use std::io;
use std::path::{Path, PathBuf};

use crate::identity::Identity;

/// An error of the store. `Display` is one sentence that names the file or field concerned.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another `Store` in this one, holds the directory.
    #[error("data directory {} is in use by another process", path.display())]
    Locked { path: PathBuf },
    /// The directory is missing or holds something else.
    #[error("{} is not a ragweave data directory", path.display())]
    NotAStore { path: PathBuf },
    /// The store was made by another model, tokenizer or prompt format.
    #[error("the store was made for {found}, not for {expected}")]
    ForeignIdentity {
        found: Box<Identity>,
        expected: Box<Identity>,
    },
    /// A later version of the program wrote this store.
    #[error("{} has format version {found}, this program reads version {supported}", path.display())]
    UnsupportedVersion {
        path: PathBuf,
        found: u32,
        supported: u32,
    },
    /// A later version of the program made this store, with KV that depends on more than is known here.
    #[error("{}", unsupported(path, name, value, *supported))]
    UnsupportedRequirement {
        path: PathBuf,
        name: String,
        value: String,
        /// The only value that this version reads; `None` if it does not know the name.
        supported: Option<&'static str>,
    },
    /// Bytes on disk differ from those that were written. For a blob: quarantine it and recompute.
    #[error("{} is corrupt at byte {offset}: {what}", path.display())]
    Corrupt {
        path: PathBuf,
        offset: u64,
        what: String,
    },
    /// There is no space for this write. Nothing was committed; writes resume when there is space.
    #[error("no space in {}: {free_bytes} bytes free, {needed_bytes} needed", path.display())]
    DiskFull {
        path: PathBuf,
        free_bytes: u64,
        needed_bytes: u64,
    },
    /// An earlier write or sync failed, so no later one can be trusted. Reads still work; to write,
    /// open the store again.
    #[error("the store is read-only since a write failed: {reason}")]
    ReadOnly { reason: String },
    /// The document contradicts itself; nothing was written.
    #[error("document {id:?} cannot be stored: {what}")]
    InvalidDocument { id: String, what: String },
    /// The blob or a buffer does not match its geometry; nothing was written.
    #[error("blob {key} does not fit its geometry: {what}")]
    InvalidBlob { key: crate::BlobKey, what: String },
    /// RocksDB refused an operation.
    #[error("metadata database: {source}")]
    Metadata {
        #[from]
        source: rocksdb::Error,
    },
    /// The operating system refused an operation. `source` names the file too.
    #[error("{source}")]
    Io { path: PathBuf, source: io::Error },
}

fn unsupported(path: &Path, name: &str, value: &str, supported: Option<&str>) -> String {
    let support = match supported {
        Some(supported) => format!("and this version reads only {supported:?}"),
        None => "which this version does not know".to_owned(),
    };
    format!(
        "{} requires {name} = {value:?}, {support}; open it with the newer version of ragweave that made it",
        path.display()
    )
}

impl StoreError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            offset,
            what: what.into(),
        }
    }
}
