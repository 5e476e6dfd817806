//! Documents from a file or a folder, one at a time.
//!
//! A bad document is one `Err` item, and the iteration goes on. At most one document is in memory:
//! text files are read whole (bounded by [`ReadOptions`]), JSONL files line by line. A file is read
//! up to the length it had when it was opened, even if it grows meanwhile.

mod document;
mod jsonl;
mod text;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::document_id::check_document_id;
use crate::error::{ReadError, ReadProblem};
use document::Place;
pub use document::{DocumentFormat, SourceDocument};
use jsonl::RecordReader;
pub use walk::OffLimits;
use walk::{Content, FoundFile, Walk};

/// Most bad records of one JSONL file that are reported one by one. A file that is not JSONL at all,
/// or a broken one with a million lines, must not flood the list.
const MAX_LISTED: usize = 1000;

/// What is read, and what is not.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions {
    /// Largest text of one document, in bytes. A JSONL line may take twice that, for its escapes.
    pub max_document_bytes: u64,
    /// Why a folder or file must not be read; `None` if it may be.
    pub off_limits: OffLimits,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            max_document_bytes: 64 * 1024 * 1024,
            off_limits: |_, _| None,
        }
    }
}

/// Reads every document at `roots`, each a file or a folder, one root after the other.
///
/// Folders are walked in the order of file names, each real folder once, so symlink loops end and
/// roots may overlap. Inside a folder, hidden entries, unknown extensions and whatever is off limits
/// are skipped and counted; a root of that kind is an error. A file is read up to the length it has
/// when it is opened.
pub fn read_documents(roots: &[PathBuf], options: &ReadOptions) -> DocumentReader {
    DocumentReader {
        walk: Walk::new(roots, options.off_limits),
        records: None,
        taken: HashMap::new(),
        limit_bytes: options.max_document_bytes,
    }
}

/// Total size of the files that [`read_documents`] would read. Unreadable files count as 0 bytes.
pub fn total_bytes(roots: &[PathBuf], options: &ReadOptions) -> u64 {
    let files = Walk::new(roots, options.off_limits).flatten();
    files.map(|file| file.len).sum()
}

/// The iterator of [`read_documents`].
#[derive(Debug)]
pub struct DocumentReader {
    walk: Walk,
    /// The JSONL file in progress.
    records: Option<Records>,
    /// Where each id was first seen.
    taken: HashMap<String, Place>,
    limit_bytes: u64,
}

/// A JSONL file in progress.
#[derive(Debug)]
struct Records {
    reader: RecordReader<File>,
    /// Records that gave an error.
    n_failed: usize,
}

impl DocumentReader {
    /// Number of files and folders skipped so far: hidden, with an unknown extension, or off limits.
    pub fn skipped(&self) -> usize {
        self.walk.skipped()
    }

    /// Opens a file. Returns the document or error that it yields at once, if any.
    fn open(&mut self, file: FoundFile) -> Option<Result<SourceDocument, ReadError>> {
        let (id, format) = match file.content {
            Content::Document { id, format } => (id, format),
            Content::Records => {
                let opened = RecordReader::open(file.path, self.limit_bytes);
                return match opened {
                    Ok(reader) => {
                        self.records = Some(Records {
                            reader,
                            n_failed: 0,
                        });
                        None
                    }
                    Err(error) => Some(Err(error)),
                };
            }
        };
        let place = Place {
            path: Arc::from(file.path.as_path()),
            line: None,
        };
        let document = text::read(&file.path, self.limit_bytes).map(|text| SourceDocument {
            id,
            text,
            metadata: BTreeMap::new(),
            format,
        });
        Some(self.admit(place, document))
    }

    /// The next document of the JSONL file in progress, or its next error that is listed. At the end
    /// of the file, one error gives the number of those not listed.
    fn next_record(&mut self) -> Option<Result<SourceDocument, ReadError>> {
        while let Some(mut records) = self.records.take() {
            let Some((place, record)) = records.reader.next_record() else {
                return records.unlisted().map(Err);
            };
            let item = self.admit(place, record);
            records.n_failed += usize::from(item.is_err());
            let is_listed = item.is_ok() || records.n_failed <= MAX_LISTED;
            self.records = Some(records);
            if is_listed {
                return Some(item);
            }
        }
        None
    }

    /// Applies the rules that hold for a document of any origin.
    fn admit(
        &mut self,
        place: Place,
        document: Result<SourceDocument, ReadProblem>,
    ) -> Result<SourceDocument, ReadError> {
        let checked = document.and_then(|document| {
            check_document_id(&document.id).map_err(|why| ReadProblem::BadId { why })?;
            check_text(&document.text, self.limit_bytes)?;
            match self.taken.get(&document.id) {
                Some(first) => Err(ReadProblem::DuplicateId {
                    id: document.id,
                    first: first.describe(),
                }),
                None => Ok(document),
            }
        });
        match checked {
            Ok(document) => {
                self.taken.insert(document.id.clone(), place);
                Ok(document)
            }
            Err(problem) => Err(place.error(problem)),
        }
    }
}

impl Iterator for DocumentReader {
    type Item = Result<SourceDocument, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.next_record() {
                return Some(item);
            }
            let item = match self.walk.next()? {
                Ok(file) => self.open(file),
                Err(error) => Some(Err(error)),
            };
            if item.is_some() {
                return item;
            }
        }
    }
}

impl Records {
    /// The error that stands for the records not listed, if there are any.
    fn unlisted(&self) -> Option<ReadError> {
        let count = self.n_failed.saturating_sub(MAX_LISTED);
        (count > 0).then(|| ReadError {
            path: self.reader.path().to_path_buf(),
            line: None,
            problem: ReadProblem::More { count },
        })
    }
}

fn check_text(text: &str, limit_bytes: u64) -> Result<(), ReadProblem> {
    if text.len() as u64 > limit_bytes {
        return Err(ReadProblem::TooLarge { limit_bytes });
    }
    if text.trim().is_empty() {
        return Err(ReadProblem::Empty);
    }
    Ok(())
}
