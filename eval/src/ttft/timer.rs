//! The rounds of a timing: at several context lengths, every mode once a round on the same prompt.

use std::path::PathBuf;

use ragweave_engine::{EngineHandle, Mode, PromptSegments};
use serde::Serialize;

use super::prompt::PromptShape;
use super::round::Round;
use super::stock::{KvPlace, Stock};
use super::workload::{Workload, plan};
use crate::experiment;
use crate::flags::{EngineArgs, parse_count};
use crate::mode_spec::ModeSpec;

#[derive(Debug, Clone, clap::Args, Serialize)]
pub(super) struct TimerArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) prompt: PromptShape,
    /// Measured rounds of each length, after one to warm up
    #[arg(long, value_name = "N", default_value = "5", value_parser = parse_count)]
    pub(super) repeats: usize,
    /// Where chunk KV is read from
    #[arg(long, value_enum, default_value_t, value_name = "PLACE")]
    pub(super) kv: KvPlace,
    /// Directory for the store's files, on the disk to measure [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    #[serde(skip)]
    pub(super) engine: EngineArgs,
}

pub(super) struct Timer<'a> {
    args: &'a TimerArgs,
    engine: &'a EngineHandle,
    specs: &'a [ModeSpec],
    /// Context lengths in chunks, ascending, each once.
    lengths: Vec<usize>,
    /// The longest prompt; shorter ones leave out its last chunks.
    pub(super) segments: PromptSegments,
    decode_tokens: usize,
}

impl<'a> Timer<'a> {
    /// Plans the longest prompt once before any KV is computed, so that bad input is reported at once.
    pub(super) fn new(
        args: &'a TimerArgs,
        engine: &'a EngineHandle,
        specs: &'a [ModeSpec],
        lengths: &[usize],
        decode_tokens: usize,
    ) -> anyhow::Result<Self> {
        let mut lengths = lengths.to_vec();
        lengths.sort_unstable();
        lengths.dedup();
        let longest = lengths.last().copied().unwrap_or(1);
        let vocab_size = engine.model().config.vocab_size;
        let segments = args.prompt.segments(longest, vocab_size);
        for spec in specs {
            plan(&segments, &spec.mode_for(0), engine.model())
                .map_err(|error| error.context(format!("plan {spec}")))?;
        }
        Ok(Self {
            args,
            engine,
            specs,
            lengths,
            segments,
            decode_tokens,
        })
    }

    /// All rounds of all lengths: those done before and those run now, each given to `keep` at once.
    pub(super) async fn measure(
        &self,
        mut rounds: Vec<Round>,
        mut keep: impl FnMut(&Round) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<Round>> {
        let open = self.open_lengths(&rounds);
        if open.is_empty() {
            return Ok(rounds);
        }
        let (args, modes) = (self.args, self.modes());
        let stock = Stock::fill(
            args.kv,
            args.scratch.as_deref(),
            self.engine,
            &self.segments,
        )
        .await?;
        let n_rounds: usize = open.iter().map(|(_, done)| 1 + args.repeats - done).sum();
        let bar = experiment::bar(n_rounds * modes.len(), "runs");
        for (n_chunks, done) in open {
            let workload = Workload {
                decode_tokens: self.decode_tokens,
                ..Workload::new(self.engine, &self.segments, &stock, n_chunks)
            };
            workload.round(&modes, 0, || bar.inc(1)).await?; // warms up
            for number in done + 1..=args.repeats {
                let samples = workload.round(&modes, number, || bar.inc(1)).await?;
                let round = Round::new(self.context_tokens(n_chunks), number, self.specs, &samples);
                keep(&round)?;
                rounds.push(round);
            }
        }
        bar.finish_and_clear();
        Ok(rounds)
    }

    fn modes(&self) -> Vec<Mode> {
        self.specs.iter().map(|spec| spec.mode_for(0)).collect()
    }

    fn context_tokens(&self, n_chunks: usize) -> usize {
        n_chunks * self.args.prompt.chunk_tokens
    }

    /// Lengths with rounds to run, each with the number of those that are done.
    fn open_lengths(&self, rounds: &[Round]) -> Vec<(usize, usize)> {
        let done = |&n_chunks: &usize| {
            let context_tokens = self.context_tokens(n_chunks);
            let done = rounds
                .iter()
                .filter(|round| round.context_tokens == context_tokens);
            (n_chunks, done.count())
        };
        let lengths = self.lengths.iter().map(done);
        lengths
            .filter(|(_, done)| *done < self.args.repeats)
            .collect()
    }
}
