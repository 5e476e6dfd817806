//! RULER's string match (Hsieh et al. 2024, arXiv 2404.06654).

/// The share of references that occur in the answer, case aside; with `all` false, 1 if any
/// occurs (RULER's question answering tasks). In `0..=1`, 0 without references.
pub fn string_match(answer: &str, references: &[String], all: bool) -> f64 {
    let answer = answer.to_lowercase();
    let found = references
        .iter()
        .filter(|reference| answer.contains(&reference.to_lowercase()))
        .count();
    match (all, found) {
        (_, 0) => 0.0,
        (true, found) => found as f64 / references.len() as f64,
        (false, _) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references() -> Vec<String> {
        ["4417", "Osprey", "92", "x1"].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_share_contained_counts_where_all_are_wanted() {
        // "4417" and "osprey" of four.
        let answer = "The numbers are 4417 and OSPREY.";
        assert_eq!(string_match(answer, &references(), true), 0.5);
        assert_eq!(string_match(answer, &references(), false), 1.0);
    }

    #[test]
    fn an_answer_without_any_scores_nothing() {
        for all in [true, false] {
            assert_eq!(string_match("none", &references(), all), 0.0);
            assert_eq!(string_match("", &references(), all), 0.0);
            assert_eq!(string_match("4417", &[], all), 0.0);
        }
    }
}
