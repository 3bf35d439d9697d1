//! Slurm's configuration and its numbering of cores, as pure text and sets.
//!
//! Callers read the files; nothing here opens one.

#![forbid(unsafe_code)]

pub mod config;
pub mod cores;
pub mod hostlist;
pub mod node;
pub mod plugstack;
pub mod release;
