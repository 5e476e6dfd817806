//! Checks shared by the request fields. Each error names the field by its path in the API.

use crate::config::Limits;
use crate::pipeline::AnswerError;

pub(super) type Checked<T> = Result<T, AnswerError>;

pub(super) fn check_text(field: &'static str, text: &str, limits: &Limits) -> Checked<()> {
    if text.trim().is_empty() {
        return Err(AnswerError::invalid(field, "must not be blank"));
    }
    check_length(field, text, limits.max_question_bytes)
}

pub(super) fn check_length(field: &'static str, text: &str, limit: usize) -> Checked<()> {
    if text.len() <= limit {
        return Ok(());
    }
    Err(AnswerError::invalid(
        field,
        format!("has {} bytes, the limit is {limit}", text.len()),
    ))
}

pub(super) fn check_count(field: &'static str, count: usize, limit: usize) -> Checked<()> {
    if count <= limit {
        return Ok(());
    }
    Err(AnswerError::invalid(
        field,
        format!("has {count} entries, the limit is {limit}"),
    ))
}

pub(super) fn in_range(
    field: &'static str,
    value: u32,
    least: usize,
    most: usize,
) -> Checked<usize> {
    let value = value as usize;
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(AnswerError::invalid(
        field,
        format!("must lie in {least}..={most}, is {value}"),
    ))
}

/// An enum value of this version. proto3 enums are open: any number can arrive.
pub(super) fn known<E: TryFrom<i32>>(field: &'static str, value: i32) -> Checked<E> {
    E::try_from(value)
        .map_err(|_| AnswerError::invalid(field, format!("{value} is not a known value")))
}

pub(super) fn unspecified(field: &'static str) -> AnswerError {
    AnswerError::invalid(
        field,
        "must name a value; leave the field out to get the default",
    )
}
