//! From metadata to a checked config: values, and errors that name the key.

use serde_json::json;

use super::super::GgufModel;
use super::super::writer::Writer;
use crate::config::{Architecture, ModelConfig, RopeScaling};

fn config(writer: &Writer) -> ModelConfig {
    let (_dir, path) = writer.write();
    ModelConfig::from_dir(&path).unwrap()
}

fn assert_refused(writer: Writer, parts: &[&str]) {
    let (_dir, path) = writer.write();
    let text = ModelConfig::from_dir(&path).unwrap_err().to_string();
    for part in parts.iter().chain(&["model.gguf"]) {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

/// The same model with another family's keys.
fn family(name: &str) -> Writer {
    let sizes = [
        ("context_length", 64),
        ("embedding_length", 32),
        ("block_count", 1),
        ("feed_forward_length", 16),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
    ];
    let writer = Writer::llama().text("general.architecture", name);
    let epsilon = format!("{name}.attention.layer_norm_rms_epsilon");
    let writer = writer.f32(&epsilon, 1e-6);
    sizes.into_iter().fold(writer, |writer, (key, size)| {
        writer.u32(&format!("{name}.{key}"), size)
    })
}

#[test]
fn a_llama_is_read() {
    let read = config(&Writer::llama());
    assert_eq!(read.architecture, Architecture::Llama);
    assert_eq!(
        (read.vocab_size, read.hidden_size, read.head_dim),
        (8, 32, 16)
    );
    assert_eq!((read.num_attention_heads, read.num_key_value_heads), (2, 1));
    assert_eq!(
        (read.max_position_embeddings, read.intermediate_size),
        (64, 16)
    );
    assert!(read.tie_word_embeddings);
    assert_eq!((read.bos_token_id, read.eos_token_ids), (Some(4), vec![5]));
    assert_eq!(read.rms_norm_eps, f64::from(1e-5_f32));
    let untied = Writer::llama().f32_tensor("output.weight", &[8, 32]);
    assert!(!config(&untied).tie_word_embeddings);
}

#[test]
fn other_families_are_told_apart() {
    assert_eq!(config(&family("qwen2")).architecture, Architecture::Qwen2);
    assert_eq!(config(&family("qwen3")).architecture, Architecture::Qwen3);
    assert_eq!(
        config(&family("mistral3")).architecture,
        Architecture::Mistral
    );
    let windowed = Writer::llama().u32("llama.attention.sliding_window", 16);
    let read = config(&windowed);
    assert_eq!(read.architecture, Architecture::Mistral);
    assert_eq!(read.layers[0].sliding_window, Some(16));
    assert_refused(
        family("mamba"),
        &["general.architecture", "mamba", "gemma3"],
    );
    let nameless = Writer::llama().without("general.architecture");
    assert_refused(nameless, &["general.architecture", "is missing"]);
}

#[test]
fn gemma_3_gets_what_llama_cpp_knows_about_it() {
    let writer = family("gemma3")
        .u32("gemma3.attention.key_length", 16)
        .u32("gemma3.attention.sliding_window", 512)
        .f32("gemma3.rope.freq_base", 1e6);
    let (_dir, path) = writer.write();
    let value = GgufModel::open(&path).unwrap().config().unwrap().value;
    for (field, expected) in [
        ("model_type", json!("gemma3_text")),
        ("hidden_activation", json!("gelu_pytorch_tanh")),
        ("query_pre_attn_scalar", json!(16)),
        ("rope_theta", json!(1e6)),
        ("rope_local_base_freq", json!(1e4)),
        ("sliding_window", json!(512)),
        ("sliding_window_pattern", json!(6)),
        ("head_dim", json!(16)),
    ] {
        assert_eq!(value[field], expected, "{field}");
    }
}

#[test]
fn all_ends_of_a_turn_end_an_answer() {
    let tokens = [
        "a",
        "b",
        "<|eot_id|>",
        "ab",
        "<s>",
        "</s>",
        "<end_of_turn>",
        "Ġa",
    ];
    let writer = Writer::llama()
        .texts("tokenizer.ggml.tokens", &tokens)
        .u32("tokenizer.ggml.eot_token_id", 3);
    assert_eq!(config(&writer).eos_token_ids, [5, 3, 2, 6]);
}

#[test]
fn scaled_rope_is_read() {
    let scaled = |kind| {
        Writer::llama()
            .text("llama.rope.scaling.type", kind)
            .f32("llama.rope.scaling.factor", 4.0)
            .u32("llama.rope.scaling.original_context_length", 16)
    };
    let scaling = |kind| config(&scaled(kind)).ropes[0].scaling.clone();
    assert_eq!(scaling("none"), RopeScaling::Default);
    assert_eq!(scaling("linear"), RopeScaling::Linear { factor: 4.0 });
    let RopeScaling::Yarn {
        factor,
        original_max_position_embeddings,
        attention_factor,
        ..
    } = scaling("yarn")
    else {
        panic!("yarn")
    };
    let expected = (4.0, 16, None);
    assert_eq!(
        (factor, original_max_position_embeddings, attention_factor),
        expected
    );
    assert_refused(scaled("longrope"), &["llama.rope.scaling.type", "longrope"]);
    let bad = scaled("linear").f32("llama.rope.scaling.factor", 0.5);
    assert_refused(bad, &["llama.rope.scaling.factor", "at least 1"]);
}

#[test]
fn llama_3_scaling_is_found_again_from_its_tensor() {
    // Divisors of Llama 3.2 for heads of 16 with theta 500000, by the converter's formula.
    let divisor = |i: u32| {
        let frequency = 1.0 / 500_000_f64.powf(f64::from(2 * i) / 16.0);
        let length = std::f64::consts::TAU / frequency;
        match length {
            l if l < 8192.0 / 4.0 => 1.0,
            l if l > 8192.0 => 32.0,
            l => {
                let smooth = (8192.0 / l - 1.0) / 3.0;
                1.0 / ((1.0 - smooth) / 32.0 + smooth)
            }
        }
    };
    let bytes = |scale: f64| -> Vec<u8> {
        (0..8)
            .flat_map(|i| ((divisor(i) * scale) as f32).to_le_bytes())
            .collect()
    };
    let llama = || Writer::llama().f32("llama.rope.freq_base", 500_000.0);
    let writer = llama().tensor("rope_freqs.weight", &[8], 0, bytes(1.0));
    let RopeScaling::Llama3 { factor, .. } = config(&writer).ropes[0].scaling else {
        panic!("llama3")
    };
    assert_eq!(factor, 32.0);
    let other = llama().tensor("rope_freqs.weight", &[8], 0, bytes(1.1));
    assert_refused(other, &["rope_freqs.weight", "another way"]);
    let short = llama().tensor("rope_freqs.weight", &[4], 0, vec![0; 16]);
    assert_refused(short, &["rope_freqs.weight", "each pair"]);
}

#[test]
fn errors_name_the_key() {
    let llama = Writer::llama;
    let missing = llama().without("llama.embedding_length");
    assert_refused(missing, &["llama.embedding_length", "is missing"]);
    let text = llama().text("llama.embedding_length", "wide");
    assert_refused(text, &["llama.embedding_length", "whole number", "wide"]);
    let list = llama().i32s("llama.feed_forward_length", &[1, 2]);
    assert_refused(list, &["llama.feed_forward_length", "whole number"]);
    let huge = llama().u32("llama.block_count", u32::MAX);
    assert_refused(huge, &["llama.block_count", "between 1 and"]);
    let uneven = llama().u32("llama.attention.head_count_kv", 3);
    assert_refused(
        uneven,
        &["llama.attention.head_count_kv", "does not divide"],
    );
    let partial = llama().u32("llama.rope.dimension_count", 8);
    assert_refused(partial, &["llama.rope.dimension_count", "full rotation"]);
    let experts = llama().u32("llama.expert_count", 8);
    assert_refused(experts, &["llama.expert_count", "mixture of experts"]);
    let end = llama().u32("tokenizer.ggml.eos_token_id", 8);
    assert_refused(
        end,
        &["tokenizer.ggml.eos_token_id", "token 8", "vocab_size is 8"],
    );
    let heads = llama()
        .u32("llama.attention.key_length", 16)
        .u32("llama.attention.value_length", 32);
    assert_refused(heads, &["llama.attention.value_length", "32"]);
}

#[test]
fn the_vocabulary_must_fit_the_token_table() {
    let tokens = ["x"; 9];
    let more = Writer::llama().texts("tokenizer.ggml.tokens", &tokens);
    assert_refused(more, &["tokenizer.ggml.tokens", "9 tokens", "8 rows"]);
    let other = Writer::llama().u32("llama.vocab_size", 9);
    assert_refused(other, &["llama.vocab_size", "8 rows"]);
    let none = Writer::llama().without_tensor("token_embd.weight");
    assert_refused(none, &["token_embd.weight"]);
    let numbers = Writer::llama().i32s("tokenizer.ggml.tokens", &[1]);
    assert_refused(numbers, &["tokenizer.ggml.tokens", "array of strings"]);
}
