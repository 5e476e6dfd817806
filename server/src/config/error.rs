//! Configuration errors. Every message names the key and where its value came from.

use std::io;
use std::path::PathBuf;

/// A configuration that cannot be used; the command exits with 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read configuration {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{origin} is not valid TOML: {message}")]
    Syntax { origin: String, message: String },
    #[error("unknown key {key} in {origin}{}", did_you_mean(suggestion))]
    UnknownKey {
        key: String,
        origin: String,
        suggestion: Option<String>,
    },
    #[error("{key} in {origin} is no longer a setting; {instead}")]
    Removed {
        key: String,
        origin: String,
        instead: &'static str,
    },
    #[error("{key} in {origin}: {message}")]
    Value {
        key: String,
        origin: String,
        message: String,
    },
    /// `found` is escaped.
    #[error("{key} in {origin} is not UTF-8: {found}; rename it, or give another path to it")]
    NotUtf8 {
        key: String,
        origin: String,
        found: String,
    },
    #[error("{} may set only system, [prompt] and [fusion], not {key}", path.display())]
    NotForModels { key: String, path: PathBuf },
    #[error(
        "{} may set only [fusion], and hold [evidence], not {key}; remove the key, or let `ragweave-eval tune` \
         write the file again",
        path.display()
    )]
    NotForTuning { key: String, path: PathBuf },
    #[error(
        "no {key} given: pass --{key} DIR, set {variable}, or write {key} = \"DIR\" in a configuration file"
    )]
    Missing {
        key: &'static str,
        variable: &'static str,
    },
    #[error("model {} does not exist; name a Hugging Face directory or a GGUF file", path.display())]
    NoModel { path: PathBuf },
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion
        .as_ref()
        .map(|s| format!("; did you mean {s}?"))
        .unwrap_or_default()
}
