//! The work counted for a plan equals what its run reports, for every mode and policy.

#[path = "suite/fixtures.rs"]
#[expect(dead_code, reason = "the suite's other users need the rest of it")]
mod fixtures;

use burn_flex::{Flex, FlexDevice};
use fixtures::{Prompt, load, options, small_prompt};
use ragweave_engine::{ChunkState, Engine, EngineOptions, FuseReport, FusionPlan, Mode, PlanWork};

const MODES: [&str; 20] = [
    "full",
    "reuse",
    "all",
    "hkvd@0:0.2",
    "hkvd@1:0.2",
    "hkvd@2:0.3",
    "hkvd@1/gradual:0.3",
    "hkvd@1/gradual~length:0.5",
    "hkvd@1~score:0.3",
    "hkvd@3:0.1",
    "first-k:0.2",
    "random~score:0.4",
    "query:0.2",
    "query/all/max~length:0.1",
    "anchors:0.2",
    "anchors@1.3/final:0.2",
    "oracle:0.1",
    "first-k+query:0.2",
    "anchors+hkvd@1~score:0.3",
    "first-k~mean:0.2",
];

/// Counts and runs the small prompt with these chunks missed.
fn counted_and_run(
    engine: &mut Engine<Flex>,
    prompt: &Prompt,
    mode: &str,
    misses: &[usize],
) -> (PlanWork, FuseReport) {
    let states = prompt.states(misses, true);
    let mode: Mode = mode.parse().expect("the notation is valid");
    let info = engine.info().clone();
    let plan = FusionPlan::new(prompt.segments.clone(), states, mode, &info);
    let plan = plan.expect("the plan is valid");
    let (_, report) = engine
        .plan_logits(plan.clone(), prompt.sources())
        .expect("the prefill succeeds");
    let prefix_cached = report.prefix_tokens_cached > 0;
    (plan.work(&info, prefix_cached), report)
}

#[track_caller]
fn assert_same(engine: &Engine<Flex>, work: &PlanWork, report: &FuseReport, what: &str) {
    assert_eq!(work.rows_forwarded(), report.rows_forwarded, "{what}: rows");
    let of_layer = |layer| work.layer_bytes(layer, engine.info());
    let layers = 0..engine.info().config.num_hidden_layers;
    let bytes: u64 = layers.flat_map(of_layer).map(|(_, bytes)| bytes).sum();
    assert_eq!(bytes, report.bytes_loaded, "{what}: bytes");
    let placed: usize = work.steps.iter().map(|step| step.rows_placed).sum();
    let row_bytes = engine.info().identity.block_span(1).payload_bytes();
    assert_eq!(
        placed * row_bytes,
        report.bytes_loaded as usize,
        "{what}: placed"
    );
}

#[test]
fn every_mode_does_the_work_that_was_counted() {
    for variant in ["qwen3", "qwen3-sliding"] {
        let mut engine = load::<Flex>(&options(variant), &FlexDevice);
        let prompt = Prompt::new(&mut engine, small_prompt());
        for misses in [&[][..], &[1], &[0, 2], &[0, 1, 2]] {
            for mode in MODES {
                let (work, report) = counted_and_run(&mut engine, &prompt, mode, misses);
                assert_same(
                    &engine,
                    &work,
                    &report,
                    &format!("{mode} without {misses:?}"),
                );
            }
        }
    }
}

#[test]
fn a_prefix_that_is_not_cached_is_counted_too() {
    let options = EngineOptions {
        prefix_cache_entries: 0,
        ..options("qwen3")
    };
    let mut engine = load::<Flex>(&options, &FlexDevice);
    let prompt = Prompt::new(&mut engine, small_prompt());
    for mode in ["full", "reuse", "hkvd@1:0.2", "query:0.2"] {
        let (work, report) = counted_and_run(&mut engine, &prompt, mode, &[]);
        assert_eq!(report.prefix_tokens_cached, 0);
        assert_same(&engine, &work, &report, mode);
    }
}

#[test]
fn full_prefill_sees_half_the_square() {
    let engine = load::<Flex>(&options("qwen3"), &FlexDevice);
    let info = engine.info().clone();
    let states = vec![ChunkState::Miss; 3];
    let plan = FusionPlan::new(small_prompt(), states, Mode::Full, &info).expect("a valid plan");
    let n = plan.n_tokens() as f64;
    let work = plan.work(&info, false);
    assert_eq!(work.steps[0].attention_pairs, n * (n + 1.0) / 2.0);
    assert_eq!(work.steps[3].attention_pairs, n, "the last row sees all");
}

#[test]
fn exact_chunks_alone_are_loaded_when_all_else_is_computed() {
    let mut engine = load::<Flex>(&options("qwen3"), &FlexDevice);
    let prompt = Prompt::new(&mut engine, small_prompt());
    let info = engine.info().clone();
    let mode = "hkvd@1:0.2".parse().expect("the notation is valid");
    let plan = FusionPlan::new(
        prompt.segments.clone(),
        prompt.states(&[], true),
        mode,
        &info,
    );
    let exact = plan.expect("a valid plan").exact_only();
    let (logits, report) = engine
        .plan_logits(exact.clone(), prompt.sources())
        .expect("the prefill succeeds");
    let (full, _) = prompt.run(&mut engine, Mode::Full, &[]);
    fixtures::assert_close("exact chunks and the rest computed", &logits, &full, 1e-3);
    assert_eq!(report.tokens_loaded, prompt.segments.chunks[0].len());
    let work = exact.work(&info, report.prefix_tokens_cached > 0);
    assert_same(&engine, &work, &report, "exact only");
}
