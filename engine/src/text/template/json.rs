//! JSON in the layout of Python's `json.dumps(ensure_ascii=False)`, which is what templates were
//! trained with: a space after each comma and colon, or an indented block.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// The deepest nesting that is written. A template can nest values without end, a stack cannot.
const MAX_DEPTH: usize = 64;

/// `value` as one line, or over several with `indent` spaces per level. Keys keep their order.
pub(super) fn to_json(value: &Value, indent: Option<usize>) -> Result<String, Error> {
    let mut writer = Writer {
        text: String::new(),
        indent,
    };
    writer.value(value, 0)?;
    Ok(writer.text)
}

struct Writer {
    text: String,
    indent: Option<usize>,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(refuse(format!("values nested deeper than {MAX_DEPTH}")));
        }
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool if value.is_true() => self.text.push_str("true"),
            ValueKind::Bool => self.text.push_str("false"),
            ValueKind::Number => self.text.push_str(&value.to_string()),
            ValueKind::String => self.string(value.as_str().unwrap_or_default())?,
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.block('[', ']', &items, depth, |writer, item| {
                    writer.value(item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let keys: Vec<Value> = value.try_iter()?.collect();
                self.block('{', '}', &keys, depth, |writer, key| {
                    writer.string(&key.to_string())?;
                    writer.text.push_str(": ");
                    writer.value(&value.get_item(key)?, depth + 1)
                })?;
            }
            other => return Err(refuse(format!("a value of type {other}"))),
        }
        Ok(())
    }

    fn block(
        &mut self,
        open: char,
        close: char,
        items: &[Value],
        depth: usize,
        write: impl Fn(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.text.push(open);
        for (i, item) in items.iter().enumerate() {
            match (i, self.indent) {
                (0, _) => {}
                (_, None) => self.text.push_str(", "),
                (_, Some(_)) => self.text.push(','),
            }
            self.new_line(depth + 1);
            write(self, item)?;
        }
        if !items.is_empty() {
            self.new_line(depth);
        }
        self.text.push(close);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        let quoted = serde_json::to_string(text).map_err(|error| refuse(error.to_string()))?;
        self.text.push_str(&quoted);
        Ok(())
    }
}

fn refuse(what: String) -> Error {
    Error::new(
        ErrorKind::BadSerialization,
        format!("tojson cannot write {what}"),
    )
}
