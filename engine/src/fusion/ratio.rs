//! A share between 0 and 1, checked once, when it is made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A finite number in `0..=1`. A value of this type needs no range check.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Ratio(f64);

/// Why a ratio was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadRatio {
    #[error("`{0}` is not a number")]
    NotANumber(String),
    #[error("{0} is not between 0 and 1")]
    OutOfRange(f64),
}

impl Ratio {
    pub const ZERO: Self = Self(0.0);
    pub const ONE: Self = Self(1.0);

    /// # Errors
    /// If the number is not in `0..=1`.
    pub fn new(ratio: f64) -> Result<Self, BadRatio> {
        match (0.0..=1.0).contains(&ratio) {
            true => Ok(Self(ratio)),
            false => Err(BadRatio::OutOfRange(ratio)),
        }
    }

    /// The ratio for `percent`; above 100 it is 1.
    pub const fn of_percent(percent: u8) -> Self {
        match percent {
            0..100 => Self(percent as f64 / 100.0),
            100.. => Self::ONE,
        }
    }

    pub const fn get(self) -> f64 {
        self.0
    }

    /// Whether the ratio is neither 0 nor 1.
    pub fn is_partial(self) -> bool {
        self != Self::ZERO && self != Self::ONE
    }
}

impl TryFrom<f64> for Ratio {
    type Error = BadRatio;

    fn try_from(ratio: f64) -> Result<Self, BadRatio> {
        Self::new(ratio)
    }
}

impl From<Ratio> for f64 {
    fn from(ratio: Ratio) -> Self {
        ratio.0
    }
}

impl FromStr for Ratio {
    type Err = BadRatio;

    /// Ignores blanks around the number.
    fn from_str(text: &str) -> Result<Self, BadRatio> {
        let number = text.trim().parse();
        Self::new(number.map_err(|_| BadRatio::NotANumber(text.to_owned()))?)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_from_0_to_1_are_ratios() {
        for ratio in [0.0, 0.15, 1.0] {
            assert_eq!(Ratio::new(ratio).unwrap().get(), ratio);
        }
        for ratio in [-0.1, 1.01, f64::NAN, f64::INFINITY] {
            let error = Ratio::new(ratio).unwrap_err().to_string();
            assert_eq!(error, format!("{ratio} is not between 0 and 1"));
        }
        assert_eq!(" 0.15".parse(), Ok(Ratio::of_percent(15)));
        let error = "ten".parse::<Ratio>().unwrap_err();
        assert_eq!(error.to_string(), "`ten` is not a number");
    }

    #[test]
    fn percents_are_the_ratios_that_people_write() {
        for (percent, written) in [(0, "0"), (5, "0.05"), (35, "0.35"), (100, "1"), (255, "1")] {
            assert_eq!(Ratio::of_percent(percent).to_string(), written);
        }
        assert!(!Ratio::ZERO.is_partial() && !Ratio::ONE.is_partial());
        assert!(Ratio::of_percent(1).is_partial());
    }

    #[test]
    fn serde_reads_and_writes_the_number() {
        let read = |text: &str| serde_json::from_str::<Ratio>(text);
        assert_eq!(read("1").unwrap(), Ratio::ONE);
        assert!(
            read("1.5")
                .unwrap_err()
                .to_string()
                .contains("between 0 and 1")
        );
        assert_eq!(
            serde_json::to_string(&Ratio::of_percent(15)).unwrap(),
            "0.15"
        );
    }
}
