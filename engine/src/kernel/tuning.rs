//! Where CubeCL keeps what it learned about a device: which kernel is fastest for a product's shape.

use std::io;
use std::path::Path;
use std::sync::Arc;

use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

/// Keeps the results of tuning in `dir`, which is made if need be. To be called before a device is first
/// used; later calls change nothing.
///
/// Compiled kernels are not kept: CubeCL 0.10 finds them by name and not by content, so that another
/// build, or another GPU, would run the kernels of this one.
///
/// # Errors
/// If `dir` cannot be made: CubeCL would panic at the first product.
pub fn keep_tuning_in(dir: &Path) -> io::Result<()> {
    fs_err::create_dir_all(dir)?;
    let mut config = CubeClRuntimeConfig::default().override_from_env();
    config.autotune.cache = CacheConfig::File(dir.to_path_buf());
    CubeClRuntimeConfig::storage()
        .lock()
        .get_or_insert(Arc::new(config));
    Ok(())
}
