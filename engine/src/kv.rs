//! Keys and values: on the device (`cache`), as a chunk's bytes (`chunk`) in host memory (`buffer`,
//! `host_memory`, `ring`), their identity and layout in storage (`codec`), and the exact KV of prompt prefixes
//! (`prefix`).

mod buffer;
mod cache;
mod chunk;
mod codec;
mod host_memory;
mod int8;
mod prefix;
mod ring;
mod stored_rows;

pub use buffer::{BLOCK_ALIGN, BlockSpan, HostBuffer};
pub(crate) use cache::SpareCache;
pub use cache::{KvCache, LayerCache};
pub use chunk::{ChunkKv, LayerSource, MemorySource, SourceError, Tier};
pub(crate) use codec::tensor_to_block;
pub use codec::{ComputeDtype, KV_LAYOUT_VERSION, KvDtype, KvIdentity, KvSide};
pub use host_memory::HostMemory;
pub(crate) use prefix::PrefixCache;
pub(crate) use ring::{BufferRing, Lent};
pub use stored_rows::{StoredBlock, StoredRows};
