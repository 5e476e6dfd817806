//! In what two headers differ, so that nothing is added to the run of another configuration. Pure.

use std::fmt;

use serde_json::{Map, Value};

/// Fields of the header that two halves of one run may differ in.
const NOT_COMPARED: [&str; 2] = ["command", "commit"];

/// A field in which two headers differ, and its value in each.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    /// Dotted path.
    field: String,
    found: Value,
    wanted: Value,
}

impl Difference {
    /// The first difference in the order of `wanted`, command line and commit aside.
    pub(super) fn first(found: &Value, wanted: &Value) -> Option<Self> {
        first_difference(found, wanted, "")
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (field, found, wanted) = (&self.field, &self.found, &self.wanted);
        write!(f, "`{field}` is {found} there and {wanted} now")
    }
}

/// `at`: dotted path of the two values, empty at the top.
fn first_difference(found: &Value, wanted: &Value, at: &str) -> Option<Difference> {
    let (Value::Object(found_fields), Value::Object(wanted_fields)) = (found, wanted) else {
        return (found != wanted).then(|| Difference {
            field: at.to_owned(),
            found: found.clone(),
            wanted: wanted.clone(),
        });
    };
    let found_names = found_fields.keys();
    let only_found = found_names.filter(|name| !wanted_fields.contains_key(*name));
    let names = wanted_fields.keys().chain(only_found);
    let compared = names.filter(|name| !at.is_empty() || !NOT_COMPARED.contains(&name.as_str()));
    let absent = Value::Null;
    compared.into_iter().find_map(|name| {
        let field = match at {
            "" => name.clone(),
            _ => format!("{at}.{name}"),
        };
        let of = |fields: &Map<String, Value>| fields.get(name).unwrap_or(&absent).clone();
        first_difference(&of(found_fields), &of(wanted_fields), &field)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_that_one_header_lacks_is_a_difference() {
        let difference = Difference::first(&json!({"a": {"b": 1}}), &json!({"a": {}})).unwrap();
        assert_eq!(
            (difference.field.as_str(), difference.wanted),
            ("a.b", Value::Null)
        );
        assert_eq!(
            Difference::first(&json!({"commit": "a"}), &json!({"commit": "b"})),
            None
        );
        // Only at the top are these two free to differ.
        let nested = |hash| json!({"config": {"commit": hash}});
        assert!(Difference::first(&nested("a"), &nested("b")).is_some());
    }
}
