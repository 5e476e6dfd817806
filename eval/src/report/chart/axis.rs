//! Axes: from values to places between 0 and 1, with ticks at round numbers.

/// A tick and what stands beside it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    pub(crate) value: f64,
    pub(crate) text: String,
}

/// One axis of a plot.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) ticks: Vec<Tick>,
    low: f64,
    high: f64,
    log: bool,
}

/// Ticks per axis that fit a small panel.
const TICKS: f64 = 5.0;
/// Ticks closer than this share of the axis would overlap.
const MIN_GAP: f64 = 0.065;
/// And for each character of a label.
const GAP_OF_CHARACTER: f64 = 0.026;

impl Axis {
    /// A linear axis over the values, widened to round ends inside `[floor, ceiling]`.
    /// None where no value is finite.
    pub(crate) fn linear(
        label: &str,
        values: impl IntoIterator<Item = f64>,
        [floor, ceiling]: [f64; 2],
    ) -> Option<Self> {
        let (low, high) = extent(values)?;
        let margin = match high - low {
            0.0 => (high.abs() * 0.1).max(0.5),
            range => range * 0.04,
        };
        let (low, high) = ((low - margin).max(floor), (high + margin).min(ceiling));
        let step = round_step((high - low) / TICKS);
        let low = ((low / step).floor() * step).max(floor);
        let high = ((high / step).ceil() * step).min(ceiling);
        Some(Self::linear_between(label, [low, high], step))
    }

    /// A linear axis that ends a little outside the values, wherever that is: for many points over
    /// a range that round ends would widen much. None where no value is finite.
    pub(crate) fn snug(label: &str, values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (low, high) = extent(values)?;
        let margin = match high - low {
            0.0 => 0.5,
            range => range * 0.05,
        };
        let (low, high) = (low - margin, high + margin);
        let step = round_step((high - low) / TICKS);
        Some(Self::linear_between(label, [low, high], step))
    }

    fn linear_between(label: &str, [low, high]: [f64; 2], step: f64) -> Self {
        let first = (low / step).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        let ticks = (first..=last).map(|index| index as f64 * step);
        Self {
            label: label.to_owned(),
            ticks: ticks.map(|value| tick(value, step)).collect(),
            low,
            high,
            log: false,
        }
    }

    /// A logarithmic axis over the positive values, widened to 1, 2 or 5 times a power of ten.
    /// None where no value is positive.
    pub(crate) fn log(label: &str, values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (low, high) = extent(values.into_iter().filter(|&value| value > 0.0))?;
        let candidates = log_candidates(low, high);
        let below = candidates.iter().rfind(|&&value| value <= low * 1.001);
        let above = candidates.iter().find(|&&value| value >= high * 0.999);
        let (low, mut high) = (*below?, *above?);
        if low == high {
            high = low * 10.0;
        }
        let inside = candidates
            .into_iter()
            .filter(|value| (low..=high).contains(value));
        Some(Self::log_between(
            label,
            [low, high],
            &inside.collect::<Vec<_>>(),
        ))
    }

    /// A logarithmic axis with a tick at each of the positive values, as far as they fit.
    pub(crate) fn log_at(label: &str, values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|&value| value > 0.0).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let (low, high) = extent(values.iter().copied())?;
        Some(Self::log_between(label, [low / 1.3, high * 1.3], &values))
    }

    /// A logarithmic axis that ends where told, with ticks at powers of ten inside, or at its ends
    /// where there are fewer than two.
    pub(crate) fn log_between_ends([low, high]: [f64; 2]) -> Self {
        let inside = |value: &f64| (low..=high).contains(value);
        let powers = log_candidates(low, high).into_iter().step_by(3);
        let powers: Vec<f64> = powers.filter(inside).collect();
        match powers.len() {
            0 | 1 => Self::log_between("", [low, high], &[low, high]),
            _ => Self::log_between("", [low, high], &powers),
        }
    }

    fn log_between(label: &str, [low, high]: [f64; 2], candidates: &[f64]) -> Self {
        let mut axis = Self {
            label: label.to_owned(),
            ticks: Vec::new(),
            low,
            high,
            log: true,
        };
        let decades = (high / low).log10();
        let mut last = f64::NEG_INFINITY;
        for &value in candidates {
            let whole = (value.log10() - value.log10().round()).abs() < 1e-9;
            let place = axis.place(value).unwrap_or(0.0);
            let text = log_text(value);
            let gap = MIN_GAP.max(GAP_OF_CHARACTER * text.chars().count() as f64);
            if (decades <= 2.2 || whole || candidates.len() <= 8) && place - last >= gap {
                axis.ticks.push(Tick { value, text });
                last = place;
            }
        }
        axis
    }

    /// Without ticks between whole numbers, for axes that count.
    pub(crate) fn at_whole_numbers(mut self) -> Self {
        self.ticks.retain(|tick| tick.value.fract() == 0.0);
        for tick in &mut self.ticks {
            tick.text = format!("{:.0}", tick.value);
        }
        self
    }

    /// Where a value lies, from 0 to 1. None outside the axis.
    pub(crate) fn place(&self, value: f64) -> Option<f64> {
        let place = match self.log {
            true if value <= 0.0 => return None,
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        (-1e-6..=1.0 + 1e-6).contains(&place).then_some(place)
    }

    /// The nearest place on the axis, for ends of intervals that lie outside.
    pub(crate) fn clamp(&self, value: f64) -> f64 {
        self.place(value.clamp(self.low, self.high)).unwrap_or(0.0)
    }
}

fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |extent, value| {
        let (low, high) = extent.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn round_step(step: f64) -> f64 {
    let unit = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|factor| factor * unit >= step * 0.999);
    factor.unwrap_or(10.0) * unit
}

fn log_candidates(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    decades
        .flat_map(|decade| [1.0, 2.0, 5.0].map(|factor| factor * 10f64.powi(decade)))
        .collect()
}

fn tick(value: f64, step: f64) -> Tick {
    let decimals = (-step.log10().floor()).clamp(0.0, 8.0) as usize;
    // Adding zero turns -0 into 0.
    let text = format!("{:.decimals$}", value + 0.0);
    Tick { value, text }
}

/// Plain where short, else a power of ten.
fn log_text(value: f64) -> String {
    let exponent = (value.log10() + 1e-9).floor();
    if (-3.0..5.0).contains(&exponent) {
        return short(value);
    }
    let factor = (value / 10f64.powf(exponent)).round();
    let power = format!("10{}", superscript(exponent as i32));
    match factor {
        1.0 => power,
        _ => format!("{factor}·{power}"),
    }
}

fn superscript(number: i32) -> String {
    let digits = number.to_string();
    let raised = digits.chars().map(|digit| match digit {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '0' => '⁰',
        // The others follow one another from U+2074.
        _ => char::from_u32(0x2070 + digit.to_digit(10).unwrap_or(0)).unwrap_or(digit),
    });
    raised.collect()
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
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.text.as_str()).collect()
    }

    #[test]
    fn linear_axes_end_at_round_numbers_inside_their_bounds() {
        let axis = Axis::linear("%", [47.5, 98.2], [0.0, 100.0]).unwrap();
        assert_eq!(texts(&axis), ["40", "60", "80", "100"]);
        assert_eq!(axis.place(100.0), Some(1.0));
        assert_eq!(axis.place(101.0), None);
        let axis = Axis::linear("%", [0.31, 0.33], [0.0, 1.0]).unwrap();
        assert_eq!(texts(&axis)[..2], ["0.305", "0.310"]);
    }

    #[test]
    fn snug_axes_end_beside_their_values() {
        let axis = Axis::snug("ms", [6.0, 30.0]).unwrap();
        assert_eq!(texts(&axis), ["10", "20", "30"]);
        assert!(
            axis.place(6.0)
                .is_some_and(|place| place > 0.0 && place < 0.06)
        );
    }

    #[test]
    fn one_value_still_makes_an_axis_and_none_makes_none() {
        let axis = Axis::linear("x", [3.0], [f64::MIN, f64::MAX]).unwrap();
        assert!(axis.place(3.0).is_some() && axis.ticks.len() > 1);
        assert!(Axis::log("x", [7.0]).unwrap().place(7.0).is_some());
        assert!(Axis::linear("x", [f64::NAN], [0.0, 1.0]).is_none());
        assert!(Axis::log("x", [0.0, -1.0]).is_none());
    }

    #[test]
    fn log_axes_have_a_tick_per_decade_where_they_are_long() {
        let axis = Axis::log("KL", [2e-6, 0.4]).unwrap();
        let expected = ["10⁻⁵", "10⁻⁴", "0.001", "0.01", "0.1"];
        assert_eq!(texts(&axis), expected);
        let axis = Axis::log("ms", [6.0, 21.0]).unwrap();
        assert_eq!(texts(&axis), ["5", "10", "20", "50"]);
        assert!(axis.place(0.0).is_none());
    }

    #[test]
    fn log_ticks_stand_at_the_values_unless_they_would_overlap() {
        let axis = Axis::log_at("%", [5.0, 1.0, 2.0, 10.0, 10.5, 5.0]).unwrap();
        assert_eq!(texts(&axis), ["1", "2", "5", "10"]);
        let tokens = [512.0, 1024.0, 2048.0, 3072.0, 4096.0, 6144.0, 7680.0];
        let axis = Axis::log_at("tokens", tokens).unwrap();
        assert_eq!(texts(&axis), ["512", "1024", "2048", "3072", "6144"]);
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
