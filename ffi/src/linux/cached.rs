//! On which nodes the cached pages of a file are, without reading any of it in.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use rustix::fs::Advice;

use crate::errno::{Errno, check};
use crate::linux::migrate::{Page, locate_pages, page_bytes};

/// What of a part of a file is cached, in bytes of the file: its last page counts as far as the part reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CachedPages {
    /// By node, ascending.
    pub by_node: Vec<(u32, u64)>,
    /// Bytes in pages that were cached, and whose node the kernel did not say: dropped meanwhile, or cut off the file.
    pub unknown: u64,
}

/// How many bytes of this part of a file are in cached pages: of a file with holes, in time that grows with what is cached
/// and not with its size.  `None` where the kernel does not say: before Linux 6.5, on file systems of huge pages, and since
/// 6.14 for files that are not the caller's to write.
#[must_use]
pub fn count_cached(file: &File, offset: u64, length: u64) -> Option<u64> {
    use std::os::fd::AsRawFd as _;
    /// `__NR_cachestat` of `asm-generic/unistd.h`, Linux 6.5; the same on every architecture that this is built for.
    const CACHESTAT: libc::c_long = 451;
    let range: [u64; 2] = [offset, length];
    // `struct cachestat` of `linux/mman.h`: nr_cache, nr_dirty, nr_writeback, nr_evicted, nr_recently_evicted.
    let mut pages = [0u64; 5];
    // SAFETY: the kernel reads `range` and writes `pages`, which have the sizes of its structures.
    let status = unsafe {
        libc::syscall(
            CACHESTAT,
            file.as_raw_fd(),
            range.as_ptr(),
            pages.as_mut_ptr(),
            0 as libc::c_uint,
        )
    };
    check(status).ok()?;
    let [cached, ..] = pages;
    Some(cached.saturating_mul(page_bytes() as u64))
}

/// A part of a file, mapped so that the kernel can be asked about it.
struct Window {
    start: NonNull<libc::c_void>,
    length: usize,
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, and nothing refers to its content.
        unsafe { libc::munmap(self.start.as_ptr(), self.length) };
    }
}

/// The cached pages of `length` bytes of `file` from `offset`, which is a multiple of a page.
///
/// `mincore` says which pages are cached; these, and no others, are entered into a page table of this process, where
/// `move_pages` sees their node.  Reading ahead is off for it.  A page that the kernel drops between the two questions is
/// read in again: one at most of each run.
///
/// Since Linux 5.2 `mincore` tells only those who own the file or may write it, and calls all of another file's pages cached
/// (`can_do_mincore`, mm/mincore.c): do not ask about such files.
///
/// # Errors
/// `ENODEV` for a file system whose files cannot be mapped, `ENOMEM`, and those of [`locate_pages`].
pub fn find_cached(file: &File, offset: u64, length: usize) -> Result<CachedPages, Errno> {
    let window = map(file, offset, length)?;
    let page = page_bytes();
    let mut resident = vec![0u8; length.div_ceil(page)];
    // SAFETY: the range is the window, and there is a byte for each of its pages.
    check(libc::c_long::from(unsafe {
        libc::mincore(window.start.as_ptr(), length, resident.as_mut_ptr())
    }))?;
    let mut addresses = Vec::new();
    let mut index = 0;
    while index < resident.len() {
        let rest = resident.get(index..).unwrap_or_default();
        let is_cached = |byte: &&u8| **byte & 1 == 1;
        let run = rest.iter().take_while(is_cached).count();
        if run == 0 {
            index += 1;
            continue;
        }
        let start = window.start.as_ptr() as usize + index * page;
        enter(start, run, page);
        addresses.extend((0..run).map(|number| start + number * page));
        index += run;
    }
    let mut cached = CachedPages::default();
    if addresses.is_empty() {
        return Ok(cached);
    }
    let end = window.start.as_ptr() as usize + length;
    for (address, found) in addresses.iter().zip(locate_pages(0, &addresses)?) {
        let bytes = page.min(end.saturating_sub(*address)) as u64;
        match found {
            Page::On(node) => match cached.by_node.iter_mut().find(|(own, _)| *own == node) {
                Some((_, all)) => *all += bytes,
                None => cached.by_node.push((node, bytes)),
            },
            Page::Nowhere | Page::Shared | Page::Busy | Page::NoRoom | Page::Left(_) => {
                cached.unknown += bytes;
            }
        }
    }
    cached.by_node.sort_unstable();
    Ok(cached)
}

fn map(file: &File, offset: u64, length: usize) -> Result<Window, Errno> {
    use std::os::fd::AsRawFd as _;
    let offset = libc::off_t::try_from(offset).map_err(|_| Errno(libc::EOVERFLOW))?;
    // SAFETY: a mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            offset,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    let start = NonNull::new(start).ok_or(Errno(libc::ENOMEM))?;
    // No reading ahead, and no mark on the pages that somebody used them.
    // SAFETY: the range is the mapping just made; the advice changes no contents.
    unsafe { libc::madvise(start.as_ptr(), length, libc::MADV_RANDOM) };
    Ok(Window { start, length })
}

/// Enters a run of cached pages into the page table.  A page that is cut off the file meanwhile is an error of the call, where
/// reading it would end the process.
fn enter(start: usize, pages: usize, page: usize) {
    /// `MADV_POPULATE_READ` of `linux/mman.h`, Linux 5.14.
    const POPULATE_READ: libc::c_int = 22;
    // SAFETY: the range lies in a window; the advice changes no contents.
    if unsafe { libc::madvise(start as *mut libc::c_void, pages * page, POPULATE_READ) } == 0 {
        return;
    }
    // An older kernel, or a page that cannot be had: one byte of each page, copied by the kernel.
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let mut byte = 0u8;
    for number in 0..pages {
        let to = libc::iovec {
            iov_base: (&raw mut byte).cast(),
            iov_len: 1,
        };
        let from = libc::iovec {
            iov_base: (start + number * page) as *mut libc::c_void,
            iov_len: 1,
        };
        // SAFETY: `to` is one live byte; what is read is checked by the kernel, which gives an error for what is not there.
        unsafe { libc::process_vm_readv(pid, &raw const to, 1, &raw const from, 1, 0) };
    }
}

/// Has the kernel drop the cached pages of a file that no process has mapped, once they are written to disk.
///
/// # Errors
/// What `fdatasync` and `posix_fadvise` say; `ESPIPE` for a pipe.
pub fn evict(file: &File) -> io::Result<()> {
    // Pages that are still to be written stay.
    file.sync_data()?;
    Ok(rustix::fs::fadvise(
        file.as_fd(),
        0,
        None,
        Advice::DontNeed,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    fn sum(cached: &CachedPages) -> u64 {
        cached.by_node.iter().map(|(_, bytes)| bytes).sum()
    }

    #[test]
    fn what_was_written_is_cached_until_it_is_evicted_and_asking_reads_nothing_in() {
        // Beside the program: /tmp may be memory, which is never dropped.
        let folder = std::env::current_exe().unwrap();
        let mut file = tempfile(folder.parent().unwrap());
        let page = page_bytes();
        file.write_all(&vec![1; 100 * page + 1]).unwrap();
        let length = 100 * page + 1;
        let all = find_cached(&file, 0, length).unwrap();
        assert_eq!((sum(&all), all.unknown), (length as u64, 0));
        let counted = count_cached(&file, 0, length as u64);
        assert!(matches!(counted, None | Some(1..)), "{counted:?}");
        evict(&file).unwrap();
        for _ in 0..2 {
            assert_eq!(
                find_cached(&file, 0, length).unwrap(),
                CachedPages::default()
            );
        }
        let tail = find_cached(&file, 64 * page as u64, 36 * page + 1).unwrap();
        assert_eq!(tail, CachedPages::default());
        let mut start = [0; 1];
        let mut reader = &file;
        std::io::Seek::rewind(&mut reader).unwrap();
        reader.read_exact(&mut start).unwrap();
        assert!(sum(&find_cached(&file, 0, length).unwrap()) > 0);
    }

    /// A file without a name.
    fn tempfile(folder: &std::path::Path) -> File {
        let path = folder.join(format!("cached-{}", std::process::id()));
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(&path);
        std::fs::remove_file(path).unwrap();
        file.unwrap()
    }
}
