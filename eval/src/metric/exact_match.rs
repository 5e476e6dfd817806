//! Exact match, strict and after SQuAD's normalisation.

use super::normalise::normalise_answer;

/// Whether the answer is one of the references, blanks around both aside.
pub fn is_exact_match(answer: &str, references: &[String]) -> bool {
    references
        .iter()
        .any(|reference| reference.trim() == answer.trim())
}

/// Whether the answer is one of the references once case, punctuation, articles and blanks are
/// normalised, as SQuAD's evaluation script counts it.
pub fn is_normalised_match(answer: &str, references: &[String]) -> bool {
    let answer = normalise_answer(answer);
    references
        .iter()
        .any(|reference| normalise_answer(reference) == answer)
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
}
