//! Reads everything that the metadata names and checks every byte of it.

use serde::Serialize;

use crate::blob::BlobKey;
use crate::error::StoreError;
use crate::meta::{BlobState, Blobs};
use crate::segment::{Location, check_record, check_structure};
use crate::store::Store;

/// Passed to the caller of `Store::verify` after each blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyProgress {
    pub key: BlobKey,
    /// Blobs checked so far, this one included.
    pub checked: u64,
    /// Blobs to check in all.
    pub total: u64,
    /// Bytes of this blob's record.
    pub record_bytes: u64,
    pub is_good: bool,
}

/// What `Store::verify` found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Blobs read.
    pub blobs: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Blobs that are bad; they are quarantined now.
    pub bad: Vec<BadBlob>,
    /// Damage to segments outside live records, for example in a segment header. No blob is lost.
    pub damaged_segments: Vec<String>,
}

impl VerifyReport {
    /// Whether every byte is as it was written.
    pub fn is_clean(&self) -> bool {
        self.bad.is_empty() && self.damaged_segments.is_empty()
    }
}

/// A blob that failed verification, now or earlier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadBlob {
    /// The blob's key, in hex.
    pub key: String,
    pub what: String,
}

impl Store {
    /// Reads and checks every blob, of any identity, and the structure of every segment. Bad blobs
    /// are quarantined and listed, together with those quarantined earlier. Counts no hit or miss.
    ///
    /// Errors: `Metadata` or `Corrupt` when the metadata itself cannot be read.
    pub fn verify(
        &self,
        mut on_blob: impl FnMut(VerifyProgress),
    ) -> Result<VerifyReport, StoreError> {
        let mut report = VerifyReport::default();
        let blobs = self.located_blobs(&mut report)?;
        let total = blobs.len() as u64;
        for (checked, (key, location)) in (1..).zip(blobs) {
            let record_bytes = location.layout().map_or(0, |layout| layout.record_bytes());
            let is_good = self.verify_blob(&key, &location, &mut report);
            report.blobs += 1;
            report.bytes += record_bytes;
            on_blob(VerifyProgress {
                key,
                checked,
                total,
                record_bytes,
                is_good,
            });
        }
        report.damaged_segments = self.damaged_segments()?;
        Ok(report)
    }

    /// The blobs to read. Those already in quarantine go straight into the report.
    fn located_blobs(
        &self,
        report: &mut VerifyReport,
    ) -> Result<Vec<(BlobKey, Location)>, StoreError> {
        let mut live = Vec::new();
        for row in self.meta.rows_from::<Blobs>(&[]) {
            let (key, row) = row?;
            let wrong_len =
                |_| StoreError::corrupt(self.meta.path(), 0, "a blob key has the wrong length");
            let key = BlobKey(<[u8; 32]>::try_from(&*key).map_err(wrong_len)?);
            match row.state {
                BlobState::Absent => {}
                BlobState::Live(location) => live.push((key, location)),
                BlobState::Quarantined(_, what) => {
                    report.bad.push(BadBlob {
                        key: key.to_string(),
                        what,
                    });
                }
            }
        }
        Ok(live)
    }

    fn verify_blob(&self, key: &BlobKey, location: &Location, report: &mut VerifyReport) -> bool {
        let checked = self
            .open_at(key, *location)
            .and_then(|record| check_record(&record));
        let Err(error) = checked else { return true };
        let what = error.to_string();
        match self.quarantine_at(key, location, &what) {
            // Removed or replaced since the list was made: there is nothing to report.
            Ok(false) => return true,
            Ok(true) => tracing::warn!(%key, %error, "a blob is bad"),
            Err(error) => tracing::warn!(%key, %error, "a bad blob cannot be quarantined"),
        }
        report.bad.push(BadBlob {
            key: key.to_string(),
            what,
        });
        false
    }

    fn damaged_segments(&self) -> Result<Vec<String>, StoreError> {
        let rows = self.lock_writer()?.catalog.segments.clone();
        let damaged = rows.iter().filter_map(|(id, row)| {
            let path = self.segments.path(*id);
            let file = self.segments.get(*id).map_err(StoreError::io(&path));
            let checked = file
                .and_then(|file| check_structure(self.segments.disk(), &file, row.committed_end));
            checked.err()
        });
        Ok(damaged.map(|error| error.to_string()).collect())
    }
}
