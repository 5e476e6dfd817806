//! The directory a measurement writes: `run.jsonl` (first line: what was measured on what; then
//! one JSON object per measured item, written as soon as it is measured) and files that sum it up.
//! An interrupted run continues after its last whole line.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use fs_err::{File, OpenOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::experiment;

mod commit;
mod difference;
mod header;

pub(crate) use header::{RunHeader, RunKind, RunModel, VERSION, merged};

use difference::first_difference;

const LOG: &str = "run.jsonl";
/// Parent of the run directories that are not named by `--out`.
const DEFAULT_PARENT: &str = "runs";

/// Where a run is kept, and how it is printed.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RunArgs {
    /// Directory to write to; one that holds a part of the same run is completed
    /// [default: runs/<command>-<unix seconds>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The summary as one JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl RunArgs {
    pub(crate) fn open<T: DeserializeOwned>(
        &self,
        header: RunHeader,
    ) -> anyhow::Result<(RunDir, Vec<T>)> {
        RunDir::open_or_resume(self.out.as_deref(), header)
    }
}

#[derive(Debug)]
pub(crate) struct RunDir {
    header: RunHeader,
    path: PathBuf,
    log: File,
}

impl RunDir {
    /// Starts a run in `out`, or in `runs/<kind>-<unix seconds>`.
    fn create(out: Option<&Path>, header: RunHeader) -> anyhow::Result<Self> {
        let path = out.map_or_else(|| default_path(header.kind), Path::to_owned);
        if path.join(LOG).exists() {
            bail!(
                "--out {}: holds a run already; choose another --out, or delete it",
                path.display()
            );
        }
        fs_err::create_dir_all(&path).context("make the directory of --out")?;
        // Renamed into place, so that a log without its whole header never exists.
        let line = serde_json::to_string(&header)? + "\n";
        replace(&path, LOG, line.as_bytes())?;
        Self::append_to(path, header)
    }

    /// Starts a run as [`RunDir::create`] does, or continues the one in `out` if its header is the
    /// same, command line and commit aside: anything else is an error that names the field. Returns
    /// the items that are already there; a last line that was cut off is dropped.
    fn open_or_resume<T: DeserializeOwned>(
        out: Option<&Path>,
        header: RunHeader,
    ) -> anyhow::Result<(Self, Vec<T>)> {
        let Some(path) = out.filter(|path| path.join(LOG).exists()) else {
            return Ok((Self::create(out, header)?, Vec::new()));
        };
        let log = path.join(LOG);
        let bytes = fs_err::read(&log)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n');
        let (whole, torn) = bytes.split_at(whole.map_or(0, |end| end + 1));
        let mut lines = parse_lines(&log, whole)?.into_iter();
        let found = lines
            .next()
            .with_context(|| format!("{}: has no header line; delete it", log.display()))?;
        // Through text, like the header that was found, so that the numbers of both are rounded alike.
        let wanted = serde_json::from_str(&serde_json::to_string(&header)?)?;
        expect_same(path, &found, &wanted)?;
        let items = parse_items(path, header.kind, lines)?;
        if !torn.is_empty() {
            tracing::warn!(file = %log.display(), "dropping the last line, which was cut off");
            let file = OpenOptions::new().write(true).open(&log)?;
            file.set_len(whole.len() as u64)?;
        }
        tracing::info!(out = %path.display(), items = items.len(), "continuing a run");
        Ok((Self::append_to(path.to_owned(), header)?, items))
    }

    fn append_to(path: PathBuf, header: RunHeader) -> anyhow::Result<Self> {
        let log = OpenOptions::new().append(true).open(path.join(LOG))?;
        Ok(Self { header, path, log })
    }

    /// Adds one item; once this returns, it survives a crash of the process. A line cut off by a failed
    /// write is dropped at resume.
    pub(crate) fn append(&mut self, item: &impl Serialize) -> anyhow::Result<()> {
        let line = serde_json::to_string(item)? + "\n";
        self.log.write_all(line.as_bytes())?;
        Ok(())
    }

    /// Writes or replaces a file that sums the run up: all of it or nothing, indented.
    pub(crate) fn write(&self, name: &str, value: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(value)? + "\n";
        replace(&self.path, name, text.as_bytes())
    }

    /// Writes the summary and prints it, as JSON or as `text`.
    pub(crate) fn finish(
        &self,
        args: &RunArgs,
        report: &impl Serialize,
        text: impl fmt::Display,
    ) -> anyhow::Result<()> {
        let summary = self.header.summary(report);
        self.write("summary.json", &summary)?;
        let text = format!("{text}\n\nwritten to {}", self.path.display());
        experiment::print(&summary, text, args.json)
    }
}

fn default_path(kind: RunKind) -> PathBuf {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since_epoch.map_or(0, |elapsed| elapsed.as_secs());
    Path::new(DEFAULT_PARENT).join(format!("{kind}-{seconds}"))
}

/// Writes beside the file, syncs and renames: a power cut leaves the old file or the new one.
pub(crate) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let beside = dir.join(format!("{name}.tmp"));
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs_err::rename(&beside, dir.join(name))?;
    Ok(())
}

fn parse_lines(log: &Path, bytes: &[u8]) -> anyhow::Result<Vec<Value>> {
    let lines = bytes.split(|&byte| byte == b'\n');
    let numbered = (1..).zip(lines).filter(|(_, line)| !line.is_empty());
    let parse = |(number, line): (usize, &[u8])| {
        serde_json::from_slice(line).with_context(|| {
            format!(
                "{}:{number}: not JSON; choose another --out, or delete the directory",
                log.display()
            )
        })
    };
    numbered.map(parse).collect()
}

fn parse_items<T: DeserializeOwned>(
    path: &Path,
    kind: RunKind,
    lines: impl Iterator<Item = Value>,
) -> anyhow::Result<Vec<T>> {
    let items: Result<_, _> = lines.map(serde_json::from_value).collect();
    items.with_context(|| {
        format!(
            "--out {}: run.jsonl has an item that this version does not write in a {kind} run; choose \
             another --out, or delete it",
            path.display()
        )
    })
}

fn expect_same(path: &Path, found: &Value, wanted: &Value) -> anyhow::Result<()> {
    match first_difference(found, wanted) {
        None => Ok(()),
        Some(difference) => bail!(
            "--out {}: holds another run, {difference}; choose another --out, or delete it",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    fn header(config: Value) -> RunHeader {
        RunHeader {
            kind: RunKind::Load,
            version: 1,
            command: "ragweave-eval load".to_owned(),
            config,
            commit: None,
            device: "cpu".to_owned(),
            model: RunModel {
                name: "tiny".to_owned(),
                fingerprint: "00ff".to_owned(),
                layers: 4,
            },
            seed: 7,
        }
    }

    /// A run of two items in a directory that goes with it.
    fn run_of_two() -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("deep/run");
        let mut run = RunDir::create(Some(&out), header(json!({"n": 1}))).unwrap();
        run.append(&json!({"item": 1})).unwrap();
        run.append(&json!({"item": 2})).unwrap();
        (dir, out)
    }

    fn resume(out: &Path, header: RunHeader) -> anyhow::Result<(RunDir, Vec<Value>)> {
        RunDir::open_or_resume(Some(out), header)
    }

    fn log(out: &Path) -> String {
        fs_err::read_to_string(out.join(LOG)).unwrap()
    }

    #[test]
    fn the_log_is_the_header_and_a_line_per_item() {
        let (_dir, out) = run_of_two();
        let expected = concat!(
            r#"{"kind":"load","version":1,"command":"ragweave-eval load","config":{"n":1},"#,
            r#""commit":null,"device":"cpu","#,
            r#""model":{"name":"tiny","fingerprint":"00ff","layers":4},"seed":7}"#,
            "\n{\"item\":1}\n{\"item\":2}\n",
        );
        assert_eq!(log(&out), expected);
        let files = fs_err::read_dir(&out).unwrap().count();
        assert_eq!(files, 1, "nothing is left of the rename");
    }

    #[test]
    fn a_summary_is_indented_ends_its_line_and_is_replaced_whole() {
        let (_dir, out) = run_of_two();
        let (run, _) = resume(&out, header(json!({"n": 1}))).unwrap();
        run.write("summary.json", &json!({"rows": [1, 2, 3]}))
            .unwrap();
        run.write("summary.json", &json!({"rows": []})).unwrap();
        let text = fs_err::read_to_string(out.join("summary.json")).unwrap();
        assert_eq!(text, "{\n  \"rows\": []\n}\n");
    }

    #[test]
    fn a_run_goes_on_where_it_was_cut_off() {
        let (_dir, out) = run_of_two();
        let whole = log(&out);
        fs_err::write(out.join(LOG), whole.clone() + "{\"item\": 3").unwrap();
        let again = RunHeader {
            commit: Some("abc".to_owned()),
            command: "another line".to_owned(),
            ..header(json!({"n": 1}))
        };
        let (mut run, items) = resume(&out, again).unwrap();
        assert_eq!(items, [json!({"item": 1}), json!({"item": 2})]);
        run.append(&json!({"item": 4})).unwrap();
        assert_eq!(log(&out), whole + "{\"item\":4}\n");
    }

    #[test]
    fn another_configuration_is_refused_with_the_field() {
        let (_dir, out) = run_of_two();
        let before = log(&out);
        let error = resume(&out, header(json!({"n": 2}))).unwrap_err();
        let error = error.to_string();
        for part in ["--out", "`config.n` is 1 there and 2 now", "delete it"] {
            assert!(error.contains(part), "{error}");
        }
        let other_seed = RunHeader {
            seed: 8,
            ..header(json!({"n": 1}))
        };
        let error = resume(&out, other_seed).unwrap_err();
        assert!(error.to_string().contains("`seed` is 7 there and 8 now"));
        assert_eq!(log(&out), before, "a refused run stays as it is");
    }

    #[test]
    fn damage_before_the_end_and_a_second_create_are_errors() {
        let (_dir, out) = run_of_two();
        let error = RunDir::create(Some(&out), header(json!({}))).unwrap_err();
        assert!(error.to_string().contains("holds a run already"));
        let broken = log(&out).replace("{\"item\":1}", "{\"item\":");
        fs_err::write(out.join(LOG), broken).unwrap();
        let error = resume(&out, header(json!({"n": 1}))).unwrap_err();
        assert!(error.to_string().contains("run.jsonl:2: not JSON"));
    }

    #[test]
    fn an_unnamed_run_gets_its_kind_and_the_time() {
        let path = default_path(RunKind::Ttft);
        let name = path.file_name().unwrap().to_str().unwrap();
        let seconds: u64 = name.strip_prefix("ttft-").unwrap().parse().unwrap();
        assert!(path.starts_with("runs") && seconds > 0);
    }

    #[test]
    fn a_foreign_item_names_the_directory() {
        #[derive(Debug, serde::Deserialize)]
        struct Round {
            #[expect(dead_code, reason = "only its name matters")]
            context_tokens: usize,
        }
        let lines = [json!({"rate": 1})].into_iter();
        let read = parse_items::<Round>("runs/a".as_ref(), RunKind::Ttft, lines);
        let error = format!("{:#}", read.unwrap_err());
        for part in ["runs/a", "ttft run", "context_tokens"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
