//! What a PCI link can do, in the words that NCCL knows.

use topology::machine::Machine;
use topology::pci::{DeviceKind, Link, PciDevice};

use crate::rules::{PCI_SPEED_OF_UNKNOWN_GTS, PCI_SPEEDS, PCI_WIDTH_OF_UNKNOWN, PciSpeed};

/// The bits of a transfer that are payload, by the speed in GT/s: 8b/10b, then 128b/130b, then FLITs.
const ENCODINGS: [(f64, f64); 3] = [(64.0, 242.0 / 256.0), (8.0, 128.0 / 130.0), (2.5, 0.8)];

/// What a link can do: the lesser of the device's and its port's maximum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LinkMaximum {
    /// In GT/s; none where neither end records it.
    pub(crate) speed_gts: Option<f64>,
    /// In lanes; none where neither end records it.
    pub(crate) width: Option<u32>,
    /// Whether that is what it ran at when read, and so the least that it can.
    pub(crate) is_least: bool,
}

impl LinkMaximum {
    /// The maximum of the link between `device` and the port above it.  Where neither end records one, as in
    /// hwloc's XML, what it ran at when read; but not where that is less than NCCL takes an empty value for,
    /// unless it is a NIC's: other links may have slept.
    pub(crate) fn of(machine: &Machine, device: &PciDevice) -> Self {
        let port = device
            .parent
            .and_then(|port| machine.device(port))
            .map(|port| &port.link);
        let ends = [Some(&device.link), port];
        let known = || ends.iter().flatten();
        let speeds = known().filter_map(|link: &&Link| link.max_speed_gts);
        let recorded = Self {
            speed_gts: speeds.filter(|speed| *speed >= 2.5).reduce(f64::min),
            width: known()
                .filter_map(|link| link.max_width)
                .filter(|width| (1..=32).contains(width))
                .min(),
            is_least: false,
        };
        if recorded.speed_gts.is_some() {
            return recorded;
        }
        known()
            .find_map(|link| Self::when_read(link, device.kind() != DeviceKind::Nic))
            .unwrap_or(recorded)
    }

    fn when_read(link: &Link, may_sleep: bool) -> Option<Self> {
        let (speed, width) = link
            .current_speed_gts
            .zip(link.current_width)
            .or_else(|| speed_and_width(link.current_bandwidth_gb_s?))?;
        let of_empty = PCI_SPEED_OF_UNKNOWN_GTS * f64::from(PCI_WIDTH_OF_UNKNOWN);
        let slept = may_sleep && speed * f64::from(width) < of_empty;
        (!slept).then_some(Self {
            speed_gts: Some(speed),
            width: Some(width),
            is_least: true,
        })
    }

    /// Whether it carries more than `other`, as far as both are known.
    pub(crate) fn wider_than(self, other: Self) -> bool {
        let carries = |link: Self| {
            let lanes = f64::from(link.width.unwrap_or(PCI_WIDTH_OF_UNKNOWN.into()));
            link.speed_gts.unwrap_or_default() * lanes
        };
        carries(self) > carries(other)
    }

    /// NCCL's word for the speed, empty where it is not known: NCCL then takes 8 GT/s.  A speed between
    /// two of its table, or beyond it, is the next lower one.
    pub(crate) fn speed_word(self) -> &'static str {
        let speed = self.speed_gts.unwrap_or_default();
        fastest_first()
            .find(|listed| speed >= listed.gts)
            .map_or("", |listed| listed.word)
    }

    /// The width in digits, empty where it is not known: NCCL then takes 16.
    pub(crate) fn width_word(self) -> String {
        self.width
            .map(|width| width.to_string())
            .unwrap_or_default()
    }
}

/// The words of NCCL's list that the file uses: the kernel's own of today, which have one for each speed.
fn fastest_first() -> impl Iterator<Item = &'static PciSpeed> {
    PCI_SPEEDS
        .iter()
        .rev()
        .filter(|speed| speed.word.ends_with(" PCIe"))
}

/// A speed in GT/s and a number of lanes that make this bandwidth, in GB/s.  Several may, all of one
/// product, which is what NCCL reckons with; that of the most lanes up to 16 is taken.
fn speed_and_width(bandwidth_gb_s: f64) -> Option<(f64, u32)> {
    let makes = |speed: f64, width: u32| {
        let encoding = ENCODINGS.iter().find(|(from, _)| speed >= *from);
        let gb_s = speed / 8.0 * encoding.map_or(1.0, |(_, payload)| *payload) * f64::from(width);
        (gb_s / bandwidth_gb_s - 1.0).abs() < 0.005
    };
    [16, 8, 4, 2, 1].into_iter().find_map(|width| {
        let mut speeds = fastest_first().map(|listed| listed.gts);
        Some((speeds.find(|speed| makes(*speed, width))?, width))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bandwidth_is_a_speed_times_lanes() {
        // As hwloc writes them; the last but one is x12, which does not exist.
        assert_eq!(speed_and_width(63.015385), Some((32.0, 16)));
        assert_eq!(speed_and_width(15.753846), Some((8.0, 16)));
        assert_eq!(speed_and_width(4.0), Some((2.5, 16)));
        assert_eq!(speed_and_width(0.984615), Some((8.0, 1)));
        assert_eq!(speed_and_width(121.0), Some((64.0, 16)));
        assert_eq!(speed_and_width(11.815), None);
        assert_eq!(speed_and_width(0.0), None);
    }

    #[test]
    fn a_speed_that_nccl_does_not_list_is_the_next_lower() {
        let word = |speed_gts| {
            LinkMaximum {
                speed_gts,
                width: None,
                is_least: false,
            }
            .speed_word()
        };
        assert_eq!(word(Some(32.0)), "32.0 GT/s PCIe");
        assert_eq!(word(Some(2.5)), "2.5 GT/s PCIe");
        assert_eq!(word(Some(25.0)), "16.0 GT/s PCIe");
        assert_eq!(word(Some(128.0)), "64.0 GT/s PCIe");
        assert_eq!(word(None), "");
    }
}
