//! The running process and kernel.

use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Ends the process at once, without running exit handlers.
///
/// For a forked child that has not called exec: handlers and buffers belong to its parent.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit has no precondition and does not return.
    unsafe { libc::_exit(status) }
}

/// The kernel's release (`6.1.0-56-amd64`); empty where `uname` fails.
pub fn read_kernel_release() -> String {
    // SAFETY: utsname is plain arrays of bytes, for which zeros are a value.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer is a live utsname, which the call fills.
    if unsafe { libc::uname(&raw mut names) } != 0 {
        return String::new();
    }
    names
        .release
        .iter()
        .take_while(|c| **c != 0)
        // c_char is signed on x86_64 and unsigned on aarch64.
        .map(|c| char::from(u8::from_ne_bytes(c.to_ne_bytes())))
        .collect()
}

/// The process's own environment, as libc has it; null where `name` is not set.
///
/// The pointer holds until somebody changes that variable.
pub fn raw_environment(name: &CStr) -> *const c_char {
    // SAFETY: a string that outlives the call.
    unsafe { libc::getenv(name.as_ptr()) }
}

/// The file of the shared library that this code is part of, as it was loaded; absent where the dynamic loader
/// has no absolute path of it.
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
    // SAFETY: geteuid has no precondition and cannot fail.
    unsafe { libc::geteuid() }
}

/// Milliseconds of the monotonic clock, to the tick: a few nanoseconds to ask for.
pub fn coarse_millis() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC_COARSE) / 1000
}

/// Microseconds of the monotonic clock.
pub fn monotonic_micros() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC)
}

fn read_clock(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the buffer is a live timespec, which the call fills.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000
        + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}
