//! What joins the decision (`topology`), the C boundary (`ffi`) and the file system.
//!
//! A launcher reads the host ([`host`]), observes a task ([`observe`]), applies what was decided for it ([`apply`])
//! and sets its environment ([`variables`], [`environment`], [`nccl`]).  The Slurm plugin, the NCCL plugin and `gpu-numa` are
//! launchers: each adds its own hooks and its own words.  Nothing here prints or logs.

#![forbid(unsafe_code)]

pub mod apply;
pub mod environment;
pub mod frameworks;
pub mod heal;
pub mod host;
pub mod job;
pub mod metrics;
pub mod nccl;
pub mod nics;
pub mod numa_maps;
pub mod observe;
pub mod own_list;
pub mod process;
pub mod processes;
pub mod rank;
pub mod shared;
pub mod site;
pub mod used;
pub mod variables;
