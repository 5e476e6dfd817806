//! Frees the space of segments without a live blob. Nothing is moved and no file is truncated: a dead
//! segment is unlinked, and readers that have it open keep their descriptor.

use rocksdb::WriteBatch;

use crate::error::StoreError;
use crate::meta::{Catalog, Durability, SegmentTable};
use crate::store::{Store, Writer};

impl Store {
    /// Unlinks dead segments, after a commit. A failure costs space, not data, so it is only logged.
    pub(crate) fn reclaim(&self, writer: &mut Writer) {
        let dead = self.dead_segments(writer);
        if dead.is_empty() {
            return;
        }
        match self.unlink_segments(&dead, &writer.catalog) {
            Ok(()) => {
                writer.catalog.segments.retain(|id, _| !dead.contains(id));
                writer.files.uncommitted().retain(|id| !dead.contains(id));
            }
            Err(error) => tracing::warn!(%error, "dead segments cannot be removed now"),
        }
    }

    /// Sealed segments without a live blob and without a blob that waits for its commit. A segment
    /// that no commit has reached, because its document failed or was cancelled, has no row.
    fn dead_segments(&self, writer: &mut Writer) -> Vec<u64> {
        let active = writer.files.active_id();
        let rows = &writer.catalog.segments;
        let uncommitted = writer.files.uncommitted();
        uncommitted.retain(|id| !rows.contains_key(id));
        let without_live = rows.iter().filter(|(_, row)| row.live_blobs == 0);
        let candidates = without_live.map(|(id, _)| id).chain(&*uncommitted);
        let dead = candidates.filter(|id| Some(**id) != active && !self.segments.is_pinned(**id));
        dead.copied().collect()
    }

    /// Rows first: a crash in between leaves a file without a row, which the next open removes.
    fn unlink_segments(&self, ids: &[u64], catalog: &Catalog) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for id in ids.iter().filter(|id| catalog.segments.contains_key(id)) {
            self.meta.delete::<SegmentTable>(&mut batch, *id);
        }
        if !batch.is_empty() {
            self.meta.write(batch, Durability::Synced)?;
        }
        for id in ids {
            let path = self.segments.path(*id);
            self.segments.unlink(*id).map_err(StoreError::io(&path))?;
        }
        Ok(())
    }
}
