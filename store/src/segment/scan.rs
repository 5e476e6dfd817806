//! Walks through the record heads of a segment without reading blocks, to find commits that the
//! metadata lacks and to check the structure of a segment.

use super::file::SegmentFile;
use super::format::{CommitMark, FixedHead, PAGE_BYTES, Page, RecordLayout, SegmentHeader};
use super::reader::read_at;
use crate::disk::DynDisk;
use crate::error::StoreError;

/// The mark with the highest commit in `file` at or after byte `from`. The walk ends at the first
/// page that is neither a record nor a mark: a crash may leave torn bytes there.
pub(crate) fn newest_mark(
    disk: &DynDisk,
    file: &SegmentFile,
    from: u64,
) -> Result<Option<CommitMark>, StoreError> {
    let len = file
        .file
        .metadata()
        .map_err(StoreError::io(&file.path))?
        .len();
    let mut newest: Option<CommitMark> = None;
    let mut offset = from.max(PAGE_BYTES);
    while offset + PAGE_BYTES <= len {
        match read_entry(disk, file, offset)? {
            Some(Entry::Record { bytes }) => offset += bytes,
            Some(Entry::Mark(mark)) => {
                newest = newest
                    .into_iter()
                    .chain([mark])
                    .max_by_key(|mark| mark.commit_seq);
                offset += PAGE_BYTES;
            }
            None => break,
        }
    }
    Ok(newest)
}

/// Checks the segment header, and that records and marks follow each other without a gap up to
/// byte `committed_end`.
pub(crate) fn check_structure(
    disk: &DynDisk,
    file: &SegmentFile,
    committed_end: u64,
) -> Result<(), StoreError> {
    let mut page: Page = [0; PAGE_BYTES as usize];
    read_at(disk, file, &mut page, 0)?;
    let header =
        SegmentHeader::decode(&page).map_err(|what| StoreError::corrupt(&file.path, 0, what))?;
    if header.segment != file.id {
        return Err(StoreError::corrupt(
            &file.path,
            0,
            "the file belongs to another segment",
        ));
    }
    let mut offset = PAGE_BYTES;
    while offset < committed_end {
        match read_entry(disk, file, offset)? {
            Some(Entry::Record { bytes }) => offset += bytes,
            Some(Entry::Mark(_)) => offset += PAGE_BYTES,
            None => {
                return Err(StoreError::corrupt(
                    &file.path,
                    offset,
                    "neither a record nor a mark begins here",
                ));
            }
        }
    }
    Ok(())
}

enum Entry {
    Record { bytes: u64 },
    Mark(CommitMark),
}

/// What begins at `offset`; `None` if nothing valid was written there.
fn read_entry(
    disk: &DynDisk,
    file: &SegmentFile,
    offset: u64,
) -> Result<Option<Entry>, StoreError> {
    let mut page: Page = [0; PAGE_BYTES as usize];
    read_at(disk, file, &mut page, offset)?;
    if let Some(mark) = CommitMark::decode(&page) {
        let in_place = (mark.segment, mark.offset) == (file.id, offset);
        return Ok(in_place.then_some(Entry::Mark(mark)));
    }
    let record = FixedHead::decode(&page).filter(|head| {
        (head.place.segment, head.place.offset) == (file.id, offset)
            && RecordLayout::new(head.geometry).map(|layout| layout.record_bytes())
                == Some(head.record_bytes)
    });
    Ok(record.map(|head| Entry::Record {
        bytes: head.record_bytes,
    }))
}
