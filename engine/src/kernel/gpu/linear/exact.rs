//! Products of f32 that stay f32. Burn's own products use tensor cores if there are any, and those round
//! f32 to 10 bits of mantissa (TF32) first.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems, MatmulSetupError};
use cubek::matmul::launch::{Strategy, launch_ref};
use cubek::std::InputBinding;

use crate::kernel::gpu::launch::empty;

/// Whether the device would round f32 before it multiplies.
pub(in crate::kernel::gpu) fn is_needed<R: CubeRuntime>(x: &CubeTensor<R>) -> bool {
    let tf32 = tf32::cube_type();
    let matmul = &x.client.properties().features.matmul;
    let mut products = matmul.mma.iter().chain(&matmul.cmma);
    x.dtype == DType::F32 && products.any(|product| product.a_type == tf32)
}

/// `[m, k]` times the transpose of `[n, k]`, without tensor cores.
///
/// # Errors
/// If the kernel does not fit the device.
pub(in crate::kernel::gpu) fn project<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
) -> Result<CubeTensor<R>, MatmulSetupError> {
    let client = x.client.clone();
    let out = empty(&x, [x.meta.shape()[0], weight.meta.shape()[0]], DType::F32);
    let f32: StorageType = DType::F32.into();
    let x = InputBinding::new(x.binding(), f32);
    let mut weight = InputBinding::new(weight.binding(), f32);
    weight.swap_dims(0, 1);
    let globals = MatmulGlobalElems {
        lhs: f32,
        rhs: f32,
        out: f32,
    };
    let mut dtypes = MatmulElems::from_globals(&globals);
    launch_ref(
        &Strategy::Naive,
        &client,
        x,
        weight,
        out.clone().binding(),
        &mut dtypes,
    )?;
    Ok(out)
}
