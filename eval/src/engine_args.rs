//! Flags of the subcommands that open an engine without a data directory.

use std::path::Path;

use clap::Args;
use ragweave_engine::{ComputeDtype, EngineOptions, KvDtype};
use ragweave_server::device::Device;

use crate::cli::parse_count;

/// Where and in which types the model runs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct EngineArgs {
    /// Where the model runs: cpu, cuda:N or vulkan:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: Device,
    /// Compute type: f32, f16 or bf16
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    dtype: ComputeDtype,
    /// Stored type of chunk KV: f32, f16, bf16 or int8 [default: the compute type]
    #[arg(long, value_name = "TYPE")]
    kv_dtype: Option<KvDtype>,
    /// Tokens per prefill step
    #[arg(long, value_name = "N", default_value = "512", value_parser = parse_count)]
    max_prefill_tokens: usize,
}

impl EngineArgs {
    /// Engine options for the model in `dir`.
    pub(crate) fn options(&self, dir: &Path) -> EngineOptions {
        EngineOptions {
            dtype: self.dtype,
            kv_dtype: self.kv_dtype.unwrap_or(KvDtype::exact(self.dtype)),
            max_prefill_tokens: self.max_prefill_tokens,
            ..EngineOptions::new(dir)
        }
    }
}
