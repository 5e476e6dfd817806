//! The closed vocabulary of the demo worlds: name pools, relations and sentence templates, as in
//! `scripts/demo_model/lexicon.py`; the words are in `lexicon.json`. Every word is one token of the
//! demo model's tokenizer, and the model knows no others.

use std::sync::LazyLock;

use serde::Deserialize;

/// A list of words.
pub(super) type Words = Vec<&'static str>;
/// A kind of place or company, and the names things of the kind may have: a reader can tell the
/// kind from the name.
pub(super) type NamedKind = (&'static str, Words);

#[derive(Deserialize)]
pub(super) struct Lexicon {
    pub(super) places: Vec<NamedKind>,
    pub(super) firms: Vec<NamedKind>,
    pub(super) people: Words,
    pub(super) aliases: Words,
    pub(super) objects: Words,
    world_stems: Words,
    world_endings: Words,
    pub(super) relations: Vec<Relation>,
    /// How an alias is given to a person: `{k}` is the person, `{v}` the alias.
    pub(super) alias_statements: Words,
    /// Asks for the person with the alias `{k}`.
    pub(super) alias_question: &'static str,
}

/// What class of thing a relation's value is, which decides how it may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum ValueClass {
    Person,
    Place,
    /// A place somebody lives in; of others it may be said to be "the same place".
    Home,
    Firm,
    /// Always written out: one of the relation's words.
    Plain,
}

/// What a relation is stated about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum KeyClass {
    Object,
    Person,
}

/// One kind of fact. In its texts `{k}` is the key and `{v}` the value.
#[derive(Debug, Deserialize)]
pub(super) struct Relation {
    /// How often it is stated, relative to the others.
    pub(super) weight: f64,
    pub(super) key: KeyClass,
    pub(super) value: ValueClass,
    #[serde(default)]
    pub(super) words: Words,
    pub(super) statements: Words,
    pub(super) question: &'static str,
}

pub(super) static LEXICON: LazyLock<Lexicon> = LazyLock::new(|| {
    let lexicon = serde_json::from_str(include_str!("lexicon.json"));
    lexicon.expect("the file is part of the program, and read in its tests")
});

/// The names a world may have.
pub(super) fn world_names() -> Vec<String> {
    let endings = LEXICON.world_endings.iter();
    let of = |ending| {
        LEXICON
            .world_stems
            .iter()
            .map(move |stem| format!("{stem}{ending}"))
    };
    endings.flat_map(of).collect()
}
