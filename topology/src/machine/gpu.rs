//! A GPU, and what its vendor's drivers and libraries say of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Locality, MAX_PARTS, hex4};
use crate::pci::{PciAddress, PciDevice};
use crate::set::{CpuSet, NodeSet};
use crate::text;
use crate::vendor::{Collectives, GpuVendor, Library, Model};

/// Where the minor number of a GPU's device file comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MinorSource {
    /// The driver: "Device Minor" in `/proc/driver/nvidia/gpus/*/information`, `drm/renderDN` in the PCI folder of a GPU
    /// of AMD's, `drm_render_minor` of its node in KFD's topology.
    Driver,
    /// NVML.
    Nvml,
    /// Assumed: no driver could be asked, there are as many device files as GPUs, and N is taken to
    /// follow PCI order.
    DeviceOrder,
    /// Not known.
    #[default]
    Unknown,
}

/// A GPU.  Its identity is its PCI address; minor number and UUID belong to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Gpu {
    /// PCI address.
    pub pci: PciAddress,
    /// PCI vendor id, four hex digits (`10de`).
    #[serde(with = "hex4")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub vendor: u16,
    /// PCI device id, four hex digits (`2330`).
    #[serde(with = "hex4")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub device: u16,
    /// N of `/dev/nvidiaN` or `/dev/dri/renderDN`, the first of a GPU that is divided; `null` when not known.
    #[serde(default)]
    pub minor: Option<u32>,
    /// Where `minor` is from.
    #[serde(default)]
    pub minor_source: MinorSource,
    /// NVIDIA's UUID, or AMD's unique id in the runtime's form (`GPU-...`); `null` when not known.
    #[serde(default)]
    pub uuid: Option<String>,
    /// Product name from NVML or the driver; `null` when not known.
    #[serde(default)]
    pub name: Option<String>,
    /// MIG instances on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mig: Vec<MigInstance>,
    /// GPUs that an active NVLink or xGMI joins it to, with the number of links; an NVSwitch shows as links to
    /// every GPU.  Empty also when links could not be seen ([`Machine::hides_links_of`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nvlinks: BTreeMap<PciAddress, u32>,
    /// Where NVML says it is; none when NVML was not asked or has no word on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvml_place: Option<NvmlPlace>,
    /// What AMD's drivers say of it; none for others, and where they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kfd: Option<KfdGpu>,
    /// NVML lists it, and neither `/sys` nor the driver's files do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_in_nvml: bool,
    /// Where it is.
    #[serde(flatten)]
    pub locality: Locality,
}

impl Gpu {
    /// The GPU that `device` is; nothing else is known of it yet, its place neither.
    pub fn of(device: &PciDevice) -> Self {
        Self {
            pci: device.address,
            vendor: device.vendor,
            device: device.device,
            minor: None,
            minor_source: MinorSource::Unknown,
            uuid: None,
            name: None,
            mig: Vec::new(),
            nvlinks: BTreeMap::new(),
            nvml_place: None,
            kfd: None,
            only_in_nvml: false,
            locality: Locality::default(),
        }
    }

    /// Its vendor's row; None where a file names a vendor that this release does not know.
    pub fn maker(&self) -> Option<&'static GpuVendor> {
        GpuVendor::of(self.vendor)
    }

    /// Its device files, `/dev/nvidia3`: one, or one for each part of a GPU that is divided; empty where their numbers
    /// are not known.
    pub fn device_paths(&self) -> impl Iterator<Item = String> {
        let parts = self.kfd.as_ref().map_or(&[][..], |kfd| &kfd.nodes);
        let of_parts = parts.iter().filter_map(|part| part.minor);
        let own = self.minor.filter(|_| parts.len() < 2);
        let numbers = own
            .into_iter()
            .chain(of_parts.filter(move |_| own.is_none()));
        let maker = self.maker();
        numbers.filter_map(move |number| Some(maker?.device_path(number)))
    }

    /// How many GPUs its runtime makes of it: 1, or the number of parts of a GPU that is divided (AMD's DPX, TPX, CPX).
    pub fn parts(&self) -> usize {
        let parts = self.kfd.as_ref().map_or(1, |kfd| kfd.nodes.len());
        parts.clamp(1, MAX_PARTS)
    }

    /// Its address, once for each of [`Gpu::parts`].
    pub fn part_addresses(&self) -> impl Iterator<Item = PciAddress> {
        std::iter::repeat_n(self.pci, self.parts())
    }

    /// What is known of its model; None for a device id that the vendor's row does not list.
    pub fn model(&self) -> Option<&'static Model> {
        self.maker()?.model(self.device)
    }

    /// Whether `library` lists GPUs of its kind.
    pub fn is_listed_by(&self, library: Library) -> bool {
        self.maker()
            .is_some_and(|maker| maker.library == Some(library))
    }

    /// Whether it is part of a processor ([`Model::is_in_processor`]).
    pub fn is_in_processor(&self) -> bool {
        self.model().is_some_and(|model| model.is_in_processor)
    }

    /// Whether links other than PCI Express may join it to others of its kind: false only for a model that
    /// certainly has none.
    pub fn may_link(&self) -> bool {
        self.maker()
            .is_some_and(|maker| maker.may_link(self.device))
    }

    /// Whether NCCL runs on it.
    pub fn has_nccl(&self) -> bool {
        self.maker()
            .is_some_and(|maker| maker.collectives == Collectives::Nccl)
    }

    /// Whether tasks that have it are bound when they are launched.
    pub fn is_bound_at_launch(&self) -> bool {
        self.maker().is_some_and(|maker| maker.is_bound_at_launch)
    }
}

/// What AMD's kernel drivers say of a GPU: amdgpu in its PCI folder, and KFD in `/sys/class/kfd/kfd/topology`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct KfdGpu {
    /// Its nodes in KFD's topology, one for each part of a GPU that is divided, ascending; AMD's runtime numbers GPUs in
    /// this order.  Empty where the topology was not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<KfdNode>,
    /// The NUMA node that its direct link leads to; none for node 0, which KFD also writes where it knows none
    /// (amdkfd, kfd_crat.c, `kfd_fill_gpu_direct_io_link_to_cpu`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// The GPUs that xGMI reaches over others, and those of which a recorded hwloc file says that xGMI leads there, and not
    /// whether directly.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub beyond: Vec<PciAddress>,
    /// How its compute units are divided (`current_compute_partition`: SPX, DPX, TPX, QPX, CPX); none where it cannot be.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "text::read_some_plain"
    )]
    pub compute_partition: Option<String>,
    /// How its memory is divided (`current_memory_partition`: NPS1 to NPS8); none where it cannot be.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "text::read_some_plain"
    )]
    pub memory_partition: Option<String>,
}

/// A GPU, or a part of one, in KFD's topology.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KfdNode {
    /// N of `nodes/N`; 0, which is a NUMA node's, where it is not known (a recorded hwloc file).
    pub node: u32,
    /// N of `/dev/dri/renderDN` (`drm_render_minor`); none where it has none.
    #[serde(default)]
    pub minor: Option<u32>,
    /// Its unique id as AMD's runtime writes it, `GPU-` and 16 hex digits; none where the model has none.
    #[serde(default, deserialize_with = "text::read_some_plain")]
    pub uuid: Option<String>,
}

/// A MIG instance of a GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MigInstance {
    /// `MIG-<uuid>`, as `CUDA_VISIBLE_DEVICES` names it; `MIG-GPU-<uuid>/<gi>/<ci>` from drivers before R470.
    #[serde(deserialize_with = "text::read_plain")]
    pub uuid: String,
    /// Number of its GPU instance; none where NVML does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_instance: Option<u32>,
    /// Number of its compute instance within the GPU instance; none where NVML does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_instance: Option<u32>,
}

/// What NVML says of a GPU's place.
///
/// Raw facts.  NVML cuts affinities to what the process that asks may use itself; sets that are no
/// narrower than that are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct NvmlPlace {
    /// `nvmlDeviceGetNumaNodeId`: the node of the GPU's own memory, where that is a NUMA node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// `nvmlDeviceGetMemoryAffinity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_nodes: Option<NodeSet>,
    /// `nvmlDeviceGetCpuAffinity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<CpuSet>,
}

impl NvmlPlace {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
