//! Fixture directories, and copies of them that tests may damage.

use std::path::{Path, PathBuf};

use burn_flex::{Flex, FlexDevice};
use ragweave_retriever::{
    Embedder, Embedding, OpenEmbedderError, Parallelism, TransformerEmbedder, TransformerOptions,
};
use serde_json::Value;
use tempfile::TempDir;

pub const FIXTURES: [&str; 5] = [
    "bert-mean",
    "bge-cls",
    "xlmr-e5",
    "mpnet-weighted",
    "distilbert-dense",
];

pub fn fixture(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/embedders");
    fixtures.join(name)
}

pub fn open(dir: &Path) -> Result<TransformerEmbedder, OpenEmbedderError> {
    let options = TransformerOptions {
        dir: dir.to_owned(),
        ..TransformerOptions::default()
    };
    TransformerEmbedder::spawn::<Flex>(&options, FlexDevice, Parallelism::Threads)
}

/// A copy of a fixture.
pub fn copy(name: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    copy_into(&fixture(name), root.path());
    root
}

fn copy_into(from: &Path, to: &Path) {
    fs_err::create_dir_all(to).unwrap();
    for entry in fs_err::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_into(&path, &target),
            false => drop(fs_err::copy(&path, &target).unwrap()),
        }
    }
}

pub fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
}

/// Changes a JSON file of a copied directory.
pub fn edit(root: &TempDir, file: &str, change: impl FnOnce(&mut Value)) {
    let path = root.path().join(file);
    let mut value = read_json(&path);
    change(&mut value);
    fs_err::write(&path, value.to_string()).unwrap();
}

pub fn dense(embedding: Embedding) -> Vec<f32> {
    match embedding {
        Embedding::Dense(values) => values,
        Embedding::Sparse(_) => unreachable!("these embedders are dense"),
    }
}

pub fn document(embedder: &dyn Embedder, text: &str) -> Vec<f32> {
    dense(embedder.embed_document(text).unwrap())
}

pub fn query(embedder: &dyn Embedder, text: &str) -> Vec<f32> {
    dense(embedder.embed_query(text).unwrap())
}

pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y));
        products.sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
