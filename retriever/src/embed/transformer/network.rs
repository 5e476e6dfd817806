//! The encoder: BERT and its relatives, with layer norm after each part (arXiv 1810.04805).
//!
//! The texts of a batch lie one after the other in one matrix, without padding: linear layers run
//! over all tokens at once, attention over the texts of equal length at once. So a vector does not
//! depend on the other texts of its batch.

use burn::tensor::activation::{gelu, gelu_approximate, relu};
use burn::tensor::backend::Backend;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Int, Tensor, TensorData};

use super::config::{Activation, EncoderConfig};
use super::dense::Dense;
use super::layers::{Linear, Norm};
use super::load::Loader;
use super::names::{EMBEDDINGS_NORM, Names, POSITIONS, TOKEN_TYPES, WORDS};
use super::pooling::PoolingMode;
use super::relative::RelativeBias;
use crate::embed::open_error::OpenEmbedderError;

/// Least length of a vector that is divided by its length, as in `torch.nn.functional.normalize`.
const MIN_NORM: f32 = 1e-12;

/// A loaded encoder.
pub(super) struct Encoder<B: Backend> {
    words: Tensor<B, 2>,     // [vocab_size, hidden]
    positions: Tensor<B, 2>, // [max_tokens, hidden], with token type 0 added
    norm: Norm<B>,
    layers: Vec<Layer<B>>,
    relative: Option<RelativeBias<B>>,
    heads: usize,
    device: B::Device,
}

struct Layer<B: Backend> {
    query_key_value: Linear<B>,
    attention_output: Linear<B>,
    attention_norm: Norm<B>,
    intermediate: Linear<B>,
    activation: Activation,
    output: Linear<B>,
    output_norm: Norm<B>,
}

/// What follows the pooling.
pub(super) enum Head<B: Backend> {
    Normalize,
    Dense(Dense<B>),
}

/// Texts of equal length that follow each other in a batch.
#[derive(Debug, Clone, Copy)]
struct Group {
    first_row: usize,
    n_texts: usize,
    n_tokens: usize,
}

impl<B: Backend> Encoder<B> {
    pub(super) fn load(
        config: &EncoderConfig,
        loader: &Loader<'_, B>,
        device: &B::Device,
    ) -> Result<Self, OpenEmbedderError> {
        let (hidden, rows) = (config.hidden_size, config.max_position_embeddings);
        let positions = loader.table(POSITIONS, rows, hidden)?;
        let mut positions = positions.narrow(0, config.first_position, config.max_tokens());
        if config.type_vocab_size > 0 {
            let types = loader.table(TOKEN_TYPES, config.type_vocab_size, hidden)?;
            positions = positions + types.narrow(0, 0, 1);
        }
        let layers = (0..config.num_hidden_layers).map(|idx| Layer::load(config, idx, loader));
        let has_relative = config.relative_attention_num_buckets > 0;
        let relative = has_relative.then(|| RelativeBias::load(config, loader));
        Ok(Self {
            words: loader.table(WORDS, config.vocab_size, hidden)?,
            positions,
            norm: loader.norm(EMBEDDINGS_NORM, hidden, config.layer_norm_eps)?,
            layers: layers.collect::<Result<_, _>>()?,
            relative: relative.transpose()?,
            heads: config.num_attention_heads,
            device: device.clone(),
        })
    }

    /// One vector for each text: encoder, pooling and head. Texts of equal length should follow each
    /// other.
    ///
    /// # Shapes
    /// `texts`: token ids with the special ones; result: `[n_texts, width]`.
    pub(super) fn vectors(
        &self,
        texts: &[Vec<u32>],
        pooling: &[PoolingMode],
        heads: &[Head<B>],
    ) -> Tensor<B, 2> {
        let groups = groups(texts);
        let tokens = self.forward(texts, &groups); // [n_rows, hidden]
        let pooled = groups.iter().map(|group| {
            let tokens = group.rows(&tokens); // [n_texts, n_tokens, hidden]
            let modes = pooling.iter().map(|mode| mode.pool(tokens.clone()));
            joined(modes.collect(), 1)
        });
        let pooled = joined(pooled.collect(), 0); // [n_texts, hidden x modes]
        heads.iter().fold(pooled, |x, head| head.forward(x))
    }

    fn forward(&self, texts: &[Vec<u32>], groups: &[Group]) -> Tensor<B, 2> {
        // 1. The sum of word, position and token type.
        let mut x = self.norm.forward(self.embed(texts)); // [n_rows, hidden]
        let biases: Vec<_> = groups
            .iter()
            .map(|group| Some(self.relative.as_ref()?.of(group.n_tokens)))
            .collect();
        for layer in &self.layers {
            // 2. Attention within each text.
            let qkv = layer.query_key_value.forward(x.clone()); // [n_rows, 3 x hidden]
            let attended = groups.iter().zip(&biases);
            let attended = attended.map(|(group, bias)| self.attend(&qkv, group, bias.as_ref()));
            let attended = joined(attended.collect(), 0); // [n_rows, hidden]
            let attended = layer.attention_output.forward(attended);
            x = layer.attention_norm.forward(x + attended);
            // 3. Each row on its own.
            let inner = layer.activate(layer.intermediate.forward(x.clone())); // [n_rows, intermediate]
            x = layer.output_norm.forward(x + layer.output.forward(inner));
        }
        x
    }

    fn embed(&self, texts: &[Vec<u32>]) -> Tensor<B, 2> {
        let words = texts.iter().flatten().map(|id| i64::from(*id));
        let positions = texts.iter().flat_map(|ids| 0..ids.len() as i64);
        let (words, positions) = (self.index(words), self.index(positions));
        self.words.clone().select(0, words) + self.positions.clone().select(0, positions)
    }

    fn index(&self, rows: impl Iterator<Item = i64>) -> Tensor<B, 1, Int> {
        let rows: Vec<i64> = rows.collect();
        let n_rows = rows.len();
        Tensor::from_data(TensorData::new(rows, [n_rows]), &self.device)
    }

    /// # Shapes
    /// `qkv`: `[n_rows, 3 x hidden]`; `bias`: `[1, heads, n_tokens, n_tokens]`; result:
    /// `[rows of the group, hidden]`.
    fn attend(
        &self,
        qkv: &Tensor<B, 2>,
        group: &Group,
        bias: Option<&Tensor<B, 4>>,
    ) -> Tensor<B, 2> {
        let (n_texts, n_tokens) = (group.n_texts, group.n_tokens);
        let hidden = qkv.dims()[1] / 3;
        let head = hidden / self.heads;
        let rows = group.rows(qkv); // [n_texts, n_tokens, 3 x hidden]
        let part = |at: usize| {
            let part = rows.clone().narrow(2, at * hidden, hidden);
            let part = part.reshape([n_texts, n_tokens, self.heads, head]);
            part.swap_dims(1, 2) // [n_texts, heads, n_tokens, head]
        };
        let bias = bias.map(|bias| {
            let shape = [n_texts, self.heads, n_tokens, n_tokens];
            bias.clone().expand(shape)
        });
        let options = AttentionModuleOptions::default();
        let attended = attention(part(0), part(1), part(2), None, bias, options);
        let attended = attended.swap_dims(1, 2); // [n_texts, n_tokens, heads, head]
        attended.reshape([n_texts * n_tokens, hidden])
    }
}

impl<B: Backend> Layer<B> {
    fn load(
        config: &EncoderConfig,
        idx: usize,
        loader: &Loader<'_, B>,
    ) -> Result<Self, OpenEmbedderError> {
        let names = Names::of(config.family);
        let name = |part: &str| names.in_layer(idx, part);
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        let epsilon = config.layer_norm_eps;
        let qkv = [names.query, names.key, names.value].map(name);
        Ok(Self {
            query_key_value: loader.linear(&qkv, hidden, hidden)?,
            attention_output: loader.linear(&[name(names.attention_output)], hidden, hidden)?,
            attention_norm: loader.norm(&name(names.attention_norm), hidden, epsilon)?,
            intermediate: loader.linear(&[name(names.intermediate)], intermediate, hidden)?,
            activation: config.hidden_act,
            output: loader.linear(&[name(names.output)], hidden, intermediate)?,
            output_norm: loader.norm(&name(names.output_norm), hidden, epsilon)?,
        })
    }

    fn activate(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self.activation {
            Activation::Gelu => gelu(x),
            Activation::GeluTanh => gelu_approximate(x),
            Activation::Relu => relu(x),
        }
    }
}

impl<B: Backend> Head<B> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self {
            Self::Dense(dense) => dense.forward(x),
            Self::Normalize => {
                let length = (x.clone() * x.clone()).sum_dim(1).sqrt(); // [n_texts, 1]
                x / length.clamp_min(MIN_NORM)
            }
        }
    }
}

impl Group {
    /// The rows of the group, one matrix for each text.
    fn rows<B: Backend>(&self, x: &Tensor<B, 2>) -> Tensor<B, 3> {
        let n_rows = self.n_texts * self.n_tokens;
        let rows = x.clone().narrow(0, self.first_row, n_rows);
        rows.reshape([self.n_texts, self.n_tokens, x.dims()[1]])
    }
}

fn groups(texts: &[Vec<u32>]) -> Vec<Group> {
    let mut first_row = 0;
    let equal = texts.chunk_by(|a, b| a.len() == b.len());
    equal
        .map(|texts| {
            let (n_texts, n_tokens) = (texts.len(), texts[0].len());
            let group = Group {
                first_row,
                n_texts,
                n_tokens,
            };
            first_row += n_texts * n_tokens;
            group
        })
        .collect()
}

/// `Tensor::cat` copies even a single tensor.
fn joined<B: Backend>(mut parts: Vec<Tensor<B, 2>>, dim: usize) -> Tensor<B, 2> {
    match parts.len() {
        1 => parts.remove(0),
        _ => Tensor::cat(parts, dim),
    }
}
