//! The part of an ingest that needs no engine: has the document changed, and what are its chunks.

use ragweave_retriever::{DocumentFormat, Embedding, RetrieverError, SourceDocument};
use ragweave_store::{ChunkRecord, Document};

use super::{IngestError, Prepared};
use crate::components::Components;

/// A version of the document that is in the store.
pub(super) enum Known {
    /// The same, with all its KV.
    Unchanged(Document),
    Outdated,
}

/// Refuses documents that could never be stored, before any work goes into them.
pub(super) fn check(components: &Components, source: &SourceDocument) -> Result<(), IngestError> {
    if components.is_foreign {
        return Err(IngestError::ForeignStore);
    }
    let (bytes, limit) = (
        source.text.len(),
        components.config.limits.max_document_bytes,
    );
    if bytes > limit {
        return Err(IngestError::TooLarge { bytes, limit });
    }
    if source.text.trim().is_empty() {
        Err(IngestError::Empty)
    } else {
        Ok(())
    }
}

/// The stored version of the document, if any.
pub(super) fn known_version(
    components: &Components,
    source: &SourceDocument,
    no_kv: bool,
) -> Result<Option<Known>, IngestError> {
    let store = &components.store;
    let hash = content_hash(source, components.config.ingest.chunk_tokens);
    match store.content_hash(&source.id)? {
        None => return Ok(None),
        Some(stored) if stored != hash => return Ok(Some(Known::Outdated)),
        Some(_) => {}
    }
    let Some(document) = store.document(&source.id)? else {
        return Ok(None);
    };
    let mut is_complete = true;
    for chunk in document.chunks.iter().take_while(|_| !no_kv) {
        is_complete &= store.contains_blob(&chunk.key)?;
    }
    Ok(Some(if is_complete {
        Known::Unchanged(document)
    } else {
        Known::Outdated
    }))
}

/// Splits and embeds.
pub(super) fn prepare(
    components: &Components,
    source: SourceDocument,
) -> Result<Prepared, IngestError> {
    let content_hash = content_hash(&source, components.config.ingest.chunk_tokens);
    let mut chunks = Vec::new();
    let mut embeddings = Vec::new();
    for (start, end) in fitting_spans(components, &source)? {
        let text = &source.text[start..end];
        let embedding = embed(components, text)?;
        let vector = embedding
            .as_ref()
            .map_or(Ok(Vec::new()), Embedding::to_bytes)?;
        let token_ids = components.prompt.chunk_ids(text)?;
        chunks.push(ChunkRecord {
            id: format!("{}#{}", source.id, chunks.len()),
            start_byte: start as u64,
            end_byte: end as u64,
            key: components.blob_key(&token_ids),
            token_ids,
            vector,
        });
        embeddings.push(embedding);
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
        embeddings,
    })
}

/// The embedding of a chunk; `None` for one without a word, such as a line of dashes: it is stored, never found.
fn embed(components: &Components, text: &str) -> Result<Option<Embedding>, IngestError> {
    match components.embedder.embed_document(text) {
        Ok(embedding) => Ok(Some(embedding)),
        Err(RetrieverError::BlankText) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Byte ranges of the chunks. The splitter counts the text alone; where it meets its wrapper a merge can fall
/// apart and cost a token more than was reserved, so each chunk is counted once more as it will be used.
fn fitting_spans(
    components: &Components,
    source: &SourceDocument,
) -> Result<Vec<(usize, usize)>, IngestError> {
    let limit = components.config.ingest.chunk_tokens;
    let mut open: Vec<(usize, usize)> = components
        .splitter
        .split(&source.text, source.format)?
        .iter()
        .rev()
        .map(|span| (span.start, span.end))
        .collect();
    let mut spans = Vec::with_capacity(open.len());
    while let Some((start, end)) = open.pop() {
        let text = &source.text[start..end];
        if components.prompt.chunk_ids(text)?.len() <= limit {
            spans.push((start, end));
            continue;
        }
        let Some(middle) = middle(text) else {
            return Err(IngestError::TooLarge {
                bytes: text.len(),
                limit,
            });
        };
        open.push((start + middle, end));
        open.push((start, start + middle));
    }
    Ok(spans)
}

/// The blank nearest to the middle, else the character border there; `None` for a single character.
fn middle(text: &str) -> Option<usize> {
    let half = text.len() / 2;
    let distance = |at: &usize| at.abs_diff(half);
    let inner = |at: &usize| *at > 0 && *at < text.len();
    let blanks = text
        .char_indices()
        .filter(|(_, c)| c.is_whitespace())
        .map(|(at, _)| at);
    let borders = || text.char_indices().map(|(at, _)| at);
    blanks
        .filter(|at| inner(at) && !text[..*at].trim().is_empty() && !text[*at..].trim().is_empty())
        .min_by_key(distance)
        .or_else(|| borders().filter(inner).min_by_key(distance))
}

/// Hash over all that a document's chunks are made from beside the store's identity.
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

    #[test]
    fn the_middle_is_a_blank_where_there_is_one_and_never_cuts_a_character() {
        assert_eq!(middle("ab cd efgh"), Some(5));
        assert_eq!(middle("abcd"), Some(2));
        assert_eq!(middle("ééé"), Some(2));
        assert_eq!(middle("é"), None);
        assert_eq!(middle(""), None);
    }
}
