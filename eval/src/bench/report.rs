//! What a bench prints: what was measured on what, and a row per mode.

use std::fmt;
use std::thread::available_parallelism;
use std::time::Duration;

use ragweave_engine::{EngineHandle, EngineOptions, FuseReport, ModelConfig};
use serde::Serialize;

use super::Args;
use super::measure::{Sample, recomputed_share};
use super::prompt::PromptShape;
use super::stock::KvPlace;
use crate::metric::{median, ms, percentile};
use crate::mode_spec::{ModeFields, ModeSpec};
use crate::table::{Table, number, percent};

/// A whole bench. Times are medians over the runs of a mode.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    device: String,
    /// Logical processors this process may use.
    threads: usize,
    model: ModelShape,
    dtype: String,
    kv_dtype: String,
    kv: KvPlace,
    prompt: PromptShape,
    prompt_tokens: usize,
    repeats: usize,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct ModelShape {
    name: String,
    parameters: u64,
    layers: usize,
    hidden_size: usize,
    attention_heads: usize,
    key_value_heads: usize,
    head_dim: usize,
    vocab_size: usize,
}

#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    mode: ModeFields,
    /// Measured runs.
    n: usize,
    ttft_ms_p50: Option<f64>,
    ttft_ms_min: Option<f64>,
    ttft_ms_max: Option<f64>,
    /// TTFT of full prefill over this one.
    speedup: Option<f64>,
    tokens_loaded: usize,
    tokens_recomputed: usize,
    /// Of all context tokens, those of the exact first chunk too; `None` where nothing was loaded.
    recomputed_share: Option<f64>,
    tokens_prefilled: usize,
    /// Prefix tokens that were not computed, because their KV was on the device.
    prefix_tokens_cached: usize,
    bytes_loaded: u64,
    load_ms: Option<f64>,
    load_wait_ms: Option<f64>,
    /// What the policy looked at before it chose.
    probe_ms: Option<f64>,
    recompute_ms: Option<f64>,
    first_decode_ms: Option<f64>,
    decode_tokens_per_s: Option<f64>,
}

impl Report {
    /// `samples`: one list per spec; the first spec is full prefill.
    pub(super) fn new(
        args: &Args,
        engine: &EngineHandle,
        options: &EngineOptions,
        model_name: &str,
        specs: &[ModeSpec],
        samples: &[Vec<Sample>],
    ) -> Self {
        let full_ms = samples.first().and_then(|full| median(&ttfts(full)));
        let rows = specs
            .iter()
            .zip(samples)
            .map(|(spec, runs)| Row::new(spec, runs, full_ms));
        let report = |runs: &Vec<Sample>| runs.first().map(|run| run.report.prompt_tokens);
        Self {
            device: args.engine.device.to_string(),
            threads: available_parallelism().map_or(1, usize::from),
            model: ModelShape::of(model_name, &engine.model().config),
            dtype: options.dtype.to_string(),
            kv_dtype: options.kv_dtype.to_string(),
            kv: args.kv,
            prompt: args.prompt.clone(),
            prompt_tokens: samples.first().and_then(report).unwrap_or(0),
            repeats: args.repeats,
            rows: rows.collect(),
        }
    }
}

impl ModelShape {
    fn of(name: &str, config: &ModelConfig) -> Self {
        Self {
            name: name.to_owned(),
            parameters: config.n_parameters(),
            layers: config.num_hidden_layers,
            hidden_size: config.hidden_size,
            attention_heads: config.num_attention_heads,
            key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            vocab_size: config.vocab_size,
        }
    }
}

impl Row {
    fn new(spec: &ModeSpec, runs: &[Sample], full_ms: Option<f64>) -> Self {
        let ttfts = ttfts(runs);
        let ttft_ms_p50 = median(&ttfts);
        let time = |stage: fn(&FuseReport) -> Duration| {
            median(
                &runs
                    .iter()
                    .map(|run| ms(stage(&run.report)))
                    .collect::<Vec<_>>(),
            )
        };
        // Counts are the same in every run of a mode.
        let count = |of: fn(&FuseReport) -> usize| runs.first().map_or(0, |run| of(&run.report));
        let rates: Vec<f64> = runs
            .iter()
            .filter_map(|run| run.decode_tokens_per_s)
            .collect();
        Self {
            mode: spec.fields(),
            n: runs.len(),
            ttft_ms_p50,
            ttft_ms_min: percentile(&ttfts, 0.0),
            ttft_ms_max: percentile(&ttfts, 100.0),
            speedup: full_ms.zip(ttft_ms_p50).map(|(full, this)| full / this),
            tokens_loaded: count(|report| report.tokens_loaded),
            tokens_recomputed: count(|report| report.tokens_recomputed),
            recomputed_share: runs.first().and_then(|run| recomputed_share(&run.report)),
            tokens_prefilled: count(|report| report.tokens_prefilled),
            prefix_tokens_cached: count(|report| report.prefix_tokens_cached),
            bytes_loaded: runs.first().map_or(0, |run| run.report.bytes_loaded),
            load_ms: time(|report| report.timings.load),
            load_wait_ms: time(|report| report.timings.load_wait),
            probe_ms: time(|report| report.timings.probe),
            recompute_ms: time(|report| report.timings.recompute),
            first_decode_ms: time(|report| report.timings.first_decode),
            decode_tokens_per_s: median(&rates),
        }
    }

    fn cells(&self) -> Vec<String> {
        let ModeFields {
            mode,
            policy,
            ratio,
            ..
        } = &self.mode;
        vec![
            (*mode).to_owned(),
            policy.as_deref().unwrap_or("-").to_owned(),
            number(*ratio, 2),
            number(self.ttft_ms_p50, 1),
            self.speedup
                .map_or_else(|| "-".to_owned(), |speedup| format!("{speedup:.2}x")),
            self.tokens_loaded.to_string(),
            self.tokens_recomputed.to_string(),
            percent(self.recomputed_share),
            self.tokens_prefilled.to_string(),
            number(self.load_ms, 1),
            number(self.load_wait_ms, 1),
            number(self.recompute_ms, 1),
            number(self.decode_tokens_per_s, 1),
        ]
    }
}

fn ttfts(runs: &[Sample]) -> Vec<f64> {
    runs.iter().map(|run| ms(run.ttft)).collect()
}

const HEADER: [&str; 13] = [
    "mode",
    "policy",
    "ratio",
    "TTFT ms",
    "speedup",
    "loaded",
    "recomputed",
    "of context",
    "prefilled",
    "load ms",
    "wait ms",
    "compute ms",
    "decode tok/s",
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (model, prompt) = (&self.model, &self.prompt);
        writeln!(
            f,
            "{}, random weights: {:.1} M parameters, {} layers, hidden {}, {} heads on {} of KV, \
             head {}, vocabulary {}",
            model.name,
            model.parameters as f64 / 1e6,
            model.layers,
            model.hidden_size,
            model.attention_heads,
            model.key_value_heads,
            model.head_dim,
            model.vocab_size
        )?;
        let place = match self.kv {
            KvPlace::Store => "a store (page cache warm)",
            KvPlace::Cold => "a store (dropped from the page cache before each run, and checked)",
            KvPlace::Memory => "the server's memory tier",
        };
        writeln!(
            f,
            "{} with {} threads, compute {}, stored KV {} from {place}",
            self.device, self.threads, self.dtype, self.kv_dtype
        )?;
        writeln!(
            f,
            "prompt of {} tokens: prefix {}, {} chunks of {}, question {}; medians of {} \
             interleaved runs after a warm-up\n",
            self.prompt_tokens,
            prompt.prefix_tokens,
            prompt.chunks,
            prompt.chunk_tokens,
            prompt.question_tokens,
            self.repeats
        )?;
        if prompt.prefix_tokens > 0 {
            writeln!(
                f,
                "the prefix's KV comes from the device's cache in every mode, full prefill's too\n"
            )?;
        }
        let mut table = Table::new(&HEADER);
        self.rows.iter().for_each(|row| table.push(row.cells()));
        write!(f, "{table}")
    }
}
