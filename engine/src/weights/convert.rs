//! One tensor as stored, and its conversion to the type the model computes in. A value that the
//! target type cannot hold is an error: an infinity in a weight would only show as nonsense answers.

use std::path::PathBuf;

use half::{bf16, f16};
use rayon::prelude::*;

use super::blocks;
use crate::error::EngineError;
use crate::model_files::gguf::family::Stored;
use crate::model_files::gguf::tensor_type::BlockType;

/// Blocks that one thread decodes at a time.
const BLOCKS_AT_ONCE: usize = 256;

/// Element types weights may be stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WeightDtype {
    F32,
    F16,
    Bf16,
    /// Quantised in blocks, in GGUF files.
    Block(BlockType),
}

impl WeightDtype {
    /// Index of the first NaN or infinity: the elements whose exponent bits are all set. Of quantised
    /// elements, the first in the block.
    pub(super) fn first_non_finite(self, data: &[u8]) -> Option<usize> {
        match self {
            Self::F32 => words(data)
                .position(|w: [u8; 4]| u32::from_le_bytes(w) & 0x7f80_0000 == 0x7f80_0000),
            Self::F16 => halves(data).position(|bits| bits & 0x7c00 == 0x7c00),
            Self::Bf16 => halves(data).position(|bits| bits & 0x7f80 == 0x7f80),
            Self::Block(kind) => {
                let mut blocks = data.chunks_exact(kind.bytes());
                let block = blocks.position(|block| !blocks::is_finite(kind, block))?;
                Some(block * kind.elements())
            }
        }
    }
}

/// A tensor read from a weight file: finite values, little-endian, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WeightTensor {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: WeightDtype,
    pub(crate) data: Vec<u8>,
}

impl WeightTensor {
    /// The values in f32, exactly.
    pub(crate) fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            WeightDtype::F32 => words(&self.data).map(f32::from_le_bytes).collect(),
            WeightDtype::F16 => halves(&self.data)
                .map(|b| f16::from_bits(b).to_f32())
                .collect(),
            WeightDtype::Bf16 => halves(&self.data)
                .map(|b| bf16::from_bits(b).to_f32())
                .collect(),
            WeightDtype::Block(kind) => self.decoded(kind, |value| value),
        }
    }

    /// The tensor as a Hugging Face file would have it.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] when its rows cannot be put in order.
    pub(super) fn into_hugging_face(self, stored: Stored) -> Result<Self, EngineError> {
        match stored {
            Stored::AsIs => Ok(self),
            Stored::AlternatingHalves { n_heads } => self.with_halves_apart(n_heads),
            Stored::PlusOne => Ok(self.minus_one()),
        }
    }

    /// Undoes [`Stored::AlternatingHalves`], head by head.
    fn with_halves_apart(mut self, n_heads: usize) -> Result<Self, EngineError> {
        let n_rows = self.shape.first().copied().unwrap_or_default();
        let row_bytes = self.data.len().checked_div(n_rows).unwrap_or_default();
        let n_pairs = n_rows / (2 * n_heads);
        if n_pairs * 2 * n_heads != n_rows || row_bytes * n_rows != self.data.len() {
            let name = &self.name;
            let message =
                format!("tensor {name} has {n_rows} rows, not {n_heads} heads of even size");
            return Err(EngineError::model_file(&self.path, message));
        }
        let head_bytes = (2 * n_pairs * row_bytes).max(1);
        let mut data = Vec::with_capacity(self.data.len());
        for head in self.data.chunks_exact(head_bytes) {
            for half in 0..2 {
                let rows = head.chunks_exact(row_bytes).skip(half).step_by(2);
                rows.for_each(|row| data.extend_from_slice(row));
            }
        }
        self.data = data;
        Ok(self)
    }

    /// Undoes [`Stored::PlusOne`]; the result is f32.
    fn minus_one(mut self) -> Self {
        let values = self.to_f32().into_iter();
        self.data = values
            .flat_map(|value| (value - 1.0).to_le_bytes())
            .collect();
        self.dtype = WeightDtype::F32;
        self
    }

    /// The values of quantised blocks, rounded.
    fn decoded<T>(&self, kind: BlockType, round: fn(f32) -> T) -> Vec<T>
    where
        T: Copy + Default + Send,
    {
        let (n, bytes) = (kind.elements(), kind.bytes());
        let mut values = vec![T::default(); self.data.len() / bytes * n];
        let runs = values.par_chunks_mut(n * BLOCKS_AT_ONCE);
        let runs = runs.zip(self.data.par_chunks(bytes * BLOCKS_AT_ONCE));
        runs.for_each(|(values, data)| {
            let mut block = [0.0; blocks::MAX_ELEMENTS];
            for (values, data) in values.chunks_exact_mut(n).zip(data.chunks_exact(bytes)) {
                blocks::decode(kind, data, &mut block[..n]);
                for (value, decoded) in values.iter_mut().zip(&block) {
                    *value = round(*decoded);
                }
            }
        });
        values
    }

    /// The values rounded to f16.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] when a value is beyond the range of f16 (65504).
    pub(crate) fn to_f16(&self) -> Result<Vec<f16>, EngineError> {
        if self.dtype == WeightDtype::F16 {
            return Ok(halves(&self.data).map(f16::from_bits).collect());
        }
        self.rounded("f16", f16::from_f32, f16::is_finite)
    }

    /// The values rounded to bf16.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] when a value rounds to infinity.
    pub(crate) fn to_bf16(&self) -> Result<Vec<bf16>, EngineError> {
        if self.dtype == WeightDtype::Bf16 {
            return Ok(halves(&self.data).map(bf16::from_bits).collect());
        }
        self.rounded("bf16", bf16::from_f32, bf16::is_finite)
    }

    fn rounded<T>(
        &self,
        target: &str,
        round: fn(f32) -> T,
        is_finite: fn(T) -> bool,
    ) -> Result<Vec<T>, EngineError>
    where
        T: Copy + Default + Send,
    {
        let rounded: Vec<T> = match self.dtype {
            WeightDtype::F32 => words(&self.data)
                .map(|b| round(f32::from_le_bytes(b)))
                .collect(),
            WeightDtype::F16 => halves(&self.data)
                .map(|b| round(f16::from_bits(b).to_f32()))
                .collect(),
            WeightDtype::Bf16 => halves(&self.data)
                .map(|b| round(bf16::from_bits(b).to_f32()))
                .collect(),
            WeightDtype::Block(kind) => self.decoded(kind, round),
        };
        match rounded.iter().position(|value| !is_finite(*value)) {
            None => Ok(rounded),
            Some(element) => {
                let (name, value) = (&self.name, self.to_f32()[element]);
                Err(EngineError::model_file(
                    &self.path,
                    format!(
                        "tensor {name} holds {value:e}, too large for {target}; use --dtype f32"
                    ),
                ))
            }
        }
    }
}

fn words<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.as_chunks::<N>().0.iter().copied()
}

fn halves(data: &[u8]) -> impl Iterator<Item = u16> {
    words(data).map(u16::from_le_bytes)
}
