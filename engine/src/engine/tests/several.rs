//! Rows of several sequences give the same results together as alone, and a sequence can wait between layers.

use std::sync::Arc;

use super::*;
use crate::fusion::{Interrupt, LayerHooks, LayerView, Prefill, advance_together, shared};
use crate::kv::{ChunkKv, LayerCache, LayerSource, MemorySource};

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

    fn live(&self, engine: &mut Engine<Flex>) -> LiveRows<Flex> {
        let first = self.sequence.n_tokens;
        let positions = (first..first + self.ids.len()).collect();
        let steps = engine.decode_steps.clone();
        LiveRows::start(&mut engine.context(), steps, positions, &self.ids)
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
fn advance_one(engine: &mut Engine<Flex>, waiting: &mut Waiting, live: &mut LiveRows<Flex>) {
    let entry = BatchEntry::new(live, &mut waiting.sequence.cache, NoHooks, &|| None);
    advance(&mut engine.context(), &mut [entry]).unwrap();
}

fn floats(live: LiveRows<Flex>) -> Vec<f32> {
    let hidden = live.into_hidden().unwrap().into_data();
    hidden.iter::<f32>().collect()
}

/// The rows of each of the two sequences after all layers, computed alone.
fn alone() -> [Vec<f32>; 2] {
    let mut engine = engine();
    two(&mut engine).map(|mut waiting| {
        let mut live = waiting.live(&mut engine);
        while live.step().is_some() {
            advance_one(&mut engine, &mut waiting, &mut live);
        }
        floats(live)
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
        let mut rows_of = [a.live(&mut engine), b.live(&mut engine)];
        while rows_of[0].step().is_some() {
            let [of_a, of_b] = &mut rows_of;
            let mut batch = [
                BatchEntry::new(of_a, &mut a.sequence.cache, NoHooks, &|| None),
                BatchEntry::new(of_b, &mut b.sequence.cache, NoHooks, &|| None),
            ];
            advance(&mut engine.context(), &mut batch).unwrap();
        }
        for (live, expected) in rows_of.into_iter().zip(alone()) {
            assert_same(&floats(live), &expected);
        }
    }
}

#[test]
fn a_sequence_can_wait_between_layers() {
    let mut engine = engine();
    let [mut a, mut b] = two(&mut engine);
    let (mut of_a, mut of_b) = (a.live(&mut engine), b.live(&mut engine));
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
        _stop: StopCheck<'_>,
    ) -> Result<(), Interrupt> {
        Err(Interrupt::Stopped(EngineError::Cancelled))
    }
}

#[test]
fn a_sequence_that_cannot_go_on_is_named_and_the_others_go_on_without_it() {
    let mut engine = engine();
    let [mut a, mut b] = two(&mut engine);
    let (mut of_a, mut of_b) = (a.live(&mut engine), b.live(&mut engine));
    let mut batch = [
        BatchEntry::new(&mut of_a, &mut a.sequence.cache, NoHooks, &|| None),
        BatchEntry::new(&mut of_b, &mut b.sequence.cache, Refuses, &|| None),
    ];
    let halt = advance(&mut engine.context(), &mut batch).unwrap_err();
    assert_eq!(halt.index, 1);
    drop(batch);
    while of_a.step().is_some() {
        advance_one(&mut engine, &mut a, &mut of_a);
    }
    assert_same(&floats(of_a), &alone()[0]);
}

/// A prompt with one chunk whose stored KV is not exact.
fn stored_plan(engine: &Engine<Flex>, kv: &ChunkKv, mode: &str) -> FusionPlan {
    let segments = PromptSegments {
        prefix: vec![1],
        chunks: vec![kv.token_ids.clone()],
        question: vec![4, 5, 6],
    };
    let states = vec![ChunkState::Hit { exact: false }];
    FusionPlan::new(segments, states, mode.parse().unwrap(), &engine.info).unwrap()
}

fn loader(engine: &Engine<Flex>, plan: &FusionPlan, kv: &Arc<ChunkKv>) -> Loader {
    let source: Box<dyn LayerSource> = Box::new(MemorySource(kv.clone()));
    engine.open(plan, shared(vec![Some(source)]))
}

fn unobserved(_: &LayerView<'_, Flex>, _: &LayerCache<Flex>) {}

#[test]
fn a_probe_of_one_prompt_runs_together_with_the_prefill_of_another() {
    let mut engine = engine();
    let kv = Arc::new(
        engine
            .chunk_kv(&[9], &[20, 21, 22, 23, 24, 25, 26, 27])
            .unwrap(),
    );
    let plans = ["query:0.5", "reuse"].map(|mode| stored_plan(&engine, &kv, mode));
    let alone = plans.clone().map(|plan| {
        let loader = loader(&engine, &plan, &kv);
        engine.fuse(plan, loader, CAPACITY, &|| None).unwrap()
    });

    let mut prefills = plans.each_ref().map(|plan| {
        let request = PrefillRequest {
            plan,
            loader: loader(&engine, plan, &kv),
            capacity: CAPACITY,
            at_end: Forward::Last,
            stop: &|| None,
        };
        Prefill::start(&mut engine.context(), request)
    });
    let mut n_together = 0;
    while prefills.iter().any(|prefill| !prefill.is_done()) {
        let (mut unseen, mut unseen_too) = (unobserved, unobserved);
        let [a, b] = &mut prefills;
        let both: [(&mut Prefill<'_, Flex>, Observer<'_, Flex>); 2] =
            [(a, &mut unseen), (b, &mut unseen_too)];
        let mut due: Vec<_> = both.into_iter().filter(|(it, _)| !it.is_done()).collect();
        n_together += usize::from(due.len() == 2);
        advance_together(&mut engine.context(), &mut due).unwrap();
    }
    assert_eq!(
        n_together, engine.info.config.num_hidden_layers,
        "the probe's layers"
    );
    for (prefill, alone) in prefills.into_iter().zip(alone) {
        let Ok(fused) = prefill.finish(&mut engine.context()) else {
            panic!("nothing stops it");
        };
        assert_eq!(fused.report.recomputed_rows, alone.report.recomputed_rows);
        assert_eq!(fused.report.rows_forwarded, alone.report.rows_forwarded);
        assert_same(&engine.read_logits(fused.hidden).unwrap(), &alone.logits);
    }
}
