//! Segment files: append-only while this process writes them, immutable afterwards, deleted only
//! by unlink, so that an open descriptor stays valid.

mod blocks;
mod file;
mod folder;
pub mod format;
mod location;
mod pending;
mod reader;
mod scan;
mod writer;

pub(crate) use blocks::BlockReads;
pub(crate) use folder::Segments;
pub(crate) use format::RecordLayout;
pub(crate) use location::Location;
pub use pending::PendingBlob;
pub use reader::BlobReader;
pub(crate) use reader::{OpenRecord, check_record, open_record};
pub(crate) use scan::{check_structure, newest_mark};
pub(crate) use writer::{Append, SegmentWriter, WriteFailure};
