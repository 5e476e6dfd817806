//! Stacks the layers of a configuration, and reports the origin of an invalid value.

use std::path::Path;

use figment::Figment;

use super::args::CommonArgs;
use super::error::ConfigError;
use super::layers::Layer;
use super::variables;

/// The compiled-in defaults, documented line by line.
pub(super) const DEFAULTS: &str = include_str!("../../config/default.toml");
/// Name of the configuration file in the data directory and in the model directory (beside a GGUF file).
const FILE_NAME: &str = "ragweave.toml";
/// Name of the file in the data directory that holds tuned fusion settings.
pub(crate) const TUNED_FILE_NAME: &str = "tuned.toml";

/// Stacks the layers, weakest first.
pub(super) fn merge(args: &CommonArgs) -> Result<Figment, ConfigError> {
    let environment = variables::layers()?;
    let flags = args.layers()?;
    let named = |key: &str| strongest_text(flags.iter().chain(environment.iter().rev()), key);

    let file = match (&args.config, named("data")) {
        (Some(path), _) => Some(Layer::from_file(path)?),
        (None, Some(data)) => optional_file(Path::new(&data), FILE_NAME, Layer::from_file)?,
        (None, None) => None,
    };
    let directory = |key| named(key).or_else(|| file.as_ref()?.text(key).map(str::to_owned));
    let of_model = match directory("model") {
        Some(model) => optional_file(beside(&model), FILE_NAME, Layer::from_model_file)?,
        None => None,
    };
    let tuned = match directory("data") {
        Some(data) => optional_file(Path::new(&data), TUNED_FILE_NAME, Layer::from_tuned_file)?,
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

/// The directory of a model: its own, or the one that its GGUF file is in.
fn beside(model: &str) -> &Path {
    let model = Path::new(model);
    match model.parent() {
        Some(parent) if model.is_file() => parent,
        _ => model,
    }
}

/// Reads the file `name` in `dir` if it exists, and logs that, because it was not named on the command line.
fn optional_file(
    dir: &Path,
    name: &str,
    read: impl Fn(&Path) -> Result<Layer, ConfigError>,
) -> Result<Option<Layer>, ConfigError> {
    let path = dir.join(name);
    if !path.is_file() {
        return Ok(None);
    }
    tracing::info!(file = %path.display(), "reading configuration");
    read(&path).map(Some)
}

/// An empty path would mean the current directory.
pub(super) fn require(
    merged: &Figment,
    key: &'static str,
    variable: &'static str,
) -> Result<(), ConfigError> {
    if !merged.contains(key) {
        return Err(ConfigError::Missing { key, variable });
    }
    match merged.extract_inner::<String>(key) {
        Ok(path) if path.is_empty() => Err(origin_error(merged, key, "is empty".to_owned())),
        _ => Ok(()),
    }
}

pub(super) fn value_error(error: &figment::Error) -> ConfigError {
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

pub(super) fn origin_error(merged: &Figment, key: &str, message: String) -> ConfigError {
    let origin = merged
        .find_metadata(key)
        .map_or("configuration", |metadata| &metadata.name);
    ConfigError::Value {
        key: key.to_owned(),
        origin: origin.to_owned(),
        message,
    }
}
