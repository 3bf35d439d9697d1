//! Which libraries are told of a task's NICs.
//!
//! UCX takes a list of devices per process, and several tasks without such a list use the same one while others idle
//! (openucx/ucx issues 8401 and 11493).  What is not set, and why:
//!
//! - `NCCL_IB_HCA`: it holds for the communicator's rank, and NCCL's rings need the same rails on every host.  NCCL finds the
//!   nearest NIC in its topology file.
//! - `MPICH_OFI_NIC_POLICY`, `MPICH_OFI_NIC_MAPPING`, `MPIR_CVAR_CH4_OFI_PREF_NIC`, Intel MPI's `I_MPI_OFI_NIC_AFFINITY`: they hold a policy of
//!   the library, which may need its GPU support, or numbers of a list of libfabric's whose order is not known here.
//! - libfabric's lists of devices, `FI_CXI_DEVICE_NAME` ("Restrict CXI provider to specific CXI devices", fi_cxi(7)) and
//!   `FI_VERBS_DEVICE_NAME`: NCCL's plugin for libfabric reads them in the same process, so that they would be `NCCL_IB_HCA` by
//!   another name.  `FI_VERBS_IFACE` and `FI_TCP_IFACE` name an interface that a provider listens on, not a rank's NIC.

use topology::machine::{Machine, Nic};
use topology::pci::PciAddress;

/// Which devices UCX may use: `mlx5_0:1`, the RDMA device and its port (UCX, docs/source/faq.md, "Which network devices does UCX use?").
pub const UCX_DEVICES: &str = "UCX_NET_DEVICES";

/// NVIDIA's (Mellanox') PCI vendor id, whose RDMA devices every UCX with verbs drives.
const MELLANOX: u16 = 0x15b3;

/// The value of [`UCX_DEVICES`] for a process that is to use `nics`: all their ports that are up.
///
/// None where there is none, and where one of them is none that UCX surely drives: the variable would leave it without a network.
/// So it is for Slingshot, EFA and plain Ethernet.
pub fn ucx_devices(machine: &Machine, nics: &[PciAddress]) -> Option<String> {
    let find = |address: &PciAddress| machine.nics.iter().find(|nic| nic.pci == *address);
    let found: Option<Vec<&Nic>> = nics.iter().map(find).collect();
    let found = found.filter(|found| !found.is_empty())?;
    let is_known = |nic: &&Nic| nic.vendor == MELLANOX && !nic.ports.is_empty();
    if !found.iter().all(is_known) {
        return None;
    }
    let ports = found.iter().flat_map(|nic| &nic.ports);
    let names: Vec<String> = ports
        .map(|port| format!("{}:{}", port.device, port.port))
        .collect();
    Some(names.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::machine::Locality;
    use topology::machine::RdmaPort;

    fn nic(bus: u8, vendor: u16, ports: &[(&str, u32)]) -> Nic {
        let ports = ports.iter().map(|(device, port)| RdmaPort {
            device: (*device).to_owned(),
            port: *port,
            speed_mbit_s: None,
        });
        Nic {
            pci: format!("0000:{bus:02x}:00.0").parse().unwrap(),
            vendor,
            device: 0x1021,
            names: Vec::new(),
            ports: ports.collect(),
            aside: None,
            locality: Locality::default(),
        }
    }

    #[test]
    fn ucx_is_told_only_of_devices_that_it_surely_drives() {
        let nics = vec![
            nic(1, MELLANOX, &[("mlx5_0", 1)]),
            nic(2, MELLANOX, &[("mlx5_1", 1), ("mlx5_1", 2)]),
            nic(3, MELLANOX, &[]),
            nic(4, 0x1d0f, &[("efa_0", 1)]),
        ];
        let machine = Machine {
            nics,
            ..Machine::default()
        };
        let of = |buses: &[u8]| {
            let own: Vec<PciAddress> = buses
                .iter()
                .map(|bus| format!("0000:{bus:02x}:00.0").parse().unwrap())
                .collect();
            ucx_devices(&machine, &own)
        };
        assert_eq!(of(&[1]).as_deref(), Some("mlx5_0:1"));
        assert_eq!(of(&[1, 2]).as_deref(), Some("mlx5_0:1,mlx5_1:1,mlx5_1:2"));
        for none in [&[][..], &[3], &[1, 3], &[4], &[1, 4], &[9]] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }
}
