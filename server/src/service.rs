//! `ragweave.v1.RagService`: each RPC checks, converts, calls what the CLI and evaluation call, and converts back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ragweave_proto::v1;
use ragweave_proto::v1::rag_service_server::RagService;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

mod admission;
mod answer;
mod deadline;
mod documents;
mod ingest;
mod stats;

pub use admission::Activity;
pub(crate) use ingest::MAX_PART_BYTES;

use crate::components::Components;
use crate::convert;
use crate::ingest::Ingestor;
use crate::pipeline::Pipeline;
use crate::status::Problem;
use admission::{Admission, Permit};
use answer::AnswerStream;

/// IngestDocuments calls that may be open at once; each holds one document in memory.
const MAX_INGEST_STREAMS: usize = 4;
/// Retrieve, GetDocument, ListDocuments, GetStats and DeleteDocument calls that may run at once, all together: each may
/// hold a thread and a whole response.
const MAX_SHORT_CALLS: usize = 64;

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
    /// All other calls.
    short_calls: Admission,
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
        let max_answers = components.config.limits.max_queue;
        let shared = Shared {
            pipeline: Pipeline::new(components),
            ingestor: Ingestor::new(components),
            components: components.clone(),
            answers: Admission::new(max_answers),
            ingests: Admission::new(MAX_INGEST_STREAMS),
            short_calls: Admission::new(MAX_SHORT_CALLS),
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

    /// Runs store reads off the async threads. The place is taken until they end, also when the caller has gone.
    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Components) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Status> {
        let permit = self.admit(&self.shared.short_calls)?;
        let service = self.clone();
        let done = spawn_blocking(move || {
            let _permit = permit;
            work(service.components())
        })
        .await;
        Ok(done.unwrap_or_else(|panic| Err(Problem::internal(panic)))?)
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
        let max_model_len = self.components().engine.model().max_model_len;
        let query = convert::answer_query(request.into_inner(), config, max_model_len, deadline);
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
        let permit = self.admit(&self.shared.short_calls)?;
        let config = &self.components().config;
        let max_model_len = self.components().engine.model().max_model_len;
        let query = convert::search_query(request.into_inner(), config, max_model_len);
        let query = query.map_err(Problem::from)?;
        // A task of its own keeps the place until the search has ended, also when the caller has gone.
        let service = self.clone();
        let searching = tokio::spawn(async move {
            let _permit = permit;
            service.shared.pipeline.retrieve(query).await
        });
        let passages = searching.await.map_err(Problem::internal)?;
        let passages = passages.map_err(Problem::from)?;
        let sources = passages.into_iter().map(convert::source).collect();
        Ok(Response::new(v1::RetrieveResponse { sources }))
    }

    async fn ingest_documents(
        &self,
        request: Request<Streaming<v1::IngestDocumentsRequest>>,
    ) -> Result<Response<v1::IngestDocumentsResponse>, Status> {
        let _permit = self.admit(&self.shared.ingests)?;
        let max_bytes = self.components().config.limits.max_document_bytes;
        let ingesting = ingest::documents(&self.shared.ingestor, request.into_inner(), max_bytes);
        tokio::select! {
            response = ingesting => response.map(Response::new),
            () = self.shared.stopping.cancelled() => Err(Problem::shutting_down().into()),
        }
    }

    async fn delete_document(
        &self,
        request: Request<v1::DeleteDocumentRequest>,
    ) -> Result<Response<v1::DeleteDocumentResponse>, Status> {
        let _permit = self.admit(&self.shared.short_calls)?;
        let id = request.into_inner().document_id;
        match self
            .shared
            .ingestor
            .delete(&id)
            .await
            .map_err(Problem::from)?
        {
            true => Ok(Response::new(v1::DeleteDocumentResponse {})),
            false => Err(Problem::document_not_found(&id).into()),
        }
    }

    async fn list_documents(
        &self,
        request: Request<v1::ListDocumentsRequest>,
    ) -> Result<Response<v1::ListDocumentsResponse>, Status> {
        let request = request.into_inner();
        let page = self
            .off_thread(move |components| documents::list(components, &request))
            .await?;
        Ok(Response::new(page))
    }

    async fn get_document(
        &self,
        request: Request<v1::GetDocumentRequest>,
    ) -> Result<Response<v1::GetDocumentResponse>, Status> {
        let id = request.into_inner().document_id;
        let document = self
            .off_thread(move |components| documents::get(components, &id))
            .await?;
        Ok(Response::new(document))
    }

    async fn get_stats(
        &self,
        _request: Request<v1::GetStatsRequest>,
    ) -> Result<Response<v1::GetStatsResponse>, Status> {
        let store = self.off_thread(stats::store).await?;
        let response = v1::GetStatsResponse {
            model: Some(stats::model(self.components())),
            store: Some(store),
            server: Some(stats::server(&self.shared)),
        };
        Ok(Response::new(response))
    }
}
