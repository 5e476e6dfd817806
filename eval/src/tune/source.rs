//! Where the chunk that answers a question is in its prompt. Pure. The first chunk is exact under every policy: a
//! question that it answers loses nothing under any, and cannot tell them apart.

use std::fmt;

use serde::Serialize;

use super::ask::Ask;
use crate::metric::normalise_answer;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing else is in the prompt.
    Alone,
    First,
    Later,
    /// Neither a gold chunk nor an answer was found in the prompt.
    Unknown,
}

pub(super) struct Chunk<'a> {
    pub(super) id: &'a str,
    pub(super) text: &'a str,
}

/// By the gold chunks, where they are named; else by the first chunk that holds an answer.
pub(super) fn place(ask: &Ask, chunks: &[Chunk<'_>]) -> Place {
    if chunks.len() < 2 {
        return Place::Alone;
    }
    let is_gold = |chunk: &Chunk<'_>| ask.gold_chunks.iter().any(|gold| gold == chunk.id);
    let found = match ask.gold_chunks.is_empty() {
        false => chunks.iter().rposition(is_gold),
        true => chunks.iter().position(|chunk| holds_answer(ask, chunk)),
    };
    match found {
        Some(0) => Place::First,
        Some(_) => Place::Later,
        None => Place::Unknown,
    }
}

/// Whole words, as answers are compared with: "no" is not in "Norway".
fn holds_answer(ask: &Ask, chunk: &Chunk<'_>) -> bool {
    let text = format!(" {} ", normalise_answer(chunk.text));
    let mut answers = ask.answers.iter().map(|answer| normalise_answer(answer));
    answers.any(|answer| !answer.is_empty() && text.contains(&format!(" {answer} ")))
}

/// Where the sources of all questions are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Places {
    /// Questions left out, because they cannot tell policies apart.
    pub(super) alone: usize,
    pub(super) first: usize,
    pub(super) later: usize,
    pub(super) unknown: usize,
}

impl Places {
    pub(super) fn add(&mut self, place: Place) {
        match place {
            Place::Alone => self.alone += 1,
            Place::First => self.first += 1,
            Place::Later => self.later += 1,
            Place::Unknown => self.unknown += 1,
        }
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [alone, first, unknown] = [self.alone, self.first, self.unknown];
        let known = first + self.later;
        write!(
            f,
            "the source comes first, where its KV is exact, in {first} of {known} questions whose source is known"
        )?;
        if first > 0 {
            write!(f, ", which were left out")?;
        }
        if unknown > 0 {
            write!(f, "; of {unknown} it is not known")?;
        }
        if alone > 0 {
            write!(
                f,
                "; {alone} with a single chunk in their prompt were left out"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKS: [Chunk<'static>; 3] = [
        Chunk {
            id: "a",
            text: "Rosa lives in Oslo.",
        },
        Chunk {
            id: "b",
            text: "Emil lives in Lima.",
        },
        Chunk {
            id: "c",
            text: "Dora went to Oslo.",
        },
    ];

    fn ask(answers: &[&str], gold: &[&str]) -> Ask {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Ask {
            question: "?".to_owned(),
            answers: owned(answers),
            context_chunks: Vec::new(),
            gold_chunks: owned(gold),
        }
    }

    #[test]
    fn gold_chunks_tell_and_else_the_answer_does() {
        let of = |answers: &[&str], gold: &[&str]| place(&ask(answers, gold), &CHUNKS);
        assert_eq!(of(&["Lima"], &["a"]), Place::First);
        assert_eq!(
            of(&["Lima"], &["a", "b"]),
            Place::Later,
            "all of them are needed"
        );
        assert_eq!(of(&[" oslo"], &[]), Place::First);
        assert_eq!(of(&["Lima"], &[]), Place::Later);
        assert_eq!(of(&["Cairo", ""], &[]), Place::Unknown);
        assert_eq!(of(&[], &["elsewhere"]), Place::Unknown);
        assert_eq!(place(&ask(&["Oslo"], &[]), &CHUNKS[..1]), Place::Alone);
    }

    #[test]
    fn an_answer_is_found_as_whole_words() {
        let chunks = [
            ("a", "Nora, a nurse, saw the canoe."),
            ("b", "No: \u{c9}lan."),
        ];
        let chunks = chunks.map(|(id, text)| Chunk { id, text });
        let of = |answer: &str| place(&ask(&[answer], &[]), &chunks);
        assert_eq!(of("no"), Place::Later);
        assert_eq!(of("\u{e9}lan"), Place::Later);
        assert_eq!(of("A nurse"), Place::First);
        for nowhere in ["a", "can", "nurse canoe", "ora"] {
            assert_eq!(of(nowhere), Place::Unknown, "{nowhere}");
        }
    }

    #[test]
    fn what_is_left_out_is_told() {
        let mut places = Places::default();
        for place in [Place::First, Place::Later, Place::Unknown, Place::Alone] {
            places.add(place);
        }
        let text = places.to_string();
        for part in ["in 1 of 2", "which were left out", "1 with a single chunk"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
