//! The part of an ingest that does not need the engine: determines whether the document has changed, and its chunks.

use std::collections::HashMap;

use ragweave_retriever::{DocumentFormat, SourceDocument};
use ragweave_store::{ChunkRecord, Document};

use super::error::IngestError;
use super::prepared::{Prepared, Unconditioned};
use super::spans::FittedSpan;
use super::{neighbours, rules, spans};
use crate::components::Components;

/// A version of the document that is in the store.
pub(super) enum Known {
    /// The same content, with the configured neighbours and all its KV.
    Unchanged(Document),
    /// The same content, but its chunks need neighbours, other neighbours, or KV computed after them.
    Unconditioned(Document, Unconditioned),
    Outdated(Document),
}

/// Refuses documents that cannot be stored, before any work is done for them.
pub(super) fn check(components: &Components, source: &SourceDocument) -> Result<(), IngestError> {
    if components.is_foreign {
        return Err(IngestError::ForeignStore);
    }
    rules::check(source, &components.config.limits)
}

/// The stored version of the document, if any.
pub(super) fn known_version(
    components: &Components,
    source: &SourceDocument,
    no_kv: bool,
) -> Result<Option<Known>, IngestError> {
    let Some(document) = components.store.document(&source.id)? else {
        return Ok(None);
    };
    let config = &components.config.ingest;
    let content = content_hash(source, config.chunk_tokens);
    let hash = neighbours::conditioned_hash(&content, config.neighbours);
    if document.content_hash == hash && is_complete(components, &document, no_kv)? {
        return Ok(Some(Known::Unchanged(document)));
    }
    if config.neighbours == 0 || !neighbours::is_of_content(&document, &content) {
        return Ok(Some(Known::Outdated(document)));
    }
    let waiting = Unconditioned {
        document_id: document.id.clone(),
        content,
        no_kv,
    };
    Ok(Some(Known::Unconditioned(document, waiting)))
}

/// Whether a document with the right hash has its KV, if that is wanted, and no neighbours unless some are configured.
fn is_complete(
    components: &Components,
    document: &Document,
    no_kv: bool,
) -> Result<bool, IngestError> {
    for chunk in &document.chunks {
        let is_as_configured = is_as_configured(components, chunk);
        if !is_as_configured || !(no_kv || components.store.contains_blob(&chunk.key)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A document that waits for its neighbours has the same hash as one without any, and may still have earlier ones.
fn is_as_configured(components: &Components, chunk: &ChunkRecord) -> bool {
    components.config.ingest.neighbours > 0 || chunk.conditioning_ids.is_empty()
}

/// Splits and embeds. Chunks that were also in the earlier version keep their conditioning ids and notes, and so their
/// KV.
pub(super) fn prepare(
    components: &Components,
    source: SourceDocument,
    earlier: Option<&Document>,
) -> Result<Prepared, IngestError> {
    let kept = kept_chunks(components, earlier);
    let content_hash = content_hash(&source, components.config.ingest.chunk_tokens);
    let spans = spans::fitting(
        &components.splitter,
        &components.prompt,
        components.config.ingest.chunk_tokens,
        &source,
    )?;
    let texts: Vec<&str> = spans
        .iter()
        .map(|span| &source.text[span.range.clone()])
        .collect();
    let embedder = &components.embedder;
    let embeddings = embedder.embed_documents(&texts)?;
    let mut chunks = Vec::with_capacity(spans.len());
    for (span, embedding) in spans.into_iter().zip(&embeddings) {
        let FittedSpan { range, token_ids } = span;
        let vector = embedding
            .as_ref()
            .map_or(Ok(Vec::new()), |e| e.to_bytes(embedder.id()))?;
        let kept = kept.get(token_ids.as_slice());
        let conditioning_ids = kept.map_or(&[][..], |chunk| &chunk.conditioning_ids);
        chunks.push(ChunkRecord {
            id: format!("{}#{}", source.id, chunks.len()),
            start_byte: range.start as u64,
            end_byte: range.end as u64,
            key: components.blob_key(conditioning_ids, &token_ids),
            conditioning_ids: conditioning_ids.to_vec(),
            token_ids,
            vector,
            notes: kept.map_or_else(Vec::new, |chunk| chunk.notes.clone()),
        });
    }
    let SourceDocument {
        id,
        text,
        metadata,
        format: _,
    } = source;
    let document = Document {
        id,
        text,
        metadata,
        content_hash,
        chunks,
    };
    Ok(Prepared {
        document,
        embeddings: Some(embeddings),
        seen: earlier.map(|earlier| earlier.content_hash),
    })
}

/// The chunks of an earlier version whose KV can stay, by their token ids.
fn kept_chunks<'d>(
    components: &Components,
    earlier: Option<&'d Document>,
) -> HashMap<&'d [u32], &'d ChunkRecord> {
    let chunks = earlier.into_iter().flat_map(|document| &document.chunks);
    chunks
        .filter(|chunk| is_as_configured(components, chunk))
        .map(|chunk| (chunk.token_ids.as_slice(), chunk))
        .collect()
}

/// Hash of everything that a document's chunks are made from, except the store's identity.
fn content_hash(source: &SourceDocument, chunk_tokens: usize) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    field(b"ragweave document 1");
    field(match source.format {
        DocumentFormat::Text => b"text",
        DocumentFormat::Markdown => b"markdown",
    });
    field(&(chunk_tokens as u64).to_le_bytes());
    field(source.text.as_bytes());
    for (key, value) in &source.metadata {
        field(key.as_bytes());
        field(value.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn document(text: &str, metadata: &[(&str, &str)]) -> SourceDocument {
        let pairs = metadata
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        SourceDocument {
            id: "a".to_owned(),
            text: text.to_owned(),
            metadata: pairs.collect::<BTreeMap<_, _>>(),
            format: DocumentFormat::Text,
        }
    }

    #[test]
    fn the_content_hash_sees_text_metadata_format_and_chunk_size() {
        let base = document("one", &[("k", "v")]);
        let hash = content_hash(&base, 64);
        assert_eq!(hash, content_hash(&base.clone(), 64));
        let markdown = SourceDocument {
            format: DocumentFormat::Markdown,
            ..base.clone()
        };
        let others = [
            content_hash(&base, 65),
            content_hash(&markdown, 64),
            content_hash(&document("two", &[("k", "v")]), 64),
            content_hash(&document("one", &[("kv", "")]), 64),
            content_hash(&document("one", &[]), 64),
        ];
        assert!(others.iter().all(|other| *other != hash));
    }
}
