//! `--dry-run`: what an ingest would do, from the corpus, the tokenizer and the model's config alone. Loads no weights,
//! opens no data directory for writing.

use std::path::PathBuf;

use ragweave_engine::ModelInfo;
use ragweave_retriever::Splitter;

use super::corpus;
use super::ending::Ending;
use crate::components;
use crate::config::Config;
use crate::error::ServerError;
use crate::prompt::PromptFormat;
use crate::{fit, ingest};

/// Prints the plan, and returns whether some documents would fail.
///
/// # Errors
/// If the model directory cannot be read or the chunk size does not fit.
pub(super) fn run(
    config: &Config,
    paths: &[PathBuf],
    limit: Option<usize>,
) -> Result<Ending, ServerError> {
    let model = ModelInfo::read(&components::engine_options(config))?;
    fit::fusion(config, &model.config)?;
    let prompt = components::open_prompt(config, &model)?;
    let splitter = components::open_splitter(config, &model, &prompt)?;
    let (mut n_documents, mut n_chunks, mut n_tokens, mut n_bytes) =
        (0usize, 0usize, 0usize, 0usize);
    let mut ending = Ending::Done;
    for item in corpus::documents(paths, config.limits.max_document_bytes, limit) {
        let counted = item
            .map_err(|failure| failure.to_string())
            .and_then(|document| {
                ingest::check(&document, &config.limits)
                    .map_err(|error| format!("{}: {error}", document.id))?;
                let tokens = chunk_lens(&splitter, &prompt, &document)?;
                say!(
                    "{}: {} chunks, {} tokens",
                    document.id,
                    tokens.len(),
                    tokens.iter().sum::<usize>()
                );
                Ok(tokens)
            });
        match counted {
            Ok(tokens) => {
                n_documents += 1;
                n_chunks += tokens.len();
                n_tokens += tokens.iter().sum::<usize>();
                n_bytes += tokens.iter().map(|n| kv_bytes(&model, *n)).sum::<usize>();
            }
            Err(error) => {
                ending = Ending::SomeFailed;
                say!("would fail: {error}");
            }
        }
    }
    say!(
        "{n_documents} documents, {n_chunks} chunks, {n_tokens} tokens, {:.3} GB of KV at most (chunks that are already \
         stored cost nothing); nothing was written",
        n_bytes as f64 / 1e9
    );
    Ok(ending)
}

/// Tokens of each chunk of a document.
fn chunk_lens(
    splitter: &Splitter,
    prompt: &PromptFormat,
    document: &ragweave_retriever::SourceDocument,
) -> Result<Vec<usize>, String> {
    let said = |error: &dyn std::fmt::Display| format!("{}: {error}", document.id);
    let spans = splitter
        .split(&document.text, document.format)
        .map_err(|e| said(&e))?;
    let texts = spans
        .iter()
        .map(|span| &document.text[span.start..span.end]);
    texts
        .map(|text| {
            prompt
                .chunk_ids(text)
                .map(|ids| ids.len())
                .map_err(|e| said(&e))
        })
        .collect()
}

/// KV bytes of a chunk over all layers, without the padding of the record.
fn kv_bytes(model: &ModelInfo, n_tokens: usize) -> usize {
    model.identity.chunk_bytes(n_tokens)
}
