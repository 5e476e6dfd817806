//! Each custom operation equals its plain-tensor reference.

use burn::tensor::{DType, Distribution, Int, Tensor, TensorData};
use ragweave_engine::{
    FusionBackend, masked_softmax, masked_softmax_reference, overwrite_rows,
    overwrite_rows_reference,
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
        let (buffer, rows, values) = inputs::<B>(shape, n_written, device);
        let expected = overwrite_rows_reference(buffer.clone(), rows.clone(), values.clone());
        let actual = overwrite_rows(buffer, rows, values);
        assert_close(
            &format!("{shape:?}"),
            &floats(actual),
            &floats(expected),
            0.0,
        );
    }
}

pub fn overwrite_rows_leaves_a_shared_buffer_alone<B: FusionBackend>(device: &B::Device) {
    let (buffer, rows, values) = inputs::<B>([7, 3, 4], 3, device);
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
        let uniform = Distribution::Uniform(-30.0, 30.0);
        let scores = Tensor::<B, 3>::random(shape, uniform, (device, DType::F32));
        let expected = masked_softmax_reference(scores.clone(), &visible);
        let actual = masked_softmax(scores, &visible);
        assert_close(
            &format!("{shape:?}"),
            &floats(actual),
            &floats(expected),
            1e-6,
        );
    }
}

/// A random buffer, distinct rows in no order, and random values.
fn inputs<B: FusionBackend>(
    [n, heads, head_dim]: Shape,
    n_written: usize,
    device: &B::Device,
) -> (Tensor<B, 3>, Tensor<B, 1, Int>, Tensor<B, 3>) {
    let uniform = Distribution::Uniform(-1.0, 1.0);
    let random = |rows| Tensor::random([rows, heads, head_dim], uniform, (device, DType::F32));
    // 5 and n are coprime for every n above, so the rows are distinct.
    let rows: Vec<i32> = (0..n_written).map(|i| ((i * 5 + 2) % n) as i32).collect();
    let rows = Tensor::from_data(TensorData::new(rows, [n_written]), (device, DType::I32));
    (random(n), rows, random(n_written))
}

fn floats<B: FusionBackend>(tensor: Tensor<B, 3>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
