//! Keys and values: on the device (`cache`), as the bytes of a chunk (`chunk`) in host memory (`buffer`,
//! `host_memory`, `ring`), their layout in storage (`span`, `stored_rows`, `codec`), their identity
//! (`identity`), and the exact KV of prompt prefixes (`prefix`).

mod buffer;
mod cache;
mod chunk;
mod codec;
mod dtype;
mod host_memory;
mod identity;
mod int8;
mod prefix;
mod ring;
mod side;
mod span;
mod stored_rows;

pub use buffer::HostBuffer;
pub(crate) use cache::SpareCache;
pub use cache::{KvCache, LayerCache};
pub use chunk::{ChunkKv, LayerSource, MemorySource, SourceError, Tier};
pub(crate) use codec::tensor_to_block;
pub use dtype::{ComputeDtype, KvDtype};
pub use host_memory::HostMemory;
pub use identity::{ALONE, KV_LAYOUT_VERSION, KernelPrecision, KvIdentity};
pub(crate) use prefix::PrefixCache;
pub(crate) use ring::{BufferRing, Lent};
pub use side::KvSide;
pub use span::{BLOCK_ALIGN, BlockSpan};
pub use stored_rows::{StoredBlock, StoredRows};
