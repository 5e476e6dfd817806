//! Fused prefill against an independent PyTorch implementation of the same rules.
//!
//! Regenerate with `python scripts/fixtures/make_fusion.py`; see `scripts/fixtures/README.md`.
#![expect(
    clippy::unwrap_used,
    reason = "a fixture of another shape fails its test"
)]

use ragweave_engine::{
    Deviation, Engine, EngineHandle, EngineOptions, FusionBackend, FusionPlan, KvDtype, Mode,
    Policy, PromptSegments, Ratio, Schedule,
};
use serde_json::Value;

use super::fixtures::{Prompt, assert_close, fixtures_dir, load, load_with_kv, options};

pub fn equals_the_reference<B: FusionBackend>(variant: &str, device: &B::Device) {
    let path = fixtures_dir()
        .join("fusion")
        .join(format!("{variant}.json"));
    let fixture: Value = serde_json::from_slice(&fs_err::read(path).expect("committed")).unwrap();
    let segments = segments(&fixture["plan"]);
    for case in sections(&fixture, ["cases", "policies"]) {
        compare_case::<B>(variant, &segments, case, device);
    }
    for case in sections(&fixture, ["anchors"]) {
        compare_anchors::<B>(variant, &segments, case, device);
    }
    for case in sections(&fixture, ["deviations"]) {
        compare_deviation::<B>(variant, &segments, case, device);
    }
}

/// All cases of these sections. None may be empty: an empty section would test nothing.
fn sections<'a, const N: usize>(
    fixture: &'a Value,
    names: [&'static str; N],
) -> impl Iterator<Item = &'a Value> {
    names.into_iter().flat_map(|name| {
        let cases = fixture[name].as_array().unwrap();
        assert!(!cases.is_empty(), "{name} is empty");
        cases
    })
}

/// Compares logits, the recomputed rows, and the remaining deviation.
fn compare_case<B: FusionBackend>(
    variant: &str,
    segments: &PromptSegments,
    case: &Value,
    device: &B::Device,
) {
    let mut engine = load_with_kv::<B>(variant, kv_dtype(case), device);
    let prompt = prompt(&mut engine, segments, case);
    let plan = plan(&engine, &prompt, mode(case), case);

    let (logits, report) = engine.plan_logits(plan, prompt.sources()).unwrap();

    let name = format!("{variant}, {}", case["name"]);
    let tolerance = tolerance(case);
    assert_close(&name, &logits, &float_list(&case["logits"]), tolerance);
    if case["policy"] != "all" {
        assert_eq!(
            report.recomputed_rows,
            last_selection(case),
            "{name}: rows recomputed"
        );
    }
    if case["spec"].is_string() {
        let left = |share: Option<f64>| share.map_or(Vec::new(), |share| vec![share as f32]);
        let expected = left(case["expected_deviation_left"].as_f64());
        let name = format!("{name}: deviation left");
        assert_close(&name, &left(report.deviation_left), &expected, tolerance);
    }
}

/// Compares the anchors found while chunk KV is computed. Null stands for a chunk in which rounding decides.
fn compare_anchors<B: FusionBackend>(
    variant: &str,
    segments: &PromptSegments,
    case: &Value,
    device: &B::Device,
) {
    let mut engine = load::<B>(&options(variant), device);
    let prompt = prompt(&mut engine, segments, case);
    let expected = case["anchors"].as_array().unwrap();
    assert_eq!(prompt.kv.len(), expected.len());
    for (i, (kv, expected)) in prompt.kv.iter().zip(expected).enumerate() {
        if !expected.is_null() {
            let name = format!("{variant}, chunk {i} after {}", case["conditioning"]);
            assert_eq!(kv.anchors, id_list(expected), "{name}: anchors");
        }
    }
}

/// The distance of stored KV from full prefill, through the engine thread, the only way to obtain it.
fn compare_deviation<B: FusionBackend>(
    variant: &str,
    segments: &PromptSegments,
    case: &Value,
    device: &B::Device,
) {
    let mut engine = load_with_kv::<B>(variant, kv_dtype(case), device);
    let prompt = prompt(&mut engine, segments, case);
    let plan = plan(&engine, &prompt, Mode::Reuse, case);
    // A handle warms up for the largest number of rows it may be asked for, which takes long on a software driver.
    let options = EngineOptions {
        kv_dtype: kv_dtype(case),
        max_prefill_tokens: 8,
        ..options(variant)
    };
    let handle = EngineHandle::spawn::<B>(options, device.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();

    let map = runtime.block_on(handle.deviation(plan, prompt.sources()));

    let (map, name) = (map.unwrap(), format!("{variant}, deviation"));
    assert_eq!(map.rows, index_list(&case["rows"]), "{name}: rows");
    let expected = case["layers"].as_array().unwrap();
    assert_eq!(map.layers.len(), expected.len(), "{name}: layers");
    for (layer, (values, expected)) in map.layers.iter().zip(expected).enumerate() {
        let name = format!("{name} at layer {layer}");
        assert_close(&name, values, &float_list(expected), tolerance(case));
    }
}

/// The prompt with its chunks' KV, computed after the case's conditioning prefix.
fn prompt<B: FusionBackend>(
    engine: &mut Engine<B>,
    segments: &PromptSegments,
    case: &Value,
) -> Prompt {
    let conditioning = match &case["conditioning"] {
        Value::Null => segments.prefix.clone(),
        ids => id_list(ids),
    };
    Prompt::behind(engine, segments.clone(), conditioning)
}

fn plan<B: FusionBackend>(
    engine: &Engine<B>,
    prompt: &Prompt,
    mode: Mode,
    case: &Value,
) -> FusionPlan {
    let states = prompt.states(
        &index_list(&case["misses"]),
        engine.info().identity.is_exact_dtype(),
    );
    let plan = FusionPlan::new(prompt.segments.clone(), states, mode, engine.info()).unwrap();
    match case["ingest_anchors"].as_bool() {
        Some(true) => {
            let anchors = prompt.kv.iter().map(|kv| kv.anchors.clone());
            plan.with_anchors(&Vec::from_iter(anchors))
        }
        _ => plan,
    }
}

fn kv_dtype(case: &Value) -> KvDtype {
    case["kv_dtype"].as_str().unwrap().parse().unwrap()
}

fn tolerance(case: &Value) -> f32 {
    case["tolerance"].as_f64().unwrap() as f32
}

/// Newer cases give the mode in the engine's notation, older ones by field.
fn mode(case: &Value) -> Mode {
    if let Some(spec) = case["spec"].as_str() {
        return spec.parse().unwrap();
    }
    match case["mode"].as_str().unwrap() {
        "full" => Mode::Full,
        "reuse" => Mode::Reuse,
        _ => Mode::blend(policy(case), ratio(case)),
    }
}

fn ratio(case: &Value) -> Ratio {
    let ratio = case["ratio"].as_f64();
    ratio.map_or(Ratio::ONE, |ratio| Ratio::new(ratio).unwrap())
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
    index_list(rows)
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

fn index_list(value: &Value) -> Vec<usize> {
    id_list(value).iter().map(|&index| index as usize).collect()
}

fn float_list(value: &Value) -> Vec<f32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap() as f32)
        .collect()
}
