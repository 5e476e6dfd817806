//! Timing rows as curves: one line per mode over what was varied.

use super::chart::axis::{Axis, short};
use super::chart::plot::{Line, Plot, Point};
use super::chart::style::Style;
use super::document::Key;
use super::evidence::Evidence;
use super::mode::{ModeName, OfMode};

/// Rows of one run, with what was varied and the modes they measure.
pub(crate) struct Curves<'a, R> {
    evidence: &'a Evidence<'a>,
    rows: &'a [R],
    modes: Vec<ModeName>,
    /// What was varied.
    x_of: fn(&R) -> f64,
    /// Its unit, for tooltips.
    unit: &'static str,
}

impl<'a, R: OfMode> Curves<'a, R> {
    pub(crate) fn new(
        evidence: &'a Evidence<'a>,
        rows: &'a [R],
        unit: &'static str,
        x_of: fn(&R) -> f64,
    ) -> Self {
        Self {
            evidence,
            rows,
            modes: evidence.modes(rows.iter().map(R::mode)),
            x_of,
            unit,
        }
    }

    /// A legend of the modes.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.evidence.mode_keys(&self.modes)
    }

    /// What was varied, of each row.
    pub(crate) fn xs(&self) -> impl Iterator<Item = f64> + Clone {
        self.rows.iter().map(self.x_of)
    }

    /// A line per mode over the axis `x`; `y` makes the other axis of the values.
    pub(crate) fn plot(
        &self,
        title: impl Into<String>,
        x: Option<Axis>,
        y: impl FnOnce(Vec<f64>) -> Option<Axis>,
        value: impl Fn(&R) -> Option<f64>,
    ) -> Option<Plot> {
        let y = y(self.rows.iter().filter_map(&value).collect());
        Plot::new(title, x, y, self.lines(value))
    }

    /// A line per mode; rows without the value have no point.
    fn lines(&self, value: impl Fn(&R) -> Option<f64>) -> Vec<Line> {
        let styles = self.evidence.palette.mode_styles(&self.modes);
        let modes = self.modes.iter().zip(styles);
        modes
            .map(|(mode, style)| self.line(mode, style, &value))
            .collect()
    }

    fn line(&self, mode: &ModeName, style: Style, value: impl Fn(&R) -> Option<f64>) -> Line {
        let own = self.rows.iter().filter(|row| row.mode() == *mode);
        let point = |row: &R| {
            let (x, y) = ((self.x_of)(row), value(row)?);
            let title = format!("{mode}, {} {}: {}", short(x), self.unit, short(y));
            Some(Point::new(x, y, title))
        };
        let mut points: Vec<Point> = own.filter_map(point).collect();
        points.sort_by(|one, other| one.x.total_cmp(&other.x));
        Line::new(style, points)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decay::flatness::Row;

    #[test]
    fn each_mode_is_a_line_in_order_without_points_for_absent_values() {
        let rows: Vec<Row> = serde_json::from_str(
            r#"[{"policy": "hkvd@2", "ratio": 0.1, "batch": 2, "hit_rate": 0.9},
                {"policy": "full", "batch": 0, "hit_rate": null},
                {"policy": "hkvd@2", "ratio": 0.1, "batch": 1, "hit_rate": 1.0}]"#,
        )
        .unwrap();
        let evidence = Evidence::new(&[]);
        let curves = Curves::new(&evidence, &rows, "batch", |row| row.batch as f64);
        let lines = curves.lines(|row| row.hit_rate);
        let mut points: Vec<Vec<(f64, f64)>> = lines
            .iter()
            .map(|line| line.points.iter().map(|point| (point.x, point.y)).collect())
            .collect();
        points.sort_by_key(Vec::len);
        assert_eq!(points, [vec![], vec![(1.0, 1.0), (2.0, 0.9)]]);
        assert_eq!(curves.keys().len(), 2);
    }
}
