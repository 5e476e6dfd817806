//! The gated linear unit of the MLP (the reference is in `kernel/glu.rs`): one unit per vector of elements, in f32.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, empty, per_element, vector_size};
use crate::config::Activation;
use crate::kernel::glu::{GELU_CUBIC, GELU_LINEAR};

/// An activation of one value.
#[cube]
pub(super) fn activate_one(x: f32, #[comptime] activation: Activation) -> f32 {
    let mut z = x;
    if comptime!(activation == Activation::GeluTanh) {
        z = x * (x * x * f32::new(GELU_CUBIC) + f32::new(GELU_LINEAR));
    }
    x / (1.0 + (-z).exp())
}

/// The same of each element.
#[cube]
fn activate<N: Size>(x: Vector<f32, N>, #[comptime] activation: Activation) -> Vector<f32, N> {
    let one = Vector::<f32, N>::new(1.0);
    let zero = Vector::<f32, N>::new(0.0);
    let mut z = x;
    if comptime!(activation == Activation::GeluTanh) {
        let linear = Vector::<f32, N>::new(f32::new(GELU_LINEAR));
        let cubic = Vector::<f32, N>::new(f32::new(GELU_CUBIC));
        z = x * (x * x * cubic + linear);
    }
    x / (one + (zero - z).exp())
}

#[cube(launch)]
fn glu_kernel<F: Float, N: Size>(
    gate: &Array<Vector<F, N>>,
    up: &Array<Vector<F, N>>,
    out: &mut Array<Vector<F, N>>,
    #[comptime] activation: Activation,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let gate = activate(Vector::<f32, N>::cast_from(gate[ABSOLUTE_POS]), activation);
    out[ABSOLUTE_POS] = Vector::cast_from(gate * Vector::cast_from(up[ABSOLUTE_POS]));
}

pub(super) fn launch<R: CubeRuntime>(
    gate: CubeTensor<R>,
    up: CubeTensor<R>,
    activation: Activation,
) -> CubeTensor<R> {
    let (rows, width, dtype) = (gate.meta.shape()[0], gate.meta.shape()[1], gate.dtype);
    let out = empty(&gate, [rows, width], dtype);
    let client = gate.client.clone();
    let n = vector_size(width, dtype);
    let (cube_count, cube_dim) = per_element(&client, rows * width / n);
    glu_kernel::launch::<R>(
        &client,
        cube_count,
        cube_dim,
        n,
        array(gate),
        array(up),
        array(out.clone()),
        activation,
        dtype.into(),
    );
    out
}
