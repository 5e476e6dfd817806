//! `ragweave doctor --verify-fusion`: good models get a good verdict, the verdict is kept where `serve` finds it, and a
//! bad one is reported.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{Outcome, Site, model, ragweave};

const VERDICT: &str = "fusion-verdict.json";

fn doctor(model: &Path, data: Option<&Path>, flags: &[&str]) -> Outcome {
    let mut command = ragweave();
    command.arg("doctor").arg("--model").arg(model).args(flags);
    if let Some(data) = data {
        command.arg("--data").arg(data);
    }
    Outcome::of(&mut command)
}

fn verdict(site: &Site) -> Value {
    serde_json::from_slice(&fs_err::read(site.data().join(VERDICT)).unwrap()).unwrap()
}

#[test]
fn models_whose_kv_can_be_fused_are_found_good_without_a_data_directory() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/model");
    for model in [model("tiny-qwen3"), model("tiny-llama3-chat"), demo] {
        let report = doctor(&model, None, &["--verify-fusion"]).expect_code(0);
        assert!(report.stdout.contains("can be fused"), "{}", report.stdout);
        assert!(
            report.stdout.contains("needle prompts"),
            "{}",
            report.stdout
        );
        assert!(
            report.stdout.contains("pass --data DIR to keep it"),
            "{}",
            report.stdout
        );
    }
}

#[test]
fn half_precision_has_its_own_tolerance() {
    let flags = ["--verify-fusion", "--dtype", "f16", "--kv-dtype", "f16"];
    let report = doctor(&model("tiny-llama3-chat"), None, &flags).expect_code(0);
    assert!(
        report.stdout.contains("in f16 can be fused"),
        "{}",
        report.stdout
    );
    assert!(
        report.stdout.contains("rounding may be 3e-2"),
        "{}",
        report.stdout
    );
}

#[test]
fn the_verdict_is_kept_in_a_data_directory_that_is_one() {
    let site = Site::with_corpus();
    let data = site.data();
    let early = doctor(&site.model, Some(&data), &["--verify-fusion"]).expect_code(0);
    assert!(
        early.stdout.contains("after `ragweave ingest`"),
        "{}",
        early.stdout
    );
    assert!(!data.exists());

    site.ingest(&["--kv-dtype", "f32"]).expect_code(0);
    let before = doctor(&site.model, Some(&data), &[]).expect_code(0);
    assert!(
        before.stdout.contains("there is no verdict on this model"),
        "{}",
        before.stdout
    );
    doctor(&site.model, Some(&data), &["--verify-fusion"]).expect_code(0);
    let kept = verdict(&site);
    assert_eq!(
        (&kept["verdict"], &kept["mode"]),
        (&json!("good"), &json!("hkvd@1:0.15"))
    );
    assert_eq!(kept["probes"].as_array().unwrap().len(), 5);
    assert_eq!(kept["format"], 2);
    let needles = &kept["needles"];
    assert_eq!(needles["prompts"], 24);
    assert_eq!(needles["probed"]["outcome"], "helps");
    let difference = &needles["probed"]["kl_vs_reuse"];
    assert!(difference["high"].as_f64().unwrap() < 0.0, "{needles}");
    let others = needles["others"].as_array().unwrap().iter();
    let others: Vec<&str> = others
        .map(|other| other["mode"].as_str().unwrap())
        .collect();
    assert_eq!(others, ["query/all:0.15", "hkvd@2:0.15", "first-k:0.15"]);
    let after = doctor(&site.model, Some(&data), &[]).expect_code(0);
    assert!(
        after
            .stdout
            .contains("verified, tiny-qwen3 under hkvd@1:0.15"),
        "{}",
        after.stdout
    );
    // The store still opens with the new file next to it.
    site.ingest(&[]).expect_code(0);
}

#[test]
fn a_bad_verdict_and_one_that_does_not_count_are_shown() {
    let site = Site::with_corpus();
    let data = site.data();
    site.ingest(&[]).expect_code(0);
    doctor(&site.model, Some(&data), &["--verify-fusion"]).expect_code(0);
    let mut kept = verdict(&site);
    kept["verdict"] = json!("bad");
    kept["reasons"] = json!(["every row recomputed: off by 0.3"]);
    fs_err::write(data.join(VERDICT), kept.to_string()).unwrap();
    let bad = doctor(&site.model, Some(&data), &[]).expect_code(0);
    assert!(
        bad.stdout
            .contains("every request runs as full prefill: every row recomputed: off by 0.3"),
        "{}",
        bad.stdout
    );
    // The same model in another type is another case.
    let other = doctor(&site.model, Some(&data), &["--kv-dtype", "f16"]);
    assert!(
        other.stdout.contains("about another model or type"),
        "{}",
        other.stdout
    );
    fs_err::write(data.join(VERDICT), "{").unwrap();
    let broken = doctor(&site.model, Some(&data), &[]).expect_code(0);
    assert!(
        broken.stdout.contains("--verify-fusion` makes a new one"),
        "{}",
        broken.stdout
    );
}

#[test]
fn a_policy_that_is_no_better_than_reuse_is_not_passed_and_the_one_that_helps_is_named() {
    let site = Site::with_corpus();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/model");
    let data = site.data();
    let ingested = ragweave()
        .arg("ingest")
        .arg(site.corpus())
        .arg("--model")
        .arg(&demo)
        .arg("--data")
        .arg(&data)
        .status();
    assert!(ingested.unwrap().success());
    let flags = [
        "--verify-fusion",
        "--set",
        "fusion.selection=first-k",
        "--set",
        "fusion.ratio=0.02",
    ];
    let report = doctor(&demo, Some(&data), &flags).expect_code(1);
    for word in [
        "FAIL  fusion    configured first-k:0.02",
        "plain reuse",
        "not passed",
        "24 needle prompts",
    ] {
        assert!(
            report.stdout.contains(word),
            "no {word} in {}",
            report.stdout
        );
    }
    assert!(
        report
            .stdout
            .contains("set fusion.selection = \"hkvd@2\" and fusion.ratio = 0.02"),
        "{}",
        report.stdout
    );
    assert_eq!(verdict(&site)["verdict"], "worse");
    // The kept verdict is read for the configured mode: the one that failed, one that helps, and one not measured.
    let set = |policy: &str| {
        let policy = format!("fusion.selection={policy}");
        let flags = ["--set", policy.as_str(), "--set", "fusion.ratio=0.02"];
        doctor(&demo, Some(&data), &flags).expect_code(0).stdout
    };
    assert!(set("first-k").contains("not passed, so requests run as full prefill"));
    assert!(set("hkvd@2").contains("ok    fusion    verified"));
    assert!(set("anchors").contains("run --verify-fusion again"));
}

#[test]
fn a_verdict_of_an_older_version_is_asked_for_again() {
    let site = Site::with_corpus();
    site.ingest(&[]).expect_code(0);
    let data = site.data();
    doctor(&site.model, Some(&data), &["--verify-fusion"]).expect_code(0);
    let mut older = verdict(&site);
    older["format"] = json!(1);
    let figures = json!({"positions": 8, "mean_kl": 0.3, "max_kl": 0.9, "top1_agreement": 0.75});
    older["needles"] = json!({"probed": figures, "reuse": figures});
    fs_err::write(data.join(VERDICT), older.to_string()).unwrap();
    let report = doctor(&site.model, Some(&data), &[]).expect_code(0);
    assert!(
        report.stdout.contains("warn  fusion") && report.stdout.contains("has format 1"),
        "{}",
        report.stdout
    );
}

#[test]
fn what_serving_takes_from_a_tuned_file_is_logged() {
    let site = Site::with_corpus();
    site.ingest(&[]).expect_code(0);
    let tuned = "[fusion]\nmode = \"auto\"\nselection = \"hkvd@2\"\nratio = 0.1\n\
                 [evidence]\nchosen_on = 266\nconfirmed_on = 134\n";
    let path = site.data().join("tuned.toml");
    fs_err::write(&path, tuned).unwrap();
    let log = site.ingest(&[]).expect_code(0).stderr;
    for word in [
        "tuned.toml",
        "hkvd@2",
        "chosen_on=266",
        "confirmed_on=134",
        "in_force=hkvd@2:0.1",
    ] {
        assert!(log.contains(word), "no {word} in {log}");
    }
    assert!(!log.contains("never confirmed"), "{log}");
    fs_err::write(&path, "[fusion]\nselection = \"hkvd@2\"\n").unwrap();
    let log = site.ingest(&[]).expect_code(0).stderr;
    assert!(log.contains("never confirmed on other questions"), "{log}");
}

#[test]
fn a_mode_the_model_cannot_do_is_named() {
    let flags = ["--verify-fusion", "--set", "fusion.selection=hkvd@99"];
    let report = doctor(&model("tiny-qwen3"), None, &flags).expect_code(1);
    assert!(report.stdout.contains("FAIL  fusion"), "{}", report.stdout);
    assert!(
        report.stdout.contains("99 is too deep"),
        "{}",
        report.stdout
    );
}
