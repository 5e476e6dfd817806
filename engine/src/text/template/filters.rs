//! Filters as in Jinja2, for those where MiniJinja's own take other arguments or accept values that Python
//! refuses.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Environment, Error, State, Value, filters};

use super::arguments::{
    Arguments, flag, integer, iterable, keywords, named, refuse, required, string,
};
use super::json::Style;
use super::source::ITERABLE_FILTER;
use super::{json, methods, size, text};

/// The arguments of `unique`, `min` and `max` that say how items are compared.
const BY: [&str; 2] = ["case_sensitive", "attribute"];

pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter(ITERABLE_FILTER, |value: &Value| {
        iterable(value).map(|()| value.clone())
    });
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", |state: &State, value: &Value| {
        text::str(state, value)
    });
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("trim", trim);
    environment.add_filter("indent", indent);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("dictsort", dictsort);
    environment.add_filter("attr", attr);
    environment.add_filter("wordcount", |state: &State, value: &Value| {
        let text = text::str(state, value)?;
        let words = text.split(|c: char| !is_word(c));
        Ok::<usize, Error>(words.filter(|word| !word.is_empty()).count())
    });
    for name in ["escape", "e", "forceescape"] {
        environment.add_filter(name, escape);
    }
    add_refusing_none(environment);
}

/// MiniJinja's own filters, which treat `none` as an empty list.
fn add_refusing_none(environment: &mut Environment<'_>) {
    environment.add_filter("list", |state: &State, value: Value| {
        iterable(&value)?;
        filters::list(state, value)
    });
    environment.add_filter(
        "join",
        |state: &mut State, value: &Value, args: Arguments| {
            iterable(value)?;
            let args = args.into_values();
            let (joiner, attribute, keywords) = from_args(&args)?;
            filters::join(state, value, joiner, attribute, keywords)
        },
    );
    environment.add_filter("sort", |state: &State, value: Value, args: Arguments| {
        iterable(&value)?;
        let names = ["reverse", "case_sensitive", "attribute"];
        filters::sort(state, value, keywords(args, names)?)
    });
    environment.add_filter("unique", |state: &State, value: Value, args: Arguments| {
        iterable(&value)?;
        filters::unique(state, value, keywords(args, BY)?)
    });
    environment.add_filter("sum", |state: &State, value: Value, args: Arguments| {
        iterable(&value)?;
        let args = args.into_values();
        let (attribute, start, keywords) = from_args(&args)?;
        filters::sum(state, value, attribute, start, keywords)
    });
    environment.add_filter("min", |state: &State, value: Value, args: Arguments| {
        iterable(&value)?;
        filters::min(state, value, keywords(args, BY)?)
    });
    environment.add_filter("max", |state: &State, value: Value, args: Arguments| {
        iterable(&value)?;
        filters::max(state, value, keywords(args, BY)?)
    });
    environment.add_filter("batch", |state: &State, value: Value, args: Arguments| {
        iterable(&value)?;
        let [count, fill] = named(&args.into_values(), ["linecount", "fill_with"])?;
        let count = usize::try_from(required(count, "linecount")?)?;
        filters::batch(state, value, count, fill)
    });
}

/// `tojson` of transformers: unlike Jinja's own it does not escape for HTML.
fn tojson(state: &State, value: &Value, args: Arguments) -> Result<String, Error> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ensure_ascii, indent, separators, sort_keys] = named(&args.into_values(), names)?;
    let style = Style::new(flag(ensure_ascii), indent, separators, flag(sort_keys))?;
    json::to_json(state, value, &style)
}

/// Python's `int()`, or the default for what it cannot parse.
fn int(value: &Value, args: Arguments) -> Result<Value, Error> {
    defined(value)?;
    let [default, base] = named(&args.into_values(), ["default", "base"])?;
    let base = u32::try_from(integer(base)?.unwrap_or(10)).unwrap_or(10);
    let read = match (value.as_str(), value.kind()) {
        (Some(text), _) => read_int(text, base).map(Value::from),
        (None, ValueKind::Number | ValueKind::Bool) if text::as_float(value).is_none() => {
            i128::try_from(value.clone()).ok().map(Value::from)
        }
        (None, _) => text::as_float(value).and_then(truncated),
    };
    Ok(read.or(default).unwrap_or_else(|| Value::from(0)))
}

fn read_int(text: &str, base: u32) -> Option<i128> {
    let digits = text.trim().replace('_', "");
    let prefix = match base {
        16 => "0x",
        8 => "0o",
        2 => "0b",
        _ => "",
    };
    let lower = digits.to_lowercase();
    let (sign, unsigned) = lower.split_at(usize::from(lower.starts_with(['-', '+'])));
    let bare = unsigned.strip_prefix(prefix).unwrap_or(unsigned);
    match (2..=36).contains(&base) && !bare.starts_with(['-', '+']) {
        true => i128::from_str_radix(&format!("{sign}{bare}"), base)
            .ok()
            .or_else(|| read_float(text).filter(|_| base == 10).and_then(whole)),
        false => None,
    }
}

fn whole(number: f64) -> Option<i128> {
    (number.is_finite() && number.abs() < 1e38).then_some(number as i128)
}

fn truncated(number: f64) -> Option<Value> {
    whole(number).map(Value::from)
}

/// Python's `float()`, or the default for what it cannot parse.
fn float(value: &Value, args: Arguments) -> Result<Value, Error> {
    defined(value)?;
    let [default] = named(&args.into_values(), ["default"])?;
    let read = match value.as_str() {
        Some(text) => read_float(text),
        None if value.kind() == ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        None => f64::try_from(value.clone()).ok(),
    };
    let read = read.map(Value::from).or(default);
    Ok(read.unwrap_or_else(|| Value::from(0.0)))
}

fn read_float(text: &str) -> Option<f64> {
    text.trim().replace('_', "").parse().ok()
}

fn defined(value: &Value) -> Result<(), Error> {
    match value.is_undefined() {
        true => Err(refuse("the value is undefined".to_owned())),
        false => Ok(()),
    }
}

fn trim(state: &State, value: &Value, args: Arguments) -> Result<String, Error> {
    let args = args.into_values();
    size::charge(state, methods::n_bytes(&args))?;
    let [chars] = named(&args, ["chars"])?;
    let text = text::str(state, value)?;
    Ok(methods::strip(&text, string(chars)?.as_deref(), true, true).to_owned())
}

/// Indents all lines but the first and the empty ones.
fn indent(state: &State, value: &Value, args: Arguments) -> Result<String, Error> {
    let Some(text) = value.as_str() else {
        return Err(refuse(format!("cannot indent a {}", value.kind())));
    };
    let [width, first, blank] = named(&args.into_values(), ["width", "first", "blank"])?;
    let indention = match width {
        Some(width) if width.as_str().is_some() => text::str(state, &width)?,
        width => " ".repeat(
            usize::try_from(integer(width)?.unwrap_or(4))
                .unwrap_or(0)
                .min(1024),
        ),
    };
    let (first, blank) = (flag(first), flag(blank));
    let n_lines = 1 + text.matches('\n').count();
    size::charge_result(state, text.len() + n_lines * indention.len())?;
    let mut result = String::with_capacity(text.len());
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            result.push('\n');
        }
        let is_indented = match i {
            0 => first,
            _ => blank || !line.is_empty(),
        };
        if is_indented {
            result.push_str(&indention);
        }
        result.push_str(line);
    }
    Ok(result)
}

fn default(value: &Value, args: Arguments) -> Result<Value, Error> {
    let [default, boolean] = named(&args.into_values(), ["default_value", "boolean"])?;
    let is_missing = value.is_undefined() || flag(boolean) && !value.is_true();
    Ok(match is_missing {
        true => default.unwrap_or_else(|| Value::from("")),
        false => value.clone(),
    })
}

fn dictsort(value: &Value, args: Arguments) -> Result<Value, Error> {
    filters::dictsort(value, keywords(args, ["case_sensitive", "by", "reverse"])?)
}

/// Attributes only: the keys of a mapping are items.
fn attr(value: &Value, name: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Map => Ok(Value::UNDEFINED),
        _ => filters::attr(value, name),
    }
}

fn escape(state: &State, value: &Value) -> Result<Value, Error> {
    let text = text::str(state, value)?
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&#39;")
        .replace('"', "&#34;");
    Ok(Value::from_safe_string(text))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
