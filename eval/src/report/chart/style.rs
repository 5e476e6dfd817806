//! How a series is told from others: colour on screen, dashes and marker shapes on paper.

use kuva::plot::line::{LinePlot, LineStyle};
use kuva::plot::scatter::{MarkerShape, ScatterPlot, ScatterPoint};
use kuva::render::plots::Plot as Series;
use kuva::render::render::render_multiple;
use maud::Markup;

use super::canvas::{Margins, layout, picture, without_axes};

/// Dark enough on white, and far apart for the common colour deficiencies.
const COLOURS: [&str; 8] = [
    "#0b62a8", "#c8402f", "#23845a", "#8246af", "#b86e00", "#00859a", "#7a5230", "#c2418f",
];
/// Lengths of strokes and gaps.
const DASHES: [&str; 5] = ["", "10 5", "3 4", "15 5 3 4", "7 3 2 3 2 3"];
/// All have an area, so that they can be hollow.
const MARKERS: [MarkerShape; 7] = [
    MarkerShape::Circle,
    MarkerShape::Square,
    MarkerShape::Triangle,
    MarkerShape::Diamond,
    MarkerShape::TriangleDown,
    MarkerShape::Star,
    MarkerShape::Pentagon,
];

/// The look of one series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Style {
    pub(crate) colour: &'static str,
    pub(crate) dash: &'static str,
    pub(crate) marker: MarkerShape,
    pub(crate) width: f64,
    /// Markers are outlines.
    pub(crate) hollow: bool,
}

impl Style {
    pub(crate) const FULL: Self = Self {
        colour: "#111111",
        dash: "",
        marker: MarkerShape::Square,
        width: 3.0,
        hollow: false,
    };
    pub(crate) const REUSE: Self = Self {
        colour: "#6b6b6b",
        dash: "12 7",
        marker: MarkerShape::Plus,
        ..Self::FULL
    };
    /// The random baseline where it is drawn for comparison.
    pub(crate) const BASELINE: Self = Self {
        colour: "#8a8a8a",
        dash: "3 5",
        marker: MarkerShape::Plus,
        width: 2.4,
        hollow: false,
    };

    /// The n-th look. The three lists have no common factor, so 280 looks differ.
    pub(crate) fn nth(n: usize) -> Self {
        Self {
            colour: COLOURS[n % COLOURS.len()],
            dash: DASHES[n % DASHES.len()],
            marker: MARKERS[n % MARKERS.len()],
            width: 2.7,
            hollow: false,
        }
    }

    /// Another ratio of the same policy: its colour, another dash, and hollow markers for every
    /// second one; from the third on also another marker.
    pub(crate) fn variant(self, n: usize) -> Self {
        let turn = |index: Option<usize>, by: usize, len: usize| (index.unwrap_or(0) + by) % len;
        let marker = MARKERS.iter().position(|&marker| marker == self.marker);
        let dash = DASHES.iter().position(|&dash| dash == self.dash);
        match n {
            0 => self,
            n => Self {
                marker: MARKERS[turn(marker, n / 2, MARKERS.len())],
                dash: DASHES[turn(dash, n, DASHES.len())],
                hollow: n % 2 == 1,
                ..self
            },
        }
    }

    pub(crate) fn line(self, points: impl IntoIterator<Item = (f64, f64)>) -> LinePlot {
        LinePlot::new()
            .with_data(points)
            .with_color(self.colour)
            .with_stroke_width(self.width)
            .with_line_style(match self.dash {
                "" => LineStyle::Solid,
                dash => LineStyle::Custom(dash.to_owned()),
            })
    }

    /// Markers with their intervals, each with what is shown where the pointer rests.
    pub(crate) fn marks(
        self,
        marks: impl IntoIterator<Item = (ScatterPoint, String)>,
        hollow: bool,
    ) -> Vec<Series> {
        let (points, titles): (Vec<_>, Vec<_>) = marks.into_iter().unzip();
        let without_interval = |at: &ScatterPoint| ScatterPoint { y_err: None, ..*at };
        let inside = ScatterPlot {
            data: points.iter().map(without_interval).collect(),
            color: "#ffffff".to_owned(),
            size: 4.0,
            marker: self.marker,
            ..ScatterPlot::new()
        };
        let outside = ScatterPlot {
            data: points,
            color: self.colour.to_owned(),
            size: 6.0,
            marker: self.marker,
            ..ScatterPlot::new()
        };
        match hollow {
            true => vec![outside.into(), inside.with_tooltip_labels(titles).into()],
            false => vec![outside.with_tooltip_labels(titles).into()],
        }
    }

    /// A short piece of the line with its marker, for legends.
    pub(crate) fn sample(self, with_marker: bool) -> Markup {
        let mut series: Vec<Series> = vec![self.line([(0.0, 0.5), (1.0, 0.5)]).into()];
        if with_marker {
            let middle = ScatterPoint {
                x: 0.5,
                y: 0.5,
                x_err: None,
                y_err: None,
            };
            series.extend(self.marks([(middle, String::new())], self.hollow));
        }
        let margins = Margins {
            left: 2.0,
            right: 2.0,
            top: 0.0,
            bottom: 0.0,
        };
        let layout = layout([(0.0, 1.0), (0.0, 1.0)], [58.0, 20.0], &margins);
        picture(&render_multiple(series, without_axes(layout)), "key", "")
    }
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
