//! NCCL's topology file: writing the corrected one, reading any as NCCL reads it, and saying what
//! NCCL makes of it.
//!
//! Facts are those of NCCL 2.30.7 (tag v2.30.7-1); a file of its source tree is named as `graph/xml.cc`,
//! below `src/`.

#![forbid(unsafe_code)]

pub mod compare;
pub mod crossings;
pub mod element;
pub mod emit;
pub mod graph;
pub mod model;
pub mod predict;
pub mod reader;
#[cfg(test)]
mod testing;
pub mod traffic;
