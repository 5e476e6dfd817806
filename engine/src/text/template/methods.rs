//! Methods of strings, lists and mappings as Python has them, where `minijinja-contrib` has none or
//! takes other arguments.

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::arguments::{flag, integer, is_tuple, named, refuse, required, string};

/// The longest text that padding makes, characters.
const MAX_WIDTH: usize = 1 << 16;

/// Calls a method that the value itself does not have.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let own = match (value.as_str(), value.kind()) {
        (Some(text), _) => string_method(text, method, args)?,
        (None, ValueKind::Seq) => list_method(value, method, args)?,
        (None, ValueKind::Map) if method == "copy" => Some(value.clone()),
        _ => None,
    };
    match own {
        Some(result) => Ok(result),
        None => pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn list_method(list: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(match method {
        "copy" => Some(list.clone()),
        "index" => {
            let [item] = named(args, ["value"])?;
            let item = required(item, "value")?;
            let place = list.try_iter()?.position(|other| other == item);
            let place = place.ok_or_else(|| refuse(format!("{item:?} is not in list")))?;
            Some(Value::from(place))
        }
        _ => None,
    })
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
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
        "split" | "rsplit" => split(text, method == "rsplit", args)?,
        "partition" | "rpartition" => partition(text, method == "rpartition", args)?,
        "splitlines" => splitlines(text, args)?,
        "startswith" | "endswith" => starts_or_ends(text, method == "endswith", args)?,
        "find" | "rfind" | "index" | "rindex" | "count" => find(text, method, args)?,
        "replace" => replace(text, args)?,
        "removeprefix" | "removesuffix" => remove_affix(text, method == "removeprefix", args)?,
        "join" => join(text, args)?,
        "zfill" | "ljust" | "rjust" | "center" => pad(text, method, args)?,
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

/// Removes white space, or any of `chars`, from the ends asked for.
pub(super) fn strip<'t>(text: &'t str, chars: Option<&str>, start: bool, end: bool) -> &'t str {
    let is_removed = |c: char| match chars {
        Some(chars) => chars.contains(c),
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

fn split(text: &str, from_end: bool, args: &[Value]) -> Result<Value, Error> {
    let [sep, maxsplit] = named(args, ["sep", "maxsplit"])?;
    // A negative number is no limit.
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
    Ok(parts.into_iter().map(Value::from).collect())
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

fn splitlines(text: &str, args: &[Value]) -> Result<Value, Error> {
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
    Ok(lines.into_iter().map(Value::from).collect())
}

fn starts_or_ends(text: &str, at_end: bool, args: &[Value]) -> Result<Value, Error> {
    let [affix, start, end] = named(args, ["affix", "start", "end"])?;
    let affix = required(affix, "affix")?;
    let (_, text) = window(text, start, end)?;
    let holds = |affix: &str| match at_end {
        true => text.ends_with(affix),
        false => text.starts_with(affix),
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

fn find(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let [sub, start, end] = named(args, ["sub", "start", "end"])?;
    let sub = string(sub)?.ok_or_else(|| refuse("expected a string".to_owned()))?;
    let (skipped, text) = window(text, start, end)?;
    if method == "count" {
        return Ok(Value::from(text.matches(&sub).count()));
    }
    let found = if method.starts_with('r') {
        text.rfind(&sub)
    } else {
        text.find(&sub)
    };
    match found {
        Some(at) => Ok(Value::from(skipped + text[..at].chars().count())),
        None if method.ends_with("find") => Ok(Value::from(-1)),
        None => Err(refuse("substring not found".to_owned())),
    }
}

/// `text[start:end]`, and how many characters it begins after.
fn window(text: &str, start: Option<Value>, end: Option<Value>) -> Result<(usize, &str), Error> {
    let (start, end) = (integer(start)?, integer(end)?);
    if (start, end) == (None, None) {
        return Ok((0, text));
    }
    let n_chars = text.chars().count();
    let place = |at: i64| match usize::try_from(at) {
        Ok(at) => at.min(n_chars),
        Err(_) => n_chars.saturating_sub(usize::try_from(at.unsigned_abs()).unwrap_or(n_chars)),
    };
    let (start, end) = (start.map_or(0, place), end.map_or(n_chars, place));
    let byte = |at: usize| {
        text.char_indices()
            .nth(at)
            .map_or(text.len(), |(byte, _)| byte)
    };
    Ok((start, text.get(byte(start)..byte(end)).unwrap_or_default()))
}

fn replace(text: &str, args: &[Value]) -> Result<Value, Error> {
    let [old, new, count] = named(args, ["old", "new", "count"])?;
    let [Some(old), Some(new)] = [string(old)?, string(new)?] else {
        return Err(refuse("expected two strings".to_owned()));
    };
    let count = usize::try_from(integer(count)?.unwrap_or(-1)).unwrap_or(usize::MAX);
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

fn join(separator: &str, args: &[Value]) -> Result<Value, Error> {
    let [items] = named(args, ["iterable"])?;
    let items = required(items, "iterable")?;
    super::arguments::iterable(&items)?;
    let text = |item: Value| match item.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(refuse(format!(
            "join takes strings, found a {}",
            item.kind()
        ))),
    };
    let texts: Vec<String> = items.try_iter()?.map(text).collect::<Result<_, _>>()?;
    Ok(Value::from(texts.join(separator)))
}

fn pad(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let [width, fill] = named(args, ["width", "fillchar"])?;
    let width = usize::try_from(integer(width)?.unwrap_or(0)).unwrap_or(0);
    if width > MAX_WIDTH {
        return Err(refuse(format!("width {width} is more than {MAX_WIDTH}")));
    }
    let fill = string(fill)?.unwrap_or_else(|| " ".to_owned());
    let missing = width.saturating_sub(text.chars().count());
    let padded = match method {
        "zfill" => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
            format!("{sign}{}{digits}", "0".repeat(missing))
        }
        "ljust" => format!("{text}{}", fill.repeat(missing)),
        "rjust" => format!("{}{text}", fill.repeat(missing)),
        _ => {
            // Python gives the odd one to the left where the width is odd.
            let left = missing / 2 + (missing & width & 1);
            format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left))
        }
    };
    Ok(Value::from(padded))
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
