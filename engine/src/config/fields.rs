//! Typed access to the fields of a Hugging Face JSON file. Every refusal names the file and the
//! field; a field that is `null` counts as absent unless its caller says otherwise.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::EngineError;

/// One JSON object of a model file, with the prefix its field names get in errors.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: &'a Path,
    prefix: &'a str,
}

impl<'a> Fields<'a> {
    /// The root object of the file at `path`.
    pub(crate) fn root(value: &'a Value, path: &'a Path) -> Result<Self, EngineError> {
        match value {
            Value::Object(map) => Ok(Self {
                map,
                path,
                prefix: "",
            }),
            _ => Err(EngineError::model_file(
                path,
                "the top level must be a JSON object",
            )),
        }
    }

    /// The object in field `name`, if it is present and not `null`.
    pub(crate) fn object(&self, name: &'a str) -> Result<Option<Fields<'a>>, EngineError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self {
                map,
                path: self.path,
                prefix: name,
            })),
            Some(other) => Err(self.mistyped(name, "an object", other)),
        }
    }

    /// The field's value, with `null` counted as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Whether the key exists, even with the value `null`.
    pub(crate) fn has_key(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Whether the object has no key at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// A whole number. Python writes some of them as `8192.0`, which is accepted.
    pub(crate) fn usize(&self, name: &str) -> Result<Option<usize>, EngineError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        whole_number(value)
            .and_then(|n| usize::try_from(n).ok())
            .map(Some)
            .ok_or_else(|| self.mistyped(name, "a whole number of at least 0", value))
    }

    /// A finite number.
    pub(crate) fn f64(&self, name: &str) -> Result<Option<f64>, EngineError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value
            .as_f64()
            .filter(|number| number.is_finite())
            .map(Some)
            .ok_or_else(|| self.mistyped(name, "a finite number", value))
    }

    pub(crate) fn bool(&self, name: &str) -> Result<Option<bool>, EngineError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value
            .as_bool()
            .map(Some)
            .ok_or_else(|| self.mistyped(name, "true or false", value))
    }

    pub(crate) fn str(&self, name: &str) -> Result<Option<&'a str>, EngineError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value
            .as_str()
            .map(Some)
            .ok_or_else(|| self.mistyped(name, "a string", value))
    }

    /// A list of strings.
    pub(crate) fn strings(&self, name: &str) -> Result<Option<Vec<&'a str>>, EngineError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value
            .as_array()
            .and_then(|items| items.iter().map(Value::as_str).collect())
            .map(Some)
            .ok_or_else(|| self.mistyped(name, "a list of strings", value))
    }

    /// One token id.
    pub(crate) fn token_id(&self, name: &str) -> Result<Option<u32>, EngineError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        token_id(value)
            .map(Some)
            .ok_or_else(|| self.mistyped(name, "a token id", value))
    }

    /// One token id or a list of them; `eos_token_id` comes in both forms.
    pub(crate) fn token_ids(&self, name: &str) -> Result<Option<Vec<u32>>, EngineError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let ids = match value {
            Value::Array(items) => items.iter().map(token_id).collect(),
            single => token_id(single).map(|id| vec![id]),
        };
        ids.map(Some)
            .ok_or_else(|| self.mistyped(name, "a token id or a list of token ids", value))
    }

    /// Checks that the model has a row for each of the token ids that field `name` holds.
    pub(crate) fn check_rows(
        &self,
        name: &str,
        ids: &[u32],
        vocab_size: usize,
    ) -> Result<(), EngineError> {
        match ids.iter().find(|id| **id as usize >= vocab_size) {
            Some(id) => Err(self.refuse(
                name,
                format!("names token {id}, but vocab_size is {vocab_size}"),
            )),
            None => Ok(()),
        }
    }

    /// An [`EngineError::UnsupportedModel`] about field `name` of this object.
    pub(crate) fn refuse(&self, name: &str, message: impl Into<String>) -> EngineError {
        EngineError::unsupported(self.path, self.qualified(name), message)
    }

    fn mistyped(&self, name: &str, expected: &str, found: &Value) -> EngineError {
        let mut shown = found.to_string();
        if let Some((end, _)) = shown.char_indices().nth(60) {
            shown.truncate(end);
            shown.push_str("...");
        }
        self.refuse(name, format!("must be {expected}, found {shown}"))
    }

    fn qualified(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }
}

fn token_id(value: &Value) -> Option<u32> {
    whole_number(value).and_then(|n| u32::try_from(n).ok())
}

/// The value as an unsigned integer, also when it is written with a zero fraction.
fn whole_number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        // 2^53: above it a float does not name one integer.
        value
            .as_f64()
            .filter(|n| n.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(n))
            .map(|n| n as u64)
    })
}
