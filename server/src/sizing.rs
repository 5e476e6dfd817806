//! How much disk chunk KV takes, known before any of it is computed.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use ragweave_engine::{KvDtype, KvIdentity};
use ragweave_store::BlobGeometry;
use ragweave_store::format::{PAGE_BYTES, RecordLayout};

/// The stored types put side by side for a choice: bf16 takes as much as f16.
pub const COMPARED: [KvDtype; 3] = [KvDtype::F32, KvDtype::F16, KvDtype::Int8];

/// Shape of the record of a chunk of `n_tokens`. `None` if it is beyond the limits of the store.
pub fn geometry(identity: &KvIdentity, n_tokens: usize) -> Option<BlobGeometry> {
    let small = |n: usize| u32::try_from(n).ok();
    Some(BlobGeometry {
        n_layers: small(identity.n_layers)?,
        n_tokens: small(n_tokens)?,
        k_block_bytes: small(identity.k_block_bytes(n_tokens))?,
        v_block_bytes: small(identity.v_block_bytes(n_tokens))?,
        dtype: identity.dtype_tag(),
    })
}

/// Bytes of the record of a chunk of `n_tokens` on disk, padding included. `None` as for [`geometry`].
pub fn record_bytes(identity: &KvIdentity, n_tokens: usize) -> Option<u64> {
    RecordLayout::new(geometry(identity, n_tokens)?).map(|layout| layout.record_bytes())
}

/// Bytes per token on disk in chunks of `n_tokens`, padding included, rounded up. `None` as for [`geometry`].
pub fn bytes_per_token(identity: &KvIdentity, n_tokens: usize) -> Option<u64> {
    Some(record_bytes(identity, n_tokens)?.div_ceil(n_tokens.max(1) as u64))
}

/// The KV of documents that are ingested in order into a new data directory, in one stored type.
///
/// Counts records as the store lays them out, a commit mark for each document with KV, and the headers of segment
/// files. Equal chunks share their KV and count once.
#[derive(Debug)]
pub struct KvSize {
    identity: KvIdentity,
    max_segment_bytes: u64,
    keys: HashSet<[u8; 32]>,
    /// End of the segment that is being filled; 0 before the first.
    end: u64,
    record_bytes: u64,
    other_bytes: u64,
}

impl KvSize {
    pub fn new(identity: KvIdentity, max_segment_bytes: u64) -> Self {
        Self {
            identity,
            max_segment_bytes,
            keys: HashSet::new(),
            end: 0,
            record_bytes: 0,
            other_bytes: 0,
        }
    }

    pub fn kv_dtype(&self) -> KvDtype {
        self.identity.kv_dtype
    }

    /// Adds a document's chunks, given by their token ids, whose KV is computed after `conditioning`. A chunk that is
    /// too large for a record is left out: its document fails.
    pub fn add<'c>(&mut self, conditioning: &[u32], chunks: impl Iterator<Item = &'c [u32]>) {
        let mut has_kv = false;
        for ids in chunks {
            let key = self.identity.chunk_key(conditioning, ids);
            let Some(bytes) = record_bytes(&self.identity, ids.len()) else {
                continue;
            };
            if self.keys.insert(key) {
                self.append(bytes);
                has_kv = true;
            }
        }
        if has_kv {
            self.end += PAGE_BYTES;
            self.other_bytes += PAGE_BYTES;
        }
    }

    fn append(&mut self, bytes: u64) {
        if self.end == 0 || self.end.saturating_add(bytes) > self.max_segment_bytes {
            self.end = PAGE_BYTES;
            self.other_bytes += PAGE_BYTES;
        }
        self.end += bytes;
        self.record_bytes += bytes;
    }

    /// Bytes of the records alone.
    pub fn record_bytes(&self) -> u64 {
        self.record_bytes
    }

    /// Bytes of the segment files.
    pub fn total_bytes(&self) -> u64 {
        self.record_bytes + self.other_bytes
    }
}

/// Free disk space where a data directory is, or will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Free {
    pub bytes: u64,
    /// The directory that was asked: `data`, or the nearest one above it that exists.
    pub place: PathBuf,
}

impl Free {
    /// # Errors
    /// If the file system does not say.
    pub fn at(data: &Path) -> io::Result<Self> {
        let place = existing_ancestor(data);
        let stat = rustix::fs::statvfs(&place)?;
        let bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
        Ok(Self { bytes, place })
    }
}

fn existing_ancestor(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = absolute.ancestors().find(|ancestor| ancestor.exists());
    existing.map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}
