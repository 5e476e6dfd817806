//! `ragweave-eval bench`: where the time to first token goes at one context length, with the decode rate beside it. Time
//! depends on shapes, not on weights, so random weights in the shape of a model will do; quality is not measured here.

use ragweave_engine::{Mode, Policy, Ratio};
use serde_json::{Value, json};

use super::model_dir::{ModelArgs, TimedModel};
use super::report::Report;
use super::stock::KvPlace;
use super::timer::{Timer, TimerArgs};
use crate::experiment::{self, block_on, threads};
use crate::flags::parse_count;
use crate::mode_spec::ModeSpec;
use crate::run_dir::merged;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
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

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let model = args.model.open(&args.timer.engine)?;
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
    let prompt_tokens = timer.segments.n_tokens();
    let json = args.json(&model, prompt_tokens, &report)?;
    let text = format!(
        "{}{}",
        args.text(&model, prompt_tokens),
        report.work_table()
    );
    experiment::print(&json, text, args.json)
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

impl Args {
    /// What was timed on what, and the times.
    fn json(
        &self,
        model: &TimedModel,
        prompt_tokens: usize,
        report: &Report,
    ) -> anyhow::Result<Value> {
        let (config, prompt) = (&model.engine.model().config, &self.timer.prompt);
        let setting = json!({
            "device": self.timer.engine.device.to_string(),
            "threads": threads(),
            "model": {
                "name": model.name,
                "parameters": config.n_parameters(),
                "layers": config.num_hidden_layers,
                "hidden_size": config.hidden_size,
                "attention_heads": config.num_attention_heads,
                "key_value_heads": config.num_key_value_heads,
                "head_dim": config.head_dim,
                "vocab_size": config.vocab_size,
            },
            "dtype": model.options.dtype.to_string(),
            "kv_dtype": model.options.kv_dtype.to_string(),
            "kv": self.timer.kv,
            "prompt": {
                "chunks": self.chunks,
                "chunk_tokens": prompt.chunk_tokens,
                "question_tokens": prompt.question_tokens,
                "prefix_tokens": prompt.prefix_tokens,
                "seed": prompt.seed,
            },
            "prompt_tokens": prompt_tokens,
            "repeats": self.timer.repeats,
        });
        Ok(merged([setting, serde_json::to_value(report)?]))
    }

    fn text(&self, model: &TimedModel, prompt_tokens: usize) -> String {
        let (config, prompt) = (&model.engine.model().config, &self.timer.prompt);
        let place = match self.timer.kv {
            KvPlace::Store => "a store (page cache warm)",
            KvPlace::Cold => "a store (dropped from the page cache before each run, and checked)",
            KvPlace::Memory => "the server's memory tier",
        };
        let prefix = match prompt.prefix_tokens {
            0 => "",
            _ => {
                "the prefix's KV comes from the device's cache in every mode, full prefill's too\n\n"
            }
        };
        let weights = if self.model.is_random() {
            ", random weights"
        } else {
            ""
        };
        format!(
            "{}{}: {:.1} M parameters, {} layers, hidden {}, {} heads on {} of KV, head {}, vocabulary {}\n\
             {} with {} threads, compute {}, stored KV {} from {place}\n\
             prompt of {prompt_tokens} tokens: prefix {}, {} chunks of {}, question {}; medians of {} interleaved runs \
             after a warm-up\n\n{prefix}",
            model.name,
            weights,
            config.n_parameters() as f64 / 1e6,
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            config.vocab_size,
            self.timer.engine.device,
            threads(),
            model.options.dtype,
            model.options.kv_dtype,
            prompt.prefix_tokens,
            self.chunks,
            prompt.chunk_tokens,
            prompt.question_tokens,
            self.timer.repeats,
        )
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
