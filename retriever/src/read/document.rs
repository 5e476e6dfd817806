//! A document that was read, and the place it came from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{ReadError, ReadProblem};
use crate::printable::Printable;

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

/// Where a document comes from.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) path: Arc<Path>,
    pub(super) line: Option<usize>,
}

impl Place {
    pub(super) fn error(&self, problem: ReadProblem) -> ReadError {
        ReadError {
            path: PathBuf::from(&*self.path),
            line: self.line,
            problem,
        }
    }

    pub(super) fn describe(&self) -> String {
        match self.line {
            Some(line) => format!("{}, line {line}", Printable(&self.path)),
            None => Printable(&self.path).to_string(),
        }
    }
}
