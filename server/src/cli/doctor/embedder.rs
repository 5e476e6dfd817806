//! The embedder: whether it can be opened and makes a vector, and which stored vectors it did not make.

use std::sync::Arc;

use ragweave_retriever::Embedder;
use ragweave_store::{Store, StoreError};

use super::finding::Finding;
use crate::config::{Config, EmbedderModel};
use crate::embedder;

const SUBJECT: &str = "embedder";

/// Opens the embedder and embeds one text.
pub(super) fn check(config: &Config) -> (Option<Arc<dyn Embedder>>, Finding) {
    let place = match config.embedder.model {
        EmbedderModel::Directory(_) => format!(" (on {})", config.embedder.device),
        EmbedderModel::Lexical | EmbedderModel::Remote(_) => String::new(),
    };
    match embedder::check(&config.embedder) {
        Ok(embedder) => {
            let said = format!("{}{place}", embedder.description());
            (Some(embedder), Finding::ok(SUBJECT, said))
        }
        Err(error) => (None, Finding::fail(SUBJECT, error)),
    }
}

/// Whether the stored vectors are this embedder's.
pub(super) fn vectors(store: &Store, embedder: &dyn Embedder) -> Finding {
    match count(store, embedder) {
        Ok((_, 0)) => Finding::ok("vectors", "all made by this embedder"),
        Ok((all, others)) => Finding::warn(
            "vectors",
            format!(
                "{others} of {all} were made by another embedder or with other settings; the next `serve` or `ingest` \
                 embeds their text again, and keeps the KV"
            ),
        ),
        Err(error) => Finding::fail("vectors", error.to_string()),
    }
}

/// All vectors, and those of other embedders.
fn count(store: &Store, embedder: &dyn Embedder) -> Result<(usize, usize), StoreError> {
    let (mut all, mut others) = (0, 0);
    let (embedder_id, mut width) = (embedder.id(), embedder.width());
    store.for_each_vector(|row| {
        if !row.vector.is_empty() {
            all += 1;
            let vector = embedder::stored_vector(&row.vector, embedder_id, &mut width);
            others += usize::from(vector.is_err());
        }
        Ok(())
    })?;
    Ok((all, others))
}
