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
//! 2. `loader` reads ahead, layer by layer.
//! 3. `recompute` runs the layers on the rows that are alive, with rows chosen by `policy`.

mod loader;
mod plan;
mod policy;
mod recompute;
mod report;
mod rows;

pub use plan::{ChunkState, FusionPlan, Mode, PromptSegments};
pub use policy::{Deviation, Policy, Schedule};
pub use report::{FuseReport, FuseTimings};

pub(crate) use recompute::{
    FuseError, FusedPrefill, FusionContext, KvObserver, RowWindow, Sources,
};
