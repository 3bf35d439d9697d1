//! Slurm's configuration as pure text and sets, and Slurm's rules by release.
//!
//! Callers read the files and word what is wrong; nothing here opens a file.

#![forbid(unsafe_code)]

pub mod block_map;
pub mod cluster;
pub mod config;
pub mod cores;
pub mod demands;
pub mod fences;
pub mod gres;
pub mod hostlist;
pub mod keys;
pub mod mig;
pub mod node;
mod objects;
mod options;
pub mod parameters;
pub mod plugins;
pub mod plugstack;
pub mod registration;
pub mod release;
pub mod rules;
pub mod step;
pub mod values;
