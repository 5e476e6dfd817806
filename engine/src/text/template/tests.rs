//! Templates of the supported families against transformers, and templates that must not be able
//! to do harm. The expected texts are from transformers 5 with the same template, messages and date:
//! `render_jinja_template(conversations=[messages], chat_template=open(FILE).read(),
//! add_generation_prompt=True, bos_token="<s>", eos_token="</s>")`.

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::model_files::directory::{TEMPLATE_FILE, TOKENIZER_CONFIG_FILE};

mod limits;

const DATE: &str = "2026-02-05";

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(path)
}

fn codec() -> TextCodec {
    TextCodec::from_dir(&fixture("tokenizer")).unwrap()
}

fn try_compile(source: &str) -> Result<ChatTemplate, EngineError> {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join(TEMPLATE_FILE), source).unwrap();
    Ok(ChatTemplate::from_dir(dir.path(), &codec())?.unwrap())
}

fn compile(source: &str) -> ChatTemplate {
    try_compile(source).unwrap()
}

fn named(name: &str) -> ChatTemplate {
    compile(&fs_err::read_to_string(fixture("templates").join(name)).unwrap())
}

fn conversation() -> Vec<ChatMessage> {
    vec![
        ChatMessage::new("system", " Answer briefly. "),
        ChatMessage::new("user", "Who\n  <keeps> the \"lantern\"?"),
        ChatMessage::new("assistant", "<think>\nhm\n</think>\n\nOrrin"),
        ChatMessage::new("user", "Where?"),
    ]
}

fn greeting() -> Vec<ChatMessage> {
    vec![ChatMessage::new("user", "Hi")]
}

fn render(template: &ChatTemplate, messages: &[ChatMessage]) -> String {
    template.render(messages, true, DATE).unwrap()
}

fn assert_refused(result: Result<String, EngineError>, parts: &[&str]) {
    let error = result.unwrap_err();
    assert!(matches!(error, EngineError::Template { .. }), "{error:?}");
    let text = error.to_string();
    for part in parts.iter().chain(&[TEMPLATE_FILE]) {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

#[test]
fn qwen3_renders_as_transformers_does() {
    let template = named("qwen3.jinja");
    let expected = "<|im_start|>system\n Answer briefly. <|im_end|>\n<|im_start|>user\nWho\n  \
        <keeps> the \"lantern\"?<|im_end|>\n<|im_start|>assistant\nOrrin<|im_end|>\n\
        <|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(render(&template, &conversation()), expected);
    let expected = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(render(&template, &greeting()), expected);
}

#[test]
fn llama_renders_as_transformers_does() {
    let template = named("llama3.2.jinja");
    let opening = "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: \
        December 2023\nToday Date: 05 Feb 2026\n\n";
    let expected = "Answer briefly.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWho\n  \
        <keeps> the \"lantern\"?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n\
        <think>\nhm\n</think>\n\nOrrin<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n\
        Where?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
    assert_eq!(
        render(&template, &conversation()),
        format!("{opening}{expected}")
    );
    let expected = "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
        <|start_header_id|>assistant<|end_header_id|>\n\n";
    assert_eq!(
        render(&template, &greeting()),
        format!("{opening}{expected}")
    );
}

#[test]
fn smollm2_renders_as_transformers_does() {
    let template = named("smollm2.jinja");
    let expected = "<|im_start|>system\n Answer briefly. <|im_end|>\n<|im_start|>user\nWho\n  \
        <keeps> the \"lantern\"?<|im_end|>\n<|im_start|>assistant\n<think>\nhm\n</think>\n\n\
        Orrin<|im_end|>\n<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(render(&template, &conversation()), expected);
    let expected = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by \
        Hugging Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(render(&template, &greeting()), expected);
}

#[test]
fn without_a_generation_prompt_the_text_ends_with_the_last_message() {
    let text = named("qwen3.jinja")
        .render(&greeting(), false, DATE)
        .unwrap();
    assert_eq!(text, "<|im_start|>user\nHi<|im_end|>\n");
}

#[test]
fn tojson_writes_what_pythons_json_does() {
    let template = compile(
        "{{ {'b': [1, 2.5, none, true], 'a': {}}|tojson }}|{{ messages|tojson }}|\
         {{ messages[0]|tojson(indent=2) }}",
    );
    let text = render(&template, &[ChatMessage::new("user", "é <b>\"'&")]);
    let expected = "{\"b\": [1, 2.5, null, true], \"a\": {}}|\
        [{\"role\": \"user\", \"content\": \"é <b>\\\"'&\"}]|\
        {\n  \"role\": \"user\",\n  \"content\": \"é <b>\\\"'&\"\n}";
    assert_eq!(text, expected);
}

#[test]
fn blocks_leave_no_blank_lines_and_loops_can_break() {
    let source = "{% for m in messages %}\n  {% if loop.index > 1 %}{% break %}{% endif %}\n\
        {{ m.role }}\n{% endfor %}\nend";
    assert_eq!(render(&compile(source), &conversation()), "system\nend");
}

#[test]
fn generation_marks_change_nothing() {
    let marked = "a {%- generation -%} {{ messages[0].role }} {% endgeneration %} b";
    assert_eq!(render(&compile(marked), &greeting()), "auser  b");
}

/// Expected values from Jinja2 3.1.
#[test]
fn nothing_is_found_where_the_search_starts_beyond_the_end() {
    let source = "{{ ['abc'.startswith('', 5), 'abc'.endswith('', 4), 'abc'.find('', 5), \
        'abc'.rfind('', 5), 'abc'.count('', 5), 'abc'.find('', 2, 1), 'abc'.count('', 2, 1)] }}|\
        {{ ['abc'.startswith('', 3), 'abc'.find('', 3), 'abc'.count('', 3), 'abc'.find('', 3, 9), \
        'abc'.find('c', -9), 'abc'.rfind('', 0, -9)] }}";
    assert_eq!(
        render(&compile(source), &greeting()),
        "[False, False, -1, -1, 0, -1, 0]|[True, 3, 1, 3, 2, 0]"
    );
    assert_refused(
        compile("{{ 'abc'.index('', 5) }}").render(&greeting(), true, DATE),
        &["substring not found"],
    );
}

/// Expected values from Jinja2 3.1.
#[test]
fn a_sign_comes_before_the_prefix_of_a_number() {
    let source = "{{ ['-0x1F'|int(0, 16), '+0b11'|int(0, 2), '-0o17'|int(0, 8), '-7'|int, \
        '+1f'|int(0, 16), '--1'|int(5), '-+0x1'|int(5, 16), '0x-1'|int(5, 16), '-'|int(5)] }}";
    assert_eq!(
        render(&compile(source), &greeting()),
        "[-31, 3, -15, -7, 31, 5, 5, 5, 5]"
    );
}

#[test]
fn a_line_feed_after_raw_is_kept_however_the_tag_is_spaced() {
    for tag in ["{% raw %}", "{% raw%}", "{%raw%}", "{% raw\n%}"] {
        let source = format!("{tag}\n{{{{ a }}}}{{% endraw %}}");
        assert_eq!(
            render(&compile(&source), &greeting()),
            "\n{{ a }}",
            "{tag:?}"
        );
    }
}

#[test]
fn what_a_template_refuses_reaches_the_caller() {
    let source = "\n{{ raise_exception('Roles must alternate') }}";
    assert_refused(
        compile(source).render(&greeting(), true, DATE),
        &["Roles must alternate", "line 2"],
    );
    assert_refused(
        compile("{{ a.b.c }}").render(&greeting(), true, DATE),
        &["undefined"],
    );
    assert_refused(
        compile("{% include 'x' %}").render(&greeting(), true, DATE),
        &["x"],
    );
}

#[test]
fn a_template_that_does_not_compile_is_refused_at_load() {
    assert_refused(
        try_compile("a\n{% if %}").map(|_| String::new()),
        &["line 2"],
    );
    let long = "x".repeat(MAX_TEMPLATE_BYTES + 1);
    assert_refused(
        try_compile(&long).map(|_| String::new()),
        &["1048577 bytes"],
    );
}

fn dir_with_config(chat_template: Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"chat_template": chat_template});
    fs_err::write(dir.path().join(TOKENIZER_CONFIG_FILE), config.to_string()).unwrap();
    dir
}

fn from_dir(dir: &TempDir) -> Option<String> {
    let template = ChatTemplate::from_dir(dir.path(), &codec()).unwrap()?;
    Some(render(&template, &greeting()))
}

#[test]
fn a_git_lfs_pointer_is_not_taken_for_a_template() {
    let dir = tempfile::tempdir().unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n";
    fs_err::write(dir.path().join(TEMPLATE_FILE), pointer).unwrap();
    let error = ChatTemplate::from_dir(dir.path(), &codec()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(TEMPLATE_FILE) && text.contains("git lfs pull"),
        "{text}"
    );
}

#[test]
fn dates_are_formatted_as_python_does() {
    // python -c "import datetime; print(datetime.datetime(2026, 2, 5).strftime('...'))"
    for (format, expected) in [
        ("%Y-%m-%d", "2026-02-05"),
        (
            "%d %b %Y|%B %-d, %y|%A %a|%m/%e|100%%",
            "05 Feb 2026|February 5, 26|Thursday Thu|02/ 5|100%",
        ),
        ("%j %U %W %w %u %V %G", "036 05 05 4 4 06 2026"),
        (
            "%H:%M:%S %I %p|%c|%x|%X",
            "00:00:00 12 AM|Thu Feb  5 00:00:00 2026|02/05/26|00:00:00",
        ),
        ("%f|%Z|%z|%", "000000|||%"),
    ] {
        let template = compile(&format!("{{{{ strftime_now('{format}') }}}}"));
        assert_eq!(render(&template, &greeting()), expected);
    }
    let template = compile("{{ strftime_now('%Y-%m-%d') }}");
    for date in ["2024-07-26", "26 Jul 2024", "26 July 2024"] {
        assert_eq!(
            template.render(&greeting(), true, date).unwrap(),
            "2024-07-26"
        );
    }
    assert_refused(
        template.render(&greeting(), true, "today"),
        &["\"today\"", "2024-07-26"],
    );
}

#[test]
fn the_template_is_found_in_its_file_the_config_or_nowhere() {
    assert_eq!(from_dir(&tempfile::tempdir().unwrap()), None);
    assert_eq!(from_dir(&dir_with_config(Value::Null)), None);
    let list = json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
    assert_eq!(from_dir(&dir_with_config(list)).as_deref(), Some("d"));
    let object = json!({"tool_use": "t", "default": "d"});
    assert_eq!(from_dir(&dir_with_config(object)).as_deref(), Some("d"));
    let dir = dir_with_config(json!("config"));
    assert_eq!(from_dir(&dir).as_deref(), Some("config"));
    fs_err::write(dir.path().join(TEMPLATE_FILE), "file").unwrap();
    assert_eq!(from_dir(&dir).as_deref(), Some("file"));
    let no_default = dir_with_config(json!([{"name": "rag", "template": "r"}]));
    let error = ChatTemplate::from_dir(no_default.path(), &codec())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("chat_template") && error.contains("default"),
        "{error}"
    );
}
