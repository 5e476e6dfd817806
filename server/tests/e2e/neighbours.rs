//! Chunks whose KV was computed after neighbours, in a server: they are hits, never exact ones, and no longer need the
//! documents of their neighbours.

use std::sync::Arc;

use ragweave_proto::v1;
use ragweave_proto::v1::FusionMode;
use ragweave_server::ingest::{Change, IngestOptions, Ingestor};
use ragweave_server::notes::ChunkNotes;
use ragweave_server::pipeline::{FillCounts, Query};
use ragweave_store::{ChunkRecord, StoreStats};

use crate::site::{FOX, NETS, SWORD, Site, about, document};

/// A server with two neighbours per chunk and the three documents.
async fn conditioned() -> Site {
    let mut site = Site::empty(&["ingest.neighbours=2", "kv_dtype=f32"]).await;
    let response = site.ingest(&documents(), false).await;
    assert_eq!((response.added, response.failures.len()), (3, 0));
    assert!(response.kv_bytes > 0);
    site
}

fn documents() -> [(&'static str, &'static str); 3] {
    [("fox", FOX), ("nets", NETS), ("sword", SWORD)]
}

fn record(site: &Site, chunk_id: &str) -> ChunkRecord {
    let store = &site.service.components().store;
    store.chunk(chunk_id).unwrap().unwrap().record
}

fn stats(site: &Site) -> StoreStats {
    site.service.components().store.stats().unwrap()
}

/// Hits, misses and recomputed tokens of a blend of half of the tokens.
async fn blend(site: &mut Site, chunks: &[&str]) -> (u32, u32, u32) {
    let mut request = about(chunks, FusionMode::Blend, 4);
    request.fusion.as_mut().unwrap().ratio = Some(0.5);
    let cache = site.ask(request).await.unwrap().started.cache.unwrap();
    (
        cache.chunks_hit,
        cache.chunks_missed,
        cache.tokens_recomputed,
    )
}

/// Waits until the one chunk that was missed has been computed.
async fn filled(site: &Site) {
    let mut fills = site.service.pipeline().fills();
    let tried = |fills: &FillCounts| fills.done + fills.skipped + fills.failed > 0;
    assert_eq!(fills.wait_for(tried).await.unwrap().done, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conditioned_chunk_is_a_hit_and_not_an_exact_one() {
    let mut site = conditioned().await;
    let components = site.service.components().clone();
    let fox = record(&site, "fox#0");
    let nets = record(&site, "nets#0");
    assert!(fox.conditioning_ids.ends_with(&nets.token_ids));
    assert_eq!(
        fox.key,
        components.blob_key(&fox.conditioning_ids, &fox.token_ids)
    );
    let alone_key = components.blob_key(&[], &fox.token_ids);
    assert_ne!(fox.key, alone_key);
    assert!(!components.store.contains_blob(&alone_key).unwrap());

    let (hit, missed, recomputed) = blend(&mut site, &["fox#0"]).await;
    assert_eq!((hit, missed), (1, 0));
    assert!(
        recomputed > 0,
        "it follows other ids than it was computed after"
    );
    let mut alone = Site::start_with(&["kv_dtype=f32"]).await;
    assert_eq!(blend(&mut alone, &["fox#0"]).await, (1, 0, 0), "exact");

    // Recomputing all rows corrects the effect of neighbours just as it corrects their absence.
    let full = site.ask(about(&["fox#0", "sword#0"], FusionMode::Full, 16));
    let full = full.await.unwrap();
    let mut all = about(&["fox#0", "sword#0"], FusionMode::Blend, 16);
    let fusion = all.fusion.as_mut().unwrap();
    fusion.selection = Some("all".into());
    // This policy recomputes everything at any ratio.
    fusion.ratio = Some(1.0);
    let all = site.ask(all).await.unwrap();
    assert_eq!(all.started.cache.unwrap().chunks_hit, 2);
    assert_eq!(all.token_ids, full.token_ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_system_text_hits_conditioned_chunks_too() {
    let mut site = conditioned().await;
    let mut request = about(&["fox#0", "nets#0"], FusionMode::Reuse, 4);
    request.system = Some("Answer in one word.".to_owned());
    let reply = site.ask(request).await.unwrap();
    assert_eq!(reply.started.cache.unwrap().chunks_hit, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn kv_outlives_the_documents_of_its_neighbours() {
    let mut site = conditioned().await;
    for id in ["nets", "sword"] {
        let document_id = id.to_owned();
        let request = v1::DeleteDocumentRequest { document_id };
        site.client.delete_document(request).await.unwrap();
    }
    let (hit, missed, _) = blend(&mut site, &["fox#0"]).await;
    assert_eq!((hit, missed, stats(&site).blobs), (1, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn sending_documents_again_writes_nothing() {
    let mut site = conditioned().await;
    let before = stats(&site);
    let again = site.ingest(&documents(), false).await;
    assert_eq!((again.unchanged, again.kv_bytes), (3, 0));
    let after = stats(&site);
    assert_eq!(after.commit_seq, before.commit_seq);
    assert_eq!(
        (after.live_bytes, after.total_bytes),
        (before.live_bytes, before.total_bytes)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn kv_missed_later_is_computed_after_the_same_neighbours() {
    let mut site = Site::empty(&["ingest.neighbours=2", "kv_dtype=f32"]).await;
    site.ingest(&documents(), true).await;
    let key = record(&site, "fox#0").key;
    let store = Arc::clone(&site.service.components().store);
    assert!(!store.contains_blob(&key).unwrap());
    let (hit, missed, _) = blend(&mut site, &["fox#0"]).await;
    assert_eq!((hit, missed), (0, 1));
    filled(&site).await;
    assert!(store.contains_blob(&key).unwrap());
    let filled = read_blob(&site, "fox#0");

    let at_ingest = conditioned().await;
    assert_eq!(record(&at_ingest, "fox#0").key, key);
    assert!(filled == read_blob(&at_ingest, "fox#0"), "bit for bit");
    let alone = Site::start_with(&["kv_dtype=f32"]).await;
    assert!(filled != read_blob(&alone, "fox#0"), "neighbours matter");
}

/// The last layer's K and V of a chunk's KV.
fn read_blob(site: &Site, chunk_id: &str) -> (Vec<u8>, Vec<u8>) {
    let chunk = record(site, chunk_id);
    let store = &site.service.components().store;
    let reader = store.open_blob(&chunk.key, &chunk.token_ids);
    let reader = reader.unwrap().unwrap();
    let geometry = reader.geometry();
    let mut k = vec![0; geometry.k_block_bytes as usize];
    let mut v = vec![0; geometry.v_block_bytes as usize];
    let last = geometry.n_layers as usize - 1;
    reader.read_layer(last, &mut k, &mut v).unwrap();
    (k, v)
}

/// The state after a crash between the two commits of a document.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_without_its_second_commit_is_found_and_completed_later() {
    let mut site = Site::empty(&["ingest.neighbours=1", "kv_dtype=f32"]).await;
    let ingestor = Ingestor::new(site.service.components());
    let options = IngestOptions::default();
    for (id, text) in documents() {
        let outcome = ingestor.ingest(document(id, text), &options).await.unwrap();
        assert_eq!(outcome.change, Change::Added);
        assert!(outcome.unconditioned.is_some() && outcome.seq.is_some());
    }
    let (hit, missed, _) = blend(&mut site, &["fox#0"]).await;
    assert_eq!((hit, missed), (0, 1));
    filled(&site).await;
    let (hit, missed, recomputed) = blend(&mut site, &["fox#0"]).await;
    assert_eq!((hit, missed, recomputed), (1, 0, 0), "alone until then");

    let completed = site.ingest(&documents(), false).await;
    assert_eq!((completed.replaced, completed.unchanged), (3, 0));
    assert_eq!(stats(&site).blobs, 3, "the KV made alone is dead");
    let (hit, missed, recomputed) = blend(&mut site, &["fox#0"]).await;
    assert_eq!((hit, missed), (1, 0));
    assert!(recomputed > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_changed_meanwhile_is_left_to_its_own_ingest() {
    let site = Site::empty(&["ingest.neighbours=1"]).await;
    let components = site.service.components();
    let ingestor = Ingestor::new(components);
    let options = IngestOptions::default();
    let first = ingestor.ingest(document("fox", FOX), &options);
    let waiting = first.await.unwrap().unconditioned.unwrap();
    let second = ingestor.ingest(document("fox", NETS), &options);
    second.await.unwrap();
    let before = components.store.document("fox").unwrap();
    assert_eq!(ingestor.condition(&waiting).await.unwrap(), None);
    assert_eq!(components.store.document("fox").unwrap(), before);
    ingestor.delete("fox").await.unwrap();
    assert_eq!(ingestor.condition(&waiting).await.unwrap(), None);
    assert!(components.store.document("fox").unwrap().is_none());
}

/// Such chunks keep no neighbours, and stay exact.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_like_no_other_has_no_neighbours() {
    let mut site = Site::empty(&["ingest.neighbours=2", "kv_dtype=f32"]).await;
    let documents = [("dashes", "-- -- --"), ("fox", FOX)];
    let response = site.ingest(&documents, false).await;
    assert_eq!((response.added, response.failures.len()), (2, 0));
    assert!(record(&site, "dashes#0").conditioning_ids.is_empty());
    assert!(record(&site, "fox#0").conditioning_ids.is_empty());
    assert_eq!(blend(&mut site, &["fox#0"]).await, (1, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_without_a_vector_has_no_neighbours() {
    let site = Site::empty(&["ingest.neighbours=2"]).await;
    let components = site.service.components();
    let ingestor = Ingestor::new(components);
    let options = IngestOptions::default();
    let nets = ingestor.ingest(document("nets", NETS), &options);
    nets.await.unwrap();
    let fox = ingestor.ingest(document("fox", FOX), &options);
    let waiting = fox.await.unwrap().unconditioned.unwrap();
    let mut stored = components.store.document("fox").unwrap().unwrap();
    stored.chunks[0].vector.clear();
    let committed = components.store.commit_document(&stored, Vec::new());
    committed.unwrap();
    assert!(ingestor.condition(&waiting).await.unwrap().is_some());
    assert!(record(&site, "fox#0").conditioning_ids.is_empty());
    assert!(
        components
            .store
            .contains_blob(&record(&site, "fox#0").key)
            .unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_reach_the_prompt_and_survive_a_change_of_metadata() {
    for setting in ["ingest.neighbours=0", "ingest.neighbours=2"] {
        let mut site = Site::empty(&[setting]).await;
        site.ingest(&documents(), false).await;
        let before = record(&site, "fox#0");
        assert!(ChunkNotes::decode(&before.notes, before.token_ids.len()).is_some());

        let ingestor = Ingestor::new(site.service.components());
        let mut changed = document("fox", FOX);
        changed.metadata.insert("seen".into(), "today".into());
        let options = IngestOptions::default();
        let outcome = ingestor.ingest(changed, &options).await.unwrap();
        assert_eq!((outcome.change, outcome.kv_bytes), (Change::Replaced, 0));
        assert_eq!(record(&site, "fox#0"), before, "{setting}");

        let components = site.service.components();
        let context = components.engine.model().max_model_len;
        let query = Query::new("Where is the fox?", &components.config, context);
        let passages = site.service.pipeline().retrieve(query).await.unwrap();
        assert!(passages.iter().all(|passage| passage.notes.is_some()));
        assert_eq!(passages[0].conditioning_ids, before.conditioning_ids);
    }
}
