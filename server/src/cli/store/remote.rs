//! `store stats --addr`: the figures of a running server, which has exclusive use of its data directory.

use std::process::ExitCode;

use ragweave_proto::v1;
use serde_json::{Value, json};

use crate::cli::runtime::block_on;
use crate::client::Client;

/// Asks a server for its figures and prints them.
///
/// # Errors
/// The server cannot be reached or refuses.
pub(super) fn stats(addr: &str, is_json: bool) -> anyhow::Result<ExitCode> {
    let stats = block_on(async { Ok(Client::connect(addr).await?.stats().await?) })?;
    if is_json {
        say!("{}", serde_json::to_string_pretty(&as_json(&stats))?);
    } else {
        print(&stats);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(stats: &v1::GetStatsResponse) {
    let model = stats.model.clone().unwrap_or_default();
    let store = stats.store.clone().unwrap_or_default();
    let server = stats.server.clone().unwrap_or_default();
    say!(
        "model        {} ({}) on {}, context {} tokens",
        model.name,
        model.architecture,
        model.device,
        model.max_model_len
    );
    say!("embedder     {}", server.embedder);
    say!("documents    {}", store.documents);
    say!("chunks       {}", store.chunks);
    say!("blobs        {}", store.blobs);
    say!(
        "bytes        {} live, {} dead",
        store.live_bytes,
        store.dead_bytes
    );
    let memory = store.memory.unwrap_or_default();
    say!(
        "KV in memory {} bytes of {}, {} chunks; {} bytes served, {} chunks evicted",
        memory.bytes,
        memory.budget_bytes,
        memory.chunks,
        memory.served_bytes,
        memory.evicted_chunks
    );
    say!(
        "server       {}, up {} s",
        server.version,
        server.uptime_seconds
    );
    say!(
        "requests     {} running, {} answered, {} rejected, {} cancelled, {} failed",
        server.requests_running,
        server.requests_answered,
        server.requests_rejected,
        server.requests_cancelled,
        server.requests_failed
    );
    say!(
        "KV fills     {} done, {} dropped, {} failed",
        server.kv_fills_done,
        server.kv_fills_dropped,
        server.kv_fills_failed
    );
    say!(
        "shadow       {}",
        shadow(&server.shadow.unwrap_or_default())
    );
}

/// How far fused answers were from full prefill, in one line.
fn shadow(shadow: &v1::ShadowStats) -> String {
    if shadow.share == 0.0 {
        return "off; `serve --shadow-full SHARE` compares answers with full prefill".to_owned();
    }
    let counts = format!("{} dropped, {} failed", shadow.dropped, shadow.failed);
    if shadow.compared == 0 {
        return format!(
            "no answer compared yet, of {} of the fused ones; {counts}",
            shadow.share
        );
    }
    format!(
        "{} answers compared with full prefill: KL {:.4} nats on average, {:.4} at most, same next token {:.1} %; {counts}",
        shadow.compared,
        shadow.mean_kl,
        shadow.max_kl,
        shadow.mean_top1_agreement * 100.0
    )
}

fn as_json(stats: &v1::GetStatsResponse) -> Value {
    let model = stats.model.clone().unwrap_or_default();
    let server = stats.server.clone().unwrap_or_default();
    let shadow = server.shadow.unwrap_or_default();
    // The store's own object, the same as without a server; versions may add counters.
    let store = stats.store.clone().unwrap_or_default();
    let memory = store.memory.unwrap_or_default();
    json!({
        "model": {
            "name": model.name,
            "architecture": model.architecture,
            "fingerprint": model.fingerprint,
            "max_model_len": model.max_model_len,
            "device": model.device,
        },
        "store": serde_json::from_str::<Value>(&store.json).unwrap_or_default(),
        "memory": {
            "budget_bytes": memory.budget_bytes,
            "bytes": memory.bytes,
            "chunks": memory.chunks,
            "served_blocks": memory.served_blocks,
            "served_bytes": memory.served_bytes,
            "evicted_chunks": memory.evicted_chunks,
        },
        "server": {
            "version": server.version,
            "uptime_seconds": server.uptime_seconds,
            "requests_running": server.requests_running,
            "requests_answered": server.requests_answered,
            "requests_rejected": server.requests_rejected,
            "requests_cancelled": server.requests_cancelled,
            "requests_failed": server.requests_failed,
            "kv_fills_done": server.kv_fills_done,
            "kv_fills_dropped": server.kv_fills_dropped,
            "kv_fills_failed": server.kv_fills_failed,
            "shadow": {
                "share": shadow.share,
                "compared": shadow.compared,
                "mean_kl": shadow.mean_kl,
                "max_kl": shadow.max_kl,
                "mean_top1_agreement": shadow.mean_top1_agreement,
                "dropped": shadow.dropped,
                "failed": shadow.failed,
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shadow_line_distinguishes_off_from_not_yet() {
        let mut stats = v1::ShadowStats::default();
        assert!(shadow(&stats).starts_with("off;"));
        stats.share = 0.01;
        assert!(shadow(&stats).starts_with("no answer compared yet"));
        stats.compared = 3;
        stats.mean_top1_agreement = 0.975;
        assert!(shadow(&stats).contains("3 answers") && shadow(&stats).contains("97.5 %"));
    }
}
