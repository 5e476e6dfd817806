//! Deviation by token and layer, cut into lines of tokens, with one strip per policy below.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use kuva::plot::colormap::ColorMap;
use kuva::plot::heatmap::Heatmap;
use kuva::render::annotations::ReferenceLine;
use kuva::render::render::render_multiple;
use maud::{Markup, html};

use super::axis::small;
use super::canvas::{Margins, layout, picture, room, shortened, text};
use super::style::Style;
use crate::quality::heat_map::HeatMap;

const CELL: f64 = 16.0;
/// Tokens side by side.
const TOKENS_PER_LINE: usize = 60;
const TEXT_SIZE: f64 = 10.0;
const MAX_TOKEN: usize = 16;
const MAX_NAME: usize = 30;
const TOP: f64 = 16.0;
/// How many shades there are.
const SHADES: usize = 24;
/// Most powers of ten that the scale spans below the largest value.
const DECADES: f64 = 4.0;

/// The map and the strips.
#[derive(Debug)]
pub(crate) struct Heat<'a> {
    pub(crate) map: &'a HeatMap,
    /// Half-open ranges of the map's tokens to draw, each with its name; in order, without overlap.
    pub(crate) chunks: Vec<(String, Range<usize>)>,
    pub(crate) strips: Vec<Strip>,
}

/// The tokens one mode recomputed.
#[derive(Debug)]
pub(crate) struct Strip {
    pub(crate) name: String,
    pub(crate) style: Style,
    pub(crate) positions: HashSet<usize>,
}

/// A logarithmic scale from values to shades.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shading {
    low: f64,
    high: f64,
}

impl Shading {
    /// None if no value is positive.
    pub(crate) fn new(values: impl Iterator<Item = f64>) -> Option<Self> {
        let positive = values.filter(|&value| value > 0.0);
        let (low, high) = positive.fold((f64::INFINITY, 0.0), |(low, high), value| {
            (value.min(low), value.max(high))
        });
        let low = f64::max(low, high / 10f64.powf(DECADES));
        (high > 0.0).then_some(Self {
            low: low.min(high / 1.001),
            high,
        })
    }

    /// From 0 to `SHADES - 1`; what lies below the scale has the lightest.
    fn shade(self, value: f64) -> usize {
        let share = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        ((share * SHADES as f64) as usize).min(SHADES - 1)
    }

    /// The scale with its ends, for a legend.
    pub(crate) fn legend(self) -> Markup {
        html! {
            span { (small(self.low)) }
            svg.key width="264" height="14" viewBox="0 0 264 14" role="img" aria-label="from light to dark" {
                @for shade in 0..SHADES {
                    rect x=(shade * 11) width="12" height="14" fill=(colour(shade)) {}
                }
            }
            span { (small(self.high)) }
        }
    }
}

/// Light to dark, so that it also reads without colour.
fn colour(shade: usize) -> String {
    ColorMap::Inferno.map(1.0 - shade as f64 / (SHADES - 1) as f64)
}

/// Index of a cell's colour: blank, then the shades, then [`UNMARKED`] and one for each strip.
type Paint = usize;
const BLANK: Paint = 0;
const UNMARKED: Paint = SHADES + 1;

impl Heat<'_> {
    /// One picture per line of tokens.
    pub(crate) fn svgs(&self, shading: Shading) -> Vec<Markup> {
        let tokens: Vec<usize> = self.chunks.iter().flat_map(|(_, of)| of.clone()).collect();
        let lines = tokens.len().div_ceil(TOKENS_PER_LINE);
        // Lines of nearly equal length: no last line of three tokens.
        let per_line = tokens.len().div_ceil(lines.max(1)).max(1);
        let line = |tokens| self.line(tokens, per_line, shading);
        tokens.chunks(per_line).map(line).collect()
    }

    fn line(&self, shown: &[usize], per_line: usize, shading: Shading) -> Markup {
        let (names, rows): (Vec<String>, Vec<Vec<Paint>>) =
            self.rows(shown, shading).into_iter().rev().unzip();
        let token = |&index: &usize| shortened(&visible(&self.map.tokens[index]), MAX_TOKEN);
        let tokens: Vec<String> = shown.iter().map(token).collect();
        let room = |names: &[String]| room(names.iter().map(String::as_str), TEXT_SIZE) + 16.0;
        let margins = Margins {
            left: room(&names),
            right: 8.0 + CELL * (per_line - shown.len()) as f64,
            top: TOP,
            bottom: room(&tokens),
        };
        let (n, n_rows) = (shown.len() as f64, rows.len() as f64);
        let size = [
            margins.left + CELL * n + margins.right,
            margins.top + TEXT_SIZE * 1.2 * n_rows + margins.bottom,
        ];
        let layout = layout([(0.5, n + 0.5), (0.5, n_rows + 0.5)], size, &margins)
            .with_x_categories(tokens)
            .with_y_categories(names)
            .with_x_tick_rotate(-90.0)
            .with_show_grid(false)
            .with_tick_size(TEXT_SIZE as u32);
        let layout = self.borders(shown).fold(layout, |layout, (_, border)| {
            let line = ReferenceLine::vertical(border as f64 + 0.5).with_color("#000000");
            layout.with_reference_line(line.with_dasharray("").with_stroke_width(1.4))
        });
        let mut scene = render_multiple(vec![self.heatmap(rows).into()], layout);
        for (name, border) in self.borders(shown) {
            let x = margins.left + CELL * border as f64 + 3.0;
            scene.add(text([x, TOP - 5.0], name, TEXT_SIZE as u32));
        }
        picture(&scene, "heat", "deviation of tokens by layer")
    }

    /// Names and cells: the layers, a blank row, and the strips.
    fn rows(&self, shown: &[usize], shading: Shading) -> Vec<(String, Vec<Paint>)> {
        let layers = self.map.layers.iter().enumerate().map(|(layer, values)| {
            let paint = |&index: &usize| match values[index] {
                Some(value) => 1 + shading.shade(f64::from(value)),
                None => BLANK,
            };
            (format!("layer {layer}"), shown.iter().map(paint).collect())
        });
        let gap = (String::new(), vec![BLANK; shown.len()]);
        let strips = self.strips.iter().enumerate().map(|(n, strip)| {
            let is_marked = |index: usize| strip.positions.contains(&self.map.rows[index]);
            let paint = |&index: &usize| match is_marked(index) {
                true => UNMARKED + 1 + n,
                false => UNMARKED,
            };
            (
                shortened(&strip.name, MAX_NAME),
                shown.iter().map(paint).collect(),
            )
        });
        layers.chain([gap]).chain(strips).collect()
    }

    /// Cells in their colours. The crate maps values from the least to the largest onto 0 to 1; this
    /// undoes it.
    fn heatmap(&self, rows: Vec<Vec<Paint>>) -> Heatmap {
        let shades = (0..SHADES).map(colour);
        let strips = self.strips.iter();
        let strips = strips.map(|strip| strip.style.colour.to_owned());
        let colours: Vec<String> = ["#ffffff".to_owned()]
            .into_iter()
            .chain(shades)
            .chain(["#f1f1f1".to_owned()])
            .chain(strips)
            .collect();
        let paints = || rows.iter().flatten().copied();
        let (low, high) = (paints().min().unwrap_or(0), paints().max().unwrap_or(0));
        let colour = move |share: f64| {
            let paint = low + (share * (high - low) as f64).round() as usize;
            colours.get(paint).cloned().unwrap_or_default()
        };
        let values = rows.iter().map(|row| row.iter().map(|&paint| paint as f64));
        Heatmap::new()
            .with_data(values)
            .with_color_map(ColorMap::Custom(Arc::new(colour)))
            .with_cell_size(1.0)
    }

    /// Chunks that have tokens here, and where they begin, counted from the first token shown.
    fn borders(&self, shown: &[usize]) -> impl Iterator<Item = (&str, usize)> {
        self.chunks.iter().filter_map(|(name, range)| {
            let first = shown.iter().position(|index| range.contains(index))?;
            Some((name.as_str(), first))
        })
    }
}

/// A token with its blanks and line ends made visible.
fn visible(token: &str) -> String {
    let drawn = token.chars().map(|character| match character {
        ' ' | '\u{2581}' | '\u{120}' => '·',
        '\n' | '\u{10a}' => '↵',
        '\t' => '→',
        control if control.is_control() => '�',
        other => other,
    });
    drawn.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(n: usize) -> HeatMap {
        serde_json::from_value(serde_json::json!({
            "dataset": "d", "tokens": vec!["<a>"; n], "rows": (10..10 + n).collect::<Vec<_>>(),
            "layers": [vec![Some(0.5); n], vec![None::<f32>; n]],
        }))
        .unwrap()
    }

    fn heat(map: &HeatMap) -> Heat<'_> {
        Heat {
            map,
            chunks: vec![("chunk 1".to_owned(), 0..map.rows.len())],
            strips: vec![Strip {
                name: "hkvd@2:0.1".to_owned(),
                style: Style::nth(0),
                positions: HashSet::from([10, 12, 999]),
            }],
        }
    }

    fn shading() -> Shading {
        Shading::new([0.5].into_iter()).unwrap()
    }

    #[test]
    fn every_token_is_named_once_and_escaped() {
        let svgs = heat(&map(150)).svgs(shading());
        assert_eq!(svgs.len(), 3);
        let all: String = svgs.into_iter().map(Markup::into_string).collect();
        assert_eq!(all.matches("&lt;a&gt;").count(), 150);
        assert!(!all.contains("<a>"));
    }

    #[test]
    fn strips_mark_the_recomputed_positions() {
        let map = map(5);
        let heat = heat(&map);
        let (name, cells) = heat.rows(&[0, 1, 2, 3, 4], shading()).pop().unwrap();
        assert_eq!(name, "hkvd@2:0.1");
        let marked: Vec<bool> = cells.iter().map(|&cell| cell != UNMARKED).collect();
        assert_eq!(marked, [true, false, true, false, false]);
        let colour = format!("\"{}\"", Style::nth(0).colour);
        let svg = heat.svgs(shading()).remove(0).into_string();
        assert_eq!(svg.matches(&colour).count(), 2, "{svg}");
    }

    #[test]
    fn shades_grow_with_the_logarithm() {
        let shading = Shading::new([1e-9, 1e-2, 1.0].into_iter()).unwrap();
        assert_eq!(shading.shade(0.0), 0);
        assert_eq!(shading.shade(1e-2), SHADES / 2);
        assert_eq!(shading.shade(1.0), SHADES - 1);
        assert_eq!(Shading::new([0.0].into_iter()), None);
    }
}
