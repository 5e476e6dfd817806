//! The bytes of an embedding, as a store keeps them; all numbers little-endian.
//!
//! | bytes | dense | sparse |
//! |---|---|---|
//! | 0 | version, 1 | version, 1 |
//! | 1 | kind, 0 | kind, 1 |
//! | 2.. | `f32` each | `u32` term, `f32` weight each |
//!
//! The length of the bytes says how many there are. A checksum is the store's business.

use crate::embed::Embedding;
use crate::error::RetrieverError;

const VERSION: u8 = 1;
const KIND_DENSE: u8 = 0;
const KIND_SPARSE: u8 = 1;

impl Embedding {
    /// The byte form.
    ///
    /// # Errors
    /// As [`Embedding::check`]: nothing is written that could not be read back.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RetrieverError> {
        self.check()?;
        let mut bytes = vec![VERSION];
        match self {
            Self::Dense(values) => {
                bytes.push(KIND_DENSE);
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::Sparse(terms) => {
                bytes.push(KIND_SPARSE);
                for (term, weight) in terms {
                    bytes.extend(term.to_le_bytes());
                    bytes.extend(weight.to_le_bytes());
                }
            }
        }
        Ok(bytes)
    }

    /// The embedding in `bytes`, which may be anything.
    ///
    /// # Errors
    /// `UnsupportedVersion` for a later format, `DamagedBytes` for everything else that
    /// [`Embedding::to_bytes`] does not write.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RetrieverError> {
        let Some((&[version, kind], body)) = bytes.split_first_chunk() else {
            return Err(damaged("it is shorter than its header"));
        };
        if version != VERSION {
            return Err(RetrieverError::UnsupportedVersion {
                found: version,
                supported: VERSION,
            });
        }
        let embedding = match kind {
            KIND_DENSE => Self::Dense(whole(body.as_chunks())?.map(f32_of).collect()),
            KIND_SPARSE => Self::Sparse(whole(body.as_chunks())?.map(term_of).collect()),
            _ => return Err(damaged("its kind is unknown")),
        };
        embedding
            .check()
            .map_err(|_| damaged("its numbers break the rules of an embedding"))?;
        Ok(embedding)
    }
}

/// The items of a body that must have no bytes left over.
fn whole<const N: usize>(
    (items, rest): (&[[u8; N]], &[u8]),
) -> Result<impl Iterator<Item = [u8; N]>, RetrieverError> {
    match rest {
        [] => Ok(items.iter().copied()),
        _ => Err(damaged("it ends inside a number")),
    }
}

fn f32_of(bytes: [u8; 4]) -> f32 {
    f32::from_le_bytes(bytes)
}

fn term_of([a, b, c, d, e, f, g, h]: [u8; 8]) -> (u32, f32) {
    (
        u32::from_le_bytes([a, b, c, d]),
        f32::from_le_bytes([e, f, g, h]),
    )
}

fn damaged(what: &'static str) -> RetrieverError {
    RetrieverError::DamagedBytes { what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_format_is_stable() {
        let dense = Embedding::Dense(vec![1.0, -2.0]);
        assert_eq!(
            dense.to_bytes().unwrap(),
            [1, 0, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]
        );
        let sparse = Embedding::Sparse(vec![(0x0102_0304, 0.5)]);
        assert_eq!(
            sparse.to_bytes().unwrap(),
            [1, 1, 4, 3, 2, 1, 0, 0, 0, 0x3f]
        );
    }

    #[test]
    fn damage_is_named() {
        let damaged = |bytes: &[u8]| {
            let result = Embedding::from_bytes(bytes);
            assert!(
                matches!(result, Err(RetrieverError::DamagedBytes { .. })),
                "{bytes:?}"
            );
        };
        damaged(&[]);
        damaged(&[1]);
        damaged(&[1, 0]);
        damaged(&[1, 2, 0, 0, 0x80, 0x3f]);
        damaged(&[1, 0, 0, 0, 0x80]);
        damaged(&[1, 0, 0, 0, 0xc0, 0x7f]); // NaN
        damaged(&[1, 1, 1, 0, 0, 0, 0, 0, 0x80, 0xbf]); // a negative weight
        let later = Embedding::from_bytes(&[2, 0, 0, 0, 0x80, 0x3f]);
        assert_eq!(
            later,
            Err(RetrieverError::UnsupportedVersion {
                found: 2,
                supported: 1
            })
        );
        assert!(Embedding::Dense(vec![f32::NAN]).to_bytes().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_error_or_the_embedding_that_writes_them(
            body in prop::collection::vec(any::<u8>(), 0..64),
            header in prop::option::of((Just(1u8), 0u8..3)),
        ) {
            let mut bytes: Vec<u8> = header.map_or(vec![], |(version, kind)| vec![version, kind]);
            bytes.extend(body);
            if let Ok(embedding) = Embedding::from_bytes(&bytes) {
                prop_assert_eq!(embedding.to_bytes().unwrap(), bytes);
            }
        }

        #[test]
        fn good_embeddings_come_back(
            dense in prop::collection::vec(-1e30f32..1e30, 1..40),
            sparse in prop::collection::btree_map(any::<u32>(), 1e-20f32..1e30, 1..40),
        ) {
            for embedding in [Embedding::Dense(dense), Embedding::Sparse(sparse.into_iter().collect())] {
                prop_assume!(embedding.check().is_ok());
                let bytes = embedding.to_bytes().unwrap();
                prop_assert_eq!(Embedding::from_bytes(&bytes).unwrap(), embedding);
            }
        }
    }
}
