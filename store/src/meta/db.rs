//! The RocksDB database: opened with named durability settings, read and written by column type.

use std::path::{Path, PathBuf};

use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBRecoveryMode, Direction, IteratorMode, LogLevel,
    Options, Snapshot, WriteBatch, WriteOptions,
};

use super::columns::{
    Blobs, Chunks, Column, Documents, IdentityRow, SegmentTable, State, Texts, Vectors,
};
use crate::error::StoreError;

const WRITE_BUFFER_BYTES: usize = 16 << 20;
const MAX_WAL_BYTES: u64 = 64 << 20;
const MAX_OPEN_TABLES: i32 = 256;
const KEPT_INFO_LOGS: usize = 4;

/// Every column family of a store.
const COLUMNS: [&str; 8] = [
    Documents::NAME,
    Texts::NAME,
    Chunks::NAME,
    Vectors::NAME,
    Blobs::NAME,
    SegmentTable::NAME,
    IdentityRow::NAME,
    State::NAME,
];

/// A key's bytes and the value.
pub(crate) type Row<C> = (Box<[u8]>, <C as Column>::Value);
/// A row as RocksDB's iterators give it.
type RawRow = Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>;

/// The open metadata database.
pub(crate) struct Meta {
    db: DB,
    path: PathBuf,
}

/// Whether a write returns before it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    Synced,
    /// For facts that may be lost because they will be found out again.
    Buffered,
}

impl Meta {
    /// Opens the database, or makes it if `create` is set. Errors: `Locked` when another process has
    /// it, `Metadata` when RocksDB refuses.
    pub(crate) fn open(path: PathBuf, create: bool) -> Result<Self, StoreError> {
        let columns = COLUMNS.map(|name| ColumnFamilyDescriptor::new(name, column_options()));
        match DB::open_cf_descriptors(&options(create), &path, columns) {
            Ok(db) => Ok(Self { db, path }),
            Err(error) if is_lock_error(&error) => Err(StoreError::Locked { path }),
            Err(source) => Err(StoreError::Metadata { source }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The value of `key`. Errors: `Corrupt` for a row this version did not write.
    pub(crate) fn get<C: Column>(&self, key: C::Key<'_>) -> Result<Option<C::Value>, StoreError> {
        let Some(bytes) = self.db.get_pinned_cf(self.column::<C>(), C::key(key))? else {
            return Ok(None);
        };
        Ok(Some(self.decode::<C>(&bytes)?))
    }

    /// Rows from `start` on in key order, with the bytes of their keys, as they are now.
    pub(crate) fn rows_from<C: Column>(
        &self,
        start: &[u8],
    ) -> impl Iterator<Item = Result<Row<C>, StoreError>> + use<'_, C> {
        let mode = IteratorMode::From(start, Direction::Forward);
        let rows = self.db.iterator_cf(self.column::<C>(), mode);
        rows.map(|row| self.decode_row::<C>(row))
    }

    /// The database as it is now, for reads that must agree with each other.
    pub(crate) fn view(&self) -> View<'_> {
        View {
            meta: self,
            snapshot: self.db.snapshot(),
        }
    }

    pub(crate) fn put<C: Column>(&self, batch: &mut WriteBatch, key: C::Key<'_>, value: &C::Value) {
        batch.put_cf(self.column::<C>(), C::key(key), C::encode(value));
    }

    pub(crate) fn delete<C: Column>(&self, batch: &mut WriteBatch, key: C::Key<'_>) {
        batch.delete_cf(self.column::<C>(), C::key(key));
    }

    /// Writes a batch, all of it or nothing.
    pub(crate) fn write(
        &self,
        batch: WriteBatch,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        Ok(self.db.write_opt(batch, &options)?)
    }

    fn decode_row<C: Column>(&self, row: RawRow) -> Result<Row<C>, StoreError> {
        let (key, value) = row?;
        Ok((key, self.decode::<C>(&value)?))
    }

    fn decode<C: Column>(&self, bytes: &[u8]) -> Result<C::Value, StoreError> {
        let what = || format!("a row of column family {} cannot be decoded", C::NAME);
        C::decode(bytes).ok_or_else(|| StoreError::corrupt(&self.path, 0, what()))
    }

    fn column<C: Column>(&self) -> &ColumnFamily {
        self.db
            .cf_handle(C::NAME)
            .expect("open() opens every column family of COLUMNS")
    }
}

/// The database as it was when the view was made, without later commits. RocksDB keeps overwritten
/// rows as long as the view exists, so make one per call and do not keep it.
pub(crate) struct View<'m> {
    meta: &'m Meta,
    snapshot: Snapshot<'m>,
}

impl<'m> View<'m> {
    /// The value of `key`. Errors: `Corrupt` for a row this version did not write.
    pub(crate) fn get<C: Column>(&self, key: C::Key<'_>) -> Result<Option<C::Value>, StoreError> {
        let column = self.meta.column::<C>();
        let Some(bytes) = self.snapshot.get_pinned_cf(column, C::key(key))? else {
            return Ok(None);
        };
        Ok(Some(self.meta.decode::<C>(&bytes)?))
    }

    /// Rows from `start` on in key order, with the key's bytes.
    pub(crate) fn rows_from<C: Column>(
        &self,
        start: &[u8],
    ) -> impl Iterator<Item = Result<Row<C>, StoreError>> + use<'_, 'm, C> {
        let mode = IteratorMode::From(start, Direction::Forward);
        let rows = self.snapshot.iterator_cf(self.meta.column::<C>(), mode);
        rows.map(|row| self.meta.decode_row::<C>(row))
    }

    /// Rows whose key begins with `prefix`, in key order.
    pub(crate) fn rows_with_prefix<C: Column>(
        &self,
        prefix: Vec<u8>,
    ) -> impl Iterator<Item = Result<Row<C>, StoreError>> + use<'_, 'm, C> {
        let rows = self.rows_from::<C>(&prefix);
        rows.take_while(move |row| {
            row.as_ref()
                .map_or(true, |(key, _)| key.starts_with(&prefix))
        })
    }
}

fn options(create: bool) -> Options {
    let mut options = column_options();
    options.create_if_missing(create);
    options.create_missing_column_families(create);
    options.set_paranoid_checks(true);
    // After a crash the log is replayed up to the first torn record. Every acknowledged commit was
    // synced, so only unacknowledged ones can be lost. If the device lost more, the commit marks in
    // the segments show it.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_max_total_wal_size(MAX_WAL_BYTES);
    options.set_max_open_files(MAX_OPEN_TABLES);
    options.set_keep_log_file_num(KEPT_INFO_LOGS);
    options.set_log_level(LogLevel::Warn);
    options
}

fn column_options() -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options
}

/// RocksDB reports its lock file only in the text of the error.
fn is_lock_error(error: &rocksdb::Error) -> bool {
    let message = error.to_string();
    message.contains("lock hold by current process") || message.contains("While lock file")
}
