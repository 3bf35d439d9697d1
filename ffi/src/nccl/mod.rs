//! NCCL's plugin interfaces: [`sys`] declares the tables, the rest reads what NCCL hands over.
//!
//! Facts are those of NCCL 2.30.7 (`src/include/plugin/`), and of the libraries of 2.31.2 and 2.32.3 for profiler
//! v7.

mod event;
mod log;
pub mod sys;
mod version;

pub use event::{
    ApiCall, Collective, Event, Peer, SpecialCollective, SpecialWay, V4, V5, V6, V7, Version,
};
pub use log::NcclLog;
pub use version::{is_rccl_loaded, read_version};

use std::ffi::{CStr, c_char};
use std::marker::PhantomData;

/// A string of NCCL's, not looked at before it is asked for: most events are of no interest.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    start: *const c_char,
    lives: PhantomData<&'a CStr>,
}

impl<'a> Text<'a> {
    /// Keeps where it is.
    ///
    /// # Safety
    /// `start` is null or a NUL-terminated string that outlives `'a`.
    pub(crate) unsafe fn new(start: *const c_char) -> Self {
        Self {
            start,
            lives: PhantomData,
        }
    }

    /// The string; empty for a null pointer.
    pub fn read(self) -> &'a CStr {
        if self.start.is_null() {
            return c"";
        }
        // SAFETY: not null, and who made it promised the rest.
        unsafe { CStr::from_ptr(self.start) }
    }
}
