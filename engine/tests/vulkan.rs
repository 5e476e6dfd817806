//! The engine suite on Vulkan: a GPU, or Mesa's lavapipe where there is none.
#![cfg(feature = "vulkan")]

mod suite;

use burn_wgpu::{Vulkan, WgpuDevice};

backend_suite!(Vulkan, WgpuDevice::default());
