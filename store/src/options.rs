//! How a store is opened: the identity it must have, and its limits.

use crate::identity::Identity;
use crate::kv_io::KvIo;

/// Default of [`StoreOptions::max_segment_bytes`]: 1 GiB.
pub const DEFAULT_MAX_SEGMENT_BYTES: u64 = 1 << 30;
/// Default of [`StoreOptions::min_free_bytes`]: 256 MiB.
pub const DEFAULT_MIN_FREE_BYTES: u64 = 256 << 20;

/// Options of `Store::open`.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// What the blobs depend on beside their tokens: model, tokenizer, prompt format.
    pub identity: Identity,
    /// Make a new store where there is none.
    pub create: bool,
    /// Open a store of another identity too; each of its blobs is then a miss.
    pub allow_foreign: bool,
    /// A segment that would grow over this size is sealed and a new one started. A record larger
    /// than this gets a segment of its own.
    pub max_segment_bytes: u64,
    /// Writes are refused while the file system has less than this free.
    pub min_free_bytes: u64,
    /// How the blocks of a layer are read.
    pub kv_io: KvIo,
}

impl StoreOptions {
    /// Options that create or open a store of `identity`, with the default limits.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            create: true,
            allow_foreign: false,
            max_segment_bytes: DEFAULT_MAX_SEGMENT_BYTES,
            min_free_bytes: DEFAULT_MIN_FREE_BYTES,
            kv_io: KvIo::Auto,
        }
    }
}
