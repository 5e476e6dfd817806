//! Which rows are alive: before the first layer, once the policies have seen what they must, and at
//! the layers where fresh and stored KV are compared.

use std::collections::BTreeSet;
use std::time::Instant;

use super::blend::Mode;
use super::deviation::{Fresh, Pair};
use super::plan::FusionPlan;
use super::policy::{self, Member, Probe, Selector};
use super::prefill::{FusionContext, Interrupt};
use super::probe::QuestionProbe;
use super::recompute::{Run, embed};
use super::rows::candidates;
use super::selection::Policy;
use super::stored::{Placed, Rows};
use crate::kernel::FusionBackend;

impl<B: FusionBackend> Run<B> {
    /// Lets the policies look at the prompt, and makes the rows alive at layer 0.
    pub(super) fn choose_rows(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        plan: &FusionPlan,
    ) -> Result<(), Interrupt> {
        let chosen: Vec<usize> = match plan.mode() {
            Mode::Full | Mode::Reuse => return Ok(()),
            Mode::Blend(blend) if blend.selection.policy == Policy::All => {
                (0..plan.n_tokens()).collect()
            }
            // Nothing to choose from, so nothing to look at.
            Mode::Blend(_) if self.candidates.is_empty() => return Ok(()),
            Mode::Blend(_) => {
                let start = Instant::now();
                let selector = self.selector(ctx, plan)?;
                self.probe = start.elapsed().saturating_sub(self.stored.waited());
                self.selector.insert(selector).initial_rows()
            }
        };
        let alive: BTreeSet<usize> = self.always.iter().copied().chain(chosen).collect();
        self.alive = Rows::new(ctx, alive.into_iter().collect());
        self.hidden = embed(ctx, plan, &self.alive.positions);
        Ok(())
    }

    fn selector(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        plan: &FusionPlan,
    ) -> Result<Selector, Interrupt> {
        let n_layers = ctx.decoder.config().num_hidden_layers;
        let candidates = candidates(plan, n_layers);
        let members = match plan.mode() {
            Mode::Blend(blend) => policy::members(&blend.selection.policy, n_layers),
            Mode::Full | Mode::Reuse => Vec::new(),
        };
        let (mut scores, mut check) = (Vec::new(), None);
        for member in members {
            scores.push(match member {
                Member::Checked(found) => {
                    check = Some(found);
                    None
                }
                Member::Ranked(ranker) => {
                    let observed = match ranker.probe() {
                        Some(probe) => self.observe(ctx, plan, &probe)?,
                        None => Vec::new(),
                    };
                    Some(ranker.scores(&candidates, &observed))
                }
            });
        }
        Ok(Selector::new(candidates, scores, check))
    }

    fn observe(
        &mut self,
        ctx: &mut FusionContext<'_, B>,
        plan: &FusionPlan,
        probe: &Probe,
    ) -> Result<Vec<Vec<f32>>, Interrupt> {
        match probe {
            Probe::Truth(deviation) => self.true_deviation(ctx, plan, *deviation),
            Probe::Question {
                layers,
                keys,
                pooling,
            } => {
                let probe = QuestionProbe {
                    layers,
                    keys: *keys,
                    pooling: *pooling,
                    n_question: plan.question_rows().len(),
                };
                self.question_attention(ctx, plan, &probe)
            }
        }
    }

    /// The rows alive after the policy compared fresh and stored KV, ascending; `None` where it
    /// does not compare at this layer.
    pub(super) fn compare(
        &mut self,
        layer_idx: usize,
        fresh: &Fresh<B>,
        placed: &Placed<B>,
    ) -> Option<Vec<usize>> {
        let selector = self.selector.as_ref()?;
        let wanted = selector.deviation_at(layer_idx)?;
        let compared = self.alive_candidates();
        if compared.is_empty() {
            return None;
        }
        let pair = Pair::of(&compared, &self.alive.positions, fresh, placed);
        let deviation = pair.distance(wanted);
        let kept = selector.keep(layer_idx, &compared, &deviation);
        self.deviation_left = Some(share_left(&compared, &deviation, &kept));
        let alive: BTreeSet<usize> = self.always.iter().copied().chain(kept).collect();
        Some(alive.into_iter().collect())
    }
}

/// Of the deviation of `rows`, the share of those that are not in `kept`; both ascending. 0 where
/// nothing deviates. Deviations that are not finite are left out.
fn share_left(rows: &[usize], deviation: &[f32], kept: &[usize]) -> f64 {
    let (mut left, mut total) = (0.0, 0.0);
    for (row, &deviation) in rows.iter().zip(deviation) {
        let deviation = if deviation.is_finite() {
            f64::from(deviation)
        } else {
            0.0
        };
        total += deviation;
        if kept.binary_search(row).is_err() {
            left += deviation;
        }
    }
    if total > 0.0 { left / total } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::share_left;

    #[test]
    fn what_is_left_is_the_part_of_rows_not_kept() {
        assert_eq!(share_left(&[3, 5, 9], &[1.0, 2.0, 5.0], &[9]), 0.375);
        assert_eq!(share_left(&[3, 5], &[f32::NAN, 2.0], &[3]), 1.0);
        assert_eq!(share_left(&[3, 5], &[0.0, 0.0], &[]), 0.0);
    }
}
