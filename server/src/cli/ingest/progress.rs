//! What an ingest shows while it runs: a bar, plain lines, or JSON lines for programs.

use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::corpus::Unreadable;
use crate::ingest::{Change, IngestCounters, IngestOutcome};

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ProgressKind {
    /// A bar on a terminal, else plain lines
    #[default]
    Auto,
    /// A bar
    Bar,
    /// A line every few seconds
    Plain,
    /// One JSON object per event on standard output
    Jsonl,
}

/// Time between two plain lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// The bar while documents are read and while they get their neighbours.
const READING: &str = "{bar:30} {bytes}/{total_bytes} of text, {msg}, ETA {eta}";
const CONDITIONING: &str = "{bar:30} {pos}/{len} documents with neighbours, {msg}, ETA {eta}";

/// Shows one run.
pub(super) struct Progress {
    display: Display,
    counters: Arc<IngestCounters>,
    begun: Instant,
    /// Progress of the bar: bytes of text read, or documents conditioned.
    done: u64,
}

enum Display {
    Bar(ProgressBar),
    Plain { latest: Instant },
    Jsonl,
}

/// Numbers of documents by outcome.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) added: usize,
    pub(super) replaced: usize,
    pub(super) unchanged: usize,
    pub(super) failed: usize,
    pub(super) removed: usize,
    pub(super) chunks: usize,
}

impl Progress {
    /// `total_bytes` of input is called only if it is shown, since it walks all paths.
    pub(super) fn start(
        kind: ProgressKind,
        counters: &Arc<IngestCounters>,
        total_bytes: impl FnOnce() -> u64,
    ) -> Self {
        let begun = Instant::now();
        let display = match kind {
            ProgressKind::Jsonl => Display::Jsonl,
            ProgressKind::Bar => Display::Bar(bar(total_bytes())),
            ProgressKind::Auto if stderr().is_terminal() => Display::Bar(bar(total_bytes())),
            ProgressKind::Auto | ProgressKind::Plain => Display::Plain { latest: begun },
        };
        Self {
            display,
            counters: Arc::clone(counters),
            begun,
            done: 0,
        }
    }

    /// A document is in the store, durably.
    pub(super) fn ingested(
        &mut self,
        outcome: &IngestOutcome,
        text_bytes: usize,
    ) -> io::Result<()> {
        self.done += text_bytes as u64;
        match (outcome.seq, outcome.change) {
            (Some(_), change) => self.event(|| {
                let mut event = commit_event("committed", outcome);
                event["replaced"] = (change == Change::Replaced).into();
                event
            })?,
            (None, Change::Unchanged) => {
                self.event(|| json!({"event": "unchanged", "document": outcome.document_id}))?;
            }
            // Its text is already in the store; it is reported once it has its neighbours.
            (None, Change::Added | Change::Replaced) => {}
        }
        self.refresh()
    }

    /// From now on documents get their neighbours.
    pub(super) fn conditioning(&mut self, n_documents: usize) {
        match &self.display {
            Display::Bar(bar) => {
                bar.reset();
                bar.set_length(n_documents as u64);
                bar.set_style(bar_style(CONDITIONING));
            }
            Display::Plain { .. } => {
                eprintln!("computing the KV of {n_documents} documents after their neighbours");
            }
            Display::Jsonl => {}
        }
        self.done = 0;
    }

    /// A document has its neighbours, durably; `None` for one that has been removed or replaced.
    pub(super) fn conditioned(&mut self, outcome: Option<&IngestOutcome>) -> io::Result<()> {
        self.done += 1;
        if let Some(outcome) = outcome {
            self.event(|| commit_event("conditioned", outcome))?;
        }
        self.refresh()
    }

    /// A document or file was not ingested.
    pub(super) fn failed(&self, failure: &Unreadable) -> io::Result<()> {
        match &self.display {
            Display::Bar(bar) => bar.suspend(|| eprintln!("failed: {failure}")),
            Display::Plain { .. } => eprintln!("failed: {failure}"),
            Display::Jsonl => {}
        }
        self.event(|| json!({"event": "failed", "path": failure.path, "line": failure.line, "error": failure.error}))
    }

    pub(super) fn removed(&self, document_id: &str) -> io::Result<()> {
        self.event(|| json!({"event": "removed", "document": document_id}))
    }

    /// The totals of a run, however it ended.
    pub(super) fn finish(&self, totals: &Totals) -> io::Result<()> {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
        let (tokens, kv_bytes) = (self.counters.tokens(), self.counters.kv_bytes());
        let seconds = self.begun.elapsed().as_secs_f64();
        let Totals {
            added,
            replaced,
            unchanged,
            failed,
            removed,
            chunks,
        } = *totals;
        if !matches!(self.display, Display::Jsonl) {
            eprintln!(
                "{added} added, {replaced} replaced, {unchanged} unchanged, {removed} removed, {failed} failed; \
                 {chunks} chunks, {}",
                self.rates()
            );
        }
        self.event(|| {
            json!({
                "event": "finished", "added": added, "replaced": replaced, "unchanged": unchanged,
                "removed": removed, "failed": failed, "chunks": chunks, "tokens": tokens,
                "kv_bytes": kv_bytes, "seconds": seconds,
            })
        })
    }

    /// One line on standard output, flushed: readers may rely on it even if this process is killed next.
    fn event(&self, event: impl FnOnce() -> Value) -> io::Result<()> {
        if !matches!(self.display, Display::Jsonl) {
            return Ok(());
        }
        let mut out = stdout().lock();
        writeln!(out, "{}", event())?;
        out.flush()
    }

    fn refresh(&mut self) -> io::Result<()> {
        let rates = self.rates();
        match &mut self.display {
            Display::Bar(bar) => {
                bar.set_position(self.done);
                bar.set_message(rates);
            }
            Display::Plain { latest } if latest.elapsed() >= PLAIN_INTERVAL => {
                *latest = Instant::now();
                writeln!(stderr(), "{rates}")?;
            }
            Display::Plain { .. } | Display::Jsonl => {}
        }
        Ok(())
    }

    fn rates(&self) -> String {
        let tokens = self.counters.tokens();
        let per_second = tokens as f64 / self.begun.elapsed().as_secs_f64().max(1e-3);
        format!(
            "{} chunks with KV, {per_second:.0} tokens/s, {:.3} GB written",
            self.counters.chunks(),
            self.counters.kv_bytes() as f64 / 1e9,
        )
    }
}

/// A commit of a document, under the name of its event.
fn commit_event(event: &str, outcome: &IngestOutcome) -> Value {
    json!({
        "event": event,
        "document": outcome.document_id,
        "chunks": outcome.chunk_ids,
        "tokens": outcome.n_tokens,
        "kv_bytes": outcome.kv_bytes,
        "seq": outcome.seq,
    })
}

/// `total_bytes` of input.
fn bar(total_bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(total_bytes).with_style(bar_style(READING));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// The templates are constant, so their syntax cannot fail at run time.
fn bar_style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
