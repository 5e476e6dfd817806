//! The files below some roots, in a fixed order.
//!
//! Entries come in the byte order of their names. Symlinks are followed, but each real folder is
//! entered only once over all roots, so loops end and no file is read twice under the same name.
//! This uses `std::fs`, not `fs_err`, because a [`ReadError`] names the path itself and escapes it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::document_id::{BadDocumentId, check_document_id};
use crate::error::{ReadError, ReadProblem};
use crate::read::document::DocumentFormat;

/// Why the path must not be read; `None` if it may be. The metadata is that of the path's target.
pub type OffLimits = fn(&Path, &Metadata) -> Option<&'static str>;

/// A file to read.
#[derive(Debug)]
pub(super) struct FoundFile {
    pub(super) path: PathBuf,
    pub(super) content: Content,
    /// Its length in bytes.
    pub(super) len: u64,
}

/// What the file holds.
#[derive(Debug)]
pub(super) enum Content {
    /// One document, named after the file.
    Document { id: String, format: DocumentFormat },
    /// Documents with ids of their own.
    Records,
}

/// The kind of content that a file's extension stands for.
#[derive(Debug, Clone, Copy)]
enum FileKind {
    Document(DocumentFormat),
    Records,
}

impl FileKind {
    fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "txt" => Some(Self::Document(DocumentFormat::Text)),
            "md" | "markdown" => Some(Self::Document(DocumentFormat::Markdown)),
            "jsonl" => Some(Self::Records),
            _ => None,
        }
    }
}

/// A depth-first walk. It keeps the names of the open folders, never their file handles.
#[derive(Debug)]
pub(super) struct Walk {
    /// Entries not yet visited, the next one last.
    pending: Vec<Result<Entry, ReadError>>,
    /// Real paths of the folders entered.
    entered: HashSet<PathBuf>,
    /// Real paths of the folders entered below a bad name, where only records are read.
    entered_for_records: HashSet<PathBuf>,
    /// Real folder and name of each root that is a file, and of each file of records below a bad name.
    named: HashSet<PathBuf>,
    /// Files and folders whose bad name has been reported.
    reported: HashSet<Arc<Path>>,
    off_limits: OffLimits,
    skipped: usize,
}

#[derive(Debug)]
struct Entry {
    path: PathBuf,
    /// `None` for a root.
    folder: Option<Arc<Folder>>,
    is_link: bool,
}

/// A folder that was entered.
#[derive(Debug)]
struct Folder {
    /// Names from the root to here, joined by `/`; `None` for the root itself.
    id: Result<Option<String>, BadName>,
    real_path: PathBuf,
}

/// A file or folder with a name that no document id can contain.
#[derive(Debug, Clone)]
struct BadName {
    path: Arc<Path>,
    why: BadDocumentId,
}

impl Walk {
    pub(super) fn new(roots: &[PathBuf], off_limits: OffLimits) -> Self {
        let root = |path: &PathBuf| {
            Ok(Entry {
                path: path.clone(),
                folder: None,
                is_link: true,
            })
        };
        Self {
            pending: roots.iter().rev().map(root).collect(),
            entered: HashSet::new(),
            entered_for_records: HashSet::new(),
            named: HashSet::new(),
            reported: HashSet::new(),
            off_limits,
            skipped: 0,
        }
    }

    pub(super) fn skipped(&self) -> usize {
        self.skipped
    }

    /// A file to read, or nothing if the entry is a folder, is skipped, or was read before.
    fn visit(&mut self, entry: Entry) -> Result<Option<FoundFile>, ReadError> {
        let metadata = fs::metadata(&entry.path).map_err(|e| io(&entry.path, e))?;
        if let Some(why) = self.off_limits_because(&entry, &metadata)? {
            return self.skip(&entry, ReadProblem::OffLimits { why });
        }
        if metadata.is_dir() {
            self.enter(&entry)?;
            return Ok(None);
        }
        let Some(kind) = FileKind::of(&entry.path) else {
            let problem = match metadata.is_file() {
                true => ReadProblem::UnknownFormat,
                false => ReadProblem::NotAFile,
            };
            return self.skip(&entry, problem);
        };
        if !metadata.is_file() {
            return Err(problem(&entry.path, ReadProblem::NotAFile));
        }
        if self.was_read(&entry)? {
            return Ok(None);
        }
        Ok(self.content(&entry, kind)?.map(|content| FoundFile {
            content,
            path: entry.path,
            len: metadata.len(),
        }))
    }

    /// What the file holds; `None` for a document below a folder whose bad name has been reported.
    fn content(&mut self, entry: &Entry, kind: FileKind) -> Result<Option<Content>, ReadError> {
        let FileKind::Document(format) = kind else {
            if let Some((folder, name)) = entry.below_bad_name() {
                self.named.insert(folder.real_path.join(name));
            }
            return Ok(Some(Content::Records));
        };
        match entry.id() {
            Ok(id) => Ok(Some(Content::Document { id, format })),
            Err(bad) if self.reported.insert(Arc::clone(&bad.path)) => {
                Err(problem(&bad.path, ReadProblem::BadId { why: bad.why }))
            }
            Err(_) => Ok(None),
        }
    }

    /// Skips an entry of a folder. A root was named by the caller, so skipping it is an error.
    fn skip<T>(&mut self, entry: &Entry, why: ReadProblem) -> Result<Option<T>, ReadError> {
        self.skipped += 1;
        match entry.folder {
            Some(_) => Ok(None),
            None => Err(problem(&entry.path, why)),
        }
    }

    /// Why the entry must not be read; `None` if it may be. The target of a link may be in a folder
    /// that must not be read.
    fn off_limits_because(
        &self,
        entry: &Entry,
        metadata: &Metadata,
    ) -> Result<Option<&'static str>, ReadError> {
        let own = (self.off_limits)(&entry.path, metadata);
        if own.is_some() || !entry.is_link {
            return Ok(own);
        }
        let real = fs::canonicalize(&entry.path).map_err(|e| io(&entry.path, e))?;
        let mut above = real.ancestors().skip(1);
        Ok(above.find_map(|folder| (self.off_limits)(folder, &fs::metadata(folder).ok()?)))
    }

    /// Whether the file has been or will be read, as a root or inside a folder that is a root. A
    /// link counts as a separate file.
    fn was_read(&mut self, entry: &Entry) -> Result<bool, ReadError> {
        let Some(name) = entry.path.file_name() else {
            return Ok(false);
        };
        if let Some(folder) = &entry.folder {
            return Ok(!self.named.is_empty() && self.named.contains(&folder.real_path.join(name)));
        }
        let above = match entry.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let real = fs::canonicalize(above).map_err(|e| io(&entry.path, e))?;
        let is_covered = self.entered.contains(&real) && !is_hidden(&entry.path);
        Ok(!self.named.insert(real.join(name)) || is_covered)
    }

    /// Queues the entries of a folder, unless it was entered before.
    fn enter(&mut self, entry: &Entry) -> Result<(), ReadError> {
        let id = entry.folder_id();
        let real_path = entry.real_path().map_err(|e| io(&entry.path, e))?;
        if self.entered.contains(&real_path) {
            return Ok(());
        }
        let entered = match id {
            Ok(_) => &mut self.entered,
            Err(_) => &mut self.entered_for_records,
        };
        if !entered.insert(real_path.clone()) {
            return Ok(());
        }
        let folder = Arc::new(Folder { id, real_path });
        let (mut children, failure) = children(&entry.path, &folder);
        children.sort_unstable_by(|a, b| b.path.cmp(&a.path));
        let n_all = children.len();
        children.retain(|child| !is_hidden(&child.path));
        self.skipped += n_all - children.len();
        self.pending.extend(failure.map(Err));
        self.pending.extend(children.into_iter().map(Ok));
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

impl Entry {
    /// Id of the document in the file.
    fn id(&self) -> Result<String, BadName> {
        let above = match &self.folder {
            Some(folder) => folder.id.as_ref().map_err(BadName::clone)?.as_ref(),
            None => None,
        };
        let name = self.path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| self.bad_name(BadDocumentId::NotUtf8))?;
        Ok(above.map_or_else(|| name.to_owned(), |above| format!("{above}/{name}")))
    }

    /// What the ids of the documents in the folder begin with. A name that no id can contain is an
    /// error of the first document that needs it: records have ids of their own.
    fn folder_id(&self) -> Result<Option<String>, BadName> {
        if self.folder.is_none() {
            return Ok(None);
        }
        let id = self.id()?;
        match check_document_id(&id) {
            Ok(()) | Err(BadDocumentId::Blank) => Ok(Some(id)),
            Err(why) => Err(self.bad_name(why)),
        }
    }

    /// The real path. Only links are resolved: resolving every path of a deep tree takes long.
    fn real_path(&self) -> io::Result<PathBuf> {
        match (&self.folder, self.path.file_name()) {
            (Some(folder), Some(name)) if !self.is_link => Ok(folder.real_path.join(name)),
            _ => fs::canonicalize(&self.path),
        }
    }

    fn bad_name(&self, why: BadDocumentId) -> BadName {
        BadName {
            path: Arc::from(self.path.as_path()),
            why,
        }
    }

    /// The folder and the name in it, if that folder or one above it has a bad name.
    fn below_bad_name(&self) -> Option<(&Folder, &OsStr)> {
        let folder = self.folder.as_deref().filter(|folder| folder.id.is_err())?;
        Some((folder, self.path.file_name()?))
    }
}

/// The entries of a folder, as far as they can be listed, and the error that ended the listing.
fn children(path: &Path, folder: &Arc<Folder>) -> (Vec<Entry>, Option<ReadError>) {
    let mut children = Vec::new();
    let listing = fs::read_dir(path).and_then(|entries| {
        for entry in entries {
            let entry = entry?;
            children.push(Entry {
                path: entry.path(),
                folder: Some(Arc::clone(folder)),
                is_link: entry.file_type().map_or(true, |kind| kind.is_symlink()),
            });
        }
        Ok(())
    });
    (children, listing.err().map(|error| io(path, error)))
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn io(path: &Path, error: io::Error) -> ReadError {
    problem(path, ReadProblem::Io { error })
}

fn problem(path: &Path, problem: ReadProblem) -> ReadError {
    ReadError {
        path: path.to_path_buf(),
        line: None,
        problem,
    }
}
