//! Where a dataset comes from, as `--dataset` names it, and opening it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::{Dataset, json, jsonl, longbench, musique};

/// A dataset named by `FILE` or `FORMAT:FILE`. Datasets that are made and not read are further
/// variants, named in `from_str` and opened in [`open`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    File {
        /// Told from the content where it is not given.
        format: Option<Format>,
        path: PathBuf,
    },
}

/// How a file of questions is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `{question, answers, documents}` per line.
    Jsonl,
    /// A list of `{question, answers, ctxs}`, as the CacheBlend paper's scripts read.
    Musique,
    /// `{input, context, answers, dataset}` per line.
    Longbench,
}

/// A prefix that names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown dataset format `{name}`: known are {}, written FORMAT:FILE; a file whose name holds a \
     colon is written ./NAME",
    known()
)]
pub struct UnknownFormat {
    pub name: String,
}

/// Opens the dataset `spec` names and reads up to `limit` of its examples; lines behind them are
/// not looked at.
///
/// # Errors
/// An unknown format lists the known ones. A file that cannot be read, or is of no known format,
/// or holds no example is named, with the first problems.
pub fn open(spec: &str, limit: Option<usize>) -> anyhow::Result<Dataset> {
    ensure!(limit != Some(0), "a limit of 0 leaves no question to ask");
    match spec.parse()? {
        Source::File { format, path } => read_file(format, &path, limit)
            .with_context(|| format!("read dataset {}", path.display())),
    }
}

fn read_file(format: Option<Format>, path: &Path, limit: Option<usize>) -> anyhow::Result<Dataset> {
    let bytes = fs_err::read(path)
        .with_context(|| format!("a dataset is FILE or FORMAT:FILE with FORMAT {}", known()))?;
    let Some(format) = format.or_else(|| detect(&bytes)) else {
        bail!(
            "its format cannot be told from its content; name it: FORMAT:{} with FORMAT {}",
            path.display(),
            known()
        );
    };
    match format {
        Format::Jsonl => jsonl::read(&bytes, path, limit),
        Format::Musique => musique::read(&bytes, path, limit),
        Format::Longbench => longbench::read(&bytes, path, limit),
    }
}

/// A list is MuSiQue's; lines are told apart by the fields of the first that has any.
fn detect(bytes: &[u8]) -> Option<Format> {
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Some(Format::Musique);
    }
    json::lines(bytes).find_map(|(_, line)| {
        let line: Value = serde_json::from_slice(line).ok()?;
        let has = |field: &str| line.get(field).is_some();
        let is_longbench = has("input") && has("context");
        let longbench = is_longbench.then_some(Format::Longbench);
        has("documents").then_some(Format::Jsonl).or(longbench)
    })
}

impl Format {
    pub const ALL: [Self; 3] = [Self::Jsonl, Self::Musique, Self::Longbench];

    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Musique => "musique",
            Self::Longbench => "longbench",
        }
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL.into_iter().find(|format| format.name() == name);
        found.ok_or_else(|| UnknownFormat {
            name: name.to_owned(),
        })
    }
}

impl FromStr for Source {
    type Err = UnknownFormat;

    /// What stands before the first colon is a format, unless it is the start of a path.
    fn from_str(spec: &str) -> Result<Self, UnknownFormat> {
        let (format, path) = match spec.split_once(':') {
            Some((format, path)) if !format.contains(['/', '\\', '.']) => {
                (Some(format.parse()?), path)
            }
            _ => (None, spec),
        };
        Ok(Self::File {
            format,
            path: PathBuf::from(path),
        })
    }
}

fn known() -> String {
    Format::ALL.map(Format::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"{"question": "Who?", "answers": ["Tor"], "documents": ["One."]}"#;
    const LONGBENCH: &str = r#"{"input": "Who?", "context": "One.", "answers": ["Tor"],
        "dataset": "hotpotqa", "_id": "a"}"#;
    const MUSIQUE: &str =
        r#" [{"question": "Who?", "answers": ["Tor"], "ctxs": [{"title": "", "text": "One."}]}]"#;

    fn open_text(format: &str, text: &str) -> anyhow::Result<Dataset> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), text).unwrap();
        open(&format!("{format}{}", file.path().display()), Some(3))
    }

    #[test]
    fn the_format_of_a_file_is_told_from_its_content() {
        let longbench = LONGBENCH.replace('\n', " ");
        for text in [PLAIN, MUSIQUE, &longbench] {
            for noise in ["", "\n"] {
                let dataset = open_text("", &format!("{noise}{text}")).unwrap();
                assert_eq!(dataset.examples[0].documents, ["One."]);
                assert_eq!(dataset.examples[0].question, "Who?");
            }
        }
        // A bad line first.
        assert_eq!(
            open_text("", &format!("{{\n{PLAIN}"))
                .unwrap()
                .skipped
                .len(),
            1
        );
    }

    #[test]
    fn a_format_may_be_named() {
        assert_eq!(open_text("jsonl:", PLAIN).unwrap().examples.len(), 1);
        let error = format!("{:#}", open_text("longbench:", PLAIN).unwrap_err());
        assert!(error.contains("missing field `input`"), "{error}");
    }

    #[test]
    fn an_unknown_format_is_answered_with_the_known_ones() {
        let error = open("squad:dev.json", None).unwrap_err().to_string();
        assert!(
            error.contains("`squad`: known are jsonl, musique, longbench"),
            "{error}"
        );
        let file = |path: &str| Source::File {
            format: None,
            path: PathBuf::from(path),
        };
        assert_eq!("./a:b".parse(), Ok(file("./a:b")));
        assert_eq!("dir/a:b".parse(), Ok(file("dir/a:b")));
        assert_eq!("demo".parse(), Ok(file("demo")));
    }

    #[test]
    fn errors_name_the_file_and_what_is_wrong() {
        let error = format!("{:#}", open("nowhere.jsonl", None).unwrap_err());
        assert!(
            error.contains("nowhere.jsonl") && error.contains("FORMAT:FILE"),
            "{error}"
        );
        for (text, reason) in [
            ("", "cannot be told from its content"),
            ("what\nis this", "cannot be told from its content"),
            ("{\"documents\": 1}", "line 1: column 15: invalid type"),
            ("[3]", "line 1: invalid type: integer `3`"),
        ] {
            let error = format!("{:#}", open_text("", text).unwrap_err());
            assert!(error.starts_with("read dataset /"), "{error}");
            assert!(error.contains(reason), "{error}");
        }
        let error = open("nowhere.jsonl", Some(0)).unwrap_err().to_string();
        assert!(error.contains("limit of 0"), "{error}");
    }
}
