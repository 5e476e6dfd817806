//! Why an embedder cannot be opened. Each text names the file, field or URL, and what to do.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::printable::Printable;

/// An embedder that cannot be used as it is configured.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum OpenEmbedderError {
    /// A file of a sentence-transformers directory is missing, damaged, or does not fit the others.
    #[error("embedder file {}: {message}", Printable(path))]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// The directory is readable but describes something that this program does not run.
    #[error("unsupported embedder {}: {message}", Printable(path))]
    Unsupported {
        /// The file that asks for it.
        path: PathBuf,
        /// What it asks for, and what is supported.
        message: String,
    },
    /// A URL that is not the address of an embedder.
    #[error("embedder URL: {message}")]
    Url {
        /// What is wrong and what to write.
        message: String,
    },
    /// The device or the thread of the embedder cannot be used.
    #[error("embedder: {message}")]
    Device {
        /// Why.
        message: String,
    },
}

impl OpenEmbedderError {
    pub(super) fn file(path: &Path, message: impl Into<String>) -> Self {
        Self::File {
            path: path.to_owned(),
            message: message.into(),
        }
    }

    pub(super) fn unsupported(path: &Path, message: impl Into<String>) -> Self {
        Self::Unsupported {
            path: path.to_owned(),
            message: message.into(),
        }
    }

    pub(super) fn url(message: impl Into<String>) -> Self {
        Self::Url {
            message: message.into(),
        }
    }
}
