//! A model as files: its config, tokenizer, chat template, generation defaults and weights, from a Hugging
//! Face directory or a GGUF file (`source`).

pub(crate) mod directory;
pub(crate) mod gguf;
pub(crate) mod read;
pub(crate) mod source;

use std::path::Path;

use self::source::ModelSource;
use crate::config::ModelConfig;
use crate::error::EngineError;
use crate::generation_config::GenerationDefaults;
use crate::text::{ChatTemplate, TextCodec};
use crate::weights::WeightFiles;

/// The files of one model. Each is read on demand, and errors name it.
#[derive(Debug, Clone)]
pub(crate) struct ModelFiles {
    source: ModelSource,
}

impl ModelFiles {
    /// The files of the model directory or GGUF file at `path`.
    ///
    /// # Errors
    /// As [`ModelSource::open`].
    pub(crate) fn open(path: &Path) -> Result<Self, EngineError> {
        Ok(Self {
            source: ModelSource::open(path)?,
        })
    }

    /// The model's directory, or the directory that its GGUF file is in.
    pub(crate) fn directory(&self) -> &Path {
        self.source.directory()
    }

    /// The model's name: that of its directory or file.
    pub(crate) fn name(&self) -> String {
        self.source.name()
    }

    pub(crate) fn config(&self) -> Result<ModelConfig, EngineError> {
        ModelConfig::from_source(&self.source)
    }

    /// The tokenizer, if there is one: random weights need none. It is checked not to produce any
    /// id that the model has no row for.
    pub(crate) fn tokenizer(&self, config: &ModelConfig) -> Result<Option<TextCodec>, EngineError> {
        if !self.source.has_tokenizer() {
            return Ok(None);
        }
        let codec = TextCodec::from_source(&self.source)?;
        codec
            .check_rows(config.vocab_size, &self.source.config_path())
            .map_err(|error| self.source.in_its_terms(error))?;
        Ok(Some(codec))
    }

    /// The chat template, if there is one.
    pub(crate) fn template(&self, codec: &TextCodec) -> Result<Option<ChatTemplate>, EngineError> {
        ChatTemplate::from_source(&self.source, codec)
    }

    pub(crate) fn generation_defaults(
        &self,
        config: &ModelConfig,
        tokenizer: Option<&TextCodec>,
    ) -> Result<GenerationDefaults, EngineError> {
        GenerationDefaults::from_source(&self.source, config, tokenizer)
    }

    /// The weight files, opened and checked: tensors, hash and stamp.
    pub(crate) fn weights(&self) -> Result<WeightFiles, EngineError> {
        WeightFiles::open(&self.source)
    }
}
