//! What is in weight files: which parts of which files are tensors.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use fs_err::File;
use fs_err::os::unix::fs::FileExt;

use super::convert::WeightDtype;
use crate::error::EngineError;
use crate::model_files::gguf::family::Stored;

/// The open files and their tensors by Hugging Face name.
#[derive(Debug)]
pub(super) struct Contents {
    /// Sorted by file name, so that the hash does not depend on the index's order.
    pub(super) shards: Vec<Shard>,
    pub(super) tensors: BTreeMap<String, TensorPlace>,
    /// What states the shapes, for errors.
    pub(super) config: &'static str,
}

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) file: Arc<File>,
    pub(super) len_bytes: u64,
}

/// Detects that a file has changed, without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileStamp {
    device: u64,
    inode: u64,
    len_bytes: u64,
    changed_ns: i128,
}

/// Where a tensor is, and what the file says about it.
#[derive(Debug)]
pub(super) struct TensorPlace {
    pub(super) shard: usize,
    pub(super) offset_bytes: u64,
    pub(super) len_bytes: usize,
    pub(super) shape: Vec<usize>,
    /// The element type, or the name of one that is not read.
    pub(super) dtype: Result<WeightDtype, String>,
    pub(super) stored: Stored,
    /// Its name in the file, where that is not the Hugging Face name.
    pub(super) file_name: Option<String>,
}

impl Shard {
    pub(super) fn stamp(&self) -> Result<FileStamp, EngineError> {
        let metadata = self.file.metadata();
        let metadata = metadata
            .map_err(|error| EngineError::model_file(self.file.path(), error.to_string()))?;
        Ok(FileStamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            len_bytes: metadata.len(),
            changed_ns: i128::from(metadata.ctime()) * 1_000_000_000
                + i128::from(metadata.ctime_nsec()),
        })
    }

    pub(super) fn hash_into(
        &self,
        hasher: &mut blake3::Hasher,
        buffer: &mut [u8],
    ) -> Result<(), EngineError> {
        hasher.update(&self.len_bytes.to_le_bytes());
        let mut offset = 0;
        while offset < self.len_bytes {
            let left = usize::try_from(self.len_bytes - offset).unwrap_or(usize::MAX);
            let n = left.min(buffer.len());
            self.file
                .read_exact_at(&mut buffer[..n], offset)
                .map_err(|error| EngineError::model_file(self.file.path(), error.to_string()))?;
            hasher.update(&buffer[..n]);
            offset += n as u64;
        }
        Ok(())
    }
}
