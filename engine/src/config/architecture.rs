//! The network families the engine implements, and how `config.json` distinguishes them.

use super::fields::Fields;
use crate::error::EngineError;

/// The network families the engine implements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `LlamaForCausalLM`: Llama 2 and 3, SmolLM2, TinyLlama.
    Llama,
    /// `MistralForCausalLM`: Llama without biases, all layers under one sliding window or none.
    Mistral,
    /// `Qwen2ForCausalLM`, also Qwen2.5: Llama with biases on the projections to Q, K and V alone.
    Qwen2,
    /// `Qwen3ForCausalLM`: like Llama with an RMS norm on each head of Q and K.
    Qwen3,
    /// `Gemma3ForCausalLM`: the text models of Gemma 3. Most layers have a sliding window and a RoPE of their own;
    /// norms stand before and after attention and MLP, and the gate of the MLP is a GELU.
    Gemma3,
}

/// Gemma 3 with images, whose text model is [`Architecture::Gemma3`] in another layout: class name and model type.
const GEMMA3_WITH_IMAGES: [&str; 2] = ["Gemma3ForConditionalGeneration", "gemma3"];

impl Architecture {
    const ALL: [Self; 5] = [
        Self::Llama,
        Self::Mistral,
        Self::Qwen2,
        Self::Qwen3,
        Self::Gemma3,
    ];

    /// The name in the `architectures` list.
    #[must_use]
    pub fn class_name(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Gemma3 => "Gemma3ForCausalLM",
        }
    }

    /// The name in the `model_type` field.
    #[must_use]
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma3 => "gemma3_text",
        }
    }

    /// Whether the sums between layers can exceed the largest f16, 65,504, and so become infinite. In Gemma 3 270M they reach
    /// 103,795 over 1,400 tokens of English text.
    pub(crate) fn exceeds_f16(self) -> bool {
        match self {
            Self::Llama | Self::Mistral | Self::Qwen2 | Self::Qwen3 => false,
            Self::Gemma3 => true,
        }
    }

    /// What transformers assumes for fields the file leaves out.
    pub(super) fn defaults(self) -> Defaults {
        match self {
            Self::Llama => Defaults {
                num_key_value_heads: None,
                head_dim: None,
                max_position_embeddings: 2048,
                tie_word_embeddings: false,
                bos_token_id: Some(1),
                eos_token_id: Some(2),
            },
            Self::Mistral => Defaults {
                num_key_value_heads: Some(8),
                head_dim: None,
                max_position_embeddings: 131_072,
                tie_word_embeddings: false,
                bos_token_id: Some(1),
                eos_token_id: Some(2),
            },
            Self::Qwen2 => Defaults {
                num_key_value_heads: Some(32),
                head_dim: None,
                max_position_embeddings: 32_768,
                tie_word_embeddings: false,
                bos_token_id: None,
                eos_token_id: None,
            },
            Self::Qwen3 => Defaults {
                num_key_value_heads: Some(32),
                head_dim: Some(128),
                max_position_embeddings: 32_768,
                tie_word_embeddings: false,
                bos_token_id: None,
                eos_token_id: None,
            },
            Self::Gemma3 => Defaults {
                num_key_value_heads: Some(4),
                head_dim: Some(256),
                max_position_embeddings: 131_072,
                tie_word_embeddings: true,
                bos_token_id: Some(2),
                eos_token_id: Some(1),
            },
        }
    }
}

/// Class defaults of transformers' configuration classes; `None` derives the value.
pub(super) struct Defaults {
    pub(super) num_key_value_heads: Option<usize>,
    pub(super) head_dim: Option<usize>,
    pub(super) max_position_embeddings: usize,
    pub(super) tie_word_embeddings: bool,
    pub(super) bos_token_id: Option<u32>,
    pub(super) eos_token_id: Option<u32>,
}

/// The one architecture both `architectures` and `model_type` name; either may be absent.
pub(super) fn architecture(fields: Fields<'_>) -> Result<Architecture, EngineError> {
    let supported = || {
        let names = Architecture::ALL.map(|a| format!("{} ({})", a.class_name(), a.model_type()));
        names.join(", ")
    };
    let find = |field: &str, name: Option<&str>, of: fn(Architecture) -> &'static str| {
        let Some(name) = name else { return Ok(None) };
        match Architecture::ALL.into_iter().find(|a| of(*a) == name) {
            Some(architecture) => Ok(Some(architecture)),
            None if GEMMA3_WITH_IMAGES.contains(&name) => Err(fields.refuse(
                field,
                format!(
                    "is {name:?}, Gemma 3 with images; only its text model is supported: save that alone, as \
                     docs/operations.md shows under Models"
                ),
            )),
            None => Err(fields.refuse(field, format!("is {name:?}; supported: {}", supported()))),
        }
    };
    let classes = fields.strings("architectures")?.unwrap_or_default();
    let by_class = find(
        "architectures",
        classes.first().copied(),
        Architecture::class_name,
    )?;
    let by_type = find(
        "model_type",
        fields.str("model_type")?,
        Architecture::model_type,
    )?;
    match (by_class, by_type) {
        (Some(class), Some(model_type)) if class != model_type => Err(fields.refuse(
            "model_type",
            format!(
                "is {:?} but architectures names {}",
                model_type.model_type(),
                class.class_name()
            ),
        )),
        (Some(found), _) | (None, Some(found)) => Ok(found),
        (None, None) => Err(fields.refuse(
            "architectures",
            format!("is missing; supported: {}", supported()),
        )),
    }
}
