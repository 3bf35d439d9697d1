//! NCCL's topology file: writing the corrected one, reading any as NCCL reads it, and saying what
//! NCCL makes of it.
//!
//! Facts are those of NCCL 2.30.7 (tag v2.30.7-1) where [`rules`] does not say otherwise; a file of its source
//! tree is named as `graph/xml.cc`, below `src/`.

#![forbid(unsafe_code)]

pub mod capability;
pub mod compare;
pub mod conf;
pub mod crossings;
pub mod element;
pub mod emit;
pub mod graph;
pub mod graph_file;
mod link;
pub mod model;
pub mod outcome;
pub mod predict;
pub mod processor;
pub mod ranks;
pub mod reader;
pub mod route;
pub mod rules;
pub mod settings;
pub mod site;
#[cfg(test)]
mod testing;
pub mod traffic;
