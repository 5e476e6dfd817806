//! The configuration: layered settings, merged once, validated once, then immutable.
//!
//! Order, strongest first: command line; environment; configuration file; the data directory's `tuned.toml` (only
//! `[fusion]`: settings measured on that corpus); the model directory's `ragweave.toml` (only `system`, `[prompt]` and
//! `[fusion]`: settings for that model); and the compiled-in `default.toml`, which documents every key.

use std::net::SocketAddr;
use std::path::PathBuf;

use figment::Figment;
use figment::providers::Serialized;
use ragweave_engine::{ComputeDtype, Isa, KvDtype};
use serde::Deserialize;

mod args;
mod embedder;
mod error;
mod fusion;
mod keys;
mod kv_dtype;
mod layers;
mod limits;
mod merge;
mod origins;
mod parse;
mod prompt_strings;
mod removed;
mod sections;
mod service_links;
mod validate;
mod variables;

pub use args::CommonArgs;
pub use embedder::{ApiKey, EmbedderConfig, EmbedderModel};
pub use error::ConfigError;
pub use fusion::{FusionConfig, ModeKind, check_servable};
pub use kv_dtype::{DEFAULT_KV_DTYPE, KV_DTYPE_FIELD, KvDtypeSetting};
pub use limits::Limits;
pub use parse::listen_address;
pub use prompt_strings::PromptStrings;
pub use sections::{
    IngestConfig, MAX_NEIGHBOURS, Order, RetrievalConfig, StoreConfig, TelemetryConfig,
};

use crate::device::Device;
use crate::error::ServerError;
pub(crate) use limits::MIN_MESSAGE_BYTES;
pub(crate) use merge::TUNED_FILE_NAME;
use merge::{merge, origin_error, require, value_error};
use origins::Origins;

/// Everything needed to open the components. Immutable after [`Config::load`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub data: PathBuf,
    pub model: PathBuf,
    #[serde(deserialize_with = "parse::from_text")]
    pub device: Device,
    #[serde(deserialize_with = "parse::from_text")]
    pub dtype: ComputeDtype,
    #[serde(rename = "kv_dtype", deserialize_with = "parse::from_text")]
    kv_dtype_setting: KvDtypeSetting,
    /// CPU kernels use at most this instruction set.
    #[serde(default, deserialize_with = "parse::optional_from_text")]
    pub isa: Option<Isa>,
    #[serde(deserialize_with = "parse::listen")]
    pub listen: SocketAddr,
    pub allow_recompute: bool,
    /// System text; `None` leaves it to the prompt format.
    #[serde(default)]
    pub system: Option<String>,
    pub limits: Limits,
    pub retrieval: RetrievalConfig,
    pub fusion: FusionConfig,
    pub ingest: IngestConfig,
    pub embedder: EmbedderConfig,
    pub store: StoreConfig,
    pub telemetry: TelemetryConfig,
    #[serde(default)]
    pub prompt: Option<PromptStrings>,
    /// What the setting stands for in this data directory.
    #[serde(skip)]
    kv_dtype: Option<KvDtype>,
    /// For errors that are found only once the model is open.
    #[serde(skip)]
    origins: Origins,
}

/// One key as `config print` shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Setting {
    pub key: &'static str,
    /// `None` if no layer sets the key.
    pub value: Option<serde_json::Value>,
    pub origin: String,
}

impl Config {
    /// Merges all layers and validates the result.
    ///
    /// # Errors
    /// [`ServerError::Config`] naming the key and the layer it came from.
    pub fn load(args: &CommonArgs) -> Result<Self, ServerError> {
        let merged = merge(args)?;
        require(&merged, "data", "RAGWEAVE_DATA")?;
        Self::extract(&merged)
    }

    /// Like [`Config::load`], for work on a model alone: `data` is empty if no layer names a data directory.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_for_model(args: &CommonArgs) -> Result<Self, ServerError> {
        // Not a pair: figment treats that as a value of every profile, which overrides every layer.
        let without = Serialized::default("data", "");
        Self::extract(&merge(args)?.join(without))
    }

    fn extract(merged: &Figment) -> Result<Self, ServerError> {
        require(merged, "model", "RAGWEAVE_MODEL")?;
        let mut config: Self = merged.extract().map_err(|error| value_error(&error))?;
        config.origins = Origins::of(merged);
        config.kv_dtype = Some(config.kv_dtype_setting.resolve(&config.data, config.dtype));
        config
            .validate()
            .map_err(|(key, message)| origin_error(merged, key, message))?;
        if !config.model.exists() {
            return Err(ConfigError::NoModel { path: config.model }.into());
        }
        Ok(config)
    }

    /// The error for a value that does not fit the model, with the origin of the value.
    pub(crate) fn bad_value(&self, key: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            key: key.to_owned(),
            origin: self.origins.of_key(key).to_owned(),
            message: message.into(),
        }
    }

    /// Stored type of chunk KV: as set or, for `auto`, that of the store or of a new one.
    pub fn kv_dtype(&self) -> KvDtype {
        self.kv_dtype.unwrap_or(DEFAULT_KV_DTYPE)
    }
}

/// The data directory alone, for commands that open no model.
///
/// # Errors
/// As [`Config::load`], but only if a layer cannot be read or no data directory is named.
pub fn data_dir(args: &CommonArgs) -> Result<PathBuf, ServerError> {
    let merged = merge(args)?;
    require(&merged, "data", "RAGWEAVE_DATA")?;
    merged
        .extract_inner("data")
        .map_err(|error| value_error(&error).into())
}

/// The embedder alone, for commands that open no model.
///
/// # Errors
/// As [`Config::load`], but only if a layer cannot be read or a value of `[embedder]` is wrong.
pub fn embedder(args: &CommonArgs) -> Result<EmbedderConfig, ServerError> {
    let merged = merge(args)?;
    merged
        .extract_inner("embedder")
        .map_err(|error| value_error(&error).into())
}

/// Every key with its value and origin, in the order of `default.toml`. Secrets are left out.
///
/// # Errors
/// [`ServerError::Config`] if a layer cannot be read or holds an unknown key.
pub fn explain(args: &CommonArgs) -> Result<Vec<Setting>, ServerError> {
    let merged = merge(args)?;
    let setting = |key: &'static str| Setting {
        key,
        value: merged
            .extract_inner(key)
            .ok()
            .map(|value| shown(key, value)),
        origin: merged.find_metadata(key).map_or_else(
            || "not set".to_owned(),
            |metadata| metadata.name.to_string(),
        ),
    };
    Ok(keys::all_keys().map(setting).collect())
}

/// A secret is not shown, only that it is set.
fn shown(key: &str, value: serde_json::Value) -> serde_json::Value {
    match key == keys::SECRET {
        true => "(secret)".into(),
        false => value,
    }
}

#[cfg(test)]
mod tests;
