//! The layers from the process environment.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::error::ConfigError;
use super::keys::{all_keys, nearest, unknown};
use super::layers::Layer;
use super::service_links::is_service_link;
use crate::environment::{self, PREFIX};

/// Keys for which empty text is a value.
const MAY_BE_EMPTY: [&str; 4] = [
    "system",
    "prompt.prefix",
    "embedder.query_prompt",
    "embedder.document_prompt",
];
/// Variables named after a flag instead of its key.
const OF_FLAGS: [(&str, &str); 1] = [("EMBEDDER", "embedder.model")];

/// The layers of the process environment.
pub(super) fn layers() -> Result<Vec<Layer>, ConfigError> {
    from_variables(environment::settings())
}

/// One layer per variable, so that `config print` can name the variable itself. An empty variable counts as not set,
/// except for keys of which empty text is a value.
fn from_variables(
    variables: impl Iterator<Item = (String, OsString)>,
) -> Result<Vec<Layer>, ConfigError> {
    let of_flags = OF_FLAGS.map(|(name, key)| (name.to_owned(), key));
    let by_variable: BTreeMap<String, &str> = all_keys()
        .map(|key| (variable_of(key), key))
        .chain(of_flags)
        .collect();
    let mut layers = Vec::new();
    for (name, value) in variables {
        let key = by_variable.get(&name).copied();
        let is_unset = value.is_empty() && !key.is_some_and(|key| MAY_BE_EMPTY.contains(&key));
        if is_unset || (key.is_none() && is_service_link(&name, &value.to_string_lossy())) {
            continue;
        }
        let origin = format!("environment {PREFIX}{name}");
        let Some(key) = key else {
            let dotted = name.to_lowercase().replacen('_', ".", 1);
            let suggestion = nearest(&name, by_variable.keys().map(String::as_str))
                .map(|variable| format!("{PREFIX}{variable}"));
            return Err(unknown(&dotted, &origin, suggestion));
        };
        let mut layer = Layer::new(origin);
        layer.set_os_text(key, &value)?;
        layers.push(layer);
    }
    Ok(layers)
}

fn variable_of(key: &str) -> String {
    key.to_uppercase().replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers_of(variables: &[(&str, &str)]) -> Result<Vec<Layer>, ConfigError> {
        let given = |(name, value): &(&str, &str)| ((*name).to_owned(), value.into());
        from_variables(variables.iter().map(given))
    }

    fn refusal(name: &str, value: &str) -> String {
        layers_of(&[(name, value)]).unwrap_err().to_string()
    }

    #[test]
    fn variables_become_layers_and_service_links_do_not() {
        let layers = layers_of(&[
            ("PORT", "tcp://10.0.0.1:1"),
            ("LIMITS_SERVICE_HOST", "10.0.0.1"),
            ("LIMITS_MAX_QUEUE", "8"),
        ])
        .unwrap();
        assert_eq!(layers.len(), 1);
        assert_eq!(layers[0].keys(), ["limits.max_queue"]);
        assert_eq!(layers[0].origin, "environment RAGWEAVE_LIMITS_MAX_QUEUE");

        let wrong = refusal("LIMITS_MAX_QUEUES", "8");
        assert!(wrong.contains("did you mean RAGWEAVE_LIMITS_MAX_QUEUE?"));
        assert_eq!(
            refusal("LIMITS_MAX_QUEUE", "many"),
            "limits.max_queue in environment RAGWEAVE_LIMITS_MAX_QUEUE: expected a whole number, found \"many\""
        );
        assert!(refusal("PORT", "50051").contains("unknown key"));
    }

    #[test]
    fn an_empty_variable_is_not_set_unless_empty_text_is_a_value() {
        let unset = [("DATA", ""), ("LIMITS_MAX_QUEUE", ""), ("GRPC_PORT", "")];
        assert_eq!(layers_of(&unset).unwrap().len(), 0);
        let layers = layers_of(&[("SYSTEM", "")]).unwrap();
        assert_eq!(layers[0].text("system"), Some(""));
    }

    #[test]
    fn the_embedder_is_named_as_its_flag_is() {
        let layers = layers_of(&[("EMBEDDER", "/m"), ("EMBEDDER_QUERY_PROMPT", "")]).unwrap();
        let keys: Vec<_> = layers.iter().flat_map(Layer::keys).collect();
        assert_eq!(keys, ["embedder.model", "embedder.query_prompt"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_text_is_refused_and_not_changed() {
        use std::os::unix::ffi::OsStringExt as _;

        let value = OsString::from_vec(b"caf\xe9".to_vec());
        let refused = from_variables([("SYSTEM".to_owned(), value)].into_iter());
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("system in environment RAGWEAVE_SYSTEM"),
            "{refused}"
        );
        assert!(refused.contains("not UTF-8"), "{refused}");
    }

    #[test]
    fn a_variable_of_an_earlier_version_says_what_to_write_instead() {
        assert_eq!(
            refusal("FUSION_POLICY", "hkvd"),
            "fusion.policy in environment RAGWEAVE_FUSION_POLICY is no longer a setting; write fusion.selection instead"
        );
    }
}
