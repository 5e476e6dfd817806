//! The flags that say how a plan is prefilled.

use clap::Args;
use ragweave_engine::{Mode, PartialBlend, Ratio};
use ragweave_server::config::{FusionConfig, ModeKind};

use crate::flags::parse_id;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Fusion")]
pub(super) struct FusionArgs {
    /// How the prompt's KV is made; auto means blend, as nothing is timed
    #[arg(long, value_enum, default_value_t = ModeKind::Full)]
    mode: ModeKind,
    /// Which rows blend recomputes, in the engine's notation: hkvd@2/v, first-k+query/all~score, oracle/v:0.1
    #[arg(long, value_name = "NOTATION", default_value = "hkvd@1")]
    selection: PartialBlend,
    /// Share of the context tokens that are not exact that blend recomputes, 0 to 1, where the notation has none
    #[arg(long, value_name = "R", default_value = "0.15")]
    ratio: Ratio,
    /// Chunks that have no stored KV, by index from 0
    #[arg(long, value_name = "INDICES", value_delimiter = ',', requires = "plan")]
    pub(super) misses: Vec<usize>,
    /// Ids before each chunk when its KV is computed [default: the plan's prefix, which makes chunk 0 exact]
    #[arg(long, value_name = "IDS", value_delimiter = ',', value_parser = parse_id, requires = "plan")]
    pub(super) other_prefix: Option<Vec<u32>>,
}

impl FusionArgs {
    pub(super) fn mode(&self) -> Mode {
        let blend = self.selection.clone().or_ratio(self.ratio);
        let settings = FusionConfig {
            mode: self.mode,
            selection: blend.selection,
            ratio: blend.ratio,
            min_ratio: None,
        };
        settings.to_mode()
    }
}
