//! A table of constructs, and the templates of the common model families, against transformers.
//! `expected.json` is written by `scripts/fixtures/make_templates.py`. Known differences are in
//! `differences.json`; the test fails for a new difference and for one that no longer exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::model_files::read::JsonFile;

fn fixture(name: &str) -> PathBuf {
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/templates");
    templates.join(name)
}

fn codec() -> TextCodec {
    TextCodec::from_dir(&fixture("../tokenizer")).unwrap()
}

fn rows(table: &Value, name: &str) -> Vec<Vec<Option<String>>> {
    serde_json::from_value(table[name].clone()).unwrap()
}

fn conversation(table: &Value, name: &str) -> Vec<ChatMessage> {
    let messages: Vec<(String, String)> =
        serde_json::from_value(table["conversations"][name].clone()).unwrap();
    messages
        .into_iter()
        .map(|(role, content)| ChatMessage::new(role, content))
        .collect()
}

fn render(
    source: &str,
    messages: &[ChatMessage],
    codec: &TextCodec,
) -> Result<String, EngineError> {
    let path = Path::new("chat_template.jinja");
    ChatTemplate::compile(path, source, codec)?.render(messages, true, "2026-02-05")
}

/// How a construct differs, by the names in `differences.json`.
fn difference(expected: Option<&str>, found: &Result<String, EngineError>) -> Option<&'static str> {
    match (expected, found) {
        (Some(expected), Ok(found)) if expected == found => None,
        (None, Err(_)) => None,
        (Some(_), Err(_)) => Some("refused"),
        (None, Ok(_)) => Some("not refused"),
        (Some(_), Ok(_)) => Some("other text"),
    }
}

#[test]
fn constructs_render_as_in_transformers_but_for_the_known_differences() {
    let table = JsonFile::read(fixture("expected.json")).unwrap().value;
    let prelude = table["prelude"].as_str().unwrap();
    let (codec, messages) = (codec(), conversation(&table, "whole"));
    let mut found = BTreeSet::new();
    let mut n_constructs = 0;
    for (group, before) in [("with_prelude", prelude), ("alone", "")] {
        for row in rows(&table, group) {
            let template = row[0].as_deref().unwrap();
            let text = render(&format!("{before}{template}"), &messages, &codec);
            let kind = difference(row[1].as_deref(), &text);
            found.extend(kind.map(|kind| (kind.to_owned(), template.to_owned())));
            n_constructs += 1;
        }
    }
    assert!(n_constructs > 2000, "{n_constructs}");
    let known = JsonFile::read(fixture("differences.json")).unwrap().value;
    let known: Vec<(String, Vec<String>)> = serde_json::from_value(known).unwrap();
    let known: BTreeSet<(String, String)> = known
        .into_iter()
        .flat_map(|(kind, templates)| templates.into_iter().map(move |t| (kind.clone(), t)))
        .collect();
    let new: Vec<_> = found.difference(&known).collect();
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "new: {new:#?}\ngone: {gone:#?}"
    );
}

#[test]
fn templates_of_the_common_families_render_as_in_transformers() {
    let table = JsonFile::read(fixture("expected.json")).unwrap().value;
    let (codec, families) = (codec(), rows(&table, "families"));
    assert!(families.len() >= 40, "{}", families.len());
    for row in families {
        let [file, name, expected] = row.try_into().unwrap();
        let (file, name) = (file.unwrap(), name.unwrap());
        let source = fs_err::read_to_string(fixture("families").join(&file)).unwrap();
        let text = render(&source, &conversation(&table, &name), &codec);
        let kind = difference(expected.as_deref(), &text);
        assert_eq!(kind, None, "{file}, {name}: {expected:?}, found {text:?}");
    }
}
