//! Rows of several sequences give the same results together as alone, and a sequence can wait between layers.

use super::*;
use crate::fusion::{Interrupt, LayerHooks};

/// A sequence with its prompt computed, and the rows that come next.
struct Waiting {
    sequence: Sequence<Flex>,
    ids: Vec<u32>,
}

impl Waiting {
    fn new(engine: &mut Engine<Flex>, prompt: &[u32], ids: &[u32]) -> Self {
        let segments = PromptSegments {
            prefix: Vec::new(),
            chunks: Vec::new(),
            question: prompt.to_vec(),
        };
        let plan = FusionPlan::new(segments, Vec::new(), Mode::Full, &engine.info).unwrap();
        let loader = engine.open(&plan, Vec::new());
        Self {
            sequence: engine.fuse(plan, loader, CAPACITY, &|| None).unwrap(),
            ids: ids.to_vec(),
        }
    }

    fn flight(&self, engine: &mut Engine<Flex>) -> Flight<Flex> {
        let first = self.sequence.n_tokens;
        let positions = (first..first + self.ids.len()).collect();
        let steps = engine.decode_steps.clone();
        Flight::start(&mut engine.context(&|| None), steps, positions, &self.ids)
    }
}

/// A prompt of seven tokens with one row to come, and one of three with four.
fn two(engine: &mut Engine<Flex>) -> [Waiting; 2] {
    [
        Waiting::new(engine, &[1, 2, 3, 4, 5, 6, 7], &[8]),
        Waiting::new(engine, &[9, 10, 11], &[12, 13, 14, 15]),
    ]
}

/// Runs one layer of one sequence.
fn advance_one(engine: &mut Engine<Flex>, waiting: &mut Waiting, flight: &mut Flight<Flex>) {
    let lane = Lane::new(flight, &mut waiting.sequence.cache, NoHooks);
    advance(&mut engine.context(&|| None), &mut [lane]).unwrap();
}

fn floats(flight: Flight<Flex>) -> Vec<f32> {
    let hidden = flight.into_hidden().unwrap().into_data();
    hidden.iter::<f32>().collect()
}

/// The rows of each of the two sequences after all layers, computed alone.
fn alone() -> [Vec<f32>; 2] {
    let mut engine = engine();
    two(&mut engine).map(|mut waiting| {
        let mut flight = waiting.flight(&mut engine);
        while flight.step().is_some() {
            advance_one(&mut engine, &mut waiting, &mut flight);
        }
        floats(flight)
    })
}

/// f32 results round differently when a product has a different number of rows.
fn assert_same(actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len());
    for (i, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        assert!((actual - expected).abs() < 1e-5, "{i}: {actual} {expected}");
    }
}

#[test]
fn rows_of_two_sequences_are_the_same_together_and_alone() {
    // Tiles of all rows, and tiles that end within a sequence.
    for max_prefill_tokens in [512, 2] {
        let mut engine = engine();
        engine.max_prefill_tokens = max_prefill_tokens;
        let [mut a, mut b] = two(&mut engine);
        let mut flights = [a.flight(&mut engine), b.flight(&mut engine)];
        while flights[0].step().is_some() {
            let [of_a, of_b] = &mut flights;
            let mut lanes = [
                Lane::new(of_a, &mut a.sequence.cache, NoHooks),
                Lane::new(of_b, &mut b.sequence.cache, NoHooks),
            ];
            advance(&mut engine.context(&|| None), &mut lanes).unwrap();
        }
        for (flight, expected) in flights.into_iter().zip(alone()) {
            assert_same(&floats(flight), &expected);
        }
    }
}

#[test]
fn a_sequence_can_wait_between_layers() {
    let mut engine = engine();
    let [mut a, mut b] = two(&mut engine);
    let (mut of_a, mut of_b) = (a.flight(&mut engine), b.flight(&mut engine));
    advance_one(&mut engine, &mut a, &mut of_a);
    while of_b.step().is_some() {
        advance_one(&mut engine, &mut b, &mut of_b);
    }
    while of_a.step().is_some() {
        advance_one(&mut engine, &mut a, &mut of_a);
    }
    let [expected_a, expected_b] = alone();
    assert_same(&floats(of_a), &expected_a);
    assert_same(&floats(of_b), &expected_b);
}

/// A sequence whose stored KV cannot be read.
struct Refuses;

impl LayerHooks<Flex> for Refuses {
    fn place(
        &mut self,
        _ctx: &mut FusionContext<'_, Flex>,
        _layer_idx: usize,
        _cache: &mut KvCache<Flex>,
    ) -> Result<(), Interrupt> {
        Err(Interrupt::Stopped(EngineError::Cancelled))
    }
}

#[test]
fn a_sequence_that_cannot_go_on_is_named_and_the_others_go_on_without_it() {
    let mut engine = engine();
    let [mut a, mut b] = two(&mut engine);
    let (mut of_a, mut of_b) = (a.flight(&mut engine), b.flight(&mut engine));
    let mut lanes = [
        Lane::new(&mut of_a, &mut a.sequence.cache, NoHooks),
        Lane::new(&mut of_b, &mut b.sequence.cache, Refuses),
    ];
    let halt = advance(&mut engine.context(&|| None), &mut lanes).unwrap_err();
    assert_eq!(halt.lane, 1);
    drop(lanes);
    while of_a.step().is_some() {
        advance_one(&mut engine, &mut a, &mut of_a);
    }
    assert_same(&floats(of_a), &alone()[0]);
}
