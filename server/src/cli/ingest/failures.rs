//! `failures.jsonl` in the data directory: one line per document the latest run could not ingest.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fs_err::File;
use serde::Serialize;

const FILE_NAME: &str = "failures.jsonl";

/// The list of one run. The file is created with the first failure.
pub(super) struct FailureLog {
    path: PathBuf,
    file: Option<File>,
    n_failures: usize,
}

impl FailureLog {
    /// A new list; the list of the previous run is removed.
    pub(super) fn new(data: &Path) -> io::Result<Self> {
        let path = data.join(FILE_NAME);
        if path.exists() {
            fs_err::remove_file(&path)?;
        }
        Ok(Self {
            path,
            file: None,
            n_failures: 0,
        })
    }

    /// Adds a line and hands it to the operating system, so that it survives a kill of this process.
    pub(super) fn add(&mut self, failure: &impl Serialize) -> io::Result<()> {
        self.n_failures += 1;
        let mut line = serde_json::to_vec(failure)?;
        line.push(b'\n');
        let file = match self.file.take() {
            Some(file) => file,
            None => File::create(&self.path)?,
        };
        self.file.insert(file).write_all(&line)
    }

    pub(super) fn len(&self) -> usize {
        self.n_failures
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
