//! What tests of several crates share.  The rest of this crate is its tests: `tests/abi` runs the real
//! plugin in small C hosts.

pub mod build;
pub mod hung_fs;
pub mod nics;
pub mod optimum;
pub mod places;
pub mod stand_in_nvml;
