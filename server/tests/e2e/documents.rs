//! Documents over RPC: they can be found once IngestDocuments has answered, and no longer once DeleteDocument has.

use std::sync::Arc;
use std::time::Duration;

use ragweave_proto::v1;
use ragweave_proto::v1::ingest_documents_request::Part;
use ragweave_server::ingest::{IngestOptions, Ingestor};
use tonic::Code;
use tonic_types::StatusExt;

use crate::site::{FOX, NETS, SWORD, Site, document, document_parts, hold_index, question};

const SWORD_QUESTION: &str = "Who keeps a sword in Esterwick?";
/// Long enough to detect a call that does not wait for its turn.
const A_WHILE: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread")]
async fn documents_come_change_and_go() {
    let mut site = Site::empty(&[]).await;
    let first = site.ingest(&[("fox", FOX), ("nets", NETS)], false).await;
    assert_eq!((first.added, first.chunks, first.failures.len()), (2, 2, 0));
    assert!(first.kv_bytes > 0 && first.tokens > 0);
    assert_eq!(found(&mut site, "the fox of Brindle").await[0], "fox");

    let again = site.ingest(&[("fox", FOX), ("nets", SWORD)], false).await;
    assert_eq!((again.added, again.replaced, again.unchanged), (0, 1, 1));
    assert_eq!(found(&mut site, SWORD_QUESTION).await[0], "nets");
    site.ask(question(SWORD_QUESTION, 4)).await.unwrap();

    delete(&mut site, "nets").await.unwrap();
    let left = found(&mut site, SWORD_QUESTION).await;
    assert!(!left.contains(&"nets".to_owned()), "{left:?}");
    assert_eq!(
        delete(&mut site, "nets").await.unwrap_err().code(),
        Code::NotFound
    );
    let stats = site
        .client
        .get_stats(v1::GetStatsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(stats.store.unwrap().documents, 1);
    assert_eq!(stats.server.unwrap().requests_answered, 1);
}

async fn found(site: &mut Site, query: &str) -> Vec<String> {
    let request = v1::RetrieveRequest {
        query: query.to_owned(),
        retrieval: None,
    };
    let response = site.client.retrieve(request).await.unwrap().into_inner();
    response
        .sources
        .into_iter()
        .map(|source| source.document_id)
        .collect()
}

async fn delete(site: &mut Site, id: &str) -> Result<(), tonic::Status> {
    let request = v1::DeleteDocumentRequest {
        document_id: id.to_owned(),
    };
    site.client.delete_document(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_document_does_not_stop_the_others() {
    let mut site = Site::empty(&["limits.max_document_bytes=4096"]).await;
    let long = "word ".repeat(2000);
    let response = site
        .ingest(
            &[
                ("empty", " "),
                ("fox", FOX),
                ("long", &long),
                ("nets", NETS),
            ],
            false,
        )
        .await;
    assert_eq!(response.added, 2);
    let failed: Vec<_> = response
        .failures
        .iter()
        .map(|failure| failure.document_id.as_str())
        .collect();
    assert_eq!(failed, ["empty", "long"]);
    assert!(
        response
            .failures
            .iter()
            .all(|failure| failure.reason == "INVALID_FIELD")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_the_protocol_is_refused() {
    let mut site = Site::empty(&[]).await;
    let part = |part| v1::IngestDocumentsRequest { part: Some(part) };
    let streams = [
        vec![part(Part::Text("no header".into()))],
        vec![v1::IngestDocumentsRequest { part: None }],
    ];
    for stream in streams {
        let status = site.send(stream).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_listed_in_pages_and_shown_with_their_chunks() {
    let mut site = Site::start().await;
    let (mut ids, mut token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListDocumentsRequest {
            page_size: Some(2),
            page_token: token,
        };
        let page = site
            .client
            .list_documents(request)
            .await
            .unwrap()
            .into_inner();
        assert!(page.documents.len() <= 2);
        ids.extend(page.documents.into_iter().map(|document| document.id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(ids, ["fox", "nets", "sword"]);

    let request = v1::GetDocumentRequest {
        document_id: "nets".into(),
    };
    let shown = site
        .client
        .get_document(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (shown.text.as_str(), shown.metadata["name"].as_str()),
        (NETS, "nets")
    );
    assert_eq!(shown.chunks[0].id, "nets#0");
    assert!(shown.chunks[0].has_kv);
    let absent = v1::GetDocumentRequest {
        document_id: "ghost".into(),
    };
    assert_eq!(
        site.client.get_document(absent).await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_text_arrives_whole_through_its_parts() {
    let mut site = Site::empty(&[]).await;
    let text = format!("{}é", "The harbour of Brindle is small. ".repeat(40_000));
    let parts: Vec<_> = document_parts(document("long", &text), true).collect();
    assert!(parts.len() > 2);
    site.send(parts).await.unwrap();
    let stored = site
        .service
        .components()
        .store
        .document("long")
        .unwrap()
        .unwrap();
    assert!(stored.text == text);
}

/// The caller of an ingest goes away between commit and index: the next call must wait for the index all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_ingest_keeps_its_turn_until_the_index_shows_it() {
    let site = Site::empty(&[]).await;
    let components = site.service.components();
    let ingestor = Arc::new(Ingestor::new(components));
    let index = hold_index(components);
    let abandoned = tokio::spawn({
        let ingestor = Arc::clone(&ingestor);
        async move {
            let options = IngestOptions { no_kv: true };
            ingestor.ingest(document("fox", FOX), &options).await
        }
    });
    while components.store.document("fox").unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());

    let mut deleting = std::pin::pin!(ingestor.delete("fox"));
    let waiting = tokio::time::timeout(A_WHILE, &mut deleting).await;
    assert!(waiting.is_err(), "the index was not free yet");
    assert!(components.store.document("fox").unwrap().is_some());
    index.release();
    assert!(deleting.await.unwrap());
    assert_eq!(components.index.read().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_beyond_the_message_limit_says_so() {
    let mut site = Site::empty(&["limits.max_message_bytes=65536"]).await;
    let part = |part| v1::IngestDocumentsRequest { part: Some(part) };
    let header = v1::DocumentHeader {
        id: "long".into(),
        skip_kv: Some(true),
        ..Default::default()
    };
    let text = "The harbour of Brindle is small. ".repeat(1000);
    let mut parts = vec![part(Part::Header(header))];
    parts.extend((0..3).map(|_| part(Part::Text(text.clone()))));
    site.send(parts).await.unwrap();
    let request = v1::GetDocumentRequest {
        document_id: "long".into(),
    };
    let status = site.client.get_document(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "RESPONSE_TOO_LARGE");
    assert!(status.message().contains("limits.max_message_bytes"));
}
