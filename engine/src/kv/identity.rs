//! The identity of chunk KV.
//!
//! A chunk key is a cryptographic hash over everything the KV depends on (design invariant 2), so
//! that KV of another model, tokenizer, layout or dtype can never be a hit.

use std::fmt;

use super::dtype::{ComputeDtype, KvDtype};
use super::side::KvSide;
use super::span::BlockSpan;
use crate::config::{Biases, ModelConfig};

/// Version of the block layout: `[n_tokens, kv_heads, head_dim]`, K after bias and k_norm and
/// before RoPE. Any change of meaning is a new version, and old blobs become misses.
pub const KV_LAYOUT_VERSION: u32 = 1;

/// [`KvIdentity::contexts`] of KV that was computed after the conditioning prefix and nothing else.
pub const ALONE: u32 = 1;

/// How the kernels that compute KV round. KV of another precision is other KV.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum KernelPrecision {
    /// Products in the compute dtype, sums in f32.
    #[default]
    Plain,
}

impl fmt::Display for KernelPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
        })
    }
}

/// Everything besides token ids that chunk KV depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvIdentity {
    pub model_fingerprint: [u8; 32],
    pub tokenizer_hash: [u8; 32],
    pub kv_dtype: KvDtype,
    pub compute_dtype: ComputeDtype,
    pub kernel_precision: KernelPrecision,
    /// The tenant that the chunks belong to; empty if there are none. KV is never shared between tenants.
    pub tenant: String,
    /// How many contexts the KV is the mean over: [`ALONE`].
    pub contexts: u32,
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
            kernel_precision: KernelPrecision::Plain,
            tenant: String::new(),
            contexts: ALONE,
            n_layers: config.num_hidden_layers,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
        }
    }

    /// The same with another stored dtype.
    #[must_use]
    pub fn stored_as(&self, kv_dtype: KvDtype) -> Self {
        Self {
            kv_dtype,
            ..self.clone()
        }
    }

    /// Hash over model, tokenizer, layout, dtypes and kernel precision: what a store is made for.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        field(&mut hasher, b"ragweave kv identity");
        field(&mut hasher, &self.model_fingerprint);
        field(&mut hasher, &self.tokenizer_hash);
        field(&mut hasher, &KV_LAYOUT_VERSION.to_le_bytes());
        field(&mut hasher, self.kv_dtype.to_string().as_bytes());
        // Rounding while computing is part of what was stored. Without this, KV computed in f16 and
        // stored in f32 would count as exact in f32.
        field(&mut hasher, self.compute_dtype.to_string().as_bytes());
        let (precision, first) = (self.kernel_precision, KernelPrecision::Plain);
        later_field(
            &mut hasher,
            "kernel_precision",
            &precision.to_string(),
            &first.to_string(),
        );
        *hasher.finalize().as_bytes()
    }

    /// Key of one chunk's KV, computed after the given conditioning prefix.
    pub fn chunk_key(&self, conditioning: &[u32], token_ids: &[u32]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.fingerprint());
        field(&mut hasher, &id_bytes(conditioning));
        field(&mut hasher, &id_bytes(token_ids));
        later_field(&mut hasher, "tenant", &self.tenant, "");
        let (contexts, first) = (self.contexts.to_string(), ALONE.to_string());
        later_field(&mut hasher, "contexts", &contexts, &first);
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
    for rope in &config.ropes {
        field(&mut hasher, format!("{rope:?}").as_bytes());
    }
    let layers = &config.layers;
    let windows: Vec<Option<usize>> = layers.iter().map(|layer| layer.sliding_window).collect();
    field(&mut hasher, format!("{windows:?}").as_bytes());
    // The architecture determines the rest of a layer, except for these, which are the same in all layers.
    let has = |bias: fn(&Biases) -> bool| layers.iter().any(|layer| bias(&layer.biases));
    let biases = [has(|biases| biases.qkv), has(|biases| biases.mlp)];
    field(&mut hasher, &biases.map(u8::from));
    if config.ropes.len() > 1 {
        let ropes: Vec<usize> = layers.iter().map(|layer| layer.rope).collect();
        field(&mut hasher, format!("{ropes:?}").as_bytes());
    }
    let scalars = layers.iter().map(|layer| layer.query_pre_attn_scalar);
    let scalars: Vec<Option<usize>> = scalars.collect();
    if scalars.iter().any(Option::is_some) {
        field(&mut hasher, format!("{scalars:?}").as_bytes());
    }
    field(&mut hasher, &weights_hash);
    *hasher.finalize().as_bytes()
}

/// Adds one length-prefixed field, so that no two field lists hash alike.
fn field(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// Adds a field that keys did not have from the start. Its first value adds nothing, so that the KV of
/// existing stores keeps its keys; any other one adds its name too, so that no two fields hash alike.
fn later_field(hasher: &mut blake3::Hasher, name: &str, value: &str, first: &str) {
    if value != first {
        field(hasher, name.as_bytes());
        field(hasher, value.as_bytes());
    }
}

fn id_bytes(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn identity() -> KvIdentity {
        KvIdentity {
            model_fingerprint: [1; 32],
            tokenizer_hash: [2; 32],
            kv_dtype: KvDtype::Int8,
            compute_dtype: ComputeDtype::F32,
            kernel_precision: KernelPrecision::Plain,
            tenant: String::new(),
            contexts: ALONE,
            n_layers: 2,
            kv_heads: 1,
            head_dim: 4,
        }
    }

    /// Existing stores have keys over exactly these fields.
    #[test]
    fn the_first_values_of_later_fields_do_not_change_a_key() {
        let mut hasher = blake3::Hasher::new();
        field(&mut hasher, b"ragweave kv identity");
        for part in [&[1; 32][..], &[2; 32], &[1, 0, 0, 0], b"int8", b"f32"] {
            field(&mut hasher, part);
        }
        let fingerprint = *hasher.finalize().as_bytes();
        assert_eq!(identity().fingerprint(), fingerprint);
        let mut hasher = blake3::Hasher::new_keyed(&fingerprint);
        field(&mut hasher, &[5, 0, 0, 0]);
        field(&mut hasher, &[6, 0, 0, 0, 7, 0, 0, 0]);
        let key = *hasher.finalize().as_bytes();
        assert_eq!(identity().chunk_key(&[5], &[6, 7]), key);
    }

    #[test]
    fn another_tenant_or_number_of_contexts_is_another_key_in_the_same_store() {
        let with = |tenant: &str, contexts| KvIdentity {
            tenant: tenant.to_owned(),
            contexts,
            ..identity()
        };
        let identities = [
            with("", ALONE),
            with("acme", ALONE),
            with("", 4),
            with("acme", 4),
            with("contexts", 4),
            with("4", ALONE),
        ];
        let keys: HashSet<_> = identities
            .iter()
            .map(|one| one.chunk_key(&[5], &[6, 7]))
            .collect();
        assert_eq!(keys.len(), identities.len());
        let stores: HashSet<_> = identities.iter().map(KvIdentity::fingerprint).collect();
        assert_eq!(stores.len(), 1);
    }

    /// There is one precision today, so this tests what another one will add.
    #[test]
    fn a_later_field_adds_its_name_and_value() {
        let hash = |name, value| {
            let mut hasher = blake3::Hasher::new();
            later_field(&mut hasher, name, value, "plain");
            hasher.finalize()
        };
        assert_eq!(hash("kernel_precision", "plain"), hash("tenant", "plain"));
        let others = [hash("kernel_precision", "tf32"), hash("tenant", "tf32")];
        assert_ne!(others[0], others[1]);
        assert!(others.iter().all(|other| *other != hash("tenant", "plain")));
    }

    /// Existing stores have fingerprints over exactly these fields.
    #[test]
    fn the_fingerprint_of_a_model_does_not_change() {
        let config = json!({"model_type": "qwen2", "vocab_size": 9, "hidden_size": 8,
            "intermediate_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "rms_norm_eps": 1e-5, "use_sliding_window": true,
            "sliding_window": 3, "max_window_layers": 1});
        let config = ModelConfig::from_json(&config, Path::new("config.json")).unwrap();
        let mut hasher = blake3::Hasher::new();
        field(&mut hasher, b"ragweave model");
        for size in [2_u64, 8, 6, 2, 1, 4, 9] {
            field(&mut hasher, &size.to_le_bytes());
        }
        field(&mut hasher, &1e-5_f64.to_le_bytes());
        field(&mut hasher, b"Qwen2");
        field(
            &mut hasher,
            b"RopeConfig { theta: 10000.0, scaling: Default }",
        );
        field(&mut hasher, b"[None, Some(3)]");
        field(&mut hasher, &[1, 0]);
        field(&mut hasher, &[7; 32]);
        let expected = *hasher.finalize().as_bytes();
        assert_eq!(model_fingerprint(&config, [7; 32]), expected);
    }

    /// A change of any of them changes K and V, but not the weights' hash.
    #[test]
    fn every_setting_of_gemma3_is_part_of_the_fingerprint() {
        let fingerprint = |field: &str, value: serde_json::Value| {
            let mut config = json!({"model_type": "gemma3_text", "vocab_size": 9, "hidden_size": 8,
                "intermediate_size": 6, "num_hidden_layers": 3, "num_attention_heads": 2,
                "num_key_value_heads": 1, "head_dim": 4, "sliding_window": 5,
                "sliding_window_pattern": 2, "query_pre_attn_scalar": 4, "rope_theta": 1e5,
                "rope_local_base_freq": 1e3});
            config[field] = value;
            let config = ModelConfig::from_json(&config, Path::new("config.json")).unwrap();
            model_fingerprint(&config, [7; 32])
        };
        let unchanged = fingerprint("sliding_window", json!(5));
        for (field, value) in [
            ("sliding_window", json!(6)),
            ("sliding_window_pattern", json!(3)),
            ("query_pre_attn_scalar", json!(8)),
            ("rope_theta", json!(1e6)),
            ("rope_local_base_freq", json!(1e4)),
            (
                "rope_scaling",
                json!({"rope_type": "linear", "factor": 8.0}),
            ),
            ("rms_norm_eps", json!(1e-5)),
        ] {
            assert_ne!(fingerprint(field, value), unchanged, "{field}");
        }
    }
}
