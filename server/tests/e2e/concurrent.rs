//! A slow part does not delay the others, and no caller sees the state between two steps of a change.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ragweave_engine::{
    ChunkState, FuseRequest, FusionPlan, HostBuffer, LayerSource, Mode, PromptSegments,
    SamplingParams, SourceError, Tier,
};
use ragweave_proto::v1;
use ragweave_retriever::Filter;
use ragweave_server::ingest::{IngestError, IngestOptions, IngestOutcome, Ingestor};
use ragweave_server::pipeline::{Context, Query, Search};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use crate::site::{FOX, NETS, SWORD, Site, document, document_parts, hold_index, question};

const WITH_KV: IngestOptions = IngestOptions { no_kv: false };
const WITHOUT_KV: IngestOptions = IngestOptions { no_kv: true };

/// A server with [`FOX`] in its corpus, whose engine waits for stored KV as long as a test wants.
async fn site(settings: &[&str]) -> Site {
    let patient = ["store.read_timeout_s=3600"];
    let settings: Vec<&str> = patient.iter().chain(settings).copied().collect();
    let mut site = Site::empty(&settings).await;
    site.ingest(&[("fox", FOX)], false).await;
    site
}

/// Stored KV that arrives when the test releases it.
struct Gate {
    reached: Sender<()>,
    open: Mutex<Receiver<()>>,
}

impl LayerSource for Gate {
    fn read_layer(&self, _: usize, into: &mut HostBuffer) -> Result<(), SourceError> {
        let _ = self.reached.send(()); // only the first is listened to
        let _ = self.open.lock().unwrap().recv(); // an error: it is open for good
        into.bytes_mut().fill(0);
        Ok(())
    }

    fn tier(&self) -> Tier {
        Tier::Memory
    }
}

/// Keeps the engine busy until the sender is dropped, so that computing KV for the store waits.
async fn occupy(site: &Site) -> Sender<()> {
    let engine = site.service.components().engine.clone();
    let ((busy, open), (reached, is_reached)) = (channel(), channel());
    let segments = PromptSegments {
        prefix: vec![1],
        chunks: vec![vec![2, 3]],
        question: vec![4],
    };
    let states = vec![ChunkState::Hit { exact: false }];
    let plan = FusionPlan::new(segments, states, Mode::Reuse, engine.model()).unwrap();
    let gate = Gate {
        reached,
        open: Mutex::new(open),
    };
    let request = FuseRequest {
        plan,
        sources: vec![Some(Box::new(gate))],
        sampling: SamplingParams::greedy(1),
        deadline: None,
    };
    let waiting = engine.clone();
    tokio::spawn(async move { waiting.fuse(request).await });
    tokio::task::spawn_blocking(move || is_reached.recv())
        .await
        .unwrap()
        .unwrap();
    while engine.queue_depth() > 0 {
        tokio::task::yield_now().await; // reading begins in the queue
    }
    busy
}

/// Waits until work other than a request waits for the engine.
async fn background(site: &Site) {
    while site.service.components().engine.background_depth() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

type Ingesting = JoinHandle<Result<IngestOutcome, IngestError>>;

/// An ingest that waits for the engine, and its ingestor.
async fn waiting_ingest(site: &Site, id: &str, text: &str) -> (Arc<Ingestor>, Ingesting) {
    let ingestor = Arc::new(Ingestor::new(site.service.components()));
    let (worker, source) = (Arc::clone(&ingestor), document(id, text));
    let ingesting = tokio::spawn(async move { worker.ingest(source, &WITH_KV).await });
    background(site).await;
    (ingestor, ingesting)
}

fn stored_text(site: &Site, id: &str) -> Option<String> {
    let store = &site.service.components().store;
    store.document(id).unwrap().map(|document| document.text)
}

async fn delete(site: &mut Site, id: &str) -> Result<(), Status> {
    let request = v1::DeleteDocumentRequest {
        document_id: id.to_owned(),
    };
    site.client.delete_document(request).await.map(drop)
}

async fn retrieve(site: &mut Site) -> Result<usize, Status> {
    let request = v1::RetrieveRequest {
        query: "the fox".to_owned(),
        retrieval: None,
    };
    let response = site.client.retrieve(request).await?;
    Ok(response.into_inner().sources.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_and_other_ingests_do_not_wait_for_kv() {
    let mut site = site(&[]).await;
    let busy = occupy(&site).await;
    let mut client = site.client.clone();
    let parts: Vec<_> = document_parts(document("nets", NETS), false).collect();
    let ingesting =
        tokio::spawn(async move { client.ingest_documents(tokio_stream::iter(parts)).await });
    background(&site).await;

    let added = site.ingest(&[("sword", SWORD)], true).await;
    assert_eq!(added.added, 1);
    delete(&mut site, "sword").await.unwrap();
    delete(&mut site, "fox").await.unwrap();
    assert!(!ingesting.is_finished(), "its KV waits for the engine");
    assert_eq!(stored_text(&site, "nets"), None);
    drop(busy);
    let response = ingesting.await.unwrap().unwrap().into_inner();
    assert_eq!((response.added, response.kv_bytes > 0), (1, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_the_engine_ends_and_fails_one_document_only() {
    let mut site = site(&["limits.max_engine_wait_s=1"]).await;
    let _busy = occupy(&site).await;
    let response = site.ingest(&[("nets", NETS)], false).await;
    assert_eq!((response.added, response.failures.len()), (0, 1));
    let failure = &response.failures[0];
    assert_eq!(failure.document_id, "nets");
    assert_eq!(failure.reason, "DEADLINE_EXCEEDED");
    assert!(failure.message.contains("limits.max_engine_wait_s"));
    assert_eq!(stored_text(&site, "nets"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_has_a_deadline_of_its_own_and_its_neighbours_go_in() {
    let mut site = site(&["limits.max_document_s=1"]).await;
    let busy = occupy(&site).await;
    let slow = document_parts(document("nets", NETS), false);
    let quick = ["sword", "bridge"].map(|id| document_parts(document(id, SWORD), true));
    let response = site.send(slow.chain(quick.into_iter().flatten()).collect());
    let response = response.await.unwrap();
    assert_eq!((response.added, response.failures.len()), (2, 1));
    assert_eq!(response.failures[0].document_id, "nets");
    assert_eq!(response.failures[0].reason, "DEADLINE_EXCEEDED");
    assert!(response.failures[0].message.contains("max_document_s"));
    drop(busy);
    let response = site.ingest(&[("nets", NETS)], false).await;
    assert_eq!((response.added, response.failures.len()), (1, 0));
}

/// A change that another call has acknowledged in the meantime is kept.
#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_does_not_undo_what_changed_while_its_kv_was_computed() {
    for deleted in [false, true] {
        let mut site = site(&[]).await;
        let busy = occupy(&site).await;
        let (ingestor, ingesting) = waiting_ingest(&site, "fox", NETS).await;
        if deleted {
            delete(&mut site, "fox").await.unwrap();
        } else {
            let newer = document("fox", SWORD);
            ingestor.ingest(newer, &WITHOUT_KV).await.unwrap();
        }
        drop(busy);
        let error = ingesting.await.unwrap().unwrap_err();
        assert!(matches!(error, IngestError::ChangedMeanwhile), "{error}");
        let expected = (!deleted).then(|| SWORD.to_owned());
        assert_eq!(stored_text(&site, "fox"), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_calls_that_bring_the_same_document_both_succeed() {
    let site = site(&[]).await;
    let busy = occupy(&site).await;
    let (ingestor, first) = waiting_ingest(&site, "nets", NETS).await;
    let second = tokio::spawn({
        let source = document("nets", NETS);
        async move { ingestor.ingest(source, &WITH_KV).await }
    });
    while site.service.components().engine.background_depth() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(busy);
    for ingesting in [first, second] {
        ingesting.await.unwrap().unwrap();
    }
    assert_eq!(stored_text(&site, "nets").as_deref(), Some(NETS));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_for_a_lock_end_at_their_deadline_and_leave_others_room() {
    let mut site = site(&["limits.max_deadline_s=1"]).await;
    let index = hold_index(site.service.components());
    let mut deletes = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let mut client = site.client.clone();
        let request = v1::DeleteDocumentRequest {
            document_id: "fox".to_owned(),
        };
        deletes.spawn(async move { client.delete_document(request).await });
    }
    // While the deletes wait there is room for reads; those that need no lock are answered.
    site.client.get_stats(v1::GetStatsRequest {}).await.unwrap();
    let late = retrieve(&mut site).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
    while let Some(delete) = deletes.join_next().await {
        let code = delete.unwrap().unwrap_err().code();
        assert!(matches!(
            code,
            Code::DeadlineExceeded | Code::ResourceExhausted
        ));
    }
    index.release();
    // The late delete is still carried out: the document is no longer in the index either.
    let found = |site: &Site| site.service.components().index.read().unwrap().len();
    for _ in 0..2000 {
        if found(&site) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(found(&site), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_reset_keeps_its_place_until_its_planning_has_ended() {
    let mut site = site(&["limits.max_queue=2"]).await;
    let index = hold_index(site.service.components());
    let ask = || question("Where does the fox live?", 4);
    for _ in 0..2 {
        drop(site.client.generate(ask()).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(50)).await; // the server has heard of the resets
    let refused = site.client.generate(ask()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    index.release();
    let mut activity = site.service.activity();
    let after = *activity
        .wait_for(|activity| activity.running == 0)
        .await
        .unwrap();
    assert_eq!((after.cancelled, after.answered), (2, 0));
    site.ask(ask()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn planning_that_hangs_is_reported_at_the_deadline() {
    let mut site = site(&["limits.max_deadline_s=1"]).await;
    let index = hold_index(site.service.components());
    let status = site.ask(question("Where?", 4)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(site.service.activity().borrow().running, 1);
    index.release();
    site.ask(question("Where?", 4)).await.unwrap();
}

/// Between the commit and the index update: the store has the new text, the index still has the old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_search_gives_no_text_that_its_filter_or_its_words_did_not_find() {
    let site = site(&[]).await;
    let components = site.service.components();
    let mut secret = components.store.document("fox").unwrap().unwrap();
    secret.metadata = [("team".to_owned(), "red".to_owned())].into();
    secret.text = secret.text.replace("Brindle", "Secrets");
    secret.content_hash = [7; 32];
    components
        .store
        .commit_document(&secret, Vec::new())
        .unwrap();
    let of_fox = Filter {
        metadata: [("name".to_owned(), "fox".to_owned())].into(),
        ..Filter::default()
    };
    for filter in [of_fox, Filter::default()] {
        let context = components.engine.model().max_model_len;
        let mut query = Query::new("the fox of Brindle", &components.config, context);
        query.context = Context::Search(Search {
            filter,
            ..Search::new(&components.config)
        });
        let passages = site.service.pipeline().retrieve(query).await.unwrap();
        assert!(passages.is_empty(), "{passages:?}");
    }
}

/// Its KV was in the store when it was looked up, and was removed with another document while the rest was computed.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_has_all_its_kv_although_it_shared_some_with_one_that_was_deleted() {
    let mut site = site(&["ingest.chunk_tokens=40"]).await;
    let shared = stored_chunk_texts(&site, "fox").join("\n\n");
    let text = format!("{shared}\n\n{NETS} {SWORD}");
    let busy = occupy(&site).await;
    let (_, ingesting) = waiting_ingest(&site, "both", &text).await;
    delete(&mut site, "fox").await.unwrap();
    drop(busy);
    ingesting.await.unwrap().unwrap();
    let components = site.service.components();
    let both = components.store.document("both").unwrap().unwrap();
    for chunk in &both.chunks {
        assert!(components.store.contains_blob(&chunk.key).unwrap());
    }
}

fn stored_chunk_texts(site: &Site, id: &str) -> Vec<String> {
    let document = site.service.components().store.document(id).unwrap();
    let document = document.unwrap();
    let text = |chunk: &ragweave_store::ChunkRecord| {
        document.text[chunk.start_byte as usize..chunk.end_byte as usize].to_owned()
    };
    document.chunks.iter().map(text).collect()
}

/// A document that was replaced or deleted while its neighbours' KV was computed does not come back.
#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_kv_was_computed_is_not_undone() {
    for deleted in [false, true] {
        let site = site(&["ingest.neighbours=1"]).await;
        let ingestor = Arc::new(Ingestor::new(site.service.components()));
        let outcome = ingestor.ingest(document("nets", NETS), &WITH_KV).await;
        let waiting = outcome.unwrap().unconditioned.unwrap();
        let busy = occupy(&site).await;
        let worker = Arc::clone(&ingestor);
        let conditioning = tokio::spawn(async move { worker.condition(&waiting).await });
        background(&site).await;
        if deleted {
            assert!(ingestor.delete("nets").await.unwrap());
        } else {
            let newer = document("nets", SWORD);
            ingestor.ingest(newer, &WITHOUT_KV).await.unwrap();
        }
        assert!(!conditioning.is_finished());
        drop(busy);
        assert_eq!(conditioning.await.unwrap().unwrap(), None);
        let expected = (!deleted).then(|| SWORD.to_owned());
        assert_eq!(stored_text(&site, "nets"), expected);
    }
}

/// The client went away in the middle of a document: what has arrived is not the whole document.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_whose_call_is_reset_is_not_ingested() {
    let site = site(&[]).await;
    for _ in 0..20 {
        let (parts, receiver) = tokio::sync::mpsc::channel(4);
        let mut client = site.client.clone();
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let call = tokio::spawn(async move { client.ingest_documents(stream).await });
        for part in document_parts(document("half", NETS), true) {
            parts.send(part).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await; // the server has them
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        tokio::time::sleep(Duration::from_millis(5)).await; // the reset is out before its stream ends
        drop(parts);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(stored_text(&site, "half"), None);
}
