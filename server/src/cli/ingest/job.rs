//! The main loop of an ingest: commits documents until the last one, a signal, or an error that would affect every
//! further document.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use ragweave_retriever::{Printable, SourceDocument};
use ragweave_store::Store;
use tokio_util::sync::CancellationToken;

use super::corpus::{Reading, Unreadable};
use super::ending::{Ending, INTERRUPTED, NO_DOCUMENTS};
use super::failures::FailureLog;
use super::progress::{Progress, Totals};
use crate::cli::signals::StopSignals;
use crate::ingest::{Change, IngestError, IngestOptions, Ingestor, Unconditioned};

/// Documents listed at a time while pruning.
const PAGE: usize = 256;

/// One run over one corpus.
pub(super) struct Job<'a> {
    ingestor: &'a Ingestor,
    store: &'a Arc<Store>,
    options: IngestOptions,
    progress: Progress,
    failures: FailureLog,
    totals: Totals,
    /// Ids seen in this run; pruning keeps them.
    seen: HashSet<String>,
    /// Documents that get their neighbours once all are in the store.
    waiting: Vec<Unconditioned>,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        ingestor: &'a Ingestor,
        store: &'a Arc<Store>,
        options: IngestOptions,
        progress: Progress,
        failures: FailureLog,
    ) -> Self {
        let (totals, seen) = (Totals::default(), HashSet::new());
        Self {
            ingestor,
            store,
            options,
            progress,
            failures,
            totals,
            seen,
            waiting: Vec::new(),
        }
    }

    /// Ingests the documents as they arrive. The document in progress is finished before an interrupt ends the loop.
    pub(super) async fn run(
        &mut self,
        mut documents: Reading,
        interrupt: &CancellationToken,
    ) -> io::Result<Ending> {
        loop {
            let item = tokio::select! {
                biased;
                () = interrupt.cancelled() => return Ok(Ending::Interrupted),
                item = documents.next() => item,
            };
            match item {
                Ok(None) => break,
                Err(panicked) => return Ok(stopped(&panicked)),
                Ok(Some(Err(unreadable))) => self.fail(&unreadable)?,
                Ok(Some(Ok(document))) => {
                    if let Err(fatal) = self.one(document).await? {
                        return Ok(stopped(&fatal));
                    }
                }
            }
        }
        if self.seen.is_empty() && self.failures.len() == 0 {
            eprintln!("ragweave: {}", NO_DOCUMENTS);
            return Ok(Ending::Stopped);
        }
        Ok(self.ending())
    }

    /// How a run that was not stopped early ended.
    fn ending(&self) -> Ending {
        if self.failures.len() > 0 {
            Ending::SomeFailed
        } else {
            Ending::Done
        }
    }

    /// Gives the waiting documents of this run their neighbours, and the KV computed after them. The document in
    /// progress is finished before an interrupt ends the loop.
    pub(super) async fn condition(&mut self, interrupt: &CancellationToken) -> io::Result<Ending> {
        let waiting = std::mem::take(&mut self.waiting);
        if !waiting.is_empty() {
            self.progress.conditioning(waiting.len());
        }
        for document in waiting {
            if interrupt.is_cancelled() {
                return Ok(Ending::Interrupted);
            }
            match self.ingestor.condition(&document).await {
                Ok(outcome) => self.progress.conditioned(outcome.as_ref())?,
                Err(error) if error.is_fatal() => return Ok(stopped(&error)),
                Err(error) => self.fail(&failed(document.document_id(), &error))?,
            }
        }
        Ok(self.ending())
    }

    /// Ingests one document; the inner error is one that ends the run.
    async fn one(&mut self, document: SourceDocument) -> io::Result<Result<(), IngestError>> {
        let (id, text_bytes) = (document.id.clone(), document.text.len());
        self.seen.insert(id.clone());
        match self.ingestor.ingest(document, &self.options).await {
            Ok(outcome) => {
                match outcome.change {
                    Change::Added => self.totals.added += 1,
                    Change::Replaced => self.totals.replaced += 1,
                    Change::Unchanged => self.totals.unchanged += 1,
                }
                self.totals.chunks += outcome.chunk_ids.len();
                self.progress.ingested(&outcome, text_bytes)?;
                self.waiting.extend(outcome.unconditioned);
            }
            Err(error) if error.is_fatal() => return Ok(Err(error)),
            Err(error) => self.fail(&failed(&id, &error))?,
        }
        Ok(Ok(()))
    }

    /// Removes the documents from the store that this run has not seen.
    pub(super) async fn prune(&mut self) -> anyhow::Result<Ending> {
        for id in self.vanished()? {
            if let Err(error) = self.ingestor.delete(&id).await {
                eprintln!("ragweave: remove {id}: {error}");
                return Ok(Ending::Stopped);
            }
            self.totals.removed += 1;
            self.progress.removed(&id)?;
        }
        Ok(Ending::Done)
    }

    fn vanished(&self) -> anyhow::Result<Vec<String>> {
        let mut vanished = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list_documents(after.as_deref(), PAGE)?;
            let Some(last) = page.last() else {
                return Ok(vanished);
            };
            after = Some(last.id.clone());
            let unseen = page
                .into_iter()
                .map(|d| d.id)
                .filter(|id| !self.seen.contains(id));
            vanished.extend(unseen);
        }
    }

    fn fail(&mut self, failure: &Unreadable) -> io::Result<()> {
        self.totals.failed += failure.count;
        self.failures.add(failure)?;
        self.progress.failed(failure)
    }

    /// Prints the totals of the run.
    pub(super) fn finish(&self) -> io::Result<()> {
        self.progress.finish(&self.totals)?;
        if self.failures.len() > 0 {
            let list = Printable(self.failures.path());
            eprintln!("failures are listed in {list}");
        }
        Ok(())
    }
}

fn failed(document_id: &str, error: &IngestError) -> Unreadable {
    Unreadable {
        path: document_id.to_owned(),
        line: None,
        error: error.to_string(),
        count: 1,
    }
}

fn stopped(reason: &impl std::fmt::Display) -> Ending {
    eprintln!("ragweave: {reason}; what is committed stays, run the same command to continue");
    Ending::Stopped
}

/// Cancelled by the first SIGINT or SIGTERM. A second one ends the process at once, which loses the document in
/// progress but nothing that was committed.
pub(super) fn interrupt() -> CancellationToken {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        // Without handlers the default action applies: the process ends, and the store stays intact.
        let Ok(mut signals) = StopSignals::listen() else {
            return;
        };
        signals.next().await;
        eprintln!("ragweave: finishing the document in progress; interrupt again to stop at once");
        cancelled.cancel();
        signals.next().await;
        std::process::exit(i32::from(INTERRUPTED));
    });
    token
}
