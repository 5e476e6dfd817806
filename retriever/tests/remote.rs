//! The remote embedder against a small HTTP server in this process: what it sends, and what it makes
//! of servers that are slow, down, overloaded or wrong.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::spawn;
use std::time::{Duration, Instant};

use ragweave_retriever::{Embedder, Embedding, RemoteEmbedder, RemoteOptions, RetrieverError};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A request as the server got it.
struct Request {
    head: String,
    body: Value,
}

/// Status and body of the answer to the n-th request.
type Answer = dyn Fn(usize, &Request) -> (u16, Vec<u8>) + Send + Sync;

/// A server that answers until the test ends.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn start(answer: impl Fn(usize, &Request) -> (u16, Vec<u8>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::default();
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                spawn(move || converse(stream, &seen, &*answer));
            }
        });
        Self { address, requests }
    }

    /// A server whose vectors have the length of the text as their first number.
    fn good() -> Self {
        Self::start(|_, request| (200, vectors_of(request)))
    }

    fn embedder(&self) -> RemoteEmbedder {
        embedder(&format!("http://{}/v1#tiny", self.address), TIMEOUT)
    }

    fn n_requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

/// Answers the requests of one connection.
fn converse(stream: TcpStream, seen: &Mutex<Vec<Request>>, answer: &Answer) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(request) = read_request(&mut reader) {
        let n = seen.lock().unwrap().len();
        let (status, body) = answer(n, &request);
        seen.lock().unwrap().push(request);
        let head = format!(
            "HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        // A client that has gone is no failure of the server.
        let _ = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(&body));
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_lowercase();
    let length = lower
        .split("content-length: ")
        .nth(1)?
        .split("\r\n")
        .next()?;
    let mut body = vec![0; length.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).ok()?;
    Some(Request { head, body })
}

fn vectors_of(request: &Request) -> Vec<u8> {
    let inputs = request.body["input"].as_array().unwrap();
    let item = |(index, text): (usize, &Value)| {
        let length = text.as_str().unwrap().len();
        json!({"object": "embedding", "index": index, "embedding": [length, 1.0]})
    };
    // Backwards: the index counts, not the place.
    let data: Vec<Value> = inputs.iter().enumerate().map(item).rev().collect();
    json!({"object": "list", "data": data, "model": "tiny"})
        .to_string()
        .into_bytes()
}

fn vector(numbers: &str) -> Vec<u8> {
    format!(r#"{{"data": [{{"index": 0, "embedding": [{numbers}]}}]}}"#).into_bytes()
}

fn options(url: &str, timeout: Duration) -> RemoteOptions {
    RemoteOptions {
        url: url.parse().unwrap(),
        api_key: None,
        timeout,
        query_prompt: String::new(),
        document_prompt: String::new(),
    }
}

fn embedder(url: &str, timeout: Duration) -> RemoteEmbedder {
    RemoteEmbedder::new(options(url, timeout))
}

fn unavailable(embedder: &RemoteEmbedder) -> String {
    match embedder.embed_query("fox") {
        Err(RetrieverError::EmbedderUnavailable { message }) => message,
        other => unreachable!("{other:?}"),
    }
}

fn bad_answer(embedder: &RemoteEmbedder) -> String {
    match embedder.embed_query("fox") {
        Err(RetrieverError::BadEmbedderAnswer { message }) => message,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn texts_go_out_in_batches_and_vectors_come_back_in_their_order() {
    let server = Server::good();
    let options = RemoteOptions {
        api_key: Some("s3cret".to_owned()),
        query_prompt: "query: ".to_owned(),
        ..options(&format!("http://{}#tiny", server.address), TIMEOUT)
    };
    let embedder = RemoteEmbedder::new(options);
    assert_eq!(embedder.width(), None);
    let texts: Vec<String> = (0..70).map(|n| "x".repeat(n)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let vectors = embedder.embed_documents(&texts).unwrap();
    assert_eq!(vectors[0], None, "a blank text is not sent");
    for (length, vector) in vectors.iter().enumerate().skip(1) {
        assert_eq!(*vector, Some(Embedding::Dense(vec![length as f32, 1.0])));
    }
    assert_eq!(embedder.width(), Some(2));
    let asked = embedder.embed_query("fox").unwrap();
    assert_eq!(asked, Embedding::Dense(vec![10.0, 1.0]), "with the prompt");

    let requests = server.requests.lock().unwrap();
    let sizes = requests
        .iter()
        .map(|request| request.body["input"].as_array().unwrap().len());
    assert_eq!(sizes.collect::<Vec<_>>(), [32, 32, 5, 1]);
    let (head, body) = (&requests[0].head, &requests[0].body);
    assert!(
        head.starts_with("POST /v1/embeddings HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.to_lowercase()
            .contains("authorization: bearer s3cret\r\n"),
        "{head}"
    );
    assert!(
        head.to_lowercase()
            .contains("content-type: application/json\r\n"),
        "{head}"
    );
    assert_eq!(
        (&body["model"], &body["encoding_format"]),
        (&json!("tiny"), &json!("float"))
    );
}

#[test]
fn a_busy_server_is_asked_again() {
    for status in [429, 500, 503] {
        let server = Server::start(move |n, request| match n {
            0 | 1 => (status, b"later".to_vec()),
            _ => (200, vectors_of(request)),
        });
        assert!(server.embedder().embed_query("fox").is_ok(), "{status}");
        assert_eq!(server.n_requests(), 3);
    }
}

#[test]
fn a_server_that_stays_busy_is_given_up() {
    let server = Server::start(|_, _| (503, b"model is\nloading".to_vec()));
    let message = unavailable(&server.embedder());
    assert!(message.contains("503 (model is loading)"), "{message}");
    assert!(message.contains("--embedder"), "{message}");
    assert_eq!(server.n_requests(), 4);
}

#[test]
fn a_server_that_is_down_is_an_error_that_names_it() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{address}");
    let message = unavailable(&embedder(&url, TIMEOUT));
    assert!(
        message.contains(&url) && message.contains("does not answer"),
        "{message}"
    );
    assert!(embedder(&url, TIMEOUT).probe().is_err());
}

#[test]
fn a_slow_server_is_given_up_at_the_time_limit() {
    // Connections are accepted by the system and never answered.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let since = Instant::now();
    let message = unavailable(&embedder(&url, Duration::from_millis(300)));
    assert!(message.contains("within 0.3 s"), "{message}");
    assert!(message.contains("embedder.timeout_s"), "{message}");
    assert!(since.elapsed() < Duration::from_secs(5));
}

#[test]
fn refusals_are_not_repeated_and_say_what_to_do() {
    for (status, said) in [
        (401, "RAGWEAVE_EMBEDDER_API_KEY"),
        (404, "the model's name after #"),
        (307, "answers 307"),
    ] {
        let server = Server::start(move |_, _| (status, b"{\"error\": \"no\"}".to_vec()));
        let message = bad_answer(&server.embedder());
        assert!(message.contains(said), "{message}");
        assert_eq!(server.n_requests(), 1);
    }
}

#[test]
fn unusable_answers_are_named() {
    for (body, said) in [
        (vector("NaN"), "not a list of embeddings"),
        (vector("1e39"), "not finite"),
        (vector("0, 0.0"), "zero"),
        (vector(""), "zero"),
        (br#"{"data": []}"#.to_vec(), "0 vectors for 1 texts"),
        (
            br#"{"data": [{"index": 7, "embedding": [1]}]}"#.to_vec(),
            "index 7",
        ),
        (b"<html>".to_vec(), "not a list of embeddings"),
    ] {
        let server = Server::start(move |_, _| (200, body.clone()));
        let message = bad_answer(&server.embedder());
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let server = Server::start(|_, _| (200, vector(&"1, ".repeat(6 << 20))));
    let message = bad_answer(&server.embedder());
    assert!(message.contains("more than 16777216 bytes"), "{message}");
}

#[test]
fn the_width_may_not_change() {
    let server = Server::start(|n, _| match n {
        0 => (200, vector("1, 2")),
        _ => (200, vector("1, 2, 3")),
    });
    let embedder = server.embedder();
    assert_eq!(embedder.probe(), Ok(2));
    let message = bad_answer(&embedder);
    assert!(
        message.contains("3 numbers") && message.contains("have 2"),
        "{message}"
    );

    // The stored vectors count too, if the server was not there before.
    let other = server.embedder();
    other.expect_width(2);
    assert!(bad_answer(&other).contains("start again"));
    assert_eq!(other.width(), Some(2));
}

#[test]
fn the_id_is_made_of_url_model_and_prompts() {
    let ids = ["http://h:1#a", "http://h:1#b", "http://h:2#a"].map(|url| {
        let with_prompt = RemoteOptions {
            document_prompt: "passage: ".to_owned(),
            ..options(url, TIMEOUT)
        };
        let other_time = options(url, TIMEOUT / 2);
        let same = embedder(url, TIMEOUT).id().to_owned();
        assert_eq!(RemoteEmbedder::new(other_time).id(), same);
        [same, RemoteEmbedder::new(with_prompt).id().to_owned()]
    });
    let mut ids = ids.concat();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6);
}
