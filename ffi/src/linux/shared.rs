//! Memory shared between processes, as words: without a name for those forked later, or a file's; and a
//! futex on it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::thread::futex;
use rustix::time::Timespec;

use crate::errno::Errno;

/// Zeroed words that this process and all that it forks see alike.
///
/// A mapping without a file has no name, so no other process can reach it, and goes with the last process that
/// has it.
#[derive(Debug)]
pub struct SharedWords {
    start: NonNull<AtomicU32>,
    len: usize,
}

// SAFETY: all access to the mapping is through atomics.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps `len` words without a name.
    ///
    /// # Errors
    /// `ENOMEM` when memory is short, `EINVAL` when `len` is 0.
    pub fn map(len: usize) -> Result<Self, Errno> {
        Self::map_descriptor(len, libc::MAP_ANONYMOUS, -1)
    }

    /// Maps the first `len` words of a file that has at least as many: touching a page beyond its end would
    /// end the process.
    ///
    /// # Errors
    /// As for [`SharedWords::map`], and `EACCES` for a file that is not open for writing.
    pub fn map_file(file: &File, len: usize) -> Result<Self, Errno> {
        Self::map_descriptor(len, 0, file.as_raw_fd())
    }

    fn map_descriptor(len: usize, flags: i32, descriptor: i32) -> Result<Self, Errno> {
        // SAFETY: a mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len.saturating_mul(size_of::<AtomicU32>()),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | flags,
                descriptor,
                0,
            )
        };
        match NonNull::new(start.cast::<AtomicU32>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { start, len }),
            Some(_) | None => Err(Errno::last()),
        }
    }

    /// Gives the memory back: from here on the words are zeros of this process alone, and take no memory until they are
    /// written.  Whoever looks at them meanwhile sees the one or the other.
    pub fn give_back(&self) {
        // SAFETY: replaces this very mapping at once, by one of the same length; references into it stay valid, and
        // all access is through atomics.
        unsafe {
            libc::mmap(
                self.start.as_ptr().cast(),
                self.len * size_of::<AtomicU32>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
                -1,
                0,
            )
        };
    }

    /// The words.
    pub fn words(&self) -> &[AtomicU32] {
        // SAFETY: the mapping holds `len` words, aligned to a page, for as long as `self` lives; zeros
        // are a value of an atomic, and atomics may be shared.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The same words in pairs.
    pub fn wide_words(&self) -> &[AtomicU64] {
        // SAFETY: as for `words`; a page is aligned for 64 bits, and half as many fit.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.len / 2) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, and no reference into it outlives `self`.
        unsafe {
            libc::munmap(
                self.start.as_ptr().cast(),
                self.len * size_of::<AtomicU32>(),
            )
        };
    }
}

/// Sleeps until `word` is no longer `seen`, somebody wakes it, a signal comes, or `limit` passes.
///
/// May return early; look again.
pub fn wait_while(word: &AtomicU32, seen: u32, limit: Duration) {
    if word.load(Ordering::Acquire) != seen {
        return;
    }
    let timeout = Timespec::try_from(limit).ok();
    // Not private: the waiters are several processes.  Whatever ends the wait, the caller looks again.
    let _ = futex::wait(word, futex::Flags::empty(), seen, timeout.as_ref());
}

/// Wakes all that wait on `word`.
pub fn wake_all(word: &AtomicU32) {
    // Those that are not woken look again at their limit.
    let _ = futex::wake(word, futex::Flags::empty(), i32::MAX as u32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_waiter_is_woken_by_a_change() {
        let shared = SharedWords::map(16).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                shared.words()[3].store(1, Ordering::Release);
                wake_all(&shared.words()[3]);
            });
            let start = Instant::now();
            while shared.words()[3].load(Ordering::Acquire) == 0 {
                wait_while(&shared.words()[3], 0, Duration::from_secs(5));
            }
            assert!(start.elapsed() < Duration::from_secs(4));
        });
    }

    #[test]
    fn what_is_given_back_is_zero_here_and_stays_elsewhere() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let (one, other) = (
            SharedWords::map_file(&file, 1024).unwrap(),
            SharedWords::map_file(&file, 1024).unwrap(),
        );
        one.words()[5].store(7, Ordering::Release);
        one.give_back();
        assert_eq!(one.words()[5].load(Ordering::Acquire), 0);
        assert_eq!(other.words()[5].load(Ordering::Acquire), 7);
        one.words()[5].store(9, Ordering::Release);
        assert_eq!(other.words()[5].load(Ordering::Acquire), 7);
    }

    #[test]
    fn a_wait_ends_at_its_limit() {
        let shared = SharedWords::map(1).unwrap();
        let start = Instant::now();
        wait_while(&shared.words()[0], 0, Duration::from_millis(30));
        assert!(start.elapsed() >= Duration::from_millis(25));
    }
}
