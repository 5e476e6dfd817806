//! Gemma 3: both layouts of its windows and RoPE settings, its own defaults, and what is refused.

use super::*;

const SLIDING: Option<usize> = Some(512);

/// The layers' theta and scaling.
fn rope_of(config: &ModelConfig, layer_idx: usize) -> &RopeConfig {
    &config.ropes[config.layers[layer_idx].rope]
}

#[test]
fn gemma3_gets_the_defaults_of_transformers() {
    let mut value = gemma3();
    for field in ["num_key_value_heads", "sliding_window"] {
        value.as_object_mut().unwrap().remove(field);
    }
    let config = parse(value).unwrap();
    assert_eq!((config.head_dim, config.num_key_value_heads), (256, 4));
    assert_eq!(config.max_position_embeddings, 131_072);
    assert_eq!(
        (config.bos_token_id, config.eos_token_ids.as_slice()),
        (Some(2), &[1][..])
    );
    assert!(config.tie_word_embeddings);
    assert_eq!(config.norm_weights, NormWeights::OffsetFromOne);
    assert_eq!(config.embed_scale, Some(8.0));
    assert_eq!(biases_of(&config), NO_BIASES);
    let layer = &config.layers[0];
    assert_eq!(layer.sliding_window, Some(4096));
    assert_eq!(layer.query_pre_attn_scalar, Some(256));
    assert_eq!(layer.activation, Activation::GeluTanh);
    assert_eq!(
        (layer.qk_norm, layer.norms),
        (QkNorm::PerHead, Norms::BeforeAndAfter)
    );
}

#[test]
fn windows_follow_layer_types_or_the_pattern() {
    let windows = |value| windows_of(&parse(with(gemma3(), value)).unwrap());
    let of_six = [SLIDING, SLIDING, SLIDING, SLIDING, SLIDING, None, SLIDING];
    assert_eq!(windows(json!({})), of_six);
    let of_two = [SLIDING, None, SLIDING, None, SLIDING, None, SLIDING];
    assert_eq!(windows(json!({"sliding_window_pattern": 2})), of_two);
    let mut kinds = vec!["full_attention"; 7];
    kinds[2] = "sliding_attention";
    // The list takes precedence, as in transformers, which writes both.
    let both = json!({"layer_types": kinds, "sliding_window_pattern": 2});
    assert_eq!(windows(both), [None, None, SLIDING, None, None, None, None]);
    assert_refused(
        with(gemma3(), json!({"sliding_window_pattern": 0})),
        &["sliding_window_pattern", "at least 1"],
    );
    assert_refused(
        with(gemma3(), json!({"sliding_window": null})),
        &["sliding_window", "not null"],
    );
}

#[test]
fn both_layouts_give_each_kind_of_layer_its_rope() {
    let scaling = json!({"rope_type": "linear", "factor": 8.0});
    let v4 = json!({"rope_theta": 2e6, "rope_local_base_freq": 5e3, "rope_scaling": scaling});
    let v5 = json!({"rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 2e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 5e3}}});
    let v4 = parse(with(gemma3(), v4)).unwrap();
    assert_eq!(v4, parse(with(gemma3(), v5)).unwrap());
    let near = RopeConfig {
        theta: 5e3,
        scaling: RopeScaling::Default,
    };
    let far = RopeConfig {
        theta: 2e6,
        scaling: RopeScaling::Linear { factor: 8.0 },
    };
    assert_eq!((rope_of(&v4, 0), rope_of(&v4, 5)), (&near, &far));
}

#[test]
fn without_a_rope_the_two_bases_are_those_of_transformers() {
    for value in [
        json!({}),
        json!({"rope_parameters": {}}),
        json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}}),
    ] {
        let config = parse(with(gemma3(), value)).unwrap();
        assert_eq!(rope_of(&config, 0).theta, 10_000.0);
        assert_eq!(rope_of(&config, 5).theta, 1_000_000.0);
    }
}

#[test]
fn a_rope_that_could_mean_two_things_is_refused_by_name() {
    let flat = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}});
    assert_refused(
        with(gemma3(), flat),
        &["rope_parameters", "full_attention and sliding_attention"],
    );
    let both = json!({"rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "rope_parameters": {"full_attention": {"rope_type": "default"}}});
    assert_refused(with(gemma3(), both), &["rope_scaling", "rope_parameters"]);
    assert_refused(
        with(gemma3(), json!({"rope_local_base_freq": 0.5})),
        &["rope_local_base_freq", "above 1"],
    );
}

#[test]
fn what_no_text_model_uses_is_refused_by_name() {
    for (field, value) in [
        ("attn_logit_softcapping", json!(50.0)),
        ("final_logit_softcapping", json!(30.0)),
        ("use_bidirectional_attention", json!(true)),
        ("hidden_activation", json!("silu")),
        ("query_pre_attn_scalar", json!(0)),
    ] {
        assert_refused(with(gemma3(), json!({field: value})), &[field]);
    }
    let allowed = json!({"attn_logit_softcapping": null, "final_logit_softcapping": null,
        "use_bidirectional_attention": false, "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 168});
    let config = parse(with(gemma3(), allowed)).unwrap();
    assert_eq!(config.layers[0].query_pre_attn_scalar, Some(168));
}

#[test]
fn gemma3_with_images_is_refused_with_what_to_do() {
    for names in [
        json!({"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3"}),
        json!({"architectures": null, "model_type": "gemma3"}),
    ] {
        assert_refused(with(gemma3(), names), &["images", "docs/operations.md"]);
    }
}
