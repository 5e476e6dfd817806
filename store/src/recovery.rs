//! Opening a store. Only the metadata is trusted. Whatever else is found is handled as follows:
//!
//! | found                                          | action                                       |
//! |------------------------------------------------|----------------------------------------------|
//! | bytes after the last commit of a segment       | dead; nothing is written after them          |
//! | segment file without a row or a live blob      | unlinked                                     |
//! | commit mark newer than the metadata            | its number is not used again                 |
//! | mark of commits that the metadata lacks        | logged, counted in `lost_commits`            |
//! | row whose file is missing or too short         | logged; its blobs miss when they are opened  |

use std::path::Path;
use std::sync::{Arc, Mutex};

use rocksdb::WriteBatch;

use crate::data_dir::{
    DirLock, DirState, META_DIR, SEGMENT_DIR, create_dirs, inspect_dir, not_a_store, stored_fields,
    write_marker,
};
use crate::disk::{Disk, DynDisk, OsDisk};
use crate::error::StoreError;
use crate::identity::Identity;
use crate::kv_io::KvIo;
use crate::meta::{Catalog, Durability, IdentityRow, Meta, SegmentTable, State, StoreState};
use crate::options::StoreOptions;
use crate::segment::format::CommitMark;
use crate::segment::{BlockReads, SegmentWriter, Segments, newest_mark};
use crate::stats::Counters;
use crate::store::{Store, Writer};

/// The settings of an open store, without its identity.
struct Settings {
    max_segment_bytes: u64,
    min_free_bytes: u64,
    kv_io: KvIo,
}

/// A locked directory with its metadata open.
struct Opened {
    lock: DirLock,
    meta: Meta,
    segments: Arc<Segments>,
}

impl Store {
    /// Opens the store in `dir`, or makes one if the options say so.
    ///
    /// Errors: `Locked` when another process has it, `NotAStore` when the directory is something else,
    /// `ForeignIdentity` when another model made it and `allow_foreign` is off,
    /// `UnsupportedVersion`, `UnsupportedRequirement`, `Metadata` when RocksDB cannot open its files, `Io`.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_on(dir, options, Arc::new(OsDisk))
    }

    /// [`Store::open`] with the caller's own file operations, for tests of failing disks.
    pub fn open_on(
        dir: &Path,
        options: StoreOptions,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, StoreError> {
        let StoreOptions {
            identity,
            create,
            allow_foreign,
            max_segment_bytes,
            min_free_bytes,
            kv_io,
        } = options;
        let state = inspect_dir(dir)?;
        let opened = match state {
            DirState::New if !create => return Err(not_a_store(dir)),
            DirState::New => create_store(dir, &identity, disk)?,
            DirState::Store(_) => open_existing(dir, disk)?,
        };
        let found = read_identity(dir, &opened.meta)?;
        let foreign = (found.fingerprint != identity.fingerprint).then_some(found);
        if let Some(found) = foreign.clone().filter(|_| !allow_foreign) {
            let (found, expected) = (Box::new(found), Box::new(identity));
            return Err(StoreError::ForeignIdentity { found, expected });
        }
        let settings = Settings {
            max_segment_bytes,
            min_free_bytes,
            kv_io,
        };
        recover(dir, opened, identity, foreign, &settings)
    }

    /// Opens an existing store with the identity it was made for.
    pub fn inspect(dir: &Path) -> Result<Self, StoreError> {
        if inspect_dir(dir)? == DirState::New {
            return Err(not_a_store(dir));
        }
        let opened = open_existing(dir, Arc::new(OsDisk))?;
        let identity = read_identity(dir, &opened.meta)?;
        let StoreOptions {
            identity,
            max_segment_bytes,
            min_free_bytes,
            kv_io,
            ..
        } = StoreOptions::new(identity);
        let settings = Settings {
            max_segment_bytes,
            min_free_bytes,
            kv_io,
        };
        recover(dir, opened, identity, None, &settings)
    }
}

fn open_existing(dir: &Path, disk: DynDisk) -> Result<Opened, StoreError> {
    let lock = DirLock::acquire(dir)?;
    let meta = Meta::open(dir.join(META_DIR), false)?;
    let segments = Arc::new(Segments::new(dir.join(SEGMENT_DIR), disk));
    Ok(Opened {
        lock,
        meta,
        segments,
    })
}

/// Makes a store, or completes one whose creation was interrupted: each step can be repeated, and
/// the marker is written last.
fn create_store(dir: &Path, identity: &Identity, disk: DynDisk) -> Result<Opened, StoreError> {
    let segment_dir = create_dirs(dir)?;
    let lock = DirLock::acquire(dir)?;
    let meta = Meta::open(dir.join(META_DIR), true)?;
    if meta.get::<IdentityRow>(())?.is_none() {
        let mut batch = WriteBatch::default();
        meta.put::<IdentityRow>(&mut batch, (), identity);
        meta.put::<State>(&mut batch, (), &StoreState::default());
        meta.write(batch, Durability::Synced)?;
    }
    write_marker(dir, &identity.fields, disk.as_ref())?;
    Ok(Opened {
        lock,
        meta,
        segments: Arc::new(Segments::new(segment_dir, disk)),
    })
}

fn read_identity(dir: &Path, meta: &Meta) -> Result<Identity, StoreError> {
    let missing = || StoreError::corrupt(&dir.join(META_DIR), 0, "the identity row is missing");
    let identity = meta.get::<IdentityRow>(())?.ok_or_else(missing)?;
    let fields = stored_fields(dir)?.unwrap_or_default();
    Ok(Identity { fields, ..identity })
}

fn recover(
    dir: &Path,
    opened: Opened,
    identity: Identity,
    foreign: Option<Identity>,
    settings: &Settings,
) -> Result<Store, StoreError> {
    let Opened {
        lock,
        meta,
        segments,
    } = opened;
    let mut catalog = read_catalog(&meta)?;
    let files = segments.list().map_err(StoreError::io(segments.dir()))?;
    let stored = catalog.state;
    catalog.state = later_state(&catalog, &segments, &files);
    let lost = catalog.state.lost_commits - stored.lost_commits;
    if lost > 0 {
        tracing::error!(
            lost,
            "the metadata has lost commits that had been acknowledged"
        );
    }
    let dead = dead_segments(&catalog, &files);
    catalog.segments.retain(|id, _| !dead.contains(id));
    if catalog.state != stored || !dead.is_empty() {
        // Before the files are unlinked, because the marks that show the loss are in them.
        write_state(&meta, &catalog.state, &dead)?;
    }
    unlink_dead(&segments, &dead);
    warn_of_short_files(&catalog, &segments);
    let Settings {
        max_segment_bytes,
        min_free_bytes,
        kv_io,
    } = *settings;
    let reads = BlockReads::new(kv_io, Arc::clone(segments.disk()));
    let next = catalog.state.next_segment;
    let files = SegmentWriter::new(
        Arc::clone(&segments),
        identity.fingerprint,
        max_segment_bytes,
        next,
    );
    Ok(Store {
        dir: dir.to_owned(),
        identity,
        foreign,
        min_free_bytes,
        meta,
        segments,
        reads: Arc::new(reads),
        counters: Arc::new(Counters::default()),
        writer: Mutex::new(Writer {
            files,
            catalog,
            read_only: None,
            space_refused: false,
        }),
        _lock: lock,
    })
}

fn read_catalog(meta: &Meta) -> Result<Catalog, StoreError> {
    let state = meta.get::<State>(())?.unwrap_or_default();
    let rows = meta.rows_from::<SegmentTable>(&[]).map(|row| {
        let (key, row) = row?;
        let bad_key = || StoreError::corrupt(meta.path(), 0, "a segment key has the wrong length");
        Ok((SegmentTable::parse_key(&key).ok_or_else(bad_key)?, row))
    });
    Ok(Catalog {
        state,
        segments: rows.collect::<Result<_, StoreError>>()?,
    })
}

/// The state to continue from. Segment ids and commit numbers found in the files are not used again,
/// and commits that a mark records as acknowledged but the metadata lacks are counted as lost.
fn later_state(catalog: &Catalog, segments: &Segments, files: &[u64]) -> StoreState {
    let mut state = catalog.state;
    let last_file = files.last().map_or(0, |id| id + 1);
    let last_row = catalog.segments.keys().last().map_or(0, |id| id + 1);
    state.next_segment = state.next_segment.max(last_file).max(last_row).max(1);
    let mut acknowledged = state.commit_seq;
    for id in files {
        let committed_end = catalog.segments.get(id).map_or(0, |row| row.committed_end);
        match find_mark(segments, *id, committed_end) {
            Ok(Some(mark)) => {
                acknowledged = acknowledged.max(mark.acknowledged_seq);
                state.commit_seq = state.commit_seq.max(mark.commit_seq);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a segment's tail cannot be read"),
        }
    }
    state.lost_commits += acknowledged - catalog.state.commit_seq;
    state
}

fn find_mark(segments: &Segments, id: u64, from: u64) -> Result<Option<CommitMark>, StoreError> {
    let file = segments
        .get(id)
        .map_err(StoreError::io(&segments.path(id)))?;
    newest_mark(segments.disk(), &file, from)
}

/// Files and rows without a live blob.
fn dead_segments(catalog: &Catalog, files: &[u64]) -> Vec<u64> {
    let is_live = |id: &u64| {
        catalog
            .segments
            .get(id)
            .is_some_and(|row| row.live_blobs > 0)
    };
    let mut dead: Vec<u64> = files
        .iter()
        .chain(catalog.segments.keys())
        .copied()
        .collect();
    dead.retain(|id| !is_live(id));
    dead.sort_unstable();
    dead.dedup();
    dead
}

fn write_state(meta: &Meta, state: &StoreState, dead: &[u64]) -> Result<(), StoreError> {
    let mut batch = WriteBatch::default();
    for id in dead {
        meta.delete::<SegmentTable>(&mut batch, *id);
    }
    meta.put::<State>(&mut batch, (), state);
    meta.write(batch, Durability::Synced)
}

fn unlink_dead(segments: &Segments, dead: &[u64]) {
    for id in dead {
        if let Err(error) = segments.unlink(*id) {
            tracing::warn!(%error, "a dead segment cannot be removed now");
        }
    }
}

/// The blobs in these files are not searched for here: each is a miss when it is opened.
fn warn_of_short_files(catalog: &Catalog, segments: &Segments) {
    for (id, row) in &catalog.segments {
        let len = fs_err::metadata(segments.path(*id)).map_or(0, |file| file.len());
        if len < row.committed_end {
            let (path, expected) = (segments.path(*id), row.committed_end);
            tracing::warn!(path = %path.display(), len, expected, "a segment is too short");
        }
    }
}
