//! Slurm's loggers, one line a call.

use std::ffi::CString;

use super::sys;

/// Where a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// The user's stderr, as it is.
    User,
    /// slurmd's log as an error.
    Error,
    /// slurmd's log.
    Info,
    /// slurmd's log, when it is asked for detail.
    Debug,
}

/// Hands one line to Slurm; a NUL in it ends it, any other control character becomes a blank.
pub fn write_line(to: To, line: &str) {
    let clean: String = line
        .chars()
        .take_while(|c| *c != '\0')
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let Ok(text) = CString::new(clean) else {
        return;
    };
    let function = match to {
        To::User => sys::slurm_spank_log,
        To::Error => sys::slurm_error,
        To::Info => sys::slurm_info,
        To::Debug => sys::slurm_debug,
    };
    // SAFETY: the format takes one string, and the line is one that outlives the call; it is never
    // itself the format.
    unsafe { function(c"%s".as_ptr(), text.as_ptr()) };
}
