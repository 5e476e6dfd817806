//! Which source a path is.

use super::*;
use crate::model_files::gguf::writer::Writer;

fn is_gguf(path: &Path) -> bool {
    matches!(ModelSource::open(path).unwrap(), ModelSource::Gguf(_))
}

#[test]
fn a_directory_with_one_gguf_file_and_no_safetensors_is_that_file() {
    let (dir, path) = Writer::llama().write();
    assert!(is_gguf(&path) && is_gguf(dir.path()));
    assert_eq!(ModelSource::open(dir.path()).unwrap().name(), "model");
    assert_eq!(
        ModelSource::open(dir.path()).unwrap().directory(),
        dir.path()
    );
    // Later parts of a split model are not models.
    fs_err::copy(&path, dir.path().join("x-00002-of-00002.gguf")).unwrap();
    assert!(is_gguf(dir.path()));
    fs_err::write(dir.path().join("model.safetensors"), "").unwrap();
    assert!(is_gguf(&path) && !is_gguf(dir.path()));
    assert!(!is_gguf(tempfile::tempdir().unwrap().path()));
}

#[test]
fn of_several_gguf_files_one_must_be_named() {
    let (dir, path) = Writer::llama().write();
    fs_err::copy(&path, dir.path().join("other.gguf")).unwrap();
    let text = ModelSource::open(dir.path()).unwrap_err().to_string();
    for part in ["2 GGUF files", "model.gguf, other.gguf", "name one"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_tokenizer_beside_the_file_is_used() {
    let (dir, path) = Writer::llama().text("tokenizer.chat_template", "t").write();
    let from_metadata = ModelSource::open(&path).unwrap().tokenizer().unwrap();
    assert_eq!(from_metadata.path, path);
    fs_err::write(dir.path().join("tokenizer.json"), "{\"model\": 1}").unwrap();
    let config = r#"{"eos_token": "b"}"#;
    fs_err::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    let source = ModelSource::open(&path).unwrap();
    let beside = source.tokenizer().unwrap();
    assert_eq!(beside.path, dir.path().join("tokenizer.json"));
    assert_eq!(beside.definition["model"], 1);
    // Fields that the directory's file lacks come from the metadata.
    let config = source.tokenizer_config().unwrap().unwrap().value;
    assert_eq!(
        (&config["eos_token"], &config["bos_token"]),
        (&"b".into(), &"<s>".into())
    );
    assert_eq!(config["chat_template"], "t");
}
