//! In what a file can differ from a machine.

use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::set::CpuSet;

/// Something in which a file differs from the machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Line of the file; absent where it is about something that the file lacks.
    pub line: Option<usize>,
    /// What differs.
    pub kind: DifferenceKind,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DifferenceKind {
    /// A GPU that the file does not have.
    #[error("GPU {0} is not in the file; NCCL places it by what firmware says")]
    MissingGpu(PciAddress),
    /// A NIC that the file does not have.
    #[error("NIC {0} is not in the file; NCCL places it by what firmware says")]
    MissingNic(PciAddress),
    /// A GPU or NIC of the file that is not in the machine.
    #[error("{0} is no device of this machine")]
    NotHere(String),
    /// GPUs of one package under several `<cpu>`.
    #[error("the GPUs of package {package} are under <cpu> {cpus}; NCCL takes these for sockets")]
    Torn {
        /// The package.
        package: u32,
        /// The `numaid`s.
        cpus: String,
    },
    /// GPUs of several packages under one `<cpu>`.
    #[error(
        "<cpu numaid=\"{cpu}\"> holds GPUs of packages {packages}; NCCL takes it for one socket"
    )]
    Joined {
        /// The `numaid`.
        cpu: String,
        /// The packages.
        packages: String,
    },
    /// A link that can do more than the file says.
    #[error(
        "{device}: link_speed \"{speed}\" and link_width \"{width}\" are less than the link can do ({can})"
    )]
    Slow {
        /// The device.
        device: String,
        /// The file's speed.
        speed: String,
        /// The file's width.
        width: String,
        /// What it can do.
        can: String,
    },
    /// A link that cannot do what the file says.
    #[error(
        "{device}: link_speed \"{speed}\" and link_width \"{width}\" are more than the link can do ({can})"
    )]
    Fast {
        /// The device.
        device: String,
        /// The file's speed.
        speed: String,
        /// The file's width.
        width: String,
        /// What it can do.
        can: String,
    },
    /// A device of another class than the file says.
    #[error("{device}: class is \"{class}\"; the device's is 0x{real:06x}")]
    OtherClass {
        /// The device.
        device: PciAddress,
        /// The file's.
        class: String,
        /// The device's.
        real: u32,
    },
    /// A device below one that is not above it.
    #[error("{device} is below {above} in the file; in the machine it is not")]
    OtherParent {
        /// The device.
        device: PciAddress,
        /// The device above it in the file.
        above: PciAddress,
    },
    /// A device under a `<cpu>` of another package.
    #[error(
        "{device} is under <cpu numaid=\"{numaid}\">, a node of package {of_cpu}; it is at package \
         {package} (by {source_words})"
    )]
    OtherPackage {
        /// The device.
        device: PciAddress,
        /// The `numaid`.
        numaid: String,
        /// The package of that node.
        of_cpu: u32,
        /// Where the device is.
        package: u32,
        /// How that is known.
        source_words: &'static str,
    },
    /// A `numaid` that is no NUMA node with CPUs.
    #[error("<cpu numaid=\"{numaid}\">: this machine has no such NUMA node with CPUs")]
    NoSuchNode {
        /// The `numaid`.
        numaid: String,
    },
    /// An `affinity` with CPUs that there are not.
    #[error(
        "<cpu numaid=\"{numaid}\">: affinity \"{affinity}\" names CPUs {cpus}, which are not online here"
    )]
    ForeignCpus {
        /// The `numaid`.
        numaid: String,
        /// The file's value.
        affinity: String,
        /// The CPUs.
        cpus: CpuSet,
    },
    /// An `affinity` with the CPUs of another package.
    #[error(
        "<cpu numaid=\"{numaid}\">: affinity \"{affinity}\" names CPUs {cpus}, of another package than \
         {package}, where its devices are"
    )]
    CpusOfOthers {
        /// The `numaid`.
        numaid: String,
        /// The file's value.
        affinity: String,
        /// The CPUs.
        cpus: CpuSet,
        /// The devices' package.
        package: u32,
    },
    /// An `affinity` without the CPUs that are nearest to a GPU.
    #[error(
        "<cpu numaid=\"{numaid}\">: affinity \"{affinity}\" leaves out CPUs {cpus}, which are near GPU {gpu}"
    )]
    LacksCpus {
        /// The `numaid`.
        numaid: String,
        /// The file's value.
        affinity: String,
        /// The CPUs.
        cpus: CpuSet,
        /// The GPU.
        gpu: PciAddress,
    },
    /// No `affinity`, where NCCL's own would be too narrow.
    #[error(
        "<cpu numaid=\"{numaid}\">: no affinity; NCCL takes the CPUs of that node, and GPU {gpu} is near \
         CPUs {cpus}"
    )]
    NoAffinity {
        /// The `numaid`.
        numaid: String,
        /// The CPUs.
        cpus: CpuSet,
        /// The GPU.
        gpu: PciAddress,
    },
    /// A processor that NCCL takes for another.
    #[error(
        "<cpu numaid=\"{numaid}\">: arch, vendor, familyid, modelid \"{given}\" make NCCL take the socket \
         link for {takes} GB/s; this machine's \"{real}\" make it {truth} GB/s"
    )]
    OtherProcessor {
        /// The `numaid`.
        numaid: String,
        /// The file's values.
        given: String,
        /// What follows, in GB/s.
        takes: f32,
        /// The machine's values.
        real: String,
        /// What follows, in GB/s.
        truth: f32,
    },
    /// A number that the driver does not give the GPU.
    #[error("{device}: dev is \"{dev}\"; NVML numbers it {real}, and NCCL believes the file")]
    StaleDev {
        /// The GPU.
        device: PciAddress,
        /// The file's number.
        dev: String,
        /// NVML's: the place in PCI order.
        real: usize,
    },
    /// An NVLink to something that is no GPU of the machine.
    #[error("{device}: <nvlink target=\"{target}\"> leads to no device of this machine")]
    LinkToNothing {
        /// The GPU.
        device: PciAddress,
        /// The file's target.
        target: String,
    },
}

/// The machine, and what was found to differ from it.
pub(super) struct Found<'m> {
    pub(super) machine: &'m Machine,
    pub(super) list: Vec<Difference>,
}

impl Found<'_> {
    pub(super) fn note(&mut self, line: Option<usize>, kind: DifferenceKind) {
        self.list.push(Difference { line, kind });
    }
}
