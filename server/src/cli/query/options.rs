//! The flags of `query` and `retrieve`, and the requests they make. What is not given is left to the server.

use std::time::Duration;

use clap::ValueEnum;
use ragweave_proto::v1;
use ragweave_proto::v1::generate_request::Context;

use crate::client::{Client, ClientError, DEFAULT_ADDR, server_url};
use crate::config::{BadSelection, Selection};

/// Which server to ask.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// Address of the server
    #[arg(long, value_name = "URL", default_value = DEFAULT_ADDR, value_parser = server_url)]
    addr: String,
    /// Give up after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    timeout: Option<u32>,
}

/// Where the context comes from.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Retrieval")]
pub(crate) struct SearchArgs {
    /// Number of chunks
    #[arg(long, value_name = "N")]
    top_k: Option<u32>,
    /// Order of the chunks in the prompt
    #[arg(long, value_enum)]
    order: Option<Order>,
    /// Only documents whose metadata has this value (repeatable)
    #[arg(long = "where", value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Only this document (repeatable)
    #[arg(long = "document", value_name = "ID")]
    document_ids: Vec<String>,
}

/// Everything else about an answer.
#[derive(Debug, clap::Args)]
pub(crate) struct AskArgs {
    #[command(flatten)]
    search: SearchArgs,
    /// Use this chunk instead of searching (repeatable; in this order)
    #[arg(long = "chunk", value_name = "ID", value_delimiter = ',', help_heading = "Retrieval",
          conflicts_with_all = ["top_k", "order", "metadata", "document_ids"])]
    chunks: Vec<String>,
    /// System text
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    fusion: FusionArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Fusion")]
struct FusionArgs {
    /// How the prompt's KV is made
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Which context tokens blend recomputes, such as hkvd@2, query/all or first-k+query~score:0.05; the ratio may
    /// be left to --ratio
    #[arg(long, value_name = "NOTATION", value_parser = selection)]
    policy: Option<String>,
    /// Share of the context tokens that are not exact that blend recomputes, 0 to 1
    #[arg(long)]
    ratio: Option<f64>,
    /// Least share of the context tokens that are not exact that auto has recomputed, 0 to 1
    #[arg(long)]
    min_ratio: Option<f64>,
    /// How the recomputed tokens are spread over the chunks
    #[arg(long, value_enum)]
    budget: Option<Budget>,
    /// What becomes of stored tokens that are not recomputed
    #[arg(long, value_enum)]
    correction: Option<Correction>,
    /// Layer at which a bare hkvd compares fresh with stored KV
    #[arg(long, value_name = "LAYER")]
    check_layer: Option<u32>,
    /// What a bare hkvd compares
    #[arg(long, value_enum)]
    deviation: Option<Deviation>,
    /// How many tokens a bare hkvd keeps from layer to layer
    #[arg(long, value_enum)]
    schedule: Option<Schedule>,
    /// Seed of a bare random
    #[arg(long, value_name = "SEED")]
    fusion_seed: Option<u64>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sampling")]
struct SamplingArgs {
    /// Longest answer in tokens
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// 0 takes the most likely token
    #[arg(long)]
    temperature: Option<f32>,
    /// Only the N most likely tokens
    #[arg(long, value_name = "N")]
    sample_top_k: Option<u32>,
    /// Only the most likely tokens up to this probability
    #[arg(long)]
    top_p: Option<f32>,
    /// Only tokens at least this fraction as likely as the most likely one
    #[arg(long)]
    min_p: Option<f32>,
    /// Makes sampling repeatable
    #[arg(long)]
    seed: Option<u64>,
    /// End before this text (repeatable)
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    Score,
    Document,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    Full,
    Reuse,
    Blend,
    Auto,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Budget {
    Prompt,
    Length,
    Score,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Correction {
    None,
    Mean,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Deviation {
    K,
    V,
    Kv,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Schedule {
    Fixed,
    Gradual,
}

impl ServerArgs {
    pub(crate) async fn connect(&self) -> Result<Client, ClientError> {
        Client::connect(&self.addr).await
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
            .map(|seconds| Duration::from_secs(seconds.into()))
    }
}

impl SearchArgs {
    pub(crate) fn options(&self) -> v1::RetrievalOptions {
        let order = self.order.map(|order| match order {
            Order::Score => v1::ChunkOrder::Score,
            Order::Document => v1::ChunkOrder::Document,
        });
        v1::RetrievalOptions {
            top_k: self.top_k,
            order: order.map(i32::from),
            filter: Some(v1::Filter {
                metadata: self.metadata.iter().cloned().collect(),
                document_ids: self.document_ids.clone(),
            }),
        }
    }
}

impl AskArgs {
    /// The request for one question.
    pub(super) fn request(&self, question: &str) -> v1::GenerateRequest {
        let context = if self.chunks.is_empty() {
            Context::Retrieval(self.search.options())
        } else {
            Context::Chunks(v1::ExplicitChunks {
                ids: self.chunks.clone(),
            })
        };
        v1::GenerateRequest {
            query: question.to_owned(),
            context: Some(context),
            system: self.system.clone(),
            fusion: Some(self.fusion.options()),
            sampling: Some(self.sampling.options()),
            stopping: Some(v1::StoppingOptions {
                max_tokens: self.sampling.max_tokens,
                stop: self.sampling.stop.clone(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

impl FusionArgs {
    fn options(&self) -> v1::FusionOptions {
        let mode = self.mode.map(|mode| match mode {
            Mode::Full => v1::FusionMode::Full,
            Mode::Reuse => v1::FusionMode::Reuse,
            Mode::Blend => v1::FusionMode::Blend,
            Mode::Auto => v1::FusionMode::Auto,
        });
        let budget = self.budget.map(|budget| match budget {
            Budget::Prompt => v1::Budget::Prompt,
            Budget::Length => v1::Budget::Length,
            Budget::Score => v1::Budget::Score,
        });
        let correction = self.correction.map(|correction| match correction {
            Correction::None => v1::Correction::None,
            Correction::Mean => v1::Correction::Mean,
        });
        let deviation = self.deviation.map(|deviation| match deviation {
            Deviation::K => v1::Deviation::K,
            Deviation::V => v1::Deviation::V,
            Deviation::Kv => v1::Deviation::Kv,
        });
        let schedule = self.schedule.map(|schedule| match schedule {
            Schedule::Fixed => v1::Schedule::Fixed,
            Schedule::Gradual => v1::Schedule::Gradual,
        });
        v1::FusionOptions {
            mode: mode.map(i32::from),
            policy: None,
            selection: self.policy.clone(),
            budget: budget.map(i32::from),
            correction: correction.map(i32::from),
            ratio: self.ratio,
            min_ratio: self.min_ratio,
            check_layer: self.check_layer,
            deviation: deviation.map(i32::from),
            schedule: schedule.map(i32::from),
            seed: self.fusion_seed,
        }
    }
}

impl SamplingArgs {
    fn options(&self) -> v1::SamplingOptions {
        v1::SamplingOptions {
            temperature: self.temperature,
            top_k: self.sample_top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            seed: self.seed,
            ..Default::default()
        }
    }
}

/// Reads the notation here already, so that a misspelled policy is told without a server.
fn selection(text: &str) -> Result<String, String> {
    let selection: Selection = text
        .parse()
        .map_err(|error: BadSelection| error.to_string())?;
    selection.check_servable()?;
    Ok(text.to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
