//! The tensor names of the model families, by role. `{}` stands for the layer.
//!
//! | role | shape |
//! |---|---|
//! | `embed_tokens`, `lm_head` (untied) | `[vocab_size, hidden_size]` |
//! | `final_norm`, `attention_norm`, `mlp_norm` | `[hidden_size]` |
//! | `attention_output_norm`, `mlp_output_norm` (with [`Norms::BeforeAndAfter`](crate::config::Norms)) | `[hidden_size]` |
//! | `q_proj`, `k_proj`, `v_proj` | `[heads * head_dim, hidden_size]` |
//! | `o_proj` | `[hidden_size, heads * head_dim]` |
//! | `q_norm`, `k_norm` (with [`QkNorm::PerHead`](crate::config::QkNorm)) | `[head_dim]` |
//! | `gate_proj`, `up_proj` | `[intermediate_size, hidden_size]` |
//! | `down_proj` | `[hidden_size, intermediate_size]` |
//!
//! Each is followed by `.weight`, and that of a projection with a bias by `.bias`.

use crate::config::Architecture;

/// The names of one family.
pub(super) struct TensorNames {
    pub(super) embed_tokens: &'static str,
    pub(super) final_norm: &'static str,
    pub(super) lm_head: &'static str,
    pub(super) layer: LayerNames<&'static str>,
}

/// The names of the tensors of a layer.
pub(super) struct LayerNames<S> {
    /// Of what attention reads, and of what it adds to the residual stream.
    pub(super) attention_norm: S,
    pub(super) attention_output_norm: S,
    pub(super) q_proj: S,
    pub(super) k_proj: S,
    pub(super) v_proj: S,
    pub(super) o_proj: S,
    pub(super) q_norm: S,
    pub(super) k_norm: S,
    /// Of what the MLP reads, and of what it adds to the residual stream.
    pub(super) mlp_norm: S,
    pub(super) mlp_output_norm: S,
    pub(super) gate_proj: S,
    pub(super) up_proj: S,
    pub(super) down_proj: S,
}

/// Llama's names in Hugging Face files, which most other families also use. The output norms, which these families lack,
/// have the names of GLM-4.
const LLAMA: TensorNames = TensorNames {
    embed_tokens: "model.embed_tokens",
    final_norm: "model.norm",
    lm_head: "lm_head",
    layer: LayerNames {
        attention_norm: "model.layers.{}.input_layernorm",
        attention_output_norm: "model.layers.{}.post_self_attn_layernorm",
        q_proj: "model.layers.{}.self_attn.q_proj",
        k_proj: "model.layers.{}.self_attn.k_proj",
        v_proj: "model.layers.{}.self_attn.v_proj",
        o_proj: "model.layers.{}.self_attn.o_proj",
        q_norm: "model.layers.{}.self_attn.q_norm",
        k_norm: "model.layers.{}.self_attn.k_norm",
        mlp_norm: "model.layers.{}.post_attention_layernorm",
        mlp_output_norm: "model.layers.{}.post_mlp_layernorm",
        gate_proj: "model.layers.{}.mlp.gate_proj",
        up_proj: "model.layers.{}.mlp.up_proj",
        down_proj: "model.layers.{}.mlp.down_proj",
    },
};

/// `post_attention_layernorm` is another norm here than in Llama.
const GEMMA3: TensorNames = TensorNames {
    layer: LayerNames {
        attention_output_norm: "model.layers.{}.post_attention_layernorm",
        mlp_norm: "model.layers.{}.pre_feedforward_layernorm",
        mlp_output_norm: "model.layers.{}.post_feedforward_layernorm",
        ..LLAMA.layer
    },
    ..LLAMA
};

impl TensorNames {
    pub(super) fn of(architecture: Architecture) -> &'static Self {
        match architecture {
            Architecture::Llama
            | Architecture::Mistral
            | Architecture::Qwen2
            | Architecture::Qwen3 => &LLAMA,
            Architecture::Gemma3 => &GEMMA3,
        }
    }
}

impl LayerNames<&'static str> {
    /// The names of one layer's tensors.
    pub(super) fn at(&self, layer_idx: usize) -> LayerNames<String> {
        let layer = layer_idx.to_string();
        let name = |template: &str| template.replace("{}", &layer);
        LayerNames {
            attention_norm: name(self.attention_norm),
            attention_output_norm: name(self.attention_output_norm),
            q_proj: name(self.q_proj),
            k_proj: name(self.k_proj),
            v_proj: name(self.v_proj),
            o_proj: name(self.o_proj),
            q_norm: name(self.q_norm),
            k_norm: name(self.k_norm),
            mlp_norm: name(self.mlp_norm),
            mlp_output_norm: name(self.mlp_output_norm),
            gate_proj: name(self.gate_proj),
            up_proj: name(self.up_proj),
            down_proj: name(self.down_proj),
        }
    }
}
