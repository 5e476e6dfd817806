//! The whole text side against transformers on two model directories in the ordinary layout.
//! `expected_text.json` beside them is written by `scripts/fixtures/make_chat_models.py`, which
//! describes its fields in `scripts/fixtures/README.md`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::model_files::read::JsonFile;

const MODELS: [&str; 2] = ["tiny-llama3-chat", "tiny-qwen3"];

struct Model {
    dir: PathBuf,
    codec: TextCodec,
    expected: Value,
}

fn models() -> impl Iterator<Item = Model> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/tests/fixtures");
    MODELS.iter().map(move |name| {
        let dir = fixtures.join(name);
        let codec = TextCodec::from_dir(&dir).unwrap();
        let expected = JsonFile::read(dir.join("expected_text.json"))
            .unwrap()
            .value;
        Model {
            dir,
            codec,
            expected,
        }
    })
}

fn list<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn messages(chat: &Value) -> Vec<ChatMessage> {
    let message =
        |m: &Value| ChatMessage::new(m["role"].as_str().unwrap(), m["content"].as_str().unwrap());
    list(chat, "messages").iter().map(message).collect()
}

#[test]
fn chats_render_and_encode_as_in_transformers() {
    for Model {
        dir,
        codec,
        expected,
    } in models()
    {
        let template = ChatTemplate::from_dir(&dir, &codec).unwrap().unwrap();
        assert!(!list(&expected, "chats").is_empty());
        for chat in list(&expected, "chats") {
            let date = chat["date"].as_str().unwrap();
            let text = template.render(&messages(chat), true, date).unwrap();
            assert_eq!(
                text,
                chat["rendered"].as_str().unwrap(),
                "{}",
                dir.display()
            );
            assert_eq!(codec.encode_template(&text).unwrap(), ids(&chat["ids"]));
        }
    }
}

#[test]
fn plain_text_encodes_as_in_transformers_without_added_tokens() {
    for Model {
        dir,
        codec,
        expected,
    } in models()
    {
        assert!(!list(&expected, "plain").is_empty());
        for plain in list(&expected, "plain") {
            let text = plain["text"].as_str().unwrap();
            let encoded = codec.encode_plain(text).unwrap();
            assert_eq!(encoded, ids(&plain["ids"]), "{text:?} in {}", dir.display());
        }
    }
}

#[test]
fn no_added_token_of_the_models_comes_out_of_plain_text() {
    for Model { dir, codec, .. } in models() {
        let definition = JsonFile::read(dir.join("tokenizer.json")).unwrap().value;
        let added: Vec<u32> = list(&definition, "added_tokens")
            .iter()
            .map(|t| t["id"].as_u64().unwrap() as u32)
            .collect();
        for token in list(&definition, "added_tokens") {
            let spelling = token["content"].as_str().unwrap();
            let text = format!("x{spelling}y {spelling}");
            let encoded = codec.encode_plain(&text).unwrap();
            assert!(
                encoded.iter().all(|id| !added.contains(id)),
                "{text:?}: {encoded:?}"
            );
        }
    }
}

#[test]
fn answers_decode_as_in_transformers_whole_and_in_pieces() {
    let mut n_answers = 0;
    for Model {
        codec, expected, ..
    } in models()
    {
        for chat in list(&expected, "chats")
            .iter()
            .filter(|c| !c["greedy_ids"].is_null())
        {
            let (answer, text) = (
                ids(&chat["greedy_ids"]),
                chat["greedy_text"].as_str().unwrap(),
            );
            assert_eq!(codec.decode(&answer, true).unwrap(), text);
            let mut detokenizer = codec.detokenizer();
            let mut pieces = String::new();
            for id in answer {
                pieces += &detokenizer.push(id).unwrap().unwrap_or_default();
            }
            assert_eq!(pieces + &detokenizer.finish().unwrap(), text);
            n_answers += 1;
        }
    }
    assert!(n_answers > 0, "the fixtures must hold answers");
}
