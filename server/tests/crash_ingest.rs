//! kill -9 in the middle of `ingest --progress jsonl`, fifty times over one data directory.
//!
//! What a run has printed as committed must be in the store after any number of later kills: every such document is
//! complete, every blob is as written, and every start succeeds. A kill does not affect the page cache, so this tests
//! the order of writes within the process, not the syncs; the store's own tests cover those.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use ragweave_store::Store;
use serde_json::{Value, json};
use support::Site;

const KILLS: usize = 50;
const DOCUMENTS: usize = 120;

/// Numbers that differ from run to run of the loop, the same in every test run.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Document `i` in its `version`: a few chunks, so that a kill can fall between two of them.
fn text(i: usize, version: u64) -> String {
    let sentence =
        |j: usize| format!("Version {version} of lamp {i} stands in room {j} of Brenby. ");
    (0..12 + i % 9).map(sentence).collect()
}

fn name(i: usize) -> String {
    format!("{i:03}.txt")
}

/// Runs one ingest, kills it after `n_commits` commits and some more work, and adds what it printed to `committed`.
/// Returns whether the process was still alive when it was killed.
fn run_and_kill(
    site: &Site,
    versions: &[u64],
    n_commits: u64,
    rng: &mut Lcg,
    committed: &mut BTreeMap<String, (usize, u64)>,
) -> bool {
    let mut child = site
        .ingest_command(&["--progress", "jsonl", "--chunk-tokens", "64"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut seen = 0;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in &mut lines {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        seen += note(&event, versions, committed);
        if seen >= n_commits {
            break;
        }
    }
    // Kills anywhere within the next document or two, not only right after a commit.
    std::thread::sleep(std::time::Duration::from_micros(rng.below(4000)));
    child.kill().unwrap();
    // What was printed before the kill counts too, whole lines only: the last one may be cut.
    for line in lines.map_while(Result::ok) {
        if let Ok(event) = serde_json::from_str(&line) {
            note(&event, versions, committed);
        }
    }
    child.wait().unwrap().signal().is_some()
}

/// Records the commit if the event is one. Returns the number of commits, 0 or 1.
fn note(event: &Value, versions: &[u64], committed: &mut BTreeMap<String, (usize, u64)>) -> u64 {
    if event["event"] != "committed" {
        assert_ne!(event["event"], "failed", "{event}");
        return 0;
    }
    let id = event["document"].as_str().unwrap().to_owned();
    let i: usize = id.trim_end_matches(".txt").parse().unwrap();
    let n_chunks = event["chunks"].as_array().unwrap().len();
    committed.insert(id, (n_chunks, versions[i]));
    1
}

#[test]
fn fifty_kills_lose_nothing_that_was_printed_as_committed() {
    let site = Site::new();
    let mut rng = Lcg(7);
    let mut versions = vec![0; DOCUMENTS];
    for (i, version) in versions.iter().enumerate() {
        site.write(&name(i), text(i, *version));
    }
    let (mut committed, mut n_kills) = (BTreeMap::new(), 0);
    for _ in 0..KILLS {
        let n_commits = 1 + rng.below(4);
        let was_killed = run_and_kill(&site, &versions, n_commits, &mut rng, &mut committed);
        n_kills += usize::from(was_killed);
        check(&site, &versions, &committed);
        // Some documents change, so that kills interrupt replacements too.
        for _ in 0..2 {
            let i = rng.below(DOCUMENTS as u64) as usize;
            versions[i] += 1;
            site.write(&name(i), text(i, versions[i]));
        }
    }
    assert!(
        n_kills >= KILLS * 3 / 4,
        "most runs were killed at work: {n_kills}"
    );
    assert!(
        committed.len() >= DOCUMENTS / 2,
        "the kills let some work through: {}",
        committed.len()
    );

    let last = site
        .ingest(&["--progress", "jsonl", "--chunk-tokens", "64"])
        .expect_code(0);
    let unchanged = last.finished()["unchanged"].as_u64().unwrap();
    let current = committed.iter().filter(|(id, (_, version))| {
        let i: usize = id.trim_end_matches(".txt").parse().unwrap();
        versions[i] == *version
    });
    assert!(
        unchanged >= current.count() as u64,
        "every commit of a current version was still there"
    );
    assert_eq!(site.stats()["documents"], json!(DOCUMENTS));
    let report: Value = serde_json::from_str(&site.store("verify").expect_code(0).stdout).unwrap();
    assert_eq!(report["bad"], json!([]));
    assert_eq!(report["blobs"], site.stats()["blobs"]);
}

/// Every document printed as committed is in the store, in that version or a later one, with all its KV; every blob
/// verifies; no acknowledged commit is lost.
fn check(site: &Site, versions: &[u64], committed: &BTreeMap<String, (usize, u64)>) {
    let store = Store::inspect(&site.data()).unwrap();
    for (id, (n_chunks, version)) in committed {
        let document = store
            .document(id)
            .unwrap()
            .unwrap_or_else(|| panic!("{id} is lost"));
        let i: usize = id.trim_end_matches(".txt").parse().unwrap();
        let found = (*version..=versions[i]).find(|v| text(i, *v) == document.text);
        let found = found.unwrap_or_else(|| panic!("{id} went back before version {version}"));
        assert!(found != *version || document.chunks.len() == *n_chunks);
        for chunk in &document.chunks {
            assert!(
                store
                    .open_blob(&chunk.key, &chunk.token_ids)
                    .unwrap()
                    .is_some(),
                "{}",
                chunk.id
            );
        }
    }
    let report = store.verify(|_| {}).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(store.stats().unwrap().lost_commits, 0);
}
