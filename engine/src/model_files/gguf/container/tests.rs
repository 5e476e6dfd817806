//! Bad files: each is one error that names the file and what is wrong in it, and none costs memory.

use proptest::prelude::*;

use super::super::writer::{Writer, write};
use super::*;

fn refused(bytes: &[u8]) -> String {
    let (_dir, path) = write(bytes);
    let text = Container::open(&path).unwrap_err().to_string();
    assert!(text.contains("model.gguf"), "{text}");
    text
}

fn assert_refused(bytes: &[u8], parts: &[&str]) {
    let text = refused(bytes);
    for part in parts {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

#[test]
fn a_file_gives_its_tensors() {
    let (_dir, path) = Writer::llama().write();
    let container = Container::open(&path).unwrap();
    assert_eq!(container.tensors.len(), 11);
    let tensor = &container.tensors["blk.0.attn_k.weight"];
    assert_eq!(
        (tensor.shape.as_slice(), tensor.kind),
        (&[16, 32][..], TensorType::F32)
    );
    let data = container.read(tensor).unwrap();
    assert_eq!(data[4..8], (1.0_f32 / 64.0).to_le_bytes());
}

#[test]
fn the_beginning_says_whether_it_is_a_file_we_read() {
    let good = Writer::llama().bytes();
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        bad
    };
    assert_refused(&with(0, b"GGML"), &["not a GGUF file", "GGML"]);
    assert_refused(&with(4, &1_u32.to_le_bytes()), &["version 1"]);
    assert_refused(&with(4, &3_u32.to_be_bytes()), &["big-endian"]);
    assert_refused(&with(8, &u64::MAX.to_le_bytes()), &["tensors", "65536"]);
    assert_refused(&with(16, &(1_u64 << 63).to_le_bytes()), &["keys", "65536"]);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n";
    assert_refused(pointer.as_bytes(), &["git lfs pull"]);
    assert_refused(b"", &["truncated"]);
    let missing = Container::open(Path::new("/none/model.gguf")).unwrap_err();
    assert!(missing.to_string().contains("/none/model.gguf"));
}

#[test]
fn a_length_beyond_the_file_is_refused() {
    let huge = 1_u64 << 63;
    let string = Writer::llama().value("a.b", 8, &huge.to_le_bytes());
    assert_refused(&string.bytes(), &["a.b", "9223372036854775808 bytes"]);
    let array = Writer::llama().array("a.b", 4, huge, &[]);
    assert_refused(&array.bytes(), &["a.b", "array of 9223372036854775808"]);
    let array = Writer::llama().array("a.b", 10, 1 << 22, &[]);
    assert_refused(&array.bytes(), &["a.b", "33554432 bytes"]);
    let mut key = Writer::llama().bytes();
    key[24..32].copy_from_slice(&huge.to_le_bytes());
    assert_refused(&key, &["a key", "9223372036854775808 bytes"]);
    for shape in [&[huge, 32][..], &[1 << 40, 1 << 40], &[0, 32], &[1; 5], &[]] {
        let tensor = Writer::llama().tensor("x", shape, 0, Vec::new());
        assert_refused(&tensor.bytes(), &["tensor x", "dimensions"]);
    }
}

#[test]
fn what_is_there_twice_or_unknown_is_named() {
    let llama = Writer::llama;
    let twice = llama().again("llama.block_count", 4, &[1, 0, 0, 0]);
    assert_refused(&twice.bytes(), &["llama.block_count twice"]);
    let twice = llama().f32_tensor("output_norm.weight", &[32]);
    assert_refused(&twice.bytes(), &["two tensors named output_norm.weight"]);
    assert_refused(&llama().value("a", 13, &[]).bytes(), &["key a", "type 13"]);
    assert_refused(
        &llama().array("a", 9, 1, &[]).bytes(),
        &["key a", "array of arrays"],
    );
    for (number, name) in [
        (10, "Q2_K"),
        (23, "IQ4_XS"),
        (39, "MXFP4"),
        (999, "type 999"),
    ] {
        let tensor = llama().tensor("blk.0.x", &[1, 256], number, vec![0; 512]);
        assert_refused(&tensor.bytes(), &["tensor blk.0.x", name, "Q4_K"]);
    }
    let row = llama().tensor("x", &[2, 33], 8, vec![0; 70]);
    assert_refused(&row.bytes(), &["tensor x", "33 elements", "block of 32"]);
    let text = llama().value("a", 8, &[2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    assert_refused(&text.bytes(), &["not UTF-8"]);
}

#[test]
fn the_alignment_is_checked_and_kept() {
    let alignment = |value| Writer::llama().u32("general.alignment", value).bytes();
    for bad in [0, 33, 1 << 31] {
        assert_refused(&alignment(bad), &["general.alignment", "power of two"]);
    }
    // The offsets were laid out for 32.
    assert_refused(
        &alignment(1 << 12),
        &["not a multiple of the alignment, 4096"],
    );
}

#[test]
fn a_truncated_file_names_the_first_tensor_that_is_cut() {
    let good = Writer::llama().bytes();
    assert_refused(
        &good[..good.len() - 1],
        &["truncated", "tensor blk.0.ffn_down.weight"],
    );
    let (_dir, path) = write(&good);
    let container = Container::open(&path).unwrap();
    let second = container.tensors["output_norm.weight"].offset_bytes as usize;
    assert_refused(&good[..second + 4], &["tensor output_norm.weight"]);
    // No length is good but the whole one.
    for len in (0..good.len()).step_by(97) {
        refused(&good[..len]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever the bytes are, a file is refused or its tensors lie inside it.
    #[test]
    fn damaged_files_are_refused_or_safe(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut bytes = Writer::llama().bytes();
        // Most of the file is weights, which may be anything: damage the header.
        let header_bytes = 2_048.min(bytes.len());
        for (at, value) in flips {
            bytes[at.index(header_bytes)] ^= value;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        let (_dir, path) = write(&bytes);
        if let Ok(container) = Container::open(&path) {
            prop_assert!(container.metadata.path().exists());
            for tensor in container.tensors.values() {
                prop_assert!(tensor.offset_bytes + tensor.len_bytes as u64 <= bytes.len() as u64);
                prop_assert_eq!(container.read(tensor).unwrap().len(), tensor.len_bytes);
            }
        }
    }
}
