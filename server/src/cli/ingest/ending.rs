//! How a run of `ingest` ended, and its exit code.

use std::process::ExitCode;

pub(super) const NO_DOCUMENTS: &str =
    "no documents under the given paths; .txt, .md, .markdown and .jsonl files are read";
const SOME_FAILED: u8 = 3;
pub(super) const INTERRUPTED: u8 = 130;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Done,
    /// Some documents failed; the others are in the store.
    SomeFailed,
    /// Interrupted by a signal, after a whole document.
    Interrupted,
    /// Stopped by an error that would affect every further document.
    Stopped,
}

pub(super) fn exit_code(ending: &Ending) -> ExitCode {
    match ending {
        Ending::Done => ExitCode::SUCCESS,
        Ending::SomeFailed => ExitCode::from(SOME_FAILED),
        Ending::Interrupted => ExitCode::from(INTERRUPTED),
        Ending::Stopped => ExitCode::FAILURE,
    }
}
