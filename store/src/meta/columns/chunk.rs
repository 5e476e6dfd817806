//! The rows of chunks. Version 2 added notes and the ids before the chunk when its blob was made.
//! Rows of version 1 are read as having neither, and become version 2 when their document is
//! committed again.

use super::super::codec::{Decoder, Encoder};
use super::Column;
use crate::blob::BlobKey;

/// Version that is written.
const CHUNK_ROW_VERSION: u8 = 2;
/// Version without conditioning ids and notes, which is still read.
const FIRST_VERSION: u8 = 1;

/// (document id, position) -> chunk.
pub(crate) enum Chunks {}

/// Value of [`Chunks`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRow {
    pub(crate) start_byte: u64,
    pub(crate) end_byte: u64,
    pub(crate) key: BlobKey,
    pub(crate) token_ids: Vec<u32>,
    pub(crate) conditioning_ids: Vec<u32>,
    pub(crate) notes: Vec<u8>,
}

/// First bytes of the keys of all chunks of a document. They begin with the length of the id, so that
/// the chunks of `a` are not mixed with those of `ab`.
pub(crate) fn chunk_prefix(document_id: &str) -> Vec<u8> {
    // Lossless: ids are at most `MAX_DOCUMENT_ID_BYTES` long.
    let mut key = (document_id.len() as u32).to_be_bytes().to_vec();
    key.extend_from_slice(document_id.as_bytes());
    key
}

fn chunk_key(document_id: &str, position: u32) -> Vec<u8> {
    let mut key = chunk_prefix(document_id);
    key.extend_from_slice(&position.to_be_bytes());
    key
}

/// Document id and position of a chunk's or vector's key.
fn parse_chunk_key(key: &[u8]) -> Option<(String, u32)> {
    let (len, rest) = key.split_at_checked(4)?;
    let len = u32::from_be_bytes(len.try_into().ok()?) as usize;
    let (id, position) = rest.split_at_checked(len)?;
    let id = String::from_utf8(id.to_vec()).ok()?;
    Some((id, u32::from_be_bytes(position.try_into().ok()?)))
}

impl Column for Chunks {
    const NAME: &'static str = "chunks";
    type Key<'a> = (&'a str, u32);
    type Value = ChunkRow;

    fn key((document_id, position): (&str, u32)) -> Vec<u8> {
        chunk_key(document_id, position)
    }

    fn encode(value: &ChunkRow) -> Vec<u8> {
        let ChunkRow {
            start_byte,
            end_byte,
            key,
            token_ids,
            conditioning_ids,
            notes,
        } = value;
        Encoder::default()
            .u8(CHUNK_ROW_VERSION)
            .u64(*start_byte)
            .u64(*end_byte)
            .array(&key.0)
            .ids(token_ids)
            .ids(conditioning_ids)
            .bytes(notes)
            .finish()
    }

    fn decode(bytes: &[u8]) -> Option<ChunkRow> {
        let mut row = Decoder(bytes);
        let version = row.u8()?;
        let mut value = ChunkRow {
            start_byte: row.u64()?,
            end_byte: row.u64()?,
            key: BlobKey(row.array()?),
            token_ids: row.ids()?,
            conditioning_ids: Vec::new(),
            notes: Vec::new(),
        };
        match version {
            FIRST_VERSION => {}
            CHUNK_ROW_VERSION => {
                value.conditioning_ids = row.ids()?;
                value.notes = row.bytes()?;
            }
            _ => return None,
        }
        row.end(value)
    }
}

/// (document id, position) -> the chunk's vector, opaque.
pub(crate) enum Vectors {}

impl Vectors {
    /// Document id and position of a key.
    pub(crate) fn parse_key(key: &[u8]) -> Option<(String, u32)> {
        parse_chunk_key(key)
    }
}

impl Column for Vectors {
    const NAME: &'static str = "vectors";
    type Key<'a> = (&'a str, u32);
    type Value = Vec<u8>;

    fn key((document_id, position): (&str, u32)) -> Vec<u8> {
        chunk_key(document_id, position)
    }

    fn encode(vector: &Vec<u8>) -> Vec<u8> {
        vector.clone()
    }

    fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
        Some(bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = include_str!("../../../README.md");

    fn row() -> ChunkRow {
        ChunkRow {
            start_byte: 0x0102,
            end_byte: 0x0304,
            key: BlobKey([5; 32]),
            token_ids: vec![6, 7],
            conditioning_ids: vec![8],
            notes: vec![9, 10, 11],
        }
    }

    /// Offset, size and name of each field, from the table under "Chunk row".
    fn documented_fields() -> Vec<(usize, usize, &'static str)> {
        let section = README.split("\n### Chunk row\n").nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| "));
        let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
        let number = |text: &str| text.parse::<usize>().ok();
        cells
            .filter_map(|row| Some((number(row[1])?, number(row[2])?, row[3].trim_matches('`'))))
            .collect()
    }

    #[test]
    fn the_readme_gives_every_byte_of_a_row() {
        let encoded = Chunks::encode(&row());
        let expected: [(&str, &[u8]); 10] = [
            ("version", &[CHUNK_ROW_VERSION]),
            ("start_byte", &0x0102u64.to_le_bytes()),
            ("end_byte", &0x0304u64.to_le_bytes()),
            ("key", &[5; 32]),
            ("n_tokens", &2u64.to_le_bytes()),
            ("token ids", &[6, 0, 0, 0, 7, 0, 0, 0]),
            ("n_conditioning", &1u64.to_le_bytes()),
            ("conditioning ids", &[8, 0, 0, 0]),
            ("notes_bytes", &3u64.to_le_bytes()),
            ("notes", &[9, 10, 11]),
        ];
        let fields = documented_fields();
        let names: Vec<_> = fields.iter().map(|(_, _, name)| *name).collect();
        assert_eq!(names, expected.map(|(name, _)| name));
        let mut end = 0;
        for ((offset, size, name), (_, bytes)) in fields.into_iter().zip(expected) {
            assert_eq!(offset, end, "{name} does not follow the field before it");
            end += size;
            assert_eq!(&encoded[offset..end], bytes, "{name}");
        }
        assert_eq!(end, encoded.len());
        assert_eq!(Chunks::decode(&encoded), Some(row()));
    }

    #[test]
    fn a_row_of_version_1_has_neither_conditioning_nor_notes() {
        let mut old = Chunks::encode(&row());
        old[0] = FIRST_VERSION;
        old.truncate(65); // the table of the README up to the token ids
        let expected = ChunkRow {
            conditioning_ids: Vec::new(),
            notes: Vec::new(),
            ..row()
        };
        assert_eq!(Chunks::decode(&old), Some(expected));
        old.push(0);
        assert_eq!(Chunks::decode(&old), None, "a byte too many");
    }

    #[test]
    fn a_damaged_row_is_not_read() {
        let encoded = Chunks::encode(&row());
        for len in 0..encoded.len() {
            assert_eq!(Chunks::decode(&encoded[..len]), None, "cut to {len} bytes");
        }
        for version in [0, CHUNK_ROW_VERSION + 1, u8::MAX] {
            let mut other = encoded.clone();
            other[0] = version;
            assert_eq!(Chunks::decode(&other), None, "version {version}");
        }
        // Lengths of token ids, conditioning ids and notes that the row cannot hold.
        for length_at in [49, 65, 77] {
            for huge in [u64::MAX, 1 << 62, 4] {
                let mut other = encoded.clone();
                other[length_at..length_at + 8].copy_from_slice(&huge.to_le_bytes());
                assert_eq!(Chunks::decode(&other), None, "{huge} at {length_at}");
            }
        }
    }
}
