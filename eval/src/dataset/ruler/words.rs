//! The words of haystacks and of keys, in `words.json`. No word of a haystack is part of a key.

use std::sync::LazyLock;

use serde::Deserialize;

type List = Vec<&'static str>;

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'static"))]
pub(super) struct Words {
    pub(super) adjectives: List,
    pub(super) people: List,
    pub(super) verbs: List,
    pub(super) things: List,
    pub(super) places: List,
    pub(super) times: List,
    pub(super) key_adjectives: List,
    pub(super) key_nouns: List,
}

pub(super) static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let words = serde_json::from_str(include_str!("words.json"));
    words.expect("the file is part of the program, and read in its tests")
});
