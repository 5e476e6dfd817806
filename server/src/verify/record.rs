//! `fusion-verdict.json`: the verdict kept in the data directory.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use fs_err::File;
use ragweave_engine::Mode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::judge::{Probe, Verdict};
use super::policy::{Compared, Needles};
use super::refused::{Refused, canonical};

/// Name of the file in the data directory.
pub const VERDICT_FILE: &str = "fusion-verdict.json";
/// Version of the file's fields, and of what is asked: from 2 on policies are compared with plain reuse.
const FORMAT: u32 = 2;

/// A verdict with all the figures it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FusionVerdict {
    pub format: u32,
    pub verdict: Verdict,
    /// Why it is bad; empty for a good one.
    pub reasons: Vec<String>,
    pub model: String,
    /// Identity of the KV this model makes, lowercase hex, as GetStats reports it.
    pub fingerprint: String,
    pub dtype: String,
    pub kv_dtype: String,
    /// The mode of the needle probes, in the engine's notation.
    pub mode: String,
    pub probes: Vec<Probe>,
    /// Absent if the model has no prompt format to ask in.
    pub needles: Option<Needles>,
    /// Version of ragweave.
    pub version: String,
    pub unix_seconds: u64,
}

/// What a data directory records about a model.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// No verdict at all.
    Nothing,
    Verdict(Box<FusionVerdict>),
    /// A verdict that does not count, and what to do about it.
    Ignored(String),
}

impl FusionVerdict {
    pub(super) fn format() -> u32 {
        FORMAT
    }

    /// Writes the verdict into a data directory, atomically.
    ///
    /// # Errors
    /// If the file cannot be written.
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
        let verdict = match parse(&bytes) {
            Ok(verdict) => verdict,
            Err(error) => {
                return Self::ignored(&format!("{} cannot be read: {error}", path.display()));
            }
        };
        // A model found bad stays bad; one found good by another version was never compared with plain reuse.
        if verdict.format != FORMAT && verdict.verdict != Verdict::Bad {
            let found = verdict.format;
            return Self::ignored(&format!(
                "{} has format {found}, not {FORMAT}: another version made it, and asked other questions",
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

/// A verdict of any version. The figures of other versions are left out: their fields are not ours.
fn parse(bytes: &[u8]) -> serde_json::Result<FusionVerdict> {
    let mut value: Value = serde_json::from_slice(bytes)?;
    if value["format"] != FORMAT
        && let Some(fields) = value.as_object_mut()
    {
        fields.insert("needles".to_owned(), Value::Null);
    }
    serde_json::from_value(value)
}

impl FusionVerdict {
    /// Why the policy of a mode did not pass, if it was measured at this ratio or a larger one and did not.
    pub fn refusal(&self, mode: &Mode) -> Option<String> {
        let Mode::Blend(blend) = mode else {
            return None;
        };
        let refused = self.needles.as_ref().map(Refused::of).unwrap_or_default();
        let refused = refused.into_iter().find(|refused| refused.covers(blend));
        refused.map(|refused| refused.reason().to_owned())
    }

    /// Whether the policy of a mode was measured at this very ratio; one that recomputes nothing, or everything, needs no
    /// measuring.
    pub fn knows(&self, mode: &Mode) -> bool {
        let n_layers = self.needles.as_ref().and_then(|needles| needles.n_layers);
        let known = self.needles.iter().flat_map(Needles::all);
        let mut known = known.filter_map(Compared::blend);
        match mode {
            Mode::Blend(blend) if blend.ratio.is_partial() => {
                known.any(|known| canonical(&known, n_layers) == canonical(blend, n_layers))
            }
            Mode::Blend(_) | Mode::Full | Mode::Reuse => true,
        }
    }
}

#[cfg(test)]
#[path = "record/tests.rs"]
mod tests;
