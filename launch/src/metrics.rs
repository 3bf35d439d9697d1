//! The table in which a host's steps are counted, where the site has one.

use std::path::{Path, PathBuf};

use ffi::linux::counters::{self, TableError};
use topology::metrics::{Counts, LAYOUT, LEN};

/// The table's name in the snapshot's folder.
const FILE: &str = "metrics";

/// The table in the snapshot's `folder`.
pub fn table(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Whether the site counts: something is where its table would be.
pub fn is_counting(folder: &Path) -> bool {
    counters::is_there(&table(folder))
}

/// Adds to the table in `folder`; nothing is waited for.
///
/// # Errors
/// [`TableError`] by what is wrong; then nothing was added.
pub fn add(folder: &Path, counts: &Counts) -> Result<(), TableError> {
    counters::add(&table(folder), LAYOUT, counts.words())
}

/// Reads the table in `folder`.
///
/// # Errors
/// [`TableError`] by what is wrong.
pub fn read(folder: &Path) -> Result<Counts, TableError> {
    let path = table(folder);
    let words = counters::read(&path, LAYOUT, LEN)?;
    Counts::of_words(&words).ok_or(TableError::Layout(path))
}

/// Starts a table of zeros in `folder`, in the place of one that cannot be used.
///
/// # Errors
/// [`TableError`] by what is wrong.
pub fn start(folder: &Path) -> Result<(), TableError> {
    counters::make(&table(folder), LAYOUT)
}
