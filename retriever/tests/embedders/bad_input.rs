//! Directories that cannot be used: each gives one error that names the file and what to do.

use std::path::Path;

use burn_flex::{Flex, FlexDevice};
use ragweave_retriever::{Parallelism, TransformerEmbedder, TransformerOptions};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::directory::{copy, edit, open};

fn refused(dir: &Path, said: &[&str]) {
    let error = open(dir).err().expect("the directory is refused");
    let error = error.to_string();
    for part in said {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
}

/// A copy of `bert-mean` with one JSON file changed.
fn edited(file: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let root = copy("bert-mean");
    edit(&root, file, change);
    root
}

/// A copy of `bert-mean` with one tensor replaced.
fn with_tensor(name: &str, shape: Vec<usize>, dtype: Dtype, data: &[u8]) -> TempDir {
    let root = copy("bert-mean");
    let path = root.path().join("model.safetensors");
    let bytes = fs_err::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let replaced = TensorView::new(dtype, shape, data).unwrap();
    let tensors = file.tensors().into_iter();
    let tensors = tensors.map(|(found, tensor)| match found == name {
        true => (found, replaced.clone()),
        false => (found, tensor),
    });
    let changed = serialize(tensors.collect::<Vec<_>>(), None).unwrap();
    fs_err::write(&path, changed).unwrap();
    root
}

#[test]
fn what_is_not_a_directory_or_lacks_a_file() {
    refused(
        Path::new("no-such-embedder"),
        &["no-such-embedder", "not a directory", "lexical"],
    );
    refused(
        &crate::directory::fixture("bert-mean/config.json"),
        &["not a directory"],
    );
    for (file, said) in [
        ("config.json", "config.json"),
        ("tokenizer.json", "is missing; write it with"),
        ("model.safetensors", "is missing; fetch the whole"),
        ("1_Pooling/config.json", "1_Pooling"),
    ] {
        let root = copy("bert-mean");
        fs_err::remove_file(root.path().join(file)).unwrap();
        refused(root.path(), &[file, said]);
    }
}

#[test]
fn weights_in_other_files_say_how_to_convert_them() {
    for (other, said) in [
        ("pytorch_model.bin", "can run code"),
        ("model.safetensors.index.json", "several files"),
    ] {
        let root = copy("bert-mean");
        let path = root.path().join("model.safetensors");
        fs_err::rename(&path, root.path().join(other)).unwrap();
        refused(root.path(), &["model.safetensors", said, "save(NEW_DIR)"]);
    }
}

#[test]
fn modules_that_are_not_supported_are_named() {
    for (class, said) in [
        ("sentence_transformers.models.LSTM", "LSTM is not supported"),
        (
            "sentence_transformers.base.modules.router.Router",
            "Router is not supported",
        ),
        ("my_code.Custom", "my_code.Custom is not supported"),
    ] {
        let root = edited("modules.json", |modules| modules[1]["type"] = class.into());
        refused(
            root.path(),
            &[
                "modules.json",
                said,
                "Transformer, Pooling, Dense and Normalize",
            ],
        );
        let root = edited("modules.json", |modules| modules[0]["type"] = class.into());
        refused(root.path(), &["modules.json", said]);
    }
    let root = edited("modules.json", |modules| {
        modules[1]["path"] = "../elsewhere".into()
    });
    refused(root.path(), &["outside the directory"]);
    let root = edited("modules.json", |modules| {
        modules.as_array_mut().unwrap().swap(1, 2);
    });
    refused(root.path(), &["Normalize stands in the wrong place"]);
    for bad in [json!([]), json!({}), json!([{"path": ""}])] {
        refused(
            edited("modules.json", |modules| *modules = bad).path(),
            &["modules.json"],
        );
    }
}

#[test]
fn configurations_of_other_models_are_named() {
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 8] = [
        (|c| c["model_type"] = "t5".into(), "model_type \"t5\""),
        (|c| c["model_type"] = json!(null), "no model_type"),
        (
            |c| c["position_embedding_type"] = "relative_key".into(),
            "relative_key",
        ),
        (|c| c["hidden_act"] = "silu".into(), "silu"),
        (|c| c["is_decoder"] = true.into(), "is_decoder"),
        (|c| c["num_attention_heads"] = 5.into(), "5 attention heads"),
        (|c| c["hidden_size"] = 0.into(), "hidden_size is 0"),
        (
            |c| c["vocab_size"] = "many".into(),
            "vocab_size is \"many\"",
        ),
    ];
    for (change, said) in changes {
        refused(edited("config.json", change).path(), &["config.json", said]);
    }
    let root = edited("1_Pooling/config.json", |file| {
        file["pooling_mode"] = "attention".into()
    });
    refused(root.path(), &["attention", "weightedmean"]);
    let root = edited("1_Pooling/config.json", |file| {
        file["word_embedding_dimension"] = 64.into()
    });
    refused(root.path(), &["64", "32"]);
    let root = copy("mpnet-weighted");
    edit(&root, "config_sentence_transformers.json", |file| {
        file["similarity_fn_name"] = "dot".into();
    });
    refused(root.path(), &["similarity_fn_name", "cosine"]);
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let name = "embeddings.LayerNorm.weight";
    let nan = [f32::NAN; 32].map(f32::to_le_bytes);
    let root = with_tensor(name, vec![32], Dtype::F32, nan.as_flattened());
    refused(
        root.path(),
        &["model.safetensors", "NaN", name, "element 0"],
    );
    let ones = [1f32; 64].map(f32::to_le_bytes);
    let root = with_tensor(name, vec![64], Dtype::F32, ones.as_flattened());
    refused(root.path(), &[name, "[64]", "[32]"]);
    let root = with_tensor(name, vec![32], Dtype::U8, &[1; 32]);
    refused(root.path(), &[name, "U8", "BF16"]);
    let root = edited("config.json", |file| file["num_hidden_layers"] = 3.into());
    refused(root.path(), &["no tensor encoder.layer.2."]);
    let root = edited("config.json", |file| file["vocab_size"] = 300.into());
    refused(root.path(), &["word_embeddings", "[260, 32]", "[300, 32]"]);
}

#[test]
fn half_precision_weights_are_widened() {
    let half: Vec<u8> = [0x3c00u16; 32]
        .iter()
        .flat_map(|bits| bits.to_le_bytes())
        .collect();
    let whole = [1f32; 32].map(f32::to_le_bytes);
    let name = "embeddings.LayerNorm.weight";
    let half = with_tensor(name, vec![32], Dtype::F16, &half);
    let whole = with_tensor(name, vec![32], Dtype::F32, whole.as_flattened());
    let [half, whole] = [&half, &whole].map(|root| {
        let embedder = open(root.path()).unwrap();
        crate::directory::document(&embedder, "the fox")
    });
    assert_eq!(half, whole);
}

#[test]
fn files_that_are_cut_or_not_what_they_seem() {
    let root = copy("bert-mean");
    let path = root.path().join("model.safetensors");
    let bytes = fs_err::read(&path).unwrap();
    for damaged in [&bytes[..4], &bytes[..bytes.len() - 1], &[0xff; 64][..], b""] {
        fs_err::write(&path, damaged).unwrap();
        refused(
            root.path(),
            &["model.safetensors", "not a whole safetensors file"],
        );
    }
    fs_err::write(
        &path,
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    )
    .unwrap();
    refused(root.path(), &["git lfs pull"]);
    for file in ["config.json", "modules.json", "tokenizer.json"] {
        let root = copy("bert-mean");
        fs_err::write(root.path().join(file), "{\"a\": ").unwrap();
        refused(root.path(), &[file, "not valid JSON"]);
    }
    let root = edited("tokenizer.json", |file| {
        file["model"]["type"] = "Unheard".into()
    });
    refused(root.path(), &["tokenizer.json", "not a tokenizer"]);
}

#[test]
fn a_tokenizer_with_more_tokens_than_the_model_has_vectors() {
    let root = edited("tokenizer.json", |file| {
        file["model"]["vocab"]["zzzz"] = 260.into();
    });
    refused(
        root.path(),
        &["tokenizer.json", "token id 260", "vectors for 260"],
    );
}

#[test]
fn a_prompt_that_leaves_no_room_is_refused() {
    let options = TransformerOptions {
        dir: crate::directory::fixture("bert-mean"),
        query_prompt: Some("fox ".repeat(22)),
        document_prompt: None,
    };
    let error =
        TransformerEmbedder::spawn::<Flex>(&options, FlexDevice, Parallelism::Threads).err();
    let error = error.expect("no room").to_string();
    assert!(
        error.contains("no room") && error.contains("22 tokens"),
        "{error}"
    );
}
