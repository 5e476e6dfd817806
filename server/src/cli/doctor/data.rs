//! The data directory: whether it exists, is in use, was made by this model, and has room on its disk.

use indicatif::DecimalBytes;
use ragweave_retriever::Embedder;
use ragweave_store::{Store, stored_fields};

use super::embedder;
use super::finding::Finding;
use crate::cli::store;
use crate::config::{Config, KV_DTYPE_FIELD};
use crate::error::ServerError;
use crate::sizing::Free;

pub(super) fn check(config: &Config, embedder: Option<&dyn Embedder>) -> Vec<Finding> {
    let mut findings = vec![disk(config)];
    if !config.data.exists() {
        let text = format!(
            "{} does not exist yet; `ragweave ingest` creates it",
            config.data.display()
        );
        findings.push(Finding::warn("store", text));
        return findings;
    }
    match store::open(&config.data) {
        Ok(store) => {
            findings.push(figures(&store));
            findings.extend(embedder.map(|embedder| embedder::vectors(&store, embedder)));
        }
        Err(error @ ServerError::Locked { .. }) => {
            findings.push(Finding::warn("store", error.to_string()));
        }
        Err(error) => findings.push(Finding::fail("store", error.to_string())),
    }
    findings.extend(kv_dtype(config));
    findings.push(kv_io(config));
    findings
}

/// What the store holds.
fn figures(store: &Store) -> Finding {
    match store.stats() {
        Ok(stats) if stats.quarantined > 0 => Finding::warn(
            "store",
            format!(
                "{} of {} blobs are quarantined; ingest their documents again, or they are computed when next used",
                stats.quarantined, stats.blobs
            ),
        ),
        Ok(stats) => Finding::ok(
            "store",
            format!(
                "{} documents, {} chunks, {} blobs, made by {}",
                stats.documents,
                stats.chunks,
                stats.blobs,
                store.identity()
            ),
        ),
        Err(error) => Finding::fail("store", error.to_string()),
    }
}

/// Whether stored KV can be read as configured.
fn kv_io(config: &Config) -> Finding {
    let io = config.store.kv_io;
    match io.obstacle(&config.data) {
        None => Finding::ok("kv io", io.to_string()),
        Some(why) => Finding::warn("kv io", format!("{io} becomes pread: {why}")),
    }
}

/// Free space on the disk where the data directory is, or will be.
fn disk(config: &Config) -> Finding {
    let free = match Free::at(&config.data) {
        Ok(free) => free,
        Err(error) => return Finding::warn("disk", format!("{}: {error}", config.data.display())),
    };
    let said = format!(
        "{} free at {}",
        DecimalBytes(free.bytes),
        free.place.display()
    );
    if free.bytes <= config.store.min_free_bytes {
        let limit = config.store.min_free_bytes;
        return Finding::fail(
            "disk",
            format!("{said}, not more than store.min_free_bytes ({limit}): free some space"),
        );
    }
    Finding::ok("disk", said)
}

/// Whether the store has the stored type that the configuration names, if it names one.
fn kv_dtype(config: &Config) -> Option<Finding> {
    let fields = stored_fields(&config.data).ok()??;
    let (stored, asked) = (fields.get(KV_DTYPE_FIELD)?, config.kv_dtype().to_string());
    (*stored != asked).then(|| {
        let text = format!(
            "holds KV in {stored}, and kv_dtype is {asked}: pass --kv-dtype {stored}, or auto"
        );
        Finding::fail("store", text)
    })
}
