//! Deviation by token and layer, cut into lines of tokens, with one strip per policy below.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use maud::{Markup, html};

use super::geometry::px;
use super::style::Style;
use super::{CHAR_WIDTH, shortened};

const CELL: f64 = 16.0;
/// Tokens side by side.
const TOKENS_PER_LINE: usize = 60;
const RIGHT: f64 = 8.0;
const STRIP: f64 = 9.0;
const STRIP_STEP: f64 = 12.0;
const CHUNK_NAMES: f64 = 16.0;
const TOKEN_SIZE: f64 = 9.5;
const MAX_TOKEN: usize = 12;
const MAX_NAME: usize = 30;
const NAME_SIZE: f64 = 11.0;
/// Shades told apart; cells of one shade are one path.
const SHADES: usize = 24;
/// The scale spans at most so many powers of ten below the largest value.
const DECADES: f64 = 4.0;
/// Light to dark, so that it also reads without colour.
const RAMP: [[f64; 3]; 6] = [
    [255.0, 253.0, 236.0],
    [254.0, 217.0, 142.0],
    [246.0, 142.0, 66.0],
    [205.0, 62.0, 48.0],
    [125.0, 20.0, 66.0],
    [30.0, 8.0, 46.0],
];

/// The map and the strips.
#[derive(Debug)]
pub(crate) struct Heat<'a> {
    pub(crate) tokens: Vec<&'a str>,
    /// Positions in the prompt.
    pub(crate) rows: Vec<usize>,
    /// `[layers][tokens]`
    pub(crate) layers: Vec<Vec<Option<f64>>>,
    /// Half-open ranges of tokens, each with its name.
    pub(crate) chunks: Vec<(String, [usize; 2])>,
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
    /// None where no value is positive.
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

    /// The scale with its ticks, for a legend.
    pub(crate) fn legend(self) -> Markup {
        const WIDTH: f64 = 260.0;
        let step = WIDTH / SHADES as f64;
        let axis = super::axis::Axis::log_between_ends([self.low, self.high]);
        html! {
            svg.key width="300" height="30" viewBox="0 0 300 30" role="img"
                aria-label="colour scale of deviation" {
                @for shade in 0..SHADES {
                    rect x=(px(20.0 + step * shade as f64)) y="2" width=(px(step + 0.4)) height="11"
                        fill=(colour(shade)) {}
                }
                rect.frame x="20" y="2" width=(px(WIDTH)) height="11" {}
                @for tick in &axis.ticks {
                    text.tick.x x=(px(20.0 + WIDTH * axis.clamp(tick.value))) y="25" { (tick.text) }
                }
            }
        }
    }
}

fn colour(shade: usize) -> String {
    let place = shade as f64 / (SHADES - 1) as f64 * (RAMP.len() - 1) as f64;
    let below = (place as usize).min(RAMP.len() - 2);
    let share = place - below as f64;
    let channel = |n: usize| RAMP[below][n] + (RAMP[below + 1][n] - RAMP[below][n]) * share;
    let [red, green, blue] = [0, 1, 2].map(|n| channel(n).round() as u8);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

impl Heat<'_> {
    /// One picture per line of tokens.
    pub(crate) fn svgs(&self, shading: Shading) -> Vec<Markup> {
        let lines = self.tokens.len().div_ceil(TOKENS_PER_LINE);
        // Lines of nearly equal length: no last line of three tokens.
        let per_line = self.tokens.len().div_ceil(lines.max(1)).max(1);
        (0..self.tokens.len())
            .step_by(per_line)
            .map(|start| {
                let end = (start + per_line).min(self.tokens.len());
                self.line(start, end, per_line, shading)
            })
            .collect()
    }

    fn cell_height(&self) -> f64 {
        (160.0 / self.layers.len().max(1) as f64).clamp(5.0, 15.0)
    }

    fn left(&self) -> f64 {
        let lengths = self.strips.iter().map(|strip| strip.name.chars().count());
        let longest = lengths.max().unwrap_or(0).clamp(8, MAX_NAME);
        longest as f64 * NAME_SIZE * CHAR_WIDTH + 12.0
    }

    fn token_room(&self) -> f64 {
        let lengths = self
            .tokens
            .iter()
            .map(|token| visible(token).chars().count());
        let longest = lengths.max().unwrap_or(0).min(MAX_TOKEN);
        longest as f64 * TOKEN_SIZE * CHAR_WIDTH + 10.0
    }

    fn line(&self, start: usize, end: usize, per_line: usize, shading: Shading) -> Markup {
        let width = self.left() + per_line as f64 * CELL + RIGHT;
        let tokens_at = CHUNK_NAMES + self.cell_height() * self.layers.len() as f64;
        let strips_at = tokens_at + self.token_room();
        let height = strips_at + STRIP_STEP * self.strips.len() as f64 + 6.0;
        let label = format!("deviation of tokens {start} to {} by layer", end - 1);
        html! {
            svg viewBox=(format!("0 0 {} {}", px(width), px(height))) role="img" aria-label=(label) {
                (self.layer_names())
                (self.cells(start, end, shading))
                (self.token_names(start, end, tokens_at))
                (self.strips(start, end, strips_at))
                (self.borders(start, end, tokens_at, [strips_at, height - 6.0]))
            }
        }
    }

    fn layer_names(&self) -> Markup {
        let height = self.cell_height();
        // Names need 10 px each.
        let step = (10.0 / height).ceil() as usize;
        html! {
            @for layer in (0..self.layers.len()).step_by(step) {
                text.name.small x=(px(self.left() - 6.0))
                    y=(px(CHUNK_NAMES + height * (layer as f64 + 0.5) + 3.5)) { "layer " (layer) }
            }
        }
    }

    fn cells(&self, start: usize, end: usize, shading: Shading) -> Markup {
        let height = self.cell_height();
        let mut paths: BTreeMap<usize, String> = BTreeMap::new();
        for (layer, values) in self.layers.iter().enumerate() {
            let y = CHUNK_NAMES + height * layer as f64;
            for (column, value) in values[start..end].iter().enumerate() {
                let Some(value) = value else { continue };
                let x = self.left() + CELL * column as f64;
                let path = paths.entry(shading.shade(*value)).or_default();
                let (x, y, height) = (px(x), px(y), px(height));
                // Writing to a string cannot fail.
                let _ = write!(path, "M{x} {y}h{CELL}v{height}h-{CELL}z");
            }
        }
        html! {
            g.cells { @for (shade, path) in paths { path d=(path) fill=(colour(shade)) {} } }
        }
    }

    fn token_names(&self, start: usize, end: usize, top: f64) -> Markup {
        html! {
            @for index in start..end {
                @let x = px(self.left() + CELL * ((index - start) as f64 + 0.5) + 3.2);
                @let y = px(top + 4.0);
                @let token = visible(self.tokens[index]);
                text.token x=(x) y=(y) text-anchor="end" transform=(format!("rotate(-90 {x} {y})")) {
                    (shortened(&token, MAX_TOKEN))
                    title { "“" (token) "” at position " (self.rows[index]) }
                }
            }
        }
    }

    fn strips(&self, start: usize, end: usize, top: f64) -> Markup {
        let width = CELL * (end - start) as f64;
        html! {
            @for (n, strip) in self.strips.iter().enumerate() {
                @let y = top + STRIP_STEP * n as f64;
                text.name.small x=(px(self.left() - 6.0)) y=(px(y + STRIP - 1.0)) {
                    (shortened(&strip.name, MAX_NAME))
                }
                rect.strip x=(px(self.left())) y=(px(y)) width=(px(width)) height=(px(STRIP)) {}
                path.cells d=(self.marks(strip, start, end, y)) fill=(strip.style.colour) {}
            }
        }
    }

    fn marks(&self, strip: &Strip, start: usize, end: usize, y: f64) -> String {
        let mut path = String::new();
        let y = px(y);
        for index in (start..end).filter(|&index| strip.positions.contains(&self.rows[index])) {
            let x = px(self.left() + CELL * (index - start) as f64 + 1.0);
            let inner = CELL - 2.0;
            // Writing to a string cannot fail.
            let _ = write!(path, "M{x} {y}h{inner}v{STRIP}h-{inner}z");
        }
        path
    }

    /// Chunk borders over the map and the strips, and the chunks' names where there is room.
    fn borders(&self, start: usize, end: usize, map_end: f64, strips: [f64; 2]) -> Markup {
        let x_of = |index: usize| self.left() + CELL * (index - start) as f64;
        let visible = self.chunks.iter().filter_map(|(name, [from, to])| {
            let (from, to) = ((*from).max(start), (*to).min(end));
            (from < to).then_some((name, from, to))
        });
        html! {
            @for (name, from, to) in visible {
                @let (x1, x2) = (x_of(from), x_of(to));
                @let fits = (name.chars().count() as f64) * 10.0 * CHAR_WIDTH < x2 - x1;
                @if fits { text.small x=(px(x1 + 3.0)) y=(px(CHUNK_NAMES - 5.0)) { (name) } }
                path.chunk d=(format!("M{a} {b}V{c}M{a} {d}V{e}M{f} {b}V{c}M{f} {d}V{e}",
                    a = px(x1), f = px(x2), b = px(CHUNK_NAMES - 3.0), c = px(map_end),
                    d = px(strips[0] - 2.0), e = px(strips[1]))) {}
            }
        }
    }
}

/// A token as it can be seen: blanks and line ends are drawn.
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

    fn heat(n: usize) -> Heat<'static> {
        Heat {
            tokens: vec!["<a>"; n],
            rows: (10..10 + n).collect(),
            layers: vec![vec![Some(0.5); n], vec![None; n]],
            chunks: vec![("chunk 1".to_owned(), [0, n])],
            strips: vec![Strip {
                name: "hkvd@2:0.1".to_owned(),
                style: Style::nth(0),
                positions: HashSet::from([10, 12, 999]),
            }],
        }
    }

    #[test]
    fn every_token_is_named_once_and_escaped() {
        let heat = heat(150);
        let shading = Shading::new([0.5].into_iter()).unwrap();
        let svgs = heat.svgs(shading);
        assert_eq!(svgs.len(), 3);
        let all: String = svgs.into_iter().map(Markup::into_string).collect();
        assert_eq!(all.matches("class=\"token\"").count(), 150);
        assert!(!all.contains("<a>"));
    }

    #[test]
    fn strips_mark_the_recomputed_positions() {
        let heat = heat(5);
        let marks = heat.marks(&heat.strips[0], 0, 5, 0.0);
        assert_eq!(marks.matches('z').count(), 2);
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
