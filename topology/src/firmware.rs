//! What firmware and the kernel say of buses and slots, beyond each device's own files.
//!
//! Raw facts, kept as they were read: what they mean is decided in [`crate::locality`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::pci::PciAddress;
use crate::set::{CpuSet, NodeSet};
use crate::text;

/// Facts for devices whose own `numa_node` names no node with CPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Firmware {
    /// The nodes that `numa_node` of a bridge above a GPU or NIC, and of any function below that
    /// bridge, names; no entry where none of them names one.
    pub below: BTreeMap<PciAddress, NodeSet>,
    /// Every host bridge, by domain and bus.
    pub root_buses: Vec<RootBus>,
    /// Generic initiators that are PCI devices, from ACPI's SRAT.
    pub initiators: Vec<Initiator>,
    /// Slots and onboard devices with a bus address, from SMBIOS types 9 and 41.
    pub slots: Vec<Slot>,
    /// Socket designations of the populated processors, from SMBIOS type 4.
    #[serde(deserialize_with = "text::read_plain_list")]
    pub processors: Vec<String>,
}

/// A host bridge, by the root bus below it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct RootBus {
    /// Domain and bus number: `pci0000:20` in sysfs.
    pub bus: (u32, u8),
    /// The nodes that `numa_node` of a function below it names.
    pub nodes: NodeSet,
    /// Its own `numa_node` file; none where there is none, as in most kernels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<i32>,
    /// `pci_bus/0000:20/cpulistaffinity`: the CPUs of its `_PXM`'s node, or all when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<CpuSet>,
}

/// A Generic Initiator Affinity structure (SRAT type 5) of a PCI device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Initiator {
    /// The device.
    pub device: PciAddress,
    /// Its proximity domain, firmware's number.
    pub domain: u32,
    /// Linux's node for that domain; none where the table leaves that open.
    pub node: Option<u32>,
}

/// A slot or an onboard device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Slot {
    /// What firmware calls it (`CPU1 SLOT2 PCI-E 5.0 X16`).
    #[serde(deserialize_with = "text::read_plain")]
    pub designation: String,
    /// The function that firmware gives as its bus address.
    pub address: PciAddress,
    /// The root bus that function is below; none where there is no such function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_bus: Option<(u32, u8)>,
}
