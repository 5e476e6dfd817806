//! `fusion-verdict.json`: the verdict kept in the data directory, and what serving makes of it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use fs_err::File;
use ragweave_engine::Mode;
use serde::{Deserialize, Serialize};

use super::judge::{Needles, Probe, Verdict};
use crate::controller::ModeChoice;

/// Name of the file in the data directory.
pub const VERDICT_FILE: &str = "fusion-verdict.json";
/// Version of the file's fields.
const FORMAT: u32 = 1;

/// A verdict with all it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FusionVerdict {
    pub format: u32,
    pub verdict: Verdict,
    /// Why it is bad; empty for a good one.
    pub reasons: Vec<String>,
    pub model: String,
    /// Identity of the KV this model makes, lowercase hex, as GetStats tells it.
    pub fingerprint: String,
    pub dtype: String,
    pub kv_dtype: String,
    /// What the needle probes ran, in the engine's notation.
    pub mode: String,
    pub probes: Vec<Probe>,
    /// Absent where the model has no prompt format to ask in.
    pub needles: Option<Needles>,
    /// Of ragweave.
    pub version: String,
    pub unix_seconds: u64,
}

/// What a data directory says of a model.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// No verdict at all.
    Nothing,
    Verdict(Box<FusionVerdict>),
    /// One that does not count, and what to do about it.
    Ignored(String),
}

/// Whether requests may be fused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// Every request runs as full prefill.
    Closed {
        reason: String,
    },
}

impl FusionVerdict {
    pub(super) fn format() -> u32 {
        FORMAT
    }

    /// Writes the verdict into a data directory: all of it or nothing.
    ///
    /// # Errors
    /// Where the file system refuses.
    pub fn write(&self, data: &Path) -> io::Result<PathBuf> {
        let (path, unfinished) = (
            data.join(VERDICT_FILE),
            data.join(format!("{VERDICT_FILE}.tmp")),
        );
        let mut file = File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs_err::rename(&unfinished, &path)?;
        File::open(data)?.sync_all()?;
        Ok(path)
    }
}

impl Found {
    /// Looks for the verdict on the model of this fingerprint.
    pub fn read(data: &Path, fingerprint: &str) -> Self {
        let path = data.join(VERDICT_FILE);
        let bytes = match fs_err::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::Nothing,
            Err(error) => return Self::ignored(&error.to_string()),
        };
        let verdict: FusionVerdict = match serde_json::from_slice(&bytes) {
            Ok(verdict) => verdict,
            Err(error) => {
                return Self::ignored(&format!("{} cannot be read: {error}", path.display()));
            }
        };
        if verdict.format != FORMAT {
            let found = verdict.format;
            return Self::ignored(&format!(
                "{} has format {found}, not {FORMAT}",
                path.display()
            ));
        }
        if verdict.fingerprint != fingerprint {
            return Self::ignored(&format!(
                "{} is about another model or type, {} in {}",
                path.display(),
                verdict.model,
                verdict.kv_dtype
            ));
        }
        Self::Verdict(Box::new(verdict))
    }

    fn ignored(why: &str) -> Self {
        Self::Ignored(format!(
            "{why}, so it does not count; `ragweave doctor --verify-fusion` makes a new one"
        ))
    }
}

impl Gate {
    /// The mode to run a request in, and why it is not the one it asked for.
    pub fn pass(&self, mode: ModeChoice) -> (ModeChoice, Option<String>) {
        match self {
            Self::Closed { reason } if mode.reads_kv() => (Mode::Full.into(), Some(reason.clone())),
            Self::Closed { .. } | Self::Open => (mode, None),
        }
    }

    /// Reads what the data directory says of this model, and logs what follows from it.
    pub fn read(data: &Path, fingerprint: &str) -> Self {
        let verdict = match Found::read(data, fingerprint) {
            Found::Nothing => return Self::Open,
            Found::Ignored(why) => {
                tracing::warn!("fusion verdict ignored: {why}");
                return Self::Open;
            }
            Found::Verdict(verdict) => verdict,
        };
        match verdict.verdict {
            Verdict::Good => Self::Open,
            Verdict::Bad => {
                let reason = format!(
                    "fusion verdict of this model is bad: {}",
                    verdict.reasons.join("; ")
                );
                tracing::warn!("every request runs as full prefill: {reason}");
                Self::Closed { reason }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn bad(fingerprint: &str) -> FusionVerdict {
        FusionVerdict {
            format: FORMAT,
            verdict: Verdict::Bad,
            reasons: vec!["all = full: off by 3.10e-1, and rounding explains 1e-3".to_owned()],
            model: "tiny".to_owned(),
            fingerprint: fingerprint.to_owned(),
            dtype: "f32".to_owned(),
            kv_dtype: "f32".to_owned(),
            mode: "hkvd@1:0.15".to_owned(),
            probes: vec![Probe::new("all = full", 0.31, 1e-3)],
            needles: None,
            version: "0.1.0".to_owned(),
            unix_seconds: 1,
        }
    }

    #[test]
    fn a_bad_verdict_closes_the_gate_of_its_own_model_only() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Gate::read(dir.path(), "aa"), Gate::Open);
        let verdict = bad("aa");
        let path = verdict.write(dir.path()).unwrap();
        assert_eq!(
            Found::read(dir.path(), "aa"),
            Found::Verdict(Box::new(verdict.clone()))
        );
        let gate = Gate::read(dir.path(), "aa");
        let (mode, reason) = gate.pass(Mode::Reuse.into());
        assert_eq!(mode, Mode::Full.into());
        assert!(reason.unwrap().contains("off by 3.10e-1"));
        assert_eq!(
            gate.pass(Mode::Full.into()),
            (Mode::Full.into(), None),
            "nothing to fall back from"
        );

        assert_eq!(Gate::read(dir.path(), "bb"), Gate::Open);
        let good = FusionVerdict {
            verdict: Verdict::Good,
            ..verdict
        };
        good.write(dir.path()).unwrap();
        assert_eq!(Gate::read(dir.path(), "aa"), Gate::Open);
        assert_eq!(
            fs_err::read_dir(dir.path()).unwrap().count(),
            1,
            "{}",
            path.display()
        );
    }

    #[test]
    fn what_does_not_count_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        bad("aa").write(dir.path()).unwrap();
        let Found::Ignored(why) = Found::read(dir.path(), "bb") else {
            panic!("another model's verdict counted");
        };
        assert!(
            why.contains("another model") && why.contains("doctor --verify-fusion"),
            "{why}"
        );

        fs_err::write(dir.path().join(VERDICT_FILE), "{\"verdict\": \"bad\"}").unwrap();
        let Found::Ignored(why) = Found::read(dir.path(), "aa") else {
            panic!("half a verdict counted");
        };
        assert!(
            why.contains(VERDICT_FILE) && why.contains("cannot be read"),
            "{why}"
        );
    }
}
