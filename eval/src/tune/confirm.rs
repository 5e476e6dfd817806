//! Whether a choice holds on questions it was not made on.

use serde::Serialize;

use super::ask::Ask;
use super::choice::{Limits, is_nearer};
use super::corpus::Corpus;
use super::search::{Figures, Search};
use crate::mode_spec::ModeSpec;

/// So many of the modes that kept the quality are asked. More would be choosing on these questions.
const MAX_TRIED: usize = 3;

/// What the questions that were kept back say of the modes that were chosen on the others.
#[derive(Debug, Default)]
pub(super) struct Confirmation {
    /// The mode that held, on the questions it was chosen on and on those that confirm it.
    pub(super) held: Option<Tried>,
    /// Those tried before it that did not hold.
    pub(super) refuted: Vec<Tried>,
}

/// A mode on either part of the questions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Tried {
    pub(super) chosen: Figures,
    pub(super) confirmed: Figures,
}

impl Confirmation {
    /// Asks the choices in turn, those that compute least first, until one holds.
    pub(super) async fn find(
        corpus: &Corpus<'_>,
        asks: &[Ask],
        choices: &[Figures],
        limits: &Limits,
    ) -> anyhow::Result<Self> {
        let mut search = Search::new(corpus, asks);
        let mut found = Self::default();
        for chosen in choices.iter().take(MAX_TRIED) {
            let spec: ModeSpec = chosen.spec.parse()?;
            search.run(&[spec], asks.len()).await?;
            if found.take(chosen, &search.figures(), limits) {
                break;
            }
        }
        Ok(found)
    }

    /// Whether the mode held. `figures`: its own, then those of reuse on the same questions.
    fn take(&mut self, chosen: &Figures, figures: &[Figures], limits: &Limits) -> bool {
        let Some(confirmed) = figures.first() else {
            return false;
        };
        let holds = limits.are_confirmed_by(confirmed) && is_nearer(confirmed, figures, limits);
        let tried = Tried {
            chosen: chosen.clone(),
            confirmed: confirmed.clone(),
        };
        match holds {
            true => self.held = Some(tried),
            false => self.refuted.push(tried),
        }
        holds
    }
}
