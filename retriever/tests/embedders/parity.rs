//! The vectors are those of sentence-transformers, and do not depend on the batch.

use std::path::Path;

use burn_flex::{Flex, FlexDevice};
use ragweave_retriever::{
    Embedder, Parallelism, RetrieverError, TransformerEmbedder, TransformerOptions,
};
use serde::Deserialize;

use crate::directory::{
    FIXTURES, copy, cosine, dense, document, edit, fixture, open, query, read_json,
};

/// The issue asks for 0.9999; the same sums in another order differ by about 1e-7.
const MIN_COSINE: f64 = 1.0 - 1e-6;

#[derive(Deserialize)]
struct Case {
    role: String,
    text: String,
    vector: Vec<f32>,
}

fn cases(dir: &Path) -> Vec<Case> {
    serde_json::from_value(read_json(&dir.join("expected.json"))).unwrap()
}

fn assert_equals_expected(embedder: &dyn Embedder, cases: &[Case], name: &str) {
    for case in cases {
        let vector = match case.role.as_str() {
            "query" => query(embedder, &case.text),
            _ => document(embedder, &case.text),
        };
        let cosine = cosine(&vector, &case.vector);
        let (role, text) = (&case.role, &case.text);
        assert!(
            cosine >= MIN_COSINE,
            "{name} {role} {text:?}: cosine {cosine}"
        );
        let length: f32 = vector.iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-5, "{name} {text:?}: {length}");
    }
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    for name in FIXTURES {
        let embedder = open(&fixture(name)).unwrap();
        let cases = cases(&fixture(name));
        assert!(cases.len() >= 18, "{name}");
        assert_eq!(embedder.width(), Some(cases[0].vector.len()), "{name}");
        assert_equals_expected(&embedder, &cases, name);
    }
}

#[test]
fn a_batch_gives_the_vectors_of_its_texts_alone() {
    for name in FIXTURES {
        let embedder = open(&fixture(name)).unwrap();
        let cases = cases(&fixture(name));
        let texts: Vec<&str> = cases.iter().map(|case| case.text.as_str()).collect();
        let many = texts.repeat(20); // more than one batch of the embedder's thread
        let batch = embedder.embed_documents(&many).unwrap();
        for (text, together) in many.iter().zip(batch) {
            let together = dense(together.unwrap());
            let alone = document(&embedder, text);
            let worst = together.iter().zip(&alone).map(|(a, b)| (a - b).abs());
            let worst = worst.fold(0.0, f32::max);
            assert!(worst < 1e-5, "{name} {text:?}: {worst}");
        }
    }
}

#[test]
fn blank_texts_have_no_vector_and_leave_the_others_in_place() {
    let embedder = open(&fixture("bert-mean")).unwrap();
    let texts = ["", "the fox", " \n\t", "\u{ad}", "-----"];
    let vectors = embedder.embed_documents(&texts).unwrap();
    let has_vector: Vec<bool> = vectors.iter().map(Option::is_some).collect();
    assert_eq!(has_vector, [false, true, false, false, true]);
    let fox = dense(vectors[1].clone().unwrap());
    assert!(cosine(&fox, &document(&embedder, "the fox")) > MIN_COSINE);
    assert_eq!(embedder.embed_query("  "), Err(RetrieverError::BlankText));
    assert!(embedder.embed_documents(&[]).unwrap().is_empty());
}

#[test]
fn without_modules_json_it_is_mean_pooling_as_in_sentence_transformers() {
    let root = copy("bert-mean");
    for file in ["modules.json", "config_sentence_transformers.json"] {
        fs_err::remove_file(root.path().join(file)).unwrap();
    }
    fs_err::remove_dir_all(root.path().join("1_Pooling")).unwrap();
    let embedder = open(root.path()).unwrap();
    assert_equals_expected(&embedder, &cases(&fixture("bert-mean")), "no modules.json");
}

#[test]
fn a_saved_head_and_a_folder_of_the_encoder_change_nothing() {
    let root = copy("bert-mean");
    let encoder = root.path().join("0_Transformer");
    fs_err::create_dir(&encoder).unwrap();
    for file in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "sentence_bert_config.json",
    ] {
        fs_err::rename(root.path().join(file), encoder.join(file)).unwrap();
    }
    edit(&root, "modules.json", |modules| {
        modules[0]["path"] = "0_Transformer".into();
    });
    // As `BertForMaskedLM` saves it: every name behind `bert.`, and gamma and beta in old files.
    let path = encoder.join("model.safetensors");
    let bytes = fs_err::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let renamed = file.tensors().into_iter().map(|(name, tensor)| {
        let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
        let name = name.replace("LayerNorm.bias", "LayerNorm.beta");
        (format!("bert.{name}"), tensor)
    });
    let renamed = safetensors::serialize(renamed.collect::<Vec<_>>(), None).unwrap();
    fs_err::write(&path, renamed).unwrap();
    let embedder = open(root.path()).unwrap();
    assert_equals_expected(&embedder, &cases(&fixture("bert-mean")), "0_Transformer");
}

#[test]
fn settings_replace_the_prompts_of_the_directory() {
    let plain = open(&fixture("xlmr-e5")).unwrap();
    let options = TransformerOptions {
        dir: fixture("xlmr-e5"),
        query_prompt: Some("passage: ".to_owned()),
        document_prompt: Some(String::new()),
    };
    let turned =
        TransformerEmbedder::spawn::<Flex>(&options, FlexDevice, Parallelism::Threads).unwrap();
    let fox = "the fox lives in Brindle";
    assert!(cosine(&query(&turned, fox), &document(&plain, fox)) > MIN_COSINE);
    assert!(cosine(&document(&turned, fox), &document(&plain, fox)) < 0.999);
    assert_ne!(turned.id(), plain.id());
}

#[test]
fn the_id_follows_the_contents_and_not_the_place() {
    let original = open(&fixture("bert-mean")).unwrap();
    let root = copy("bert-mean");
    assert_eq!(open(root.path()).unwrap().id(), original.id());
    let mut ids = vec![original.id().to_owned()];
    edit(&root, "sentence_bert_config.json", |file| {
        file["max_seq_length"] = 20.into();
    });
    ids.push(open(root.path()).unwrap().id().to_owned());
    edit(&root, "1_Pooling/config.json", |file| {
        file["pooling_mode_cls_token"] = true.into();
        file["pooling_mode_mean_tokens"] = false.into();
    });
    ids.push(open(root.path()).unwrap().id().to_owned());
    edit(&root, "tokenizer.json", |file| {
        file["normalizer"]["lowercase"] = false.into();
    });
    ids.push(open(root.path()).unwrap().id().to_owned());
    let path = root.path().join("model.safetensors");
    let mut weights = fs_err::read(&path).unwrap();
    *weights.last_mut().unwrap() ^= 0x80; // the sign of the last number
    fs_err::write(&path, weights).unwrap();
    ids.push(open(root.path()).unwrap().id().to_owned());
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

#[test]
fn questions_are_answered_while_documents_are_embedded() {
    let embedder = open(&fixture("bert-mean")).unwrap();
    let texts = vec!["one two three four five six seven eight"; 4000];
    let expected = query(&embedder, "the fox");
    std::thread::scope(|scope| {
        let documents = scope.spawn(|| embedder.embed_documents(&texts).unwrap().len());
        for _ in 0..50 {
            assert_eq!(query(&embedder, "the fox"), expected);
        }
        assert_eq!(documents.join().unwrap(), 4000);
    });
}
