//! Documents that are files: names, order, errors.

use super::*;

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
fn a_file_that_grows_while_it_is_read_ends_where_it_ended_when_opened() {
    let line = "{\"id\": \"a\", \"text\": \"one\"}\n";
    let dir = folder(&[("r.jsonl", line.repeat(3).as_bytes())]);
    let path = dir.path().join("r.jsonl");
    let mut file = fs_err::OpenOptions::new().append(true).open(&path).unwrap();
    let grown = reader(dir.path(), &ReadOptions::default()).inspect(|_| {
        std::io::Write::write_all(&mut file, line.repeat(3).as_bytes()).unwrap();
    });
    assert_eq!(grown.count(), 3);
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
