//! Tokens that spell single bytes, of which a character may take several. Two spellings are in use:
//! byte-level BPE writes each byte as one printable character, SentencePiece writes bytes that its
//! vocabulary has no text for as `<0xE6>`.

use tokenizers::DecoderWrapper;

/// Bytes of the longest character that is not complete yet.
const MAX_OPEN_BYTES: usize = 3;

/// How a tokenizer spells bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteSpelling {
    /// Every token is complete text.
    None,
    /// Every token is a run of bytes, written as one printable character each.
    Level,
    /// Tokens of the form `<0xE6>` are one byte, the others text.
    Fallback,
}

/// The end of a run of tokens, inside a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OpenEnd {
    /// Tokens that hold bytes of the character.
    pub(super) n_tokens: usize,
    /// Number of U+FFFD that decoding gives for these bytes.
    pub(super) n_replacements: usize,
}

impl ByteSpelling {
    /// The spelling that `decoder` undoes.
    pub(super) fn of(decoder: Option<&DecoderWrapper>) -> Self {
        match decoder {
            Some(DecoderWrapper::ByteLevel(_)) => Self::Level,
            Some(DecoderWrapper::ByteFallback(_)) => Self::Fallback,
            Some(DecoderWrapper::Sequence(sequence)) => {
                let spellings = sequence.get_decoders().iter();
                spellings
                    .map(|decoder| Self::of(Some(decoder)))
                    .find(|spelling| *spelling != Self::None)
                    .unwrap_or(Self::None)
            }
            _ => Self::None,
        }
    }

    /// The tokens with U+FFFD for each byte token that is not part of UTF-8. For one such byte the
    /// library's decoder replaces every byte of the run, those of good text included. Good bytes
    /// stay tokens: what the decoder does to text before and after it joins bytes must not change.
    /// (Byte-level decoders replace only the bad bytes.)
    pub(super) fn without_bad_bytes(self, tokens: &[String]) -> Vec<String> {
        if self != Self::Fallback {
            return tokens.to_vec();
        }
        let mut result = Vec::with_capacity(tokens.len());
        for run in tokens.chunk_by(|a, b| fallback_byte(a).is_some() && fallback_byte(b).is_some())
        {
            let bytes: Vec<u8> = run
                .iter()
                .filter_map(|token| fallback_byte(token))
                .collect();
            match bytes.is_empty() {
                true => result.extend_from_slice(run),
                false => push_run(&mut result, run, &bytes),
            }
        }
        result
    }

    /// Whether the tokens end inside a character that further tokens may complete.
    pub(super) fn open_end(self, tokens: &[String]) -> Option<OpenEnd> {
        let mut bytes = Vec::new();
        let mut n_bytes_from = Vec::new(); // bytes from the last token, the last two, and so on
        for token in tokens.iter().rev().take(MAX_OPEN_BYTES) {
            let Some(more) = self.bytes(token) else {
                break;
            };
            bytes.splice(..0, more);
            n_bytes_from.push(bytes.len());
        }
        let n_open = open_bytes(&bytes);
        let n_tokens = 1 + n_bytes_from.iter().position(|n| *n >= n_open)?;
        (n_open > 0).then_some(OpenEnd {
            n_tokens,
            n_replacements: if self == Self::Level { 1 } else { n_open },
        })
    }

    /// The bytes of a token; `None` if it is complete text.
    fn bytes(self, token: &str) -> Option<Vec<u8>> {
        match self {
            Self::None => None,
            Self::Level => token.chars().map(level_byte).collect(),
            Self::Fallback => fallback_byte(token).map(|byte| vec![byte]),
        }
    }
}

/// The byte that byte-level BPE writes as `c`: printable Latin-1 stands for itself, the 68 others
/// are U+0100 and up, in order.
pub(super) fn level_byte(c: char) -> Option<u8> {
    let is_itself = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u8::try_from(c) {
        Ok(byte) => Some(byte).filter(is_itself),
        Err(_) => {
            let place = usize::try_from(u32::from(c)).ok()?.checked_sub(0x100)?;
            (0..=u8::MAX).filter(|byte| !is_itself(byte)).nth(place)
        }
    }
}

fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// A run of byte tokens and the bytes they spell, one each.
fn push_run(result: &mut Vec<String>, run: &[String], bytes: &[u8]) {
    let mut rest = run;
    for chunk in bytes.utf8_chunks() {
        let (good, after) = rest.split_at(chunk.valid().len());
        let (bad, after) = after.split_at(chunk.invalid().len());
        result.extend_from_slice(good);
        result.extend(bad.iter().map(|_| char::REPLACEMENT_CHARACTER.to_string()));
        rest = after;
    }
}

/// Bytes at the end that begin a character and do not complete it.
fn open_bytes(bytes: &[u8]) -> usize {
    let is_open = |n: &usize| match std::str::from_utf8(&bytes[bytes.len() - n..]) {
        Ok(_) => false,
        Err(error) => error.valid_up_to() == 0 && error.error_len().is_none(),
    };
    let longest = bytes.len().min(MAX_OPEN_BYTES);
    (1..=longest).rev().find(is_open).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_spelling_in_byte_level_tokens() {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut bytes: Vec<u8> = alphabet.into_iter().filter_map(level_byte).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=u8::MAX).collect::<Vec<u8>>());
        assert_eq!(level_byte('Ġ'), Some(b' '));
        assert_eq!((level_byte(' '), level_byte('▁')), (None, None));
    }

    #[test]
    fn only_bad_bytes_are_replaced_and_good_ones_stay_tokens() {
        let tokens = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        for (before, after) in [
            ("<0xE2> <0x96> <0x81>", "<0xE2> <0x96> <0x81>"),
            ("a <0x3C> <0x30> b", "a <0x3C> <0x30> b"),
            (
                "<0x41> <0xFF> <0x42> \u{2581}",
                "<0x41> \u{fffd} <0x42> \u{2581}",
            ),
            ("<0xE6> <0x97> a <0xA5>", "\u{fffd} \u{fffd} a \u{fffd}"),
        ] {
            let after = tokens(after);
            assert_eq!(
                ByteSpelling::Fallback.without_bad_bytes(&tokens(before)),
                after
            );
        }
    }

    #[test]
    fn only_a_beginning_that_can_still_become_a_character_is_open() {
        for (bytes, n_open) in [
            (&b"a"[..], 0),
            (b"\xe6", 1),
            (b"a\xe6\x97", 2),
            (b"\xe6\x97\xa5", 0),
            (b"\xf0\x9f\x98", 3),
            (b"\xff", 0),
            (b"\xe6\xe6", 1),
            (b"\x97\x97\x97", 0),
            (b"\xed\xa0", 0), // a surrogate
            (b"\xe6a", 0),
            (b"", 0),
        ] {
            assert_eq!(open_bytes(bytes), n_open, "{bytes:x?}");
        }
    }
}
