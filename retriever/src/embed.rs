//! Embeddings, the trait of embedders, and the byte form of an embedding.

mod codec;
mod lexical;
mod words;

pub use lexical::LexicalEmbedder;

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

/// Makes embeddings. Implementations are pure: equal texts get equal embeddings.
pub trait Embedder: Send + Sync {
    /// Names the method and everything its output depends on. The bytes of an embedding carry a hash
    /// of it, so that embeddings with different ids never meet in one index.
    fn id(&self) -> &str;

    /// The embedding of a chunk of a document.
    ///
    /// # Errors
    /// `BlankText` if the text has nothing but white space.
    fn embed_document(&self, text: &str) -> Result<Embedding, RetrieverError>;

    /// The embedding of a question.
    ///
    /// # Errors
    /// `BlankText` if the text has nothing but white space.
    fn embed_query(&self, text: &str) -> Result<Embedding, RetrieverError>;
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
