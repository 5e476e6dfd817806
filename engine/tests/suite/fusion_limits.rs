//! The limiting cases that fusion must satisfy on every model and backend (design invariants 3 to 7).
#![expect(
    clippy::unwrap_used,
    reason = "a fixture of another shape fails its test"
)]

use std::sync::Arc;

use ragweave_engine::{
    EngineOptions, FusionBackend, FusionPlan, HostBuffer, KvDtype, LayerSource, MemorySource, Mode,
    Policy, PromptSegments, Ratio, SourceError, Tier,
};

use super::fixtures::{Prompt, assert_close, load, load_with_kv, options, small_prompt};

/// Rounding of f32 over a few layers.
const TOLERANCE: f32 = 1e-3;

fn hkvd(ratio: f64) -> Mode {
    Mode::blend(Policy::hkvd(1), Ratio::new(ratio).expect("a ratio"))
}

/// The largest absolute difference.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter()
        .zip(b)
        .map(|(x, y)| (x - y).abs())
        .fold(0.0, f32::max)
}

pub fn ratio_zero_is_reuse_and_one_is_full<B: FusionBackend>(variant: &str, device: &B::Device) {
    let mut engine = load::<B>(&options(variant), device);
    let prompt = Prompt::new(&mut engine, small_prompt());

    let (reuse, report) = prompt.run(&mut engine, hkvd(0.0), &[]);
    assert_eq!(report.mode, Mode::Reuse);
    assert_eq!(report.tokens_recomputed, 0);
    assert_eq!(report.tokens_prefilled, prompt.segments.question.len());
    assert_close(
        "ratio 0",
        &reuse,
        &prompt.run(&mut engine, Mode::Reuse, &[]).0,
        0.0,
    );

    let (full, report) = prompt.run(&mut engine, hkvd(1.0), &[]);
    assert_eq!(report.mode, Mode::Full);
    assert_eq!(report.tokens_loaded, 0);
    // The limits differ, so the two assertions above are not the same one.
    assert!(
        distance(&reuse, &full) > 10.0 * TOLERANCE,
        "reuse must differ from full prefill here"
    );
}

pub fn every_row_selected_equals_full_prefill<B: FusionBackend>(variant: &str, device: &B::Device) {
    let mut engine = load::<B>(&options(variant), device);
    let prompt = Prompt::new(&mut engine, small_prompt());
    let (full, _) = prompt.run(&mut engine, Mode::Full, &[]);

    let all = Mode::blend(Policy::All, Ratio::ONE);
    let (logits, report) = prompt.run(&mut engine, all, &[]);

    assert_close("every row selected", &logits, &full, TOLERANCE);
    assert!(
        report.bytes_loaded > 0,
        "the fused path must have been taken"
    );
}

pub fn one_exact_chunk_reused_equals_full_prefill<B: FusionBackend>(
    variant: &str,
    device: &B::Device,
) {
    let mut engine = load::<B>(&options(variant), device);
    let all = small_prompt();
    let segments = PromptSegments {
        chunks: all.chunks[..1].to_vec(),
        ..all
    };
    let prompt = Prompt::new(&mut engine, segments);
    let (full, _) = prompt.run(&mut engine, Mode::Full, &[]);

    let (reuse, report) = prompt.run(&mut engine, Mode::Reuse, &[]);
    assert_close("one exact chunk", &reuse, &full, TOLERANCE);
    assert_eq!(report.tokens_loaded, prompt.segments.chunks[0].len());

    // Exact rows are not candidates: nothing is left to recompute.
    let (_, report) = prompt.run(&mut engine, hkvd(0.5), &[]);
    assert_eq!(report.tokens_recomputed, 0);
}

pub fn all_chunks_missed_equals_full_prefill<B: FusionBackend>(variant: &str, device: &B::Device) {
    let mut engine = load::<B>(&options(variant), device);
    let prompt = Prompt::new(&mut engine, small_prompt());
    let (full, _) = prompt.run(&mut engine, Mode::Full, &[]);
    for mode in [Mode::Reuse, hkvd(0.2)] {
        let (logits, report) = prompt.run(&mut engine, mode, &[0, 1, 2]);
        assert_close("all missed", &logits, &full, TOLERANCE);
        assert_eq!((report.chunks_hit, report.chunks_missed), (0, 3));
    }
}

/// Every policy, with a budget that holds all candidates and with the mean correction, which then
/// has nothing left to correct.
const POLICIES: [&str; 10] = [
    "hkvd@1",
    "first-k~length",
    "query",
    "query/all/max~score",
    "anchors/final",
    "anchors@0.1~length",
    "random",
    "oracle/v",
    "first-k+query~mean",
    "anchors+hkvd@1~score~mean",
];

fn blend(policy: &str, ratio: f64) -> Mode {
    let notation = format!("{policy}:{ratio}");
    notation.parse().expect("the notation is valid")
}

pub fn every_policy_with_every_candidate_equals_full_prefill<B: FusionBackend>(
    variant: &str,
    device: &B::Device,
) {
    let mut engine = load::<B>(&options(variant), device);
    let prompt = Prompt::new(&mut engine, small_prompt());
    let (full, _) = prompt.run(&mut engine, Mode::Full, &[]);
    let exact = prompt.segments.chunks[0].len();
    for policy in POLICIES {
        let (logits, report) = prompt.run(&mut engine, blend(policy, 0.9999), &[]);
        assert_close(policy, &logits, &full, TOLERANCE);
        assert_eq!(
            report.tokens_recomputed,
            report.tokens_loaded - exact,
            "{policy}"
        );
    }
}

pub fn without_candidates_no_policy_recomputes<B: FusionBackend>(
    variant: &str,
    device: &B::Device,
) {
    let mut engine = load::<B>(&options(variant), device);
    let all = small_prompt();
    let segments = PromptSegments {
        chunks: all.chunks[..1].to_vec(),
        ..all.clone()
    };
    let exact = Prompt::new(&mut engine, segments);
    let missed = Prompt::new(&mut engine, all);
    for policy in POLICIES {
        let (_, report) = exact.run(&mut engine, blend(policy, 0.5), &[]);
        assert_eq!(report.tokens_recomputed, 0, "{policy}");
        let (_, report) = missed.run(&mut engine, blend(policy, 0.5), &[0, 1, 2]);
        assert_eq!(report.tokens_recomputed, 0, "{policy}");
    }
}

/// A correction that changes rows must change the answer; otherwise the tests above do not cover it.
pub fn the_mean_correction_moves_the_other_rows<B: FusionBackend>(
    variant: &str,
    device: &B::Device,
) {
    let mut engine = load::<B>(&options(variant), device);
    let prompt = Prompt::new(&mut engine, small_prompt());
    for policy in ["first-k", "hkvd@1"] {
        let (plain, before) = prompt.run(&mut engine, blend(policy, 0.2), &[]);
        let corrected = blend(&format!("{policy}~mean"), 0.2);
        let (moved, after) = prompt.run(&mut engine, corrected, &[]);
        assert_eq!(before.recomputed_rows, after.recomputed_rows, "{policy}");
        assert!(distance(&plain, &moved) > TOLERANCE, "{policy}");
    }
}

pub fn layer_zero_of_a_chunk_does_not_depend_on_its_place<B: FusionBackend>(
    variant: &str,
    device: &B::Device,
) {
    let mut engine = load::<B>(&options(variant), device);
    let segments = small_prompt();
    let chunk = &segments.chunks[1];
    let kv = engine.chunk_kv(&segments.prefix, chunk).expect("chunk KV");
    let start = segments.prefix.len() + segments.chunks[0].len();
    let trace = engine
        .forward(&segments.token_ids())
        .expect("a forward pass");

    let info = engine.info().clone();
    let width = info.identity.kv_heads * info.identity.head_dim;
    let rows = start * width..(start + chunk.len()) * width;
    let stored = |bytes: &[u8]| -> Vec<f32> {
        let words = bytes
            .chunks_exact(4)
            .map(|w| f32::from_le_bytes([w[0], w[1], w[2], w[3]]));
        words.collect()
    };
    let (k, v) = &kv.layers[0];
    let (full_k, full_v) = &trace.layers[0];
    assert_close("K of layer 0", &stored(k), &full_k[rows.clone()], 1e-4);
    assert_close("V of layer 0", &stored(v), &full_v[rows.clone()], 1e-4);
    // Deeper layers do depend on the context; otherwise there would be nothing to fuse.
    let (deep_k, _) = &kv.layers[2];
    assert!(distance(&stored(deep_k), &trace.layers[2].0[rows]) > 1e-3);
}

/// Fails at one layer, as a block with a bad checksum does.
struct BadLayer {
    inner: MemorySource,
    bad_layer: usize,
}

impl LayerSource for BadLayer {
    fn read_layer(&self, layer: usize, into: &mut HostBuffer) -> Result<(), SourceError> {
        if layer == self.bad_layer {
            return Err(SourceError {
                message: format!("layer {layer}: checksum mismatch"),
            });
        }
        self.inner.read_layer(layer, into)
    }

    fn tier(&self) -> Tier {
        self.inner.tier()
    }
}

pub fn a_bad_block_costs_time_and_not_the_answer<B: FusionBackend>(
    variant: &str,
    device: &B::Device,
) {
    let mut engine = load::<B>(&options(variant), device);
    let prompt = Prompt::new(&mut engine, small_prompt());
    let last_layer = engine.info().config.num_hidden_layers - 1;
    let mut run = |bad: &[usize]| {
        let states = prompt.states(&[], true);
        let plan = FusionPlan::new(prompt.segments.clone(), states, hkvd(0.3), engine.info());
        let sources = prompt.kv.iter().enumerate().map(|(i, kv)| {
            let inner = MemorySource(Arc::clone(kv));
            let source: Box<dyn LayerSource> = match bad.contains(&i) {
                true => Box::new(BadLayer {
                    inner,
                    bad_layer: last_layer,
                }),
                false => Box::new(inner),
            };
            Some(source)
        });
        engine
            .plan_logits(plan.unwrap(), sources.collect())
            .expect("bad KV is not an error")
    };

    let (one_bad, report) = run(&[1]);
    assert_eq!(
        (report.failed_chunks.as_slice(), report.replans),
        ([1].as_slice(), 1)
    );
    let (two_bad, report) = run(&[1, 2]);
    assert_eq!((report.mode, report.replans), (Mode::Full, 2));

    let (missed, _) = prompt.run(&mut engine, hkvd(0.3), &[1]);
    assert_close("one bad block", &one_bad, &missed, TOLERANCE);
    let (full, _) = prompt.run(&mut engine, Mode::Full, &[]);
    assert_close("two bad blocks", &two_bad, &full, TOLERANCE);
}

pub fn a_cached_prefix_changes_nothing<B: FusionBackend>(variant: &str, device: &B::Device) {
    let mut cold = load::<B>(
        &EngineOptions {
            prefix_cache_entries: 0,
            ..options(variant)
        },
        device,
    );
    let mut warm = load_with_kv::<B>(variant, KvDtype::F32, device);
    let prompt = Prompt::new(&mut warm, small_prompt());
    for mode in [Mode::Full, Mode::Reuse, hkvd(0.2)] {
        let (computed, report) = prompt.run(&mut cold, mode.clone(), &[]);
        assert_eq!(report.prefix_tokens_cached, 0);
        let (cached, report) = prompt.run(&mut warm, mode, &[]);
        assert_eq!(report.prefix_tokens_cached, prompt.segments.prefix.len());
        assert_close("cached prefix", &cached, &computed, TOLERANCE);
    }
}

pub fn small_prefill_tiles_change_nothing<B: FusionBackend>(variant: &str, device: &B::Device) {
    let mut engine = load::<B>(&options(variant), device);
    let tiled_options = EngineOptions {
        max_prefill_tokens: 3,
        ..options(variant)
    };
    let mut tiled = load::<B>(&tiled_options, device);
    let prompt = Prompt::new(&mut engine, small_prompt());
    for mode in [Mode::Full, hkvd(0.4)] {
        let (whole, _) = prompt.run(&mut engine, mode.clone(), &[]);
        let (in_tiles, _) = prompt.run(&mut tiled, mode, &[]);
        assert_close("tiles of 3 rows", &in_tiles, &whole, TOLERANCE);
    }
}
