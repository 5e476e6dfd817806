//! Each custom operation equals its plain-tensor reference, in every dtype the device computes in.
//!
//! References run in f32 on the same, already rounded, inputs: in 16 bits they would round more often
//! than the operations they check. They run on the CPU, so that a kernel that never ran, and returned
//! uninitialized memory, cannot return the reference's own numbers by chance.

use std::ops::Range;

use burn::tensor::{DType, Distribution, Int, Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use bytemuck::Pod;
use half::vec::HalfFloatVecExt;
use half::{bf16, f16};
use ragweave_engine::config::Activation;
use ragweave_engine::{
    BlockSpan, FusionBackend, HostBuffer, KvDtype, KvSide, Rotation, StoredBlock, add,
    add_reference, attend_rows, attend_rows_reference, embed, glu, glu_reference, masked_softmax,
    masked_softmax_reference, overwrite_rows, overwrite_rows_reference, place_block,
    place_rows_reference, project, project_add, project_gated, project_pair, rms_norm,
    rms_norm_reference, rotate, rotate_reference, row_distance, row_distance_reference, weight,
    write_rows,
};

use super::fixtures::assert_close;

type Shape = [usize; 3];

/// `[rows, heads, head_dim]` of the buffer and how many rows are written.
const SHAPES: [(Shape, usize); 4] = [
    ([1, 1, 2], 1),
    ([7, 3, 4], 3),
    ([33, 2, 64], 33),
    ([513, 5, 6], 100),
];

pub fn overwrite_rows_equals_its_reference<B: FusionBackend>(device: &B::Device) {
    B::seed(device, 5);
    for (shape, n_written) in SHAPES {
        for (dtype, _) in dtypes::<B>(device) {
            let (buffer, rows, values) = inputs::<B>(shape, n_written, dtype, device);
            let cpu_rows =
                Tensor::<Flex, 1, Int>::from_data(rows.to_data(), (&FlexDevice, DType::I32));
            let expected = overwrite_rows_reference(wide(&buffer), cpu_rows, wide(&values));
            let what = format!("{dtype:?}, {shape:?}");
            let actual = floats(overwrite_rows(buffer, rows, values));
            assert_close(&what, &actual, &floats(expected), 0.0);
        }
    }
}

pub fn overwrite_rows_leaves_a_shared_buffer_alone<B: FusionBackend>(device: &B::Device) {
    let (buffer, rows, values) = inputs::<B>([7, 3, 4], 3, DType::F32, device);
    let before = floats(buffer.clone());
    let written = overwrite_rows(buffer.clone(), rows, values);
    assert_close("the shared buffer", &floats(buffer), &before, 0.0);
    assert_ne!(floats(written), before);
}

pub fn masked_softmax_equals_its_reference<B: FusionBackend>(device: &B::Device) {
    B::seed(device, 6);
    // heads, group, keys, and the rows' visible keys: causal, scattered, windowed, one row.
    let cases = [
        (2, 3, 17, (0..17).map(|p| 0..p + 1).collect::<Vec<_>>()),
        (1, 1, 600, vec![0..1, 0..77, 0..599, 0..600]),
        (
            4,
            2,
            33,
            (0..33usize).map(|p| p.saturating_sub(7)..p + 1).collect(),
        ),
        (3, 5, 9, std::iter::once(0..9).collect()),
    ];
    for (heads, group, n, visible) in cases {
        let shape = [heads, group * visible.len(), n];
        for (dtype, rounding) in dtypes::<B>(device) {
            let scores = random::<B, 3>(shape, dtype, device).mul_scalar(30.0);
            let expected = masked_softmax_reference(wide(&scores), &visible);
            let actual = floats(masked_softmax(scores, &visible));
            let what = format!("{dtype:?}, {shape:?}");
            assert_close(&what, &actual, &floats(expected), rounding);
        }
    }
}

/// Query heads, KV heads, head_dim: groups of 1, 3, 4 and 8, head widths that are not a multiple of 8.
const HEADS: [(usize, usize, usize); 6] = [
    (2, 2, 8),
    (6, 2, 20),
    (9, 3, 64),
    (4, 1, 16),
    (8, 2, 128),
    (8, 1, 256),
];

/// Keys in the buffer and the keys of each row: causal and whole, scattered, in a window, few rows.
fn attended() -> Vec<(usize, Vec<Range<usize>>)> {
    let causal = |rows: &[usize]| rows.iter().map(|&row| 0..row + 1).collect::<Vec<_>>();
    let window = |rows: &[usize], width: usize| {
        let range = |&row: &usize| (row + 1).saturating_sub(width)..row + 1;
        rows.iter().map(range).collect::<Vec<_>>()
    };
    let scattered: Vec<usize> = (0..300).filter(|row| row % 7 == 3 || *row > 280).collect();
    vec![
        (1, causal(&[0])),
        (70, causal(&(0..67).collect::<Vec<_>>())),
        (300, causal(&scattered)),
        (300, window(&scattered, 21)),
        (1030, causal(&[1029])),
        (1030, causal(&[5, 513, 1001])),
        (1030, window(&[40, 900, 1029], 300)),
    ]
}

pub fn attend_rows_equals_its_reference<B: FusionBackend>(device: &B::Device) {
    B::seed(device, 7);
    let each = HEADS
        .iter()
        .flat_map(|&heads| attended().into_iter().map(move |rows| (heads, rows)));
    // Enough lines for a whole device, each over several tiles of keys, in groups of 2; in a window, too.
    let all = (600, (0..600).map(|row| 0..row + 1).collect::<Vec<_>>());
    let window = |row: usize| (row + 1).saturating_sub(277)..row + 1;
    let in_window = (600, (0..600).map(window).collect());
    let many = [
        ((32, 16, 64), all.clone()),
        ((32, 16, 128), all),
        ((32, 16, 64), in_window),
    ];
    for ((heads, kv_heads, head_dim), (n, visible)) in each.chain(many) {
        for (dtype, rounding) in dtypes::<B>(device) {
            let random = |rows, heads| random::<B, 3>([rows, heads, head_dim], dtype, device);
            let q = random(visible.len(), heads);
            let (k, v) = (random(n, kv_heads), random(n, kv_heads));
            let expected = attend_rows_reference(wide(&q), wide(&k), wide(&v), &visible);
            let actual = attend_rows(q, k, v, &visible);
            // Averages of values below 1; sums over up to 1,030 keys in another order.
            assert_close(
                &format!("{dtype:?}, {heads} {kv_heads} {head_dim}, {visible:?} of {n}"),
                &floats(actual),
                &floats(expected),
                rounding + 2e-6,
            );
        }
    }
}

pub fn a_row_that_is_not_finite_shows_and_spoils_no_other<B: FusionBackend>(device: &B::Device) {
    for head_dim in [16, 64] {
        let (shape, width) = ([40, 4, head_dim], 4 * head_dim);
        let mut values: Vec<f32> = (0..40 * width).map(|i| (i % 13) as f32 / 13.0).collect();
        values[7 * width] = f32::NAN; // row 7, head 0
        let visible: Vec<_> = (0..40).map(|row| 0..row + 1).collect();
        for (dtype, _) in dtypes::<B>(device) {
            let q = TensorData::new(values.clone(), shape);
            let q = Tensor::<B, 3>::from_data(q, (device, DType::F32)).cast(dtype);
            let kv = random::<B, 3>([40, 2, head_dim], dtype, device);
            let out = floats(attend_rows(q, kv.clone(), kv, &visible));
            for (i, head) in out.chunks_exact(head_dim).enumerate() {
                let is_finite = head.iter().all(|x| x.is_finite());
                assert_eq!(is_finite, i != 7 * 4, "{dtype:?}, {head_dim}, head {i}");
            }
        }
    }
}

pub fn place_block_equals_its_reference<B: FusionBackend>(device: &B::Device) {
    B::seed(device, 8);
    for (dtype, rounding) in dtypes::<B>(device) {
        for stored_dtype in stored_dtypes::<B>(device) {
            for (shape, rows) in [
                ([1, 1, 2], 0..1),
                ([9, 3, 20], 2..7),
                ([8, 1, 48], 3..8),
                ([300, 2, 64], 43..300),
            ] {
                let stored_shape = [rows.len(), shape[1], shape[2]];
                let [k, v] = [KvSide::K, KvSide::V]
                    .map(|side| stored_bytes(stored_shape, stored_dtype, side));
                let buffer = one_buffer(&k, &v);
                let apart = StoredBlock::new(&k, &v, stored_dtype, stored_shape);
                let together = StoredBlock::in_buffer(&buffer, stored_dtype, stored_shape);
                for block in [apart, together] {
                    let buffers = [0, 1].map(|_| random::<B, 3>(shape, dtype, device));
                    // Rotated values below 1.5.
                    place_block_is_right(buffers, rows.start, &block, rounding * 1.5);
                }
            }
        }
    }
}

/// Compares with each side placed by itself.
fn place_block_is_right<B: FusionBackend>(
    buffers: [Tensor<B, 3>; 2],
    start: usize,
    block: &StoredBlock<'_>,
    tolerance: f32,
) {
    let [n, _, head_dim] = block.shape();
    let what = format!(
        "{:?} from {start}, {:?} {:?}",
        buffers[0].dtype(),
        block.dtype(),
        block.shape()
    );
    let on_device = rotation::<B>(n, head_dim, &buffers[0].device());
    let on_cpu = rotation::<Flex>(n, head_dim, &FlexDevice);
    let [k, v] = [&buffers[0], &buffers[1]].map(wide);
    let k = place_rows_reference(k, start, block.k(), Some(&on_cpu));
    let v = place_rows_reference(v, start, block.v(), None);
    let [placed_k, placed_v] = place_block(buffers, start, block, &on_device).map(floats);
    assert_close(&format!("K, {what}"), &placed_k, &floats(k), tolerance);
    assert_close(&format!("V, {what}"), &placed_v, &floats(v), tolerance);
}

pub fn place_block_leaves_shared_buffers_alone<B: FusionBackend>(device: &B::Device) {
    let buffers = [0, 1].map(|_| random::<B, 3>([7, 3, 4], DType::F32, device));
    let before = buffers.clone().map(floats);
    let [k, v] = [KvSide::K, KvSide::V].map(|side| stored_bytes([2, 3, 4], KvDtype::F32, side));
    let block = StoredBlock::new(&k, &v, KvDtype::F32, [2, 3, 4]);
    let rotation = rotation::<B>(2, 4, device);
    let placed = place_block(buffers.clone(), 1, &block, &rotation).map(floats);
    for ((buffer, before), placed) in buffers.map(floats).iter().zip(&before).zip(&placed) {
        assert_close("the shared buffer", buffer, before, 0.0);
        assert_ne!(placed, before);
    }
}

pub fn rotate_equals_its_reference<B: FusionBackend>(device: &B::Device) {
    B::seed(device, 9);
    for shape in [[1, 1, 2], [5, 3, 20], [131, 9, 64], [40, 2, 128]] {
        for (dtype, rounding) in dtypes::<B>(device) {
            let x = random::<B, 3>(shape, dtype, device);
            let on_cpu = rotation::<Flex>(shape[0], shape[2], &FlexDevice);
            let rotation = rotation::<B>(shape[0], shape[2], device);
            let expected = floats(rotate_reference(wide(&x), &on_cpu));
            // Rotated values below 1.5.
            let what = format!("{dtype:?}, {shape:?}");
            assert_close(
                &what,
                &floats(rotate(x, &rotation)),
                &expected,
                rounding * 1.5,
            );
        }
    }
}

pub fn row_distance_equals_its_reference<B: FusionBackend>(device: &B::Device) {
    B::seed(device, 10);
    for shape in [[1, 1, 2], [3, 5, 20], [70, 8, 128]] {
        for (dtype, _) in dtypes::<B>(device) {
            let (a, b) = (
                random::<B, 3>(shape, dtype, device),
                random(shape, dtype, device),
            );
            let expected = floats(row_distance_reference(wide(&a), wide(&b)));
            // The result is f32; the order of summing squares below 4 differs.
            let tolerance = 4e-7 * (shape[1] * shape[2]) as f32;
            let actual = floats(row_distance(a, b));
            assert_close(
                &format!("{dtype:?}, {shape:?}"),
                &actual,
                &expected,
                tolerance,
            );
        }
    }
}

pub fn rms_norm_equals_its_reference<B: FusionBackend>(device: &B::Device) {
    B::seed(device, 11);
    for shape in [[1, 2], [5, 7], [3, 576], [300, 128], [2, 4096]] {
        for (dtype, rounding) in dtypes::<B>(device) {
            let x = random::<B, 2>(shape, dtype, device);
            let weight = random::<B, 1>([shape[1]], DType::F32, device);
            let expected = floats(rms_norm_reference(wide(&x), &wide(&weight), 1e-5));
            // Normalised values below 2 of uniform ones, weights below 1.
            let what = format!("{dtype:?}, {shape:?}");
            assert_close(
                &what,
                &floats(rms_norm(x, &weight, 1e-5)),
                &expected,
                rounding * 2.0,
            );
        }
    }
}

pub fn add_equals_its_reference<B: FusionBackend>(device: &B::Device) {
    B::seed(device, 14);
    for shape in [[1, 1], [5, 7], [3, 1536], [130, 640]] {
        for (dtype, rounding) in dtypes::<B>(device) {
            let x = random::<B, 2>(shape, dtype, device);
            let y = random::<B, 2>(shape, dtype, device);
            let expected = floats(add_reference(wide(&x), wide(&y)));
            let before = floats(x.clone());
            let what = format!("{dtype:?}, {shape:?}");
            // Sums below 2.
            let actual = floats(add(x.clone(), y));
            assert_close(&what, &actual, &expected, rounding * 2.0);
            assert_close(&format!("{what}, shared"), &floats(x), &before, 0.0);
        }
    }
}

/// What gates an MLP.
const ACTIVATIONS: [Activation; 2] = [Activation::Silu, Activation::GeluTanh];

pub fn glu_equals_its_reference<B: FusionBackend>(device: &B::Device) {
    B::seed(device, 12);
    for shape in [[1, 1], [5, 7], [3, 1536], [130, 64]] {
        for (dtype, rounding) in dtypes::<B>(device) {
            for activation in ACTIVATIONS {
                // Up to +-90, where e^x is not finite in f32.
                let gate = random::<B, 2>(shape, dtype, device).mul_scalar(90.0);
                let up = random::<B, 2>(shape, dtype, device);
                let expected = floats(glu_reference(wide(&gate), wide(&up), activation));
                let actual = floats(glu(gate, up, activation));
                // Results below 90.
                assert_close(
                    &format!("{activation:?}, {dtype:?}, {shape:?}"),
                    &actual,
                    &expected,
                    rounding * 90.0,
                );
            }
        }
    }
}

/// Rows, columns and length of sums: for each size of tile, sizes that fill it and sizes that do not, and
/// sums that are split.
const PRODUCTS: [(usize, usize, usize); 14] = [
    (1, 130, 64),
    (67, 33, 576),
    (3, 34, 24),
    (20, 130, 1032),
    (50, 96, 4096),
    (128, 128, 512),
    (130, 256, 512),
    (200, 130, 1032),
    (300, 34, 4104),
    (400, 256, 4104),
    // More tiles than a device has multiprocessors, and for the last two the widest tiles of Hopper.
    (700, 3072, 72),
    (900, 6160, 72),
    (388, 8208, 72),
    (900, 4112, 72),
];

/// For products that are more than one: a single row, sizes that no tile fills, sums that are split.
const COMBINED: [(usize, usize, usize); 7] = [
    (1, 48, 64),
    (9, 33, 40),
    (67, 96, 576),
    (70, 48, 4096),
    (300, 1536, 136),
    (130, 8208, 72),
    (260, 6160, 72),
];

pub fn project_gated_equals_its_reference<B: FusionBackend>(device: &B::Device) {
    B::seed(device, 14);
    for (m, n, k) in COMBINED {
        for (dtype, rounding) in dtypes::<B>(device) {
            for activation in ACTIVATIONS {
                let x = random::<B, 2>([m, k], dtype, device);
                let [gate, up] = [(); 2].map(|()| random::<B, 2>([n, k], dtype, device));
                let products = product(&x, &gate).into_iter().zip(product(&x, &up));
                let actual = project_gated(x, [&weight(gate), &weight(up)], activation);
                for (i, ((gate, up), actual)) in products.zip(floats(actual)).enumerate() {
                    let expected = activated(gate, activation) * up;
                    // Both sums are of k products in f32; both and the result are rounded, at most.
                    let summed = f32::EPSILON * k as f32 / 2.0;
                    let off = |x: f32| rounding * x.abs() + summed;
                    let moved = off(gate) * (up.abs() + 1.0) + off(up) * (gate.abs() + 1.0);
                    let tolerance = 1.5 * moved + rounding * (expected.abs() + 1.0);
                    let difference = (actual - expected).abs();
                    assert!(
                        difference <= tolerance,
                        "{activation:?}, {dtype:?}, {m} {n} {k}: differs by {difference} > {tolerance} at {i}"
                    );
                }
            }
        }
    }
}

fn activated(x: f32, activation: Activation) -> f32 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let y = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + y.tanh())
        }
    }
}

pub fn project_pair_and_project_add_equal_single_products<B: FusionBackend>(device: &B::Device) {
    B::seed(device, 15);
    for (m, n, k) in COMBINED {
        for (dtype, rounding) in dtypes::<B>(device) {
            let x = random::<B, 2>([m, k], dtype, device);
            let residual = random::<B, 2>([m, n], dtype, device).mul_scalar(9.0);
            let [a, b] = [(); 2].map(|()| random::<B, 2>([n, k], dtype, device));
            let [expected_a, expected_b] = [&a, &b].map(|matrix| product(&x, matrix));
            let added = expected_b.iter().zip(floats(residual.clone()));
            let expected_sum: Vec<f32> = added.map(|(sum, residual)| sum + residual).collect();
            let weights = [weight(a), weight(b)];
            let [actual_a, actual_b] = project_pair(x.clone(), [&weights[0], &weights[1]]);
            let actual_sum = project_add(residual, x, &weights[1]);
            // As for a single product; what is added is below 9, and its sum rounded once more.
            let tolerance =
                rounding * ((k as f32).sqrt() * 2.0 + 9.0) * 2.0 + f32::EPSILON * k as f32 / 2.0;
            let name = format!("{dtype:?}, {m} {n} {k}");
            assert_close(&name, &floats(actual_a), &expected_a, tolerance);
            assert_close(&name, &floats(actual_b), &expected_b, tolerance);
            assert_close(&name, &floats(actual_sum), &expected_sum, tolerance);
        }
    }
}

pub fn write_rows_equals_its_parts<B: FusionBackend>(device: &B::Device) {
    B::seed(device, 16);
    for (shape, rows) in [
        ([1, 1, 2], vec![0_i32]),
        ([9, 3, 20], vec![7, 2, 5]),
        ([300, 2, 64], (0..300).step_by(3).collect()),
    ] {
        let [_, heads, head_dim] = shape;
        let m = rows.len();
        let on_cpu = rotation::<Flex>(m, head_dim, &FlexDevice);
        let on_device = rotation::<B>(m, head_dim, device);
        let index = || TensorData::new(rows.clone(), [m]);
        for (dtype, rounding) in dtypes::<B>(device) {
            let buffers = [(); 2].map(|()| random::<B, 3>(shape, dtype, device));
            let values = [(); 2].map(|()| random::<B, 3>([m, heads, head_dim], dtype, device));
            let [k, v] = [wide(&values[0]), wide(&values[1])];
            let cpu_rows = Tensor::from_data(index(), (&FlexDevice, DType::I32));
            let expected = [rotate_reference(k, &on_cpu), v];
            let wide_buffers = [wide(&buffers[0]), wide(&buffers[1])];
            let expected = wide_buffers
                .into_iter()
                .zip(expected)
                .map(|(buffer, values)| {
                    floats(overwrite_rows_reference(buffer, cpu_rows.clone(), values))
                });
            let rows_on_device = Tensor::from_data(index(), (device, DType::I32));
            let actual = write_rows(buffers, rows_on_device, values, &on_device);
            // Rotated values below 1.5; V is written as it is.
            let tolerances = [2.0 * rounding, 0.0];
            for ((actual, expected), tolerance) in actual.into_iter().zip(expected).zip(tolerances)
            {
                let name = format!("{dtype:?}, {shape:?}");
                assert_close(&name, &floats(actual), &expected, tolerance);
            }
        }
    }
}

pub fn write_rows_leaves_shared_buffers_alone<B: FusionBackend>(device: &B::Device) {
    let buffers = [(); 2].map(|()| random::<B, 3>([7, 3, 4], DType::F32, device));
    let before = buffers.clone().map(floats);
    let values = [(); 2].map(|()| random::<B, 3>([2, 3, 4], DType::F32, device));
    let rows = Tensor::from_data(TensorData::new(vec![1, 5], [2]), (device, DType::I32));
    let written = write_rows(buffers.clone(), rows, values, &rotation(2, 4, device));
    for ((buffer, before), written) in buffers.into_iter().zip(before).zip(written) {
        assert_close("the shared buffer", &floats(buffer), &before, 0.0);
        assert_ne!(floats(written), before);
    }
}

/// As a layer does it: the second product follows the first in one allocation.
pub fn what_project_pair_gives_is_written_as_it_is<B: FusionBackend>(device: &B::Device) {
    B::seed(device, 17);
    for m in [1, 70] {
        for (dtype, rounding) in dtypes::<B>(device) {
            let x = random::<B, 2>([m, 64], dtype, device).div_scalar(8.0);
            let weights = [(); 2].map(|()| random::<B, 2>([96, 64], dtype, device));
            let heads = |x: Tensor<B, 2>| x.reshape([m, 3, 32]);
            let expected_v = product(&x, &weights[1]);
            let [a, b] = weights.map(weight);
            let values = project_pair(x, [&a, &b]).map(heads);
            let buffers = [(); 2].map(|()| Tensor::<B, 3>::zeros([m, 3, 32], (device, dtype)));
            let rows: Vec<i32> = (0..m as i32).collect();
            let rows = Tensor::from_data(TensorData::new(rows, [m]), (device, DType::I32));
            let [_, v] = write_rows(buffers, rows, values, &rotation(m, 32, device));
            // Sums below 8.
            assert_close(
                &format!("{dtype:?} {m}"),
                &floats(v),
                &expected_v,
                rounding * 8.0,
            );
        }
    }
}

pub fn project_and_embed_read_the_same_matrix<B: FusionBackend>(device: &B::Device) {
    B::seed(device, 13);
    for (m, n, k) in PRODUCTS {
        for (dtype, rounding) in dtypes::<B>(device) {
            let x = random::<B, 2>([m, k], dtype, device);
            let matrix = random::<B, 2>([n, k], dtype, device);
            let (expected, rows) = (product(&x, &matrix), floats(matrix.clone()));
            let weight = weight(matrix);
            // The result, of the size of sqrt(k), is rounded; its sum of k products was in f32, in some order.
            let tolerance = rounding * (k as f32).sqrt() * 2.0 + f32::EPSILON * k as f32 / 2.0;
            let actual = floats(project(x, &weight));
            assert_close(
                &format!("{dtype:?}, {m} {n} {k}"),
                &actual,
                &expected,
                tolerance,
            );
            let ids = [n as u32 - 1, 0];
            let last_and_first = [&rows[(n - 1) * k..], &rows[..k]].concat();
            assert_eq!(floats(embed::<B>(&weight, &ids)), last_and_first);
        }
    }
}

/// `x W^T` on the host.
fn product<B: FusionBackend>(x: &Tensor<B, 2>, matrix: &Tensor<B, 2>) -> Vec<f32> {
    let k = x.dims()[1];
    let (x, matrix) = (floats(x.clone()), floats(matrix.clone()));
    let dot = |a: &[f32], b: &[f32]| {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum::<f64>() as f32
    };
    let rows = x.chunks_exact(k);
    rows.flat_map(|a| matrix.chunks_exact(k).map(move |b| dot(a, b)))
        .collect()
}

/// The dtypes the device computes in, each with the rounding of a result below 1.
fn dtypes<B: FusionBackend>(device: &B::Device) -> Vec<(DType, f32)> {
    let all = [
        (DType::F32, 1e-6), // exp, sqrt and order of operations, not only the last rounding
        (DType::F16, 1.0 / 2048.0),
        (DType::BF16, 1.0 / 256.0),
    ];
    let is_supported = |&(dtype, _): &(DType, f32)| B::supports_dtype(device, dtype);
    all.into_iter().filter(is_supported).collect()
}

/// Uniform in -1..1, rounded to `dtype`.
fn random<B: FusionBackend, const D: usize>(
    shape: [usize; D],
    dtype: DType,
    device: &B::Device,
) -> Tensor<B, D> {
    let uniform = Distribution::Uniform(-1.0, 1.0);
    Tensor::<B, D>::random(shape, uniform, (device, DType::F32)).cast(dtype)
}

/// The same numbers in f32 on the CPU.
fn wide<B: FusionBackend, const D: usize>(x: &Tensor<B, D>) -> Tensor<Flex, D> {
    let data = x.to_data().convert::<f32>();
    Tensor::from_data(data, (&FlexDevice, DType::F32))
}

/// Tables of positions 3, 4, ..
fn rotation<B: FusionBackend>(m: usize, head_dim: usize, device: &B::Device) -> Rotation<B> {
    let angle = |i: usize| {
        let frequency = 100.0_f32.powf(-((i % (head_dim / 2)) as f32) / head_dim as f32);
        (3 + i / head_dim) as f32 * frequency
    };
    let table = |of: fn(f32) -> f32| {
        let values: Vec<f32> = (0..m * head_dim).map(|i| of(angle(i))).collect();
        let data = TensorData::new(values, [m, 1, head_dim]);
        Tensor::<B, 3>::from_data(data, (device, DType::F32))
    };
    Rotation::new(&table(f32::cos), &table(f32::sin))
}

/// The dtypes KV may be stored in for the device: those it computes in, and 8 bits.
fn stored_dtypes<B: FusionBackend>(device: &B::Device) -> Vec<KvDtype> {
    let of = |(dtype, _): &(DType, f32)| match dtype {
        DType::F16 => KvDtype::F16,
        DType::BF16 => KvDtype::Bf16,
        _ => KvDtype::F32,
    };
    let computed = dtypes::<B>(device);
    computed.iter().map(of).chain([KvDtype::Int8]).collect()
}

/// A K and a V block as they are read.
fn one_buffer(k: &[u8], v: &[u8]) -> bytes::Bytes {
    let mut buffer = HostBuffer::new(BlockSpan::new(k.len(), v.len()));
    let (to_k, to_v) = buffer.blocks_mut();
    to_k.copy_from_slice(k);
    to_v.copy_from_slice(v);
    buffer.bytes_mut().to_vec().into()
}

/// Values in -1..1 as they are stored, others for K than for V.
fn stored_bytes(shape: [usize; 3], dtype: KvDtype, side: KvSide) -> Vec<u8> {
    let [rows, heads, head_dim] = shape;
    let n = rows * heads * head_dim;
    let step = match side {
        KvSide::K => 37,
        KvSide::V => 41,
    };
    let value = |i: usize| ((i + 1) * step % 101) as f32 / 50.5 - 1.0;
    let values: Vec<f32> = (0..n).map(value).collect();
    fn bytes<E: Pod>(values: &[E]) -> Vec<u8> {
        bytemuck::cast_slice(values).to_vec()
    }
    match dtype {
        KvDtype::F32 => bytes(&values),
        KvDtype::F16 => bytes(&Vec::<f16>::from_f32_slice(&values)),
        KvDtype::Bf16 => bytes(&Vec::<bf16>::from_f32_slice(&values)),
        KvDtype::Int8 => {
            let n_scales = match side {
                KvSide::K => heads * head_dim,
                KvSide::V => rows * heads,
            };
            let scale = |i| 1.0 / (127.0 + (i % 5) as f32);
            let scales: Vec<f32> = (0..n_scales).map(scale).collect();
            let whole: Vec<i8> = values.iter().map(|x| (x * 127.0) as i8).collect();
            [bytes(&scales), bytes(&whole)].concat()
        }
    }
}

/// A random buffer, distinct rows in no order, and random values.
fn inputs<B: FusionBackend>(
    [n, heads, head_dim]: Shape,
    n_written: usize,
    dtype: DType,
    device: &B::Device,
) -> (Tensor<B, 3>, Tensor<B, 1, Int>, Tensor<B, 3>) {
    let random = |rows| random::<B, 3>([rows, heads, head_dim], dtype, device);
    // 5 and n are coprime for every n above, so the rows are distinct.
    let rows: Vec<i32> = (0..n_written).map(|i| ((i * 5 + 2) % n) as i32).collect();
    let rows = Tensor::from_data(TensorData::new(rows, [n_written]), (device, DType::I32));
    (random(n), rows, random(n_written))
}

fn floats<B: FusionBackend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
