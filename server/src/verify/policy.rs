//! Judges policies by the needle prompts: each is compared with plain reuse on the same prompts, and both with full
//! prefill. Pure.

use ragweave_engine::{Blend, Mode, Ratio};
use serde::{Deserialize, Serialize};

use crate::fidelity::Fidelity;
use crate::interval::Interval;

/// Blended prompts whose next tokens are this far from full prefill, in nats on average, and ...
const MAX_NEEDLE_KL: f64 = 1.0;
/// ... agree with it less often than this, might as well come from another model.
const MIN_NEEDLE_AGREEMENT: f64 = 0.5;
/// Stands for the divergence of logits that are not finite, in nats.
const LOST_KL: f64 = 1e4;

/// A policy compared with plain reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nearer to full prefill, at both ends of the interval.
    Helps,
    /// Plain reuse itself, or neither loses more than rounding explains.
    Even,
    /// The interval holds both, so recomputing more is not shown to help.
    Unclear,
    /// Further from full prefill than reuse.
    Hurts,
    /// So far from full prefill that it might be another model's answer, whatever reuse gives.
    Lost,
}

/// One policy over all prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// In the engine's notation.
    pub mode: String,
    #[serde(flatten)]
    pub fidelity: Fidelity,
    /// Rows through attention and MLP over those of full prefill, probes and check layers included.
    pub computed_share: f64,
    /// Divergence from full prefill less that of reuse, paired by prompt, in nats: below zero is better than reuse.
    pub kl_vs_reuse: Interval,
    /// Share of equal next tokens less that of reuse, paired by prompt: above zero is better than reuse.
    pub top1_vs_reuse: Interval,
    pub outcome: Outcome,
}

/// Results of prompts with one fact per chunk, under several policies and under plain reuse, compared with full
/// prefill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Needles {
    pub prompts: usize,
    /// Time it took.
    pub seconds: f64,
    /// Of the model; absent in older files. It determines which layer is the middle one.
    #[serde(default)]
    pub n_layers: Option<usize>,
    pub reuse: Fidelity,
    /// The configured mode.
    pub probed: Compared,
    /// Others that could be configured.
    pub others: Vec<Compared>,
}

/// One prompt under one mode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Along full prefill's answer; `None` if a logit is not finite.
    pub(super) fidelity: Option<Fidelity>,
    pub(super) computed_share: f64,
}

impl Sample {
    fn kl(&self) -> f64 {
        self.fidelity
            .map_or(LOST_KL, |fidelity| fidelity.mean_kl.min(LOST_KL))
    }

    fn top1(&self) -> f64 {
        self.fidelity
            .map_or(0.0, |fidelity| fidelity.top1_agreement)
    }
}

/// The mean over prompts; a prompt counts the same whether it has many or few tokens. `samples` is not empty.
pub(super) fn overall(samples: &[Sample]) -> Fidelity {
    let n = samples.len().max(1) as f64;
    let positions = samples
        .iter()
        .map(|sample| sample.fidelity.map_or(1, |fidelity| fidelity.positions));
    let largest = |sample: &Sample| sample.fidelity.map_or(LOST_KL, |fidelity| fidelity.max_kl);
    Fidelity {
        positions: positions.sum(),
        mean_kl: samples.iter().map(Sample::kl).sum::<f64>() / n,
        max_kl: samples.iter().map(largest).fold(0.0, f64::max).min(LOST_KL),
        top1_agreement: samples.iter().map(Sample::top1).sum::<f64>() / n,
    }
}

impl Compared {
    /// `samples` and `reuse`: prompt by prompt, the same number of each. `rounding`: nats on average that rounding
    /// explains; if neither loses more, there is nothing to win back.
    pub(super) fn new(mode: &Mode, samples: &[Sample], reuse: &[Sample], rounding: f64) -> Self {
        let fidelity = overall(samples);
        let kl_vs_reuse = difference(samples, reuse, Sample::kl);
        let top1_vs_reuse = difference(samples, reuse, Sample::top1);
        let shares: f64 = samples.iter().map(|sample| sample.computed_share).sum();
        let reused = overall(reuse);
        let is_even =
            *mode == Mode::Reuse || (fidelity.mean_kl <= rounding && reused.mean_kl <= rounding);
        let outcome = match (is_lost(&fidelity), is_even) {
            (true, _) => Outcome::Lost,
            (false, true) => Outcome::Even,
            (false, false) => Outcome::of(&kl_vs_reuse, &top1_vs_reuse),
        };
        Self {
            mode: mode.to_string(),
            fidelity,
            computed_share: shares / samples.len().max(1) as f64,
            kl_vs_reuse,
            top1_vs_reuse,
            outcome,
        }
    }

    /// Whether serving may use it.
    pub fn passes(&self) -> bool {
        match self.outcome {
            Outcome::Helps | Outcome::Even => true,
            Outcome::Unclear | Outcome::Hurts | Outcome::Lost => false,
        }
    }

    /// The blend it is; `None` for full prefill and reuse.
    pub(super) fn blend(&self) -> Option<Blend> {
        match self.mode.parse() {
            Ok(Mode::Blend(blend)) => Some(blend),
            _ => None,
        }
    }

    /// The share of reuse's loss that is won back; negative if it loses more than reuse.
    fn won_back(&self, needles: &Needles) -> f64 {
        -self.kl_vs_reuse.mean / needles.reuse.mean_kl.max(f64::MIN_POSITIVE)
    }

    /// Why it did not pass, with the figures; `None` if it passed.
    pub fn refusal(&self, needles: &Needles) -> Option<String> {
        let Self { mode, fidelity, .. } = self;
        let what = match self.outcome {
            Outcome::Helps | Outcome::Even => return None,
            Outcome::Unclear => "is not shown to be nearer to full prefill than plain reuse",
            Outcome::Hurts => "is further from full prefill than plain reuse",
            Outcome::Lost => {
                return Some(format!(
                    "needles: {} nats from full prefill on average under {mode}, and the same next token in only {:.0} %",
                    nats(fidelity.mean_kl),
                    fidelity.top1_agreement * 100.0
                ));
            }
        };
        let Interval { low, high, .. } = self.kl_vs_reuse;
        Some(format!(
            "{mode} {what}: KL {} nats against {} (95 % interval of the difference {} to {}), same next token {:.0} % \
             against {:.0} %, {} prompts",
            nats(fidelity.mean_kl),
            nats(needles.reuse.mean_kl),
            nats(low),
            nats(high),
            fidelity.top1_agreement * 100.0,
            needles.reuse.top1_agreement * 100.0,
            needles.prompts,
        ))
    }
}

/// A divergence for people to read; beyond [`LOST_KL`] only that, since the largest floats have 300 digits.
pub(super) fn nats(kl: f64) -> String {
    match kl {
        _ if kl >= LOST_KL => "over 10000".to_owned(),
        _ if kl <= -LOST_KL => "under -10000".to_owned(),
        _ => format!("{kl:.3}"),
    }
}

fn difference(samples: &[Sample], reuse: &[Sample], of: fn(&Sample) -> f64) -> Interval {
    let pairs = samples.iter().zip(reuse);
    let differences: Vec<f64> = pairs.map(|(this, reuse)| of(this) - of(reuse)).collect();
    Interval::of(&differences).unwrap_or(Interval {
        mean: 0.0,
        low: f64::MIN,
        high: f64::MAX,
    })
}

fn is_lost(fidelity: &Fidelity) -> bool {
    fidelity.mean_kl > MAX_NEEDLE_KL && fidelity.top1_agreement < MIN_NEEDLE_AGREEMENT
}

impl Outcome {
    /// A policy helps if it is better by divergence and not worse by most likely token. It hurts if it is worse by
    /// either and better by neither.
    fn of(kl: &Interval, top1: &Interval) -> Self {
        let better = [kl.is_below_zero(), top1.is_above_zero()];
        let worse = [kl.is_above_zero(), top1.is_below_zero()];
        match (better, worse) {
            ([true, _], [_, false]) => Self::Helps,
            ([false, false], [true, _] | [_, true]) => Self::Hurts,
            _ => Self::Unclear,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Helps => "helps",
            Self::Even => "as good as reuse, which loses nothing to win back",
            Self::Unclear => "not shown to be better than reuse",
            Self::Hurts => "worse than reuse",
            Self::Lost => "lost",
        }
    }
}

impl Needles {
    /// The configured mode, then the others.
    pub fn all(&self) -> impl Iterator<Item = &Compared> {
        std::iter::once(&self.probed).chain(&self.others)
    }

    /// Of the policies that help, the one nearest to full prefill, not counting those that recompute everything.
    fn best(&self) -> Option<(&Compared, Blend)> {
        let helping = self.all().filter_map(|compared| {
            let blend = compared.blend()?;
            let helps = compared.outcome == Outcome::Helps && blend.ratio < Ratio::ONE;
            helps.then_some((compared, blend))
        });
        helping.min_by(|(a, _), (b, _)| a.fidelity.mean_kl.total_cmp(&b.fidelity.mean_kl))
    }

    /// A mode to configure instead of one that did not pass.
    pub fn advice(&self) -> String {
        let Some((best, blend)) = self.best() else {
            return "none of the policies measured helps on this model: serve with fusion.mode = \"full\", or search with \
                    `ragweave-eval tune`"
                .to_owned();
        };
        format!(
            "of the policies measured {} helps most (KL {} nats, {:.0} % of reuse's loss won back, same next token {:.0} %): \
             set fusion.selection = \"{}\" and fusion.ratio = {}",
            best.mode,
            nats(best.fidelity.mean_kl),
            best.won_back(self) * 100.0,
            best.fidelity.top1_agreement * 100.0,
            blend.selection,
            blend.ratio
        )
    }
}

#[cfg(test)]
#[path = "policy/tests.rs"]
pub(super) mod tests;
