//! `[prompt]`: the three strings of a prompt, and the placeholders in them.

use serde::Deserialize;

/// All placeholders; a string has one of them.
const PLACES: [&str; 3] = ["{system}", "{text}", "{question}"];

/// The three strings of a prompt for a model without a chat template; see [`crate::prompt`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptStrings {
    pub prefix: String,
    pub chunk: String,
    pub question: String,
}

impl PromptStrings {
    /// Checks what types cannot say. Returns the key at fault and what is wrong with it.
    pub(super) fn validate(&self) -> Result<(), (&'static str, String)> {
        let strings = [
            ("prompt.prefix", &self.prefix, "{system}"),
            ("prompt.chunk", &self.chunk, "{text}"),
            ("prompt.question", &self.question, "{question}"),
        ];
        for (key, string, place) in strings {
            match (string.matches(place).count(), place) {
                (1, _) | (0, "{system}") => {}
                (_, "{system}") => return Err((key, format!("may contain {place} only once"))),
                _ => return Err((key, format!("must contain {place} exactly once"))),
            }
            if let Some(other) = place_like(string).find(|found| *found != place) {
                let what = match PLACES.contains(&other) {
                    true => "which belongs in another of the three strings",
                    false => "which nothing replaces",
                };
                return Err((
                    key,
                    format!("contains {other}, {what}; its place is {place}"),
                ));
            }
        }
        Ok(())
    }
}

/// Everything that looks like a placeholder: a name in braces.
fn place_like(string: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    string.match_indices('{').filter_map(move |(start, _)| {
        let name = string[start + 1..].split_once('}')?.0;
        let is_place = !name.is_empty() && name.chars().all(is_name);
        is_place.then(|| &string[start..start + name.len() + 2])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(prefix: &str, chunk: &str, question: &str) -> String {
        let [prefix, chunk, question] = [prefix, chunk, question].map(str::to_owned);
        let strings = PromptStrings {
            prefix,
            chunk,
            question,
        };
        let refused = strings.validate().err();
        refused.map_or_else(String::new, |(key, message)| format!("{key} {message}"))
    }

    #[test]
    fn each_string_has_its_own_place_and_no_other() {
        assert_eq!(refusal("<s>{system}", "- {text}", "Q: {question}"), "");
        assert_eq!(refusal("", "{text}", "{question}"), "");
        assert_eq!(refusal("{\"json\": {}} { x }", "{text}", "{question}"), "");
        for (strings, reason) in [
            (
                ["", "", "{question}"],
                "prompt.chunk must contain {text} exactly once",
            ),
            (
                ["", "{text}{text}", "{question}"],
                "prompt.chunk must contain {text} exactly once",
            ),
            (
                ["", "{text}", "Q:"],
                "prompt.question must contain {question} exactly once",
            ),
            (
                ["{system}{system}", "{text}", "{question}"],
                "may contain {system} only once",
            ),
            (
                ["{context}", "{text}", "{question}"],
                "prompt.prefix contains {context}, which nothing replaces",
            ),
            (
                ["", "{title}: {text}", "{question}"],
                "prompt.chunk contains {title}",
            ),
            (
                ["", "{text}", "{text} {question}"],
                "prompt.question contains {text}, which belongs in another",
            ),
        ] {
            let [prefix, chunk, question] = strings;
            let refused = refusal(prefix, chunk, question);
            assert!(refused.contains(reason), "{strings:?}: {refused}");
        }
    }
}
