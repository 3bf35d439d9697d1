//! NCCL's rules by version: every number and choice of NCCL's own that differs between its versions and that
//! this crate or the plugin reads, in one table; and its lists that are the same in all of them.
//!
//! A place in NCCL's source tree is named as `graph/topo.cc`, below `src/` of the tag.  Versions before 2.27.3
//! are taken for 2.27.3, versions after the last row for the last row.

use std::collections::BTreeSet;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// A version of NCCL, as `ncclGetVersion` and the names of its releases give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 2.
    pub major: u8,
    /// 30 of 2.30.7.
    pub minor: u8,
    /// 7 of 2.30.7.
    pub patch: u8,
}

impl Version {
    /// `2.minor.patch`.
    const fn two(minor: u8, patch: u8) -> Self {
        Self {
            major: 2,
            minor,
            patch,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Why a text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// It has not three parts.
    #[error("expected three numbers, as in 2.30.7")]
    Parts,
    /// A part is not a number up to 255.
    #[error("expected three numbers, as in 2.30.7: {0}")]
    Number(#[from] ParseIntError),
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.');
        let (Some(major), Some(minor), Some(patch), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(VersionError::Parts);
        };
        Ok(Self {
            major: major.parse()?,
            minor: minor.parse()?,
            patch: patch.parse()?,
        })
    }
}

/// What NCCL takes the link between two packages to carry, in GB/s, by processor (`graph/topo.h` `*_BW`,
/// `graph/topo.cc` `ncclTopoGetInterCpuBw`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SocketLinks {
    /// Intel before Skylake.
    pub intel_broadwell: f32,
    /// Intel from Skylake.
    pub intel_skylake: f32,
    /// Intel from Sapphire Rapids.
    pub intel_sapphire_rapids: f32,
    /// Intel from Emerald Rapids.
    pub intel_emerald_rapids: f32,
    /// Intel Granite Rapids and Sierra Forest, whose model numbers are below Emerald Rapids'.
    pub intel_granite_rapids: f32,
    /// AMD Zen 1 and 2 (Naples, Rome), and AMD processors of other families.
    pub amd_zen12: f32,
    /// AMD Zen 3 and 4 (Milan, Genoa).
    pub amd_zen34: f32,
    /// AMD Zen 5 (Turin).
    pub amd_zen5: f32,
    /// Zhaoxin.
    pub zhaoxin: f32,
    /// Zhaoxin Yongfeng.
    pub zhaoxin_yongfeng: f32,
    /// 64-bit Arm.
    pub arm: f32,
    /// POWER.
    pub power: f32,
}

/// The rules of the versions from [`Rules::from`] up to the next row of [`TABLE`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// The first version with these rules.
    pub from: Version,
    /// The newest profiler plugin interface that it knows; it asks a plugin for this one first
    /// (`plugin/profiler.cc`).
    pub profiler: u8,
    /// The newest env plugin interface that it knows; none where it knows no env plugin (`plugin/env.cc`).
    pub env: Option<u8>,
    /// The link between packages.
    pub socket_links: SocketLinks,
    /// One NVLink of a GPU of compute capability 10.0 or more, in GB/s (`graph/topo.h` `SM100_NVLINK_BW`).
    pub nvlink_sm100_gb_s: f32,
    /// The bandwidths that the search tries inside a host for GPUs of compute capability 10.0 or more, in GB/s,
    /// widest first (`graph/search.cc` `sm100SpeedArrayIntra`).
    pub speeds_sm100: &'static [f32],
    /// The bandwidths that the search tries between hosts for GPUs of compute capability 10.0 or more, in GB/s,
    /// widest first (`graph/search.cc` `sm100SpeedArrayInter`).
    pub speeds_between_hosts_sm100: &'static [f32],
    /// Whether a device is a place of its own below the ranks that use it (`graph/topo.cc` `ncclTopoAddGpuSub`).
    pub gpus_have_devices: bool,
    /// Whether the parts of a GPU (MLOPart) are devices of their own (`graph/topo.cc` `ncclTopoAddGpuSub`).
    pub gpus_have_parts: bool,
    /// Whether of two paths the one of the nearer type is taken, and not the wider one (`graph/paths.cc`
    /// `ncclTopoSetPaths`); the same for the CPU that counts as a GPU's own (`ncclGetLocalCpu`).
    pub nearer_path_is_taken: bool,
    /// Whether GPUs that share network devices count these from their number among them (`graph/topo.cc`
    /// `ncclTopoGetLocalNetType`).
    pub nets_are_dealt_among_local_gpus: bool,
    /// Whether a GPU is a relay to a network device only where the two reach each other directly (`graph/paths.cc`
    /// `ncclTopoComputePaths`).
    pub relays_need_gdr: bool,
    /// Whether a path through the CPU that begins or ends with C2C is P2C and not PHB (`graph/paths.cc`
    /// `mergePathType`).
    pub c2c_and_phb_are_p2c: bool,
    /// Whether a search that finds nothing on a host without a network device ends the communicator, and not with the order of
    /// the file (`graph/search.cc` `ncclTopoCompute`, which asks `ncclTopoSelectNets` there).
    pub nothing_found_needs_net: bool,
    /// Whether the parts into which NCCL cuts a host whose NICs are near GPUs of both packages are joined over
    /// the network, and not over shared memory (`graph/paths.cc` `ncclTopoCheckNet`).
    pub parts_of_host_join_over_network: bool,
    /// Whether a GPU's link counts with the speed that it has at the moment, and not with its highest
    /// (`graph/xml.cc` `ncclTopoGetXmlFromSys`: `nvmlDeviceGetCurrPcieLinkGeneration`).
    pub gpu_link_speed_is_of_the_moment: bool,
    /// How many elements one may hold at most in a topology file (`graph/xml.h` `MAX_SUBS`).
    pub most_children: usize,
    /// Whether a `<cpu>` of AMD's needs its family, which NCCL otherwise fills in only above a GPU or NIC that it uses
    /// (`graph/topo.cc` `ncclTopoAddCpu`).
    pub amd_needs_family: bool,
    /// Whether an `<nvlink>` needs the class of what it leads to (`tclass`), which NCCL otherwise fills in
    /// (`graph/xml.cc` `ncclTopoGetXmlFromGpu`, `graph/topo.cc` `ncclTopoAddNvLinks`).
    pub nvlinks_need_class: bool,
}

const V2_27_3: Rules = Rules {
    from: Version::two(27, 3),
    profiler: 4,
    env: None,
    socket_links: SocketLinks {
        intel_broadwell: 6.0,
        intel_skylake: 10.0,
        intel_sapphire_rapids: 22.0,
        intel_emerald_rapids: 40.0,
        intel_granite_rapids: 22.0,
        amd_zen12: 16.0,
        amd_zen34: 16.0,
        amd_zen5: 16.0,
        zhaoxin: 6.0,
        zhaoxin_yongfeng: 9.0,
        arm: 6.0,
        power: 32.0,
    },
    nvlink_sm100_gb_s: 40.0,
    speeds_sm100: &[
        90.0, 80.0, 70.0, 60.0, 50.0, 40.0, 30.0, 24.0, 20.0, 19.0, 18.0,
    ],
    speeds_between_hosts_sm100: &[
        47.9, 45.0, 42.0, 40.0, 30.0, 24.0, 22.0, 20.0, 17.5, 15.0, 12.0, 6.0, 3.0, 2.4, 1.2, 0.24,
        0.12,
    ],
    gpus_have_devices: false,
    gpus_have_parts: false,
    nearer_path_is_taken: false,
    nets_are_dealt_among_local_gpus: false,
    relays_need_gdr: false,
    c2c_and_phb_are_p2c: false,
    nothing_found_needs_net: false,
    parts_of_host_join_over_network: true,
    gpu_link_speed_is_of_the_moment: false,
    most_children: 128,
    amd_needs_family: false,
    nvlinks_need_class: false,
};

/// The table: one row for each version that changed a rule, oldest first.  A row names only what changed.
pub static TABLE: [Rules; 10] = [
    V2_27_3, V2_27_5, V2_28_3, V2_28_7, V2_29_2, V2_29_7, V2_30_3, V2_30_7, V2_31, V2_31_2,
];

/// The tag v2.27.5-1.
const V2_27_5: Rules = Rules {
    from: Version::two(27, 5),
    nvlink_sm100_gb_s: 40.1,
    speeds_between_hosts_sm100: &[
        96.0, 48.0, 45.1, 42.0, 40.0, 30.0, 24.0, 22.0, 20.0, 17.5, 15.0, 12.0, 6.0, 3.0, 2.4, 1.2,
        0.24, 0.12,
    ],
    c2c_and_phb_are_p2c: true,
    ..V2_27_3
};

/// The tag v2.28.3-1: `plugin/profiler/profiler_v5.cc`.
const V2_28_3: Rules = Rules {
    from: Version::two(28, 3),
    profiler: 5,
    ..V2_27_5
};

/// The tag v2.28.7-1: `plugin/env.cc`, `plugin/env/env_v1.cc`.
const V2_28_7: Rules = Rules {
    from: Version::two(28, 7),
    env: Some(1),
    ..V2_28_3
};

/// The tag v2.29.2-1: `plugin/profiler/profiler_v6.cc`.
const V2_29_2: Rules = Rules {
    from: Version::two(29, 2),
    profiler: 6,
    speeds_sm100: &[
        90.0, 80.0, 70.0, 60.0, 50.0, 45.0, 40.0, 30.0, 24.0, 20.0, 19.0, 18.0,
    ],
    nothing_found_needs_net: true,
    ..V2_28_7
};

/// The tag v2.29.7-1.
const V2_29_7: Rules = Rules {
    from: Version::two(29, 7),
    speeds_between_hosts_sm100: &[
        96.0, 80.0, 48.0, 45.1, 42.0, 40.0, 30.0, 24.0, 22.0, 20.0, 17.5, 15.0, 12.0, 6.0, 3.0,
        2.4, 1.2, 0.24, 0.12,
    ],
    most_children: 640,
    ..V2_29_2
};

/// The tag v2.30.3-1: `ncclTopoCheckNet` sets its answer only after it has looked the ranks up, and the parts of
/// a host do not find each other's ranks.
const V2_30_3: Rules = Rules {
    from: Version::two(30, 3),
    speeds_between_hosts_sm100: &[
        96.0, 86.0, 80.0, 48.0, 45.1, 42.0, 40.0, 30.0, 24.0, 22.0, 20.0, 17.5, 15.0, 12.0, 6.0,
        3.0, 2.4, 1.2, 0.24, 0.12,
    ],
    gpus_have_devices: true,
    relays_need_gdr: true,
    parts_of_host_join_over_network: false,
    ..V2_29_7
};

/// The tag v2.30.7-1: `plugin/env/env_v2.cc`.
const V2_30_7: Rules = Rules {
    from: Version::two(30, 7),
    env: Some(2),
    gpus_have_parts: true,
    nearer_path_is_taken: true,
    nets_are_dealt_among_local_gpus: true,
    gpu_link_speed_is_of_the_moment: true,
    ..V2_30_3
};

/// The branch dev at 2.31.0a7: `graph/topo.h` `AMD_ZEN34_BW`, `AMD_ZEN5_BW`; `graph/topo.cc` `ncclTopoAddCpu`
/// takes Granite Rapids for Emerald Rapids; `graph/xml.cc` `ncclTopoGetXmlFromGpu` fills in no `tclass` of an `<nvlink>`
/// that the file has.
const V2_31: Rules = Rules {
    from: Version::two(31, 0),
    socket_links: SocketLinks {
        intel_granite_rapids: 40.0,
        amd_zen34: 24.0,
        amd_zen5: 32.0,
        ..V2_30_7.socket_links
    },
    amd_needs_family: true,
    nvlinks_need_class: true,
    ..V2_30_7
};

/// The libraries of 2.31.2 and 2.32.3 as published on PyPI, which look `ncclProfiler_v7` up; their source is not
/// public yet.
const V2_31_2: Rules = Rules {
    from: Version::two(31, 2),
    profiler: 7,
    ..V2_31
};

/// The newest version that these rules were compared with: its published library.
pub const NEWEST: Version = Version::two(32, 3);

impl Version {
    /// The series that it is of: `2.30`.
    pub fn series(self) -> String {
        format!("{}.{}", self.major, self.minor)
    }

    /// Whether it is of a series that the table knows; a newer one may have any rules.
    pub fn is_known(self) -> bool {
        (self.major, self.minor) <= (NEWEST.major, NEWEST.minor)
    }

    /// From the number of `ncclGetVersion`: 23007 for 2.30.7, 2804 before 2.9.
    pub fn of_code(code: u32) -> Option<Self> {
        let (major, minor, patch) = if code < 10_000 {
            (code / 1000, code / 100 % 10, code % 100)
        } else {
            (code / 10_000, code / 100 % 100, code % 100)
        };
        Some(Self {
            major: u8::try_from(major).ok()?,
            minor: u8::try_from(minor).ok()?,
            patch: u8::try_from(patch).ok()?,
        })
    }
}

impl Rules {
    /// The rules that hold where the version is not known: those of 2.30.7.
    pub fn assumed() -> &'static Self {
        static ASSUMED: Rules = V2_30_7;
        &ASSUMED
    }

    /// The oldest rules that are known.
    pub fn oldest() -> &'static Self {
        let [oldest, ..] = &TABLE;
        oldest
    }

    /// The rules for which a page speaks where no version is named: those that are assumed, and the newest.
    pub fn in_use() -> impl Iterator<Item = &'static Self> {
        let [.., newest] = &TABLE;
        [Self::assumed(), newest].into_iter()
    }

    /// The rules of a version.
    pub fn of(version: Version) -> &'static Self {
        let [oldest, ..] = &TABLE;
        let known = TABLE.iter().rev().find(|rules| rules.from <= version);
        known.unwrap_or(oldest)
    }

    /// The bandwidth of one NVLink of a GPU of this compute capability, in GB/s (`graph/topo.h`).
    pub fn nvlink_gb_s(&self, compute_capability: u32) -> f32 {
        match compute_capability {
            100.. => self.nvlink_sm100_gb_s,
            90..=99 => 20.6,
            86 => 12.0,
            60..=69 => 18.0,
            0..=59 | 70..=85 | 87..=89 => 20.0,
        }
    }

    /// The bandwidths that the search tries inside a host, in GB/s, widest first, for GPUs of this compute
    /// capability (`graph/search.cc` `speedArrayIntra`).
    pub fn speeds(&self, compute_capability: u32) -> &'static [f32] {
        match compute_capability {
            100.. => self.speeds_sm100,
            90..=99 => &[
                60.0, 50.0, 40.0, 30.0, 24.0, 20.0, 15.0, 12.0, 11.0, 6.0, 3.0,
            ],
            _ => &[
                40.0, 30.0, 20.0, 18.0, 15.0, 12.0, 10.0, 9.0, 7.0, 6.0, 5.0, 4.0, 3.0,
            ],
        }
    }
}

impl Rules {
    /// The bandwidths that the search tries between hosts, in GB/s, widest first, for GPUs of this compute
    /// capability (`graph/search.cc` `speedArrayInter`).
    pub fn speeds_between_hosts(&self, compute_capability: u32) -> &'static [f32] {
        match compute_capability {
            100.. => self.speeds_between_hosts_sm100,
            90..=99 => &[
                48.0, 45.0, 42.0, 40.0, 30.0, 24.0, 22.0, 20.0, 17.5, 15.0, 12.0, 6.0, 3.0, 2.4,
                1.2, 0.24, 0.12,
            ],
            _ => &[
                48.0, 30.0, 28.0, 24.0, 20.0, 18.0, 15.0, 12.0, 10.0, 9.0, 7.0, 6.0, 5.0, 4.0, 3.0,
                2.4, 1.2, 0.24, 0.12,
            ],
        }
    }
}

/// The profiler interfaces that the versions of [`TABLE`] ask for first, and so those that the plugin exports.
pub fn profiler_interfaces() -> BTreeSet<u8> {
    TABLE.iter().map(|rules| rules.profiler).collect()
}

/// The env plugin interfaces that the versions of [`TABLE`] ask for first, and so those that the plugin exports.
pub fn env_interfaces() -> BTreeSet<u8> {
    TABLE.iter().filter_map(|rules| rules.env).collect()
}

/// The first version for which `rule` holds, by the table; none where it never does.
pub fn since(rule: impl Fn(&Rules) -> bool) -> Option<Version> {
    TABLE
        .iter()
        .find(|rules| rule(rules))
        .map(|rules| rules.from)
}

/// A transfer rate in NCCL's list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PciSpeed {
    /// How a value begins that means it.
    pub word: &'static str,
    /// In GT/s.
    pub gts: f64,
    /// What NCCL takes a lane to carry, in units of 100 Mbit/s.
    pub lane: f32,
}

const fn speed(word: &'static str, gts: f64, lane: f32) -> PciSpeed {
    PciSpeed { word, gts, lane }
}

/// The values of `link_speed` that NCCL knows, in its order: the first that the value begins with counts
/// (`graph/topo.cc` `kvDictPciGen`; the last six are the kernel's words from 5.7 on).
pub const PCI_SPEEDS: [PciSpeed; 11] = [
    speed("2.5 GT/s", 2.5, 15.0),
    speed("5 GT/s", 5.0, 30.0),
    speed("8 GT/s", 8.0, 60.0),
    speed("16 GT/s", 16.0, 120.0),
    speed("32 GT/s", 32.0, 240.0),
    speed("2.5 GT/s PCIe", 2.5, 15.0),
    speed("5.0 GT/s PCIe", 5.0, 30.0),
    speed("8.0 GT/s PCIe", 8.0, 60.0),
    speed("16.0 GT/s PCIe", 16.0, 120.0),
    speed("32.0 GT/s PCIe", 32.0, 240.0),
    speed("64.0 GT/s PCIe", 64.0, 480.0),
];

/// What a `link_speed` that NCCL does not know, and an empty one, counts as, in GT/s.
pub const PCI_SPEED_OF_UNKNOWN_GTS: f64 = 8.0;
/// The same for a lane, in units of 100 Mbit/s.
const LANE_OF_UNKNOWN: f32 = 60.0;

/// How many lanes a `link_width` of 0, and an empty one, counts as (`graph/topo.cc` `ncclTopoAddPci`).
pub const PCI_WIDTH_OF_UNKNOWN: u16 = 16;

/// The entry of NCCL's list that a `link_speed` means; none where NCCL does not know the value.
pub fn pci_speed(value: &str) -> Option<&'static PciSpeed> {
    PCI_SPEEDS
        .iter()
        .find(|speed| value.starts_with(speed.word))
}

/// The bandwidth of a PCI link, in GB/s, from its `link_speed` and `link_width` (`graph/topo.cc`
/// `ncclTopoAddPci`).
pub fn pci_bandwidth_gb_s(speed: &str, width: u16) -> f32 {
    let lane = pci_speed(speed).map_or(LANE_OF_UNKNOWN, |speed| speed.lane);
    let width = if width == 0 {
        PCI_WIDTH_OF_UNKNOWN
    } else {
        width
    };
    f32::from(width) * lane / 80.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_versions() {
        assert!(TABLE.is_sorted_by(|a, b| a.from < b.from));
        assert!(TABLE.contains(Rules::assumed()));
    }

    #[test]
    fn a_version_has_the_rules_of_the_last_change_before_it() {
        for (version, from) in [
            ("2.18.5", "2.27.3"),
            ("2.27.7", "2.27.5"),
            ("2.28.9", "2.28.7"),
            ("2.29.3", "2.29.2"),
            ("2.29.7", "2.29.7"),
            ("2.30.4", "2.30.3"),
            ("2.30.7", "2.30.7"),
            ("2.31.0", "2.31.0"),
            ("2.31.2", "2.31.2"),
            ("3.0.0", "2.31.2"),
        ] {
            let rules = Rules::of(version.parse().unwrap());
            assert_eq!(rules.from.to_string(), from, "{version}");
        }
        assert_eq!("2.30".parse::<Version>(), Err(VersionError::Parts));
        assert!("2.30.x".parse::<Version>().is_err());
    }

    #[test]
    fn each_version_has_its_plugin_interfaces() {
        for (version, profiler, env) in [
            ("2.27.7", 4, None),
            ("2.28.3", 5, None),
            ("2.28.9", 5, Some(1)),
            ("2.29.7", 6, Some(1)),
            ("2.30.4", 6, Some(1)),
            ("2.30.7", 6, Some(2)),
            ("2.31.0", 6, Some(2)),
            ("2.31.2", 7, Some(2)),
            ("2.32.3", 7, Some(2)),
        ] {
            let rules = Rules::of(version.parse().unwrap());
            assert_eq!((rules.profiler, rules.env), (profiler, env), "{version}");
        }
    }

    #[test]
    fn versions_are_read_from_nccls_number() {
        for (code, version) in [(23007, "2.30.7"), (2804, "2.8.4"), (23203, "2.32.3")] {
            let version: Version = version.parse().unwrap();
            assert_eq!(Version::of_code(code), Some(version));
            assert!(version.is_known());
        }
        assert!(!Version::two(33, 0).is_known());
    }

    #[test]
    fn what_changed_first_holds_from_there_on() {
        assert_eq!(
            since(|rules| rules.env.is_some()),
            Some(Version::two(28, 7))
        );
        assert_eq!(since(|rules| rules.profiler > 99), None);
    }

    #[test]
    fn pci_generations_have_nccls_bandwidths() {
        for (speed, width, expected) in [
            ("2.5 GT/s PCIe", 16, 3.0),
            ("5.0 GT/s PCIe", 16, 6.0),
            ("8 GT/s", 16, 12.0),
            ("16.0 GT/s PCIe", 8, 12.0),
            ("32.0 GT/s PCIe", 0, 48.0),
            ("64.0 GT/s PCIe", 16, 96.0),
            ("16.0 GT/s", 16, 12.0),
            ("", 0, 12.0),
        ] {
            let bandwidth = pci_bandwidth_gb_s(speed, width);
            assert!((bandwidth - expected).abs() < 1e-6, "{speed}: {bandwidth}");
        }
    }

    #[test]
    fn nvlinks_have_nccls_bandwidths() {
        let rules = Rules::assumed();
        for (capability, expected) in [
            (60, 18.0),
            (70, 20.0),
            (80, 20.0),
            (86, 12.0),
            (90, 20.6),
            (100, 40.1),
        ] {
            let bandwidth = rules.nvlink_gb_s(capability);
            assert!(
                (bandwidth - expected).abs() < 1e-6,
                "{capability}: {bandwidth}"
            );
        }
    }
}
