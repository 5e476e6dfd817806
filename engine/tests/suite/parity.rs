//! Parity with `transformers`: logits at every position, K and V of every layer.
//!
//! Regenerate the expected values with `python scripts/fixtures/make_models.py`.

use ragweave_engine::{EngineOptions, FusionBackend};

use super::fixtures::{Expected, assert_close, fixtures_dir, load, options};

/// The bound the project promises for f32.
const TOLERANCE: f32 = 1e-3;

pub fn equals_transformers<B: FusionBackend>(variant: &str, device: &B::Device) {
    let expected = Expected::read(variant);
    let mut engine = load::<B>(&options(variant), device);

    let trace = engine
        .forward(&expected.ids("ids"))
        .expect("a forward pass");

    assert_logits(&trace.logits, &expected);
    for (layer, (k, v)) in trace.layers.iter().enumerate() {
        let expected_k = expected.floats(&format!("k_unrotated.{layer}"));
        assert_close(&format!("K of layer {layer}"), k, &expected_k, TOLERANCE);
        assert_close(
            &format!("V of layer {layer}"),
            v,
            &expected.floats(&format!("v.{layer}")),
            TOLERANCE,
        );
    }
}

/// Logits of `<name>.gguf`, which `scripts/fixtures/make_gguf.py` has written and read back.
pub fn gguf_equals_transformers<B: FusionBackend>(name: &str, device: &B::Device) {
    let dir = fixtures_dir().join("gguf");
    let expected = Expected::open(&dir.join(format!("{name}.safetensors")));
    let options = EngineOptions::new(dir.join(format!("{name}.gguf")));
    let trace = load::<B>(&options, device)
        .forward(&expected.ids("ids"))
        .expect("a forward pass");
    assert_logits(&trace.logits, &expected);
}

fn assert_logits(logits: &[Vec<f32>], expected: &Expected) {
    let (logits, expected) = (logits.concat(), expected.floats("logits"));
    assert_close("logits", &logits, &expected, TOLERANCE);
}
