//! The documents of the given paths, read ahead on a thread of their own.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use ragweave_retriever::{ReadLimits, SourceDocument, read_documents};
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

/// Documents read ahead of the one being ingested. Two hide the disk; more would only hold memory.
const READ_AHEAD: usize = 2;

/// Why something under the given paths is not a document.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Unreadable {
    pub(super) path: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<usize>,
    pub(super) error: String,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.error)
    }
}

/// A document, or why there is none.
pub(super) type Item = Result<SourceDocument, Unreadable>;

/// The corpus was not read to its end, and nobody knows what else is in it.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the documents panicked: {message}; this is a bug")]
pub(super) struct ReaderPanicked {
    message: String,
}

/// A corpus that is being read.
pub(super) struct Reading {
    items: Receiver<Item>,
    /// `None` once it has ended well.
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

    /// The next item; `None` after the last one. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The reader died: what is still to come is unknown, which is not the same as nothing.
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
        // The receiver is gone when the job has ended early.
        if sender.blocking_send(item).is_err() {
            return;
        }
    }
}

/// The same as an iterator, for callers that are not async.
pub(super) fn documents(
    paths: &[PathBuf],
    max_bytes: usize,
    limit: Option<usize>,
) -> impl Iterator<Item = Item> + Send + use<> {
    let limits = ReadLimits {
        max_document_bytes: max_bytes as u64,
    };
    let mut seen = HashSet::new();
    let mut taken = 0;
    let paths: Vec<PathBuf> = paths.to_vec(); // the iterator outlives the list it was made from
    paths
        .into_iter()
        .flat_map(move |root| read_root(root, limits))
        .map_while(move |(root, item)| {
            let item = item.and_then(|document| once(&mut seen, root, document));
            taken += usize::from(item.is_ok());
            (taken <= limit.unwrap_or(usize::MAX)).then_some(item)
        })
}

fn read_root(
    root: PathBuf,
    limits: ReadLimits,
) -> impl Iterator<Item = (PathBuf, Item)> + Send + use<> {
    read_documents(&root, &limits).map(move |item| {
        let item = item.map_err(|error| Unreadable {
            error: error.problem.to_string(),
            path: error.path,
            line: error.line,
        });
        (root.clone(), item)
    })
}

/// Ids are relative to their root, so two roots can hold the same one; the first keeps it.
fn once(seen: &mut HashSet<String>, root: PathBuf, document: SourceDocument) -> Item {
    if seen.insert(document.id.clone()) {
        return Ok(document);
    }
    let error = format!(
        "the document id `{}` is already taken under another path; give each document its own id",
        document.id
    );
    Err(Unreadable {
        path: root,
        line: None,
        error,
    })
}

/// Bytes of all files under `paths`, for the estimate of the remaining time; what cannot be read counts nothing.
pub(super) fn total_bytes(paths: &[PathBuf]) -> u64 {
    paths.iter().map(|path| bytes_under(path)).sum()
}

fn bytes_under(path: &Path) -> u64 {
    let Ok(metadata) = fs_err::symlink_metadata(path) else {
        return 0;
    };
    if metadata.is_file() {
        return metadata.len();
    }
    let Ok(entries) = fs_err::read_dir(path) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| bytes_under(&entry.path()))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreadable() -> Item {
        Err(Unreadable {
            path: PathBuf::from("a.txt"),
            line: None,
            error: "is gone".to_owned(),
        })
    }

    #[tokio::test]
    async fn a_reader_that_dies_is_not_the_end_of_the_corpus() {
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
