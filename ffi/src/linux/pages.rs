//! Private anonymous memory, in huge pages where the kernel has them.

use std::ptr::NonNull;

use crate::errno::Errno;

/// Zeroed words of this process alone; each page comes from where the policy of the thread that first
/// touches it says.
#[derive(Debug)]
pub struct Pages {
    start: NonNull<u64>,
    len: usize,
}

// SAFETY: the mapping belongs to the value as a Box's memory does; nothing else refers to it.
unsafe impl Send for Pages {}
// SAFETY: a shared reference only reads.
unsafe impl Sync for Pages {}

impl Pages {
    /// Maps `len` words.
    ///
    /// # Errors
    /// `ENOMEM` when memory is short, `EINVAL` when `len` is 0.
    pub fn map(len: usize) -> Result<Self, Errno> {
        let bytes = len.saturating_mul(size_of::<u64>());
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        // Small pages serve too, so an answer of no is no error.
        // SAFETY: the range is the mapping just made; the advice changes no contents.
        unsafe { libc::madvise(start, bytes, libc::MADV_HUGEPAGE) };
        NonNull::new(start.cast::<u64>())
            .map_or(Err(Errno(libc::ENOMEM)), |start| Ok(Self { start, len }))
    }

    /// The words.
    pub fn words(&self) -> &[u64] {
        // SAFETY: the mapping holds `len` words, aligned to a page, as long as `self` lives.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The words, to write.
    pub fn words_mut(&mut self) -> &mut [u64] {
        // SAFETY: as for `words`, and `self` is borrowed for as long.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len * size_of::<u64>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_rest_is_zero() {
        let mut pages = Pages::map(1 << 20).unwrap();
        pages.words_mut()[7] = 7;
        assert_eq!(pages.words().iter().sum::<u64>(), 7);
        assert_eq!(Pages::map(0).unwrap_err(), Errno(libc::EINVAL));
    }
}
