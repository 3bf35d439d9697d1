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

    /// Whether it is `word`, which holds no NUL; a null pointer is the empty string.
    #[inline]
    pub fn is(self, word: &[u8]) -> bool {
        self.after(word).is_some_and(Self::is_empty)
    }

    /// What follows `word`, which holds no NUL; none where the string does not begin with it.
    ///
    /// Byte by byte: each is mostly the expected one, so that nothing waits for the string's end to be found first.
    #[inline]
    pub fn after(self, word: &[u8]) -> Option<Self> {
        if self.start.is_null() {
            return word.is_empty().then_some(self);
        }
        let mut rest = self.start.cast::<u8>();
        for byte in word {
            // SAFETY: all bytes before this one were bytes of `word`, so none was the NUL, and this is one of the string's.
            if unsafe { rest.read() } != *byte || *byte == 0 {
                return None;
            }
            // SAFETY: it was not the NUL, so there is one more.
            rest = unsafe { rest.add(1) };
        }
        Some(Self {
            start: rest.cast(),
            lives: PhantomData,
        })
    }

    #[inline]
    fn is_empty(self) -> bool {
        // SAFETY: not null, and who made it promised the rest.
        self.start.is_null() || unsafe { self.start.read() } == 0
    }
}

impl<'a> From<&'a CStr> for Text<'a> {
    fn from(string: &'a CStr) -> Self {
        // SAFETY: a `CStr` ends in a NUL, and lives as long.
        unsafe { Self::new(string.as_ptr()) }
    }
}
