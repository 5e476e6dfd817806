//! A server with its own data directory, and the calls that the tests make.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ragweave_proto::v1;
use ragweave_proto::v1::generate_request::Context;
use ragweave_proto::v1::generate_response::Event;
use ragweave_proto::v1::rag_service_client::RagServiceClient;
use ragweave_retriever::{DocumentFormat, SourceDocument};
use ragweave_server::client::parts_within;
use ragweave_server::components::{Components, OpenMode};
use ragweave_server::config::{CommonArgs, Config};
use ragweave_server::run::{RunError, run};
use ragweave_server::service::Service;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

pub type Client = RagServiceClient<Channel>;

pub const FOX: &str = "The fox lives in Brindle, in a small house beside the harbour.";
pub const NETS: &str = "Corin mends nets in the harbour and carries a blue lantern.";
pub const SWORD: &str = "Tor keeps the sword under the old bridge of Esterwick.";

/// A running server. Without [`Site::shut_down`], dropping it drops everything at once.
pub struct Site {
    pub root: TempDir,
    pub service: Service,
    pub client: Client,
    pub channel: Channel,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), RunError>>,
}

/// One answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub text: String,
    pub token_ids: Vec<u32>,
    pub started: v1::Started,
    pub finished: v1::Finished,
}

impl Site {
    /// A server over an empty corpus; `settings` are `key=value` of the configuration. It blends unless configured
    /// otherwise, because the choice of auto depends on the machine.
    pub async fn empty(settings: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let args = CommonArgs {
            data: Some(root.path().join("data")),
            model: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-qwen3")),
            settings: ["fusion.mode=blend"]
                .iter()
                .chain(settings)
                .map(ToString::to_string)
                .collect(),
            ..CommonArgs::default()
        };
        let open = move || Components::open(Config::load(&args)?, OpenMode::Ingest);
        let components = tokio::task::spawn_blocking(open).await.unwrap().unwrap();
        let service = Service::new(&components);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or(()) };
        let server = tokio::spawn(run(listener, service.clone(), shutdown));
        let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
        Self {
            root,
            service,
            client: Client::new(channel.clone()),
            channel,
            stop,
            server,
        }
    }

    /// A server over [`FOX`], [`NETS`] and [`SWORD`], with their KV.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// [`Site::start`] with settings of the configuration.
    pub async fn start_with(settings: &[&str]) -> Self {
        let mut site = Self::empty(settings).await;
        site.ingest(&[("fox", FOX), ("nets", NETS), ("sword", SWORD)], false)
            .await;
        site
    }

    pub async fn ingest(
        &mut self,
        documents: &[(&str, &str)],
        skip_kv: bool,
    ) -> v1::IngestDocumentsResponse {
        let parts: Vec<_> = documents
            .iter()
            .flat_map(|(id, text)| document_parts(document(id, text), skip_kv))
            .collect();
        self.send(parts).await.unwrap()
    }

    pub async fn send(
        &mut self,
        parts: Vec<v1::IngestDocumentsRequest>,
    ) -> Result<v1::IngestDocumentsResponse, Status> {
        Ok(self
            .client
            .ingest_documents(tokio_stream::iter(parts))
            .await?
            .into_inner())
    }

    pub async fn ask(&mut self, request: v1::GenerateRequest) -> Result<Reply, Status> {
        let stream = self.client.generate(request).await?.into_inner();
        read(stream).await
    }

    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// Sends the stop signal without waiting.
    pub fn signal(self) -> (Client, Service, JoinHandle<Result<(), RunError>>, TempDir) {
        self.stop.send(()).unwrap();
        (self.client, self.service, self.server, self.root)
    }

    /// Waits for the server to end without a stop signal.
    pub async fn ended(self) -> Result<(), RunError> {
        self.server.await.unwrap()
    }
}

/// The index, locked: searches and commits wait for it. The lock is released when this is dropped.
pub struct HeldIndex {
    _until_dropped: std::sync::mpsc::Sender<()>,
}

impl HeldIndex {
    pub fn release(self) {}
}

/// Locks the index from a separate thread.
pub fn hold_index(components: &Components) -> HeldIndex {
    let index = Arc::clone(&components.index);
    let (locked, is_locked) = std::sync::mpsc::channel();
    let (until_dropped, dropped) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _guard = index.write().unwrap();
        locked.send(()).unwrap();
        dropped.recv().unwrap_err();
    });
    is_locked.recv().unwrap();
    HeldIndex {
        _until_dropped: until_dropped,
    }
}

pub fn document(id: &str, text: &str) -> SourceDocument {
    SourceDocument {
        id: id.to_owned(),
        text: text.to_owned(),
        metadata: [("name".to_owned(), id.to_owned())].into(),
        format: DocumentFormat::Text,
    }
}

/// The messages that carry one document, of any size.
pub fn document_parts(
    document: SourceDocument,
    skip_kv: bool,
) -> impl Iterator<Item = v1::IngestDocumentsRequest> {
    parts_within(document, skip_kv, usize::MAX)
}

/// Reads an answer and checks the order of its events.
pub async fn read(mut stream: Streaming<v1::GenerateResponse>) -> Result<Reply, Status> {
    let (mut text, mut token_ids, mut started, mut finished) = (String::new(), vec![], None, None);
    while let Some(message) = stream.message().await? {
        assert!(finished.is_none(), "an event after the last one");
        match message.event.unwrap() {
            Event::Started(event) => assert!(started.replace(event).is_none(), "started twice"),
            Event::Delta(delta) => {
                assert!(started.is_some(), "a delta before the start");
                text.push_str(&delta.text);
                token_ids.extend(delta.token_ids);
            }
            Event::Finished(event) => finished = Some(event),
        }
    }
    Ok(Reply {
        text,
        token_ids,
        started: started.unwrap(),
        finished: finished.unwrap(),
    })
}

/// A question about named chunks, answered greedily with `max_tokens` tokens.
pub fn about(chunks: &[&str], mode: v1::FusionMode, max_tokens: u32) -> v1::GenerateRequest {
    let ids = chunks.iter().map(ToString::to_string).collect();
    v1::GenerateRequest {
        context: Some(Context::Chunks(v1::ExplicitChunks { ids })),
        fusion: Some(v1::FusionOptions {
            mode: Some(mode.into()),
            ..Default::default()
        }),
        ..question("Where does the fox live?", max_tokens)
    }
}

/// A question with the server's defaults for everything but the length of the answer.
pub fn question(text: &str, max_tokens: u32) -> v1::GenerateRequest {
    v1::GenerateRequest {
        query: text.to_owned(),
        stopping: Some(v1::StoppingOptions {
            max_tokens: Some(max_tokens),
            // The weights are random: an early end-of-sequence token would mean nothing.
            ignore_eos: Some(true),
            ..Default::default()
        }),
        ..Default::default()
    }
}
