//! The documents of the given paths, read ahead on a thread of their own.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use ragweave_retriever::{ReadLimits, SourceDocument, read_documents};
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};

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

/// Reads `paths` in order, at most `limit` documents, each id once.
pub(super) fn read(paths: &[PathBuf], max_bytes: usize, limit: Option<usize>) -> Receiver<Item> {
    let (sender, receiver) = channel(READ_AHEAD);
    let paths = paths.to_vec();
    tokio::task::spawn_blocking(move || {
        send_all(documents(&paths, max_bytes, limit), &sender);
    });
    receiver
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
) -> impl Iterator<Item = Item> {
    let limits = ReadLimits {
        max_document_bytes: max_bytes as u64,
    };
    let mut seen = HashSet::new();
    let mut taken = 0;
    paths
        .iter()
        .flat_map(move |root| read_root(root, limits))
        .map_while(move |(root, item)| {
            let item = item.and_then(|document| once(&mut seen, root, document));
            taken += usize::from(item.is_ok());
            (taken <= limit.unwrap_or(usize::MAX)).then_some(item)
        })
}

fn read_root(root: &Path, limits: ReadLimits) -> impl Iterator<Item = (PathBuf, Item)> {
    let path = root.to_owned();
    read_documents(root, &limits).map(move |item| {
        let item = item.map_err(|error| Unreadable {
            error: error.problem.to_string(),
            path: error.path,
            line: error.line,
        });
        (path.clone(), item)
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
