//! NCCL's logger, one line a call.

use std::ffi::CString;

use super::sys::{ALL_SUBSYSTEMS, LOG_INFO, Logger};

/// The logger that NCCL gave.
#[derive(Debug, Clone, Copy)]
pub struct NcclLog(Logger);

impl NcclLog {
    /// Keeps NCCL's logger; one that is missing says nothing.
    ///
    /// # Safety
    /// `logger` is null or NCCL's, and stays callable as long as the result is used.
    pub unsafe fn new(logger: Logger) -> Self {
        Self(logger)
    }

    /// Where NCCL's logger is; none where it gave none.
    pub(super) fn address(self) -> Option<*mut std::ffi::c_void> {
        self.0.map(|logger| logger as *mut std::ffi::c_void)
    }

    /// Says a line where `NCCL_DEBUG` is `INFO` or more, whatever subsystems are chosen.
    ///
    /// NCCL cuts a line at 1,024 bytes (`debug.cc`).
    pub fn info(&self, line: &str) {
        let clean: Vec<u8> = line.bytes().filter(|byte| *byte != 0).collect();
        let (Some(logger), Ok(text)) = (self.0, CString::new(clean)) else {
            return;
        };
        // SAFETY: NCCL's own function; the format takes one string, which outlives the call and is never
        // itself the format.
        unsafe {
            logger(
                LOG_INFO,
                ALL_SUBSYSTEMS,
                c"gpu-numa".as_ptr(),
                0,
                c"%s".as_ptr(),
                text.as_ptr(),
            );
        }
    }
}
