//! Progress bars: on a terminal's standard error, nothing elsewhere.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `steps`.
pub(crate) fn steps_bar(steps: usize) -> ProgressBar {
    styled(ProgressBar::new(steps as u64), "{bar:40} {pos}/{len} {msg}")
}

/// A bar of `bytes`.
pub(crate) fn bytes_bar(bytes: u64) -> ProgressBar {
    styled(
        ProgressBar::new(bytes),
        "{bar:40} {binary_bytes}/{binary_total_bytes} {msg}",
    )
}

/// A count of bytes where it is not known how many there will be.
pub(crate) fn bytes_so_far() -> ProgressBar {
    styled(ProgressBar::no_length(), "{binary_bytes} {msg}")
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
