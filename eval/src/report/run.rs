//! Reads run directories: the first line of `run.jsonl`, `summary.json`, and a quality run's
//! `times.json`. A value that a run lacks is absent; a wrong one is an error that names its place.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::quality::heat_map::HeatMap;
use crate::quality::summary::Report as Quality;
use crate::quality::times::Times;
use crate::run_dir::{RunHeader, VERSION};
use crate::{decay, load, ttft};

/// A run directory as the report sees it.
#[derive(Debug)]
pub(crate) struct Run {
    /// The directory's name, made unique among the runs of a report.
    pub(crate) name: String,
    /// Of a kind that this build may not know.
    pub(crate) header: RunHeader<String>,
    pub(crate) content: Content,
}

/// What a run measured.
#[derive(Debug)]
pub(crate) enum Content {
    Quality(Box<Quality>, Option<Times>),
    Ttft(ttft::report::Report),
    Load(load::report::Report),
    Decay(decay::report::Report),
    /// A kind this build does not know.
    Unknown,
    /// No `summary.json`: the run was interrupted or is still going.
    Unfinished,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Reads the runs in the order given.
///
/// # Errors
/// Names the file, and the line and field where they are known.
pub(crate) fn read_runs(dirs: &[PathBuf]) -> anyhow::Result<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::with_capacity(dirs.len());
    for dir in dirs {
        let mut run = read_run(dir)?;
        let base = run.name.clone();
        let mut number = 2;
        while runs.iter().any(|other| other.name == run.name) {
            run.name = format!("{base} ({number})");
            number += 1;
        }
        runs.push(run);
    }
    Ok(runs)
}

fn read_run(dir: &Path) -> anyhow::Result<Run> {
    let header = read_header(dir)?;
    let content = match dir.join("summary.json") {
        path if path.exists() => read_content(dir, &path, &header.kind)?,
        _ => Content::Unfinished,
    };
    Ok(Run {
        name: name_of(dir),
        header,
        content,
    })
}

/// The last component that is a name; `.` and `..` are resolved first.
fn name_of(dir: &Path) -> String {
    let resolved = fs_err::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    match resolved.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => resolved.display().to_string(),
    }
}

fn read_header(dir: &Path) -> anyhow::Result<RunHeader<String>> {
    let path = dir.join("run.jsonl");
    let text = fs_err::read_to_string(&path).context(
        "a run is a directory that `ragweave-eval quality`, `ttft`, `load` or `decay` wrote with \
         --out",
    )?;
    let Some(line) = text.lines().next().filter(|line| !line.trim().is_empty()) else {
        bail!("{}: line 1: the run's first line is empty", path.display());
    };
    let header: RunHeader<String> = parse(&path, line)?;
    check_version(&path, header.version)?;
    Ok(header)
}

fn read_content(dir: &Path, path: &Path, kind: &str) -> anyhow::Result<Content> {
    let text = fs_err::read_to_string(path)?;
    let versioned: Versioned = parse(path, &text)?;
    check_version(path, versioned.version)?;
    Ok(match kind {
        "quality" => {
            let quality: Quality = parse(path, &text)?;
            let map = quality.heatmap.as_ref();
            map.map_or(Ok(()), HeatMap::check)
                .with_context(|| format!("{}", path.display()))?;
            Content::Quality(Box::new(quality), read_times(&dir.join("times.json"))?)
        }
        "ttft" => Content::Ttft(parse(path, &text)?),
        "load" => Content::Load(parse(path, &text)?),
        "decay" => Content::Decay(parse(path, &text)?),
        _ => Content::Unknown,
    })
}

fn read_times(path: &Path) -> anyhow::Result<Option<Times>> {
    match path.exists() {
        true => Ok(Some(parse(path, &fs_err::read_to_string(path)?)?)),
        false => Ok(None),
    }
}

fn check_version(path: &Path, version: u32) -> anyhow::Result<()> {
    ensure!(
        version == VERSION,
        "{}: field `version` is {version}; this build reads version {VERSION}",
        path.display()
    );
    Ok(())
}

/// Parses JSON; an error names the line and the field.
fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> anyhow::Result<T> {
    let text = with_nulls(text);
    let mut reader = serde_json::Deserializer::from_str(&text);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| malformed(&error.path().to_string(), error.inner()))
        .and_then(|value| {
            let end = reader.end().map_err(|error| malformed(".", &error));
            end.map(|()| value)
        });
    value.with_context(|| format!("{}", path.display()))
}

/// Some writers of JSON write words for numbers that it cannot hold. They count as not measured: each
/// becomes a null, padded to the length of the word so that errors name the right column.
fn with_nulls(text: &str) -> String {
    let mut text = text.to_owned();
    for word in ["NaN", "inf", "-inf", "Infinity", "-Infinity"] {
        for colon in [":", ": "] {
            let null = format!("{:width$}", "null", width = word.len() + 2);
            text = text.replace(&format!("{colon}\"{word}\""), &format!("{colon}{null}"));
        }
    }
    text
}

/// serde_json's error with the place first; in its own message the place comes last.
fn malformed(field: &str, error: &serde_json::Error) -> anyhow::Error {
    let message = error.to_string();
    let problem = message.split(" at line ").next().unwrap_or(&message);
    let field = match field {
        "." => String::new(),
        field => format!("field `{field}`: "),
    };
    let (line, column) = (error.line(), error.column());
    anyhow!("line {line}, column {column}: {field}{problem}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::row::{Interval, Row};

    fn read(field: &str, value: &str) -> anyhow::Result<Row> {
        let text = format!(r#"{{"dataset": "d", "policy": "full", "{field}": {value}}}"#);
        parse(Path::new("summary.json"), &text)
    }

    #[test]
    fn what_is_not_finite_is_absent_and_other_text_is_refused() {
        assert_eq!(read("kl", "0.5").unwrap().kl, Some(0.5));
        for absent in ["null", "\"NaN\"", "\"-inf\"", "\"Infinity\""] {
            assert_eq!(read("kl", absent).unwrap().kl, None, "{absent}");
        }
        for bad in ["\"0.5\"", "\"high\"", "true", "[1]"] {
            assert!(read("kl", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn intervals_need_both_ends() {
        let interval = |text: &str| read("kl_ci", text).map(|row| row.kl_ci);
        assert_eq!(interval("[0.1, 0.2]").unwrap(), Interval(Some((0.1, 0.2))));
        assert_eq!(interval("[0.1, null]").unwrap(), Interval(None));
        assert_eq!(interval("null").unwrap(), Interval(None));
        assert!(interval("[0.1]").is_err());
    }
}
