//! Scores of short answers: exact match, SQuAD's F1 over words, and the CacheBlend repository's F1
//! over tokenizer tokens.

use std::collections::HashMap;
use std::hash::Hash;

/// Whether the answer is one of the references, blanks around both aside.
pub fn is_exact_match(answer: &str, references: &[String]) -> bool {
    let mut references = references.iter();
    references.any(|reference| reference.trim() == answer.trim())
}

/// Whether the answer is one of the references once case, punctuation, articles and blanks are
/// normalised, as SQuAD's evaluation script counts it.
pub fn is_normalised_match(answer: &str, references: &[String]) -> bool {
    let (answer, mut references) = (normalise_answer(answer), references.iter());
    references.any(|reference| normalise_answer(reference) == answer)
}

/// Lower case, ASCII punctuation removed, the words a, an and the removed, blanks collapsed: the
/// order and the rules of SQuAD's evaluation script (Rajpurkar et al. 2016). A hyphen vanishes
/// without leaving a blank, so "twenty-one" becomes "twentyone".
pub fn normalise_answer(text: &str) -> String {
    let lower = text.to_lowercase();
    let bare: String = lower
        .chars()
        .filter(|c| !c.is_ascii_punctuation())
        .collect();
    let words = without_articles(&bare);
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Blanks in place of articles. A word ends at any character that is not a letter or digit, as at the
/// word boundaries of a regular expression: of the dash that is not ASCII in "the–end", only
/// "the" goes.
fn without_articles(text: &str) -> String {
    let pieces = text.split_inclusive(|c: char| !c.is_alphanumeric());
    let without = pieces.map(|piece| {
        let word = piece.trim_end_matches(|c: char| !c.is_alphanumeric());
        match word {
            "a" | "an" | "the" => format!(" {}", &piece[word.len()..]),
            _ => piece.to_owned(),
        }
    });
    without.collect()
}

/// F1 over the words of the normalised texts, the best over the references; 0 without any.
///
/// As in SQuAD 2.0's script, where one side has no words left the score is 1 if both have none and
/// 0 otherwise.
pub fn word_f1(answer: &str, references: &[String]) -> f64 {
    let answer = normalise_answer(answer);
    let answer: Vec<&str> = answer.split_whitespace().collect();
    best(references, |reference| {
        let reference = normalise_answer(reference);
        let words: Vec<&str> = reference.split_whitespace().collect();
        bag_f1(&answer, &words)
    })
}

/// F1 over token ids, the best over the references; 0 without any, and 1 if neither side has
/// a token.
///
/// As the CacheBlend repository counts (`example/utils.py`): ids of the first line
/// ([`parse_generation`]), normalised, by the model's own tokenizer. Tokens repeat more than words do
/// (subwords, "##s"), so its values lie above those of the word F1, and compare only with scores
/// under the same tokenizer.
pub fn token_f1(answer: &[u32], references: &[Vec<u32>]) -> f64 {
    best(references, |reference| bag_f1(answer, reference))
}

/// What the CacheBlend repository takes of a generated text: its first line; of that only "Yes" or
/// "No" where it starts so.
///
/// The start is that of a string, not of a word: "Norway" becomes "No", and "no" is only looked
/// for after blanks. Kept as it is there, so that scores compare; where the repository fails, on a
/// blank line, this gives the blank line.
pub fn parse_generation(answer: &str) -> &str {
    let line = first_line(answer);
    if line.starts_with("Yes") || line.starts_with("yes") {
        return "Yes";
    }
    let word = line.trim_start();
    match word.starts_with("No") || word.starts_with("no") {
        true => "No",
        false => line,
    }
}

/// The first line of a text that is not empty; what follows it is a model that does not stop.
/// LongBench and the CacheBlend repository score SAMSum on it too.
pub fn first_line(answer: &str) -> &str {
    let answer = answer.trim_start_matches('\n');
    answer.split('\n').next().unwrap_or_default()
}

/// How much of what reuse loses a policy wins back: `(f1 - reuse) / (full - reuse)`, 0 for plain
/// reuse, 1 for full prefill (FusionRAG, arXiv 2601.12904). May leave `0..=1` on either side.
///
/// `None` if reuse loses nothing, so that there is nothing to win back: below zero the quotient
/// would turn round and call the worse policy the better one.
pub fn normalised_f1(f1: f64, reuse: f64, full: f64) -> Option<f64> {
    let loss = full - reuse;
    (loss > 0.0).then(|| (f1 - reuse) / loss)
}

/// The highest score of a reference; 0 without references.
pub(super) fn best<R>(references: &[R], score: impl FnMut(&R) -> f64) -> f64 {
    references.iter().map(score).fold(0.0, f64::max)
}

/// The harmonic mean of the shares of either bag that the other holds too, items counted as often
/// as they occur.
fn bag_f1<T: Eq + Hash>(prediction: &[T], reference: &[T]) -> f64 {
    if prediction.is_empty() || reference.is_empty() {
        return f64::from(prediction.is_empty() && reference.is_empty());
    }
    // 2PR / (P + R) with P = common / predicted and R = common / expected.
    2.0 * common(prediction, reference) as f64 / (prediction.len() + reference.len()) as f64
}

fn common<T: Eq + Hash>(prediction: &[T], reference: &[T]) -> usize {
    let mut left: HashMap<&T, usize> = HashMap::new();
    for item in reference {
        *left.entry(item).or_default() += 1;
    }
    let mut n = 0;
    for item in prediction {
        if let Some(count) = left.get_mut(item).filter(|count| **count > 0) {
            *count -= 1;
            n += 1;
        }
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_matches_any_reference_but_not_a_part_of_it() {
        let references = ["Belhaven".to_owned(), " Tor ".to_owned()];
        assert!(is_exact_match(" Belhaven\n", &references));
        assert!(is_exact_match("Tor", &references));
        assert!(!is_exact_match("belhaven", &references));
        assert!(!is_exact_match("Belhaven harbour", &references));
        assert!(!is_exact_match("", &references));
    }

    #[test]
    fn normalised_matches_ignore_case_articles_and_punctuation_but_not_words() {
        let references = ["the Isle of Tor".to_owned()];
        assert!(is_normalised_match("Isle of  Tor.", &references));
        assert!(is_normalised_match("An isle of tor", &references));
        assert!(!is_normalised_match("Isle Tor", &references));
    }

    #[test]
    fn nothing_matches_nothing_only_where_a_reference_is_empty() {
        assert!(!is_normalised_match("", &["Tor".to_owned()]));
        assert!(!is_normalised_match("", &[]));
        // "The" is an article, so nothing is left of it.
        assert!(is_normalised_match("", &["The".to_owned()]));
    }

    #[test]
    fn answers_are_normalised_as_squad_does() {
        // Computed with the Python of SQuAD's script.
        for (text, expected) in [
            ("The  Eiffel-Tower!", "eiffeltower"),
            ("A man, a plan, the canal", "man plan canal"),
            ("Another theatre", "another theatre"),
            ("U.S.A.", "usa"),
            ("the", ""),
            ("", ""),
            ("\n Paris\t", "paris"),
            ("the–end", "–end"),
            ("“The Tor”", "“ tor”"),
            ("Élan à la carte", "élan à la carte"),
        ] {
            assert_eq!(normalise_answer(text), expected, "{text:?}");
        }
    }

    fn f1(answer: &str, references: &[&str]) -> f64 {
        let references: Vec<String> = references.iter().map(|&text| text.to_owned()).collect();
        word_f1(answer, &references)
    }

    #[test]
    fn words_in_common_are_weighed_against_both_lengths() {
        // Of 4 words predicted 2 are right, of 3 expected 2 are given: P = 1/2, R = 2/3,
        // F1 = 2 * (1/2 * 2/3) / (1/2 + 2/3) = 4/7.
        assert_eq!(
            f1("Exeter College in Oxford", &["Exeter, Oxford, England"]),
            4.0 / 7.0
        );
    }

    #[test]
    fn a_word_counts_as_often_as_the_other_side_has_it() {
        // Of "tor tor tor" one matches: P = 1/3, R = 1/2, F1 = 2/5.
        assert_eq!(f1("tor tor tor", &["Tor Bay"]), 0.4);
    }

    #[test]
    fn the_best_reference_counts() {
        assert_eq!(f1("the Tor.", &["Belhaven", "Tor"]), 1.0);
        // Half of "Tor Bay" is no more right for being half of two references.
        assert_eq!(f1("Tor Bay", &["Tor Head", "Bute Bay"]), 0.5);
        assert_eq!(f1("Skye", &["Belhaven", "Tor"]), 0.0);
    }

    #[test]
    fn nothing_said_is_right_only_where_nothing_was_expected() {
        assert_eq!(f1("", &["Tor"]), 0.0);
        assert_eq!(f1("Tor", &[]), 0.0);
        assert_eq!(f1("", &[]), 0.0);
        assert_eq!(f1("", &["The"]), 1.0);
        assert_eq!(f1("Tor", &["The"]), 0.0);
    }

    #[test]
    fn reuse_is_zero_and_full_prefill_is_one() {
        // Reuse 0.25 and full 0.75 are 0.5 apart; 0.5 has won back half of it.
        assert_eq!(normalised_f1(0.25, 0.25, 0.75), Some(0.0));
        assert_eq!(normalised_f1(0.5, 0.25, 0.75), Some(0.5));
        assert_eq!(normalised_f1(0.75, 0.25, 0.75), Some(1.0));
        assert_eq!(normalised_f1(1.0, 0.25, 0.75), Some(1.5));
        assert_eq!(normalised_f1(0.0, 0.25, 0.75), Some(-0.5));
    }

    #[test]
    fn without_a_loss_there_is_no_value() {
        assert_eq!(normalised_f1(0.5, 0.5, 0.5), None);
        assert_eq!(normalised_f1(0.4, 0.5, 0.4), None);
        assert_eq!(normalised_f1(0.0, 0.0, 0.0), None);
        assert_eq!(normalised_f1(0.5, f64::NAN, 0.5), None);
    }

    #[test]
    fn only_the_first_line_counts_and_yes_and_no_are_cut_off() {
        for (answer, expected) in [
            ("\n\nExeter College\nQuestion: Who", "Exeter College"),
            ("Yes, in Oxford", "Yes"),
            ("yes.", "Yes"),
            ("no one knows", "No"),
            (" No", "No"),
            // What a prefix test does to other words, as in the repository.
            ("Norway", "No"),
            ("Yesterday", "Yes"),
            (" yes", " yes"),
            ("Not Yes\nYes", "No"),
            ("", ""),
            ("\n \nx", " "),
        ] {
            assert_eq!(parse_generation(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn shared_ids_are_weighed_against_both_lengths() {
        // 2 of 3 predicted, 2 of 4 expected: P = 2/3, R = 1/2, F1 = 2 * (1/3) / (7/6) = 4/7.
        assert_eq!(token_f1(&[5, 6, 7], &[vec![6, 9, 8, 5]]), 4.0 / 7.0);
        // Id 5 is expected once, so the second one does not count: P = 1/2, R = 1, F1 = 2/3.
        assert_eq!(token_f1(&[5, 5], &[vec![5]]), 2.0 / 3.0);
        assert_eq!(token_f1(&[5], &[vec![6], vec![5]]), 1.0);
    }

    #[test]
    fn no_tokens_agree_with_no_tokens_only() {
        assert_eq!(token_f1(&[], &[vec![]]), 1.0);
        assert_eq!(token_f1(&[], &[vec![5]]), 0.0);
        assert_eq!(token_f1(&[5], &[vec![]]), 0.0);
        assert_eq!(token_f1(&[5], &[]), 0.0);
    }
}
