//! Whether the choice in `tuned.toml` was made for the model that is served.

use std::path::Path;

use crate::config::TUNED_FILE_NAME;

/// Warns where the data directory holds a choice that was measured on another model: it is applied all the same,
/// because the configuration says so, but nothing is known of it here.
pub(crate) fn warn_if_foreign(data: &Path, fingerprint: &str) {
    let path = data.join(TUNED_FILE_NAME);
    // A file that cannot be read or parsed has been refused with the configuration.
    let Ok(text) = fs_err::read_to_string(&path) else {
        return;
    };
    if is_foreign(&text, fingerprint) {
        tracing::warn!(
            file = %path.display(),
            "was tuned for another model; run `ragweave-eval tune` again, or delete it"
        );
    }
}

/// Whether the evidence names a model, and not this one.
fn is_foreign(text: &str, fingerprint: &str) -> bool {
    let table: toml::Table = text.parse().unwrap_or_default();
    let named = table
        .get("evidence")
        .and_then(|why| why.get("model_fingerprint"));
    named
        .and_then(toml::Value::as_str)
        .is_some_and(|named| named != fingerprint)
}

#[cfg(test)]
mod tests {
    use super::is_foreign;

    #[test]
    fn only_a_choice_that_names_another_model_is_foreign() {
        let tuned = "[fusion]\nmode = \"full\"\n[evidence]\nmodel_fingerprint = \"ab\"\n";
        assert!(!is_foreign(tuned, "ab"));
        assert!(is_foreign(tuned, "cd"));
        assert!(!is_foreign("[fusion]\nmode = \"full\"\n", "cd"));
        assert!(!is_foreign("not toml at all", "cd"));
    }
}
