//! A directory that holds nothing but the config.json of a model.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

/// The model directory an engine of random weights opens.
pub(crate) enum ModelDir {
    Given(PathBuf),
    /// Removed with this value.
    Made(TempDir),
}

impl ModelDir {
    /// Of a directory, or of a config.json under any name.
    ///
    /// # Errors
    /// Where there is neither.
    pub(crate) fn open(config: &Path) -> anyhow::Result<Self> {
        if config.is_dir() {
            return Ok(Self::Given(config.to_owned()));
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
        Ok(Self::Made(made))
    }

    /// What a model opened from here is called. The engine names it after the directory, and the
    /// name of a made one has a random end.
    pub(crate) fn model_name<'a>(&self, engine_name: &'a str) -> &'a str {
        match self {
            Self::Given(_) => engine_name,
            Self::Made(_) => engine_name
                .rsplit_once('.')
                .map_or(engine_name, |(stem, _)| stem),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Made(dir) => dir.path(),
        }
    }
}
