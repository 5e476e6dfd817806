//! The only file that reads the process environment.

use std::ffi::OsString;

/// Prefix of our own variables.
pub(crate) const PREFIX: &str = "RAGWEAVE_";

/// Our own variables, without the prefix in their names.
pub(crate) fn settings() -> impl Iterator<Item = (String, OsString)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.to_string_lossy().strip_prefix(PREFIX)?.to_owned();
        Some((name, value))
    })
}

/// The filter directives of `RUST_LOG`, which belongs to the tracing ecosystem and is not a configuration key.
pub(crate) fn log_filter() -> Option<String> {
    std::env::var_os("RUST_LOG").map(|value| value.to_string_lossy().into_owned())
}

/// The user's cache directory: XDG_CACHE_HOME, else `~/.cache`.
#[cfg(any(feature = "cuda", feature = "vulkan"))]
pub(crate) fn user_cache_dir() -> Option<std::path::PathBuf> {
    let dir = |name| std::env::var_os(name).map(std::path::PathBuf::from);
    let absolute = dir("XDG_CACHE_HOME").filter(|dir| dir.is_absolute());
    absolute.or_else(|| dir("HOME").map(|home| home.join(".cache")))
}
