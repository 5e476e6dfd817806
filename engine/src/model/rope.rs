//! Rotary position embedding: tables in f32, applied to rows at arbitrary positions.
//!
//! K is stored before this rotation and rotated once, at its final position (design invariant 3);
//! YaRN's attention factor scales the tables, so it too is applied at placement.

use burn::tensor::{DType, Tensor, TensorData};

use super::index::row_tensor;
use crate::config::{LayerSpec, ModelConfig, RopeConfig, attention_factor, inv_freq};
use crate::kernel::{FusionBackend, Rotation};

/// Cosines and sines of all positions up to a length that grows on demand, for each RoPE setting of
/// the model.
pub struct RopeTable<B: FusionBackend> {
    settings: Vec<Angles<B>>,
    n_positions: usize,
    device: B::Device,
}

/// The table of one setting.
struct Angles<B: FusionBackend> {
    inv_freq: Vec<f32>, // [head_dim / 2]
    attention_factor: f32,
    cos: Tensor<B, 2>, // [n_positions, head_dim], f32
    sin: Tensor<B, 2>,
}

impl<B: FusionBackend> RopeTable<B> {
    /// An empty table; rows are computed when [`RopeTable::rows`] first needs them.
    pub fn new(config: &ModelConfig, device: &B::Device) -> Self {
        let empty = |rope| Angles::new(rope, config.head_dim, device);
        Self {
            settings: config.ropes.iter().map(empty).collect(),
            n_positions: 0,
            device: device.clone(),
        }
    }

    /// The rotation of the given positions.
    pub fn rows(&mut self, positions: &[usize]) -> RopeRows<B> {
        let needed = positions.iter().max().map_or(0, |&last| last + 1);
        if needed > self.n_positions {
            self.n_positions = needed.next_power_of_two();
            for angles in &mut self.settings {
                angles.grow(self.n_positions, &self.device);
            }
        }
        let rows = row_tensor::<B>(positions, &self.device);
        let of = |table: &Tensor<B, 2>| table.clone().select(0, rows.clone()).unsqueeze_dim(1);
        let tables = self.settings.iter();
        RopeRows {
            settings: tables.map(|x| [of(&x.cos), of(&x.sin)]).collect(),
        }
    }
}

impl<B: FusionBackend> Angles<B> {
    fn new(rope: &RopeConfig, head_dim: usize, device: &B::Device) -> Self {
        let empty = || Tensor::zeros([1, head_dim], (device, DType::F32));
        Self {
            inv_freq: inv_freq(rope, head_dim),
            attention_factor: attention_factor(rope),
            cos: empty(),
            sin: empty(),
        }
    }

    fn grow(&mut self, n_positions: usize, device: &B::Device) {
        self.cos = self.table(n_positions, f32::cos, device);
        self.sin = self.table(n_positions, f32::sin, device);
    }

    fn table(
        &self,
        n_positions: usize,
        f: impl Fn(f32) -> f32,
        device: &B::Device,
    ) -> Tensor<B, 2> {
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
        Tensor::from_data(data, (device, DType::F32))
    }
}

/// The rotation of a fixed list of rows, for each RoPE setting of the model.
pub struct RopeRows<B: FusionBackend> {
    settings: Vec<[Tensor<B, 3>; 2]>, // cos and sin, [m, 1, head_dim] each, f32
}

impl<B: FusionBackend> RopeRows<B> {
    /// The tables of a layer in the form kernels take.
    pub(super) fn rotation(&self, layer: &LayerSpec) -> Rotation<B> {
        let [cos, sin] = &self.settings[layer.rope];
        Rotation::new(cos, sin)
    }

    /// The rotation of a part of the rows, by index into this list.
    pub fn select(&self, indices: &[usize], device: &B::Device) -> Self {
        let indices = row_tensor::<B>(indices, device);
        let part = |table: &Tensor<B, 3>| table.clone().select(0, indices.clone());
        let settings = self.settings.iter();
        Self {
            settings: settings.map(|[cos, sin]| [part(cos), part(sin)]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn_flex::{Flex, FlexDevice};
    use serde_json::json;

    use super::*;
    use crate::config::RopeScaling;
    use crate::kernel::rotate;

    fn config(theta: f64) -> ModelConfig {
        let value = json!({"model_type": "llama", "vocab_size": 9, "hidden_size": 16,
            "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
            "rope_theta": theta});
        ModelConfig::from_json(&value, Path::new("config.json")).unwrap()
    }

    fn turned(config: &ModelConfig, layer_idx: usize) -> Vec<f32> {
        let rows = RopeTable::<Flex>::new(config, &FlexDevice).rows(&[3, 700]);
        let rows = rows.select(&[1], &FlexDevice);
        let x = Tensor::<Flex, 3>::ones([1, 2, 8], &FlexDevice);
        let x = rotate(x, &rows.rotation(&config.layers[layer_idx]));
        x.into_data().iter::<f32>().collect()
    }

    #[test]
    fn each_layer_turns_by_the_setting_it_names() {
        let (near, far) = (config(10_000.0), config(1_000_000.0));
        let mut both = near.clone();
        both.ropes.push(RopeConfig {
            theta: 1_000_000.0,
            scaling: RopeScaling::Default,
        });
        both.layers[1].rope = 1;
        assert_eq!(turned(&both, 0), turned(&near, 0));
        assert_eq!(turned(&both, 1), turned(&far, 1));
        assert_ne!(turned(&both, 0), turned(&both, 1));
    }
}
