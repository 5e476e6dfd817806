//! Questions over named chunks of a data directory, as the pipeline takes and answers them.

use ragweave_engine::{Mode, SamplingParams};
use ragweave_server::components::Components;
use ragweave_server::pipeline::{Context, Query, Started};
use ragweave_store::{Store, StoreError};

/// A query by full prefill over what the configured search finds.
pub(crate) fn searched(components: &Components, text: &str, sampling: &SamplingParams) -> Query {
    let max_model_len = components.engine.model().max_model_len;
    Query {
        mode: Mode::Full.into(),
        sampling: sampling.clone(),
        ..Query::new(text, &components.config, max_model_len)
    }
}

/// A query over these chunks in this order.
pub(crate) fn over_chunks(
    components: &Components,
    text: &str,
    chunks: Vec<String>,
    mode: Mode,
    sampling: &SamplingParams,
) -> Query {
    Query {
        mode: mode.into(),
        context: Context::Chunks(chunks),
        ..searched(components, text, sampling)
    }
}

/// Chunks whose stored KV was used, and chunks whose KV was looked up in vain; none where the mode looks none up.
pub(crate) fn lookups(started: &Started) -> (usize, usize) {
    match started.looked_up {
        true => (started.report.chunks_hit, started.report.chunks_missed),
        false => (0, 0),
    }
}

/// The first of these that fit into so many tokens together.
pub(crate) fn fitting<T>(
    items: impl IntoIterator<Item = T>,
    mut room: usize,
    n_tokens: impl Fn(&T) -> usize,
) -> impl Iterator<Item = T> {
    items.into_iter().take_while(move |item| {
        let rest = room.checked_sub(n_tokens(item));
        room = rest.unwrap_or(0);
        rest.is_some()
    })
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
