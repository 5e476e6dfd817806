//! Documents, answers and pages that are too large, and documents that an earlier version accepted: each is refused
//! with its limit, and the others are unaffected.

use std::sync::Arc;

use ragweave_proto::v1;
use ragweave_proto::v1::generate_request::Context;
use ragweave_proto::v1::generate_response::Event;
use ragweave_proto::v1::ingest_documents_request::Part;
use ragweave_retriever::SourceDocument;
use ragweave_server::components::Components;
use ragweave_server::ingest::{IngestOptions, Ingestor};
use ragweave_store::Document;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::site::{FOX, NETS, SWORD, Site, document, document_parts, question};

const MIB: usize = 1 << 20;
/// As much metadata as a document may have by default.
const FULL: usize = 32 << 10;

fn with_metadata(id: &str, text: &str, bytes: usize) -> SourceDocument {
    SourceDocument {
        metadata: [("blob".to_owned(), "x".repeat(bytes - "blob".len()))].into(),
        ..document(id, text)
    }
}

fn part(part: Part) -> v1::IngestDocumentsRequest {
    v1::IngestDocumentsRequest { part: Some(part) }
}

fn header(id: &str) -> v1::DocumentHeader {
    v1::DocumentHeader {
        id: id.to_owned(),
        skip_kv: Some(true),
        ..Default::default()
    }
}

/// The parts of one document, its header changed.
fn odd(
    id: &str,
    text: &str,
    change: impl FnOnce(&mut v1::DocumentHeader),
) -> Vec<v1::IngestDocumentsRequest> {
    let mut header = header(id);
    change(&mut header);
    vec![
        part(Part::Header(header)),
        part(Part::Text(text.to_owned())),
    ]
}

fn reason_and(status: &Status, key: &str) -> (String, String) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    (
        info.reason.clone(),
        info.metadata.get(key).cloned().unwrap_or_default(),
    )
}

fn top_k(top_k: u32) -> v1::RetrievalOptions {
    v1::RetrievalOptions {
        top_k: Some(top_k),
        ..Default::default()
    }
}

async fn retrieve(site: &mut Site, n: u32) -> Result<Vec<v1::Source>, Status> {
    let request = v1::RetrieveRequest {
        query: "Who lives in the harbour of Brindle?".to_owned(),
        retrieval: Some(top_k(n)),
    };
    Ok(site.client.retrieve(request).await?.into_inner().sources)
}

fn asking(n: u32, max_tokens: u32) -> v1::GenerateRequest {
    v1::GenerateRequest {
        context: Some(Context::Retrieval(top_k(n))),
        ..question("Who lives in the harbour of Brindle?", max_tokens)
    }
}

/// Every document in pages of at most `page_size`, and the number of pages.
async fn listed(site: &mut Site, page_size: u32) -> (Vec<v1::DocumentSummary>, usize) {
    let (mut all, mut n_pages, mut token) = (Vec::new(), 0, String::new());
    loop {
        let request = v1::ListDocumentsRequest {
            page_size: Some(page_size),
            page_token: token,
        };
        let page = site
            .client
            .list_documents(request)
            .await
            .unwrap()
            .into_inner();
        assert!(!page.documents.is_empty() && page.documents.len() <= page_size as usize);
        all.extend(page.documents);
        n_pages += 1;
        token = page.next_page_token;
        if token.is_empty() {
            return (all, n_pages);
        }
    }
}

/// Stores documents as a version without a limit on metadata did.
async fn let_in(site: &Site, documents: impl IntoIterator<Item = SourceDocument>) {
    let components = site.service.components();
    let mut config = (*components.config).clone();
    config.limits.metadata_setting = Some(64 * MIB);
    let lenient = Components {
        config: Arc::new(config),
        ..components.clone()
    };
    let ingestor = Ingestor::new(&lenient);
    for document in documents {
        ingestor
            .ingest(document, &IngestOptions { no_kv: true })
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_one_document_is_one_failure_and_its_neighbours_go_in() {
    let mut site = Site::empty(&[]).await;
    let long_id = "i".repeat(1025);
    let bad = [
        odd(" ", "No name.", |_| {}),
        odd("a\nb", "Two lines.", |_| {}),
        odd("a\u{1}b", "A control character.", |_| {}),
        odd(&long_id, "A long name.", |_| {}),
        odd("format", "An unknown format.", |header| {
            header.format = Some(7)
        }),
        odd("unnamed", "No format at all.", |header| {
            header.format = Some(0)
        }),
        odd("part", &"x".repeat(MIB + 1), |_| {}),
        odd("large", "Large metadata.", |header| {
            header.metadata.insert("blob".to_owned(), "x".repeat(FULL));
        }),
        odd("many", "Many entries.", |header| {
            header
                .metadata
                .extend((0..257).map(|i| (i.to_string(), String::new())));
        }),
        odd("key", "A long key.", |header| {
            header.metadata.insert("k".repeat(257), String::new());
        }),
    ];
    let mut parts: Vec<_> = document_parts(document("fox", FOX), true).collect();
    for bad in &bad {
        parts.extend(bad.clone());
        // Each has a good one before and after it.
        parts.extend(document_parts(document("nets", NETS), true));
    }
    parts.extend(document_parts(document("sword", SWORD), true));
    let response = site.send(parts).await.unwrap();
    assert_eq!(
        (response.added, response.unchanged),
        (3, bad.len() as u64 - 1)
    );
    let fields = [
        "header.id",
        "header.id",
        "header.id",
        "header.id",
        "header.format",
        "header.format",
        "text",
        "header.metadata",
        "header.metadata",
        "header.metadata",
    ];
    assert_eq!(response.failures.len(), fields.len());
    for (failure, field) in response.failures.iter().zip(fields) {
        assert_eq!(failure.reason, "INVALID_FIELD", "{failure:?}");
        assert!(
            failure.message.starts_with(&format!("{field}: ")),
            "{failure:?}"
        );
        assert!(failure.message.len() < 1000 && failure.document_id.len() <= 1024);
    }
    let large = &response.failures[7];
    assert_eq!(large.document_id, "large");
    assert!(
        large.message.contains("limits.max_metadata_bytes (32768)"),
        "{large:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_under_way_is_named_when_the_stream_breaks() {
    let mut site = Site::empty(&["limits.max_message_bytes=65536"]).await;
    let mut parts: Vec<_> = document_parts(document("fox", FOX), true).collect();
    parts.extend(document_parts(document("nets", NETS), true));
    parts.push(part(Part::Text("y".repeat(70_000))));
    let status = site.send(parts).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert_eq!(reason_and(&status, "setting").0, "MESSAGE_TOO_LARGE");
    assert!(
        status.message().contains("\"nets\" was in progress"),
        "{status:?}"
    );
    let (documents, _) = listed(&mut site, 10).await;
    assert_eq!(
        documents.iter().map(|d| d.id.as_str()).collect::<Vec<_>>(),
        ["fox"]
    );
}

/// With the default settings every answer can carry whatever ingest accepts.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_sources_with_full_metadata_fit_an_answer_and_pages_are_as_long_as_fits() {
    let mut site = Site::empty(&[]).await;
    let documents = (0..200).map(|i| with_metadata(&format!("n{i:03}"), FOX, FULL));
    let parts: Vec<_> = documents
        .flat_map(|document| document_parts(document, true))
        .collect();
    assert_eq!(site.send(parts).await.unwrap().added, 200);
    assert_eq!(retrieve(&mut site, 64).await.unwrap().len(), 64);
    let reply = site.ask(asking(64, 2)).await.unwrap();
    assert_eq!(
        reply.started.sources.len() + reply.started.dropped.len(),
        64
    );
    let (documents, n_pages) = listed(&mut site, 1000).await;
    assert_eq!((documents.len(), n_pages), (200, 2));
    assert!(
        documents
            .iter()
            .all(|d| !d.metadata_omitted && d.metadata["blob"].len() == FULL - 4)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_store_with_large_metadata_says_what_it_cannot_send_and_goes_on() {
    let mut site = Site::empty(&["ingest.chunk_tokens=64"]).await;
    let wide = "The fox lives in the harbour of Brindle. ".repeat(60);
    let old = [
        with_metadata("a", FOX, 100),
        with_metadata("huge", NETS, 5 * MIB),
        with_metadata("wide", &wide, 9 * MIB / 10),
        with_metadata("z", SWORD, 100),
    ];
    let_in(&site, old).await;

    // Few sources are sent, many are not; the message says how many would be, and what to do.
    let status = retrieve(&mut site, 20).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let (reason, limit) = reason_and(&status, "limit");
    assert_eq!(
        (reason.as_str(), limit.as_str()),
        ("RESPONSE_TOO_LARGE", "4194304")
    );
    assert!(reason_and(&status, "bytes").1.parse::<usize>().unwrap() > 4 * MIB);
    assert!(
        status.message().contains("ask for fewer chunks"),
        "{status:?}"
    );

    let status = site.ask(asking(20, 2)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(reason_and(&status, "limit").0, "RESPONSE_TOO_LARGE");
    let mut one = asking(20, 2);
    let ids = vec!["a#0".to_owned(), "wide#0".to_owned()];
    one.context = Some(Context::Chunks(v1::ExplicitChunks { ids }));
    site.ask(one).await.unwrap();

    let (documents, _) = listed(&mut site, 1000).await;
    let seen: Vec<_> = documents
        .iter()
        .map(|d| (d.id.as_str(), d.metadata_omitted))
        .collect();
    assert_eq!(
        seen,
        [("a", false), ("huge", true), ("wide", false), ("z", false)]
    );

    let get = |id: &str| v1::GetDocumentRequest {
        document_id: id.to_owned(),
    };
    let status = site.client.get_document(get("huge")).await.unwrap_err();
    assert_eq!(reason_and(&status, "limit").0, "RESPONSE_TOO_LARGE");
    assert!(
        status.message().contains("limits.max_message_bytes"),
        "{status:?}"
    );
    site.client.get_document(get("wide")).await.unwrap();

    for id in ["huge", "wide"] {
        let document_id = id.to_owned();
        let request = v1::DeleteDocumentRequest { document_id };
        site.client.delete_document(request).await.unwrap();
    }
    let left = retrieve(&mut site, 20).await.unwrap();
    assert!(!left.is_empty() && left.iter().all(|source| source.document_id.len() == 1));
    site.ask(asking(20, 2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_did_not_fit_the_prompt_do_not_cost_the_answer() {
    let mut site = Site::empty(&["limits.max_output_tokens=4000"]).await;
    let_in(
        &site,
        (0..64).map(|i| with_metadata(&format!("n{i:02}"), FOX, 100_000)),
    )
    .await;
    // 64 sources are over 6 MB; so long an answer leaves the prompt room for a few of them.
    let request = asking(64, 3500);
    let mut stream = site.client.generate(request).await.unwrap().into_inner();
    let Some(Event::Started(started)) = stream.message().await.unwrap().unwrap().event else {
        panic!("an answer begins with its start");
    };
    assert!(!started.sources.is_empty() && started.sources[0].metadata["blob"].len() > 90_000);
    assert_eq!(started.sources.len() + started.dropped.len(), 64);
    assert!(!started.dropped.is_empty());
    for dropped in &started.dropped {
        assert!(dropped.metadata.is_empty() && dropped.text.is_empty());
        assert!(!dropped.chunk_id.is_empty() && dropped.tokens > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_an_earlier_version_can_be_shown_and_deleted() {
    let mut site = Site::start().await;
    let id = "two\nlines";
    let old = Document {
        id: id.to_owned(),
        text: FOX.to_owned(),
        metadata: [].into(),
        content_hash: [0; 32],
        chunks: Vec::new(),
    };
    site.service
        .components()
        .store
        .commit_document(&old, Vec::new())
        .unwrap();
    let get = || v1::GetDocumentRequest {
        document_id: id.to_owned(),
    };
    let shown = site.client.get_document(get()).await.unwrap().into_inner();
    assert_eq!(shown.text, FOX);
    // Its id is a page token like any other.
    let (documents, _) = listed(&mut site, 1).await;
    assert_eq!(documents.last().unwrap().id, id);
    let request = v1::DeleteDocumentRequest {
        document_id: id.to_owned(),
    };
    site.client.delete_document(request).await.unwrap();
    let status = site.client.get_document(get()).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

/// Errors are sent in HTTP headers: a long text quoted in an error must not make it unreadable.
#[tokio::test(flavor = "multi_thread")]
async fn long_texts_in_a_request_do_not_make_its_error_unreadable() {
    let mut site = Site::start().await;
    let long = "é".repeat(100_000);
    let check = |status: Status, code: Code, reason: &str| {
        assert_eq!(status.code(), code, "{reason}: {}", status.message());
        assert_eq!(reason_and(&status, "").0, reason);
        assert!(status.message().len() + status.details().len() < 6000);
    };
    for id in [long.as_str(), " "] {
        let document_id = id.to_owned();
        let get = v1::GetDocumentRequest { document_id };
        let status = site.client.get_document(get).await.unwrap_err();
        check(status, Code::InvalidArgument, "INVALID_FIELD");
        let document_id = id.to_owned();
        let delete = v1::DeleteDocumentRequest { document_id };
        let status = site.client.delete_document(delete).await.unwrap_err();
        check(status, Code::InvalidArgument, "INVALID_FIELD");
    }
    let page = v1::ListDocumentsRequest {
        page_size: None,
        page_token: long.clone(),
    };
    let status = site.client.list_documents(page).await.unwrap_err();
    check(status, Code::InvalidArgument, "INVALID_FIELD");
    let mut unknown = question("Where does the fox live?", 2);
    let ids = vec![format!("{long}#0")];
    unknown.context = Some(Context::Chunks(v1::ExplicitChunks { ids }));
    let status = site.ask(unknown).await.unwrap_err();
    check(status, Code::NotFound, "CHUNK_NOT_FOUND");
    for selection in [long.clone(), "hkvd@".to_owned() + &"9".repeat(1000)] {
        let mut wrong = question("Where does the fox live?", 2);
        wrong.fusion.get_or_insert_default().selection = Some(selection);
        let status = site.ask(wrong).await.unwrap_err();
        check(status, Code::InvalidArgument, "INVALID_FIELD");
    }
    site.ask(question("Where does the fox live?", 2))
        .await
        .unwrap();
}
