//! The layers a configuration is made of, before they are merged: TOML text, the environment and flags, each
//! checked against the list of known keys. The only module of the workspace that reads the environment.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use figment::providers::Serialized;
use figment::value::{Dict, Map};
use figment::{Metadata, Profile, Provider};
use ragweave_retriever::Printable;
use toml::{Table, Value};

use super::ConfigError;
use super::removed::instead_of;
use super::service_links::is_service_link;

/// How the text of a flag or an environment variable becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Float,
    Bool,
}

/// Every key there is. `default.toml` documents them in this order; a test holds the two together.
const KEYS: &[(&str, Kind)] = &[
    ("data", Kind::Text),
    ("model", Kind::Text),
    ("device", Kind::Text),
    ("dtype", Kind::Text),
    ("kv_dtype", Kind::Text),
    ("listen", Kind::Text),
    ("allow_recompute", Kind::Bool),
    ("system", Kind::Text),
    ("limits.max_queue", Kind::Integer),
    ("limits.max_top_k", Kind::Integer),
    ("limits.max_output_tokens", Kind::Integer),
    ("limits.max_question_bytes", Kind::Integer),
    ("limits.max_prefill_tokens", Kind::Integer),
    ("limits.max_model_len", Kind::Integer),
    ("limits.max_deadline_s", Kind::Integer),
    ("limits.max_message_bytes", Kind::Integer),
    ("limits.max_document_bytes", Kind::Integer),
    ("limits.max_metadata_bytes", Kind::Integer),
    ("limits.max_prefix_entries", Kind::Integer),
    ("limits.max_document_s", Kind::Integer),
    ("limits.max_engine_wait_s", Kind::Integer),
    ("limits.drain_s", Kind::Integer),
    ("retrieval.top_k", Kind::Integer),
    ("retrieval.order", Kind::Text),
    ("fusion.mode", Kind::Text),
    ("fusion.selection", Kind::Text),
    ("fusion.ratio", Kind::Float),
    ("fusion.min_ratio", Kind::Float),
    ("ingest.chunk_tokens", Kind::Integer),
    ("ingest.neighbours", Kind::Integer),
    ("store.max_segment_bytes", Kind::Integer),
    ("store.min_free_bytes", Kind::Integer),
    ("store.kv_io", Kind::Text),
    ("store.read_timeout_s", Kind::Integer),
    ("store.memory_bytes", Kind::Integer),
    ("telemetry.shadow_full", Kind::Float),
    ("prompt.prefix", Kind::Text),
    ("prompt.chunk", Kind::Text),
    ("prompt.question", Kind::Text),
];

const ENV_PREFIX: &str = "RAGWEAVE_";
/// Keys of which empty text is a value.
const MAY_BE_EMPTY: [&str; 2] = ["system", "prompt.prefix"];
/// The table of `tuned.toml` that tells people why; serving does not read it.
const EVIDENCE: &str = "evidence";

/// One source of settings: nested TOML values, and the words that name the source to a person.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    origin: String,
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

    /// The model directory's `ragweave.toml`: what suits this model, never where data lies or who may connect.
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

    /// `tuned.toml`: the [fusion] that `ragweave-eval tune` chose, and under [evidence] why, which is not read.
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

    /// As [`Layer::set_text`]; what is not UTF-8 is refused, never replaced by something near it.
    fn set_os_text(&mut self, key: &str, text: &OsStr) -> Result<(), ConfigError> {
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
    fn keys(&self) -> Vec<String> {
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

impl Kind {
    fn describe(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "a whole number",
            Self::Float => "a number",
            Self::Bool => "true or false",
        }
    }
}

fn parse(kind: Kind, text: &str) -> Option<Value> {
    match kind {
        Kind::Text => Some(Value::String(text.to_owned())),
        Kind::Integer => text.trim().parse().ok().map(Value::Integer),
        Kind::Float => text.trim().parse().ok().map(Value::Float),
        Kind::Bool => text.trim().parse().ok().map(Value::Boolean),
    }
}

/// All keys, in the order of `default.toml`.
pub(super) fn all_keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(key, _)| *key)
}

/// The layer of the process environment.
pub(super) fn environment() -> Result<Vec<Layer>, ConfigError> {
    from_variables(std::env::vars_os().filter_map(|(name, value)| {
        let name = name.to_string_lossy().strip_prefix(ENV_PREFIX)?.to_owned();
        Some((name, value))
    }))
}

/// One layer per variable, so that `config print` can name the variable itself. An empty variable counts as one that is
/// not set, except where empty text is a value.
fn from_variables(
    variables: impl Iterator<Item = (String, OsString)>,
) -> Result<Vec<Layer>, ConfigError> {
    let by_variable: std::collections::BTreeMap<String, &str> =
        all_keys().map(|key| (variable_of(key), key)).collect();
    let mut layers = Vec::new();
    for (name, value) in variables {
        let key = by_variable.get(&name).copied();
        let is_unset = value.is_empty() && !key.is_some_and(|key| MAY_BE_EMPTY.contains(&key));
        if is_unset || (key.is_none() && is_service_link(&name, &value.to_string_lossy())) {
            continue;
        }
        let origin = format!("environment {ENV_PREFIX}{name}");
        let Some(key) = key else {
            let dotted = name.to_lowercase().replacen('_', ".", 1);
            let suggestion = nearest(&name, by_variable.keys().map(String::as_str))
                .map(|variable| format!("{ENV_PREFIX}{variable}"));
            return Err(unknown(&dotted, &origin, suggestion));
        };
        let mut layer = Layer::new(origin);
        layer.set_os_text(key, &value)?;
        layers.push(layer);
    }
    Ok(layers)
}

fn variable_of(key: &str) -> String {
    key.to_uppercase().replace('.', "_")
}

/// The filter directives of `RUST_LOG`, which belongs to the tracing ecosystem and has no key of ours.
pub(super) fn log_filter() -> Option<String> {
    std::env::var_os("RUST_LOG").map(|value| value.to_string_lossy().into_owned())
}

/// Where this user's programs keep what they can make again: XDG_CACHE_HOME, else `~/.cache`.
#[cfg(any(feature = "cuda", feature = "vulkan"))]
pub(super) fn user_cache_dir() -> Option<std::path::PathBuf> {
    let dir = |name| std::env::var_os(name).map(std::path::PathBuf::from);
    let absolute = dir("XDG_CACHE_HOME").filter(|dir| dir.is_absolute());
    absolute.or_else(|| dir("HOME").map(|home| home.join(".cache")))
}

fn known(key: &str, origin: &str) -> Result<Kind, ConfigError> {
    KEYS.iter()
        .find(|(name, _)| *name == key)
        .map(|(_, kind)| *kind)
        .ok_or_else(|| unknown(key, origin, nearest(key, all_keys()).map(str::to_owned)))
}

/// A key that is not there: it was once, or the nearest one is suggested.
fn unknown(key: &str, origin: &str, suggestion: Option<String>) -> ConfigError {
    let (key, origin) = (key.to_owned(), origin.to_owned());
    match instead_of(&key) {
        Some(instead) => ConfigError::Removed {
            key,
            origin,
            instead,
        },
        None => ConfigError::UnknownKey {
            key,
            origin,
            suggestion,
        },
    }
}

/// The candidate a typing error or a forgotten section name away from `word`.
fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: BTreeSet<(usize, &str)> = candidates
        .map(|candidate| {
            let bare = candidate.rsplit('.').next().unwrap_or(candidate);
            (
                edit_distance(word, candidate).min(edit_distance(word, bare)),
                candidate,
            )
        })
        .collect();
    best.pop_first()
        .filter(|(distance, _)| *distance <= 2 + word.len() / 8)
        .map(|(_, c)| c)
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_toml_documents_every_key_and_sets_only_known_ones() {
        let text = super::super::DEFAULTS;
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
        assert_eq!(
            refusal("FUSION_POLICY", "hkvd"),
            "fusion.policy in environment RAGWEAVE_FUSION_POLICY is no longer a setting; write fusion.selection instead"
        );
    }

    fn layers_of(variables: &[(&str, &str)]) -> Result<Vec<Layer>, ConfigError> {
        let given = |(name, value): &(&str, &str)| ((*name).to_owned(), value.into());
        from_variables(variables.iter().map(given))
    }

    fn refusal(name: &str, value: &str) -> String {
        layers_of(&[(name, value)]).unwrap_err().to_string()
    }

    #[test]
    fn variables_become_layers_and_service_links_do_not() {
        let layers = layers_of(&[
            ("PORT", "tcp://10.0.0.1:1"),
            ("LIMITS_SERVICE_HOST", "10.0.0.1"),
            ("LIMITS_MAX_QUEUE", "8"),
        ])
        .unwrap();
        assert_eq!(layers.len(), 1);
        assert_eq!(layers[0].keys(), ["limits.max_queue"]);
        assert_eq!(layers[0].origin, "environment RAGWEAVE_LIMITS_MAX_QUEUE");

        let wrong = refusal("LIMITS_MAX_QUEUES", "8");
        assert!(wrong.contains("did you mean RAGWEAVE_LIMITS_MAX_QUEUE?"));
        assert_eq!(
            refusal("LIMITS_MAX_QUEUE", "many"),
            "limits.max_queue in environment RAGWEAVE_LIMITS_MAX_QUEUE: expected a whole number, found \"many\""
        );
        assert!(refusal("PORT", "50051").contains("unknown key"));
    }

    #[test]
    fn an_empty_variable_is_not_set_unless_empty_text_is_a_value() {
        let unset = [("DATA", ""), ("LIMITS_MAX_QUEUE", ""), ("GRPC_PORT", "")];
        assert_eq!(layers_of(&unset).unwrap().len(), 0);
        let layers = layers_of(&[("SYSTEM", "")]).unwrap();
        assert_eq!(layers[0].text("system"), Some(""));
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_text_is_refused_and_not_changed() {
        use std::os::unix::ffi::OsStringExt as _;

        let value = OsString::from_vec(b"caf\xe9".to_vec());
        let refused = from_variables([("SYSTEM".to_owned(), value)].into_iter());
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("system in environment RAGWEAVE_SYSTEM"),
            "{refused}"
        );
        assert!(refused.contains("not UTF-8"), "{refused}");
    }

    #[test]
    fn edit_distance_counts_insertions_deletions_and_substitutions() {
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }
}
