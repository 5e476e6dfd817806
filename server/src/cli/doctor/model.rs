//! The model directory: whether it is readable and supported, has a tokenizer and a prompt format, and what is known
//! about fusing its KV.

use ragweave_engine::ModelInfo;

use super::finding::Finding;
use super::fusion;
use crate::components;
use crate::config::Config;
use crate::prompt::PromptFormat;
use crate::{fingerprint, fit};

/// Reads everything but the weights' values; the weight files are opened and hashed.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let model = match ModelInfo::read(&components::engine_options(config)) {
        Ok(model) => model,
        Err(error) => return vec![Finding::fail("model", error.to_string())],
    };
    let mut findings = vec![Finding::ok(
        "model",
        format!(
            "{}: {} layers, context {} tokens, KV in {}, {} KV bytes per token",
            model.name,
            model.config.num_hidden_layers,
            model.max_model_len,
            model.identity.kv_dtype,
            model.identity.chunk_bytes(1),
        ),
    )];
    findings.extend(fusion_settings(config, &model));
    findings.extend(prompt(config, &model));
    if !config.data.as_os_str().is_empty() {
        let fingerprint = fingerprint::hex(model.identity.fingerprint());
        findings.push(fusion::kept(config, &fingerprint));
    }
    findings
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
