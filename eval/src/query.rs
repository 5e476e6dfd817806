//! Questions over named chunks, as the pipeline takes them.

use ragweave_engine::{Mode, SamplingParams};
use ragweave_server::components::Components;
use ragweave_server::pipeline::{Context, Query};

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
