//! The running process and kernel.

use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::system::uname;
use rustix::time::{ClockId, clock_gettime};

/// Ends the process at once, without running exit handlers.
///
/// For a forked child that has not called exec: handlers and buffers belong to its parent.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit has no precondition and does not return.
    unsafe { libc::_exit(status) }
}

/// The kernel's release (`6.1.0-56-amd64`).
pub fn read_kernel_release() -> String {
    uname().release().to_string_lossy().into_owned()
}

/// The process's own environment, as libc has it; null where `name` is not set.
///
/// The pointer holds until somebody changes that variable.
pub fn raw_environment(name: &CStr) -> *const c_char {
    // SAFETY: a string that outlives the call.
    unsafe { libc::getenv(name.as_ptr()) }
}

/// The file of the shared library that this code is part of, as it was loaded; none where the dynamic loader has
/// no absolute path of it.
pub fn own_library() -> Option<PathBuf> {
    // SAFETY: Dl_info is pointers, for which zeros are a value.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    let here = own_library as *const () as *const libc::c_void;
    // SAFETY: an address of this library, and a live place to fill in.
    let found = unsafe { libc::dladdr(here, &raw mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the loader's own string, which lives as long as the library.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    let path = PathBuf::from(OsStr::from_bytes(name.to_bytes()));
    path.is_absolute().then_some(path)
}

/// The user whose rights the process has.
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A number of the calling thread that no other has while it runs, and never 0; one that has ended may leave it to
/// another.
#[inline]
pub fn thread_number() -> u64 {
    // SAFETY: it has no precondition.
    unsafe { libc::pthread_self() }
}

/// Milliseconds of the monotonic clock, to the tick: a few nanoseconds to ask for.
pub fn coarse_millis() -> u64 {
    read_clock(ClockId::MonotonicCoarse) / 1000
}

/// Microseconds of the monotonic clock.
pub fn monotonic_micros() -> u64 {
    read_clock(ClockId::Monotonic)
}

fn read_clock(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000
        + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}
