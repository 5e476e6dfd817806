//! `ragweave.v1.RagService`: each RPC checks, converts, calls what the CLI and evaluation call, and converts back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ragweave_proto::v1;
use ragweave_proto::v1::rag_service_server::RagService;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

mod admission;
mod answer;
mod deadline;
mod documents;
mod ingest;
mod sendable;
mod stats;

pub use admission::Activity;
pub(crate) use ingest::MAX_PART_BYTES;

use crate::components::Components;
use crate::convert;
use crate::ingest::{Ingestor, Patience};
use crate::pipeline::Pipeline;
use crate::status::Problem;
use admission::{Admission, Permit};
use answer::AnswerStream;

/// IngestDocuments calls that may be open at once; each holds one document in memory.
const MAX_INGEST_STREAMS: usize = 4;
/// Retrieve, GetDocument, ListDocuments and GetStats calls that may run at once, all together: each may hold a thread and
/// a whole response.
const MAX_READS: usize = 64;
/// DeleteDocument calls that may run at once: commits take turns, and reads must not wait with them.
const MAX_DELETES: usize = 16;

/// The transport has a timer of its own for a client's deadline, and would answer CANCELLED: ours is a little earlier.
const TRANSPORT_MARGIN: Duration = Duration::from_millis(2);

/// The service over one set of components. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    components: Components,
    pipeline: Pipeline,
    ingestor: Ingestor,
    answers: Admission,
    ingests: Admission,
    reads: Admission,
    deletes: Admission,
    /// No new calls are taken.
    draining: CancellationToken,
    /// Running calls end now.
    stopping: CancellationToken,
    started: Instant,
    n_requests: AtomicU64,
}

impl Service {
    /// Must be called within a tokio runtime, as [`Pipeline::new`].
    pub fn new(components: &Components) -> Self {
        // As many as the engine's queue holds, so that what is admitted here never finds it full.
        let limits = &components.config.limits;
        let max_answers = limits.max_queue;
        let patience = Patience {
            chunk: limits.max_engine_wait,
            document: limits.max_document_time,
        };
        let shared = Shared {
            pipeline: Pipeline::new(components),
            ingestor: Ingestor::new(components).with_patience(patience),
            components: components.clone(),
            answers: Admission::new(max_answers),
            ingests: Admission::new(MAX_INGEST_STREAMS),
            reads: Admission::new(MAX_READS),
            deletes: Admission::new(MAX_DELETES),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            started: Instant::now(),
            n_requests: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    pub fn components(&self) -> &Components {
        &self.shared.components
    }

    pub fn pipeline(&self) -> &Pipeline {
        &self.shared.pipeline
    }

    /// Counts of Generate calls; changes can be awaited.
    pub fn activity(&self) -> watch::Receiver<Activity> {
        self.shared.answers.activity()
    }

    /// Refuses new calls from now on with UNAVAILABLE.
    pub(crate) fn drain(&self) {
        self.shared.draining.cancel();
    }

    /// Ends running calls with UNAVAILABLE.
    pub(crate) fn stop(&self) {
        self.shared.stopping.cancel();
    }

    /// Writes what the controller has learned.
    pub(crate) async fn write_rates(&self) {
        let service = self.clone();
        if let Err(panic) = spawn_blocking(move || service.pipeline().write_rates()).await {
            tracing::warn!(%panic, "learned rates were not written");
        }
    }

    /// Resolves when no Generate and no IngestDocuments is running.
    pub(crate) async fn idle(&self) {
        self.shared.answers.idle().await;
        self.shared.ingests.idle().await;
    }

    fn admit(&self, to: &Admission) -> Result<Permit, Problem> {
        self.check_open()?;
        to.admit().ok_or_else(|| Problem::queue_full(to.limit()))
    }

    fn check_open(&self) -> Result<(), Problem> {
        if self.shared.draining.is_cancelled() {
            Err(Problem::shutting_down())
        } else {
            Ok(())
        }
    }

    /// For requests whose client chose no id: unique within this process.
    fn next_request_id(&self) -> String {
        format!(
            "r{}",
            self.shared.n_requests.fetch_add(1, Ordering::Relaxed) + 1
        )
    }

    /// Runs a call that sends one response, until its deadline. It is a task of its own: its place is taken until it has
    /// ended, also when the caller has gone or the deadline has passed.
    async fn short_call<T: Send + 'static, E: Into<Problem> + Send + 'static>(
        &self,
        metadata: &MetadataMap,
        door: &Admission,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, Status> {
        let permit = self.admit(door)?;
        let started = Instant::now();
        let deadline = deadline::of(metadata, self.components().config.limits.max_deadline)?;
        let working = tokio::spawn(async move {
            let _permit = permit;
            work.await
        });
        match timeout_at((deadline - TRANSPORT_MARGIN).into(), working).await {
            Ok(Ok(done)) => Ok(done.map_err(Into::into)?),
            Ok(Err(panic)) => Err(Problem::internal(panic).into()),
            Err(_) => Err(Problem::too_late(started.elapsed()).into()),
        }
    }

    /// A short call that reads the store, off the async threads.
    async fn read<T: Send + 'static>(
        &self,
        metadata: &MetadataMap,
        work: impl FnOnce(&Components) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Status> {
        let service = self.clone();
        let reading = async move {
            let done = spawn_blocking(move || work(service.components())).await;
            done.unwrap_or_else(|panic| Err(Problem::internal(panic)))
        };
        self.short_call(metadata, &self.shared.reads, reading).await
    }
}

#[tonic::async_trait]
impl RagService for Service {
    type GenerateStream = AnswerStream;

    async fn generate(
        &self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Response<AnswerStream>, Status> {
        let permit = self.admit(&self.shared.answers)?;
        let config = &self.components().config;
        let deadline = deadline::of(request.metadata(), config.limits.max_deadline)?;
        let model = self.components().engine.model();
        let query = convert::answer_query(request.into_inner(), config, model, deadline);
        let mut query = query.map_err(Problem::from)?;
        if query.request_id.is_empty() {
            query.request_id = self.next_request_id();
        }
        Ok(Response::new(AnswerStream::start(
            self.clone(),
            query,
            permit,
        )))
    }

    async fn retrieve(
        &self,
        request: Request<v1::RetrieveRequest>,
    ) -> Result<Response<v1::RetrieveResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let config = &self.components().config;
        let max_model_len = self.components().engine.model().max_model_len;
        let query = convert::search_query(request, config, max_model_len);
        let query = query.map_err(Problem::from)?;
        let service = self.clone();
        let searching = async move { service.shared.pipeline.retrieve(query).await };
        let passages = self
            .short_call(&metadata, &self.shared.reads, searching)
            .await?;
        let sources = passages.into_iter().map(convert::source).collect();
        let response = v1::RetrieveResponse { sources };
        let limit = config.limits.max_message_bytes;
        let response = sendable::checked(response, limit, "ask for fewer chunks, or")?;
        Ok(Response::new(response))
    }

    async fn ingest_documents(
        &self,
        request: Request<Streaming<v1::IngestDocumentsRequest>>,
    ) -> Result<Response<v1::IngestDocumentsResponse>, Status> {
        let permit = self.admit(&self.shared.ingests)?;
        let limits = &self.components().config.limits;
        // Also after a reset, the place is taken until what was begun on the blocking pool has ended.
        let ingestor = self.shared.ingestor.holding(Arc::new(permit));
        let ingesting = ingest::documents(&ingestor, request.into_inner(), limits);
        tokio::select! {
            response = ingesting => response.map(Response::new),
            () = self.shared.stopping.cancelled() => Err(Problem::shutting_down().into()),
        }
    }

    async fn delete_document(
        &self,
        request: Request<v1::DeleteDocumentRequest>,
    ) -> Result<Response<v1::DeleteDocumentResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let (service, id) = (self.clone(), request.document_id);
        convert::document_id(&id).map_err(Problem::from)?;
        let deleting = async move {
            match service.shared.ingestor.delete(&id).await? {
                true => Ok(v1::DeleteDocumentResponse {}),
                false => Err(Problem::document_not_found(&id)),
            }
        };
        let deleted = self.short_call(&metadata, &self.shared.deletes, deleting);
        Ok(Response::new(deleted.await?))
    }

    async fn list_documents(
        &self,
        request: Request<v1::ListDocumentsRequest>,
    ) -> Result<Response<v1::ListDocumentsResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let page = self
            .read(&metadata, move |components| {
                documents::list(components, &request)
            })
            .await?;
        Ok(Response::new(page))
    }

    async fn get_document(
        &self,
        request: Request<v1::GetDocumentRequest>,
    ) -> Result<Response<v1::GetDocumentResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        convert::document_id(&request.document_id).map_err(Problem::from)?;
        let document = self
            .read(&metadata, move |components| {
                documents::get(components, &request.document_id)
            })
            .await?;
        Ok(Response::new(document))
    }

    async fn get_stats(
        &self,
        request: Request<v1::GetStatsRequest>,
    ) -> Result<Response<v1::GetStatsResponse>, Status> {
        let store = self.read(request.metadata(), stats::store).await?;
        let response = v1::GetStatsResponse {
            model: Some(stats::model(self.components())),
            store: Some(store),
            server: Some(stats::server(&self.shared)),
        };
        Ok(Response::new(response))
    }
}
