//! Readers on good and bad files: every bad document is one typed error, and the rest still comes.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::collections::BTreeMap;
use std::path::Path;

use ragweave_retriever::{
    BadDocumentId, DocumentFormat, ReadError, ReadLimits, ReadProblem, SourceDocument,
    read_documents,
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

fn read(root: &Path) -> Vec<Item> {
    read_documents(root, &ReadLimits::default()).collect()
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
    let mut reader = read_documents(dir.path(), &ReadLimits::default());
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
    let limits = ReadLimits {
        max_document_bytes: 40,
    };
    let items: Vec<Item> = read_documents(dir.path(), &limits).collect();
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
    let limits = ReadLimits {
        max_document_bytes: 1_000,
    };
    let items: Vec<Item> = read_documents(dir.path(), &limits).collect();
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

    /// Reading the first page of a process's own memory fails with EIO, for every user.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_read_error_ends_its_file_only() {
        let dir = folder(&[("z.txt", b"good")]);
        symlink("/proc/self/mem", dir.path().join("a.txt")).unwrap();
        symlink("/proc/self/mem", dir.path().join("b.jsonl")).unwrap();
        let items = read(dir.path());
        assert_eq!(ids(&items), ["z.txt"]);
        assert_eq!(errors(&items).len(), 2);
        for error in errors(&items) {
            assert!(matches!(error.problem, ReadProblem::Io { .. }), "{error}");
        }
    }
}
