//! Takes a LongBench context apart into the documents it was put together from.

/// The passages between the markers "Passage 1:", "Passage 2:", each on a line of its own; without
/// markers, the paragraphs.
///
/// Markers are dropped: a passage's number is its place in this prompt, and would make the same
/// text another chunk in each of them. What comes before the first marker is a document too.
pub(super) fn split_passages(context: &str) -> Vec<String> {
    match context.lines().any(is_passage_marker) {
        true => split(context, is_passage_marker, Marker::Dropped),
        false => split(context, |line| line.trim().is_empty(), Marker::Dropped),
    }
}

/// The dialogues, each with its summary, of a context of examples; without any, the paragraphs.
pub(super) fn split_dialogues(context: &str) -> Vec<String> {
    match context.lines().any(starts_dialogue) {
        true => split(context, starts_dialogue, Marker::Kept),
        false => split_passages(context),
    }
}

fn is_passage_marker(line: &str) -> bool {
    let number = line.trim().strip_prefix("Passage ");
    number
        .and_then(|rest| rest.strip_suffix(':'))
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fn starts_dialogue(line: &str) -> bool {
    line.starts_with("Dialogue:")
}

/// Whether the line that begins a document is part of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Marker {
    Kept,
    Dropped,
}

/// Documents begin at the lines that `is_marker`; blank ones are left out.
fn split(context: &str, is_marker: impl Fn(&str) -> bool, marker: Marker) -> Vec<String> {
    let mut documents = Vec::new();
    let mut current: Vec<&str> = Vec::new();
    for line in context.lines() {
        let begins = is_marker(line);
        if begins {
            documents.push(std::mem::take(&mut current).join("\n"));
        }
        if !begins || marker == Marker::Kept {
            current.push(line);
        }
    }
    documents.push(current.join("\n"));
    let trimmed = documents.iter().map(|document| document.trim().to_owned());
    trimmed.filter(|document| !document.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_lose_their_numbers_and_keep_their_paragraphs() {
        let context = "Passage 1:\nTor\nTor is an isle.\n\nIt is small.\n\nPassage 2:\r\nSkye\r\n\
                       Passage two:\nPassage :\nPassage 10:\nBute\n";
        assert_eq!(
            split_passages(context),
            [
                "Tor\nTor is an isle.\n\nIt is small.",
                "Skye\nPassage two:\nPassage :",
                "Bute"
            ]
        );
    }

    #[test]
    fn text_before_the_first_marker_is_kept_and_empty_passages_are_not() {
        assert_eq!(
            split_passages("News:\nPassage 1:\n \nPassage 2:\nSkye"),
            ["News:", "Skye"]
        );
    }

    #[test]
    fn without_markers_paragraphs_are_documents() {
        assert_eq!(
            split_passages("One\ngoes on.\r\n\r\n  \nTwo.\n"),
            ["One\ngoes on.", "Two."]
        );
        assert!(split_passages(" \n\n").is_empty());
    }

    #[test]
    fn dialogues_keep_their_summaries() {
        let context = "Dialogue: Ann: hi\r\nBob: hey\r\nSummary: Ann greets Bob.\n\
                       Dialogue: Cy: bye\nSummary: Cy leaves.\n";
        assert_eq!(
            split_dialogues(context),
            [
                "Dialogue: Ann: hi\nBob: hey\nSummary: Ann greets Bob.",
                "Dialogue: Cy: bye\nSummary: Cy leaves."
            ]
        );
        assert_eq!(split_dialogues("a\n\nb"), ["a", "b"]);
    }
}
