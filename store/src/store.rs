//! The store: appending blobs and committing them with their documents. One process owns a data
//! directory.
//!
//! Invariant: a metadata row is written only after the bytes it names are durable.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use rocksdb::WriteBatch;

use crate::blob::{BlobGeometry, BlobKey};
use crate::data_dir::DirLock;
use crate::disk::is_out_of_space;
use crate::document::{Document, parse_chunk_id};
use crate::error::StoreError;
use crate::identity::Identity;
use crate::meta::{Catalog, Change, Durability, Meta, Vectors};
use crate::segment::{
    Append, BlockReads, PendingBlob, RecordLayout, SegmentWriter, Segments, WriteFailure,
};
use crate::stats::{Counters, StoreStats};

/// Chunk KV blobs and the documents they belong to. All methods take `&self`: reads run in parallel,
/// writes one after the other.
pub struct Store {
    pub(crate) dir: PathBuf,
    pub(crate) identity: Identity,
    /// The identity that the store was made for, if it was opened with another one.
    pub(crate) foreign: Option<Identity>,
    pub(crate) min_free_bytes: u64,
    pub(crate) meta: Meta,
    pub(crate) segments: Arc<Segments>,
    pub(crate) reads: Arc<BlockReads>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) writer: Mutex<Writer>,
    /// Last, so that it is released after RocksDB is closed.
    pub(crate) _lock: DirLock,
}

/// State that only one write at a time may use.
pub(crate) struct Writer {
    pub(crate) files: SegmentWriter,
    pub(crate) catalog: Catalog,
    /// Why no more writes are accepted.
    pub(crate) read_only: Option<String>,
    /// A write was refused for lack of space. Writes resume when there is some margin.
    pub(crate) space_refused: bool,
}

/// After a refusal, writes resume when this fraction of `min_free_bytes` is free in addition to it.
const RESUME_MARGIN_DIVISOR: u64 = 16;

impl Store {
    /// The identity that lookups are made for: the one the store was opened with.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The identity that the store was made for, if it is another one (`allow_foreign`).
    pub fn foreign_identity(&self) -> Option<&Identity> {
        self.foreign.as_ref()
    }

    /// Writes a blob; lookups find it after a later commit. `layers` yields the K block and the V
    /// block of each layer, with the sizes given in `geometry`.
    ///
    /// Errors: `InvalidBlob`, `DiskFull` (nothing is lost; try again later), `ReadOnly`, `Io`.
    pub fn append_blob<'a>(
        &self,
        key: BlobKey,
        geometry: BlobGeometry,
        token_ids: &[u32],
        layers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<PendingBlob, StoreError> {
        // One more than expected is enough to see that there are too many.
        let layers = layers.take(geometry.n_layers as usize + 1).collect();
        let layout = check_blob(&geometry, token_ids, &layers)
            .map_err(|what| StoreError::InvalidBlob { key, what })?;
        let mut writer = self.writer()?;
        self.check_space(&mut writer, layout.record_bytes())?;
        let commit_seq = writer.catalog.state.commit_seq;
        let blob = Append {
            key,
            geometry,
            layout,
            token_ids,
            layers,
        };
        let appended = writer.files.append(&blob, commit_seq);
        appended.map_err(|failure| self.write_failed(&mut writer, failure, layout.record_bytes()))
    }

    /// Makes a document, its chunks and these blobs durable in one step, replacing an older document
    /// with the same id, and returns the number of the commit. A chunk may lack a blob: its lookups
    /// miss until `commit_blobs` adds one.
    ///
    /// Errors: `InvalidDocument`, `DiskFull`, `ReadOnly`, `Io`, `Metadata`; in each case the older
    /// document is still there, and the blobs are lost.
    pub fn commit_document(
        &self,
        document: &Document,
        blobs: Vec<PendingBlob>,
    ) -> Result<u64, StoreError> {
        document.validate()?;
        let mut writer = self.writer()?;
        self.check_space(&mut writer, document.text.len() as u64)?;
        self.commit(&mut writer, &blobs, |change| change.put_document(document))
    }

    /// Makes blobs of chunks that are already in the store durable and findable, and returns the
    /// number of the commit. A blob whose chunk has been removed meanwhile stays dead.
    ///
    /// Errors: `DiskFull`, `ReadOnly`, `Io`, `Metadata`; the blobs are then lost.
    pub fn commit_blobs(&self, blobs: Vec<PendingBlob>) -> Result<u64, StoreError> {
        let mut writer = self.writer()?;
        self.commit(&mut writer, &blobs, |_| Ok(()))
    }

    /// Replaces the vectors of chunks, given by chunk id, in one durable step. Unknown chunks are
    /// skipped.
    ///
    /// Errors: `DiskFull`, `ReadOnly`, `Metadata`; the chunks then keep the vectors they had.
    pub fn replace_vectors(&self, vectors: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
        let mut writer = self.writer()?;
        let n_bytes: usize = vectors.iter().map(|(_, vector)| vector.len()).sum();
        self.check_space(&mut writer, n_bytes as u64)?;
        let mut batch = WriteBatch::default();
        for (chunk_id, vector) in vectors {
            let Some(at) = parse_chunk_id(chunk_id) else {
                continue;
            };
            if self.meta.get::<Vectors>(at)?.is_some() {
                self.meta.put::<Vectors>(&mut batch, at, vector);
            }
        }
        let written = self.meta.write(batch, Durability::Synced);
        written.map_err(|error| make_read_only(&mut writer, error))
    }

    /// Removes a document and whatever only it refers to; `false` when there is none. This also works
    /// on a full disk.
    pub fn remove_document(&self, id: &str) -> Result<bool, StoreError> {
        let mut writer = self.writer()?;
        let mut found = false;
        self.commit(&mut writer, &[], |change| {
            found = change.remove_document(id)?;
            Ok(())
        })?;
        Ok(found)
    }

    /// The commit: first the data is made durable, then one batch of metadata is written and synced.
    /// The batch is the commit.
    fn commit(
        &self,
        writer: &mut Writer,
        blobs: &[PendingBlob],
        edit: impl FnOnce(&mut Change<'_>) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError> {
        let acknowledged = writer.catalog.state.commit_seq;
        let commit_seq = acknowledged + 1;
        let mut change = Change::new(&self.meta, &writer.catalog);
        edit(&mut change)?;
        if !blobs.is_empty() {
            let synced = writer.files.sync(blobs, commit_seq, acknowledged);
            let ends = synced.map_err(|failure| self.write_failed(writer, failure, 0))?;
            for (segment, end) in ends {
                change.extend_segment(segment, self.identity.fingerprint, end);
            }
        }
        for blob in blobs {
            change.locate(blob)?;
        }
        change.state().commit_seq = commit_seq;
        change.state().next_segment = writer.files.next_segment();
        match change.write(Durability::Synced) {
            Ok(catalog) => writer.catalog = catalog,
            Err(error) => return Err(make_read_only(writer, error)),
        }
        self.reclaim(writer);
        Ok(commit_seq)
    }

    /// What the store holds, and the results of its lookups.
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        let writer = self.lock_writer()?;
        let dir = self.segments.dir();
        let ids = self.segments.list().map_err(StoreError::io(dir))?;
        let lens = ids
            .iter()
            .map(|id| fs_err::metadata(self.segments.path(*id)));
        let total_bytes = lens
            .filter_map(Result::ok)
            .map(|file| file.len())
            .sum::<u64>();
        let Catalog { state, segments } = &writer.catalog;
        let live_bytes = segments.values().map(|row| row.live_bytes).sum::<u64>();
        let live_blobs = segments.values().map(|row| row.live_blobs).sum::<u64>();
        Ok(StoreStats {
            documents: state.documents,
            chunks: state.chunks,
            blobs: live_blobs.saturating_sub(state.quarantined),
            quarantined: state.quarantined,
            segments: ids.len() as u64,
            live_bytes,
            dead_bytes: total_bytes.saturating_sub(live_bytes),
            total_bytes,
            free_bytes: self.free_bytes()?,
            commit_seq: state.commit_seq,
            lost_commits: state.lost_commits,
            read_only: writer.read_only.clone(),
            hits: self.counters.hits(),
            misses: self.counters.misses(),
            kv_io: self.reads.io(),
            kv_io_refusal: self.reads.refusal().map(str::to_owned),
        })
    }

    /// The writer, unless an earlier failure forbids writing.
    fn writer(&self) -> Result<MutexGuard<'_, Writer>, StoreError> {
        let writer = self.lock_writer()?;
        match &writer.read_only {
            Some(reason) => Err(StoreError::ReadOnly {
                reason: reason.clone(),
            }),
            None => Ok(writer),
        }
    }

    pub(crate) fn lock_writer(&self) -> Result<MutexGuard<'_, Writer>, StoreError> {
        let panicked = |_| StoreError::ReadOnly {
            reason: "a write panicked".to_owned(),
        };
        self.writer.lock().map_err(panicked)
    }

    fn free_bytes(&self) -> Result<u64, StoreError> {
        self.segments
            .disk()
            .free_bytes(&self.dir)
            .map_err(StoreError::io(&self.dir))
    }

    /// Refuses a write of `bytes` that would leave less than `min_free_bytes`.
    fn check_space(&self, writer: &mut Writer, bytes: u64) -> Result<(), StoreError> {
        let margin = match writer.space_refused {
            true => self.min_free_bytes / RESUME_MARGIN_DIVISOR,
            false => 0,
        };
        let needed_bytes = self
            .min_free_bytes
            .saturating_add(margin)
            .saturating_add(bytes);
        let free_bytes = self.free_bytes()?;
        writer.space_refused = free_bytes < needed_bytes;
        if writer.space_refused {
            return Err(StoreError::DiskFull {
                path: self.dir.clone(),
                free_bytes,
                needed_bytes,
            });
        }
        Ok(())
    }

    /// Turns a failed file operation into an error for the caller. For lack of space, later writes go
    /// to a new segment when there is space again; after any other failure no write can be trusted.
    fn write_failed(&self, writer: &mut Writer, failure: WriteFailure, bytes: u64) -> StoreError {
        let WriteFailure { path, source } = failure;
        if is_out_of_space(&source) {
            tracing::warn!(path = %path.display(), error = %source, "no space for a segment");
            writer.space_refused = true;
            let free_bytes = self.free_bytes().unwrap_or(0);
            let needed_bytes = self.min_free_bytes.saturating_add(bytes);
            return StoreError::DiskFull {
                path,
                free_bytes,
                needed_bytes,
            };
        }
        make_read_only(writer, StoreError::Io { path, source })
    }
}

/// After a failed sync or batch, what is on disk is unknown until the store is opened again.
fn make_read_only(writer: &mut Writer, error: StoreError) -> StoreError {
    tracing::error!(%error, "the store is read-only from now on");
    writer.read_only = Some(error.to_string());
    error
}

/// Checks that a blob's parts agree, and works out its layout.
fn check_blob(
    geometry: &BlobGeometry,
    token_ids: &[u32],
    layers: &Vec<(&[u8], &[u8])>,
) -> Result<RecordLayout, String> {
    let layout = RecordLayout::new(*geometry)
        .ok_or_else(|| format!("{geometry:?} is outside the limits of the format"))?;
    if token_ids.len() != geometry.n_tokens as usize {
        return Err(format!(
            "{} token ids for {} tokens",
            token_ids.len(),
            geometry.n_tokens
        ));
    }
    if layers.len() != geometry.n_layers as usize {
        return Err(format!(
            "it does not yield exactly {} layers",
            geometry.n_layers
        ));
    }
    let expected = (
        geometry.k_block_bytes as usize,
        geometry.v_block_bytes as usize,
    );
    match layers
        .iter()
        .position(|(k, v)| (k.len(), v.len()) != expected)
    {
        Some(layer) => Err(format!("a block of layer {layer} has another size")),
        None => Ok(layout),
    }
}
