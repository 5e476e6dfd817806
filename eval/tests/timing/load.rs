//! `ragweave-eval load`.

use std::process::Command;

use serde_json::{Value, json};

use crate::site::Site;
use crate::support::Outcome;
use crate::{column, cut_off, expect_summary, log, replaced};

/// Twelve requests at 200 and 400 per second under two modes.
fn load(site: &Site) -> Command {
    let mut command = site.command("load");
    command.arg("--questions").arg(site.questions());
    command.args(["--requests", "12", "--rates", "200,400"]);
    command.args(["--modes", "full,first-k:0.2"]);
    command.args([
        "--max-tokens",
        "4",
        "--ignore-eos",
        "--slo-ttft-ms",
        "60000",
    ]);
    command
}

fn arrivals(cell: &Value) -> Vec<f64> {
    let requests = cell["requests"].as_array().unwrap().iter();
    requests
        .map(|request| request["at_ms"].as_f64().unwrap())
        .collect()
}

#[test]
fn every_mode_gets_the_same_arrivals_and_its_figures() {
    let site = Site::new(false);
    let printed = Outcome::of(&mut load(&site)).json();

    let rows = expect_summary(&site.out(), &printed, "load");
    assert_eq!(
        column(&rows, "policy"),
        ["full", "full", "first-k", "first-k"]
    );
    assert_eq!(column(&rows, "rate"), [200.0, 400.0, 200.0, 400.0]);
    for row in &rows {
        // Of twelve requests the first two are dropped.
        assert_eq!(
            (&row["n"], &row["completed"], &row["rejected"]),
            (&json!(10), &json!(10), &json!(0))
        );
        for time in ["ttft_ms", "tpot_ms", "itl_ms", "e2e_ms"] {
            let spread = &row[time];
            assert!(spread["mean"].as_f64().unwrap() > 0.0, "{time}: {spread}");
            assert!(spread["p50"].as_f64() <= spread["p99"].as_f64());
        }
        assert_eq!(
            row["goodput"], row["achieved_rate"],
            "a minute is enough for all"
        );
    }

    let cells = &log(&site.out())[1..];
    assert_eq!(
        column(cells, "spec"),
        ["full", "first-k:0.2", "first-k:0.2", "full"]
    );
    assert_eq!(arrivals(&cells[0]), arrivals(&cells[1]));
    for (slow, fast) in arrivals(&cells[0]).iter().zip(arrivals(&cells[3])) {
        assert!(
            (slow / 2.0 - fast).abs() < 1e-3,
            "twice the rate is half the wait"
        );
    }
    for request in cells[1]["requests"].as_array().unwrap() {
        let answer = &request["answer"];
        assert_eq!(
            (&answer["n_out"], &answer["chunks_missed"]),
            (&json!(4), &json!(0))
        );
        assert_eq!(answer["itl_ms"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn requests_that_find_the_queue_full_are_counted() {
    let site = Site::new(false);
    let mut command = load(&site);
    // All but at once, and one place to wait in.
    command.args(["--set", "limits.max_queue=1", "--limit", "1"]);
    let flags = [
        "--rates",
        "100000",
        "--requests",
        "60",
        "--modes",
        "full",
        "--max-tokens",
        "64",
    ];
    let mut command = replaced(command, &flags);
    let printed = Outcome::of(&mut command).json();
    let row = &printed["rows"][0];
    let count = |name: &str| row[name].as_u64().unwrap();
    assert_eq!(count("n"), 50);
    assert_eq!(count("completed") + count("rejected"), 50);
    assert!(count("rejected") > 0, "{row}");
}

#[test]
fn auto_measures_its_rates_once_and_an_interrupted_run_keeps_them() {
    let site = Site::new(false);
    let auto = || replaced(load(&site), &["--rates", "auto", "--requests", "6"]);
    let printed = Outcome::of(&mut auto()).json();
    let before = log(&site.out());
    assert_eq!(
        (&before[1]["item"], &before[1]["spec"]),
        (&json!("capacity"), &json!("full"))
    );
    let rates = before[1]["rates"].as_array().unwrap();
    assert_eq!(printed["rows"].as_array().unwrap().len(), 2 * rates.len());

    cut_off(&site.out(), 3);
    let printed = Outcome::of(&mut auto()).json();
    let rows = expect_summary(&site.out(), &printed, "load");
    assert_eq!(column(&rows[..rates.len()], "rate"), *rates);
    let after = log(&site.out());
    assert_eq!(after[..4], before[..4]);
    assert_eq!(after.len(), before.len());
    // A complete run measures nothing again.
    Outcome::of(&mut auto()).json();
    assert_eq!(log(&site.out()), after);
}

#[test]
fn a_corpus_without_kv_is_reported() {
    let site = Site::new(true);
    let mut command = replaced(load(&site), &["--modes", "reuse"]);
    let outcome = Outcome::of(&mut command);
    let missed = |cell: &Value| -> u64 {
        let requests = cell["requests"].as_array().unwrap().iter();
        requests
            .map(|request| request["answer"]["chunks_missed"].as_u64().unwrap())
            .sum()
    };
    outcome.json();
    // Its KV may be there by the first measured answer: the warm-up asked for it.
    let missed: u64 = log(&site.out())[1..].iter().map(missed).sum();
    assert_eq!(
        outcome.stderr.contains("without stored KV"),
        missed > 0,
        "{}",
        outcome.stderr
    );
}

#[test]
fn bad_input_is_refused_by_name() {
    let site = Site::new(false);
    let cases: [(&[&str], &[&str]); 4] = [
        (&["--rates", "1,0"], &["--rates", "`0`", "auto"]),
        (&["--modes", "full,best:0.1"], &["--modes", "best"]),
        (&["--requests", "0"], &["--requests", "at least 1"]),
        (&["--slo-ttft-ms", "0"], &["--slo-ttft-ms", "above 0"]),
    ];
    for (flags, words) in cases {
        Outcome::of(&mut replaced(load(&site), flags)).expect_error(words);
    }
    Outcome::of(&mut replaced(load(&site), &["--modes", "hkvd@7:0.1"])).expect_error(&[
        "q",
        "hkvd@7:0.1",
        "too deep",
    ]);
    let mut command = load(&site);
    site.questions_over([&["fox#0"], &["fox#0", "owl#0"]]);
    Outcome::of(&mut command).expect_error(&["--questions", "q1", "owl#0", "data"]);
}
