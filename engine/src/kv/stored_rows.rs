//! A stored block, and the rows of each of its sides, as the kernels read them.

use burn::tensor::backend::Backend;
use burn::tensor::{AllocationProperty, Bytes, Tensor, TensorData};
use bytemuck::Pod;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::dtype::KvDtype;
use super::int8;
use super::side::KvSide;
use super::span::BlockSpan;

/// K, before RoPE, and V of one layer of one chunk.
#[derive(Debug, Clone)]
pub struct StoredBlock<'a> {
    k: StoredRows<'a>,
    v: StoredRows<'a>,
    /// The buffer that holds both, for a device that copies them later.
    buffer: Option<bytes::Bytes>,
}

impl<'a> StoredBlock<'a> {
    /// A block made of these K and V bytes.
    ///
    /// # Panics
    /// As [`StoredRows::new`].
    pub fn new(k: &'a [u8], v: &'a [u8], dtype: KvDtype, shape: [usize; 3]) -> Self {
        Self {
            k: StoredRows::new(k, dtype, KvSide::K, shape),
            v: StoredRows::new(v, dtype, KvSide::V, shape),
            buffer: None,
        }
    }

    /// A block in one buffer, laid out as [`BlockSpan`] describes.
    ///
    /// # Panics
    /// If the length of the buffer does not fit the shape. Blocks are checked when they are read.
    pub fn in_buffer(buffer: &'a bytes::Bytes, dtype: KvDtype, shape: [usize; 3]) -> Self {
        let span = span(dtype, shape);
        assert_eq!(buffer.len(), span.bytes(), "bytes of a block {shape:?}");
        Self {
            buffer: Some(buffer.clone()),
            ..Self::new(&buffer[span.k()], &buffer[span.v()], dtype, shape)
        }
    }

    pub fn k(&self) -> &StoredRows<'a> {
        &self.k
    }

    pub fn v(&self) -> &StoredRows<'a> {
        &self.v
    }

    /// `[n, kv_heads, head_dim]` of each side.
    pub fn shape(&self) -> [usize; 3] {
        self.k.shape
    }

    pub fn dtype(&self) -> KvDtype {
        self.k.dtype
    }

    /// The buffer that holds both sides, without a copy, and where they are in it.
    pub fn buffer(&self) -> Option<(Bytes, BlockSpan)> {
        let bytes = self.buffer.clone()?;
        let bytes = Bytes::from_shared(bytes, AllocationProperty::Other);
        Some((bytes, span(self.dtype(), self.shape())))
    }
}

fn span(dtype: KvDtype, shape: [usize; 3]) -> BlockSpan {
    let [k, v] = [KvSide::K, KvSide::V].map(|side| dtype.block_bytes(side, shape));
    BlockSpan::new(k, v)
}

/// `[n, kv_heads, head_dim]` in the stored dtype, little-endian.
#[derive(Debug, Clone)]
pub struct StoredRows<'a> {
    bytes: &'a [u8],
    dtype: KvDtype,
    side: KvSide,
    shape: [usize; 3],
}

impl<'a> StoredRows<'a> {
    /// # Panics
    /// If the number of bytes does not fit the shape. Blocks are checked when they are read.
    pub fn new(bytes: &'a [u8], dtype: KvDtype, side: KvSide, shape: [usize; 3]) -> Self {
        let expected = dtype.block_bytes(side, shape);
        assert_eq!(bytes.len(), expected, "bytes of stored rows {shape:?}");
        Self {
            bytes,
            dtype,
            side,
            shape,
        }
    }

    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    pub fn dtype(&self) -> KvDtype {
        self.dtype
    }

    /// Scales of a block in 8 bits.
    #[cfg(any(feature = "cuda", feature = "vulkan"))]
    pub(crate) fn n_scales(&self) -> usize {
        int8::n_scales(self.side, self.shape)
    }

    /// A copy of the stored bytes, aligned for the floats in them.
    pub(crate) fn to_bytes(&self) -> Bytes {
        Bytes::from_elems::<u32>(bytemuck::pod_collect_to_vec(self.bytes))
    }

    /// All of it on a device, in the tensor dtype of the stored one.
    pub fn to_tensor<B: Backend>(&self, device: &B::Device) -> Tensor<B, 3> {
        let dtype = self.dtype.dtype();
        if self.dtype == KvDtype::Int8 {
            let data = TensorData::new(self.widen(), self.shape);
            return Tensor::from_data(data, (device, dtype));
        }
        let data = TensorData::from_bytes(self.to_bytes(), self.shape, dtype);
        Tensor::from_data(data, (device, dtype))
    }

    /// All rows as f32.
    pub fn widen(&self) -> Vec<f32> {
        let [n, heads, head_dim] = self.shape;
        let mut values = vec![0.0; n * heads * head_dim];
        for (index, row) in values.chunks_exact_mut(heads * head_dim).enumerate() {
            self.widen_row(index, row);
        }
        values
    }

    /// Row `index` as f32.
    pub(crate) fn widen_row(&self, index: usize, out: &mut [f32]) {
        let row = || self.row_bytes(index);
        match self.dtype {
            KvDtype::F32 => with_values(row(), |values: &[f32]| out.copy_from_slice(values)),
            KvDtype::F16 => with_values(row(), |values: &[f16]| values.convert_to_f32_slice(out)),
            KvDtype::Bf16 => with_values(row(), |values: &[bf16]| values.convert_to_f32_slice(out)),
            KvDtype::Int8 => int8::decode_row(self.bytes, self.side, self.shape, index, out),
        }
    }

    fn row_bytes(&self, index: usize) -> &'a [u8] {
        let [_, heads, head_dim] = self.shape;
        let len = heads * head_dim * self.dtype.dtype().size();
        &self.bytes[index * len..(index + 1) * len]
    }
}

/// Passes bytes to `work` as values: in place if they are aligned, as blocks are, otherwise as a copy.
fn with_values<E: Pod>(bytes: &[u8], work: impl FnOnce(&[E])) {
    match bytemuck::try_cast_slice(bytes) {
        Ok(values) => work(values),
        Err(_) => work(&bytemuck::pod_collect_to_vec(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_wherever_their_bytes_lie() {
        let values: Vec<f16> = (0..12).map(|i| f16::from_f32(i as f32)).collect();
        let mut bytes = vec![0];
        bytes.extend_from_slice(bytemuck::cast_slice(&values));
        let rows = StoredRows::new(&bytes[1..], KvDtype::F16, KvSide::K, [3, 2, 2]);
        let mut row = [0.0; 4];
        rows.widen_row(1, &mut row);
        assert_eq!(row, [4.0, 5.0, 6.0, 7.0]);
        let tensor = rows.to_tensor::<burn_flex::Flex>(&burn_flex::FlexDevice);
        let all: Vec<f32> = tensor.into_data().iter::<f32>().collect();
        assert_eq!(all[8..], [8.0, 9.0, 10.0, 11.0]);
    }
}
