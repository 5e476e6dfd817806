//! In what two headers differ, so that nothing is added to the run of another configuration. Pure.

use serde_json::{Map, Value};

/// Fields of the header that two parts of one run may differ in.
const NOT_COMPARED: [&str; 2] = ["command", "commit"];

/// The first difference in the order of `wanted`, command line and commit aside: field and values.
pub(super) fn first_difference(found: &Value, wanted: &Value) -> Option<String> {
    difference_at("", found, wanted)
}

/// `at`: dotted path of the two values, empty at the top.
fn difference_at(at: &str, found: &Value, wanted: &Value) -> Option<String> {
    let (Value::Object(found_fields), Value::Object(wanted_fields)) = (found, wanted) else {
        let differ = found != wanted;
        return differ.then(|| format!("`{at}` is {found} there and {wanted} now"));
    };
    let found_names = found_fields.keys();
    let only_found = found_names.filter(|name| !wanted_fields.contains_key(*name));
    let mut names = wanted_fields.keys().chain(only_found);
    names.find_map(|name| {
        let path = match at {
            "" if NOT_COMPARED.contains(&name.as_str()) => return None,
            "" => name.clone(),
            _ => format!("{at}.{name}"),
        };
        let of = |fields: &Map<String, Value>| fields.get(name).cloned().unwrap_or_default();
        difference_at(&path, &of(found_fields), &of(wanted_fields))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_that_one_header_lacks_is_a_difference() {
        let difference = first_difference(&json!({"a": {"b": 1}}), &json!({"a": {}}));
        assert_eq!(difference.unwrap(), "`a.b` is 1 there and null now");
        assert_eq!(
            first_difference(&json!({"commit": "a"}), &json!({"commit": "b"})),
            None
        );
        // Only at the top are these two free to differ.
        let nested = |hash| json!({"config": {"commit": hash}});
        assert!(first_difference(&nested("a"), &nested("b")).is_some());
    }
}
