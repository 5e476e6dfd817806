//! What a caller says about a sentence-transformers directory.

use std::path::PathBuf;

/// Which directory, and what differs from its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransformerOptions {
    /// The sentence-transformers directory.
    pub dir: PathBuf,
    /// Put before every question, in place of the directory's own prompt.
    pub query_prompt: Option<String>,
    /// Put before every chunk of a document, in place of the directory's own prompt.
    pub document_prompt: Option<String>,
}
