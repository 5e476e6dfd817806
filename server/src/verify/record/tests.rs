//! Verdicts in a data directory, and the resulting gate.

use super::*;
use crate::mode_choice::{Auto, ModeChoice};
use crate::verify::gate::Gate;
use crate::verify::policy::tests::{ROUNDING, around, needles};

/// The configured mode if a test names no other.
fn configured() -> ModeChoice {
    "hkvd@1:0.15".parse::<Mode>().unwrap().into()
}

fn gate_of(data: &Path, fingerprint: &str) -> Gate {
    Gate::read(data, fingerprint, &configured())
}

fn bad(fingerprint: &str) -> FusionVerdict {
    FusionVerdict {
        format: FORMAT,
        verdict: Verdict::Bad,
        reasons: vec!["all = full: off by 3.10e-1, and rounding explains 1e-3".to_owned()],
        model: "tiny".to_owned(),
        fingerprint: fingerprint.to_owned(),
        dtype: "f32".to_owned(),
        kv_dtype: "f32".to_owned(),
        mode: "hkvd@1:0.15".to_owned(),
        probes: vec![Probe::new("all = full", 0.31, 1e-3)],
        needles: None,
        version: "0.1.0".to_owned(),
        unix_seconds: 1,
    }
}

#[test]
fn a_bad_verdict_closes_the_gate_of_its_own_model_only() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(gate_of(dir.path(), "aa"), Gate::Open);
    let verdict = bad("aa");
    let path = verdict.write(dir.path()).unwrap();
    assert_eq!(
        Found::read(dir.path(), "aa"),
        Found::Verdict(Box::new(verdict.clone()))
    );
    let gate = gate_of(dir.path(), "aa");
    let (mode, reason) = gate.pass(Mode::Reuse.into());
    assert_eq!(mode, Mode::Full.into());
    assert!(reason.unwrap().contains("off by 3.10e-1"));
    assert_eq!(
        gate.pass(Mode::Full.into()),
        (Mode::Full.into(), None),
        "nothing to fall back from"
    );

    assert_eq!(gate_of(dir.path(), "bb"), Gate::Open);
    let good = FusionVerdict {
        verdict: Verdict::Good,
        ..verdict
    };
    good.write(dir.path()).unwrap();
    assert_eq!(gate_of(dir.path(), "aa"), Gate::Open);
    assert_eq!(
        fs_err::read_dir(dir.path()).unwrap().count(),
        1,
        "{}",
        path.display()
    );
}

#[test]
fn what_does_not_count_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    bad("aa").write(dir.path()).unwrap();
    let Found::Ignored(why) = Found::read(dir.path(), "bb") else {
        panic!("another model's verdict counted");
    };
    assert!(
        why.contains("another model") && why.contains("doctor --verify-fusion"),
        "{why}"
    );

    fs_err::write(dir.path().join(VERDICT_FILE), "{\"verdict\": \"bad\"}").unwrap();
    let Found::Ignored(why) = Found::read(dir.path(), "aa") else {
        panic!("half a verdict counted");
    };
    assert!(
        why.contains(VERDICT_FILE) && why.contains("cannot be read"),
        "{why}"
    );
}

/// A policy this far from full prefill, beside a reuse at 0.3.
fn compared(mode: &str, kl: f64) -> Compared {
    let (samples, reuse) = (around(kl, 6), around(0.3, 6));
    Compared::new(&mode.parse().unwrap(), &samples, &reuse, ROUNDING)
}

/// A verdict under which the configured policy, or else a rival of it, passes.
fn judged(probed: f64, verdict: Verdict) -> FusionVerdict {
    let reuse = around(0.3, 6);
    let rival = compared("query/all:0.15", 0.1);
    FusionVerdict {
        verdict,
        needles: Some(needles(&around(probed, 6), &reuse, vec![rival])),
        ..bad("aa")
    }
}

#[test]
fn a_policy_that_did_not_pass_is_not_served_and_the_one_that_helps_is() {
    let dir = tempfile::tempdir().unwrap();
    judged(0.6, Verdict::Worse).write(dir.path()).unwrap();
    let gate = gate_of(dir.path(), "aa");
    let mode = |text: &str| -> ModeChoice { text.parse::<Mode>().unwrap().into() };
    let (ran, reason) = gate.pass(configured());
    assert_eq!(ran, Mode::Full.into());
    let reason = reason.unwrap();
    assert!(
        reason.contains("further from full prefill than plain reuse")
            && reason.contains("fusion.selection = \"query/all\" and fusion.ratio = 0.15"),
        "{reason}"
    );
    let auto = ModeChoice::Auto(Auto {
        blend: match configured().widest() {
            Mode::Blend(blend) => blend,
            other => panic!("{other} is not a blend"),
        },
    });
    assert!(gate.pass(auto).1.is_some(), "auto would blend by it");
    assert!(
        gate.pass(mode("hkvd@1:0.05")).1.is_some(),
        "less of it is not better"
    );
    for served in [
        "query/all:0.15",
        "hkvd@1:0.5",
        "hkvd@2:0.15",
        "reuse",
        "full",
        "hkvd@1:0",
    ] {
        assert_eq!(gate.pass(mode(served)), (mode(served), None), "{served}");
    }
}

#[test]
fn a_refused_policy_is_refused_however_it_is_spelt() {
    let dir = tempfile::tempdir().unwrap();
    let refused = ["first-k:0.15", "anchors:0.15", "first-k+query/all:0.15"];
    let others = refused.map(|mode| compared(mode, 0.6)).into();
    let verdict = FusionVerdict {
        needles: Some(needles(&around(0.1, 7), &around(0.3, 6), others)),
        ..judged(0.1, Verdict::Good)
    };
    verdict.write(dir.path()).unwrap();
    let gate = gate_of(dir.path(), "aa");
    let mode = |text: &str| text.parse::<Mode>().unwrap();
    // The model has four layers, so that layer 2 is the middle one.
    for spelling in [
        "first-k~length:0.15",
        "anchors@2:0.1",
        "anchors@2.2/mean:0.15",
        "query/all+first-k:0.15",
    ] {
        assert!(gate.pass(mode(spelling).into()).1.is_some(), "{spelling}");
        assert!(verdict.refusal(&mode(spelling)).is_some(), "{spelling}");
    }
    assert!(verdict.knows(&mode("anchors@2:0.15")) && !verdict.knows(&mode("anchors@2:0.1")));
    for other in ["first-k~score:0.15", "anchors@3:0.15", "query/all:0.15"] {
        assert_eq!(gate.pass(mode(other).into()).1, None, "{other}");
    }
}

#[test]
fn a_policy_that_passed_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let good = judged(0.1, Verdict::Good);
    good.write(dir.path()).unwrap();
    assert_eq!(gate_of(dir.path(), "aa"), Gate::Open);
    assert!(good.knows(&"hkvd@1:0.15".parse().unwrap()));
    assert!(!good.knows(&"hkvd@1:0.3".parse().unwrap()));
}

#[test]
fn an_older_good_verdict_does_not_count_and_an_older_bad_one_still_does() {
    let dir = tempfile::tempdir().unwrap();
    let write = |verdict: &str| {
        let older = serde_json::json!({
            "format": 1, "verdict": verdict, "reasons": [], "model": "tiny", "fingerprint": "aa",
            "dtype": "f32", "kv_dtype": "f32", "mode": "hkvd@1:0.15", "probes": [], "version": "0.1.0",
            "unix_seconds": 1,
            "needles": {
                "probed": {"positions": 8, "mean_kl": 0.346, "max_kl": 1.0, "top1_agreement": 0.375},
                "reuse": {"positions": 8, "mean_kl": 0.326, "max_kl": 1.0, "top1_agreement": 0.75}
            }
        });
        fs_err::write(dir.path().join(VERDICT_FILE), older.to_string()).unwrap();
    };
    write("good");
    let Found::Ignored(why) = Found::read(dir.path(), "aa") else {
        panic!("a verdict that never looked at reuse counted");
    };
    assert!(
        why.contains("format 1") && why.contains("doctor --verify-fusion"),
        "{why}"
    );
    assert_eq!(gate_of(dir.path(), "aa"), Gate::Open);
    write("bad");
    assert!(matches!(gate_of(dir.path(), "aa"), Gate::Closed { .. }));
}
