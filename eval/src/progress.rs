//! The progress bar of a measurement, on standard error; nothing where that is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `total` steps, each one `what`.
pub(crate) fn bar(total: usize, what: &str) -> ProgressBar {
    // The template is constant, so its syntax cannot fail at run time.
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}, ETA {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total as u64)
        .with_style(style)
        .with_message(what.to_owned())
}
