//! kill -9 during ingest, 50 times: no acknowledged chunk is lost and no other is there in part. The
//! test binary runs itself as the process to be killed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use ragweave_store::{Store, StoreOptions};

use crate::harness::*;

const KILLS: u64 = 50;
/// `{first document} {directory}`; set only for the process that is to be killed.
const CHILD_TASK: &str = "RAGWEAVE_STORE_CRASH_TASK";

fn crash_options() -> StoreOptions {
    StoreOptions {
        max_segment_bytes: 10 * RECORD_BYTES,
        ..options()
    }
}

/// The content of document `n`. Ids repeat, so that documents are replaced, and blobs are
/// shared between neighbours.
fn nth(n: u32) -> (String, Vec<u32>) {
    (format!("d{}", n % 40), vec![n, n / 2])
}

#[test]
fn no_acknowledged_chunk_is_lost_by_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::new(2);
    let mut next = 0;
    let mut oracle = BTreeMap::new();
    for _ in 0..KILLS {
        for n in run_and_kill(dir.path(), next, random.below(12), random.below(60_000)) {
            let (id, seeds) = nth(n);
            oracle.insert(id, seeds);
            next = n + 1;
        }
        let store = Store::open(dir.path(), crash_options()).unwrap();
        check(&store, &mut oracle, next);
        // The unacknowledged one may be there, complete: `check` has added it to the oracle.
        next += 1;
    }
    assert!(next > 200, "only {next} commits in {KILLS} kills");
}

/// Starts an ingest of documents from `first` on, lets it acknowledge at least `n_lines`, lets it
/// work for `spins` more, and kills it. Returns what it acknowledged.
fn run_and_kill(dir: &Path, first: u32, n_lines: u64, spins: u64) -> Vec<u32> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::ingest_until_killed", "--exact", "--nocapture"])
        .env(CHILD_TASK, format!("{first} {}", dir.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let acknowledged = |line: String| line.strip_prefix("committed ")?.parse().ok();
    let mut seen: Vec<u32> = lines
        .by_ref()
        .filter_map(acknowledged)
        .take(n_lines as usize)
        .collect();
    (0..spins).for_each(|_| std::hint::spin_loop());
    child.kill().unwrap();
    child.wait().unwrap();
    seen.extend(lines.filter_map(acknowledged));
    seen
}

/// Every document of the oracle is there with its blobs. The one after the last acknowledged may
/// have been committed too; then it is added to the oracle.
fn check(store: &Store, oracle: &mut BTreeMap<String, Vec<u32>>, unacknowledged: u32) {
    let (id, seeds) = nth(unacknowledged);
    if store.document(&id).unwrap() == Some(document(&id, &seeds)) {
        oracle.insert(id, seeds);
    }
    for (id, seeds) in &*oracle {
        assert_eq!(store.document(id).unwrap(), Some(document(id, seeds)));
        seeds.iter().for_each(|seed| assert_hit(store, *seed));
    }
    let stats = store.stats().unwrap();
    assert_eq!(stats.documents, oracle.len() as u64);
    assert_eq!((stats.lost_commits, stats.quarantined), (0, 0));
    assert!(store.verify(|_| ()).unwrap().is_clean());
}

/// The process that is killed. As an ordinary test it has no task and does nothing.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a test that runs itself has no other argument"
)]
fn ingest_until_killed() {
    let Ok(task) = std::env::var(CHILD_TASK) else {
        return;
    };
    let (first, dir) = task.split_once(' ').unwrap();
    let store = Store::open(Path::new(dir), crash_options()).unwrap();
    let mut stdout = std::io::stdout().lock();
    for n in first.parse::<u32>().unwrap().. {
        let (id, seeds) = nth(n);
        put(&store, &id, &seeds);
        writeln!(stdout, "committed {n}").unwrap();
        stdout.flush().unwrap();
    }
}
