//! Lines and points over two axes, with bands for values that do not depend on x.

use maud::{Markup, html};

use super::CHAR_WIDTH;
use super::axis::Axis;
use super::geometry::{polyline, px};
use super::style::Style;

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 268.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 40.0;
const RIGHT: f64 = 12.0;
const BAND_NAME_SIZE: f64 = 10.5;
/// Points of different lines at one x stand this far apart, so that intervals can be told apart.
const DODGE: f64 = 2.4;
/// Lines of small text this far apart do not touch.
const TEXT_STEP: f64 = 11.0;

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

#[derive(Debug, Clone)]
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
            interval: None,
            title,
            hollow: false,
        }
    }
}

impl Plot {
    pub(crate) fn svg(&self) -> Markup {
        let label = format!("{}: {} against {}", self.title, self.y.label, self.x.label);
        html! {
            svg.plot viewBox=(format!("0 0 {} {}", px(WIDTH), px(HEIGHT))) role="img" aria-label=(label) {
                text.title x=(px(LEFT)) y="14" { (self.title) }
                (self.grid())
                @for band in &self.bands { (self.band(band)) }
                (self.band_names())
                @for (n, line) in self.lines.iter().enumerate() { (self.line(line, self.shift(n))) }
                (self.axis_labels())
            }
        }
    }

    /// Bands are named right of the frame.
    fn right(&self) -> f64 {
        let lengths = self.bands.iter().map(|band| band.name.chars().count());
        let names = lengths.max().map_or(0.0, |longest| {
            longest as f64 * BAND_NAME_SIZE * CHAR_WIDTH + 6.0
        });
        WIDTH - names.max(RIGHT)
    }

    fn x_of(&self, place: f64) -> f64 {
        LEFT + place * (self.right() - LEFT)
    }

    fn y_of(place: f64) -> f64 {
        let bottom = HEIGHT - BOTTOM;
        bottom - place * (bottom - TOP)
    }

    fn spot(&self, point: &Point) -> Option<[f64; 2]> {
        let (x, y) = (self.x.place(point.x)?, self.y.place(point.y)?);
        Some([self.x_of(x), Self::y_of(y)])
    }

    /// Sideways shift of the n-th line; none where no line has intervals.
    fn shift(&self, n: usize) -> f64 {
        let has_interval = |line: &Line| line.points.iter().any(|point| point.interval.is_some());
        let with_intervals = self.lines.iter().filter(|line| has_interval(line)).count();
        match self.lines.get(n).is_some_and(has_interval) {
            true => {
                let before = self.lines[..n].iter().filter(|line| has_interval(line));
                (before.count() as f64 - (with_intervals as f64 - 1.0) / 2.0) * DODGE
            }
            false => 0.0,
        }
    }

    fn grid(&self) -> Markup {
        let (left, right, top, bottom) = (LEFT, self.right(), TOP, HEIGHT - BOTTOM);
        html! {
            @for tick in &self.y.ticks {
                @let y = px(Self::y_of(self.y.clamp(tick.value)));
                line.grid x1=(px(left)) x2=(px(right)) y1=(y) y2=(y) {}
                text.tick.y x=(px(left - 6.0)) y=(y) dy="3.5" { (tick.text) }
            }
            @for tick in &self.x.ticks {
                @let x = px(self.x_of(self.x.clamp(tick.value)));
                line.grid x1=(x) x2=(x) y1=(px(top)) y2=(px(bottom)) {}
                text.tick.x x=(x) y=(px(bottom + 14.0)) { (tick.text) }
            }
            rect.frame x=(px(left)) y=(px(top)) width=(px(right - left)) height=(px(bottom - top)) {}
        }
    }

    fn axis_labels(&self) -> Markup {
        let middle = (LEFT + self.right()) / 2.0;
        let (x, y) = (10.0, f64::midpoint(TOP, HEIGHT - BOTTOM));
        html! {
            text.axis x=(px(middle)) y=(px(HEIGHT - 6.0)) { (self.x.label) }
            text.axis x=(px(x)) y=(px(y)) transform=(format!("rotate(-90 {} {})", px(x), px(y))) {
                (self.y.label)
            }
        }
    }

    fn band(&self, band: &Band) -> Markup {
        let Some(place) = self.y.place(band.value) else {
            return html! {};
        };
        let y = px(Self::y_of(place));
        let (left, right) = (px(LEFT), px(self.right()));
        html! {
            @if let Some((low, high)) = band.interval {
                @let top = Self::y_of(self.y.clamp(high));
                @let height = Self::y_of(self.y.clamp(low)) - top;
                rect x=(left) width=(px(self.right() - LEFT)) y=(px(top)) height=(px(height))
                    fill=(band.style.colour) fill-opacity="0.13" {}
            }
            line x1=(left) x2=(right) y1=(y) y2=(y) stroke=(band.style.colour)
                stroke-width=(px(band.style.width)) stroke-dasharray=(band.style.dash) {}
        }
    }

    /// Names beside the bands, moved apart where bands lie close.
    fn band_names(&self) -> Markup {
        let places = self.bands.iter().filter_map(|band| {
            let place = self.y.place(band.value)?;
            Some((Self::y_of(place) + 3.5, band.name.as_str()))
        });
        let mut names: Vec<(f64, &str)> = places.collect();
        names.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut free_from = f64::NEG_INFINITY;
        for (y, _) in &mut names {
            *y = y.max(free_from);
            free_from = *y + TEXT_STEP;
        }
        html! {
            @for (y, name) in names {
                text.band x=(px(self.right() + 4.0)) y=(px(y)) { (name) }
            }
        }
    }

    fn line(&self, line: &Line, shift: f64) -> Markup {
        let spots = line.points.iter().filter_map(|point| {
            let [x, y] = self.spot(point)?;
            Some((point, [x + shift, y]))
        });
        let spots: Vec<(&Point, [f64; 2])> = spots.collect();
        let joined = spots.iter().filter(|(point, _)| !point.hollow);
        let joined: Vec<[f64; 2]> = joined.map(|&(_, spot)| spot).collect();
        let path = match line.join {
            Join::Steps => polyline(steps(&joined)),
            Join::Straight => polyline(joined),
        };
        let style = line.style;
        html! {
            path d=(path) fill="none" stroke=(style.colour) stroke-width=(px(style.width))
                stroke-dasharray=(style.dash) stroke-linejoin="round" {}
            @if line.markers == Markers::Shown {
                @for (point, spot) in spots {
                    (self.whisker(point, spot[0], style))
                    (style.mark(spot, point.hollow || style.hollow, &point.title))
                }
            }
        }
    }

    fn whisker(&self, point: &Point, x: f64, style: Style) -> Markup {
        let Some((low, high)) = point.interval else {
            return html! {};
        };
        let (top, bottom) = (
            Self::y_of(self.y.clamp(high)),
            Self::y_of(self.y.clamp(low)),
        );
        let cap = |y: f64| polyline([[x - 2.0, y], [x + 2.0, y]]);
        let stem = polyline([[x, top], [x, bottom]]);
        html! {
            path d=(format!("{stem}{}{}", cap(top), cap(bottom))) stroke=(style.colour)
                stroke-width="1" stroke-opacity="0.75" fill="none" {}
        }
    }
}

/// Goes right first, then up or down.
fn steps(spots: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut path = Vec::with_capacity(spots.len() * 2);
    for (n, &[x, y]) in spots.iter().enumerate() {
        if let Some([_, previous]) = n.checked_sub(1).map(|before| spots[before]) {
            path.push([x, previous]);
        }
        path.push([x, y]);
    }
    path
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
            lines: vec![Line {
                style: Style::nth(0),
                points,
                join: Join::Straight,
                markers: Markers::Shown,
            }],
        }
    }

    #[test]
    fn every_point_is_drawn_and_its_title_escaped() {
        let svg = plot(&[1.0, 2.0, 3.0]).svg().into_string();
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
        let svg = plot.band_names().into_string();
        let y_of = |name: &str| -> f64 {
            let before = svg.split(&format!(">{name}<")).next().unwrap();
            let y = before.rsplit(" y=\"").next().unwrap();
            y.trim_end_matches('"').parse().unwrap()
        };
        assert!(y_of("reuse") - y_of("full") >= TEXT_STEP, "{svg}");
    }

    #[test]
    fn steps_go_right_before_they_go_up() {
        assert_eq!(
            steps(&[[0.0, 5.0], [2.0, 3.0]]),
            [[0.0, 5.0], [2.0, 5.0], [2.0, 3.0]]
        );
    }
}
