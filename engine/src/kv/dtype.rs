//! Element types of computed and of stored KV, under the names that flags and files use.

use std::fmt;
use std::str::FromStr;

use burn::tensor::DType;

use super::int8;
use super::side::KvSide;
use crate::error::EngineError;

/// The dtype of weights, activations and device KV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ComputeDtype {
    F32,
    F16,
    Bf16,
}

/// The dtype of stored chunk KV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KvDtype {
    F32,
    F16,
    Bf16,
    /// Whole numbers with scales: K by channel, V by token (`kv/int8.rs`).
    Int8,
}

impl ComputeDtype {
    /// The Burn dtype.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }
}

impl KvDtype {
    /// Every stored dtype, widest first.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Bf16, Self::Int8];

    /// The dtype that stores KV as it is computed.
    pub fn exact(dtype: ComputeDtype) -> Self {
        match dtype {
            ComputeDtype::F32 => Self::F32,
            ComputeDtype::F16 => Self::F16,
            ComputeDtype::Bf16 => Self::Bf16,
        }
    }

    /// The Burn dtype of a tensor of such KV: f32 if no tensor type matches the stored form.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 | Self::Int8 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Bytes of one block of `[n, kv_heads, head_dim]`.
    pub fn block_bytes(self, side: KvSide, shape: [usize; 3]) -> usize {
        let values: usize = shape.iter().product();
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => values * self.dtype().size(),
            Self::Int8 => values + int8::n_scales(side, shape) * size_of::<f32>(),
        }
    }
}

impl fmt::Display for ComputeDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        KvDtype::exact(*self).fmt(f)
    }
}

impl fmt::Display for KvDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

impl FromStr for ComputeDtype {
    type Err = EngineError;

    fn from_str(s: &str) -> Result<Self, EngineError> {
        named("dtype", s, &[Self::F32, Self::F16, Self::Bf16])
    }
}

impl FromStr for KvDtype {
    type Err = EngineError;

    fn from_str(s: &str) -> Result<Self, EngineError> {
        named("kv_dtype", s, &Self::ALL)
    }
}

/// The value of `all` that is displayed as `name`.
fn named<T: Copy + fmt::Display>(
    field: &'static str,
    name: &str,
    all: &[T],
) -> Result<T, EngineError> {
    let found = all.iter().find(|one| one.to_string() == name);
    found.copied().ok_or_else(|| {
        let names: Vec<String> = all.iter().map(T::to_string).collect();
        EngineError::InvalidRequest {
            field,
            message: format!("`{name}` is not one of {}", names.join(", ")),
        }
    })
}
