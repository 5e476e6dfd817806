//! One tensor as stored, and its conversion to the type the model computes in. A value that the
//! target type cannot hold is an error: an infinity in a weight would only show as nonsense answers.

use std::path::PathBuf;

use half::{bf16, f16};
use safetensors::Dtype;

use crate::error::EngineError;

/// Element types weights may be stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WeightDtype {
    F32,
    F16,
    Bf16,
}

impl WeightDtype {
    pub(super) fn from_safetensors(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Index of the first NaN or infinity: the elements whose exponent bits are all set.
    pub(super) fn first_non_finite(self, data: &[u8]) -> Option<usize> {
        match self {
            Self::F32 => words(data)
                .position(|w: [u8; 4]| u32::from_le_bytes(w) & 0x7f80_0000 == 0x7f80_0000),
            Self::F16 => halves(data).position(|bits| bits & 0x7c00 == 0x7c00),
            Self::Bf16 => halves(data).position(|bits| bits & 0x7f80 == 0x7f80),
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
        }
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

    fn rounded<T: Copy>(
        &self,
        target: &str,
        round: fn(f32) -> T,
        is_finite: fn(T) -> bool,
    ) -> Result<Vec<T>, EngineError> {
        let check = |value: f32| {
            let rounded = round(value);
            if is_finite(rounded) {
                return Ok(rounded);
            }
            let name = &self.name;
            Err(EngineError::model_file(
                &self.path,
                format!("tensor {name} holds {value:e}, too large for {target}; use --dtype f32"),
            ))
        };
        match self.dtype {
            WeightDtype::F32 => words(&self.data)
                .map(f32::from_le_bytes)
                .map(check)
                .collect(),
            WeightDtype::F16 => halves(&self.data)
                .map(|b| check(f16::from_bits(b).to_f32()))
                .collect(),
            WeightDtype::Bf16 => halves(&self.data)
                .map(|b| check(bf16::from_bits(b).to_f32()))
                .collect(),
        }
    }
}

fn words<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.as_chunks::<N>().0.iter().copied()
}

fn halves(data: &[u8]) -> impl Iterator<Item = u16> {
    words(data).map(u16::from_le_bytes)
}
