//! Which `config.json` files are accepted, with which defaults, and which are refused, by field.

use serde_json::json;

use super::*;

mod gemma3;

fn parse(value: Value) -> Result<ModelConfig, EngineError> {
    ModelConfig::from_json(&value, Path::new("m/config.json"))
}

fn llama() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 1122,
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4,
        "num_attention_heads": 4, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    })
}

fn qwen3() -> Value {
    json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 500,
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    })
}

/// The shape of [`qwen3`] under another family's names.
fn family(class_name: &str, model_type: &str) -> Value {
    let names = json!({"architectures": [class_name], "model_type": model_type, "head_dim": null});
    with(qwen3(), names)
}

fn qwen2() -> Value {
    family("Qwen2ForCausalLM", "qwen2")
}

fn mistral() -> Value {
    family("MistralForCausalLM", "mistral")
}

fn gemma3() -> Value {
    json!({
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "vocab_size": 500,
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 7,
        "num_attention_heads": 4, "num_key_value_heads": 1, "sliding_window": 512,
    })
}

fn with(mut base: Value, changes: Value) -> Value {
    let (Some(base_map), Value::Object(changes)) = (base.as_object_mut(), changes) else {
        panic!("both are objects");
    };
    base_map.extend(changes);
    base
}

/// Asserts that the config is refused with a text that contains each of `parts`.
fn assert_refused(value: Value, parts: &[&str]) {
    let error = parse(value).unwrap_err();
    assert!(
        matches!(error, EngineError::UnsupportedModel { .. }),
        "{error:?}"
    );
    let text = error.to_string();
    for part in parts.iter().chain(&["m/config.json"]) {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

const NO_BIASES: Biases = Biases {
    qkv: false,
    attention_output: false,
    mlp: false,
};

fn windows_of(config: &ModelConfig) -> Vec<Option<usize>> {
    let layers = config.layers.iter();
    layers.map(|layer| layer.sliding_window).collect()
}

/// The biases of all layers, which are the same.
fn biases_of(config: &ModelConfig) -> Biases {
    let biases = config.layers[0].biases;
    assert!(config.layers.iter().all(|layer| layer.biases == biases));
    biases
}

/// Checks sizes, divisibility and ranges of a config built in code.
fn validate(config: &ModelConfig) -> Result<(), EngineError> {
    let empty = Value::Object(serde_json::Map::new());
    config.check(Fields::root(&empty, Path::new("config.json"))?)
}

#[test]
fn llama_gets_the_defaults_of_transformers() {
    let config = parse(llama()).unwrap();
    assert_eq!(config.num_key_value_heads, 4);
    assert_eq!(config.head_dim, 32);
    assert_eq!(config.max_position_embeddings, 2048);
    assert_eq!(
        config.ropes,
        [RopeConfig {
            theta: 10_000.0,
            scaling: RopeScaling::Default
        }]
    );
    assert_eq!(
        (config.bos_token_id, config.eos_token_ids.as_slice()),
        (Some(1), &[2][..])
    );
    assert_eq!(windows_of(&config), vec![None; 4]);
    assert!(!config.tie_word_embeddings);
    assert_eq!(biases_of(&config), NO_BIASES);
}

#[test]
fn qwen3_gets_the_defaults_of_transformers() {
    let mut value = qwen3();
    value.as_object_mut().unwrap().remove("head_dim");
    value.as_object_mut().unwrap().remove("num_key_value_heads");
    let config = parse(with(value, json!({"num_attention_heads": 64}))).unwrap();
    assert_eq!((config.head_dim, config.num_key_value_heads), (128, 32));
    assert_eq!(config.max_position_embeddings, 32_768);
    assert_eq!(config.rms_norm_eps, 1e-6);
    assert_eq!((config.bos_token_id, config.eos_token_ids.len()), (None, 0));
}

#[test]
fn qwen2_has_biases_on_q_k_and_v_alone() {
    // Neither field exists in Qwen2; transformers ignores them.
    let fields = json!({"attention_bias": false, "mlp_bias": true});
    let config = parse(with(qwen2(), fields)).unwrap();
    let biases = Biases {
        qkv: true,
        ..NO_BIASES
    };
    assert_eq!(biases_of(&config), biases);
    assert_eq!(config.architecture, Architecture::Qwen2);
    assert_eq!(
        (config.head_dim, config.max_position_embeddings),
        (16, 32_768)
    );
    assert_eq!((config.bos_token_id, config.eos_token_ids.len()), (None, 0));
}

#[test]
fn llama_and_qwen3_have_biases_on_all_of_attention_or_none() {
    for base in [llama(), qwen3()] {
        let config = parse(with(base, json!({"attention_bias": true}))).unwrap();
        let biases = Biases {
            mlp: false,
            qkv: true,
            attention_output: true,
        };
        assert_eq!(biases_of(&config), biases);
    }
}

#[test]
fn mistral_gets_the_defaults_of_transformers() {
    let mut value = mistral();
    value.as_object_mut().unwrap().remove("num_key_value_heads");
    let fields = json!({"num_attention_heads": 16, "attention_bias": true, "mlp_bias": true});
    let config = parse(with(value, fields)).unwrap();
    assert_eq!((config.head_dim, config.num_key_value_heads), (4, 8));
    assert_eq!(config.max_position_embeddings, 131_072);
    assert_eq!(
        (config.bos_token_id, config.eos_token_ids.as_slice()),
        (Some(1), &[2][..])
    );
    assert_eq!(biases_of(&config), NO_BIASES);
}

#[test]
fn null_key_value_heads_mean_as_many_as_query_heads() {
    let config = parse(with(qwen3(), json!({"num_key_value_heads": null}))).unwrap();
    assert_eq!(config.num_key_value_heads, 4);
}

#[test]
fn both_layouts_give_the_same_config() {
    let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 512});
    let v4 = json!({"rope_theta": 500000.0, "torch_dtype": "bfloat16", "rope_scaling": scaling});
    let v5 = json!({"dtype": "bfloat16",
        "rope_parameters": with(scaling, json!({"rope_theta": 500000.0}))});
    let v4 = parse(with(llama(), v4)).unwrap();
    assert_eq!(v4, parse(with(llama(), v5)).unwrap());
    assert_eq!(v4.ropes[0].theta, 500_000.0);
    assert_eq!(v4.weights_dtype.as_deref(), Some("bfloat16"));
}

#[test]
fn the_older_spelling_of_the_rope_type_is_read() {
    let config = parse(with(
        llama(),
        json!({"rope_scaling": {"type": "linear", "factor": 2}}),
    ));
    assert_eq!(
        config.unwrap().ropes[0].scaling,
        RopeScaling::Linear { factor: 2.0 }
    );
}

#[test]
fn yarn_without_its_original_length_takes_the_models() {
    let rope = json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}});
    let RopeScaling::Yarn {
        original_max_position_embeddings,
        beta_fast,
        truncate,
        ..
    } = parse(with(llama(), rope)).unwrap().ropes[0].scaling.clone()
    else {
        panic!("not yarn");
    };
    assert_eq!(
        (original_max_position_embeddings, beta_fast, truncate),
        (2048, 32.0, true)
    );
}

#[test]
fn yarn_with_a_null_factor_takes_the_ratio_of_the_lengths() {
    let rope = json!({"rope_scaling": {"rope_type": "yarn", "factor": null,
        "original_max_position_embeddings": 512}});
    let scaling = parse(with(llama(), rope)).unwrap().ropes[0].scaling.clone();
    assert!(
        matches!(scaling, RopeScaling::Yarn { factor: 4.0, .. }),
        "{scaling:?}"
    );
}

#[test]
fn rope_types_that_depend_on_the_prompt_length_are_refused_with_the_reason() {
    for kind in ["dynamic", "longrope"] {
        let rope = json!({"rope_scaling": {"rope_type": kind, "factor": 2.0}});
        assert_refused(
            with(llama(), rope),
            &[kind, "rope_scaling.rope_type", "total length"],
        );
    }
}

#[test]
fn bad_rope_settings_are_refused_by_name() {
    let refused = |rope: Value, parts: &[&str]| {
        assert_refused(with(llama(), json!({"rope_parameters": rope})), parts);
    };
    refused(
        json!({"rope_type": "mrope"}),
        &["\"mrope\"", "supported: default, linear"],
    );
    refused(
        json!({"rope_type": "linear"}),
        &["rope_parameters.factor", "missing"],
    );
    refused(
        json!({"rope_type": "linear", "factor": 0.5}),
        &["factor", "at least 1"],
    );
    refused(
        json!({"rope_type": "yarn", "factor": "4"}),
        &["factor", "finite number"],
    );
    refused(
        json!({"rope_type": "default", "rope_theta": 0}),
        &["rope_theta"],
    );
    refused(
        json!({"partial_rotary_factor": 0.5}),
        &["partial_rotary_factor"],
    );
    refused(
        json!({"full_attention": {"rope_type": "default"}}),
        &["per layer type"],
    );
    refused(
        json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}),
        &["high_freq_factor", "above low_freq_factor"],
    );
}

#[test]
fn qwen3_windows_follow_layer_types_or_the_first_window_layer() {
    let on = json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 3});
    let windows = |value| windows_of(&parse(value).unwrap());
    assert_eq!(
        windows(with(qwen3(), on.clone())),
        [None, None, None, Some(8)]
    );
    let kinds = json!({"layer_types":
        ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]});
    let both = with(with(qwen3(), on), kinds.clone());
    assert_eq!(windows(both), [Some(8), None, Some(8), None]);
    let off = json!({"use_sliding_window": false, "sliding_window": 8, "max_window_layers": 0});
    assert_eq!(windows(with(qwen3(), off)), vec![None; 4]);
    assert_refused(with(qwen3(), kinds), &["layer_types", "no window"]);
}

#[test]
fn qwen2_windows_are_off_unless_asked_for() {
    let off = json!({"use_sliding_window": false, "sliding_window": 8, "max_window_layers": 2});
    let windows = |value| windows_of(&parse(value).unwrap());
    assert_eq!(windows(with(qwen2(), off.clone())), vec![None; 4]);
    let on = with(off, json!({"use_sliding_window": true}));
    assert_eq!(windows(with(qwen2(), on)), [None, None, Some(8), Some(8)]);
}

#[test]
fn mistral_has_one_window_for_all_layers_or_none() {
    let windows = |fields| windows_of(&parse(with(mistral(), fields)).unwrap());
    assert_eq!(windows(json!({"sliding_window": 8})), vec![Some(8); 4]);
    assert_eq!(windows(json!({"sliding_window": null})), vec![None; 4]);
    assert_eq!(windows(json!({})), vec![Some(4096); 4]);
    assert_refused(
        with(mistral(), json!({"sliding_window": 0})),
        &["sliding_window", "at least 1"],
    );
    assert_refused(
        with(mistral(), json!({"layer_types": ["full_attention"]})),
        &["layer_types", "MistralForCausalLM"],
    );
}

#[test]
fn layer_types_must_fit_the_layers() {
    assert_refused(
        with(qwen3(), json!({"layer_types": ["full_attention"]})),
        &["4 layers"],
    );
    let mamba = json!({"layer_types": ["full_attention", "mamba", "mamba", "mamba"]});
    assert_refused(with(qwen3(), mamba), &["\"mamba\""]);
}

#[test]
fn other_architectures_are_refused_with_the_list_of_supported_ones() {
    let supported = [
        "LlamaForCausalLM (llama)",
        "MistralForCausalLM (mistral)",
        "Qwen2ForCausalLM (qwen2)",
        "Qwen3ForCausalLM (qwen3)",
        "Gemma3ForCausalLM (gemma3_text)",
    ];
    let gemma = json!({"architectures": ["GemmaForCausalLM"], "model_type": "gemma"});
    let mut parts = vec!["GemmaForCausalLM"];
    parts.extend(supported);
    assert_refused(with(llama(), gemma), &parts);
    let none = json!({"architectures": null, "model_type": null});
    let parts = ["architectures", "missing", supported[0]];
    assert_refused(with(llama(), none), &parts);
    assert_refused(
        with(llama(), json!({"model_type": "qwen3"})),
        &["model_type", "qwen3"],
    );
    let by_type = parse(with(llama(), json!({"architectures": null}))).unwrap();
    assert_eq!(by_type.architecture, Architecture::Llama);
}

#[test]
fn impossible_sizes_are_refused_by_name() {
    for (field, value) in [
        ("vocab_size", json!(0)),
        ("hidden_size", json!(u64::MAX)),
        ("hidden_size", json!(-1)),
        ("intermediate_size", json!(1.5)),
        ("num_hidden_layers", json!(1_000_000_000)),
        ("num_attention_heads", json!(0)),
        ("num_key_value_heads", json!(3)),
        ("num_key_value_heads", json!(0)),
        ("head_dim", json!(33)),
        ("max_position_embeddings", json!("long")),
        ("rms_norm_eps", json!(-1e-5)),
        ("hidden_act", json!("gelu")),
        ("eos_token_id", json!([2, "x"])),
        ("tie_word_embeddings", json!("yes")),
    ] {
        assert_refused(with(llama(), json!({field: value})), &[field]);
    }
    let huge = json!({"hidden_size": 131072, "intermediate_size": 1048576, "head_dim": 1024,
        "num_hidden_layers": 1024});
    assert_refused(with(llama(), huge), &["2^40 parameters"]);
}

#[test]
fn a_missing_size_is_named() {
    for field in [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
    ] {
        assert_refused(with(llama(), json!({field: null})), &[field, "missing"]);
    }
    let odd = json!({"hidden_size": 130});
    assert_refused(with(llama(), odd), &["head_dim", "not a multiple"]);
}

#[test]
fn quantized_weights_are_refused_with_their_method() {
    let quantized = json!({"quantization_config": {"quant_method": "gptq", "bits": 4}});
    assert_refused(with(llama(), quantized), &["quantization_config", "gptq"]);
}

#[test]
fn eos_may_be_one_id_or_a_list() {
    let ids = |value| {
        parse(with(llama(), json!({"eos_token_id": value})))
            .unwrap()
            .eos_token_ids
    };
    assert_eq!(ids(json!(7)), [7]);
    assert_eq!(ids(json!([7, 9])), [7, 9]);
    assert_eq!(ids(json!(null)), [0_u32; 0]);
}

#[test]
fn unreadable_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let text = ModelConfig::from_dir(dir.path()).unwrap_err().to_string();
    assert!(text.contains("config.json"), "{text}");
    fs_err::write(dir.path().join("config.json"), "{\"vocab_size\": NaN}").unwrap();
    let error = ModelConfig::from_dir(dir.path()).unwrap_err();
    assert!(matches!(error, EngineError::ModelFile { .. }), "{error:?}");
    assert!(error.to_string().contains("not valid JSON"), "{error}");
}

#[test]
fn a_config_built_in_code_is_validated_too() {
    let mut config = parse(llama()).unwrap();
    validate(&config).unwrap();
    config.num_key_value_heads = 0;
    assert!(
        validate(&config)
            .unwrap_err()
            .to_string()
            .contains("num_key_value_heads")
    );
}

#[test]
fn what_the_engine_does_not_use_refuses_no_model() {
    for (field, value) in [
        ("bos_token_id", json!(-1)),
        ("bos_token_id", json!([1, 2])),
        ("pad_token_id", json!(-1)),
        ("torch_dtype", json!({"default": "bfloat16"})),
        ("dtype", json!(null)),
    ] {
        let mut config = llama();
        config[field] = value;
        parse(config).unwrap();
    }
}

#[test]
fn an_end_of_sequence_beyond_the_vocabulary_is_refused_by_name() {
    let mut config = llama();
    let vocab_size = config["vocab_size"].as_u64().unwrap();
    config["eos_token_id"] = json!([2, vocab_size]);
    assert_refused(config, &["eos_token_id", "config.json", "vocab_size"]);
}
