//! Writes GGUF files for tests, good and bad ones.

use std::path::PathBuf;

use tempfile::TempDir;

const ALIGNMENT: usize = 32;
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// A file to be: keys and tensors in order, duplicates included.
#[derive(Clone, Default)]
pub(crate) struct Writer {
    keys: Vec<(String, Vec<u8>)>,
    tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

impl Writer {
    /// A llama of one layer: hidden size 32, 2 heads, 8 tokens, all weights f32.
    pub(crate) fn llama() -> Self {
        let mut writer = Self::default()
            .text("general.architecture", "llama")
            .u32("llama.context_length", 64)
            .u32("llama.embedding_length", 32)
            .u32("llama.block_count", 1)
            .u32("llama.feed_forward_length", 16)
            .u32("llama.attention.head_count", 2)
            .u32("llama.attention.head_count_kv", 1)
            .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
            .text("tokenizer.ggml.model", "gpt2")
            .text("tokenizer.ggml.pre", "gpt-2")
            .texts(
                "tokenizer.ggml.tokens",
                &["a", "b", "c", "ab", "<s>", "</s>", "Ġ", "Ġa"],
            )
            .i32s("tokenizer.ggml.token_type", &[1, 1, 1, 1, 3, 3, 1, 1])
            .texts("tokenizer.ggml.merges", &["a b", "Ġ a"])
            .u32("tokenizer.ggml.bos_token_id", 4)
            .u32("tokenizer.ggml.eos_token_id", 5)
            .f32_tensor("token_embd.weight", &[8, 32])
            .f32_tensor("output_norm.weight", &[32]);
        for (name, shape) in [
            ("attn_norm", &[32_u64][..]),
            ("ffn_norm", &[32]),
            ("attn_q", &[32, 32]),
            ("attn_k", &[16, 32]),
            ("attn_v", &[16, 32]),
            ("attn_output", &[32, 32]),
            ("ffn_gate", &[16, 32]),
            ("ffn_up", &[16, 32]),
            ("ffn_down", &[32, 16]),
        ] {
            writer = writer.f32_tensor(&format!("blk.0.{name}.weight"), shape);
        }
        writer
    }

    /// The file without a key.
    pub(crate) fn without(mut self, key: &str) -> Self {
        self.keys.retain(|(name, _)| name != key);
        self
    }

    pub(crate) fn without_tensor(mut self, name: &str) -> Self {
        self.tensors.retain(|(tensor, ..)| tensor != name);
        self
    }

    /// A key with a value of any type, in the place of one of the same name.
    pub(crate) fn value(self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.without(key).again(key, kind, value)
    }

    /// A key that may be there already.
    pub(crate) fn again(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        let bytes = [&kind.to_le_bytes(), value].concat();
        self.keys.push((key.to_owned(), bytes));
        self
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Self {
        self.value(key, U32, &value.to_le_bytes())
    }

    pub(crate) fn f32(self, key: &str, value: f32) -> Self {
        self.value(key, F32, &value.to_le_bytes())
    }

    pub(crate) fn bool(self, key: &str, value: bool) -> Self {
        self.value(key, BOOL, &[u8::from(value)])
    }

    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        self.value(key, STRING, &text(value))
    }

    pub(crate) fn texts(self, key: &str, values: &[&str]) -> Self {
        let elements: Vec<u8> = values.iter().flat_map(|value| text(value)).collect();
        self.array(key, STRING, values.len() as u64, &elements)
    }

    pub(crate) fn i32s(self, key: &str, values: &[i32]) -> Self {
        let elements: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.array(key, I32, values.len() as u64, &elements)
    }

    pub(crate) fn f32s(self, key: &str, values: &[f32]) -> Self {
        let elements: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.array(key, F32, values.len() as u64, &elements)
    }

    /// An array that says to have `len` elements.
    pub(crate) fn array(self, key: &str, kind: u32, len: u64, elements: &[u8]) -> Self {
        let value = [&kind.to_le_bytes(), &len.to_le_bytes()[..], elements].concat();
        self.value(key, ARRAY, &value)
    }

    /// A tensor of the shape `shape`, outermost first, with values 0, 1/64, 2/64 and so on.
    pub(crate) fn f32_tensor(self, name: &str, shape: &[u64]) -> Self {
        let n: u64 = shape.iter().product();
        let values = (0..n).flat_map(|i| (i as f32 / 64.0).to_le_bytes());
        self.tensor(name, shape, 0, values.collect())
    }

    /// A tensor of the type with this number, with any bytes.
    pub(crate) fn tensor(mut self, name: &str, shape: &[u64], kind: u32, data: Vec<u8>) -> Self {
        let dims = shape.iter().rev().copied().collect();
        self.tensors.push((name.to_owned(), dims, kind, data));
        self
    }

    /// The bytes of the file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            bytes.extend(text(key));
            bytes.extend(value);
        }
        let mut offset = 0_usize;
        for (name, dims, kind, data) in &self.tensors {
            bytes.extend(text(name));
            bytes.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend((offset as u64).to_le_bytes());
            offset += data.len().next_multiple_of(ALIGNMENT);
        }
        for (_, _, _, data) in &self.tensors {
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
            bytes.extend(data);
        }
        bytes
    }

    /// Writes `model.gguf` into a directory of its own.
    pub(crate) fn write(&self) -> (TempDir, PathBuf) {
        write(&self.bytes())
    }
}

/// Writes any bytes as `model.gguf`.
pub(crate) fn write(bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs_err::write(&path, bytes).unwrap();
    (dir, path)
}

fn text(value: &str) -> Vec<u8> {
    [&(value.len() as u64).to_le_bytes(), value.as_bytes()].concat()
}
