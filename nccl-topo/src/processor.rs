//! The processor of a `<cpu>`, as far as a version of NCCL tells them apart.

use crate::element::{Element, integer};
use crate::rules::Rules;

/// Bandwidth inside a GPU or a CPU, in GB/s; also what NCCL takes links between packages of a processor that it
/// does not know to carry (`graph/topo.h` `LOC_BW`).
pub const LOCAL_BANDWIDTH_GB_S: f32 = 5000.0;

/// A processor (`graph/topo.cc` `ncclTopoAddCpu`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// Intel before Skylake (family 6, model 0x55).
    IntelBroadwell,
    /// From Skylake.
    IntelSkylake,
    /// From Sapphire Rapids (model 0x8f).
    IntelSapphireRapids,
    /// Granite Rapids (0xad, 0xae) and Sierra Forest (0xaf).
    IntelGraniteRapids,
    /// From Emerald Rapids (model 0xcf).
    IntelEmeraldRapids,
    /// AMD's families up to 17h, and others that NCCL does not know.
    AmdZen12,
    /// AMD's family 19h.
    AmdZen34,
    /// AMD's family 1Ah.
    AmdZen5,
    /// Zhaoxin.
    Zhaoxin,
    /// Zhaoxin family 7, model 0x5b.
    ZhaoxinYongfeng,
    /// 64-bit Arm.
    Arm,
    /// POWER.
    Power,
    /// x86 by another vendor, or another architecture.
    Other,
}

/// Who made a processor, as far as NCCL treats them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    Intel,
    Amd,
    Zhaoxin,
    Arm,
    Power,
    Other,
}

impl Processor {
    /// The processor that a `<cpu>` with these attributes is.  The family is the kernel's number or, for AMD,
    /// NCCL's own up to 2.30 ([`written_family`]).
    pub fn of(arch: &str, vendor: &str, family: i64, model: i64) -> Self {
        let is = |name| vendor.starts_with(name);
        match arch {
            "arm64" => Self::Arm,
            "ppc64" => Self::Power,
            "x86_64" if is("AuthenticAMD") => match family {
                26 | 0xbf => Self::AmdZen5,
                25 | 0xaf => Self::AmdZen34,
                _ => Self::AmdZen12,
            },
            "x86_64" if is("GenuineIntel") => match (family, model) {
                (6, 0xcf..) => Self::IntelEmeraldRapids,
                (6, 0xad..=0xaf) => Self::IntelGraniteRapids,
                (6, 0x8f..) => Self::IntelSapphireRapids,
                (6, 0x55..) => Self::IntelSkylake,
                _ => Self::IntelBroadwell,
            },
            "x86_64" if is("CentaurHauls") || is("  Shanghai  ") => match (family, model) {
                (7, 0x5b) => Self::ZhaoxinYongfeng,
                _ => Self::Zhaoxin,
            },
            _ => Self::Other,
        }
    }

    /// The processor of a `<cpu>`.
    pub fn of_element(cpu: &Element) -> Self {
        let text = |key| cpu.get(key).unwrap_or_default();
        let number = |key| integer(text(key)).unwrap_or_default();
        Self::of(
            text("arch"),
            text("vendor"),
            number("familyid"),
            number("modelid"),
        )
    }

    /// Whether it is one of Intel's.
    pub fn is_intel(self) -> bool {
        self.maker() == Maker::Intel
    }

    /// Whether it is one of AMD's.
    pub fn is_amd(self) -> bool {
        self.maker() == Maker::Amd
    }

    /// Whether NCCL with these rules treats the two alike.
    pub fn counts_as(self, other: Self, rules: &Rules) -> bool {
        let same = self.socket_link_gb_s(rules) - other.socket_link_gb_s(rules);
        self.maker() == other.maker() && same.abs() < f32::EPSILON
    }

    fn maker(self) -> Maker {
        match self {
            Self::IntelBroadwell
            | Self::IntelSkylake
            | Self::IntelSapphireRapids
            | Self::IntelGraniteRapids
            | Self::IntelEmeraldRapids => Maker::Intel,
            Self::AmdZen12 | Self::AmdZen34 | Self::AmdZen5 => Maker::Amd,
            Self::Zhaoxin | Self::ZhaoxinYongfeng => Maker::Zhaoxin,
            Self::Arm => Maker::Arm,
            Self::Power => Maker::Power,
            Self::Other => Maker::Other,
        }
    }

    /// What NCCL with these rules takes the link to another package to carry, in GB/s.
    pub fn socket_link_gb_s(self, rules: &Rules) -> f32 {
        let links = &rules.socket_links;
        match self {
            Self::IntelBroadwell => links.intel_broadwell,
            Self::IntelSkylake => links.intel_skylake,
            Self::IntelSapphireRapids => links.intel_sapphire_rapids,
            Self::IntelGraniteRapids => links.intel_granite_rapids,
            Self::IntelEmeraldRapids => links.intel_emerald_rapids,
            Self::AmdZen12 => links.amd_zen12,
            Self::AmdZen34 => links.amd_zen34,
            Self::AmdZen5 => links.amd_zen5,
            Self::Zhaoxin => links.zhaoxin,
            Self::ZhaoxinYongfeng => links.zhaoxin_yongfeng,
            Self::Arm => links.arm,
            Self::Power => links.power,
            Self::Other => LOCAL_BANDWIDTH_GB_S,
        }
    }
}

/// The family number to write for the kernel's: CPUID's family plus 16 times the extended family, as NCCL up to
/// 2.30 computes it (`graph/xml.cc` `ncclTopoGetXmlFromCpu`), where Linux and NCCL from 2.31 on add the extended
/// family as it is.  Family 25 becomes 175.
///
/// Every version takes this form: up to 2.30 none looks at an AMD family, and 2.31 knows both.
pub(crate) fn written_family(family: u32) -> u32 {
    if family <= 15 {
        family
    } else {
        15 + ((family - 15) << 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_by_nccls_arithmetic() {
        for (linux, nccl) in [(6, 6), (15, 15), (23, 143), (25, 175), (26, 191)] {
            assert_eq!(written_family(linux), nccl);
        }
    }

    #[test]
    fn processors_are_told_apart_as_by_nccl_and_have_its_links() {
        let old = Rules::assumed();
        let new = Rules::of("2.31.0".parse().unwrap());
        for (vendor, family, model, until_2_30, from_2_31) in [
            ("GenuineIntel", 6, 0x4f, 6.0, 6.0),
            ("GenuineIntel", 6, 0x54, 6.0, 6.0),
            ("GenuineIntel", 6, 0x55, 10.0, 10.0),
            ("GenuineIntel", 6, 0x8e, 10.0, 10.0),
            ("GenuineIntel", 6, 0x8f, 22.0, 22.0),
            ("GenuineIntel", 6, 0xad, 22.0, 40.0),
            ("GenuineIntel", 6, 0xae, 22.0, 40.0),
            ("GenuineIntel", 6, 0xaf, 22.0, 40.0),
            ("GenuineIntel", 6, 0xb0, 22.0, 22.0),
            ("GenuineIntel", 6, 0xcf, 40.0, 40.0),
            ("GenuineIntel", 15, 0xcf, 6.0, 6.0),
            ("AuthenticAMD", 23, 49, 16.0, 16.0),
            ("AuthenticAMD", 143, 49, 16.0, 16.0),
            ("AuthenticAMD", 25, 17, 16.0, 24.0),
            ("AuthenticAMD", 175, 17, 16.0, 24.0),
            ("AuthenticAMD", 26, 2, 16.0, 32.0),
            ("AuthenticAMD", 191, 2, 16.0, 32.0),
            ("CentaurHauls", 7, 0x3b, 6.0, 6.0),
            ("  Shanghai  ", 7, 0x5b, 9.0, 9.0),
            ("HygonGenuine", 24, 0, 5000.0, 5000.0),
        ] {
            let processor = Processor::of("x86_64", vendor, family, model);
            let links = (
                processor.socket_link_gb_s(old),
                processor.socket_link_gb_s(new),
            );
            assert_eq!(
                links,
                (until_2_30, from_2_31),
                "{vendor} {family} {model:#x}"
            );
        }
        for (arch, link) in [("arm64", 6.0), ("ppc64", 32.0), ("riscv64", 5000.0)] {
            let processor = Processor::of(arch, "", 0, 0);
            assert_eq!(processor.socket_link_gb_s(old), link, "{arch}");
        }
    }

    #[test]
    fn those_of_one_maker_with_one_link_count_alike() {
        let new = Rules::of("2.31.0".parse().unwrap());
        let (granite, emerald) = (Processor::IntelGraniteRapids, Processor::IntelEmeraldRapids);
        assert!(!granite.counts_as(emerald, Rules::assumed()) && granite.counts_as(emerald, new));
        assert!(Processor::AmdZen12.counts_as(Processor::AmdZen5, Rules::assumed()));
        assert!(!Processor::Zhaoxin.counts_as(Processor::IntelBroadwell, new));
        assert!(Processor::AmdZen5.is_amd() && !Processor::AmdZen5.is_intel());
    }
}
