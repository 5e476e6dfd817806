//! The flags that say how a plan is prefilled, under the names the configuration has for them.

use clap::Args;
use ragweave_engine::Mode;
use ragweave_server::config::{
    BudgetKind, CorrectionKind, DeviationKind, FusionConfig, ModeKind, ScheduleKind, Selection,
};

use crate::flags::{parse_id, parse_ratio, parse_variant};

/// How the prompt's KV is made.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Fusion")]
pub(super) struct FusionArgs {
    /// full, reuse or blend
    #[arg(long, value_name = "MODE", default_value = "full", value_parser = parse_variant::<ModeKind>)]
    mode: ModeKind,
    /// Which rows blend recomputes, in the engine's notation: hkvd, first-k+query/all~score, oracle/v:0.1
    #[arg(long, value_name = "NOTATION", default_value = "hkvd")]
    policy: Selection,
    /// Share of the context tokens that are not exact that blend recomputes, 0 to 1, where the notation has none
    #[arg(long, value_name = "R", default_value = "0.15", value_parser = parse_ratio)]
    ratio: f64,
    /// Layer at which a bare hkvd compares fresh with stored KV
    #[arg(long, value_name = "N", default_value = "1")]
    check_layer: usize,
    /// What a bare hkvd compares: k, v or kv
    #[arg(long, value_name = "WHAT", default_value = "kv", value_parser = parse_variant::<DeviationKind>)]
    deviation: DeviationKind,
    /// Rows per layer of a bare hkvd: fixed, or gradual (1.5x at the check layer down to 0.5x at the last)
    #[arg(long, value_name = "SCHEDULE", default_value = "fixed", value_parser = parse_variant::<ScheduleKind>)]
    schedule: ScheduleKind,
    /// Seed of a bare random
    #[arg(long, value_name = "SEED", default_value = "0")]
    seed: u64,
    /// How the rows are spread over the chunks: prompt, length or score
    #[arg(long, value_name = "BUDGET", default_value = "prompt", value_parser = parse_variant::<BudgetKind>)]
    budget: BudgetKind,
    /// What becomes of the other rows: none, or mean (moved by their chunk's mean change)
    #[arg(long, value_name = "CORRECTION", default_value = "none", value_parser = parse_variant::<CorrectionKind>)]
    correction: CorrectionKind,
    /// Chunks that have no stored KV, by index from 0
    #[arg(long, value_name = "INDICES", value_delimiter = ',', requires = "plan")]
    pub(super) misses: Vec<usize>,
    /// Ids that chunk KV is computed after [default: the plan's prefix, which makes chunk 0 exact]
    #[arg(long, value_name = "IDS", value_delimiter = ',', value_parser = parse_id, requires = "plan")]
    pub(super) other_prefix: Option<Vec<u32>>,
}

impl FusionArgs {
    pub(super) fn mode(&self) -> Mode {
        let settings = FusionConfig {
            mode: self.mode,
            policy: self.policy.clone(),
            ratio: self.ratio,
            check_layer: self.check_layer,
            deviation: self.deviation,
            schedule: self.schedule,
            seed: self.seed,
            budget: self.budget,
            correction: self.correction,
            min_ratio: None,
        };
        settings.to_mode()
    }
}
