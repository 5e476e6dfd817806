//! Limits of the server: fields, load, time, size. After each refusal it still answers.

use std::time::Duration;

use ragweave_proto::v1;
use ragweave_proto::v1::generate_request::Context;
use ragweave_server::components::{Components, OpenMode};
use ragweave_server::error::ServerError;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::site::{FOX, Site, hold_index, question, read};

/// More tokens than any test waits for.
const ENDLESS: u32 = 3500;

fn reason(status: &Status) -> String {
    status
        .get_error_details()
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

type Change = fn(&mut v1::GenerateRequest);

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_field_is_named_and_the_server_lives() {
    let mut site = Site::start().await;
    let bad: [(&str, Change); 23] = [
        ("query", |r| r.query = "  \n".into()),
        ("query", |r| r.query = "x".repeat(70_000)),
        ("request_id", |r| r.request_id = Some("x".repeat(1000))),
        ("retrieval.top_k", |r| r.context = top_k(0)),
        ("retrieval.top_k", |r| r.context = top_k(1_000_000_000)),
        ("retrieval.order", |r| r.context = order(99)),
        ("retrieval.order", |r| r.context = order(0)),
        ("chunks.ids", |r| r.context = chunks(100_000)),
        ("fusion.mode", |r| fusion(r).mode = Some(99)),
        ("fusion.mode", |r| fusion(r).mode = Some(0)),
        ("fusion.ratio", |r| fusion(r).ratio = Some(f64::NAN)),
        ("fusion.ratio", |r| fusion(r).ratio = Some(1e9)),
        ("fusion.min_ratio", |r| fusion(r).min_ratio = Some(-0.1)),
        ("fusion.selection", |r| select(r, "hkvd@99")),
        ("fusion.selection", |r| select(r, "best")),
        ("fusion.selection", |r| select(r, "oracle:0.1")),
        ("fusion.selection", |r| select(r, "anchors@99:0.1")),
        ("fusion.selection", |r| select(r, "first-k+hkvd@99:0.1")),
        ("fusion.selection", |r| select(r, "hkvd@1+hkvd@2:0.1")),
        ("fusion.ratio", |r| {
            select(r, "first-k:0.1");
            fusion(r).ratio = Some(0.1);
        }),
        ("sampling.temperature", |r| {
            r.sampling.get_or_insert_default().temperature = Some(f32::NAN)
        }),
        ("stopping.max_tokens", |r| {
            r.stopping.get_or_insert_default().max_tokens = Some(0)
        }),
        ("stopping.max_tokens", |r| {
            r.stopping.get_or_insert_default().max_tokens = Some(u32::MAX)
        }),
    ];
    for (field, change) in bad {
        let mut request = question("Where does the fox live?", 4);
        change(&mut request);
        let status = site.ask(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status:?}");
        assert_eq!(reason(&status), "INVALID_FIELD");
        let details = status.get_error_details();
        assert_eq!(
            details.bad_request().unwrap().field_violations[0].field,
            field,
            "{status:?}"
        );
    }
    site.ask(question("Where does the fox live?", 4))
        .await
        .unwrap();
}

fn fusion(request: &mut v1::GenerateRequest) -> &mut v1::FusionOptions {
    request.fusion.get_or_insert_default()
}

fn select(request: &mut v1::GenerateRequest, selection: &str) {
    fusion(request).selection = Some(selection.to_owned());
}

fn top_k(top_k: u32) -> Option<Context> {
    Some(Context::Retrieval(v1::RetrievalOptions {
        top_k: Some(top_k),
        ..Default::default()
    }))
}

fn order(order: i32) -> Option<Context> {
    Some(Context::Retrieval(v1::RetrievalOptions {
        order: Some(order),
        ..Default::default()
    }))
}

fn chunks(n: usize) -> Option<Context> {
    Some(Context::Chunks(v1::ExplicitChunks {
        ids: vec!["fox#0".into(); n],
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_has_its_own_reason() {
    let mut site = Site::empty(&[]).await;
    let status = site.ask(question("Anything?", 4)).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "CORPUS_EMPTY")
    );
    let mut request = question("Anything?", 4);
    request.context = Some(Context::Chunks(v1::ExplicitChunks {
        ids: vec!["ghost#7".into()],
    }));
    let status = site.ask(request).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::NotFound, "CHUNK_NOT_FOUND")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_is_refused_at_once_and_cancelled_calls_make_room() {
    let mut site = Site::empty(&["limits.max_queue=2", "limits.max_output_tokens=4000"]).await;
    site.ingest(&[("fox", FOX)], false).await;
    let endless = question("Where does the fox live?", ENDLESS);
    // One decodes and one waits: both places are taken once `generate` has returned.
    let running = site.client.generate(endless.clone()).await.unwrap();
    let waiting = site.client.generate(endless.clone()).await.unwrap();
    let status = site.ask(endless).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::ResourceExhausted, "QUEUE_FULL")
    );
    assert!(
        status
            .get_error_details()
            .retry_info()
            .unwrap()
            .retry_delay
            .is_some()
    );

    drop((running, waiting));
    let mut activity = site.service.activity();
    let after = *activity
        .wait_for(|activity| activity.running == 0)
        .await
        .unwrap();
    assert_eq!((after.cancelled, after.rejected, after.answered), (2, 1, 0));
    site.ask(question("Where does the fox live?", 4))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_holds_inside_the_decode_loop() {
    let mut site = Site::empty(&["limits.max_output_tokens=4000"]).await;
    site.ingest(&[("fox", FOX)], false).await;
    let mut request = Request::new(question("Where does the fox live?", ENDLESS));
    request.set_timeout(Duration::from_millis(400));
    let stream = site.client.generate(request).await.unwrap().into_inner();
    match read(stream).await {
        Ok(reply) => {
            assert_eq!(reply.finished.reason(), v1::FinishReason::Deadline);
            assert!(reply.finished.usage.unwrap().completion_tokens < ENDLESS);
        }
        // On a machine so slow that even the first token was late.
        Err(status) => assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_message_is_refused_and_the_connection_survives() {
    let mut site = Site::empty(&["limits.max_message_bytes=65536"]).await;
    site.ingest(&[("fox", FOX)], false).await;
    let status = site
        .ask(question(&"fox ".repeat(50_000), 4))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    site.ask(question("Where does the fox live?", 4))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn short_calls_are_bounded_too() {
    let mut site = Site::start().await;
    let index = hold_index(site.service.components());
    let mut calls = JoinSet::new();
    for _ in 0..65 {
        let mut client = site.client.clone();
        let request = v1::RetrieveRequest {
            query: "the fox".to_owned(),
            retrieval: None,
        };
        calls.spawn(async move { client.retrieve(request).await });
    }
    // 64 calls wait for the index; only the call beyond the limit can end before the index is free.
    let refused = calls.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert_eq!(reason(&refused), "QUEUE_FULL");
    index.release();
    while let Some(call) = calls.join_next().await {
        call.unwrap().unwrap();
    }
    site.ask(question("Where does the fox live?", 4))
        .await
        .unwrap();
}

/// A request that cannot run does not search.
#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_the_model_lacks_is_refused_before_the_corpus_is_looked_at() {
    let mut site = Site::empty(&[]).await;
    for mode in [
        v1::FusionMode::Blend,
        v1::FusionMode::Auto,
        v1::FusionMode::Full,
    ] {
        let mut request = question("Where does the fox live?", 4);
        fusion(&mut request).set_mode(mode);
        select(&mut request, "hkvd@99");
        let status = site.ask(request).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELD", "{mode:?}: {status:?}");
        assert!(
            status
                .message()
                .starts_with("fusion.selection: layer 99 is too deep")
        );
    }
}

/// A prompt of prefix and chunk that fills the whole context has no room for an answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_may_not_fill_the_context() {
    let site = Site::empty(&["limits.max_model_len=215", "ingest.chunk_tokens=64"]).await;
    let components = site.service.components();
    let room = 215 - components.prompt.conditioning_prefix().len() - 1;
    let mut config = (*components.config).clone();
    config.data = site.root.path().join("other");
    config.ingest.chunk_tokens = room + 1;
    let refused = Components::open(config.clone(), OpenMode::Ingest).err();
    assert!(
        matches!(refused, Some(ServerError::ChunkTooLong { room: reported, .. }) if reported == room),
        "{refused:?}"
    );
    config.ingest.chunk_tokens = room;
    Components::open(config, OpenMode::Ingest).unwrap();
}
