//! The values of a declaration: index lists, sizes of memory, PCI addresses.
//!
//! They are read and written here by code of their own.  Were it the product's, a fault of its parsers would
//! write and read the same wrong thing, and no test would see it.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

/// CPU or node numbers; in a declaration the kernel's list form, `0-3,8`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexes(pub Vec<u32>);

impl Indexes {
    pub(crate) fn set(&self) -> BTreeSet<u32> {
        self.0.iter().copied().collect()
    }
}

impl<'de> Deserialize<'de> for Indexes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let numbers = |item: &str| -> Option<Vec<u32>> {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            Some((first.parse().ok()?..=last.parse().ok()?).collect())
        };
        let mut all = Vec::new();
        for item in text.split(',').filter(|item| !item.is_empty()) {
            all.extend(
                numbers(item).ok_or_else(|| D::Error::custom(format!("\"{text}\" is no list")))?,
            );
        }
        Ok(Self(all))
    }
}

/// The kernel's list of `numbers`: `0-3,8`.
pub(crate) fn list(numbers: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let run = |(first, last): &(u32, u32)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    runs.iter().map(run).collect::<Vec<_>>().join(",")
}

/// The kernel's mask of `numbers` on a machine with room for `possible`: words of 32 bits, highest first.
pub(crate) fn mask(numbers: &BTreeSet<u32>, possible: u32) -> String {
    let words = possible.div_ceil(32).max(1);
    let word = |index: u32| {
        let bits = numbers.range(index * 32..(index + 1) * 32);
        bits.fold(0_u32, |word, number| word | 1 << (number - index * 32))
    };
    let highest_width = usize::try_from((possible - (words - 1) * 32).div_ceil(4)).unwrap_or(8);
    let text = |index: u32| {
        let width = if index + 1 == words { highest_width } else { 8 };
        format!("{:0width$x}", word(index))
    };
    (0..words).rev().map(text).collect::<Vec<_>>().join(",")
}

/// A size of memory in bytes; in a declaration `512M` or `64G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let sized = |suffix, shift: u32| {
            let number: u64 = text.strip_suffix(suffix)?.parse().ok()?;
            Some(Self(number << shift))
        };
        let none = || (text == "0").then_some(Self(0));
        sized('G', 30)
            .or_else(|| sized('M', 20))
            .or_else(none)
            .ok_or_else(|| D::Error::custom(format!("\"{text}\" is no size, as in \"64G\"")))
    }
}

/// A PCI address; in a declaration the domain 0000 may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub(crate) domain: u32,
    pub(crate) bus: u8,
    pub(crate) device: u8,
    pub(crate) function: u8,
}

impl Address {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split([':', '.']).collect();
        let (domain, rest) = match parts.as_slice() {
            [bus, device, function] => ("0", [bus, device, function]),
            [domain, bus, device, function] => (*domain, [bus, device, function]),
            _ => return None,
        };
        let [bus, device, function] = rest.map(|part| u8::from_str_radix(part, 16).ok());
        Some(Self {
            domain: u32::from_str_radix(domain, 16).ok()?,
            bus: bus?,
            device: device?,
            function: function?,
        })
    }

    pub(crate) fn devfn(self) -> u8 {
        self.device << 3 | self.function
    }

    pub(crate) fn pci(self) -> topology::pci::PciAddress {
        topology::pci::PciAddress {
            domain: self.domain,
            bus: self.bus,
            device: self.device,
            function: self.function,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("\"{text}\" is no PCI address")))
    }
}

/// The way from the root bus down to a device, itself last: `20:01.0 21:00.0 22:00.0 23:00.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way(pub Vec<Address>);

impl<'de> Deserialize<'de> for Way {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let way: Option<Vec<_>> = text.split_whitespace().map(Address::parse).collect();
        way.filter(|way| !way.is_empty())
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("\"{text}\" is no way to a PCI device")))
    }
}

/// A root bus; in a declaration `20`, or with its domain `10000:e0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootBus {
    pub(crate) domain: u32,
    pub(crate) bus: u8,
}

impl fmt::Display for RootBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}", self.domain, self.bus)
    }
}

impl<'de> Deserialize<'de> for RootBus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (domain, bus) = text.split_once(':').unwrap_or(("0", &text));
        let domain = u32::from_str_radix(domain, 16);
        let bus = u8::from_str_radix(bus, 16);
        domain
            .ok()
            .zip(bus.ok())
            .map(|(domain, bus)| Self { domain, bus })
            .ok_or_else(|| D::Error::custom(format!("\"{text}\" is no root bus")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_masks_are_the_kernels() {
        let set: BTreeSet<u32> = [0, 1, 2, 3, 8, 33].into();
        assert_eq!(list(&set), "0-3,8,33");
        assert_eq!(mask(&set, 64), "00000002,0000010f");
        assert_eq!(mask(&set, 36), "2,0000010f");
        assert_eq!(mask(&BTreeSet::new(), 4), "0");
        assert_eq!(list(&BTreeSet::new()), "");
    }

    #[test]
    fn an_address_is_read_with_and_without_its_domain() {
        assert_eq!(
            Address::parse("3b:00.1").unwrap().to_string(),
            "0000:3b:00.1"
        );
        assert_eq!(
            Address::parse("10000:e1:00.0").unwrap().to_string(),
            "10000:e1:00.0"
        );
        assert_eq!(Address::parse("3b:00"), None);
    }
}
