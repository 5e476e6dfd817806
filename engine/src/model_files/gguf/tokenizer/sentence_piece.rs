//! SentencePiece's BPE (`tokenizer.ggml.model` is `llama`): pieces with scores, and tokens for single bytes.
//! The file has no merges; they follow from the vocabulary: two pieces merge where their
//! concatenation is a piece, best score first.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::vocabulary::{TOKENS_KEY, TokenType, Vocabulary, check_len, id};
use crate::error::EngineError;
use crate::model_files::gguf::family::Family;

pub(super) const UNKNOWN_KEY: &str = "tokenizer.ggml.unknown_token_id";
const SCORES_KEY: &str = "tokenizer.ggml.scores";
const ADD_SPACE_KEY: &str = "tokenizer.ggml.add_space_prefix";
/// What stands for a space in a piece.
const SPACE: &str = "\u{2581}";

/// The `tokenizer.json`.
pub(super) fn definition(
    vocabulary: &Vocabulary<'_>,
    family: Family,
) -> Result<Value, EngineError> {
    let metadata = vocabulary.metadata;
    let pieces = pieces(vocabulary);
    let merges = match vocabulary.listed_merges()? {
        Some(merges) => merges,
        None => derived_merges(vocabulary, &pieces, &ranks(vocabulary, family)?),
    };
    let unknown = id(metadata, UNKNOWN_KEY, pieces.len())?;
    let unknown = unknown.map(|id| pieces[id].as_str());
    let adds_space = metadata.bool(ADD_SPACE_KEY)?.unwrap_or(true);
    let ids = pieces.iter().enumerate();
    let ids: Map<String, Value> = ids.map(|(id, piece)| (piece.clone(), json!(id))).collect();
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": vocabulary.added_tokens()?,
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Metaspace", "replacement": SPACE, "split": false,
            "prepend_scheme": if adds_space { "first" } else { "never" },
        },
        "post_processor": null,
        "decoder": decoder(adds_space),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": true, "ignore_merges": false,
            "vocab": ids, "merges": merges,
        },
    }))
}

/// The tokens by id. Runs of spaces, which some files have as spaces, are written as in other pieces.
fn pieces(vocabulary: &Vocabulary<'_>) -> Vec<String> {
    let spell = |token: &str| match token.trim_matches(' ').is_empty() {
        true => token.replace(' ', SPACE),
        false => token.to_owned(),
    };
    vocabulary
        .iter()
        .map(|(_, token, _)| spell(token))
        .collect()
}

/// By id, how early a piece is merged: the higher, the earlier.
fn ranks(vocabulary: &Vocabulary<'_>, family: Family) -> Result<Vec<f32>, EngineError> {
    let metadata = vocabulary.metadata;
    let n_tokens = vocabulary.tokens.len();
    if family == Family::Gemma3 {
        // Gemma's pieces are in the order of their merges; their scores are not.
        return Ok((0..n_tokens).map(|id| -(id as f32)).collect());
    }
    let scores = metadata.f32s(SCORES_KEY)?;
    let scores = scores.ok_or_else(|| metadata.missing(SCORES_KEY))?;
    check_len(metadata, SCORES_KEY, scores.len(), n_tokens)?;
    match scores.iter().position(|score| !score.is_finite()) {
        Some(id) => Err(metadata.refuse(SCORES_KEY, format!("of {TOKENS_KEY} {id} is not finite"))),
        None => Ok(scores),
    }
}

/// A pair of pieces by id, and the lengths of both in characters.
struct Merge {
    rank: f32,
    left: usize,
    right: usize,
    left_chars: usize,
    right_chars: usize,
}

/// All pairs of pieces whose concatenation is a piece, in the order of transformers' `generate_merges`.
/// Only text is merged: no sequence of pieces becomes a token that controls the model.
fn derived_merges(vocabulary: &Vocabulary<'_>, pieces: &[String], ranks: &[f32]) -> Value {
    let is_text = |id: &usize| {
        !matches!(
            vocabulary.types[*id],
            TokenType::Control | TokenType::Unknown | TokenType::Byte
        )
    };
    let text = pieces.iter().enumerate().filter(|(id, _)| is_text(id));
    let by_text: HashMap<&str, usize> = text.map(|(id, piece)| (piece.as_str(), id)).collect();
    let mut merges = Vec::new();
    // By id and not from the map, whose order is random. A piece that is there twice counts once.
    for (id, piece) in pieces.iter().enumerate() {
        if by_text.get(piece.as_str()) != Some(&id) {
            continue;
        }
        let n_chars = piece.chars().count();
        for (n, (at, _)) in piece.char_indices().enumerate().skip(1) {
            let (left, right) = piece.split_at(at);
            if let (Some(left), Some(right)) = (by_text.get(left), by_text.get(right)) {
                merges.push(Merge {
                    rank: ranks[id],
                    left: *left,
                    right: *right,
                    left_chars: n,
                    right_chars: n_chars - n,
                });
            }
        }
    }
    merges.sort_by(|a, b| {
        let by_rank = b.rank.total_cmp(&a.rank);
        by_rank
            .then(b.left_chars.cmp(&a.left_chars))
            .then(b.right_chars.cmp(&a.right_chars))
    });
    let pairs = merges.iter();
    pairs
        .map(|merge| json!([pieces[merge.left], pieces[merge.right]]))
        .collect()
}

fn decoder(adds_space: bool) -> Value {
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if adds_space {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": decoders})
}
