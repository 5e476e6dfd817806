//! A model as files: its config, tokenizer, chat template, generation defaults and weights.
//!
//! Today there is one source, a Hugging Face directory (`directory`). A second one, such as a GGUF
//! file, belongs beside it, and [`ModelFiles`] becomes an enum of both.

pub(crate) mod directory;
pub(crate) mod read;

use std::path::{Path, PathBuf};

use self::directory::ModelDirectory;
use crate::config::ModelConfig;
use crate::error::EngineError;
use crate::generation_config::GenerationDefaults;
use crate::text::{ChatTemplate, TextCodec};
use crate::weights::WeightFiles;

/// The files of one model. Each is read on demand, and errors name it.
#[derive(Debug, Clone)]
pub(crate) struct ModelFiles {
    source: ModelDirectory,
}

impl ModelFiles {
    /// The files of the model directory at `dir`.
    pub(crate) fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            source: ModelDirectory::new(dir),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.source.path()
    }

    /// The model's name: that of its directory.
    pub(crate) fn name(&self) -> String {
        self.source.name()
    }

    pub(crate) fn config(&self) -> Result<ModelConfig, EngineError> {
        ModelConfig::from_files(&self.source)
    }

    /// The tokenizer, if there is one: random weights need none. It is checked not to produce any
    /// id that the model has no row for.
    pub(crate) fn tokenizer(&self, config: &ModelConfig) -> Result<Option<TextCodec>, EngineError> {
        if !self.source.has_tokenizer() {
            return Ok(None);
        }
        let codec = TextCodec::from_files(&self.source)?;
        codec.check_rows(config.vocab_size, &self.source.config_path())?;
        Ok(Some(codec))
    }

    /// The chat template, if there is one.
    pub(crate) fn template(&self, codec: &TextCodec) -> Result<Option<ChatTemplate>, EngineError> {
        ChatTemplate::from_files(&self.source, codec)
    }

    pub(crate) fn generation_defaults(
        &self,
        config: &ModelConfig,
        tokenizer: Option<&TextCodec>,
    ) -> Result<GenerationDefaults, EngineError> {
        GenerationDefaults::from_files(&self.source, config, tokenizer)
    }

    /// The weight files, opened and checked: tensors, hash and stamp.
    pub(crate) fn weights(&self) -> Result<WeightFiles, EngineError> {
        WeightFiles::open(&self.source)
    }
}
