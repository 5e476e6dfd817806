//! `config.json` of an encoder, with Hugging Face's field names.

use super::files::JsonFile;
use crate::embed::open_error::OpenEmbedderError;

/// The kinds of encoders, which differ in the names of their tensors and in their positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Bert,
    /// RoBERTa, XLM-RoBERTa and CamemBERT.
    Roberta,
    /// A bias by relative position in addition to absolute positions.
    Mpnet,
    DistilBert,
}

/// Activation of the feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    /// With the error function.
    Gelu,
    /// With the tangens hyperbolicus.
    GeluTanh,
    Relu,
}

/// What the network is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EncoderConfig {
    pub(super) family: Family,
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) intermediate_size: usize,
    /// Rows of the position table.
    pub(super) max_position_embeddings: usize,
    /// Rows of the table of token types; 0 if there is none.
    pub(super) type_vocab_size: usize,
    pub(super) layer_norm_eps: f64,
    pub(super) hidden_act: Activation,
    /// Row of the position table for the first token.
    pub(super) first_position: usize,
    /// Rows of the table of relative positions; 0 if there is none.
    pub(super) relative_attention_num_buckets: usize,
}

const SUPPORTED: &str = "supported are bert, roberta, xlm-roberta, camembert, mpnet and distilbert";

impl EncoderConfig {
    pub(super) fn read(file: &JsonFile) -> Result<Self, OpenEmbedderError> {
        let family = family(file)?;
        check_positions(file)?;
        let config = match family {
            Family::DistilBert => Self::distilbert(file)?,
            Family::Bert | Family::Roberta | Family::Mpnet => Self::bert_like(file, family)?,
        };
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        if !hidden.is_multiple_of(heads) {
            return Err(file.refuse(format!(
                "has a hidden size of {hidden}, which {heads} attention heads cannot share equally"
            )));
        }
        if config.first_position >= config.max_position_embeddings {
            return Err(file.refuse("has no position left after pad_token_id"));
        }
        Ok(config)
    }

    /// The most tokens that have a position of their own.
    pub(super) fn max_tokens(&self) -> usize {
        self.max_position_embeddings - self.first_position
    }

    fn bert_like(file: &JsonFile, family: Family) -> Result<Self, OpenEmbedderError> {
        let (type_vocab_size, first_position, buckets) = match family {
            Family::Mpnet => {
                let buckets = file.count("relative_attention_num_buckets")?.unwrap_or(32);
                if buckets < 4 {
                    return Err(file.refuse("relative_attention_num_buckets is less than 4"));
                }
                (0, after_padding(file)?, buckets)
            }
            Family::Roberta => (file.size("type_vocab_size")?, after_padding(file)?, 0),
            Family::Bert | Family::DistilBert => (file.size("type_vocab_size")?, 0, 0),
        };
        Ok(Self {
            family,
            vocab_size: file.size("vocab_size")?,
            hidden_size: file.size("hidden_size")?,
            num_hidden_layers: file.size("num_hidden_layers")?,
            num_attention_heads: file.size("num_attention_heads")?,
            intermediate_size: file.size("intermediate_size")?,
            max_position_embeddings: file.size("max_position_embeddings")?,
            type_vocab_size,
            layer_norm_eps: file.number("layer_norm_eps")?.unwrap_or(1e-12),
            hidden_act: activation(file, "hidden_act")?,
            first_position,
            relative_attention_num_buckets: buckets,
        })
    }

    fn distilbert(file: &JsonFile) -> Result<Self, OpenEmbedderError> {
        Ok(Self {
            family: Family::DistilBert,
            vocab_size: file.size("vocab_size")?,
            hidden_size: file.size("dim")?,
            num_hidden_layers: file.size("n_layers")?,
            num_attention_heads: file.size("n_heads")?,
            intermediate_size: file.size("hidden_dim")?,
            max_position_embeddings: file.size("max_position_embeddings")?,
            type_vocab_size: 0,
            layer_norm_eps: 1e-12, // not configurable in this family
            hidden_act: activation(file, "activation")?,
            first_position: 0,
            relative_attention_num_buckets: 0,
        })
    }
}

fn family(file: &JsonFile) -> Result<Family, OpenEmbedderError> {
    match file.text("model_type")? {
        Some("bert") => Ok(Family::Bert),
        Some("roberta" | "xlm-roberta" | "camembert") => Ok(Family::Roberta),
        Some("mpnet") => Ok(Family::Mpnet),
        Some("distilbert") => Ok(Family::DistilBert),
        Some(other) => Err(file.unsupported(format!(
            "model_type {other:?} is not supported; {SUPPORTED}"
        ))),
        None => Err(file.unsupported(format!("has no model_type; {SUPPORTED}"))),
    }
}

/// Refuses what would need another attention.
fn check_positions(file: &JsonFile) -> Result<(), OpenEmbedderError> {
    match file.text("position_embedding_type")? {
        None | Some("absolute") => {}
        Some(other) => {
            return Err(file.unsupported(format!(
                "position_embedding_type {other:?} is not supported, only \"absolute\""
            )));
        }
    }
    match file.flag("is_decoder")? {
        Some(true) => Err(file.unsupported("is_decoder is true; only encoders are supported")),
        Some(false) | None => Ok(()),
    }
}

/// RoBERTa counts positions from the row after the one of the padding token.
fn after_padding(file: &JsonFile) -> Result<usize, OpenEmbedderError> {
    let padding = file.count("pad_token_id")?.unwrap_or(1);
    let first = padding.checked_add(1);
    first.ok_or_else(|| file.refuse("pad_token_id is not an id of the vocabulary"))
}

fn activation(file: &JsonFile, key: &str) -> Result<Activation, OpenEmbedderError> {
    match file.text(key)?.unwrap_or("gelu") {
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        other => Err(file.unsupported(format!(
            "{key} {other:?} is not supported; supported are gelu, gelu_new, gelu_pytorch_tanh and \
             relu"
        ))),
    }
}
