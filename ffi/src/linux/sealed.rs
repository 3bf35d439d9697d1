//! Words that a daemon shares with the programs of a user: memory of no file system, whose size nobody can change.
//!
//! A program finds them under the path that its environment names, `/proc/PID/fd/N`, where `PID` is a process that was handed a
//! descriptor.  Whatever the user does to that descriptor, or writes, the daemon's own mapping stays whole.

use std::ffi::CStr;
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create,
};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use super::shared::SharedWords;

/// The seals that both sides rely upon: a page that went away would end whoever touches it.
const FIXED_LENGTH: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);
/// Descriptors that are handed down begin here, above those that shell scripts and programs number themselves.
const FIRST_HANDED_DOWN: i32 = 200;

/// The daemon's side.
#[derive(Debug)]
pub struct SealedWords {
    words: SharedWords,
    descriptor: OwnedFd,
}

impl SealedWords {
    /// Makes `len` words that are zero, called `name`; the descriptor is closed in programs that this process executes.
    ///
    /// # Errors
    /// What the kernel says: `ENOMEM`, `EMFILE`, or that it has no memory without a file system.
    pub fn make(name: &CStr, len: usize) -> io::Result<Self> {
        let descriptor = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&descriptor, (len * size_of::<u32>()) as u64)?;
        fcntl_add_seals(&descriptor, FIXED_LENGTH)?;
        let file = std::fs::File::from(descriptor);
        let words = SharedWords::map_file(&file, len)?;
        Ok(Self {
            words,
            descriptor: file.into(),
        })
    }

    /// The words.
    pub fn words(&self) -> &SharedWords {
        &self.words
    }

    /// Leaves a descriptor open for the program that this process executes next, and gives its number.
    ///
    /// # Errors
    /// `EINVAL` or `EMFILE` where the process may have none of so high a number.
    pub fn hand_down(&self) -> io::Result<i32> {
        let own = fcntl_dupfd_cloexec(&self.descriptor, FIRST_HANDED_DOWN)?;
        fcntl_setfd(&own, FdFlags::empty())?;
        // It belongs to the program from here on.
        Ok(own.into_raw_fd())
    }
}

/// Maps the words that `path` leads to, if it leads to memory called `name` of `len` words whose size stays; none otherwise.
pub fn map_sealed(path: &Path, name: &str, len: usize) -> Option<SharedWords> {
    // A link of the kernel's own: it is read first, so that nothing else is ever opened.
    let target = std::fs::read_link(path).ok()?;
    if target.to_str()? != format!("/memfd:{name} (deleted)") {
        return None;
    }
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .ok()?;
    let is_whole = fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(FIXED_LENGTH))
        && file.metadata().ok()?.len() == (len * size_of::<u32>()) as u64;
    is_whole.then(|| SharedWords::map_file(&file, len).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::path::PathBuf;
    use std::sync::atomic::Ordering;

    const NAME: &CStr = c"gpu-numa-test";

    #[test]
    fn a_program_adds_to_the_words_that_its_environment_names() {
        let sealed = SealedWords::make(NAME, 16).unwrap();
        let number = sealed.hand_down().unwrap();
        assert!(number >= FIRST_HANDED_DOWN);
        let path = PathBuf::from(format!("/proc/self/fd/{number}"));
        let words = map_sealed(&path, "gpu-numa-test", 16).unwrap();
        words.wide_words()[3].fetch_add(7, Ordering::Relaxed);
        assert_eq!(sealed.words().wide_words()[3].load(Ordering::Relaxed), 7);
        assert!(
            map_sealed(&path, "gpu-numa-test", 8).is_none(),
            "other size"
        );
        assert!(map_sealed(&path, "other", 16).is_none(), "other name");
        // Nobody takes a page away from under the daemon.
        assert!(
            std::fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(0)
                .is_err()
        );
    }

    #[test]
    fn nothing_else_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        std::fs::write(&file, [0; 64]).unwrap();
        assert!(map_sealed(&file, "a", 16).is_none());
        let link = folder.path().join("b");
        std::os::unix::fs::symlink("/memfd:a (deleted)", &link).unwrap();
        assert!(map_sealed(&link, "a", 16).is_none());
        let unsealed = memfd_create(c"a", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&unsealed, 64).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", unsealed.as_raw_fd()));
        assert!(map_sealed(&path, "a", 16).is_none(), "its size may change");
    }
}
