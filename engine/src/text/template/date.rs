//! The date a template sees. It is given, never read from a clock: the rendered text is part of
//! what chunk KV is conditioned on, so it must be the same today and tomorrow.

use jiff::civil::{Date, Time};
use jiff::fmt::strtime::{self, BrokenDownTime, Config, PosixCustom};

/// Forms that a date may be given in.
const FORMS: [&str; 3] = ["%Y-%m-%d", "%d %b %Y", "%d %B %Y"];

/// Reads `2024-07-26`, `26 Jul 2024` or `26 July 2024`.
pub(super) fn parse(text: &str) -> Option<Date> {
    let in_form = |form: &&str| strtime::parse(form, text).ok()?.to_date().ok();
    FORMS.iter().find_map(in_form)
}

/// Formats `date`, at midnight and without a time zone, as Python's `strftime` does in the C
/// locale; an unknown directive is copied.
pub(super) fn strftime(date: Date, format: &str) -> Result<String, jiff::Error> {
    let now = BrokenDownTime::from(date.to_datetime(Time::midnight()));
    let config = Config::new().custom(PosixCustom::new()).lenient(true);
    now.to_string_with_config(&config, without_unknown_parts(format))
}

/// The zone of a time without one is empty, and its microseconds have six digits.
fn without_unknown_parts(format: &str) -> String {
    let mut result = String::with_capacity(format.len());
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('%', Some(directive)) => {
                chars.next();
                match directive {
                    'Z' | 'z' => {}
                    'f' => result.push_str("000000"),
                    other => result.extend(['%', other]),
                }
            }
            (c, _) => result.push(c),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_three_forms_and_nothing_else_is_one() {
        let date = Date::constant(2024, 7, 26);
        for text in ["2024-07-26", "26 Jul 2024", "26 July 2024"] {
            assert_eq!(parse(text), Some(date), "{text}");
        }
        for text in [
            "today",
            "",
            "2024-13-01",
            "2023-02-29",
            "31 Apr 2024",
            "2024-07-26 x",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
