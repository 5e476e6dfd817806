//! `ragweave.v1.RagService`: each RPC checks, converts, calls what the CLI and evaluation call, and converts back.

use std::sync::Arc;
use std::time::Duration;

use ragweave_proto::v1;
use ragweave_proto::v1::rag_service_server::RagService;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::answer::AnswerStream;
use super::{convert, deadline, documents, ingest, sendable, stats};
use crate::components::Components;
use crate::problem::Problem;
use crate::service::{Call, CallKind, Service};

/// The transport has its own timer for a client's deadline and would answer CANCELLED, so ours expires a little
/// earlier.
const TRANSPORT_MARGIN: Duration = Duration::from_millis(2);

/// The gRPC implementation of the service.
#[derive(Clone)]
pub(super) struct Rpc {
    service: Service,
}

impl Rpc {
    pub(super) fn new(service: Service) -> Self {
        Self { service }
    }

    /// A place and a deadline for a call that sends one response.
    fn short_call(&self, kind: CallKind, metadata: &MetadataMap) -> Result<Call, Problem> {
        let permit = self.service.admit(kind)?;
        let deadline = deadline::of(metadata, self.components().config.limits.max_deadline)?;
        Ok(Call::new(permit, deadline - TRANSPORT_MARGIN))
    }

    /// A short call that reads the store, away from the async threads.
    async fn read<T: Send + 'static>(
        &self,
        metadata: &MetadataMap,
        work: impl FnOnce(&Components) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let call = self.short_call(CallKind::Read, metadata)?;
        self.service.read(call, work).await
    }

    fn components(&self) -> &Components {
        self.service.components()
    }
}

#[tonic::async_trait]
impl RagService for Rpc {
    type GenerateStream = AnswerStream;

    async fn generate(
        &self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Response<AnswerStream>, Status> {
        let permit = self.service.admit(CallKind::Answer)?;
        let config = &self.components().config;
        let deadline = deadline::of(request.metadata(), config.limits.max_deadline)?;
        let model = self.components().engine.model();
        let query = convert::answer_query(request.into_inner(), config, model, deadline);
        let answering = self.service.answer(query.map_err(Problem::from)?, permit);
        let max_message_bytes = config.limits.max_message_bytes;
        Ok(Response::new(AnswerStream::new(
            answering,
            max_message_bytes,
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
        let call = self.short_call(CallKind::Read, &metadata)?;
        let passages = self.service.retrieve(call, query).await?;
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
        let permit = self.service.admit(CallKind::Ingest)?;
        let limits = &self.components().config.limits;
        // Even after a reset, the place stays taken until the work on the blocking pool has ended.
        let ingestor = self.service.ingestor().holding(Arc::new(permit));
        let ingesting = ingest::documents(&ingestor, request.into_inner(), limits);
        tokio::select! {
            response = ingesting => response.map(Response::new),
            () = self.service.stopped() => Err(Problem::shutting_down().into()),
        }
    }

    async fn delete_document(
        &self,
        request: Request<v1::DeleteDocumentRequest>,
    ) -> Result<Response<v1::DeleteDocumentResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        convert::document_id(&request.document_id).map_err(Problem::from)?;
        let call = self.short_call(CallKind::Delete, &metadata)?;
        self.service.delete(call, request.document_id).await?;
        Ok(Response::new(v1::DeleteDocumentResponse {}))
    }

    async fn list_documents(
        &self,
        request: Request<v1::ListDocumentsRequest>,
    ) -> Result<Response<v1::ListDocumentsResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let list = move |components: &Components| documents::list(components, &request);
        Ok(Response::new(self.read(&metadata, list).await?))
    }

    async fn get_document(
        &self,
        request: Request<v1::GetDocumentRequest>,
    ) -> Result<Response<v1::GetDocumentResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let id = request.document_id;
        convert::document_id(&id).map_err(Problem::from)?;
        let get = move |components: &Components| documents::get(components, &id);
        Ok(Response::new(self.read(&metadata, get).await?))
    }

    async fn get_stats(
        &self,
        request: Request<v1::GetStatsRequest>,
    ) -> Result<Response<v1::GetStatsResponse>, Status> {
        let store = self.read(request.metadata(), stats::store).await?;
        let response = v1::GetStatsResponse {
            model: Some(stats::model(self.components())),
            store: Some(store),
            server: Some(stats::server(&self.service)),
        };
        Ok(Response::new(response))
    }
}
