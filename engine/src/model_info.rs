//! What is known about a model before its weights are loaded.

use std::path::PathBuf;

use crate::config::ModelConfig;
use crate::error::EngineError;
use crate::generation_config::GenerationDefaults;
use crate::kv::KvIdentity;
use crate::model_files::ModelFiles;
use crate::options::EngineOptions;
use crate::text::{ChatTemplate, TextCodec};
use crate::weights::WeightStamp;

/// What is known about a model without loading its weights onto the device.
#[derive(Debug)]
pub struct ModelInfo {
    pub config: ModelConfig,
    pub identity: KvIdentity,
    /// Absent if the model has no tokenizer (random weights, `--tokens`).
    pub tokenizer: Option<TextCodec>,
    /// Absent if the model has none. A template that does not compile is not an error until it is
    /// used: a prompt format made of strings does not need it.
    pub template: Result<Option<ChatTemplate>, EngineError>,
    pub generation: GenerationDefaults,
    /// The name of the model's directory or GGUF file.
    pub name: String,
    /// Limit on prompt plus answer, in tokens.
    pub max_model_len: usize,
    /// The model's directory, or the one that its GGUF file is in.
    pub dir: PathBuf,
    /// The weight files that were hashed; none if weights are random.
    pub(crate) weights: WeightStamp,
}

impl ModelInfo {
    /// Reads everything but the weights' values; the weight files are hashed.
    ///
    /// # Errors
    /// Names the file and field that is missing, malformed or unsupported.
    pub fn read(options: &EngineOptions) -> Result<Self, EngineError> {
        let files = ModelFiles::open(&options.model_dir)?;
        let config = files.config()?;
        let tokenizer = files.tokenizer(&config)?;
        let template = match &tokenizer {
            Some(tokenizer) => files.template(tokenizer),
            None => Ok(None),
        };
        let (weights, weights_hash) = match options.random_weights {
            Some(seed) => {
                let hash = blake3::hash(format!("random weights {seed}").as_bytes());
                (WeightStamp::default(), *hash.as_bytes())
            }
            None => {
                let weights = files.weights()?;
                (weights.stamp()?, weights.hash()?)
            }
        };
        let tokenizer_hash = tokenizer.as_ref().map_or([0; 32], TextCodec::hash);
        let identity = KvIdentity::new(
            &config,
            weights_hash,
            tokenizer_hash,
            options.dtype,
            options.kv_dtype,
        );
        let limit = options.max_model_len.unwrap_or(usize::MAX);
        Ok(Self {
            max_model_len: limit.min(config.max_position_embeddings),
            generation: files.generation_defaults(&config, tokenizer.as_ref())?,
            name: files.name(),
            dir: files.directory().to_owned(),
            weights,
            config,
            identity,
            tokenizer,
            template,
        })
    }
}
