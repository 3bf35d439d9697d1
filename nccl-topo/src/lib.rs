//! nccl-topo
