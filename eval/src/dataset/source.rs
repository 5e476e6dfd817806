//! Where a dataset comes from, as `--dataset` names it, and opening it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use strum::{EnumString, VariantNames};

use super::ruler::{RulerTask, UnknownRulerTask};
use super::{Dataset, demo_world, json, jsonl, longbench, musique, ruler};

/// A dataset as `--dataset` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `demo`: questions of the demo model's kind, over worlds of each of the seeds.
    Demo,
    /// `ruler:TASK@TOKENS`: a task with a context of about so many tokens.
    Ruler { task: RulerTask, tokens: usize },
    File {
        /// Told from the content where it is not given.
        format: Option<Format>,
        path: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase", parse_err_ty = UnknownDataset, parse_err_fn = unknown_format)]
pub enum Format {
    /// `{question, answers, documents}` per line.
    Jsonl,
    /// A list of `{question, answers, ctxs}`, as the CacheBlend paper's scripts read.
    Musique,
    /// `{input, context, answers, dataset}` per line.
    Longbench,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownDataset {
    #[error(
        "unknown dataset format `{name}`: known are {}, written FORMAT:FILE, and demo and \
         ruler:TASK@TOKENS, which are made; a file whose name holds a colon is written ./NAME",
        known()
    )]
    Format { name: String },
    #[error(transparent)]
    RulerTask(#[from] UnknownRulerTask),
    #[error("`{length}` is not a length in tokens; write for example ruler:multikey@4096")]
    RulerLength { length: String },
}

/// What datasets that are made, and not read, are made from.
pub struct Making<'a> {
    /// Worlds of the demo, one set for each; RULER tasks take the first.
    pub seeds: &'a [u64],
    /// Tokens of a text, without special ones.
    pub count_tokens: &'a dyn Fn(&str) -> usize,
}

const DEFAULT_MADE: usize = 100;

/// Opens the dataset `spec` names and takes up to `limit` of its examples (of the demo: for each
/// seed); lines of a file after them are not read.
///
/// # Errors
/// An unknown format or task lists the known ones. A file that cannot be read, or is of no known
/// format, or holds no example is named, with the first problems.
pub fn open(spec: &str, limit: Option<usize>, making: &Making<'_>) -> anyhow::Result<Dataset> {
    ensure!(limit != Some(0), "a limit of 0 leaves no question to ask");
    let n = limit.unwrap_or(DEFAULT_MADE);
    match spec.parse()? {
        Source::File { format, path } => read_file(format, &path, limit)
            .with_context(|| format!("read dataset {}", path.display())),
        Source::Demo => demo(making.seeds, n),
        Source::Ruler { task, tokens } => {
            let seed = making.seeds.first().copied().unwrap_or_default();
            Ok(ruler::generate(task, tokens, n, seed, making.count_tokens))
        }
    }
}

/// The worlds of all seeds as one dataset; ids tell them apart.
fn demo(seeds: &[u64], n: usize) -> anyhow::Result<Dataset> {
    let of_seed = |&seed: &u64| {
        let mut dataset = demo_world::generate(seed, n);
        for example in &mut dataset.examples {
            example.id = format!("{seed}/{}", example.id);
        }
        dataset
    };
    let all = seeds.iter().map(of_seed).reduce(|mut all, next| {
        all.examples.extend(next.examples);
        all
    });
    all.context("the demo dataset needs at least one seed")
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

fn unknown_format(name: &str) -> UnknownDataset {
    let name = name.to_owned();
    UnknownDataset::Format { name }
}

impl FromStr for Source {
    type Err = UnknownDataset;

    /// What comes before the first colon is a format, unless it is the start of a path.
    fn from_str(spec: &str) -> Result<Self, UnknownDataset> {
        if spec == "demo" {
            return Ok(Self::Demo);
        }
        if let Some(task) = spec.strip_prefix("ruler:") {
            return parse_ruler(task);
        }
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

fn parse_ruler(text: &str) -> Result<Source, UnknownDataset> {
    let (task, length) = text.split_once('@').unwrap_or((text, ""));
    let task = task.parse()?;
    match length.parse() {
        Ok(tokens) if tokens > 0 => Ok(Source::Ruler { task, tokens }),
        _ => Err(UnknownDataset::RulerLength {
            length: length.to_owned(),
        }),
    }
}

fn known() -> String {
    Format::VARIANTS.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"{"question": "Who?", "answers": ["Tor"], "documents": ["One."]}"#;
    const LONGBENCH: &str = r#"{"input": "Who?", "context": "One.", "answers": ["Tor"],
        "dataset": "hotpotqa", "_id": "a"}"#;
    const MUSIQUE: &str =
        r#" [{"question": "Who?", "answers": ["Tor"], "ctxs": [{"title": "", "text": "One."}]}]"#;

    /// One token for each word.
    const MAKING: Making<'_> = Making {
        seeds: &[3, 4],
        count_tokens: &|text| text.split_whitespace().count(),
    };

    fn open(spec: &str, limit: Option<usize>) -> anyhow::Result<Dataset> {
        super::open(spec, limit, &MAKING)
    }

    #[test]
    fn the_demo_has_its_questions_of_every_seed() {
        let dataset = open("demo", Some(5)).unwrap();
        assert_eq!(
            (dataset.name.as_str(), dataset.examples.len()),
            ("demo", 10)
        );
        let of_seed = |seed: &str| {
            dataset
                .examples
                .iter()
                .filter(|e| e.id.starts_with(seed))
                .count()
        };
        assert_eq!((of_seed("3/"), of_seed("4/")), (5, 5));
    }

    #[test]
    fn a_ruler_task_has_a_length() {
        let dataset = open("ruler:vt@300", Some(2)).unwrap();
        assert_eq!(
            (dataset.name.as_str(), dataset.examples.len()),
            ("ruler-vt-300", 2)
        );
        for (spec, reason) in [
            ("ruler:vt", "`` is not a length"),
            ("ruler:vt@0", "`0` is not a length"),
            ("ruler:sort@10", "known are multikey"),
        ] {
            let error = open(spec, None).unwrap_err().to_string();
            assert!(error.contains(reason), "{spec}: {error}");
        }
    }

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
        assert_eq!("./demo".parse(), Ok(file("./demo")));
        assert_eq!("demo".parse(), Ok(Source::Demo));
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
            ("[3]", "line 1: it is not an object"),
        ] {
            let error = format!("{:#}", open_text("", text).unwrap_err());
            assert!(error.starts_with("read dataset /"), "{error}");
            assert!(error.contains(reason), "{error}");
        }
        let error = open("nowhere.jsonl", Some(0)).unwrap_err().to_string();
        assert!(error.contains("limit of 0"), "{error}");
    }
}
