//! From the vectors of a text's tokens to one vector, as sentence-transformers' `Pooling` does it.
//! Texts are never padded here, so no mask is needed.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use super::files::JsonFile;
use crate::embed::open_error::OpenEmbedderError;

/// A way of pooling; the names are those of sentence-transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PoolingMode {
    Cls,
    Max,
    Mean,
    MeanSqrtLen,
    WeightedMean,
    LastToken,
}

/// Name in `pooling_mode`, key of earlier versions, mode; in the order in which vectors are joined.
const MODES: [(&str, &str, PoolingMode); 6] = [
    ("cls", "pooling_mode_cls_token", PoolingMode::Cls),
    ("max", "pooling_mode_max_tokens", PoolingMode::Max),
    ("mean", "pooling_mode_mean_tokens", PoolingMode::Mean),
    (
        "mean_sqrt_len_tokens",
        "pooling_mode_mean_sqrt_len_tokens",
        PoolingMode::MeanSqrtLen,
    ),
    (
        "weightedmean",
        "pooling_mode_weightedmean_tokens",
        PoolingMode::WeightedMean,
    ),
    (
        "lasttoken",
        "pooling_mode_lasttoken",
        PoolingMode::LastToken,
    ),
];

impl PoolingMode {
    /// The modes that `1_Pooling/config.json` asks for.
    pub(super) fn read(
        file: &JsonFile,
        hidden_size: usize,
        has_prompt: bool,
    ) -> Result<Vec<Self>, OpenEmbedderError> {
        let width = match file.count("embedding_dimension")? {
            Some(width) => Some(width),
            None => file.count("word_embedding_dimension")?,
        };
        if let Some(width) = width.filter(|width| *width != hidden_size) {
            return Err(file.refuse(format!(
                "pools vectors of {width} numbers, and the encoder makes vectors of {hidden_size}"
            )));
        }
        if has_prompt && file.flag("include_prompt")? == Some(false) {
            return Err(file.unsupported(
                "include_prompt is false: prompts that are left out of the pooling are not supported",
            ));
        }
        match file.get("pooling_mode") {
            Some(_) => Self::named(file),
            None => Self::flagged(file),
        }
    }

    /// One name or a list of names.
    fn named(file: &JsonFile) -> Result<Vec<Self>, OpenEmbedderError> {
        let value = file.get("pooling_mode");
        let list = value.and_then(|value| value.as_array());
        let names: Vec<_> = match list {
            Some(list) => list.iter().map(|name| name.as_str()).collect(),
            None => vec![file.text("pooling_mode")?],
        };
        let mode = |name: Option<&str>| {
            let found = MODES.iter().find(|mode| Some(mode.0) == name);
            let unknown = || unknown(file, name.unwrap_or("that is not text"));
            found.map(|mode| mode.2).ok_or_else(unknown)
        };
        let modes = names.into_iter().map(mode).collect::<Result<Vec<_>, _>>()?;
        match modes.is_empty() || modes.len() > MODES.len() {
            true => Err(file.refuse("pooling_mode must list between 1 and 6 modes")),
            false => Ok(modes),
        }
    }

    /// One flag per mode, as versions before 6 wrote it.
    fn flagged(file: &JsonFile) -> Result<Vec<Self>, OpenEmbedderError> {
        let mut modes = Vec::new();
        for (_, key, mode) in MODES {
            if file.flag(key)? == Some(true) {
                modes.push(mode);
            }
        }
        if modes.is_empty() {
            modes.push(Self::Mean);
        }
        Ok(modes)
    }

    /// # Shapes
    /// `tokens`: `[n_texts, n_tokens, hidden]`, all texts of one length; result: `[n_texts, hidden]`.
    pub(super) fn pool<B: Backend>(self, tokens: Tensor<B, 3>) -> Tensor<B, 2> {
        let [n_texts, n_tokens, hidden] = tokens.dims();
        let pooled = match self {
            Self::Cls => tokens.narrow(1, 0, 1),
            Self::LastToken => tokens.narrow(1, n_tokens - 1, 1),
            Self::Max => tokens.max_dim(1),
            Self::Mean => tokens.mean_dim(1),
            Self::MeanSqrtLen => tokens.sum_dim(1).div_scalar((n_tokens as f32).sqrt()),
            Self::WeightedMean => {
                let total = (n_tokens * (n_tokens + 1)) as f32 / 2.0;
                let weights: Vec<f32> = (1..=n_tokens).map(|at| at as f32 / total).collect();
                let weights = TensorData::new(weights, [1, n_tokens, 1]);
                let weights = Tensor::from_data(weights, &tokens.device());
                (tokens * weights).sum_dim(1)
            }
        };
        pooled.reshape([n_texts, hidden]) // from [n_texts, 1, hidden]
    }
}

fn unknown(file: &JsonFile, name: &str) -> OpenEmbedderError {
    let known: Vec<_> = MODES.iter().map(|mode| mode.0).collect();
    let known = known.join(", ");
    file.unsupported(format!(
        "the pooling mode {name} is not known; known are {known}"
    ))
}
