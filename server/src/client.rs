//! The remote client of the command line: connects, calls, and reports failures in plain words.

use std::time::{Duration, Instant};

use ragweave_proto::v1;
use ragweave_proto::v1::generate_response::Event;
use ragweave_proto::v1::ingest_documents_request::Part;
use ragweave_proto::v1::rag_service_client::RagServiceClient;
use ragweave_retriever::{DocumentFormat, SourceDocument};
use tokio_stream::Stream;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

mod address;
mod error;

pub use address::server_url;
pub use error::ClientError;

use crate::config::MIN_MESSAGE_BYTES;
use crate::grpc::MAX_PART_BYTES;

/// Where `ragweave serve` listens unless told otherwise.
pub const DEFAULT_ADDR: &str = "http://127.0.0.1:50051";
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Largest message accepted from a server: the most that gRPC can carry, since the server applies its own limit.
const MAX_MESSAGE_BYTES: usize = u32::MAX as usize;
/// Largest message for a server that does not report its limit: the default of all versions.
const SERVER_MESSAGE_BYTES: usize = 4 << 20;
/// Tag and length of a text part in its message.
const PART_FRAME_BYTES: usize = 16;
/// Longest character in UTF-8: a part holds at least one, whatever limit the server reports.
const MIN_PART_BYTES: usize = 4;

/// One connection to a server.
pub struct Client {
    service: RagServiceClient<Channel>,
}

/// A whole answer as the client saw it.
#[derive(Debug, Clone)]
pub struct Reply {
    pub text: String,
    pub started: v1::Started,
    pub finished: v1::Finished,
    /// From sending the request to the arrival of the first token.
    pub client_ttft: Duration,
}

impl Client {
    /// Connects to an address that [`server_url`] accepts.
    ///
    /// # Errors
    /// `BadAddress`, `Unreachable`.
    pub async fn connect(addr: &str) -> Result<Self, ClientError> {
        let url = server_url(addr)?;
        let endpoint =
            Endpoint::from_shared(url.clone()).map_err(|error| ClientError::BadAddress {
                addr: url.clone(),
                problem: error.to_string(),
            })?;
        let channel = endpoint.connect_timeout(CONNECT_LIMIT).connect().await;
        let channel = channel.map_err(|error| ClientError::Unreachable {
            addr: url,
            cause: root_cause(&error),
        })?;
        let service = RagServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { service })
    }

    /// Streams one answer; `on_text` gets each piece as it arrives. `timeout` is the call's deadline.
    ///
    /// # Errors
    /// `Refused`, `BrokenOff`.
    pub async fn generate(
        &mut self,
        request: v1::GenerateRequest,
        timeout: Option<Duration>,
        mut on_text: impl FnMut(&str),
    ) -> Result<Reply, ClientError> {
        let mut request = Request::new(request);
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        let sent = Instant::now();
        let mut events = self.service.generate(request).await?.into_inner();
        let (mut text, mut started, mut first_token) = (String::new(), None, None);
        while let Some(message) = events.message().await? {
            match message.event {
                Some(Event::Started(event)) => started = Some(event),
                Some(Event::Delta(delta)) => {
                    first_token.get_or_insert_with(|| sent.elapsed());
                    on_text(&delta.text);
                    text.push_str(&delta.text);
                }
                Some(Event::Finished(finished)) => {
                    let broken = ClientError::BrokenOff {
                        message: "it finished without a start",
                    };
                    let client_ttft = first_token.unwrap_or_else(|| sent.elapsed());
                    return Ok(Reply {
                        text,
                        started: started.ok_or(broken)?,
                        finished,
                        client_ttft,
                    });
                }
                None => {} // an event from a later version
            }
        }
        Err(ClientError::BrokenOff {
            message: "the stream ended before it was finished",
        })
    }

    /// Finds chunks without answering.
    ///
    /// # Errors
    /// `Refused`.
    pub async fn retrieve(
        &mut self,
        request: v1::RetrieveRequest,
    ) -> Result<Vec<v1::Source>, ClientError> {
        Ok(self.service.retrieve(request).await?.into_inner().sources)
    }

    /// The server's figures about its model, its store and itself.
    ///
    /// # Errors
    /// `Refused`.
    pub async fn stats(&mut self) -> Result<v1::GetStatsResponse, ClientError> {
        let request = v1::GetStatsRequest {};
        Ok(self.service.get_stats(request).await?.into_inner())
    }

    /// Largest message in bytes that the server accepts, never below the least that any server accepts.
    ///
    /// # Errors
    /// `Refused`.
    pub async fn max_message_bytes(&mut self) -> Result<usize, ClientError> {
        let said = self
            .stats()
            .await?
            .server
            .unwrap_or_default()
            .max_message_bytes;
        Ok(message_limit(said))
    }

    /// Sends documents; [`parts_within`] cuts them.
    ///
    /// # Errors
    /// `Refused`. What was committed before stays.
    pub async fn ingest(
        &mut self,
        parts: impl Stream<Item = v1::IngestDocumentsRequest> + Send + 'static,
    ) -> Result<v1::IngestDocumentsResponse, ClientError> {
        Ok(self.service.ingest_documents(parts).await?.into_inner())
    }
}

/// The limit for messages to a server that reports this as its largest message.
fn message_limit(said: u64) -> usize {
    match usize::try_from(said) {
        Ok(0) | Err(_) => SERVER_MESSAGE_BYTES,
        Ok(bytes) => bytes.max(MIN_MESSAGE_BYTES),
    }
}

/// The messages that carry one document, its header and then its text in parts, for a server that accepts messages of
/// at most this many bytes. The text is cut to fit; the header, which comes first, may be larger.
pub fn parts_within(
    document: SourceDocument,
    skip_kv: bool,
    max_message_bytes: usize,
) -> impl Iterator<Item = v1::IngestDocumentsRequest> {
    let format = match document.format {
        DocumentFormat::Text => v1::DocumentFormat::Text,
        DocumentFormat::Markdown => v1::DocumentFormat::Markdown,
    };
    let header = v1::DocumentHeader {
        id: document.id,
        metadata: document.metadata.into_iter().collect(),
        format: Some(format.into()),
        skip_kv: Some(skip_kv),
    };
    let part_bytes = max_message_bytes.saturating_sub(PART_FRAME_BYTES);
    let texts = cut(
        document.text,
        part_bytes.clamp(MIN_PART_BYTES, MAX_PART_BYTES),
    );
    let parts = std::iter::once(Part::Header(header)).chain(texts.into_iter().map(Part::Text));
    parts.map(|part| v1::IngestDocumentsRequest { part: Some(part) })
}

/// Cuts between characters, into pieces of at most `part_bytes` bytes, which must hold any character.
fn cut(mut text: String, part_bytes: usize) -> Vec<String> {
    let mut pieces = Vec::new();
    while text.len() > part_bytes {
        let rest = text.split_off(text.floor_char_boundary(part_bytes));
        pieces.push(std::mem::replace(&mut text, rest));
    }
    pieces.push(text);
    pieces
}

/// The innermost error: "connection refused" rather than "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters_and_comes_back_whole() {
        let text = "é".repeat(MAX_PART_BYTES); // 2 bytes each
        let pieces = cut(format!("x{text}"), MAX_PART_BYTES);
        assert!(pieces.iter().all(|piece| piece.len() <= MAX_PART_BYTES));
        assert_eq!(pieces.concat(), format!("x{text}"));
        assert_eq!(cut(String::new(), 4), [""]);
        assert_eq!(cut("xéé".to_owned(), 4), ["xé", "é"]);
    }

    #[test]
    fn no_limit_of_a_server_keeps_text_from_being_cut() {
        let text = "x\u{1f98a}é";
        for limit in 0..24 {
            let document = SourceDocument {
                id: "a".to_owned(),
                text: text.to_owned(),
                metadata: [].into(),
                format: DocumentFormat::Text,
            };
            let parts = parts_within(document, true, limit);
            let texts = parts.filter_map(|message| match message.part {
                Some(Part::Text(text)) => Some(text),
                _ => None,
            });
            assert_eq!(texts.collect::<String>(), text);
        }
        assert_eq!(message_limit(0), SERVER_MESSAGE_BYTES);
        assert_eq!(message_limit(17), MIN_MESSAGE_BYTES);
        assert_eq!(message_limit(1 << 20), 1 << 20);
    }

    #[tokio::test]
    async fn an_absent_server_is_reported_in_plain_words() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let error = Client::connect(&free.to_string())
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("ragweave serve") && error.contains("refused"),
            "{error}"
        );
    }
}
