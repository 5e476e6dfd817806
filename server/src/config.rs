//! The configuration: layered settings, merged once, validated once, then immutable.
//!
//! Order, strongest first: command line, environment, configuration file, the data directory's `tuned.toml` (only
//! `[fusion]`: what was measured to suit that corpus), the model directory's `ragweave.toml` (only `system`, `[prompt]`
//! and `[fusion]`: what suits that model), the compiled-in `default.toml`, which documents every key. Nothing outside
//! this module reads the environment.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::Serialized;
use ragweave_engine::{ComputeDtype, KvDtype};
use ragweave_store::KvIo;
use serde::Deserialize;

mod args;
mod error;
mod fusion;
mod layers;
mod limits;
mod origins;
mod parse;
mod prompt_strings;
mod removed;
mod service_links;

pub use args::CommonArgs;
pub use error::ConfigError;
pub use fusion::{FusionConfig, ModeKind, check_servable};
pub use parse::listen_address;
pub use prompt_strings::PromptStrings;

use crate::device::Device;
use crate::error::ServerError;
use layers::Layer;
pub(crate) use limits::MIN_MESSAGE_BYTES;
use origins::Origins;

/// The compiled-in defaults, documented line by line.
const DEFAULTS: &str = include_str!("../config/default.toml");
/// Name of the configuration file looked for in the data and in the model directory.
const FILE_NAME: &str = "ragweave.toml";
/// Most neighbours a chunk's KV may be computed behind.
pub const MAX_NEIGHBOURS: usize = 8;
/// Longest time any setting may ask for: clocks cannot be set to all that a number can say.
const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// Name of the file in the data directory that holds a tuned choice of fusion.
pub(crate) const TUNED_FILE_NAME: &str = "tuned.toml";

/// Everything a component is opened with. Immutable after [`Config::load`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub data: PathBuf,
    pub model: PathBuf,
    #[serde(deserialize_with = "parse::from_text")]
    pub device: Device,
    #[serde(deserialize_with = "parse::from_text")]
    pub dtype: ComputeDtype,
    /// Stored type of chunk KV. The compute dtype unless set.
    #[serde(
        default,
        rename = "kv_dtype",
        deserialize_with = "parse::optional_from_text"
    )]
    kv_dtype_setting: Option<KvDtype>,
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
    pub store: StoreConfig,
    pub telemetry: TelemetryConfig,
    #[serde(default)]
    pub prompt: Option<PromptStrings>,
    /// For errors that only the model can show.
    #[serde(skip)]
    origins: Origins,
}

/// Named maxima of everything a request or a document can ask for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub max_queue: usize,
    pub max_top_k: usize,
    pub max_output_tokens: usize,
    pub max_question_bytes: usize,
    pub max_prefill_tokens: usize,
    /// Context in tokens; `None` is the model's own.
    #[serde(default)]
    pub max_model_len: Option<usize>,
    #[serde(rename = "max_deadline_s", deserialize_with = "parse::seconds")]
    pub max_deadline: Duration,
    pub max_message_bytes: usize,
    pub max_document_bytes: usize,
    /// As set; [`Limits::max_metadata_bytes`] is what holds.
    #[serde(default, rename = "max_metadata_bytes")]
    pub metadata_setting: Option<usize>,
    pub max_prefix_entries: usize,
    #[serde(rename = "max_document_s", deserialize_with = "parse::seconds")]
    pub max_document_time: Duration,
    #[serde(rename = "max_engine_wait_s", deserialize_with = "parse::seconds")]
    pub max_engine_wait: Duration,
    #[serde(rename = "drain_s", deserialize_with = "parse::seconds")]
    pub drain: Duration,
}

/// What retrieval does when the request does not say.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrievalConfig {
    pub top_k: usize,
    pub order: Order,
}

/// Order of the passages in the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Best first.
    Score,
    /// Reading order: by document, then by place in it.
    Document,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngestConfig {
    /// Longest chunk in tokens, its wrapper included.
    pub chunk_tokens: usize,
    /// Chunks that each chunk's KV is computed behind; see [`crate::ingest::Ingestor::condition`].
    pub neighbours: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    pub max_segment_bytes: u64,
    pub min_free_bytes: u64,
    #[serde(deserialize_with = "parse::from_text")]
    pub kv_io: KvIo,
    /// Stored KV whose read takes longer is computed instead.
    #[serde(rename = "read_timeout_s", deserialize_with = "parse::seconds")]
    pub read_timeout: Duration,
    pub memory_bytes: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Share of the fused requests that are compared with a full prefill in the background, 0..=1.
    pub shadow_full: f64,
}

/// One key as `config print` shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Setting {
    pub key: &'static str,
    /// `None` where no layer sets the key.
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

    /// As [`Config::load`], for work on a model alone: `data` is empty where no layer names a data directory.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_for_model(args: &CommonArgs) -> Result<Self, ServerError> {
        // Not a pair: figment takes that for a value of every profile, stronger than any layer's.
        let without = Serialized::default("data", "");
        Self::extract(&merge(args)?.join(without))
    }

    fn extract(merged: &Figment) -> Result<Self, ServerError> {
        require(merged, "model", "RAGWEAVE_MODEL")?;
        let mut config: Self = merged.extract().map_err(|error| value_error(&error))?;
        config.origins = Origins::of(merged);
        config
            .validate()
            .map_err(|(key, message)| origin_error(merged, key, message))?;
        if !config.model.is_dir() {
            return Err(ConfigError::NoModelDirectory { path: config.model }.into());
        }
        Ok(config)
    }

    /// A value that does not fit the model, with where it comes from.
    pub(crate) fn bad_value(&self, key: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            key: key.to_owned(),
            origin: self.origins.of_key(key).to_owned(),
            message: message.into(),
        }
    }

    /// Stored type of chunk KV.
    pub fn kv_dtype(&self) -> KvDtype {
        self.kv_dtype_setting.unwrap_or(KvDtype::exact(self.dtype))
    }

    /// Checks what types cannot say. Returns the key at fault and what is wrong with it.
    fn validate(&self) -> Result<(), (&'static str, String)> {
        let limits = &self.limits;
        let positive = [
            ("limits.max_queue", limits.max_queue),
            ("limits.max_top_k", limits.max_top_k),
            ("limits.max_output_tokens", limits.max_output_tokens),
            ("limits.max_question_bytes", limits.max_question_bytes),
            ("limits.max_prefill_tokens", limits.max_prefill_tokens),
            ("limits.max_model_len", limits.max_model_len.unwrap_or(1)),
            ("limits.max_metadata_bytes", limits.max_metadata_bytes()),
            ("limits.max_prefix_entries", limits.max_prefix_entries),
            ("retrieval.top_k", self.retrieval.top_k),
            ("ingest.chunk_tokens", self.ingest.chunk_tokens),
        ];
        limits.validate_bytes()?;
        if let Some((key, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err((key, "must be at least 1".to_owned()));
        }
        let times = [
            ("limits.max_deadline_s", limits.max_deadline),
            ("limits.max_document_s", limits.max_document_time),
            ("limits.max_engine_wait_s", limits.max_engine_wait),
            ("store.read_timeout_s", self.store.read_timeout),
        ];
        if let Some((key, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return Err((*key, "must be at least 1".to_owned()));
        }
        let mut bounded = times.into_iter().chain([("limits.drain_s", limits.drain)]);
        if let Some((key, _)) = bounded.find(|(_, time)| *time > MAX_TIME) {
            let most = MAX_TIME.as_secs();
            return Err((key, format!("must be at most {most}, a year")));
        }
        if self.retrieval.top_k > limits.max_top_k {
            let limit = limits.max_top_k;
            return Err((
                "retrieval.top_k",
                format!("is above limits.max_top_k, {limit}"),
            ));
        }
        if self.ingest.neighbours > MAX_NEIGHBOURS {
            return Err((
                "ingest.neighbours",
                format!(
                    "must lie in 0..={MAX_NEIGHBOURS}, is {}",
                    self.ingest.neighbours
                ),
            ));
        }
        self.fusion.validate()?;
        let shadow_full = self.telemetry.shadow_full;
        if !(0.0..=1.0).contains(&shadow_full) {
            return Err((
                "telemetry.shadow_full",
                format!("must lie in 0..=1, is {shadow_full}"),
            ));
        }
        self.prompt.as_ref().map_or(Ok(()), PromptStrings::validate)
    }
}

/// The data directory alone, for commands that open no model.
///
/// # Errors
/// As [`Config::load`], but only where a layer cannot be read or no data directory is named.
pub fn data_dir(args: &CommonArgs) -> Result<PathBuf, ServerError> {
    let merged = merge(args)?;
    require(&merged, "data", "RAGWEAVE_DATA")?;
    merged
        .extract_inner("data")
        .map_err(|error| value_error(&error).into())
}

/// Every key with its value and origin, in the order of `default.toml`.
///
/// # Errors
/// [`ServerError::Config`] where a layer cannot be read or holds an unknown key.
pub fn explain(args: &CommonArgs) -> Result<Vec<Setting>, ServerError> {
    let merged = merge(args)?;
    let setting = |key: &'static str| Setting {
        key,
        value: merged.extract_inner(key).ok(),
        origin: merged.find_metadata(key).map_or_else(
            || "not set".to_owned(),
            |metadata| metadata.name.to_string(),
        ),
    };
    Ok(layers::all_keys().map(setting).collect())
}

/// The directives of `RUST_LOG`, if set.
pub fn log_filter() -> Option<String> {
    layers::log_filter()
}

/// Where this user's programs keep what they can make again, if the environment names a place.
#[cfg(any(feature = "cuda", feature = "vulkan"))]
pub fn user_cache_dir() -> Option<PathBuf> {
    layers::user_cache_dir()
}

/// Stacks the layers, weakest first.
fn merge(args: &CommonArgs) -> Result<Figment, ConfigError> {
    let environment = layers::environment()?;
    let flags = args.layers()?;
    let named = |key: &str| strongest_text(flags.iter().chain(environment.iter().rev()), key);

    let file = match (&args.config, named("data")) {
        (Some(path), _) => Some(Layer::from_file(path)?),
        (None, Some(data)) => optional_file(&data, FILE_NAME, Layer::from_file)?,
        (None, None) => None,
    };
    let directory = |key| named(key).or_else(|| file.as_ref()?.text(key).map(str::to_owned));
    let of_model = match directory("model") {
        Some(model) => optional_file(&model, FILE_NAME, Layer::from_model_file)?,
        None => None,
    };
    let tuned = match directory("data") {
        Some(data) => optional_file(&data, TUNED_FILE_NAME, Layer::from_tuned_file)?,
        None => None,
    };

    let mut merged = Figment::from(Layer::from_toml("built-in default", DEFAULTS)?);
    for layer in of_model
        .into_iter()
        .chain(tuned)
        .chain(file)
        .chain(environment)
        .chain(flags)
    {
        merged = merged.merge(layer);
    }
    Ok(merged)
}

fn strongest_text<'a>(layers: impl Iterator<Item = &'a Layer>, key: &str) -> Option<String> {
    layers
        .filter_map(|layer| layer.text(key))
        .next()
        .map(str::to_owned)
}

/// Reads the file `name` in `dir` if it is there, and says so, because nobody named it on the command line.
fn optional_file(
    dir: &str,
    name: &str,
    read: impl Fn(&Path) -> Result<Layer, ConfigError>,
) -> Result<Option<Layer>, ConfigError> {
    let path = Path::new(dir).join(name);
    if !path.is_file() {
        return Ok(None);
    }
    tracing::info!(file = %path.display(), "reading configuration");
    read(&path).map(Some)
}

/// An empty path would be that of the current directory.
fn require(merged: &Figment, key: &'static str, variable: &'static str) -> Result<(), ConfigError> {
    if !merged.contains(key) {
        return Err(ConfigError::Missing { key, variable });
    }
    match merged.extract_inner::<String>(key) {
        Ok(path) if path.is_empty() => Err(origin_error(merged, key, "is empty".to_owned())),
        _ => Ok(()),
    }
}

fn value_error(error: &figment::Error) -> ConfigError {
    let key = error.path.join(".");
    let origin = error
        .metadata
        .as_ref()
        .map_or("configuration", |metadata| &metadata.name);
    ConfigError::Value {
        key,
        origin: origin.to_owned(),
        message: error.kind.to_string(),
    }
}

fn origin_error(merged: &Figment, key: &str, message: String) -> ConfigError {
    let origin = merged
        .find_metadata(key)
        .map_or("configuration", |metadata| &metadata.name);
    ConfigError::Value {
        key: key.to_owned(),
        origin: origin.to_owned(),
        message,
    }
}

#[cfg(test)]
mod tests;
