//! The words of a text and their hashes.
//!
//! A word is a run of letters and digits in lower case after NFKC normalisation. Scripts that are
//! written without spaces give one word per character, so that their bigrams act as words. A text
//! without any letter or digit gives its runs of non-blank characters, so every text that is not
//! blank has words.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use tokenizers::NormalizedString;

/// Scripts written without spaces between words: Thai to Myanmar, Khmer, Kana, Han, Hangul.
const UNSPACED: [RangeInclusive<char>; 7] = [
    '\u{0E00}'..='\u{109F}',
    '\u{1780}'..='\u{17FF}',
    '\u{3040}'..='\u{30FF}',
    '\u{3400}'..='\u{9FFF}',
    '\u{AC00}'..='\u{D7AF}',
    '\u{F900}'..='\u{FAFF}',
    '\u{20000}'..='\u{3FFFF}',
];

/// The words of `text` in order.
pub(super) fn words(text: &str) -> Vec<String> {
    let text = normalised(text);
    let mut words = Vec::new();
    for run in text.split(|c: char| !c.is_alphanumeric()) {
        push_words(run, &mut words);
    }
    if words.is_empty() {
        words.extend(text.split_whitespace().map(str::to_owned));
    }
    words
}

/// The id of a word: FNV-1a of its UTF-8 bytes.
pub(super) fn unigram_id(word: &str) -> u32 {
    folded(fnv1a(FNV_OFFSET, word.as_bytes()))
}

/// The id of two words in a row: FNV-1a of both, joined by a space, which no word contains.
pub(super) fn bigram_id(first: &str, second: &str) -> u32 {
    let hash = fnv1a(FNV_OFFSET, first.as_bytes());
    folded(fnv1a(fnv1a(hash, b" "), second.as_bytes()))
}

fn normalised(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut normal = NormalizedString::from(text);
    normal.nfkc();
    Cow::Owned(normal.get().to_owned())
}

fn push_words(run: &str, words: &mut Vec<String>) {
    let mut word = String::new();
    for c in run.chars() {
        if UNSPACED.iter().any(|script| script.contains(&c)) {
            words.extend(Some(std::mem::take(&mut word)).filter(|w| !w.is_empty()));
            words.push(c.to_string());
        } else {
            word.extend(c.to_lowercase());
        }
    }
    words.extend(Some(word).filter(|w| !w.is_empty()));
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a, 64 bits: stable over machines, versions and time, as stored ids must be.
fn fnv1a(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
    })
}

/// 64 to 32 bits by xor of the halves, as FNV's authors advise.
fn folded(hash: u64) -> u32 {
    let low_and_high = hash ^ (hash >> 32);
    (low_and_high & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_case_letters_and_digits() {
        assert_eq!(
            words("The Fox's den, no. 42-B!"),
            ["the", "fox", "s", "den", "no", "42", "b"]
        );
        assert_eq!(words("ÜBER Straße"), ["über", "straße"]);
        assert_eq!(words(" \n\t "), Vec::<String>::new());
    }

    #[test]
    fn composed_and_decomposed_letters_are_one_word() {
        assert_eq!(words("Cafe\u{301}"), words("Caf\u{e9}"));
        assert_eq!(words("\u{ff26}\u{ff4f}\u{ff58}"), ["fox"]); // full-width letters
    }

    #[test]
    fn scripts_without_spaces_give_characters() {
        assert_eq!(words("東京tower"), ["東", "京", "tower"]);
    }

    #[test]
    fn symbols_count_where_there_is_nothing_else() {
        assert_eq!(words("--- 🦊"), ["---", "🦊"]);
        assert_eq!(words("--- fox"), ["fox"]);
    }

    #[test]
    fn hashes_are_those_of_the_fnv_reference() {
        assert_eq!(fnv1a(FNV_OFFSET, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(FNV_OFFSET, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(FNV_OFFSET, b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(unigram_id("foobar"), 0x8594_4171 ^ 0xf739_67e8);
        assert_eq!(bigram_id("foo", "bar"), unigram_id("foo bar"));
    }
}
