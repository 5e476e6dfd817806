//! What was measured on what: the first line of a run, and the head of its summary.

use std::fmt;

use ragweave_engine::ModelInfo;
use ragweave_server::components::Components;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::commit;
use crate::experiment::threads;

/// Version of the run directory's format.
pub(crate) const VERSION: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub(crate) enum RunKind {
    Quality,
    Ttft,
    Load,
    Decay,
}

/// The first line of `run.jsonl`. Fields are in file order. Older runs lack some, and a reader may
/// meet kinds that are not its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunHeader<K = RunKind> {
    pub(crate) kind: K,
    pub(crate) version: u32,
    #[serde(default)]
    pub(crate) command: String,
    /// Everything that decides what is measured: a run is resumed under an equal one only.
    #[serde(default)]
    pub(crate) config: Value,
    /// Hash of the checkout's commit, `-dirty` if files differ from it; `None` outside one.
    pub(crate) commit: Option<String>,
    #[serde(default)]
    pub(crate) device: String,
    #[serde(default)]
    pub(crate) model: RunModel,
    #[serde(default)]
    pub(crate) seed: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunModel {
    pub(crate) name: String,
    /// Hash over weights, tokenizer and dtypes, in hex.
    pub(crate) fingerprint: String,
    pub(crate) layers: usize,
}

/// A `summary.json`: the head that all kinds share, then the fields of `body`.
#[derive(Debug, Serialize)]
pub(crate) struct Summary<'a, T: Serialize> {
    kind: RunKind,
    version: u32,
    config: &'a Value,
    device: &'a str,
    model: &'a RunModel,
    #[serde(flatten)]
    body: T,
}

impl RunHeader {
    /// A header of this process: its command line, and the commit of the checkout it runs in.
    pub(crate) fn new(
        kind: RunKind,
        config: &impl Serialize,
        device: impl fmt::Display,
        model: RunModel,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let arguments = std::env::args_os().skip(1);
        let mut words = vec![env!("CARGO_PKG_NAME").to_owned()];
        words.extend(arguments.map(|argument| argument.to_string_lossy().into_owned()));
        Ok(Self {
            kind,
            version: VERSION,
            command: words.join(" "),
            config: serde_json::to_value(config)?,
            commit: commit::of_checkout(".".as_ref()),
            device: device.to_string(),
            model,
            seed,
        })
    }

    /// The header of a run on a data directory: its flags, what else decides its figures, and the
    /// model, types and place that its components have.
    pub(crate) fn of_components(
        kind: RunKind,
        args: &impl Serialize,
        components: &Components,
        more: Value,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let config = &components.config;
        let setting = json!({
            "data": config.data,
            "dtype": config.dtype.to_string(),
            "kv_dtype": config.kv_dtype().to_string(),
            "threads": threads(),
        });
        let all = merged([setting, serde_json::to_value(args)?, more]);
        let model = RunModel::of(components.engine.model());
        Self::new(kind, &all, config.device, model, seed)
    }

    /// The summary of the run this header begins; `body` holds `rows` and whatever else the kind has.
    pub(crate) fn summary<T: Serialize>(&self, body: T) -> Summary<'_, T> {
        Summary {
            kind: self.kind,
            version: self.version,
            config: &self.config,
            device: &self.device,
            model: &self.model,
            body,
        }
    }
}

impl RunModel {
    pub(crate) fn of(model: &ModelInfo) -> Self {
        Self {
            name: model.name.clone(),
            fingerprint: hex(&model.identity.fingerprint()),
            layers: model.config.num_hidden_layers,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The fields of several JSON objects in one: flags, and what else decides the figures of a run.
pub(crate) fn merged(objects: impl IntoIterator<Item = Value>) -> Value {
    let fields = objects.into_iter().flat_map(|object| match object {
        Value::Object(fields) => fields,
        _ => Map::new(),
    });
    Value::Object(fields.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_begins_with_the_head_and_ends_with_the_body() {
        let model = RunModel {
            name: "tiny".to_owned(),
            fingerprint: hex(&[0, 255, 16]),
            layers: 2,
        };
        let header = RunHeader::new(RunKind::Decay, &json!({"n": 1}), "cpu", model, 3).unwrap();
        let text = serde_json::to_string(&header.summary(json!({"rows": [1]}))).unwrap();
        let expected = concat!(
            r#"{"kind":"decay","version":1,"config":{"n":1},"device":"cpu","#,
            r#""model":{"name":"tiny","fingerprint":"00ff10","layers":2},"rows":[1]}"#,
        );
        assert_eq!(text, expected);
        assert!(header.command.starts_with("ragweave-eval"));
    }

    #[test]
    fn a_kind_is_printed_as_it_is_written() {
        for kind in [
            RunKind::Quality,
            RunKind::Ttft,
            RunKind::Load,
            RunKind::Decay,
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.to_string());
        }
    }
}
