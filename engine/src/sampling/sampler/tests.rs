//! The sampler against the definitions of its steps: ties, cuts, penalties, and frequencies of
//! many draws against the softmax.

use proptest::prelude::*;

use super::*;

fn params(change: impl FnOnce(&mut SamplingParams)) -> SamplingParams {
    let mut params = SamplingParams::greedy(1);
    params.temperature = 1.0;
    params.seed = Some(7);
    change(&mut params);
    params.validate().unwrap();
    params
}

fn sample(params: &SamplingParams, logits: &[f32], history: &TokenHistory) -> u32 {
    Sampler::new(params, logits.len())
        .sample(logits, history)
        .unwrap()
        .token
}

/// How often each token is drawn.
fn frequencies(params: &SamplingParams, logits: &[f32], n_draws: usize) -> Vec<f64> {
    let mut sampler = Sampler::new(params, logits.len());
    let mut counts = vec![0; logits.len()];
    for _ in 0..n_draws {
        let token = sampler
            .sample(logits, &TokenHistory::default())
            .unwrap()
            .token;
        counts[token as usize] += 1;
    }
    counts
        .iter()
        .map(|count| f64::from(*count) / n_draws as f64)
        .collect()
}

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let exps: Vec<f64> = logits
        .iter()
        .map(|l| (f64::from(*l) / temperature).exp())
        .collect();
    let total: f64 = exps.iter().sum();
    exps.iter().map(|e| e / total).collect()
}

fn assert_frequencies(actual: &[f64], expected: &[f64]) {
    for (token, (a, e)) in actual.iter().zip(expected).enumerate() {
        // Four standard deviations of 10^5 draws are at most 0.0064.
        assert!(
            (a - e).abs() < 0.0064,
            "token {token}: drawn {a}, expected {e}"
        );
    }
}

#[test]
fn greedy_takes_the_best_and_of_equal_ones_the_lowest_id() {
    let greedy = SamplingParams::greedy(1);
    let history = TokenHistory::default();
    assert_eq!(sample(&greedy, &[0.0, 3.0, -1.0, 3.0], &history), 1);
    assert_eq!(sample(&greedy, &[-5.0, f32::NEG_INFINITY], &history), 0);
    assert_eq!(
        sample(&params(|p| p.top_k = 1), &[0.0, 3.0, -1.0, 3.0], &history),
        1
    );
}

#[test]
fn draws_follow_the_softmax_of_the_temperature() {
    let logits = [1.0, 0.0, 2.0, -1.0, 0.5];
    for temperature in [0.5_f32, 1.0, 2.0] {
        let drawn = frequencies(&params(|p| p.temperature = temperature), &logits, 100_000);
        assert_frequencies(&drawn, &softmax(&logits, f64::from(temperature)));
    }
}

#[test]
fn cuts_renormalise_what_they_leave() {
    // Probabilities 0.5, 0.25, 0.125, 0.125
    let logits = [4.0, 2.0, 1.0, 1.0].map(f32::ln);
    let drawn = |change: fn(&mut SamplingParams)| frequencies(&params(change), &logits, 100_000);
    let two = [2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0];
    assert_frequencies(&drawn(|p| p.top_k = 2), &two);
    assert_frequencies(&drawn(|p| p.top_p = 0.7), &two);
    assert_frequencies(&drawn(|p| p.min_p = 0.3), &two);
    // Equal tokens are cut from the highest id.
    assert_frequencies(
        &drawn(|p| p.top_k = 3),
        &[4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0, 0.0],
    );
    // top_p works on what top_k left: of (2/3, 1/3) the first alone reaches 0.6.
    let both = |p: &mut SamplingParams| (p.top_k, p.top_p) = (2, 0.6);
    assert_frequencies(&drawn(both), &[1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn a_wide_top_p_keeps_more_than_the_candidates_sorted_first() {
    let logits = vec![0.0; 5000];
    let mut candidates: Vec<Candidate> = (0..)
        .zip(&logits)
        .map(|(token, score)| Candidate {
            token,
            score: *score,
        })
        .collect();
    let sampler = Sampler::new(&params(|p| p.top_p = 0.5), logits.len());
    sampler.keep_top_p(&mut candidates, |_| 1.0);
    let kept: Vec<u32> = candidates.iter().map(|candidate| candidate.token).collect();
    assert_eq!(kept, (0..2500).collect::<Vec<u32>>());
}

#[test]
fn a_tiny_temperature_is_greedy_and_stays_finite() {
    let tiny = params(|p| p.temperature = f32::MIN_POSITIVE);
    assert_eq!(
        frequencies(&tiny, &[1e30, 2.0, -1e30], 100),
        [1.0, 0.0, 0.0]
    );
}

#[test]
fn ruled_out_tokens_are_never_drawn() {
    let logits = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
    assert_eq!(
        frequencies(&params(|p| p.temperature = 100.0), &logits, 1000),
        [0.0, 1.0, 0.0]
    );
}

#[test]
fn the_repetition_penalty_covers_prompt_and_answer_and_both_signs() {
    let mut history = TokenHistory::new(&[0]);
    history.push(2);
    let mut sampler = Sampler::new(&params(|p| p.repetition_penalty = 2.0), 4);
    sampler.scores = vec![4.0, 3.0, -1.0, -3.0];
    sampler.penalise(&history);
    assert_eq!(sampler.scores, [2.0, 3.0, -2.0, -3.0]);
}

#[test]
fn added_penalties_cover_the_answer_only() {
    let mut history = TokenHistory::new(&[0, 1, 99]);
    history.push(1);
    history.push(1);
    history.push(2);
    let both = |p: &mut SamplingParams| (p.frequency_penalty, p.presence_penalty) = (0.5, 1.0);
    let mut sampler = Sampler::new(&params(both), 4);
    sampler.scores = vec![1.0; 4];
    sampler.penalise(&history);
    assert_eq!(sampler.scores, [1.0, -1.0, -0.5, 1.0]);
}

#[test]
fn a_seed_repeats_its_draws() {
    let logits = vec![0.0; 1000];
    let draw = |seed| {
        let mut sampler = Sampler::new(&params(|p| p.seed = seed), logits.len());
        let mut next = || {
            sampler
                .sample(&logits, &TokenHistory::default())
                .unwrap()
                .token
        };
        (0..20).map(|_| next()).collect::<Vec<u32>>()
    };
    assert_eq!(draw(Some(1)), draw(Some(1)));
    assert_ne!(draw(Some(1)), draw(Some(2)));
    assert_ne!(draw(None), draw(None));
}

#[test]
fn logprobs_are_of_the_models_own_distribution() {
    let logits = [4.0, 2.0, 1.0, 1.0].map(f32::ln);
    let asked = params(|p| (p.temperature, p.repetition_penalty, p.logprobs) = (0.0, 9.0, Some(3)));
    let mut sampler = Sampler::new(&asked, 4);
    let sampled = sampler.sample(&logits, &TokenHistory::new(&[0])).unwrap();
    let logprobs = sampled.logprobs.unwrap();
    assert_eq!((sampled.token, logprobs.token), (1, 1)); // token 0 is penalised away
    assert!((logprobs.logprob - 0.25_f32.ln()).abs() < 1e-6);
    let top: Vec<u32> = logprobs.top.iter().map(|entry| entry.token).collect();
    assert_eq!(top, [0, 1, 2]);
    assert!((logprobs.top[0].logprob - 0.5_f32.ln()).abs() < 1e-6);
    let none =
        Sampler::new(&SamplingParams::greedy(1), 4).sample(&logits, &TokenHistory::default());
    assert_eq!(none.unwrap().logprobs, None);
}

#[test]
fn logits_that_cannot_be_sampled_are_an_error() {
    let refused = |logits: &[f32]| {
        let result =
            Sampler::new(&params(|_| ()), logits.len()).sample(logits, &TokenHistory::default());
        assert!(
            matches!(result, Err(EngineError::BadLogits { .. })),
            "{result:?}"
        );
    };
    refused(&[0.0, f32::NAN]);
    refused(&[0.0, f32::INFINITY]);
    refused(&[f32::NEG_INFINITY; 3]);
}

proptest! {
    #[test]
    fn top_k_one_is_greedy(logits in prop::collection::vec(-20.0_f32..20.0, 1..400), seed: u64) {
        let one = params(|p| (p.top_k, p.seed, p.temperature) = (1, Some(seed), 5.0));
        let history = TokenHistory::default();
        let greedy = sample(&SamplingParams::greedy(1), &logits, &history);
        prop_assert_eq!(sample(&one, &logits, &history), greedy);
    }

    #[test]
    fn the_smallest_top_p_keeps_exactly_the_best(
        logits in prop::collection::vec(-20.0_f32..20.0, 1..600), seed: u64,
    ) {
        let smallest = params(|p| (p.top_p, p.seed) = (f32::MIN_POSITIVE, Some(seed)));
        let history = TokenHistory::default();
        let greedy = sample(&SamplingParams::greedy(1), &logits, &history);
        prop_assert_eq!(sample(&smallest, &logits, &history), greedy);
    }

    #[test]
    fn draws_stay_inside_every_cut(
        logits in prop::collection::vec(-8.0_f32..8.0, 2..600),
        top_k in 0_u32..50, top_p in 0.01_f32..1.0, min_p in 0.0_f32..1.0, seed: u64,
    ) {
        let all = params(|p| {
            (p.top_k, p.top_p, p.min_p, p.seed) = (top_k, top_p, min_p, Some(seed));
        });
        let token = sample(&all, &logits, &TokenHistory::default()) as usize;
        let probabilities = softmax(&logits, 1.0);
        let better: Vec<f64> =
            probabilities.iter().copied().filter(|p| *p > probabilities[token]).collect();
        let best = probabilities.iter().copied().fold(0.0, f64::max);
        prop_assert!(top_k == 0 || better.len() < top_k as usize);
        prop_assert!(probabilities[token] >= f64::from(min_p) * best * (1.0 - 1e-9));
        if top_k == 0 {
            prop_assert!(better.iter().sum::<f64>() < f64::from(top_p) + 1e-9);
        }
    }
}
