//! One world: short documents that refer to each other, and questions with exactly one answer.
//!
//! A later document may say "The lamp is kept in the port." where an earlier one said "... in the
//! port of Amhaven.": encoded alone, its KV cannot know the referent.

use std::collections::BTreeSet;

/// How a sentence refers to something defined before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reference {
    /// "the port", for "the port of Amhaven".
    Place,
    /// "the airline", for "the airline Aerax".
    Firm,
    /// "Falcon", for "Mara is known as Falcon."
    Alias,
    /// "the same place as Pell", for "Pell lives in ..."
    Same,
}

/// Whether a question's value is stated, or given by reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Stated in one document.
    Local,
    /// A reference to its own document.
    LocalReference,
    /// A reference to an earlier document.
    Cross(Reference),
}

#[derive(Debug)]
pub(super) struct Question {
    pub(super) text: String,
    pub(super) answer: &'static str,
    pub(super) kind: Kind,
    /// The sentence that states the value: an index into the world's.
    pub(super) sentence: usize,
}

#[derive(Debug)]
pub(super) struct Sentence {
    pub(super) document: usize,
    /// The sentence that defines what this one refers to.
    pub(super) refers_to: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct World {
    /// In reading order: what a document refers to is in it or in an earlier one.
    pub(super) documents: Vec<String>,
    pub(super) questions: Vec<Question>,
    pub(super) sentences: Vec<Sentence>,
}

impl World {
    /// The documents one must know to answer `question`: the one that states the value, and those
    /// that define what it refers to, through every step of the chain.
    pub(super) fn gold(&self, question: &Question) -> BTreeSet<usize> {
        let first = Some(&self.sentences[question.sentence]);
        std::iter::successors(first, |sentence| {
            sentence.refers_to.map(|next| &self.sentences[next])
        })
        .map(|sentence| sentence.document)
        .collect()
    }
}
