//! Attention of rows at arbitrary positions over a KV buffer: the reference, what the CPU runs, and what GPUs run.

mod few;
mod rows;
mod shape;

use std::ops::Range;

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_flex::FlexTensor;

use self::shape::{Input, Shape, Target};
use super::flex_tensor::{dims, floats, from_floats, whole, with_stored_type};
use super::masked_softmax;
use super::simd::{Isa, Stored};

/// Plain tensor code, in f32: scores, masked softmax and weighted values, over the keys that any row sees.
pub(super) fn reference<B: Backend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    visible: &[Range<usize>],
) -> FloatTensor<B> {
    let tensor = |x| Tensor::<B, 3>::from_primitive(TensorPrimitive::Float(x));
    let [q, k, v] = [q, k, v].map(tensor);
    let dtype = q.dtype();
    let [m, heads, head_dim] = q.dims();
    let kv_heads = k.dims()[1];
    let group = heads / kv_heads;
    let start = visible.first().map_or(0, |range| range.start);
    let end = visible.last().map_or(0, |range| range.end);
    let [k, v] = [k, v].map(|x| x.narrow(0, start, end - start).cast(DType::F32));
    let within = |range: &Range<usize>| range.start - start..range.end - start;
    let visible: Vec<Range<usize>> = visible.iter().map(within).collect();
    let scores = scaled_scores(q.cast(DType::F32), k); // [kv_heads, group * m, n]
    let weights = masked_softmax::reference::<B>(scores.into_primitive().tensor(), &visible);
    tensor(weights)
        .matmul(v.permute([1, 0, 2])) // [kv_heads, group * m, head_dim]
        .reshape([kv_heads, group, m, head_dim])
        .permute([2, 0, 1, 3]) // [m, kv_heads, group, head_dim]
        .reshape([m, heads * head_dim])
        .cast(dtype)
        .into_primitive()
        .tensor()
}

/// What each row pays attention to, before the softmax.
///
/// # Shapes
/// - q: `[m, heads, head_dim]`
/// - k: `[n, kv_heads, head_dim]`
/// - result: `[kv_heads, group * m, n]`, with `group = heads / kv_heads`
pub fn scaled_scores<B: Backend>(q: Tensor<B, 3>, k: Tensor<B, 3>) -> Tensor<B, 3> {
    let [m, heads, head_dim] = q.dims();
    let kv_heads = k.dims()[1];
    let group = heads / kv_heads;
    let scale = 1.0 / (head_dim as f64).sqrt();
    q.mul_scalar(scale)
        .reshape([m, kv_heads, group, head_dim])
        .permute([1, 2, 0, 3]) // [kv_heads, group, m, head_dim]
        .reshape([kv_heads, group * m, head_dim])
        .matmul(k.permute([1, 2, 0])) // [kv_heads, head_dim, n]
}

/// The Flex version, in f32 whatever the dtype.
pub(super) fn on_flex(
    q: FlexTensor,
    k: FlexTensor,
    v: FlexTensor,
    visible: &[Range<usize>],
) -> FlexTensor {
    let dtype = q.dtype();
    let [_, heads, head_dim] = dims(&q);
    let [_, kv_heads, _] = dims(&k);
    let shape = Shape {
        heads,
        kv_heads,
        head_dim,
    };
    let (q, k, v) = (whole(q), whole(k), whole(v));
    let q = floats(&q);
    let out = with_stored_type!(k.dtype(), E => {
        attend::<E>(&q, k.storage(), v.storage(), visible, shape, Isa::in_use())
    });
    from_floats(out, [visible.len(), shape.q_width()], dtype)
}

/// `[m, heads, head_dim]` over `[n, kv_heads, head_dim]` to `[m, heads * head_dim]`.
fn attend<E: Stored>(
    q: &[f32],
    k: &[E],
    v: &[E],
    visible: &[Range<usize>],
    shape: Shape,
    isa: Isa,
) -> Vec<f32> {
    let input = Input {
        q,
        k,
        v,
        visible,
        shape,
        isa,
    };
    let mut out = vec![0.0; q.len()];
    let target = Target(out.as_mut_ptr());
    if few::takes(visible.len(), shape) {
        few::run(&input, target);
    } else {
        rows::run(&input, target);
    }
    out
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::sampling::Random;

    fn values(n: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(Some(seed));
        (0..n).map(|_| random.unit() as f32 * 4.0 - 2.0).collect()
    }

    /// One row of one head in double precision.
    fn expected(q: &[f32], k: &[f32], v: &[f32], keys: Range<usize>, width: usize) -> Vec<f64> {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter()
                .zip(b)
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum()
        };
        let dim = q.len();
        let scores = keys.clone().map(|key| dot(q, &k[key * width..][..dim]));
        let weights: Vec<f64> = scores.map(|s| (s / (dim as f64).sqrt()).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut out = vec![0.0; dim];
        for (key, weight) in keys.zip(weights) {
            for (out, &v) in out.iter_mut().zip(&v[key * width..]) {
                *out += weight / total * f64::from(v);
            }
        }
        out
    }

    fn check(shape: Shape, visible: &[Range<usize>], n: usize, isa: Isa) {
        let q = values(visible.len() * shape.q_width(), 1);
        let (k, v) = (
            values(n * shape.kv_width(), 2),
            values(n * shape.kv_width(), 3),
        );
        let actual = attend::<f32>(&q, &k, &v, visible, shape, isa);
        let dim = shape.head_dim;
        for (line, (q, actual)) in q.chunks(dim).zip(actual.chunks(dim)).enumerate() {
            let (row, head) = (line / shape.heads, line % shape.heads);
            let start = head / shape.group() * dim;
            let keys = visible[row].clone();
            let expected = expected(q, &k[start..], &v[start..], keys, shape.kv_width());
            for (actual, expected) in actual.iter().zip(expected) {
                let error = (f64::from(*actual) - expected).abs();
                assert!(
                    error < 1e-5,
                    "{isa:?}, row {row}, head {head}: {actual}, not {expected}"
                );
            }
        }
    }

    const SHAPES: [Shape; 3] = [
        Shape {
            heads: 6,
            kv_heads: 2,
            head_dim: 20,
        },
        Shape {
            heads: 2,
            kv_heads: 2,
            head_dim: 64,
        },
        Shape {
            heads: 9,
            kv_heads: 1,
            head_dim: 8,
        },
    ];

    #[test]
    fn scattered_rows_see_their_keys_and_no_others() {
        let causal = |rows: &[usize]| rows.iter().map(|&row| 0..row + 1).collect::<Vec<_>>();
        let window = |rows: &[usize]| {
            let range = |&row: &usize| (row + 1).saturating_sub(150)..row + 1;
            rows.iter().map(range).collect::<Vec<_>>()
        };
        let many: Vec<usize> = (0..700).filter(|row| row % 3 == 0 || *row > 600).collect();
        for isa in Isa::all() {
            for shape in SHAPES {
                for rows in [
                    &many[..],
                    &[0],
                    &[127],
                    &[699],
                    &[3, 128],
                    &[5, 200, 201, 699],
                ] {
                    check(shape, &causal(rows), 700, isa);
                    check(shape, &window(rows), 700, isa);
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_company() {
        let shape = SHAPES[0];
        let n = 400;
        let (k, v) = (
            values(n * shape.kv_width(), 2),
            values(n * shape.kv_width(), 3),
        );
        let q = values(n * shape.q_width(), 1);
        for isa in Isa::all() {
            let visible: Vec<_> = (0..n).map(|row| 0..row + 1).collect();
            let together = attend::<f32>(&q, &k, &v, &visible, shape, isa);
            let rows = 200..300;
            let part = rows.start * shape.q_width()..rows.end * shape.q_width();
            let alone = attend::<f32>(&q[part.clone()], &k, &v, &visible[rows], shape, isa);
            assert_eq!(alone, together[part]);
        }
    }

    #[test]
    fn narrow_kv_gives_what_its_widened_values_give() {
        let shape = SHAPES[1];
        let narrow = |x: Vec<f32>| x.into_iter().map(f16::from_f32).collect::<Vec<_>>();
        let wide = |x: &[f16]| x.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
        let (k, v) = (narrow(values(300 * 128, 2)), narrow(values(300 * 128, 3)));
        for rows in [vec![299], (0..300).collect::<Vec<usize>>()] {
            let visible: Vec<_> = rows.iter().map(|row| 0..row + 1).collect();
            let q = values(rows.len() * 128, 1);
            for isa in Isa::all() {
                let expected = attend::<f32>(&q, &wide(&k), &wide(&v), &visible, shape, isa);
                assert_eq!(attend::<f16>(&q, &k, &v, &visible, shape, isa), expected);
            }
        }
    }

    #[test]
    fn numbers_that_are_not_finite_are_not_hidden() {
        let shape = SHAPES[1];
        for bad in [f32::NAN, f32::INFINITY] {
            let mut q = values(3 * 128, 1);
            q[130] = bad; // row 1, head 0
            let (k, v) = (values(300 * 128, 2), values(300 * 128, 3));
            let out = attend::<f32>(&q, &k, &v, &[0..100, 0..200, 0..300], shape, Isa::in_use());
            assert!(out[128..192].iter().all(|x| x.is_nan()), "{bad}");
            assert!(out[..128].iter().all(|x| x.is_finite()), "{bad}");
        }
    }
}
