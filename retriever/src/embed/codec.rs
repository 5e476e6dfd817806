//! The bytes of an embedding, as a store keeps them; all numbers little-endian.
//!
//! | bytes | dense | sparse |
//! |---|---|---|
//! | 0 | version, 2 | version, 2 |
//! | 1 | kind, 0 | kind, 1 |
//! | 2..6 | `u32` tag of the embedder | `u32` tag of the embedder |
//! | 6.. | `f32` each | `u32` term, `f32` weight each |
//!
//! The length of the bytes gives the number of values. The tag is a hash of [`Embedder::id`]: vectors
//! of two embedders cannot be compared, and each vector says which embedder made it, so replacing the
//! vectors of a store can be interrupted and continued at any point. Version 1 had no tag; its vectors
//! were made by `lexical-bm25-v1`, which no longer exists. Checksums are left to the store.
//!
//! [`Embedder::id`]: crate::Embedder::id

use crate::embed::Embedding;
use crate::embed::words::hash;
use crate::error::RetrieverError;

const VERSION: u8 = 2;
const KIND_DENSE: u8 = 0;
const KIND_SPARSE: u8 = 1;

impl Embedding {
    /// The byte form of an embedding made by the embedder with this id.
    ///
    /// # Errors
    /// As [`Embedding::check`]: only what can be read back is written.
    pub fn to_bytes(&self, embedder_id: &str) -> Result<Vec<u8>, RetrieverError> {
        self.check()?;
        let (kind, numbers): (u8, Vec<[u8; 4]>) = match self {
            Self::Dense(values) => (KIND_DENSE, values.iter().map(|v| v.to_le_bytes()).collect()),
            Self::Sparse(terms) => {
                let term_bytes = |t: &(u32, f32)| [t.0.to_le_bytes(), t.1.to_le_bytes()];
                (KIND_SPARSE, terms.iter().flat_map(term_bytes).collect())
            }
        };
        let mut bytes = vec![VERSION, kind];
        bytes.extend(tag(embedder_id));
        bytes.extend(numbers.as_flattened());
        Ok(bytes)
    }

    /// The embedding in `bytes`, if they hold one that was made by the embedder with this id.
    ///
    /// # Errors
    /// `UnsupportedVersion` for another format, `OtherEmbedder`, `DamagedBytes` for everything else
    /// that [`Embedding::to_bytes`] does not write.
    pub fn from_bytes(bytes: &[u8], embedder_id: &str) -> Result<Self, RetrieverError> {
        let Some((&version, rest)) = bytes.split_first() else {
            return Err(damaged("it is empty"));
        };
        if version != VERSION {
            return Err(RetrieverError::UnsupportedVersion {
                found: version,
                supported: VERSION,
            });
        }
        let Some((&[kind, ref made_by @ ..], body)) = rest.split_first_chunk::<5>() else {
            return Err(damaged("it is shorter than its header"));
        };
        if *made_by != tag(embedder_id) {
            return Err(RetrieverError::OtherEmbedder);
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

fn tag(embedder_id: &str) -> [u8; 4] {
    hash(embedder_id.as_bytes()).to_le_bytes()
}

/// The items of a body; an error if bytes are left over.
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

    const ID: &str = "foobar";
    /// FNV-1a of the id, as `words.rs` has it from the reference, folded to 32 bits.
    const TAG: [u8; 4] = 0x72ad_2699_u32.to_le_bytes();

    fn bytes(header: [u8; 2], body: &[u8]) -> Vec<u8> {
        [&header[..], &TAG, body].concat()
    }

    #[test]
    fn the_format_is_stable() {
        let dense = Embedding::Dense(vec![1.0, -2.0]);
        assert_eq!(
            dense.to_bytes(ID).unwrap(),
            bytes([2, 0], &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0])
        );
        let sparse = Embedding::Sparse(vec![(0x0102_0304, 0.5)]);
        assert_eq!(
            sparse.to_bytes(ID).unwrap(),
            bytes([2, 1], &[4, 3, 2, 1, 0, 0, 0, 0x3f])
        );
    }

    #[test]
    fn damage_is_named() {
        let damaged = |bytes: &[u8]| {
            let result = Embedding::from_bytes(bytes, ID);
            assert!(
                matches!(result, Err(RetrieverError::DamagedBytes { .. })),
                "{bytes:?}"
            );
        };
        damaged(&[]);
        damaged(&[2]);
        damaged(&[2, 0, 1]);
        damaged(&bytes([2, 0], &[]));
        damaged(&bytes([2, 2], &[0, 0, 0x80, 0x3f]));
        damaged(&bytes([2, 0], &[0, 0, 0x80]));
        damaged(&bytes([2, 0], &[0, 0, 0xc0, 0x7f])); // NaN
        damaged(&bytes([2, 1], &[1, 0, 0, 0, 0, 0, 0x80, 0xbf])); // a negative weight
        assert!(Embedding::Dense(vec![f32::NAN]).to_bytes(ID).is_err());
    }

    #[test]
    fn vectors_of_another_format_or_embedder_are_not_taken_for_ours() {
        for found in [1, 3] {
            let other = Embedding::from_bytes(&[found, 1, 1, 0, 0, 0, 0, 0, 0x80, 0x3f], ID);
            let supported = 2;
            assert_eq!(
                other,
                Err(RetrieverError::UnsupportedVersion { found, supported })
            );
        }
        let ours = Embedding::Dense(vec![1.0]).to_bytes(ID).unwrap();
        assert_eq!(
            Embedding::from_bytes(&ours, "foobaz"),
            Err(RetrieverError::OtherEmbedder)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_error_or_the_embedding_that_writes_them(
            body in prop::collection::vec(any::<u8>(), 0..64),
            header in prop::option::of((Just(2u8), 0u8..3)),
        ) {
            let header = header.map_or(vec![], |(version, kind)| bytes([version, kind], &[]));
            let bytes = [header, body].concat();
            if let Ok(embedding) = Embedding::from_bytes(&bytes, ID) {
                prop_assert_eq!(embedding.to_bytes(ID).unwrap(), bytes);
            }
        }

        #[test]
        fn good_embeddings_come_back(
            dense in prop::collection::vec(-1e30f32..1e30, 1..40),
            sparse in prop::collection::btree_map(any::<u32>(), 1e-20f32..1e30, 1..40),
        ) {
            for embedding in [Embedding::Dense(dense), Embedding::Sparse(sparse.into_iter().collect())] {
                prop_assume!(embedding.check().is_ok());
                let bytes = embedding.to_bytes(ID).unwrap();
                prop_assert_eq!(Embedding::from_bytes(&bytes, ID).unwrap(), embedding);
            }
        }
    }
}
