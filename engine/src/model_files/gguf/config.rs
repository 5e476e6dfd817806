//! The metadata of a GGUF file as the `config.json` of the same model, which `ModelConfig` checks.
//! Values are passed on as they are: a wrong type or size is refused there, under the name of the key
//! here ([`key_of`]).

use serde_json::{Map, Value, json};

use super::family::{Family, Heads};
use super::metadata::Metadata;
use super::parts::Parts;
use super::rope_freqs::llama3_scaling;
use super::tokenizer::vocabulary::{BOS_KEY, EOS_KEY, TOKENS_KEY};
use crate::error::EngineError;

/// Fields of `config.json`, and the keys that hold them. A key begins with the family's name.
const KEYS: [(&str, &str); 11] = [
    ("vocab_size", "vocab_size"),
    ("max_position_embeddings", "context_length"),
    ("hidden_size", "embedding_length"),
    ("num_hidden_layers", "block_count"),
    ("intermediate_size", "feed_forward_length"),
    ("num_attention_heads", "attention.head_count"),
    ("num_key_value_heads", "attention.head_count_kv"),
    ("head_dim", "attention.key_length"),
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
    ("rope_theta", "rope.freq_base"),
    ("sliding_window", "attention.sliding_window"),
];

/// The same for fields that are derived from keys, which only errors need.
const DERIVED: [(&str, &str); 8] = [
    ("partial_rotary_factor", "rope.dimension_count"),
    ("rope_local_base_freq", "rope.freq_base_swa"),
    ("rope_scaling.rope_type", "rope.scaling.type"),
    ("rope_scaling.factor", "rope.scaling.factor"),
    (
        "rope_scaling.original_max_position_embeddings",
        "rope.scaling.original_context_length",
    ),
    ("rope_scaling.attention_factor", "rope.scaling.attn_factor"),
    ("rope_scaling.beta_fast", "rope.scaling.yarn_beta_fast"),
    ("rope_scaling.beta_slow", "rope.scaling.yarn_beta_slow"),
];

/// Keys without which there is no model. transformers has defaults for some; a file that lacks
/// them is not one that llama.cpp's converter wrote.
const REQUIRED: [&str; 6] = [
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.layer_norm_rms_epsilon",
];

/// Keys that ask for something the engine does not compute, unless they are 0.
const REFUSED: [(&str, &str); 4] = [
    ("expert_count", "makes it a mixture of experts"),
    ("attn_logit_softcapping", "caps attention scores"),
    (
        "attention.temperature_scale",
        "scales attention with the position",
    ),
    ("pooling_type", "makes it a model of embeddings"),
];

/// Ends of a turn and of a message: each also ends an answer.
const OTHER_ENDS: [&str; 2] = ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];
/// Tokens that end a turn, in the families that are read.
const TURN_ENDS: [&str; 6] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|endoftext|>",
    "<end_of_turn>",
];

/// Layers of Gemma 3 27B, which scales its queries otherwise than the smaller models.
const GEMMA3_27B_LAYERS: u64 = 62;
/// Every so many layers of Gemma 3 see the whole context, the others a window.
const GEMMA3_PATTERN: usize = 6;
const DEFAULT_THETA: f64 = 10_000.0;
const GEMMA3_LOCAL_THETA: f64 = 10_000.0;

/// The `config.json` of the model.
///
/// # Errors
/// [`EngineError::UnsupportedModel`] naming the key that is missing or asks for something the engine
/// does not compute.
pub(super) fn config(model: &Parts, family: Family) -> Result<Value, EngineError> {
    let metadata = model.metadata();
    let keys = Keys { metadata, family };
    keys.refuse_what_we_lack()?;
    let mut config = Map::new();
    for (field, key) in KEYS {
        config.insert(field.to_owned(), keys.json(key));
    }
    config.insert("vocab_size".to_owned(), json!(vocab_size(model, &keys)?));
    config.insert("head_dim".to_owned(), json!(keys.head_dim()?));
    config.insert("rope_scaling".to_owned(), keys.rope_scaling(model)?);
    let partial = keys.partial_rotary_factor()?;
    config.insert("partial_rotary_factor".to_owned(), partial);
    let tied = !model.has_tensor("output.weight");
    config.insert("tie_word_embeddings".to_owned(), json!(tied));
    config.insert("bos_token_id".to_owned(), metadata.json(BOS_KEY));
    config.insert("eos_token_id".to_owned(), ends(metadata)?);
    keys.add_family(model, &mut config)?;
    Ok(Value::Object(config))
}

/// The key that holds `field` of the config.
pub(super) fn key_of(family: Family, field: &str) -> Option<String> {
    match field {
        "eos_token_id" => return Some(EOS_KEY.to_owned()),
        "bos_token_id" => return Some(BOS_KEY.to_owned()),
        _ => {}
    }
    let mut all = KEYS.iter().chain(&DERIVED);
    let (_, key) = all.find(|(name, _)| *name == field)?;
    Some(format!("{}.{key}", family.name()))
}

/// The numbers of heads, where they are stated; 0 where not.
pub(super) fn heads(metadata: &Metadata, family: Family) -> Result<Heads, EngineError> {
    let keys = Keys { metadata, family };
    let query = keys.usize("attention.head_count")?.unwrap_or_default();
    let key_value = keys.usize("attention.head_count_kv")?.unwrap_or(query);
    Ok(Heads { query, key_value })
}

/// The ids that end an answer: those with a key, and tokens that are spelled like the end of a turn. As
/// llama.cpp does, because many files of chat models name only the end of a text.
fn ends(metadata: &Metadata) -> Result<Value, EngineError> {
    let named = [EOS_KEY].into_iter().chain(OTHER_ENDS);
    let mut ids: Vec<Value> = named
        .map(|key| metadata.json(key))
        .filter(|id| !id.is_null())
        .collect();
    let tokens = metadata.strs(TOKENS_KEY)?.unwrap_or_default();
    for (id, _) in (0_u64..)
        .zip(tokens)
        .filter(|(_, token)| TURN_ENDS.contains(token))
    {
        if !ids.contains(&json!(id)) {
            ids.push(json!(id));
        }
    }
    Ok(Value::Array(ids))
}

/// The rows of the token table, with which the sizes that the metadata states must agree.
fn vocab_size(model: &Parts, keys: &Keys<'_>) -> Result<usize, EngineError> {
    const TABLE: &str = "token_embd.weight";
    let metadata = keys.metadata;
    let Some(rows) = model.tensor(TABLE).and_then(|table| table.shape.first()) else {
        let message = format!("has no tensor {TABLE}");
        return Err(EngineError::model_file(metadata.path(), message));
    };
    let n_tokens = metadata.strs(TOKENS_KEY)?.map(|tokens| tokens.len());
    if let Some(n) = n_tokens.filter(|n| n > rows) {
        let message = format!("has {n} tokens, but {TABLE} has {rows} rows");
        return Err(metadata.refuse(TOKENS_KEY, message));
    }
    match keys.usize("vocab_size")? {
        Some(stated) if stated != *rows => Err(keys.refuse(
            "vocab_size",
            format!("is {stated}, but {TABLE} has {rows} rows"),
        )),
        _ => Ok(*rows),
    }
}

/// Access to the keys of a family.
struct Keys<'a> {
    metadata: &'a Metadata,
    family: Family,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.family.name())
    }

    fn json(&self, name: &str) -> Value {
        self.metadata.json(&self.key(name))
    }

    fn usize(&self, name: &str) -> Result<Option<usize>, EngineError> {
        let number = self.metadata.u64(&self.key(name))?;
        Ok(number.map(|n| usize::try_from(n).unwrap_or(usize::MAX)))
    }

    fn f64(&self, name: &str) -> Result<Option<f64>, EngineError> {
        self.metadata.f64(&self.key(name))
    }

    fn refuse(&self, name: &str, message: impl Into<String>) -> EngineError {
        self.metadata.refuse(&self.key(name), message)
    }

    fn refuse_what_we_lack(&self) -> Result<(), EngineError> {
        if let Some(missing) = REQUIRED
            .iter()
            .find(|name| !self.metadata.has(&self.key(name)))
        {
            return Err(self.metadata.missing(&self.key(missing)));
        }
        for (name, does) in REFUSED {
            if self.f64(name)?.is_some_and(|value| value != 0.0) {
                return Err(self.refuse(name, format!("{does}, which is not supported")));
            }
        }
        let (key, value) = (
            self.usize("attention.key_length")?,
            self.usize("attention.value_length")?,
        );
        match value {
            Some(value) if key.is_some_and(|key| key != value) => Err(self.refuse(
                "attention.value_length",
                format!("is {value}, but attention.key_length is not; heads of two sizes are not supported"),
            )),
            _ => Ok(()),
        }
    }

    /// The head size that is stated; otherwise `ModelConfig` derives it, except where a family has a
    /// default of its own.
    fn head_dim(&self) -> Result<Option<usize>, EngineError> {
        if let Some(head_dim) = self.usize("attention.key_length")? {
            return Ok(Some(head_dim));
        }
        let hidden = self.usize("embedding_length")?.unwrap_or_default();
        let heads = self.usize("attention.head_count")?.unwrap_or_default();
        Ok(match hidden.checked_rem(heads) {
            Some(0) => Some(hidden / heads),
            _ => None,
        })
    }

    /// Which part of a head is rotated, if the file says how many dimensions are.
    fn partial_rotary_factor(&self) -> Result<Value, EngineError> {
        let (rotated, head_dim) = (self.usize("rope.dimension_count")?, self.head_dim()?);
        Ok(match (rotated, head_dim) {
            (Some(rotated), Some(head_dim)) => json!(rotated as f64 / head_dim as f64),
            _ => Value::Null,
        })
    }

    fn rope_scaling(&self, model: &Parts) -> Result<Value, EngineError> {
        let theta = self.f64("rope.freq_base")?.unwrap_or(DEFAULT_THETA);
        if let Some(scaling) = llama3_scaling(model, self.head_dim()?, theta)? {
            return Ok(scaling);
        }
        let kind = self.metadata.str(&self.key("rope.scaling.type"))?;
        let factor = self.json("rope.scaling.factor");
        match kind {
            None | Some("none") => Ok(Value::Null),
            Some("yarn") => self.yarn(factor),
            Some(other) => Ok(json!({"rope_type": other, "factor": factor})),
        }
    }

    fn yarn(&self, factor: Value) -> Result<Value, EngineError> {
        let mut yarn = json!({
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": self.json("rope.scaling.original_context_length"),
            "beta_fast": self.json("rope.scaling.yarn_beta_fast"),
            "beta_slow": self.json("rope.scaling.yarn_beta_slow"),
        });
        // llama.cpp multiplies the factor in the file with the one that YaRN derives.
        let scale = self.f64("rope.scaling.attn_factor")?;
        if let (Some(scale), Some(factor)) = (scale, self.f64("rope.scaling.factor")?) {
            yarn["attention_factor"] = json!(scale * (1.0 + 0.1 * factor.max(1.0).ln()));
        }
        Ok(yarn)
    }

    fn add_family(
        &self,
        model: &Parts,
        config: &mut Map<String, Value>,
    ) -> Result<(), EngineError> {
        let model_type = match self.family {
            Family::Llama if config["sliding_window"].is_null() => "llama",
            Family::Llama | Family::Mistral3 => "mistral",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
            Family::Gemma3 => "gemma3_text",
        };
        config.insert("model_type".to_owned(), json!(model_type));
        match self.family {
            Family::Llama if model_type == "llama" => {
                let has_bias = |part: &str| model.has_tensor(&format!("blk.0.{part}.bias"));
                config.insert("attention_bias".to_owned(), json!(has_bias("attn_q")));
                config.insert("mlp_bias".to_owned(), json!(has_bias("ffn_gate")));
            }
            Family::Gemma3 => self.add_gemma3(config)?,
            Family::Llama | Family::Mistral3 | Family::Qwen2 | Family::Qwen3 => {}
        }
        Ok(())
    }

    /// What llama.cpp knows about Gemma 3 without being told.
    fn add_gemma3(&self, config: &mut Map<String, Value>) -> Result<(), EngineError> {
        let n_layers = self
            .metadata
            .u64(&self.key("block_count"))?
            .unwrap_or_default();
        let hidden = self.usize("embedding_length")?.unwrap_or_default();
        let heads = self.usize("attention.head_count")?.unwrap_or_default();
        let scalar = match n_layers == GEMMA3_27B_LAYERS {
            true => hidden.checked_div(heads),
            false => self.head_dim()?,
        };
        let local = self
            .f64("rope.freq_base_swa")?
            .unwrap_or(GEMMA3_LOCAL_THETA);
        let soft_cap = self.json("final_logit_softcapping");
        for (field, value) in [
            ("hidden_activation", json!("gelu_pytorch_tanh")),
            ("query_pre_attn_scalar", json!(scalar)),
            ("rope_local_base_freq", json!(local)),
            ("sliding_window_pattern", json!(GEMMA3_PATTERN)),
            ("final_logit_softcapping", soft_cap),
        ] {
            config.insert(field.to_owned(), value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
