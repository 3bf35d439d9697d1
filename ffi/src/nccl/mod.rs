//! NCCL's plugin interfaces: [`sys`] declares the tables, the rest reads what NCCL hands over.
//!
//! Facts are those of NCCL 2.30.7 (`src/include/plugin/`), and of the libraries of 2.31.2 and 2.32.3 for profiler
//! v7.

mod event;
mod log;
pub mod sys;
mod version;

pub use event::{ApiCall, Collective, Event, Peer, SpecialCollective, V4, V5, V6, V7, Version};
pub use log::NcclLog;
pub use version::read_version;

use std::ffi::{CStr, c_char};

/// A string of NCCL's; empty for a null pointer.
///
/// # Safety
/// `text` is null or a NUL-terminated string that outlives `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char) -> &'a CStr {
    if text.is_null() {
        return c"";
    }
    // SAFETY: not null, and the caller promises the rest.
    unsafe { CStr::from_ptr(text) }
}
