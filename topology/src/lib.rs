//! The core of gpu-numa-bind: the machine model, localities by evidence, and the binding decision.
//!
//! Pure: no `unsafe`, no environment, no globals, no log.  Callers pass roots and values.

#![forbid(unsafe_code)]

pub mod allowed;
pub mod binding;
pub mod crossings;
pub mod firmware;
pub mod locality;
pub mod machine;
pub mod metrics;
pub mod names;
pub mod nics;
pub mod nvlink;
pub mod option;
pub mod path;
pub mod pci;
pub mod quantity;
pub mod set;
pub mod snapshot;
pub mod sysfs;
pub mod text;
pub mod vendor;
pub mod visible;
pub mod words;
