//! What a sentence says of its key, and what later sentences may refer to.

use super::lexicon::NamedKind;
use super::world::Reference;
use crate::random::Random;

/// A place or firm written out is one not mentioned before, while there are any.
const P_NEW_DEFINITION: f64 = 0.8;

/// Something a later sentence may refer to by `word`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Definition {
    pub(super) kind: Reference,
    pub(super) word: &'static str,
    pub(super) referent: &'static str,
    pub(super) document: usize,
    pub(super) sentence: usize,
}

impl Definition {
    /// The words a reference to this is written in.
    pub(super) fn surface(&self) -> String {
        match self.kind {
            Reference::Alias => self.word.to_owned(),
            Reference::Same => format!("the same place as {}", self.word),
            Reference::Place | Reference::Firm => format!("the {}", self.word),
        }
    }
}

/// The value of a statement about to be written.
pub(super) struct Value {
    pub(super) surface: String,
    /// What it stands for.
    pub(super) answer: &'static str,
    pub(super) reference: Option<Definition>,
    /// The kind of place or firm that this statement defines.
    pub(super) defines: Option<(Reference, &'static str)>,
}

impl Value {
    /// A value that is not a reference and defines nothing.
    pub(super) fn stated(surface: String, answer: &'static str) -> Self {
        Self {
            surface,
            answer,
            reference: None,
            defines: None,
        }
    }
}

/// The names of one class in a world: each kind has one.
pub(super) struct Names {
    class: Reference,
    all: Vec<(&'static str, &'static str)>,
    undefined: Vec<(&'static str, &'static str)>,
}

impl Names {
    pub(super) fn draw(random: &mut Random, class: Reference, kinds: &[NamedKind]) -> Self {
        let all = kinds
            .iter()
            .map(|(kind, names)| (*kind, random.pick(names)));
        let all: Vec<_> = all.collect();
        Self {
            class,
            undefined: random.shuffled(&all),
            all,
        }
    }

    /// A name written out: mostly one not mentioned before, which this defines.
    pub(super) fn in_full(&mut self, random: &mut Random) -> Value {
        let none_defined = self.undefined.len() == self.all.len();
        let new = match random.chance(P_NEW_DEFINITION) || none_defined {
            true => self.undefined.pop(),
            false => None,
        };
        let (kind, name) = new.unwrap_or_else(|| random.pick(&self.defined()));
        let surface = match self.class {
            Reference::Firm => format!("the {kind} {name}"),
            _ => format!("the {kind} of {name}"),
        };
        Value {
            defines: new.map(|_| (self.class, kind)),
            ..Value::stated(surface, name)
        }
    }

    fn defined(&self) -> Vec<(&'static str, &'static str)> {
        let is_defined = |pair: &&(&str, &str)| !self.undefined.contains(pair);
        self.all.iter().filter(is_defined).copied().collect()
    }
}
