//! Folders: links, overlapping roots, names, what is off limits.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::*;

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
    // A hidden file is read if it is named explicitly.
    assert_eq!(all(&["", ".h.txt"]), ["a.txt", "sub/b.txt", ".h.txt"]);
    let roots = [at(""), at("sub"), at("a.txt")];
    assert_eq!(total_bytes(&roots, &ReadOptions::default()), 6);
}

#[test]
fn an_id_of_two_roots_is_reported_with_both_places() {
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
    for (target, name) in [
        ("mine", "l"),
        ("mine/docs", "m"),
        ("mine/docs/x.txt", "n.txt"),
    ] {
        symlink(dir.path().join(target), dir.path().join("other").join(name)).unwrap();
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
    let reported: Vec<String> = errors(&items).iter().map(|e| e.to_string()).collect();
    assert_eq!(reported.len(), 4, "a PDF is not a document: {reported:#?}");
    for (reported, name) in reported.iter().zip([
        "/b\\xe9.txt: ",
        "/c\\n\\u{1b}[31m.txt: ",
        "/e\\xe9: ",
        "/f\\n: ",
    ]) {
        assert!(
            reported.contains(name) && !reported.contains(char::is_control),
            "{reported}"
        );
    }
}

#[test]
fn records_are_read_whatever_their_file_and_folders_are_called() {
    let dir = folder(&[("z.txt", b"good")]);
    let deep = "d".repeat(200);
    let record = |id: &str| format!(r#"{{"id": "{id}", "text": "t"}}"#);
    let write = |path: &[u8], text: &str| {
        let path = dir.path().join(OsStr::from_bytes(path));
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    };
    write(b"b\xe9.jsonl", &record("in a file"));
    write(b"b\xe9.txt", "one");
    write(b"e\xe9/r.jsonl", &record("in a folder"));
    write(b"e\xe9/sub/r.jsonl", &record("below a folder"));
    write(b"f\n/r.jsonl", &record("with a line feed"));
    write(b"f\n/one.txt", "one");
    write(b"f\n/sub/two.md", "two");
    write(
        format!("{}/r.jsonl", [&*deep; 6].join("/")).as_bytes(),
        &record("deep"),
    );
    let all = [
        "in a file",
        "deep",
        "in a folder",
        "below a folder",
        "with a line feed",
        "z.txt",
    ];
    let items = read(dir.path());
    assert_eq!(ids(&items), all);
    let reported: Vec<String> = errors(&items).iter().map(|e| e.to_string()).collect();
    assert_eq!(reported.len(), 2, "{reported:#?}");
    assert!(reported[0].contains("/b\\xe9.txt: ") && reported[1].contains("/f\\n: "));

    let bytes = |root: &Path| total_bytes(&[root.to_owned()], &ReadOptions::default());
    let expected: usize = all.iter().map(|id| record(id).len()).sum();
    assert_eq!(
        bytes(dir.path()) as usize,
        expected - record("z.txt").len() + "good".len()
    );
    let named = dir.path().join(OsStr::from_bytes(b"b\xe9.jsonl"));
    assert_eq!(ids(&read(&named)), ["in a file"]);
}

/// The name of a root is not part of any id, so such a folder can be read by naming it.
#[test]
fn a_folder_with_a_bad_name_is_read_whole_where_it_is_named() {
    let dir = folder(&[]);
    let bad = dir.path().join(OsStr::from_bytes(b"e\xe9"));
    fs_err::create_dir_all(bad.join("sub")).unwrap();
    fs_err::write(bad.join("one.txt"), "one").unwrap();
    fs_err::write(bad.join("sub/r.jsonl"), r#"{"id": "r", "text": "t"}"#).unwrap();
    fs_err::write(bad.join("sub/two.txt"), "two").unwrap();
    symlink("..", bad.join("up")).unwrap();
    let found = |roots: [&Path; 3]| {
        let roots = roots.map(Path::to_owned);
        let items: Vec<Item> = read_documents(&roots, &ReadOptions::default()).collect();
        let mut found: Vec<String> = ids(&items).into_iter().map(str::to_owned).collect();
        found.sort();
        (found, errors(&items).len())
    };
    let whole = ["one.txt", "r", "sub/two.txt"].map(str::to_owned).to_vec();
    assert_eq!(found([dir.path(), &bad, &bad]), (whole.clone(), 1));
    let records = bad.join("sub/r.jsonl");
    assert_eq!(found([dir.path(), &records, &bad]), (whole.clone(), 1));
    assert_eq!(found([&bad, dir.path(), &records]), (whole, 0));
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
