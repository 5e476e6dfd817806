//! Appends records to the active segment. Nothing here commits them: a metadata batch does.
//!
//! Invariant: after a failed write a file is never written again, so no byte is written twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::file::{Pin, SegmentFile};
use super::folder::Segments;
use super::format::{
    BlockKind, CommitMark, PAGE_BYTES, RecordLayout, RecordPlace, SegmentHeader, block_crc,
    encode_footer, encode_head,
};
use super::location::Location;
use super::pending::PendingBlob;
use crate::blob::{BlobGeometry, BlobKey};

/// Writes the segments of one open store.
pub(crate) struct SegmentWriter {
    segments: Arc<Segments>,
    fingerprint: [u8; 32],
    max_segment_bytes: u64,
    next_segment: u64,
    active: Option<Active>,
    /// Segments that were started and have no commit yet.
    uncommitted: BTreeSet<u64>,
}

struct Active {
    file: Arc<SegmentFile>,
    /// Where the next record starts, in bytes.
    end: u64,
}

/// A blob to append, checked against its geometry.
pub(crate) struct Append<'a> {
    pub(crate) key: BlobKey,
    pub(crate) geometry: BlobGeometry,
    pub(crate) layout: RecordLayout,
    pub(crate) token_ids: &'a [u32],
    /// K block and V block of each layer.
    pub(crate) layers: Vec<(&'a [u8], &'a [u8])>,
}

/// A file operation that failed, with the file it failed on.
#[derive(Debug)]
pub(crate) struct WriteFailure {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

impl SegmentWriter {
    pub(crate) fn new(
        segments: Arc<Segments>,
        fingerprint: [u8; 32],
        max_segment_bytes: u64,
        next_segment: u64,
    ) -> Self {
        Self {
            segments,
            fingerprint,
            max_segment_bytes,
            next_segment,
            active: None,
            uncommitted: BTreeSet::new(),
        }
    }

    /// Id of the segment that is still written, if there is one.
    pub(crate) fn active_id(&self) -> Option<u64> {
        self.active.as_ref().map(|active| active.file.id)
    }

    /// Segments started by this writer that may have no row in the metadata, because no commit has
    /// reached them.
    pub(crate) fn uncommitted(&mut self) -> &mut BTreeSet<u64> {
        &mut self.uncommitted
    }

    /// Id that the next new segment will have.
    pub(crate) fn next_segment(&self) -> u64 {
        self.next_segment
    }

    /// Writes one record at the end of the active segment. After a failure the segment is sealed.
    pub(crate) fn append(
        &mut self,
        blob: &Append<'_>,
        commit_seq: u64,
    ) -> Result<PendingBlob, WriteFailure> {
        let Active { file, end } = self.room_for(blob.layout.record_bytes(), commit_seq)?;
        let place = RecordPlace {
            segment: file.id,
            offset: end,
            key: blob.key,
        };
        let crc = self
            .write_record(&file, &place, blob)
            .map_err(|source| self.seal(&file, source))?;
        let pin = Pin::new(&file);
        self.active = Some(Active {
            file,
            end: end + blob.layout.record_bytes(),
        });
        let location = Location {
            segment: place.segment,
            offset: place.offset,
            geometry: blob.geometry,
            head_crc: crc,
        };
        Ok(PendingBlob {
            key: blob.key,
            location,
            pin,
        })
    }

    /// Takes the active segment out, or a new one if there is none or the record does not fit. The
    /// caller puts it back after a successful write.
    fn room_for(&mut self, record_bytes: u64, commit_seq: u64) -> Result<Active, WriteFailure> {
        match self.active.take() {
            Some(active) if active.end + record_bytes <= self.max_segment_bytes => Ok(active),
            Some(full) => {
                full.file.seal();
                self.start_segment(commit_seq)
            }
            None => self.start_segment(commit_seq),
        }
    }

    fn start_segment(&mut self, commit_seq: u64) -> Result<Active, WriteFailure> {
        let id = self.next_segment;
        // The id counts as used even if this fails, because the file may exist by then.
        self.next_segment += 1;
        let failure = |source| WriteFailure {
            path: self.segments.path(id),
            source,
        };
        let file = self.segments.create(id).map_err(failure)?;
        self.uncommitted.insert(id);
        let header = SegmentHeader {
            segment: id,
            commit_seq,
            fingerprint: self.fingerprint,
        };
        let disk = self.segments.disk();
        disk.write_at(&file.file, &header.encode(), 0)
            .map_err(failure)?;
        // If the directory entry were lost, so would be every commit in the file.
        disk.sync_dir(self.segments.dir()).map_err(failure)?;
        Ok(Active {
            file,
            end: PAGE_BYTES,
        })
    }

    fn write_record(
        &self,
        file: &SegmentFile,
        place: &RecordPlace,
        blob: &Append<'_>,
    ) -> io::Result<u32> {
        let Append {
            key,
            geometry,
            layout,
            token_ids,
            layers,
        } = blob;
        let at = |layer, kind| place.offset + layout.block_offset(layer, kind);
        let crc = |layer, kind, bytes| block_crc(key, at(layer, kind), layer, kind, bytes);
        let crcs: Vec<[u32; 2]> = (0..)
            .zip(layers)
            .map(|(layer, (k, v))| [crc(layer, BlockKind::K, k), crc(layer, BlockKind::V, v)])
            .collect();
        let (head, head_crc) = encode_head(place, geometry, layout, token_ids, &crcs);
        let write = |bytes: &[u8], offset| self.segments.disk().write_at(&file.file, bytes, offset);
        write(&head, place.offset)?;
        // Padding is not written: holes in a new file read as zeros.
        for (layer, (k, v)) in (0..).zip(layers) {
            write(k, at(layer, BlockKind::K))?;
            write(v, at(layer, BlockKind::V))?;
        }
        let footer = encode_footer(place, layout.record_bytes(), head_crc);
        write(&footer, place.offset + layout.footer_offset())?;
        Ok(head_crc)
    }

    /// Makes `blobs` durable, with a mark of their commit. Returns, for each synced segment, the end
    /// of this commit's bytes.
    pub(crate) fn sync(
        &mut self,
        blobs: &[PendingBlob],
        commit_seq: u64,
        acknowledged_seq: u64,
    ) -> Result<BTreeMap<u64, u64>, WriteFailure> {
        let mut files = BTreeMap::new();
        let mut ends = BTreeMap::new();
        for PendingBlob { location, pin, .. } in blobs {
            let record_bytes = location.layout().map_or(0, |layout| layout.record_bytes());
            let end = ends.entry(location.segment).or_insert(PAGE_BYTES);
            *end = (*end).max(location.offset + record_bytes);
            files.insert(location.segment, Arc::clone(&pin.file));
        }
        if let Some((file, end)) = self.write_mark(commit_seq, acknowledged_seq)? {
            ends.insert(file.id, end);
            files.insert(file.id, file);
        }
        for file in files.values() {
            self.sync_file(file)?;
        }
        Ok(ends)
    }

    /// Appends the commit mark to the active segment. If all its segments are sealed, a commit has no
    /// mark, and only the loss of this one commit cannot be noticed.
    fn write_mark(
        &mut self,
        commit_seq: u64,
        acknowledged_seq: u64,
    ) -> Result<Option<(Arc<SegmentFile>, u64)>, WriteFailure> {
        let Some(Active { file, end: offset }) = self.active.take() else {
            return Ok(None);
        };
        let mark = CommitMark {
            segment: file.id,
            offset,
            commit_seq,
            acknowledged_seq,
        };
        let written = self
            .segments
            .disk()
            .write_at(&file.file, &mark.encode(), offset);
        written.map_err(|source| self.seal(&file, source))?;
        let end = offset + PAGE_BYTES;
        self.active = Some(Active {
            file: Arc::clone(&file),
            end,
        });
        Ok(Some((file, end)))
    }

    /// A file whose sync failed is not synced again: the kernel has marked its pages as clean, so a
    /// second success would prove nothing.
    fn sync_file(&mut self, file: &SegmentFile) -> Result<(), WriteFailure> {
        if file.is_abandoned() {
            let lost = io::Error::new(
                io::ErrorKind::StorageFull,
                "an earlier sync of this file failed",
            );
            return Err(self.seal(file, lost));
        }
        self.segments
            .disk()
            .sync_data(&file.file)
            .map_err(|source| {
                file.abandon();
                self.seal(file, source)
            })
    }

    /// Ends the active segment, so that the file that failed is not written again.
    fn seal(&mut self, file: &SegmentFile, source: io::Error) -> WriteFailure {
        self.active = None;
        WriteFailure {
            path: file.path.clone(),
            source,
        }
    }
}
