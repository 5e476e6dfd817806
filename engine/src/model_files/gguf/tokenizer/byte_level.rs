//! Byte-level BPE (`tokenizer.ggml.model` is `gpt2`). The file has vocabulary and merges; how text is cut
//! before merging it only names, under `tokenizer.ggml.pre`.

use serde_json::{Map, Value, json};

use super::vocabulary::{MERGES_KEY, Vocabulary};
use crate::error::EngineError;
use crate::model_files::gguf::metadata::Metadata;

const PRE_KEY: &str = "tokenizer.ggml.pre";

/// Llama 3: words with the character before them, up to three digits.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2: the same with single digits.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's Tekken: words are also cut before capitals.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A way to cut text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// As GPT-2.
    Gpt2,
    /// As GPT-2, with each digit on its own.
    Digits,
    Llama3,
    Qwen2,
    Tekken,
}

/// The names of ways to cut text. `default` is what llama.cpp's converter writes when it does not know
/// the model's; transformers cuts as GPT-2 then.
const CUTS: [(&str, Cut); 15] = [
    ("default", Cut::Gpt2),
    ("gpt-2", Cut::Gpt2),
    ("gpt2", Cut::Gpt2),
    ("smollm", Cut::Digits),
    ("starcoder", Cut::Digits),
    ("refact", Cut::Digits),
    ("llama-bpe", Cut::Llama3),
    ("llama3", Cut::Llama3),
    ("llama-v3", Cut::Llama3),
    ("falcon3", Cut::Llama3),
    ("pixtral", Cut::Llama3),
    ("qwen2", Cut::Qwen2),
    ("deepseek-r1-qwen", Cut::Qwen2),
    ("megrez", Cut::Qwen2),
    ("tekken", Cut::Tekken),
];

impl Cut {
    fn named(name: &str) -> Option<Self> {
        let entry = CUTS.iter().find(|(known, _)| *known == name);
        entry.map(|(_, cut)| *cut)
    }

    /// Whether a word that is a token stays whole, whatever the merges say.
    fn keeps_tokens(self) -> bool {
        matches!(self, Self::Llama3 | Self::Tekken)
    }

    fn normalizer(self) -> Value {
        match self {
            Self::Qwen2 => json!({"type": "NFC"}),
            Self::Gpt2 | Self::Digits | Self::Llama3 | Self::Tekken => Value::Null,
        }
    }

    fn pre_tokenizer(self) -> Value {
        let first = match self {
            Self::Gpt2 => return byte_level(true),
            Self::Digits => json!({"type": "Digits", "individual_digits": true}),
            Self::Llama3 => split(LLAMA3),
            Self::Qwen2 => split(QWEN2),
            Self::Tekken => split(TEKKEN),
        };
        let bytes = byte_level(self == Self::Digits);
        json!({"type": "Sequence", "pretokenizers": [first, bytes]})
    }
}

/// Whether a text begins with BOS, unless the file says otherwise.
pub(super) fn adds_bos(metadata: &Metadata) -> Result<bool, EngineError> {
    let name = metadata.str(PRE_KEY)?.unwrap_or_default();
    Ok(Cut::named(name).is_some_and(Cut::keeps_tokens))
}

/// The `tokenizer.json`.
pub(super) fn definition(vocabulary: &Vocabulary<'_>) -> Result<Value, EngineError> {
    let metadata = vocabulary.metadata;
    let name = metadata.str(PRE_KEY)?.unwrap_or("default");
    let cut = Cut::named(name).ok_or_else(|| {
        let names = CUTS.map(|(name, _)| name).join(", ");
        metadata.refuse(
            PRE_KEY,
            format!(
                "is {name:?}; supported: {names}. For another one, put the model's \
                 tokenizer.json beside the file"
            ),
        )
    })?;
    let merges = vocabulary.listed_merges()?;
    let merges = merges.ok_or_else(|| metadata.missing(MERGES_KEY))?;
    let tokens = vocabulary.iter();
    let ids: Map<String, Value> = tokens
        .map(|(id, token, _)| (token.to_owned(), json!(id)))
        .collect();
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": vocabulary.added_tokens()?,
        "normalizer": cut.normalizer(),
        "pre_tokenizer": cut.pre_tokenizer(),
        "post_processor": null,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": cut.keeps_tokens(),
            "vocab": ids, "merges": merges,
        },
    }))
}

fn byte_level(use_regex: bool) -> Value {
    json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": use_regex,
    })
}

fn split(regex: &str) -> Value {
    json!({
        "type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false,
    })
}
