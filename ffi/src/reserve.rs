//! An allocator with a reserve, for a plugin that must not end its host.
//!
//! Where an allocation fails Rust ends the process, which in slurmstepd is a launch that hangs.  So what the system
//! has no memory for comes from a fixed piece of this library's own, which costs nothing until it is used.
//!
//! A process that has just been forked pays for each page that it writes, and the system's allocator writes where the
//! parent's blocks are, and where it has freed some.  So what is made before the fork may come from that piece too, and a
//! forked process has its first blocks from a part of its own, side by side on a page or two.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes of the reserve: several times what a step on a host of 256 CPUs and 8 GPUs allocates in all.
const BYTES: usize = 4 << 20;
/// Bytes for a task: more than one allocates that does not decide for all (7 KiB with 8 GPUs).
const TASK_BYTES: usize = 16 << 10;

/// A reserve of 4 MiB, whose blocks are not used again (but the last one of each part): first what tasks have, then the rest.
///
/// The tasks' counter comes before the bytes, so that a task's first blocks are on its page, which nothing else is on: what
/// a task writes beside other variables of ours would be copied first.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Reserve {
    task_used: AtomicUsize,
    bytes: UnsafeCell<[u8; BYTES]>,
}

// SAFETY: blocks are given out once each, by atomic counters; nothing else touches the bytes.
unsafe impl Sync for Reserve {}

impl Reserve {
    /// One that is unused.
    #[expect(clippy::new_without_default, reason = "a static needs a const fn")]
    pub const fn new() -> Self {
        Self {
            task_used: AtomicUsize::new(0),
            bytes: UnsafeCell::new([0; BYTES]),
        }
    }
}

/// The system's allocator, and where that has nothing a reserve.
#[derive(Debug)]
pub struct WithReserve {
    reserve: &'static Reserve,
    rest_used: AtomicUsize,
    /// Up to where the rest comes before the system's allocator.
    first: AtomicUsize,
    /// Whether the tasks' part comes before the system's allocator.
    has_tasks: AtomicBool,
}

/// A part of a reserve, which is its own in what it gives out and takes back.
struct Part<'a> {
    bytes: *mut u8,
    len: usize,
    used: &'a AtomicUsize,
}

impl Part<'_> {
    /// A block of the first `limit` bytes, or null when they have no room.
    fn take_below(&self, limit: usize, layout: Layout) -> *mut u8 {
        let start = self.bytes as usize;
        let place = |used: usize| {
            let from = (start + used).checked_next_multiple_of(layout.align())?;
            let offset = from - start;
            let end = offset.checked_add(layout.size())?;
            (end <= limit.min(self.len)).then_some((offset, end))
        };
        // What another thread wrote in a block that it gave back comes before what is written in it now.
        let taken = self
            .used
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |used| {
                place(used).map(|(_, end)| end)
            });
        match taken.ok().and_then(place) {
            Some((offset, _)) => self.bytes.wrapping_add(offset),
            None => ptr::null_mut(),
        }
    }

    /// Makes the last block longer or shorter; false for any other.
    fn resize(&self, offset: usize, size: usize, new_size: usize) -> bool {
        let (end, new_end) = (offset + size, offset.saturating_add(new_size));
        // As in `take_below`: what follows may have been another thread's.
        let order = (Ordering::AcqRel, Ordering::Relaxed);
        new_end <= self.len
            && self
                .used
                .compare_exchange(end, new_end, order.0, order.1)
                .is_ok()
    }

    /// Gives back a block, if it is the last one.
    fn give_back(&self, offset: usize, size: usize) {
        let end = offset + size;
        let _ = self
            .used
            .compare_exchange(end, offset, Ordering::Release, Ordering::Relaxed);
    }
}

impl WithReserve {
    /// With a reserve that no other has.
    pub const fn new(reserve: &'static Reserve) -> Self {
        Self {
            reserve,
            rest_used: AtomicUsize::new(0),
            first: AtomicUsize::new(0),
            has_tasks: AtomicBool::new(false),
        }
    }

    /// From now on the first `bytes` of the reserve, behind the tasks' part, come before the system's allocator.
    pub fn begin_with(&self, bytes: usize) {
        self.first.store(bytes, Ordering::Relaxed);
    }

    /// From now on the tasks' part comes before the system's allocator, here and in what is forked.  To be called once, while no
    /// block of that part is in use.
    pub fn begin_tasks(&self) {
        // Written here, a forked process has the page to read, and gets one of its own when it writes: one fault, not two.
        self.reserve.task_used.store(0, Ordering::Relaxed);
        self.first.store(0, Ordering::Relaxed);
        self.has_tasks.store(true, Ordering::Relaxed);
    }

    fn tasks(&self) -> Part<'_> {
        Part {
            bytes: self.reserve.bytes.get().cast(),
            len: TASK_BYTES,
            used: &self.reserve.task_used,
        }
    }

    fn rest(&self) -> Part<'_> {
        let bytes = self.reserve.bytes.get().cast::<u8>();
        Part {
            bytes: bytes.wrapping_add(TASK_BYTES),
            len: BYTES - TASK_BYTES,
            used: &self.rest_used,
        }
    }

    /// The part of the reserve that a block is of, and where in it; none for one of the system's.
    fn part_of(&self, block: *mut u8) -> Option<(Part<'_>, usize)> {
        let offset = (block as usize).checked_sub(self.reserve.bytes.get() as usize)?;
        match offset.checked_sub(TASK_BYTES) {
            None => Some((self.tasks(), offset)),
            Some(offset) if offset < BYTES - TASK_BYTES => Some((self.rest(), offset)),
            Some(_) => None,
        }
    }

    /// A block of the reserve, or null when it has no room.
    fn take(&self, layout: Layout) -> *mut u8 {
        self.rest().take_below(BYTES, layout)
    }

    /// A block of what comes before the system's allocator, or null when that has no room.
    fn take_first(&self, layout: Layout) -> *mut u8 {
        if self.has_tasks.load(Ordering::Relaxed) {
            return self.tasks().take_below(TASK_BYTES, layout);
        }
        match self.first.load(Ordering::Relaxed) {
            0 => ptr::null_mut(),
            limit => self.rest().take_below(limit, layout),
        }
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
        match self.part_of(block) {
            Some((part, offset)) => part.give_back(offset, layout.size()),
            // SAFETY: not of the reserve, so the system's, with the layout that the caller promises.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        match self.part_of(block) {
            Some((part, offset)) if part.resize(offset, layout.size(), new_size) => return block,
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
        static RESERVE: Reserve = Reserve::new();
        static ALL: WithReserve = WithReserve::new(&RESERVE);
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
        static RESERVE: Reserve = Reserve::new();
        static ALL: WithReserve = WithReserve::new(&RESERVE);
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        let is_reserves = |block: *mut u8| ALL.part_of(block).is_some();
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

    #[test]
    fn a_forked_task_has_a_part_of_its_own_and_beyond_it_the_systems_memory_and_the_rest() {
        static RESERVE: Reserve = Reserve::new();
        static ALL: WithReserve = WithReserve::new(&RESERVE);
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        ALL.begin_with(64);
        // SAFETY: a size that is not 0.
        let before = unsafe { ALL.alloc(layout(48)) };
        ALL.begin_tasks();
        // SAFETY: as above.
        let (own, beyond) = unsafe { (ALL.alloc(layout(64)), ALL.alloc(layout(TASK_BYTES))) };
        let is_tasks = |block| {
            let part = ALL.part_of(block).map(|(part, _)| part.bytes);
            part == Some(ALL.tasks().bytes)
        };
        assert!(!is_tasks(before) && is_tasks(own) && ALL.part_of(beyond).is_none());
        // SAFETY: as it was taken: the last of its part, which has no room for more than all of it.
        let moved = unsafe { ALL.realloc(own, layout(64), TASK_BYTES + 1) };
        assert!(!is_tasks(moved));
        // SAFETY: as it was taken, the last of the rest.
        let grown = unsafe { ALL.realloc(before, layout(48), 96) };
        assert_eq!(
            (grown, ALL.take(layout(8))),
            (before, before.wrapping_add(96))
        );
        // SAFETY: as each was taken.
        unsafe {
            ALL.dealloc(beyond, layout(TASK_BYTES));
            ALL.dealloc(moved, layout(TASK_BYTES + 1));
        }
    }

    /// Under Miri (`make test-miri`) in many orders: it reports a block that two threads have, and one used too long.
    #[test]
    fn blocks_of_several_threads_are_apart_whatever_is_given_back_and_grown() {
        static RESERVE: Reserve = Reserve::new();
        static ALL: WithReserve = WithReserve::new(&RESERVE);
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
