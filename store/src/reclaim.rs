//! Gives back the space of segments in which no blob is live. Nothing is moved and no file is cut:
//! a dead segment is unlinked, and whoever still reads from it keeps its descriptor.

use rocksdb::WriteBatch;

use crate::error::StoreError;
use crate::meta::{Durability, SegmentTable};
use crate::store::{Store, Writer};

impl Store {
    /// Unlinks dead segments. A failure costs space, not data, so it is only logged.
    pub(crate) fn reclaim(&self, writer: &mut Writer) {
        let active = writer.files.active_id();
        let is_dead = |id: u64, live_blobs: u64| {
            live_blobs == 0 && Some(id) != active && !self.segments.is_pinned(id)
        };
        let segments = &writer.catalog.segments;
        let rows = segments
            .iter()
            .filter(|(id, row)| is_dead(**id, row.live_blobs));
        let dead: Vec<u64> = rows.map(|(id, _)| *id).collect();
        if dead.is_empty() {
            return;
        }
        match self.unlink_segments(&dead) {
            Ok(()) => writer.catalog.segments.retain(|id, _| !dead.contains(id)),
            Err(error) => tracing::warn!(%error, "dead segments cannot be removed now"),
        }
    }

    /// Rows first: a crash in between leaves a file without a row, which the next open removes.
    fn unlink_segments(&self, ids: &[u64]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for id in ids {
            self.meta.delete::<SegmentTable>(&mut batch, *id);
        }
        self.meta.write(batch, Durability::Synced)?;
        for id in ids {
            let path = self.segments.path(*id);
            self.segments.unlink(*id).map_err(StoreError::io(&path))?;
        }
        Ok(())
    }
}
