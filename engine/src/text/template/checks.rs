//! Tests (`x is ...`) as Jinja2 has them.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, State, Value, tests};

use super::arguments::refuse;
use super::text;

pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_test("callable", is_callable);
    environment.add_test("odd", |value: Value| {
        number(&value).map(|()| tests::is_odd(value))
    });
    environment.add_test("even", |value: Value| {
        number(&value).map(|()| tests::is_even(value))
    });
    environment.add_test("divisibleby", |value: &Value, other: &Value| {
        number(value).map(|()| tests::is_divisibleby(value, other))
    });
    environment.add_test("lower", |state: &State, value: &Value| {
        as_text(state, value).map(|text| tests::is_lower(&text))
    });
    environment.add_test("upper", |state: &State, value: &Value| {
        as_text(state, value).map(|text| tests::is_upper(&text))
    });
}

fn number(value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Number | ValueKind::Bool => Ok(()),
        other => Err(refuse(format!("expected a number, found {other}"))),
    }
}

/// `none` is not iterable; an undefined value is, as an empty sequence.
fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || value.kind() == ValueKind::Iterable
}

/// A value with a length and items, strings and mappings included.
fn is_sequence(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map => true,
        // Slices and ranges.
        ValueKind::Iterable => value.len().is_some(),
        _ => false,
    }
}

/// Functions and macros. Calling an undefined value fails only at the call.
fn is_callable(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Undefined | ValueKind::Plain)
}

fn as_text(state: &State, value: &Value) -> Result<Value, Error> {
    text::str(state, value).map(Value::from)
}
