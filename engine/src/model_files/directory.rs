//! A Hugging Face model directory: the files it may have, by role.

use std::path::{Component, Path, PathBuf};

use super::read::{JsonFile, read};
use crate::error::EngineError;

/// The largest `tokenizer.json` that is read, bytes. Vocabularies of 256k entries take 35 MB.
const MAX_TOKENIZER_BYTES: u64 = 128 << 20;
/// The largest `chat_template.jinja` that is read, bytes.
const MAX_TEMPLATE_BYTES: u64 = 16 << 20;

const CONFIG_FILE: &str = "config.json";
const GENERATION_FILE: &str = "generation_config.json";
pub(crate) const TOKENIZER_FILE: &str = "tokenizer.json";
pub(crate) const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";
pub(crate) const SPECIAL_TOKENS_FILE: &str = "special_tokens_map.json";
pub(crate) const TEMPLATE_FILE: &str = "chat_template.jinja";
pub(crate) const WEIGHTS_FILE: &str = "model.safetensors";
pub(crate) const WEIGHTS_INDEX_FILE: &str = "model.safetensors.index.json";

/// A model directory. Files are read on demand.
#[derive(Debug, Clone)]
pub(crate) struct ModelDirectory {
    dir: PathBuf,
}

/// How a directory stores its weights.
pub(crate) enum WeightLayout {
    /// One safetensors file.
    Single(PathBuf),
    /// An index that names a shard for each tensor.
    Sharded(JsonFile),
}

impl ModelDirectory {
    pub(crate) fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// The last part of the directory's path, with links followed.
    pub(crate) fn name(&self) -> String {
        let resolved = self.dir.canonicalize();
        let resolved = resolved.as_deref().unwrap_or(&self.dir);
        resolved
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.dir.join(CONFIG_FILE)
    }

    pub(crate) fn config(&self) -> Result<JsonFile, EngineError> {
        JsonFile::read(self.config_path())
    }

    pub(crate) fn generation_config(&self) -> Result<Option<JsonFile>, EngineError> {
        JsonFile::read_if_present(self.dir.join(GENERATION_FILE))
    }

    pub(crate) fn has_tokenizer(&self) -> bool {
        self.dir.join(TOKENIZER_FILE).exists()
    }

    /// The path and the contents of `tokenizer.json`.
    pub(crate) fn tokenizer(&self) -> Result<(PathBuf, Vec<u8>), EngineError> {
        let path = self.dir.join(TOKENIZER_FILE);
        let bytes = read(&path, MAX_TOKENIZER_BYTES)?;
        Ok((path, bytes))
    }

    pub(crate) fn tokenizer_config(&self) -> Result<Option<JsonFile>, EngineError> {
        JsonFile::read_if_present(self.dir.join(TOKENIZER_CONFIG_FILE))
    }

    pub(crate) fn special_tokens(&self) -> Result<Option<JsonFile>, EngineError> {
        JsonFile::read_if_present(self.dir.join(SPECIAL_TOKENS_FILE))
    }

    /// The contents of the map of special tokens, to be hashed; empty if there is none.
    pub(crate) fn special_tokens_bytes(&self) -> Result<Vec<u8>, EngineError> {
        let path = self.dir.join(SPECIAL_TOKENS_FILE);
        if !path.exists() {
            return Ok(Vec::new());
        }
        fs_err::read(&path).map_err(|error| EngineError::model_file(&path, error.to_string()))
    }

    /// The path and the text of `chat_template.jinja`, if there is one.
    pub(crate) fn chat_template(&self) -> Result<Option<(PathBuf, String)>, EngineError> {
        let path = self.dir.join(TEMPLATE_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let source = String::from_utf8(read(&path, MAX_TEMPLATE_BYTES)?)
            .map_err(|error| EngineError::model_file(&path, error.to_string()))?;
        Ok(Some((path, source)))
    }

    /// Whether the directory has weights.
    pub(crate) fn has_weights(&self) -> bool {
        let has = |name| self.dir.join(name).exists();
        has(WEIGHTS_FILE) || has(WEIGHTS_INDEX_FILE)
    }

    /// Where the weights are.
    ///
    /// # Errors
    /// [`EngineError::ModelFile`] when there are none, or their index cannot be read.
    pub(crate) fn weight_layout(&self) -> Result<WeightLayout, EngineError> {
        let single = self.dir.join(WEIGHTS_FILE);
        let index = self.dir.join(WEIGHTS_INDEX_FILE);
        if single.exists() {
            Ok(WeightLayout::Single(single))
        } else if index.exists() {
            JsonFile::read(index).map(WeightLayout::Sharded)
        } else {
            Err(EngineError::model_file(
                &self.dir,
                format!(
                    "has neither {WEIGHTS_FILE} nor {WEIGHTS_INDEX_FILE} nor a .gguf file; weights in \
                     another format must be converted first"
                ),
            ))
        }
    }

    /// `name` in the directory, or `None` if it is absolute or climbs out. Links are followed:
    /// download caches lay out model directories as links to blobs stored elsewhere.
    pub(crate) fn inside(&self, name: &str) -> Option<PathBuf> {
        let path = Path::new(name);
        let only_names = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        (only_names && path.components().next().is_some()).then(|| self.dir.join(path))
    }
}
