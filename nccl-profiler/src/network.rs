//! Which network devices NCCL may have in this job, and what its settings say of paths.
//!
//! NCCL always has one; which, it tells no plugin.  It decides in which order NCCL takes the CPUs, and with fast ones
//! near the GPUs whether it cuts the host into several.

use std::env::var;

use ffi::loaded::has_ibverbs;
use nccl_topo::graph::Reach;
use nccl_topo::model::nets::{NetDevice, rdma_ports};
use nccl_topo::settings;
use topology::machine::Machine;

/// Where the kernel shows its RDMA devices, if it has any.
const RDMA_DEVICES: &str = "/sys/class/infiniband";

/// What the job's settings say of P2P, shared memory and the network.
pub(crate) fn reach() -> Reach {
    settings::reach(|name| var(name).ok())
}

/// Whether NCCL asks NVML for P2P and heeds the answer (`graph/paths.cc` `ncclTopoCheckP2p`).
pub(crate) fn minds_denied_p2p() -> bool {
    let word = var("NCCL_IGNORE_DISABLED_P2P").unwrap_or_default();
    settings::number(&word) != 2
}

/// The network devices that NCCL may have, one list for each possibility, the likeliest first.
pub(crate) fn candidates(machine: &Machine) -> Vec<Vec<NetDevice>> {
    let word = |name: &str| var(name).unwrap_or_default().trim().to_owned();
    let rdma = rdma_ports(machine);
    // `transport/net_ib/init.cc`: whatever is not 0.
    let has_no_ib = settings::number(&word("NCCL_IB_DISABLE")) != 0;
    let takes_sockets = has_no_ib || word("NCCL_NET").eq_ignore_ascii_case("socket");
    let plugin = word("NCCL_NET_PLUGIN");
    let may_have_plugin = !plugin.is_empty() && plugin != "none";
    // NCCL loads libibverbs before it starts a communicator, where it looks for RDMA at all.
    let has_rdma = || has_ibverbs() && std::fs::exists(RDMA_DEVICES).unwrap_or_default();
    let may_have_rdma = !takes_sockets && (may_have_plugin || has_rdma());
    let mut all = Vec::new();
    if may_have_rdma && !rdma.is_empty() {
        all.push(rdma);
    }
    all.push(vec![NetDevice::socket()]);
    if may_have_rdma || word("NCCL_SOCKET_IFNAME").trim_start_matches('=') != "lo" {
        let nics = machine.nics.iter().filter(|nic| !nic.names.is_empty());
        all.extend(nics.map(|nic| vec![NetDevice::socket_at(nic.pci)]));
    }
    all
}
