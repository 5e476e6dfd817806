//! Readers on good and bad files: every bad document is one typed error, and the rest still comes.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::collections::BTreeMap;
use std::path::Path;

use ragweave_retriever::{
    BadDocumentId, DocumentFormat, DocumentReader, ReadError, ReadOptions, ReadProblem,
    SourceDocument, read_documents, total_bytes,
};
use tempfile::TempDir;

type Item = Result<SourceDocument, ReadError>;

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, bytes).unwrap();
    }
    dir
}

fn reader(root: &Path, options: &ReadOptions) -> DocumentReader {
    read_documents(&[root.to_owned()], options)
}

fn read(root: &Path) -> Vec<Item> {
    reader(root, &ReadOptions::default()).collect()
}

fn limited_to(max_document_bytes: u64) -> ReadOptions {
    ReadOptions {
        max_document_bytes,
        ..ReadOptions::default()
    }
}

fn ids(items: &[Item]) -> Vec<&str> {
    items
        .iter()
        .flatten()
        .map(|document| &*document.id)
        .collect()
}

fn errors(items: &[Item]) -> Vec<&ReadError> {
    items
        .iter()
        .filter_map(|item| item.as_ref().err())
        .collect()
}

#[test]
fn a_folder_is_read_in_the_order_of_its_names() {
    let dir = folder(&[
        ("b.txt", b"plain"),
        ("a/z.MD", b"# marked"),
        ("a/deep/c.markdown", b"marked"),
        (
            "c.jsonl",
            b"{\"id\": \"r1\", \"text\": \"one\"}\n\n{\"id\": 2, \"text\": \"two\"}",
        ),
        ("d.pdf", b"%PDF"),
        (".git/notes.txt", b"hidden"),
    ]);
    let mut reader = reader(dir.path(), &ReadOptions::default());
    let documents: Vec<SourceDocument> = reader.by_ref().map(Result::unwrap).collect();
    let ids: Vec<&str> = documents.iter().map(|d| &*d.id).collect();
    assert_eq!(ids, ["a/deep/c.markdown", "a/z.MD", "b.txt", "r1", "2"]);
    assert_eq!(documents[1].format, DocumentFormat::Markdown);
    assert_eq!(documents[2].format, DocumentFormat::Text);
    assert_eq!(reader.skipped(), 2, "the PDF and the hidden folder");
}

#[test]
fn a_single_file_is_named_by_its_file_name() {
    let dir = folder(&[("a/b.txt", b"\xef\xbb\xbftext"), ("x.pdf", b"%PDF")]);
    let items = read(&dir.path().join("a/b.txt"));
    let document = items[0].as_ref().unwrap();
    assert_eq!((&*document.id, &*document.text), ("b.txt", "text"));
    let items = read(&dir.path().join("x.pdf"));
    assert!(matches!(
        errors(&items)[0].problem,
        ReadProblem::UnknownFormat
    ));
}

#[test]
fn a_missing_root_is_one_error() {
    let items = read(Path::new("no/such/folder"));
    assert_eq!(items.len(), 1);
    assert!(matches!(errors(&items)[0].problem, ReadProblem::Io { .. }));
    let message = errors(&items)[0].to_string();
    assert!(
        message.starts_with("no/such/folder: cannot read it"),
        "{message}"
    );
}

#[test]
fn bad_text_files_do_not_stop_the_rest() {
    let dir = folder(&[
        ("a.txt", b""),
        ("b.txt", b" \n\t\n"),
        ("c.txt", b"good until \xff here"),
        (
            "d.txt",
            b"this text is over the limit of forty bytes, is it not",
        ),
        ("e.txt", b"good"),
    ]);
    let items: Vec<Item> = reader(dir.path(), &limited_to(40)).collect();
    assert_eq!(ids(&items), ["e.txt"]);
    let errors = errors(&items);
    assert!(matches!(errors[0].problem, ReadProblem::Empty));
    assert!(matches!(errors[1].problem, ReadProblem::Empty));
    assert!(matches!(
        errors[2].problem,
        ReadProblem::NotUtf8 { valid_bytes: 11 }
    ));
    assert!(matches!(
        errors[3].problem,
        ReadProblem::TooLarge { limit_bytes: 40 }
    ));
    assert!(errors[3].path.ends_with("d.txt") && errors[3].line.is_none());
}

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
fn an_array_is_no_record() {
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

/// What a filter must be given, which is what the file says.
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
fn roots_may_overlap_and_repeat() {
    let dir = folder(&[("a.txt", b"one"), ("sub/b.txt", b"two"), (".h.txt", b"h")]);
    let at = |name: &str| dir.path().join(name);
    let all = |roots: &[&str]| -> Vec<String> {
        let roots: Vec<_> = roots.iter().map(|root| at(root)).collect();
        let items = read_documents(&roots, &ReadOptions::default());
        items.map(|item| item.unwrap().id).collect()
    };
    assert_eq!(all(&["", ""]), ["a.txt", "sub/b.txt"]);
    assert_eq!(all(&["", "sub", "sub/../sub"]), ["a.txt", "sub/b.txt"]);
    assert_eq!(all(&["sub", ""]), ["b.txt", "a.txt"]);
    assert_eq!(all(&["", "./a.txt", "sub/b.txt"]), ["a.txt", "sub/b.txt"]);
    assert_eq!(all(&["a.txt", "a.txt", ""]), ["a.txt", "sub/b.txt"]);
    // A hidden file is read where it is named.
    assert_eq!(all(&["", ".h.txt"]), ["a.txt", "sub/b.txt", ".h.txt"]);
    let roots = [at(""), at("sub"), at("a.txt")];
    assert_eq!(total_bytes(&roots, &ReadOptions::default()), 6);
}

#[test]
fn two_roots_with_one_id_are_told_where_both_are() {
    let dir = folder(&[("a/x.txt", b"one"), ("b/x.txt", b"two")]);
    let roots = ["a", "b"].map(|root| dir.path().join(root));
    let items: Vec<Item> = read_documents(&roots, &ReadOptions::default()).collect();
    assert_eq!(ids(&items), ["x.txt"]);
    let message = errors(&items)[0].to_string();
    assert!(
        message.contains("b/x.txt: ") && message.contains("taken by "),
        "{message}"
    );
    assert!(message.contains("a/x.txt; "), "{message}");
}

#[test]
fn a_file_that_grows_while_it_is_read_ends_where_it_ended_when_opened() {
    let line = "{\"id\": \"a\", \"text\": \"one\"}\n";
    let dir = folder(&[("r.jsonl", line.repeat(3).as_bytes())]);
    let path = dir.path().join("r.jsonl");
    let mut file = fs_err::OpenOptions::new().append(true).open(&path).unwrap();
    let grown = reader(dir.path(), &ReadOptions::default()).map(|item| {
        std::io::Write::write_all(&mut file, line.repeat(3).as_bytes()).unwrap();
        item
    });
    assert_eq!(grown.count(), 3);
}

#[test]
fn what_is_off_limits_is_skipped_in_a_folder_and_refused_as_a_root() {
    let dir = folder(&[
        ("mine/MARK", b""),
        ("mine/failures.jsonl", b"{}"),
        ("mine/docs/x.txt", b"x"),
        ("other/y.txt", b"y"),
    ]);
    let options = ReadOptions {
        off_limits: |path, metadata| {
            let is_marked = metadata.is_dir() && path.join("MARK").exists();
            is_marked.then_some("it is marked")
        },
        ..ReadOptions::default()
    };
    #[cfg(unix)]
    for (target, name) in [
        ("mine", "l"),
        ("mine/docs", "m"),
        ("mine/docs/x.txt", "n.txt"),
    ] {
        std::os::unix::fs::symlink(dir.path().join(target), dir.path().join("other").join(name))
            .unwrap();
    }
    let mut whole = reader(dir.path(), &options);
    let items: Vec<Item> = whole.by_ref().collect();
    assert_eq!(ids(&items), ["other/y.txt"]);
    assert_eq!(errors(&items).len(), 0);
    assert_eq!(total_bytes(&[dir.path().to_owned()], &options), 1);
    for root in [
        "mine",
        "mine/docs",
        "mine/docs/../failures.jsonl",
        "other/l",
        "other/n.txt",
    ] {
        let items: Vec<Item> = reader(&dir.path().join(root), &options).collect();
        let problem = &errors(&items)[0].problem;
        assert!(
            matches!(
                problem,
                ReadProblem::OffLimits {
                    why: "it is marked"
                }
            ),
            "{root}"
        );
        assert_eq!(items.len(), 1);
    }
}

#[test]
fn an_oversized_line_is_passed_over() {
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

#[test]
fn an_id_is_taken_once_over_all_files() {
    let dir = folder(&[
        ("a.jsonl", b"{\"id\": \"b.txt\", \"text\": \"one\"}"),
        ("b.txt", b"two"),
    ]);
    let items = read(dir.path());
    assert_eq!(ids(&items), ["b.txt"]);
    assert!(matches!(
        errors(&items)[0].problem,
        ReadProblem::DuplicateId { .. }
    ));
    let long = format!("{{\"id\": \"{}\", \"text\": \"one\"}}", "x".repeat(1025));
    let dir = folder(&[("a.jsonl", long.as_bytes())]);
    let items = read(dir.path());
    assert!(matches!(
        errors(&items)[0].problem,
        ReadProblem::BadId { .. }
    ));
}

#[test]
fn a_document_of_50_mb_is_read() {
    let text = "The quick brown fox jumps over the lazy dog.\n".repeat(1_120_000);
    let record = serde_json::json!({ "id": "record", "text": text }).to_string();
    let dir = folder(&[("big.txt", text.as_bytes()), ("c.jsonl", record.as_bytes())]);
    let items = read(dir.path());
    assert_eq!(ids(&items), ["big.txt", "record"]);
    assert!(items.iter().flatten().all(|document| document.text == text));
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    #[test]
    fn symlink_loops_end_and_no_folder_is_read_twice() {
        let dir = folder(&[("a/one.txt", b"one"), ("b/two.txt", b"two")]);
        symlink("..", dir.path().join("a/up")).unwrap();
        symlink("a", dir.path().join("c")).unwrap();
        symlink("self", dir.path().join("self")).unwrap();
        let items = read(dir.path());
        assert_eq!(ids(&items), ["a/one.txt", "b/two.txt"]);
        assert_eq!(
            errors(&items).len(),
            1,
            "only the link to itself cannot be followed"
        );
    }

    #[test]
    fn the_estimate_ends_where_reading_ends() {
        let dir = folder(&[("a.txt", b"one"), ("sub/b.txt", b"two"), ("c.pdf", b"%PDF")]);
        for name in ["l1", "l2", "sub/l3"] {
            symlink(dir.path(), dir.path().join(name)).unwrap();
        }
        symlink("/dev/zero", dir.path().join("zero.txt")).unwrap();
        symlink("/", dir.path().join("sub/.root")).unwrap();
        let roots = [dir.path().to_owned()];
        assert_eq!(total_bytes(&roots, &ReadOptions::default()), 6);
        let items = read(dir.path());
        assert_eq!(ids(&items), ["a.txt", "sub/b.txt"]);
        assert_eq!(errors(&items).len(), 1, "the device");
    }

    #[test]
    fn names_that_no_id_can_have_are_one_failure_each_and_printable() {
        let dir = folder(&[("a.txt", b"one"), ("z.txt", b"two")]);
        let name = |bytes: &[u8]| dir.path().join(OsStr::from_bytes(bytes));
        for bytes in [&b"b\xe9.txt"[..], b"c\n\x1b[31m.txt", b"d\xff.pdf"] {
            fs_err::write(name(bytes), "name").unwrap();
        }
        for bytes in [&b"e\xe9"[..], b"f\n"] {
            fs_err::create_dir(name(bytes)).unwrap();
            fs_err::write(name(bytes).join("one.txt"), "one").unwrap();
            fs_err::write(name(bytes).join("two.txt"), "two").unwrap();
        }
        let items = read(dir.path());
        assert_eq!(ids(&items), ["a.txt", "z.txt"]);
        let told: Vec<String> = errors(&items).iter().map(|e| e.to_string()).collect();
        assert_eq!(told.len(), 4, "a PDF is no document: {told:#?}");
        for (told, name) in told.iter().zip([
            "/b\\xe9.txt: ",
            "/c\\n\\u{1b}[31m.txt: ",
            "/e\\xe9: ",
            "/f\\n: ",
        ]) {
            assert!(
                told.contains(name) && !told.contains(char::is_control),
                "{told}"
            );
        }
    }

    #[test]
    fn a_very_deep_tree_is_one_failure() {
        let dir = folder(&[("z.txt", b"good")]);
        let mut deep = std::path::PathBuf::from("d");
        let root = fs_err::canonicalize(dir.path()).unwrap();
        for _ in 0..900 {
            deep.push("d");
        }
        fs_err::create_dir_all(root.join(&deep)).unwrap();
        fs_err::write(root.join(&deep).join("x.txt"), "deep").unwrap();
        let items = read(dir.path());
        assert_eq!(ids(&items), ["z.txt"]);
        assert!(matches!(
            errors(&items)[0].problem,
            ReadProblem::BadId {
                why: BadDocumentId::TooLong
            }
        ));
        assert_eq!(items.len(), 2);
    }

    #[test]
    fn a_file_without_a_length_is_not_read() {
        let dir = folder(&[("z.txt", b"good")]);
        symlink("/proc/self/mem", dir.path().join("a.txt")).unwrap();
        symlink("/proc/self/mem", dir.path().join("b.jsonl")).unwrap();
        let items = read(dir.path());
        assert_eq!(ids(&items), ["z.txt"]);
        assert!(matches!(errors(&items)[0].problem, ReadProblem::Empty));
        assert_eq!(items.len(), 2);
    }

    #[test]
    fn what_cannot_be_opened_or_read_is_named() {
        let dir = folder(&[("z.txt", b"good")]);
        symlink("gone.txt", dir.path().join("a.txt")).unwrap();
        let _socket = UnixListener::bind(dir.path().join("b.txt")).unwrap();
        fs_err::write(dir.path().join(OsStr::from_bytes(b"c\xff.txt")), "name").unwrap();
        let items = read(dir.path());
        assert_eq!(ids(&items), ["z.txt"]);
        assert!(matches!(errors(&items)[0].problem, ReadProblem::Io { .. }));
        assert!(matches!(errors(&items)[1].problem, ReadProblem::NotAFile));
        assert!(matches!(
            errors(&items)[2].problem,
            ReadProblem::BadId { .. }
        ));
    }
}
