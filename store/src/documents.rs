//! Reading documents, chunks and vectors: plain lookups in the metadata.
//!
//! Invariant: everything that one call returns comes from one view of the metadata. A document that
//! is replaced or removed meanwhile is seen either as it was before or as it is after, never mixed.

use std::sync::Arc;

use crate::document::{
    ChunkRecord, Document, DocumentSummary, StoredChunk, VectorRow, chunk_id, parse_chunk_id,
    text_of,
};
use crate::error::StoreError;
use crate::meta::{
    ChunkRow, Chunks, Column, DocumentRow, Documents, Texts, Vectors, View, chunk_prefix,
};
use crate::store::Store;

impl Store {
    /// A document with its text and chunks.
    pub fn document(&self, id: &str) -> Result<Option<Document>, StoreError> {
        let view = self.meta.view();
        let Some(row) = view.get::<Documents>(id)? else {
            return Ok(None);
        };
        let text = self.text(&view, id)?;
        let rows = view.rows_with_prefix::<Chunks>(chunk_prefix(id));
        let chunks = (0..).zip(rows).map(|(position, row)| {
            let (_, chunk) = row?;
            self.chunk_record(&view, id, position, chunk)
        });
        Ok(Some(Document {
            id: id.to_owned(),
            text,
            metadata: row.metadata,
            content_hash: row.content_hash,
            chunks: chunks.collect::<Result<_, StoreError>>()?,
        }))
    }

    /// The hash a document was committed with.
    pub fn content_hash(&self, id: &str) -> Result<Option<[u8; 32]>, StoreError> {
        Ok(self.meta.get::<Documents>(id)?.map(|row| row.content_hash))
    }

    /// Up to `limit` documents in the byte order of their ids, beginning after the id `after`.
    pub fn list_documents(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DocumentSummary>, StoreError> {
        self.documents_after(after).take(limit).collect()
    }

    /// The documents in the byte order of their ids, beginning after the id `after`. One is in
    /// memory at a time.
    pub fn documents_after(
        &self,
        after: Option<&str>,
    ) -> impl Iterator<Item = Result<DocumentSummary, StoreError>> + use<'_> {
        let start = Documents::key(after.unwrap_or_default());
        let after = after.map(str::to_owned);
        let rows = self.meta.rows_from::<Documents>(&start);
        let later = rows.filter(move |row| match row {
            Ok((key, _)) => after
                .as_ref()
                .is_none_or(|after| **key != *after.as_bytes()),
            Err(_) => true,
        });
        later.map(|row| {
            let (key, row) = row?;
            self.summary(key.into_vec(), row)
        })
    }

    fn summary(&self, key: Vec<u8>, row: DocumentRow) -> Result<DocumentSummary, StoreError> {
        Ok(DocumentSummary {
            id: String::from_utf8(key).map_err(|_| self.bad_row("document id"))?,
            n_chunks: u64::from(row.n_chunks),
            n_tokens: row.n_tokens,
            text_bytes: row.text_bytes,
            metadata: row.metadata,
        })
    }

    /// A chunk by its id, with its text.
    pub fn chunk(&self, chunk_id: &str) -> Result<Option<StoredChunk>, StoreError> {
        let Some((document_id, position)) = parse_chunk_id(chunk_id) else {
            return Ok(None);
        };
        let view = self.meta.view();
        let Some(row) = view.get::<Chunks>((document_id, position))? else {
            return Ok(None);
        };
        let document = self.document_row(&view, document_id)?;
        let record = self.chunk_record(&view, document_id, position, row)?;
        let document_text = self.text(&view, document_id)?;
        let text = text_of(&document_text, &record).ok_or_else(|| self.bad_row("chunk border"))?;
        Ok(Some(StoredChunk {
            document_id: document_id.to_owned(),
            text: text.to_owned(),
            metadata: document.metadata,
            content_hash: document.content_hash,
            record,
        }))
    }

    /// Calls `f` with the vector of every chunk; the chunks of one document come in order, one after
    /// the other. Commits made meanwhile are not seen. An error of `f` ends the walk and is returned.
    pub fn for_each_vector(
        &self,
        mut f: impl FnMut(VectorRow) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let view = self.meta.view();
        let mut current: Option<(String, Arc<DocumentRow>)> = None;
        for row in view.rows_from::<Vectors>(&[]) {
            let (key, vector) = row?;
            let (document_id, position) =
                Vectors::parse_key(&key).ok_or_else(|| self.bad_row("vector key"))?;
            let document = match current.take() {
                Some((id, document)) if id == document_id => document,
                _ => Arc::new(self.document_row(&view, &document_id)?),
            };
            current = Some((document_id.clone(), Arc::clone(&document)));
            let chunk_id = chunk_id(&document_id, position);
            let (metadata, content_hash) = (document.metadata.clone(), document.content_hash);
            f(VectorRow {
                chunk_id,
                document_id,
                metadata,
                content_hash,
                vector,
            })?;
        }
        Ok(())
    }

    /// The row of a document to which other rows of the view belong.
    fn document_row(&self, view: &View<'_>, id: &str) -> Result<DocumentRow, StoreError> {
        view.get::<Documents>(id)?
            .ok_or_else(|| self.bad_row("missing document"))
    }

    fn text(&self, view: &View<'_>, document_id: &str) -> Result<String, StoreError> {
        view.get::<Texts>(document_id)?
            .ok_or_else(|| self.bad_row("missing text"))
    }

    fn chunk_record(
        &self,
        view: &View<'_>,
        document_id: &str,
        position: u32,
        row: ChunkRow,
    ) -> Result<ChunkRecord, StoreError> {
        let vector = view.get::<Vectors>((document_id, position))?;
        let ChunkRow {
            start_byte,
            end_byte,
            key,
            token_ids,
            conditioning_ids,
            notes,
        } = row;
        Ok(ChunkRecord {
            id: chunk_id(document_id, position),
            start_byte,
            end_byte,
            token_ids,
            conditioning_ids,
            key,
            vector: vector.ok_or_else(|| self.bad_row("missing vector"))?,
            notes,
        })
    }

    fn bad_row(&self, what: &str) -> StoreError {
        StoreError::corrupt(self.meta.path(), 0, format!("{what} in the metadata"))
    }
}
