//! Embeddings, the trait of embedders, and the byte form of an embedding.

mod batches;
mod codec;
mod lexical;
mod open_error;
mod remote;
mod transformer;
mod words;

pub use lexical::LexicalEmbedder;
pub use open_error::OpenEmbedderError;
pub use remote::{RemoteEmbedder, RemoteOptions, RemoteUrl};
pub use transformer::{Parallelism, TransformerEmbedder, TransformerOptions};

use crate::error::RetrieverError;

/// The vector that stands for a text in the index.
///
/// Any embedder may make either variant. [`Embedding::check`] runs before a vector enters the index
/// or becomes bytes, so that a bad one is refused there.
#[derive(Debug, Clone, PartialEq)]
pub enum Embedding {
    /// One number per dimension, compared by cosine.
    Dense(Vec<f32>),
    /// Weight per term, with ascending term ids, compared by dot product under IDF.
    Sparse(Vec<(u32, f32)>),
}

/// Makes embeddings. Implementations are pure: equal texts get equal embeddings. Calls block.
pub trait Embedder: Send + Sync {
    /// Names the method and everything its output depends on. The bytes of an embedding carry a hash
    /// of it, so that embeddings with different ids never meet in one index.
    fn id(&self) -> &str;

    /// What this embedder is, for people: one line.
    fn description(&self) -> String;

    /// Numbers in each vector. `None` if the vectors are sparse, or if it is not known yet.
    fn width(&self) -> Option<usize> {
        None
    }

    /// Tells an embedder that does not know the width of its vectors which width the stored ones
    /// have. From then on it refuses to return any other.
    fn expect_width(&self, _width: usize) {}

    /// The embeddings of chunks of documents, one for each text; `None` for a blank text, of which
    /// there is nothing to find.
    ///
    /// # Errors
    /// `EmbedderUnavailable`, `BadEmbedderAnswer`, `BadEmbedding`, `Tokenizer`; then no text of the
    /// batch is embedded.
    fn embed_documents(&self, texts: &[&str]) -> Result<Vec<Option<Embedding>>, RetrieverError>;

    /// The embedding of a question.
    ///
    /// # Errors
    /// `BlankText` if the text has nothing but white space, and those of
    /// [`Embedder::embed_documents`].
    fn embed_query(&self, text: &str) -> Result<Embedding, RetrieverError>;

    /// The embedding of one chunk of a document.
    ///
    /// # Errors
    /// As [`Embedder::embed_query`].
    fn embed_document(&self, text: &str) -> Result<Embedding, RetrieverError> {
        let embedding = self.embed_documents(&[text])?.pop().flatten();
        embedding.ok_or(RetrieverError::BlankText)
    }
}

/// Whether a text has nothing visible: no embedder makes a vector of it.
fn is_blank(text: &str) -> bool {
    let starts_visible = |c: char| c.is_ascii_graphic();
    !text.trim_start().starts_with(starts_visible) && words::words(text).is_empty()
}

impl Embedding {
    /// Refuses vectors that would make every score NaN or every score equal.
    ///
    /// # Errors
    /// `BadEmbedding`: a number that is not finite, a vector that is empty or all zero, a sparse
    /// weight that is not positive, sparse ids that do not ascend.
    pub fn check(&self) -> Result<(), RetrieverError> {
        let what = match self {
            Self::Dense(values) if values.iter().any(|v| !v.is_finite()) => {
                "a number is not finite"
            }
            Self::Dense(values) if values.iter().all(|&v| v == 0.0) => "all numbers are zero",
            Self::Sparse(terms) if terms.is_empty() => "it has no term",
            Self::Sparse(terms) if terms.iter().any(|t| !t.1.is_finite() || t.1 <= 0.0) => {
                "a weight is not a positive number"
            }
            Self::Sparse(terms) if !terms.is_sorted_by(|a, b| a.0 < b.0) => {
                "the term ids do not ascend"
            }
            Self::Dense(_) | Self::Sparse(_) => return Ok(()),
        };
        Err(RetrieverError::BadEmbedding { what })
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Dense(_) => "dense",
            Self::Sparse(_) => "sparse",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_refuses_what_cannot_be_compared() {
        let bad = [
            Embedding::Dense(vec![]),
            Embedding::Dense(vec![0.0, -0.0]),
            Embedding::Dense(vec![1.0, f32::NAN]),
            Embedding::Dense(vec![f32::INFINITY]),
            Embedding::Sparse(vec![]),
            Embedding::Sparse(vec![(1, 0.0)]),
            Embedding::Sparse(vec![(1, f32::NAN)]),
            Embedding::Sparse(vec![(2, 1.0), (2, 1.0)]),
            Embedding::Sparse(vec![(2, 1.0), (1, 1.0)]),
        ];
        for embedding in bad {
            let result = embedding.check();
            assert!(
                matches!(result, Err(RetrieverError::BadEmbedding { .. })),
                "{embedding:?}"
            );
        }
        assert_eq!(Embedding::Dense(vec![0.0, -1.0]).check(), Ok(()));
        assert_eq!(
            Embedding::Sparse(vec![(0, 1.0), (u32::MAX, 2.0)]).check(),
            Ok(())
        );
    }
}
