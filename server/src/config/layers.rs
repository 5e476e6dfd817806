//! The layers of a configuration before they are merged: TOML text, the environment and flags, each checked against the
//! list of known keys.

use std::ffi::OsStr;
use std::path::Path;

use figment::providers::Serialized;
use figment::value::{Dict, Map};
use figment::{Metadata, Profile, Provider};
use ragweave_retriever::Printable;
use toml::{Table, Value};

use super::error::ConfigError;
use super::keys::{known, parse};

/// The table of `tuned.toml` that explains the choice to people; serving does not apply it.
const EVIDENCE: &str = "evidence";

/// One source of settings: nested TOML values, and a description of the source for messages.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) origin: String,
    table: Table,
}

impl Layer {
    pub(super) fn new(origin: impl Into<String>) -> Self {
        Self {
            origin: origin.into(),
            table: Table::new(),
        }
    }

    /// Parses TOML text; every key must be known.
    pub(super) fn from_toml(origin: &str, text: &str) -> Result<Self, ConfigError> {
        let layer = Self::parse(origin, text)?;
        layer.check_keys()?;
        Ok(layer)
    }

    pub(super) fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let layer = Self::parse_file(path)?;
        layer.check_keys()?;
        Ok(layer)
    }

    fn parse_file(path: &Path) -> Result<Self, ConfigError> {
        let text = fs_err::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&format!("file {}", path.display()), &text)
    }

    fn parse(origin: &str, text: &str) -> Result<Self, ConfigError> {
        let table: Table = toml::from_str(text).map_err(|source| ConfigError::Syntax {
            origin: origin.to_owned(),
            message: source.to_string().trim_end().to_owned(),
        })?;
        Ok(Self {
            origin: origin.to_owned(),
            table,
        })
    }

    fn check_keys(&self) -> Result<(), ConfigError> {
        for key in self.keys() {
            known(&key, &self.origin)?;
        }
        Ok(())
    }

    /// The model directory's `ragweave.toml`: settings for this model, never where data is stored or who may connect.
    pub(super) fn from_model_file(path: &Path) -> Result<Self, ConfigError> {
        let layer = Self::from_file(path)?;
        let foreign = |key: &String| {
            key != "system" && !key.starts_with("prompt.") && !key.starts_with("fusion.")
        };
        match layer.keys().into_iter().find(foreign) {
            Some(key) => Err(ConfigError::NotForModels {
                key,
                path: path.to_owned(),
            }),
            None => Ok(layer),
        }
    }

    /// `tuned.toml`: the [fusion] that `ragweave-eval tune` chose; the reasons, under [evidence], are not read.
    pub(super) fn from_tuned_file(path: &Path) -> Result<Self, ConfigError> {
        let mut layer = Self::parse_file(path)?;
        layer.table.remove(EVIDENCE);
        layer.check_keys()?;
        match layer
            .keys()
            .into_iter()
            .find(|key| !key.starts_with("fusion."))
        {
            Some(key) => Err(ConfigError::NotForTuning {
                key,
                path: path.to_owned(),
            }),
            None => Ok(layer),
        }
    }

    /// Sets `key` from text, as a flag or an environment variable gives it.
    pub(super) fn set_text(&mut self, key: &str, text: &str) -> Result<(), ConfigError> {
        let kind = known(key, &self.origin)?;
        let value = parse(kind, text).ok_or_else(|| ConfigError::Value {
            key: key.to_owned(),
            origin: self.origin.clone(),
            message: format!("expected {}, found {text:?}", kind.describe()),
        })?;
        self.insert(key, value);
        Ok(())
    }

    /// Like [`Layer::set_text`]. A value that is not UTF-8 is refused, never converted lossily.
    pub(super) fn set_os_text(&mut self, key: &str, text: &OsStr) -> Result<(), ConfigError> {
        match text.to_str() {
            Some(text) => self.set_text(key, text),
            None => Err(ConfigError::NotUtf8 {
                key: key.to_owned(),
                origin: self.origin.clone(),
                found: Printable(Path::new(text)).to_string(),
            }),
        }
    }

    fn insert(&mut self, key: &str, value: Value) {
        match key.split_once('.') {
            None => {
                self.table.insert(key.to_owned(), value);
            }
            Some((section, name)) => {
                let entry = self
                    .table
                    .entry(section)
                    .or_insert_with(|| Value::Table(Table::new()));
                if let Value::Table(section) = entry {
                    section.insert(name.to_owned(), value);
                }
            }
        }
    }

    /// The text at `key`, if this layer sets it to a string.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.table.get(key).and_then(Value::as_str)
    }

    /// All leaf keys, dotted.
    pub(super) fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for (name, value) in &self.table {
            match value {
                Value::Table(section) => keys.extend(section.keys().map(|k| format!("{name}.{k}"))),
                _ => keys.push(name.clone()),
            }
        }
        keys
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Serialized::defaults(&self.table).data()
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::all_keys;
    use super::*;

    #[test]
    fn default_toml_documents_every_key_and_sets_only_known_ones() {
        let text = super::super::merge::DEFAULTS;
        Layer::from_toml("built-in default", text).unwrap();
        for key in all_keys() {
            let name = key.rsplit('.').next().unwrap();
            let documented = text.lines().any(|line| {
                line.trim_start_matches(['#', ' '])
                    .starts_with(&format!("{name} ="))
            });
            assert!(documented, "{key} is not in default.toml");
        }
    }

    #[test]
    fn an_unknown_key_names_its_origin_and_the_nearest_known_one() {
        let error = Layer::from_toml("file x.toml", "[limits]\nmax_queu = 3").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown key limits.max_queu in file x.toml; did you mean limits.max_queue?"
        );
        let far = Layer::from_toml("file x.toml", "colour = 3").unwrap_err();
        assert_eq!(far.to_string(), "unknown key colour in file x.toml");
    }

    #[test]
    fn a_key_of_an_earlier_version_says_what_to_write_instead() {
        let error = Layer::from_toml("file x.toml", "[fusion]\ncheck_layer = 2").unwrap_err();
        assert_eq!(
            error.to_string(),
            "fusion.check_layer in file x.toml is no longer a setting; write the layer into the selection, such as \
             fusion.selection = \"hkvd@2\""
        );
    }
}
