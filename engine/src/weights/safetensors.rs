//! The safetensors files of a Hugging Face directory: one file, or shards that an index names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use ::safetensors::Dtype;
use ::safetensors::tensor::Metadata;
use fs_err::File;
use fs_err::os::unix::fs::FileExt;
use serde_json::Value;

use super::contents::{Contents, Shard, TensorPlace};
use super::convert::WeightDtype;
use crate::error::EngineError;
use crate::model_files::directory::{ModelDirectory, WEIGHTS_INDEX_FILE, WeightLayout};
use crate::model_files::gguf::family::Stored;
use crate::model_files::read::{JsonFile, POINTER_BYTES, POINTER_MESSAGE, is_pointer};

/// The largest safetensors header that is read, bytes; the limit of the format's own library.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// The most tensors a model may have over all its shards.
const MAX_TENSORS: usize = 65_536;
/// Bytes of the header's length field.
const LENGTH_BYTES: u64 = 8;
/// What states the shapes of the tensors.
const CONFIG: &str = "config.json";

/// Opens the weight file of the directory, or the shards that its index names.
pub(super) fn open(files: &ModelDirectory) -> Result<Contents, EngineError> {
    match files.weight_layout()? {
        WeightLayout::Single(path) => open_single(&path),
        WeightLayout::Sharded(index) => open_shards(files, &index),
    }
}

fn open_single(path: &Path) -> Result<Contents, EngineError> {
    let (shard, header) = open_shard(path)?;
    let tensors = header
        .metadata
        .offset_keys()
        .into_iter()
        .filter_map(|name| header.place(&name, 0).map(|place| (name, place)))
        .collect();
    Ok(Contents {
        shards: vec![shard],
        tensors,
        config: CONFIG,
    })
}

fn open_shards(files: &ModelDirectory, index: &JsonFile) -> Result<Contents, EngineError> {
    let weight_map = read_weight_map(index)?;
    let names: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
    let mut shards = Vec::with_capacity(names.len());
    let mut tensors = BTreeMap::new();
    for (shard_idx, shard_name) in names.into_iter().enumerate() {
        let path = files.inside(shard_name).ok_or_else(|| {
            let message = format!("names shard {shard_name:?}, which is outside the directory");
            EngineError::model_file(&index.path, message)
        })?;
        let (shard, header) = open_shard(&path)?;
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
    Ok(Contents {
        shards,
        tensors,
        config: CONFIG,
    })
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
            dtype: weight_dtype(info.dtype),
            stored: Stored::AsIs,
            file_name: None,
        })
    }
}

fn open_shard(path: &Path) -> Result<(Shard, Header), EngineError> {
    // The error of fs_err already names the file.
    let refuse = |message: String| EngineError::model_file(path, message);
    let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
    let len_bytes = file
        .metadata()
        .map_err(|error| refuse(error.to_string()))?
        .len();
    let header = read_header(&file, len_bytes).map_err(refuse)?;
    check_length(&header, len_bytes).map_err(refuse)?;
    let file = Arc::new(file);
    Ok((Shard { file, len_bytes }, header))
}

fn weight_dtype(dtype: Dtype) -> Result<WeightDtype, String> {
    match dtype {
        Dtype::F32 => Ok(WeightDtype::F32),
        Dtype::F16 => Ok(WeightDtype::F16),
        Dtype::BF16 => Ok(WeightDtype::Bf16),
        other => Err(other.to_string()),
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
