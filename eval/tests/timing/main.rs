//! `ragweave-eval ttft`, `load` and `decay` with a tiny model of random weights: what they write,
//! that an interrupted run is completed and not begun again, and what they refuse. No test looks
//! at how long anything took.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod decay;
mod load;
mod site;
#[path = "../support/mod.rs"]
mod support;
mod ttft;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The lines of a run's log.
fn log(out: &Path) -> Vec<Value> {
    let text = fs_err::read_to_string(out.join("run.jsonl")).unwrap();
    let parse = |line: &str| serde_json::from_str(line).unwrap();
    text.lines().map(parse).collect()
}

/// The summary of a run, which must be what `--json` printed.
#[track_caller]
fn expect_summary(out: &Path, printed: &Value, kind: &str) -> Vec<Value> {
    let text = fs_err::read_to_string(out.join("summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(&summary, printed);
    assert_eq!(
        (&summary["kind"], &summary["version"]),
        (&kind.into(), &1.into())
    );
    assert_eq!(summary["model"]["fingerprint"].as_str().unwrap().len(), 64);
    assert_eq!(summary["device"], "cpu");
    let header = &log(out)[0];
    for field in ["kind", "version", "config", "model", "device"] {
        assert_eq!(header[field], summary[field], "{field}");
    }
    summary["rows"].as_array().unwrap().clone()
}

/// Leaves of a run its header, its first `n` items and half of the next one.
fn cut_off(out: &Path, n: usize) {
    let path = out.join("run.jsonl");
    let text = fs_err::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let (torn, _) = lines[n + 1].split_at(lines[n + 1].len() / 2);
    fs_err::write(&path, format!("{}\n{torn}", lines[..=n].join("\n"))).unwrap();
    fs_err::remove_file(out.join("summary.json")).unwrap();
}

/// The value of a field in every row.
fn column(rows: &[Value], field: &str) -> Vec<Value> {
    rows.iter().map(|row| row[field].clone()).collect()
}

/// The command with the values of some of its flags replaced.
fn replaced(command: Command, flags: &[&str]) -> Command {
    let mut args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    for pair in flags.chunks(2) {
        let place = args.iter().position(|arg| arg == pair[0]).unwrap();
        args[place + 1] = pair[1].into();
    }
    let mut replaced = support::ragweave_eval();
    replaced.args(args);
    replaced
}
