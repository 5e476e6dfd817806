//! Keys and shapes of blobs. The store never looks inside one.
use std::fmt;
use std::str::FromStr;

/// Hash over everything a blob's bytes depend on. Its text form is 64 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobKey(pub [u8; 32]);

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobKey({self})")
    }
}

/// A string is not 64 lowercase hex digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a blob key has 64 lowercase hex digits")]
pub struct ParseBlobKeyError;

impl FromStr for BlobKey {
    type Err = ParseBlobKeyError;

    fn from_str(text: &str) -> Result<Self, ParseBlobKeyError> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let pairs: &[[u8; 2]; 32] = pairs.try_into().map_err(|_| ParseBlobKeyError)?;
        if !rest.is_empty() {
            return Err(ParseBlobKeyError);
        }
        let mut key = [0; 32];
        for (byte, [high, low]) in key.iter_mut().zip(pairs) {
            *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
        }
        Ok(Self(key))
    }
}

fn hex_digit(digit: u8) -> Result<u8, ParseBlobKeyError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(ParseBlobKeyError),
    }
}

/// Shape of a blob: `n_layers` times a K block and a V block, for `n_tokens` tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobGeometry {
    pub n_layers: u32,
    pub n_tokens: u32,
    /// Size of each layer's K block in bytes, without padding.
    pub k_block_bytes: u32,
    /// Size of each layer's V block in bytes, without padding.
    pub v_block_bytes: u32,
    /// Element type of the blocks; the store keeps and returns it without looking.
    pub dtype: u8,
}
