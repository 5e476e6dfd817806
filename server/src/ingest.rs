//! Brings one document into the store: split, embed, compute missing chunk KV, commit, index. The CLI and the RPC call
//! the same functions, so offline and online ingest cannot drift apart.
//!
//! A document becomes visible as a whole, in one commit, after its KV is durable. An ingest that is stopped before that
//! leaves the old version, or nothing. With neighbours configured there are two commits: after the first, without KV,
//! other documents can have this one as a neighbour; the second adds its KV ([`neighbours`]).
//!
//! Nothing is locked while KV is computed, which may take long on a busy engine. Commits are serialised, and each
//! checks again that what it was based on still holds ([`commit`]).

use ragweave_retriever::SourceDocument;

use crate::components::Components;

mod commit;
mod counters;
mod error;
mod ingestor;
mod kv;
mod metadata;
mod neighbours;
mod outcome;
mod prepare;
mod prepared;
mod rules;
mod spans;

pub use counters::IngestCounters;
pub use error::IngestError;
pub use ingestor::{Ingestor, Patience};
pub use metadata::BadMetadata;
pub use outcome::{Change, IngestOptions, IngestOutcome};
pub use prepared::Unconditioned;
pub(crate) use rules::check;
pub(crate) use spans::fitting as fitting_spans;

use commit::Committed;
use prepare::Known;
use prepared::Prepared;

/// The result of a first look at a document.
enum Look {
    /// There is nothing to do, except perhaps to wait for neighbours.
    Known(IngestOutcome),
    New(Prepared),
}

impl Ingestor {
    /// Ingests one document; returns after its commit is durable and the index holds it. Dropping the future before the
    /// commit has begun leaves the store as it was; a commit that has begun is finished, its index entries too.
    ///
    /// With `ingest.neighbours` above 0 the KV of changed documents is left to [`Ingestor::condition`].
    ///
    /// # Errors
    /// [`IngestError`]; the store then holds what it held before. `ChangedMeanwhile` if another call has replaced or
    /// deleted the document since this one began.
    pub async fn ingest(
        &self,
        source: SourceDocument,
        options: &IngestOptions,
    ) -> Result<IngestOutcome, IngestError> {
        let no_kv = options.no_kv;
        let components = self.components.clone();
        let looking = self.blocking(move || look(&components, source, no_kv));
        let prepared = match looking.await? {
            Look::Known(outcome) => return Ok(outcome),
            Look::New(prepared) => prepared,
        };
        let is_conditioned = self.components.config.ingest.neighbours > 0;
        let unconditioned = is_conditioned.then(|| prepared.waiting(no_kv));
        let unfinished = IngestOutcome::unwritten(Change::Added, &prepared.document);
        let Committed {
            change,
            seq,
            kv_bytes,
        } = self.finish(prepared, no_kv || is_conditioned).await?;
        Ok(IngestOutcome {
            change,
            kv_bytes,
            seq,
            unconditioned,
            ..unfinished
        })
    }

    /// Gives each chunk of a document its neighbours among the documents now in the store, computes its KV after them
    /// and commits the document again. `None` if it has been removed or replaced since. Until then, and if this fails,
    /// its chunks keep the KV they had, or are computed when used; ingesting it again completes it.
    ///
    /// # Errors
    /// [`IngestError`]; the store then holds what it held before.
    pub async fn condition(
        &self,
        waiting: &Unconditioned,
    ) -> Result<Option<IngestOutcome>, IngestError> {
        let (components, asked) = (self.components.clone(), waiting.clone());
        let choosing = self.blocking(move || neighbours::with_neighbours(&components, &asked));
        let Some(prepared) = choosing.await? else {
            return Ok(None);
        };
        let unfinished = IngestOutcome::unwritten(Change::Replaced, &prepared.document);
        match self.finish(prepared, waiting.no_kv).await {
            Ok(Committed { seq, kv_bytes, .. }) => Ok(Some(IngestOutcome {
                kv_bytes,
                seq,
                ..unfinished
            })),
            Err(IngestError::ChangedMeanwhile) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a document, its vectors and its KV. `false` if there is no document with this id.
    ///
    /// # Errors
    /// [`IngestError::Store`]; the document is then still there.
    pub async fn delete(&self, document_id: &str) -> Result<bool, IngestError> {
        self.remove(document_id.to_owned()).await
    }
}

/// The work that the document needs, if any.
fn look(components: &Components, source: SourceDocument, no_kv: bool) -> Result<Look, IngestError> {
    prepare::check(components, &source)?;
    let earlier = match prepare::known_version(components, &source, no_kv)? {
        None => None,
        Some(Known::Outdated(earlier)) => Some(earlier),
        Some(Known::Unchanged(document)) => {
            return Ok(Look::Known(IngestOutcome::unwritten(
                Change::Unchanged,
                &document,
            )));
        }
        Some(Known::Unconditioned(document, waiting)) => {
            return Ok(Look::Known(IngestOutcome {
                unconditioned: Some(waiting),
                ..IngestOutcome::unwritten(Change::Replaced, &document)
            }));
        }
    };
    prepare::prepare(components, source, earlier.as_ref()).map(Look::New)
}
