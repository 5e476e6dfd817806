//! The model families of GGUF files: the value of `general.architecture`, and how llama.cpp's converter
//! changed names and values of the tensors of a Hugging Face model.

use super::metadata::Metadata;
use crate::error::EngineError;

const ARCHITECTURE_KEY: &str = "general.architecture";

/// A family whose files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Llama, and Mistral's older models.
    Llama,
    Mistral3,
    Qwen2,
    Qwen3,
    Gemma3,
}

/// How the values of a tensor differ from those of the Hugging Face model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    AsIs,
    /// The rows of each head's two halves alternate: 0, n/2, 1, n/2 + 1 and so on. llama.cpp rotates
    /// neighbouring rows, transformers row i with row i + n/2.
    AlternatingHalves {
        n_heads: usize,
    },
    /// Norm weights with 1 added, which Gemma's own norm adds when it computes.
    PlusOne,
}

/// A tensor of a file under its Hugging Face name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) stored: Stored,
}

/// Name in the file and in Hugging Face files, of tensors that a model has once.
const WHOLE: [(&str, &str); 3] = [
    ("token_embd", "model.embed_tokens"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
];

/// The same for the tensors of a layer, after `blk.N.` and `model.layers.N.`.
const OF_LAYER: [(&str, &str); 8] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// The norm before the MLP.
const NORMS_BEFORE: [(&str, &str); 1] = [("ffn_norm", "post_attention_layernorm")];
/// Gemma 3's norms around attention and MLP.
const NORMS_AROUND: [(&str, &str); 3] = [
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];
const HEAD_NORMS: [(&str, &str); 2] = [
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
];

impl Family {
    const ALL: [Self; 5] = [
        Self::Llama,
        Self::Mistral3,
        Self::Qwen2,
        Self::Qwen3,
        Self::Gemma3,
    ];

    /// The family that a file names.
    ///
    /// # Errors
    /// [`EngineError::UnsupportedModel`] when it names none, or another one.
    pub(super) fn of(metadata: &Metadata) -> Result<Self, EngineError> {
        let name = metadata.str(ARCHITECTURE_KEY)?;
        let name = name.ok_or_else(|| metadata.missing(ARCHITECTURE_KEY))?;
        let family = Self::ALL.into_iter().find(|family| family.name() == name);
        family.ok_or_else(|| {
            let supported = Self::ALL.map(Self::name).join(", ");
            metadata.refuse(
                ARCHITECTURE_KEY,
                format!("is {name:?}; supported: {supported}"),
            )
        })
    }

    /// The value of `general.architecture`, and the first part of the family's keys.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral3 => "mistral3",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma3 => "gemma3",
        }
    }

    /// The Hugging Face name of the tensor `name`, and how its values are stored. `None` for a
    /// tensor that the family does not have.
    pub(crate) fn named(self, name: &str, heads: &Heads) -> Option<Named> {
        let (base, suffix) = name.rsplit_once('.')?;
        if !matches!(suffix, "weight" | "bias") {
            return None;
        }
        if let Some(hf) = find(&WHOLE, base) {
            return Some(Named {
                name: format!("{hf}.{suffix}"),
                stored: self.stored(base, heads),
            });
        }
        let (layer, part) = base.strip_prefix("blk.")?.split_once('.')?;
        let layer: u32 = layer.parse().ok()?;
        let hf = self.tables().iter().find_map(|table| find(table, part))?;
        Some(Named {
            name: format!("model.layers.{layer}.{hf}.{suffix}"),
            stored: self.stored(part, heads),
        })
    }

    fn tables(self) -> &'static [&'static [(&'static str, &'static str)]] {
        match self {
            Self::Llama | Self::Mistral3 | Self::Qwen2 => &[&OF_LAYER, &NORMS_BEFORE],
            Self::Qwen3 => &[&OF_LAYER, &NORMS_BEFORE, &HEAD_NORMS],
            Self::Gemma3 => &[&OF_LAYER, &NORMS_AROUND, &HEAD_NORMS],
        }
    }

    fn stored(self, part: &str, heads: &Heads) -> Stored {
        let n_heads = match part {
            "attn_q" => heads.query,
            "attn_k" => heads.key_value,
            _ => 0,
        };
        match self {
            Self::Llama | Self::Mistral3 if n_heads > 0 => Stored::AlternatingHalves { n_heads },
            Self::Gemma3 if part.ends_with("norm") => Stored::PlusOne,
            Self::Llama | Self::Mistral3 | Self::Qwen2 | Self::Qwen3 | Self::Gemma3 => Stored::AsIs,
        }
    }
}

/// The numbers of heads of a model, as far as the file states them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heads {
    pub(super) query: usize,
    pub(super) key_value: usize,
}

fn find(table: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    let entry = table.iter().find(|(gguf, _)| *gguf == name);
    entry.map(|(_, hf)| *hf)
}
