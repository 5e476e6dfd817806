//! Axes: the range of values they show, and how numbers are written beside them.

use std::sync::Arc;

use kuva::render::layout::{Layout, TickFormat};

/// One axis of a plot.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    pub(crate) label: String,
    low: f64,
    high: f64,
    scale: Scale,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    Linear,
    /// Linear, with numbers at whole values only: for axes that count.
    Whole,
    Log,
}

impl Axis {
    /// A linear axis that ends a little outside the values, but at most a marker outside
    /// `[floor, ceiling]`.
    /// None if no value is finite.
    pub(crate) fn linear(
        label: &str,
        values: impl IntoIterator<Item = f64>,
        [floor, ceiling]: [f64; 2],
    ) -> Option<Self> {
        let (low, high) = extent(values)?;
        let margin = match high - low {
            0.0 => (high.abs() * 0.1).max(0.5),
            range => range * 0.05,
        };
        Some(Self {
            label: label.to_owned(),
            // A little beyond the bounds, so that markers there are not cut.
            low: (low - margin).max(floor - margin * 0.4),
            high: (high + margin).min(ceiling + margin * 0.4),
            scale: Scale::Linear,
        })
    }

    /// A logarithmic axis that ends a little outside the positive values. None if there are none.
    pub(crate) fn log(label: &str, values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (low, high) = extent(values.into_iter().filter(|&value| value > 0.0))?;
        let margin = f64::max((high / low).powf(0.04), 1.2);
        Some(Self {
            label: format!("{label} (log scale)"),
            low: low / margin,
            high: high * margin,
            scale: Scale::Log,
        })
    }

    /// Numbers at whole values only.
    pub(crate) fn at_whole_numbers(self) -> Self {
        Self {
            scale: Scale::Whole,
            ..self
        }
    }

    /// Whether the axis shows a value.
    pub(crate) fn shows(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// The nearest value that the axis shows.
    pub(crate) fn clamp(&self, value: f64) -> f64 {
        value.clamp(self.low, self.high)
    }

    /// The value that is this share of the axis further on.
    pub(crate) fn shifted(&self, value: f64, share: f64) -> f64 {
        match self.scale {
            Scale::Linear | Scale::Whole => value + (self.high - self.low) * share,
            Scale::Log => value * (self.high / self.low).powf(share),
        }
    }

    /// Where a value lies, from 0 to 1.
    pub(crate) fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear | Scale::Whole => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        }
    }

    pub(crate) fn range(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// How numbers are written at the ticks.
    fn tick_format(&self) -> TickFormat {
        let scale = self.scale;
        TickFormat::Custom(Arc::new(move |value| match scale {
            Scale::Whole if value.fract() != 0.0 => String::new(),
            _ => small(value).replace(".0e", "e"),
        }))
    }

    /// The layout with this as its horizontal axis.
    pub(crate) fn below(&self, layout: Layout) -> Layout {
        let layout = layout.with_x_label(self.label.as_str());
        let mut layout = layout.with_x_tick_format(self.tick_format());
        layout.log_x = self.scale == Scale::Log;
        layout
    }

    /// The layout with this as its vertical axis.
    pub(crate) fn beside(&self, layout: Layout) -> Layout {
        let layout = layout.with_y_label(self.label.as_str());
        let mut layout = layout.with_y_tick_format(self.tick_format());
        layout.log_y = self.scale == Scale::Log;
        layout
    }
}

fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |extent, value| {
        let (low, high) = extent.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

/// A number with at most three significant digits after its leading zeros, and no trailing zeros.
pub(crate) fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let decimals = (2.0 - value.abs().log10().floor()).clamp(0.0, 9.0) as usize;
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// As [`short`]; below a thousandth two digits and a power of ten.
pub(crate) fn small(value: f64) -> String {
    match value.abs() >= 0.001 || value == 0.0 {
        true => short(value),
        false => format!("{value:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use kuva::plot::line::LinePlot;
    use kuva::render::render::{Primitive, TextAnchor, render_multiple};

    use super::super::canvas::{Margins, layout};
    use super::*;

    /// What is written at the ticks of a chart with this horizontal axis.
    fn texts(axis: &Axis) -> Vec<String> {
        let margins = Margins::default();
        let layout = axis.below(layout([axis.range(), (0.0, 1.0)], [640.0, 450.0], &margins));
        let line = LinePlot::new().with_data([(axis.low, 0.5), (axis.high, 0.5)]);
        let scene = render_multiple(vec![line.into()], layout);
        let texts = scene
            .elements
            .into_iter()
            .filter_map(|element| match element {
                Primitive::Text {
                    content,
                    anchor: TextAnchor::Middle,
                    ..
                } => Some(content),
                _ => None,
            });
        texts.filter(|text| text.parse::<f64>().is_ok()).collect()
    }

    #[test]
    fn linear_axes_end_beside_their_values_inside_their_bounds() {
        let axis = Axis::linear("%", [47.5, 98.2], [0.0, 100.0]).unwrap();
        assert_eq!(texts(&axis), ["50", "60", "70", "80", "90", "100"]);
        assert!(axis.shows(100.0) && !axis.shows(101.0) && !axis.shows(40.0));
        assert!(axis.place(47.5) > 0.0 && axis.place(47.5) < 0.06);
        let axis = Axis::linear("%", [0.31, 0.33], [0.0, 1.0]).unwrap();
        assert_eq!(texts(&axis)[..2], ["0.31", "0.315"]);
    }

    #[test]
    fn axes_that_count_have_no_numbers_between_whole_ones() {
        let axis = Axis::linear("batch", [0.0, 2.0], [0.0, 9.0]).unwrap();
        assert_eq!(texts(&axis.at_whole_numbers()), ["0", "1", "2"]);
    }

    #[test]
    fn one_value_still_makes_an_axis_and_none_makes_none() {
        let axis = Axis::linear("x", [3.0], [f64::MIN, f64::MAX]).unwrap();
        assert!(axis.shows(3.0) && texts(&axis).len() > 1);
        assert!(Axis::log("x", [7.0]).unwrap().shows(7.0));
        assert!(Axis::linear("x", [f64::NAN], [0.0, 1.0]).is_none());
        assert!(Axis::log("x", [0.0, -1.0]).is_none());
    }

    #[test]
    fn log_axes_have_a_tick_per_decade_where_they_are_long() {
        let axis = Axis::log("KL", [2e-6, 0.4]).unwrap();
        assert_eq!(texts(&axis), ["1e-5", "1e-4", "0.001", "0.01", "0.1"]);
        let axis = Axis::log("ms", [6.0, 21.0]).unwrap();
        assert_eq!(texts(&axis), ["5", "10", "20"]);
        assert!(!axis.shows(0.0));
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (12.345, "12.3"),
            (0.00120, "0.0012"),
            (1234.0, "1234"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
