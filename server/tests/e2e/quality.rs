//! Quality at run time: shadow comparisons in the statistics, and a bad fusion verdict that turns fusing off.

use ragweave_proto::v1;
use ragweave_proto::v1::FusionMode;
use ragweave_server::fingerprint::fingerprint;
use ragweave_server::pipeline::{Pipeline, Query};
use ragweave_server::run::run;
use ragweave_server::service::Service;
use ragweave_server::verify::{FusionVerdict, Probe, Verdict};
use tokio::net::TcpListener;
use tonic::transport::Channel;

use crate::site::{Client, FOX, NETS, SWORD, Site, about, read};

const CHUNKS: [&str; 3] = ["nets#0", "fox#0", "sword#0"];

async fn shadow(site: &mut Site) -> v1::ShadowStats {
    let stats = site.client.get_stats(v1::GetStatsRequest {}).await.unwrap();
    stats.into_inner().server.unwrap().shadow.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn fused_answers_are_compared_with_full_prefill_after_they_have_ended() {
    let mut site = Site::empty(&["telemetry.shadow_full=1"]).await;
    site.ingest(&[("fox", FOX), ("nets", NETS), ("sword", SWORD)], false)
        .await;
    let mut shadows = site.service.pipeline().shadows();

    // Full prefill is not compared with itself.
    site.ask(about(&CHUNKS, FusionMode::Full, 4)).await.unwrap();
    let mut exact = about(&CHUNKS, FusionMode::Blend, 12);
    exact.fusion.as_mut().unwrap().selection = Some("all".to_owned());
    site.ask(exact).await.unwrap();
    shadows
        .wait_for(|counts| counts.compared == 1)
        .await
        .unwrap();
    let stats = shadow(&mut site).await;
    assert_eq!((stats.share, stats.compared), (1.0, 1));
    assert_eq!((stats.dropped, stats.failed), (0, 0));
    assert!(stats.mean_kl < 1e-6, "every row was recomputed: {stats:?}");
    assert_eq!(stats.mean_top1_agreement, 1.0);

    site.ask(about(&CHUNKS, FusionMode::Reuse, 12))
        .await
        .unwrap();
    shadows
        .wait_for(|counts| counts.compared == 2)
        .await
        .unwrap();
    let stats = shadow(&mut site).await;
    assert!(stats.max_kl > 1e-6, "stored KV as it is differs: {stats:?}");
    assert!(
        (stats.mean_kl - stats.max_kl / 2.0).abs() < 1e-6,
        "{stats:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_compared_unless_asked_for() {
    let mut site = Site::start().await;
    site.ask(about(&CHUNKS, FusionMode::Reuse, 4))
        .await
        .unwrap();
    let stats = shadow(&mut site).await;
    assert_eq!(stats, v1::ShadowStats::default());
}

/// A bad verdict on the model of this site.
fn bad(site: &Site) -> FusionVerdict {
    let engine = &site.service.components().engine;
    FusionVerdict {
        format: 1,
        verdict: Verdict::Bad,
        reasons: vec!["position independence: off by 3.1e-1".to_owned()],
        model: engine.model().name.clone(),
        fingerprint: fingerprint(engine),
        dtype: "f32".to_owned(),
        kv_dtype: "f32".to_owned(),
        mode: "hkvd@1:0.15".to_owned(),
        probes: Vec::<Probe>::new(),
        needles: None,
        version: "0.1.0".to_owned(),
        unix_seconds: 0,
    }
}

/// Another server over the components of a site.
async fn second_server(site: &Site) -> (Client, String) {
    let service = Service::new(site.service.components());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(run(listener, service, std::future::pending()));
    let endpoint = Channel::from_shared(url.clone()).unwrap();
    (Client::new(endpoint.connect().await.unwrap()), url)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_what_a_running_server_knows() {
    let mut site = Site::empty(&["telemetry.shadow_full=0.5"]).await;
    site.ingest(&[("fox", FOX)], false).await;
    let (mut client, url) = second_server(&site).await;
    let stream = client
        .generate(about(&["fox#0"], FusionMode::Reuse, 4))
        .await;
    read(stream.unwrap().into_inner()).await.unwrap();
    let stats = move |flags: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ragweave"));
        let output = command
            .args(["store", "stats", "--addr", &url])
            .args(flags)
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let shown = tokio::task::spawn_blocking(move || [stats(&["--json"]), stats(&[])]);
    let [json, text] = shown.await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["server"]["requests_answered"], 1);
    assert_eq!(json["server"]["shadow"]["share"], 0.5);
    assert_eq!(json["store"]["chunks"], 1);
    assert!(
        text.contains("no answer compared yet, of 0.5 of the fused ones"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_verdict_makes_every_answer_a_full_prefill_that_says_why() {
    let site = Site::start().await;
    bad(&site).write(&site.data()).unwrap();
    let (mut client, _) = second_server(&site).await;
    let request = about(&CHUNKS, FusionMode::Reuse, 4);
    let stream = client.generate(request.clone()).await.unwrap().into_inner();
    let reply = read(stream).await.unwrap();
    let fusion = reply.started.fusion.unwrap();
    assert_eq!(fusion.mode(), FusionMode::Full);
    assert_eq!(reply.started.cache.unwrap().tokens_loaded, 0);
    let reason = fusion.fallback_reason.unwrap();
    assert!(
        reason.contains("position independence: off by 3.1e-1"),
        "{reason}"
    );

    let stream = client.generate(about(&CHUNKS, FusionMode::Full, 4)).await;
    let full = read(stream.unwrap().into_inner()).await.unwrap();
    assert_eq!(
        full.started.fusion.unwrap().fallback_reason,
        None,
        "it got what it asked for"
    );
    assert_eq!(full.token_ids, reply.token_ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluation_measures_a_model_with_a_bad_verdict_all_the_same() {
    let site = Site::start().await;
    bad(&site).write(&site.data()).unwrap();
    let components = site.service.components();
    let query = |pipeline: Pipeline| async move {
        let mut query = Query::new(
            "Where does the fox live?",
            &components.config,
            components.engine.model().max_model_len,
        );
        query.sampling.max_tokens = 1;
        pipeline.answer_whole(query).await.unwrap().started
    };
    let measured = query(Pipeline::for_evaluation(components)).await;
    assert!(measured.looked_up && measured.fallback_reason.is_none());
    let served = query(Pipeline::new(components)).await;
    assert!(!served.looked_up && served.fallback_reason.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_on_another_model_is_ignored() {
    let mut site = Site::start().await;
    let other = FusionVerdict {
        fingerprint: "00".repeat(32),
        ..bad(&site)
    };
    other.write(&site.data()).unwrap();
    let (mut client, _) = second_server(&site).await;
    let stream = client.generate(about(&CHUNKS, FusionMode::Reuse, 1)).await;
    let reply = read(stream.unwrap().into_inner()).await.unwrap();
    assert_eq!(reply.started.fusion.unwrap().mode(), FusionMode::Reuse);
    site.ask(about(&CHUNKS, FusionMode::Reuse, 1))
        .await
        .unwrap();
}
