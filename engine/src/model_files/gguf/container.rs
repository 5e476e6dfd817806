//! The container of a GGUF file (version 2 and 3, little-endian): metadata, and the places of the
//! tensors. Everything is checked when the file is opened; what follows the header is not read.
//!
//! Specification: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fs_err::File;
use fs_err::os::unix::fs::FileExt;

use super::cursor::Cursor;
use super::metadata::Metadata;
use super::tensor_type::TensorType;
use crate::error::EngineError;
use crate::model_files::read::{POINTER_BYTES, POINTER_MESSAGE, is_pointer};

const MAGIC: [u8; 4] = *b"GGUF";
const VERSIONS: [u32; 2] = [2, 3];
/// The most tensors of one file.
const MAX_TENSORS: u64 = 65_536;
/// The longest name of a tensor, bytes. The specification allows 64.
const MAX_NAME_BYTES: usize = 256;
const MAX_DIMS: u32 = 4;
const ALIGNMENT_KEY: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 20;

/// A checked GGUF file. It stays open, so that metadata and weights come from the same file even if
/// another one takes its place.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) file: Arc<File>,
    pub(crate) file_bytes: u64,
    pub(crate) metadata: Metadata,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

/// Where a tensor is, and what the header says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tensor {
    /// Row-major, outermost first: the reverse of the order in the file.
    pub(crate) shape: Vec<usize>,
    pub(crate) kind: TensorType,
    pub(crate) offset_bytes: u64,
    pub(crate) len_bytes: usize,
}

impl Container {
    /// Opens the file at `path` and reads its header.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] for a file that is missing, not GGUF, truncated (the first tensor
    /// that is cut is named) or corrupt, or that has a tensor of a type that is not supported.
    pub(crate) fn open(path: &Path) -> Result<Self, EngineError> {
        let refuse = |message: String| EngineError::model_file(path, message);
        // The error of fs_err already names the file.
        let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
        let file_bytes = file
            .metadata()
            .map_err(|error| refuse(error.to_string()))?
            .len();
        let mut cursor = Cursor::new(&file, file_bytes);
        let counts = start(&file, &mut cursor).map_err(refuse)?;
        let metadata = Metadata::read(&mut cursor, counts.n_keys, path).map_err(refuse)?;
        let alignment = alignment(&metadata)?;
        let tensors = read_tensors(&mut cursor, counts.n_tensors).map_err(refuse)?;
        let data_start = cursor.position().next_multiple_of(alignment);
        let metadata = metadata.with_bytes(cursor.into_bytes());
        let tensors = place(tensors, data_start, alignment, file_bytes).map_err(refuse)?;
        Ok(Self {
            file: Arc::new(file),
            file_bytes,
            metadata,
            tensors,
        })
    }

    /// The bytes of a tensor.
    pub(super) fn read(&self, tensor: &Tensor) -> Result<Vec<u8>, EngineError> {
        let mut data = vec![0; tensor.len_bytes];
        self.file
            .read_exact_at(&mut data, tensor.offset_bytes)
            .map_err(|error| EngineError::model_file(self.file.path(), error.to_string()))?;
        Ok(data)
    }
}

struct Counts {
    n_tensors: u64,
    n_keys: u64,
}

fn start(file: &File, cursor: &mut Cursor<'_>) -> Result<Counts, String> {
    let mut beginning = [0; POINTER_BYTES];
    if file.read_exact_at(&mut beginning, 0).is_ok() && is_pointer(&beginning) {
        return Err(POINTER_MESSAGE.to_owned());
    }
    let magic: [u8; 4] = cursor.array("the magic number")?;
    if magic != MAGIC {
        let shown = magic.escape_ascii();
        return Err(format!(
            "not a GGUF file: it begins with \"{shown}\", not \"GGUF\""
        ));
    }
    let version = cursor.u32("the version")?;
    if VERSIONS.contains(&version.swap_bytes()) {
        return Err("is big-endian; only little-endian GGUF files are read".to_owned());
    }
    if !VERSIONS.contains(&version) {
        return Err(format!("is GGUF version {version}; supported: 2 and 3"));
    }
    let n_tensors = cursor.u64("the number of tensors")?;
    if n_tensors > MAX_TENSORS {
        return Err(format!(
            "declares {n_tensors} tensors, more than the {MAX_TENSORS} allowed"
        ));
    }
    Ok(Counts {
        n_tensors,
        n_keys: cursor.u64("the number of keys")?,
    })
}

fn alignment(metadata: &Metadata) -> Result<u64, EngineError> {
    let alignment = metadata.u64(ALIGNMENT_KEY)?.unwrap_or(DEFAULT_ALIGNMENT);
    match alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT {
        true => Ok(alignment),
        false => Err(metadata.refuse(
            ALIGNMENT_KEY,
            format!("must be a power of two of at most {MAX_ALIGNMENT}, found {alignment}"),
        )),
    }
}

/// The tensors with their offsets in the data section. Not yet checked against the file's length.
fn read_tensors(cursor: &mut Cursor<'_>, n: u64) -> Result<Vec<(String, Tensor)>, String> {
    (0..n).map(|_| read_tensor(cursor)).collect()
}

fn read_tensor(cursor: &mut Cursor<'_>) -> Result<(String, Tensor), String> {
    let name = cursor.str("the name of a tensor")?.to_owned();
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(format!(
            "corrupt: a tensor's name has {} bytes, allowed are 1 to {MAX_NAME_BYTES}",
            name.len()
        ));
    }
    let refuse = |what: String| format!("tensor {name} {what}");
    let n_dims = cursor.u32("a tensor's number of dimensions")?;
    if !(1..=MAX_DIMS).contains(&n_dims) {
        return Err(refuse(format!(
            "has {n_dims} dimensions, allowed are 1 to {MAX_DIMS}"
        )));
    }
    let dims = (0..n_dims).map(|_| cursor.u64("a tensor's dimension"));
    let mut dims: Vec<u64> = dims.collect::<Result<_, _>>()?;
    let kind = TensorType::from_number(cursor.u32("a tensor's type")?).map_err(refuse)?;
    let offset_bytes = cursor.u64("a tensor's offset")?;
    let row = dims.first().copied().unwrap_or_default();
    if !row.is_multiple_of(kind.block_elements() as u64) {
        return Err(refuse(format!(
            "has rows of {row} elements, which is not a multiple of its block of {}",
            kind.block_elements()
        )));
    }
    let too_large = || refuse(format!("has impossible dimensions {dims:?}"));
    let len_bytes = len_bytes(&dims, kind).ok_or_else(too_large)?;
    dims.reverse();
    let tensor = Tensor {
        shape: dims.into_iter().map(|dim| dim as usize).collect(),
        kind,
        offset_bytes,
        len_bytes,
    };
    Ok((name, tensor))
}

/// Bytes of a tensor, unless a dimension is 0 or the product is beyond the range of `usize`.
fn len_bytes(dims: &[u64], kind: TensorType) -> Option<usize> {
    let mut n_elements = 1_usize;
    for dim in dims.iter().filter(|dim| **dim != 1) {
        n_elements = n_elements.checked_mul(usize::try_from(*dim).ok()?)?;
    }
    let n_blocks = n_elements / kind.block_elements();
    n_blocks
        .checked_mul(kind.block_bytes())
        .filter(|len| *len > 0)
}

/// The tensors by name, with their offsets in the file.
fn place(
    tensors: Vec<(String, Tensor)>,
    data_start: u64,
    alignment: u64,
    file_bytes: u64,
) -> Result<BTreeMap<String, Tensor>, String> {
    let mut placed = BTreeMap::new();
    for (name, mut tensor) in tensors {
        let offset = tensor.offset_bytes;
        if !offset.is_multiple_of(alignment) {
            return Err(format!(
                "corrupt: tensor {name} is at offset {offset}, which is not a multiple of the \
                 alignment, {alignment}"
            ));
        }
        let start = data_start.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(tensor.len_bytes as u64));
        if end.is_none_or(|end| end > file_bytes) {
            return Err(format!(
                "truncated: tensor {name} takes {} bytes at offset {offset} of the data, which \
                 begins at byte {data_start}; the file has {file_bytes} bytes",
                tensor.len_bytes
            ));
        }
        tensor.offset_bytes = start.unwrap_or_default();
        if placed.contains_key(&name) {
            return Err(format!("corrupt: it has two tensors named {name}"));
        }
        placed.insert(name, tensor);
    }
    Ok(placed)
}

#[cfg(test)]
mod tests;
