//! The mode that a request asks for: one of the engine's modes, or the best plan that the controller finds.

use ragweave_engine::{Blend, Mode};

/// How a request's KV is made: in a given mode, or as the controller chooses.
#[derive(Debug, Clone, PartialEq)]
pub enum ModeChoice {
    Fixed(Mode),
    Auto(Auto),
}

/// What `auto` may choose from besides plans as good as full prefill: stored KV of which at least the blend's ratio is
/// recomputed. At ratio 0 that is plain reuse.
#[derive(Debug, Clone, PartialEq)]
pub struct Auto {
    pub blend: Blend,
}

impl ModeChoice {
    /// Whether stored KV may be used.
    pub fn reads_kv(&self) -> bool {
        self.widest().reads_kv()
    }

    /// The fixed mode, or the blend that `auto` may choose.
    pub fn widest(&self) -> Mode {
        match self {
            Self::Fixed(mode) => mode.clone(),
            Self::Auto(auto) => Mode::Blend(auto.blend.clone()),
        }
    }
}

impl From<Mode> for ModeChoice {
    fn from(mode: Mode) -> Self {
        Self::Fixed(mode)
    }
}
