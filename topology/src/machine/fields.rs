//! How GPUs and NICs are read from a snapshot: field by field.
//!
//! Their documents have a device's place among its own fields.  serde reads such a `flatten` by first keeping every
//! field as a value of any kind, which is most of what reading a snapshot would cost at each launch.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::{
    Gpu, KfdGpu, Locality, MigInstance, MinorSource, Nic, NicAside, NumaSource, NvmlPlace,
    RdmaPort, hex4,
};
use crate::pci::PciAddress;
use crate::set::{CpuSet, NodeSet};
use crate::text;

#[derive(Deserialize)]
struct GpuFields {
    pci: PciAddress,
    #[serde(with = "hex4")]
    vendor: u16,
    #[serde(with = "hex4")]
    device: u16,
    #[serde(default)]
    minor: Option<u32>,
    #[serde(default)]
    minor_source: MinorSource,
    #[serde(default, deserialize_with = "text::read_some_plain")]
    uuid: Option<String>,
    #[serde(default, deserialize_with = "text::read_some_plain")]
    name: Option<String>,
    #[serde(default)]
    mig: Vec<MigInstance>,
    #[serde(default)]
    nvlinks: BTreeMap<PciAddress, u32>,
    #[serde(default)]
    nvml_place: Option<NvmlPlace>,
    #[serde(default)]
    kfd: Option<KfdGpu>,
    #[serde(default)]
    only_in_nvml: bool,
    package: Option<u32>,
    numa_nodes: Option<NodeSet>,
    numa_source: NumaSource,
    cpus: Option<CpuSet>,
    #[serde(default)]
    nearest_cpus: Option<CpuSet>,
}

impl<'de> Deserialize<'de> for Gpu {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = GpuFields::deserialize(deserializer)?;
        Ok(Self {
            pci: fields.pci,
            vendor: fields.vendor,
            device: fields.device,
            minor: fields.minor,
            minor_source: fields.minor_source,
            uuid: fields.uuid,
            name: fields.name,
            mig: fields.mig,
            nvlinks: fields.nvlinks,
            nvml_place: fields.nvml_place,
            kfd: fields.kfd,
            only_in_nvml: fields.only_in_nvml,
            locality: Locality {
                package: fields.package,
                numa_nodes: fields.numa_nodes,
                numa_source: fields.numa_source,
                cpus: fields.cpus,
                nearest_cpus: fields.nearest_cpus,
            },
        })
    }
}

#[derive(Deserialize)]
struct NicFields {
    pci: PciAddress,
    #[serde(with = "hex4")]
    vendor: u16,
    #[serde(with = "hex4")]
    device: u16,
    #[serde(default, deserialize_with = "text::read_plain_list")]
    names: Vec<String>,
    #[serde(default)]
    ports: Vec<RdmaPort>,
    #[serde(default)]
    aside: Option<NicAside>,
    package: Option<u32>,
    numa_nodes: Option<NodeSet>,
    numa_source: NumaSource,
    cpus: Option<CpuSet>,
    #[serde(default)]
    nearest_cpus: Option<CpuSet>,
}

impl<'de> Deserialize<'de> for Nic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = NicFields::deserialize(deserializer)?;
        Ok(Self {
            pci: fields.pci,
            vendor: fields.vendor,
            device: fields.device,
            names: fields.names,
            ports: fields.ports,
            aside: fields.aside,
            locality: Locality {
                package: fields.package,
                numa_nodes: fields.numa_nodes,
                numa_source: fields.numa_source,
                cpus: fields.cpus,
                nearest_cpus: fields.nearest_cpus,
            },
        })
    }
}
