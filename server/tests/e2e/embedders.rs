//! Another embedder than the one the stored vectors come from: they are made again from the text, the KV is kept. And
//! a remote embedder that is down, comes back, or changes the width of its vectors.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ragweave_proto::v1;
use ragweave_retriever::{Embedding, Filter};
use ragweave_server::components::{Components, OpenMode};
use ragweave_server::config::{CommonArgs, Config};
use ragweave_server::error::ServerError;
use ragweave_server::ingest::{Change, IngestError, IngestOptions, Ingestor};
use ragweave_server::problem::{Problem, ProblemKind};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::Code;

use crate::old_vectors::vectors;
use crate::site::{FOX, NETS, SWORD, Site, document, question};

const DOCUMENTS: [(&str, &str); 3] = [("fox", FOX), ("nets", NETS), ("sword", SWORD)];

/// A directory of tiny random weights; its vectors have 32 numbers.
fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../retriever/tests/fixtures/embedders")
        .join(name)
}

fn try_open(root: &TempDir, embedder: &Path, mode: OpenMode) -> Result<Components, ServerError> {
    let args = CommonArgs {
        data: Some(root.path().join("data")),
        model: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-qwen3")),
        embedder: Some(embedder.to_owned()),
        settings: vec!["embedder.timeout_s=5".to_owned()],
        ..CommonArgs::default()
    };
    Components::open(Config::load(&args)?, mode)
}

fn open(root: &TempDir, embedder: &Path) -> Components {
    try_open(root, embedder, OpenMode::Ingest).unwrap()
}

fn ingest(components: &Components, id: &str, text: &str) -> Result<Change, IngestError> {
    let ingestor = Ingestor::new(components);
    let options = IngestOptions::default();
    let ingesting = ingestor.ingest(document(id, text), &options);
    Runtime::new()
        .unwrap()
        .block_on(ingesting)
        .map(|outcome| outcome.change)
}

/// A data directory with three documents, embedded by `embedder`.
fn data(embedder: &Path) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let components = open(&root, embedder);
    for (id, text) in DOCUMENTS {
        assert_eq!(ingest(&components, id, text).unwrap(), Change::Added);
    }
    root
}

/// The document found first for its own text.
fn found(components: &Components, text: &str) -> Option<String> {
    let query = components.embedder.embed_document(text).unwrap();
    let index = components.index.read().unwrap();
    let hits = index.search(&query, 1, &Filter::default()).unwrap();
    hits.into_iter().next().map(|hit| hit.scored.document_id)
}

fn assert_found_with_their_kv(components: &Components) {
    for (id, text) in DOCUMENTS {
        assert_eq!(found(components, text).as_deref(), Some(id));
        assert_eq!(ingest(components, id, text).unwrap(), Change::Unchanged);
        for chunk in components.store.document(id).unwrap().unwrap().chunks {
            let blob = components.store.open_blob(&chunk.key, &chunk.token_ids);
            assert!(blob.unwrap().is_some(), "the KV of {id} is found");
        }
    }
}

#[test]
fn another_embedder_embeds_again_both_ways_and_the_kv_stays() {
    let lexical = Path::new("lexical");
    let root = data(lexical);
    let words = vectors(root.path());
    for dir in ["bert-mean", "bge-cls"] {
        let components = open(&root, &directory(dir));
        assert_found_with_their_kv(&components);
        let id = components.embedder.id().to_owned();
        drop(components);
        for vector in vectors(root.path()).values() {
            let Embedding::Dense(values) = Embedding::from_bytes(vector, &id).unwrap() else {
                unreachable!("{dir} is dense")
            };
            assert_eq!(values.len(), 32);
        }
    }
    let components = open(&root, lexical);
    assert_found_with_their_kv(&components);
    drop(components);
    assert_eq!(vectors(root.path()), words);
}

#[test]
fn a_changed_setting_of_the_same_embedder_embeds_again() {
    let root = data(&directory("bert-mean"));
    let before = vectors(root.path());
    drop(open(&root, &directory("bert-mean")));
    assert_eq!(vectors(root.path()), before, "nothing has changed");
    let copy = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs_err::copy(directory("bert-mean").join(file), copy.path().join(file)).unwrap();
    }
    fs_err::write(
        copy.path().join("sentence_bert_config.json"),
        "{\"max_seq_length\": 8}",
    )
    .unwrap();
    assert_found_with_their_kv(&open(&root, copy.path()));
    for (chunk, vector) in vectors(root.path()) {
        assert_ne!(before[&chunk], vector, "{chunk}");
    }
}

/// An embedder behind HTTP. Its vectors count letters, as many as it is wide; width 0 means that it is down.
struct Remote {
    url: PathBuf,
    width: Arc<AtomicUsize>,
}

impl Remote {
    fn start(width: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}#letters", listener.local_addr().unwrap());
        let width = Arc::new(AtomicUsize::new(width));
        let current = Arc::clone(&width);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let width = Arc::clone(&current);
                std::thread::spawn(move || converse(&stream, &width));
            }
        });
        Self {
            url: url.into(),
            width,
        }
    }

    fn set_width(&self, width: usize) {
        self.width.store(width, Ordering::SeqCst);
    }
}

fn converse(stream: &TcpStream, width: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream.try_clone().ok()?;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            (reader.read_line(&mut head).ok()? > 0).then_some(())?;
        }
        let head = head.to_lowercase();
        let length = head
            .split("content-length: ")
            .nth(1)?
            .split("\r\n")
            .next()?;
        let mut body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        let request: Value = serde_json::from_slice(&body).ok()?;
        let (status, answer) = match width.load(Ordering::SeqCst) {
            0 => (503, "down".to_owned()),
            width => (200, letters(&request, width)),
        };
        let head = format!(
            "HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        stream
            .write_all(format!("{head}{answer}").as_bytes())
            .ok()?;
    }
}

fn letters(request: &Value, width: usize) -> String {
    let inputs = request["input"].as_array().unwrap().iter();
    let count = |text: &Value, letter: u8| {
        let bytes = text.as_str().unwrap().bytes();
        bytes.filter(|byte| *byte == letter).count()
    };
    let vector = |text: &Value| {
        (b'a'..)
            .take(width)
            .map(|l| count(text, l))
            .collect::<Vec<_>>()
    };
    let items = inputs
        .enumerate()
        .map(|(index, text)| serde_json::json!({"index": index, "embedding": vector(text)}));
    serde_json::json!({"data": items.collect::<Vec<_>>()}).to_string()
}

#[test]
fn a_remote_embedder_that_is_down_stops_questions_but_not_the_start() {
    let remote = Remote::start(26);
    let root = data(&remote.url);
    remote.set_width(0);
    let components = try_open(&root, &remote.url, OpenMode::Serve).unwrap();
    assert_eq!(components.index.read().unwrap().len(), 3);
    assert_eq!(
        components.embedder.width(),
        Some(26),
        "that of the stored vectors"
    );

    let error = components.embedder.embed_query("fox").unwrap_err();
    let problem = Problem::from(error);
    assert_eq!(
        (problem.kind, problem.reason),
        (ProblemKind::Unavailable, "EMBEDDER_UNAVAILABLE")
    );
    assert!(
        !problem.message.contains("127.0.0.1"),
        "{}",
        problem.message
    );

    // A document fails, and can be sent again.
    let failed = ingest(&components, "new", "a new note").unwrap_err();
    assert!(
        failed.is_fatal() && failed.to_string().contains("503 (down)"),
        "{failed}"
    );
    assert!(components.store.document("new").unwrap().is_none());
    remote.set_width(26);
    assert_eq!(
        ingest(&components, "new", "a new note").unwrap(),
        Change::Added
    );
    assert_found_with_their_kv(&components);
}

#[test]
fn a_remote_embedder_that_is_needed_at_the_start_must_answer() {
    let root = data(Path::new("lexical"));
    let before = vectors(root.path());
    let remote = Remote::start(0);
    let refused = try_open(&root, &remote.url, OpenMode::Serve).err().unwrap();
    assert!(refused.to_string().contains("503 (down)"), "{refused}");
    assert_eq!(vectors(root.path()), before, "nothing is lost");
    remote.set_width(26);
    assert_found_with_their_kv(&open(&root, &remote.url));
}

#[test]
fn a_remote_embedder_of_another_width_is_noticed_and_embeds_again_at_the_next_start() {
    let remote = Remote::start(26);
    let root = data(&remote.url);
    let components = open(&root, &remote.url);
    remote.set_width(20);
    let error = components.embedder.embed_query("fox").unwrap_err();
    assert!(error.to_string().contains("20 numbers"), "{error}");
    let problem = Problem::from(error);
    assert_eq!(
        (problem.kind, problem.reason),
        (ProblemKind::Unavailable, "EMBEDDER_BAD_ANSWER")
    );
    assert!(ingest(&components, "new", "a new note").is_err());
    assert!(components.store.document("new").unwrap().is_none());
    drop(components);
    let components = open(&root, &remote.url);
    assert_eq!(components.embedder.width(), Some(20));
    assert_found_with_their_kv(&components);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_says_that_the_embedder_is_down_and_the_server_goes_on() {
    let remote = Remote::start(26);
    let setting = format!("embedder.model={}", remote.url.display());
    let mut site = Site::start_with(&[&setting]).await;
    remote.set_width(0);
    let refused = site.ask(question("Who mends nets?", 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(
        refused.message().contains("embedder does not answer"),
        "{refused:?}"
    );
    remote.set_width(26);
    let reply = site.ask(question(NETS, 1)).await.unwrap();
    assert_eq!(reply.started.sources[0].document_id, "nets");
    let stats = site.client.get_stats(v1::GetStatsRequest {}).await.unwrap();
    let embedder = stats.into_inner().server.unwrap().embedder;
    assert!(
        embedder.contains("#letters: vectors of 26 numbers"),
        "{embedder}"
    );
}
