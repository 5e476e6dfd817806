//! A set of metadata edits that becomes one `WriteBatch`. Reference counts and segment totals are
//! computed on copies, which replace the originals only after the batch is durable.

use std::collections::{BTreeMap, BTreeSet};

use rocksdb::WriteBatch;

use super::columns::{
    BlobRow, BlobState, Blobs, ChunkRow, Chunks, DocumentRow, Documents, SegmentRow, SegmentTable,
    State, StoreState, Texts, Vectors, chunk_prefix,
};
use super::db::{Durability, Meta};
use crate::blob::BlobKey;
use crate::document::Document;
use crate::error::StoreError;
use crate::segment::{Location, PendingBlob};

/// The totals that every commit rewrites. They are the part of the metadata kept in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) state: StoreState,
    pub(crate) segments: BTreeMap<u64, SegmentRow>,
}

/// Edits that have not been written yet.
pub(crate) struct Change<'m> {
    meta: &'m Meta,
    batch: WriteBatch,
    /// Rows of [`Blobs`] with the edits applied.
    blobs: BTreeMap<BlobKey, BlobRow>,
    catalog: Catalog,
    touched_segments: BTreeSet<u64>,
}

impl<'m> Change<'m> {
    pub(crate) fn new(meta: &'m Meta, catalog: &Catalog) -> Self {
        Self {
            meta,
            batch: WriteBatch::default(),
            blobs: BTreeMap::new(),
            catalog: catalog.clone(),
            touched_segments: BTreeSet::new(),
        }
    }

    /// The totals with the edits applied.
    pub(crate) fn state(&mut self) -> &mut StoreState {
        &mut self.catalog.state
    }

    /// Adds a document, replacing an older one with the same id.
    pub(crate) fn put_document(&mut self, document: &Document) -> Result<(), StoreError> {
        // New references first: a blob that both versions use must not drop to zero in between.
        for chunk in &document.chunks {
            self.blob(&chunk.key)?.refs += 1;
        }
        self.remove_document(&document.id)?;
        let row = DocumentRow {
            content_hash: document.content_hash,
            text_bytes: document.text.len() as u64,
            n_tokens: document.n_tokens(),
            // Lossless: checked by `Document::validate`.
            n_chunks: document.chunks.len() as u32,
            metadata: document.metadata.clone(),
        };
        self.meta
            .put::<Documents>(&mut self.batch, &document.id, &row);
        self.meta
            .put::<Texts>(&mut self.batch, &document.id, &document.text);
        for (position, chunk) in (0..).zip(&document.chunks) {
            let at = (document.id.as_str(), position);
            let row = ChunkRow {
                start_byte: chunk.start_byte,
                end_byte: chunk.end_byte,
                key: chunk.key,
                token_ids: chunk.token_ids.clone(),
                conditioning_ids: chunk.conditioning_ids.clone(),
                notes: chunk.notes.clone(),
            };
            self.meta.put::<Chunks>(&mut self.batch, at, &row);
            self.meta.put::<Vectors>(&mut self.batch, at, &chunk.vector);
        }
        self.catalog.state.documents += 1;
        self.catalog.state.chunks += document.chunks.len() as u64;
        Ok(())
    }

    /// Removes a document with its chunks and their references; `false` when there is none.
    pub(crate) fn remove_document(&mut self, id: &str) -> Result<bool, StoreError> {
        let meta = self.meta;
        let view = meta.view();
        if view.get::<Documents>(id)?.is_none() {
            return Ok(false);
        }
        for (position, row) in (0..).zip(view.rows_with_prefix::<Chunks>(chunk_prefix(id))) {
            let (_, chunk) = row?;
            self.release(&chunk.key)?;
            meta.delete::<Chunks>(&mut self.batch, (id, position));
            meta.delete::<Vectors>(&mut self.batch, (id, position));
            self.catalog.state.chunks = self.catalog.state.chunks.saturating_sub(1);
        }
        meta.delete::<Documents>(&mut self.batch, id);
        meta.delete::<Texts>(&mut self.batch, id);
        self.catalog.state.documents = self.catalog.state.documents.saturating_sub(1);
        Ok(true)
    }

    /// Removes one reference. When none is left, the blob's bytes are dead.
    fn release(&mut self, key: &BlobKey) -> Result<(), StoreError> {
        let blob = self.blob(key)?;
        blob.refs = blob.refs.saturating_sub(1);
        if blob.refs == 0 {
            self.set_state(key, BlobState::Absent)?;
        }
        Ok(())
    }

    /// Makes a durable blob findable. It stays dead if no chunk refers to it any more, or if its key
    /// already has a readable blob.
    pub(crate) fn locate(&mut self, blob: &PendingBlob) -> Result<(), StoreError> {
        let row = self.blob(&blob.key)?;
        if row.refs == 0 || matches!(row.state, BlobState::Live(_)) {
            return Ok(());
        }
        self.set_state(&blob.key, BlobState::Live(blob.location))
    }

    /// Quarantines a blob. Does nothing (`false`) unless the blob is still at `found_bad`: it may have
    /// been replaced since it was found bad there.
    pub(crate) fn quarantine(
        &mut self,
        key: &BlobKey,
        found_bad: &Location,
        why: &str,
    ) -> Result<bool, StoreError> {
        let BlobState::Live(location) = self.blob(key)?.state else {
            return Ok(false);
        };
        if *found_bad != location {
            return Ok(false);
        }
        self.set_state(key, BlobState::Quarantined(location, why.to_owned()))?;
        Ok(true)
    }

    /// Records how far a segment is committed.
    pub(crate) fn extend_segment(&mut self, id: u64, fingerprint: [u8; 32], end: u64) {
        let row = self.segment(id, fingerprint);
        row.committed_end = row.committed_end.max(end);
    }

    /// Writes everything as one batch and returns the new totals.
    pub(crate) fn write(mut self, durability: Durability) -> Result<Catalog, StoreError> {
        for (key, row) in &self.blobs {
            match row.refs {
                0 => self.meta.delete::<Blobs>(&mut self.batch, key),
                _ => self.meta.put::<Blobs>(&mut self.batch, key, row),
            }
        }
        for id in &self.touched_segments {
            if let Some(row) = self.catalog.segments.get(id) {
                self.meta.put::<SegmentTable>(&mut self.batch, *id, row);
            }
        }
        self.meta
            .put::<State>(&mut self.batch, (), &self.catalog.state);
        self.meta.write(self.batch, durability)?;
        Ok(self.catalog)
    }

    fn set_state(&mut self, key: &BlobKey, state: BlobState) -> Result<(), StoreError> {
        let was = std::mem::replace(&mut self.blob(key)?.state, state.clone());
        let quarantined =
            |state: &BlobState| u64::from(matches!(state, BlobState::Quarantined(..)));
        let total = &mut self.catalog.state.quarantined;
        *total = total.saturating_sub(quarantined(&was)) + quarantined(&state);
        self.count_live(was.location(), false);
        self.count_live(state.location(), true);
        Ok(())
    }

    fn count_live(&mut self, location: Option<&Location>, added: bool) {
        let Some(location) = location else { return };
        let bytes = location.layout().map_or(0, |layout| layout.record_bytes());
        let Some(row) = self.catalog.segments.get_mut(&location.segment) else {
            return;
        };
        self.touched_segments.insert(location.segment);
        if added {
            row.live_blobs += 1;
            row.live_bytes += bytes;
        } else {
            row.live_blobs = row.live_blobs.saturating_sub(1);
            row.live_bytes = row.live_bytes.saturating_sub(bytes);
        }
    }

    fn blob(&mut self, key: &BlobKey) -> Result<&mut BlobRow, StoreError> {
        if !self.blobs.contains_key(key) {
            let row = self.meta.get::<Blobs>(key)?;
            let row = row.unwrap_or(BlobRow {
                refs: 0,
                state: BlobState::Absent,
            });
            self.blobs.insert(*key, row);
        }
        Ok(self.blobs.get_mut(key).expect("inserted above"))
    }

    fn segment(&mut self, id: u64, fingerprint: [u8; 32]) -> &mut SegmentRow {
        self.touched_segments.insert(id);
        self.catalog.segments.entry(id).or_insert(SegmentRow {
            fingerprint,
            committed_end: 0,
            live_blobs: 0,
            live_bytes: 0,
        })
    }
}
