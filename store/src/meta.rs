//! The metadata: RocksDB, with one column family per type. A blob exists only if a row names it.

mod change;
mod codec;
mod columns;
mod db;

pub(crate) use change::{Catalog, Change};
pub(crate) use columns::{
    BlobState, Blobs, ChunkRow, Chunks, Column, DocumentRow, Documents, IdentityRow, SegmentTable,
    State, StoreState, Texts, Vectors, chunk_prefix,
};
pub(crate) use db::{Durability, Meta, View};
