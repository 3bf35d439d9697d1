//! A small file that processes of one user share as memory, found by its name.
//!
//! Each holds a shared lock while it has the file, so one that no process holds any more, left by processes that
//! were killed, differs from one in use, whatever PID namespaces they are in.

use std::fs::{File, OpenOptions, read_dir, remove_file};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::Errno;

use super::file::WITHOUT_WAITING;
use super::process::effective_user;
use super::shared::SharedWords;

/// How often a file that vanishes, or is looked at by a sweeper, while it is opened is tried again.
const TRIES: u32 = 64;
/// Between two tries.
const PAUSE: Duration = Duration::from_micros(100);

/// Why a file is not shared.
#[derive(Debug, thiserror::Error)]
pub enum NamedError {
    /// The system says no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Another user's, or others may open it, or it is no regular file.
    #[error("{}: must be this user's, with no access for others (owner {owner}, mode {mode:o})", path.display())]
    NotOwn {
        /// The file.
        path: PathBuf,
        /// Owner.
        owner: u32,
        /// Type and permission bits.
        mode: u32,
    },
    /// It went away, or was locked, each time that it was opened.
    #[error("{}: removed or locked again and again", .0.display())]
    Removed(PathBuf),
}

/// A shared file, mapped.
#[derive(Debug)]
pub struct NamedWords {
    path: PathBuf,
    words: SharedWords,
    /// Holds the lock; none once the name is away or the memory is given back.
    file: Mutex<Option<File>>,
}

impl NamedWords {
    /// Opens `folder/name`, or makes it, with `len` 32-bit words that are zero at first.
    ///
    /// Links are not followed, and a file that another user made, or could open, is not used.
    ///
    /// # Errors
    /// [`NamedError`] by what is wrong.
    pub fn open(folder: &Path, name: &str, len: usize) -> Result<Self, NamedError> {
        let path = folder.join(name);
        for _ in 0..TRIES {
            let io = |error: std::io::Error| NamedError::Io {
                path: path.clone(),
                error,
            };
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | WITHOUT_WAITING)
                .open(&path)
                .map_err(io)?;
            check_own(&file, &path)?;
            match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    // Another that joins looks whether it is unused.
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Err(errno) => return Err(io(errno.into())),
            }
            // Whoever removes it locks it first, so from here on it stays.
            if file.metadata().map_err(io)?.nlink() == 0 {
                continue;
            }
            // Memory for all of it, or none: a page that cannot be had later would end the process.
            let bytes = (len * size_of::<u32>()) as u64;
            fallocate(&file, FallocateFlags::empty(), 0, bytes)
                .map_err(|errno| io(errno.into()))?;
            let words = SharedWords::map_file(&file, len).map_err(|errno| io(errno.into()))?;
            let file = Mutex::new(Some(file));
            return Ok(Self { path, words, file });
        }
        Err(NamedError::Removed(path))
    }

    /// The words.
    pub fn words(&self) -> &SharedWords {
        &self.words
    }

    /// Takes the name away, and with it the descriptor: those that have the words keep them, and no one else can open
    /// them.
    pub fn unlink(&self) {
        // A lock that another thread has, or had when this process was forked, is not waited for.
        if let Ok(mut held) = self.file.try_lock()
            && let Some(file) = held.as_ref()
            && (!is_at(file, &self.path) || remove_file(&self.path).is_ok())
        {
            *held = None;
        }
    }

    /// Gives the file back, with its memory and its descriptor: the words are zeros of this process alone from here on.
    pub fn give_back(&self) {
        self.words.give_back();
        if let Ok(mut file) = self.file.try_lock() {
            *file = None;
        }
    }
}

/// Removes this user's files in `folder` whose names begin with `prefix` and that no process holds.
///
/// Looks at `most` names at the most.
pub fn remove_unused(folder: &Path, prefix: &str, most: usize) {
    let Ok(entries) = read_dir(folder) else {
        return;
    };
    for entry in entries.flatten().take(most) {
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        let path = entry.path();
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | WITHOUT_WAITING)
            .open(&path);
        if let Ok(file) = opened
            && check_own(&file, &path).is_ok()
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && is_at(&file, &path)
        {
            let _ = remove_file(&path);
        }
    }
}

fn check_own(file: &File, path: &Path) -> Result<(), NamedError> {
    let meta = file.metadata().map_err(|error| NamedError::Io {
        path: path.to_owned(),
        error,
    })?;
    if meta.uid() == effective_user() && meta.is_file() && meta.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(NamedError::NotOwn {
        path: path.to_owned(),
        owner: meta.uid(),
        mode: meta.mode(),
    })
}

/// Whether `path` still names `file`.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => open.ino() == named.ino() && open.dev() == named.dev(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::Ordering;

    #[test]
    fn two_that_open_a_name_share_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let one = NamedWords::open(folder.path(), "a", 64).unwrap();
        let other = NamedWords::open(folder.path(), "a", 64).unwrap();
        one.words().wide_words()[31].store(7, Ordering::Release);
        assert_eq!(other.words().wide_words()[31].load(Ordering::Acquire), 7);
        one.unlink();
        assert!(!folder.path().join("a").exists());
        assert_eq!(other.words().wide_words()[31].load(Ordering::Acquire), 7);
    }

    #[test]
    fn a_file_that_others_could_have_written_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        let error = NamedWords::open(folder.path(), "a", 64).unwrap_err();
        assert!(matches!(error, NamedError::NotOwn { .. }), "{error}");
        let link = folder.path().join("b");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(NamedWords::open(folder.path(), "b", 64).is_err());
    }

    #[test]
    fn those_that_join_and_sweep_at_once_all_get_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let join = || {
            remove_unused(folder.path(), "x.", 100);
            NamedWords::open(folder.path(), "x.same", 64).unwrap()
        };
        for _ in 0..50 {
            let files: Vec<NamedWords> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(join)).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .collect()
            });
            for file in &files {
                file.words().wide_words()[0].fetch_add(1, Ordering::Relaxed);
            }
            assert_eq!(files[0].words().wide_words()[0].load(Ordering::Relaxed), 8);
            files[0].unlink();
        }
    }

    #[test]
    fn only_what_no_process_holds_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let held = NamedWords::open(folder.path(), "x.held", 64).unwrap();
        drop(NamedWords::open(folder.path(), "x.left", 64).unwrap());
        std::fs::write(folder.path().join("y"), "").unwrap();
        remove_unused(folder.path(), "x.", 100);
        let mut names: Vec<_> = read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["x.held", "y"]);
        drop(held);
    }
}
