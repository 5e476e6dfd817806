//! Lines and points over two axes, with bands for values that do not depend on x.

use kuva::plot::scatter::ScatterPoint;
use kuva::render::annotations::{ReferenceLine, ShadedRegion};
use kuva::render::layout::Layout;
use kuva::render::plots::Plot as Series;
use kuva::render::render::{Scene, render_multiple};
use maud::Markup;

use super::axis::Axis;
use super::canvas::{Margins, layout, picture, room, text};
use super::style::Style;

const SIZE: [f64; 2] = [640.0, 450.0];
const BAND_NAME_SIZE: f64 = 17.0;
/// Points of different lines at one x stand this share of the axis apart, so that intervals can be
/// told apart.
const DODGE: f64 = 0.008;

/// One panel.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) bands: Vec<Band>,
    pub(crate) lines: Vec<Line>,
}

/// A value that holds at every x.
#[derive(Debug, Clone)]
pub(crate) struct Band {
    pub(crate) name: String,
    pub(crate) style: Style,
    pub(crate) value: f64,
    pub(crate) interval: Option<(f64, f64)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) style: Style,
    /// In the order they are joined.
    pub(crate) points: Vec<Point>,
    pub(crate) join: Join,
    pub(crate) markers: Markers,
}

/// How the points that are not hollow are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    Straight,
    /// By steps: no y is promised between two points.
    Steps,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Markers {
    Shown,
    /// For lines that stand for comparison.
    Hidden,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) interval: Option<(f64, f64)>,
    /// Shown where the pointer rests.
    pub(crate) title: String,
    pub(crate) hollow: bool,
}

impl Point {
    pub(crate) fn new(x: f64, y: f64, title: String) -> Self {
        Self {
            x,
            y,
            title,
            ..Self::default()
        }
    }
}

impl Line {
    /// A line of markers, joined straight.
    pub(crate) fn new(style: Style, points: Vec<Point>) -> Self {
        Self {
            style,
            points,
            join: Join::Straight,
            markers: Markers::Shown,
        }
    }

    fn has_intervals(&self) -> bool {
        self.points.iter().any(|point| point.interval.is_some())
    }
}

impl Plot {
    /// Lines over two axes, where both could be made.
    pub(crate) fn new(
        title: impl Into<String>,
        x: Option<Axis>,
        y: Option<Axis>,
        lines: Vec<Line>,
    ) -> Option<Self> {
        Some(Self {
            title: title.into(),
            x: x?,
            y: y?,
            bands: Vec::new(),
            lines,
        })
    }

    pub(crate) fn svg(&self) -> Markup {
        let label = format!("{}: {} against {}", self.title, self.y.label, self.x.label);
        let dodged = self.lines.iter().filter(|line| line.has_intervals());
        let dodged: Vec<&Line> = dodged.collect();
        let middle = (dodged.len() as f64 - 1.0) / 2.0;
        let shift = |line: &Line| {
            let place = dodged.iter().position(|&other| std::ptr::eq(other, line));
            place.map_or(0.0, |n| (n as f64 - middle) * DODGE)
        };
        let lines = self.lines.iter();
        let series = lines.flat_map(|line| self.series(line, shift(line)));
        let mut scene = render_multiple(series.collect(), self.layout());
        self.name_bands(&mut scene);
        picture(&scene, "plot", &label)
    }

    fn margins(&self) -> Margins {
        let names = self.bands.iter().map(|band| band.name.as_str());
        let names = room(names, BAND_NAME_SIZE);
        Margins {
            left: 92.0,
            right: names + 20.0,
            top: 40.0,
            bottom: 58.0,
        }
    }

    fn layout(&self) -> Layout {
        let layout = layout([self.x.range(), self.y.range()], SIZE, &self.margins());
        let layout = self.y.beside(self.x.below(layout));
        let layout = layout.with_title(self.title.as_str());
        let shown = self.bands.iter().filter(|band| self.y.shows(band.value));
        shown.fold(layout, |layout, band| {
            let line = ReferenceLine::horizontal(band.value)
                .with_color(band.style.colour)
                .with_stroke_width(band.style.width)
                .with_dasharray(band.style.dash);
            let layout = layout.with_reference_line(line);
            let Some((low, high)) = band.interval else {
                return layout;
            };
            let area = ShadedRegion::horizontal(self.y.clamp(low), self.y.clamp(high));
            layout.with_shaded_region(area.with_color(band.style.colour).with_opacity(0.13))
        })
    }

    /// Names to the right of the bands, moved apart where bands lie close.
    fn name_bands(&self, scene: &mut Scene) {
        let Margins {
            right, top, bottom, ..
        } = self.margins();
        let y_of = |value| top + (1.0 - self.y.place(value)) * (SIZE[1] - top - bottom);
        let shown = self.bands.iter().filter(|band| self.y.shows(band.value));
        let mut names: Vec<(f64, &str)> = shown
            .map(|band| (y_of(band.value) + 6.0, band.name.as_str()))
            .collect();
        names.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut free_from = f64::NEG_INFINITY;
        for (y, name) in names {
            let y = f64::max(y, free_from);
            free_from = y + BAND_NAME_SIZE;
            let place = [SIZE[0] - right + 6.0, y];
            scene.add(text(place, name, BAND_NAME_SIZE as u32));
        }
    }

    /// The line, its hollow markers, and its full ones on top.
    fn series(&self, line: &Line, shift: f64) -> Vec<Series> {
        let is_shown = |point: &&Point| self.x.shows(point.x) && self.y.shows(point.y);
        let shown = line.points.iter().filter(is_shown);
        let (hollow, full): (Vec<&Point>, Vec<&Point>) = shown.partition(|point| point.hollow);
        let mark = |point: &Point| (self.place(point, shift), point.title.clone());
        let style = line.style;
        let places = full.iter().map(|point| self.place(point, shift));
        let path = style.line(places.map(|at| (at.x, at.y)));
        let path = match line.join {
            Join::Steps => path.with_step(),
            Join::Straight => path,
        };
        let mut series = vec![path.into()];
        if line.markers == Markers::Shown {
            series.extend(style.marks(hollow.into_iter().map(mark), true));
            series.extend(style.marks(full.into_iter().map(mark), style.hollow));
        }
        series
    }

    fn place(&self, point: &Point, shift: f64) -> ScatterPoint {
        let y = point.y;
        let lengths = |(low, high)| {
            let (below, above) = (y - self.y.clamp(low), self.y.clamp(high) - y);
            (f64::max(below, 0.0), f64::max(above, 0.0))
        };
        ScatterPoint {
            x: self.x.shifted(point.x, shift),
            y,
            x_err: None,
            y_err: point.interval.map(lengths),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(values: &[f64]) -> Plot {
        let point = |(n, &y): (usize, &f64)| Point {
            x: n as f64,
            y,
            interval: Some((y - 1.0, y + 1.0)),
            title: format!("<{n}>"),
            hollow: false,
        };
        let points: Vec<Point> = values.iter().enumerate().map(point).collect();
        Plot {
            title: "a & b".to_owned(),
            x: Axis::linear("x", points.iter().map(|p| p.x), [0.0, 100.0]).unwrap(),
            y: Axis::linear("y", values.iter().copied(), [0.0, 100.0]).unwrap(),
            bands: Vec::new(),
            lines: vec![Line::new(Style::nth(0), points)],
        }
    }

    #[test]
    fn every_point_is_drawn_and_its_title_escaped() {
        let mut plot = plot(&[1.0, 2.0, 3.0]);
        plot.lines[0].points[1].hollow = true;
        let svg = plot.svg().into_string();
        assert!(svg.contains("a &amp; b"), "{svg}");
        assert_eq!(svg.matches("<title>&lt;").count(), 3);
    }

    #[test]
    fn points_without_a_place_are_left_out() {
        let mut plot = plot(&[1.0, 2.0, 3.0]);
        plot.lines[0].points[1].y = f64::NAN;
        let svg = plot.svg().into_string();
        assert_eq!(svg.matches("<title>").count(), 2);
        assert!(!svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn names_of_close_bands_do_not_overlap() {
        let mut plot = plot(&[1.0, 50.0, 99.0]);
        let band = |name: &str, value: f64| Band {
            name: name.to_owned(),
            style: Style::FULL,
            value,
            interval: None,
        };
        plot.bands = vec![band("full", 50.0), band("reuse", 49.9)];
        let svg = plot.svg().into_string();
        let y_of = |name: &str| -> f64 {
            let before = svg.split(&format!(">{name}<")).next().unwrap();
            let y = before.rsplit(" y=\"").next().unwrap();
            y.split('"').next().unwrap().parse().unwrap()
        };
        assert!(y_of("reuse") - y_of("full") >= BAND_NAME_SIZE, "{svg}");
    }

    #[test]
    fn steps_go_right_before_they_go_up() {
        let mut plot = plot(&[10.0, 20.0]);
        plot.lines[0].join = Join::Steps;
        let svg = plot.svg().into_string();
        let line = svg.split("stroke=\"#0b62a8\"").next().unwrap();
        let path = line
            .rsplit(" d=\"")
            .next()
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let numbers = path.split(|c: char| !c.is_ascii_digit() && c != '.' && c != '-');
        let numbers: Vec<f64> = numbers.filter_map(|number| number.parse().ok()).collect();
        let [_, y0, x1, y1, x2, y2] = numbers.as_slice() else {
            panic!("{path}")
        };
        assert!(y0 == y1 && x1 == x2 && y2 < y1, "{path}");
    }
}
