//! The segment format, version 1, to the byte. Every constant of the format is in this file.
//!
//! All integers are little-endian. Everything starts on a 4 KiB boundary. `README.md` shows the same
//! layout, and a test compares its tables with these constants.

use crate::blob::{BlobGeometry, BlobKey};

/// Version written into every segment and record header.
pub const SEGMENT_VERSION: u32 = 1;
/// Alignment of pages, records and blocks in bytes; the unit of direct IO.
pub const PAGE_BYTES: u64 = 4096;
const PAGE: usize = PAGE_BYTES as usize;

/// First bytes of a segment file.
pub const SEGMENT_MAGIC: [u8; 8] = *b"RWSEGMNT";
/// First bytes of a record.
pub const RECORD_MAGIC: [u8; 8] = *b"RWRECORD";
/// First bytes of the last page of a record.
pub const FOOTER_MAGIC: [u8; 8] = *b"RWFOOTER";
/// First bytes of a commit mark.
pub const MARK_MAGIC: [u8; 8] = *b"RWCOMMIT";

/// Offset of the checksum in a segment header, footer or commit mark: the last four bytes.
pub const PAGE_CRC_OFFSET: usize = 4092;
/// Size of the fixed part of a record head; the token ids follow it.
pub const RECORD_FIXED_BYTES: usize = 96;
/// Offset of the head's checksum, which is computed with these four bytes zero.
pub const HEAD_CRC_OFFSET: usize = 88;
/// Room for what blobs will come to depend on: fields of a record head that are zero today.
pub const HEAD_ROOM: [HeadRoom; 3] = [
    HeadRoom {
        name: "more_contexts",
        at: 13,
        size: 1,
        refusal: "record has more_contexts, which this version does not support",
    },
    HeadRoom {
        name: "kernel_precision",
        at: 14,
        size: 1,
        refusal: "record has another kernel_precision, which this version does not support",
    },
    HeadRoom {
        name: "tenant",
        at: 92,
        size: 4,
        refusal: "record has a tenant, which this version does not support",
    },
];

/// A field of a record head that must be zero in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadRoom {
    pub name: &'static str,
    /// Offset in bytes.
    pub at: usize,
    /// Size in bytes.
    pub size: usize,
    /// What is wrong with a record that uses it.
    pub refusal: &'static str,
}

/// Bytes per layer in the checksum table: crc32c of the K block, crc32c of the V block.
pub const LAYER_CRC_BYTES: usize = 8;

/// Most layers a blob may have.
pub const MAX_LAYERS: u32 = 1024;
/// Most token ids a blob may have.
pub const MAX_BLOB_TOKENS: u32 = 1 << 20;
/// Largest K or V block in bytes.
pub const MAX_BLOCK_BYTES: u32 = 1 << 30;

const _: () = assert!(PAGE_BYTES.is_power_of_two());
const _: () = assert!(PAGE_CRC_OFFSET + 4 == PAGE);
const _: () = assert!(HEAD_CRC_OFFSET + 8 == RECORD_FIXED_BYTES);
const _: () = assert!(RECORD_FIXED_BYTES.is_multiple_of(4) && RECORD_FIXED_BYTES < PAGE);
// The size of a record always fits an i64 file offset.
const _: () = assert!((MAX_BLOCK_BYTES as u64) * 2 * (MAX_LAYERS as u64) < 1 << 42);

/// One 4 KiB page.
pub type Page = [u8; PAGE];

/// Rounds `bytes` up to a whole number of pages.
pub const fn align_up(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE_BYTES)
}

/// Which half of a layer a block holds. The tag is part of the block's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    K = 0,
    V = 1,
}

/// Where each part of a record is, relative to the start of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLayout {
    geometry: BlobGeometry,
}

impl RecordLayout {
    /// `None` when the geometry is outside the format's limits.
    pub fn new(geometry: BlobGeometry) -> Option<Self> {
        let BlobGeometry {
            n_layers,
            n_tokens,
            k_block_bytes,
            v_block_bytes,
            dtype: _,
        } = geometry;
        let fits = (1..=MAX_LAYERS).contains(&n_layers)
            && (1..=MAX_BLOB_TOKENS).contains(&n_tokens)
            && k_block_bytes <= MAX_BLOCK_BYTES
            && v_block_bytes <= MAX_BLOCK_BYTES;
        fits.then_some(Self { geometry })
    }

    /// Offset of the checksum table, where the token ids end.
    pub fn table_offset(&self) -> usize {
        RECORD_FIXED_BYTES + 4 * self.geometry.n_tokens as usize
    }

    /// Size of the head (fixed part, token ids, checksum table, zeros) in bytes.
    pub fn head_bytes(&self) -> u64 {
        let used = self.table_offset() + LAYER_CRC_BYTES * self.geometry.n_layers as usize;
        align_up(used as u64)
    }

    /// Offset of the K or V block of `layer`.
    pub fn block_offset(&self, layer: u32, kind: BlockKind) -> u64 {
        let k_span = align_up(u64::from(self.geometry.k_block_bytes));
        let v_span = align_up(u64::from(self.geometry.v_block_bytes));
        let layer_start = self.head_bytes() + u64::from(layer) * (k_span + v_span);
        match kind {
            BlockKind::K => layer_start,
            BlockKind::V => layer_start + k_span,
        }
    }

    /// Unpadded size of a K or V block in bytes.
    pub fn block_bytes(&self, kind: BlockKind) -> u32 {
        match kind {
            BlockKind::K => self.geometry.k_block_bytes,
            BlockKind::V => self.geometry.v_block_bytes,
        }
    }

    /// Offset of the footer page.
    pub fn footer_offset(&self) -> u64 {
        self.block_offset(self.geometry.n_layers, BlockKind::K)
    }

    /// Size of the whole record in bytes, footer included.
    pub fn record_bytes(&self) -> u64 {
        self.footer_offset() + PAGE_BYTES
    }
}

/// Checksum of one block. It also covers the key, the block's file offset, its layer and its kind, so
/// that a misdirected write or a swapped block fails it.
pub fn block_crc(
    key: &BlobKey,
    file_offset: u64,
    layer: u32,
    kind: BlockKind,
    bytes: &[u8],
) -> u32 {
    let mut place = [0u8; 48];
    place[..32].copy_from_slice(&key.0);
    place[32..40].copy_from_slice(&file_offset.to_le_bytes());
    place[40..44].copy_from_slice(&layer.to_le_bytes());
    place[44] = kind as u8;
    crc32c::crc32c_append(crc32c::crc32c(&place), bytes)
}

/// The place of a record in the store and its key, repeated in head and footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    pub segment: u64,
    pub offset: u64,
    pub key: BlobKey,
}

/// Encodes a record's head: fixed part, token ids, checksum table, zero padding.
pub fn encode_head(
    place: &RecordPlace,
    geometry: &BlobGeometry,
    layout: &RecordLayout,
    token_ids: &[u32],
    block_crcs: &[[u32; 2]],
) -> (Vec<u8>, u32) {
    let mut head = Vec::with_capacity(layout.head_bytes() as usize);
    head.extend_from_slice(&RECORD_MAGIC);
    head.extend_from_slice(&SEGMENT_VERSION.to_le_bytes());
    head.extend_from_slice(&[geometry.dtype, 0, 0, 0]);
    for field in [
        geometry.n_layers,
        geometry.n_tokens,
        geometry.k_block_bytes,
        geometry.v_block_bytes,
    ] {
        head.extend_from_slice(&field.to_le_bytes());
    }
    head.extend_from_slice(&place.key.0);
    for field in [place.offset, layout.record_bytes(), place.segment] {
        head.extend_from_slice(&field.to_le_bytes());
    }
    head.resize(RECORD_FIXED_BYTES, 0);
    head.extend(token_ids.iter().flat_map(|id| id.to_le_bytes()));
    head.extend(
        block_crcs
            .iter()
            .flatten()
            .flat_map(|crc| crc.to_le_bytes()),
    );
    head.resize(layout.head_bytes() as usize, 0);
    let crc = crc32c::crc32c(&head);
    head[HEAD_CRC_OFFSET..HEAD_CRC_OFFSET + 4].copy_from_slice(&crc.to_le_bytes());
    (head, crc)
}

/// A verified record head.
#[derive(Debug, PartialEq, Eq)]
pub struct RecordHead {
    pub token_ids: Vec<u32>,
    /// Per layer: crc32c of the K block, of the V block.
    pub block_crcs: Vec<[u32; 2]>,
}

/// Decodes and checks a head of `layout.head_bytes()` bytes that the metadata expects at `place`.
/// The error says what is wrong.
pub fn decode_head(
    head: &[u8],
    place: &RecordPlace,
    geometry: &BlobGeometry,
    layout: &RecordLayout,
    expected_crc: u32,
) -> Result<RecordHead, &'static str> {
    let fixed = FixedHead::decode(head).ok_or("record magic or version is wrong")?;
    if head.len() as u64 != layout.head_bytes() {
        return Err("record head is shorter than its geometry needs");
    }
    if fixed.crc != expected_crc {
        return Err("record head is not the one the metadata names");
    }
    if head_crc(head) != fixed.crc {
        return Err("record head fails its checksum");
    }
    check_room(head)?;
    if fixed.place != *place || fixed.record_bytes != layout.record_bytes() {
        return Err("record head belongs to another place or key");
    }
    if fixed.geometry != *geometry {
        return Err("record geometry differs from the metadata");
    }
    let (_, variable) = head.split_at(RECORD_FIXED_BYTES);
    let (ids, table) = variable.split_at(layout.table_offset() - RECORD_FIXED_BYTES);
    let crcs: Vec<u32> = le_words(table)
        .take(2 * geometry.n_layers as usize)
        .collect();
    Ok(RecordHead {
        token_ids: le_words(ids).collect(),
        block_crcs: crcs
            .chunks_exact(2)
            .map(|pair| [pair[0], pair[1]])
            .collect(),
    })
}

/// Refuses, by name, what only a later version can have written. `head` holds the fixed part.
fn check_room(head: &[u8]) -> Result<(), &'static str> {
    let is_used = |room: &&HeadRoom| head[room.at..room.at + room.size] != [0; 4][..room.size];
    HEAD_ROOM
        .iter()
        .find(is_used)
        .map_or(Ok(()), |room| Err(room.refusal))
}

/// The fixed part of a record head, not verified yet.
#[derive(Debug, PartialEq, Eq)]
pub struct FixedHead {
    pub place: RecordPlace,
    pub geometry: BlobGeometry,
    pub record_bytes: u64,
    pub crc: u32,
}

impl FixedHead {
    /// `None` when `bytes` do not start with a record head of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let magic = bytes.get(..8)?;
        if magic != RECORD_MAGIC || u32_at(bytes, 8)? != SEGMENT_VERSION {
            return None;
        }
        let key = BlobKey(bytes.get(32..64)?.try_into().ok()?);
        Some(Self {
            place: RecordPlace {
                segment: u64_at(bytes, 80)?,
                offset: u64_at(bytes, 64)?,
                key,
            },
            geometry: BlobGeometry {
                n_layers: u32_at(bytes, 16)?,
                n_tokens: u32_at(bytes, 20)?,
                k_block_bytes: u32_at(bytes, 24)?,
                v_block_bytes: u32_at(bytes, 28)?,
                dtype: *bytes.get(12)?,
            },
            record_bytes: u64_at(bytes, 72)?,
            crc: u32_at(bytes, HEAD_CRC_OFFSET)?,
        })
    }
}

fn head_crc(head: &[u8]) -> u32 {
    let (before, rest) = head.split_at(HEAD_CRC_OFFSET);
    let (_, after) = rest.split_at(4);
    let crc = crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]);
    crc32c::crc32c_append(crc, after)
}

/// Encodes the footer. This page shows that a record was written completely.
pub fn encode_footer(place: &RecordPlace, record_bytes: u64, head_crc: u32) -> Page {
    let mut page = [0; PAGE];
    page[..8].copy_from_slice(&FOOTER_MAGIC);
    page[8..40].copy_from_slice(&place.key.0);
    page[40..48].copy_from_slice(&place.offset.to_le_bytes());
    page[48..56].copy_from_slice(&record_bytes.to_le_bytes());
    page[56..64].copy_from_slice(&place.segment.to_le_bytes());
    page[64..68].copy_from_slice(&head_crc.to_le_bytes());
    seal_page(page)
}

/// First page of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub segment: u64,
    /// The newest commit when the segment was started.
    pub commit_seq: u64,
    /// Identity the segment's blobs were written under.
    pub fingerprint: [u8; 32],
}

impl SegmentHeader {
    pub fn encode(&self) -> Page {
        let mut page = [0; PAGE];
        page[..8].copy_from_slice(&SEGMENT_MAGIC);
        page[8..12].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
        page[12..16].copy_from_slice(&(PAGE_BYTES as u32).to_le_bytes());
        page[16..24].copy_from_slice(&self.segment.to_le_bytes());
        page[24..32].copy_from_slice(&self.commit_seq.to_le_bytes());
        page[32..64].copy_from_slice(&self.fingerprint);
        seal_page(page)
    }

    pub fn decode(page: &Page) -> Result<Self, &'static str> {
        if page[..8] != SEGMENT_MAGIC {
            return Err("segment magic is wrong");
        }
        if u32_at(page, 8) != Some(SEGMENT_VERSION) {
            return Err("segment has an unknown format version");
        }
        if !page_is_sealed(page) {
            return Err("segment header fails its checksum");
        }
        let field = |at| u64_at(page, at).ok_or("segment header is short");
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(&page[32..64]);
        Ok(Self {
            segment: field(16)?,
            commit_seq: field(24)?,
            fingerprint,
        })
    }
}

/// Page written before the `fdatasync` of each commit. With it, a later open can notice that the
/// metadata has lost acknowledged commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitMark {
    pub segment: u64,
    pub offset: u64,
    /// The commit being made.
    pub commit_seq: u64,
    /// The newest commit that was durable and acknowledged when this mark was written.
    pub acknowledged_seq: u64,
}

impl CommitMark {
    pub fn encode(&self) -> Page {
        let mut page = [0; PAGE];
        page[..8].copy_from_slice(&MARK_MAGIC);
        page[8..16].copy_from_slice(&self.segment.to_le_bytes());
        page[16..24].copy_from_slice(&self.offset.to_le_bytes());
        page[24..32].copy_from_slice(&self.commit_seq.to_le_bytes());
        page[32..40].copy_from_slice(&self.acknowledged_seq.to_le_bytes());
        seal_page(page)
    }

    /// `None` when the page is not an intact commit mark.
    pub fn decode(page: &Page) -> Option<Self> {
        if page[..8] != MARK_MAGIC || !page_is_sealed(page) {
            return None;
        }
        Some(Self {
            segment: u64_at(page, 8)?,
            offset: u64_at(page, 16)?,
            commit_seq: u64_at(page, 24)?,
            acknowledged_seq: u64_at(page, 32)?,
        })
    }
}

fn seal_page(mut page: Page) -> Page {
    let crc = crc32c::crc32c(&page[..PAGE_CRC_OFFSET]);
    page[PAGE_CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
    page
}

fn page_is_sealed(page: &Page) -> bool {
    u32_at(page, PAGE_CRC_OFFSET) == Some(crc32c::crc32c(&page[..PAGE_CRC_OFFSET]))
}

fn le_words(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|word| u32::from_le_bytes(*word))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
