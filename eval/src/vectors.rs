//! Dense vectors that another program made: a safetensors file, and an embedder that looks texts up
//! in it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use ragweave_retriever::{Embedder, Embedding, RetrieverError};
use ragweave_server::config::{self, CommonArgs};
use ragweave_server::embedder;
use ragweave_server::error::ServerError;
use safetensors::{Dtype, SafeTensors};

/// Name of the tensor in the file.
const TENSOR: &str = "vectors";

/// `[rows, dimension]`.
#[derive(Debug)]
pub(crate) struct Vectors {
    pub(crate) dimension: usize,
    values: Vec<f32>,
}

impl Vectors {
    /// `values` has a whole number of rows.
    pub(crate) fn new(dimension: usize, values: Vec<f32>) -> Self {
        Self { dimension, values }
    }

    /// Reads the tensor `vectors` of a safetensors file, float32 with two dimensions.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = fs_err::read(path)?;
        Self::parse(&bytes).with_context(|| format!("read vectors {}", path.display()))
    }

    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let file = SafeTensors::deserialize(bytes).context("it is not a safetensors file")?;
        let tensor = file.tensor(TENSOR)?;
        let (dtype, shape) = (tensor.dtype(), tensor.shape());
        let dimension = match (dtype, shape) {
            (Dtype::F32, &[rows, dimension]) if rows > 0 && dimension > 0 => dimension,
            _ => bail!("`{TENSOR}` is {dtype:?} {shape:?}, expected F32 [rows, dimension]"),
        };
        let (numbers, _) = tensor.data().as_chunks::<4>();
        let values: Vec<f32> = numbers.iter().map(|n| f32::from_le_bytes(*n)).collect();
        Ok(Self::new(dimension, values))
    }

    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimension)
    }
}

/// Which embedder a command uses.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct EmbedderArgs {
    /// Vectors of the texts, float32 `[texts, dimension]`, instead of those of an embedder
    #[arg(long, value_name = "FILE.safetensors", requires = "texts")]
    vectors: Option<PathBuf>,
    /// The texts that the vectors belong to, one JSON string a line
    #[arg(long, value_name = "FILE", requires = "vectors")]
    texts: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

impl EmbedderArgs {
    pub(crate) fn open(&self) -> anyhow::Result<Arc<dyn Embedder>> {
        match (&self.vectors, &self.texts) {
            (Some(vectors), Some(texts)) => Ok(Arc::new(Known::read(vectors, texts)?)),
            _ => {
                let config = config::embedder(&self.common)?;
                Ok(embedder::open(&config).map_err(ServerError::from)?)
            }
        }
    }
}

/// Knows the vectors of given texts, and no others.
struct Known {
    id: String,
    vectors: HashMap<String, Vec<f32>>,
}

impl Known {
    fn read(vectors: &Path, texts: &Path) -> anyhow::Result<Self> {
        let id = format!("vectors of {}", vectors.display());
        let vectors = Vectors::read(vectors)?;
        let lines = fs_err::read_to_string(texts)?;
        let parsed = lines.lines().zip(1..).map(|(line, n)| {
            let place = || format!("{}:{n} is not a JSON string", texts.display());
            serde_json::from_str(line).with_context(place)
        });
        let texts: Vec<String> = parsed.collect::<anyhow::Result<_>>()?;
        ensure!(
            texts.len() == vectors.rows().len(),
            "there are {} texts and {} vectors; give the files of one run",
            texts.len(),
            vectors.rows().len()
        );
        let rows = vectors.rows().map(<[f32]>::to_vec);
        Ok(Self {
            id,
            vectors: texts.into_iter().zip(rows).collect(),
        })
    }

    fn embed(&self, text: &str) -> Result<Embedding, RetrieverError> {
        match self.vectors.get(text) {
            Some(values) => Ok(Embedding::Dense(values.clone())),
            None => Err(RetrieverError::BadEmbedding {
                what: "--vectors has none for a text; make them from the same dataset",
            }),
        }
    }
}

impl Embedder for Known {
    fn id(&self) -> &str {
        &self.id
    }

    fn description(&self) -> String {
        self.id.clone()
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Vec<Option<Embedding>>, RetrieverError> {
        texts
            .iter()
            .map(|text| self.embed(text).map(Some))
            .collect()
    }

    fn embed_query(&self, text: &str) -> Result<Embedding, RetrieverError> {
        self.embed(text)
    }
}

#[cfg(test)]
mod tests {
    use safetensors::serialize;
    use safetensors::tensor::TensorView;

    use super::*;

    fn write(dir: &Path, dtype: Dtype, shape: &[usize], bytes: &[u8]) -> PathBuf {
        let tensor = TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
        let path = dir.join("some.safetensors");
        fs_err::write(&path, serialize([(TENSOR, tensor)], None).unwrap()).unwrap();
        path
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn rows_are_read_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let vectors = Vectors::read(&write(dir.path(), Dtype::F32, &[2, 3], &bytes)).unwrap();
        let rows: Vec<&[f32]> = vectors.rows().collect();
        assert_eq!(rows, [&[1.0, 2.0, 3.0][..], &[4.0, 5.0, 6.0]]);
    }

    #[test]
    fn files_that_do_not_fit_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = floats(&[0.5; 6]);
        for (dtype, shape) in [
            (Dtype::F32, &[6][..]),
            (Dtype::I32, &[2, 3]),
            (Dtype::F32, &[0, 3]),
        ] {
            let bytes = &bytes[..4 * shape.iter().product::<usize>()];
            let path = write(dir.path(), dtype, shape, bytes);
            let error = format!("{:#}", Vectors::read(&path).unwrap_err());
            assert!(error.contains("expected F32 [rows, dimension]"), "{error}");
            assert!(error.contains("some.safetensors"), "{error}");
        }
        let path = dir.path().join("some.safetensors");
        fs_err::write(&path, [0xff; 64]).unwrap(); // a header of 2^64 - 1 bytes
        let error = format!("{:#}", Vectors::read(&path).unwrap_err());
        assert!(error.contains("not a safetensors file"), "{error}");
    }

    #[test]
    fn texts_and_vectors_belong_together() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = floats(&[1.0, 0.0, 0.0, 1.0]);
        let vectors = write(dir.path(), Dtype::F32, &[2, 2], &bytes);
        let texts = dir.path().join("texts.jsonl");
        fs_err::write(&texts, "\"a\\nb\"\n\"c\"\n").unwrap();
        let known = Known::read(&vectors, &texts).unwrap();
        assert_eq!(
            known.embed_query("a\nb").unwrap(),
            Embedding::Dense(vec![1.0, 0.0])
        );
        assert!(
            known
                .embed_query("d")
                .unwrap_err()
                .to_string()
                .contains("--vectors")
        );
        fs_err::write(&texts, "\"a\"\n").unwrap();
        let error = Known::read(&vectors, &texts).err().unwrap();
        assert!(
            error.to_string().contains("1 texts and 2 vectors"),
            "{error}"
        );
        fs_err::write(&texts, "\"a\"\nb\n").unwrap();
        let error = format!("{:#}", Known::read(&vectors, &texts).err().unwrap());
        assert!(error.contains(":2 is not a JSON string"), "{error}");
    }
}
