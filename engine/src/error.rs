//! The engine's one error type. Each variant is named after what a caller can do about it, and each
//! message is a lowercase sentence that names the file or field at fault.

use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

/// Why the engine could not load a model or answer a request.
///
/// It is `Clone` because one failure of the engine thread may have to be reported to several callers.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum EngineError {
    /// The prompt and the tokens to generate do not fit: shorten the prompt or raise the limit.
    #[error(
        "prompt of {tokens} tokens is longer than the limit of {limit} tokens; \
         use fewer chunks or a shorter question"
    )]
    PromptTooLong { tokens: usize, limit: usize },

    /// A field of the request is out of range or inconsistent.
    #[error("invalid request: {field} {message}")]
    InvalidRequest {
        field: &'static str,
        message: String,
    },

    /// A sampling parameter is out of range.
    #[error("invalid sampling parameter: {field} {message}")]
    InvalidSampling {
        field: &'static str,
        message: String,
    },

    /// The bounded queue is full: retry later.
    #[error("the engine queue is full ({limit} requests waiting); retry later")]
    QueueFull { limit: usize },

    /// The engine thread is gone or is reloading its model: retry later.
    #[error("the engine is unavailable: {message}")]
    Unavailable { message: String },

    /// The request's deadline passed before its result was ready.
    #[error("the deadline passed after {waited:?} in the engine; allow more time")]
    DeadlineExceeded { waited: Duration },

    /// The caller dropped the request.
    #[error("the request was cancelled by its caller")]
    Cancelled,

    /// The model is readable but not one this engine can run.
    #[error("unsupported model: {field} in {} {message}", path.display())]
    UnsupportedModel {
        path: PathBuf,
        field: String,
        message: String,
    },

    /// A file of the model directory is missing, truncated or malformed.
    #[error("bad model file {}: {message}", path.display())]
    ModelFile { path: PathBuf, message: String },

    /// Text could not be turned into token ids or back.
    #[error("tokenizer {}: {message}", path.display())]
    Tokenizer { path: PathBuf, message: String },

    /// The chat template could not be compiled or rendered.
    #[error("chat template {}: {message}", path.display())]
    Template { path: PathBuf, message: String },

    /// The model produced logits that cannot be sampled.
    #[error("the model produced {what} logits; the compute type may overflow, try another --dtype")]
    BadLogits { what: &'static str },

    /// The device has too little memory for this request: make it smaller. The engine continues to serve.
    #[error(
        "out of device memory; use fewer or shorter chunks or a smaller max_tokens, or give the model less: a smaller \
         --dtype, a smaller limits.max_prefill_tokens"
    )]
    DeviceMemory,

    /// The device failed or refused an operation.
    #[error("device: {message}")]
    Device { message: String },
}

impl EngineError {
    /// A [`EngineError::ModelFile`] at `path`.
    pub(crate) fn model_file(path: &Path, message: impl Into<String>) -> Self {
        Self::ModelFile {
            path: path.to_owned(),
            message: message.into(),
        }
    }

    /// A [`EngineError::UnsupportedModel`] for `field` of the file at `path`.
    pub(crate) fn unsupported(
        path: &Path,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::UnsupportedModel {
            path: path.to_owned(),
            field: field.into(),
            message: message.into(),
        }
    }

    /// A [`EngineError::Tokenizer`] at `path`.
    pub(crate) fn tokenizer(path: &Path, message: impl Into<String>) -> Self {
        Self::Tokenizer {
            path: path.to_owned(),
            message: message.into(),
        }
    }

    /// A [`EngineError::Template`] at `path`.
    pub(crate) fn template(path: &Path, message: impl Into<String>) -> Self {
        Self::Template {
            path: path.to_owned(),
            message: message.into(),
        }
    }
}
