//! An allocator with a reserve, for a plugin that must not end its host.
//!
//! Where an allocation fails Rust ends the process, which in slurmstepd is a launch that hangs.  So what the system
//! has no memory for comes from a fixed piece of this library's own, which costs nothing until it is used.
//!
//! A process that has just been forked pays for each page that it writes, and the system's allocator writes where the
//! parent's blocks are.  Such a one may have its first blocks from that piece, side by side on a page or two.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of the reserve: several times what a step on a host of 256 CPUs and 8 GPUs allocates in all.
const BYTES: usize = 4 << 20;

/// The system's allocator, and where that has nothing a reserve of 4 MiB, whose blocks are not used again (but the
/// last one).
///
/// The counters come before the bytes, so that the first blocks are on their page, which nothing else is on: what a task
/// writes beside other variables of ours would be copied first.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct WithReserve {
    used: AtomicUsize,
    /// Up to where the reserve comes before the system's allocator.
    first: AtomicUsize,
    reserve: UnsafeCell<[u8; BYTES]>,
}

// SAFETY: blocks of the reserve are given out once each, by an atomic counter; nothing else touches the bytes.
unsafe impl Sync for WithReserve {}

impl WithReserve {
    /// One whose reserve is unused.
    #[expect(clippy::new_without_default, reason = "a static needs a const fn")]
    pub const fn new() -> Self {
        Self {
            reserve: UnsafeCell::new([0; BYTES]),
            used: AtomicUsize::new(0),
            first: AtomicUsize::new(0),
        }
    }

    /// From now on the first `bytes` of the reserve come before the system's allocator.
    pub fn begin_with(&self, bytes: usize) {
        self.first.store(bytes.min(BYTES), Ordering::Relaxed);
    }

    fn start(&self) -> usize {
        self.reserve.get() as usize
    }

    /// Where in the reserve a block begins; none for one of the system's.
    fn offset_of(&self, block: *mut u8) -> Option<usize> {
        let offset = (block as usize).checked_sub(self.start())?;
        (offset < BYTES).then_some(offset)
    }

    /// A block of the reserve, or null when it has no room.
    fn take(&self, layout: Layout) -> *mut u8 {
        self.take_below(BYTES, layout)
    }

    /// A block of what comes before the system's allocator, or null when that has no room.
    fn take_first(&self, layout: Layout) -> *mut u8 {
        match self.first.load(Ordering::Relaxed) {
            0 => ptr::null_mut(),
            limit => self.take_below(limit, layout),
        }
    }

    /// A block of the reserve's first `limit` bytes, or null when they have no room.
    fn take_below(&self, limit: usize, layout: Layout) -> *mut u8 {
        let place = |used: usize| {
            let from = (self.start() + used).checked_next_multiple_of(layout.align())?;
            let offset = from - self.start();
            let end = offset.checked_add(layout.size())?;
            (end <= limit).then_some((offset, end))
        };
        // What another thread wrote in a block that it gave back comes before what is written in it now.
        let taken = self
            .used
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |used| {
                place(used).map(|(_, end)| end)
            });
        match taken.ok().and_then(place) {
            Some((offset, _)) => self.reserve.get().cast::<u8>().wrapping_add(offset),
            None => ptr::null_mut(),
        }
    }

    /// Makes the reserve's last block longer or shorter; false for any other.
    fn resize(&self, offset: usize, size: usize, new_size: usize) -> bool {
        let (end, new_end) = (offset + size, offset.saturating_add(new_size));
        // As in `take_below`: what follows may have been another thread's.
        let order = (Ordering::AcqRel, Ordering::Relaxed);
        new_end <= BYTES
            && self
                .used
                .compare_exchange(end, new_end, order.0, order.1)
                .is_ok()
    }

    /// Gives back a block of the reserve, if it is the last one.
    fn give_back(&self, offset: usize, size: usize) {
        let end = offset + size;
        let _ = self
            .used
            .compare_exchange(end, offset, Ordering::Release, Ordering::Relaxed);
    }
}

// SAFETY: every block is the system's, or is of the reserve, apart from all others, as large and aligned as asked; a
// block goes back to where it came from.
unsafe impl GlobalAlloc for WithReserve {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.take_first(layout);
        if !block.is_null() {
            return block;
        }
        // SAFETY: the caller's promise on the layout is handed on.
        let block = unsafe { System.alloc(layout) };
        if block.is_null() {
            return self.take(layout);
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let mut block = self.take_first(layout);
        if block.is_null() {
            // SAFETY: the caller's promise on the layout is handed on.
            let zeroed = unsafe { System.alloc_zeroed(layout) };
            if !zeroed.is_null() {
                return zeroed;
            }
            block = self.take(layout);
        }
        if !block.is_null() {
            // A block that was given back may have been written.
            // SAFETY: the block is as long as the layout says, and no one else has it.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.offset_of(block) {
            Some(offset) => self.give_back(offset, layout.size()),
            // SAFETY: not of the reserve, so the system's, with the layout that the caller promises.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        match self.offset_of(block) {
            Some(offset) if self.resize(offset, layout.size(), new_size) => return block,
            Some(_) => {}
            None => {
                // SAFETY: the system's block; the caller's promises are handed on.
                let moved = unsafe { System.realloc(block, layout, new_size) };
                if !moved.is_null() {
                    return moved;
                }
            }
        }
        // SAFETY: the caller promises that the new size fits the alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: the caller promises a size that is not 0.
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            let kept = layout.size().min(new_size);
            // SAFETY: both blocks are at least that long, and apart.
            unsafe { ptr::copy_nonoverlapping(block, moved, kept) };
            // SAFETY: the caller gives the old block up, with its layout.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_the_reserve_are_apart_aligned_and_the_last_is_used_again() {
        static ALL: WithReserve = WithReserve::new();
        let all = &ALL;
        let layout = |size, align| Layout::from_size_align(size, align).unwrap();
        let first = all.take(layout(3, 1));
        let second = all.take(layout(64, 64));
        assert_eq!(second as usize % 64, 0);
        assert!(second as usize - first as usize >= 3);
        // SAFETY: a block of 64 bytes of the reserve.
        unsafe { second.write_bytes(7, 64) };
        // SAFETY: as it was taken.
        let grown = unsafe { all.realloc(second, layout(64, 64), 128) };
        // SAFETY: the first 64 bytes are the old block's.
        assert_eq!(unsafe { *grown.add(63) }, 7);
        // SAFETY: as it was grown.
        unsafe { all.dealloc(grown, layout(128, 64)) };
        let last = all.take(layout(8, 8));
        // SAFETY: as it was taken.
        unsafe { all.dealloc(last, layout(8, 8)) };
        assert_eq!(all.take(layout(8, 8)), last);
        assert!(all.take(layout(BYTES, 1)).is_null());
        assert!(!all.take(layout(BYTES / 2, 1)).is_null());
    }

    #[test]
    fn the_first_bytes_come_before_the_systems_allocator_where_it_is_asked_for() {
        static ALL: WithReserve = WithReserve::new();
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        let is_reserves = |block: *mut u8| ALL.offset_of(block).is_some();
        // SAFETY: a size that is not 0.
        let before = unsafe { ALL.alloc(layout(8)) };
        ALL.begin_with(64);
        // SAFETY: as above.
        let first = unsafe { ALL.alloc_zeroed(layout(32)) };
        assert!(!is_reserves(before) && is_reserves(first));
        // SAFETY: a block of 32 bytes.
        unsafe { first.write_bytes(9, 32) };
        // SAFETY: as it was taken; it is the last, so it stays where it is.
        assert_eq!(unsafe { ALL.realloc(first, layout(32), 48) }, first);
        // SAFETY: as above.
        let beyond = unsafe { ALL.alloc(layout(32)) };
        assert!(!is_reserves(beyond));
        // SAFETY: as each was taken.
        unsafe {
            ALL.dealloc(beyond, layout(32));
            ALL.dealloc(first, layout(48));
            ALL.dealloc(before, layout(8));
        }
        // SAFETY: as above; what was given back is zeroed.
        let again = unsafe { ALL.alloc_zeroed(layout(64)) };
        assert_eq!(again, first);
        // SAFETY: a block of 64 bytes.
        assert_eq!(unsafe { *again.add(31) }, 0);
        // SAFETY: as it was taken.
        unsafe { ALL.dealloc(again, layout(64)) };
    }

    /// Under Miri (`make test-miri`) in many orders: it reports a block that two threads have, and one used too long.
    #[test]
    fn blocks_of_several_threads_are_apart_whatever_is_given_back_and_grown() {
        static ALL: WithReserve = WithReserve::new();
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        std::thread::scope(|scope| {
            for thread in 1..=3u8 {
                scope.spawn(move || {
                    for round in 1..=4 {
                        let (kept, size) = (ALL.take(layout(8)), 8 * round);
                        let block = ALL.take(layout(size));
                        assert!(!kept.is_null() && !block.is_null());
                        // SAFETY: a block of 8 bytes of the reserve.
                        unsafe { kept.write_bytes(thread, 8) };
                        // SAFETY: one of `size` bytes.
                        unsafe { block.write_bytes(thread, size) };
                        // SAFETY: as it was taken.
                        let grown = unsafe { ALL.realloc(block, layout(size), size + 8) };
                        // SAFETY: its first bytes are the old block's.
                        let last = unsafe { *grown.add(size - 1) };
                        // SAFETY: still this thread's.
                        assert_eq!((unsafe { *kept.add(7) }, last), (thread, thread));
                        // SAFETY: as it was grown.
                        unsafe { ALL.dealloc(grown, layout(size + 8)) };
                        // SAFETY: as it was taken.
                        unsafe { ALL.dealloc(kept, layout(8)) };
                    }
                });
            }
        });
    }
}
