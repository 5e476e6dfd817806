//! `auto`: whatever plan it chooses, it names the plan, predicted its time and keeps the floor; what it learns survives
//! a restart of the server. The choice depends on the machine, so no test asserts a particular one.

use ragweave_proto::v1::FusionMode;
use ragweave_server::controller::CONTROLLER_FILE;
use ragweave_server::pipeline::{Pipeline, Query};

use crate::site::{FOX, NETS, SWORD, Site, about, question};

const CHUNKS: [&str; 3] = ["nets#0", "fox#0", "sword#0"];

fn nanos(time: Option<prost_types::Duration>) -> i64 {
    let time = time.unwrap();
    time.seconds * 1_000_000_000 + i64::from(time.nanos)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_tells_what_was_chosen_from_what() {
    // Only KV in the compute type makes an exact plan.
    let mut site = Site::start_with(&["kv_dtype=f32"]).await;
    let full = site.ask(about(&CHUNKS, FusionMode::Full, 8)).await.unwrap();
    for _ in 0..12 {
        let reply = site.ask(about(&CHUNKS, FusionMode::Auto, 8)).await.unwrap();
        let fusion = reply.started.fusion.unwrap();
        let auto = fusion.auto.clone().unwrap();
        assert!(!auto.reason.is_empty());
        assert!(nanos(auto.predicted_ttft) >= nanos(auto.candidates[0].predicted));
        let names: Vec<&str> = auto
            .candidates
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(sorted[..2], ["exact", "full"]);
        assert!(sorted[2].starts_with("hkvd@1:"), "{sorted:?}");
        match names[0] {
            "full" => assert_eq!(fusion.mode(), FusionMode::Full),
            "exact" => assert_eq!(fusion.mode(), FusionMode::Reuse),
            _ => assert!(fusion.ratio.unwrap() >= 0.15),
        }
        if fusion.mode() != FusionMode::Blend {
            assert_eq!(reply.token_ids, full.token_ids, "{}", names[0]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floor_of_one_is_full_prefill_and_other_modes_are_not_chosen_for() {
    let mut site = Site::start().await;
    let mut strict = about(&["nets#0", "fox#0"], FusionMode::Auto, 1);
    strict.fusion.as_mut().unwrap().min_ratio = Some(1.0);
    let fusion = site.ask(strict).await.unwrap().started.fusion.unwrap();
    assert_eq!(fusion.mode(), FusionMode::Full);

    let fixed = site
        .ask(about(&CHUNKS, FusionMode::Reuse, 1))
        .await
        .unwrap();
    let fusion = fixed.started.fusion.unwrap();
    assert_eq!((fusion.mode(), fusion.auto), (FusionMode::Reuse, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_learned_is_kept_when_the_server_stops() {
    let mut site = Site::empty(&["fusion.mode=auto"]).await;
    site.ingest(&[("fox", FOX), ("nets", NETS), ("sword", SWORD)], false)
        .await;
    let reply = site
        .ask(question("Where does the fox live?", 2))
        .await
        .unwrap();
    assert!(reply.started.fusion.unwrap().auto.is_some());
    let path = site.data().join(CONTROLLER_FILE);
    let (client, service, server, root) = site.signal();
    drop(client);
    server.await.unwrap().unwrap();
    let text = fs_err::read_to_string(&path).unwrap();
    let saved: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rates = &saved["machines"][0]["rates"];
    assert!(rates["n_learned"].as_u64().unwrap() >= 1, "{text}");

    // A file that cannot be read does not keep the server from starting.
    fs_err::write(&path, "{").unwrap();
    let components = service.components();
    let pipeline = Pipeline::new(components);
    let max_model_len = components.engine.model().max_model_len;
    let mut query = Query::new(
        "Where does the fox live?",
        &components.config,
        max_model_len,
    );
    query.sampling.max_tokens = 1;
    let answer = pipeline.answer_whole(query).await.unwrap();
    assert!(answer.started.foreseen.is_some());
    pipeline.write_rates();
    assert_ne!(fs_err::read_to_string(&path).unwrap(), "{");
    drop(root);
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluation_runs_the_blend_that_auto_might_have_chosen() {
    let mut site = Site::empty(&["fusion.mode=auto", "fusion.min_ratio=0.3"]).await;
    site.ingest(&[("fox", FOX), ("nets", NETS), ("sword", SWORD)], false)
        .await;
    let components = site.service.components();
    let max_model_len = components.engine.model().max_model_len;
    let mut query = Query::new(
        "the fox, the nets, the sword",
        &components.config,
        max_model_len,
    );
    query.sampling.max_tokens = 1;
    let pipeline = Pipeline::for_evaluation(components);
    let started = pipeline.answer_whole(query).await.unwrap().started;
    assert_eq!(started.report.mode.to_string(), "hkvd@1:0.3");
    assert!(started.foreseen.is_none());
    assert!(!site.data().join(CONTROLLER_FILE).exists());
}
