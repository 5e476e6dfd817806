//! Softmax over the keys each row sees: the reference and the Flex version (in place).

use std::ops::Range;

use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Element, Tensor, TensorData, TensorMetadata, TensorPrimitive};
use burn_flex::FlexTensor;
use bytemuck::Pod;
use half::{bf16, f16};
use rayon::prelude::*;

use super::flex::whole;

/// Plain tensor code: an additive mask of 0 and `-inf`, then softmax.
pub(super) fn reference<B: Backend>(
    scores: FloatTensor<B>,
    visible: &[Range<usize>],
) -> FloatTensor<B> {
    let scores = Tensor::<B, 3>::from_primitive(TensorPrimitive::Float(scores));
    let (dtype, device) = (scores.dtype(), scores.device());
    let [heads, rows, n] = scores.dims();
    let m = visible.len();
    let mut bias = vec![f32::NEG_INFINITY; m * n];
    for (row, keys) in bias.chunks_exact_mut(n).zip(visible) {
        row[keys.clone()].fill(0.0);
    }
    let bias = TensorData::new(bias, [1, 1, m, n]);
    let bias = Tensor::<B, 4>::from_data(bias, (&device, DType::F32));
    let scores = scores.cast(DType::F32).reshape([heads, rows / m, m, n]);
    let weights = softmax(scores + bias, 3).cast(dtype); // [heads, group, m, n]
    weights.reshape([heads, rows, n]).into_primitive().tensor()
}

/// The Flex version: one pass per row, rows in parallel, in place unless the scores are shared.
pub(super) fn on_flex(scores: FlexTensor, visible: &[Range<usize>]) -> FlexTensor {
    let mut scores = whole(scores);
    match scores.dtype() {
        DType::F32 => normalise_rows::<f32>(&mut scores, visible),
        DType::F16 => normalise_rows::<f16>(&mut scores, visible),
        DType::BF16 => normalise_rows::<bf16>(&mut scores, visible),
        other => panic!("masked_softmax: scores are f32, f16 or bf16, not {other:?}"),
    }
    scores
}

fn normalise_rows<E: Element + Pod + Float>(scores: &mut FlexTensor, visible: &[Range<usize>]) {
    let n = scores.shape()[2];
    let rows: &mut [E] = scores.storage_mut();
    rows.par_chunks_exact_mut(n)
        .enumerate()
        .for_each_init(Vec::new, |buffer, (i, row)| {
            let keys = visible[i % visible.len()].clone();
            buffer.clear();
            buffer.extend(row[keys.clone()].iter().map(|&x| x.widen()));
            normalise(buffer);
            row[..keys.start].fill(E::narrow(0.0));
            row[keys.end..].fill(E::narrow(0.0));
            for (out, &weight) in row[keys].iter_mut().zip(buffer.iter()) {
                *out = E::narrow(weight);
            }
        });
}

/// Softmax of one row. Scores that are not finite make NaN of it, so that they are noticed.
fn normalise(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !max.is_finite() || row.iter().any(|x| x.is_nan()) {
        row.fill(f32::NAN);
        return;
    }
    for x in row.iter_mut() {
        *x = exp(*x - max);
    }
    let sum: f32 = row.iter().sum();
    let scale = 1.0 / sum;
    for x in row.iter_mut() {
        *x *= scale;
    }
}

/// `e^x` for `x <= 0`, within 2e-7 relative, in operations that vectorise; `f32::exp` is a call.
///
/// Range reduction to `|r| <= ln(2) / 2` and the polynomial of Cephes `expf` (Moshier).
fn exp(x: f32) -> f32 {
    /// Adding and subtracting `1.5 * 2^23` rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    /// `e^x` is a normal number above this.
    const LOWEST: f32 = -87.0;
    let x = x.max(LOWEST);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = ((((1.987_569_1e-4 * r + 1.398_199_9e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r
        + 1.666_666_5e-1)
        * r
        + 0.5;
    let two_to_n = f32::from_bits((((n as i32).wrapping_add(127)) as u32).wrapping_shl(23));
    (p * r * r + r + 1.0) * two_to_n
}

/// A float the scores may be kept in.
trait Float: Copy + Send {
    fn widen(self) -> f32;
    fn narrow(x: f32) -> Self;
}

impl Float for f32 {
    fn widen(self) -> f32 {
        self
    }

    fn narrow(x: f32) -> Self {
        x
    }
}

impl Float for f16 {
    fn widen(self) -> f32 {
        self.to_f32()
    }

    fn narrow(x: f32) -> Self {
        f16::from_f32(x)
    }
}

impl Float for bf16 {
    fn widen(self) -> f32 {
        self.to_f32()
    }

    fn narrow(x: f32) -> Self {
        bf16::from_f32(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_standard_library() {
        for i in 0..=87_000 {
            let x = -(i as f32) / 1000.0;
            let (actual, expected) = (exp(x), x.exp());
            let error = ((actual - expected) / expected).abs();
            assert!(
                error <= 2e-7,
                "exp({x}) = {actual}, not {expected}: {error}"
            );
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn scores_that_are_not_finite_are_not_hidden() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut row = [1.0, bad, 2.0];
            normalise(&mut row);
            assert!(row.iter().all(|x| x.is_nan()), "{bad}: {row:?}");
        }
    }
}
