//! How a series is told from others: colour on screen, dashes and marker shapes on paper.

use maud::{Markup, html};

use super::geometry::{px, regular};

/// Dark enough on white, and far apart for the common colour deficiencies.
const COLOURS: [&str; 8] = [
    "#0b62a8", "#c8402f", "#23845a", "#8246af", "#b86e00", "#00859a", "#7a5230", "#c2418f",
];
/// Lengths of strokes and gaps, in px.
const DASHES: [&str; 5] = ["", "6 3", "2 2.5", "9 3 2 3", "4 2 1 2 1 2"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    Inverted,
    Cross,
    Star,
}

const MARKERS: [Marker; 7] = [
    Marker::Circle,
    Marker::Square,
    Marker::Triangle,
    Marker::Diamond,
    Marker::Inverted,
    Marker::Star,
    Marker::Cross,
];

/// The look of one series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Style {
    pub(crate) colour: &'static str,
    pub(crate) dash: &'static str,
    pub(crate) marker: Marker,
    pub(crate) width: f64,
    /// Markers are outlines.
    pub(crate) hollow: bool,
}

impl Style {
    pub(crate) const FULL: Self = Self {
        colour: "#111111",
        dash: "",
        marker: Marker::Square,
        width: 1.8,
        hollow: false,
    };
    pub(crate) const REUSE: Self = Self {
        colour: "#6b6b6b",
        dash: "7 4",
        marker: Marker::Cross,
        width: 1.8,
        hollow: false,
    };
    /// The random baseline where it is drawn for comparison.
    pub(crate) const BASELINE: Self = Self {
        colour: "#8a8a8a",
        dash: "1.5 3",
        marker: Marker::Cross,
        width: 1.4,
        hollow: false,
    };

    /// The n-th look. The three lists have no common factor, so 280 looks differ.
    pub(crate) fn nth(n: usize) -> Self {
        Self {
            colour: COLOURS[n % COLOURS.len()],
            dash: DASHES[n % DASHES.len()],
            marker: MARKERS[n % MARKERS.len()],
            width: 1.6,
            hollow: false,
        }
    }

    /// Another ratio of the same policy: its colour, another dash, and hollow markers for every
    /// second one; from the third on also another marker.
    pub(crate) fn variant(self, n: usize) -> Self {
        let turn = |index: Option<usize>, by: usize, len: usize| (index.unwrap_or(0) + by) % len;
        let marker = MARKERS.iter().position(|&marker| marker == self.marker);
        let dash = DASHES.iter().position(|&dash| dash == self.dash);
        Self {
            marker: MARKERS[turn(marker, n / 2, MARKERS.len())],
            dash: DASHES[turn(dash, n, DASHES.len())],
            hollow: n % 2 == 1,
            ..self
        }
    }

    /// The marker at a place; hollow ones stand for what is dominated.
    pub(crate) fn mark(self, [x, y]: [f64; 2], hollow: bool, title: &str) -> Markup {
        let fill = if hollow { "#fff" } else { self.colour };
        let shape = match self.marker {
            Marker::Circle => regular([x, y], 24, 3.4, 0.0),
            Marker::Square => regular([x, y], 4, 4.2, 45.0),
            Marker::Triangle => regular([x, y], 3, 4.8, 0.0),
            Marker::Diamond => regular([x, y], 4, 4.7, 0.0),
            Marker::Inverted => regular([x, y], 3, 4.8, 60.0),
            Marker::Star => star([x, y]),
            Marker::Cross => cross([x, y]),
        };
        html! {
            path d=(shape) fill=(fill) stroke=(self.colour) stroke-width="1.2" {
                @if !title.is_empty() { title { (title) } }
            }
        }
    }

    /// A short piece of the line with its marker, for legends.
    pub(crate) fn sample(self, with_marker: bool) -> Markup {
        html! {
            svg.key width="34" height="12" viewBox="0 0 34 12" aria-hidden="true" {
                line x1="1" y1="6" x2="33" y2="6" stroke=(self.colour)
                    stroke-width=(px(self.width)) stroke-dasharray=(self.dash) {}
                @if with_marker { (self.mark([17.0, 6.0], self.hollow, "")) }
            }
        }
    }
}

fn star([x, y]: [f64; 2]) -> String {
    let corners = (0..10).map(|n| {
        let radius = if n % 2 == 0 { 5.2 } else { 2.2 };
        let angle = f64::from(n) * 36f64.to_radians();
        [x + radius * angle.sin(), y - radius * angle.cos()]
    });
    super::geometry::polygon(corners)
}

/// A plus sign, so thick that it can be hollow.
fn cross([x, y]: [f64; 2]) -> String {
    const ARM: f64 = 4.4;
    const HALF: f64 = 1.3;
    let corners = [
        [-HALF, -ARM],
        [HALF, -ARM],
        [HALF, -HALF],
        [ARM, -HALF],
        [ARM, HALF],
        [HALF, HALF],
        [HALF, ARM],
        [-HALF, ARM],
        [-HALF, HALF],
        [-ARM, HALF],
        [-ARM, -HALF],
        [-HALF, -HALF],
    ];
    super::geometry::polygon(corners.into_iter().map(|[dx, dy]| [x + dx, y + dy]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_of_many_looks_are_the_same() {
        let looks: Vec<Style> = (0..280).map(Style::nth).collect();
        for (n, look) in looks.iter().enumerate() {
            assert!(!looks[..n].contains(look), "{n}");
        }
    }

    #[test]
    fn variants_keep_the_colour_and_all_look_different() {
        let style = Style::nth(3);
        let variants: Vec<Style> = (0..8).map(|n| style.variant(n)).collect();
        assert_eq!(variants[0], style);
        for (n, variant) in variants.iter().enumerate() {
            assert_eq!(style.colour, variant.colour);
            assert!(!variants[..n].contains(variant), "{n}");
        }
    }
}
