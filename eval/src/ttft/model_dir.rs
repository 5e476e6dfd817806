//! The model that is timed: one with weights, or nothing but the config.json of a model, whose weights are random.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ragweave_engine::{EngineHandle, EngineOptions};
use serde::Serialize;
use tempfile::TempDir;

use crate::flags::EngineArgs;

/// Seed of the weights: they decide nothing that is measured.
const WEIGHTS_SEED: u64 = 1;

/// Which model is timed.
#[derive(Debug, Clone, clap::Args, Serialize)]
#[group(required = true, multiple = false)]
pub(crate) struct ModelArgs {
    /// A config.json, or a directory that holds one; weights are random
    #[arg(long, value_name = "CONFIG.json|DIR")]
    random_weights: Option<PathBuf>,
    /// Model directory in Hugging Face layout, or a GGUF file
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
}

impl ModelArgs {
    pub(crate) fn open(&self, engine: &EngineArgs) -> anyhow::Result<TimedModel> {
        match (&self.random_weights, &self.model) {
            (Some(config), _) => TimedModel::random(config, engine),
            (None, Some(model)) => TimedModel::with_weights(model, engine),
            (None, None) => bail!("give --model or --random-weights"),
        }
    }

    /// Whether time alone is real.
    pub(crate) fn is_random(&self) -> bool {
        self.random_weights.is_some()
    }
}

/// An engine and the model it runs.
pub(crate) struct TimedModel {
    pub(crate) engine: EngineHandle,
    pub(crate) options: EngineOptions,
    pub(crate) name: String,
    /// Of a config.json alone; removed with this value.
    _made: Option<TempDir>,
}

impl TimedModel {
    /// A model of random weights in the shape of a config.json, under any name, or of the one in a directory.
    pub(crate) fn random(config: &Path, args: &EngineArgs) -> anyhow::Result<Self> {
        if config.is_dir() {
            return Self::open(config.to_owned(), None, Some(WEIGHTS_SEED), args);
        }
        if !config.is_file() {
            bail!(
                "--random-weights: {} is neither a file nor a directory",
                config.display()
            );
        }
        // Named after the file, because the engine names a model after its directory.
        let name = config.file_stem().unwrap_or_default().to_string_lossy();
        let made = tempfile::Builder::new()
            .prefix(&format!("{name}."))
            .tempdir()
            .context("make a model directory for --random-weights")?;
        fs_err::copy(config, made.path().join("config.json"))?;
        Self::open(made.path().to_owned(), Some(made), Some(WEIGHTS_SEED), args)
    }

    fn with_weights(model: &Path, args: &EngineArgs) -> anyhow::Result<Self> {
        if !model.exists() {
            bail!("--model: {} does not exist", model.display());
        }
        Self::open(model.to_owned(), None, None, args)
    }

    fn open(
        model: PathBuf,
        made: Option<TempDir>,
        random_weights: Option<u64>,
        args: &EngineArgs,
    ) -> anyhow::Result<Self> {
        let options = EngineOptions {
            random_weights,
            ..args.options(&model)
        };
        let engine = args.device.spawn_engine(options.clone())?;
        let name = &engine.model().name;
        // The name of a made directory has a random end.
        let stem = name.rsplit_once('.').filter(|_| made.is_some());
        Ok(Self {
            name: stem.map_or(name.as_str(), |(stem, _)| stem).to_owned(),
            engine,
            options,
            _made: made,
        })
    }
}
