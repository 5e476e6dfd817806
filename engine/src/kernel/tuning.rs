//! Where CubeCL keeps what it learned about a device: which kernel is fastest for a product's shape.

use std::io;
use std::path::Path;
use std::sync::Arc;

use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

/// Where NVIDIA's driver tells of each GPU.
const NVIDIA_GPUS: &str = "/proc/driver/nvidia/gpus";
/// Where it tells its version.
const NVIDIA_DRIVER: &str = "/proc/driver/nvidia/version";

/// Keeps in `dir`, which is made if need be, what is learned about a device: which kernels are fastest, and
/// the compiled kernels. To be called before a device is first used; later calls change nothing.
///
/// CubeCL 0.10 finds compiled kernels by name and not by content, so that they have a folder for each
/// build of this program and each kind of GPU.
///
/// # Errors
/// If `dir` cannot be made, or this program not be read: CubeCL would panic at the first product.
pub fn keep_tuning_in(dir: &Path) -> io::Result<()> {
    fs_err::create_dir_all(dir)?;
    let mut config = CubeClRuntimeConfig::default().override_from_env();
    config.autotune.cache = CacheConfig::File(dir.to_path_buf());
    let kernels = dir.join("kernels").join(build_and_device()?);
    fs_err::create_dir_all(&kernels)?;
    config.compilation.cache = Some(CacheConfig::File(kernels));
    CubeClRuntimeConfig::storage()
        .lock()
        .get_or_insert(Arc::new(config));
    Ok(())
}

/// A name for this program's content, and for the GPUs and the driver of this machine.
fn build_and_device() -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs_err::File::open(std::env::current_exe()?)?)?;
    for gpu in fs_err::read_dir(NVIDIA_GPUS)
        .into_iter()
        .flatten()
        .flatten()
    {
        let told = fs_err::read_to_string(gpu.path().join("information")).unwrap_or_default();
        for line in told.lines().filter(|line| line.starts_with("Model")) {
            hasher.update(line.as_bytes());
        }
    }
    hasher.update(&fs_err::read(NVIDIA_DRIVER).unwrap_or_default());
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}
