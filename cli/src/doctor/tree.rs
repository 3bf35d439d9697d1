//! Files of the host below its root, live or recorded.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ffi::linux::file::{FileError, read_regular};

/// The longest configuration file that is read, in bytes; 10,000 `NodeName` lines need a megabyte.
const MAX_BYTES: u64 = 8 << 20;
/// Entries taken from one directory at most.
const MAX_ENTRIES: usize = 4096;

/// Why a file of the host cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    /// There is none, or a link to it leads out of the tree.
    #[error("{0}: no such file")]
    Missing(String),
    /// A directory, device or pipe.
    #[error("{0}: not a regular file")]
    NotRegular(String),
    /// The system refuses its path, or to read it.
    #[error("{0}: {1}")]
    Path(String, io::Error),
    /// It is too long.
    #[error("{0}: {1} bytes; expected at most {MAX_BYTES}")]
    TooLarge(String, u64),
    /// It cannot be read; the error names where it lies.
    #[error("{0}")]
    Text(FileError),
}

/// A filesystem root; `/` is this host's.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    base: PathBuf,
}

impl Tree {
    /// The tree at `base`.
    pub(crate) fn new(base: &Path) -> Self {
        Self {
            base: fs::canonicalize(base).unwrap_or_else(|_| base.to_owned()),
        }
    }

    /// Where an absolute path of the host lies; None where nothing is there or a link leads out of the tree.
    fn place(&self, absolute: &str) -> Option<PathBuf> {
        let path = self.base.join(absolute.trim_start_matches('/'));
        match fs::canonicalize(&path) {
            Ok(real) => real.starts_with(&self.base).then_some(real),
            Err(_) => None,
        }
    }

    /// Whether there is something at an absolute path.
    pub(crate) fn exists(&self, absolute: &str) -> bool {
        self.place(absolute).is_some()
    }

    /// Whether two absolute paths lead to one file.
    pub(crate) fn are_one(&self, one: &str, other: &str) -> bool {
        one == other
            || self
                .place(one)
                .is_some_and(|own| Some(own) == self.place(other))
    }

    /// Whether a folder that is there has nothing of that name, not even a link that leads out of the tree.
    pub(crate) fn lacks(&self, absolute: &str) -> bool {
        let Some((folder, name)) = absolute.rsplit_once('/') else {
            return false;
        };
        let folder = self.place(folder);
        folder.is_some_and(|folder| fs::symlink_metadata(folder.join(name)).is_err())
    }

    /// The text of a regular file.  Bytes that are not UTF-8 become U+FFFD: Slurm reads bytes, and a name in Latin-1 is one to it.
    ///
    /// # Errors
    /// The file, and why it cannot be read.
    pub(crate) fn read(&self, absolute: &str) -> Result<String, TreeError> {
        let Some(path) = self.place(absolute) else {
            let path = self.base.join(absolute.trim_start_matches('/'));
            return Err(match fs::canonicalize(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    TreeError::Path(absolute.to_owned(), error)
                }
                Ok(_) | Err(_) => TreeError::Missing(absolute.to_owned()),
            });
        };
        let bytes = read_regular(&path, MAX_BYTES).map_err(|error| match error {
            FileError::NotRegular(_) => TreeError::NotRegular(absolute.to_owned()),
            FileError::TooLarge { size, .. } => TreeError::TooLarge(absolute.to_owned(), size),
            FileError::Io { error, .. } => TreeError::Path(absolute.to_owned(), error),
            FileError::NotRoots { .. } | FileError::NotText(_) => TreeError::Text(error),
        })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The text of a small file, trimmed; None where it cannot be read.
    pub(crate) fn text(&self, absolute: &str) -> Option<String> {
        Some(self.read(absolute).ok()?.trim().to_owned())
    }

    /// The bytes of a small file; None where it cannot be read.
    pub(crate) fn bytes(&self, absolute: &str) -> Option<Vec<u8>> {
        read_regular(&self.place(absolute)?, MAX_BYTES).ok()
    }

    /// The names in a directory, sorted; empty where there is no directory.
    pub(crate) fn entries(&self, absolute: &str) -> Vec<String> {
        let entries = self
            .place(absolute)
            .and_then(|path| fs::read_dir(path).ok());
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .take(MAX_ENTRIES)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        names
    }

    /// The last part of the path that the link at an absolute path leads to; None where there is no link.
    pub(crate) fn link_name(&self, absolute: &str) -> Option<String> {
        let path = self.base.join(absolute.trim_start_matches('/'));
        let target = fs::read_link(path).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Where the link at an absolute path leads to, as written; None where there is no link.
    pub(crate) fn link_target(&self, absolute: &str) -> Option<String> {
        let path = self.base.join(absolute.trim_start_matches('/'));
        let target = fs::read_link(path).ok()?;
        Some(target.to_str()?.to_owned())
    }

    /// The tree's own path.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }
}
