//! How Python prints values, in `{{ }}` and in the filter `string`.

use minijinja::value::ValueKind;
use minijinja::{Error, Output, State, Value, escape_formatter};

use super::size::{self, Capped};

/// Writes a value into the output.
pub(super) fn format(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Number | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
            out.write_str(&printed(value)?).map_err(Error::from)
        }
        _ => escape_formatter(out, state, value),
    }
}

/// Python's `str()`, charged as fuel.
pub(super) fn str(state: &State, value: &Value) -> Result<String, Error> {
    let text = printed(value)?;
    size::charge(state, text.len())?;
    Ok(text)
}

/// MiniJinja prints lists and mappings as Python does.
fn printed(value: &Value) -> Result<String, Error> {
    match (value.as_str(), as_float(value)) {
        (Some(text), _) => Ok(text.to_owned()),
        (None, Some(number)) => Ok(float(number)),
        (None, None) => {
            let mut text = Capped::default();
            text.print(value)?;
            Ok(text.into_text())
        }
    }
}

/// Python's `float.__repr__`.
pub(super) fn float(number: f64) -> String {
    // Rust uses exponents where Python does, but writes 1e16 and 1e-7 for 1e+16 and 1e-07.
    let text = format!("{number:?}");
    match text.split_once('e') {
        None if number.is_nan() => "nan".to_owned(),
        None => text,
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            let digits = digits.strip_suffix(".0").unwrap_or(digits);
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

/// The value as a float, if it is a float and not an integer.
pub(super) fn as_float(value: &Value) -> Option<f64> {
    match value.kind() == ValueKind::Number && !value.is_integer() {
        true => f64::try_from(value.clone()).ok(),
        false => None,
    }
}
