//! SQuAD's normalisation of answers, shared by exact match and both F1 scores.

/// Lower case, ASCII punctuation removed, the words a, an and the removed, blanks collapsed: the
/// order and the rules of SQuAD's evaluation script (Rajpurkar et al. 2016). A hyphen vanishes
/// without leaving a blank, so "twenty-one" becomes "twentyone".
pub fn normalise_answer(text: &str) -> String {
    let bare: String = text
        .to_lowercase()
        .chars()
        .filter(|c| !c.is_ascii_punctuation())
        .collect();
    let words = without_articles(&bare);
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Blanks in place of articles. A word ends at any character that is no letter or digit, as at the
/// word boundaries of a regular expression: of the dash that is not ASCII in "the–end", only
/// "the" goes.
fn without_articles(text: &str) -> String {
    let pieces = text.split_inclusive(|c: char| !c.is_alphanumeric());
    pieces
        .map(|piece| {
            let word = piece.trim_end_matches(|c: char| !c.is_alphanumeric());
            match word {
                "a" | "an" | "the" => format!(" {}", &piece[word.len()..]),
                _ => piece.to_owned(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
