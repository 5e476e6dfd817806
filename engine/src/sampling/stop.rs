//! Stop strings in a text that arrives in pieces. Text is held back exactly as long as it could
//! still become a stop string, so no part of one is ever emitted, wherever tokens end.

/// The text that became final with one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StopStep {
    /// Text to emit. It never contains a stop string or what follows one.
    pub(crate) emit: String,
    /// Whether a stop string was found; the answer ends here.
    pub(crate) hit: bool,
}

/// Looks for stop strings across the borders of the pieces it is given.
///
/// The answer ends before the stop string that is complete first; of several complete at the same
/// character, the longest counts.
#[derive(Debug, Clone)]
pub(crate) struct StopMatcher {
    stops: Vec<String>,
    /// The end of the text so far that may be the beginning of a stop string.
    held: String,
}

impl StopMatcher {
    /// A matcher for these strings; empty ones match nothing.
    pub(crate) fn new(stops: &[String]) -> Self {
        let stops = stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .cloned()
            .collect();
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Takes the next piece of text.
    pub(crate) fn push(&mut self, text: &str) -> StopStep {
        let mut text = std::mem::take(&mut self.held) + text;
        if let Some(start) = self.first_match(&text) {
            text.truncate(start);
            return StopStep {
                emit: text,
                hit: true,
            };
        }
        self.held = text.split_off(text.len() - self.open_bytes(&text));
        StopStep {
            emit: text,
            hit: false,
        }
    }

    /// The text held back, when no more is coming.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Where the match that ends first begins. Held text begins no match that was complete before,
    /// so looking at it again finds nothing twice.
    fn first_match(&self, text: &str) -> Option<usize> {
        let matches = self
            .stops
            .iter()
            .filter_map(|stop| Some((text.find(stop.as_str())?, stop.len())));
        let first = matches.min_by_key(|(start, len)| (start + len, *start));
        first.map(|(start, _)| start)
    }

    /// Length of the longest end of `text` that begins a stop string.
    fn open_bytes(&self, text: &str) -> usize {
        let open = |stop: &String| {
            let longest = text.len().min(stop.len() - 1);
            (1..=longest)
                .rev()
                .find(|n| stop.is_char_boundary(*n) && text.ends_with(&stop[..*n]))
                .unwrap_or(0)
        };
        self.stops.iter().map(open).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matcher(stops: &[&str]) -> StopMatcher {
        StopMatcher::new(
            &stops
                .iter()
                .map(|s| (*s).to_owned())
                .collect::<Vec<String>>(),
        )
    }

    fn run(stops: &[String], pieces: &[String]) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops);
        let mut text = String::new();
        for piece in pieces {
            let step = matcher.push(piece);
            text += &step.emit;
            if step.hit {
                return (text, true);
            }
        }
        (text + &matcher.finish(), false)
    }

    /// The definition, on the whole text: the first end of a match, then the earliest start.
    fn naive(stops: &[String], text: &str) -> (String, bool) {
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let ending = stops.iter().filter(|s| text[..end].ends_with(s.as_str()));
            if let Some(longest) = ending.map(String::len).max() {
                return (text[..end - longest].to_owned(), true);
            }
        }
        (text.to_owned(), false)
    }

    #[test]
    fn a_stop_string_is_found_across_pieces() {
        let mut matcher = matcher(&["\n\nQ:"]);
        assert_eq!(
            matcher.push("Paris.\n"),
            StopStep {
                emit: "Paris.".into(),
                hit: false
            }
        );
        assert_eq!(
            matcher.push("\nQ"),
            StopStep {
                emit: String::new(),
                hit: false
            }
        );
        assert_eq!(
            matcher.push(": next"),
            StopStep {
                emit: String::new(),
                hit: true
            }
        );
    }

    #[test]
    fn held_text_comes_out_when_it_was_no_stop_string() {
        let mut matcher = matcher(&["STOP"]);
        assert_eq!(matcher.push("a ST").emit, "a ");
        assert_eq!(matcher.push("EP S").emit, "STEP ");
        assert_eq!(matcher.finish(), "S");
        assert_eq!(matcher.finish(), "");
    }

    #[test]
    fn without_stop_strings_nothing_is_held() {
        assert_eq!(
            matcher(&[]).push("abc"),
            StopStep {
                emit: "abc".into(),
                hit: false
            }
        );
    }

    #[test]
    fn the_string_that_is_complete_first_counts() {
        let mut matcher = matcher(&["abcd", "bc"]);
        assert_eq!(
            matcher.push("xabcd"),
            StopStep {
                emit: "xa".into(),
                hit: true
            }
        );
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_text_gives(
            pieces in prop::collection::vec("[abé]{0,3}", 0..20),
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
        ) {
            prop_assert_eq!(run(&stops, &pieces), naive(&stops, &pieces.concat()));
        }
    }
}
