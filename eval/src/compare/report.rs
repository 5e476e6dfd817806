//! What a comparison prints: a row per mode, and retrieval recall.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::trial::{Retrieval, Trial};
use crate::dataset::Question;
use crate::experiment::Column;
use crate::metric::{median, percentile, share};
use crate::mode_spec::{ModeLabel, ModeSpec};
use crate::table::{Table, number, percent};

#[derive(Debug, Serialize)]
pub(super) struct Report {
    model: String,
    device: String,
    questions: usize,
    rows: Vec<Row>,
    retrieval: Retrieval,
}

#[derive(Debug, PartialEq, Serialize)]
struct Row {
    #[serde(flatten)]
    label: ModeLabel,
    n: usize,
    exact_match: Option<f64>,
    ttft_ms_p50: Option<f64>,
    ttft_ms_p95: Option<f64>,
    /// Of the tokens whose stored KV was loaded, the share computed again.
    recomputed_share: Option<f64>,
    chunks_missed: usize,
    /// By the questions' `type`.
    by_type: BTreeMap<String, Score>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Score {
    n: usize,
    exact_match: Option<f64>,
}

impl Report {
    pub(super) fn new(
        [model, device]: [String; 2],
        questions: &[Question],
        specs: &[ModeSpec],
        trials: &[Trial],
        retrieval: Retrieval,
    ) -> Self {
        let row = |(mode, spec): (usize, &ModeSpec)| {
            let of_mode: Vec<&Trial> = trials.iter().filter(|trial| trial.mode == mode).collect();
            Row::new(spec, questions, &of_mode)
        };
        Self {
            model,
            device,
            questions: questions.len(),
            rows: specs.iter().enumerate().map(row).collect(),
            retrieval,
        }
    }

    pub(super) fn chunks_missed(&self) -> usize {
        self.rows.iter().map(|row| row.chunks_missed).sum()
    }

    fn kinds(&self) -> Vec<&str> {
        let first = self.rows.iter().take(1);
        first
            .flat_map(|row| row.by_type.keys().map(String::as_str))
            .collect()
    }
}

impl Row {
    fn new(spec: &ModeSpec, questions: &[Question], trials: &[&Trial]) -> Self {
        // Answers are greedy: a repeat gives another time, not another answer.
        let firsts: Vec<&&Trial> = trials.iter().filter(|trial| trial.repeat == 0).collect();
        let times: Vec<f64> = trials.iter().map(|trial| trial.ttft_ms).collect();
        let sum = |of: fn(&&Trial) -> usize| -> usize { trials.iter().map(of).sum() };
        let loaded = sum(|trial| trial.tokens_loaded);
        let recomputed = sum(|trial| trial.tokens_recomputed);
        let mut kinds: BTreeMap<String, Vec<bool>> = BTreeMap::new();
        for trial in &firsts {
            let kind = questions[trial.question].kind.clone();
            kinds.entry(kind).or_default().push(trial.is_match);
        }
        Self {
            label: spec.label(),
            n: firsts.len(),
            exact_match: share(firsts.iter().map(|trial| trial.is_match)),
            ttft_ms_p50: median(&times),
            ttft_ms_p95: percentile(&times, 95.0),
            recomputed_share: (loaded > 0).then(|| recomputed as f64 / loaded as f64),
            chunks_missed: sum(|trial| trial.chunks_missed),
            by_type: kinds
                .into_iter()
                .map(|(kind, of)| (kind, Score::of(of)))
                .collect(),
        }
    }

    fn cells(&self, kinds: &[&str]) -> Vec<String> {
        let scores = kinds.iter().map(|&kind| self.by_type.get(kind));
        let scores = scores.map(|score| percent(score.and_then(|score| score.exact_match)));
        COLUMNS
            .iter()
            .map(|(_, cell)| cell(self))
            .chain(scores)
            .collect()
    }
}

impl Score {
    fn of(matches: Vec<bool>) -> Self {
        Self {
            n: matches.len(),
            exact_match: share(matches),
        }
    }
}

const COLUMNS: [Column<Row>; 7] = [
    ("mode", |row| row.label.policy.clone()),
    ("ratio", |row| number(row.label.ratio, 2)),
    ("n", |row| row.n.to_string()),
    ("exact match", |row| percent(row.exact_match)),
    ("TTFT ms p50", |row| number(row.ttft_ms_p50, 2)),
    ("p95", |row| number(row.ttft_ms_p95, 2)),
    ("recomputed", |row| percent(row.recomputed_share)),
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (questions, retrieval) = (self.questions, &self.retrieval);
        let (model, device) = (&self.model, &self.device);
        writeln!(
            f,
            "{questions} questions, model {model} on {device}, named chunks in prompt order\n"
        )?;
        let kinds = self.kinds();
        let names = kinds
            .iter()
            .map(|&kind| if kind.is_empty() { "untyped" } else { kind });
        let columns = COLUMNS.iter().map(|(header, _)| *header);
        let header: Vec<&str> = columns.chain(names).collect();
        let mut table = Table::new(&header);
        self.rows
            .iter()
            .for_each(|row| table.push(row.cells(&kinds)));
        writeln!(f, "{table}\n")?;
        write!(
            f,
            "retrieval: {} of {} questions have all gold chunks among the best {}",
            percent(retrieval.recall),
            retrieval.n,
            retrieval.top_k
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(kind: &str) -> Question {
        Question {
            id: String::new(),
            question: "?".to_owned(),
            answers: vec!["a".to_owned()],
            kind: kind.to_owned(),
            gold_chunks: Vec::new(),
            context_chunks: vec!["d#0".to_owned()],
        }
    }

    fn trial(question: usize, repeat: usize, is_match: bool, ttft_ms: f64) -> Trial {
        Trial {
            question,
            mode: 0,
            repeat,
            is_match,
            ttft_ms,
            tokens_loaded: 100,
            tokens_recomputed: 10,
            chunks_missed: 1,
        }
    }

    #[test]
    fn repeats_add_times_and_not_questions() {
        let questions = [question("local"), question("far")];
        let trials = [
            trial(0, 0, true, 10.0),
            trial(0, 1, true, 30.0),
            trial(1, 0, false, 20.0),
            trial(1, 1, false, 40.0),
        ];
        let row = Row::new(
            &"first-k:0.1".parse().unwrap(),
            &questions,
            &trials.iter().collect::<Vec<_>>(),
        );
        assert_eq!((row.n, row.exact_match), (2, Some(0.5)));
        assert_eq!(row.ttft_ms_p50, Some(25.0));
        assert_eq!(row.recomputed_share, Some(0.1));
        assert_eq!(row.chunks_missed, 4);
        assert_eq!(
            row.by_type["local"],
            Score {
                n: 1,
                exact_match: Some(1.0)
            }
        );
        assert_eq!(
            row.by_type["far"],
            Score {
                n: 1,
                exact_match: Some(0.0)
            }
        );
    }

    #[test]
    fn a_mode_that_loads_nothing_has_no_recomputed_share() {
        let trials = [Trial {
            tokens_loaded: 0,
            tokens_recomputed: 0,
            ..trial(0, 0, true, 1.0)
        }];
        let row = Row::new(
            &"full".parse().unwrap(),
            &[question("")],
            &trials.iter().collect::<Vec<_>>(),
        );
        assert_eq!(row.recomputed_share, None);
        assert_eq!(row.label.policy, "full");
    }
}
