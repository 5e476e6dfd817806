//! Disks that fail: one that lets a chosen operation fail, one that forgets what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use fs_err::os::unix::fs::FileExt as _;
use ragweave_store::{Disk, OsDisk};

/// Linux error numbers.
pub(crate) const EIO: i32 = 5;
pub(crate) const ENOSPC: i32 = 28;

/// Fails one operation that changes files, and all reads while asked to. A failing write writes half of
/// its bytes, as on a full disk.
pub(crate) struct FaultyDisk {
    errno: i32,
    /// Operations until the failure; negative if it has happened or is not planned.
    countdown: AtomicI64,
    pub(crate) free_bytes: AtomicU64,
    pub(crate) failing_reads: AtomicI64,
}

impl FaultyDisk {
    /// Fails operation number `nth`, counted from 0 at the time of this call.
    pub(crate) fn failing(nth: i64, errno: i32) -> Self {
        let (free_bytes, failing_reads) = (AtomicU64::new(u64::MAX), AtomicI64::new(0));
        Self {
            errno,
            countdown: AtomicI64::new(nth),
            free_bytes,
            failing_reads,
        }
    }

    pub(crate) fn sound() -> Self {
        Self::failing(-1, EIO)
    }

    /// Whether the failure has happened.
    pub(crate) fn has_failed(&self) -> bool {
        self.countdown.load(Ordering::SeqCst) < 0
    }

    fn step(&self) -> io::Result<()> {
        match self.countdown.fetch_sub(1, Ordering::SeqCst) {
            0 => Err(io::Error::from_raw_os_error(self.errno)),
            _ => Ok(()),
        }
    }
}

impl Disk for FaultyDisk {
    fn create_new(&self, path: &Path) -> io::Result<fs_err::File> {
        self.step()?;
        OsDisk.create_new(path)
    }

    fn write_at(&self, file: &fs_err::File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = self.step() {
            OsDisk.write_at(file, &bytes[..bytes.len() / 2], offset)?;
            return Err(error);
        }
        OsDisk.write_at(file, bytes, offset)
    }

    fn sync_data(&self, file: &fs_err::File) -> io::Result<()> {
        self.step()?;
        OsDisk.sync_data(file)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        OsDisk.sync_dir(path)
    }

    fn read_at(&self, file: &fs_err::File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        match self.failing_reads.fetch_sub(1, Ordering::SeqCst) {
            1.. => Err(io::Error::from_raw_os_error(EIO)),
            _ => OsDisk.read_at(file, bytes, offset),
        }
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.free_bytes.load(Ordering::SeqCst))
    }
}

/// Remembers what was not synced, so that a test can discard it: kill -9 keeps the page cache,
/// a power cut does not.
#[derive(Default)]
pub(crate) struct PowerLossDisk {
    state: Mutex<Unsynced>,
}

#[derive(Default)]
struct Unsynced {
    writes: BTreeMap<PathBuf, Vec<(u64, usize)>>,
    entries: BTreeSet<PathBuf>,
}

impl PowerLossDisk {
    /// Overwrites unsynced writes with junk and removes files whose directory entry was not synced.
    pub(crate) fn lose_power(&self) {
        let Unsynced { writes, entries } = std::mem::take(&mut *self.state.lock().unwrap());
        for (path, writes) in writes.iter().filter(|(path, _)| path.exists()) {
            let file = fs_err::OpenOptions::new().write(true).open(path).unwrap();
            for (offset, len) in writes {
                file.write_all_at(&vec![0xee; *len], *offset).unwrap();
            }
        }
        for path in entries.iter().filter(|path| path.exists()) {
            fs_err::remove_file(path).unwrap();
        }
    }
}

impl Disk for PowerLossDisk {
    fn create_new(&self, path: &Path) -> io::Result<fs_err::File> {
        self.state.lock().unwrap().entries.insert(path.to_owned());
        OsDisk.create_new(path)
    }

    fn write_at(&self, file: &fs_err::File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state
            .writes
            .entry(file.path().to_owned())
            .or_default()
            .push((offset, bytes.len()));
        OsDisk.write_at(file, bytes, offset)
    }

    fn sync_data(&self, file: &fs_err::File) -> io::Result<()> {
        self.state.lock().unwrap().writes.remove(file.path());
        OsDisk.sync_data(file)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.entries.retain(|entry| entry.parent() != Some(path));
        OsDisk.sync_dir(path)
    }

    fn read_at(&self, file: &fs_err::File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        OsDisk.read_at(file, bytes, offset)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        OsDisk.free_bytes(path)
    }
}
