//! A finished search in words.

use std::path::Path;

use ragweave_server::interval::FEW;

use super::{Asked, Evidence, Row, TUNED};
use crate::table::{Table, number, percent};
use crate::tune::choice::REUSE;
use crate::tune::confirm::Tried;
use crate::tune::search::Figures;

impl Evidence {
    /// The figures as a table, and what became of them.
    pub(in crate::tune) fn describe(&self, is_dry: bool, data: &Path) -> String {
        let header = [
            "",
            "policy",
            "n",
            "exact match",
            "full",
            "KL",
            "top-1",
            "computed",
            "TTFT ms p50",
        ];
        let mut table = Table::new(&header);
        for Row { figures, on_front } in &self.rows {
            let mark = match (figures.spec == self.chosen, on_front) {
                (true, _) => "chosen",
                (false, true) => "front",
                (false, false) => "",
            };
            table.push(vec![
                mark.to_owned(),
                figures.spec.clone(),
                figures.n.to_string(),
                percent(figures.exact_match),
                percent(figures.full_exact_match),
                number(Some(figures.kl), 4),
                percent(Some(figures.top1_agreement)),
                percent(Some(figures.computed_share)),
                number(Some(figures.ttft_ms_p50), 2),
            ]);
        }
        let written = match is_dry {
            true => "not written (--dry-run)".to_owned(),
            false => format!("written to {}", data.join(TUNED).display()),
        };
        format!("{table}\n\n{}\n{written}", self.outcome())
    }

    /// What was chosen and confirmed, on what, a line each.
    fn outcome(&self) -> String {
        let mut lines = vec![format!("{}; {}", self.basis(), self.asked.source)];
        lines.extend(self.refuted.iter().map(|tried| self.refutation(tried)));
        lines.push(self.choice());
        let reuse = self.rows.iter().find(|row| row.figures.spec == REUSE);
        if reuse.is_some_and(|row| self.limits.are_kept_by(&row.figures)) {
            lines.push(
                "plain reuse is within the limits, and computes less than any policy".to_owned(),
            );
        }
        lines.extend(self.doubt());
        lines.join("\n")
    }

    /// What the choice rests on.
    pub(super) fn basis(&self) -> String {
        let Asked {
            chosen_on,
            kept_back,
            ..
        } = &self.asked;
        match self.confirmed_on {
            Some(confirmed_on) => {
                format!("chosen on {chosen_on} questions and confirmed on {confirmed_on} others")
            }
            None => format!(
                "searched on {chosen_on} questions, with {kept_back} others kept back to confirm a choice"
            ),
        }
    }

    /// What is said of a policy that was chosen or confirmed on few questions.
    pub(super) fn doubt(&self) -> Option<String> {
        let is_doubtful = self.confirmed_on.is_some() && self.asked.is_few();
        is_doubtful.then(|| {
            format!(
                "fewer than {FEW} questions, to choose on or to confirm, tell little: give more. `serve` warns of this \
                 choice"
            )
        })
    }

    fn choice(&self) -> String {
        let chosen = self.rows.iter().find(|row| row.figures.spec == self.chosen);
        let policies = self.rows.iter().filter(|row| row.figures.spec != REUSE);
        let kept = policies.filter(|row| self.limits.are_kept_by(&row.figures));
        match (chosen, &self.confirmed, kept.count()) {
            (Some(row), Some(confirmed), _) => format!(
                "{} computes least within the limits: {} where it was chosen, {} on the others",
                self.chosen,
                said(&row.figures),
                said(confirmed)
            ),
            _ if !self.refuted.is_empty() => {
                "no choice was confirmed: full prefill is chosen".to_owned()
            }
            (_, _, 0) => {
                "no policy keeps full prefill's quality within the limits: full prefill is chosen"
                    .to_owned()
            }
            (_, _, n) => format!(
                "policies within the limits: {n}, but none is shown to be nearer to full prefill than plain reuse: full \
                 prefill is chosen"
            ),
        }
    }

    fn refutation(&self, tried: &Tried) -> String {
        let Tried { chosen, confirmed } = tried;
        let what = match self.limits.are_confirmed_by(confirmed) {
            false => "does not hold",
            true => {
                "is within the limits on the others, but not nearer to full prefill than plain reuse there"
            }
        };
        format!(
            "{} {what}: {} where it was chosen, {} on the others",
            chosen.spec,
            said(chosen),
            said(confirmed)
        )
    }
}

fn said(figures: &Figures) -> String {
    let fidelity = format!(
        "KL {:.4}, top-1 {}",
        figures.kl,
        percent(Some(figures.top1_agreement))
    );
    match (figures.exact_match, figures.full_exact_match) {
        (Some(_), Some(_)) => format!(
            "exact match {} against {} of full prefill, {fidelity}",
            percent(figures.exact_match),
            percent(figures.full_exact_match)
        ),
        _ => fidelity,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_dir::RunModel;
    use crate::tune::choice::tests::{LIMITS, beside_reuse, figures};
    use crate::tune::source::Places;

    fn evidence(policy: Figures, refuted: Vec<Tried>, held: Option<Figures>) -> Evidence {
        let row = |figures| Row {
            figures,
            on_front: true,
        };
        let reuse = figures(REUSE, None, 0.02, 0.1);
        Evidence {
            model: RunModel {
                name: "tiny".to_owned(),
                fingerprint: "aa".to_owned(),
                layers: 4,
            },
            asked: Asked {
                questions: 10,
                questions_with_answers: 0,
                chosen_on: 7,
                kept_back: 3,
                source: Places::default(),
            },
            limits: LIMITS,
            chosen: held
                .as_ref()
                .map_or("full", |_| policy.spec.as_str())
                .to_owned(),
            confirmed_on: held.as_ref().map(|_| 3),
            confirmed: held,
            refuted,
            rows: vec![row(reuse), row(policy)],
        }
    }

    #[test]
    fn each_reason_for_full_prefill_has_its_own_words() {
        let near = beside_reuse(figures("query:0.05", None, 0.01, 0.3), -0.03);
        let tied = beside_reuse(near.clone(), 0.0);
        let far = figures("query:0.05", None, 3.0, 0.3);
        let of = |policy: &Figures, confirmed: Option<&Figures>| {
            let tried = confirmed.map(|confirmed| Tried {
                chosen: policy.clone(),
                confirmed: confirmed.clone(),
            });
            evidence(policy.clone(), tried.into_iter().collect(), None).outcome()
        };
        for (text, words) in [
            (of(&far, None), "no policy keeps full prefill's quality"),
            (of(&tied, None), "none is shown to be nearer"),
            (of(&near, Some(&far)), "query:0.05 does not hold"),
            (of(&near, Some(&tied)), "query:0.05 is within the limits on"),
        ] {
            assert!(text.contains(words), "{text}");
            assert!(text.contains("full prefill is chosen"), "{text}");
            assert!(text.contains("searched on 7 questions"), "{text}");
        }
    }

    #[test]
    fn a_policy_chosen_on_few_questions_is_doubted_and_full_prefill_is_not() {
        let near = figures("query:0.05", None, 0.01, 0.3);
        let chosen = evidence(near.clone(), Vec::new(), Some(near.clone()));
        let text = chosen.outcome();
        assert!(text.contains("confirmed on 3 others"), "{text}");
        assert!(text.contains("fewer than 30 questions"), "{text}");
        let tuned = toml::to_string(&chosen.tuned().unwrap()).unwrap();
        assert!(tuned.contains("confirmed_on = 3"), "{tuned}");
        let full = evidence(near, Vec::new(), None);
        assert_eq!(full.doubt(), None);
        let tuned = toml::to_string(&full.tuned().unwrap()).unwrap();
        assert!(!tuned.contains("confirmed_on"), "{tuned}");
    }
}
