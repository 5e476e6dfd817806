//! `ragweave-eval report` on small run directories: what the pages hold, and what is refused.
//! The quality fixture carries markup in every text a run may hold, nulls and a "NaN".

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Outcome, checkout, ragweave_eval};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    checkout("eval/tests/fixtures/report").join(name)
}

fn report(runs: &[PathBuf], out: &Path) -> Outcome {
    let mut command = ragweave_eval();
    Outcome::of(command.arg("report").args(runs).arg("--out").arg(out))
}

/// The HTML and the Markdown of these runs.
#[track_caller]
fn pages(runs: &[PathBuf]) -> (String, String) {
    let out = TempDir::new().unwrap();
    let outcome = report(runs, out.path());
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    let page = |name: &str| {
        let path = out.path().join(name);
        assert!(
            outcome.stdout.contains(path.to_str().unwrap()),
            "{outcome:#?}"
        );
        fs_err::read_to_string(path).unwrap()
    };
    (page("report.html"), page("report.md"))
}

fn all_fixtures() -> Vec<PathBuf> {
    ["quality", "ttft", "load", "decay"].map(fixture).to_vec()
}

fn summary(name: &str) -> Value {
    let text = fs_err::read_to_string(fixture(name).join("summary.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What stands between the section's opening tag and its end.
fn section<'a>(html: &'a str, id: &str) -> &'a str {
    let start = html
        .split_once(&format!("<section id=\"{id}\">"))
        .unwrap()
        .1;
    start.split_once("</section>").unwrap().0
}

/// A run whose files are these.
fn run_of(header: &str, summary: Option<&str>) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs_err::write(dir.path().join("run.jsonl"), header).unwrap();
    if let Some(summary) = summary {
        fs_err::write(dir.path().join("summary.json"), summary).unwrap();
    }
    dir
}

const HEADER: &str = r#"{"kind": "quality", "version": 1}"#;

#[test]
fn each_policy_is_named_once_in_the_legends_of_its_dataset() {
    let (html, _) = pages(&all_fixtures());
    let by_ratio = section(&html, "by-ratio");
    let charts = by_ratio.split("<h3>").nth(1).unwrap();
    let legends: String = charts
        .split("<ul class=\"legend\">")
        .skip(1)
        .map(|rest| rest.split("</ul>").next().unwrap())
        .collect();
    let summary = summary("quality");
    let rows = summary["rows"].as_array().unwrap().iter();
    let of_demo = rows.filter(|row| row["dataset"] == "demo-world" && !row["ratio"].is_null());
    let policies: BTreeSet<&str> = of_demo.map(|row| row["policy"].as_str().unwrap()).collect();
    assert_eq!(policies.len(), 8);
    for policy in policies {
        assert_eq!(
            legends.matches(&format!("</svg>{policy}</li>")).count(),
            1,
            "{policy}"
        );
    }
}

#[test]
fn every_row_of_a_run_is_in_a_table() {
    let (html, markdown) = pages(&all_fixtures());
    for (run, sections) in [("ttft", "stages"), ("load", "load"), ("decay", "decay")] {
        let tables = section(&html, sections);
        let summary = summary(run);
        let rows = |name: &str| summary[name].as_array().map_or(0, Vec::len);
        let rows = rows("rows") + rows("flatness");
        assert_eq!(
            tables.matches("<tr><th scope=\"row\">").count(),
            rows,
            "{run}"
        );
    }
    for row in summary("quality")["rows"].as_array().unwrap() {
        let policy = row["policy"].as_str().unwrap();
        let spec = match row["ratio"].as_f64() {
            Some(ratio) => format!("{policy}:{ratio}"),
            None => policy.to_owned(),
        };
        let cell = format!("| `{}`", spec.replace('|', "\\|"));
        assert!(markdown.contains(&cell), "{cell}");
    }
}

#[test]
fn exact_match_is_tabled_by_policy_and_ratio_with_its_interval() {
    let (_, markdown) = pages(&all_fixtures());
    let start = markdown.find("Exact match, %; 50 questions").unwrap();
    let table: Vec<&str> = markdown[start..].lines().skip(2).take(12).collect();
    assert_eq!(table[0], "| policy | no ratio | 5 % | 15 % |");
    assert_eq!(table[2], "| `full` | 96.0 (91.0–100.0) |  |  |");
    assert_eq!(
        table[4],
        "| `hkvd@1` |  | 55.0 (50.0–60.0) | 65.0 (60.0–70.0) |"
    );
    assert_eq!(table.len(), 2 + 10);
}

#[test]
fn text_from_runs_stays_text_and_nothing_is_fetched() {
    let (html, markdown) = pages(&all_fixtures());
    assert!(html.contains("&lt;script&gt;") && !html.contains("<script"));
    for outside in ["src=", "<link", "@import", "href=\"h", "url(h"] {
        assert!(!html.contains(outside), "{outside}");
    }
    // In Markdown such text stands in code, or is escaped.
    for line in markdown.lines() {
        let outside_of_code: String = line.split('`').step_by(2).collect();
        assert!(!outside_of_code.contains("<script"), "{line}");
        let unescaped = outside_of_code.replace("\\]", "");
        assert!(!unescaped.contains("](http"), "{line}");
    }
}

#[test]
fn charts_hold_no_number_that_is_none() {
    let (html, _) = pages(&all_fixtures());
    assert!(!html.contains("NaN") && !html.contains("inf ") && !html.contains("Infinity"));
    for id in [
        "pareto",
        "by-ratio",
        "stages",
        "deviation",
        "layers",
        "load",
        "decay",
    ] {
        assert!(section(&html, id).contains("viewBox"), "{id} has no chart");
    }
}

#[test]
fn notes_of_datasets_stand_beside_their_charts_and_tables() {
    let (html, markdown) = pages(&all_fixtures());
    let note = "says nothing about real LLMs";
    for id in ["pareto", "by-ratio", "scores"] {
        assert_eq!(section(&html, id).matches(note).count(), 1, "{id}");
    }
    assert!(markdown.contains(&format!(
        "> **Note.** demo model: validates mechanics; {note}"
    )));
}

#[test]
fn the_same_runs_make_the_same_pages() {
    assert_eq!(pages(&all_fixtures()), pages(&all_fixtures()));
}

#[test]
fn what_no_run_measured_is_said_in_a_sentence() {
    let (html, markdown) = pages(&[fixture("decay")]);
    for kind in ["quality", "ttft", "load"] {
        assert!(
            markdown.contains(&format!("No {kind} run was given")),
            "{kind}"
        );
    }
    assert!(section(&html, "decay").contains("viewBox"));
}

#[test]
fn a_run_without_rows_makes_a_page() {
    let empty = run_of(
        HEADER,
        Some(r#"{"kind": "quality", "version": 1, "rows": []}"#),
    );
    let (_, markdown) = pages(&[empty.path().to_owned()]);
    assert!(markdown.contains("hold no rows"), "{markdown}");
}

#[test]
fn unknown_kinds_and_interrupted_runs_are_named() {
    let unknown = run_of(
        r#"{"kind": "tune", "version": 1}"#,
        Some(r#"{"kind": "tune", "version": 1}"#),
    );
    let unfinished = run_of(HEADER, None);
    let runs = [unknown.path().to_owned(), unfinished.path().to_owned()];
    let (html, _) = pages(&runs);
    let notes = section(&html, "provenance");
    assert!(notes.contains("kind “tune”"), "{notes}");
    assert!(notes.contains("no summary.json"), "{notes}");
}

#[test]
fn malformed_runs_are_refused_with_file_line_and_field() {
    let cases = [
        (
            HEADER,
            "{\"version\": 1,\n\"rows\": [{\"dataset\": \"d\", \"policy\": \"hkvd@2\",\n\"exact_match\": \"high\"}]}",
            ["summary.json", "line 3", "rows[0].exact_match"],
        ),
        (
            HEADER,
            "{\"version\": 1,\n\"rows\": [{\"dataset\": \"d\"}]}",
            ["summary.json", "line 2", "`policy`"],
        ),
        (
            HEADER,
            r#"{"version": 1, "rows": [{"dataset": "d", "policy": "x", "ratio": "a"}]}"#,
            ["summary.json", "line 1", "rows[0].ratio"],
        ),
        (
            HEADER,
            r#"{"version": 2, "rows": []}"#,
            ["summary.json", "`version` is 2", "reads version 1"],
        ),
        (
            HEADER,
            "{\"version\": 1, \"rows\": [",
            ["summary.json", "line 1", "EOF"],
        ),
        (
            r#"{"kind": 7, "version": 1}"#,
            "{}",
            ["run.jsonl", "line 1", "`kind`"],
        ),
        ("", "{}", ["run.jsonl", "line 1", "empty"]),
        (
            HEADER,
            r#"{"version": 1, "rows": [], "heatmap": {"dataset": "d", "tokens": ["a"],
            "rows": [1], "layers": [[0.5], []]}}"#,
            ["summary.json", "heatmap.layers[1]", "0 values"],
        ),
    ];
    let out = TempDir::new().unwrap();
    for (header, summary, words) in cases {
        let run = run_of(header, Some(summary));
        report(&[run.path().to_owned()], out.path()).expect_error(&words);
    }
    report(&[fixture("none")], out.path()).expect_error(&["run.jsonl", "--out"]);
}
