//! How the blocks of a layer are read from segment files: the caller's choice, and why the system
//! may refuse it.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use serde::Serialize;

use crate::data_dir::FORMAT_FILE;
use crate::disk::{Disk, OsDisk};
use crate::uring;

/// A way to read. In every case checksums are verified on the bytes that the caller gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KvIo {
    /// The best choice without further knowledge, `Pread`. The page cache makes a second read several
    /// times faster than any device, and needs no tuning.
    #[default]
    Auto,
    /// `pread` through the page cache.
    Pread,
    /// `pread` that bypasses the page cache (`O_DIRECT`): no copy in the kernel and no pressure on
    /// other users of the cache, but every read goes to the device, even a second one of the same
    /// block.
    Direct,
    /// `io_uring`, which bypasses the page cache where the file system allows it. Pieces of one layer
    /// are read concurrently, which keeps fast devices busy.
    Uring,
    /// Copies from a memory map of the file, sealed files only. This promises less: if another
    /// process truncates the file at the wrong moment, or the device fails, SIGBUS kills this process.
    Mmap,
}

impl KvIo {
    /// Every way, in the order of the documentation.
    pub const ALL: [Self; 5] = [
        Self::Auto,
        Self::Pread,
        Self::Direct,
        Self::Uring,
        Self::Mmap,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Pread => "pread",
            Self::Direct => "direct",
            Self::Uring => "uring",
            Self::Mmap => "mmap",
        }
    }

    /// Why this machine cannot read a store in `dir` this way and uses `pread` instead, if so.
    pub fn obstacle(self, dir: &Path) -> Option<String> {
        match self {
            Self::Auto | Self::Pread | Self::Mmap => None,
            Self::Direct => {
                let opened = OsDisk.open_direct(&dir.join(FORMAT_FILE));
                let refused = |error: &io::Error| error.kind() != io::ErrorKind::NotFound;
                let error = opened.err().filter(refused)?; // without a store, nothing is refused
                Some(refused_direct(&error))
            }
            Self::Uring => uring::probe().err().map(|error| refused_uring(&error)),
        }
    }
}

pub(crate) fn refused_direct(error: &io::Error) -> String {
    format!("the file system refuses direct reads: {error}")
}

pub(crate) fn refused_uring(error: &io::Error) -> String {
    format!("the system refuses io_uring: {error}")
}

impl fmt::Display for KvIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The word is not a way to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not one of auto, pread, direct, uring, mmap")]
pub struct ParseKvIoError {
    word: String,
}

impl FromStr for KvIo {
    type Err = ParseKvIoError;

    fn from_str(word: &str) -> Result<Self, ParseKvIoError> {
        let known = Self::ALL.into_iter().find(|io| io.name() == word);
        known.ok_or_else(|| ParseKvIoError {
            word: word.to_owned(),
        })
    }
}
