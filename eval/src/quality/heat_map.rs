//! One prompt token by token: how far its stored KV is from full prefill at every layer, and which
//! tokens each policy recomputes.

use std::collections::BTreeMap;

use ragweave_engine::DeviationMap;
use serde::Serialize;

use crate::dataset::{Dataset, Example};
use crate::examiner::{Examiner, Prepared};
use crate::mode_spec::ModeSpec;
use crate::subject::Subject;

/// The ratio whose selections are shown, or the nearest that is measured.
const SHOWN_RATIO: f64 = 0.15;

/// Rows are the tokens of chunks that are not exact.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HeatMap {
    dataset: String,
    id: String,
    question: String,
    /// The text of each row's token.
    tokens: Vec<String>,
    /// Prompt positions, ascending.
    rows: Vec<usize>,
    /// Relative squared distance: `[n_layers][rows]`.
    layers: Vec<Vec<f32>>,
    /// Each chunk's range in `rows`.
    chunks: Vec<(usize, usize)>,
    /// By spec, the prompt positions recomputed at the last layer.
    selected: BTreeMap<String, Vec<usize>>,
}

impl HeatMap {
    /// Maps a prompt and runs the modes at the shown ratio once more, for their choice of rows.
    pub(crate) async fn new(
        subject: &Subject,
        dataset: &Dataset,
        example: &Example,
        prepared: &Prepared,
        map: &DeviationMap,
        specs: &[ModeSpec],
    ) -> anyhow::Result<Self> {
        let ids = prepared.segments.token_ids();
        let token = |&row: &usize| subject.decode(&ids[row..=row]);
        let examiner = Examiner {
            engine: &subject.engine,
        };
        let mut selected = BTreeMap::new();
        for spec in shown(specs) {
            let trace = examiner.trace(prepared, spec.mode_for(0), &[]).await?;
            selected.insert(spec.to_string(), trace.report.recomputed_rows);
        }
        Ok(Self {
            dataset: dataset.name.clone(),
            id: example.id.clone(),
            question: example.question.clone(),
            tokens: map.rows.iter().map(token).collect::<Result<_, _>>()?,
            chunks: ranges(prepared, &map.rows),
            rows: map.rows.clone(),
            layers: map.layers.clone(),
            selected,
        })
    }
}

/// Of each policy the spec whose ratio is nearest to the shown one.
fn shown(specs: &[ModeSpec]) -> Vec<&ModeSpec> {
    let mut nearest: BTreeMap<String, (f64, &ModeSpec)> = BTreeMap::new();
    for spec in specs {
        let label = spec.label();
        let Some(ratio) = label.ratio else { continue };
        let distance = (ratio - SHOWN_RATIO).abs();
        let known = nearest.entry(label.policy).or_insert((distance, spec));
        if distance < known.0 {
            *known = (distance, spec);
        }
    }
    nearest.into_values().map(|(_, spec)| spec).collect()
}

/// Where the chunks begin and end among `rows`; those without a row are left out.
fn ranges(prepared: &Prepared, rows: &[usize]) -> Vec<(usize, usize)> {
    let mut start = prepared.segments.prefix.len();
    let mut ranges = Vec::new();
    for chunk in &prepared.segments.chunks {
        let place = |position: usize| rows.partition_point(|&row| row < position);
        let range = (place(start), place(start + chunk.len()));
        if range.0 < range.1 {
            ranges.push(range);
        }
        start += chunk.len();
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::shown;
    use crate::mode_spec::ModeSpec;

    #[test]
    fn each_policy_is_shown_once_at_the_nearest_ratio() {
        let specs: Vec<ModeSpec> = [
            "full",
            "first-k:0.05",
            "first-k:0.2",
            "first-k:0.1",
            "query:0.9",
        ]
        .map(|text| text.parse().unwrap())
        .into();
        let names: Vec<String> = shown(&specs).iter().map(ToString::to_string).collect();
        // 0.1 and 0.2 are equally far; the one named first stays unless another is nearer.
        assert!(names == ["first-k:0.2", "query:0.9"] || names == ["first-k:0.1", "query:0.9"]);
    }
}
