//! The figures that GetStats reports about the model, the store and the server.

use ragweave_proto::v1;

use crate::components::Components;
use crate::fingerprint::fingerprint;
use crate::problem::Problem;
use crate::service::Service;

pub(super) fn model(components: &Components) -> v1::ModelStats {
    let model = components.engine.model();
    v1::ModelStats {
        name: model.name.clone(),
        architecture: format!("{:?}", model.config.architecture).to_lowercase(),
        fingerprint: fingerprint(&components.engine),
        max_model_len: u32::try_from(model.max_model_len).unwrap_or(u32::MAX),
        device: components.config.device.to_string(),
    }
}

/// Blocking.
pub(super) fn store(components: &Components) -> Result<v1::StoreStats, Problem> {
    let stats = components.store.stats()?;
    Ok(v1::StoreStats {
        documents: stats.documents,
        chunks: stats.chunks,
        blobs: stats.blobs,
        live_bytes: stats.live_bytes,
        dead_bytes: stats.dead_bytes,
        json: serde_json::to_string(&stats).map_err(Problem::internal)?,
        memory: Some(memory(components)),
    })
}

fn memory(components: &Components) -> v1::MemoryTierStats {
    let stats = components.memory.stats();
    v1::MemoryTierStats {
        budget_bytes: stats.budget_bytes,
        bytes: stats.bytes,
        chunks: stats.chunks,
        served_blocks: stats.served_blocks,
        served_bytes: stats.served_bytes,
        evicted_chunks: stats.evicted_chunks,
    }
}

pub(super) fn server(service: &Service) -> v1::ServerStats {
    let activity = *service.activity().borrow();
    let fills = *service.pipeline().fills().borrow();
    v1::ServerStats {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: service.uptime().as_secs(),
        requests_running: activity.running as u64,
        requests_answered: activity.answered,
        requests_rejected: activity.rejected,
        requests_cancelled: activity.cancelled,
        requests_failed: activity.failed,
        kv_fills_done: fills.done,
        kv_fills_dropped: fills.dropped,
        kv_fills_failed: fills.failed,
        shadow: Some(shadow(service)),
        max_message_bytes: service.components().config.limits.max_message_bytes as u64,
        embedder: service.components().embedder.description(),
    }
}

fn shadow(service: &Service) -> v1::ShadowStats {
    let counts = *service.pipeline().shadows().borrow();
    v1::ShadowStats {
        share: service.components().config.telemetry.shadow_full,
        compared: counts.compared,
        mean_kl: counts.mean_kl,
        max_kl: counts.max_kl,
        mean_top1_agreement: counts.mean_top1_agreement,
        dropped: counts.dropped,
        failed: counts.failed,
    }
}
