//! KV fusion: a prompt of cached chunks becomes one valid KV cache and the first token's logits.
//!
//! ```text
//! [0, s)    prefix      exact, from the prefix cache or computed once; never a candidate
//! [s, p1)   chunk 1     cached behind the same prefix ids, so exact; placed at every layer
//! [p1, p2)  chunk 2     missing; every row computed at every layer, in place
//! [p2, p3)  chunk 3     cached; K rotated to its positions; the policy picks rows to recompute
//! [p3, end) question    always computed
//! ```
//! 1. `plan` fixes token ids, positions and what each chunk is.
//! 2. `readers` read ahead, layer by layer, for `loader`; `stored` places what was read.
//! 3. `policy` ranks rows, by what `probe` or `deviation` showed it of the prompt.
//! 4. `choose` makes rows alive; `recompute` runs the layers on them; `correct` moves the others.

mod anchors;
mod blend;
mod choose;
mod correct;
mod deviation;
mod loader;
mod notation;
mod plan;
mod policy;
mod prefill;
mod probe;
mod ratio;
mod readers;
mod recompute;
mod report;
mod rows;
mod selection;
mod stored;
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
pub(crate) use loader::{Loader, Sources, shared};
pub(crate) use prefill::{
    FuseError, FusedPrefill, FusionContext, LayerView, Observer, RowWindow, StopCheck,
};
pub(crate) use readers::Readers;
