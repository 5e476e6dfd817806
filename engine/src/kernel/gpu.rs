//! The operations on CubeCL backends, CUDA and Vulkan: `backend` chooses kernels, one file per operation
//! launches them, and `launch` holds what the launchers share. The references are one folder up.

mod add;
mod attend;
mod backend;
mod fragments;
mod glu;
mod hopper;
mod keys_values;
mod launch;
mod linear;
mod overwrite_rows;
mod pinned;
mod place_block;
mod place_int8;
mod rms_norm;
mod rotate;
mod row_distance;
mod tuning;
mod write_rows;

pub use tuning::keep_tuning_in;
