//! Documents from a file or a folder, one at a time.
//!
//! A bad document is one `Err` item and the iteration goes on. At most one document is in memory:
//! text files are read whole (bounded by [`ReadLimits`]), JSONL files line by line.

mod jsonl;
mod text;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::document_id::check_document_id;
use crate::error::{ReadError, ReadProblem};
use jsonl::RecordReader;
use walk::{FileKind, FoundFile, Walk};

/// How the text is marked up, which decides where it may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentFormat {
    /// Plain text: paragraphs, lines, sentences, words.
    Text,
    /// Markdown: headings, blocks, then as plain text.
    Markdown,
}

/// A document as its author wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceDocument {
    /// Path below the given folder with `/`, the file name of a single file, or a record's own id.
    pub id: String,
    /// The text; never blank.
    pub text: String,
    /// Key and value pairs of a JSONL record; empty for a file.
    pub metadata: BTreeMap<String, String>,
    /// How the text is marked up.
    pub format: DocumentFormat,
}

/// Bounds on what is read.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Largest text of one document, in bytes. A JSONL line may take twice that, for its escapes.
    pub max_document_bytes: u64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            max_document_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Reads every document at `root`, a file or a folder.
///
/// Folders are walked in the order of file names, each real folder once, so symlink loops end.
/// Hidden entries and unknown extensions inside a folder are skipped and counted.
pub fn read_documents(root: &Path, limits: &ReadLimits) -> DocumentReader {
    DocumentReader {
        walk: Walk::new(root),
        records: None,
        taken: HashMap::new(),
        limit_bytes: limits.max_document_bytes,
    }
}

/// The iterator of [`read_documents`].
#[derive(Debug)]
pub struct DocumentReader {
    walk: Walk,
    /// The JSONL file in progress.
    records: Option<RecordReader>,
    /// Where each id was first seen.
    taken: HashMap<String, Place>,
    limit_bytes: u64,
}

impl DocumentReader {
    /// Number of files and folders passed over so far: unknown extension, or hidden.
    pub fn skipped(&self) -> usize {
        self.walk.skipped()
    }

    /// Starts on a file; the error or document it yields at once, if any.
    fn open(&mut self, file: FoundFile) -> Option<Result<SourceDocument, ReadError>> {
        let format = match file.kind {
            FileKind::Records => {
                let opened = RecordReader::open(file.path, self.limit_bytes);
                return opened
                    .map(|reader| self.records = Some(reader))
                    .err()
                    .map(Err);
            }
            FileKind::Text => DocumentFormat::Text,
            FileKind::Markdown => DocumentFormat::Markdown,
        };
        let place = Place {
            path: Arc::from(file.path.as_path()),
            line: None,
        };
        let document = text::read(&file.path, self.limit_bytes).map(|text| SourceDocument {
            id: file.id,
            text,
            metadata: BTreeMap::new(),
            format,
        });
        Some(self.admit(place, document))
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
            if let Some(reader) = &mut self.records {
                if let Some((place, record)) = reader.next_record() {
                    return Some(self.admit(place, record));
                }
                self.records = None;
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

/// Where a document comes from.
#[derive(Debug, Clone)]
struct Place {
    path: Arc<Path>,
    line: Option<usize>,
}

impl Place {
    fn error(&self, problem: ReadProblem) -> ReadError {
        ReadError {
            path: PathBuf::from(&*self.path),
            line: self.line,
            problem,
        }
    }

    fn describe(&self) -> String {
        match self.line {
            Some(line) => format!("{}, line {line}", self.path.display()),
            None => self.path.display().to_string(),
        }
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

/// The text of UTF-8 bytes; what is wrong with other bytes.
fn utf8(bytes: Vec<u8>) -> Result<String, ReadProblem> {
    String::from_utf8(bytes).map_err(|error| ReadProblem::NotUtf8 {
        valid_bytes: error.utf8_error().valid_up_to(),
    })
}
