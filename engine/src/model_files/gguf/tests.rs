//! Whole models: tensors under their Hugging Face names, split files, and damaged files.

use proptest::prelude::*;

use super::writer::{Writer, write};
use super::*;
use crate::config::ModelConfig;
use crate::model_files::source::ModelSource;
use crate::text::TextCodec;
use crate::weights::WeightFiles;

fn weights(path: &Path) -> Result<WeightFiles, EngineError> {
    WeightFiles::open(&ModelSource::open(path)?)
}

fn assert_refused<T: std::fmt::Debug>(result: Result<T, EngineError>, parts: &[&str]) {
    let text = result.unwrap_err().to_string();
    for part in parts {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

#[test]
fn queries_and_keys_of_a_llama_get_their_halves_back() {
    let (_dir, path) = Writer::llama().write();
    let files = weights(&path).unwrap();
    // Row r of the file holds r / 2, (64 r + 1) / 64 ... : its first value tells its number.
    let rows = |name: &str, shape: [usize; 2]| -> Vec<f32> {
        let name = format!("model.layers.0.self_attn.{name}.weight");
        let values = files.tensor(&name, &shape).unwrap().to_f32();
        values.chunks(shape[1]).map(|row| row[0] * 2.0).collect()
    };
    let head = |start: usize| {
        let pairs = (0..8).map(move |pair| (start + 2 * pair) as f32);
        pairs.clone().chain(pairs.map(|even| even + 1.0))
    };
    let two_heads: Vec<f32> = head(0).chain(head(16)).collect();
    assert_eq!(rows("q_proj", [32, 32]), two_heads);
    assert_eq!(rows("k_proj", [16, 32]), head(0).collect::<Vec<_>>());
    let in_order: Vec<f32> = (0..16).map(|row| row as f32).collect();
    assert_eq!(rows("v_proj", [16, 32]), in_order);
}

#[test]
fn gemmas_norms_lose_the_one_that_is_added() {
    let writer = Writer::llama()
        .text("general.architecture", "gemma3")
        .f32_tensor("blk.0.post_ffw_norm.weight", &[32]);
    let (_dir, path) = writer.write();
    let files = weights(&path).unwrap();
    for name in ["model.norm", "model.layers.0.post_feedforward_layernorm"] {
        let values = files
            .tensor(&format!("{name}.weight"), &[32])
            .unwrap()
            .to_f32();
        assert_eq!(
            values[..3],
            [-1.0, 1.0 / 64.0 - 1.0, 2.0 / 64.0 - 1.0],
            "{name}"
        );
    }
    let table = files.tensor("model.embed_tokens.weight", &[8, 32]).unwrap();
    assert_eq!(table.to_f32()[1], 1.0 / 64.0);
}

#[test]
fn errors_about_tensors_have_the_names_of_the_file() {
    let refused = |writer: Writer, parts: &[&str]| {
        let (_dir, path) = writer.write();
        let name = "model.layers.0.self_attn.q_proj.weight";
        let result = weights(&path).and_then(|files| files.tensor(name, &[32, 32]));
        assert_refused(result, parts);
    };
    let query = "blk.0.attn_q.weight";
    let without = || Writer::llama().without_tensor(query);
    refused(without(), &["model.gguf", "no tensor", "metadata"]);
    let wide = without().f32_tensor(query, &[32, 64]);
    refused(wide, &[query, "[32, 64]", "metadata asks for [32, 32]"]);
    let odd = without().f32_tensor(query, &[33, 32]);
    refused(odd, &[query, "[33, 32]"]);
    let mut blocks = vec![0; 34 * 32];
    blocks[34 * 3 + 1] = 0x7c; // an infinite scale
    let infinite = without().tensor(query, &[32, 32], 8, blocks);
    refused(infinite, &[query, "NaN or an infinity (element 96)"]);
    let foreign = Writer::llama().f32_tensor("blk.0.attn_q_norm.weight", &[16]);
    refused(
        foreign,
        &["blk.0.attn_q_norm.weight", "llama", "not supported"],
    );
}

#[test]
fn a_split_model_is_read_from_its_first_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = |number: u32| dir.path().join(format!("m-{number:05}-of-00002.gguf"));
    let norm = "output_norm.weight";
    let split = |writer: Writer| writer.u32("split.count", 2);
    let first = split(Writer::llama()).without_tensor(norm);
    fs_err::write(path(1), first.bytes()).unwrap();
    assert_refused(weights(&path(1)), &["m-00002-of-00002.gguf"]);
    let second = split(Writer::default()).f32_tensor(norm, &[32]);
    fs_err::write(path(2), second.bytes()).unwrap();

    let files = weights(&path(1)).unwrap();
    assert_eq!(
        files.tensor("model.norm.weight", &[32]).unwrap().to_f32()[1],
        1.0 / 64.0
    );
    assert_eq!(ModelSource::open(&path(1)).unwrap().name(), "m");
    let stamp = files.stamp().unwrap();
    fs_err::write(path(2), second.bytes()).unwrap();
    assert_refused(
        weights(&path(1)).unwrap().check_unchanged(&stamp),
        &["m-00002", "changed"],
    );

    assert_refused(weights(&path(2)), &["split.count", "-00001-of-00002.gguf"]);
    fs_err::write(path(2), split(Writer::llama()).bytes()).unwrap();
    assert_refused(
        weights(&path(1)),
        &["m-00002-of-00002.gguf", "also in an earlier part"],
    );
}

#[test]
fn the_hash_follows_every_byte() {
    let hash = |bytes: &[u8]| {
        let (_dir, path) = write(bytes);
        weights(&path).unwrap().hash().unwrap()
    };
    let mut bytes = Writer::llama().bytes();
    let first = hash(&bytes);
    assert_eq!(first, hash(&bytes));
    let last = bytes.len() - 4;
    bytes[last] ^= 1;
    assert_ne!(first, hash(&bytes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the header's bytes are, config, tokenizer and tensors are refused or read.
    #[test]
    fn damaged_metadata_never_panics(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = Writer::llama().bytes();
        for (at, value) in flips {
            bytes[at.index(2_048)] ^= value;
        }
        let (_dir, path) = write(&bytes);
        if let Ok(config) = ModelConfig::from_dir(&path) {
            prop_assert!(config.vocab_size > 0);
        }
        if let Ok(codec) = TextCodec::from_dir(&path) {
            let _ = codec.encode_plain("ab a b <s>");
        }
        if let Ok(files) = weights(&path) {
            let _ = files.tensor("model.layers.0.self_attn.q_proj.weight", &[32, 32]);
        }
    }
}
