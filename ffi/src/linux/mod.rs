//! Linux system calls that std lacks: affinity, memory policy, pages and their nodes, device access, a shared page.

pub mod access;
pub mod affinity;
pub mod asked;
pub mod cached;
pub mod confine;
pub mod counters;
pub mod file;
pub mod fork;
pub mod limit;
pub mod mempolicy;
pub mod migrate;
pub mod mounts;
pub mod named;
pub mod pages;
pub mod process;
pub mod sealed;
pub mod shared;
pub mod users_file;
pub mod written;
