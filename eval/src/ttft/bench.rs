//! `ragweave-eval bench`: where the time to first token goes, on a model of random weights in the
//! shape of a real one. Time depends on shapes, not on weights, so no download is needed; quality
//! is not measured here. It is a timing at one context length, with the decode rate beside it.

use std::fmt;
use std::path::PathBuf;

use ragweave_engine::{Mode, Policy, Ratio};
use serde::Serialize;

use super::model_dir::TimedModel;
use super::prompt::PromptShape;
use super::report::Report;
use super::stock::KvPlace;
use super::timer::{Timer, TimerArgs};
use crate::experiment::{self, block_on, threads};
use crate::flags::parse_count;
use crate::mode_spec::ModeSpec;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A config.json, or a directory that holds one; weights are random
    #[arg(long, value_name = "CONFIG.json|DIR")]
    random_weights: PathBuf,
    /// Chunks in the prompt
    #[arg(long, value_name = "N", default_value = "6", value_parser = parse_count)]
    chunks: usize,
    /// Shares of the context tokens that are not exact that blend recomputes
    #[arg(
        long,
        value_name = "R,..",
        default_value = "0.05,0.15",
        value_delimiter = ','
    )]
    ratios: Vec<Ratio>,
    /// Policies of blend, such as hkvd@1, first-k, query/all, anchors or all
    #[arg(
        long,
        value_name = "P,..",
        default_value = "hkvd,first-k",
        value_delimiter = ','
    )]
    policies: Vec<Policy>,
    /// Tokens generated in each run, for the decode rate
    #[arg(long, value_name = "N", default_value = "16", value_parser = parse_count)]
    decode_tokens: usize,
    #[command(flatten)]
    timer: TimerArgs,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Bench<'a> {
    device: String,
    threads: usize,
    model: ModelShape<'a>,
    dtype: String,
    kv_dtype: String,
    kv: KvPlace,
    prompt: Prompt<'a>,
    prompt_tokens: usize,
    repeats: usize,
    #[serde(flatten)]
    report: Report,
}

#[derive(Serialize)]
struct ModelShape<'a> {
    name: &'a str,
    parameters: u64,
    layers: usize,
    hidden_size: usize,
    attention_heads: usize,
    key_value_heads: usize,
    head_dim: usize,
    vocab_size: usize,
}

#[derive(Serialize)]
struct Prompt<'a> {
    chunks: usize,
    #[serde(flatten)]
    shape: &'a PromptShape,
    seed: u64,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let model = TimedModel::random(&args.random_weights, &args.timer.engine)?;
    let specs = specs(&args.policies, &args.ratios);
    let lengths = [args.chunks];
    let timer = Timer::new(
        &args.timer,
        &model.engine,
        &specs,
        &lengths,
        args.decode_tokens,
    )?;
    let rounds = block_on(timer.measure(Vec::new(), |_| Ok(())))?;
    let report = Report::new(&specs, &rounds);
    let bench = Bench::new(args, &model, timer.segments.n_tokens(), report);
    experiment::print(&bench, &bench, args.json)
}

/// Full and reuse, then every policy at every ratio. `all` recomputes everything at any ratio and
/// comes once.
fn specs(policies: &[Policy], ratios: &[Ratio]) -> Vec<ModeSpec> {
    let mut modes = vec![Mode::Full, Mode::Reuse];
    for policy in policies {
        let ratios = match policy {
            Policy::All => &[Ratio::ONE],
            _ => ratios,
        };
        let blends = ratios
            .iter()
            .map(|&ratio| Mode::blend(policy.clone(), ratio));
        modes.extend(blends);
    }
    modes.into_iter().map(ModeSpec::new).collect()
}

impl<'a> Bench<'a> {
    fn new(args: &'a Args, model: &'a TimedModel, prompt_tokens: usize, report: Report) -> Self {
        let (config, shape) = (&model.engine.model().config, &args.timer.prompt);
        Self {
            device: args.timer.engine.device.to_string(),
            threads: threads(),
            model: ModelShape {
                name: &model.name,
                parameters: config.n_parameters(),
                layers: config.num_hidden_layers,
                hidden_size: config.hidden_size,
                attention_heads: config.num_attention_heads,
                key_value_heads: config.num_key_value_heads,
                head_dim: config.head_dim,
                vocab_size: config.vocab_size,
            },
            dtype: model.options.dtype.to_string(),
            kv_dtype: model.options.kv_dtype.to_string(),
            kv: args.timer.kv,
            prompt: Prompt {
                chunks: args.chunks,
                shape,
                seed: shape.seed,
            },
            prompt_tokens,
            repeats: args.timer.repeats,
            report,
        }
    }
}

impl fmt::Display for ModelShape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, random weights: {:.1} M parameters, {} layers, hidden {}, {} heads on {} of KV, \
             head {}, vocabulary {}",
            self.name,
            self.parameters as f64 / 1e6,
            self.layers,
            self.hidden_size,
            self.attention_heads,
            self.key_value_heads,
            self.head_dim,
            self.vocab_size
        )
    }
}

impl fmt::Display for Bench<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shape, chunks) = (self.prompt.shape, self.prompt.chunks);
        let place = match self.kv {
            KvPlace::Store => "a store (page cache warm)",
            KvPlace::Cold => "a store (dropped from the page cache before each run, and checked)",
            KvPlace::Memory => "the server's memory tier",
        };
        writeln!(f, "{}", self.model)?;
        writeln!(
            f,
            "{} with {} threads, compute {}, stored KV {} from {place}",
            self.device, self.threads, self.dtype, self.kv_dtype
        )?;
        writeln!(
            f,
            "prompt of {} tokens: prefix {}, {chunks} chunks of {}, question {}; medians of {} \
             interleaved runs after a warm-up\n",
            self.prompt_tokens,
            shape.prefix_tokens,
            shape.chunk_tokens,
            shape.question_tokens,
            self.repeats
        )?;
        if shape.prefix_tokens > 0 {
            writeln!(
                f,
                "the prefix's KV comes from the device's cache in every mode, full prefill's too\n"
            )?;
        }
        write!(f, "{}", self.report.work_table())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_comes_first_and_each_policy_runs_at_each_ratio() {
        let policies = [Policy::hkvd(2), Policy::All, Policy::FirstK];
        let names: Vec<String> = specs(&policies, &[Ratio::of_percent(5), Ratio::of_percent(15)])
            .iter()
            .map(ToString::to_string)
            .collect();
        let expected = [
            "full",
            "reuse",
            "hkvd@2:0.05",
            "hkvd@2:0.15",
            "all",
            "first-k:0.05",
            "first-k:0.15",
        ];
        assert_eq!(names, expected);
    }
}
