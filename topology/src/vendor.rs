//! GPU vendors: one table of what differs between them.
//!
//! Nothing else names a vendor's PCI id, device files, variables or driver: other code asks the row of the
//! GPU at hand.  What a new vendor needs beside a row is listed in ARCHITECTURE.md, "To add a GPU vendor".

use std::ops::RangeInclusive;

/// What is particular to one vendor's GPUs.
#[derive(Debug, Eq)]
pub struct GpuVendor {
    /// PCI vendor id.
    pub id: u16,
    /// The vendor's name, for a person.
    pub name: &'static str,
    /// Which of its PCI devices are GPUs.
    pub gpus: GpuDevices,
    /// Device ids that are none whatever their class, as those of the display chips of servers' boards.
    pub displays: Option<RangeInclusive<u16>>,
    /// A GPU's device file below `/`, up to its number; a GPU that is divided has one for each part.
    pub device_file: &'static str,
    /// The lowest number of such a file: the kernel numbers render nodes from 128 (drivers/gpu/drm/drm_drv.c).
    pub first_number: u32,
    /// What a task's environment says of its GPUs.
    pub variables: Variables,
    /// Where its kernel driver shows itself.
    pub driver: Driver,
    /// The library that lists its GPUs with their links, where this program asks it.
    pub library: Option<Library>,
    /// The words of Slurm's `AutoDetect=` that find its GPUs; the first is in every release.
    pub autodetect: &'static [&'static str],
    /// The word of `Flags=` in gres.conf with which a line without AutoDetect sets this vendor's variable alone; None where
    /// the others do no harm.  Slurm sets those of all vendors without it (gres_common.c, `gres_common_gpu_set_env`, 22.05
    /// to 26.05), and HIP then counts one within the other.
    pub gres_flag: Option<&'static str>,
    /// What joins its GPUs beside PCI Express.
    pub link_name: &'static str,
    /// What the vendor's own tool writes for these links between two GPUs, before their number: `nvidia-smi topo -m`,
    /// `rocm-smi --showtopo`, `xpu-smi topology -m`.
    pub link_mark: &'static str,
    /// The command of the vendor's own tool that shows the state of these links.
    pub link_tool: &'static str,
    /// Its GPUs by device id; the first row that holds an id counts.
    pub models: &'static [Model],
    /// Whether a GPU that `models` does not list may have such links.
    pub unlisted_may_link: bool,
    /// What its collectives read.
    pub collectives: Collectives,
    /// Whether tasks with its GPUs are bound when they are launched.
    pub is_bound_at_launch: bool,
}

/// Which of a vendor's PCI devices are GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpuDevices {
    /// Display controllers and processing accelerators (PCI base classes 03 and 12).
    ByClass,
    /// Those of its models, and display controllers without VGA (class 0380) that are not listed yet: for a vendor whose
    /// processors have graphics of their own, always at 00:02.0, and whose accelerators (class 1200) are mostly no GPUs.
    ByModel,
}

/// Environment variables that choose among a task's GPUs.
#[derive(Debug, PartialEq, Eq)]
pub struct Variables {
    /// Lists the GPUs that a program sees, by index or UUID.
    pub visible: &'static str,
    /// What stands before a list of numbers on a command line, so that each is a whole GPU in PCI order; empty where each is.
    pub before_numbers: &'static str,
    /// How its runtime reads that list.
    pub list: ListRules,
    /// Those of the runtime above, whose indexes count within `visible`'s; the first that is set counts.
    pub within: &'static [&'static str],
    /// Says in which order the indexes count; None where there is but one order.
    pub order: Option<OrderVariable>,
}

/// How a vendor's runtime reads the list of the GPUs that a program is to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListRules {
    /// CUDA's (observed in libcuda of driver 580.159): indexes in PCI order as C's `atoi` reads them, or, where the first entry
    /// is one, UUIDs or their beginnings; what names no GPU ends it, and with a GPU that is named twice CUDA does not start.
    Cuda,
    /// ROCR's (ROCR-Runtime, core/runtime/amd_filter_device.cpp, `RvdFilter`): indexes in the order of KFD's nodes, in any
    /// base that C knows, and `GPU-` with a unique id or its beginning; the first entry that names no GPU, several, or one
    /// that was named before ends it.
    Rocr,
    /// Level Zero's (its specification, "Affinity Mask"): indexes of devices or of their tiles, by `ZE_FLAT_DEVICE_HIERARCHY`, whose
    /// default differs by release.
    LevelZero,
}

/// The variable that says in which order a vendor's runtime numbers GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderVariable {
    /// Its name.
    pub name: &'static str,
    /// The value for the order of PCI addresses.
    pub by_address: &'static str,
    /// The value for an order that depends on the models.
    pub by_speed: &'static str,
}

/// Paths of a kernel driver, below a filesystem root.
#[derive(Debug, PartialEq, Eq)]
pub struct Driver {
    /// Its kernel modules; a host has one of them.
    pub modules: &'static [&'static str],
    /// The folder with one folder for each GPU, named by PCI address; None where the driver has none.
    pub gpus: Option<&'static str>,
    /// The folder in a GPU's PCI folder where its device file is listed; None where the driver lists none.
    pub device_files: Option<&'static str>,
    /// The folder with the nodes of the compute driver's topology; None where there is none.
    pub topology: Option<&'static str>,
    /// The file with a number that grows when that topology changes; None where there is none.
    pub generation: Option<&'static str>,
    /// The folder with one folder for each process that computes, named by its number; None where there is none.
    pub processes: Option<&'static str>,
    /// Its device files that all of its GPUs have in common.
    pub shared_files: &'static [&'static str],
    /// Device files of its GPUs, up to their number, that programs which compute do not open.
    pub display_files: &'static [&'static str],
    /// What its library opens beside the GPUs' own device files: a file, then folders of such that a host may lack.  Empty where
    /// no library is asked.
    pub control_files: &'static [&'static str],
    /// The socket of the daemon that keeps idle GPUs initialised; None where nothing of the kind is needed.
    pub persistence_socket: Option<&'static str>,
}

/// A library that this program can ask about GPUs, in a child process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// NVIDIA's management library.
    Nvml,
}

/// The library of collectives that programs use on a vendor's GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collectives {
    /// NCCL, which reads the topology file that this project writes.
    Nccl,
    /// RCCL, whose topology files have a format of their own.  They mark a GPU by this attribute of `<gpu>`.
    Rccl(&'static str),
    /// A library without such files.
    Other,
}

/// GPUs with neighbouring PCI device ids.
#[derive(Debug, PartialEq, Eq)]
pub struct Model {
    /// Their device ids.
    pub devices: RangeInclusive<u16>,
    /// CUDA's compute capability, major times 10 plus minor; None where CUDA knows none, or none that matters.
    pub compute_capability: Option<u32>,
    /// The generation of the links between GPUs; None for models that have none.
    pub link_generation: Option<u8>,
    /// What the link to a processor on the same module (NVLink-C2C) carries each way, in GB/s; None where there is none.
    pub processor_link_gb_s: Option<u16>,
    /// How many device files the driver makes for each, whether it is divided or not: one for each part that it may have.
    pub device_files: usize,
    /// Whether it is part of a processor: the memory of that processor's NUMA nodes is the GPU's own, and what links two such GPUs is
    /// what links the sockets.
    pub is_in_processor: bool,
}

/// A model that its driver can divide: amdgpu takes eight numbers of render nodes for each when it starts, and makes all eight
/// files (amdgpu_xcp.c, `amdgpu_xcp_dev_alloc` and `amdgpu_xcp_dev_register`, Linux 6.5 on).
const fn divisible(model: Model) -> Model {
    Model {
        device_files: 8,
        ..model
    }
}

/// A model that is part of a processor.
const fn in_processor(model: Model) -> Model {
    Model {
        is_in_processor: true,
        ..model
    }
}

/// A model on one module with its processor.
const fn on_module(model: Model, processor_link_gb_s: u16) -> Model {
    Model {
        processor_link_gb_s: Some(processor_link_gb_s),
        ..model
    }
}

const fn model(first: u16, last: u16, capability: u32, link: u8) -> Model {
    Model {
        devices: first..=last,
        compute_capability: if capability == 0 {
            None
        } else {
            Some(capability)
        },
        link_generation: if link == 0 { None } else { Some(link) },
        processor_link_gb_s: None,
        device_files: 1,
        is_in_processor: false,
    }
}

/// NVIDIA's, from the PCI ID repository of 2026: first and last id, compute capability, NVLink's generation
/// (0 is none).
const NVIDIA_MODELS: &[Model] = &[
    model(0x0000, 0x0000, 0, 1),  // an id that was not recorded
    model(0x0001, 0x15ef, 0, 0),  // Fermi, Kepler, Maxwell GM10x and GM206
    model(0x15f7, 0x15f8, 60, 0), // P100 PCIe
    model(0x15f0, 0x15ff, 60, 1), // P100
    model(0x1600, 0x1aff, 0, 0),  // Maxwell GM20x
    model(0x1b00, 0x1d7f, 61, 0), // Pascal GP102 to GP108 (P40 1b38, P4 1bb3)
    model(0x1d80, 0x1dff, 70, 2), // V100
    model(0x1eb8, 0x1eb8, 75, 0), // T4
    model(0x1e00, 0x1eff, 75, 2), // Turing TU102, TU104
    model(0x1f00, 0x1fff, 75, 0), // Turing TU106, TU117
    model(0x2080, 0x20ff, 80, 3), // A100, A30
    model(0x2180, 0x21ff, 75, 0), // Turing TU116
    model(0x2236, 0x2237, 86, 0), // A10, A10G
    model(0x2200, 0x22ff, 86, 3), // Ampere GA102
    // GH200: 900 GB/s both ways together, as NVIDIA's data sheet says
    on_module(model(0x2340, 0x234f, 90, 4), 450),
    model(0x2300, 0x23ff, 90, 4),                  // H100, H200
    model(0x2400, 0x247f, 86, 3),                  // not given out yet
    model(0x2480, 0x25ff, 86, 0),                  // Ampere GA104, GA106, GA107 (A2 and A16 25b6)
    model(0x2600, 0x28ff, 89, 0),                  // Ada (L40S 26b9, L4 27b8)
    on_module(model(0x2940, 0x294f, 100, 5), 450), // GB200, as GH200
    model(0x2900, 0x29ff, 100, 5),                 // B100, B200
    model(0x2b00, 0x2b7f, 120, 5),                 // not given out yet
    model(0x2b80, 0x2dff, 120, 0),                 // Blackwell GB20x (GeForce, RTX PRO)
    // GB10: eight links of 43.125 GB/s in NCCL's own dump (NVIDIA/nccl pull request 2202)
    on_module(model(0x2e00, 0x2eff, 121, 5), 345),
    on_module(model(0x31c0, 0x31ff, 103, 5), 450), // GB300, as GH200
    model(0x3180, 0x31ff, 103, 5),                 // B300
];

/// AMD's that xGMI may join, from the PCI ID repository of 2026.
const AMD_MODELS: &[Model] = &[
    model(0x0000, 0x0000, 0, 1), // an id that was not recorded
    model(0x66a0, 0x66af, 0, 1), // Vega 20 (MI50, MI60)
    model(0x7388, 0x738f, 0, 2), // MI100
    in_processor(divisible(model(0x74a0, 0x74a0, 0, 3))), // MI300A
    divisible(model(0x74a1, 0x74bf, 0, 3)), // MI300X, MI308, MI325
    divisible(model(0x75a0, 0x75bf, 0, 3)), // MI350, MI355
    model(0x7400, 0x75ff, 0, 3), // MI200, and what is not given out yet
];

/// Intel's that are no part of a processor, from the PCI ID repository of 2026; Xe Link joins those of the Max series.
const INTEL_MODELS: &[Model] = &[
    model(0x0201, 0x0201, 0, 0), // Arctic Sound
    model(0x0b69, 0x0b6e, 0, 1), // Max 1450, 1100C (Ponte Vecchio)
    model(0x0bd0, 0x0bdb, 0, 1), // Max 1550, 1350, 1100
    model(0x4905, 0x4909, 0, 0), // DG1, SG1
    model(0x4f80, 0x4f88, 0, 0), // DG2
    model(0x5690, 0x56bf, 0, 0), // Arc A
    model(0x56c0, 0x56c2, 0, 0), // Flex 170, 140
    model(0xe202, 0xe223, 0, 0), // Battlemage: Arc B, Arc Pro B
];

/// The vendors whose GPUs are known.
pub static VENDORS: [GpuVendor; 3] = [
    GpuVendor {
        id: 0x10de,
        name: "NVIDIA",
        gpus: GpuDevices::ByClass,
        displays: None,
        device_file: "dev/nvidia",
        first_number: 0,
        variables: Variables {
            visible: "CUDA_VISIBLE_DEVICES",
            before_numbers: "",
            list: ListRules::Cuda,
            within: &[],
            order: Some(OrderVariable {
                name: "CUDA_DEVICE_ORDER",
                by_address: "PCI_BUS_ID",
                by_speed: "FASTEST_FIRST",
            }),
        },
        driver: Driver {
            modules: &["nvidia"],
            gpus: Some("proc/driver/nvidia/gpus"),
            device_files: None,
            topology: None,
            generation: None,
            processes: None,
            shared_files: &["dev/nvidiactl", "dev/nvidia-uvm", "dev/nvidia-modeset"],
            display_files: &["dev/dri/card", "dev/dri/renderD"],
            control_files: &["dev/nvidiactl", "dev/nvidia-caps"],
            persistence_socket: Some("run/nvidia-persistenced/socket"),
        },
        library: Some(Library::Nvml),
        autodetect: &["nvml", "nvidia"],
        gres_flag: None,
        link_name: "NVLink",
        link_mark: "NV",
        link_tool: "nvidia-smi nvlink -s",
        models: NVIDIA_MODELS,
        unlisted_may_link: true,
        collectives: Collectives::Nccl,
        is_bound_at_launch: true,
    },
    GpuVendor {
        id: 0x1002,
        name: "AMD",
        gpus: GpuDevices::ByClass,
        // Rage XL, ES1000 and what else was made before the GPUs that amdgpu drives (amdgpu_drv.c, `pciidlist`).
        displays: Some(0x3150..=0x5fff),
        device_file: "dev/dri/renderD",
        first_number: 128,
        variables: Variables {
            visible: "ROCR_VISIBLE_DEVICES",
            before_numbers: "",
            list: ListRules::Rocr,
            // HIP reads CUDA's where its own is not set (clr, rocclr/device/rocm/rocdevice.cpp); one that is set and empty shows no GPU
            // (rocclr/utils/flags.cpp, from ROCm 5.6 on).  It never reads GPU_DEVICE_ORDINAL, which is for OpenCL programs.
            within: &["HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"],
            order: None,
        },
        driver: Driver {
            modules: &["amdgpu"],
            gpus: None,
            device_files: Some("drm"),
            topology: Some("sys/class/kfd/kfd/topology/nodes"),
            generation: Some("sys/class/kfd/kfd/topology/generation_id"),
            processes: Some("sys/class/kfd/kfd/proc"),
            shared_files: &["dev/kfd"],
            // KFD asks the device cgroup for a GPU's render node (amdkfd, kfd_priv.h, `kfd_devcgroup_check_permission`).
            display_files: &["dev/dri/card"],
            control_files: &[],
            persistence_socket: None,
        },
        library: None,
        autodetect: &["rsmi"],
        gres_flag: Some("amd_gpu_env"),
        link_name: "xGMI",
        link_mark: "XGMI",
        link_tool: "amd-smi xgmi",
        models: AMD_MODELS,
        unlisted_may_link: false,
        collectives: Collectives::Rccl("gcn"),
        is_bound_at_launch: true,
    },
    GpuVendor {
        id: 0x8086,
        name: "Intel",
        gpus: GpuDevices::ByModel,
        displays: None,
        device_file: "dev/dri/renderD",
        first_number: 128,
        variables: Variables {
            visible: "ZE_AFFINITY_MASK",
            // As Slurm asks the runtime (gpu_oneapi.c).
            before_numbers: "ZE_FLAT_DEVICE_HIERARCHY=COMPOSITE ZE_ENABLE_PCI_ID_DEVICE_ORDER=1 ",
            list: ListRules::LevelZero,
            within: &[],
            order: None,
        },
        driver: Driver {
            modules: &["i915", "xe"],
            gpus: None,
            device_files: Some("drm"),
            topology: None,
            generation: None,
            processes: None,
            shared_files: &[],
            display_files: &["dev/dri/card"],
            control_files: &[],
            persistence_socket: None,
        },
        library: None,
        autodetect: &["oneapi"],
        gres_flag: Some("intel_gpu_env"),
        link_name: "Xe Link",
        link_mark: "XL",
        link_tool: "xpu-smi topology -m",
        models: INTEL_MODELS,
        unlisted_may_link: true,
        collectives: Collectives::Other,
        // Whether a number in the variable is a GPU or a tile of one is not known before the program runs.
        is_bound_at_launch: false,
    },
];

/// By its id, of which there is one row: to compare all that a row has took a launch longer than to decide.
impl PartialEq for GpuVendor {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl GpuVendor {
    /// The vendor with this PCI id.
    pub fn of(id: u16) -> Option<&'static Self> {
        VENDORS.iter().find(|vendor| vendor.id == id)
    }

    /// The vendor whose GPUs this program asks `library` about.
    pub fn of_library(library: Library) -> Option<&'static Self> {
        VENDORS
            .iter()
            .find(|vendor| vendor.library == Some(library))
    }

    /// The library whose rings join its GPUs on one host; None where this program knows nothing of them.
    pub fn collectives_name(&self) -> Option<&'static str> {
        match self.collectives {
            Collectives::Nccl => Some("NCCL"),
            Collectives::Rccl(_) => Some("RCCL"),
            Collectives::Other => None,
        }
    }

    /// Whether a PCI device of this vendor with this 24-bit class and device id is a GPU; `is_at_processors_graphics` where it
    /// is in the place of a processor's own.
    pub fn is_gpu(&self, class: u32, device: u16, is_at_processors_graphics: bool) -> bool {
        const DISPLAY_WITHOUT_VGA: u32 = 0x0380;
        let mut displays = self.displays.iter();
        if displays.any(|ids| ids.contains(&device)) {
            return false;
        }
        match self.gpus {
            GpuDevices::ByClass => may_be_gpu(class),
            GpuDevices::ByModel if self.model(device).is_some() => may_be_gpu(class),
            GpuDevices::ByModel => class >> 8 == DISPLAY_WITHOUT_VGA && !is_at_processors_graphics,
        }
    }

    /// The files of which one has the version of its driver.
    pub fn version_files(&self) -> impl Iterator<Item = String> {
        let modules = self.driver.modules.iter();
        modules.map(|module| format!("sys/module/{module}/version"))
    }

    /// The device file with this number: `/dev/nvidia3`.
    pub fn device_path(&self, number: u32) -> String {
        let mut path = String::with_capacity(32);
        path.extend(["/", self.device_file, &number.to_string()]);
        path
    }

    /// The number in the name of a device file: 3 for `/dev/nvidia3`.
    pub fn device_number(&self, path: &str) -> Option<u32> {
        let digits = path.strip_prefix('/')?.strip_prefix(self.device_file)?;
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse().ok())?
    }

    /// What is known of GPUs with this PCI device id.
    pub fn model(&self, device: u16) -> Option<&'static Model> {
        self.models
            .iter()
            .find(|model| model.devices.contains(&device))
    }

    /// Whether GPUs with this PCI device id may have links to each other; false only where they certainly
    /// have none.
    pub fn may_link(&self, device: u16) -> bool {
        self.model(device).map_or(self.unlisted_may_link, |model| {
            model.link_generation.is_some()
        })
    }
}

/// Whether a PCI device with this 24-bit class may be a GPU of some vendor: a display controller or a processing accelerator.
pub fn may_be_gpu(class: u32) -> bool {
    const DISPLAY: u32 = 0x03;
    const ACCELERATOR: u32 = 0x12;
    matches!(class >> 16, DISPLAY | ACCELERATOR)
}

/// The PCI vendor id of a GPU that a topology file leaves without one: that of the vendor whose mark
/// `has_mark` finds among the GPU's attributes, else that of NCCL's.
pub fn id_by_mark(has_mark: impl Fn(&str) -> bool) -> u16 {
    let marked = VENDORS.iter().find(|vendor| match vendor.collectives {
        Collectives::Rccl(mark) => has_mark(mark),
        Collectives::Nccl | Collectives::Other => false,
    });
    let nccl = || {
        VENDORS
            .iter()
            .find(|vendor| vendor.collectives == Collectives::Nccl)
    };
    marked.or_else(nccl).map_or(0, |vendor| vendor.id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn vendor(name: &str) -> &'static GpuVendor {
        VENDORS.iter().find(|vendor| vendor.name == name).unwrap()
    }

    #[test]
    fn each_row_has_an_id_of_its_own() {
        let ids: BTreeSet<u16> = VENDORS.iter().map(|vendor| vendor.id).collect();
        assert_eq!(ids.len(), VENDORS.len());
    }

    #[test]
    fn links_are_ruled_out_only_where_there_certainly_are_none() {
        let (nvidia, amd) = (vendor("NVIDIA"), vendor("AMD"));
        for model in [
            0x26b9, 0x27b8, 0x2b85, 0x1eb8, 0x2236, 0x25b6, 0x1bb3, 0x1b38, 0x17fd, 0x15f8,
        ] {
            assert!(!nvidia.may_link(model), "{model:04x}");
        }
        for model in [
            0x2330, 0x1db1, 0x20b0, 0x2901, 0x15f9, 0x2204, 0x2235, 0x1e04, 0x3182, 0, 0x5000,
        ] {
            assert!(nvidia.may_link(model), "{model:04x}");
        }
        assert!(amd.may_link(0x74a1) && amd.may_link(0) && !amd.may_link(0x515e));
    }

    #[test]
    fn a_models_compute_capability_is_known() {
        let capability = |device| vendor("NVIDIA").model(device)?.compute_capability;
        for (device, expected) in [
            (0x15f8, 60),
            (0x15f9, 60),
            (0x1db1, 70),
            (0x1eb8, 75),
            (0x20b0, 80),
            (0x2237, 86),
            (0x2330, 90),
            (0x26b9, 89),
            (0x2901, 100),
            (0x2bb5, 120),
            (0x3182, 103),
        ] {
            assert_eq!(capability(device), Some(expected), "{device:04x}");
        }
        assert_eq!(
            (capability(0), capability(0x17fd), capability(0x5000)),
            (None, None, None)
        );
    }

    #[test]
    fn a_device_file_and_its_number_belong_together() {
        for vendor in &VENDORS {
            let path = vendor.device_path(130);
            assert_eq!(vendor.device_number(&path), Some(130));
            for other in [
                "/dev/nvidiactl",
                "/dev/nvidia",
                "/dev/nvidia-uvm",
                "/dev/nvidia+1",
                "/dev/dri/card0",
            ] {
                assert_eq!(vendor.device_number(other), None, "{other}");
            }
        }
        assert_eq!(vendor("NVIDIA").device_path(0), "/dev/nvidia0");
    }

    #[test]
    fn a_gpu_without_a_vendor_is_known_by_its_mark() {
        assert_eq!(id_by_mark(|mark| mark == "gcn"), vendor("AMD").id);
        assert_eq!(id_by_mark(|_| false), vendor("NVIDIA").id);
    }

    #[test]
    fn no_two_rows_answer_for_one_thing() {
        for (index, a) in VENDORS.iter().enumerate() {
            for b in VENDORS.iter().skip(index + 1) {
                assert!(a.id != b.id && a.variables.visible != b.variables.visible);
                // The kernel's render nodes are of all makers; each GPU's folder says which one is its own.
                assert!(a.device_file != b.device_file || a.driver.device_files.is_some());
                assert!(a.autodetect.iter().all(|word| !b.autodetect.contains(word)));
                assert!(
                    a.driver
                        .modules
                        .iter()
                        .all(|word| !b.driver.modules.contains(word))
                );
            }
        }
    }

    #[test]
    fn graphics_of_a_processor_and_accelerators_that_are_no_gpus_are_not_taken_for_gpus() {
        let intel = vendor("Intel");
        for (class, device, is_at_processors, is_gpu, what) in [
            (0x03_8000, 0x0bd5, false, true, "Max 1550"),
            (0x03_0000, 0x56a0, false, true, "Arc A770"),
            (
                0x03_8000,
                0x56c0,
                true,
                true,
                "Flex 170 in a virtual machine",
            ),
            (0x03_8000, 0xffff, false, true, "one that is not listed yet"),
            (
                0x03_8000,
                0x4680,
                true,
                false,
                "a processor's, no display on it",
            ),
            (0x03_0000, 0x4680, true, false, "a processor's"),
            (0x12_0000, 0x7d1d, false, false, "an NPU"),
            (0x12_0000, 0x0b30, false, false, "an FPGA"),
            (0x04_0300, 0x4f90, false, false, "a GPU's sound"),
        ] {
            assert_eq!(
                intel.is_gpu(class, device, is_at_processors),
                is_gpu,
                "{what}"
            );
        }
        let amd = vendor("AMD");
        assert!(!amd.is_gpu(0x03_0000, 0x515e, false), "a board's ES1000");
        assert!(amd.is_gpu(0x03_0000, 0x744c, false), "Radeon");
    }
}
