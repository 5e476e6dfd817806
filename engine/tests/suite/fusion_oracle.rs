//! Fused prefill against an independent PyTorch implementation of the same rules.
//!
//! Regenerate with `python scripts/fixtures/make_fusion.py`; see `scripts/fixtures/README.md`.
#![expect(
    clippy::unwrap_used,
    reason = "a fixture of another shape fails its test"
)]

use ragweave_engine::{Deviation, FusionBackend, KvDtype, Mode, Policy, PromptSegments, Schedule};
use serde_json::Value;

use super::fixtures::{Prompt, assert_close, fixtures_dir, load_with_kv};

pub fn equals_the_reference<B: FusionBackend>(variant: &str, device: &B::Device) {
    let path = fixtures_dir()
        .join("fusion")
        .join(format!("{variant}.json"));
    let fixture: Value = serde_json::from_slice(&fs_err::read(path).expect("committed")).unwrap();
    let segments = segments(&fixture["plan"]);
    for case in fixture["cases"].as_array().unwrap() {
        let kv_dtype: KvDtype = case["kv_dtype"].as_str().unwrap().parse().unwrap();
        let mut engine = load_with_kv::<B>(variant, kv_dtype, device);
        let conditioning = match &case["conditioning"] {
            Value::Null => segments.prefix.clone(),
            ids => id_list(ids),
        };
        let prompt = Prompt::behind(&mut engine, segments.clone(), conditioning);
        let misses: Vec<usize> = id_list(&case["misses"])
            .iter()
            .map(|&i| i as usize)
            .collect();

        let (logits, report) = prompt.run(&mut engine, mode(case), &misses);

        let name = format!("{variant}, {}", case["name"]);
        let tolerance = case["tolerance"].as_f64().unwrap() as f32;
        assert_close(&name, &logits, &float_list(&case["logits"]), tolerance);
        if case["policy"] != "all" {
            assert_eq!(
                report.recomputed_rows,
                last_selection(case),
                "{name}: rows recomputed"
            );
        }
    }
}

fn mode(case: &Value) -> Mode {
    match case["mode"].as_str().unwrap() {
        "full" => Mode::Full,
        "reuse" => Mode::Reuse,
        _ => Mode::blend(policy(case), case["ratio"].as_f64().unwrap_or(1.0)),
    }
}

fn policy(case: &Value) -> Policy {
    let deviation = match case["deviation"].as_str() {
        Some("k") => Deviation::K,
        Some("v") => Deviation::V,
        _ => Deviation::Kv,
    };
    let schedule = match case["schedule"].as_str() {
        Some("gradual") => Schedule::Gradual,
        _ => Schedule::Fixed,
    };
    match case["policy"].as_str().unwrap() {
        "first-k" => Policy::FirstK,
        "all" => Policy::All,
        _ => {
            let check_layer = case["check_layer"].as_u64().unwrap() as usize;
            Policy::Hkvd {
                check_layer,
                deviation,
                schedule,
            }
        }
    }
}

/// The rows still alive at the last layer.
fn last_selection(case: &Value) -> Vec<usize> {
    let by_layer = case["expected_selected_by_layer"].as_object();
    let last = by_layer.and_then(|layers| {
        layers
            .iter()
            .max_by_key(|(layer, _)| layer.parse::<usize>().unwrap())
    });
    let rows = last.map_or(&case["expected_selected"], |(_, rows)| rows);
    id_list(rows).iter().map(|&row| row as usize).collect()
}

fn segments(plan: &Value) -> PromptSegments {
    PromptSegments {
        prefix: id_list(&plan["prefix"]),
        chunks: plan["chunks"]
            .as_array()
            .unwrap()
            .iter()
            .map(id_list)
            .collect(),
        question: id_list(&plan["question"]),
    }
}

fn id_list(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

fn float_list(value: &Value) -> Vec<f32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap() as f32)
        .collect()
}
