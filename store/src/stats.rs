//! Counters of this process, and the figures that `Store::stats` reports.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::error::StoreError;
use crate::kv_io::KvIo;

/// Why a lookup found no blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MissKind {
    /// There is no blob with this key.
    Absent,
    /// The blob, or the whole store, belongs to another identity.
    Foreign,
    /// The key exists with other token ids.
    IdsDiffer,
    /// The blob was found bad earlier.
    Quarantined,
    /// The blob was found bad now.
    Corrupt,
    /// The device did not deliver the bytes.
    Io,
}

impl MissKind {
    /// The kind of miss that a failed read counts as; `None` if the mistake was the caller's.
    pub(crate) fn of_error(error: &StoreError) -> Option<Self> {
        match error {
            StoreError::Corrupt { .. } => Some(Self::Corrupt),
            StoreError::InvalidBlob { .. } => None,
            _ => Some(Self::Io),
        }
    }
}

/// Lookups since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    hits: AtomicU64,
    misses: [AtomicU64; 6],
}

impl Counters {
    pub(crate) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn miss(&self, kind: MissKind) {
        self.misses[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    pub(crate) fn misses(&self) -> MissStats {
        let count = |kind: MissKind| self.misses[kind as usize].load(Ordering::Relaxed);
        MissStats {
            absent: count(MissKind::Absent),
            foreign: count(MissKind::Foreign),
            ids_differ: count(MissKind::IdsDiffer),
            quarantined: count(MissKind::Quarantined),
            corrupt: count(MissKind::Corrupt),
            io: count(MissKind::Io),
        }
    }
}

/// Misses since the store was opened, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MissStats {
    /// There is no blob with this key.
    pub absent: u64,
    /// The blob, or the whole store, belongs to another identity.
    pub foreign: u64,
    /// The key exists with other token ids.
    pub ids_differ: u64,
    /// The blob was found bad earlier.
    pub quarantined: u64,
    /// The blob was found bad at this read, at open or in a layer.
    pub corrupt: u64,
    /// The device did not deliver the bytes.
    pub io: u64,
}

impl MissStats {
    /// All misses.
    pub fn total(&self) -> u64 {
        let Self {
            absent,
            foreign,
            ids_differ,
            quarantined,
            corrupt,
            io,
        } = *self;
        absent + foreign + ids_differ + quarantined + corrupt + io
    }
}

/// What a store holds, and the results of its lookups since it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreStats {
    pub documents: u64,
    pub chunks: u64,
    /// Blobs that a lookup can find.
    pub blobs: u64,
    /// Blobs set aside as bad and not yet replaced.
    pub quarantined: u64,
    pub segments: u64,
    /// Bytes of records that a chunk refers to.
    pub live_bytes: u64,
    /// Other bytes of the segment files: headers, marks, and records removed or never committed.
    pub dead_bytes: u64,
    /// Size of all segment files.
    pub total_bytes: u64,
    /// Free bytes of the file system.
    pub free_bytes: u64,
    /// Number of the newest commit.
    pub commit_seq: u64,
    /// Acknowledged commits that were found missing when this store was opened, now or earlier. Above
    /// 0, the disk or another program has lost synced data.
    pub lost_commits: u64,
    /// Why writes are refused until the store is opened again.
    pub read_only: Option<String>,
    pub hits: u64,
    pub misses: MissStats,
    /// The way to read blocks that was asked for.
    pub kv_io: KvIo,
    /// Why blocks are read with `pread` instead, if they are.
    pub kv_io_refusal: Option<String>,
}
