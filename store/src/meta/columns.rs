//! One type per column family: its name, its key, its value. Keys are big-endian, so that RocksDB's
//! byte order is the numeric order. Every value that has fields begins with a version byte.

use std::collections::BTreeMap;

use super::codec::{Decoder, Encoder};
use crate::blob::{BlobGeometry, BlobKey};
use crate::identity::{Fields, Identity};
use crate::segment::Location;

mod chunk;

pub(crate) use chunk::{ChunkRow, Chunks, Vectors, chunk_prefix};

/// Version of every row except those of [`Chunks`].
const ROW_VERSION: u8 = 1;

/// A column family.
pub(crate) trait Column {
    const NAME: &'static str;
    type Key<'a>;
    type Value;
    fn key(key: Self::Key<'_>) -> Vec<u8>;
    fn encode(value: &Self::Value) -> Vec<u8>;
    /// `None` if the bytes are not a value of this column.
    fn decode(bytes: &[u8]) -> Option<Self::Value>;
}

fn row() -> Encoder {
    Encoder::default().u8(ROW_VERSION)
}

fn open_row(bytes: &[u8]) -> Option<Decoder<'_>> {
    let mut decoder = Decoder(bytes);
    (decoder.u8()? == ROW_VERSION).then_some(decoder)
}

/// Document id -> everything about a document except its text and chunks.
pub(crate) enum Documents {}

/// Value of [`Documents`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DocumentRow {
    pub(crate) content_hash: [u8; 32],
    pub(crate) text_bytes: u64,
    pub(crate) n_tokens: u64,
    pub(crate) n_chunks: u32,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Column for Documents {
    const NAME: &'static str = "documents";
    type Key<'a> = &'a str;
    type Value = DocumentRow;

    fn key(id: &str) -> Vec<u8> {
        id.as_bytes().to_vec()
    }

    fn encode(value: &DocumentRow) -> Vec<u8> {
        let DocumentRow {
            content_hash,
            text_bytes,
            n_tokens,
            n_chunks,
            metadata,
        } = value;
        let row = row()
            .array(content_hash)
            .u64(*text_bytes)
            .u64(*n_tokens)
            .u32(*n_chunks);
        row.map(metadata).finish()
    }

    fn decode(bytes: &[u8]) -> Option<DocumentRow> {
        let mut row = open_row(bytes)?;
        let value = DocumentRow {
            content_hash: row.array()?,
            text_bytes: row.u64()?,
            n_tokens: row.u64()?,
            n_chunks: row.u32()?,
            metadata: row.map()?,
        };
        row.end(value)
    }
}

/// Document id -> its text, which cannot be computed again.
pub(crate) enum Texts {}

impl Column for Texts {
    const NAME: &'static str = "texts";
    type Key<'a> = &'a str;
    type Value = String;

    fn key(id: &str) -> Vec<u8> {
        id.as_bytes().to_vec()
    }

    fn encode(text: &String) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<String> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}

/// Blob key -> how many chunks refer to it, and where it is. A row exists while `refs > 0`, even if
/// the blob was never written.
pub(crate) enum Blobs {}

/// Value of [`Blobs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlobRow {
    pub(crate) refs: u64,
    pub(crate) state: BlobState,
}

/// Whether a blob can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BlobState {
    Absent,
    Live(Location),
    /// Found bad; the reason is for people.
    Quarantined(Location, String),
}

impl BlobState {
    /// The record whose bytes count as live.
    pub(crate) fn location(&self) -> Option<&Location> {
        match self {
            Self::Absent => None,
            Self::Live(location) | Self::Quarantined(location, _) => Some(location),
        }
    }
}

impl Column for Blobs {
    const NAME: &'static str = "blobs";
    type Key<'a> = &'a BlobKey;
    type Value = BlobRow;

    fn key(key: &BlobKey) -> Vec<u8> {
        key.0.to_vec()
    }

    fn encode(BlobRow { refs, state }: &BlobRow) -> Vec<u8> {
        let row = row().u64(*refs);
        match state {
            BlobState::Absent => row.u8(0),
            BlobState::Live(location) => encode_location(row.u8(1), location),
            BlobState::Quarantined(location, why) => encode_location(row.u8(2), location).text(why),
        }
        .finish()
    }

    fn decode(bytes: &[u8]) -> Option<BlobRow> {
        let mut row = open_row(bytes)?;
        let refs = row.u64()?;
        let state = match row.u8()? {
            0 => BlobState::Absent,
            1 => BlobState::Live(decode_location(&mut row)?),
            2 => BlobState::Quarantined(decode_location(&mut row)?, row.text()?),
            _ => return None,
        };
        row.end(BlobRow { refs, state })
    }
}

fn encode_location(row: Encoder, location: &Location) -> Encoder {
    let Location {
        segment,
        offset,
        geometry,
        head_crc,
    } = location;
    let BlobGeometry {
        n_layers,
        n_tokens,
        k_block_bytes,
        v_block_bytes,
        dtype,
    } = geometry;
    let row = row.u64(*segment).u64(*offset).u32(*head_crc).u8(*dtype);
    row.u32(*n_layers)
        .u32(*n_tokens)
        .u32(*k_block_bytes)
        .u32(*v_block_bytes)
}

fn decode_location(row: &mut Decoder<'_>) -> Option<Location> {
    let (segment, offset, head_crc, dtype) = (row.u64()?, row.u64()?, row.u32()?, row.u8()?);
    let geometry = BlobGeometry {
        n_layers: row.u32()?,
        n_tokens: row.u32()?,
        k_block_bytes: row.u32()?,
        v_block_bytes: row.u32()?,
        dtype,
    };
    Some(Location {
        segment,
        offset,
        geometry,
        head_crc,
    })
}

/// Segment id -> what is committed in it.
pub(crate) enum SegmentTable {}

/// Value of [`SegmentTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentRow {
    pub(crate) fingerprint: [u8; 32],
    /// End of the last commit in the file; the bytes after it are dead.
    pub(crate) committed_end: u64,
    pub(crate) live_blobs: u64,
    pub(crate) live_bytes: u64,
}

impl Column for SegmentTable {
    const NAME: &'static str = "segments";
    type Key<'a> = u64;
    type Value = SegmentRow;

    fn key(id: u64) -> Vec<u8> {
        id.to_be_bytes().to_vec()
    }

    fn encode(value: &SegmentRow) -> Vec<u8> {
        let SegmentRow {
            fingerprint,
            committed_end,
            live_blobs,
            live_bytes,
        } = value;
        row()
            .array(fingerprint)
            .u64(*committed_end)
            .u64(*live_blobs)
            .u64(*live_bytes)
            .finish()
    }

    fn decode(bytes: &[u8]) -> Option<SegmentRow> {
        let mut row = open_row(bytes)?;
        let value = SegmentRow {
            fingerprint: row.array()?,
            committed_end: row.u64()?,
            live_blobs: row.u64()?,
            live_bytes: row.u64()?,
        };
        row.end(value)
    }
}

impl SegmentTable {
    /// Segment id of a key.
    pub(crate) fn parse_key(key: &[u8]) -> Option<u64> {
        Some(u64::from_be_bytes(key.try_into().ok()?))
    }
}

/// The one row that holds the store's identity, without its fields, which are in the marker.
pub(crate) enum IdentityRow {}

impl Column for IdentityRow {
    const NAME: &'static str = "identity";
    type Key<'a> = ();
    type Value = Identity;

    fn key((): ()) -> Vec<u8> {
        Self::NAME.as_bytes().to_vec()
    }

    fn encode(value: &Identity) -> Vec<u8> {
        row()
            .array(&value.fingerprint)
            .text(&value.description)
            .finish()
    }

    fn decode(bytes: &[u8]) -> Option<Identity> {
        let mut row = open_row(bytes)?;
        let value = Identity {
            fingerprint: row.array()?,
            description: row.text()?,
            fields: Fields::new(),
        };
        row.end(value)
    }
}

/// The one row of running totals, rewritten by every commit.
pub(crate) enum State {}

/// Value of [`State`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreState {
    /// Number of the newest commit.
    pub(crate) commit_seq: u64,
    /// Segment ids below this have been used.
    pub(crate) next_segment: u64,
    /// Acknowledged commits that were ever found missing.
    pub(crate) lost_commits: u64,
    pub(crate) documents: u64,
    pub(crate) chunks: u64,
    pub(crate) quarantined: u64,
}

impl Column for State {
    const NAME: &'static str = "state";
    type Key<'a> = ();
    type Value = StoreState;

    fn key((): ()) -> Vec<u8> {
        Self::NAME.as_bytes().to_vec()
    }

    fn encode(value: &StoreState) -> Vec<u8> {
        let StoreState {
            commit_seq,
            next_segment,
            lost_commits,
            documents,
            chunks,
            quarantined,
        } = *value;
        let row = row().u64(commit_seq).u64(next_segment).u64(lost_commits);
        row.u64(documents).u64(chunks).u64(quarantined).finish()
    }

    fn decode(bytes: &[u8]) -> Option<StoreState> {
        let mut row = open_row(bytes)?;
        let value = StoreState {
            commit_seq: row.u64()?,
            next_segment: row.u64()?,
            lost_commits: row.u64()?,
            documents: row.u64()?,
            chunks: row.u64()?,
            quarantined: row.u64()?,
        };
        row.end(value)
    }
}
