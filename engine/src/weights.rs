//! Model weights from safetensors or GGUF files. Files are opened and checked once: a
//! truncated or foreign file is an error when it is opened, not in the middle of loading. Tensors
//! are then read one at a time, so memory holds one tensor in addition to the model.

use std::path::Path;

use fs_err::os::unix::fs::FileExt;

use self::contents::{Contents, FileStamp, Shard};
use crate::error::EngineError;
use crate::model_files::source::ModelSource;

mod blocks;
mod contents;
mod convert;
mod gguf;
mod safetensors;

pub(crate) use convert::WeightTensor;

/// Bytes read at a time while hashing.
const HASH_BUFFER_BYTES: usize = 1 << 20;

/// The open weight files of one model.
#[derive(Debug)]
pub(crate) struct WeightFiles {
    contents: Contents,
}

/// Which weight files were hashed, and their state at that time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct WeightStamp {
    shards: Vec<FileStamp>,
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
        let contents = match source {
            ModelSource::Directory(files) => safetensors::open(files)?,
            ModelSource::Gguf(model) => gguf::open(model)?,
        };
        Ok(Self { contents })
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
        let Some(place) = self.contents.tensors.get(name) else {
            let config = self.contents.config;
            let message = format!("no tensor {name}; do the weights belong to this {config}?");
            return Err(EngineError::model_file(self.first_path(), message));
        };
        let file = &self.contents.shards[place.shard].file;
        let name = place.file_name.as_deref().unwrap_or(name);
        let refuse =
            |what: String| EngineError::model_file(file.path(), format!("tensor {name} {what}"));
        if place.shape != expected_shape {
            return Err(refuse(format!(
                "has shape {:?}, but {} asks for {expected_shape:?}",
                place.shape, self.contents.config
            )));
        }
        let dtype = place
            .dtype
            .clone()
            .map_err(|found| refuse(format!("is stored as {found}; supported: F32, F16, BF16")))?;
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
        let shards = self.contents.shards.iter().map(Shard::stamp);
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
            .contents
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
        for shard in &self.contents.shards {
            shard.hash_into(&mut hasher, &mut buffer)?;
        }
        for (name, place) in &self.contents.tensors {
            hasher.update(&(place.shard as u64).to_le_bytes());
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
        }
        Ok(*hasher.finalize().as_bytes())
    }

    fn first_path(&self) -> &Path {
        self.contents
            .shards
            .first()
            .map_or(Path::new("model"), |shard| shard.file.path())
    }
}

#[cfg(test)]
mod tests;
