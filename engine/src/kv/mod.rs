//! Keys and values: on the device (`cache`), as a chunk's bytes (`chunk`), their identity and
//! layout in storage (`codec`), and the exact KV of prompt prefixes (`prefix`).

mod cache;
mod chunk;
mod codec;
mod prefix;

pub use cache::{KvCache, LayerCache};
pub use chunk::{ChunkKv, LayerSource, MemorySource, SourceError, Tier};
pub use codec::{ComputeDtype, KV_LAYOUT_VERSION, KvDtype, KvIdentity};
pub(crate) use codec::{block_words, tensor_from_block, tensor_to_block};
pub(crate) use prefix::PrefixCache;
