//! What the stored bytes mean, and the identity of chunk KV.
//!
//! A chunk key is a cryptographic hash over everything the KV depends on (design invariant 2), so
//! that KV of another model, tokenizer, layout or dtype can never be a hit.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{DType, Tensor};

use super::int8;
use crate::config::ModelConfig;
use crate::error::EngineError;
use crate::kernel::FusionBackend;
use crate::kv::buffer::BlockSpan;

/// Version of the block layout: `[n_tokens, kv_heads, head_dim]`, K after bias and k_norm and
/// before RoPE. Any change of meaning is a new version, and old blobs become misses.
pub const KV_LAYOUT_VERSION: u32 = 1;

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

/// Which of the two blocks of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvSide {
    K,
    V,
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
    /// The dtype that stores KV as it is computed.
    pub fn exact(dtype: ComputeDtype) -> Self {
        match dtype {
            ComputeDtype::F32 => Self::F32,
            ComputeDtype::F16 => Self::F16,
            ComputeDtype::Bf16 => Self::Bf16,
        }
    }

    /// The Burn dtype of a tensor of it: f32 for what no tensor can hold as it is stored.
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
        named(
            "kv_dtype",
            s,
            &[Self::F32, Self::F16, Self::Bf16, Self::Int8],
        )
    }
}

/// The one of `all` that is written as `name`.
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

/// Everything besides token ids that chunk KV depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvIdentity {
    pub model_fingerprint: [u8; 32],
    pub tokenizer_hash: [u8; 32],
    pub kv_dtype: KvDtype,
    pub compute_dtype: ComputeDtype,
    pub n_layers: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

impl KvIdentity {
    /// Identity of a model: `weights_hash` covers the weight files, `tokenizer_hash` the tokenizer.
    pub fn new(
        config: &ModelConfig,
        weights_hash: [u8; 32],
        tokenizer_hash: [u8; 32],
        compute_dtype: ComputeDtype,
        kv_dtype: KvDtype,
    ) -> Self {
        Self {
            model_fingerprint: model_fingerprint(config, weights_hash),
            tokenizer_hash,
            kv_dtype,
            compute_dtype,
            n_layers: config.num_hidden_layers,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
        }
    }

    /// Hash over model, tokenizer, layout and dtypes: what a store is made for.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        field(&mut hasher, b"ragweave kv identity");
        field(&mut hasher, &self.model_fingerprint);
        field(&mut hasher, &self.tokenizer_hash);
        field(&mut hasher, &KV_LAYOUT_VERSION.to_le_bytes());
        field(&mut hasher, self.kv_dtype.to_string().as_bytes());
        // Rounding while computing is part of what was stored: without this, KV computed in f16 and
        // stored in f32 would pass for exact in f32.
        field(&mut hasher, self.compute_dtype.to_string().as_bytes());
        *hasher.finalize().as_bytes()
    }

    /// Key of one chunk's KV, computed behind the given conditioning prefix.
    pub fn chunk_key(&self, conditioning: &[u32], token_ids: &[u32]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.fingerprint());
        field(&mut hasher, &id_bytes(conditioning));
        field(&mut hasher, &id_bytes(token_ids));
        *hasher.finalize().as_bytes()
    }

    /// Bytes of one K block of a chunk of `n_tokens`.
    pub fn k_block_bytes(&self, n_tokens: usize) -> usize {
        self.block_bytes(KvSide::K, n_tokens)
    }

    /// Bytes of one V block of a chunk of `n_tokens`.
    pub fn v_block_bytes(&self, n_tokens: usize) -> usize {
        self.block_bytes(KvSide::V, n_tokens)
    }

    fn block_bytes(&self, side: KvSide, n_tokens: usize) -> usize {
        let shape = [n_tokens, self.kv_heads, self.head_dim];
        self.kv_dtype.block_bytes(side, shape)
    }

    /// Bytes of a chunk of `n_tokens` over all layers, without padding.
    pub fn chunk_bytes(&self, n_tokens: usize) -> usize {
        self.n_layers * self.block_span(n_tokens).payload_bytes()
    }

    /// How the blocks of one layer of a chunk of `n_tokens` lie in memory and on disk.
    pub fn block_span(&self, n_tokens: usize) -> BlockSpan {
        BlockSpan::new(self.k_block_bytes(n_tokens), self.v_block_bytes(n_tokens))
    }

    /// The stored dtype as the opaque tag the store keeps.
    pub fn dtype_tag(&self) -> u8 {
        match self.kv_dtype {
            KvDtype::F32 => 1,
            KvDtype::F16 => 2,
            KvDtype::Bf16 => 3,
            KvDtype::Int8 => 4,
        }
    }

    /// Whether stored KV equals computed KV bit for bit (design invariant 5).
    pub fn is_exact_dtype(&self) -> bool {
        self.kv_dtype == KvDtype::exact(self.compute_dtype)
    }
}

fn model_fingerprint(config: &ModelConfig, weights_hash: [u8; 32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    field(&mut hasher, b"ragweave model");
    let shape = [
        config.num_hidden_layers,
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
        config.vocab_size,
    ];
    for size in shape {
        field(&mut hasher, &(size as u64).to_le_bytes());
    }
    field(&mut hasher, &config.rms_norm_eps.to_le_bytes());
    // Debug output of these plain enums is a complete, stable description of their values.
    field(&mut hasher, format!("{:?}", config.architecture).as_bytes());
    field(&mut hasher, format!("{:?}", config.rope).as_bytes());
    field(
        &mut hasher,
        format!("{:?}", config.sliding_windows).as_bytes(),
    );
    field(
        &mut hasher,
        &[u8::from(config.attention_bias), u8::from(config.mlp_bias)],
    );
    field(&mut hasher, &weights_hash);
    *hasher.finalize().as_bytes()
}

/// Adds one length-prefixed field, so that no two field lists hash alike.
fn field(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn id_bytes(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// The block of `[n_tokens, kv_heads, head_dim]` in the stored dtype.
pub(crate) fn tensor_to_block<B: FusionBackend>(
    tensor: Tensor<B, 3>,
    dtype: KvDtype,
    side: KvSide,
) -> Vec<u8> {
    let shape = tensor.dims();
    let data = tensor.cast(dtype.dtype()).into_data();
    match dtype {
        KvDtype::F32 | KvDtype::F16 | KvDtype::Bf16 => data.as_bytes().to_vec(),
        KvDtype::Int8 => int8::encode(&data.iter::<f32>().collect::<Vec<_>>(), side, shape),
    }
}

#[cfg(target_endian = "big")]
compile_error!("stored KV is little-endian and is copied to the device as it is");
