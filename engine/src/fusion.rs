//! KV fusion: a prompt of cached chunks becomes one valid KV cache and the first token's logits.
//!
//! ```text
//! [0, s)    prefix      exact, from the prefix cache or computed once; never a candidate
//! [s, p1)   chunk 1     cached after the same prefix ids, so exact; placed at every layer
//! [p1, p2)  chunk 2     missing; every row computed at every layer, in place
//! [p2, p3)  chunk 3     cached; K rotated to its positions; the policy picks rows to recompute
//! [p3, end) question    always computed
//! ```
//! 1. `plan` fixes token ids, positions and the state of each chunk; `blend` and `selection` define how KV is made, and
//!    `notation` is their text form.
//! 2. `schedule` lists, as plain data, what runs at each layer: first the passes in which policies inspect the prompt,
//!    then the prefill. `work` counts the operations.
//! 3. `readers` read ahead, layer by layer, for `loader`; `stored` places what was read.
//! 4. `executor` runs a layer for the rows of one or more sequences; `prefill` takes a plan through its passes.
//! 5. Each kind of pass has hooks that the executor calls at every layer: those of `probe` and `deviation` observe, for
//!    `policy` to rank rows by; those of the prefill itself (`hooks`) compare, narrow, and let `correct` move the rows that
//!    are not recomputed.

mod anchors;
mod blend;
mod block;
mod context;
mod correct;
mod deviation;
mod distance;
mod executor;
mod hooks;
mod interrupt;
mod live_rows;
mod loader;
mod notation;
mod plan;
mod policy;
mod prefill;
mod probe;
mod ratio;
mod readers;
mod report;
mod rows;
mod schedule;
mod selection;
mod stored;
mod tiles;
mod work;

pub use blend::{Blend, Mode, PartialBlend};
pub use notation::BadNotation;
pub use plan::{ChunkState, FusionPlan, PromptSegments};
pub use ratio::{BadRatio, Ratio};
pub use readers::READ_AHEAD_LAYERS;
pub use report::{FuseReport, FuseTimings};
pub use selection::{
    Budget, Correction, Deviation, Policy, Pooling, QueryLayers, Schedule, Selection,
};
pub use work::{PlanWork, StepWork};

pub(crate) use anchors::AnchorFinder;
pub(crate) use block::{Sources, shared};
pub(crate) use context::FusionContext;
#[cfg(test)]
pub(crate) use executor::LayerHooks;
pub(crate) use executor::{BatchEntry, Halt, LayerView, NoHooks, advance};
pub(crate) use hooks::Observer;
#[cfg(test)]
pub(crate) use interrupt::Interrupt;
pub(crate) use interrupt::StopCheck;
pub(crate) use live_rows::LiveRows;
pub(crate) use loader::Loader;
pub(crate) use prefill::{FuseError, FusedPrefill, PrefillRequest, prefill, true_deviation};
#[cfg(test)]
pub(crate) use prefill::{Prefill, advance_together};
pub(crate) use readers::Readers;
pub(crate) use schedule::{Forward, LayerStep, decode_steps};
