//! One prompt token by token: how far its stored KV is from full prefill at every layer, and which
//! tokens each policy recomputes.

use std::collections::BTreeMap;

use anyhow::ensure;
use ragweave_engine::DeviationMap;
use serde::{Deserialize, Serialize};

use crate::dataset::{Dataset, Example};
use crate::examiner::{Examiner, Prepared};
use crate::mode_spec::ModeSpec;
use crate::subject::Subject;

/// The ratio whose selections are shown, or the nearest that is measured.
const SHOWN_RATIO: f64 = 0.15;

/// Rows are the tokens of chunks that are not exact.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HeatMap {
    pub(crate) dataset: String,
    #[serde(default)]
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) question: String,
    /// The text of each row's token.
    pub(crate) tokens: Vec<String>,
    /// Prompt positions, ascending.
    pub(crate) rows: Vec<usize>,
    /// Relative squared distance: `[n_layers][rows]`.
    pub(crate) layers: Vec<Vec<Option<f32>>>,
    /// Each chunk's range in `rows`.
    #[serde(default)]
    pub(crate) chunks: Vec<(usize, usize)>,
    /// By spec, the prompt positions recomputed at the last layer.
    #[serde(default)]
    pub(crate) selected: BTreeMap<String, Vec<usize>>,
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
        let examiner = Examiner(&subject.engine);
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
            layers: map
                .layers
                .iter()
                .map(|layer| layer.iter().copied().map(Some).collect())
                .collect(),
            selected,
        })
    }

    /// Lists that belong together have one length.
    ///
    /// # Errors
    /// Names the field that has another.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let n = self.rows.len();
        let lists = self.layers.iter().enumerate();
        let lists = lists.map(|(layer, values)| (format!("layers[{layer}]"), values.len()));
        for (field, len) in [("tokens".to_owned(), self.tokens.len())]
            .into_iter()
            .chain(lists)
        {
            ensure!(
                len == n,
                "field `heatmap.{field}` has {len} values where `heatmap.rows` has {n}"
            );
        }
        for (number, (start, end)) in self.chunks.iter().enumerate() {
            ensure!(
                start <= end && *end <= n,
                "field `heatmap.chunks[{number}]` is [{start}, {end}], not a range of the {n} rows"
            );
        }
        Ok(())
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
    use super::{HeatMap, shown};
    use crate::mode_spec::ModeSpec;

    #[test]
    fn chunks_and_layers_fit_the_rows() {
        let map = |layers: &str, chunks: &str| -> HeatMap {
            let text = format!(
                r#"{{"dataset": "d", "tokens": ["a", "b"], "rows": [4, 5], "layers": {layers},
                    "chunks": {chunks}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        assert!(map("[[0.1, null]]", "[[0, 2]]").check().is_ok());
        for (layers, chunks, field) in [
            ("[[0.1]]", "[]", "heatmap.layers[0]"),
            ("[]", "[[0, 1], [1, 3]]", "heatmap.chunks[1]"),
            ("[]", "[[2, 1]]", "heatmap.chunks[0]"),
        ] {
            let error = map(layers, chunks).check().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }

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
