//! Rotary position embedding: tables in f32, applied to rows at arbitrary positions.
//!
//! K is stored before this rotation and rotated once, at its final position (design invariant 3);
//! YaRN's attention factor scales the tables, so it too is applied at placement.

use burn::tensor::{DType, Tensor, TensorData};

use super::row_tensor;
use crate::config::{ModelConfig, attention_factor, inv_freq};
use crate::kernel::{FusionBackend, Rotation, rotate};

/// Cosines and sines of all positions up to a length that grows on demand.
pub struct RopeTable<B: FusionBackend> {
    inv_freq: Vec<f32>, // [head_dim / 2]
    attention_factor: f32,
    cos: Tensor<B, 2>, // [n_positions, head_dim], f32
    sin: Tensor<B, 2>,
    n_positions: usize,
    device: B::Device,
}

impl<B: FusionBackend> RopeTable<B> {
    /// An empty table; rows are computed when [`RopeTable::rows`] first needs them.
    pub fn new(config: &ModelConfig, device: &B::Device) -> Self {
        let empty = || Tensor::zeros([1, config.head_dim], (device, DType::F32));
        Self {
            inv_freq: inv_freq(&config.rope, config.head_dim),
            attention_factor: attention_factor(&config.rope),
            cos: empty(),
            sin: empty(),
            n_positions: 0,
            device: device.clone(),
        }
    }

    /// The rotation of the given positions.
    pub fn rows(&mut self, positions: &[usize]) -> RopeRows<B> {
        let needed = positions.iter().max().map_or(0, |&last| last + 1);
        if needed > self.n_positions {
            self.grow(needed.next_power_of_two());
        }
        let rows = row_tensor::<B>(positions, &self.device);
        RopeRows {
            cos: self.cos.clone().select(0, rows.clone()).unsqueeze_dim(1), // [m, 1, head_dim]
            sin: self.sin.clone().select(0, rows).unsqueeze_dim(1),         // [m, 1, head_dim]
        }
    }

    fn grow(&mut self, n_positions: usize) {
        self.cos = self.table(n_positions, f32::cos);
        self.sin = self.table(n_positions, f32::sin);
        self.n_positions = n_positions;
    }

    fn table(&self, n_positions: usize, f: impl Fn(f32) -> f32) -> Tensor<B, 2> {
        let half = self.inv_freq.len();
        let mut values = vec![0.0f32; n_positions * 2 * half];
        for (position, row) in values.chunks_exact_mut(2 * half).enumerate() {
            for (i, freq) in self.inv_freq.iter().enumerate() {
                let value = f(position as f32 * freq) * self.attention_factor;
                row[i] = value;
                row[half + i] = value;
            }
        }
        let data = TensorData::new(values, [n_positions, 2 * half]);
        Tensor::from_data(data, (&self.device, DType::F32))
    }
}

/// The rotation of a fixed list of rows.
pub struct RopeRows<B: FusionBackend> {
    cos: Tensor<B, 3>, // [m, 1, head_dim], f32
    sin: Tensor<B, 3>,
}

impl<B: FusionBackend> RopeRows<B> {
    /// Rotates `x` (rotate-half convention of Hugging Face), computing in f32.
    ///
    /// # Shapes
    /// - x: `[m, heads, head_dim]`, result: the same, in the dtype of `x`
    pub fn rotate(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        rotate(x, &self.rotation())
    }

    /// The tables as kernels take them.
    pub(crate) fn rotation(&self) -> Rotation<B> {
        Rotation::new(&self.cos, &self.sin)
    }

    /// The rotation of a part of the rows, by index into this list.
    pub fn select(&self, indices: &[usize], device: &B::Device) -> Self {
        let indices = row_tensor::<B>(indices, device);
        Self {
            cos: self.cos.clone().select(0, indices.clone()),
            sin: self.sin.clone().select(0, indices),
        }
    }
}
