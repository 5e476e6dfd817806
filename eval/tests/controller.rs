//! `ragweave-eval controller` on a tiny shape: every cell is there, with what was chosen. Who wins is not asserted: on a
//! shape this small the times are noise.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use serde_json::Value;
use support::{checkout, ragweave_eval};

#[test]
fn every_cell_of_the_grid_is_in_the_table() {
    let out = tempfile::tempdir().unwrap();
    let config = checkout("engine/tests/fixtures/models/qwen3/config.json");
    let flags = "--chunks 1,3 --chunk-tokens 16 --question-tokens 4 --prefix-tokens 5 --ratios 0.2,0.9 \
                 --tiers memory,disk-warm,disk-cold --rounds 3 --warm-up 1 --json";
    let mut command = ragweave_eval();
    command
        .arg("controller")
        .arg("--random-weights")
        .arg(config);
    command
        .args(flags.split_whitespace())
        .arg("--out")
        .arg(out.path());
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cells = report["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 2 * 2 * 3);
    for cell in cells {
        assert_eq!(cell["rounds"], 3);
        let chosen = cell["chosen"].as_object().unwrap();
        let rounds: u64 = chosen.values().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(rounds, 3, "{cell}");
        let low = cell["regret_ci"][0].as_f64().unwrap();
        assert!(low <= cell["regret"].as_f64().unwrap(), "{cell}");
    }
    // The exit code follows from the table.
    let failed = report["n_failed"].as_u64().unwrap();
    assert_eq!(output.status.success(), failed == 0, "{output:#?}");

    let table = fs_err::read_to_string(out.path().join("controller.md")).unwrap();
    let lines = table.lines().filter(|line| line.contains(" x 16 |"));
    assert_eq!(lines.count(), 12, "{table}");
    let saved = fs_err::read(out.path().join("controller.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&saved).unwrap(), report);
}
