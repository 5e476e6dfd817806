//! The server process: health, the failure of its engine, and the stop signal.

use ragweave_proto::v1;
use ragweave_server::run::RunError;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::site::{FOX, Site, question, read};

async fn health(site: &Site) -> ServingStatus {
    let request = HealthCheckRequest {
        service: "ragweave.v1.RagService".into(),
    };
    let response = HealthClient::new(site.channel.clone())
        .check(request)
        .await
        .unwrap();
    response.into_inner().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_panic_is_survived_and_a_second_ends_the_server() {
    let mut site = Site::start().await;
    assert_eq!(health(&site).await, ServingStatus::Serving);
    let engine = site.service.components().engine.clone();
    engine.panic_for_test("a test").await.unwrap_err();
    // This request waits in the queue until the model is loaded again.
    site.ask(question("Where does the fox live?", 4))
        .await
        .unwrap();

    engine.panic_for_test("a test").await.unwrap_err();
    assert!(matches!(site.ended().await, Err(RunError::EngineDead)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_signal_refuses_new_calls_and_lets_running_ones_finish() {
    let mut site = Site::empty(&["limits.max_output_tokens=4000"]).await;
    site.ingest(&[("fox", FOX)], false).await;
    // Long enough to be still running when the next call is refused.
    let stream = site
        .client
        .generate(question("Where does the fox live?", 3500))
        .await
        .unwrap();
    let (mut client, service, server, _root) = site.signal();
    let refused = loop {
        match client.get_stats(v1::GetStatsRequest {}).await {
            Ok(_) => tokio::task::yield_now().await, // the signal is still on its way
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let reply = read(stream.into_inner()).await.unwrap();
    assert_eq!(reply.token_ids.len(), 3500);
    server.await.unwrap().unwrap();
    assert_eq!(service.activity().borrow().answered, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_outlives_the_drain_limit_is_cut_off() {
    let mut site = Site::empty(&["limits.max_output_tokens=4000", "limits.drain_s=0"]).await;
    site.ingest(&[("fox", FOX)], false).await;
    let stream = site
        .client
        .generate(question("Where does the fox live?", 3500))
        .await
        .unwrap();
    let (_client, _service, server, _root) = site.signal();
    let status = read(stream.into_inner()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    server.await.unwrap().unwrap();
}
