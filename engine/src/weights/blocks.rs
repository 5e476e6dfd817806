//! Decodes the blocks of quantised GGUF tensors to f32: the values are those of `dequantize_row_*` in
//! llama.cpp's `ggml-quants.c`, bit by bit.

use half::f16;

use crate::model_files::gguf::tensor_type::BlockType;

/// Elements of the largest block.
pub(super) const MAX_ELEMENTS: usize = 256;
/// Bytes of the scales and minima of a block of 256 elements.
const K_SCALES: usize = 12;

/// Decodes one block.
///
/// # Shapes
/// `block` has [`BlockType::bytes`], `out` [`BlockType::elements`].
pub(super) fn decode(kind: BlockType, block: &[u8], out: &mut [f32]) {
    match kind {
        BlockType::Q4_0 => decode_q4_0(block, out),
        BlockType::Q4_1 => decode_q4_1(block, out),
        BlockType::Q5_0 => decode_q5_0(block, out),
        BlockType::Q5_1 => decode_q5_1(block, out),
        BlockType::Q8_0 => decode_q8_0(block, out),
        BlockType::Q4K => decode_q4_k(block, out),
        BlockType::Q5K => decode_q5_k(block, out),
        BlockType::Q6K => decode_q6_k(block, out),
    }
}

/// Whether all values of a block are finite. The numbers that its scales multiply are small.
pub(super) fn is_finite(kind: BlockType, block: &[u8]) -> bool {
    let finite = |at| half_at(block, at).is_finite();
    match kind {
        BlockType::Q4_0 | BlockType::Q5_0 | BlockType::Q8_0 => finite(0),
        BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4K | BlockType::Q5K => {
            finite(0) && finite(2)
        }
        BlockType::Q6K => finite(208),
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// d, 16 x 2 numbers of 4 bits: those of a byte are 16 elements apart.
fn decode_q4_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    for (l, byte) in block[2..].iter().enumerate() {
        out[l] = d * (i32::from(byte & 15) - 8) as f32;
        out[l + 16] = d * (i32::from(byte >> 4) - 8) as f32;
    }
}

/// As Q4_0, with a minimum m instead of the middle.
fn decode_q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (l, byte) in block[4..].iter().enumerate() {
        out[l] = d * f32::from(byte & 15) + m;
        out[l + 16] = d * f32::from(byte >> 4) + m;
    }
}

/// d, the fifth bits of 32 numbers, and their others as in Q4_0.
fn decode_q5_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    let number = |low: u8, l: usize| i32::from(low) | (((high >> l) & 1) << 4) as i32;
    for (l, byte) in block[6..].iter().enumerate() {
        out[l] = d * (number(byte & 15, l) - 16) as f32;
        out[l + 16] = d * (number(byte >> 4, l + 16) - 16) as f32;
    }
}

/// As Q5_0, with a minimum m instead of the middle.
fn decode_q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    let number = |low: u8, l: usize| i32::from(low) | (((high >> l) & 1) << 4) as i32;
    for (l, byte) in block[8..].iter().enumerate() {
        out[l] = d * number(byte & 15, l) as f32 + m;
        out[l + 16] = d * number(byte >> 4, l + 16) as f32 + m;
    }
}

/// d and 32 signed bytes.
fn decode_q8_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    for (value, byte) in out.iter_mut().zip(&block[2..]) {
        *value = d * f32::from(*byte as i8);
    }
}

/// d, the scale of the minima, 8 scales and minima of 6 bits, 256 numbers of 4 bits.
fn decode_q4_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, numbers) = block[4..].split_at(K_SCALES);
    for (part, values) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(scales, part);
        let (scale, min) = (d * scale, dmin * min);
        let bytes = &numbers[part / 2 * 32..][..32];
        for (value, byte) in values.iter_mut().zip(bytes) {
            let number = if part % 2 == 0 { byte & 15 } else { byte >> 4 };
            *value = scale * f32::from(number) - min;
        }
    }
}

/// As Q4_K, with a fifth bit for each number.
fn decode_q5_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, rest) = block[4..].split_at(K_SCALES);
    let (high, numbers) = rest.split_at(32);
    for (part, values) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(scales, part);
        let (scale, min) = (d * scale, dmin * min);
        let bytes = &numbers[part / 2 * 32..][..32];
        for ((value, byte), high) in values.iter_mut().zip(bytes).zip(high) {
            let low = if part % 2 == 0 { byte & 15 } else { byte >> 4 };
            let number = low | ((high >> part) & 1) << 4;
            *value = scale * f32::from(number) - min;
        }
    }
}

/// 256 numbers of 6 bits (4 low, 2 high), 16 signed scales, d.
fn decode_q6_k(block: &[u8], out: &mut [f32]) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, d) = rest.split_at(16);
    let d = half_at(d, 0);
    for (part, values) in out.chunks_exact_mut(32).enumerate() {
        let (half, quarter) = (part / 4, part % 4);
        let low = &low[half * 64 + quarter % 2 * 32..][..32];
        let high = &high[half * 32..][..32];
        for (l, value) in values.iter_mut().enumerate() {
            let low = if quarter < 2 {
                low[l] & 15
            } else {
                low[l] >> 4
            };
            let number = low | ((high[l] >> (2 * quarter)) & 3) << 4;
            let scale = d * f32::from(scales[part * 2 + l / 16] as i8);
            *value = scale * (i32::from(number) - 32) as f32;
        }
    }
}

/// The scale and the minimum of one of 8 parts: 6 bits each, the upper bits of the last four packed
/// above those of the first four.
fn scale_and_min(packed: &[u8], part: usize) -> (f32, f32) {
    let (scale, min) = match part {
        0..4 => (packed[part] & 63, packed[part + 4] & 63),
        _ => (
            (packed[part + 4] & 15) | (packed[part - 4] >> 6) << 4,
            (packed[part + 4] >> 4) | (packed[part] >> 6) << 4,
        ),
    };
    (f32::from(scale), f32::from(min))
}

#[cfg(test)]
mod tests;
