//! PCI addresses, links and devices.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::set::{CpuSet, NodeSet};
use crate::text::from_text;
use crate::vendor::GpuVendor;

/// A PCI address, `0000:3b:00.0`: domain, bus, device and function.
///
/// Domains have 16 bits on most machines and 32 behind Intel VMD (`10000:01:00.0`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// Domain (segment).
    pub domain: u32,
    /// Bus.
    pub bus: u8,
    /// Device on the bus, 0 to 31.
    pub device: u8,
    /// Function of the device, 0 to 7.
    pub function: u8,
}

/// A text that is no PCI address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no PCI address; expected domain:bus:device.function as in 0000:3b:00.0")]
pub struct ParsePciError(pub String);

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Digit by digit: a launch writes several for each GPU, and `{:02x}` takes ten times as long.
        let digit = |shifted: u32| char::from_digit(shifted & 15, 16).unwrap_or('?') as u8;
        let domain: [u8; 8] = std::array::from_fn(|at| digit(self.domain >> (28 - 4 * at)));
        let unpadded = (self.domain.leading_zeros() as usize / 4).min(4);
        let bus = u32::from(self.bus);
        let device = u32::from(self.device);
        let rest = [
            b':',
            digit(bus >> 4),
            digit(bus),
            b':',
            digit(device >> 4),
            digit(device),
            b'.',
            digit(u32::from(self.function)),
        ];
        let mut text = [0; 16];
        let (before, after) = text.split_at_mut(domain.len());
        before.copy_from_slice(&domain);
        after.copy_from_slice(&rest);
        let text = text.get(unpadded..).unwrap_or_default();
        f.write_str(std::str::from_utf8(text).unwrap_or_default())
    }
}

/// Takes the domain with any number of digits up to eight, as sysfs (four) and NVML (eight) write it.
impl FromStr for PciAddress {
    type Err = ParsePciError;

    fn from_str(text: &str) -> Result<Self, ParsePciError> {
        parse_address(text.as_bytes()).ok_or_else(|| ParsePciError(text.to_owned()))
    }
}

impl PciAddress {
    /// The address that `text` begins with, up to a blank, and how many bytes it has; none for any other beginning.
    pub(crate) fn at_start(text: &[u8]) -> Option<(Self, usize)> {
        let longest = text.get(..LONGEST).unwrap_or(text);
        let end = longest.iter().position(|byte| *byte == b' ');
        let end = end.unwrap_or(longest.len());
        Some((parse_address(text.get(..end)?)?, end))
    }
}

/// Bytes of the longest address.
const LONGEST: usize = "00000000:00:00.0".len();

/// Stands for a character that is no digit.
const NO_DIGIT: u32 = 1 << 8;

fn parse_address(text: &[u8]) -> Option<PciAddress> {
    let (domain, rest) = text.split_at_checked(text.len().checked_sub(":00:00.0".len())?)?;
    let &[b':', bus, low_bus, b':', device, low_device, b'.', function] = rest else {
        return None;
    };
    if !(4..=8).contains(&domain.len()) {
        return None;
    }
    // Whether all are digits is looked at once, for a launch reads some hundred addresses.
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => u32::from(digit - b'0'),
        b'a'..=b'f' => u32::from(digit - b'a') + 10,
        b'A'..=b'F' => u32::from(digit - b'A') + 10,
        _ => NO_DIGIT,
    };
    let (mut number, mut all) = (0u32, 0);
    for digit in domain.iter().map(|text| digit(*text)) {
        number = number << 4 | digit & 15;
        all |= digit;
    }
    let [bus, low_bus, device, low_device, function] =
        [bus, low_bus, device, low_device, function].map(digit);
    if (all | bus | low_bus | device | low_device | function) & NO_DIGIT != 0 {
        return None;
    }
    let byte = |digits: u32| u8::try_from(digits).ok();
    let address = PciAddress {
        domain: number,
        bus: byte(bus << 4 | low_bus)?,
        device: byte(device << 4 | low_device)?,
        function: byte(function)?,
    };
    (address.device < 32 && address.function < 8).then_some(address)
}

impl Serialize for PciAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for PciAddress {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PciAddress".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7]$" })
    }
}

impl<'de> Deserialize<'de> for PciAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

/// A device's PCI Express link as its own registers give it; a field is none where it is not recorded.
///
/// Sources: `max_link_speed`, `max_link_width`, `current_link_speed`, `current_link_width` in sysfs.
/// An idle GPU lowers its current speed, so only the maximum says what the link can do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Link {
    /// Highest speed, in GT/s (2.5, 5, 8, 16, 32, 64).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_speed_gts: Option<f64>,
    /// Highest width, in lanes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_width: Option<u32>,
    /// Speed when read, in GT/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_speed_gts: Option<f64>,
    /// Width when read, in lanes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_width: Option<u32>,
    /// Bandwidth when read, in GB/s, where only that product of speed and width is recorded (hwloc's
    /// `pci_link_speed`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_bandwidth_gb_s: Option<f64>,
}

/// A PCI device that matters here: a GPU, a NIC, or a bridge above one.
///
/// `numa_node`, `local_cpus` and `attached_nodes` are raw facts, kept as they were read: what they
/// mean is decided in [`crate::locality`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PciDevice {
    /// Where it is.
    pub address: PciAddress,
    /// The bridge above it; none directly below a host bridge (and where not recorded).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<PciAddress>,
    /// The root bus it hangs from, as domain and bus number (`pci0000:20` in sysfs).
    ///
    /// Devices with different root buses are below different host bridges.  Absent where not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_bus: Option<(u32, u8)>,
    /// Class, subclass and programming interface: 24 bits, as sysfs `class`.  The interface byte is 0
    /// where the source gives only 16 bits.
    pub class: u32,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Subsystem vendor and device id; none for bridges without them and where not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subsystem: Option<(u16, u16)>,
    /// The link to the port above.
    #[serde(default)]
    pub link: Link,
    /// Linux's `numa_node` file as it stands, -1 included; none where not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<i32>,
    /// Linux's `local_cpulist` file; none where not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_cpus: Option<CpuSet>,
    /// The nodes of the object below which hwloc (or an NCCL file's `<cpu>`) hangs the device; none
    /// where that is the whole machine or not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached_nodes: Option<NodeSet>,
    /// The CPUs of that object where it is a cache, cut to what the process that asked may use; none elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached_cpus: Option<CpuSet>,
}

/// What a PCI device is to us, by its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A GPU of a vendor in [`crate::vendor`].
    Gpu,
    /// Network controller (02xx): Ethernet, InfiniBand.
    Nic,
    /// PCI-to-PCI bridge (0604): root port or switch port.
    Bridge,
    /// Anything else.
    Other,
}

/// Class and interface of a "3D controller", which a GPU without a display is.
pub const CLASS_3D: u32 = 0x03_0200;
/// Class and interface of a PCI-to-PCI bridge.
pub const CLASS_BRIDGE: u32 = 0x06_0400;

/// Amazon, whose EFA adapters are NICs.
pub const VENDOR_AMAZON: u16 = 0x1d0f;

impl PciDevice {
    /// A device of which nothing is known but its address, class and ids.
    pub fn new(address: PciAddress, class: u32, vendor: u16, device: u16) -> Self {
        Self {
            address,
            parent: None,
            root_bus: None,
            class,
            vendor,
            device,
            subsystem: None,
            link: Link::default(),
            numa_node: None,
            local_cpus: None,
            attached_nodes: None,
            attached_cpus: None,
        }
    }

    /// A device of which only its place in the tree is known.
    pub(crate) fn placed(
        address: PciAddress,
        parent: Option<PciAddress>,
        root_bus: Option<(u32, u8)>,
    ) -> Self {
        Self {
            parent,
            root_bus,
            ..Self::new(address, 0, 0, 0)
        }
    }

    /// What the device is to us.
    pub fn kind(&self) -> DeviceKind {
        let at = self.address;
        let is_at_processors_graphics = (at.domain, at.bus, at.device) == (0, 0, 2);
        let is_gpu =
            |vendor: &GpuVendor| vendor.is_gpu(self.class, self.device, is_at_processors_graphics);
        if GpuVendor::of(self.vendor).is_some_and(is_gpu) {
            return DeviceKind::Gpu;
        }
        match (self.class >> 16, self.class >> 8) {
            (0x02, _) => DeviceKind::Nic,
            (_, 0x0604) => DeviceKind::Bridge,
            _ => DeviceKind::Other,
        }
    }
}

/// Each device once, in the order in which they first come: a GPU that is divided is in a list once for each part.
pub fn once_each(mut devices: Vec<PciAddress>) -> Vec<PciAddress> {
    let mut index = 0;
    while let Some(device) = devices.get(index) {
        let is_known = devices.iter().take(index).any(|known| known == device);
        if is_known {
            devices.remove(index);
        } else {
            index += 1;
        }
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_comes_again_is_left_out() {
        let [a, b]: [PciAddress; 2] =
            ["0000:23:00.0", "0000:83:00.0"].map(|pci| pci.parse().unwrap());
        assert_eq!(once_each(vec![b, a, a, b, a]), [b, a]);
        assert_eq!(once_each(Vec::new()), []);
    }

    #[test]
    fn reads_sysfs_and_nvml_forms() {
        for text in ["0000:3b:00.0", "00000000:3B:00.0"] {
            assert_eq!(
                text.parse::<PciAddress>().unwrap().to_string(),
                "0000:3b:00.0"
            );
        }
        assert_eq!(
            "10000:01:00.0".parse::<PciAddress>().unwrap().to_string(),
            "10000:01:00.0"
        );
    }

    #[test]
    fn every_digit_is_written() {
        for text in [
            "0000:00:00.0",
            "ffff:ff:1f.7",
            "89abcdef:01:02.3",
            "10000:fe:10.5",
            "0abc:0d:0e.6",
        ] {
            let address: PciAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn a_short_or_odd_address_is_refused_by_name() {
        for text in [
            "3b:00.0",
            "0000:3b:00",
            "0000:3b:20.0",
            "0000:3b:00.8",
            "0000:3b:0 .0",
            "+000:3b:00.0",
            "",
        ] {
            let error = text.parse::<PciAddress>().unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("\"{text}\" is no PCI address"))
            );
        }
    }

    #[test]
    fn kinds_go_by_class_and_vendor() {
        let kind = |class, vendor| {
            let address = "0000:01:00.0".parse().unwrap();
            PciDevice::new(address, class, vendor, 0).kind()
        };
        assert_eq!(kind(0x03_0200, 0x10de), DeviceKind::Gpu);
        assert_eq!(kind(0x12_0000, 0x1002), DeviceKind::Gpu);
        assert_eq!(kind(0x03_0000, 0x1a03), DeviceKind::Other);
        assert_eq!(kind(0x02_0700, 0x15b3), DeviceKind::Nic);
        assert_eq!(kind(0x06_0400, 0x1000), DeviceKind::Bridge);
        assert_eq!(kind(0x06_8000, 0x10de), DeviceKind::Other);
    }
}
