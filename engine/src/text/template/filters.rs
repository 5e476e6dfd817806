//! Filters as Jinja2 has them, where the engine's own take other arguments, or values that Python
//! refuses.

use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Environment, Error, State, Value, filters};

use super::arguments::{Arguments, flag, integer, iterable, named, refuse, required, string};
use super::json::Style;
use super::source::ITERABLE_FILTER;
use super::{json, methods, text};

pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter(ITERABLE_FILTER, |value: &Value| {
        iterable(value).map(|()| value.clone())
    });
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", |value: &Value| text::str(value));
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("trim", trim);
    environment.add_filter("indent", indent);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("dictsort", dictsort);
    environment.add_filter("attr", attr);
    environment.add_filter("wordcount", |value: &Value| {
        text::str(value)
            .split(|c: char| !is_word(c))
            .filter(|word| !word.is_empty())
            .count()
    });
    for name in ["escape", "e", "forceescape"] {
        environment.add_filter(name, escape);
    }
    add_refusing_none(environment);
}

/// The engine's own, which take none as an empty list.
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
        let [reverse, case_sensitive, attribute] = named(
            &args.into_values(),
            ["reverse", "case_sensitive", "attribute"],
        )?;
        let keywords = [
            ("reverse", reverse),
            ("case_sensitive", case_sensitive),
            ("attribute", attribute),
        ];
        filters::sort(state, value, given(keywords))
    });
    environment.add_filter("unique", |state: &State, value: Value, args: Arguments| {
        iterable(&value)?;
        let [case_sensitive, attribute] =
            named(&args.into_values(), ["case_sensitive", "attribute"])?;
        let keywords = [("case_sensitive", case_sensitive), ("attribute", attribute)];
        filters::unique(state, value, given(keywords))
    });
    environment.add_filter("sum", |state: &State, value: Value, args: Arguments| {
        iterable(&value)?;
        let args = args.into_values();
        let (attribute, start, keywords) = from_args(&args)?;
        filters::sum(state, value, attribute, start, keywords)
    });
    environment.add_filter("min", |state: &State, value: Value, args: Arguments| {
        iterable(&value)?;
        filters::min(state, value, extreme(args)?)
    });
    environment.add_filter("max", |state: &State, value: Value, args: Arguments| {
        iterable(&value)?;
        filters::max(state, value, extreme(args)?)
    });
    environment.add_filter("batch", |state: &State, value: Value, args: Arguments| {
        iterable(&value)?;
        let [count, fill] = named(&args.into_values(), ["linecount", "fill_with"])?;
        let count = usize::try_from(required(count, "linecount")?)?;
        filters::batch(state, value, count, fill)
    });
}

fn extreme(args: Arguments) -> Result<Kwargs, Error> {
    let [case_sensitive, attribute] = named(&args.into_values(), ["case_sensitive", "attribute"])?;
    Ok(given([
        ("case_sensitive", case_sensitive),
        ("attribute", attribute),
    ]))
}

/// The keyword arguments that were given.
fn given<const N: usize>(args: [(&str, Option<Value>); N]) -> Kwargs {
    args.into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// `tojson` of transformers: unlike Jinja's own it does not escape for HTML.
fn tojson(value: &Value, args: Arguments) -> Result<String, Error> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ensure_ascii, indent, separators, sort_keys] = named(&args.into_values(), names)?;
    let style = Style::new(flag(ensure_ascii), indent, separators, flag(sort_keys))?;
    json::to_json(value, &style)
}

/// Python's `int()`; what it cannot read is the default.
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
    let bare = lower.strip_prefix(prefix).unwrap_or(&lower);
    match (2..=36).contains(&base) {
        true => i128::from_str_radix(bare, base)
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

/// Python's `float()`; what it cannot read is the default.
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

fn trim(value: &Value, args: Arguments) -> Result<String, Error> {
    let [chars] = named(&args.into_values(), ["chars"])?;
    Ok(methods::strip(&text::str(value), string(chars)?.as_deref(), true, true).to_owned())
}

/// Indents all lines but the first, and none that is empty.
fn indent(value: &Value, args: Arguments) -> Result<String, Error> {
    let Some(text) = value.as_str() else {
        return Err(refuse(format!("cannot indent a {}", value.kind())));
    };
    let [width, first, blank] = named(&args.into_values(), ["width", "first", "blank"])?;
    let indention = match width {
        Some(width) if width.as_str().is_some() => text::str(&width),
        width => " ".repeat(
            usize::try_from(integer(width)?.unwrap_or(4))
                .unwrap_or(0)
                .min(1024),
        ),
    };
    let (first, blank) = (flag(first), flag(blank));
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
    let [case_sensitive, by, reverse] =
        named(&args.into_values(), ["case_sensitive", "by", "reverse"])?;
    let keywords = [
        ("case_sensitive", case_sensitive),
        ("by", by),
        ("reverse", reverse),
    ];
    filters::dictsort(value, given(keywords))
}

/// Attributes alone: the keys of a mapping are items.
fn attr(value: &Value, name: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Map => Ok(Value::UNDEFINED),
        _ => filters::attr(value, name),
    }
}

fn escape(value: &Value) -> Value {
    let text = text::str(value)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&#39;")
        .replace('"', "&#34;");
    Value::from_safe_string(text)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
