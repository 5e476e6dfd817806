//! `README.md` documents the format to the byte; here its tables are compared with the code.

use std::collections::BTreeMap;

use ragweave_store::format::*;
use ragweave_store::{BlobGeometry, BlobKey, MAX_NOTES_BYTES, REQUIREMENTS, STORE_VERSION};

const README: &str = include_str!("../../README.md");

/// Rows of the table under the heading `title`, as cells without backquotes.
fn table(title: &str) -> Vec<Vec<String>> {
    let section = README
        .split(&format!("\n### {title}\n"))
        .nth(1)
        .expect(title);
    let section = section.split("\n#").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('`', "")).collect()
    })
    .collect()
}

#[test]
fn constants_are_those_of_the_code() {
    let text = |magic: [u8; 8]| String::from_utf8(magic.to_vec()).unwrap();
    let expected = BTreeMap::from([
        ("STORE_VERSION", STORE_VERSION.to_string()),
        ("SEGMENT_VERSION", SEGMENT_VERSION.to_string()),
        ("PAGE_BYTES", PAGE_BYTES.to_string()),
        ("PAGE_CRC_OFFSET", PAGE_CRC_OFFSET.to_string()),
        ("RECORD_FIXED_BYTES", RECORD_FIXED_BYTES.to_string()),
        ("HEAD_CRC_OFFSET", HEAD_CRC_OFFSET.to_string()),
        ("LAYER_CRC_BYTES", LAYER_CRC_BYTES.to_string()),
        ("MAX_LAYERS", MAX_LAYERS.to_string()),
        ("MAX_BLOB_TOKENS", MAX_BLOB_TOKENS.to_string()),
        ("MAX_BLOCK_BYTES", MAX_BLOCK_BYTES.to_string()),
        ("MAX_NOTES_BYTES", MAX_NOTES_BYTES.to_string()),
        ("SEGMENT_MAGIC", text(SEGMENT_MAGIC)),
        ("RECORD_MAGIC", text(RECORD_MAGIC)),
        ("FOOTER_MAGIC", text(FOOTER_MAGIC)),
        ("MARK_MAGIC", text(MARK_MAGIC)),
    ]);
    let documented = table("Constants");
    let documented: BTreeMap<_, _> = documented
        .iter()
        .map(|row| (row[0].as_str(), row[1].clone()))
        .collect();
    assert_eq!(documented, expected);
}

/// Compares a layout table (offset, size, field) with encoded bytes: each field of `expected` must
/// be found where the table says, and every other byte outside of the table must be zero.
fn check_layout(title: &str, encoded: &[u8], expected: &[(&str, Vec<u8>)]) {
    let mut rest = encoded.to_vec();
    let rows = table(title);
    let fields: Vec<_> = rows.iter().map(|row| row[2].as_str()).collect();
    assert_eq!(
        fields,
        expected.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        "{title}"
    );
    for (row, (name, bytes)) in rows.iter().zip(expected) {
        let (offset, size): (usize, usize) = (row[0].parse().unwrap(), row[1].parse().unwrap());
        assert_eq!(
            &encoded[offset..offset + size],
            &bytes[..],
            "{title}: {name}"
        );
        rest[offset..offset + size].fill(0);
    }
    assert!(
        rest.iter().all(|byte| *byte == 0),
        "{title} leaves bytes undocumented"
    );
}

fn le32(value: u32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

fn le64(value: u64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

fn page_crc(page: &Page) -> Vec<u8> {
    le32(crc32c::crc32c(&page[..PAGE_CRC_OFFSET]))
}

#[test]
fn record_layout_is_that_of_the_code() {
    let geometry = BlobGeometry {
        n_layers: 1,
        n_tokens: 2,
        k_block_bytes: 3,
        v_block_bytes: 4,
        dtype: 5,
    };
    let layout = RecordLayout::new(geometry).unwrap();
    let place = RecordPlace {
        segment: 6,
        offset: 7 << 12,
        key: BlobKey([8; 32]),
    };
    let (head, crc) = encode_head(&place, &geometry, &layout, &[9, 10], &[[11, 12]]);
    check_layout(
        "Record head",
        &head,
        &[
            ("magic", RECORD_MAGIC.to_vec()),
            ("version", le32(1)),
            ("dtype", vec![5]),
            ("more_contexts", vec![0]),
            ("kernel_precision", vec![0]),
            ("n_layers", le32(1)),
            ("n_tokens", le32(2)),
            ("k_block_bytes", le32(3)),
            ("v_block_bytes", le32(4)),
            ("key", vec![8; 32]),
            ("offset", le64(7 << 12)),
            ("record_bytes", le64(4 * PAGE_BYTES)),
            ("segment", le64(6)),
            ("head_crc", le32(crc)),
            ("tenant", le32(0)),
            ("token ids", [le32(9), le32(10)].concat()),
            ("block checksums", [le32(11), le32(12)].concat()),
        ],
    );
    let footer = encode_footer(&place, layout.record_bytes(), crc);
    check_layout(
        "Record footer",
        &footer,
        &[
            ("magic", FOOTER_MAGIC.to_vec()),
            ("key", vec![8; 32]),
            ("offset", le64(7 << 12)),
            ("record_bytes", le64(4 * PAGE_BYTES)),
            ("segment", le64(6)),
            ("head_crc", le32(crc)),
            ("crc", page_crc(&footer)),
        ],
    );
}

/// The fields that a later version may fill are where the README says, and no other value is read.
#[test]
fn a_record_that_uses_the_room_of_its_head_is_refused_by_name() {
    let geometry = BlobGeometry {
        n_layers: 1,
        n_tokens: 1,
        k_block_bytes: 1,
        v_block_bytes: 1,
        dtype: 1,
    };
    let layout = RecordLayout::new(geometry).unwrap();
    let place = RecordPlace {
        segment: 1,
        offset: 4096,
        key: BlobKey([1; 32]),
    };
    let (today, crc) = encode_head(&place, &geometry, &layout, &[2], &[[3, 4]]);
    assert!(decode_head(&today, &place, &geometry, &layout, crc).is_ok());
    let rows = table("Record head");
    for room in HEAD_ROOM {
        let row = rows
            .iter()
            .find(|row| row[2] == room.name)
            .expect(room.name);
        let (at, size) = (room.at.to_string(), room.size.to_string());
        assert_eq!(row[..2], [at, size]);
        let mut later = today.clone();
        later[room.at + room.size - 1] = 1;
        later[HEAD_CRC_OFFSET..HEAD_CRC_OFFSET + 4].fill(0);
        let crc = crc32c::crc32c(&later);
        later[HEAD_CRC_OFFSET..HEAD_CRC_OFFSET + 4].copy_from_slice(&le32(crc));
        let refused = decode_head(&later, &place, &geometry, &layout, crc);
        assert_eq!(refused, Err(room.refusal));
        assert!(room.refusal.contains(room.name));
    }
}

#[test]
fn the_marker_is_documented_line_by_line() {
    let documented = table("Marker");
    let documented: Vec<(&str, &str)> = documented
        .iter()
        .map(|row| (row[0].as_str(), row[1].as_str()))
        .collect();
    assert_eq!(documented, REQUIREMENTS);
}

#[test]
fn page_layouts_are_those_of_the_code() {
    let header = SegmentHeader {
        segment: 1,
        commit_seq: 2,
        fingerprint: [3; 32],
    };
    let page = header.encode();
    assert_eq!(SegmentHeader::decode(&page), Ok(header));
    check_layout(
        "Segment header",
        &page,
        &[
            ("magic", SEGMENT_MAGIC.to_vec()),
            ("version", le32(1)),
            ("page_bytes", le32(4096)),
            ("segment", le64(1)),
            ("commit_seq", le64(2)),
            ("fingerprint", vec![3; 32]),
            ("crc", page_crc(&page)),
        ],
    );
    let mark = CommitMark {
        segment: 4,
        offset: 5 << 12,
        commit_seq: 6,
        acknowledged_seq: 7,
    };
    let page = mark.encode();
    assert_eq!(CommitMark::decode(&page), Some(mark));
    check_layout(
        "Commit mark",
        &page,
        &[
            ("magic", MARK_MAGIC.to_vec()),
            ("segment", le64(4)),
            ("offset", le64(5 << 12)),
            ("commit_seq", le64(6)),
            ("acknowledged_seq", le64(7)),
            ("crc", page_crc(&page)),
        ],
    );
}

#[test]
fn block_checksum_covers_place_and_bytes() {
    let base = || block_crc(&BlobKey([1; 32]), 4096, 2, BlockKind::K, b"bytes");
    for other in [
        block_crc(&BlobKey([2; 32]), 4096, 2, BlockKind::K, b"bytes"),
        block_crc(&BlobKey([1; 32]), 8192, 2, BlockKind::K, b"bytes"),
        block_crc(&BlobKey([1; 32]), 4096, 3, BlockKind::K, b"bytes"),
        block_crc(&BlobKey([1; 32]), 4096, 2, BlockKind::V, b"bytes"),
        block_crc(&BlobKey([1; 32]), 4096, 2, BlockKind::K, b"bytez"),
    ] {
        assert_ne!(other, base());
    }
    let mut covered = vec![1; 32];
    covered.extend([le64(4096), le32(2), vec![0, 0, 0, 0], b"bytes".to_vec()].concat());
    assert_eq!(base(), crc32c::crc32c(&covered), "as the README writes it");
}
