//! The device memory of a sequence is kept for the next one, whatever the sequence was for and however it ended. The
//! weights that are loaded are those that were hashed.

mod several;

use std::path::Path;

use burn_flex::{Flex, FlexDevice};

use super::*;
use crate::fusion::{ChunkState, Mode, PromptSegments};
use crate::kv::ComputeDtype;

/// Tokens the first sequence has room for; all later ones need less.
const CAPACITY: usize = 64;

fn engine() -> Engine<Flex> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/qwen3");
    let options = EngineOptions::new(dir);
    let info = Arc::new(ModelInfo::read(&options).unwrap());
    let mut engine = Engine::load(&options, info, &FlexDevice).unwrap();
    let loader = engine.open(&plan(&engine), Vec::new());
    let sequence = engine
        .fuse(plan(&engine), loader, CAPACITY, &|| None)
        .unwrap();
    engine.end(sequence);
    engine
}

/// A full prefill of a few tokens.
fn plan(engine: &Engine<Flex>) -> FusionPlan {
    let segments = PromptSegments {
        prefix: vec![1],
        chunks: vec![vec![2, 3]],
        question: vec![4],
    };
    let states = vec![ChunkState::Miss];
    FusionPlan::new(segments, states, Mode::Full, &engine.info).unwrap()
}

/// Asserts that the engine has its spare buffers again after `work`.
fn assert_kept(what: &str, work: impl FnOnce(&mut Engine<Flex>)) {
    let mut engine = engine();
    assert_eq!(engine.spare.capacity(), CAPACITY);
    work(&mut engine);
    assert_eq!(engine.spare.capacity(), CAPACITY, "{what}");
}

#[test]
fn buffers_are_kept_by_everything_that_uses_them() {
    assert_kept("chunk KV", |engine| {
        engine.chunk_kv(&[1], &[2, 3]).unwrap();
    });
    assert_kept("logits", |engine| {
        engine.plan_logits(plan(engine), vec![None]).unwrap();
    });
    assert_kept("a trace", |engine| {
        let request = TraceRequest {
            plan: plan(engine),
            sources: vec![None],
            forced: vec![5, 6],
        };
        engine.trace(request, &|| None).unwrap();
    });
    assert_kept("a map of deviations", |engine| {
        engine
            .deviation(&plan(engine), vec![None], &|| None)
            .unwrap();
    });
    assert_kept("a prefill that is given up", |engine| {
        let loader = engine.open(&plan(engine), Vec::new());
        let stop = || Some(EngineError::Cancelled);
        let stopped = engine.fuse(plan(engine), loader, CAPACITY, &stop);
        assert!(matches!(stopped, Err(EngineError::Cancelled)));
    });
    assert_kept("a trace that is given up", |engine| {
        let n_asked = std::cell::Cell::new(0);
        let n_layers = engine.info.config.num_hidden_layers;
        // After the prefill, which calls `stop` once per layer.
        let stop =
            || (n_asked.replace(n_asked.get() + 1) >= n_layers).then_some(EngineError::Cancelled);
        let request = TraceRequest {
            plan: plan(engine),
            sources: vec![None],
            forced: vec![5, 6],
        };
        assert!(matches!(
            engine.trace(request, &stop),
            Err(EngineError::Cancelled)
        ));
    });
}

#[test]
fn weights_that_change_between_hash_and_load_are_refused() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/qwen3");
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs_err::copy(fixture.join(file), dir.path().join(file)).unwrap();
    }
    let options = EngineOptions::new(dir.path());
    let info = Arc::new(ModelInfo::read(&options).unwrap());
    let load = || Engine::<Flex>::load(&options, info.clone(), &FlexDevice);
    load().unwrap();

    // As an update in place does it: a new file is renamed over the old one.
    let (weights, newer) = (dir.path().join("model.safetensors"), dir.path().join("new"));
    let mut bytes = fs_err::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs_err::write(&newer, bytes).unwrap();
    fs_err::rename(&newer, &weights).unwrap();
    let error = load().err().expect("the weights have changed").to_string();
    assert!(
        error.contains("model.safetensors") && error.contains("has changed"),
        "{error}"
    );
}

/// In f16 the sums between Gemma 3's layers overflow; its logits would be NaN.
#[test]
fn a_model_whose_values_exceed_f16_is_refused_in_f16() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/gemma3");
    let load = |dtype| {
        let options = EngineOptions {
            dtype,
            ..EngineOptions::new(dir.clone())
        };
        let info = Arc::new(ModelInfo::read(&options).unwrap());
        Engine::<Flex>::load(&options, info, &FlexDevice).map(|_| ())
    };
    assert_eq!(load(ComputeDtype::Bf16), Ok(()));
    let error = load(ComputeDtype::F16).unwrap_err();
    let EngineError::InvalidRequest { field, message } = error else {
        panic!("{error}");
    };
    assert_eq!(field, "dtype");
    assert!(
        message.contains("Gemma3") && message.contains("bf16"),
        "{message}"
    );
}
