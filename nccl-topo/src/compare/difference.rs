//! In what a file can differ from a machine.

use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::set::CpuSet;

use crate::rules::Rules;

/// Something in which a file differs from the machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Line of the file; none where it is about something that the file lacks.
    pub line: Option<usize>,
    /// What differs.
    pub kind: DifferenceKind,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DifferenceKind {
    /// A GPU that the file does not have.
    #[error("GPU {0} is not in the file; NCCL places it where firmware reports it")]
    MissingGpu(PciAddress),
    /// A NIC that the file does not have.
    #[error("NIC {0} is not in the file; NCCL places it where firmware reports it")]
    MissingNic(PciAddress),
    /// A GPU or NIC of the file that is not in the machine.
    #[error("{0} does not exist on this machine")]
    NotHere(String),
    /// GPUs of one package under several `<cpu>`.
    #[error("the GPUs of socket {package} are under <cpu> {cpus}; NCCL treats each as a socket")]
    Torn {
        /// The package.
        package: u32,
        /// The `numaid`s.
        cpus: String,
    },
    /// GPUs of several packages under one `<cpu>`.
    #[error(
        "<cpu numaid=\"{cpu}\"> holds GPUs of sockets {packages}; NCCL treats it as one socket"
    )]
    Joined {
        /// The `numaid`.
        cpu: String,
        /// The packages.
        packages: String,
    },
    /// A link that can do more than the file says.
    #[error(
        "{device}: link_speed \"{speed}\" and link_width \"{width}\" are less than the link supports ({can})"
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
        "{device}: link_speed \"{speed}\" and link_width \"{width}\" are more than the link supports ({can})"
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
    #[error("{device}: class is \"{class}\", but the device's is 0x{real:06x}")]
    OtherClass {
        /// The device.
        device: PciAddress,
        /// The file's.
        class: String,
        /// The device's.
        real: u32,
    },
    /// A device below one that is not above it.
    #[error("{device} is below {above} in the file, but not on this machine")]
    OtherParent {
        /// The device.
        device: PciAddress,
        /// The device above it in the file.
        above: PciAddress,
    },
    /// A device under a `<cpu>` of another package.
    #[error(
        "{device} is under <cpu numaid=\"{numaid}\">, a node of socket {of_cpu}, but it is at socket {package} \
         (by {source_words})"
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
        "<cpu numaid=\"{numaid}\">: affinity \"{affinity}\" names CPUs {cpus}, which are not on socket {package}, \
         where its devices are"
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
        "<cpu numaid=\"{numaid}\">: affinity \"{affinity}\" leaves out CPUs {cpus}, which are local to GPU {gpu}"
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
        "<cpu numaid=\"{numaid}\">: no affinity; NCCL uses that node's CPUs alone, and CPUs {cpus} are local to GPU \
         {gpu} too"
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
        "<cpu numaid=\"{numaid}\">: with arch, vendor, familyid, modelid \"{given}\" NCCL assumes a socket link of \
         {takes} GB/s; with this machine's \"{real}\" it assumes {truth} GB/s"
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
    #[error("{device}: dev is \"{dev}\", but NVML's number is {real}; NCCL uses the file's")]
    StaleDev {
        /// The GPU.
        device: PciAddress,
        /// The file's number.
        dev: String,
        /// NVML's: the place in PCI order.
        real: usize,
    },
    /// An NVLink to something that is no GPU of the machine.
    #[error("{device}: <nvlink target=\"{target}\"> points to no GPU of this machine")]
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
    /// Those of the NCCL that reads the file.
    pub(super) rules: &'m Rules,
    pub(super) list: Vec<Difference>,
}

impl Found<'_> {
    pub(super) fn note(&mut self, line: Option<usize>, kind: DifferenceKind) {
        self.list.push(Difference { line, kind });
    }
}
