//! The custom tensor operations: one trait over Burn's `Backend`, one file per operation.
//!
//! Every operation has a body in plain tensor code, which is its reference. A backend overrides it
//! when a profile or a missing Burn operation calls for it. Only this folder refers to concrete backends.
//!
//! On the CPU (`flex`) everything between the embedding and the logits is an operation of ours,
//! except for biases and the choice of rows: `simd` holds the vectors, `tile` the register tile,
//! `panel` and `attend` the loops around it. `gpu` holds what CUDA and Vulkan run.

mod add;
mod attend;
mod backend;
mod flex;
mod flex_tensor;
mod glu;
#[cfg(any(feature = "cuda", feature = "vulkan"))]
mod gpu;
mod linear;
mod masked_softmax;
mod overwrite_rows;
mod panel;
mod place_rows;
#[cfg(feature = "testing")]
mod references;
mod rms_norm;
mod rotate;
mod row_distance;
mod simd;
mod softmax;
mod tensors;
mod tile;

pub use attend::scaled_scores;
pub use backend::FusionBackend;
#[cfg(any(feature = "cuda", feature = "vulkan"))]
pub use gpu::keep_tuning_in;
#[cfg(feature = "testing")]
pub use references::*;
pub use rotate::Rotation;
pub use simd::{Isa, IsaInUse, UnknownIsa};
pub use tensors::*;
