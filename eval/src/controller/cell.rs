//! One cell of the grid.

use std::fmt;

use ragweave_engine::Ratio;
use serde::Serialize;

use crate::ttft::stock::KvPlace;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Cell {
    pub(super) chunks: usize,
    pub(super) chunk_tokens: usize,
    pub(super) ratio: Ratio,
    pub(super) tier: Tier,
}

/// Where chunk KV is when a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Tier {
    /// In memory of this process
    Memory,
    /// In files of a store, in the page cache
    DiskWarm,
    /// In files of a store, dropped from the page cache before each run; refused if the pages stay
    DiskCold,
}

impl Tier {
    pub(super) fn place(self) -> KvPlace {
        match self {
            Self::Memory => KvPlace::Memory,
            Self::DiskWarm | Self::DiskCold => KvPlace::Store,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::DiskWarm => "disk, warm",
            Self::DiskCold => "disk, cold",
        }
    }
}

impl Cell {
    pub(super) fn length(&self) -> String {
        format!("{} x {}", self.chunks, self.chunk_tokens)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (length, ratio, tier) = (self.length(), self.ratio, self.tier.name());
        write!(f, "{length} at {ratio}, {tier}")
    }
}
