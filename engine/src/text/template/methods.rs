//! Methods of strings, lists and mappings as in Python, for those that `minijinja-contrib` lacks or
//! implements with other arguments.

use std::collections::HashSet;

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::arguments::{flag, integer, iterable, named, refuse, required, string};
use super::size;

mod padding;
mod search;

/// Calls a method that the value itself does not have.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    size::charge(state, n_bytes(args))?;
    let own = match (value.as_str(), value.kind()) {
        (Some(text), _) => string_method(state, text, method, args)?,
        (None, ValueKind::Seq) => list_method(value, method, args)?,
        (None, ValueKind::Map) if method == "copy" => Some(value.clone()),
        _ => None,
    };
    match own {
        Some(result) => Ok(result),
        None => pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// Bytes of the strings among the arguments plus items of the lists.
pub(super) fn n_bytes(args: &[Value]) -> usize {
    let size = |arg: &Value| match arg.as_str() {
        Some(text) => text.len(),
        None => arg.len().unwrap_or(0),
    };
    let named = args.iter().filter(|arg| arg.is_kwargs());
    let named = named.flat_map(|arg| {
        let names = arg.try_iter().into_iter().flatten();
        names.filter_map(|name| arg.get_item(&name).ok())
    });
    args.iter().map(size).sum::<usize>() + named.map(|arg| size(&arg)).sum::<usize>()
}

fn list_method(list: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(match method {
        "copy" => Some(list.clone()),
        "index" => {
            let [item] = named(args, ["value"])?;
            let item = required(item, "value")?;
            let place = list.try_iter()?.position(|other| other == item);
            let place = place.ok_or_else(|| refuse("the item is not in the list".to_owned()))?;
            Some(Value::from(place))
        }
        _ => None,
    })
}

fn string_method(
    state: &State,
    text: &str,
    method: &str,
    args: &[Value],
) -> Result<Option<Value>, Error> {
    let result = match method {
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = named(args, ["chars"])?;
            let chars = string(chars)?;
            Value::from(strip(
                text,
                chars.as_deref(),
                method != "rstrip",
                method != "lstrip",
            ))
        }
        "split" | "rsplit" => split(state, text, method == "rsplit", args)?,
        "partition" | "rpartition" => partition(text, method == "rpartition", args)?,
        "splitlines" => splitlines(state, text, args)?,
        "startswith" | "endswith" => search::starts_or_ends(text, method == "endswith", args)?,
        "find" | "rfind" | "index" | "rindex" | "count" => search::find(text, method, args)?,
        "replace" => replace(state, text, args)?,
        "removeprefix" | "removesuffix" => remove_affix(text, method == "removeprefix", args)?,
        "join" => join(state, text, args)?,
        "zfill" | "ljust" | "rjust" | "center" => padding::pad(text, method, args)?,
        "title" => Value::from(title(text)),
        "swapcase" => Value::from(text.chars().flat_map(swapped).collect::<String>()),
        _ => return Ok(None),
    };
    Ok(Some(result))
}

/// Python counts the four separators of ASCII as white space too.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Removes white space, or any of `chars`, from the requested ends.
pub(super) fn strip<'t>(text: &'t str, chars: Option<&str>, start: bool, end: bool) -> &'t str {
    let chars = chars.map(|chars| chars.chars().collect::<HashSet<char>>());
    let is_removed = |c: char| match &chars {
        Some(chars) => chars.contains(&c),
        None => is_space(c),
    };
    let text = if start {
        text.trim_start_matches(is_removed)
    } else {
        text
    };
    if end {
        text.trim_end_matches(is_removed)
    } else {
        text
    }
}

fn split(state: &State, text: &str, from_end: bool, args: &[Value]) -> Result<Value, Error> {
    let [sep, maxsplit] = named(args, ["sep", "maxsplit"])?;
    // A negative number sets no limit.
    let limit = usize::try_from(integer(maxsplit)?.unwrap_or(-1)).unwrap_or(usize::MAX - 1);
    let mut parts: Vec<&str> = match (string(sep)?.as_deref(), from_end) {
        (Some(""), _) => return Err(refuse("empty separator".to_owned())),
        (Some(sep), false) => text.splitn(limit + 1, sep).collect(),
        (Some(sep), true) => text.rsplitn(limit + 1, sep).collect(),
        (None, false) => split_words(text, limit),
        (None, true) => rsplit_words(text, limit),
    };
    if from_end {
        parts.reverse();
    }
    list_of(state, &parts)
}

fn list_of(state: &State, parts: &[&str]) -> Result<Value, Error> {
    size::charge_result(state, size_of_val(parts))?;
    Ok(parts.iter().copied().map(Value::from).collect())
}

fn split_words(text: &str, limit: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = rest.find(is_space).filter(|_| parts.len() < limit);
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        parts.push(word);
        rest = after.trim_start_matches(is_space);
    }
    parts
}

/// The last word first.
fn rsplit_words(text: &str, limit: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim_end_matches(is_space);
    while !rest.is_empty() {
        let space = rest.rfind(is_space).filter(|_| parts.len() < limit);
        let start = space.map_or(0, |at| {
            at + rest[at..].chars().next().map_or(0, char::len_utf8)
        });
        parts.push(&rest[start..]);
        rest = rest[..space.unwrap_or(0)].trim_end_matches(is_space);
    }
    parts
}

fn partition(text: &str, from_end: bool, args: &[Value]) -> Result<Value, Error> {
    let sep = text_argument(args, "sep")?;
    if sep.is_empty() {
        return Err(refuse("empty separator".to_owned()));
    }
    let cut = if from_end {
        text.rsplit_once(&sep)
    } else {
        text.split_once(&sep)
    };
    let parts = match (cut, from_end) {
        (Some((before, after)), _) => [before, &sep, after],
        (None, false) => [text, "", ""],
        (None, true) => ["", "", text],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

fn splitlines(state: &State, text: &str, args: &[Value]) -> Result<Value, Error> {
    const ENDS: [char; 10] = [
        '\n', '\r', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\u{85}', '\u{2028}', '\u{2029}',
    ];
    let [keepends] = named(args, ["keepends"])?;
    let keepends = flag(keepends);
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(ENDS) {
        let width = match rest[end..].starts_with("\r\n") {
            true => 2,
            false => rest[end..].chars().next().map_or(1, char::len_utf8),
        };
        lines.push(&rest[..if keepends { end + width } else { end }]);
        rest = &rest[end + width..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    list_of(state, &lines)
}

fn replace(state: &State, text: &str, args: &[Value]) -> Result<Value, Error> {
    let [old, new, count] = named(args, ["old", "new", "count"])?;
    let [Some(old), Some(new)] = [string(old)?, string(new)?] else {
        return Err(refuse("expected two strings".to_owned()));
    };
    let count = usize::try_from(integer(count)?.unwrap_or(-1)).unwrap_or(usize::MAX);
    if new.len() > old.len() {
        let n_matches = text.matches(&old).take(count).count();
        size::charge_result(state, text.len() + n_matches * (new.len() - old.len()))?;
    }
    Ok(Value::from(text.replacen(&old, &new, count)))
}

fn remove_affix(text: &str, is_prefix: bool, args: &[Value]) -> Result<Value, Error> {
    let affix = text_argument(args, "affix")?;
    let rest = if is_prefix {
        text.strip_prefix(&affix)
    } else {
        text.strip_suffix(&affix)
    };
    Ok(Value::from(rest.unwrap_or(text)))
}

fn join(state: &State, separator: &str, args: &[Value]) -> Result<Value, Error> {
    let [items] = named(args, ["iterable"])?;
    let items = required(items, "iterable")?;
    iterable(&items)?;
    size::charge_result(state, items.len().unwrap_or(0) * size_of::<Value>())?;
    let items: Vec<Value> = items.try_iter()?.collect();
    let text = |item: &Value| match item.kind() {
        ValueKind::String => Ok(()),
        other => Err(refuse(format!("join takes strings, found a {other}"))),
    };
    items.iter().try_for_each(text)?;
    let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
    let n_bytes: usize = texts.iter().map(|text| text.len() + separator.len()).sum();
    size::charge_result(state, n_bytes)?;
    Ok(Value::from(texts.join(separator)))
}

/// Upper case after anything that is not a letter, an apostrophe too.
fn title(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        match in_word {
            true => result.extend(c.to_lowercase()),
            false => result.extend(c.to_uppercase()),
        }
        in_word = c.is_lowercase() || c.is_uppercase();
    }
    result
}

fn swapped(c: char) -> Vec<char> {
    match c.is_uppercase() {
        true => c.to_lowercase().collect(),
        false => c.to_uppercase().collect(),
    }
}

fn text_argument(args: &[Value], name: &str) -> Result<String, Error> {
    let [text] = named(args, [name])?;
    string(text)?.ok_or_else(|| Error::new(ErrorKind::MissingArgument, format!("argument {name}")))
}
