//! On which nodes pages of memory are, and moving them (`move_pages(2)`).

use std::ffi::c_int;

use crate::errno::{Errno, check};

/// What the kernel says of one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// It is on this node.
    On(u32),
    /// It is not in memory, or not in the process's page table (`ENOENT`, and `EFAULT` for the zero page and for device memory).
    Nowhere,
    /// It was not moved, because other processes have it too (`EACCES`).
    Shared,
    /// It was not moved, because it is pinned, or was in use (`EBUSY`, `EAGAIN`).
    Busy,
    /// It was not moved, because the node has no room (`ENOMEM`).
    NoRoom,
    /// It was not moved, for another reason.
    Left(Errno),
}

impl Page {
    fn of(status: c_int) -> Self {
        if let Ok(node) = u32::try_from(status) {
            return Self::On(node);
        }
        match -status {
            libc::ENOENT | libc::EFAULT => Self::Nowhere,
            libc::EACCES => Self::Shared,
            libc::EBUSY | libc::EAGAIN => Self::Busy,
            libc::ENOMEM => Self::NoRoom,
            other => Self::Left(Errno(other)),
        }
    }
}

/// The size of a small page, in bytes.
pub fn page_bytes() -> usize {
    // SAFETY: sysconf has no precondition.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

/// Where the pages at `addresses` of process `pid` are; 0 is the calling process.  No page is read in for it.
///
/// # Errors
/// `ESRCH` where the process has ended, `EPERM` for another user's and under a seccomp filter that denies it (Docker's,
/// without `CAP_SYS_NICE`), `ENOSYS` on a kernel without NUMA.
pub fn locate_pages(pid: u32, addresses: &[usize]) -> Result<Vec<Page>, Errno> {
    call(pid, addresses, None)
}

/// Moves the pages at `addresses` of process `pid` to `node`, those that no other process has; what became of each is asked
/// for afterwards, because the kernel's own word ends at the first page that it cannot move.
///
/// # Errors
/// As [`locate_pages`]; `EACCES` where the process's cpuset does not allow `node`, `ENODEV` where there is no such node.
pub fn move_pages(pid: u32, addresses: &[usize], node: u32) -> Result<Vec<Page>, Errno> {
    let told = match call(pid, addresses, Some(node)) {
        Ok(told) => told,
        // Of the call as a whole, at the first page for which there is no room (`do_pages_move`, mm/migrate.c).
        Err(Errno(libc::ENOMEM)) => vec![Page::NoRoom; addresses.len()],
        Err(why) => return Err(why),
    };
    let now = call(pid, addresses, None)?;
    let pairs = told.into_iter().zip(now);
    Ok(pairs
        .map(|(told, now)| match (told, now) {
            (Page::On(_) | Page::Nowhere, Page::On(on)) if on != node => Page::Busy,
            (why, Page::On(on)) if on != node => why,
            (_, now) => now,
        })
        .collect())
}

fn call(pid: u32, addresses: &[usize], node: Option<u32>) -> Result<Vec<Page>, Errno> {
    /// `MPOL_MF_MOVE` of `linux/mempolicy.h`: pages that this process alone has.
    const MOVE: c_int = 1 << 1;
    let pid = libc::pid_t::try_from(pid).map_err(|_| Errno(libc::ESRCH))?;
    let nodes: Option<Vec<c_int>> = node.map(|node| {
        let node = c_int::try_from(node).unwrap_or(c_int::MAX);
        vec![node; addresses.len()]
    });
    // What the kernel does not come to stays as it is here.
    let mut status = vec![-libc::EBUSY; addresses.len()];
    let to = nodes
        .as_ref()
        .map_or(std::ptr::null(), |nodes| nodes.as_ptr());
    // SAFETY: the three lists are as long as is said, the addresses are numbers to the kernel, and only `status` is written.
    let done = check(unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            pid,
            addresses.len(),
            addresses.as_ptr(),
            to,
            status.as_mut_ptr(),
            MOVE,
        )
    });
    match done {
        // Of a process that has ended and whose end was not asked for yet (`find_mm_struct`, mm/migrate.c).
        Err(Errno(libc::EINVAL)) => return Err(Errno::NO_PROCESS),
        other => other?,
    };
    Ok(status.into_iter().map(Page::of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::pages::Pages;

    #[test]
    fn written_pages_are_on_a_node_and_others_nowhere() {
        let mut pages = Pages::map(1 << 20).unwrap();
        pages.words_mut()[0] = 1;
        let start = pages.words().as_ptr() as usize;
        let far = start + (4 << 20);
        let found = locate_pages(0, &[start, far]).unwrap();
        let Page::On(node) = found[0] else {
            panic!("{found:?}")
        };
        assert_eq!(found[1], Page::Nowhere);
        assert_eq!(move_pages(0, &[start], node).unwrap(), [Page::On(node)]);
        assert_eq!(pages.words()[0], 1);
    }

    #[test]
    fn a_process_that_is_not_there_and_a_node_that_is_not_are_errors() {
        assert_eq!(locate_pages(u32::MAX, &[]), Err(Errno(libc::ESRCH)));
        let pages = Pages::map(1).unwrap();
        let start = pages.words().as_ptr() as usize;
        assert_eq!(move_pages(0, &[start], 1000), Err(Errno(libc::ENODEV)));
    }
}
