//! Model weights from safetensors or GGUF files. Files are opened and checked once: a
//! truncated or foreign file is an error when it is opened, not in the middle of loading. Tensors
//! are then read one at a time, so memory holds one tensor in addition to the model.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use fs_err::File;
use fs_err::os::unix::fs::FileExt;

use crate::error::EngineError;
use crate::model_files::gguf::family::Stored;
use crate::model_files::source::ModelSource;

mod blocks;
mod convert;
mod gguf;
mod safetensors;

pub(crate) use convert::{WeightDtype, WeightTensor};

/// Bytes read at a time while hashing.
const HASH_BUFFER_BYTES: usize = 1 << 20;

/// The open weight files of one model.
#[derive(Debug)]
pub(crate) struct WeightFiles {
    /// Sorted by file name, so that the hash does not depend on the index's order.
    shards: Vec<Shard>,
    tensors: BTreeMap<String, TensorPlace>,
    /// What states the shapes, for errors.
    config: &'static str,
}

#[derive(Debug)]
struct Shard {
    file: Arc<File>,
    len_bytes: u64,
}

/// Detects that a file has changed, without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    len_bytes: u64,
    changed_ns: i128,
}

/// Which weight files were hashed, and their state at that time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct WeightStamp {
    shards: Vec<FileStamp>,
}

/// Where a tensor is, and what the file says about it.
#[derive(Debug)]
struct TensorPlace {
    shard: usize,
    offset_bytes: u64,
    len_bytes: usize,
    shape: Vec<usize>,
    /// The element type, or the name of one that is not read.
    dtype: Result<WeightDtype, String>,
    stored: Stored,
    /// Its name in the file, where that is not the Hugging Face name.
    file_name: Option<String>,
}

impl WeightFiles {
    /// Opens the weights of a model: the safetensors file of a directory, the shards that its index
    /// names, or a GGUF file.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] when a file is missing, lies outside the directory, is truncated
    /// (the first tensor that is cut is named), is a Git LFS pointer, has a header that is not
    /// safetensors, or is a GGUF file with a tensor that its model does not have.
    pub(crate) fn open(source: &ModelSource) -> Result<Self, EngineError> {
        match source {
            ModelSource::Directory(files) => safetensors::open(files),
            ModelSource::Gguf(model) => gguf::open(model),
        }
    }

    /// Reads tensor `name`, which must have `expected_shape`.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] when there is no such tensor, when its shape or element type is
    /// not the expected one, when it cannot be read, or when it holds a NaN or an infinity.
    pub(crate) fn tensor(
        &self,
        name: &str,
        expected_shape: &[usize],
    ) -> Result<WeightTensor, EngineError> {
        let Some(place) = self.tensors.get(name) else {
            let config = self.config;
            let message = format!("no tensor {name}; do the weights belong to this {config}?");
            return Err(EngineError::model_file(self.first_path(), message));
        };
        let file = &self.shards[place.shard].file;
        let name = place.file_name.as_deref().unwrap_or(name);
        let refuse =
            |what: String| EngineError::model_file(file.path(), format!("tensor {name} {what}"));
        if place.shape != expected_shape {
            return Err(refuse(format!(
                "has shape {:?}, but {} asks for {expected_shape:?}",
                place.shape, self.config
            )));
        }
        let dtype = place.dtype.clone().map_err(|found| {
            refuse(format!(
                "is stored as {found}; supported: F32, F16, BF16"
            ))
        })?;
        let mut data = vec![0; place.len_bytes];
        file.read_exact_at(&mut data, place.offset_bytes)
            .map_err(|error| refuse(format!("could not be read: {error}")))?;
        if let Some(element) = dtype.first_non_finite(&data) {
            return Err(refuse(format!(
                "holds a NaN or an infinity (element {element})"
            )));
        }
        let tensor = WeightTensor {
            name: name.to_owned(),
            path: file.path().to_owned(),
            shape: place.shape.clone(),
            dtype,
            data,
        };
        tensor.into_hugging_face(place.stored)
    }

    /// The state of the files now. Taken before they are hashed, it shows every later change.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] for a file whose metadata cannot be read.
    pub(crate) fn stamp(&self) -> Result<WeightStamp, EngineError> {
        let shards = self.shards.iter().map(Shard::stamp);
        Ok(WeightStamp {
            shards: shards.collect::<Result<_, _>>()?,
        })
    }

    /// Checks that the files have not changed since the stamp. KV computed with other weights would be stored under the
    /// fingerprint of these.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] that names the file which has changed.
    pub(crate) fn check_unchanged(&self, stamp: &WeightStamp) -> Result<(), EngineError> {
        let now = self.stamp()?;
        let pairs = now.shards.iter().zip(&stamp.shards);
        let same = pairs.take_while(|(now, then)| now == then).count();
        if same == now.shards.len() && same == stamp.shards.len() {
            return Ok(());
        }
        let path = self
            .shards
            .get(same)
            .map_or(self.first_path(), |shard| shard.file.path());
        let message = "has changed since it was opened, so its KV would be stored as that of the old weights; start again";
        Err(EngineError::model_file(path, message))
    }

    /// A hash over the contents of all files and the file each tensor is taken from. The names of
    /// the files are not hashed and matter only through their order.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] when a file cannot be read or has changed its length.
    pub(crate) fn hash(&self) -> Result<[u8; 32], EngineError> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; HASH_BUFFER_BYTES];
        for shard in &self.shards {
            shard.hash_into(&mut hasher, &mut buffer)?;
        }
        for (name, place) in &self.tensors {
            hasher.update(&(place.shard as u64).to_le_bytes());
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
        }
        Ok(*hasher.finalize().as_bytes())
    }

    fn first_path(&self) -> &Path {
        self.shards
            .first()
            .map_or(Path::new("model"), |shard| shard.file.path())
    }
}

impl Shard {
    fn stamp(&self) -> Result<FileStamp, EngineError> {
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

    fn hash_into(&self, hasher: &mut blake3::Hasher, buffer: &mut [u8]) -> Result<(), EngineError> {
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

#[cfg(test)]
mod tests;
