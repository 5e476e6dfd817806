//! Logs the evidence in `tuned.toml`: the model that its choice was made for, and the number of questions.

use std::path::Path;

use crate::config::{Config, TUNED_FILE_NAME};
use crate::interval::FEW;

/// The choice in the data directory, and its evidence.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tuned {
    /// The keys of [fusion], as written in the file.
    fusion: String,
    /// Policies are compared with full prefill, so choosing full prefill needs no confirmation.
    is_full: bool,
    model_fingerprint: Option<String>,
    chosen_on: Option<i64>,
    confirmed_on: Option<i64>,
}

/// Logs what is applied from `tuned.toml`. Warns if it was measured on another model, on few questions, or never
/// confirmed on questions other than those it was chosen on. It is still applied, because it is configuration.
pub(crate) fn log(config: &Config, fingerprint: &str) {
    let path = config.data.join(TUNED_FILE_NAME);
    let Some(tuned) = read(&path) else { return };
    let file = path.display();
    tracing::info!(
        %file,
        fusion = tuned.fusion,
        chosen_on = tuned.chosen_on,
        confirmed_on = tuned.confirmed_on,
        in_force = %config.fusion.to_mode(),
        "[fusion] is what `ragweave-eval tune` chose, unless a stronger setting overrides it"
    );
    if tuned.is_foreign(fingerprint) {
        tracing::warn!(
            %file,
            "the file was tuned for another model; run `ragweave-eval tune` again, or delete it"
        );
    }
    if tuned.is_unconfirmed() {
        tracing::warn!(
            %file,
            "its choice was never confirmed on other questions than those it was made on; run `ragweave-eval tune` again, or \
             delete it"
        );
    }
    if tuned.rests_on_few() {
        tracing::warn!(
            %file,
            "its choice was made or confirmed on fewer than {FEW} questions, which is weak evidence; run `ragweave-eval tune` \
             with more, or delete it"
        );
    }
}

/// A file that cannot be read or parsed was refused when the configuration was loaded.
fn read(path: &Path) -> Option<Tuned> {
    let text = fs_err::read_to_string(path).ok()?;
    Some(Tuned::parse(&text))
}

impl Tuned {
    fn parse(text: &str) -> Self {
        let table: toml::Table = text.parse().unwrap_or_default();
        let evidence = table.get("evidence");
        let count = |name: &str| evidence?.get(name)?.as_integer();
        let fusion = table.get("fusion").and_then(toml::Value::as_table);
        let keys = fusion.into_iter().flatten();
        let keys: Vec<String> = keys
            .map(|(key, value)| format!("{key} = {value}"))
            .collect();
        let fingerprint = evidence.and_then(|why| why.get("model_fingerprint"));
        let mode = table.get("fusion").and_then(|fusion| fusion.get("mode"));
        Self {
            fusion: keys.join(", "),
            is_full: mode.and_then(toml::Value::as_str) == Some("full"),
            model_fingerprint: fingerprint.and_then(toml::Value::as_str).map(str::to_owned),
            chosen_on: count("chosen_on"),
            confirmed_on: count("confirmed_on"),
        }
    }

    /// Whether the evidence names another model.
    fn is_foreign(&self, fingerprint: &str) -> bool {
        let named = self.model_fingerprint.as_deref();
        named.is_some_and(|named| named != fingerprint)
    }

    fn is_unconfirmed(&self) -> bool {
        !self.is_full && self.confirmed_on.is_none()
    }

    /// Whether a policy was chosen, or confirmed, on few questions.
    fn rests_on_few(&self) -> bool {
        let counts = [self.chosen_on, self.confirmed_on];
        let is_few = |count: i64| usize::try_from(count).unwrap_or(0) < FEW;
        !self.is_full && counts.into_iter().flatten().any(is_few)
    }
}

#[cfg(test)]
mod tests {
    use super::Tuned;

    #[test]
    fn only_a_choice_that_names_another_model_is_foreign() {
        let is_foreign = |text: &str, fingerprint| Tuned::parse(text).is_foreign(fingerprint);
        let tuned = "[fusion]\nmode = \"full\"\n[evidence]\nmodel_fingerprint = \"ab\"\n";
        assert!(!is_foreign(tuned, "ab"));
        assert!(is_foreign(tuned, "cd"));
        assert!(!is_foreign("[fusion]\nmode = \"full\"\n", "cd"));
        assert!(!is_foreign("not toml at all", "cd"));
    }

    #[test]
    fn what_is_applied_and_what_it_is_based_on_is_read() {
        let text = "[fusion]\nmode = \"auto\"\nselection = \"hkvd@2\"\nratio = 0.1\n\
                    [evidence]\nchosen_on = 266\nconfirmed_on = 134\n";
        let tuned = Tuned::parse(text);
        assert_eq!(
            tuned.fusion,
            "mode = \"auto\", ratio = 0.1, selection = \"hkvd@2\""
        );
        assert_eq!(
            (tuned.chosen_on, tuned.confirmed_on),
            (Some(266), Some(134))
        );
        let older = Tuned::parse("[fusion]\nmode = \"full\"\n[evidence]\nquestions = 400\n");
        assert_eq!((older.chosen_on, older.confirmed_on), (None, None));
    }

    #[test]
    fn a_policy_confirmed_by_few_questions_or_none_gets_a_warning_and_full_prefill_does_not() {
        let of = |mode: &str, counts: &str| {
            let text = format!("[fusion]\nmode = \"{mode}\"\n[evidence]\n{counts}");
            let tuned = Tuned::parse(&text);
            (tuned.is_unconfirmed(), tuned.rests_on_few())
        };
        let enough = "chosen_on = 30\nconfirmed_on = 30\n";
        assert_eq!(of("auto", enough), (false, false));
        assert_eq!(
            of("auto", "chosen_on = 1\nconfirmed_on = 1\n"),
            (false, true)
        );
        assert_eq!(
            of("auto", "chosen_on = 300\nconfirmed_on = 29\n"),
            (false, true)
        );
        assert_eq!(of("auto", "chosen_on = 300\n"), (true, false));
        assert_eq!(of("full", "chosen_on = 2\n"), (false, false));
        assert!(Tuned::parse("[fusion]\nselection = \"hkvd@2\"\n").is_unconfirmed());
    }
}
