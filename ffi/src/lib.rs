//! C declarations and safe calls to them: SPANK, NCCL's plugin tables, and what of Linux std lacks.
//!
//! The only crate besides the plugins' and the program's entry files that holds `unsafe`.  It knows nothing of machines
//! or bindings: sets travel as words, decisions stay with the callers.

pub mod errno;
pub mod exec;
pub mod guard;
pub mod linux;
pub mod loaded;
pub mod nccl;
#[cfg(feature = "nvml")]
pub mod nvml;
pub mod reserve;
#[cfg(feature = "runtime")]
pub mod runtime;
pub mod spank;
