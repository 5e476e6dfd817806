//! Needles, the question for them, and its answers.

use std::collections::BTreeSet;

use super::task::RulerTask;
use super::words::WORDS;
use crate::random::Random;

/// Keys of a question with several, and values of a key with several.
const NEEDLES: usize = 4;
const CHAINS: usize = 2;
/// Assignments after a chain's first.
const HOPS: usize = 4;
const VARIABLE_LETTERS: usize = 5;

/// The most needles of one question that must be in different passages.
pub(super) const MAX_SPREAD: usize = HOPS + 1;

#[derive(Debug)]
pub(super) struct Problem {
    /// Groups of sentences. Those of a group are in different passages, in this order.
    pub(super) needles: Vec<Vec<String>>,
    pub(super) question: String,
    /// All of them are asked for.
    pub(super) answers: Vec<String>,
}

impl Problem {
    pub(super) fn draw(task: RulerTask, random: &mut Random) -> Self {
        match task {
            RulerTask::MultiKey => magic_numbers(random, NEEDLES, 1, 1),
            RulerTask::MultiValue => magic_numbers(random, 1, NEEDLES, 1),
            RulerTask::MultiQuery => magic_numbers(random, NEEDLES, 1, NEEDLES),
            RulerTask::VariableTracking => variable_tracking(random),
        }
    }
}

/// `n_keys` keys with `n_values` numbers each, of which `n_asked` keys are asked for.
fn magic_numbers(random: &mut Random, n_keys: usize, n_values: usize, n_asked: usize) -> Problem {
    let keys = distinct(n_keys, || {
        let adjective = random.pick(&WORDS.key_adjectives);
        format!("{adjective}-{}", random.pick(&WORDS.key_nouns))
    });
    let numbers = distinct(n_keys * n_values, || {
        random.between(1_000_000, 9_999_999).to_string()
    });
    let of_keys = keys.iter().zip(numbers.chunks(n_values));
    let needle = |key, number| format!("One of the special magic numbers for {key} is: {number}.");
    let needles: Vec<String> = of_keys
        .clone()
        .flat_map(|(key, numbers)| numbers.iter().map(move |number| needle(key, number)))
        .collect();
    let n_needles = needles.len();
    let asked = random.sample(of_keys.collect(), n_asked);
    let names: Vec<&str> = asked.iter().map(|(key, _)| key.as_str()).collect();
    Problem {
        needles: vec![random.sample(needles, n_needles)],
        question: ask_for_numbers(&names, n_asked * n_values),
        answers: asked.into_iter().flat_map(|(_, n)| n.to_vec()).collect(),
    }
}

/// The question with the beginning of its answer, as the paper's prompts end.
fn ask_for_numbers(keys: &[&str], n_answers: usize) -> String {
    let keys = match keys {
        [key] => (*key).to_owned(),
        [others @ .., last] => format!("{}, and {last}", others.join(", ")),
        [] => String::new(),
    };
    match n_answers {
        1 => format!(
            "What is the special magic number for {keys} mentioned in the provided text? \
             The special magic number for {keys} mentioned in the provided text is"
        ),
        _ => format!(
            "What are all the special magic numbers for {keys} mentioned in the provided text? \
             The special magic numbers for {keys} mentioned in the provided text are"
        ),
    }
}

fn variable_tracking(random: &mut Random) -> Problem {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let variables = distinct(CHAINS * (HOPS + 1), || {
        let letters = (0..VARIABLE_LETTERS).map(|_| char::from(random.pick(LETTERS)));
        letters.collect()
    });
    let values = distinct(CHAINS, || random.between(10_000, 99_999).to_string());
    let chains = variables.chunks(HOPS + 1);
    let needles = chains.clone().zip(&values).map(|(variables, value)| {
        let first = format!("VAR {} = {value}.", variables[0]);
        let hops = variables.windows(2);
        let hops = hops.map(|pair| format!("VAR {} = VAR {}.", pair[1], pair[0]));
        std::iter::once(first).chain(hops).collect()
    });
    let value = &values[0];
    Problem {
        needles: needles.collect(),
        question: format!(
            "Find all variables that are assigned the value {value} in the text above. \
             According to the chain(s) of variable assignment in the text above, {} variables are \
             assigned the value {value}, they are:",
            HOPS + 1
        ),
        answers: variables[..=HOPS].to_vec(),
    }
}

/// `n` different strings, in the order they were drawn.
fn distinct(n: usize, mut draw: impl FnMut() -> String) -> Vec<String> {
    let mut seen = BTreeSet::new();
    std::iter::repeat_with(&mut draw)
        .filter(|drawn| seen.insert(drawn.clone()))
        .take(n)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_drawn_before_is_drawn_again() {
        let mut numbers = [1, 1, 2, 1, 3, 4].iter();
        let drawn = distinct(3, || numbers.next().unwrap().to_string());
        assert_eq!(drawn, ["1", "2", "3"]);
    }
}
