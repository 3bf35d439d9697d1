//! What devices are: the ids and links of GPUs, NICs, switches and root ports, as `pci.ids` and their makers
//! give them.

/// A kind of device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model {
    /// Its name in a declaration.
    pub(crate) name: &'static str,
    /// Vendor and device id.
    pub(crate) ids: (u16, u16),
    /// The 24-bit class.
    pub(crate) class: u32,
    /// What the driver calls it; empty for what no driver of ours names.
    pub(crate) product: &'static str,
    /// The highest speed in GT/s and width; none for a device without a PCI Express link.
    pub(crate) link: Option<(f64, u32)>,
    /// A GPU's compute capability, as NCCL writes it (`80`); 0 for anything else.
    pub(crate) capability: u32,
}

const GPU: u32 = 0x03_0200;
const DISPLAY: u32 = 0x03_8000;
const ACCELERATOR: u32 = 0x12_0000;
const ETHERNET: u32 = 0x02_0000;
const INFINIBAND: u32 = 0x02_0700;
const BRIDGE: u32 = 0x06_0400;
const RAID: u32 = 0x01_0400;
const NVME: u32 = 0x01_0802;

const GEN1: f64 = 2.5;
const GEN2: f64 = 5.0;
const GEN3: f64 = 8.0;
const GEN4: f64 = 16.0;
const GEN5: f64 = 32.0;

const fn gpu(
    name: &'static str,
    ids: (u16, u16),
    class: u32,
    product: &'static str,
    link: (f64, u32),
    capability: u32,
) -> Model {
    Model {
        name,
        ids,
        class,
        product,
        link: Some(link),
        capability,
    }
}

const fn other(name: &'static str, ids: (u16, u16), class: u32, link: Option<(f64, u32)>) -> Model {
    Model {
        name,
        ids,
        class,
        product: "",
        link,
        capability: 0,
    }
}

const MODELS: &[Model] = &[
    gpu(
        "v100-sxm2",
        (0x10de, 0x1db5),
        GPU,
        "Tesla V100-SXM2-32GB",
        (GEN3, 16),
        70,
    ),
    gpu(
        "v100-sxm3",
        (0x10de, 0x1db8),
        GPU,
        "Tesla V100-SXM3-32GB",
        (GEN3, 16),
        70,
    ),
    gpu(
        "v100-power9",
        (0x10de, 0x1db1),
        GPU,
        "Tesla V100-SXM2-16GB",
        (GEN3, 16),
        70,
    ),
    gpu("t4", (0x10de, 0x1eb8), GPU, "Tesla T4", (GEN3, 16), 75),
    gpu(
        "a100-sxm4",
        (0x10de, 0x20b0),
        GPU,
        "NVIDIA A100-SXM4-40GB",
        (GEN4, 16),
        80,
    ),
    gpu(
        "a100-pcie",
        (0x10de, 0x20b5),
        GPU,
        "NVIDIA A100 80GB PCIe",
        (GEN4, 16),
        80,
    ),
    gpu("a40", (0x10de, 0x2235), GPU, "NVIDIA A40", (GEN4, 16), 86),
    gpu("a10", (0x10de, 0x2236), GPU, "NVIDIA A10", (GEN4, 16), 86),
    gpu("l40s", (0x10de, 0x26b9), GPU, "NVIDIA L40S", (GEN4, 16), 89),
    gpu(
        "h100-sxm",
        (0x10de, 0x2330),
        GPU,
        "NVIDIA H100 80GB HBM3",
        (GEN5, 16),
        90,
    ),
    gpu(
        "h100-pcie",
        (0x10de, 0x2331),
        GPU,
        "NVIDIA H100 PCIe",
        (GEN5, 16),
        90,
    ),
    gpu(
        "gh200",
        (0x10de, 0x2342),
        GPU,
        "NVIDIA GH200 120GB",
        (GEN5, 16),
        90,
    ),
    gpu(
        "b200",
        (0x10de, 0x2901),
        GPU,
        "NVIDIA B200",
        (GEN5, 16),
        100,
    ),
    gpu(
        "gb200",
        (0x10de, 0x2941),
        GPU,
        "NVIDIA GB200",
        (GEN5, 16),
        100,
    ),
    gpu("gb10", (0x10de, 0x2e12), GPU, "NVIDIA GB10", (GEN1, 1), 121),
    gpu("mi250x", (0x1002, 0x7408), DISPLAY, "", (GEN4, 16), 0),
    gpu("mi300a", (0x1002, 0x74a0), ACCELERATOR, "", (GEN5, 16), 0),
    gpu("mi300x", (0x1002, 0x74a1), ACCELERATOR, "", (GEN5, 16), 0),
    gpu("max1550", (0x8086, 0x0bd5), DISPLAY, "", (GEN5, 16), 0),
    // No GPUs, though of the classes that GPUs have: a processor's graphics without a display, and an FPGA.
    other("uhd770", (0x8086, 0x4680), DISPLAY, None),
    other("fpga", (0x8086, 0x0b30), ACCELERATOR, Some((GEN3, 16))),
    other("cx5", (0x15b3, 0x1017), INFINIBAND, Some((GEN3, 16))),
    other("cx6", (0x15b3, 0x101b), INFINIBAND, Some((GEN4, 16))),
    other("cx6-virtual", (0x15b3, 0x101c), INFINIBAND, None),
    other("cx7", (0x15b3, 0x1021), INFINIBAND, Some((GEN5, 16))),
    other("cx7-ethernet", (0x15b3, 0x1021), ETHERNET, Some((GEN5, 16))),
    other("cassini", (0x17db, 0x0501), ETHERNET, Some((GEN4, 16))),
    other("efa", (0x1d0f, 0xefa1), ETHERNET, Some((GEN3, 16))),
    other("ena", (0x1d0f, 0xec20), ETHERNET, None),
    other("virtio", (0x1af4, 0x1041), ETHERNET, None),
    other("i350", (0x8086, 0x1521), ETHERNET, Some((GEN2, 4))),
    other("pex89000", (0x1000, 0xc030), BRIDGE, Some((GEN5, 16))),
    other("pex88000", (0x1000, 0xc010), BRIDGE, Some((GEN4, 16))),
    other("plx8796", (0x10b5, 0x8796), BRIDGE, Some((GEN3, 16))),
    other("port-skx", (0x8086, 0x2030), BRIDGE, Some((GEN3, 16))),
    other("port-icx", (0x8086, 0x347a), BRIDGE, Some((GEN4, 16))),
    other("port-spr", (0x8086, 0x352a), BRIDGE, Some((GEN5, 16))),
    other("port-amd4", (0x1022, 0x1483), BRIDGE, Some((GEN4, 16))),
    other("port-amd5", (0x1022, 0x14ab), BRIDGE, Some((GEN5, 16))),
    other("port-grace", (0x10de, 0x22b1), BRIDGE, Some((GEN5, 16))),
    other("port-power9", (0x1014, 0x04c1), BRIDGE, Some((GEN4, 16))),
    other("vmd", (0x8086, 0x28c0), RAID, None),
    other("nvme", (0x144d, 0xa80a), NVME, Some((GEN4, 4))),
];

/// The model of that name.
pub(crate) fn named(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.name == name)
}

/// The generation of PCI Express that has this speed.
pub(crate) fn generation(speed_gts: f64) -> u32 {
    let below = [GEN1, GEN2, GEN3, GEN4, GEN5];
    let slower = below.iter().filter(|speed| **speed < speed_gts).count();
    u32::try_from(slower).unwrap_or(0) + 1
}
