//! Readers on good and bad files: every bad document is one typed error, and the others are still read.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::collections::BTreeMap;
use std::path::Path;

use ragweave_retriever::{
    BadDocumentId, DocumentFormat, DocumentReader, ReadError, ReadOptions, ReadProblem,
    SourceDocument, read_documents, total_bytes,
};
use tempfile::TempDir;

mod files;
mod folders;
mod records;

type Item = Result<SourceDocument, ReadError>;

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, bytes).unwrap();
    }
    dir
}

fn reader(root: &Path, options: &ReadOptions) -> DocumentReader {
    read_documents(&[root.to_owned()], options)
}

fn read(root: &Path) -> Vec<Item> {
    reader(root, &ReadOptions::default()).collect()
}

fn limited_to(max_document_bytes: u64) -> ReadOptions {
    ReadOptions {
        max_document_bytes,
        ..ReadOptions::default()
    }
}

fn ids(items: &[Item]) -> Vec<&str> {
    items
        .iter()
        .flatten()
        .map(|document| &*document.id)
        .collect()
}

fn errors(items: &[Item]) -> Vec<&ReadError> {
    items
        .iter()
        .filter_map(|item| item.as_ref().err())
        .collect()
}
