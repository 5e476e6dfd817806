//! The flags that set configuration keys, shared by every subcommand that opens a model or a data directory.

use std::path::{Path, PathBuf};

use clap::Args;
use ragweave_retriever::Printable;

use super::error::ConfigError;
use super::layers::Layer;
use crate::telemetry::LogFormat;

/// Flags that set configuration keys. Each key can also come from the environment or a file: `ragweave config print`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Configuration")]
pub struct CommonArgs {
    /// Configuration file (default: ragweave.toml in the data directory, if there)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data directory [env: RAGWEAVE_DATA]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Model: a directory in Hugging Face layout, or a GGUF file [env: RAGWEAVE_MODEL]
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// Where the model runs: cpu, cuda:N or vulkan:N [env: RAGWEAVE_DEVICE]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// What makes vectors of texts: lexical (built in), a sentence-transformers directory, or
    /// http://HOST:PORT[/v1][#MODEL] [env: RAGWEAVE_EMBEDDER]
    #[arg(long, value_name = "DIR|URL")]
    pub embedder: Option<PathBuf>,
    /// Where the embedder runs: cpu, cuda:N or vulkan:N [env: RAGWEAVE_EMBEDDER_DEVICE]
    #[arg(long, value_name = "DEVICE")]
    pub embedder_device: Option<String>,
    /// Compute type: f32, f16 or bf16 [env: RAGWEAVE_DTYPE]
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<String>,
    /// Stored type of chunk KV: auto (that of the store; int8 in a new one), f32, f16, bf16 or int8
    /// [env: RAGWEAVE_KV_DTYPE]
    #[arg(long, value_name = "TYPE")]
    pub kv_dtype: Option<String>,
    /// How stored KV is read: auto, pread, direct, uring or mmap [env: RAGWEAVE_STORE_KV_IO]
    #[arg(long, value_name = "WAY")]
    pub kv_io: Option<String>,
    /// Bytes of chunk KV kept in memory in front of the store, 0 for none [env: RAGWEAVE_STORE_MEMORY_BYTES]
    #[arg(long, value_name = "BYTES")]
    pub kv_memory: Option<u64>,
    /// System text before the passages; part of the store's identity [env: RAGWEAVE_SYSTEM]
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Longest chunk in tokens, wrapper included [env: RAGWEAVE_INGEST_CHUNK_TOKENS]
    #[arg(long, value_name = "N")]
    pub chunk_tokens: Option<usize>,
    /// Compute each chunk's KV after its N most similar chunks, 0 to 8 [env: RAGWEAVE_INGEST_NEIGHBOURS]
    #[arg(long, value_name = "N")]
    pub neighbours: Option<usize>,
    /// Tokens per prefill step [env: RAGWEAVE_LIMITS_MAX_PREFILL_TOKENS]
    #[arg(long, value_name = "N")]
    pub max_prefill_tokens: Option<usize>,
    /// Context in tokens, at most the model's own [env: RAGWEAVE_LIMITS_MAX_MODEL_LEN]
    #[arg(long, value_name = "N")]
    pub max_model_len: Option<usize>,
    /// Open a store of another model or prompt with every KV lookup a miss
    #[arg(long)]
    pub allow_recompute: bool,
    /// Format of the log lines on standard error
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Any other key: --set limits.max_queue=8 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
}

impl CommonArgs {
    /// One layer per flag, so that the origin of a value names the flag itself.
    pub(super) fn layers(&self) -> Result<Vec<Layer>, ConfigError> {
        let number = |n: usize| n.to_string();
        let flags = [
            ("--data", "data", path("data", self.data.as_deref())?),
            ("--model", "model", path("model", self.model.as_deref())?),
            ("--device", "device", self.device.clone()),
            (
                "--embedder",
                "embedder.model",
                path("embedder", self.embedder.as_deref())?,
            ),
            (
                "--embedder-device",
                "embedder.device",
                self.embedder_device.clone(),
            ),
            ("--dtype", "dtype", self.dtype.clone()),
            ("--kv-dtype", "kv_dtype", self.kv_dtype.clone()),
            ("--kv-io", "store.kv_io", self.kv_io.clone()),
            (
                "--kv-memory",
                "store.memory_bytes",
                self.kv_memory.map(|bytes| bytes.to_string()),
            ),
            ("--system", "system", self.system.clone()),
            (
                "--chunk-tokens",
                "ingest.chunk_tokens",
                self.chunk_tokens.map(number),
            ),
            (
                "--neighbours",
                "ingest.neighbours",
                self.neighbours.map(number),
            ),
            (
                "--max-prefill-tokens",
                "limits.max_prefill_tokens",
                self.max_prefill_tokens.map(number),
            ),
            (
                "--max-model-len",
                "limits.max_model_len",
                self.max_model_len.map(number),
            ),
            (
                "--allow-recompute",
                "allow_recompute",
                self.allow_recompute.then(|| "true".to_owned()),
            ),
        ];
        let mut layers = Vec::new();
        for (flag, key, value) in flags {
            if let Some(value) = value {
                layers.push(one(format!("flag {flag}"), key, &value)?);
            }
        }
        for setting in &self.settings {
            let (key, value) = setting.split_once('=').ok_or_else(|| ConfigError::Value {
                key: setting.clone(),
                origin: "flag --set".to_owned(),
                message: "expected KEY=VALUE".to_owned(),
            })?;
            layers.push(one("flag --set".to_owned(), key.trim(), value)?);
        }
        Ok(layers)
    }
}

/// The text of a path that sets `key`. A configuration is text, so a path that is not UTF-8 could not be kept
/// unchanged.
fn path(key: &str, path: Option<&Path>) -> Result<Option<String>, ConfigError> {
    let text = |path: &Path| match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(ConfigError::NotUtf8 {
            key: key.to_owned(),
            origin: format!("flag --{key}"),
            found: Printable(path).to_string(),
        }),
    };
    path.map(text).transpose()
}

fn one(origin: String, key: &str, value: &str) -> Result<Layer, ConfigError> {
    let mut layer = Layer::new(origin);
    layer.set_text(key, value)?;
    Ok(layer)
}
