//! `ragweave ingest --neighbours N` as a user sees it: the chunks that a chunk's KV was computed after, the effect of
//! another run and of another N, and the state after an interrupt.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use ragweave_store::{ChunkRecord, Store};
use serde_json::Value;
use support::{Outcome, Site, ragweave};

/// Four documents of one chunk: `a` is most like `b`, then `c`; `z` shares words only with `c`.
fn lamps() -> Site {
    let site = Site::new();
    site.write("a.txt", "The red lamp of Brenby hangs over the door.\n");
    site.write("b.txt", "The red lamp of Brenby hangs over the bridge.\n");
    site.write("c.txt", "A lamp hangs in Esterwick, near the tower.\n");
    site.write("z.txt", "Odd counts ships from his tower in Esterwick.\n");
    site
}

fn ingest(site: &Site, args: &[&str]) -> Outcome {
    site.ingest(&[&["--progress", "jsonl"], args].concat())
        .expect_code(0)
}

/// Added, replaced, unchanged.
fn counts(outcome: &Outcome) -> [u64; 3] {
    let finished = outcome.finished();
    ["added", "replaced", "unchanged"].map(|key| finished[key].as_u64().unwrap())
}

fn events(outcome: &Outcome, name: &str) -> usize {
    let events = outcome.events();
    events.iter().filter(|event| event["event"] == name).count()
}

/// Every chunk of the store, by its id.
fn chunks(site: &Site) -> BTreeMap<String, ChunkRecord> {
    let store = Store::inspect(&site.data()).unwrap();
    let documents = store.list_documents(None, usize::MAX).unwrap();
    let chunks = documents
        .iter()
        .flat_map(|document| store.document(&document.id).unwrap().unwrap().chunks);
    chunks.map(|chunk| (chunk.id.clone(), chunk)).collect()
}

/// Ids of the chunks one after the other.
fn ids_of(chunks: &BTreeMap<String, ChunkRecord>, names: &[&str]) -> Vec<u32> {
    let ids = names.iter().map(|name| chunks[*name].token_ids.clone());
    ids.collect::<Vec<_>>().concat()
}

#[test]
fn a_chunk_follows_its_most_similar_chunks_the_best_of_them_last() {
    let site = lamps();
    let outcome = ingest(&site, &["--neighbours", "2"]);
    assert_eq!(counts(&outcome), [4, 0, 0]);
    assert_eq!(
        (
            events(&outcome, "committed"),
            events(&outcome, "conditioned")
        ),
        (4, 4)
    );
    let with = chunks(&site);
    assert_eq!(
        with["a.txt#0"].conditioning_ids,
        ids_of(&with, &["c.txt#0", "b.txt#0"])
    );
    assert!(
        with["z.txt#0"]
            .conditioning_ids
            .ends_with(&with["c.txt#0"].token_ids)
    );
    assert!(with.values().all(|chunk| !chunk.notes.is_empty()));
    let stats = site.stats();
    assert_eq!(stats["blobs"], 4);

    let alone_site = lamps();
    ingest(&alone_site, &[]);
    let alone = chunks(&alone_site);
    for (id, chunk) in &with {
        assert_eq!(chunk.token_ids, alone[id].token_ids);
        assert_ne!(chunk.key, alone[id].key, "{id}");
    }
    assert_eq!(
        alone_site.stats()["live_bytes"],
        stats["live_bytes"],
        "neighbours cost no space"
    );
}

#[test]
fn a_second_run_changes_nothing_even_if_the_corpus_has_grown() {
    let site = lamps();
    ingest(&site, &["--neighbours", "2"]);
    let (before, stats) = (chunks(&site), site.stats());
    let again = ingest(&site, &["--neighbours", "2"]);
    assert_eq!(
        (counts(&again), events(&again, "conditioned")),
        ([0, 0, 4], 0)
    );
    for key in ["commit_seq", "blobs", "live_bytes", "total_bytes"] {
        assert_eq!(site.stats()[key], stats[key], "{key}");
    }
    site.write("d.txt", "The red lamp of Brenby hangs over the gate.\n");
    let grown = ingest(&site, &["--neighbours", "2"]);
    assert_eq!(counts(&grown), [1, 0, 4]);
    let after = chunks(&site);
    assert!(before.iter().all(|(id, chunk)| after[id] == *chunk));
    assert!(!after["d.txt#0"].conditioning_ids.is_empty());
}

#[test]
fn another_number_of_neighbours_makes_the_kv_again_and_none_makes_it_as_ever() {
    let site = lamps();
    ingest(&site, &[]);
    let alone = chunks(&site);
    let mut keys = vec![alone["a.txt#0"].key];
    for n in ["1", "2"] {
        let outcome = ingest(&site, &["--neighbours", n]);
        assert_eq!(counts(&outcome), [0, 4, 0], "{n}");
        assert_eq!(
            (
                events(&outcome, "committed"),
                events(&outcome, "conditioned")
            ),
            (0, 4)
        );
        assert!(outcome.finished()["kv_bytes"].as_u64().unwrap() > 0);
        assert_eq!(site.stats()["blobs"], 4, "that of other neighbours is dead");
        keys.push(chunks(&site)["a.txt#0"].key);
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 3);

    assert_eq!(counts(&ingest(&site, &["--neighbours", "0"])), [0, 4, 0]);
    assert_eq!(chunks(&site), alone);
    assert_eq!(site.stats()["blobs"], 4);
    assert_eq!(counts(&ingest(&site, &[])), [0, 0, 4]);
}

#[test]
fn without_kv_neighbours_are_noted_and_the_next_run_brings_the_kv() {
    let site = lamps();
    ingest(&site, &["--neighbours", "1", "--no-kv"]);
    let without = chunks(&site);
    assert_eq!(
        without["a.txt#0"].conditioning_ids,
        without["b.txt#0"].token_ids
    );
    assert_eq!(site.stats()["blobs"], 0);
    let again = ingest(&site, &["--neighbours", "1", "--no-kv"]);
    assert_eq!(counts(&again), [0, 0, 4]);
    ingest(&site, &["--neighbours", "1"]);
    let with = chunks(&site);
    assert_eq!(with["a.txt#0"].key, without["a.txt#0"].key);
    assert_eq!(site.stats()["blobs"], 4);
}

#[test]
fn metadata_alone_costs_no_kv() {
    let site = lamps();
    let record = |world| {
        format!(
            "{{\"id\": \"r\", \"text\": \"The red lamp of Odd.\", \"metadata\": {{\"world\": \"{world}\"}}}}\n"
        )
    };
    site.write("r.jsonl", record(7));
    ingest(&site, &["--neighbours", "2"]);
    let before = chunks(&site);
    site.write("r.jsonl", record(8));
    let outcome = ingest(&site, &["--neighbours", "2"]);
    assert_eq!(counts(&outcome), [0, 1, 4]);
    assert_eq!(outcome.finished()["kv_bytes"], 0);
    assert_eq!(chunks(&site), before, "notes too");
    assert_eq!(site.stats()["blobs"], 5);
}

#[test]
fn neighbours_that_do_not_fit_the_context_are_left_out() {
    let site = Site::new();
    for i in 0..10 {
        site.write(
            &format!("{i}.txt"),
            format!("The lamp number {i} is kept in Brenby. ").repeat(3),
        );
    }
    let limit = 256;
    let context = format!("limits.max_model_len={limit}");
    ingest(
        &site,
        &[
            "--neighbours",
            "8",
            "--chunk-tokens",
            "64",
            "--set",
            &context,
        ],
    );
    for chunk in chunks(&site).values() {
        let (n, neighbours) = (chunk.token_ids.len(), chunk.conditioning_ids.len());
        assert!(n + neighbours < limit);
        assert!(neighbours > 0 && neighbours < 8 * n, "{neighbours} of {n}");
    }
}

#[test]
fn a_vanished_document_is_nobodys_neighbour() {
    let site = lamps();
    ingest(&site, &["--neighbours", "1"]);
    fs_err::remove_file(site.corpus().join("b.txt")).unwrap();
    site.write(
        "a.txt",
        "The red lamp of Brenby hangs over the door still.\n",
    );
    let outcome = ingest(&site, &["--neighbours", "1", "--prune"]);
    assert_eq!(outcome.finished()["removed"], 1);
    let left = chunks(&site);
    assert_eq!(left["a.txt#0"].conditioning_ids, left["c.txt#0"].token_ids);
}

#[test]
fn an_interrupt_between_texts_and_kv_is_made_good_by_the_next_run() {
    let site = Site::new();
    for i in 0..200 {
        site.write(
            &format!("{i:03}.txt"),
            format!("The lamp number {i} is kept in Brenby. ").repeat(12),
        );
    }
    let mut child = site
        .ingest_command(&["--progress", "jsonl", "--neighbours", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    events
        .find(|event| event["event"] == "conditioned")
        .unwrap();
    Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    let done = 1 + events
        .filter(|event| event["event"] == "conditioned")
        .count() as u64;
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(done < 200, "{done}");
    let stats = site.stats();
    assert_eq!(
        (&stats["documents"], &stats["blobs"]),
        (&200.into(), &done.into())
    );

    let next = ingest(&site, &["--neighbours", "2"]);
    assert_eq!(counts(&next), [0, 200 - done, done]);
    assert_eq!(site.stats()["blobs"], 200);
}

#[test]
fn a_bad_number_of_neighbours_is_refused_before_anything_is_done() {
    let site = lamps();
    site.ingest(&["--neighbours", "9"])
        .expect_code(2)
        .expect_error(&["ingest.neighbours in flag --neighbours", "0..=8, is 9"]);
    assert!(!site.data().exists());
    let mut remote = ragweave();
    remote
        .arg("ingest")
        .arg(site.corpus())
        .args(["--addr", "127.0.0.1:1", "--neighbours", "1"]);
    Outcome::of(&mut remote)
        .expect_code(2)
        .expect_error(&["--addr", "--neighbours"]);
}
