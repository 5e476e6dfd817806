//! The F1 of the CacheBlend repository (`example/utils.py`): over tokenizer tokens, not words.
//!
//! A score is made in three steps: `parse_generation` of the answer, then token ids of the
//! normalised texts without special tokens ([`normalise_answer`](super::normalise_answer) and the
//! model's own tokenizer, which this file does not know), then [`token_f1`]. Tokens repeat more
//! than words do (subwords, "##s"), so its values lie above those of the word F1, and compare
//! only with scores under the same tokenizer.

use super::f1::{bag_f1, best};

/// What the repository takes of a generated text: its first line; of that only "Yes" or "No"
/// where it starts so.
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

/// F1 over token ids, the best over the references; 0 without any, and 1 where neither side has
/// a token.
pub fn token_f1(answer: &[u32], references: &[Vec<u32>]) -> f64 {
    best(references, |reference| bag_f1(answer, reference))
}

#[cfg(test)]
mod tests {
    use super::*;

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
