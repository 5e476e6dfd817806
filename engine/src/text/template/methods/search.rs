//! Methods that look for one string in another.

use minijinja::{Error, Value};

use super::super::arguments::{integer, is_tuple, named, refuse, required, string};

pub(super) fn starts_or_ends(text: &str, at_end: bool, args: &[Value]) -> Result<Value, Error> {
    let [affix, start, end] = named(args, ["affix", "start", "end"])?;
    let affix = required(affix, "affix")?;
    let window = window(text, start, end)?;
    let holds = |affix: &str| match (window, at_end) {
        (Some((_, text)), true) => text.ends_with(affix),
        (Some((_, text)), false) => text.starts_with(affix),
        (None, _) => false,
    };
    if let Some(affix) = affix.as_str() {
        return Ok(Value::from(holds(affix)));
    }
    if !is_tuple(&affix) {
        return Err(refuse("expected a string or a tuple of strings".to_owned()));
    }
    let mut affixes = affix.try_iter()?;
    Ok(Value::from(
        affixes.any(|affix| affix.as_str().is_some_and(holds)),
    ))
}

pub(super) fn find(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let [sub, start, end] = named(args, ["sub", "start", "end"])?;
    let sub = string(sub)?.ok_or_else(|| refuse("expected a string".to_owned()))?;
    let window = window(text, start, end)?;
    if method == "count" {
        let count = window.map_or(0, |(_, text)| text.matches(&sub).count());
        return Ok(Value::from(count));
    }
    let place = |(skipped, text): (usize, &str)| {
        let at = match method.starts_with('r') {
            true => text.rfind(&sub),
            false => text.find(&sub),
        };
        at.map(|at| skipped + text[..at].chars().count())
    };
    match window.and_then(place) {
        Some(place) => Ok(Value::from(place)),
        None if method.ends_with("find") => Ok(Value::from(-1)),
        None => Err(refuse("substring not found".to_owned())),
    }
}

/// `text[start:end]`, and the number of characters before it. `None` if it begins beyond the
/// end, so that not even the empty string is in it.
fn window(
    text: &str,
    start: Option<Value>,
    end: Option<Value>,
) -> Result<Option<(usize, &str)>, Error> {
    let (start, end) = (integer(start)?, integer(end)?);
    if (start, end) == (None, None) {
        return Ok(Some((0, text)));
    }
    let n_chars = text.chars().count();
    let place = |at: i64| match usize::try_from(at) {
        Ok(at) => at,
        Err(_) => n_chars.saturating_sub(usize::try_from(at.unsigned_abs()).unwrap_or(n_chars)),
    };
    let start = start.map_or(0, place);
    let end = end.map_or(n_chars, place).min(n_chars);
    if start > end {
        return Ok(None);
    }
    let byte = |at: usize| {
        text.char_indices()
            .nth(at)
            .map_or(text.len(), |(byte, _)| byte)
    };
    Ok(Some((start, &text[byte(start)..byte(end)])))
}
