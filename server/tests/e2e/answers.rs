//! Answers: the structure of the stream, hits and misses, and that a cache never changes an exact answer.

use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;

use ragweave_proto::v1;
use ragweave_proto::v1::FusionMode;
use ragweave_server::pipeline::{Pipeline, Query};

use crate::site::{FOX, NETS, SWORD, Site, about, question};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_streams_with_its_sources_and_times() {
    let mut site = Site::start().await;
    let reply = site
        .ask(question("Where does the fox live?", 8))
        .await
        .unwrap();

    let started = &reply.started;
    assert_eq!(
        started.sources[0].document_id, "fox",
        "the best source comes first"
    );
    let source = &started.sources[0];
    assert_eq!(
        &FOX[source.start_byte as usize..source.end_byte as usize],
        source.text
    );
    assert!(source.score.unwrap() > 0.0);
    let cache = started.cache.unwrap();
    assert_eq!(
        (cache.chunks_hit as usize, cache.chunks_missed),
        (started.sources.len(), 0)
    );
    assert!(cache.tokens_loaded > 0 && cache.bytes_loaded > 0);
    let fusion = started.fusion.clone().unwrap();
    assert_eq!(fusion.mode(), FusionMode::Blend);
    assert_eq!(fusion.selection.as_deref(), Some("hkvd@1"));
    assert_eq!(fusion.ratio, Some(0.15));
    let left = fusion.deviation_left.unwrap();
    assert!(left > 0.0 && left < 1.0, "{left}");
    assert!(!started.request_id.is_empty());

    let usage = reply.finished.usage.unwrap();
    assert_eq!(reply.finished.reason(), v1::FinishReason::Length);
    assert_eq!((usage.completion_tokens, reply.token_ids.len()), (8, 8));
    assert_eq!(usage.prompt_tokens, started.prompt_tokens);
    let times = reply.finished.timings.unwrap();
    let nanos = |time: Option<prost_types::Duration>| {
        time.unwrap().seconds * 1_000_000_000 + i64::from(time.unwrap().nanos)
    };
    assert!(nanos(times.ttft) > 0 && nanos(times.ttft) <= nanos(times.total));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_is_computed_afterwards_and_hit_the_next_time_with_the_same_text() {
    let mut site = Site::empty(&["kv_dtype=f32"]).await;
    site.ingest(&[("fox", FOX)], true).await;
    let request = about(&["fox#0"], FusionMode::Reuse, 24);

    let first = site.ask(request.clone()).await.unwrap();
    let cache = first.started.cache.unwrap();
    assert_eq!(
        (cache.chunks_hit, cache.chunks_missed, cache.tokens_loaded),
        (0, 1, 0)
    );
    let mut fills = site.service.pipeline().fills();
    fills.wait_for(|fills| fills.done == 1).await.unwrap();

    let second = site.ask(request).await.unwrap();
    let cache = second.started.cache.unwrap();
    assert_eq!((cache.chunks_hit, cache.chunks_missed), (1, 0));
    assert!(cache.tokens_loaded > 0);
    // The chunk comes right after the prefix it was computed after: exact, so not one token may differ.
    assert_eq!(second.token_ids, first.token_ids);
    assert_eq!(second.text, first.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fused_path_over_all_rows_answers_as_full_prefill() {
    let mut site = Site::start().await;
    let chunks = ["nets#0", "fox#0", "sword#0"];
    let full = site
        .ask(about(&chunks, FusionMode::Full, 24))
        .await
        .unwrap();
    let cache = full.started.cache.unwrap();
    assert_eq!(
        (cache.chunks_hit, cache.chunks_missed, cache.tokens_loaded),
        (0, 0, 0)
    );

    let mut request = about(&chunks, FusionMode::Blend, 24);
    request.fusion.as_mut().unwrap().selection = Some("all".into());
    let fused = site.ask(request).await.unwrap();
    assert_eq!(fused.started.cache.unwrap().chunks_hit, 3);
    assert_eq!(fused.token_ids, full.token_ids);
    let fusion = fused.started.fusion.unwrap();
    assert_eq!(
        (fusion.selection.as_deref(), fusion.ratio),
        (Some("all"), None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_of_the_request_is_planned_and_named_in_the_answer() {
    let mut site = Site::start().await;
    let mut request = about(&["nets#0", "fox#0", "sword#0"], FusionMode::Blend, 2);
    request.fusion.as_mut().unwrap().selection = Some("first-k+query/all~score:0.1".into());
    let reply = site.ask(request.clone()).await.unwrap();
    let fusion = reply.started.fusion.unwrap();
    assert_eq!(
        (fusion.selection.as_deref(), fusion.ratio),
        (Some("first-k+query/all~score"), Some(0.1))
    );
    assert_eq!(fusion.deviation_left, None, "nothing was compared");
    let probe = reply.finished.timings.unwrap().probe.unwrap();
    assert!(probe.nanos > 0, "the question was run over the stored KV");

    request.fusion.as_mut().unwrap().selection = Some("anchors".into());
    request.fusion.as_mut().unwrap().ratio = Some(0.2);
    let reply = site.ask(request).await.unwrap();
    let fusion = reply.started.fusion.unwrap();
    assert_eq!(
        (fusion.selection.as_deref(), fusion.ratio),
        (Some("anchors"), Some(0.2))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_last_layer_is_a_miss_and_never_a_wrong_answer() {
    // Nothing is in memory, from which the good bytes would still be served.
    let mut site = Site::start_with(&["store.memory_bytes=0", "kv_dtype=f32"]).await;
    let chunks = ["fox#0", "sword#0"];
    let full = site
        .ask(about(&chunks, FusionMode::Full, 24))
        .await
        .unwrap();
    let intact = site
        .ask(about(&chunks, FusionMode::Reuse, 1))
        .await
        .unwrap();
    assert_eq!(intact.started.cache.unwrap().chunks_hit, 2);

    flip_last_layer(&site, "sword#0").await;
    let repaired = site
        .ask(about(&chunks, FusionMode::Reuse, 24))
        .await
        .unwrap();
    let cache = repaired.started.cache.unwrap();
    assert_eq!((cache.chunks_hit, cache.chunks_missed), (1, 1));
    // The first chunk is exact and the second was computed in place: the answer of full prefill.
    assert_eq!(repaired.token_ids, full.token_ids);
    assert_eq!(repaired.text, full.text);

    site.service
        .pipeline()
        .fills()
        .wait_for(|fills| fills.done == 1)
        .await
        .unwrap();
    let replaced = site
        .ask(about(&chunks, FusionMode::Reuse, 1))
        .await
        .unwrap();
    assert_eq!(
        replaced.started.cache.unwrap().chunks_hit,
        2,
        "the bad KV was replaced"
    );
}

/// Flips one bit of the stored V block of the last layer, found in the segment files by its content.
async fn flip_last_layer(site: &Site, chunk_id: &str) {
    let components = site.service.components();
    let ids = components
        .store
        .chunk(chunk_id)
        .unwrap()
        .unwrap()
        .record
        .token_ids;
    let kv = components
        .engine
        .chunk_kv(components.prompt.conditioning_prefix(), ids)
        .await
        .unwrap();
    let (_, block) = kv.layers.last().unwrap();
    let mut found = 0;
    let mut folders = vec![site.data()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs_err::read(&path).unwrap();
            let Some(at) = bytes
                .windows(block.len())
                .position(|window| window == block)
            else {
                continue;
            };
            let mut file = fs_err::OpenOptions::new().write(true).open(&path).unwrap();
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            file.write_all(&[bytes[at] ^ 1]).unwrap();
            found += 1;
        }
    }
    assert_eq!(found, 1, "the block is stored once");
}

#[tokio::test(flavor = "multi_thread")]
async fn passages_that_do_not_fit_are_dropped_and_named_ones_are_an_error() {
    let mut site = Site::empty(&["limits.max_model_len=215", "ingest.chunk_tokens=64"]).await;
    site.ingest(&[("fox", FOX), ("nets", NETS), ("sword", SWORD)], false)
        .await;
    let mut wide = question("the fox, the nets of Corin, the sword of Tor", 16);
    let fit = site.ask(wide.clone()).await.unwrap();
    assert_eq!(
        fit.started.sources.len() + fit.started.dropped.len(),
        3,
        "{:?}",
        fit.started
    );
    assert!(
        !fit.started.dropped.is_empty() && !fit.started.sources.is_empty(),
        "{:?}",
        fit.started
    );
    let worst_kept = fit.started.sources.last().unwrap().score;
    assert!(
        fit.started
            .dropped
            .iter()
            .all(|dropped| dropped.score <= worst_kept)
    );

    wide.context = about(&["fox#0", "nets#0", "sword#0"], FusionMode::Full, 1).context;
    let status = site.ask(wide).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("215"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_kv_is_not_computed_for_a_store_that_takes_no_writes() {
    let mut site = Site::empty(&[]).await;
    site.ingest(&[("fox", FOX)], true).await;
    let mut components = site.service.components().clone();
    let mut config = (*components.config).clone();
    config.store.min_free_bytes = u64::MAX;
    components.config = Arc::new(config);
    let pipeline = Pipeline::new(&components);
    let max_model_len = components.engine.model().max_model_len;
    let mut query = Query::new(
        "Where does the fox live?",
        &components.config,
        max_model_len,
    );
    query.sampling.max_tokens = 4;
    pipeline.answer_whole(query).await.unwrap();
    let mut fills = pipeline.fills();
    let ended = fills
        .wait_for(|fills| fills.done + fills.skipped + fills.failed > 0)
        .await
        .unwrap();
    assert_eq!((ended.done, ended.skipped, ended.failed), (0, 1, 0));
}

/// KV in another type than it is computed in is never exact, not even that of the first chunk.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_chunk_is_exact_only_in_the_compute_type() {
    for (kv_dtype, is_exact) in [
        ("f32", true),
        ("f16", false),
        ("int8", false),
        ("auto", false),
    ] {
        let mut site = Site::start_with(&[&format!("kv_dtype={kv_dtype}")]).await;
        let mut request = about(&["fox#0"], FusionMode::Blend, 1);
        request.fusion.as_mut().unwrap().ratio = Some(0.5);
        let cache = site.ask(request).await.unwrap().started.cache.unwrap();
        assert_eq!(
            (cache.chunks_hit, cache.chunks_missed),
            (1, 0),
            "{kv_dtype}"
        );
        assert_eq!(
            cache.tokens_recomputed == 0,
            is_exact,
            "{kv_dtype}: {cache:?}"
        );
    }
}
