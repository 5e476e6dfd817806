//! Whether this model's KV can be fused: the verdict in the data directory, or a new one with `--verify-fusion`.

use std::path::Path;

use ragweave_engine::{Mode, ModelConfig};

use super::Finding;
use crate::components;
use crate::config::{Config, ModeKind};
use crate::error::ServerError;
use crate::fidelity::Fidelity;
use crate::fit;
use crate::verify::{self, Found, FusionVerdict, Probe, Verdict, VerifyError};

const SUBJECT: &str = "fusion";

/// Why no verdict could be made.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// What the data directory says of the model of this fingerprint.
pub(super) fn kept(data: &Path, fingerprint: &str) -> Finding {
    match Found::read(data, fingerprint) {
        Found::Nothing => Finding::ok(
            SUBJECT,
            "no verdict is kept on this model; --verify-fusion probes whether its KV can be fused",
        ),
        Found::Ignored(why) => Finding::warn(SUBJECT, why),
        Found::Verdict(verdict) => match verdict.verdict {
            Verdict::Good => Finding::ok(
                SUBJECT,
                format!("verified, {} under {}", verdict.model, verdict.mode),
            ),
            Verdict::Bad => Finding::warn(
                SUBJECT,
                format!(
                    "the verdict is bad, so every request runs as full prefill: {}",
                    verdict.reasons.join("; ")
                ),
            ),
        },
    }
}

/// Loads the model, probes it, and keeps the verdict in the data directory if there is one.
pub(super) fn verify(config: &Config) -> Vec<Finding> {
    let verdict = match probe(config) {
        Ok(verdict) => verdict,
        Err(error) => return vec![Finding::fail(SUBJECT, error.to_string())],
    };
    let mut findings: Vec<Finding> = verdict.probes.iter().map(of_probe).collect();
    findings.extend(needles(&verdict));
    findings.push(match verdict.verdict {
        Verdict::Good => Finding::ok(
            SUBJECT,
            format!("good: the KV of {} in {} can be fused", verdict.model, verdict.kv_dtype),
        ),
        Verdict::Bad => Finding::fail(
            SUBJECT,
            format!(
                "bad: {} in {} must be prefilled in full: {}; report this model, and serve it as it is or with \
                 fusion.mode=full",
                verdict.model,
                verdict.kv_dtype,
                verdict.reasons.join("; ")
            ),
        ),
    });
    findings.push(keep(&config.data, &verdict));
    findings
}

fn probe(config: &Config) -> Result<FusionVerdict, Failure> {
    let shape = ModelConfig::from_dir(&config.model).map_err(ServerError::from)?;
    fit::fusion(config, &shape).map_err(ServerError::from)?;
    let options = components::engine_options(config);
    let engine = config
        .device
        .spawn_engine(options)
        .map_err(ServerError::from)?;
    let prompt = match &engine.model().tokenizer {
        Some(_) => Some(components::open_prompt(config, engine.model())?),
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| ServerError::Io {
            what: "start the runtime",
            source,
        })?;
    let mode = probed_mode(config);
    Ok(runtime.block_on(verify::verify(&engine, prompt.as_ref(), &mode))?)
}

/// The configured mode; where that is full prefill, the blend that a request would get by asking for one.
fn probed_mode(config: &Config) -> Mode {
    match config.fusion.mode {
        ModeKind::Full => Mode::Blend(config.fusion.to_blend()),
        ModeKind::Reuse | ModeKind::Blend | ModeKind::Auto => config.fusion.to_mode(),
    }
}

fn of_probe(probe: &Probe) -> Finding {
    let Probe {
        name,
        measured,
        tolerance,
    } = probe;
    let text = format!("{name}: off by {measured:.1e}, rounding may be {tolerance:.0e}");
    match probe.passed() {
        true => Finding::ok(SUBJECT, text),
        false => Finding::fail(SUBJECT, text),
    }
}

fn needles(verdict: &FusionVerdict) -> Option<Finding> {
    let needles = verdict.needles.as_ref()?;
    let said = |Fidelity {
                    mean_kl,
                    top1_agreement,
                    ..
                }: Fidelity| {
        format!(
            "KL {mean_kl:.3} nats, same next token {:.0} %",
            top1_agreement * 100.0
        )
    };
    Some(Finding::ok(
        SUBJECT,
        format!(
            "{} needle prompts against full prefill: {} {}; plain reuse {}",
            needles.probed.positions,
            verdict.mode,
            said(needles.probed),
            said(needles.reuse)
        ),
    ))
}

/// A directory that is no store yet is left alone: ingest creates a store in an empty one only.
fn keep(data: &Path, verdict: &FusionVerdict) -> Finding {
    if data.as_os_str().is_empty() {
        return Finding::warn(
            SUBJECT,
            "verdict not kept: pass --data DIR to keep it for `serve`",
        );
    }
    if !data.join("FORMAT").is_file() {
        let text = format!(
            "verdict not kept: {} holds no documents yet; run this again after `ragweave ingest`",
            data.display()
        );
        return Finding::warn(SUBJECT, text);
    }
    match verdict.write(data) {
        Ok(path) => Finding::ok(SUBJECT, format!("verdict written to {}", path.display())),
        Err(error) => Finding::fail(SUBJECT, format!("verdict not kept: {error}")),
    }
}
