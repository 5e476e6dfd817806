//! The only place where a device name chosen at run time selects a backend type.

use std::fmt;
use std::str::FromStr;

use ragweave_engine::{EngineError, EngineHandle, EngineOptions};
use ragweave_retriever::{OpenEmbedderError, Parallelism, TransformerEmbedder, TransformerOptions};

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    Cpu,
    /// CUDA device by index.
    Cuda(usize),
    /// Vulkan adapter by index.
    Vulkan(usize),
}

/// A name that is not the name of a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown device {name:?}; write cpu, cuda:N or vulkan:N")]
pub struct UnknownDevice {
    name: String,
}

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownDevice {
            name: name.to_owned(),
        };
        let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
        let index = index.parse().map_err(|_| unknown())?;
        match kind {
            "cpu" if name == "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(index)),
            "vulkan" => Ok(Self::Vulkan(index)),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Vulkan(index) => write!(f, "vulkan:{index}"),
        }
    }
}

/// The flag that names the device of the language model.
const MODEL_FLAG: &str = "--device";
/// The flag that names the device of the embedder.
const EMBEDDER_FLAG: &str = "--embedder-device";

impl Device {
    /// Loads the model on this device and starts its engine thread. Blocks until the model is loaded.
    ///
    /// # Errors
    /// As `EngineHandle::spawn`; also `Device` if this build lacks the device's feature.
    pub fn spawn_engine(self, options: EngineOptions) -> Result<EngineHandle, EngineError> {
        match self {
            Self::Cpu => EngineHandle::spawn::<burn_flex::Flex>(options, burn_flex::FlexDevice),
            Self::Cuda(index) => engine_on_cuda(options, index),
            Self::Vulkan(index) => engine_on_vulkan(options, index),
        }
    }

    /// Loads an embedder on this device and starts its thread. Blocks until it is loaded.
    ///
    /// # Errors
    /// As `TransformerEmbedder::spawn`; also `Device` if this build lacks the device's feature.
    pub fn spawn_embedder(
        self,
        options: &TransformerOptions,
    ) -> Result<TransformerEmbedder, OpenEmbedderError> {
        match self {
            Self::Cpu => TransformerEmbedder::spawn::<burn_flex::Flex>(
                options,
                burn_flex::FlexDevice,
                Parallelism::Threads,
            ),
            Self::Cuda(index) => embedder_on_cuda(options, index),
            Self::Vulkan(index) => embedder_on_vulkan(options, index),
        }
    }
}

#[cfg(feature = "cuda")]
fn engine_on_cuda(options: EngineOptions, index: usize) -> Result<EngineHandle, EngineError> {
    let device = open_cuda(MODEL_FLAG, index).map_err(|message| EngineError::Device { message })?;
    EngineHandle::spawn::<burn_cuda::Cuda>(options, device)
}

#[cfg(feature = "cuda")]
fn embedder_on_cuda(
    options: &TransformerOptions,
    index: usize,
) -> Result<TransformerEmbedder, OpenEmbedderError> {
    let device =
        open_cuda(EMBEDDER_FLAG, index).map_err(|message| OpenEmbedderError::Device { message })?;
    TransformerEmbedder::spawn::<burn_cuda::Cuda>(options, device, Parallelism::Device)
}

#[cfg(feature = "cuda")]
fn open_cuda(flag: &str, index: usize) -> Result<burn_cuda::CudaDevice, String> {
    use cubecl::Runtime;

    keep_tuning(Device::Cuda(index));
    // The first call into the driver loads its library, and panics if there is none.
    let devices =
        std::panic::catch_unwind(|| cubecl::cuda::CudaRuntime::enumerate_devices(0, &()).len());
    check_cuda(flag, devices.ok(), index)?;
    Ok(burn_cuda::CudaDevice { index })
}

/// Refuses a device that does not exist; `devices` is the driver's device count, if it could be loaded.
#[cfg(any(feature = "cuda", test))]
fn check_cuda(flag: &str, devices: Option<usize>, index: usize) -> Result<(), String> {
    let problem = match devices {
        None => "needs an NVIDIA driver, and its libcuda.so cannot be loaded".to_owned(),
        Some(0) => {
            "needs an NVIDIA GPU, and the driver sees none (nvidia-smi -L lists them)".to_owned()
        }
        Some(n) if index >= n => format!("is not there: the driver sees {n}, counted from 0"),
        Some(_) => return Ok(()),
    };
    let device = Device::Cuda(index);
    Err(format!("{flag} {device} {problem}; or use {flag} cpu"))
}

/// Tuning takes minutes on a new GPU, so its results are kept for everything that this user runs on it.
#[cfg(any(feature = "cuda", feature = "vulkan"))]
fn keep_tuning(device: Device) {
    let cache = crate::environment::user_cache_dir().unwrap_or_else(std::env::temp_dir);
    let places = [cache, std::env::temp_dir()].map(|dir| dir.join("ragweave"));
    for place in places {
        match ragweave_engine::keep_tuning_in(&place, &device.to_string()) {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "tuning results cannot be kept there"),
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn engine_on_cuda(_: EngineOptions, index: usize) -> Result<EngineHandle, EngineError> {
    let message = not_built(MODEL_FLAG, Device::Cuda(index), "cuda");
    Err(EngineError::Device { message })
}

#[cfg(not(feature = "cuda"))]
fn embedder_on_cuda(
    _: &TransformerOptions,
    index: usize,
) -> Result<TransformerEmbedder, OpenEmbedderError> {
    let message = not_built(EMBEDDER_FLAG, Device::Cuda(index), "cuda");
    Err(OpenEmbedderError::Device { message })
}

#[cfg(feature = "vulkan")]
fn engine_on_vulkan(options: EngineOptions, index: usize) -> Result<EngineHandle, EngineError> {
    EngineHandle::spawn::<burn_wgpu::Vulkan>(options, open_vulkan(index))
}

#[cfg(feature = "vulkan")]
fn embedder_on_vulkan(
    options: &TransformerOptions,
    index: usize,
) -> Result<TransformerEmbedder, OpenEmbedderError> {
    TransformerEmbedder::spawn::<burn_wgpu::Vulkan>(
        options,
        open_vulkan(index),
        Parallelism::Device,
    )
}

/// Index 0 is the adapter the driver puts first, which may be a software one; others are discrete GPUs by index.
#[cfg(feature = "vulkan")]
fn open_vulkan(index: usize) -> burn_wgpu::WgpuDevice {
    keep_tuning(Device::Vulkan(index));
    match index {
        0 => burn_wgpu::WgpuDevice::DefaultDevice,
        _ => burn_wgpu::WgpuDevice::DiscreteGpu(index),
    }
}

#[cfg(not(feature = "vulkan"))]
fn engine_on_vulkan(_: EngineOptions, index: usize) -> Result<EngineHandle, EngineError> {
    let message = not_built(MODEL_FLAG, Device::Vulkan(index), "vulkan");
    Err(EngineError::Device { message })
}

#[cfg(not(feature = "vulkan"))]
fn embedder_on_vulkan(
    _: &TransformerOptions,
    index: usize,
) -> Result<TransformerEmbedder, OpenEmbedderError> {
    let message = not_built(EMBEDDER_FLAG, Device::Vulkan(index), "vulkan");
    Err(OpenEmbedderError::Device { message })
}

#[cfg(not(all(feature = "cuda", feature = "vulkan")))]
fn not_built(flag: &str, device: Device, feature: &str) -> String {
    format!(
        "{flag} {device} needs a build with its feature: cargo build --release -p ragweave-server --features \
         {feature}; or use {flag} cpu"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for name in ["cpu", "cuda:0", "cuda:3", "vulkan:1"] {
            assert_eq!(name.parse::<Device>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for name in ["", "gpu", "cpu:0", "cuda:", "cuda:-1", "cuda:x"] {
            assert!(name.parse::<Device>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_cuda_device_that_is_not_there_is_refused_with_its_remedy() {
        assert_eq!(check_cuda(MODEL_FLAG, Some(2), 1), Ok(()));
        for (devices, reason) in [
            (None, "libcuda.so"),
            (Some(0), "sees none"),
            (Some(1), "sees 1"),
        ] {
            for flag in [MODEL_FLAG, EMBEDDER_FLAG] {
                let error = check_cuda(flag, devices, 1).unwrap_err();
                assert!(error.contains(&format!("{flag} cuda:1")), "{error}");
                assert!(error.contains(reason), "{error}");
                assert!(error.contains(&format!("{flag} cpu")), "{error}");
            }
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_cuda_names_the_build_that_has_it() {
        let options = EngineOptions::new("no-model-is-read");
        let Err(error) = Device::Cuda(0).spawn_engine(options) else {
            panic!("this build has no CUDA");
        };
        let error = error.to_string();
        assert!(error.contains("--device cuda:0"), "{error}");
        assert!(error.contains("--features cuda"), "{error}");
        let options = TransformerOptions::default();
        let Err(error) = Device::Cuda(0).spawn_embedder(&options) else {
            panic!("this build has no CUDA");
        };
        assert!(
            error.to_string().contains("--embedder-device cuda:0"),
            "{error}"
        );
    }
}
