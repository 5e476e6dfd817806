//! The runs of a report: which rows belong together, and under which name.

use super::chart::style::Style;
use super::document::{Block, Key};
use super::mode::{ModeName, OfMode};
use super::palette::Palette;
use super::run::{Content, Run};
use crate::quality::row::Row;
use crate::quality::times::TimesRow;

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
    pub(crate) rows: Vec<&'a Row>,
    pub(crate) times: Vec<&'a TimesRow>,
}

impl<'a> Evidence<'a> {
    pub(crate) fn new(runs: &'a [Run]) -> Self {
        let palette = Palette::new(runs.iter().flat_map(|run| policies(&run.content)));
        Self { runs, palette }
    }

    /// What there is to say about each quality run and dataset, under its name and its notes. The
    /// second value says why there is nothing.
    pub(crate) fn of_scopes(
        &self,
        blocks: impl Fn(&Scope<'a>) -> Vec<Block>,
    ) -> (Vec<Block>, &'static str) {
        let of_scope = |scope: Scope<'a>| match blocks(&scope) {
            blocks if blocks.is_empty() => blocks,
            blocks => {
                let mut all = vec![Block::Heading(scope.label.clone())];
                all.extend(scope.notes());
                all.extend(blocks);
                all
            }
        };
        let is_quality = |run: &Run| matches!(run.content, Content::Quality(..));
        let nothing = match self.runs.iter().any(is_quality) {
            true => "The quality runs that were given hold no rows.",
            false => "No quality run was given; “ragweave-eval quality” makes one.",
        };
        let blocks = self.scopes().into_iter().flat_map(of_scope);
        (blocks.collect(), nothing)
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

    fn scopes_of(&self, run: &'a Run, rows: &'a [Row], times: &'a [TimesRow]) -> Vec<Scope<'a>> {
        let scope = |dataset: &str| Scope {
            label: dataset.to_owned(),
            run,
            rows: self.ranked(rows.iter().filter(|row| row.dataset == dataset)),
            times: times.iter().filter(|row| row.dataset == dataset).collect(),
        };
        let datasets = unique(rows.iter().map(|row| row.dataset.as_str()));
        datasets.into_iter().map(scope).collect()
    }

    /// Rows in the palette's order of their modes.
    pub(crate) fn ranked<R: OfMode>(&self, rows: impl IntoIterator<Item = &'a R>) -> Vec<&'a R> {
        let mut rows: Vec<&R> = rows.into_iter().collect();
        rows.sort_by_key(|row| self.palette.rank(&row.mode()));
        rows
    }

    /// What there is to say about each run of one kind; a run is named where there are several.
    pub(crate) fn of_runs<T: 'a>(
        &self,
        content: impl Fn(&'a Content) -> Option<&'a T>,
        blocks: impl Fn(&'a Run, &'a T) -> Vec<Block>,
    ) -> Vec<Block> {
        let of_kind = |run: &'a Run| Some((run, content(&run.content)?));
        let found: Vec<_> = self.runs.iter().filter_map(of_kind).collect();
        let heading = |run: &Run| {
            let heading = Block::Heading(format!("Run {}", run.name));
            (found.len() > 1).then_some(heading)
        };
        let all = found
            .iter()
            .map(|&(run, content)| heading(run).into_iter().chain(blocks(run, content)));
        all.flatten().collect()
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
        let key =
            |policy: &String| Key::new(self.palette.style(policy).sample(true), policy.as_str());
        policies.iter().map(key).collect()
    }

    /// A legend of modes.
    pub(crate) fn mode_keys(&self, modes: &[ModeName]) -> Vec<Key> {
        let styles = self.palette.mode_styles(modes);
        let key =
            |(mode, style): (&ModeName, Style)| Key::new(style.sample(true), mode.to_string());
        modes.iter().zip(styles).map(key).collect()
    }
}

/// Each name once, in the order in which it first comes.
fn unique<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut unique = Vec::new();
    for name in names {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}

impl Scope<'_> {
    /// The policies that choose rows by a ratio.
    pub(crate) fn chosen_policies(&self) -> Vec<&str> {
        let with_ratio = self.rows.iter().filter(|row| row.mode().ratio.is_some());
        let mut policies: Vec<&str> = with_ratio.map(|row| row.policy.as_str()).collect();
        policies.dedup();
        policies
    }

    pub(crate) fn row(&self, policy: &str, ratio: Option<f64>) -> Option<&Row> {
        let mut rows = self.rows.iter().copied();
        rows.find(|row| row.policy == policy && row.mode().ratio == ratio)
    }

    /// All ratios, ascending.
    pub(crate) fn ratios(&self) -> Vec<f64> {
        self.columns().into_iter().flatten().collect()
    }

    /// The columns of a table by ratio: none first if some row has none, then ascending.
    pub(crate) fn columns(&self) -> Vec<Option<f64>> {
        let ratios = self.rows.iter().map(|row| row.mode().ratio);
        let mut ratios: Vec<Option<f64>> = ratios.collect();
        ratios.sort_by(|one, other| {
            let known = |ratio: &Option<f64>| ratio.unwrap_or(f64::NEG_INFINITY);
            known(one).total_cmp(&known(other))
        });
        ratios.dedup();
        ratios
    }

    /// What the rows say about their dataset, each sentence once.
    pub(crate) fn notes(&self) -> Vec<Block> {
        let notes = self.rows.iter().filter_map(|row| row.note.as_deref());
        let notes = unique(notes.filter(|note| !note.trim().is_empty()));
        let notes = notes.into_iter();
        notes.map(|note| Block::Note(note.to_owned())).collect()
    }
}

fn policies(content: &Content) -> Vec<String> {
    fn of<R: OfMode>(rows: &[R]) -> Vec<String> {
        rows.iter().map(|row| row.mode().policy).collect()
    }
    match content {
        Content::Quality(run, _) => of(&run.rows),
        Content::Ttft(run) => of(&run.rows),
        Content::Load(run) => of(&run.rows),
        Content::Decay(run) => of(&run.rows),
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
