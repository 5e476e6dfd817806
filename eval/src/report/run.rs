//! Reads run directories: the first line of `run.jsonl`, `summary.json`, and a quality run's
//! `times.json`. What a run lacks is absent; what it has wrong is an error that names the place.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::record::{
    Decay, Header, LoadRow, Quality, QualityTimes, SUPPORTED_VERSION, TtftRow, Versioned,
};

/// A run directory as the report sees it.
#[derive(Debug)]
pub(crate) struct Run {
    /// The directory's name, made unique among the runs of a report.
    pub(crate) name: String,
    pub(crate) header: Header,
    pub(crate) content: Content,
}

/// What a run measured.
#[derive(Debug)]
pub(crate) enum Content {
    Quality(Box<Quality>, Option<QualityTimes>),
    Ttft(Vec<TtftRow>),
    Load(Vec<LoadRow>),
    Decay(Decay),
    /// A kind this build does not know.
    Unknown,
    /// No `summary.json`: the run was interrupted or is still going.
    Unfinished,
}

/// The `rows` of a summary.
#[derive(Deserialize)]
struct Rows<T> {
    rows: Vec<T>,
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

fn read_header(dir: &Path) -> anyhow::Result<Header> {
    let path = dir.join("run.jsonl");
    let text = fs_err::read_to_string(&path).context(
        "a run is a directory that `ragweave-eval quality`, `ttft`, `load` or `decay` wrote with \
         --out",
    )?;
    let Some(line) = text.lines().next().filter(|line| !line.trim().is_empty()) else {
        bail!("{}: line 1: the run's first line is empty", path.display());
    };
    let header: Header = parse(&path, line)?;
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
            quality
                .check()
                .with_context(|| format!("{}", path.display()))?;
            Content::Quality(Box::new(quality), read_times(&dir.join("times.json"))?)
        }
        "ttft" => Content::Ttft(read_rows(path, &text)?),
        "load" => Content::Load(read_rows(path, &text)?),
        "decay" => Content::Decay(parse(path, &text)?),
        _ => Content::Unknown,
    })
}

fn read_times(path: &Path) -> anyhow::Result<Option<QualityTimes>> {
    match path.exists() {
        true => Ok(Some(parse(path, &fs_err::read_to_string(path)?)?)),
        false => Ok(None),
    }
}

fn read_rows<T: DeserializeOwned>(path: &Path, text: &str) -> anyhow::Result<Vec<T>> {
    parse::<Rows<T>>(path, text).map(|summary| summary.rows)
}

fn check_version(path: &Path, version: u64) -> anyhow::Result<()> {
    ensure!(
        version == SUPPORTED_VERSION,
        "{}: field `version` is {version}; this build reads version {SUPPORTED_VERSION}",
        path.display()
    );
    Ok(())
}

/// Parses JSON, and says in which line and field it is not what it should be.
fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> anyhow::Result<T> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| Malformed::new(&error.path().to_string(), error.inner()));
    let value = value.and_then(|value| {
        let end = reader.end().map_err(|error| Malformed::new(".", &error));
        end.map(|()| value)
    });
    value.with_context(|| format!("{}", path.display()))
}

/// Where JSON is not what a run holds.
#[derive(Debug)]
struct Malformed {
    line: usize,
    column: usize,
    field: Option<String>,
    problem: String,
}

impl Malformed {
    fn new(field: &str, error: &serde_json::Error) -> Self {
        let message = error.to_string();
        // The place stands at the end of serde_json's message; it is told first here.
        let problem = message.split(" at line ").next().unwrap_or(&message);
        Self {
            line: error.line(),
            column: error.column(),
            field: (field != ".").then(|| field.to_owned()),
            problem: problem.to_owned(),
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if let Some(field) = &self.field {
            write!(f, "field `{field}`: ")?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Malformed {}
