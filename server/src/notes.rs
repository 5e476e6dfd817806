//! Notes on a chunk: what selection policies need to know about it before its KV is opened. They are made with the KV
//! at ingest, kept in the chunk's record, and opaque to the store. They only affect which tokens are recomputed; an
//! answer without readable notes is equally correct.
//!
//! Bytes: version (1), then each anchor as a little-endian `u32`, ascending.

use ragweave_engine::ChunkKv;
use ragweave_store::MAX_NOTES_BYTES;

const VERSION: u8 = 1;
const ANCHOR_BYTES: usize = 4;
/// Number of anchors that fit the notes of one chunk.
const MAX_ANCHORS: usize = (MAX_NOTES_BYTES - 1) / ANCHOR_BYTES;

/// Statistics of one chunk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChunkNotes {
    /// Offsets in the chunk of the tokens that its later tokens attend to most; ascending, each below the chunk's length.
    pub anchors: Vec<u32>,
}

impl ChunkNotes {
    /// The bytes for the chunk's record. Anchors beyond the first 1023 do not fit and are left out.
    pub fn encode(&self) -> Vec<u8> {
        let anchors = self.anchors.iter().take(MAX_ANCHORS);
        std::iter::once(VERSION)
            .chain(anchors.flat_map(|anchor| anchor.to_le_bytes()))
            .collect()
    }

    /// Reads the notes of a chunk of `n_tokens`. `None` if there are none, or none that this build can read.
    pub fn decode(bytes: &[u8], n_tokens: usize) -> Option<Self> {
        let (&VERSION, rest) = bytes.split_first()? else {
            return None;
        };
        let (words, rest) = rest.as_chunks::<ANCHOR_BYTES>();
        let anchors: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let is_ascending = anchors.is_sorted_by(|a, b| a < b);
        let is_inside = anchors
            .last()
            .is_none_or(|last| (*last as usize) < n_tokens);
        (rest.is_empty() && is_ascending && is_inside).then_some(Self { anchors })
    }
}

/// The notes on a chunk when its KV is made, as bytes for its record.
pub(crate) fn notes_of(kv: &ChunkKv) -> Vec<u8> {
    let anchors = kv.anchors.clone();
    ChunkNotes { anchors }.encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(anchors: &[u32]) -> ChunkNotes {
        ChunkNotes {
            anchors: anchors.to_vec(),
        }
    }

    #[test]
    fn notes_are_read_back() {
        for anchors in [&[][..], &[0], &[3, 70_000, 70_001]] {
            let written = notes(anchors).encode();
            assert_eq!(ChunkNotes::decode(&written, 70_002), Some(notes(anchors)));
        }
        assert_eq!(notes(&[1, 258]).encode(), [1, 1, 0, 0, 0, 2, 1, 0, 0]);
    }

    #[test]
    fn malformed_notes_are_none() {
        let good = notes(&[2, 5]).encode();
        assert!(ChunkNotes::decode(&good, 6).is_some());
        assert_eq!(
            ChunkNotes::decode(&good, 5),
            None,
            "an anchor beyond the end"
        );
        assert_eq!(ChunkNotes::decode(&[], 6), None);
        assert_eq!(ChunkNotes::decode(&good[..8], 6), None, "cut");
        assert_eq!(ChunkNotes::decode(&[2, 2, 0, 0, 0], 6), None, "version");
        assert_eq!(ChunkNotes::decode(&notes(&[5, 2]).encode(), 6), None);
        assert_eq!(ChunkNotes::decode(&notes(&[2, 2]).encode(), 6), None);
    }

    #[test]
    fn more_anchors_than_fit_are_left_out() {
        let many = notes(&(0..5000).collect::<Vec<_>>()).encode();
        assert!(many.len() <= MAX_NOTES_BYTES);
        let kept = ChunkNotes::decode(&many, 5000).unwrap().anchors;
        assert_eq!((kept.len(), kept.last()), (1023, Some(&1022)));
    }
}
