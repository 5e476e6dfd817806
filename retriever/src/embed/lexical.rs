//! The built-in embedder: hashed words and word pairs with the weights of BM25.
//!
//! A document gets BM25's saturated term frequencies. At query time the index multiplies them by the
//! IDF of the chunks it holds then. The dot product of both is the BM25 score.

use std::collections::BTreeMap;

use crate::embed::words::{bigram_id, unigram_id, words};
use crate::embed::{Embedder, Embedding};
use crate::error::RetrieverError;

/// Name of this method. Change it whenever a constant here or a rule in `words.rs` changes.
const ID: &str = "lexical-bm25-v2";

/// How soon a repeated term stops counting.
const K1: f32 = 1.2;
/// How strongly the length of a text lowers the weight of its terms; 0 means not at all.
const B: f32 = 0.75;
/// The normal length, in words: a chunk of 512 tokens of English has about 380, a short note a few
/// dozen. It is fixed, so that a vector does not depend on the rest of the corpus.
const NORMAL_WORDS: f32 = 256.0;
/// A pair of words counts half, because its words have already been counted alone.
const BIGRAM_WEIGHT: f32 = 0.5;

/// The built-in embedder; the module comment describes it.
#[derive(Debug, Clone, Default)]
pub struct LexicalEmbedder;

impl LexicalEmbedder {
    /// The embedder; it has no settings.
    pub fn new() -> Self {
        Self
    }
}

impl Embedder for LexicalEmbedder {
    fn id(&self) -> &str {
        ID
    }

    fn description(&self) -> String {
        format!("{ID}: words and word pairs, built in")
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Vec<Option<Embedding>>, RetrieverError> {
        let document = |text: &&str| {
            embed(text, |count, n_words| {
                let length = 1.0 - B + B * n_words / NORMAL_WORDS;
                count * (K1 + 1.0) / (count + K1 * length)
            })
        };
        Ok(texts.iter().map(document).collect())
    }

    /// A term that is repeated in a question counts `1 + ln(count)`.
    fn embed_query(&self, text: &str) -> Result<Embedding, RetrieverError> {
        embed(text, |count, _| 1.0 + count.ln()).ok_or(RetrieverError::BlankText)
    }
}

/// The terms of `text`, each weighted by its count and the number of words; `None` if there are none.
fn embed(text: &str, weigh: impl Fn(f32, f32) -> f32) -> Option<Embedding> {
    let words = words(text);
    if words.is_empty() {
        return None;
    }
    let n_words = words.len() as f32;
    let unigrams = counts(words.iter().map(|word| unigram_id(word)));
    let bigrams = counts(words.windows(2).map(|pair| bigram_id(&pair[0], &pair[1])));
    let mut weights: BTreeMap<u32, f32> = BTreeMap::new();
    for (term, count) in unigrams {
        *weights.entry(term).or_default() += weigh(count, n_words);
    }
    for (term, count) in bigrams {
        *weights.entry(term).or_default() += weigh(count, n_words) * BIGRAM_WEIGHT;
    }
    Some(Embedding::Sparse(weights.into_iter().collect()))
}

fn counts(ids: impl Iterator<Item = u32>) -> BTreeMap<u32, f32> {
    let mut counts = BTreeMap::new();
    for id in ids {
        *counts.entry(id).or_default() += 1.0;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(embedding: &Embedding, term: u32) -> f32 {
        let Embedding::Sparse(terms) = embedding else {
            unreachable!("lexical is sparse")
        };
        terms.iter().find(|t| t.0 == term).map_or(0.0, |t| t.1)
    }

    #[test]
    fn weights_are_those_worked_out_by_hand() {
        let document = LexicalEmbedder.embed_document("Red red fox").unwrap();
        // length = 1 - 0.75 + 0.75 * 3 / 256 = 0.25879, k1 * length = 0.31055
        assert!((weight(&document, unigram_id("red")) - 2.0 * 2.2 / 2.31055).abs() < 1e-4);
        assert!((weight(&document, unigram_id("fox")) - 2.2 / 1.31055).abs() < 1e-4);
        assert!((weight(&document, bigram_id("red", "red")) - 1.1 / 1.31055).abs() < 1e-4);
        let query = LexicalEmbedder.embed_query("fox fox").unwrap();
        assert!((weight(&query, unigram_id("fox")) - (1.0 + 2f32.ln())).abs() < 1e-6);
        assert!((weight(&query, bigram_id("fox", "fox")) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn repetition_and_length_are_bounded() {
        let once = LexicalEmbedder.embed_document("fox").unwrap();
        let often = LexicalEmbedder.embed_document(&"fox ".repeat(200)).unwrap();
        let fox = unigram_id("fox");
        assert!(weight(&often, fox) > weight(&once, fox));
        assert!(weight(&often, fox) < K1 + 1.0);
        let long = format!("fox {}", "filler ".repeat(2000));
        let long = LexicalEmbedder.embed_document(&long).unwrap();
        assert!(weight(&long, fox) < weight(&once, fox));
    }

    #[test]
    fn blank_texts_are_refused_and_all_others_embedded() {
        assert_eq!(
            LexicalEmbedder.embed_query(" \n"),
            Err(RetrieverError::BlankText)
        );
        assert_eq!(
            LexicalEmbedder.embed_document(""),
            Err(RetrieverError::BlankText)
        );
        assert!(
            LexicalEmbedder
                .embed_document("-----")
                .unwrap()
                .check()
                .is_ok()
        );
    }
}
