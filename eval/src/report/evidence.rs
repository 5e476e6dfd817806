//! The runs of a report, sorted out: which rows belong together, under which name.

use super::document::{Block, Key};
use super::palette::Palette;
use super::record::{ModeName, QualityRow, TimesRow};
use super::run::{Content, Run};

/// All runs of a report, and the look of each policy they name.
#[derive(Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) runs: &'a [Run],
    pub(crate) palette: Palette,
}

/// What one quality run measured on one dataset.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    /// The dataset, and the run where several runs used it.
    pub(crate) label: String,
    pub(crate) run: &'a Run,
    /// In the palette's order.
    pub(crate) rows: Vec<&'a QualityRow>,
    pub(crate) times: Vec<&'a TimesRow>,
}

impl<'a> Evidence<'a> {
    pub(crate) fn new(runs: &'a [Run]) -> Self {
        let palette = Palette::new(runs.iter().flat_map(|run| policies(&run.content)));
        Self { runs, palette }
    }

    /// One scope per quality run and dataset, in the order of the runs.
    pub(crate) fn scopes(&self) -> Vec<Scope<'a>> {
        let mut scopes: Vec<Scope<'a>> = Vec::new();
        for run in self.runs {
            if let Content::Quality(quality, times) = &run.content {
                let times = times.as_ref().map_or(&[][..], |times| &times.rows);
                scopes.extend(self.scopes_of(run, &quality.rows, times));
            }
        }
        let labels: Vec<String> = scopes.iter().map(|scope| scope.label.clone()).collect();
        for scope in &mut scopes {
            if labels.iter().filter(|&label| *label == scope.label).count() > 1 {
                scope.label = format!("{}, run {}", scope.label, scope.run.name);
            }
        }
        scopes
    }

    /// Why there are no scopes.
    pub(crate) fn lack_of_quality(&self) -> &'static str {
        let is_quality = |run: &Run| matches!(run.content, Content::Quality(..));
        match self.runs.iter().any(is_quality) {
            true => "The quality runs that were given hold no rows.",
            false => "No quality run was given; “ragweave-eval quality” makes one.",
        }
    }

    fn scopes_of(
        &self,
        run: &'a Run,
        rows: &'a [QualityRow],
        times: &'a [TimesRow],
    ) -> Vec<Scope<'a>> {
        let mut datasets: Vec<&str> = Vec::new();
        for row in rows {
            if !datasets.contains(&row.dataset.as_str()) {
                datasets.push(&row.dataset);
            }
        }
        let scope = |dataset: &str| {
            let mut rows: Vec<&QualityRow> =
                rows.iter().filter(|row| row.dataset == dataset).collect();
            rows.sort_by_key(|row| self.palette.rank(&row.mode()));
            Scope {
                label: dataset.to_owned(),
                run,
                rows,
                times: times.iter().filter(|row| row.dataset == dataset).collect(),
            }
        };
        datasets.into_iter().map(scope).collect()
    }

    /// The runs of one kind with what they hold; the label is empty where there is only one.
    pub(crate) fn runs_of<T: ?Sized>(
        &self,
        content: impl Fn(&'a Content) -> Option<&'a T>,
    ) -> Vec<(String, &'a Run, &'a T)> {
        let of_kind = |run: &'a Run| {
            let content = content(&run.content)?;
            Some((format!("Run {}", run.name), run, content))
        };
        let mut found: Vec<_> = self.runs.iter().filter_map(of_kind).collect();
        if let [(label, ..)] = found.as_mut_slice() {
            label.clear();
        }
        found
    }

    /// Each mode once, in the palette's order.
    pub(crate) fn modes(&self, modes: impl IntoIterator<Item = ModeName>) -> Vec<ModeName> {
        let mut modes: Vec<ModeName> = modes.into_iter().collect();
        modes.sort_by_key(|mode| self.palette.rank(mode));
        modes.dedup();
        modes
    }

    /// A legend of policies.
    pub(crate) fn policy_keys(&self, policies: &[String]) -> Vec<Key> {
        let key = |policy: &String| Key {
            sample: self.palette.style(policy).sample(true),
            name: policy.clone(),
        };
        policies.iter().map(key).collect()
    }

    /// A legend of modes.
    pub(crate) fn mode_keys(&self, modes: &[ModeName]) -> Vec<Key> {
        let styles = self.palette.mode_styles(modes);
        let keys = modes.iter().zip(styles).map(|(mode, style)| Key {
            sample: style.sample(true),
            name: mode.to_string(),
        });
        keys.collect()
    }
}

impl Scope<'_> {
    /// The policies that choose rows by a ratio.
    pub(crate) fn chosen_policies(&self) -> Vec<&str> {
        let with_ratio = self.rows.iter().filter(|row| row.mode().ratio.is_some());
        let mut policies: Vec<&str> = with_ratio.map(|row| row.policy.as_str()).collect();
        policies.dedup();
        policies
    }

    pub(crate) fn row(&self, policy: &str, ratio: Option<f64>) -> Option<&QualityRow> {
        let mut rows = self.rows.iter().copied();
        rows.find(|row| row.policy == policy && row.mode().ratio == ratio)
    }

    /// All ratios, ascending.
    pub(crate) fn ratios(&self) -> Vec<f64> {
        let mut ratios: Vec<f64> = self
            .rows
            .iter()
            .filter_map(|row| row.mode().ratio)
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios.dedup();
        ratios
    }

    /// The columns of a table by ratio: none first where some row has none, then ascending.
    pub(crate) fn columns(&self) -> Vec<Option<f64>> {
        let without = self.rows.iter().any(|row| row.mode().ratio.is_none());
        let without = without.then_some(None);
        without
            .into_iter()
            .chain(self.ratios().into_iter().map(Some))
            .collect()
    }

    /// What the rows say about their dataset, each sentence once.
    pub(crate) fn notes(&self) -> Vec<Block> {
        let mut notes: Vec<&str> = Vec::new();
        for note in self.rows.iter().filter_map(|row| row.note.as_deref()) {
            if !note.trim().is_empty() && !notes.contains(&note) {
                notes.push(note);
            }
        }
        notes
            .into_iter()
            .map(|note| Block::Note(note.to_owned()))
            .collect()
    }
}

fn policies(content: &Content) -> Vec<&str> {
    match content {
        Content::Quality(quality, _) => {
            quality.rows.iter().map(|row| row.policy.as_str()).collect()
        }
        Content::Ttft(rows) => rows.iter().map(|row| row.policy.as_str()).collect(),
        Content::Load(rows) => rows.iter().map(|row| row.policy.as_str()).collect(),
        Content::Decay(decay) => decay.rows.iter().map(|row| row.policy.as_str()).collect(),
        Content::Unknown | Content::Unfinished => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, rows: &str) -> Run {
        Run {
            name: name.to_owned(),
            header: serde_json::from_str(r#"{"kind": "quality", "version": 1}"#).unwrap(),
            content: Content::Quality(
                Box::new(serde_json::from_str(&format!("{{\"rows\": {rows}}}")).unwrap()),
                None,
            ),
        }
    }

    #[test]
    fn a_dataset_of_two_runs_is_told_apart_by_the_run() {
        let shared = r#"[{"dataset": "demo", "policy": "full"}]"#;
        let more =
            r#"[{"dataset": "demo", "policy": "full"}, {"dataset": "ruler", "policy": "full"}]"#;
        let runs = [run("one", shared), run("two", more)];
        let scopes = Evidence::new(&runs).scopes();
        let labels: Vec<&str> = scopes.iter().map(|scope| scope.label.as_str()).collect();
        assert_eq!(labels, ["demo, run one", "demo, run two", "ruler"]);
    }

    #[test]
    fn rows_are_sorted_by_policy_and_ratio_and_notes_said_once() {
        let runs = [run(
            "one",
            r#"[{"dataset": "d", "policy": "random", "ratio": 0.1, "note": "n"},
                {"dataset": "d", "policy": "hkvd@2", "ratio": 0.2, "note": "n"},
                {"dataset": "d", "policy": "hkvd@2", "ratio": 0.05, "note": null},
                {"dataset": "d", "policy": "full"}]"#,
        )];
        let scopes = Evidence::new(&runs).scopes();
        let modes: Vec<String> = scopes[0]
            .rows
            .iter()
            .map(|row| row.mode().to_string())
            .collect();
        assert_eq!(modes, ["full", "hkvd@2:0.05", "hkvd@2:0.2", "random:0.1"]);
        assert_eq!(scopes[0].notes().len(), 1);
        assert_eq!(
            scopes[0].columns(),
            [None, Some(0.05), Some(0.1), Some(0.2)]
        );
    }
}
