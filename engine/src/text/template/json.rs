//! JSON in the layout of Python's `json.dumps`, which is what templates were trained with: a space
//! after each comma and colon, or an indented block.

use std::fmt::Write;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

use super::arguments::string;
use super::size::{self, Capped};
use super::text;

/// The deepest nesting that is written. Without a limit a template could overflow the stack.
const MAX_DEPTH: usize = 64;
/// The widest indentation of one level.
const MAX_INDENT: usize = 16;

/// The arguments of `json.dumps`.
#[derive(Debug)]
pub(super) struct Style {
    ensure_ascii: bool,
    /// The indentation of one level.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

impl Style {
    /// `indent` is a number of spaces or a text, `separators` a pair of texts.
    pub(super) fn new(
        ensure_ascii: bool,
        indent: Option<Value>,
        separators: Option<Value>,
        sort_keys: bool,
    ) -> Result<Self, Error> {
        let indent = match indent.filter(|indent| !indent.is_none()) {
            Some(indent) if indent.as_str().is_some() => string(Some(indent))?,
            Some(indent) => {
                let width = usize::try_from(i64::try_from(indent)?).unwrap_or(0);
                Some(" ".repeat(width.min(MAX_INDENT)))
            }
            None => None,
        };
        let item_separator = if indent.is_some() { "," } else { ", " };
        let mut style = Self {
            ensure_ascii,
            indent: indent.map(|indent| indent.chars().take(MAX_INDENT).collect()),
            item_separator: item_separator.to_owned(),
            key_separator: ": ".to_owned(),
            sort_keys,
        };
        if let Some(separators) = separators.filter(|separators| !separators.is_none()) {
            let texts: Vec<Value> = separators.try_iter()?.collect();
            let [Some(item), Some(key)] = [texts.first(), texts.get(1)].map(|s| s?.as_str()) else {
                return Err(refuse("separators that are not two texts".to_owned()));
            };
            (style.item_separator, style.key_separator) = (item.to_owned(), key.to_owned());
        }
        Ok(style)
    }
}

/// `value` as JSON, charged as fuel. Keys keep their order unless they are to be sorted.
pub(super) fn to_json(state: &State, value: &Value, style: &Style) -> Result<String, Error> {
    let mut writer = Writer {
        text: Capped::default(),
        style,
    };
    writer.value(value, 0)?;
    let text = writer.text.into_text();
    size::charge_result(state, text.len())?;
    Ok(text)
}

struct Writer<'s> {
    text: Capped,
    style: &'s Style,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(refuse(format!("values nested deeper than {MAX_DEPTH}")));
        }
        match value.kind() {
            ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                self.text.push(&scalar(value))?;
            }
            ValueKind::String => self.string(value.as_str().unwrap_or_default())?,
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.block("[", "]", &items, depth, |writer, item| {
                    writer.value(item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.style.sort_keys {
                    keys.sort();
                }
                self.block("{", "}", &keys, depth, |writer, key| {
                    writer.key(key)?;
                    writer.text.push(&writer.style.key_separator)?;
                    writer.value(&value.get_item(key)?, depth + 1)
                })?;
            }
            other => return Err(refuse(format!("a value of type {other}"))),
        }
        Ok(())
    }

    fn block(
        &mut self,
        open: &str,
        close: &str,
        items: &[Value],
        depth: usize,
        write: impl Fn(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.text.push(open)?;
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.text.push(&self.style.item_separator)?;
            }
            self.new_line(depth + 1)?;
            write(self, item)?;
        }
        if !items.is_empty() {
            self.new_line(depth)?;
        }
        self.text.push(close)
    }

    fn new_line(&mut self, depth: usize) -> Result<(), Error> {
        match &self.style.indent {
            Some(indent) => self.text.push(&format!("\n{}", indent.repeat(depth))),
            None => Ok(()),
        }
    }

    fn key(&mut self, key: &Value) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.string(key.as_str().unwrap_or_default()),
            ValueKind::None | ValueKind::Bool | ValueKind::Number => self.string(&scalar(key)),
            other => Err(refuse(format!("a key of type {other}"))),
        }
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        let quoted = serde_json::to_string(text).map_err(|error| refuse(error.to_string()))?;
        match self.style.ensure_ascii {
            true => self.text.push(&ascii(&quoted)),
            false => self.text.push(&quoted),
        }
    }
}

/// A value that is neither a string nor a container.
fn scalar(value: &Value) -> String {
    match (value.kind(), text::as_float(value)) {
        (ValueKind::None, _) => "null".to_owned(),
        (ValueKind::Bool, _) => value.is_true().to_string(),
        (_, Some(number)) if number.is_nan() => "NaN".to_owned(),
        (_, Some(number)) if number.is_infinite() => {
            let sign = if number < 0.0 { "-" } else { "" };
            format!("{sign}Infinity")
        }
        (_, Some(number)) => text::float(number),
        (_, None) => value.to_string(),
    }
}

/// Everything but printable ASCII as `\uXXXX`, in two halves beyond U+FFFF.
fn ascii(quoted: &str) -> String {
    let mut text = String::with_capacity(quoted.len());
    let mut units = [0; 2];
    for c in quoted.chars() {
        match c {
            ' '..='~' => text.push(c),
            _ => {
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(text, "\\u{unit:04x}"); // writing to a string cannot fail
                }
            }
        }
    }
    text
}

fn refuse(what: String) -> Error {
    Error::new(
        ErrorKind::BadSerialization,
        format!("tojson cannot write {what}"),
    )
}
