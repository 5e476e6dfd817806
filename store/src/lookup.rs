//! Finding blobs: a lookup gives a reader or a miss, and a blob that was found bad is quarantined.

use std::io;
use std::sync::Arc;

use crate::blob::BlobKey;
use crate::error::StoreError;
use crate::meta::{BlobState, Blobs, Change, Durability, SegmentTable};
use crate::segment::{BlobReader, Location, OpenRecord, open_record};
use crate::stats::MissKind;
use crate::store::Store;

impl Store {
    /// Whether the metadata names a blob that `open_blob` would try to read. Counts nothing.
    pub fn contains_blob(&self, key: &BlobKey) -> Result<bool, StoreError> {
        Ok(self.find(key)?.is_ok())
    }

    /// Opens the blob of `key` if it exists, is readable, and was made from exactly these tokens.
    /// Everything else is a miss, `None`, counted by kind in `stats`; a bad blob is quarantined.
    pub fn open_blob(
        &self,
        key: &BlobKey,
        token_ids: &[u32],
    ) -> Result<Option<BlobReader>, StoreError> {
        match self.try_open(key, token_ids) {
            Ok(reader) => {
                self.counters.hit();
                Ok(Some(reader))
            }
            Err(kind) => {
                self.counters.miss(kind);
                Ok(None)
            }
        }
    }

    fn try_open(&self, key: &BlobKey, token_ids: &[u32]) -> Result<BlobReader, MissKind> {
        let found = self.find(key).map_err(|error| {
            tracing::warn!(%key, %error, "metadata of a blob cannot be read");
            MissKind::of_error(&error).unwrap_or(MissKind::Io)
        })?;
        let location = found?;
        let record = self.open_at(key, location).map_err(|error| {
            let kind = MissKind::of_error(&error).unwrap_or(MissKind::Corrupt);
            self.set_aside(key, &location, kind, &error)
        })?;
        if record.token_ids() != token_ids {
            return Err(MissKind::IdsDiffer);
        }
        let (reads, counters) = (Arc::clone(&self.reads), Arc::clone(&self.counters));
        Ok(BlobReader::new(record, reads, counters))
    }

    /// Where the blob is, or why a lookup of it misses.
    fn find(&self, key: &BlobKey) -> Result<Result<Location, MissKind>, StoreError> {
        let absent = if self.foreign.is_some() {
            MissKind::Foreign
        } else {
            MissKind::Absent
        };
        let location = match self.meta.get::<Blobs>(key)?.map(|row| row.state) {
            Some(BlobState::Live(location)) => location,
            Some(BlobState::Quarantined(..)) => return Ok(Err(MissKind::Quarantined)),
            Some(BlobState::Absent) | None => return Ok(Err(absent)),
        };
        let segment = self.meta.get::<SegmentTable>(location.segment)?;
        let ours = segment.is_some_and(|row| row.fingerprint == self.identity.fingerprint);
        Ok(if ours {
            Ok(location)
        } else {
            Err(MissKind::Foreign)
        })
    }

    /// Opens the record at `location`. A missing file counts as corruption: the metadata names it.
    pub(crate) fn open_at(
        &self,
        key: &BlobKey,
        location: Location,
    ) -> Result<OpenRecord, StoreError> {
        let file = self.segments.get(location.segment).map_err(|source| {
            let path = self.segments.path(location.segment);
            match source.kind() {
                io::ErrorKind::NotFound => {
                    StoreError::corrupt(&path, location.offset, "the segment file is missing")
                }
                _ => StoreError::Io { path, source },
            }
        })?;
        open_record(self.segments.disk(), file, *key, location)
    }

    /// Quarantines a blob that was just found bad, and returns the kind of miss to count. A blob that
    /// was removed or replaced while it was being opened counts as absent. After an IO error the blob
    /// is kept: the device may deliver it next time.
    fn set_aside(
        &self,
        key: &BlobKey,
        location: &Location,
        kind: MissKind,
        error: &StoreError,
    ) -> MissKind {
        tracing::warn!(%key, %error, "a blob cannot be read");
        if kind != MissKind::Corrupt {
            return kind;
        }
        match self.quarantine_at(key, location, &error.to_string()) {
            Ok(true) => MissKind::Corrupt,
            Ok(false) => MissKind::Absent,
            Err(error) => {
                tracing::warn!(%key, %error, "a bad blob cannot be quarantined");
                MissKind::Corrupt
            }
        }
    }

    /// Sets the blob that `blob` reads aside as bad: lookups miss until a later commit of its key
    /// replaces it. `false` if it has been removed or replaced since it was opened; a new blob under
    /// the same key is not affected.
    pub fn quarantine(&self, blob: &BlobReader, why: &str) -> Result<bool, StoreError> {
        self.quarantine_at(&blob.key(), blob.location(), why)
    }

    /// [`Store::quarantine`] of the blob at `location`. This also works in a read-only store, as long
    /// as RocksDB accepts writes.
    pub(crate) fn quarantine_at(
        &self,
        key: &BlobKey,
        location: &Location,
        why: &str,
    ) -> Result<bool, StoreError> {
        let mut writer = self.lock_writer()?;
        let mut change = Change::new(&self.meta, &writer.catalog);
        let done = change.quarantine(key, location, why)?;
        if done {
            // Not synced: after a crash the blob would be found bad again.
            writer.catalog = change.write(Durability::Buffered)?;
        }
        Ok(done)
    }
}
