//! Where CubeCL stores what it measures on a device: compiled kernels, and which is fastest for a shape.

use std::io;
use std::path::Path;
use std::sync::Arc;

use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

/// The running program, even if its file has been replaced since.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// Where NVIDIA's driver describes each GPU.
const NVIDIA_GPUS: &str = "/proc/driver/nvidia/gpus";
/// Where NVIDIA's driver gives its version.
const NVIDIA_DRIVER: &str = "/proc/driver/nvidia/version";

/// Makes CubeCL store tuning results and compiled kernels for a device in `dir`, which is created if
/// needed. Call it before a device is first used; later calls change nothing.
///
/// CubeCL 0.10 finds compiled kernels by name and not by content, so they have a folder for each
/// build of this program, machine and `device`.
///
/// # Errors
/// If `dir` cannot be created or this program cannot be read: CubeCL would panic at the first product.
pub fn keep_tuning_in(dir: &Path, device: &str) -> io::Result<()> {
    fs_err::create_dir_all(dir)?;
    let mut config = CubeClRuntimeConfig::default().override_from_env();
    config.autotune.cache = CacheConfig::File(dir.to_path_buf());
    let kernels = dir.join("kernels").join(build_and_device(device)?);
    fs_err::create_dir_all(&kernels)?;
    config.compilation.cache = Some(CacheConfig::File(kernels));
    CubeClRuntimeConfig::storage()
        .lock()
        .get_or_insert(Arc::new(config));
    Ok(())
}

/// A name for this program's content, the GPUs and the driver of this machine, and one of its devices.
fn build_and_device(device: &str) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs_err::File::open(THIS_PROGRAM)?)?;
    let gpus = fs_err::read_dir(NVIDIA_GPUS)
        .into_iter()
        .flatten()
        .flatten();
    let mut gpus: Vec<_> = gpus.map(|gpu| gpu.path().join("information")).collect();
    gpus.sort();
    for gpu in gpus {
        let told = fs_err::read_to_string(gpu).unwrap_or_default();
        for line in told.lines().filter(|line| line.starts_with("Model")) {
            hasher.update(line.as_bytes());
        }
    }
    hasher.update(&fs_err::read(NVIDIA_DRIVER).unwrap_or_default());
    hasher.update(device.as_bytes());
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}
