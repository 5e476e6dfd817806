//! The boundary between text and control: no text in a document becomes a control token.

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::model_files::directory::{SPECIAL_TOKENS_FILE, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE};

/// The tokenizer of the demo model: byte-level BPE, 1122 tokens, three of them special.
const FIXTURE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/tokenizer/tokenizer.json"
));

fn definition() -> Value {
    serde_json::from_str(FIXTURE).unwrap()
}

fn write(definition: &Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join(TOKENIZER_FILE), definition.to_string()).unwrap();
    dir
}

fn codec(definition: &Value) -> TextCodec {
    TextCodec::from_dir(write(definition).path()).unwrap()
}

fn added(id: u32, content: &str, special: bool) -> Value {
    json!({"id": id, "content": content, "special": special, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": !special})
}

/// The fixture with more added tokens: control, tags that are not special, runs of spaces.
fn with_added_tokens() -> Value {
    let mut definition = definition();
    let tokens = definition["added_tokens"].as_array_mut().unwrap();
    tokens.extend([
        added(1122, "<|im_start|>", true),
        added(1123, "<|im_end|>", true),
        added(1124, "<think>", false),
        added(1125, "</think>", false),
        added(1126, "    ", false),
        added(1127, "Ω", true),
    ]);
    definition
}

#[test]
fn no_added_token_comes_out_of_plain_text() {
    let codec = codec(&with_added_tokens());
    let added = codec.decoder().tokenizer().get_added_tokens_decoder();
    assert_eq!(added.len(), 9);
    for (id, token) in &added {
        let spelling = &token.content;
        for text in [
            spelling.clone(),
            format!("a{spelling}b"),
            format!("{spelling} {spelling}"),
        ] {
            let ids = codec.encode_plain(&text).unwrap();
            assert!(
                ids.iter().all(|id| !added.contains_key(id)),
                "{text:?}: {ids:?}"
            );
            assert_eq!(codec.decode(&ids, true).unwrap(), text);
            assert!(
                codec.encode_template(&text).unwrap().contains(id),
                "{text:?}"
            );
        }
    }
}

#[test]
fn ordinary_text_gets_the_same_ids_from_both_instances() {
    let codec = codec(&definition());
    let text = "The lantern of Orrin is kept in the north tower.\n\nQ: Where?";
    let ids = codec.encode_plain(text).unwrap();
    assert_eq!(ids, codec.encode_template(text).unwrap());
    assert_eq!(codec.token_count_plain(text), ids.len());
    assert_eq!(codec.encode_plain("").unwrap(), [0_u32; 0]);
}

#[test]
fn template_text_keeps_its_special_tokens_and_gets_no_others() {
    let mut definition = definition();
    // A post-processor that adds BOS, as Llama's tokenizer has.
    definition["post_processor"] = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}});
    let codec = codec(&definition);
    let ids = codec.encode_template("<s>Hello</s>").unwrap();
    assert_eq!((ids.first(), ids.last()), (Some(&1), Some(&2)));
    assert_eq!(ids.iter().filter(|id| **id == 1).count(), 1);
    assert!(!codec.encode_plain("Hello").unwrap().contains(&1));
    assert_eq!(codec.decode(&ids, true).unwrap(), "Hello");
    assert_eq!(codec.decode(&ids, false).unwrap(), "<s>Hello</s>");
}

#[test]
fn a_vocabulary_that_holds_a_control_token_as_a_word_is_worked_around() {
    let mut definition = definition();
    // Llama 3's setting: a word that is in the vocabulary is taken whole, without merges.
    definition["model"]["ignore_merges"] = json!(true);
    definition["pre_tokenizer"]["use_regex"] = json!(false);
    let codec = codec(&definition);
    let direct = codec.plain_tokenizer().encode_fast("</s>", false).unwrap();
    assert_eq!(direct.get_ids(), [2], "the fixture must provoke the case");
    let ids = codec.encode_plain("</s>").unwrap();
    assert!(ids.iter().all(|id| *id > 2), "{ids:?}");
    assert_eq!(codec.decode(&ids, true).unwrap(), "</s>");
}

#[test]
fn training_settings_of_the_file_change_no_ids() {
    let text = "one two three four five six seven eight nine ten";
    let expected = codec(&definition()).encode_plain(text).unwrap();
    let mut definition = definition();
    definition["truncation"] = json!({"direction": "Right", "max_length": 3,
        "strategy": "LongestFirst", "stride": 0});
    definition["padding"] = json!({"strategy": {"Fixed": 64}, "direction": "Right",
        "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"});
    definition["model"]["dropout"] = json!(0.9);
    let codec = codec(&definition);
    assert_eq!(codec.encode_plain(text).unwrap(), expected);
    assert_eq!(codec.encode_template(text).unwrap(), expected);
}

#[test]
fn special_tokens_are_named_by_either_file_in_either_form() {
    let dir = write(&definition());
    let named = |file: &str, value: Value| {
        fs_err::write(dir.path().join(file), value.to_string()).unwrap();
        TextCodec::from_dir(dir.path()).unwrap()
    };
    assert_eq!(TextCodec::from_dir(dir.path()).unwrap().bos_token(), None);
    let codec = named(
        SPECIAL_TOKENS_FILE,
        json!({"bos_token": "<s>", "eos_token": "<pad>"}),
    );
    assert_eq!(
        (codec.bos_token(), codec.eos_token()),
        (Some("<s>"), Some("<pad>"))
    );
    let config = json!({"bos_token": null, "eos_token": {"content": "</s>", "lstrip": false}});
    let codec = named(TOKENIZER_CONFIG_FILE, config);
    assert_eq!(
        (codec.bos_token(), codec.eos_token()),
        (Some("<s>"), Some("</s>"))
    );
}

#[test]
fn the_hash_follows_the_files_that_decide_ids() {
    let dir = write(&definition());
    let hash = || TextCodec::from_dir(dir.path()).unwrap().hash();
    let first = hash();
    assert_eq!(first, codec(&definition()).hash());
    fs_err::write(
        dir.path().join(TOKENIZER_CONFIG_FILE),
        "{\"chat_template\": \"x\"}",
    )
    .unwrap();
    assert_eq!(first, hash());
    fs_err::write(dir.path().join(SPECIAL_TOKENS_FILE), "{}").unwrap();
    assert_ne!(first, hash());
    assert_ne!(first, codec(&with_added_tokens()).hash());
}

#[test]
fn bad_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |parts: &[&str]| {
        let text = TextCodec::from_dir(dir.path()).unwrap_err().to_string();
        for part in parts {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    };
    refused(&[TOKENIZER_FILE]);
    fs_err::write(dir.path().join(TOKENIZER_FILE), "{").unwrap();
    refused(&[TOKENIZER_FILE, "not valid JSON"]);
    fs_err::write(
        dir.path().join(TOKENIZER_FILE),
        "{\"model\": {\"type\": \"X\"}}",
    )
    .unwrap();
    refused(&["tokenizer ", TOKENIZER_FILE]);
    fs_err::write(dir.path().join(TOKENIZER_FILE), FIXTURE).unwrap();
    fs_err::write(dir.path().join(TOKENIZER_CONFIG_FILE), "{\"bos_token\": 1}").unwrap();
    refused(&[TOKENIZER_CONFIG_FILE, "bos_token"]);
}

/// A post-processor that puts these tokens before and after a text.
fn post_processor(before: &[&str], after: &[&str]) -> Value {
    let token = |id: &&str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let mut single: Vec<Value> = before.iter().map(token).collect();
    single.push(text("A"));
    single.extend(after.iter().map(token));
    let entry = |id: &str, n: u32| json!({"id": id, "ids": [n], "tokens": [id]});
    json!({"type": "TemplateProcessing", "single": single, "pair": [text("A"), text("B")],
        "special_tokens": {"<pad>": entry("<pad>", 0), "<s>": entry("<s>", 1), "</s>": entry("</s>", 2)}})
}

#[test]
fn a_text_is_opened_as_transformers_does() {
    let bos = post_processor(&["<s>"], &[]);
    let both = post_processor(&["<s>"], &["</s>"]);
    let more = post_processor(&["<pad>", "<s>"], &[]);
    for (processor, config, opening) in [
        (Value::Null, json!({"bos_token": "<s>"}), ""),
        (
            Value::Null,
            json!({"bos_token": "<s>", "add_bos_token": null}),
            "",
        ),
        (
            Value::Null,
            json!({"bos_token": "<s>", "add_bos_token": true}),
            "<s>",
        ),
        (
            Value::Null,
            json!({"bos_token": {"content": "<s>"}, "add_bos_token": true}),
            "<s>",
        ),
        (
            Value::Null,
            json!({"bos_token": null, "add_bos_token": true}),
            "",
        ),
        (
            Value::Null,
            json!({"bos_token": "<none such>", "add_bos_token": true}),
            "",
        ),
        (bos.clone(), json!({"bos_token": "<s>"}), "<s>"),
        (bos.clone(), json!({}), "<s>"),
        (
            bos.clone(),
            json!({"bos_token": "<s>", "add_bos_token": true}),
            "<s>",
        ),
        (bos, json!({"bos_token": "<s>", "add_bos_token": false}), ""),
        (
            both,
            json!({"bos_token": "<s>", "add_eos_token": true}),
            "<s>",
        ),
        (more.clone(), json!({"bos_token": "<s>"}), "<pad><s>"),
        (
            more,
            json!({"bos_token": "<s>", "add_bos_token": false}),
            "<pad>",
        ),
    ] {
        let mut definition = definition();
        definition["post_processor"] = processor;
        let dir = write(&definition);
        fs_err::write(dir.path().join(TOKENIZER_CONFIG_FILE), config.to_string()).unwrap();
        let codec = TextCodec::from_dir(dir.path()).unwrap();
        assert_eq!(codec.opening(), opening, "{config}");
    }
}

#[test]
fn a_vocabulary_beyond_the_models_rows_is_refused_and_unused_tokens_are_not() {
    let path = Path::new("/model/config.json");
    let dir = write(&with_added_tokens()); // 1122 words, added tokens up to 1127
    let codec = || TextCodec::from_dir(dir.path()).unwrap();
    codec().check_rows(1122, path).unwrap();
    let refused = |vocab_size: usize, parts: &[&str]| {
        let text = codec()
            .check_rows(vocab_size, path)
            .unwrap_err()
            .to_string();
        for part in parts
            .iter()
            .chain(&["vocab_size in /model/config.json", TOKENIZER_FILE])
        {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    };
    refused(1121, &["is 1121", "id 1121"]);
    fs_err::write(
        dir.path().join(TOKENIZER_CONFIG_FILE),
        "{\"eos_token\": \"<|im_end|>\"}",
    )
    .unwrap();
    refused(1122, &["<|im_end|>", "id 1123"]);
    codec().check_rows(1124, path).unwrap();
}

#[test]
fn git_lfs_pointers_are_named_in_every_file() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n";
    for file in [TOKENIZER_FILE, TOKENIZER_CONFIG_FILE, SPECIAL_TOKENS_FILE] {
        let dir = write(&definition());
        fs_err::write(dir.path().join(file), pointer).unwrap();
        let text = TextCodec::from_dir(dir.path()).unwrap_err().to_string();
        assert!(
            text.contains(file) && text.contains("git lfs pull"),
            "{text}"
        );
    }
}
