//! The identity of a store: whose KV it holds, and what differs from the identity of another one.

use ragweave_engine::ModelInfo;
use ragweave_store::{Fields, Identity};

use crate::config::KV_DTYPE_FIELD;
use crate::prompt::PromptFormat;

/// The fields of an identity, by name.
const MODEL: &str = "model";
const TOKENIZER: &str = "tokenizer";
const DTYPE: &str = "dtype";
const PROMPT: &str = "prompt";

/// Hashed in the place where the store's identity once named the embedder. Now each vector names its embedder, and no
/// KV depends on it; hashing this value keeps the KV of older stores valid.
const FORMER_EMBEDDER: &[u8] = b"lexical-bm25-v1";

/// The identity of a store of this model and prompt format.
pub(crate) fn identity(model: &ModelInfo, prompt: &PromptFormat) -> Identity {
    let kv = &model.identity;
    let prompt = prompt.fingerprint();
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"ragweave store identity 1");
    hasher.update(&kv.fingerprint());
    hasher.update(&prompt);
    hasher.update(FORMER_EMBEDDER);
    let description = format!(
        "model {} ({} layers, KV in {}), prompt format {}",
        model.name,
        kv.n_layers,
        kv.kv_dtype,
        short(prompt),
    );
    let fields = [
        (MODEL, short(kv.model_fingerprint)),
        (TOKENIZER, short(kv.tokenizer_hash)),
        (DTYPE, kv.compute_dtype.to_string()),
        (KV_DTYPE_FIELD, kv.kv_dtype.to_string()),
        (PROMPT, short(prompt)),
    ];
    Identity {
        fingerprint: *hasher.finalize().as_bytes(),
        description,
        fields: fields.map(|(name, value)| (name.to_owned(), value)).into(),
    }
}

fn short(hash: [u8; 32]) -> String {
    blake3::Hash::from(hash).to_hex()[..8].to_owned()
}

/// What differs between the store's fields and those of this configuration, and what to do about each. A store of a
/// version that kept no fields may differ in any of them.
pub(crate) fn differences(found: &Fields, expected: &Fields) -> String {
    let differs = |name: &&&str| found.get(**name) != expected.get(**name);
    let names = [MODEL, TOKENIZER, DTYPE, KV_DTYPE_FIELD, PROMPT];
    let named: Vec<String> = match found.is_empty() {
        true => Vec::new(),
        false => names
            .iter()
            .filter(differs)
            .map(|name| difference(name, found, expected))
            .collect(),
    };
    match named.is_empty() {
        true => "model, types or prompt differ".to_owned(),
        false => named.join("; "),
    }
}

fn difference(name: &str, found: &Fields, expected: &Fields) -> String {
    let of = |fields: &Fields| {
        fields
            .get(name)
            .map_or("unknown", String::as_str)
            .to_owned()
    };
    let (there, here) = (of(found), of(expected));
    match name {
        MODEL => "it was made by another model (--model)".to_owned(),
        TOKENIZER => "it was made with another tokenizer (--model)".to_owned(),
        DTYPE => format!("it was computed in {there}, not {here} (pass --dtype {there})"),
        KV_DTYPE_FIELD => {
            format!("its KV is stored in {there}, not {here} (pass --kv-dtype {there}, or auto)")
        }
        _ => "it was made with another system text or other prompt strings (--system, [prompt])"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ragweave_engine::EngineOptions;
    use ragweave_store::REQUIREMENTS;

    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn only_what_differs_is_named_with_the_flag_that_helps() {
        let store = fields(&[
            ("model", "a"),
            ("dtype", "f32"),
            ("kv_dtype", "f32"),
            ("prompt", "p"),
        ]);
        let here = fields(&[
            ("model", "a"),
            ("dtype", "f32"),
            ("kv_dtype", "int8"),
            ("prompt", "p"),
        ]);
        assert_eq!(
            differences(&store, &here),
            "its KV is stored in f32, not int8 (pass --kv-dtype f32, or auto)"
        );
        let here = fields(&[
            ("model", "b"),
            ("dtype", "f16"),
            ("kv_dtype", "f32"),
            ("prompt", "q"),
        ]);
        let all = differences(&store, &here);
        for words in ["another model (--model)", "--dtype f32", "--system"] {
            assert!(all.contains(words), "{all}");
        }
        assert!(!all.contains("--kv-dtype"), "{all}");
        assert_eq!(
            differences(&Fields::new(), &here),
            "model, types or prompt differ"
        );
    }

    /// What the marker of a store requires is what this version's KV is.
    #[test]
    fn the_requirements_of_a_store_are_those_of_the_kv_that_is_written() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-qwen3");
        let kv = ModelInfo::read(&EngineOptions::new(model))
            .unwrap()
            .identity;
        let precision = kv.kernel_precision.to_string();
        let contexts = kv.contexts.to_string();
        let required = [
            ("tenant", kv.tenant.as_str()),
            ("contexts", &contexts),
            ("kernel_precision", &precision),
        ];
        assert_eq!(REQUIREMENTS, required);
    }
}
