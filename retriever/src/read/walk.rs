//! The files below a root, in a fixed order.
//!
//! Entries come in the byte order of their names. A symlink is followed, but each real folder is
//! entered once, so a loop ends and nothing is read twice.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::document_id::BadDocumentId;
use crate::error::{ReadError, ReadProblem};

/// A file to read.
#[derive(Debug)]
pub(super) struct FoundFile {
    pub(super) path: PathBuf,
    /// Document id if the file is one document.
    pub(super) id: String,
    pub(super) kind: FileKind,
}

/// What the extension promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Text,
    Markdown,
    Records,
}

impl FileKind {
    fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "txt" => Some(Self::Text),
            "md" | "markdown" => Some(Self::Markdown),
            "jsonl" => Some(Self::Records),
            _ => None,
        }
    }
}

/// Depth-first walk; holds the names of the open folders, never their file handles.
#[derive(Debug)]
pub(super) struct Walk {
    /// Entries not yet visited, the next one last.
    pending: Vec<Result<Entry, ReadError>>,
    /// Real paths of the folders entered.
    entered: HashSet<PathBuf>,
    skipped: usize,
}

#[derive(Debug)]
struct Entry {
    path: PathBuf,
    /// Names from the root to here, joined by `/`; `None` for the root itself.
    id: Option<String>,
}

impl Walk {
    pub(super) fn new(root: &Path) -> Self {
        let root = Entry {
            path: root.to_path_buf(),
            id: None,
        };
        Self {
            pending: vec![Ok(root)],
            entered: HashSet::new(),
            skipped: 0,
        }
    }

    pub(super) fn skipped(&self) -> usize {
        self.skipped
    }

    /// A file to read, or nothing if the entry is a folder or is skipped.
    fn visit(&mut self, entry: Entry) -> Result<Option<FoundFile>, ReadError> {
        let metadata = fs_err::metadata(&entry.path).map_err(|e| io(&entry.path, e))?;
        if metadata.is_dir() {
            self.enter(&entry)?;
            return Ok(None);
        }
        let Some(kind) = FileKind::of(&entry.path) else {
            // A file that somebody named is not passed over in silence.
            if entry.id.is_none() && metadata.is_file() {
                return Err(problem(&entry.path, ReadProblem::UnknownFormat));
            }
            self.skipped += 1;
            return Ok(None);
        };
        if !metadata.is_file() {
            return Err(problem(&entry.path, ReadProblem::NotAFile));
        }
        let id = match entry.id {
            Some(id) => id,
            None => name_of(&entry.path, entry.path.file_name())?.to_owned(),
        };
        Ok(Some(FoundFile {
            path: entry.path,
            id,
            kind,
        }))
    }

    /// Puts the entries of a folder next in line, unless it was entered before.
    fn enter(&mut self, folder: &Entry) -> Result<(), ReadError> {
        let real = fs_err::canonicalize(&folder.path).map_err(|e| io(&folder.path, e))?;
        if !self.entered.insert(real) {
            return Ok(());
        }
        let mut paths = Vec::new();
        for entry in fs_err::read_dir(&folder.path).map_err(|e| io(&folder.path, e))? {
            paths.push(entry.map_err(|e| io(&folder.path, e))?.path());
        }
        paths.sort_unstable();
        for path in paths.into_iter().rev() {
            if is_hidden(&path) {
                self.skipped += 1;
            } else {
                self.pending.push(child(folder, path));
            }
        }
        Ok(())
    }
}

impl Iterator for Walk {
    type Item = Result<FoundFile, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let found = self
                .pending
                .pop()?
                .and_then(|entry| self.visit(entry))
                .transpose();
            if found.is_some() {
                return found;
            }
        }
    }
}

fn child(folder: &Entry, path: PathBuf) -> Result<Entry, ReadError> {
    let name = name_of(&path, path.file_name())?;
    let id = match &folder.id {
        Some(parent) => format!("{parent}/{name}"),
        None => name.to_owned(),
    };
    Ok(Entry { path, id: Some(id) })
}

fn name_of<'n>(path: &Path, name: Option<&'n OsStr>) -> Result<&'n str, ReadError> {
    name.and_then(OsStr::to_str).ok_or_else(|| {
        problem(
            path,
            ReadProblem::BadId {
                why: BadDocumentId::NotUtf8,
            },
        )
    })
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn io(path: &Path, error: std::io::Error) -> ReadError {
    problem(path, ReadProblem::Io { error })
}

fn problem(path: &Path, problem: ReadProblem) -> ReadError {
    ReadError {
        path: path.to_path_buf(),
        line: None,
        problem,
    }
}
