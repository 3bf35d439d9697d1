//! Becoming another program without a trace: with the signals and descriptors that this one was started with.
//!
//! Rust's runtime ignores `SIGPIPE` and opens what is closed of the three standard descriptors before `main`, and its own
//! `exec` sets `SIGPIPE` to its default and unblocks all signals (`library/std`, 1.88).  A program that did something else by
//! purpose would find that undone.

use std::ffi::{CString, OsStr, OsString, c_char};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicU8, Ordering};

/// Whether `SIGPIPE` was ignored; above it a bit for each standard descriptor that was closed.
static CAME_WITH: AtomicU8 = AtomicU8::new(0);
const IGNORED_PIPE: u8 = 1;
/// Of standard input, output and error.
const CLOSED: [u8; 3] = [2, 4, 8];

/// Takes note of what the process was started with; to be called before Rust's runtime, from the program's own `.init_array`.
pub extern "C" fn note_start() {
    let mut came = 0;
    // SAFETY: sigaction is plain data, for which zeros are a value; with no new action the call only fills in the old one.
    let action = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut action);
        action.sa_sigaction
    };
    if action == libc::SIG_IGN {
        came |= IGNORED_PIPE;
    }
    for (descriptor, bit) in (0..).zip(CLOSED) {
        // SAFETY: asks for a descriptor's flags.
        if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0 {
            came |= bit;
        }
    }
    CAME_WITH.store(came, Ordering::Relaxed);
}

/// Becomes `program`, found as a shell finds it, with this process's environment and `variables`, and with the signals and
/// descriptors that [`note_start`] found.  Comes back only where it cannot be started, with why.
pub fn exec(program: &OsStr, arguments: &[OsString], variables: &[(&str, String)]) -> io::Error {
    let words = std::iter::once(program).chain(arguments.iter().map(OsString::as_os_str));
    let Some(words) = words.map(to_c).collect::<Option<Vec<CString>>>() else {
        return io::ErrorKind::InvalidInput.into();
    };
    let is_kept = |name: &OsStr| !variables.iter().any(|(set, _)| name == OsStr::new(set));
    let kept = std::env::vars_os().filter(|(name, _)| is_kept(name));
    let set = variables
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let environment: Option<Vec<CString>> = kept
        .chain(set)
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            CString::new(name.into_vec()).ok()
        })
        .collect();
    let Some(environment) = environment else {
        return io::ErrorKind::InvalidInput.into();
    };
    let came = CAME_WITH.load(Ordering::Relaxed);
    let action = if came & IGNORED_PIPE != 0 {
        libc::SIG_IGN
    } else {
        libc::SIG_DFL
    };
    let Some(first) = words.first() else {
        return io::ErrorKind::InvalidInput.into();
    };
    let (argv, envp) = (pointers(&words), pointers(&environment));
    // SAFETY: an action that the kernel knows, flags of descriptors, and arrays of strings that end with a null and live
    // until the call comes back, if it does.
    unsafe {
        libc::signal(libc::SIGPIPE, action);
        for (descriptor, bit) in (0..).zip(CLOSED) {
            if came & bit != 0 {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
        libc::execvpe(first.as_ptr(), argv.as_ptr(), envp.as_ptr());
    }
    let error = io::Error::last_os_error();
    // SAFETY: as above; what is said of the error is not to end this process.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    error
}

fn to_c(word: &OsStr) -> Option<CString> {
    CString::new(word.as_bytes()).ok()
}

/// The strings as C has them, with a null at the end.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    let all = strings.iter().map(|string| string.as_ptr());
    all.chain([std::ptr::null()]).collect()
}
