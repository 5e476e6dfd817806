//! Prose to hide needles in: sentences from small lists of words, cut into equal passages.

use super::problem::MAX_SPREAD;
use super::words::WORDS;
use crate::random::Random;

/// Tokens of a passage, where the context is long enough for the least number of them.
const PASSAGE_TOKENS: usize = 512;
const MIN_PASSAGES: usize = 6;
const _: () = assert!(MAX_SPREAD <= MIN_PASSAGES);

/// Sentences measured to learn how many tokens one has.
const MEASURED_SENTENCES: usize = 64;
/// Corrections of a passage's length. One or two do, unless no number of sentences fits.
const MAX_CORRECTIONS: usize = 8;

/// Makes passages of a fixed length together.
pub(super) struct Haystack<'a> {
    target_tokens: usize,
    n_passages: usize,
    count_tokens: &'a dyn Fn(&str) -> usize,
    tokens_per_sentence: f64,
}

impl<'a> Haystack<'a> {
    pub(super) fn new(target_tokens: usize, count_tokens: &'a dyn Fn(&str) -> usize) -> Self {
        let mut random = Random::new(0);
        let sample = sentences(MEASURED_SENTENCES, &mut random).join(" ");
        let measured = count_tokens(&sample).max(MEASURED_SENTENCES);
        Self {
            target_tokens,
            n_passages: (target_tokens / PASSAGE_TOKENS).max(MIN_PASSAGES),
            count_tokens,
            tokens_per_sentence: measured as f64 / MEASURED_SENTENCES as f64,
        }
    }

    /// Passages with the needles of each group in different ones, in the group's order.
    pub(super) fn hide(&self, groups: &[Vec<String>], random: &mut Random) -> Vec<String> {
        let mut hidden = vec![Vec::new(); self.n_passages];
        for group in groups {
            let mut places = random.sample((0..self.n_passages).collect(), group.len());
            places.sort_unstable();
            for (place, needle) in places.into_iter().zip(group) {
                hidden[place].push(needle.as_str());
            }
        }
        let mut written_tokens = 0;
        let passages = (1..).zip(&hidden).map(|(number, needles)| {
            // What earlier passages are too long or too short, this one makes good.
            let end = self.target_tokens * number / self.n_passages;
            let passage = self.passage(needles, end.saturating_sub(written_tokens), random);
            written_tokens += (self.count_tokens)(&passage);
            passage
        });
        passages.collect()
    }

    /// Needles among as many sentences as make `budget` tokens, but at least one.
    fn passage(&self, needles: &[&str], budget: usize, random: &mut Random) -> String {
        let mut prose = Vec::new();
        for _ in 0..MAX_CORRECTIONS {
            let missing = budget as f64 - self.tokens(&prose, needles) as f64;
            let wanted = prose.len() as f64 + (missing / self.tokens_per_sentence).round();
            let wanted = (wanted as usize).max(1);
            if wanted == prose.len() {
                break;
            }
            prose.truncate(wanted);
            prose.extend(sentences(wanted - prose.len(), random));
        }
        for needle in needles {
            prose.insert(random.between(0, prose.len()), (*needle).to_owned());
        }
        prose.join(" ")
    }

    fn tokens(&self, prose: &[String], needles: &[&str]) -> usize {
        let all: Vec<&str> = prose.iter().map(String::as_str).collect();
        (self.count_tokens)(&[all.as_slice(), needles].concat().join(" "))
    }
}

fn sentences(n: usize, random: &mut Random) -> Vec<String> {
    (0..n).map(|_| sentence(random)).collect()
}

/// Twelve to nineteen words.
fn sentence(random: &mut Random) -> String {
    let words = &*WORDS;
    let (adjective, person) = (random.pick(&words.adjectives), random.pick(&words.people));
    let (verb, thing) = (random.pick(&words.verbs), random.pick(&words.things));
    let (place, time) = (random.pick(&words.places), random.pick(&words.times));
    let other = random.pick(&words.adjectives);
    match random.below(3) {
        0 => format!("The {adjective} {person} {verb} the {other} {thing} {place} {time}."),
        1 => format!("Nobody {place} knew why the {adjective} {person} {verb} the {thing} {time}."),
        _ => format!("The {thing} {place} was {adjective}, and the {person} {verb} it {time}."),
    }
}
