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
    /// What the blobs depend on besides their tokens: model, tokenizer, prompt format.
    pub identity: Identity,
    /// Make a new store if there is none.
    pub create: bool,
    /// Also open a store of another identity; every lookup of its blobs is then a miss.
    pub allow_foreign: bool,
    /// A segment that would exceed this size is sealed and a new one started. A record larger than
    /// this gets its own segment.
    pub max_segment_bytes: u64,
    /// Writes are refused while the file system has less free space than this.
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
