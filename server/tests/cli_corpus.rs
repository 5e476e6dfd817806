//! Files in a corpus that are not good documents: each is one listed failure or is skipped, the others are ingested,
//! and the run ends, both offline and through a server.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{Outcome, Serving, Site, ragweave};

/// `a.txt`, `c.txt`, and between them a name that is not UTF-8 and one that would break a line and colour a terminal.
fn with_odd_names() -> Site {
    let site = Site::new();
    site.write("a.txt", "The fox lives in Brindle.");
    site.write("c.txt", "Corin mends nets.");
    for name in [&b"b\xe9.txt"[..], b"bb\n\x1b[31m.txt"] {
        let path = site.corpus().join(OsStr::from_bytes(name));
        fs_err::write(path, "Tor keeps the sword.").unwrap();
    }
    site
}

fn failures(site: &Site) -> Vec<Value> {
    let text = fs_err::read_to_string(site.data().join("failures.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn run(command: &mut Command, args: &[&OsStr]) -> Outcome {
    Outcome::of(command.args(args))
}

/// `ragweave ingest PATHS --data DATA`, below the site's root.
fn ingest(site: &Site, paths: &[&str], data: &str, args: &[&str]) -> Command {
    let mut command = ragweave();
    command
        .current_dir(site.root.path())
        .arg("ingest")
        .args(paths);
    command
        .arg("--data")
        .arg(data)
        .arg("--model")
        .arg(&site.model)
        .args(args);
    command
}

#[test]
fn a_name_that_no_id_can_have_is_one_failure_however_progress_is_shown() {
    for kind in ["jsonl", "plain", "bar"] {
        let site = with_odd_names();
        let outcome = site.ingest(&["--progress", kind]).expect_code(3);
        assert!(
            !outcome.stderr.contains('\u{1b}') || kind == "bar",
            "{outcome:?}"
        );
        assert_eq!(site.stats()["documents"], 2);
        let failures = failures(&site);
        assert_eq!(failures.len(), 2, "{failures:?}");
        for (failure, end) in failures
            .iter()
            .zip(["/bb\\n\\u{1b}[31m.txt", "/b\\xe9.txt"])
        {
            assert!(
                failure["path"].as_str().unwrap().ends_with(end),
                "{failure}"
            );
        }
        if kind == "jsonl" {
            let reported = outcome
                .events()
                .into_iter()
                .filter(|event| event["event"] == "failed");
            assert_eq!(
                reported
                    .map(|event| event["path"].clone())
                    .collect::<Vec<_>>(),
                [failures[0]["path"].clone(), failures[1]["path"].clone()]
            );
            assert_eq!(outcome.finished()["failed"], 2);
        }
    }
}

#[test]
fn a_dry_run_and_a_server_take_the_same_documents_and_tell_the_same_failures() {
    let site = with_odd_names();
    let dry = site.ingest(&["--dry-run"]).expect_code(3);
    let reported = |text: &str| {
        let lines = text
            .lines()
            .filter(|line| line.contains("fail: ") || line.contains("failed: "));
        lines
            .filter(|line| line.contains("b\\xe9.txt") || line.contains("bb\\n\\u{1b}[31m.txt"))
            .count()
    };
    assert_eq!(reported(&dry.stdout), 2, "{}", dry.stdout);
    assert!(
        dry.stdout.contains("2 documents, 2 chunks"),
        "{}",
        dry.stdout
    );
    let server = serve(&site);
    let mut command = ragweave();
    command.arg("ingest").arg(site.corpus());
    let sent = run(&mut command, &["--addr".as_ref(), server.url.as_ref()]).expect_code(3);
    assert_eq!(reported(&sent.stderr), 2, "{}", sent.stderr);
    assert!(
        sent.stdout
            .starts_with("2 added, 0 replaced, 0 unchanged, 2 failed"),
        "{}",
        sent.stdout
    );
}

/// A server over a data directory with one other document.
fn serve(site: &Site) -> Serving {
    fs_err::write(site.root.path().join("first.txt"), "The mill grinds rye.").unwrap();
    let data = site.data();
    Outcome::of(&mut ingest(
        site,
        &["first.txt"],
        data.to_str().unwrap(),
        &[],
    ))
    .expect_code(0);
    Serving::start(site)
}

#[test]
fn links_that_loop_end_in_every_mode() {
    let site = Site::with_corpus();
    for name in ["l1", "l2", "l3"] {
        symlink(".", site.corpus().join(name)).unwrap();
    }
    symlink(site.root.path(), site.corpus().join("up")).unwrap();
    site.ingest(&["--dry-run"]).expect_code(0);
    for kind in ["bar", "jsonl"] {
        site.ingest(&["--progress", kind]).expect_code(0);
        assert_eq!(site.stats()["documents"], 3);
    }
}

#[test]
fn the_data_directory_is_never_a_source() {
    let site = Site::with_corpus();
    site.write("broken.jsonl", "no record\n".repeat(20));
    for args in [
        &["--dry-run"][..],
        &[],
        &["--dry-run"],
        &["--progress", "bar"],
    ] {
        let outcome = Outcome::of(&mut ingest(&site, &["corpus"], "corpus/data/mine", args));
        outcome.expect_code(3);
    }
    let list = site.corpus().join("data/mine/failures.jsonl");
    let n_listed = || fs_err::read_to_string(&list).unwrap().lines().count();
    assert_eq!(n_listed(), 20);
    // However the directory is reached: by another run, or by a link to the folder or into it.
    symlink("data/mine", site.corpus().join("link")).unwrap();
    symlink("data/mine/failures.jsonl", site.corpus().join("list.jsonl")).unwrap();
    let other = Outcome::of(&mut ingest(
        &site,
        &["corpus"],
        "other",
        &["--progress", "jsonl"],
    ));
    assert_eq!(other.expect_code(3).finished()["failed"], 20);
    for path in [
        "corpus/data/mine",
        "corpus/link",
        "corpus/list.jsonl",
        "corpus/../corpus/data/mine/failures.jsonl",
    ] {
        for args in [&["--dry-run"][..], &[]] {
            let named = Outcome::of(&mut ingest(&site, &["corpus/tor.txt", path], "other", args));
            let named = named.expect_code(3);
            let reported = format!("{}{}", named.stdout, named.stderr);
            assert!(
                reported.contains("ragweave data directory"),
                "{path}: {reported}"
            );
        }
    }
}

#[test]
fn a_run_does_not_read_its_own_output() {
    let site = Site::with_corpus();
    let out = site.corpus().join("progress.jsonl");
    fs_err::write(&out, "left by an earlier run\n").unwrap();
    let appended = fs_err::OpenOptions::new().append(true).open(&out).unwrap();
    let mut command = site.ingest_command(&["--progress", "jsonl"]);
    let status = command.stdout(appended.into_parts().0).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(site.stats()["documents"], 3);
}

#[test]
fn a_file_of_bad_lines_does_not_flood_the_list() {
    let site = Site::with_corpus();
    site.write("broken.jsonl", "no record\n".repeat(20_000));
    let outcome = site.ingest(&["--progress", "jsonl"]).expect_code(3);
    let finished = outcome.finished();
    assert_eq!(
        (&finished["added"], &finished["failed"]),
        (&3.into(), &20_000.into())
    );
    let failures = failures(&site);
    assert_eq!(failures.len(), 1_001);
    let last = failures.last().unwrap();
    assert!(
        last["error"].as_str().unwrap().starts_with("19000 more"),
        "{last}"
    );
}

#[test]
fn overlapping_and_repeated_paths_are_read_once() {
    let site = Site::with_corpus();
    let paths = ["corpus", "corpus/", "./corpus/corin.txt", "corpus"];
    let outcome = Outcome::of(&mut ingest(&site, &paths, "data", &["--progress", "jsonl"]));
    let finished = outcome.expect_code(0).finished();
    assert_eq!(
        (&finished["added"], &finished["failed"]),
        (&3.into(), &0.into())
    );
}

#[test]
fn a_data_directory_that_is_not_utf8_is_refused_and_none_other_is_made() {
    let site = Site::with_corpus();
    let bad = OsStr::from_bytes(b"caf\xe9");
    let before = entries(site.root.path());
    let flag = site
        .ingest_command(&[])
        .get_args()
        .map(ToOwned::to_owned)
        .collect::<Vec<_>>();
    let [ingest, corpus, data_flag, _, rest @ ..] = &flag[..] else {
        panic!("{flag:?}");
    };
    let mut command = ragweave();
    command
        .current_dir(site.root.path())
        .args([ingest, corpus, data_flag])
        .arg(bad)
        .args(rest);
    Outcome::of(&mut command)
        .expect_code(2)
        .expect_error(&["flag --data", "caf\\xe9"]);
    for command in [&["ingest", "corpus", "--model"][..], &["serve", "--model"]] {
        let mut from_environment = ragweave();
        from_environment
            .current_dir(site.root.path())
            .args(command)
            .arg(&site.model);
        let refused = Outcome::of(from_environment.env("RAGWEAVE_DATA", bad)).expect_code(2);
        refused.expect_error(&["RAGWEAVE_DATA", "caf\\xe9"]);
    }
    let mut stats = ragweave();
    stats
        .current_dir(site.root.path())
        .args(["store", "stats", "--data"])
        .arg(bad);
    Outcome::of(&mut stats)
        .expect_code(2)
        .expect_error(&["flag --data"]);
    let mut empty = ragweave();
    empty
        .current_dir(site.root.path())
        .args(["ingest", "corpus", "--model"])
        .arg(&site.model);
    Outcome::of(empty.env("RAGWEAVE_DATA", ""))
        .expect_code(2)
        .expect_error(&["RAGWEAVE_DATA"]);
    assert_eq!(entries(site.root.path()), before);
}

fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut entries: Vec<_> = fs_err::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    entries
}
