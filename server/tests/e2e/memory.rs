//! Where stored KV comes from: first from files, then from memory, with the same answer.

use ragweave_proto::v1;
use ragweave_proto::v1::FusionMode;
use ragweave_store::KvIo;

use crate::site::{Site, about};

const CHUNKS: [&str; 2] = ["fox#0", "sword#0"];

/// What a reuse of both chunks loaded, and the tokens of the answer.
async fn ask(site: &mut Site) -> (v1::CacheUse, Vec<u32>) {
    let reply = site
        .ask(about(&CHUNKS, FusionMode::Reuse, 8))
        .await
        .unwrap();
    let cache = reply.started.cache.unwrap();
    assert_eq!((cache.chunks_hit, cache.chunks_missed), (2, 0));
    assert!(cache.bytes_loaded > 0);
    assert_eq!(
        cache.bytes_from_memory + cache.bytes_from_disk,
        cache.bytes_loaded
    );
    (cache, reply.token_ids)
}

async fn memory(site: &mut Site) -> v1::MemoryTierStats {
    let stats = site.client.get_stats(v1::GetStatsRequest {}).await.unwrap();
    stats.into_inner().store.unwrap().memory.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_comes_from_memory_the_second_time() {
    let mut site = Site::start().await;
    let (first, tokens) = ask(&mut site).await;
    assert_eq!(first.bytes_from_memory, 0);
    let held = memory(&mut site).await;
    assert_eq!(
        (held.budget_bytes, held.chunks, held.served_bytes),
        (1 << 30, 2, 0)
    );
    assert!(held.bytes >= first.bytes_loaded, "padding counts");

    let (second, again) = ask(&mut site).await;
    assert_eq!(second.bytes_from_disk, 0);
    assert_eq!(again, tokens);
    let served = memory(&mut site).await;
    assert_eq!(served.served_bytes, second.bytes_loaded);
    assert_eq!((served.bytes, served.evicted_chunks), (held.bytes, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_memory_and_in_every_way_of_reading_the_answer_is_the_same() {
    let mut site = Site::start().await;
    let (_, expected) = ask(&mut site).await;
    for kv_io in KvIo::ALL {
        let kv_io = format!("store.kv_io={kv_io}");
        let mut site = Site::start_with(&[&kv_io, "store.memory_bytes=0"]).await;
        for _ in 0..2 {
            let (cache, tokens) = ask(&mut site).await;
            assert_eq!(
                (cache.bytes_from_memory, tokens),
                (0, expected.clone()),
                "{kv_io}"
            );
        }
        assert_eq!(memory(&mut site).await, v1::MemoryTierStats::default());
    }
}
