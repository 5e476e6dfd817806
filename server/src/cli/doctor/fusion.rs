//! Whether this model's KV can be fused: the verdict in the data directory, or a new one with `--verify-fusion`.

use std::path::Path;

use ragweave_engine::{Mode, ModelConfig};

use super::finding::Finding;
use crate::components;
use crate::config::{Config, ModeKind};
use crate::error::ServerError;
use crate::fidelity::Fidelity;
use crate::fit;
use crate::verify::{self, Compared, Found, FusionVerdict, Needles, Probe, Verdict, VerifyError};

const SUBJECT: &str = "fusion";

/// Why no verdict could be made.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// What the data directory records about the model of this fingerprint and the configured policy.
pub(super) fn kept(config: &Config, fingerprint: &str) -> Finding {
    let verdict = match Found::read(&config.data, fingerprint) {
        Found::Nothing => {
            return Finding::ok(
                SUBJECT,
                "there is no verdict on this model; --verify-fusion probes whether its KV can be fused",
            );
        }
        Found::Ignored(why) => return Finding::warn(SUBJECT, why),
        Found::Verdict(verdict) => verdict,
    };
    let configured = config.fusion.to_mode();
    if verdict.verdict == Verdict::Bad {
        let reasons = verdict.reasons.join("; ");
        let text = format!("the verdict is bad, so every request runs as full prefill: {reasons}");
        return Finding::warn(SUBJECT, text);
    }
    if let Some(why) = verdict.refusal(&configured) {
        let text = format!("not passed, so requests run as full prefill: {why}");
        return Finding::warn(SUBJECT, text);
    }
    match verdict.knows(&configured) {
        true => Finding::ok(
            SUBJECT,
            format!("verified, {} under {}", verdict.model, verdict.mode),
        ),
        false => Finding::warn(
            SUBJECT,
            format!(
                "verified, {} under {}, but {configured} is configured; run --verify-fusion again",
                verdict.model, verdict.mode
            ),
        ),
    }
}

/// Loads the model, probes it, and writes the verdict to the data directory if there is one.
pub(super) fn verify(config: &Config) -> Vec<Finding> {
    let verdict = match probe(config) {
        Ok(verdict) => verdict,
        Err(error) => return vec![Finding::fail(SUBJECT, error.to_string())],
    };
    let mut findings: Vec<Finding> = verdict.probes.iter().map(of_probe).collect();
    if let Some(needles) = &verdict.needles {
        findings.push(summary(needles));
        findings.extend(needles.all().map(|compared| of_policy(compared, needles)));
    }
    findings.push(conclusion(&verdict));
    findings.push(keep(&config.data, &verdict));
    findings
}

fn conclusion(verdict: &FusionVerdict) -> Finding {
    let FusionVerdict {
        model,
        kv_dtype,
        mode,
        ..
    } = verdict;
    let reasons = verdict.reasons.join("; ");
    match (verdict.verdict, &verdict.needles) {
        (Verdict::Good, Some(_)) => Finding::ok(
            SUBJECT,
            format!(
                "good: the KV of {model} in {kv_dtype} can be fused, and {mode} is no worse than plain reuse"
            ),
        ),
        (Verdict::Good, None) => Finding::ok(
            SUBJECT,
            format!(
                "good: the KV of {model} in {kv_dtype} can be fused; without a prompt format no policy was compared \
                 with plain reuse"
            ),
        ),
        (Verdict::Worse, needles) => Finding::fail(
            SUBJECT,
            format!(
                "not passed: fusing works on {model} in {kv_dtype}, but {reasons}. Requests run as full prefill until \
                 another policy is configured; {}",
                needles.as_ref().map(Needles::advice).unwrap_or_default()
            ),
        ),
        (Verdict::Bad, _) => Finding::fail(
            SUBJECT,
            format!(
                "bad: {model} in {kv_dtype} must be prefilled in full: {reasons}; report this model, and serve it as it \
                 is or with fusion.mode=full"
            ),
        ),
    }
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

/// The configured mode or, if that is full prefill, the blend that a request would get by asking for one.
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

fn summary(needles: &Needles) -> Finding {
    let text = format!(
        "{} needle prompts against full prefill, along its answers, in {:.0} s: plain reuse {}",
        needles.prompts,
        needles.seconds.ceil(),
        said(&needles.reuse)
    );
    Finding::ok(SUBJECT, text)
}

/// A policy compared with plain reuse. Only the configured one can fail the check.
fn of_policy(compared: &Compared, needles: &Needles) -> Finding {
    let is_configured = std::ptr::eq(compared, &needles.probed);
    let role = if is_configured {
        "configured"
    } else {
        "instead"
    };
    let difference = compared.kl_vs_reuse;
    let text = format!(
        "{role} {}: {}, {:.0} % of full prefill's rows; KL against reuse {:+.3} ({:+.3} to {:+.3}): {}",
        compared.mode,
        said(&compared.fidelity),
        compared.computed_share * 100.0,
        difference.mean,
        difference.low,
        difference.high,
        compared.outcome.name()
    );
    match is_configured && !compared.passes() {
        true => Finding::fail(SUBJECT, text),
        false => Finding::ok(SUBJECT, text),
    }
}

fn said(fidelity: &Fidelity) -> String {
    format!(
        "KL {:.3} nats, same next token {:.0} %",
        fidelity.mean_kl,
        fidelity.top1_agreement * 100.0
    )
}

/// A directory that is not a store yet is left unchanged: ingest creates a store only in an empty one.
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
