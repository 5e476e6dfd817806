//! Records of JSONL files: what they may contain, and errors by line.

use super::*;

#[test]
fn bad_records_are_named_by_line() {
    let lines: [&[u8]; 13] = [
        b"\xef\xbb\xbf{\"id\": \"a\", \"text\": \"one\", \"metadata\": {\"k\": \"v\", \"n\": 3, \"b\": true}}",
        b"{\"id\": \"b\", \"text\": ",
        b"{\"id\": \"a\", \"text\": \"again\"}",
        b"{\"id\": \" \", \"text\": \"no id\"}",
        b"{\"text\": \"no id\"}",
        b"{\"id\": 1.5, \"text\": \"id\"}",
        b"{\"id\": \"c\", \"text\": \"\"}",
        b"{\"id\": \"d\", \"text\": \"bad metadata\", \"metadata\": {\"k\": [1]}}",
        b"{\"id\": \"e\", \"text\": \"\xff\"}",
        b"{\"id\": \"f\\n\", \"text\": \"control\"}",
        b"[1, 2]",
        b"",
        b"{\"id\": \"z\", \"text\": \"last\", \"other\": null, \"metadata\": null}",
    ];
    let dir = folder(&[("r.jsonl", &lines.join(&b'\n'))]);
    let items = read(dir.path());
    assert_eq!(ids(&items), ["a", "z"]);
    let expected = [("k", "v"), ("n", "3"), ("b", "true")].map(|(k, v)| (k.into(), v.into()));
    assert_eq!(
        items[0].as_ref().unwrap().metadata,
        BTreeMap::from(expected)
    );
    let errors = errors(&items);
    let lines: Vec<Option<usize>> = errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, (2..=11).map(Some).collect::<Vec<_>>());
    assert!(matches!(errors[0].problem, ReadProblem::BadRecord { .. }));
    let ReadProblem::DuplicateId { id, first } = &errors[1].problem else {
        panic!("{}", errors[1]);
    };
    assert!(id == "a" && first.ends_with("r.jsonl, line 1"), "{first}");
    assert!(matches!(errors[2].problem, ReadProblem::BadId { .. }));
    assert!(
        errors[3]
            .to_string()
            .contains("missing field `id` at column"),
        "{}",
        errors[3]
    );
    assert!(matches!(errors[4].problem, ReadProblem::BadRecord { .. }));
    assert!(matches!(errors[5].problem, ReadProblem::Empty));
    assert!(
        errors[6].to_string().contains("metadata `k`"),
        "{}",
        errors[6]
    );
    assert!(matches!(errors[7].problem, ReadProblem::NotUtf8 { .. }));
    assert!(matches!(
        errors[8].problem,
        ReadProblem::BadId {
            why: BadDocumentId::Unprintable
        }
    ));
    assert!(matches!(errors[9].problem, ReadProblem::BadRecord { .. }));
}

#[test]
fn an_array_is_not_a_record() {
    let lines = [
        r#"["a", "text", {"k": "v"}]"#,
        r#" [ "a" , "text" ]"#,
        r#"{"id": "b", "text": "pairs", "metadata": [["k", "v"]]}"#,
        r#"{"id": "c", "text": ["one"]}"#,
        r#"{"id": ["d"], "text": "one"}"#,
        r#""a""#,
    ];
    let dir = folder(&[("r.jsonl", lines.join("\n").as_bytes())]);
    let items = read(dir.path());
    assert_eq!(errors(&items).len(), lines.len(), "{items:?}");
    for error in errors(&items) {
        assert!(
            matches!(error.problem, ReadProblem::BadRecord { .. }),
            "{error}"
        );
    }
    assert!(errors(&items)[0].to_string().contains("it is an array"));
}

/// The value to filter by, which is the text in the file.
#[test]
fn metadata_values_are_kept_as_they_are_written() {
    let written = [
        "12345678901234567890123",
        "-12345678901234567890123",
        "1.0",
        "1",
        "1e3",
        "1E+3",
        "-0",
        "0.1000000000000000055511151231257827",
        "1e999",
        "true",
        "false",
        "\"\"",
        "\"  blanks \"",
        "\"1.0\"",
        r#""caf\u00e9 \ud83e\udd8a \n\u0000""#,
    ];
    for value in written {
        let line = format!(r#"{{"id": 1, "text": "t", "metadata": {{"K": {value}, "k ": "x"}}}}"#);
        let dir = folder(&[("r.jsonl", line.as_bytes())]);
        let items = read(dir.path());
        let metadata = &items[0].as_ref().unwrap().metadata;
        let expected = match serde_json::from_str(value).unwrap_or_default() {
            serde_json::Value::String(text) => text,
            _ => value.to_owned(),
        };
        assert_eq!(metadata["K"], expected);
        assert_eq!(metadata["k "], "x");
    }
}

#[test]
fn ids_of_records_may_be_integers_of_any_length() {
    let line = r#"{"id": 12345678901234567890123, "text": "t"}"#;
    let dir = folder(&[(
        "r.jsonl",
        format!("{line}\n{{\"id\": -7, \"text\": \"t\"}}").as_bytes(),
    )]);
    assert_eq!(ids(&read(dir.path())), ["12345678901234567890123", "-7"]);
}

#[test]
fn what_could_only_be_kept_by_changing_it_is_refused() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let long = format!("\"{}\"", "x".repeat(100_000));
    let bad = [
        r#"{"id": "a", "text": "t", "metadata": {"k": "1", "k": "2"}}"#.to_owned(),
        r#"{"id": "a", "id": "b", "text": "t"}"#.to_owned(),
        r#"{"id": "a", "text": "t", "metadata": {"k": "\ud83e"}}"#.to_owned(),
        r#"{"id": "\udd8a", "text": "t"}"#.to_owned(),
        r#"{"id": "a", "text": "\ud83e"}"#.to_owned(),
        r#"{"id": "a", "text": "t", "metadata": {"k": null}}"#.to_owned(),
        r#"{"id": "a", "text": "t", "metadata": {"k\n\u001b[31m": {"a": 1}}}"#.to_owned(),
        format!(r#"{{"id": "a", "text": "t", "metadata": {{"k": {deep}}}}}"#),
        format!(r#"{{"id": "a", "text": {deep}}}"#),
        format!(r#"{{"id": {deep}, "text": "t"}}"#),
        format!(r#"{{"id": "a", "text": "t", "metadata": {long}}}"#),
        format!(r#"{{"id": "a", "text": "t", "metadata": {{{long}: []}}}}"#),
        deep.clone(),
        "\0".to_owned(),
        r#"{"id": 1.0, "text": "t"}"#.to_owned(),
        r#"{"id": 1e3, "text": "t"}"#.to_owned(),
        r#"{"id": "a", "text": "t"} {"id": "b", "text": "t"}"#.to_owned(),
    ];
    let good = format!(r#"{{"id": "z", "text": "t", "ignored": {deep}}}"#);
    let dir = folder(&[(
        "r.jsonl",
        format!("{}\r\n\r\n{good}", bad.join("\r\n")).as_bytes(),
    )]);
    let items = read(dir.path());
    assert_eq!(ids(&items), ["z"]);
    assert_eq!(errors(&items).len(), bad.len());
    for (error, line) in errors(&items).into_iter().zip(1..) {
        assert_eq!(error.line, Some(line));
        assert!(
            matches!(error.problem, ReadProblem::BadRecord { .. }),
            "{error}"
        );
        let message = error.to_string();
        assert!(message.len() < 1000, "{} bytes", message.len());
        assert!(!message.contains(char::is_control), "{message:?}");
    }
}

#[test]
fn a_file_of_bad_lines_lists_the_first_and_counts_the_rest() {
    let mut text = "no record\n".repeat(5_000);
    text.push_str("{\"id\": \"z\", \"text\": \"last\"}\n");
    let dir = folder(&[("r.jsonl", text.as_bytes()), ("s.txt", b"next")]);
    let items = read(dir.path());
    assert_eq!(ids(&items), ["z", "s.txt"]);
    let errors = errors(&items);
    assert_eq!(errors.len(), 1_001);
    assert_eq!(errors[999].line, Some(1_000));
    assert!(matches!(
        errors[1_000].problem,
        ReadProblem::More { count: 4_000 }
    ));
}

#[test]
fn an_oversized_line_is_skipped() {
    let huge = format!(
        "{{\"id\": \"huge\", \"text\": \"{}\"}}\n",
        "x".repeat(100_000)
    );
    let long = format!(
        "{{\"id\": \"long\", \"text\": \"{}\"}}\n",
        "x".repeat(1_100)
    );
    let good = "{\"id\": \"good\", \"text\": \"fits\"}";
    let dir = folder(&[("r.jsonl", format!("{huge}{long}{good}").as_bytes())]);
    let items: Vec<Item> = reader(dir.path(), &limited_to(1_000)).collect();
    assert_eq!(ids(&items), ["good"]);
    for (error, line) in errors(&items).into_iter().zip(1..) {
        assert!(matches!(
            error.problem,
            ReadProblem::TooLarge { limit_bytes: 1_000 }
        ));
        assert_eq!(error.line, Some(line));
    }
}
