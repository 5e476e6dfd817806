//! Reads records. Every checksum is verified on the copy that the caller gets, never on a mapping,
//! which could change afterwards.

use std::io;
use std::sync::Arc;

use super::blocks::BlockReads;
use super::file::SegmentFile;
use super::format::{
    BlockKind, PAGE_BYTES, RecordHead, RecordLayout, RecordPlace, align_up, block_crc, decode_head,
    encode_footer,
};
use super::location::Location;
use crate::blob::{BlobGeometry, BlobKey};
use crate::disk::DynDisk;
use crate::error::StoreError;
use crate::stats::{Counters, MissKind};

/// An open blob. It stays readable even if the blob is removed or replaced.
pub struct BlobReader {
    record: OpenRecord,
    reads: Arc<BlockReads>,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobReader")
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}

impl BlobReader {
    pub(crate) fn new(record: OpenRecord, reads: Arc<BlockReads>, counters: Arc<Counters>) -> Self {
        Self {
            record,
            reads,
            counters,
        }
    }

    /// Shape of the blob.
    pub fn geometry(&self) -> BlobGeometry {
        self.record.location.geometry
    }

    /// Key the blob was opened by.
    pub fn key(&self) -> BlobKey {
        self.record.key
    }

    pub(crate) fn location(&self) -> &Location {
        &self.record.location
    }

    /// Fills `k` (`k_block_bytes`) and `v` (`v_block_bytes`) with the blocks of `layer`.
    ///
    /// Errors: `Corrupt` when the bytes differ from those that were written, `Io` when the device
    /// does not deliver them, `InvalidBlob` for a layer or a buffer that does not match the geometry.
    /// After an error the buffers hold zeros. `Corrupt` and `Io` are counted as misses.
    pub fn read_layer(&self, layer: usize, k: &mut [u8], v: &mut [u8]) -> Result<(), StoreError> {
        let read = self.record.read_layer(layer, k, v);
        if let Err(error) = &read {
            k.fill(0);
            v.fill(0);
            self.count(error);
        }
        read
    }

    /// Fills `bytes` with both blocks of `layer` as they are in the file: the K block and the V block,
    /// each padded with zeros to whole pages. This is one read, done in the way chosen when the store
    /// was opened. Direct IO needs a buffer that begins on a page boundary.
    ///
    /// Errors: as [`BlobReader::read_layer`].
    pub fn read_layer_into(&self, layer: usize, bytes: &mut [u8]) -> Result<(), StoreError> {
        let read = self.record.read_layer_into(&self.reads, layer, bytes);
        if let Err(error) = &read {
            bytes.fill(0);
            self.count(error);
        }
        read
    }

    fn count(&self, error: &StoreError) {
        if let Some(kind) = MissKind::of_error(error) {
            self.counters.miss(kind);
        }
    }
}

/// A record whose head and footer have been verified.
pub(crate) struct OpenRecord {
    disk: DynDisk,
    file: Arc<SegmentFile>,
    key: BlobKey,
    location: Location,
    layout: RecordLayout,
    head: RecordHead,
}

/// Opens the record of `key` at `location` and verifies its head and footer.
pub(crate) fn open_record(
    disk: &DynDisk,
    file: Arc<SegmentFile>,
    key: BlobKey,
    location: Location,
) -> Result<OpenRecord, StoreError> {
    let corrupt = |what| StoreError::corrupt(&file.path, location.offset, what);
    let layout = location
        .layout()
        .ok_or_else(|| corrupt("metadata names an impossible record"))?;
    let place = RecordPlace {
        segment: location.segment,
        offset: location.offset,
        key,
    };
    let mut head = vec![0; layout.head_bytes() as usize];
    read_at(disk, &file, &mut head, location.offset)?;
    let decoded = decode_head(
        &head,
        &place,
        &location.geometry,
        &layout,
        location.head_crc,
    );
    let head = decoded.map_err(corrupt)?;
    // A record is complete only if its footer is there. This finds a truncated one before any layer
    // is used.
    let mut footer = [0; PAGE_BYTES as usize];
    read_at(
        disk,
        &file,
        &mut footer,
        location.offset + layout.footer_offset(),
    )?;
    if footer != encode_footer(&place, layout.record_bytes(), location.head_crc) {
        return Err(corrupt(
            "record footer differs from the one that was written",
        ));
    }
    Ok(OpenRecord {
        disk: Arc::clone(disk),
        file,
        key,
        location,
        layout,
        head,
    })
}

impl OpenRecord {
    pub(crate) fn token_ids(&self) -> &[u32] {
        &self.head.token_ids
    }

    fn read_layer(&self, layer: usize, k: &mut [u8], v: &mut [u8]) -> Result<(), StoreError> {
        let (layer, [k_crc, v_crc]) = self.layer(layer)?;
        for (kind, bytes, crc) in [(BlockKind::K, k, k_crc), (BlockKind::V, v, v_crc)] {
            self.read_block(layer, kind, bytes, crc)?;
        }
        Ok(())
    }

    /// The layer's number in the format, with the checksums of its blocks.
    fn layer(&self, layer: usize) -> Result<(u32, [u32; 2]), StoreError> {
        let Some(crcs) = self.head.block_crcs.get(layer) else {
            return Err(self.invalid(format!("it has no layer {layer}")));
        };
        // Lossless: the table has at most `MAX_LAYERS` entries.
        Ok((layer as u32, *crcs))
    }

    fn read_layer_into(
        &self,
        reads: &BlockReads,
        layer: usize,
        bytes: &mut [u8],
    ) -> Result<(), StoreError> {
        let (layer, [k_crc, v_crc]) = self.layer(layer)?;
        let start = self.layout.block_offset(layer, BlockKind::K);
        let expected = self.layout.block_offset(layer + 1, BlockKind::K) - start;
        if bytes.len() as u64 != expected {
            let len = bytes.len();
            return Err(self.invalid(format!(
                "the buffer of a layer has {len} bytes instead of {expected}"
            )));
        }
        let offset = self.location.offset + start;
        let read = reads.read(&self.file, bytes, offset);
        read.map_err(|source| read_failed(&self.file, offset, source))?;
        for (kind, crc) in [(BlockKind::K, k_crc), (BlockKind::V, v_crc)] {
            let begin = (self.layout.block_offset(layer, kind) - start) as usize;
            let len = self.layout.block_bytes(kind) as usize;
            self.verify(layer, kind, &bytes[begin..begin + len], crc)?;
        }
        Ok(())
    }

    fn verify(
        &self,
        layer: u32,
        kind: BlockKind,
        bytes: &[u8],
        crc: u32,
    ) -> Result<(), StoreError> {
        let offset = self.location.offset + self.layout.block_offset(layer, kind);
        if block_crc(&self.key, offset, layer, kind, bytes) != crc {
            let what = format!("{kind:?} block of layer {layer} fails its checksum");
            return Err(StoreError::corrupt(&self.file.path, offset, what));
        }
        Ok(())
    }

    fn read_block(
        &self,
        layer: u32,
        kind: BlockKind,
        bytes: &mut [u8],
        crc: u32,
    ) -> Result<(), StoreError> {
        let expected = self.layout.block_bytes(kind) as usize;
        if bytes.len() != expected {
            let len = bytes.len();
            return Err(self.invalid(format!(
                "{kind:?} buffer has {len} bytes instead of {expected}"
            )));
        }
        let offset = self.location.offset + self.layout.block_offset(layer, kind);
        read_at(&self.disk, &self.file, bytes, offset)?;
        self.verify(layer, kind, bytes, crc)
    }

    fn invalid(&self, what: String) -> StoreError {
        StoreError::InvalidBlob {
            key: self.key,
            what,
        }
    }
}

/// Reads and checks every byte of the record, including the zeros between blocks.
pub(crate) fn check_record(record: &OpenRecord) -> Result<(), StoreError> {
    let n_layers = record.location.geometry.n_layers;
    for (layer, [k_crc, v_crc]) in (0..n_layers).zip(&record.head.block_crcs) {
        for (kind, crc) in [(BlockKind::K, *k_crc), (BlockKind::V, *v_crc)] {
            let len = record.layout.block_bytes(kind);
            record.read_block(layer, kind, &mut vec![0; len as usize], crc)?;
            check_padding(record, layer, kind, u64::from(len))?;
        }
    }
    Ok(())
}

fn check_padding(
    record: &OpenRecord,
    layer: u32,
    kind: BlockKind,
    len: u64,
) -> Result<(), StoreError> {
    let offset = record.location.offset + record.layout.block_offset(layer, kind) + len;
    let mut padding = vec![0; (align_up(len) - len) as usize];
    read_at(&record.disk, &record.file, &mut padding, offset)?;
    if padding.iter().any(|byte| *byte != 0) {
        let what = format!("padding after the {kind:?} block of layer {layer} is not zero");
        return Err(StoreError::corrupt(&record.file.path, offset, what));
    }
    Ok(())
}

/// Reads exactly `bytes.len()` bytes. A file that ends too early is corrupt, which is not an IO error.
pub(super) fn read_at(
    disk: &DynDisk,
    file: &SegmentFile,
    bytes: &mut [u8],
    offset: u64,
) -> Result<(), StoreError> {
    let read = disk.read_at(&file.file, bytes, offset);
    read.map_err(|source| read_failed(file, offset, source))
}

fn read_failed(file: &SegmentFile, offset: u64, source: io::Error) -> StoreError {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => {
            StoreError::corrupt(&file.path, offset, "the file ends inside the record")
        }
        _ => StoreError::Io {
            path: file.path.clone(),
            source,
        },
    }
}
