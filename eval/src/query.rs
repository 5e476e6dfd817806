//! Questions over named chunks of a data directory, as the pipeline takes and answers them.

use std::sync::Arc;

use ragweave_engine::{Mode, SamplingParams};
use ragweave_server::components::Components;
use ragweave_server::pipeline::{Context, Pipeline, Query, Started};
use ragweave_store::{Store, StoreError};

/// Asks the pipeline of a data directory.
pub(crate) struct Asker<'a> {
    pub(crate) components: &'a Components,
    pub(crate) pipeline: Arc<Pipeline>,
    sampling: SamplingParams,
}

impl<'a> Asker<'a> {
    /// Must be called within a tokio runtime, as [`Pipeline::for_evaluation`].
    pub(crate) fn new(components: &'a Components, sampling: SamplingParams) -> Self {
        Self {
            components,
            pipeline: Arc::new(Pipeline::for_evaluation(components)),
            sampling,
        }
    }

    /// A query by full prefill over what the configured search finds.
    pub(crate) fn searched(&self, text: &str) -> Query {
        let max_model_len = self.components.engine.model().max_model_len;
        Query {
            mode: Mode::Full.into(),
            sampling: self.sampling.clone(),
            ..Query::new(text, &self.components.config, max_model_len)
        }
    }

    /// A query over these chunks in this order.
    pub(crate) fn over_chunks(&self, text: &str, chunks: Vec<String>, mode: Mode) -> Query {
        Query {
            mode: mode.into(),
            context: Context::Chunks(chunks),
            ..self.searched(text)
        }
    }
}

/// Chunks whose stored KV was used, and chunks whose KV was not found; both 0 if the mode does not look up KV.
pub(crate) fn lookups(started: &Started) -> (usize, usize) {
    match started.looked_up {
        true => (started.report.chunks_hit, started.report.chunks_missed),
        false => (0, 0),
    }
}

/// The first items, as many as fit into `room` tokens together.
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
