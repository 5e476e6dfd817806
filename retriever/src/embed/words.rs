//! The words of a text and their hashes.
//!
//! A word is a run of letters and digits after compatibility case folding (Unicode's NFKC_Casefold,
//! no locale): letters that differ only in case, composition or width are the same, and invisible
//! characters, such as a soft hyphen, are dropped. Scripts that are written without spaces give one
//! word per character, so that pairs of characters act as words. A text without any letter or digit
//! gives its runs of non-blank characters, so every text with something visible has words.

use std::ops::RangeInclusive;

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizer, DecomposingNormalizer};
use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;

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
    let text = folded(text);
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
    hash(word.as_bytes())
}

/// The id of two words in a row: FNV-1a of both, joined by a space, which no word contains.
pub(super) fn bigram_id(first: &str, second: &str) -> u32 {
    let hash = fnv1a(FNV_OFFSET, first.as_bytes());
    halved(fnv1a(fnv1a(hash, b" "), second.as_bytes()))
}

/// The one form of a text that all its spellings fold to.
fn folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let visible: String = text.chars().filter(|&c| !ignorable.contains(c)).collect();
    let cases = CaseMapper::new();
    // Definition 146 of the Unicode standard: folding can undo a normalisation, and the reverse.
    let text = DecomposingNormalizer::new_nfd().normalize(&visible);
    let text = cases.fold_string(&text);
    let text = DecomposingNormalizer::new_nfkd().normalize(&text);
    let text = cases.fold_string(&text);
    ComposingNormalizer::new_nfkc()
        .normalize(&text)
        .into_owned()
}

fn push_words(run: &str, words: &mut Vec<String>) {
    let mut word = String::new();
    for c in run.chars() {
        if UNSPACED.iter().any(|script| script.contains(&c)) {
            words.extend(Some(std::mem::take(&mut word)).filter(|w| !w.is_empty()));
            words.push(c.to_string());
        } else {
            word.push(c);
        }
    }
    words.extend(Some(word).filter(|w| !w.is_empty()));
}

/// 32 bits of FNV-1a.
pub(super) fn hash(bytes: &[u8]) -> u32 {
    halved(fnv1a(FNV_OFFSET, bytes))
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a, 64 bits: the same on every machine and in every version, as stored ids must be.
fn fnv1a(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
    })
}

/// 64 to 32 bits by xor of the halves, as FNV's authors advise.
fn halved(hash: u64) -> u32 {
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
        assert_eq!(words("ÜBER Straße"), ["über", "strasse"]);
        assert_eq!(words(" \n\t "), Vec::<String>::new());
    }

    #[test]
    fn composed_and_decomposed_letters_are_one_word() {
        assert_eq!(words("Cafe\u{301}"), words("Caf\u{e9}"));
        assert_eq!(words("\u{ff26}\u{ff4f}\u{ff58}"), ["fox"]); // full-width letters
    }

    /// Each line is ways to write the same words.
    const ALIKE: [&[&str]; 14] = [
        &["δρόμος", "ΔΡΌΜΟΣ", "Δρόμοσ", "ΔΡΟ\u{301}ΜΟΣ"],
        &["straße", "STRASSE", "STRAẞE", "strasse"],
        &["Immo\u{ad}bilien", "Immobilien", "IMMO\u{200b}BILIEN"],
        &["ﬁsch", "FISCH", "ﬁSCH"],
        &["ŉgoma", "ʼNGOMA"],
        &["ᾳ", "ΑΙ", "αι"],
        &["éte\u{301}", "ÉTÉ", "E\u{301}te\u{301}"],
        &["ﾊﾟﾝ", "パン", "ハ\u{309a}ン"],
        &["Ｆｏｘ４２", "fox42", "FOX\u{2060}42"],
        &[
            "한국어",
            "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}\u{110b}\u{1165}",
        ],
        &["می\u{200c}خواهم", "می\u{200d}خواهم", "میخواهم"],
        &["\u{feff}МОСКВА", "москва", "Москва\u{200e}"],
        &["Ꭰ", "ꭰ"],
        &["❤\u{fe0f}", "❤", "❤\u{fe0e}"],
    ];

    #[test]
    fn all_ways_to_write_a_word_are_one_word() {
        for ways in ALIKE {
            for way in ways {
                assert_eq!(words(way), words(ways[0]), "{way:?}");
                assert!(!words(way).is_empty());
            }
        }
    }

    #[test]
    fn no_locale_is_assumed_and_accents_count() {
        assert_ne!(words("ısı"), words("isi"));
        assert_eq!(words("ISI"), words("isi"));
        assert_ne!(words("δρόμος"), words("δρομος"));
    }

    /// The exception is a letter whose capital is that of another letter.
    #[test]
    fn every_letter_is_found_by_its_capital_and_its_small_form() {
        for c in ('\0'..=char::MAX).filter(|&c| c.is_alphabetic() && c != 'ı') {
            let word = folded(&c.to_string());
            let (small, capital): (String, String) =
                (c.to_lowercase().collect(), c.to_uppercase().collect());
            assert_eq!(folded(&small), word, "{c:?}");
            assert_eq!(folded(&capital), word, "{c:?}");
            assert_eq!(folded(&word), word, "{c:?}");
        }
    }

    #[test]
    fn a_text_that_shows_nothing_has_no_words() {
        assert_eq!(words("\u{200b}\u{ad} \u{feff}"), Vec::<String>::new());
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
