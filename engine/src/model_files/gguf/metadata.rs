//! The metadata of a GGUF file: typed values by key. Every refusal names the file and the key.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::cursor::Cursor;
use crate::error::EngineError;

/// The most keys of one file.
const MAX_KEYS: u64 = 65_536;
/// The longest key, bytes, as the specification has it.
const MAX_KEY_BYTES: usize = 65_535;
/// The most elements of one array: the largest vocabulary a model may have.
const MAX_ELEMENTS: u64 = 1 << 22;
/// The longest array that [`Metadata::json`] spells out; errors quote a few elements only.
const MAX_JSON_ELEMENTS: usize = 1 << 10;

/// All values of a file.
#[derive(Debug)]
pub(crate) struct Metadata {
    path: PathBuf,
    values: BTreeMap<String, Value>,
    /// The header, which the arrays are ranges of.
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Scalar(Scalar),
    Text(String),
    Array {
        kind: Kind,
        len: usize,
        range: Range<usize>,
    },
}

/// A number or a truth value.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scalar {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
}

/// The type of a value or of an array's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Self, String> {
        use Kind::{Array, Bool, F32, F64, I8, I16, I32, I64, Text, U8, U16, U32, U64};
        const KINDS: [Kind; 13] = [
            U8, I8, U16, I16, U32, I32, F32, Bool, Text, Array, U64, I64, F64,
        ];
        let number = cursor.u32("the type of a value")?;
        let kind = usize::try_from(number).ok().and_then(|n| KINDS.get(n));
        kind.copied()
            .ok_or_else(|| format!("corrupt: key {key} has the unknown value type {number}"))
    }

    /// Bytes of one value of a fixed size.
    fn bytes(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Text | Self::Array => None,
        }
    }

    /// The value in little-endian `bytes`, of which there are [`Self::bytes`].
    fn scalar(self, bytes: &[u8]) -> Scalar {
        let mut wide = [0; 8];
        let n = bytes.len().min(wide.len());
        wide[..n].copy_from_slice(&bytes[..n]);
        let bits = u64::from_le_bytes(wide);
        match self {
            Self::I8 => Scalar::Signed(i64::from(bits as u8 as i8)),
            Self::I16 => Scalar::Signed(i64::from(bits as u16 as i16)),
            Self::I32 => Scalar::Signed(i64::from(bits as u32 as i32)),
            Self::I64 => Scalar::Signed(bits as i64),
            Self::F32 => Scalar::Float(f64::from(f32::from_bits(bits as u32))),
            Self::F64 => Scalar::Float(f64::from_bits(bits)),
            Self::Bool => Scalar::Bool(bits != 0),
            Self::U8 | Self::U16 | Self::U32 | Self::U64 | Self::Text | Self::Array => {
                Scalar::Unsigned(bits)
            }
        }
    }
}

impl Metadata {
    /// Reads `n_keys` keys. The bytes of arrays follow with [`Self::with_bytes`].
    pub(super) fn read(cursor: &mut Cursor<'_>, n_keys: u64, path: &Path) -> Result<Self, String> {
        if n_keys > MAX_KEYS {
            return Err(format!(
                "declares {n_keys} keys, more than the {MAX_KEYS} allowed"
            ));
        }
        let mut values = BTreeMap::new();
        for _ in 0..n_keys {
            let key = cursor.str("a key")?.to_owned();
            if key.is_empty() || key.len() > MAX_KEY_BYTES {
                return Err(format!(
                    "corrupt: a key has {} bytes, allowed are 1 to {MAX_KEY_BYTES}",
                    key.len()
                ));
            }
            let value = read_value(cursor, &key)?;
            if values.contains_key(&key) {
                return Err(format!("corrupt: it has the key {key} twice"));
            }
            values.insert(key, value);
        }
        Ok(Self {
            path: path.to_owned(),
            values,
            bytes: Vec::new(),
        })
    }

    pub(super) fn with_bytes(self, bytes: Vec<u8>) -> Self {
        Self { bytes, ..self }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// A whole number.
    pub(crate) fn u64(&self, key: &str) -> Result<Option<u64>, EngineError> {
        self.scalar(key, "a whole number of at least 0", |scalar| match scalar {
            Scalar::Unsigned(n) => Some(n),
            Scalar::Signed(n) => u64::try_from(n).ok(),
            Scalar::Float(_) | Scalar::Bool(_) => None,
        })
    }

    /// A finite number.
    pub(crate) fn f64(&self, key: &str) -> Result<Option<f64>, EngineError> {
        self.scalar(key, "a finite number", |scalar| match scalar {
            Scalar::Unsigned(n) => Some(n as f64),
            Scalar::Signed(n) => Some(n as f64),
            Scalar::Float(number) => number.is_finite().then_some(number),
            Scalar::Bool(_) => None,
        })
    }

    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>, EngineError> {
        self.scalar(key, "true or false", |scalar| match scalar {
            Scalar::Bool(value) => Some(value),
            Scalar::Unsigned(_) | Scalar::Signed(_) | Scalar::Float(_) => None,
        })
    }

    pub(crate) fn str(&self, key: &str) -> Result<Option<&str>, EngineError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Scalar(_) | Value::Array { .. }) => Err(self.mistyped(key, "a string")),
        }
    }

    /// An array of strings.
    pub(crate) fn strs(&self, key: &str) -> Result<Option<Vec<&str>>, EngineError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Array {
                kind: Kind::Text,
                len,
                range,
            }) => {
                let strings = Strings(&self.bytes[range.clone()]);
                let strings: Vec<&str> = strings.take(*len).collect();
                Ok(Some(strings))
            }
            Some(_) => Err(self.mistyped(key, "an array of strings")),
        }
    }

    /// An array of numbers.
    pub(crate) fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>, EngineError> {
        self.scalars(key, "an array of numbers", |scalar| match scalar {
            Scalar::Unsigned(n) => Some(n as f32),
            Scalar::Signed(n) => Some(n as f32),
            Scalar::Float(n) => Some(n as f32),
            Scalar::Bool(_) => None,
        })
    }

    /// An array of whole numbers.
    pub(crate) fn i64s(&self, key: &str) -> Result<Option<Vec<i64>>, EngineError> {
        self.scalars(key, "an array of whole numbers", |scalar| match scalar {
            Scalar::Unsigned(n) => i64::try_from(n).ok(),
            Scalar::Signed(n) => Some(n),
            Scalar::Float(_) | Scalar::Bool(_) => None,
        })
    }

    /// The value as JSON, for a reader that checks its type; `null` if there is none.
    pub(super) fn json(&self, key: &str) -> Json {
        match self.values.get(key) {
            None => Json::Null,
            Some(Value::Text(text)) => json!(text),
            Some(Value::Scalar(scalar)) => scalar.json(),
            Some(Value::Array { kind, len, range }) => match kind.bytes() {
                Some(n) if *len <= MAX_JSON_ELEMENTS => {
                    let elements = self.bytes[range.clone()].chunks_exact(n);
                    elements.map(|bytes| kind.scalar(bytes).json()).collect()
                }
                _ => json!(format!("an array of {len} elements")),
            },
        }
    }

    /// An [`EngineError::UnsupportedModel`] about `key`.
    pub(crate) fn refuse(&self, key: &str, message: impl Into<String>) -> EngineError {
        EngineError::unsupported(&self.path, key, message)
    }

    /// An error about a key that is needed and not there.
    pub(crate) fn missing(&self, key: &str) -> EngineError {
        self.refuse(key, "is missing")
    }

    fn scalar<T>(
        &self,
        key: &str,
        expected: &str,
        convert: impl Fn(Scalar) -> Option<T>,
    ) -> Result<Option<T>, EngineError> {
        let converted = match self.values.get(key) {
            None => return Ok(None),
            Some(Value::Scalar(scalar)) => convert(*scalar),
            Some(Value::Text(_) | Value::Array { .. }) => None,
        };
        converted
            .map(Some)
            .ok_or_else(|| self.mistyped(key, expected))
    }

    fn scalars<T>(
        &self,
        key: &str,
        expected: &str,
        convert: impl Fn(Scalar) -> Option<T>,
    ) -> Result<Option<Vec<T>>, EngineError> {
        let Some(value) = self.values.get(key) else {
            return Ok(None);
        };
        let converted = match value {
            Value::Array { kind, range, .. } => kind.bytes().and_then(|n| {
                let elements = self.bytes[range.clone()].chunks_exact(n);
                elements.map(|bytes| convert(kind.scalar(bytes))).collect()
            }),
            Value::Scalar(_) | Value::Text(_) => None,
        };
        converted
            .map(Some)
            .ok_or_else(|| self.mistyped(key, expected))
    }

    fn mistyped(&self, key: &str, expected: &str) -> EngineError {
        let found = match self.values.get(key) {
            Some(Value::Array { kind, len, .. }) => format!("an array of {len} values ({kind:?})"),
            _ => self.json(key).to_string().chars().take(60).collect(),
        };
        self.refuse(key, format!("must be {expected}, found {found}"))
    }
}

impl Scalar {
    fn json(self) -> Json {
        match self {
            Self::Unsigned(n) => json!(n),
            Self::Signed(n) => json!(n),
            Self::Float(n) => json!(n),
            Self::Bool(value) => json!(value),
        }
    }
}

/// The strings of an array that has been checked: each is a length and as many bytes of UTF-8.
struct Strings<'a>(&'a [u8]);

impl<'a> Iterator for Strings<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (len, rest) = self.0.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(u64::from_le_bytes(*len) as usize)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}

fn read_value(cursor: &mut Cursor<'_>, key: &str) -> Result<Value, String> {
    let what = format!("the value of key {key}");
    let kind = Kind::read(cursor, key)?;
    match (kind, kind.bytes()) {
        (_, Some(n)) => {
            let range = cursor.take(n as u64, &what)?;
            Ok(Value::Scalar(kind.scalar(cursor.slice(range))))
        }
        (Kind::Text, None) => Ok(Value::Text(cursor.str(&what)?.to_owned())),
        (_, None) => read_array(cursor, key, &what),
    }
}

fn read_array(cursor: &mut Cursor<'_>, key: &str, what: &str) -> Result<Value, String> {
    let kind = Kind::read(cursor, key)?;
    let len = cursor.u64(what)?;
    if len > MAX_ELEMENTS {
        return Err(format!(
            "key {key} has an array of {len} elements, more than the {MAX_ELEMENTS} allowed"
        ));
    }
    let start = cursor.position() as usize;
    match (kind, kind.bytes()) {
        (_, Some(n)) => {
            cursor.take(len * n as u64, what)?;
        }
        (Kind::Text, None) => {
            for _ in 0..len {
                cursor.str(what)?;
            }
        }
        (_, None) => {
            return Err(format!(
                "key {key} has an array of arrays, which is not read"
            ));
        }
    }
    Ok(Value::Array {
        kind,
        len: len as usize,
        range: start..cursor.position() as usize,
    })
}
