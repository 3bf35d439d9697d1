//! Files that root, or a task, reads without trusting who wrote them.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system says no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or its folder.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A folder, FIFO, device or socket.
    #[error("{}: not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// Larger than any real one.
    #[error("{}: {size} bytes; expected at most {limit}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Somebody besides root can write it.
    #[error("{}: not root's alone to write (owner {owner}, mode {mode:o})", path.display())]
    NotRoots {
        /// The file or its folder.
        path: PathBuf,
        /// Owner.
        owner: u32,
        /// Permission bits.
        mode: u32,
    },
    /// Not UTF-8.
    #[error("{}: not text", .0.display())]
    NotText(PathBuf),
}

/// Reads a text file that only root can have written: regular, no link, at most `limit` bytes, it and
/// its folder owned by root and writable by nobody else.  Does not block on a FIFO.
///
/// # Errors
/// [`FileError`] by what is wrong.
pub fn read_roots_text(path: &Path, limit: u64) -> Result<String, FileError> {
    let file = open_roots(path)?;
    read_bounded(file, path, limit)
}

/// Whether `path` is a regular, non-empty file that only root can have written.
pub fn is_roots_file(path: &Path) -> bool {
    open_roots(path)
        .and_then(|file| metadata(&file, path))
        .is_ok_and(|meta| meta.len() > 0)
}

/// Reads a text file of the caller's own user: regular, at most `limit` bytes; links are followed.
///
/// # Errors
/// [`FileError`] by what is wrong.
pub fn read_own_text(path: &Path, limit: u64) -> Result<String, FileError> {
    let file = open(path, 0)?;
    read_bounded(file, path, limit)
}

fn open_roots(path: &Path) -> Result<File, FileError> {
    if let Some(folder) = path.parent() {
        let meta = std::fs::symlink_metadata(folder).map_err(|error| io(folder, error))?;
        only_roots(folder, &meta)?;
    }
    let file = open(path, libc::O_NOFOLLOW)?;
    only_roots(path, &metadata(&file, path)?)?;
    Ok(file)
}

fn open(path: &Path, flags: i32) -> Result<File, FileError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| io(path, error))?;
    if !metadata(&file, path)?.is_file() {
        return Err(FileError::NotRegular(path.to_owned()));
    }
    Ok(file)
}

fn metadata(file: &File, path: &Path) -> Result<std::fs::Metadata, FileError> {
    file.metadata().map_err(|error| io(path, error))
}

fn only_roots(path: &Path, meta: &std::fs::Metadata) -> Result<(), FileError> {
    let (owner, mode) = (meta.uid(), meta.mode() & 0o7777);
    if owner != 0 || mode & 0o022 != 0 || meta.is_symlink() {
        return Err(FileError::NotRoots {
            path: path.to_owned(),
            owner,
            mode,
        });
    }
    Ok(())
}

fn read_bounded(file: File, path: &Path, limit: u64) -> Result<String, FileError> {
    let size = metadata(&file, path)?.len();
    if size > limit {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
            size,
            limit,
        });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    // The file may grow while it is read.
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| io(path, error))?;
    String::from_utf8(bytes).map_err(|_| FileError::NotText(path.to_owned()))
}

fn io(path: &Path, error: std::io::Error) -> FileError {
    FileError::Io {
        path: path.to_owned(),
        error,
    }
}
