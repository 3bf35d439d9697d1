//! What the rungs found or why they found nothing, as values; their words are made here.

use std::fmt;

use crate::pci::PciAddress;
use crate::set::{CpuSet, NodeSet};

/// What a rung found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The nodes with CPUs that the device is nearest to.
    pub nodes: NodeSet,
    /// What was read, and how it was understood.
    pub because: Grounds,
}

/// A rung's answer: where the device is, or why the rung cannot tell.
pub type RungAnswer = Result<Evidence, NoEvidence>;

/// What the site has said of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiteWord {
    /// It names the node.
    Named,
    /// It measured which node is near.
    Measured,
}

impl fmt::Display for SiteWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Named => "the site's override file names",
            Self::Measured => "the site measured",
        })
    }
}

/// What an answer rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grounds {
    /// The site's override file.
    Site(SiteWord, NodeSet),
    /// The only node with CPUs.
    OnlyNode(NodeSet),
    /// The device's `numa_node`.
    NumaNode(u32),
    /// The nodes with CPUs nearest to the device's `numa_node`.
    Nearest {
        /// The `numa_node`, which has no CPUs.
        numa_node: u32,
        /// Those nearest by SLIT.
        nearest: NodeSet,
    },
    /// The device's `local_cpulist`.
    LocalCpulist {
        /// As read.
        cpus: CpuSet,
        /// The nodes of those online.
        nodes: NodeSet,
    },
    /// The object that hwloc or a file attaches it to.
    Attached(NodeSet),
    /// The topology of AMD's compute driver.
    Kfd(NodeSet),
    /// A bridge above it and what is below that.
    Siblings {
        /// The bridge.
        bridge: PciAddress,
        /// The nodes that they name.
        named: NodeSet,
    },
    /// A generic initiator of the SRAT.
    Initiator {
        /// The device that the table lists.
        device: PciAddress,
        /// Its proximity domain.
        domain: u32,
        /// The nodes of that domain.
        nodes: NodeSet,
    },
    /// The proximity domain of its host bridge.
    HostBridge {
        /// As sysfs names it.
        bridge: String,
        /// Its nodes.
        nodes: NodeSet,
    },
    /// A slot below the same host bridge.
    Slot {
        /// What firmware calls the slot.
        designation: String,
        /// The slot's address.
        address: PciAddress,
        /// The CPU that it names, and of how many.
        cpu: (String, usize),
        /// The package that this CPU is.
        package: u32,
        /// Its nodes.
        nodes: NodeSet,
    },
    /// Devices elsewhere below its own host bridge.
    OwnBus {
        /// As sysfs names it.
        bridge: String,
        /// The nodes of these devices.
        nodes: NodeSet,
    },
    /// The host bridges on both sides of its own.
    Neighbours {
        /// The one with the lower bus number.
        low: String,
        /// The one with the higher.
        high: String,
        /// Where both are.
        nodes: NodeSet,
    },
    /// NVML.
    Nvml {
        /// What it says.
        said: String,
        /// What that comes to.
        nodes: NodeSet,
    },
    /// The only package.
    OnlyPackage {
        /// Its id.
        package: u32,
        /// All its nodes.
        nodes: NodeSet,
    },
}

impl fmt::Display for Grounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site(word, nodes) => write!(f, "{word} node {nodes}"),
            Self::OnlyNode(nodes) => write!(f, "node {nodes} is the only one with CPUs"),
            Self::NumaNode(id) => write!(f, "numa_node is {id}"),
            Self::Nearest { numa_node, nearest } => write!(
                f,
                "numa_node is {numa_node}, a node without CPUs; node {nearest} is nearest by SLIT"
            ),
            Self::LocalCpulist { cpus, nodes } => {
                write!(f, "local_cpulist is {cpus}, on node {nodes}")
            }
            Self::Attached(nodes) => write!(f, "it is attached to node {nodes}"),
            Self::Kfd(nodes) => write!(f, "KFD's topology links it to node {nodes}"),
            Self::Siblings { bridge, named } => write!(
                f,
                "numa_node is {named} at bridge {bridge} above it, or at another device below that bridge"
            ),
            Self::Initiator {
                device,
                domain,
                nodes,
            } => write!(
                f,
                "the SRAT lists {device} in domain {domain}, node {nodes}"
            ),
            Self::HostBridge { bridge, nodes } => {
                write!(f, "its host bridge {bridge} is on node {nodes}")
            }
            Self::Slot {
                designation,
                address,
                cpu: (cpu, of),
                package,
                nodes,
            } => write!(
                f,
                "SMBIOS slot \"{designation}\" at {address} is below its host bridge; {cpu} of {of} CPUs is \
                 socket {package}, node {nodes}"
            ),
            Self::OwnBus { bridge, nodes } => {
                write!(f, "its host bridge {bridge} has devices on node {nodes}")
            }
            Self::Neighbours { low, high, nodes } => write!(
                f,
                "the host bridges on both sides, {low} and {high}, are on node {nodes}"
            ),
            Self::Nvml { said, nodes } => write!(f, "NVML says {said}, which is node {nodes}"),
            Self::OnlyPackage { package, nodes } => {
                write!(f, "socket {package} is the only one; any of nodes {nodes}")
            }
        }
    }
}

/// Why a rung cannot tell where a device is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoEvidence {
    /// The override file does not name the device.
    #[error("the site's override file does not name it")]
    NotNamed,
    /// The override file holds no measurement of the device.
    #[error("the site's override file has no measurement of it")]
    NotMeasured,
    /// The site's nodes have no CPUs here.
    #[error("{0} node {1}, which has no CPU here")]
    SiteNode(SiteWord, NodeSet),
    /// Several nodes have CPUs.
    #[error("nodes {0} have CPUs")]
    SeveralNodes(NodeSet),
    /// Another node has CPUs too, all offline.
    #[error("the CPUs of node {0} are offline, and the device may be there")]
    OfflineNodes(NodeSet),
    /// Another node may have CPUs too.
    #[error("the CPUs of node {0} are not recorded, and the device may be there")]
    UnrecordedNodes(NodeSet),
    /// CPUs that are in no node.
    #[error("CPUs {0} are in no node that is recorded, and the device may be near them")]
    CpusOfNoNode(CpuSet),
    /// A fact that the source does not hold.
    #[error("its {0} is not recorded")]
    NotRecorded(&'static str),
    /// Linux knows no node for the device.
    #[error("firmware names no node (numa_node is {0})")]
    NoNodeNamed(i32),
    /// The node that `numa_node` names is not there.
    #[error("numa_node is {0}, which this machine does not have")]
    NoSuchNode(u32),
    /// The node that `numa_node` names has no CPUs.
    #[error("numa_node is {0}, a node without CPUs")]
    NodeWithoutCpus(u32),
    /// The nearest node is only looked for where `numa_node` has no CPUs.
    #[error("not applicable: numa_node is {0}, which has CPUs")]
    NodeHasCpus(u32),
    /// No node stands in for one whose whole socket is offline.
    #[error("not applicable: all CPUs of the socket of node {0} are offline")]
    SocketOffline(u32),
    /// The node has CPUs of several packages (`numa=off`, interleaved memory), and the device is near those of one.
    #[error("node {0} holds CPUs of several sockets, and the device is near those of one")]
    NodeOfSeveralSockets(u32),
    /// There is no node to be near to.
    #[error("not applicable: numa_node names no node of this machine")]
    NoNearNode,
    /// SLIT has no distance that can be believed.
    #[error("SLIT gives no usable distance from node {from} to nodes {to}")]
    NoDistances {
        /// The node without CPUs.
        from: u32,
        /// Those with CPUs.
        to: NodeSet,
    },
    /// SLIT does not tell the nodes apart.
    #[error("node {from} is equally far from all of nodes {to}")]
    EqualDistances {
        /// The node without CPUs.
        from: u32,
        /// Those with CPUs.
        to: NodeSet,
    },
    /// `local_cpulist` names no CPU that is online.
    #[error("local_cpulist is \"{0}\", which holds no CPU that is online")]
    NoLocalCpu(CpuSet),
    /// `local_cpulist` has CPUs of every node.
    #[error("local_cpulist is {0}, no narrower than the machine")]
    AllCpusLocal(CpuSet),
    /// Nothing below the whole machine holds the device.
    #[error("hwloc attaches it to the whole machine, or was not asked")]
    NotAttached,
    /// The object that holds the device has no CPUs.
    #[error("it is attached to nodes {0}, which have no CPUs")]
    AttachedToMemory(NodeSet),
    /// The object that holds the device is as wide as the machine.
    #[error("it is attached to nodes {0}, no narrower than the machine")]
    AttachedToAll(NodeSet),
    /// Firmware's tables were not looked at.
    #[error(
        "firmware's tables were not read: numa_node places every device, or the source has no /sys"
    )]
    FirmwareNotRead,
    /// Devices below one bridge name several nodes.
    #[error("bridge {bridge} and the devices below it name several nodes ({named})")]
    SiblingsDisagree {
        /// The bridge.
        bridge: PciAddress,
        /// The nodes.
        named: NodeSet,
    },
    /// No device around names a node.
    #[error("neither the bridges above it nor the devices below those name a node")]
    SiblingsSilent,
    /// Two parts of ACPI contradict each other.
    #[error("{srat}, but host bridge {bridge} is on node {nodes}")]
    AcpiContradiction {
        /// What the SRAT says.
        srat: Box<Grounds>,
        /// The host bridge.
        bridge: String,
        /// Its nodes.
        nodes: NodeSet,
    },
    /// ACPI says nothing.
    #[error("the SRAT does not list it, and no _PXM of its host bridge is visible")]
    AcpiSilent,
    /// Kernels number the domain differently.
    #[error("the SRAT lists it in domain {0}, whose node depends on the kernel")]
    DomainUncertain(u32),
    /// The SRAT lists the device more than once.
    #[error("the SRAT lists {device} near nodes {first} and {second}")]
    InitiatorTwice {
        /// The device.
        device: PciAddress,
        /// Nodes of one entry.
        first: NodeSet,
        /// Nodes of another.
        second: NodeSet,
    },
    /// A slot record against a host bridge.
    #[error(
        "SMBIOS slot \"{slot}\" contradicts the node of host bridge {bridge}; no slot record is believed"
    )]
    SlotContradicts {
        /// What firmware calls it.
        slot: String,
        /// The host bridge.
        bridge: String,
    },
    /// Two slot records against each other.
    #[error(
        "SMBIOS slots \"{first}\" and \"{second}\" are below one host bridge; no slot record is believed"
    )]
    SlotsDisagree {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// Slots are not labelled with CPUs.
    #[error("no SMBIOS slot with a bus address names a CPU")]
    SlotsNameNoCpu,
    /// The names of CPUs do not fit the packages in one way only.
    #[error("SMBIOS slots name {names}, which cannot be matched to the {packages} sockets")]
    SlotsUnmatched {
        /// As the slots have them.
        names: String,
        /// How many there are.
        packages: usize,
    },
    /// No slot near the device tells.
    #[error("no SMBIOS slot below its host bridge names a CPU")]
    NoSlot,
    /// A package without NUMA nodes.
    #[error("socket {0} has no node with CPUs")]
    PackageWithoutNodes(u32),
    /// Host bridges are not placed at all.
    #[error("no host bridge has a node")]
    NoBridgePlaced,
    /// A host bridge of several packages.
    #[error("host bridge {bridge} is on nodes {nodes} at once")]
    BridgeOnSeveral {
        /// The host bridge.
        bridge: String,
        /// Its nodes.
        nodes: NodeSet,
    },
    /// Some packages have no host bridge with a node.
    #[error("the host bridges that have a node are only on sockets {seen} of {all}")]
    BridgesOnSome {
        /// Packages that have one.
        seen: NodeSet,
        /// All packages.
        all: NodeSet,
    },
    /// Bus numbers are not in blocks.
    #[error("bus numbers alternate between the sockets")]
    BusesAlternate,
    /// The device's host bridge is the first or the last.
    #[error("there is no host bridge with a node on each side of its own")]
    NoNeighbours,
    /// The neighbours are on different packages.
    #[error(
        "the host bridges on both sides, {low} and {high}, do not agree (nodes {low_nodes} and {high_nodes})"
    )]
    NeighboursDisagree {
        /// The one with the lower bus number.
        low: String,
        /// Its nodes.
        low_nodes: NodeSet,
        /// The one with the higher.
        high: String,
        /// Its nodes.
        high_nodes: NodeSet,
    },
    /// NVML gave nothing on the device.
    #[error("NVML is not available, or does not say")]
    NvmlSilent,
    /// AMD's compute driver does not list the device.
    #[error("KFD's topology is not there, or does not list it")]
    NotInKfd,
    /// KFD's direct link leads to node 0.
    #[error("KFD's topology links it to node 0, as it does where it knows no node")]
    KfdSilent,
    /// NVML gives every node.
    #[error("NVML names nothing narrower than the machine")]
    NvmlTooBroad,
    /// NVML's words have no node in common.
    #[error("NVML contradicts itself: {0}")]
    NvmlContradiction(String),
    /// There are several packages, or none is recorded.
    #[error("there are {0} sockets")]
    PackageCount(usize),
    /// CPUs outside the only package.
    #[error("socket {0} does not hold every CPU")]
    PackageNotWhole(u32),
}
