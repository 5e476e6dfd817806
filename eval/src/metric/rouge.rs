//! Rouge-L as the Python package `rouge_score` computes it with its stemmer: the F-measure of the
//! longest common subsequence of words (Lin 2004).

use super::answer::best;
use super::porter;

/// Words up to this length are not stemmed.
const SHORT_WORD_LEN: usize = 3;

/// The F-measure in `0..=1`, the best over the references; 0 without any, and where either side
/// has no word.
pub fn rouge_l(answer: &str, references: &[String]) -> f64 {
    let answer = words(answer);
    best(references, |reference| {
        f_measure(&answer, &words(reference))
    })
}

fn f_measure(prediction: &[String], reference: &[String]) -> f64 {
    match common_subsequence_len(prediction, reference) {
        0 => 0.0,
        // 2PR / (P + R) with P = common / predicted and R = common / expected.
        common => 2.0 * common as f64 / (prediction.len() + reference.len()) as f64,
    }
}

/// Runs of ASCII letters and digits in lower case, stemmed where they are long.
fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let runs = text.split(|c: char| !c.is_ascii_alphanumeric());
    runs.filter(|word| !word.is_empty())
        .map(|word| match word.len() > SHORT_WORD_LEN {
            true => porter::stem(word),
            false => word.to_owned(),
        })
        .collect()
}

/// One row of the usual table at a time: `row[j]` is the length for the words of `a` so far and
/// the first `j` of `b`.
fn common_subsequence_len(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (j, other) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = match word == other {
                true => diagonal + 1,
                false => above.max(row[j]),
            };
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(answer: &str, reference: &str) -> f64 {
        rouge_l(answer, &[reference.to_owned()])
    }

    #[test]
    fn order_counts_but_gaps_do_not() {
        // Lin 2004, section 3.1: "police killed the gunman" against "police kill the gunman" has
        // 3 words in order of 4 and 4; stemming makes it 4. "the gunman kill police" has 2.
        assert_eq!(
            score("police kill the gunman", "police killed the gunman"),
            1.0
        );
        assert_eq!(
            score("the gunman kill police", "police killed the gunman"),
            0.5
        );
        // "a b" is common, with gaps, of 3 and 5 words: 2 * 2 / 8.
        assert_eq!(score("a x b", "a y y y b"), 0.5);
    }

    #[test]
    fn values_are_those_of_the_python_package() {
        // RougeScorer(["rougeL"], use_stemmer=True).score(reference, answer)["rougeL"].fmeasure,
        // rouge_score 0.1.2.
        for (answer, reference, expected) in [
            (
                "Amanda baked cookies and will bring Jerry some tomorrow.",
                "Amanda baked cookies. She will bring Jerry some tomorrow.",
                0.8888888888888888,
            ),
            (
                "The cities were flooded; dozens of families fled.",
                "A flood hit several cities, and many families had to flee.",
                0.2105263157894737,
            ),
            (
                "Olivia and Oliver are voting for the liberals in this election.",
                "Olivia and Olivier are voting for liberals in this election. ",
                0.8571428571428572,
            ),
            (
                "Hannah is looking for Betty's number, but Amanda can't find it.",
                "Hannah needs Betty's number but Amanda doesn't have it. She needs to contact Larry.",
                0.5517241379310345,
            ),
            ("L’été à São Paulo – naïve", "L'été à Sao Paulo, naive", 0.5),
            (
                "relational databases generalised",
                "relate the database generally",
                0.5714285714285715,
            ),
            ("yes", "no", 0.0),
            (
                "the dies were cast 1,000 times",
                "A die was cast 1000 times",
                0.4615384615384615,
            ),
        ] {
            let score = score(answer, reference);
            assert!((score - expected).abs() < 1e-12, "{answer:?}: {score}");
        }
    }

    #[test]
    fn the_best_reference_counts_and_no_words_score_nothing() {
        let references = ["x y z".to_owned(), "tor bay".to_owned()];
        assert_eq!(rouge_l("Tor Bay", &references), 1.0);
        assert_eq!(rouge_l("", &references), 0.0);
        assert_eq!(rouge_l("?!", &["?!".to_owned()]), 0.0);
        assert_eq!(rouge_l("tor", &[]), 0.0);
    }
}
