//! Computed KV as the bytes of a stored block.

use burn::tensor::Tensor;

use super::dtype::KvDtype;
use super::int8;
use super::side::KvSide;
use crate::kernel::FusionBackend;

/// The block of `[n_tokens, kv_heads, head_dim]` in the stored dtype.
pub(crate) fn tensor_to_block<B: FusionBackend>(
    tensor: Tensor<B, 3>,
    dtype: KvDtype,
    side: KvSide,
) -> Vec<u8> {
    let shape = tensor.dims();
    let data = tensor.cast(dtype.dtype()).into_data();
    match dtype {
        KvDtype::F32 | KvDtype::F16 | KvDtype::Bf16 => data.as_bytes().to_vec(),
        KvDtype::Int8 => int8::encode(&data.iter::<f32>().collect::<Vec<_>>(), side, shape),
    }
}

#[cfg(target_endian = "big")]
compile_error!("stored KV is little-endian and is copied to the device as it is");
