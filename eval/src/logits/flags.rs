//! The flags that say how a plan is prefilled, under the names the configuration has for them.

use clap::Args;
use ragweave_engine::Mode;
use ragweave_server::config::{DeviationKind, FusionConfig, ModeKind, PolicyKind, ScheduleKind};

use crate::cli::{parse_id, parse_ratio, parse_variant};

/// How the prompt's KV is made.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Fusion")]
pub(super) struct FusionArgs {
    /// full, reuse or blend
    #[arg(long, value_name = "MODE", default_value = "full", value_parser = parse_variant::<ModeKind>)]
    mode: ModeKind,
    /// Which rows blend recomputes: hkvd, first-k, random or all
    #[arg(long, value_name = "POLICY", default_value = "hkvd", value_parser = parse_variant::<PolicyKind>)]
    policy: PolicyKind,
    /// Share of the reusable rows that blend recomputes, 0 to 1
    #[arg(long, value_name = "R", default_value = "0.15", value_parser = parse_ratio)]
    ratio: f64,
    /// Layer at which hkvd compares fresh with stored KV
    #[arg(long, value_name = "N", default_value = "1")]
    check_layer: usize,
    /// What hkvd compares: k, v or kv
    #[arg(long, value_name = "WHAT", default_value = "kv", value_parser = parse_variant::<DeviationKind>)]
    deviation: DeviationKind,
    /// Rows per layer: fixed, or gradual (1.5x at the check layer down to 0.5x at the last)
    #[arg(long, value_name = "SCHEDULE", default_value = "fixed", value_parser = parse_variant::<ScheduleKind>)]
    schedule: ScheduleKind,
    /// Seed of the policy random
    #[arg(long, value_name = "SEED", default_value = "0")]
    seed: u64,
    /// Chunks that have no stored KV, by index from 0
    #[arg(long, value_name = "INDICES", value_delimiter = ',', requires = "plan")]
    pub(super) misses: Vec<usize>,
    /// Ids that chunk KV is computed behind [default: the plan's prefix, which makes chunk 0 exact]
    #[arg(long, value_name = "IDS", value_delimiter = ',', value_parser = parse_id, requires = "plan")]
    pub(super) other_prefix: Option<Vec<u32>>,
}

impl FusionArgs {
    pub(super) fn mode(&self) -> Mode {
        let settings = FusionConfig {
            mode: self.mode,
            policy: self.policy,
            ratio: self.ratio,
            check_layer: self.check_layer,
            deviation: self.deviation,
            schedule: self.schedule,
            seed: self.seed,
        };
        settings.to_mode()
    }
}
