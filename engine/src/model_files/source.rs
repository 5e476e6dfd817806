//! Where a model's files come from. Both sources present the same files, by role.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::directory::ModelDirectory;
use super::gguf::GgufModel;
use super::read::{JsonFile, parse};
use crate::error::EngineError;

const GGUF_ENDING: &str = "gguf";
/// How many files an error lists.
const MAX_LISTED: usize = 5;

/// A Hugging Face directory or a GGUF file.
#[derive(Debug, Clone)]
pub(crate) enum ModelSource {
    Directory(ModelDirectory),
    Gguf(GgufModel),
}

/// The definition of a tokenizer.
pub(crate) struct TokenizerFile {
    pub(crate) path: PathBuf,
    /// As in `tokenizer.json`.
    pub(crate) definition: Value,
    /// What decides the ids of a text, to be hashed.
    pub(crate) bytes: Vec<u8>,
}

impl ModelSource {
    /// The source at `path`: a GGUF file, a directory with safetensors, or a directory with one
    /// GGUF file and no safetensors.
    ///
    /// # Errors
    /// As [`GgufModel::open`]; and for a directory with several GGUF files and no safetensors. A
    /// Hugging Face directory is not read yet, so it may be missing.
    pub(crate) fn open(path: &Path) -> Result<Self, EngineError> {
        if path.is_file() {
            return GgufModel::open(path).map(Self::Gguf);
        }
        let directory = ModelDirectory::new(path);
        if directory.has_weights() {
            return Ok(Self::Directory(directory));
        }
        match gguf_files(path).as_slice() {
            [] => Ok(Self::Directory(directory)),
            [file] => GgufModel::open(file).map(Self::Gguf),
            several => Err(EngineError::model_file(path, choose(several))),
        }
    }

    /// The directory, also that of a GGUF file.
    pub(crate) fn directory(&self) -> &Path {
        match self {
            Self::Directory(directory) => directory.path(),
            Self::Gguf(model) => model.directory(),
        }
    }

    /// The name of the directory or file, with links followed.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Directory(directory) => directory.name(),
            Self::Gguf(model) => model.name(),
        }
    }

    /// The path that errors about the config name.
    pub(crate) fn config_path(&self) -> PathBuf {
        match self {
            Self::Directory(directory) => directory.config_path(),
            Self::Gguf(model) => model.path().to_owned(),
        }
    }

    pub(crate) fn config(&self) -> Result<JsonFile, EngineError> {
        match self {
            Self::Directory(directory) => directory.config(),
            Self::Gguf(model) => model.config(),
        }
    }

    /// An error about a field of [`Self::config`], naming what the user finds in the file.
    pub(crate) fn in_its_terms(&self, error: EngineError) -> EngineError {
        match self {
            Self::Directory(_) => error,
            Self::Gguf(model) => model.in_its_terms(error),
        }
    }

    pub(crate) fn generation_config(&self) -> Result<Option<JsonFile>, EngineError> {
        match self.text_directory() {
            Some(directory) => directory.generation_config(),
            None => Ok(None),
        }
    }

    pub(crate) fn has_tokenizer(&self) -> bool {
        match self {
            Self::Directory(directory) => directory.has_tokenizer(),
            Self::Gguf(model) => model.has_tokenizer(),
        }
    }

    pub(crate) fn tokenizer(&self) -> Result<TokenizerFile, EngineError> {
        match (self, self.text_directory()) {
            (Self::Gguf(model), None) => {
                let definition = model.tokenizer()?;
                Ok(TokenizerFile {
                    path: model.path().to_owned(),
                    bytes: definition.to_string().into_bytes(),
                    definition,
                })
            }
            (Self::Directory(directory), _) | (Self::Gguf(_), Some(directory)) => {
                let (path, bytes) = directory.tokenizer()?;
                Ok(TokenizerFile {
                    definition: parse(&bytes, &path)?,
                    path,
                    bytes,
                })
            }
        }
    }

    pub(crate) fn tokenizer_config(&self) -> Result<Option<JsonFile>, EngineError> {
        match self {
            Self::Directory(directory) => directory.tokenizer_config(),
            Self::Gguf(model) => model.tokenizer_config().map(Some),
        }
    }

    pub(crate) fn special_tokens(&self) -> Result<Option<JsonFile>, EngineError> {
        match self.text_directory() {
            Some(directory) => directory.special_tokens(),
            None => Ok(None),
        }
    }

    /// The contents of the map of special tokens, to be hashed; empty if there is none.
    pub(crate) fn special_tokens_bytes(&self) -> Result<Vec<u8>, EngineError> {
        match self.text_directory() {
            Some(directory) => directory.special_tokens_bytes(),
            None => Ok(Vec::new()),
        }
    }

    /// The path and the text of `chat_template.jinja`, if there is one.
    pub(crate) fn chat_template(&self) -> Result<Option<(PathBuf, String)>, EngineError> {
        match self.text_directory() {
            Some(directory) => directory.chat_template(),
            None => Ok(None),
        }
    }

    /// The directory that the tokenizer and what belongs to it are read from, if it is one.
    fn text_directory(&self) -> Option<&ModelDirectory> {
        match self {
            Self::Directory(directory) => Some(directory),
            Self::Gguf(model) => model.beside(),
        }
    }
}

/// The GGUF files in `dir`, of a split model only the first, in the order of their names.
fn gguf_files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs_err::read_dir(dir) else {
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_model = |path: &PathBuf| {
        path.extension().is_some_and(|ending| ending == GGUF_ENDING)
            && !GgufModel::is_later_part(path)
    };
    let mut files: Vec<PathBuf> = paths.filter(is_model).collect();
    files.sort();
    files
}

fn choose(files: &[PathBuf]) -> String {
    let names = files
        .iter()
        .take(MAX_LISTED)
        .filter_map(|file| file.file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
    let more = match files.len() > MAX_LISTED {
        true => ", ...",
        false => "",
    };
    format!(
        "holds {} GGUF files ({}{more}); name one of them",
        files.len(),
        names.join(", ")
    )
}

#[cfg(test)]
mod tests;
