//! Commands of `gpu-numa` as a person runs them.

// For clippy helpers in such a module are tests too.
#[cfg(test)]
#[path = "../common/mod.rs"]
mod common;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod nccl;
#[cfg(test)]
mod nvml;
#[cfg(test)]
mod show;
#[cfg(test)]
mod verify;
