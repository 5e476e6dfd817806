//! F1 of two bags of items, and SQuAD's F1 over words.

use std::collections::HashMap;
use std::hash::Hash;

use super::normalise::normalise_answer;

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

/// The highest score of a reference; 0 without references.
pub(super) fn best<R>(references: &[R], score: impl FnMut(&R) -> f64) -> f64 {
    references.iter().map(score).fold(0.0, f64::max)
}

/// The harmonic mean of the shares of either bag that the other holds too, items counted as often
/// as they occur.
pub(super) fn bag_f1<T: Eq + Hash>(prediction: &[T], reference: &[T]) -> f64 {
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
}
