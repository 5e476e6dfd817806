//! Embedders from sentence-transformers directories: BERT and its relatives, on any Burn backend.
//!
//! Texts beyond the model's maximum are embedded as windows of that maximum; their vectors are
//! averaged, weighted by the tokens of the text in each. Every vector has length 1.

mod config;
mod dense;
mod files;
mod layers;
mod load;
mod names;
mod network;
mod options;
mod pooling;
mod queue;
mod recipe;
mod relative;
mod tokens;
mod worker;

use burn::tensor::backend::Backend;

use crate::embed::batches::batches;
use crate::embed::open_error::OpenEmbedderError;
use crate::embed::{Embedder, Embedding, is_blank};
use crate::error::RetrieverError;
pub use options::{Parallelism, TransformerOptions};

use queue::Lane;
use recipe::Recipe;
use tokens::{TextEncoder, Window};
use worker::{Weights, Worker};

/// Names the rules of this module. Change it whenever a vector would change: windows, how they are
/// averaged, how special tokens are treated.
const RULES: &str = "transformer 1";

/// Most tokens that are computed at once. A question waits for at most one such batch.
const MAX_BATCH_TOKENS: usize = 2048;

/// An embedder from a sentence-transformers directory. Its model has its own thread.
pub struct TransformerEmbedder {
    id: String,
    description: String,
    recipe: Recipe,
    encoder: TextEncoder,
    worker: Worker,
}

/// A text's place in the batch, and one window of it.
struct Part {
    text: usize,
    window: Window,
}

impl TransformerEmbedder {
    /// Reads the directory and loads the model onto `device`. Blocks until it is loaded.
    ///
    /// # Errors
    /// [`OpenEmbedderError`], which names the file.
    pub fn spawn<B: Backend>(
        options: &TransformerOptions,
        device: B::Device,
        parallelism: Parallelism,
    ) -> Result<Self, OpenEmbedderError> {
        let recipe = Recipe::read(options)?;
        let encoder = TextEncoder::read(&options.dir, &recipe)?;
        let weights = Weights::read(&options.dir, &recipe)?;
        let id = id(&recipe, &encoder, &weights);
        let description = describe(options, &recipe);
        let worker = Worker::spawn::<B>(recipe.clone(), weights, device, parallelism)?;
        Ok(Self {
            id,
            description,
            recipe,
            encoder,
            worker,
        })
    }

    /// A vector for each text that is not blank.
    fn embed(
        &self,
        lane: Lane,
        prompt: &str,
        texts: &[&str],
    ) -> Result<Vec<Option<Embedding>>, RetrieverError> {
        let mut parts = Vec::new();
        for (text, words) in texts
            .iter()
            .enumerate()
            .filter(|(_, words)| !is_blank(words))
        {
            let windows = self.encoder.windows(prompt, words)?;
            parts.extend(windows.into_iter().map(|window| Part { text, window }));
        }
        // Equal lengths together, so that attention runs over many texts at once.
        parts.sort_by_key(|part| part.window.ids.len());
        let mut sums: Vec<Option<Vec<f32>>> = vec![None; texts.len()];
        let weight = |part: &Part| part.window.ids.len();
        for batch in batches(&parts, usize::MAX, MAX_BATCH_TOKENS, weight) {
            let ids = batch.iter().map(|part| part.window.ids.clone()).collect();
            let vectors = self.worker.run(lane, ids)?;
            for (part, vector) in batch.iter().zip(vectors) {
                let weight = part.window.n_text_tokens.max(1) as f32;
                add(&mut sums[part.text], &vector, weight);
            }
        }
        let finished = sums.into_iter().map(|sum| sum.map(normalized).transpose());
        finished.collect()
    }
}

impl Embedder for TransformerEmbedder {
    fn id(&self) -> &str {
        &self.id
    }

    fn description(&self) -> String {
        self.description.clone()
    }

    fn width(&self) -> Option<usize> {
        Some(self.recipe.width())
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Vec<Option<Embedding>>, RetrieverError> {
        self.embed(Lane::Document, &self.recipe.document_prompt, texts)
    }

    fn embed_query(&self, text: &str) -> Result<Embedding, RetrieverError> {
        let mut embeddings = self.embed(Lane::Question, &self.recipe.query_prompt, &[text])?;
        let embedding = embeddings.pop().flatten();
        embedding.ok_or(RetrieverError::BlankText)
    }
}

/// A hash over everything that a vector depends on: configuration, pooling, prompts, maximum length,
/// tokenizer, weights and the rules of this module. The place of the directory is left out.
fn id(recipe: &Recipe, encoder: &TextEncoder, weights: &Weights) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(RULES.as_bytes());
    part(format!("{recipe:?}").as_bytes());
    part(encoder.file_hash().as_bytes());
    for contents in weights.contents() {
        part(contents);
    }
    format!("{RULES} {}", hasher.finalize().to_hex())
}

fn describe(options: &TransformerOptions, recipe: &Recipe) -> String {
    let dir = std::path::absolute(&options.dir).unwrap_or_else(|_| options.dir.clone());
    let name = dir.file_name().map_or_else(
        || dir.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    format!(
        "{name}: {:?}, {} layers, vectors of {} numbers, at most {} tokens",
        recipe.encoder.family,
        recipe.encoder.num_hidden_layers,
        recipe.width(),
        recipe.max_seq_length,
    )
}

fn add(sum: &mut Option<Vec<f32>>, vector: &[f32], weight: f32) {
    let sum = sum.get_or_insert_with(|| vec![0.0; vector.len()]);
    for (total, value) in sum.iter_mut().zip(vector) {
        *total += value * weight;
    }
}

/// The vector with length 1. A vector without a direction is refused.
fn normalized(mut vector: Vec<f32>) -> Result<Embedding, RetrieverError> {
    let squares: f64 = vector.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    let length = squares.sqrt() as f32;
    if length > 0.0 && length.is_finite() {
        vector.iter_mut().for_each(|value| *value /= length);
    }
    let embedding = Embedding::Dense(vector);
    embedding.check()?;
    Ok(embedding)
}
