//! What a launch reads of a machine's document.
//!
//! A launch waits for it, and most of a document is of links and widths, which no decision looks at: NCCL's files, which
//! do depend on them, were written beside the snapshot.  Of the PCI devices the tree is kept: which NIC is near a GPU goes by it.

use serde::{Deserialize, Deserializer};

use super::bounds;
use super::{Gpu, Locality, Machine, MeasuredLatency, Nic, NumaNode, Package};
use crate::pci::{PciAddress, PciDevice};
use crate::set::CpuSet;

#[derive(Default, Deserialize)]
#[serde(default)]
struct MachineFields {
    online: CpuSet,
    #[serde(deserialize_with = "bounds::read_list")]
    packages: Vec<Package>,
    #[serde(deserialize_with = "bounds::read_list")]
    numa_nodes: Vec<NumaNode>,
    #[serde(deserialize_with = "bounds::read_list")]
    cores: Vec<CpuSet>,
    #[serde(deserialize_with = "bounds::read_list")]
    last_level_caches: Vec<CpuSet>,
    #[serde(deserialize_with = "bounds::read_list")]
    speed_classes: Vec<CpuSet>,
    latencies: Vec<MeasuredLatency>,
    #[serde(deserialize_with = "bounds::read_list")]
    gpus: Vec<Gpu>,
    #[serde(deserialize_with = "bounds::read_list")]
    nics: Vec<Nic>,
    pci: Vec<PciFields>,
    nvlink_visible: bool,
}

/// A PCI device's place in the tree.
#[derive(Deserialize)]
struct PciFields {
    address: PciAddress,
    #[serde(default)]
    parent: Option<PciAddress>,
    #[serde(default)]
    root_bus: Option<(u32, u8)>,
}

/// The machine of a document as far as [`Machine::for_launch`] keeps it.
pub(crate) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Machine, D::Error> {
    let fields = MachineFields::deserialize(deserializer)?;
    let pci = fields.pci.iter();
    let machine = Machine {
        online: fields.online,
        packages: fields.packages,
        numa_nodes: fields.numa_nodes,
        cores: fields.cores,
        last_level_caches: fields.last_level_caches,
        speed_classes: fields.speed_classes,
        latencies: fields.latencies,
        gpus: fields.gpus,
        nics: fields.nics,
        pci: pci
            .map(|device| PciDevice::placed(device.address, device.parent, device.root_bus))
            .collect(),
        nvlink_visible: fields.nvlink_visible,
        ..Machine::default()
    };
    Ok(machine.for_launch())
}

impl Machine {
    /// What a launch looks at: CPUs, NUMA nodes, GPUs without their product's name and what NVML says of their place, NICs
    /// with their names, ports, package and nodes, and of the PCI devices the tree.
    #[must_use]
    pub fn for_launch(mut self) -> Self {
        for gpu in &mut self.gpus {
            gpu.name = None;
            gpu.nvml_place = None;
        }
        for nic in &mut self.nics {
            nic.locality = Locality {
                package: nic.locality.package,
                numa_nodes: nic.locality.numa_nodes.take(),
                ..Locality::default()
            };
        }
        Self {
            online: self.online,
            packages: self.packages,
            numa_nodes: self.numa_nodes,
            cores: self.cores,
            last_level_caches: self.last_level_caches,
            speed_classes: self.speed_classes,
            latencies: self.latencies,
            gpus: self.gpus,
            nics: self.nics,
            pci: self
                .pci
                .iter()
                .map(|device| PciDevice::placed(device.address, device.parent, device.root_bus))
                .collect(),
            nvlink_visible: self.nvlink_visible,
            ..Self::default()
        }
    }
}
