//! C declarations and safe calls to them: SPANK, and what of Linux std lacks.
//!
//! The only crate besides the plugins' entry files that holds `unsafe`.  It knows nothing of machines
//! or bindings: sets travel as words, decisions stay with the callers.

#[cfg(feature = "cuda")]
pub mod cuda;
pub mod errno;
pub mod linux;
#[cfg(feature = "nvml")]
pub mod nvml;
pub mod spank;
