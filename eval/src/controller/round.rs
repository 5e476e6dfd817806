//! The runs of one cell: full, blend and auto in turn.

use std::time::Instant;

use ragweave_engine::{LayerSource, Mode, Tier};
use ragweave_server::controller::{Auto, Choice, Controller, UnreadSource};

use crate::experiment::rotated;
use crate::metric::ms;
use crate::ttft::workload::{Sample, Sources, Workload, plan};

pub(super) struct Rounds<'a> {
    pub(super) workload: &'a Workload<'a>,
    pub(super) controller: &'a Controller,
    pub(super) blend: Mode,
    pub(super) auto: Auto,
}

/// Times to first token of one round, in ms.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Round {
    pub(super) full_ms: f64,
    pub(super) blend_ms: f64,
    pub(super) auto_ms: f64,
    /// What auto chose, as it names it, and what it expected of it.
    pub(super) chosen: String,
    pub(super) predicted_ms: f64,
    /// Whether what it chose computes as full prefill does.
    pub(super) is_exact: bool,
}

impl Rounds<'_> {
    pub(super) async fn run(
        &self,
        warm_up: usize,
        measured: usize,
        mut done: impl FnMut(),
    ) -> anyhow::Result<Vec<Round>> {
        let mut rounds = Vec::new();
        for number in 0..warm_up + measured {
            let round = self.round(number, &mut done).await?;
            if number >= warm_up {
                rounds.push(round);
            }
        }
        Ok(rounds)
    }

    async fn round(&self, number: usize, done: &mut impl FnMut()) -> anyhow::Result<Round> {
        let (mut full_ms, mut blend_ms, mut chosen) = (0.0, 0.0, None);
        for turn in rotated(3, number) {
            self.workload.stock.settle()?;
            match turn {
                0 => full_ms = ms(self.workload.once(&Mode::Full).await?.ttft),
                1 => blend_ms = ms(self.workload.once(&self.blend).await?.ttft),
                _ => chosen = Some(self.auto().await?),
            }
            done();
        }
        let (sample, choice) = chosen.expect("every turn comes once a round");
        let name = choice.candidates.first().map(|(name, _)| name.clone());
        let chosen = name.unwrap_or_default();
        Ok(Round {
            full_ms,
            blend_ms,
            auto_ms: ms(sample.ttft),
            is_exact: ["full", "exact"].contains(&chosen.as_str()),
            chosen,
            predicted_ms: choice.forecast.seconds * 1e3,
        })
    }

    /// As the pipeline answers a request in mode auto, from its look at the store on.
    async fn auto(&self) -> anyhow::Result<(Sample, Choice)> {
        let start = Instant::now();
        let (workload, controller) = (self.workload, self.controller);
        let widest = plan(&workload.segments, &self.blend, workload.engine.model())?;
        let expected = vec![Some(workload.stock.tier()); workload.segments.chunks.len()];
        let full = controller.full_if_clear(&widest, &expected, &self.auto)?;
        let is_looked_up = full.is_none();
        let (choice, mut sources) = match full {
            Some(full) => (full, workload.no_sources()),
            None => {
                let opening = Instant::now();
                let sources = workload.stock.sources()?;
                controller.opened(sources.len(), opening.elapsed());
                let choice = controller.choose(&widest, &tiers(&sources), &self.auto)?;
                (choice, sources)
            }
        };
        let tiers = tiers(&sources);
        let spare = match is_looked_up {
            true => UnreadSource::take(&choice.plan, &mut sources),
            false => Some(self.not_looked_up()),
        };
        let plan = choice.plan.clone();
        let sample = workload.first_token(start, plan, sources).await?;
        controller.learn(&choice.plan, &tiers, &sample.report);
        spare.into_iter().for_each(|spare| controller.sample(spare));
        Ok((sample, choice))
    }

    /// The first chunk, to be opened after the answer.
    fn not_looked_up(&self) -> UnreadSource {
        let first = self.workload.stock.first(1);
        let n_tokens = self.workload.segments.chunks[0].len();
        UnreadSource::not_looked_up(move || Some((1, n_tokens, first.sources().ok()?.pop()??)))
    }
}

fn tiers(sources: &Sources) -> Vec<Option<Tier>> {
    let tier = |source: &dyn LayerSource| source.expected_tier();
    let tiers = sources.iter().map(|source| source.as_deref().map(tier));
    tiers.collect()
}
