//! The engine suite on CUDA. Needs a driver, NVRTC and the CUDA headers; `scripts/gpu_check.sh`
//! runs it.
#![cfg(feature = "cuda")]

mod suite;

use burn_cuda::{Cuda, CudaDevice};

backend_suite!(Cuda, CudaDevice::default());
