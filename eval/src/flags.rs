//! What the flags of several subcommands share: how values are read, and where and how a model runs.

use std::path::Path;

use clap::Args;
use ragweave_engine::{ComputeDtype, EngineOptions, Isa, KvDtype, Ratio};
use ragweave_server::config::KvDtypeSetting;
use ragweave_server::device::Device;

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
    /// Stored type of chunk KV: auto (int8, as in a new data directory), f32, f16, bf16 or int8
    /// [default: the compute type]
    #[arg(long, value_name = "TYPE")]
    kv_dtype: Option<KvDtypeSetting>,
    /// Tokens per prefill step
    #[arg(long, value_name = "N", default_value = "512", value_parser = parse_count)]
    max_prefill_tokens: usize,
    /// CPU kernels use at most this instruction set: avx512, avx2 or plain [default: the best the processor has]
    #[arg(long, value_name = "SET")]
    isa: Option<Isa>,
}

impl EngineArgs {
    pub(crate) fn options(&self, dir: &Path) -> EngineOptions {
        EngineOptions {
            dtype: self.dtype,
            kv_dtype: match self.kv_dtype {
                // There is no data directory whose type it could be.
                Some(setting) => setting.resolve(Path::new(""), self.dtype),
                None => KvDtype::exact(self.dtype),
            },
            max_prefill_tokens: self.max_prefill_tokens,
            isa: self.isa,
            ..EngineOptions::new(dir)
        }
    }
}

pub(crate) fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse::<Ratio>();
    ratio.map(Ratio::get).map_err(|error| error.to_string())
}

/// A token id; blanks around it are fine, so that lists can be pasted.
pub(crate) fn parse_id(text: &str) -> Result<u32, String> {
    let id = text.trim().parse();
    id.map_err(|error| format!("`{text}` is not a token id: {error}"))
}

pub(crate) fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(n) => Ok(n),
        Err(error) => Err(format!("{error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_outside_their_range_are_refused() {
        assert_eq!(parse_ratio("0.15"), Ok(0.15));
        assert_eq!(parse_ratio("1"), Ok(1.0));
        for text in ["NaN", "-0.1", "1.01", "inf"] {
            assert!(
                parse_ratio(text).unwrap_err().contains("between 0 and 1"),
                "{text}"
            );
        }
        assert!(parse_ratio("ten").is_err());
    }
}
