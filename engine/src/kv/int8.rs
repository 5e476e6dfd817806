//! KV in 8 bits. K varies by channel, and before RoPE its channels are the same at every position: one scale per
//! channel of a chunk. V varies by token: one scale per token and head (KIVI, arXiv 2402.02750, has the same axes).
//!
//! ```text
//! K block   f32 [heads * head_dim] scales, then i8 [n][heads * head_dim]
//! V block   f32 [n][heads] scales,         then i8 [n][heads * head_dim]
//! ```
//! A value is its scale times a whole number in -127..=127; all is little-endian.

use super::side::KvSide;

const LARGEST: f32 = 127.0;

/// Scales of one block of `n` rows.
pub(super) fn n_scales(side: KvSide, [n, heads, head_dim]: [usize; 3]) -> usize {
    match side {
        KvSide::K => heads * head_dim,
        KvSide::V => n * heads,
    }
}

/// Rounds `[n, heads, head_dim]` to a block.
pub(super) fn encode(values: &[f32], side: KvSide, shape: [usize; 3]) -> Vec<u8> {
    let mut scales = vec![0.0_f32; n_scales(side, shape)];
    for (i, value) in values.iter().enumerate() {
        let scale = &mut scales[scale_of(i, side, shape)];
        // NaN counts as the largest value, so that it shows in the scale.
        if value.is_nan() || *scale < value.abs() {
            *scale = value.abs();
        }
    }
    scales.iter_mut().for_each(|scale| *scale /= LARGEST);
    let mut block: Vec<u8> = scales
        .iter()
        .flat_map(|scale| scale.to_le_bytes())
        .collect();
    block.extend(values.iter().enumerate().map(|(i, value)| {
        let scale = scales[scale_of(i, side, shape)];
        let rounded = if scale == 0.0 {
            0.0
        } else {
            (value / scale).round()
        };
        (rounded.clamp(-LARGEST, LARGEST) as i8).to_le_bytes()[0]
    }));
    block
}

/// Index of the scale of value `i`.
fn scale_of(i: usize, side: KvSide, [_, heads, head_dim]: [usize; 3]) -> usize {
    match side {
        KvSide::K => i % (heads * head_dim),
        KvSide::V => i / head_dim,
    }
}

/// Row `index` of a block.
pub(super) fn decode_row(
    block: &[u8],
    side: KvSide,
    shape: [usize; 3],
    index: usize,
    out: &mut [f32],
) {
    let [_, heads, head_dim] = shape;
    let (scales, values) = block.split_at(n_scales(side, shape) * size_of::<f32>());
    let row = &values[index * heads * head_dim..][..heads * head_dim];
    let (scales, _) = scales.as_chunks::<4>();
    match side {
        KvSide::K => {
            let pairs = row.iter().zip(scales);
            for (out, (&value, &scale)) in out.iter_mut().zip(pairs) {
                *out = f32::from(value.cast_signed()) * f32::from_le_bytes(scale);
            }
        }
        KvSide::V => {
            let scales = &scales[index * heads..];
            let heads = row.chunks_exact(head_dim).zip(scales);
            for (out, (row, &scale)) in out.chunks_exact_mut(head_dim).zip(heads) {
                let scale = f32::from_le_bytes(scale);
                for (out, &value) in out.iter_mut().zip(row) {
                    *out = f32::from(value.cast_signed()) * scale;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [3, 2, 4];

    fn round_trip(values: &[f32], side: KvSide) -> Vec<f32> {
        let block = encode(values, side, SHAPE);
        let mut out = vec![0.0; values.len()];
        for (index, row) in out.chunks_exact_mut(8).enumerate() {
            decode_row(&block, side, SHAPE, index, row);
        }
        out
    }

    /// Channel 5 and token 1 are a hundred times as large as the rest.
    fn uneven() -> Vec<f32> {
        let value = |i: usize| {
            let large = if i % 8 == 5 || i / 8 == 1 { 100.0 } else { 1.0 };
            ((i * 37 % 19) as f32 / 9.5 - 1.0) * large
        };
        (0..24).map(value).collect()
    }

    #[test]
    fn an_error_is_at_most_half_a_step_of_its_scale() {
        let values = uneven();
        for side in [KvSide::K, KvSide::V] {
            let largest = |i: usize| {
                let same = |&j: &usize| scale_of(j, side, SHAPE) == scale_of(i, side, SHAPE);
                let of_scale = (0..24).filter(same).map(|j| values[j].abs());
                of_scale.fold(0.0, f32::max)
            };
            for (i, (value, decoded)) in values.iter().zip(round_trip(&values, side)).enumerate() {
                let step = largest(i) / LARGEST;
                assert!(
                    (value - decoded).abs() <= 0.501 * step,
                    "{side:?} {i}: {value} {decoded}"
                );
            }
        }
    }

    #[test]
    fn zeros_stay_zeros_and_nan_is_not_lost() {
        for side in [KvSide::K, KvSide::V] {
            assert_eq!(round_trip(&[0.0; 24], side), [0.0; 24]);
            let mut values = uneven();
            values[13] = f32::NAN;
            assert!(round_trip(&values, side)[13].is_nan(), "{side:?}");
        }
    }
}
