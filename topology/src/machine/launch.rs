//! What a launch reads of a machine's document.
//!
//! A launch waits for it, and most of a document is of bridges and links, which no decision looks at: NCCL's files, which
//! do depend on them, were written beside the snapshot.

use serde::{Deserialize, Deserializer};

use super::bounds::{self, HasCpus};
use super::{Gpu, Machine, MeasuredLatency, Nic, NumaNode, Package, hex4};
use crate::pci::PciAddress;
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
    latencies: Vec<MeasuredLatency>,
    #[serde(deserialize_with = "bounds::read_list")]
    gpus: Vec<Gpu>,
    #[serde(deserialize_with = "bounds::read_list")]
    nics: Vec<NicFields>,
    nvlink_visible: bool,
}

/// Of a NIC no more than whose it is: some bring a topology of their own for NCCL.
#[derive(Deserialize)]
struct NicFields {
    pci: PciAddress,
    #[serde(with = "hex4")]
    vendor: u16,
    #[serde(with = "hex4")]
    device: u16,
}

impl HasCpus for NicFields {
    fn own_cpus(&self) -> Option<&CpuSet> {
        None
    }
}

/// The machine of a document as far as [`Machine::for_launch`] keeps it.
pub(crate) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Machine, D::Error> {
    let fields = MachineFields::deserialize(deserializer)?;
    let nics = fields.nics.iter();
    let machine = Machine {
        online: fields.online,
        packages: fields.packages,
        numa_nodes: fields.numa_nodes,
        cores: fields.cores,
        last_level_caches: fields.last_level_caches,
        latencies: fields.latencies,
        gpus: fields.gpus,
        nics: nics
            .map(|nic| Nic::at(nic.pci, nic.vendor, nic.device))
            .collect(),
        nvlink_visible: fields.nvlink_visible,
        ..Machine::default()
    };
    Ok(machine.for_launch())
}

impl Machine {
    /// What a launch looks at: CPUs, NUMA nodes, GPUs without their product's name and what NVML says of their place, and
    /// whose the NICs are; not the bridges, nor where a NIC is.
    #[must_use]
    pub fn for_launch(mut self) -> Self {
        for gpu in &mut self.gpus {
            gpu.name = None;
            gpu.nvml_place = None;
        }
        for nic in &mut self.nics {
            *nic = Nic::at(nic.pci, nic.vendor, nic.device);
        }
        Self {
            online: self.online,
            packages: self.packages,
            numa_nodes: self.numa_nodes,
            cores: self.cores,
            last_level_caches: self.last_level_caches,
            latencies: self.latencies,
            gpus: self.gpus,
            nics: self.nics,
            nvlink_visible: self.nvlink_visible,
            ..Self::default()
        }
    }
}
