//! A text inside its wrapper, as token ids, and the rule for how wrapper and text are joined.

use ragweave_engine::{EngineError, TextCodec};

/// Tokens that may be added to a chunk when a joined side of the wrapper changes the merges at the text's border.
const BORDER_TOKENS: usize = 2;

/// The wrapper: the text before and after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrapped {
    before: Side,
    after: Side,
    /// Ids around an empty text.
    n_tokens: usize,
}

/// One side of a wrapper. Decided once, from the wrapper alone, so that no text can change it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Side {
    /// Without special tokens: encoded together with the text.
    Joined(String),
    /// With special tokens: encoded by itself.
    Apart(Vec<u32>),
}

impl Wrapped {
    pub(super) fn new(codec: &TextCodec, before: &str, after: &str) -> Result<Self, EngineError> {
        let sides = (Side::new(codec, before)?, Side::new(codec, after)?);
        let mut wrapped = Self {
            before: sides.0,
            after: sides.1,
            n_tokens: 0,
        };
        wrapped.n_tokens = wrapped.ids(codec, "")?.len();
        Ok(wrapped)
    }

    /// Cuts `pattern` at `place`; if the pattern does not contain it, the text comes last.
    pub(super) fn around(
        codec: &TextCodec,
        pattern: &str,
        place: &str,
    ) -> Result<Self, EngineError> {
        let (before, after) = pattern.split_once(place).unwrap_or((pattern, ""));
        Self::new(codec, before, after)
    }

    /// Ids of `text` in its wrapper.
    pub(super) fn ids(&self, codec: &TextCodec, text: &str) -> Result<Vec<u32>, EngineError> {
        let mut joined = String::with_capacity(text.len() + 32);
        let mut ids = match &self.before {
            Side::Apart(ids) => ids.clone(),
            Side::Joined(before) => {
                joined.push_str(before);
                Vec::new()
            }
        };
        joined.push_str(text);
        if let Side::Joined(after) = &self.after {
            joined.push_str(after);
        }
        ids.extend(codec.encode_plain(&joined)?);
        if let Side::Apart(after) = &self.after {
            ids.extend(after);
        }
        Ok(ids)
    }

    pub(super) fn reserved_tokens(&self) -> usize {
        let is_joined = |side: &Side| matches!(side, Side::Joined(s) if !s.is_empty());
        let borders = usize::from(is_joined(&self.before)) + usize::from(is_joined(&self.after));
        self.n_tokens + borders * BORDER_TOKENS
    }

    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) {
        for side in [&self.before, &self.after] {
            let (tag, bytes) = match side {
                Side::Joined(text) => (0u8, text.as_bytes().to_vec()),
                Side::Apart(ids) => (1, ids.iter().flat_map(|id| id.to_le_bytes()).collect()),
            };
            hasher.update(&[tag]);
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(&bytes);
        }
    }
}

impl Side {
    fn new(codec: &TextCodec, text: &str) -> Result<Self, EngineError> {
        let ids = codec.encode_template(text)?;
        let plain = codec.encode_plain(text)?;
        Ok(if ids == plain {
            Self::Joined(text.to_owned())
        } else {
            Self::Apart(ids)
        })
    }
}
