//! The flags of `query` and `retrieve`, and the requests made from them. Options that are not given are left to the
//! server.

use std::time::Duration;

use clap::ValueEnum;
use ragweave_engine::{PartialBlend, Ratio};
use ragweave_proto::v1;
use ragweave_proto::v1::generate_request::Context;

use crate::client::{Client, ClientError, DEFAULT_ADDR, server_url};
use crate::config::{ModeKind, check_servable};

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

/// All other options of an answer.
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
    mode: Option<ModeKind>,
    /// Which context tokens blend recomputes, such as hkvd@2, query/all or first-k+query~score:0.05; the ratio may
    /// be left to --ratio
    #[arg(long, value_name = "NOTATION", value_parser = selection)]
    selection: Option<String>,
    /// Share of the non-exact context tokens that blend recomputes, 0 to 1
    #[arg(long, value_name = "R")]
    ratio: Option<Ratio>,
    /// Least share of the non-exact context tokens that auto recomputes, 0 to 1
    #[arg(long, value_name = "R")]
    min_ratio: Option<Ratio>,
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
        v1::FusionOptions {
            mode: self.mode.map(|mode| v1::FusionMode::from(mode).into()),
            selection: self.selection.clone(),
            ratio: self.ratio.map(Ratio::get),
            min_ratio: self.min_ratio.map(Ratio::get),
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

/// Checks the notation before a request is sent.
fn selection(text: &str) -> Result<String, String> {
    let asked = text.parse::<PartialBlend>();
    check_servable(&asked.map_err(|error| error.to_string())?.selection)?;
    Ok(text.to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
