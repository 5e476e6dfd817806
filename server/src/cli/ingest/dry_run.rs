//! `--dry-run`: what an ingest would do, from the corpus, the tokenizer and the model's config alone. Loads no weights,
//! opens no data directory for writing.

use std::path::PathBuf;

use indicatif::DecimalBytes;
use ragweave_engine::ModelInfo;
use ragweave_retriever::{SourceDocument, Splitter};

use super::corpus;
use super::ending::Ending;
use crate::components;
use crate::config::Config;
use crate::error::ServerError;
use crate::prompt::PromptFormat;
use crate::sizing::{COMPARED, Free, KvSize};
use crate::{fit, ingest};

/// What the documents hold in all.
struct Plan {
    documents: usize,
    chunks: usize,
    tokens: usize,
    /// In the configured type.
    size: KvSize,
    /// In the other types, for comparison.
    others: Vec<KvSize>,
}

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
    let mut plan = Plan::new(config, &model);
    let mut ending = Ending::Done;
    for item in corpus::documents(paths, config.limits.max_document_bytes, limit) {
        let cut = item
            .map_err(|failure| failure.to_string())
            .and_then(|document| {
                let chunks = chunks(config, &splitter, &prompt, &document);
                let chunks = chunks.map_err(|error| format!("{}: {error}", document.id))?;
                let tokens: usize = chunks.iter().map(Vec::len).sum();
                say!("{}: {} chunks, {tokens} tokens", document.id, chunks.len());
                Ok(chunks)
            });
        match cut {
            Ok(chunks) => plan.add(&prompt.conditioning_prefix(), &chunks),
            Err(error) => {
                ending = Ending::SomeFailed;
                say!("would fail: {error}");
            }
        }
    }
    plan.print();
    warn_of_little_space(config, plan.size.total_bytes());
    Ok(ending)
}

/// Token ids of each chunk of a document, cut as ingest cuts it.
fn chunks(
    config: &Config,
    splitter: &Splitter,
    prompt: &PromptFormat,
    document: &SourceDocument,
) -> Result<Vec<Vec<u32>>, ingest::IngestError> {
    ingest::check(document, &config.limits)?;
    let spans = ingest::fitting_spans(splitter, prompt, config.ingest.chunk_tokens, document)?;
    Ok(spans.into_iter().map(|span| span.token_ids).collect())
}

impl Plan {
    fn new(config: &Config, model: &ModelInfo) -> Self {
        let identity = &model.identity;
        let size =
            |kv_dtype| KvSize::new(identity.stored_as(kv_dtype), config.store.max_segment_bytes);
        let others = COMPARED
            .into_iter()
            .filter(|other| *other != identity.kv_dtype);
        Self {
            documents: 0,
            chunks: 0,
            tokens: 0,
            size: size(identity.kv_dtype),
            others: others.map(size).collect(),
        }
    }

    fn add(&mut self, prefix: &[u32], chunks: &[Vec<u32>]) {
        self.documents += 1;
        self.chunks += chunks.len();
        self.tokens += chunks.iter().map(Vec::len).sum::<usize>();
        for size in std::iter::once(&mut self.size).chain(&mut self.others) {
            size.add(prefix, chunks.iter().map(Vec::as_slice));
        }
    }

    fn print(&self) {
        let Self {
            documents,
            chunks,
            tokens,
            size,
            others,
        } = self;
        say!("{documents} documents, {chunks} chunks, {tokens} tokens; nothing was written");
        let others = others
            .iter()
            .map(|other| format!("{} {}", other.kv_dtype(), DecimalBytes(other.total_bytes())));
        say!(
            "KV in {}: {} on disk ({} bytes, of which {} are records, padding included); in {} (--kv-dtype). Chunks that are \
             already stored cost nothing",
            size.kv_dtype(),
            DecimalBytes(size.total_bytes()),
            size.total_bytes(),
            size.record_bytes(),
            others.collect::<Vec<_>>().join(", in ")
        );
    }
}

/// Compares `bytes` of KV with the disk. A file system that does not say what is free is no reason to stop.
fn warn_of_little_space(config: &Config, bytes: u64) {
    let Ok(free) = Free::at(&config.data) else {
        return;
    };
    let (said, place) = (DecimalBytes(free.bytes), free.place.display());
    let kept_free = config.store.min_free_bytes;
    if bytes.saturating_add(kept_free) > free.bytes {
        say!(
            "warning: {said} are free at {place}, of which store.min_free_bytes ({kept_free}) stay free: not enough unless \
             most chunks are already stored; use a smaller --kv-dtype, fewer documents or another --data directory"
        );
    } else {
        say!("{said} are free at {place}");
    }
}
