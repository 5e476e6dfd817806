//! The names of the tensors of each family, as transformers writes them.

use super::config::Family;

/// Tensor names. A weight file of a model with a head puts a prefix before each.
pub(super) struct Names {
    pub(super) prefixes: &'static [&'static str],
    /// What the names of layer `i`'s tensors begin with, before `i`.
    layer: &'static str,
    pub(super) query: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) attention_output: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) intermediate: &'static str,
    pub(super) output: &'static str,
    pub(super) output_norm: &'static str,
}

pub(super) const WORDS: &str = "embeddings.word_embeddings.weight";
pub(super) const POSITIONS: &str = "embeddings.position_embeddings.weight";
pub(super) const TOKEN_TYPES: &str = "embeddings.token_type_embeddings.weight";
pub(super) const EMBEDDINGS_NORM: &str = "embeddings.LayerNorm";
pub(super) const RELATIVE_POSITIONS: &str = "encoder.relative_attention_bias.weight";

const BERT: Names = Names {
    prefixes: &["", "bert."],
    layer: "encoder.layer",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    intermediate: "intermediate.dense",
    output: "output.dense",
    output_norm: "output.LayerNorm",
};

const ROBERTA: Names = Names {
    prefixes: &["", "roberta."],
    ..BERT
};

const MPNET: Names = Names {
    prefixes: &["", "mpnet."],
    query: "attention.attn.q",
    key: "attention.attn.k",
    value: "attention.attn.v",
    attention_output: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
    ..BERT
};

const DISTILBERT: Names = Names {
    prefixes: &["", "distilbert."],
    layer: "transformer.layer",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    intermediate: "ffn.lin1",
    output: "ffn.lin2",
    output_norm: "output_layer_norm",
};

impl Names {
    pub(super) fn of(family: Family) -> &'static Self {
        match family {
            Family::Bert => &BERT,
            Family::Roberta => &ROBERTA,
            Family::Mpnet => &MPNET,
            Family::DistilBert => &DISTILBERT,
        }
    }

    /// A tensor of layer `idx`.
    pub(super) fn in_layer(&self, idx: usize, name: &str) -> String {
        format!("{}.{idx}.{name}", self.layer)
    }
}
