//! Answers questions by reading the documents: it knows the sentence templates and the words, and
//! nothing of how a world was drawn.

use std::collections::BTreeSet;

use super::super::lexicon::{LEXICON, Relation, ValueClass};

/// A sentence that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fact {
    document: usize,
    /// Index into the relations; `None` if an alias is given.
    relation: Option<usize>,
    key: String,
    value: String,
}

/// The facts of some documents, in reading order.
pub(super) struct Reader {
    facts: Vec<Fact>,
}

/// The answer to a question, and the documents it took.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Solution {
    pub(super) answer: String,
    pub(super) documents: BTreeSet<usize>,
    /// Of the question's value, as in `questions.jsonl`.
    pub(super) kind: String,
}

impl Reader {
    /// Reads documents of the world called `world`. Panics at a sentence of no known form.
    pub(super) fn new(world: &str, documents: &[String]) -> Self {
        let mut facts = Vec::new();
        for (document, text) in documents.iter().enumerate() {
            let text = text.strip_prefix(&format!("In {world}: ")).expect(text);
            for sentence in text.split_inclusive('.') {
                facts.push(read(sentence.trim(), document));
            }
        }
        Self { facts }
    }

    /// Solves "In World: ...?". Panics where there is not exactly one answer, and where a
    /// reference has no definition before it.
    pub(super) fn solve(&self, question: &str) -> Solution {
        let (_, question) = question.split_once(": ").expect(question);
        if let Some((alias, _)) = matches(LEXICON.alias_question, question)
            && LEXICON.aliases.contains(&alias.as_str())
        {
            let given = self.only(|fact| fact.relation.is_none() && fact.value == alias);
            let documents = [self.facts[given].document].into();
            return Solution {
                answer: self.facts[given].key.clone(),
                documents,
                kind: "local".to_owned(),
            };
        }
        let of_question = |relation: &Relation| matches(relation.question, question);
        let found: Vec<_> = (0..)
            .zip(&LEXICON.relations)
            .filter_map(|(idx, relation)| Some((idx, of_question(relation)?.0)))
            .collect();
        let [(relation, key)] = found.as_slice() else {
            panic!("{question:?} asks for {found:?}");
        };
        let fact = self.only(|fact| fact.relation == Some(*relation) && fact.key == *key);
        let mut steps = vec![fact];
        let (answer, how) = self.resolve(fact, &mut steps);
        let at = |step: usize| self.facts[steps[step]].document;
        let kind = match how {
            None => "local".to_owned(),
            Some(_) if at(1) == at(0) => "local_ref".to_owned(),
            Some(how) => format!("x_{how}"),
        };
        let documents = steps.iter().map(|&idx| self.facts[idx].document).collect();
        Solution {
            answer,
            documents,
            kind,
        }
    }

    fn only(&self, wanted: impl Fn(&Fact) -> bool) -> usize {
        let found: Vec<usize> = (0..self.facts.len())
            .filter(|&idx| wanted(&self.facts[idx]))
            .collect();
        assert_eq!(found.len(), 1, "facts that state it: {found:?}");
        found[0]
    }

    /// What the value of a fact stands for, and how it refers to it. The facts on the way are
    /// added to `steps`.
    fn resolve(&self, fact: usize, steps: &mut Vec<usize>) -> (String, Option<&'static str>) {
        let Fact {
            relation, value, ..
        } = &self.facts[fact];
        let class = relation.map_or(ValueClass::Person, |relation| {
            LEXICON.relations[relation].value
        });
        if class == ValueClass::Plain {
            return (value.clone(), None);
        }
        if let Some(person) = value.strip_prefix("the same place as ") {
            let lives = |fact: &Fact| {
                fact.key == person
                    && fact.relation.map(|idx| LEXICON.relations[idx].value)
                        == Some(ValueClass::Home)
            };
            let before = self.first_before(fact, value, lives);
            steps.push(before);
            return (self.resolve(before, steps).0, Some("same"));
        }
        if let Some(name) = name_in(value) {
            return (name.to_owned(), None);
        }
        let how = match class {
            ValueClass::Firm => "firm",
            ValueClass::Person => "alias",
            _ => "place",
        };
        if how == "alias" && !LEXICON.aliases.contains(&value.as_str()) {
            return (value.clone(), None);
        }
        let defines = |fact: &Fact| match how {
            "alias" => fact.relation.is_none() && fact.value == *value,
            _ => fact.value.starts_with(&format!("{value} ")) && name_in(&fact.value).is_some(),
        };
        let before = self.first_before(fact, value, defines);
        steps.push(before);
        let definition = &self.facts[before];
        let referent = match how {
            "alias" => definition.key.clone(),
            _ => name_in(&definition.value).expect("it defines").to_owned(),
        };
        (referent, Some(how))
    }

    fn first_before(&self, fact: usize, value: &str, wanted: impl Fn(&Fact) -> bool) -> usize {
        let first = self.facts[..fact].iter().position(wanted);
        first.unwrap_or_else(|| panic!("{value:?} is used before it is defined"))
    }
}

/// The name in "the port of Amhaven" or "the airline Aerax".
fn name_in(value: &str) -> Option<&str> {
    let (start, name) = value.rsplit_once(' ')?;
    let kind = start.strip_prefix("the ")?;
    let kind = kind.strip_suffix(" of").unwrap_or(kind);
    let mut kinds = LEXICON.places.iter().chain(&LEXICON.firms);
    kinds
        .any(|(known, names)| *known == kind && names.contains(&name))
        .then_some(name)
}

fn read(sentence: &str, document: usize) -> Fact {
    let of_relations = (0..).zip(&LEXICON.relations).flat_map(|(idx, relation)| {
        relation
            .statements
            .iter()
            .map(move |form| (Some(idx), form))
    });
    let of_aliases = LEXICON.alias_statements.iter().map(|form| (None, form));
    // "The lamp is {v}." would take "The lamp is kept in the port." too: the longest form is meant.
    let form = of_relations
        .chain(of_aliases)
        .filter_map(|(relation, form)| Some((form.len(), relation, matches(form, sentence)?)))
        .max_by_key(|(length, ..)| *length);
    let Some((_, relation, (key, value))) = form else {
        panic!("no form fits {sentence:?}");
    };
    Fact {
        document,
        relation,
        key,
        value,
    }
}

/// The key, a single word, and the value, which may be missing, where `text` has the form.
fn matches(form: &str, text: &str) -> Option<(String, String)> {
    let (start, rest) = form.split_once("{k}").expect(form);
    let after_start = text.strip_prefix(start)?;
    let key_end = after_start.find([' ', '.', '?'])?;
    let (key, after_key) = after_start.split_at(key_end);
    let Some((middle, end)) = rest.split_once("{v}") else {
        return (after_key == rest).then(|| (key.to_owned(), String::new()));
    };
    let value = after_key.strip_prefix(middle)?.strip_suffix(end)?;
    Some((key.to_owned(), value.to_owned()))
}
