//! The demo model's own kind of questions, as many as one likes: fictional worlds of short
//! documents that refer to each other, which training never drew. What they say about a policy is
//! evidence about that model alone.

use std::collections::VecDeque;

use super::example::{Dataset, Example, Task};
use crate::random::Random;

mod builder;
mod lexicon;
#[cfg(test)]
mod tests;
mod value;
mod world;

use lexicon::world_names;
use world::{Kind, Question, Reference, World};

/// Documents of a question, gold ones included: the largest context the model was trained on.
const DOCUMENTS_PER_QUESTION: usize = 6;

/// Answers are one token; more shows that the model does not stop.
const MAX_TOKENS: usize = 16;

struct Ask {
    name: &'static str,
    kind: Kind,
    /// How many `demo/questions.jsonl` has.
    share: usize,
    /// The most that are asked over one world.
    most_per_world: usize,
}

const N_TYPES: usize = 5;

const ASKED: [Ask; N_TYPES] = [
    ask("local", Kind::Local, 180, 6),
    ask("x_alias", Kind::Cross(Reference::Alias), 115, 4),
    ask("x_place", Kind::Cross(Reference::Place), 77, 3),
    ask("x_firm", Kind::Cross(Reference::Firm), 79, 3),
    ask("x_same", Kind::Cross(Reference::Same), 44, 3),
];

const fn ask(name: &'static str, kind: Kind, share: usize, most_per_world: usize) -> Ask {
    Ask {
        name,
        kind,
        share,
        most_per_world,
    }
}

/// `n_questions` questions, each over six documents of its world in reading order, so that a
/// definition comes before its uses. No question is asked twice over the same world.
///
/// The types come in the proportions of `demo/questions.jsonl`, at every length within one
/// question. The same seed gives the same questions; a larger `n_questions` only adds to them.
#[must_use]
pub fn generate(seed: u64, n_questions: usize) -> Dataset {
    let mut source = Source::new(seed);
    let mut given = [0; N_TYPES];
    let examples = (1..=n_questions).map(|n| {
        let next = most_lacking(&given, n);
        given[next] += 1;
        source.next(next)
    });
    Dataset {
        name: "demo".to_owned(),
        task: Task::ShortAnswer,
        instruction: None,
        examples: examples.collect(),
        skipped: Vec::new(),
    }
}

/// The type that lacks most of its share, when `n` questions are to have been given.
fn most_lacking(given: &[usize; N_TYPES], n: usize) -> usize {
    let total: usize = ASKED.iter().map(|ask| ask.share).sum();
    let owed = |&idx: &usize| (ASKED[idx].share * n) as i64 - (given[idx] * total) as i64;
    // `max_by_key` takes the last of equals; the order is part of what a seed means.
    let most = (0..N_TYPES).max_by_key(owed);
    most.expect("there are types to ask")
}

/// Draws worlds as they are needed.
struct Source {
    random: Random,
    worlds_drawn: usize,
    /// Names not yet used since all of them were.
    names: Vec<String>,
    /// Questions not yet given, by type.
    ready: [VecDeque<Example>; N_TYPES],
}

impl Source {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            worlds_drawn: 0,
            names: Vec::new(),
            ready: Default::default(),
        }
    }

    fn next(&mut self, ask: usize) -> Example {
        loop {
            match self.ready[ask].pop_front() {
                Some(example) => return example,
                None => self.draw_world(),
            }
        }
    }

    fn draw_world(&mut self) {
        let name = self.name();
        let world = World::draw(&mut self.random, &name);
        self.worlds_drawn += 1;
        let prefix = format!("{}-{}", name.to_lowercase(), self.worlds_drawn);
        let mut n = 0;
        for (ask, ready) in ASKED.iter().zip(&mut self.ready) {
            for question in pick_questions(&world, ask, &mut self.random) {
                n += 1;
                let documents = documents(&world, question, &mut self.random);
                ready.push_back(Example {
                    id: format!("{prefix}-{n:02}"),
                    kind: ask.name.to_owned(),
                    question: question.text.clone(),
                    answers: vec![question.answer.to_owned()],
                    documents,
                    max_tokens: MAX_TOKENS,
                });
            }
        }
    }

    /// Names come round again only when all have been used: a seed has more worlds than names.
    fn name(&mut self) -> String {
        if self.names.is_empty() {
            self.names = world_names();
            let n = self.names.len();
            self.names = self.random.sample(std::mem::take(&mut self.names), n);
        }
        self.names.pop().expect("there are names")
    }
}

fn pick_questions<'w>(world: &'w World, ask: &Ask, random: &mut Random) -> Vec<&'w Question> {
    let fits = |question: &&Question| {
        question.kind == ask.kind && world.gold(question).len() <= DOCUMENTS_PER_QUESTION
    };
    let of_kind = world.questions.iter().filter(fits).collect();
    random.sample(of_kind, ask.most_per_world)
}

/// Gold documents and others of the world, in reading order.
fn documents(world: &World, question: &Question, random: &mut Random) -> Vec<String> {
    let mut chosen = world.gold(question);
    let all = 0..world.documents.len();
    let others = all.filter(|document| !chosen.contains(document)).collect();
    let missing = DOCUMENTS_PER_QUESTION - chosen.len();
    chosen.extend(random.sample(others, missing));
    let chosen = chosen.iter();
    chosen
        .map(|&document| world.documents[document].clone())
        .collect()
}
