//! `ragweave-eval logits`: the logits of a prompt's last position, to compare with any other
//! implementation. `scripts/fixtures/fusion_reference.py` takes the same plan and flags.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::ArgGroup;
use ragweave_engine::{
    EngineHandle, FuseReport, FuseRequest, FusionPlan, LayerSource, MemorySource, Mode,
    PromptSegments, SamplingParams,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::experiment::{block_on, print_text};
use crate::flags::{EngineArgs, parse_id};
use crate::mode_spec::ModeSpec;

mod flags;
mod prompt;

use flags::FusionArgs;
use prompt::Prompt;

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("prompt").required(true).args(["tokens", "plan"]))]
pub(crate) struct Args {
    /// Model: a directory in Hugging Face layout, or a GGUF file; a tokenizer is not needed
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// The prompt's token ids
    #[arg(
        long,
        value_name = "IDS",
        value_delimiter = ',',
        value_parser = parse_id
    )]
    tokens: Vec<u32>,
    /// A prompt in segments: {"prefix": [ids], "chunks": [[ids], ...], "question": [ids]}
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    #[command(flatten)]
    fusion: FusionArgs,
    #[command(flatten)]
    engine: EngineArgs,
    /// The object on one line instead of indented
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Output {
    /// Of the last position, `[vocab_size]`.
    logits: Vec<f32>,
    #[serde(flatten)]
    fusion: Option<Value>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let prompt = args.prompt()?;
    let options = args.engine.options(&args.model);
    let engine = args.engine.device.spawn_engine(options)?;
    let (logits, report) = block_on(prefill(&engine, &prompt))?;
    if let Some(id) = logits.iter().position(|logit| !logit.is_finite()) {
        bail!(
            "the logit of token {id} is {}; try another --dtype",
            logits[id]
        );
    }
    let fusion = args.plan.is_some().then(|| fusion(&report));
    let output = Output { logits, fusion };
    print_text(match args.json {
        true => serde_json::to_string(&output)?,
        false => serde_json::to_string_pretty(&output)?,
    })
}

impl Args {
    fn prompt(&self) -> anyhow::Result<Prompt> {
        let segments = match &self.plan {
            Some(path) => prompt::read_segments(path)?,
            None => PromptSegments {
                prefix: Vec::new(),
                chunks: Vec::new(),
                question: self.tokens.clone(),
            },
        };
        Prompt::new(segments, &self.fusion)
    }
}

/// What a plan's prefill did.
fn fusion(report: &FuseReport) -> Value {
    json!({
        // Prompt positions recomputed among the loaded ones, ascending.
        "selected": report.recomputed_rows,
        "report": {
            // As planned: ratio 0 is `reuse`, ratio 1 is `full`.
            "mode": ModeSpec::new(report.mode.clone()).label().mode,
            "prompt_tokens": report.prompt_tokens,
            "tokens_loaded": report.tokens_loaded,
            "tokens_recomputed": report.tokens_recomputed,
            "tokens_prefilled": report.tokens_prefilled,
            "bytes_loaded": report.bytes_loaded,
            "chunks_hit": report.chunks_hit,
            "chunks_missed": report.chunks_missed,
        },
    })
}

async fn prefill(engine: &EngineHandle, prompt: &Prompt) -> anyhow::Result<(Vec<f32>, FuseReport)> {
    // Planned before any KV is computed, so that bad input is reported at once.
    let plan = prompt.plan(engine.model())?;
    let sources = sources(engine, prompt, &plan).await?;
    let request = FuseRequest {
        plan,
        sources,
        sampling: SamplingParams::greedy(1),
        deadline: None,
    };
    Ok(engine.logits(request).await?)
}

/// KV of the chunks that are not missed, each computed alone after the conditioning ids.
async fn sources(
    engine: &EngineHandle,
    prompt: &Prompt,
    plan: &FusionPlan,
) -> anyhow::Result<Vec<Option<Box<dyn LayerSource>>>> {
    let conditioning: Arc<[u32]> = prompt.conditioning().into();
    let reads_kv = *plan.mode() != Mode::Full;
    let mut sources: Vec<Option<Box<dyn LayerSource>>> = Vec::new();
    for (index, ids) in prompt.chunks().iter().enumerate() {
        if !reads_kv || prompt.is_missed(index) {
            sources.push(None);
            continue;
        }
        let kv = engine.chunk_kv(conditioning.clone(), ids.clone()).await;
        let kv = kv.with_context(|| format!("compute the KV of chunk {index}"))?;
        sources.push(Some(Box::new(MemorySource(Arc::new(kv)))));
    }
    Ok(sources)
}
