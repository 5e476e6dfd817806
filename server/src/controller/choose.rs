//! Chooses the plan to run: lists the candidates that keep the quality floor, and takes the best of them. Pure.

use ragweave_engine::{Blend, ChunkState, EngineError, FusionPlan, Mode, Policy, Ratio, Tier};

use super::job::{Job, Worker};
use super::rates::{Forecast, Rates};
use crate::mode_choice::Auto;

/// A plan that is not exact has to save at least this share of the time of the best exact one.
const WORTH: f64 = 0.01;
/// A plan about which little is known is assumed to be faster than predicted, by at most this share. So it is tried now
/// and then, and the cost to a request is bounded.
const MAX_BENEFIT_OF_DOUBT: f64 = 0.05;
/// Recomputing more at no cost: the steps of the ratio, and the extra time that counts as none.
const STEP_PERCENT: u8 = 5;
const FREE: f64 = 0.005;
/// Stored KV is not even looked up if full prefill beats every other plan by this share.
const CLEAR: f64 = 0.05;

/// A plan and its predicted time.
struct Candidate {
    plan: FusionPlan,
    /// The mode's notation; `exact` for stored KV that is exact and nothing else.
    name: String,
    forecast: Forecast,
    /// Whether its result is the same as that of full prefill.
    is_exact: bool,
}

/// The plan to run, and why.
#[derive(Debug, Clone)]
pub struct Choice {
    pub plan: FusionPlan,
    pub forecast: Forecast,
    pub reason: String,
    /// All candidates by name, with their forecasts; the chosen one first.
    pub candidates: Vec<(String, Forecast)>,
}

/// Forecasts plans of one prompt.
pub(super) struct Forecaster<'a> {
    pub(super) rates: &'a Rates,
    pub(super) worker: Worker<'a>,
    /// Where each chunk's KV is stored.
    pub(super) tiers: &'a [Option<Tier>],
}

impl Forecaster<'_> {
    /// The best plan for a prompt that was planned as the blend.
    ///
    /// # Errors
    /// As [`FusionPlan::in_mode`].
    pub(super) fn choose(&self, plan: &FusionPlan, auto: &Auto) -> Result<Choice, EngineError> {
        Ok(best(self.candidates(plan, auto)?))
    }

    /// Full prefill, if it wins even when every chunk is stored, with the time of the lookups counted: then nothing
    /// needs to be looked up. In `plan` every chunk is a hit.
    ///
    /// # Errors
    /// As [`FusionPlan::in_mode`].
    pub(super) fn full_if_clear(
        &self,
        plan: &FusionPlan,
        auto: &Auto,
    ) -> Result<Option<Choice>, EngineError> {
        let mut candidates = self.candidates(plan, auto)?;
        let opening = self.rates.open_seconds(plan.chunk_states().len());
        for candidate in candidates.iter_mut().skip(1) {
            candidate.forecast.seconds += opening;
        }
        let mut choice = best(candidates);
        let others = choice
            .candidates
            .iter()
            .skip(1)
            .map(|(_, other)| other.seconds);
        let next = others.fold(f64::INFINITY, f64::min);
        let is_clear = choice.forecast.seconds * (1.0 + CLEAR) < next;
        choice
            .reason
            .push_str(", even with all KV stored: not looked up");
        Ok((is_clear && *choice.plan.mode() == Mode::Full).then_some(choice))
    }

    /// Every plan that keeps the floor, full prefill first.
    fn candidates(&self, plan: &FusionPlan, auto: &Auto) -> Result<Vec<Candidate>, EngineError> {
        let full = plan.in_mode(Mode::Full, self.worker.model)?;
        let mut candidates = vec![self.candidate(full, "full", true)];
        let states = plan.chunk_states();
        if states.contains(&ChunkState::Hit { exact: true }) {
            candidates.push(self.candidate(plan.exact_only(), "exact", true));
        }
        let is_whole = auto.blend.ratio == Ratio::ONE && auto.blend.selection.policy != Policy::All;
        if states.contains(&ChunkState::Hit { exact: false }) && !is_whole {
            candidates.push(self.blend(plan, &auto.blend)?);
        }
        Ok(candidates)
    }

    fn candidate(&self, plan: FusionPlan, name: &str, is_exact: bool) -> Candidate {
        let job = Job::new(&plan, self.tiers, self.worker, true);
        Candidate {
            forecast: self.rates.forecast(&job),
            name: name.to_owned(),
            plan,
            is_exact,
        }
    }

    /// The blend. If it waits for stored KV, its ratio is raised as far as that costs nothing (CacheBlend 5.1). Half of
    /// the wait is left as a margin, in case computing is slower than predicted.
    fn blend(&self, plan: &FusionPlan, blend: &Blend) -> Result<Candidate, EngineError> {
        let mut best = self.blend_at(plan, blend, blend.ratio)?;
        let allowed = best.forecast.seconds * (1.0 + FREE);
        let least_wait = best.forecast.wait_seconds / 2.0;
        let waits = best.forecast.wait_seconds > best.forecast.seconds * FREE;
        if !waits || blend.selection.policy == Policy::All {
            return Ok(best);
        }
        // Multiples of the step, so that equal requests have equal names.
        let steps = (STEP_PERCENT..100).step_by(STEP_PERCENT.into());
        let larger = steps
            .map(Ratio::of_percent)
            .filter(|&ratio| ratio > blend.ratio);
        for ratio in larger {
            let more = self.blend_at(plan, blend, ratio)?;
            if more.forecast.seconds > allowed || more.forecast.wait_seconds < least_wait {
                break;
            }
            best = more;
        }
        Ok(best)
    }

    fn blend_at(
        &self,
        plan: &FusionPlan,
        blend: &Blend,
        ratio: Ratio,
    ) -> Result<Candidate, EngineError> {
        let mode = Mode::blend(blend.selection.clone(), ratio);
        let plan = plan.in_mode(mode, self.worker.model)?;
        let name = plan.mode().to_string();
        Ok(self.candidate(plan, &name, false))
    }
}

/// The fastest, with a bonus for uncertainty; ties go to the exact ones, which come first.
fn best(mut candidates: Vec<Candidate>) -> Choice {
    let counted = |one: &Candidate| {
        let doubt = MAX_BENEFIT_OF_DOUBT * one.forecast.unsure;
        let worth = if one.is_exact { 0.0 } else { WORTH };
        one.forecast.seconds * (1.0 - doubt) * (1.0 + worth)
    };
    candidates.sort_by(|a, b| counted(a).total_cmp(&counted(b)));
    let reason = reason(&candidates);
    let named = candidates
        .iter()
        .map(|one| (one.name.clone(), one.forecast))
        .collect();
    let chosen = candidates.swap_remove(0);
    Choice {
        plan: chosen.plan,
        forecast: chosen.forecast,
        reason,
        candidates: named,
    }
}

/// Explains to people which plan the best one was chosen over.
fn reason(candidates: &[Candidate]) -> String {
    match candidates {
        [only] => format!("{}: there is no other plan", only.name),
        [chosen, next, ..] => {
            let saved = 1.0 - chosen.forecast.seconds / next.forecast.seconds;
            match saved {
                saved if saved > 0.0 => format!(
                    "{} is predicted to be {:.0} % faster than {}",
                    chosen.name,
                    saved * 100.0,
                    next.name
                ),
                _ if chosen.is_exact && !next.is_exact => {
                    format!(
                        "{} is exact, and {} saves next to nothing",
                        chosen.name, next.name
                    )
                }
                _ => format!(
                    "{} is as fast as {}, and less is known of it",
                    chosen.name, next.name
                ),
            }
        }
        [] => String::new(),
    }
}
