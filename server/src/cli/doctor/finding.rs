//! One line of the doctor's report.

use std::fmt;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    level: Level,
    subject: &'static str,
    /// What was found and, unless all is well, what to do.
    text: String,
}

impl Finding {
    pub(super) fn ok(subject: &'static str, text: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            subject,
            text: text.into(),
        }
    }

    pub(super) fn warn(subject: &'static str, text: impl Into<String>) -> Self {
        Self {
            level: Level::Warn,
            subject,
            text: text.into(),
        }
    }

    pub(super) fn fail(subject: &'static str, text: impl Into<String>) -> Self {
        Self {
            level: Level::Fail,
            subject,
            text: text.into(),
        }
    }

    pub(super) fn is_failure(&self) -> bool {
        self.level == Level::Fail
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        write!(f, "{level}  {:9} {}", self.subject, self.text)
    }
}
