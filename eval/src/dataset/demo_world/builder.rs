//! Writes a world sentence by sentence. The draws are those of `scripts/demo_model/world.py`, which
//! the demo model was trained on, with the sizes and shares of its demo corpus; the random stream
//! is another.

use std::collections::HashSet;
use std::iter::repeat_n;

use super::lexicon::{KeyClass, LEXICON, Relation, ValueClass};
use super::value::{Definition, Names, Value};
use super::world::{Kind, Question, Reference, Sentence, World};
use crate::random::Random;

/// Documents of a world, and sentences of a document: least and most.
const DOCUMENTS: (usize, usize) = (7, 8);
const SENTENCES: (usize, usize) = (4, 5);

const MAX_ALIASES: usize = 4;
const P_ALIAS_SENTENCE: f64 = 0.16;
const P_ALIAS_FOR_KNOWN_PERSON: f64 = 0.3;
/// A second fact about a key of the same document.
const P_KEY_AGAIN: f64 = 0.35;
/// A value is given by reference to an earlier document, where there is something to refer to.
const P_REFERENCE: f64 = 0.6;
/// The same, where its definition may also be in this document.
const P_NEAR_REFERENCE: f64 = 0.15;
const P_NEW_PERSON: f64 = 0.7;
const SAME_PLACE_WEIGHT: usize = 2;

impl World {
    /// Draws the world called `name`. Each fact is stated once, so that every question has one
    /// answer.
    pub(super) fn draw(random: &mut Random, name: &str) -> Self {
        loop {
            if let Some(world) = Builder::new(random, name).build() {
                return world;
            }
        }
    }
}

/// A world being written: what is already stated, and what is still free.
struct Builder<'a> {
    random: &'a mut Random,
    name: &'a str,
    world: World,
    new_people: Vec<&'static str>,
    known_people: Vec<&'static str>,
    objects: Vec<&'static str>,
    aliases: Vec<&'static str>,
    places: Names,
    firms: Names,
    definitions: Vec<Definition>,
    /// (key, index of the relation)
    stated: HashSet<(&'static str, usize)>,
    /// A very full world may run out of people, and then state a fact twice.
    ambiguous: bool,
    object_keys: Vec<&'static str>,
    person_keys: Vec<&'static str>,
}

impl<'a> Builder<'a> {
    fn new(random: &'a mut Random, name: &'a str) -> Self {
        Self {
            name,
            world: World::default(),
            new_people: random.shuffled(&LEXICON.people),
            known_people: Vec::new(),
            objects: random.shuffled(&LEXICON.objects),
            aliases: random.shuffled(&LEXICON.aliases),
            places: Names::draw(random, Reference::Place, &LEXICON.places),
            firms: Names::draw(random, Reference::Firm, &LEXICON.firms),
            definitions: Vec::new(),
            stated: HashSet::new(),
            ambiguous: false,
            object_keys: Vec::new(),
            person_keys: Vec::new(),
            random,
        }
    }

    /// `None` if a fact is stated twice.
    fn build(mut self) -> Option<World> {
        let documents = self.random.between(DOCUMENTS.0, DOCUMENTS.1);
        for document in 1..=documents {
            self.world.documents.push(format!("In {}:", self.name));
            self.object_keys.clear();
            self.person_keys.clear();
            for _ in 0..self.random.between(SENTENCES.0, SENTENCES.1) {
                match document < documents && self.alias_is_due() {
                    true => self.define_alias(),
                    false => self.state_fact(),
                }
            }
        }
        (!self.ambiguous).then_some(self.world)
    }

    fn document(&self) -> usize {
        self.world.documents.len() - 1
    }

    fn alias_is_due(&mut self) -> bool {
        let given = LEXICON.aliases.len() - self.aliases.len();
        self.random.chance(P_ALIAS_SENTENCE) && given < MAX_ALIASES
    }

    fn define_alias(&mut self) {
        let known = !self.known_people.is_empty() && self.random.chance(P_ALIAS_FOR_KNOWN_PERSON);
        let person = match known {
            true => self.random.pick(&self.known_people),
            false => self.new_person(),
        };
        let alias = self.aliases.pop().expect("there are more than MAX_ALIASES");
        let statement = self.random.pick(&LEXICON.alias_statements);
        let value = Value::stated(alias.to_owned(), person);
        self.write(statement, person, &value);
        self.define(Reference::Alias, alias, person);
        self.ask(&LEXICON.alias_question.replace("{k}", alias), &value);
    }

    fn state_fact(&mut self) {
        let relations = &LEXICON.relations;
        let weights: Vec<f64> = relations.iter().map(|relation| relation.weight).collect();
        let drawn = self.random.weighted(&weights);
        let relation = &relations[drawn];
        let key = self.pick_key(drawn);
        self.ambiguous |= !self.stated.insert((key, drawn));
        let value = self.pick_value(relation, key);
        let statement = self.random.pick(&relation.statements);
        self.write(statement, key, &value);
        if let Some((kind, word)) = value.defines {
            self.define(kind, word, value.answer);
        }
        if relation.value == ValueClass::Home {
            self.define(Reference::Same, key, value.answer);
        }
        self.ask(&relation.question.replace("{k}", key), &value);
    }

    fn pick_key(&mut self, relation: usize) -> &'static str {
        let class = LEXICON.relations[relation].key;
        let mut again = match class {
            KeyClass::Object => self.object_keys.clone(),
            KeyClass::Person => self.person_keys.clone(),
        };
        again.retain(|key| !self.stated.contains(&(*key, relation)));
        if !again.is_empty() && self.random.chance(P_KEY_AGAIN) {
            return self.random.pick(&again);
        }
        match class {
            KeyClass::Object => {
                let object = self
                    .objects
                    .pop()
                    .expect("there are at least as many as sentences");
                self.object_keys.push(object);
                object
            }
            KeyClass::Person => {
                let person = self.new_person();
                self.person_keys.push(person);
                person
            }
        }
    }

    fn pick_value(&mut self, relation: &Relation, key: &str) -> Value {
        if relation.value == ValueClass::Plain {
            let word = self.random.pick(&relation.words);
            return Value::stated(word.to_owned(), word);
        }
        if let Some(definition) = self.pick_reference(relation.value, key) {
            return Value {
                reference: Some(definition),
                ..Value::stated(definition.surface(), definition.referent)
            };
        }
        match relation.value {
            ValueClass::Firm => self.firms.in_full(self.random),
            ValueClass::Place | ValueClass::Home => self.places.in_full(self.random),
            ValueClass::Person | ValueClass::Plain => {
                let person = self.pick_person(key);
                Value::stated(person.to_owned(), person)
            }
        }
    }

    fn pick_reference(&mut self, class: ValueClass, key: &str) -> Option<Definition> {
        let options = self.references(class, key);
        let here = self.document();
        let earlier = options
            .iter()
            .filter(|definition| definition.document < here);
        let earlier: Vec<Definition> = earlier.copied().collect();
        if !earlier.is_empty() && self.random.chance(P_REFERENCE) {
            return Some(self.random.pick(&earlier));
        }
        let near = !options.is_empty() && self.random.chance(P_NEAR_REFERENCE);
        near.then(|| self.random.pick(&options))
    }

    /// What a value of this class may refer to, each as often as its weight says.
    fn references(&self, class: ValueClass, key: &str) -> Vec<Definition> {
        let weight = |definition: &Definition| match (class, definition.kind) {
            (ValueClass::Person, Reference::Alias)
            | (ValueClass::Place | ValueClass::Home, Reference::Place)
            | (ValueClass::Firm, Reference::Firm) => 1,
            (ValueClass::Home, Reference::Same) if definition.word != key => SAME_PLACE_WEIGHT,
            _ => 0,
        };
        let repeated = |definition: &Definition| repeat_n(*definition, weight(definition));
        self.definitions.iter().flat_map(repeated).collect()
    }

    fn pick_person(&mut self, other_than: &str) -> &'static str {
        let new = self.random.chance(P_NEW_PERSON) || self.known_people.is_empty();
        let person = match new {
            true => self.new_person(),
            false => self.random.pick(&self.known_people),
        };
        match person == other_than {
            true => self.new_person(),
            false => person,
        }
    }

    fn new_person(&mut self) -> &'static str {
        let Some(person) = self.new_people.pop() else {
            return self.random.pick(&self.known_people);
        };
        self.known_people.push(person);
        person
    }

    fn write(&mut self, template: &str, key: &str, value: &Value) {
        let document = self.document();
        let sentence = template.replace("{k}", key).replace("{v}", &value.surface);
        self.world.documents[document] += &format!(" {sentence}");
        self.world.sentences.push(Sentence {
            document,
            refers_to: value.reference.map(|definition| definition.sentence),
        });
    }

    /// The sentence just written defines `word`.
    fn define(&mut self, kind: Reference, word: &'static str, referent: &'static str) {
        self.definitions.push(Definition {
            kind,
            word,
            referent,
            document: self.document(),
            sentence: self.world.sentences.len() - 1,
        });
    }

    /// The sentence just written answers `question` with `value`.
    fn ask(&mut self, question: &str, value: &Value) {
        let kind = match value.reference {
            None => Kind::Local,
            Some(definition) if definition.document == self.document() => Kind::LocalReference,
            Some(definition) => Kind::Cross(definition.kind),
        };
        self.world.questions.push(Question {
            text: format!("In {}: {question}", self.name),
            answer: value.answer,
            kind,
            sentence: self.world.sentences.len() - 1,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_statement_lacks_an_object_to_be_about() {
        assert!(DOCUMENTS.1 * SENTENCES.1 <= LEXICON.objects.len());
    }

    #[test]
    fn a_world_that_states_a_fact_twice_is_not_built() {
        let mut random = Random::new(1);
        for _ in 0..20 {
            let mut builder = Builder::new(&mut random, "Zorland");
            builder.new_people.truncate(2);
            assert!(builder.build().is_none());
        }
    }
}
