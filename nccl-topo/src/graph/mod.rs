//! What NCCL makes of a machine: its graph, and the paths between GPUs.
//!
//! Facts are those of NCCL 2.30.7 (tag v2.30.7-1, below `src/graph/`).  The words are NCCL's, not
//! nvidia-smi's: SYS means "under another `<cpu>` element", which is a NUMA node unless a topology file
//! says otherwise.
//!
//! Modelled: one host or a part of one, one rank a GPU or part of one (MLOPart), network devices, P2P working wherever NCCL
//! allows it.

mod nodes;
mod path_type;
mod paths;
mod search;

pub use nodes::{Graph, Link, LinkType, Net, Node, NodeId, PlaceKind};
pub use path_type::PathType;
pub(crate) use paths::p2p_limit;
pub use paths::{Hop, Path, Paths, Reach};

pub(crate) use search::NOTHING_GB_S;
pub use search::{Channels, Line, Search, Searches, hops};
