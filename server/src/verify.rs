//! Whether a model's KV can be fused at all: identity probes, which must hold up to rounding, and needle probes, which
//! show whether the configured policy is nearer to full prefill than plain reuse, and which others are.
//!
//! The verdict is kept in the data directory ([`FusionVerdict`]). If it is bad, every request runs as full prefill;
//! otherwise only requests that would blend with a policy that did not pass ([`Gate`]).

use std::time::{SystemTime, UNIX_EPOCH};

use ragweave_engine::{EngineHandle, Mode};

use crate::fingerprint::fingerprint;
use crate::prompt::PromptFormat;

mod error;
mod gate;
mod judge;
mod needles;
mod policy;
mod probes;
mod prompts;
mod record;
mod refused;

pub use error::VerifyError;
pub use gate::Gate;
pub use judge::{Probe, Tolerances, Verdict, judge};
pub use policy::{Compared, Needles, Outcome};
pub use record::{Found, FusionVerdict, VERDICT_FILE};
pub use refused::Refused;

use prompts::Bench;

/// Probes a loaded model. `mode` is the one that is judged; without a prompt format no policy is compared with reuse.
///
/// # Errors
/// [`VerifyError`]; a probe that fails is not an error but makes the verdict bad.
pub async fn verify(
    engine: &EngineHandle,
    prompt: Option<&PromptFormat>,
    mode: &Mode,
) -> Result<FusionVerdict, VerifyError> {
    let model = engine.model();
    let identity = &model.identity;
    let tolerances = Tolerances::of(identity.compute_dtype, identity.kv_dtype);
    let bench = Bench::new(engine, prompt)?;
    let mode = &mode.clone().normalised(bench.n_layers())?;
    let probes = probes::run(&bench, mode, tolerances).await?;
    let needles = match prompt {
        Some(prompt) => Some(needles::run(&bench, prompt, mode, tolerances).await?),
        None => None,
    };
    let (verdict, reasons) = judge(&probes, needles.as_ref());
    Ok(FusionVerdict {
        format: FusionVerdict::format(),
        verdict,
        reasons,
        model: model.name.clone(),
        fingerprint: fingerprint(engine),
        dtype: identity.compute_dtype.to_string(),
        kv_dtype: identity.kv_dtype.to_string(),
        mode: mode.to_string(),
        probes,
        needles,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        unix_seconds: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    })
}
