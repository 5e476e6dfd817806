//! Tokenizers of files: ids against transformers, and errors that name the key.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::EngineError;
use crate::model_files::ModelFiles;
use crate::model_files::gguf::writer::Writer;
use crate::model_files::read::JsonFile;
use crate::text::{ChatMessage, ChatTemplate, TextCodec};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf")
}

fn codec(writer: &Writer) -> Result<TextCodec, EngineError> {
    let (_dir, path) = writer.write();
    TextCodec::from_dir(&path)
}

fn assert_refused(writer: Writer, parts: &[&str]) {
    let text = codec(&writer).unwrap_err().to_string();
    for part in parts.iter().chain(&["model.gguf"]) {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn ids_equal_those_of_transformers() {
    let expected = JsonFile::read(fixtures().join("ids.json")).unwrap().value;
    let texts: Vec<String> = serde_json::from_value(expected["texts"].clone()).unwrap();
    let files = expected["ids"].as_object().unwrap();
    assert_eq!(files.len(), 7);
    for (file, expected) in files {
        let codec = TextCodec::from_dir(&fixtures().join(file)).unwrap();
        for (text, expected) in texts.iter().zip(expected.as_array().unwrap()) {
            assert_eq!(
                codec.encode_plain(text).unwrap(),
                ids(expected),
                "{file}: {text:?}"
            );
            assert_eq!(
                codec.encode_template(text).unwrap(),
                ids(expected),
                "{file}: {text:?}"
            );
        }
    }
}

#[test]
fn text_comes_back() {
    for file in ["pre-smollm.gguf", "pre-llama-bpe.gguf", "llama-spm.gguf"] {
        let codec = TextCodec::from_dir(&fixtures().join(file)).unwrap();
        // Metaspace adds a space at the start only where there is none, so it cannot give one back.
        let korean = match file {
            "llama-spm.gguf" => "한국어 日本 😀",
            _ => " 한국어 日本 😀",
        };
        for text in ["Hello,  world!\n\n\tx", korean, "1,234.5"] {
            let ids = codec.encode_plain(text).unwrap();
            assert_eq!(codec.decode(&ids, true).unwrap(), text, "{file}");
        }
    }
}

#[test]
fn no_special_token_comes_from_text() {
    for file in ["pre-smollm.gguf", "llama-spm.gguf"] {
        let codec = TextCodec::from_dir(&fixtures().join(file)).unwrap();
        let (bos, eos) = (codec.bos_token().unwrap(), codec.eos_token().unwrap());
        let text = format!("{bos}a{eos}");
        let plain = codec.encode_plain(&text).unwrap();
        assert!(plain.iter().all(|id| *id > 2), "{file}: {plain:?}");
        assert_eq!(codec.decode(&plain, true).unwrap(), text, "{file}");
        let template = codec.encode_template(&text).unwrap();
        assert_eq!((template[0], template.last()), (1, Some(&2)), "{file}");
    }
}

#[test]
fn roles_and_the_opening_come_from_the_metadata() {
    let read = |writer: Writer| codec(&writer).unwrap();
    let plain = read(Writer::llama());
    assert_eq!(
        (plain.bos_token(), plain.eos_token()),
        (Some("<s>"), Some("</s>"))
    );
    assert_eq!(plain.opening(), "");
    let told = Writer::llama().bool("tokenizer.ggml.add_bos_token", true);
    assert_eq!(read(told).opening(), "<s>");
    let llama3 = || Writer::llama().text("tokenizer.ggml.pre", "llama-bpe");
    assert_eq!(read(llama3()).opening(), "<s>");
    let told = llama3().bool("tokenizer.ggml.add_bos_token", false);
    assert_eq!(read(told).opening(), "");
}

#[test]
fn the_chat_template_comes_from_the_metadata() {
    let render = |writer: Writer| {
        let (_dir, path) = writer.write();
        let codec = TextCodec::from_dir(&path).unwrap();
        let template = ChatTemplate::from_dir(&path, &codec)?;
        let message = ChatMessage::new("user", "hi");
        template
            .map(|template| template.render(&[message], true, "2026-12-01"))
            .transpose()
    };
    const KEY: &str = "tokenizer.chat_template";
    assert_eq!(render(Writer::llama()).unwrap(), None);
    let one = Writer::llama().text(KEY, "{{ bos_token }}{{ messages[0].content }}");
    assert_eq!(render(one).unwrap().as_deref(), Some("<s>hi"));
    let named = |name: &str| {
        Writer::llama()
            .texts("tokenizer.chat_templates", &[name])
            .text(&format!("{KEY}.{name}"), "named")
    };
    assert_eq!(render(named("default")).unwrap().as_deref(), Some("named"));
    let error = render(named("rag")).unwrap_err().to_string();
    assert!(
        error.contains("model.gguf") && error.contains("default"),
        "{error}"
    );
}

#[test]
fn a_file_may_have_no_tokenizer() {
    for writer in [
        Writer::llama().without("tokenizer.ggml.model"),
        Writer::llama().text("tokenizer.ggml.model", "none"),
    ] {
        let (_dir, path) = writer.write();
        let files = ModelFiles::open(&path).unwrap();
        assert!(files.tokenizer(&files.config().unwrap()).unwrap().is_none());
    }
    assert_refused(
        Writer::llama().without("tokenizer.ggml.model"),
        &["tokenizer.ggml.model", "is missing"],
    );
}

#[test]
fn errors_name_the_key() {
    const TOKENS: &str = "tokenizer.ggml.tokens";
    let llama = Writer::llama;
    let unknown = llama().text("tokenizer.ggml.pre", "martian");
    assert_refused(
        unknown,
        &["tokenizer.ggml.pre", "martian", "llama-bpe", "beside"],
    );
    let model = llama().text("tokenizer.ggml.model", "t5");
    assert_refused(model, &["tokenizer.ggml.model", "t5", "gpt2, llama"]);
    assert_refused(llama().without(TOKENS), &[TOKENS, "is missing"]);
    assert_refused(llama().i32s(TOKENS, &[1; 8]), &[TOKENS, "array of strings"]);
    let no_merges = llama().without("tokenizer.ggml.merges");
    assert_refused(no_merges, &["tokenizer.ggml.merges", "is missing"]);
    for bad in ["ab", "a b c"] {
        let merges = llama().texts("tokenizer.ggml.merges", &["a b", bad]);
        assert_refused(merges, &["tokenizer.ggml.merges", bad, "at 1"]);
    }
    // The library names the piece that is not there.
    let merges = llama().texts("tokenizer.ggml.merges", &["b c"]);
    assert_refused(merges, &["bc"]);
    let types = llama().i32s("tokenizer.ggml.token_type", &[1; 7]);
    assert_refused(
        types,
        &["tokenizer.ggml.token_type", "7 entries", "8 tokens"],
    );
    let types = llama().i32s("tokenizer.ggml.token_type", &[9; 8]);
    assert_refused(types, &["tokenizer.ggml.token_type", "type 9"]);
    let bos = llama().u32("tokenizer.ggml.bos_token_id", 8);
    assert_refused(bos, &["tokenizer.ggml.bos_token_id", "token 8"]);
    let long = "x".repeat(5_000);
    let tokens = ["a", "b", "c", "ab", "<s>", "</s>", "Ġ", &long];
    assert_refused(
        llama().texts(TOKENS, &tokens),
        &[TOKENS, "token 7 is longer"],
    );
}

#[test]
fn scores_of_pieces_are_checked() {
    const SCORES: &str = "tokenizer.ggml.scores";
    let pieces = || {
        Writer::llama()
            .text("tokenizer.ggml.model", "llama")
            .without("tokenizer.ggml.merges")
    };
    assert_refused(pieces(), &[SCORES, "is missing"]);
    assert_refused(pieces().f32s(SCORES, &[0.0; 7]), &[SCORES, "7 entries"]);
    let mut scores = [0.0; 8];
    scores[3] = f32::NAN;
    assert_refused(pieces().f32s(SCORES, &scores), &[SCORES, "3 is not finite"]);
    let good = pieces()
        .f32s(SCORES, &[0.0; 8])
        .bool("tokenizer.ggml.add_space_prefix", false);
    assert_eq!(codec(&good).unwrap().encode_plain("aab").unwrap(), [0, 3]);
}

#[test]
fn white_space_of_gemma_is_text_but_its_markers_are_not() {
    let tokens = ["\n", "\n\n", "a", "<table>", "<s>", "</s>", "▁", "  "];
    let writer = Writer::llama()
        .text("general.architecture", "gemma3")
        .text("tokenizer.ggml.model", "llama")
        .without("tokenizer.ggml.merges")
        .texts("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &[4, 4, 1, 4, 3, 3, 1, 4])
        .bool("tokenizer.ggml.add_space_prefix", false);
    let codec = codec(&writer).unwrap();
    assert_eq!(
        codec.encode_plain("a\n\na  a\n").unwrap(),
        [2, 1, 2, 7, 2, 0]
    );
    assert_eq!(codec.encode_template("<table>a").unwrap(), [3, 2]);
    assert!(!codec.encode_plain("<table>a").unwrap().contains(&3));
}
