//! A finished search in words.

use std::path::Path;

use super::confirm::Tried;
use super::evidence::{Evidence, Row, TUNED};
use super::search::{Figures, REUSE};
use crate::experiment::Column;
use crate::table::{Table, number, percent};

const COLUMNS: [Column<Figures>; 8] = [
    ("policy", |of| of.spec.clone()),
    ("n", |of| of.n.to_string()),
    ("exact match", |of| percent(of.exact_match)),
    ("full", |of| percent(of.full_exact_match)),
    ("KL", |of| number(Some(of.kl), 4)),
    ("top-1", |of| percent(Some(of.top1_agreement))),
    ("computed", |of| percent(Some(of.computed_share))),
    ("TTFT ms p50", |of| number(Some(of.ttft_ms_p50), 2)),
];

impl Evidence {
    /// The figures as a table, and what was chosen by them.
    pub(super) fn describe(&self, is_dry: bool, data: &Path) -> String {
        let names = COLUMNS.map(|(name, _)| name);
        let mut table = Table::new(&[&[""], &names[..]].concat());
        for Row { figures, on_front } in &self.rows {
            let mark = match (figures.spec == self.chosen, on_front) {
                (true, _) => "chosen",
                (false, true) => "front",
                (false, false) => "",
            };
            let cells = COLUMNS.iter().map(|(_, cell)| cell(figures));
            table.push(std::iter::once(mark.to_owned()).chain(cells).collect());
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
    use crate::tune::evidence::Asked;
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
