//! Why the graph's dump is not used or not written.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a dump is not used or not written. The index is complete without it.
#[derive(Debug, Error)]
pub enum DumpError {
    /// There is none.
    #[error("there is no dump of the search graph in {}", dir.display())]
    Absent {
        /// Where it would be.
        dir: PathBuf,
    },
    /// The file system refused.
    #[error("the dump of the search graph: {0}")]
    Io(#[from] io::Error),
    /// A file is not what was written.
    #[error("the dump of the search graph is damaged: {} {what}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Made with other settings, or by another version.
    #[error("the dump of the search graph was made with {field} {found}, this needs {expected}")]
    OtherSettings {
        /// Which setting.
        field: &'static str,
        /// The value in the dump.
        found: String,
        /// The value here.
        expected: String,
    },
    /// Chunks were removed or replaced since.
    #[error(
        "the dump of the search graph is stale: {missing} of its {rows} vectors are not in the index"
    )]
    Stale {
        /// Rows of the dump that the index lacks.
        missing: usize,
        /// Rows of the dump.
        rows: usize,
    },
    /// The files are intact, and still `hnsw_rs` cannot use them.
    #[error("hnsw_rs failed: {message}")]
    Graph {
        /// Its words.
        message: String,
    },
}
