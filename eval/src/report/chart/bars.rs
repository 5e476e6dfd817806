//! Stacked horizontal bars: the parts of a time, one bar per mode.

use maud::{Markup, html};

use super::axis::{Axis, short};
use super::geometry::px;
use super::{CHAR_WIDTH, shortened};

const WIDTH: f64 = 640.0;
const ROW: f64 = 30.0;
const BAR: f64 = 15.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 40.0;
const RIGHT: f64 = 46.0;
const LABEL_SIZE: f64 = 11.5;
const MAX_LABEL: usize = 34;

/// A part that every bar may have: its fill is a colour with a pattern over it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) colour: &'static str,
    pub(crate) pattern: Pattern,
}

/// What tells parts apart without colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pattern {
    Plain,
    Rising,
    Falling,
    Dots,
    Upright,
    Crossed,
}

impl Pattern {
    const DRAWN: [Self; 5] = [
        Self::Rising,
        Self::Falling,
        Self::Dots,
        Self::Upright,
        Self::Crossed,
    ];

    fn id(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Rising => "rising",
            Self::Falling => "falling",
            Self::Dots => "dots",
            Self::Upright => "upright",
            Self::Crossed => "crossed",
        }
    }

    fn strokes(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Rising => "M-1 1L1 -1M0 6L6 0M5 7L7 5",
            Self::Falling => "M-1 5L1 7M0 0L6 6M5 -1L7 1",
            Self::Dots => "M1 1.5h1.6M4 4.5h1.6",
            Self::Upright => "M1.5 0V6M4.5 0V6",
            Self::Crossed => "M0 0L6 6M0 6L6 0",
        }
    }
}

/// The patterns that bars and their legends refer to; stands once on a page.
pub(crate) fn pattern_definitions() -> Markup {
    html! {
        svg width="0" height="0" style="position:absolute" aria-hidden="true" {
            defs {
                @for pattern in Pattern::DRAWN {
                    pattern id=(format!("pattern-{}", pattern.id())) width="6" height="6"
                        patternUnits="userSpaceOnUse" {
                        path d=(pattern.strokes()) stroke="#fff" stroke-width="1.3" fill="none" {}
                    }
                }
            }
        }
    }
}

impl Part {
    fn fill(&self, [x, y]: [f64; 2], [width, height]: [f64; 2], title: &str) -> Markup {
        let area = |fill: &str, class: &str| {
            html! {
                rect x=(px(x)) y=(px(y)) width=(px(width)) height=(px(height)) fill=(fill)
                    class=(class) { @if !title.is_empty() { title { (title) } } }
            }
        };
        html! {
            (area(self.colour, "part"))
            @if self.pattern != Pattern::Plain {
                (area(&format!("url(#pattern-{})", self.pattern.id()), "part"))
            }
        }
    }

    /// A small area of the part, for legends.
    pub(crate) fn sample(&self) -> Markup {
        html! {
            svg.key width="22" height="12" viewBox="0 0 22 12" aria-hidden="true" {
                (self.fill([0.5, 0.5], [21.0, 11.0], ""))
            }
        }
    }
}

/// One bar.
#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    /// One value per part; zero where it has none.
    pub(crate) parts: Vec<f64>,
    /// Drawn as a thin line below the bar: what ran beside it.
    pub(crate) beside: Option<f64>,
    /// Written behind the bar.
    pub(crate) total: Option<f64>,
}

/// Bars over one axis.
#[derive(Debug)]
pub(crate) struct Bars<'a> {
    pub(crate) title: String,
    pub(crate) axis_label: &'a str,
    pub(crate) parts: &'a [Part],
    pub(crate) bars: Vec<Bar>,
}

impl Bars<'_> {
    /// None where no bar has a length.
    pub(crate) fn svg(&self) -> Option<Markup> {
        let lengths = self.bars.iter().flat_map(|bar| {
            let stacked: f64 = bar.parts.iter().sum();
            [stacked, bar.beside.unwrap_or(0.0)]
        });
        let longest = lengths.fold(0.0, f64::max);
        let axis = Axis::linear(self.axis_label, [0.0, longest], [0.0, longest])?;
        if longest <= 0.0 {
            return None;
        }
        let height = TOP + BOTTOM + ROW * self.bars.len() as f64;
        Some(html! {
            svg.bars viewBox=(format!("0 0 {} {}", px(WIDTH), px(height))) role="img"
                aria-label=(self.title) {
                text.title x="4" y="14" { (self.title) }
                (self.grid(&axis, height - BOTTOM))
                @for (n, bar) in self.bars.iter().enumerate() {
                    (self.bar(bar, &axis, TOP + ROW * n as f64))
                }
            }
        })
    }

    fn left(&self) -> f64 {
        let lengths = self.bars.iter().map(|bar| bar.name.chars().count());
        let longest = lengths.max().unwrap_or(0).min(MAX_LABEL);
        longest as f64 * LABEL_SIZE * CHAR_WIDTH + 14.0
    }

    fn x_of(&self, axis: &Axis, value: f64) -> f64 {
        let left = self.left();
        left + axis.clamp(value) * (WIDTH - RIGHT - left)
    }

    fn grid(&self, axis: &Axis, bottom: f64) -> Markup {
        html! {
            @for tick in &axis.ticks {
                @let x = px(self.x_of(axis, tick.value));
                line.grid x1=(x) x2=(x) y1=(px(TOP)) y2=(px(bottom)) {}
                text.tick.x x=(x) y=(px(bottom + 14.0)) { (tick.text) }
            }
            text.axis x=(px(f64::midpoint(self.left(), WIDTH - RIGHT))) y=(px(bottom + 32.0)) {
                (axis.label)
            }
        }
    }

    fn bar(&self, bar: &Bar, axis: &Axis, top: f64) -> Markup {
        let y = top + (ROW - BAR) / 2.0 - 2.0;
        let end: f64 = bar.parts.iter().sum();
        let start_of = |n: usize| bar.parts[..n].iter().sum::<f64>();
        html! {
            text.name x=(px(self.left() - 8.0)) y=(px(y + 11.5)) {
                (shortened(&bar.name, MAX_LABEL))
                @if bar.name.chars().count() > MAX_LABEL { title { (bar.name) } }
            }
            @for (n, (part, &value)) in self.parts.iter().zip(&bar.parts).enumerate() {
                @if value > 0.0 {
                    @let x = self.x_of(axis, start_of(n));
                    @let width = self.x_of(axis, start_of(n) + value) - x;
                    (part.fill([x, y], [width, BAR],
                        &format!("{}: {} {} {}", bar.name, part.name, short(value), self.axis_label)))
                }
            }
            @if let Some(beside) = bar.beside.filter(|&beside| beside > 0.0) {
                (self.beside(axis, beside, y + BAR + 4.0))
            }
            @if let Some(total) = bar.total {
                text.total x=(px(self.x_of(axis, end) + 5.0)) y=(px(y + 11.5)) {
                    (short(total))
                }
            }
        }
    }

    fn beside(&self, axis: &Axis, value: f64, y: f64) -> Markup {
        let (start, end) = (self.x_of(axis, 0.0), self.x_of(axis, value));
        let (x1, x2, y1, y2) = (px(start), px(end), px(y - 2.5), px(y + 2.5));
        html! {
            path.beside d=(format!("M{x1} {y1}V{y2}M{x1} {}H{x2}M{x2} {y1}V{y2}", px(y))) {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [Part; 2] = [
        Part {
            name: "wait",
            colour: "#aaa",
            pattern: Pattern::Dots,
        },
        Part {
            name: "compute",
            colour: "#333",
            pattern: Pattern::Plain,
        },
    ];

    fn bars(parts: Vec<f64>) -> Bars<'static> {
        Bars {
            title: "TTFT".to_owned(),
            axis_label: "ms",
            parts: &PARTS,
            bars: vec![Bar {
                name: "hkvd@2:0.15".to_owned(),
                parts,
                beside: Some(1.0),
                total: Some(3.0),
            }],
        }
    }

    #[test]
    fn parts_follow_one_another_and_empty_ones_are_left_out() {
        let svg = bars(vec![1.0, 2.0]).svg().unwrap().into_string();
        assert!(svg.contains("wait 1 ms") && svg.contains("compute 2 ms"));
        let svg = bars(vec![0.0, 2.0]).svg().unwrap().into_string();
        assert!(!svg.contains("wait"));
    }

    #[test]
    fn bars_without_length_make_no_chart() {
        let mut bars = bars(vec![0.0, 0.0]);
        bars.bars[0].beside = None;
        assert!(bars.svg().is_none());
    }
}
