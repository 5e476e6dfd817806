//! The arrival rates of a load test: given, or multiples of what the engine can do. Pure.

use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Multiples of the capacity that `auto` offers: from an idle engine to one that falls behind.
const AUTO_MULTIPLES: [f64; 6] = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5];

/// The slowest rate: one request in 17 minutes.
const MIN_RATE: f64 = 0.001;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rates {
    /// Multiples of the measured capacity.
    Auto,
    /// Requests per second.
    Given(Vec<f64>),
}

impl FromStr for Rates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            list => list
                .split(',')
                .map(parse_rate)
                .collect::<Result<_, _>>()
                .map(Self::Given),
        }
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.trim().parse().ok();
    let rate = rate.filter(|rate: &f64| rate.is_finite() && *rate >= MIN_RATE);
    rate.ok_or_else(|| {
        format!("`{text}` is not a rate; write auto, or requests per second from {MIN_RATE} on such as 0.5,1,2")
    })
}

pub(super) fn around(capacity: f64) -> Vec<f64> {
    let rates = AUTO_MULTIPLES.map(|multiple| four_digits(multiple * capacity));
    rates.to_vec()
}

/// Rounded to four significant digits: short in tables, and the same when read back from a file.
fn four_digits(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

impl Serialize for Rates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Given(rates) => rates.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_positive_numbers_or_auto() {
        assert_eq!("auto".parse(), Ok(Rates::Auto));
        assert_eq!("0.5, 2".parse(), Ok(Rates::Given(vec![0.5, 2.0])));
        for (text, bad) in [("0", "`0`"), ("1,x", "`x`"), ("1,", "``"), ("inf", "`inf`")] {
            let error = text.parse::<Rates>().unwrap_err();
            assert!(error.contains(bad) && error.contains("auto"), "{error}");
        }
    }

    #[test]
    fn auto_surrounds_the_capacity_with_short_numbers() {
        let rates = around(123.456_789);
        assert_eq!(rates, [30.86, 61.73, 92.59, 123.5, 154.3, 185.2]);
        assert_eq!(four_digits(0.012_345_6), 0.012_35);
    }
}
