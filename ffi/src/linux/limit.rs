//! A limit to how long the whole process may take.

use std::ffi::c_int;
use std::sync::OnceLock;

use crate::linux::process::exit_now;

/// What is said when the time is up, and the exit status.
static LAST_WORD: OnceLock<(&'static str, i32)> = OnceLock::new();

/// Ends the process with `status` after `seconds`, whatever it waits for, with `line` on standard error.
///
/// A process that waits where only a fatal signal reaches it (a file server that does not answer) ends without the line, a second
/// later.  A later call changes the time, not what is said.
pub fn end_after(seconds: u32, line: &'static str, status: i32) {
    let _ = LAST_WORD.set((line, status));
    let handler: extern "C" fn(c_int) = on_alarm;
    // SAFETY: sigaction is numbers and a set, for which zeros are a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as libc::sighandler_t;
    // The second alarm, which comes where the line cannot be written, is the kernel's to act on.
    action.sa_flags = libc::SA_RESETHAND | libc::SA_NODEFER;
    // SAFETY: a handler that only makes calls that are safe in one (signal-safety(7)), and no place for the former.
    unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) };
    // SAFETY: as above, zeros are a value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: a set of this frame.
    unsafe { libc::sigemptyset(&raw mut set) };
    // SAFETY: as above.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGALRM) };
    // SAFETY: as above; the parent may have blocked the signal.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
    // SAFETY: alarm has no precondition.
    unsafe { libc::alarm(seconds) };
}

extern "C" fn on_alarm(_signal: c_int) {
    // SAFETY: alarm has no precondition.
    unsafe { libc::alarm(1) };
    let (line, status) = LAST_WORD.get().copied().unwrap_or(("", 2));
    // SAFETY: a string of that length; what cannot be written is lost.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
    exit_now(status);
}
