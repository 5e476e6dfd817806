//! Reads of whole blocks in the way chosen when the store was opened, or with `pread` if the system
//! refuses that way.
//!
//! A refusal is logged once and holds for the open store. A read that fails is an ordinary error.

use std::io;
use std::sync::OnceLock;

use memmap2::{Advice, Mmap};

use super::file::SegmentFile;
use super::format::PAGE_BYTES;
use crate::disk::DynDisk;
use crate::kv_io::{KvIo, refused_direct, refused_uring};

/// The way one open store reads blocks.
pub(crate) struct BlockReads {
    io: KvIo,
    disk: DynDisk,
    /// Why `io` is not used.
    refusal: OnceLock<String>,
}

impl BlockReads {
    pub(crate) fn new(io: KvIo, disk: DynDisk) -> Self {
        Self {
            io,
            disk,
            refusal: OnceLock::new(),
        }
    }

    pub(crate) fn io(&self) -> KvIo {
        self.io
    }

    /// Why blocks are read with `pread` although another way was asked for.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.refusal.get().map(String::as_str)
    }

    /// Fills `bytes` from `offset`; if the file is too short, an error of kind `UnexpectedEof`.
    pub(super) fn read(&self, file: &SegmentFile, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let special = match self.io {
            KvIo::Auto | KvIo::Pread => None,
            _ if self.refusal().is_some() => None,
            KvIo::Direct => self.read_direct(file, bytes, offset),
            KvIo::Uring => self.read_uring(file, bytes, offset),
            KvIo::Mmap => read_mapped(file, bytes, offset),
        };
        special.unwrap_or_else(|| self.disk.read_at(&file.file, bytes, offset))
    }

    /// `None` if this read has to be a `pread`.
    fn read_direct(
        &self,
        file: &SegmentFile,
        bytes: &mut [u8],
        offset: u64,
    ) -> Option<io::Result<()>> {
        if !is_aligned(bytes, offset) {
            return None;
        }
        let direct = match file.direct(&self.disk) {
            Ok(direct) => direct?,
            Err(error) => return self.refuse(refused_direct(error)),
        };
        match self.disk.read_at(direct, bytes, offset) {
            // A read past the end of the file fails in the same way.
            Err(error) if is_refusal(&error) && is_short(file, bytes, offset) => None,
            // Some file systems accept the flag and then refuse the read.
            Err(error) if is_refusal(&error) => self.refuse(refused_direct(&error)),
            read => Some(read),
        }
    }

    /// `None` if this read has to be a `pread`.
    fn read_uring(
        &self,
        file: &SegmentFile,
        bytes: &mut [u8],
        offset: u64,
    ) -> Option<io::Result<()>> {
        let direct = match is_aligned(bytes, offset) {
            true => file.direct(&self.disk).ok().flatten(),
            false => None,
        };
        let read = self
            .disk
            .read_queued_at(direct.unwrap_or(&file.file), bytes, offset);
        match read {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.refuse(refused_uring(&error))
            }
            Err(error) if direct.is_some() && is_refusal(&error) => {
                Some(self.disk.read_queued_at(&file.file, bytes, offset))
            }
            read => Some(read),
        }
    }

    fn refuse(&self, why: String) -> Option<io::Result<()>> {
        if self.refusal.set(why).is_ok() {
            let why = self.refusal();
            tracing::warn!(kv_io = %self.io, why, "reading KV with pread instead");
        }
        None
    }
}

fn is_aligned(bytes: &[u8], offset: u64) -> bool {
    let page = PAGE_BYTES as usize;
    let places = [bytes.as_ptr().addr(), bytes.len()];
    offset.is_multiple_of(PAGE_BYTES) && places.iter().all(|place| place.is_multiple_of(page))
}

/// Whether a file system does not support an operation, rather than failing at it.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}

/// Whether the file ends before the read does.
fn is_short(file: &SegmentFile, bytes: &[u8], offset: u64) -> bool {
    let end = offset.saturating_add(bytes.len() as u64);
    file.file
        .metadata()
        .is_ok_and(|metadata| metadata.len() < end)
}

/// Copies from the file's memory map; `None` while the file is still being written.
fn read_mapped(file: &SegmentFile, bytes: &mut [u8], offset: u64) -> Option<io::Result<()>> {
    let map = match file.map() {
        Ok(map) => map?,
        Err(error) => return Some(Err(error)),
    };
    Some(copy_mapped(file, map, bytes, offset))
}

fn copy_mapped(file: &SegmentFile, map: &Mmap, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    let eof = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let start = usize::try_from(offset).map_err(|_| eof())?;
    let end = start.checked_add(bytes.len()).ok_or_else(eof)?;
    // A file that was truncated after it was mapped is found here, before a signal can end the process.
    if is_short(file, bytes, offset) {
        return Err(eof());
    }
    let source = map.get(start..end).ok_or_else(eof)?;
    // Device failures become an error here too, on kernels that support this advice.
    match map.advise_range(Advice::PopulateRead, start, bytes.len()) {
        Err(error) if !is_refusal(&error) => return Err(error),
        _ => bytes.copy_from_slice(source),
    }
    Ok(())
}
