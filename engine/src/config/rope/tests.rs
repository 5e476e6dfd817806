//! Frequencies against numbers from transformers 5, made for each case below with
//! `LlamaRotaryEmbedding(LlamaConfig(head_dim=.., hidden_size=4*head_dim, num_attention_heads=4,
//! max_position_embeddings=.., rope_parameters={..}))`: its `.inv_freq` and `.attention_scaling`.

use super::*;

fn assert_close(actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len());
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        // Two units in the last place: torch's vectorised power and ours round differently.
        assert!(
            (a - e).abs() <= e.abs() * 2.4e-7,
            "pair {i}: {a:e} instead of {e:e}"
        );
    }
}

/// Numbers as Python prints them with `%.9e`.
fn numbers(text: &str) -> Vec<f32> {
    text.split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect()
}

fn rope(theta: f64, scaling: RopeScaling) -> RopeConfig {
    RopeConfig { theta, scaling }
}

#[test]
fn default_frequencies_match_transformers() {
    // rope_type default, rope_theta 500000, head_dim 32
    let expected = numbers(
        "1.000000000e+00 4.403666258e-01 1.939227581e-01 8.539710194e-02 3.760603070e-02 \
         1.656044088e-02 7.292665076e-03 3.211446106e-03 1.414213446e-03 6.227724371e-04 \
         2.742481884e-04 1.207697424e-04 5.318295734e-05 2.341999789e-05 1.031338525e-05 \
         4.541670478e-06",
    );
    let rope = rope(500_000.0, RopeScaling::Default);
    assert_close(&inv_freq(&rope, 32), &expected);
    assert_eq!(attention_factor(&rope), 1.0);
}

#[test]
fn linear_frequencies_match_transformers() {
    // rope_type linear, rope_theta 10000, factor 4, head_dim 16
    let expected = numbers(
        "2.500000000e-01 7.905694097e-02 2.500000037e-02 7.905694656e-03 2.499999944e-03 \
         7.905694656e-04 2.500000119e-04 7.905694656e-05",
    );
    let rope = rope(10_000.0, RopeScaling::Linear { factor: 4.0 });
    assert_close(&inv_freq(&rope, 16), &expected);
}

#[test]
fn llama3_frequencies_match_transformers() {
    // rope_type llama3 with the settings of Llama-3.2-1B, head_dim 64
    let expected = numbers(
        "1.000000000e+00 6.636012793e-01 4.403666258e-01 2.922278345e-01 1.939227581e-01 \
         1.286873817e-01 8.539710194e-02 5.666961893e-02 3.760603070e-02 2.495540865e-02 \
         1.656044088e-02 1.098952908e-02 7.292665076e-03 4.839421250e-03 3.211446106e-03 \
         1.290548011e-03 4.295567051e-04 9.708286234e-05 1.946163866e-05 1.291476747e-05 \
         8.570255886e-06 5.687232260e-06 3.774054449e-06 2.504467147e-06 1.661967417e-06 \
         1.102883630e-06 7.318749340e-07 4.856731266e-07 3.222932889e-07 2.138742303e-07 \
         1.419272024e-07 9.418306490e-08",
    );
    let scaling = RopeScaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    assert_close(&inv_freq(&rope(500_000.0, scaling), 64), &expected);
}

#[test]
fn yarn_frequencies_match_transformers() {
    // rope_type yarn with the settings Qwen3 documents: theta 1e6, factor 4, original 32768,
    // head_dim 128; pairs 0, 8, 16, 24, 32, 40, 48, 56 and 63
    let expected = numbers(
        "1.000000000e+00 1.778279394e-01 3.162277862e-02 5.375321489e-03 6.029411452e-04 \
         4.445698505e-05 7.905693565e-06 1.405853368e-06 3.102344408e-07",
    );
    let rope = rope(1_000_000.0, yarn(4.0, 32_768));
    let frequencies = inv_freq(&rope, 128);
    assert_eq!(frequencies.len(), 64);
    let pairs = [0, 8, 16, 24, 32, 40, 48, 56, 63];
    assert_close(&pairs.map(|pair| frequencies[pair]), &expected);
    assert_close(&[attention_factor(&rope)], &[1.138_629_4]);
}

#[test]
fn yarn_with_mscale_and_unrounded_ramp_matches_transformers() {
    // rope_type yarn, theta 10000, factor 40, original 4096, beta_fast 16, beta_slow 2, mscale 1,
    // mscale_all_dim 0.5, truncate false, head_dim 32
    let expected = numbers(
        "1.000000000e+00 5.623413324e-01 3.162277639e-01 1.778279394e-01 1.000000015e-01 \
         5.623412877e-02 3.162277862e-02 1.509611961e-02 5.790104624e-03 1.738218707e-03 \
         1.239524572e-04 4.445698505e-05 2.499999937e-05 1.405853254e-05 7.905694474e-06 \
         4.445698323e-06",
    );
    let scaling = RopeScaling::Yarn {
        factor: 40.0,
        original_max_position_embeddings: 4096,
        attention_factor: None,
        beta_fast: 16.0,
        beta_slow: 2.0,
        mscale: Some(1.0),
        mscale_all_dim: Some(0.5),
        truncate: false,
    };
    let rope = rope(10_000.0, scaling);
    assert_close(&inv_freq(&rope, 32), &expected);
    assert_close(&[attention_factor(&rope)], &[1.155_722]);
}

#[test]
fn a_given_attention_factor_is_taken_as_it_is() {
    let mut scaling = yarn(4.0, 64);
    if let RopeScaling::Yarn {
        attention_factor, ..
    } = &mut scaling
    {
        *attention_factor = Some(0.75);
    }
    assert_eq!(attention_factor(&rope(1e4, scaling)), 0.75);
}

fn yarn(factor: f64, original_max_position_embeddings: usize) -> RopeScaling {
    RopeScaling::Yarn {
        factor,
        original_max_position_embeddings,
        attention_factor: None,
        beta_fast: 32.0,
        beta_slow: 1.0,
        mscale: None,
        mscale_all_dim: None,
        truncate: true,
    }
}
