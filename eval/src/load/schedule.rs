//! Who arrives when and asks what: drawn before anything runs, so that every mode gets the same
//! arrivals and no answer delays the next question. Pure.

use crate::dataset::Question;
use crate::random::Random;

/// The paper drops the first 1,000 of 6,000 queries (EuroSys'25, arXiv 2405.16444).
const DROPPED_PART: usize = 6;
/// Keeps what is asked apart from when: with other questions the arrivals stay the same.
const CONTENT_STREAM: u64 = 0x7175_6573_7469_6F6E;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) question: usize,
    /// The question's chunks, in the order they are asked over.
    pub(super) chunks: Vec<String>,
    /// Arrival in seconds after the start, at one request per second on average. Another rate
    /// divides it.
    pub(super) at: f64,
}

/// `n` requests in order of arrival: a Poisson process, questions in cycles of random order, the
/// chunks of each in random order. The same seed draws the same.
pub(super) fn requests(questions: &[Question], n: usize, seed: u64) -> Vec<Request> {
    let mut content = Random::new(seed ^ CONTENT_STREAM);
    let mut cycle = Vec::new();
    let arrivals = arrivals(n, seed).into_iter();
    let request = |at| {
        if cycle.is_empty() {
            cycle = (0..questions.len()).collect();
            content.shuffle(&mut cycle);
        }
        let question = cycle.pop()?;
        let mut chunks = questions[question].context_chunks.clone();
        content.shuffle(&mut chunks);
        Some(Request {
            question,
            chunks,
            at,
        })
    };
    arrivals.map_while(request).collect()
}

/// Times of arrival of a Poisson process of rate 1.
fn arrivals(n: usize, seed: u64) -> Vec<f64> {
    let mut random = Random::new(seed);
    let mut now = 0.0;
    let mut next = || {
        now += random.exponential();
        now
    };
    (0..n).map(|_| next()).collect()
}

/// How many of `n` requests, the first ones, no statistic counts: the queue is still filling.
pub(super) fn n_dropped(n: usize) -> usize {
    n / DROPPED_PART
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn question(chunks: &[&str]) -> Question {
        Question {
            id: String::new(),
            question: "?".to_owned(),
            answers: Vec::new(),
            kind: String::new(),
            gold_chunks: Vec::new(),
            context_chunks: chunks.iter().map(|&id| id.to_owned()).collect(),
        }
    }

    #[test]
    fn gaps_add_up_to_arrivals() {
        let mut random = Random::new(5);
        let gaps: [f64; 3] = std::array::from_fn(|_| random.exponential());
        let expected = [gaps[0], gaps[0] + gaps[1], gaps[0] + gaps[1] + gaps[2]];
        assert_eq!(arrivals(3, 5), expected);
    }

    #[test]
    fn every_cycle_asks_every_question_once_with_its_own_chunks() {
        let questions = [["a", "b", "c"], ["d", "e", "f"]].map(|chunks| question(&chunks));
        let requests = requests(&questions, 40, 3);
        for cycle in requests.chunks(2) {
            let asked: HashSet<usize> = cycle.iter().map(|request| request.question).collect();
            assert_eq!(asked.len(), 2);
        }
        let firsts: HashSet<usize> = requests.iter().step_by(2).map(|r| r.question).collect();
        assert_eq!(firsts.len(), 2, "each question begins a cycle now and then");
        let orders: HashSet<&[String]> = requests.iter().map(|request| &*request.chunks).collect();
        assert!(orders.len() > 6, "chunks come in many orders: {orders:?}");
        for request in &requests {
            let mut chunks = request.chunks.clone();
            chunks.sort();
            assert_eq!(chunks, questions[request.question].context_chunks);
        }
    }

    #[test]
    fn the_seed_decides_and_the_questions_do_not_move_the_arrivals() {
        let one = [question(&["a", "b"])];
        let two = [question(&["a", "b"]), question(&["c"])];
        let times = |requests: &[Request]| -> Vec<f64> {
            requests.iter().map(|request| request.at).collect()
        };
        assert_eq!(requests(&two, 9, 1), requests(&two, 9, 1));
        assert_eq!(times(&requests(&one, 9, 1)), times(&requests(&two, 9, 1)));
        assert_ne!(times(&requests(&one, 9, 1)), times(&requests(&one, 9, 2)));
    }

    #[test]
    fn the_first_sixth_is_dropped() {
        assert_eq!([0, 5, 6, 11, 6000].map(n_dropped), [0, 0, 1, 1, 1000]);
    }
}
