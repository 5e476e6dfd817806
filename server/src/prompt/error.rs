//! Why a prompt cannot be made, and what to change.

use std::path::PathBuf;

use ragweave_engine::EngineError;

/// Why a prompt cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The request or the configuration gives a system text to a format that has no place for one.
    #[error(
        "this model's prompt format has no place for a system text; leave it out, or write {{system}} into \
         prompt.prefix"
    )]
    NoSystemPlace,
    /// The template drops, repeats or reorders what it is given, so that it cannot be cut.
    #[error(
        "the chat template of {model} cannot be cut at chunk borders: {problem}; write the three strings of [prompt] \
         into {model}/ragweave.toml"
    )]
    Uncuttable { model: String, problem: String },
    /// A prompt with a token that the model has no embedding for would fail at every request.
    #[error(
        "the {part} of the prompt holds token {token:?} (id {id}), but vocab_size in {} is {vocab_size}: chat template (or \
         [prompt]), tokenizer and weights do not belong together",
        dir.join("config.json").display()
    )]
    NoRow {
        part: &'static str,
        token: String,
        id: u32,
        vocab_size: usize,
        dir: PathBuf,
    },
    #[error("model {} has no tokenizer, so it cannot read text", dir.display())]
    NoTokenizer { dir: PathBuf },
}
