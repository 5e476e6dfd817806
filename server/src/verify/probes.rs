//! Identity probes: prompts on which fusing must give what full prefill gives, up to rounding.

use ragweave_engine::{Mode, Policy, PromptSegments, Ratio};

use super::error::VerifyError;
use super::judge::{Probe, Tolerances};
use super::prompts::{Bench, Part, Stored};

/// The most tokens by which the position probe moves its chunk: it costs a prefill of that many.
const FARTHEST_TOKENS: usize = 512;
/// Seed of the first generated chunk; the others use the following seeds.
const FIRST_CHUNK_SEED: u64 = 10;

/// All identity probes; `mode` is the one whose missed chunks are probed.
pub(super) async fn run(
    bench: &Bench<'_>,
    mode: &Mode,
    tolerances: Tolerances,
) -> Result<Vec<Probe>, VerifyError> {
    let mut probes = limits(bench, mode, tolerances).await?;
    probes.extend(positions(bench, tolerances).await?);
    Ok(probes)
}

/// Three chunks: every row recomputed, every chunk missed, and the first one exact.
async fn limits(
    bench: &Bench<'_>,
    mode: &Mode,
    tolerances: Tolerances,
) -> Result<Vec<Probe>, VerifyError> {
    let n = bench.chunk_tokens;
    let mut parts = Vec::new();
    for (seed, n_tokens) in (FIRST_CHUNK_SEED..).zip([n, n / 2 + 1, n - 1]) {
        let ids = bench.generated(seed, n_tokens);
        let stored = Stored::Moved(bench.kv(&ids).await?);
        parts.push(Part { ids, stored });
    }
    let segments = bench.prompt(&parts);
    let moved: Vec<Stored> = parts.iter().map(|part| part.stored.clone()).collect();
    let missing = vec![Stored::Missing; parts.len()];
    let full = bench.trace(&segments, &missing, Mode::Full).await?;
    let all = bench
        .trace(&segments, &moved, Mode::blend(Policy::All, Ratio::ONE))
        .await?;
    let missed = bench.trace(&segments, &missing, mode.clone()).await?;

    parts.truncate(1);
    let alone = bench.prompt(&parts);
    let in_place = moved[0].clone().in_place();
    let alone_full = bench.trace(&alone, &missing[..1], Mode::Full).await?;
    let alone_reused = bench.trace(&alone, &[in_place], Mode::Reuse).await?;
    let probe = |name, exact: &[Vec<f32>], fused: &[Vec<f32>]| {
        Probe::new(name, distance(&exact[0], &fused[0]), tolerances.relative)
    };
    Ok(vec![
        probe(
            "every row recomputed = full prefill",
            &full.logits,
            &all.logits,
        ),
        probe(
            "every chunk missed = full prefill",
            &full.logits,
            &missed.logits,
        ),
        probe(
            "exact first chunk = full prefill",
            &alone_full.logits,
            &alone_reused.logits,
        ),
    ])
}

/// One chunk after others of several lengths. K and V of layer 0 depend on the token alone, so those stored must be
/// those computed; and once rotated to their places, they must give layer 0 the attention output of full prefill.
async fn positions(bench: &Bench<'_>, tolerances: Tolerances) -> Result<[Probe; 2], VerifyError> {
    let n = bench.chunk_tokens;
    let ids = bench.generated(FIRST_CHUNK_SEED, n);
    let kv = bench.kv(&ids).await?;
    let (mut deviation, mut attention) = (0.0, 0.0);
    for offset in offsets(n, bench.room) {
        let before = Part {
            ids: bench.generated(FIRST_CHUNK_SEED + 1, offset),
            stored: Stored::Missing,
        };
        let placed = Part {
            ids: ids.clone(),
            stored: Stored::Moved(kv.clone()),
        };
        let parts: Vec<Part> = [before, placed]
            .into_iter()
            .filter(|part| !part.ids.is_empty())
            .collect();
        let (of_kv, of_attention) = moved(bench, &parts).await?;
        deviation = larger(deviation, of_kv);
        attention = larger(attention, of_attention);
    }
    Ok([
        Probe::new(
            "position independence, KV of layer 0",
            deviation,
            tolerances.squared,
        ),
        Probe::new(
            "position independence, attention of layer 0",
            attention,
            tolerances.relative,
        ),
    ])
}

/// Where the chunk is placed: right after the prefix, near, and as far as the context and a short run allow.
fn offsets(chunk_tokens: usize, room: usize) -> [usize; 4] {
    let farthest = FARTHEST_TOKENS.min(room - chunk_tokens);
    [0, 1, chunk_tokens / 2 + 3, farthest]
}

/// Layer 0 of one placement: largest relative deviation of a row, and distance of the attention output.
async fn moved(bench: &Bench<'_>, parts: &[Part]) -> Result<(f64, f64), VerifyError> {
    let segments: PromptSegments = bench.prompt(parts);
    let stored: Vec<Stored> = parts.iter().map(|part| part.stored.clone()).collect();
    let missing = vec![Stored::Missing; parts.len()];
    let map = bench.deviation(&segments, &stored).await?;
    let layer = map.layers.first().map_or(&[][..], Vec::as_slice);
    let deviation = layer.iter().map(|&row| f64::from(row)).fold(0.0, larger);
    let full = bench.trace(&segments, &missing, Mode::Full).await?;
    let reused = bench.trace(&segments, &stored, Mode::Reuse).await?;
    let attention = match (
        full.attention_output.first(),
        reused.attention_output.first(),
    ) {
        (Some(full), Some(reused)) => distance(full, reused),
        _ => f64::NAN,
    };
    // No row was compared: the chunk was not placed as stored.
    let deviation = if layer.is_empty() {
        f64::NAN
    } else {
        deviation
    };
    Ok((deviation, attention))
}

/// The largest difference, over the spread of the exact values. NaN where a value is NaN.
fn distance(exact: &[f32], other: &[f32]) -> f64 {
    let spread = |(low, high): (f32, f32), &x: &f32| (low.min(x), high.max(x));
    let (low, high) = exact
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), spread);
    let differences = exact
        .iter()
        .zip(other)
        .map(|(a, b)| f64::from((a - b).abs()));
    let largest = differences.fold(0.0, larger);
    largest / f64::from((high - low).max(f32::MIN_POSITIVE))
}

/// The larger one; NaN if either is NaN.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use ragweave_engine::{ChunkKv, ComputeDtype, EngineOptions, KvDtype};

    use super::*;
    use crate::device::Device;

    #[test]
    fn distance_is_relative_to_the_spread() {
        assert_eq!(distance(&[0.0, 4.0, 2.0], &[0.0, 4.0, 2.0]), 0.0);
        assert_eq!(distance(&[0.0, 4.0, 2.0], &[1.0, 4.0, 0.0]), 0.5);
        assert!(distance(&[0.0, f32::NAN], &[0.0, 1.0]).is_nan());
        assert!(distance(&[0.0, 1.0], &[f32::NAN, 1.0]).is_nan());
    }

    #[tokio::test]
    async fn keys_that_stand_one_place_off_are_seen() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-qwen3");
        let engine = Device::Cpu.spawn_engine(EngineOptions::new(model)).unwrap();
        let bench = Bench::new(&engine, None).unwrap();
        let ids = bench.generated(FIRST_CHUNK_SEED, 12);
        let right = bench.kv(&ids).await.unwrap();
        let mut wrong = ChunkKv::clone(&right);
        let row_bytes = engine.model().identity.k_block_bytes(1);
        for (k, _) in &mut wrong.layers {
            k.rotate_left(row_bytes);
        }
        let rounding = Tolerances::of(ComputeDtype::F32, KvDtype::F32);
        for (kv, is_right) in [(right, true), (Arc::new(wrong), false)] {
            let part = Part {
                ids: ids.clone(),
                stored: Stored::Moved(kv),
            };
            let (deviation, attention) = moved(&bench, &[part]).await.unwrap();
            assert_eq!(deviation <= rounding.squared, is_right, "{deviation}");
            assert_eq!(attention <= rounding.relative, is_right, "{attention}");
        }
    }

    #[test]
    fn the_chunk_is_moved_as_far_as_the_context_allows() {
        assert_eq!(offsets(48, 4000), [0, 1, 27, 512]);
        assert_eq!(offsets(8, 40), [0, 1, 7, 32]);
    }
}
