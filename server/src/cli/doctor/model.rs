//! The model directory: whether it is readable and supported, has a tokenizer and a prompt format, and what is known
//! about fusing its KV.

use indicatif::HumanCount;
use ragweave_engine::{KvIdentity, ModelInfo};

use super::finding::Finding;
use super::fusion;
use crate::components;
use crate::config::Config;
use crate::prompt::PromptFormat;
use crate::sizing::{self, Free};
use crate::{fingerprint, fit};

/// Tokens of about a book. A disk without room for them is worth a warning.
const SMALL_ROOM: u64 = 100_000;

/// Reads everything but the weights' values; the weight files are opened and hashed.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let model = match ModelInfo::read(&components::engine_options(config)) {
        Ok(model) => model,
        Err(error) => return vec![Finding::fail("model", error.to_string())],
    };
    let mut findings = vec![Finding::ok(
        "model",
        format!(
            "{}: {} layers, context {} tokens, KV stored in {}",
            model.name,
            model.config.num_hidden_layers,
            model.max_model_len,
            model.identity.kv_dtype,
        ),
    )];
    findings.extend(kv_size(config, &model));
    findings.extend(fusion_settings(config, &model));
    findings.extend(prompt(config, &model));
    if !config.data.as_os_str().is_empty() {
        let fingerprint = fingerprint::hex(model.identity.fingerprint());
        findings.push(fusion::kept(config, &fingerprint));
    }
    findings
}

/// What KV takes on disk, padding included, in each type, and how much of it the disk has room for.
fn kv_size(config: &Config, model: &ModelInfo) -> Option<Finding> {
    let per_token =
        |identity: &KvIdentity| sizing::bytes_per_token(identity, config.ingest.chunk_tokens);
    let bytes = per_token(&model.identity)?;
    let others = sizing::COMPARED
        .into_iter()
        .filter(|other| *other != model.identity.kv_dtype);
    let others = others.filter_map(|other| {
        let bytes = per_token(&model.identity.stored_as(other))?;
        Some(format!("{other} {bytes}"))
    });
    let others: Vec<String> = others.collect();
    let said = format!(
        "{} takes {bytes} bytes per token in chunks of {} ({}; --kv-dtype)",
        model.identity.kv_dtype,
        config.ingest.chunk_tokens,
        others.join(", ")
    );
    if config.data.as_os_str().is_empty() {
        return Some(Finding::ok("kv size", said));
    }
    let free = Free::at(&config.data).ok()?.bytes;
    let room = free.saturating_sub(config.store.min_free_bytes) / bytes;
    let said = format!("{said}: the disk has room for {} tokens", HumanCount(room));
    Some(match room < SMALL_ROOM {
        true => Finding::warn(
            "kv size",
            format!("{said}; `ragweave ingest --dry-run` counts what your documents need"),
        ),
        false => Finding::ok("kv size", said),
    })
}

/// Checks for a setting in `[fusion]` that `serve` and `ingest` would refuse.
fn fusion_settings(config: &Config, model: &ModelInfo) -> Option<Finding> {
    let refused = fit::fusion(config, &model.config).err()?;
    Some(Finding::fail("config", refused.to_string()))
}

fn prompt(config: &Config, model: &ModelInfo) -> Vec<Finding> {
    let format = match components::open_prompt(config, model) {
        Ok(format) => format,
        Err(error) => return vec![Finding::fail("prompt", error.to_string())],
    };
    if let Err(error) = components::open_splitter(config, model, &format) {
        return vec![Finding::fail("prompt", error.to_string())];
    }
    let notices = fit::notices(config, model, &format).into_iter();
    let notices = notices.map(|notice| Finding::warn("limits", notice));
    std::iter::once(described(config, model, &format))
        .chain(notices)
        .collect()
}

fn described(config: &Config, model: &ModelInfo, format: &PromptFormat) -> Finding {
    let sizes = format!(
        "prefix of {} tokens, {} reserved around each chunk",
        format.conditioning_prefix().len(),
        format.wrapper_tokens()
    );
    match (&config.prompt, &model.template) {
        (Some(_), _) => Finding::ok("prompt", format!("three strings; {sizes}")),
        (None, Ok(Some(_))) => Finding::ok("prompt", format!("the model's chat template; {sizes}")),
        (None, _) => Finding::warn(
            "prompt",
            format!(
                "no chat template and no [prompt] in {}/ragweave.toml: plain text is used; {sizes}",
                model.name
            ),
        ),
    }
}
