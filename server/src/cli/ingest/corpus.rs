//! The documents of the given paths, read ahead on a separate thread.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{stderr, stdout};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ragweave_retriever::{
    Printable, ReadError, ReadOptions, ReadProblem, SourceDocument, read_documents,
};
use ragweave_store::is_data_directory;
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

/// Documents read ahead of the one being ingested. Two hide the disk's latency; more would only take memory.
const READ_AHEAD: usize = 2;

/// Why something under the given paths is not a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Unreadable {
    /// The path, escaped as [`Printable`] does it, or a document's id.
    pub(super) path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<usize>,
    pub(super) error: String,
    /// Number of documents that this entry stands for: the failures that are left out of a file's list share one entry.
    #[serde(skip)]
    pub(super) count: usize,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.error)
    }
}

impl From<ReadError> for Unreadable {
    fn from(error: ReadError) -> Self {
        Self {
            path: Printable(&error.path).to_string(),
            line: error.line,
            count: match error.problem {
                ReadProblem::More { count } => count,
                _ => 1,
            },
            error: error.problem.to_string(),
        }
    }
}

/// A document, or why there is none.
pub(super) type Item = Result<SourceDocument, Unreadable>;

/// The corpus was not read to its end; the rest of its content is unknown.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the documents panicked: {message}; this is a bug")]
pub(super) struct ReaderPanicked {
    message: String,
}

/// A corpus that is being read.
pub(super) struct Reading {
    items: Receiver<Item>,
    /// `None` once it has ended without a panic.
    reader: Option<JoinHandle<()>>,
}

impl Reading {
    pub(super) fn start(items: impl Iterator<Item = Item> + Send + 'static) -> Self {
        let (sender, receiver) = channel(READ_AHEAD);
        Self {
            items: receiver,
            reader: Some(spawn_blocking(move || send_all(items, &sender))),
        }
    }

    /// The next item, or `None` after the last one. No item is lost when the future is dropped.
    ///
    /// # Errors
    /// The reader panicked: the rest of the corpus is unknown, which is not the same as its end.
    pub(super) async fn next(&mut self) -> Result<Option<Item>, ReaderPanicked> {
        let item = self.items.recv().await;
        if let (None, Some(reader)) = (&item, &mut self.reader) {
            let ended = reader.await;
            self.reader = None;
            ended.map_err(|panic: JoinError| ReaderPanicked {
                message: panic.to_string(),
            })?;
        }
        Ok(item)
    }
}

/// Reads `paths` in order, at most `limit` documents, each id once.
pub(super) fn read(paths: &[PathBuf], max_bytes: usize, limit: Option<usize>) -> Reading {
    Reading::start(documents(paths, max_bytes, limit))
}

fn send_all(items: impl Iterator<Item = Item>, sender: &Sender<Item>) {
    for item in items {
        // The receiver has been dropped if the job ended early.
        if sender.blocking_send(item).is_err() {
            return;
        }
    }
}

/// The corpus as an iterator, for callers that are not async.
pub(super) fn documents(
    paths: &[PathBuf],
    max_bytes: usize,
    limit: Option<usize>,
) -> impl Iterator<Item = Item> + Send + use<> {
    let options = ReadOptions {
        max_document_bytes: max_bytes as u64,
        off_limits: |path, metadata| {
            let why = off_limits(path, metadata)?;
            tracing::info!(path = %Printable(path), "not read: {why}");
            Some(why)
        },
    };
    let mut taken = 0;
    read_documents(paths, &options).map_while(move |item| {
        taken += usize::from(item.is_ok());
        (taken <= limit.unwrap_or(usize::MAX)).then(|| item.map_err(Unreadable::from))
    })
}

/// Bytes of all files under `paths`, for the estimate of the remaining time.
pub(super) fn total_bytes(paths: &[PathBuf]) -> u64 {
    let options = ReadOptions {
        off_limits,
        ..ReadOptions::default()
    };
    ragweave_retriever::total_bytes(paths, &options)
}

/// A run must not read what it writes: a data directory, of this run or of a server, holds the list of failures, and
/// the shell may have redirected the output into the corpus.
fn off_limits(path: &Path, metadata: &Metadata) -> Option<&'static str> {
    if metadata.is_dir() {
        is_data_directory(path).then_some("it is a ragweave data directory or is inside one")
    } else {
        is_output(metadata).then_some("it is the output of this run")
    }
}

fn is_output(metadata: &Metadata) -> bool {
    let identity = |file: &Metadata| (file.dev(), file.ino());
    let is_same = |output: BorrowedFd<'_>| {
        let output = output.try_clone_to_owned().map(File::from);
        let output = output.and_then(|file| file.metadata());
        output.is_ok_and(|output| identity(&output) == identity(metadata))
    };
    is_same(stdout().as_fd()) || is_same(stderr().as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreadable() -> Item {
        Err(Unreadable {
            path: "a.txt".to_owned(),
            line: None,
            error: "is gone".to_owned(),
            count: 1,
        })
    }

    #[tokio::test]
    async fn a_reader_that_panics_is_not_the_end_of_the_corpus() {
        let items = [true, false].into_iter().map(|is_well| {
            if is_well {
                unreadable()
            } else {
                panic!("lost")
            }
        });
        let mut reading = Reading::start(items);
        assert!(reading.next().await.unwrap().is_some());
        assert!(reading.next().await.is_err());
    }

    #[tokio::test]
    async fn the_end_stays_the_end() {
        let mut reading = Reading::start(std::iter::once(unreadable()));
        assert!(reading.next().await.unwrap().is_some());
        assert!(reading.next().await.unwrap().is_none());
        assert!(reading.next().await.unwrap().is_none());
    }
}
