//! Questions over named chunks of a data directory, as the pipeline takes and answers them.

use ragweave_engine::{Mode, SamplingParams};
use ragweave_server::components::Components;
use ragweave_server::pipeline::{Context, Query, Started};
use ragweave_store::{Store, StoreError};

/// A greedy query over these chunks in this order.
pub(crate) fn over_chunks(
    components: &Components,
    text: &str,
    chunks: Vec<String>,
    mode: Mode,
    sampling: &SamplingParams,
) -> Query {
    let max_model_len = components.engine.model().max_model_len;
    Query {
        mode: mode.into(),
        context: Context::Chunks(chunks),
        sampling: sampling.clone(),
        ..Query::new(text, &components.config, max_model_len)
    }
}

/// Chunks whose stored KV was used, and chunks whose KV was looked up in vain; none where the mode looks none up.
pub(crate) fn lookups(started: &Started) -> (usize, usize) {
    match started.looked_up {
        true => (started.report.chunks_hit, started.report.chunks_missed),
        false => (0, 0),
    }
}

/// Ids of all chunks, in the store's order.
pub(crate) fn chunk_ids(store: &Store) -> Result<Vec<String>, StoreError> {
    let mut ids = Vec::new();
    store.for_each_vector(|row| {
        ids.push(row.chunk_id);
        Ok(())
    })?;
    Ok(ids)
}
