//! A model in a GGUF file. Its metadata and tensors are presented as the files of a Hugging Face directory,
//! so that one set of readers checks both.

pub(crate) mod container;
pub(crate) mod family;
pub(crate) mod rope_freqs;
pub(crate) mod tensor_type;

mod config;
mod cursor;
mod metadata;
mod parts;
mod tokenizer;
#[cfg(test)]
pub(crate) mod writer;

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use self::container::Container;
use self::family::{Family, Heads};
use self::parts::{Parts, place};
use super::directory::ModelDirectory;
use super::read::JsonFile;
use crate::error::EngineError;

/// An open GGUF file, or all parts of a split one. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct GgufModel {
    parts: Arc<Parts>,
    /// The directory that the file is in, if it has a `tokenizer.json`.
    beside: Option<ModelDirectory>,
}

impl GgufModel {
    /// Opens the file at `path` and, if it is the first part of a split model, the other parts.
    ///
    /// # Errors
    /// As [`Parts::open`].
    pub(crate) fn open(path: &Path) -> Result<Self, EngineError> {
        let beside = ModelDirectory::new(directory_of(path));
        Ok(Self {
            parts: Arc::new(Parts::open(path)?),
            beside: Some(beside).filter(ModelDirectory::has_tokenizer),
        })
    }

    /// Whether the file's name is that of a part of a split model after the first.
    pub(crate) fn is_later_part(path: &Path) -> bool {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        place(&name).is_some_and(|place| place.number > 1)
    }

    pub(crate) fn path(&self) -> &Path {
        self.parts.path()
    }

    /// The directory that the file is in.
    pub(crate) fn directory(&self) -> &Path {
        directory_of(self.path())
    }

    /// The file's name without its ending and the number of the part.
    pub(crate) fn name(&self) -> String {
        let resolved = self.path().canonicalize();
        let resolved = resolved.as_deref().unwrap_or(self.path());
        let name = resolved.file_stem().unwrap_or_default().to_string_lossy();
        match place(&name) {
            Some(place) => place.stem.to_owned(),
            None => name.into_owned(),
        }
    }

    /// The parts with their files and tensors.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Container> {
        self.parts.containers()
    }

    pub(crate) fn family(&self) -> Result<Family, EngineError> {
        Family::of(self.parts.metadata())
    }

    pub(crate) fn heads(&self) -> Result<Heads, EngineError> {
        config::heads(self.parts.metadata(), self.family()?)
    }

    /// The model's `config.json`.
    pub(crate) fn config(&self) -> Result<JsonFile, EngineError> {
        Ok(JsonFile {
            path: self.path().to_owned(),
            value: config::config(&self.parts, self.family()?)?,
        })
    }

    /// An error about a field of [`Self::config`] as one about the key that holds it.
    pub(crate) fn in_its_terms(&self, error: EngineError) -> EngineError {
        let EngineError::UnsupportedModel {
            path,
            field,
            message,
        } = error
        else {
            return error;
        };
        let family = self.family().ok().filter(|_| path == self.path());
        let key = family.and_then(|family| config::key_of(family, &field));
        EngineError::UnsupportedModel {
            field: key.unwrap_or(field),
            path,
            message,
        }
    }

    pub(crate) fn has_tokenizer(&self) -> bool {
        self.beside.is_some() || tokenizer::exists(self.parts.metadata())
    }

    /// The directory whose `tokenizer.json` is used instead of the metadata.
    pub(crate) fn beside(&self) -> Option<&ModelDirectory> {
        self.beside.as_ref()
    }

    /// The `tokenizer.json` that the metadata describes.
    ///
    /// # Errors
    /// [`EngineError::UnsupportedModel`] naming the key that is missing, malformed, or names a
    /// tokenizer that is not known.
    pub(crate) fn tokenizer(&self) -> Result<Value, EngineError> {
        tokenizer::definition(self.parts.metadata(), self.family()?)
    }

    /// The `tokenizer_config.json` of the metadata, with the fields of the one beside the file in front.
    pub(crate) fn tokenizer_config(&self) -> Result<JsonFile, EngineError> {
        let mut path = self.path().to_owned();
        let mut value = tokenizer::config(self.parts.metadata())?;
        let beside = self.beside.as_ref();
        if let Some(file) = beside
            .map(ModelDirectory::tokenizer_config)
            .transpose()?
            .flatten()
        {
            path = file.path;
            if let (Value::Object(fields), Value::Object(more)) = (&mut value, file.value) {
                fields.extend(more);
            }
        }
        Ok(JsonFile { path, value })
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests;
