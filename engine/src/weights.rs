//! Model weights from `model.safetensors` or its shards. Files are opened and checked once: a
//! truncated or foreign file is an error when it is opened, not in the middle of loading. Tensors
//! are then read one at a time, so memory holds one tensor in addition to the model.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fs_err::File;
use fs_err::os::unix::fs::FileExt;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;

use crate::error::EngineError;
use crate::model_files::directory::{
    ModelDirectory, WEIGHTS_FILE, WEIGHTS_INDEX_FILE, WeightLayout,
};
use crate::model_files::read::{JsonFile, POINTER_BYTES, POINTER_MESSAGE, is_pointer};

mod convert;

pub(crate) use convert::{WeightDtype, WeightTensor};

/// The largest safetensors header that is read, bytes; the limit of the format's own library.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// The most tensors a model may have over all its shards.
const MAX_TENSORS: usize = 65_536;
/// Bytes of the header's length field.
const LENGTH_BYTES: u64 = 8;
/// Bytes read at a time while hashing.
const HASH_BUFFER_BYTES: usize = 1 << 20;

/// The open weight files of one model directory.
#[derive(Debug)]
pub(crate) struct WeightFiles {
    /// Sorted by file name, so that the hash does not depend on the index's order.
    shards: Vec<Shard>,
    tensors: BTreeMap<String, TensorPlace>,
}

#[derive(Debug)]
struct Shard {
    file: File,
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

/// Where a tensor is, and what the header says about it.
#[derive(Debug)]
struct TensorPlace {
    shard: usize,
    offset_bytes: u64,
    len_bytes: usize,
    shape: Vec<usize>,
    dtype: Dtype,
}

impl WeightFiles {
    /// Opens the weight file of the directory, or the shards that its index names.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] when a file is missing, lies outside the directory, is truncated
    /// (the first tensor that is cut is named), is a Git LFS pointer or has a header that is not
    /// safetensors.
    pub(crate) fn open(files: &ModelDirectory) -> Result<Self, EngineError> {
        match files.weight_layout()? {
            WeightLayout::Single(path) => Self::open_single(&path),
            WeightLayout::Sharded(index) => Self::open_shards(files, &index),
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
            let message = format!("no tensor {name}; do the weights belong to this config.json?");
            return Err(EngineError::model_file(self.first_path(), message));
        };
        let file = &self.shards[place.shard].file;
        let refuse =
            |what: String| EngineError::model_file(file.path(), format!("tensor {name} {what}"));
        if place.shape != expected_shape {
            return Err(refuse(format!(
                "has shape {:?}, but config.json asks for {expected_shape:?}",
                place.shape
            )));
        }
        let Some(dtype) = WeightDtype::from_safetensors(place.dtype) else {
            let found = place.dtype;
            return Err(refuse(format!(
                "is stored as {found}; supported: F32, F16, BF16"
            )));
        };
        let mut data = vec![0; place.len_bytes];
        file.read_exact_at(&mut data, place.offset_bytes)
            .map_err(|error| refuse(format!("could not be read: {error}")))?;
        if let Some(element) = dtype.first_non_finite(&data) {
            return Err(refuse(format!(
                "holds a NaN or an infinity (element {element})"
            )));
        }
        Ok(WeightTensor {
            name: name.to_owned(),
            path: file.path().to_owned(),
            shape: place.shape.clone(),
            dtype,
            data,
        })
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

    fn open_single(path: &Path) -> Result<Self, EngineError> {
        let (shard, header) = Shard::open(path)?;
        let tensors = header
            .metadata
            .offset_keys()
            .into_iter()
            .filter_map(|name| header.place(&name, 0).map(|place| (name, place)))
            .collect();
        Ok(Self {
            shards: vec![shard],
            tensors,
        })
    }

    fn open_shards(files: &ModelDirectory, index: &JsonFile) -> Result<Self, EngineError> {
        let weight_map = read_weight_map(index)?;
        let names: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
        let mut shards = Vec::with_capacity(names.len());
        let mut tensors = BTreeMap::new();
        for (shard_idx, shard_name) in names.into_iter().enumerate() {
            let path = files.inside(shard_name).ok_or_else(|| {
                let message = format!("names shard {shard_name:?}, which is outside the directory");
                EngineError::model_file(&index.path, message)
            })?;
            let (shard, header) = Shard::open(&path)?;
            for (tensor, _) in weight_map.iter().filter(|(_, file)| *file == shard_name) {
                let place = header.place(tensor, shard_idx).ok_or_else(|| {
                    let message =
                        format!("lacks tensor {tensor}, which {WEIGHTS_INDEX_FILE} places in it");
                    EngineError::model_file(&path, message)
                })?;
                tensors.insert(tensor.clone(), place);
            }
            shards.push(shard);
        }
        Ok(Self { shards, tensors })
    }

    fn first_path(&self) -> &Path {
        self.shards
            .first()
            .map_or(Path::new(WEIGHTS_FILE), |shard| shard.file.path())
    }
}

/// The checked header of one file.
struct Header {
    metadata: Metadata,
    data_start_bytes: u64,
}

impl Header {
    fn place(&self, name: &str, shard: usize) -> Option<TensorPlace> {
        let info = self.metadata.info(name)?;
        let (start, end) = info.data_offsets;
        Some(TensorPlace {
            shard,
            offset_bytes: self.data_start_bytes + start as u64,
            len_bytes: end - start,
            shape: info.shape.clone(),
            dtype: info.dtype,
        })
    }
}

impl Shard {
    fn open(path: &Path) -> Result<(Self, Header), EngineError> {
        // The error of fs_err already names the file.
        let refuse = |message: String| EngineError::model_file(path, message);
        let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
        let len_bytes = file
            .metadata()
            .map_err(|error| refuse(error.to_string()))?
            .len();
        let header = read_header(&file, len_bytes).map_err(refuse)?;
        check_length(&header, len_bytes).map_err(refuse)?;
        Ok((Self { file, len_bytes }, header))
    }

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

fn read_header(file: &File, file_bytes: u64) -> Result<Header, String> {
    let mut beginning = [0; POINTER_BYTES];
    if file.read_exact_at(&mut beginning, 0).is_ok() && is_pointer(&beginning) {
        return Err(POINTER_MESSAGE.to_owned());
    }
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact_at(&mut length, 0).map_err(|_| {
        format!("truncated: {file_bytes} bytes are too few for a safetensors header")
    })?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > MAX_HEADER_BYTES {
        return Err(format!(
            "not a safetensors file: its header would have {header_bytes} bytes, more than the \
             {MAX_HEADER_BYTES} allowed"
        ));
    }
    let data_start_bytes = LENGTH_BYTES + header_bytes;
    if data_start_bytes > file_bytes {
        return Err(format!(
            "truncated: the header ends at byte {data_start_bytes}, the file at {file_bytes}"
        ));
    }
    let mut json = vec![0; header_bytes as usize];
    file.read_exact_at(&mut json, LENGTH_BYTES)
        .map_err(|error| error.to_string())?;
    // This also checks that the tensors follow each other without gaps and fit their shapes.
    let metadata: Metadata = serde_json::from_slice(&json)
        .map_err(|error| format!("the safetensors header is corrupt: {error}"))?;
    let n_tensors = metadata.tensors().len();
    if n_tensors > MAX_TENSORS {
        return Err(format!(
            "has {n_tensors} tensors, more than the {MAX_TENSORS} allowed"
        ));
    }
    Ok(Header {
        metadata,
        data_start_bytes,
    })
}

/// The data must end exactly where the file does.
fn check_length(header: &Header, file_bytes: u64) -> Result<(), String> {
    let end_bytes = header.data_start_bytes + header.metadata.data_len() as u64;
    if end_bytes == file_bytes {
        return Ok(());
    }
    if end_bytes < file_bytes {
        let excess = file_bytes - end_bytes;
        return Err(format!("corrupt: {excess} bytes follow the last tensor"));
    }
    let tensors = header.metadata.offset_keys();
    let cut = tensors.iter().find(|name| {
        let end = header
            .metadata
            .info(name)
            .map_or(0, |info| info.data_offsets.1 as u64);
        header.data_start_bytes + end > file_bytes
    });
    Err(format!(
        "truncated: tensor {} is cut; the header declares {end_bytes} bytes, the file has \
         {file_bytes}",
        cut.map_or("(none)", String::as_str)
    ))
}

/// Reads tensor name -> shard file name.
fn read_weight_map(index: &JsonFile) -> Result<BTreeMap<String, String>, EngineError> {
    let refuse = |message: &str| EngineError::model_file(&index.path, message);
    let Some(Value::Object(map)) = index.value.get("weight_map") else {
        return Err(refuse("has no weight_map object"));
    };
    if map.is_empty() || map.len() > MAX_TENSORS {
        return Err(refuse(&format!(
            "weight_map must name between 1 and {MAX_TENSORS} tensors, found {}",
            map.len()
        )));
    }
    map.iter()
        .map(|(tensor, file)| match file.as_str() {
            Some(file) => Ok((tensor.clone(), file.to_owned())),
            None => Err(refuse(&format!(
                "weight_map gives no file name for tensor {tensor}"
            ))),
        })
        .collect()
}

#[cfg(test)]
mod tests;
