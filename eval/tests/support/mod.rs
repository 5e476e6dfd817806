//! Runs the built binary and reads what it says.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A directory of the checkout.
pub fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The `ragweave-eval` binary with no configuration from the environment.
pub fn ragweave_eval() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ragweave-eval"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RAGWEAVE_") {
            command.env_remove(name);
        }
    }
    command
}

/// What a finished process said.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn of(command: &mut Command) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: status.code(),
            stdout: text(stdout),
            stderr: text(stderr),
        }
    }

    /// The one JSON object on standard output of a process that succeeded.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:#?}");
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// The process failed with each of `words` in its error, and no trace of a panic.
    #[track_caller]
    pub fn expect_error(&self, words: &[&str]) {
        assert!(matches!(self.code, Some(1 | 2)), "{self:#?}");
        assert_eq!(self.stdout, "");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}

/// The numbers of a JSON list.
#[track_caller]
pub fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect()
}
