//! A file against the machine that it is meant for.

use std::collections::{BTreeMap, BTreeSet};

use topology::machine::Machine;
use topology::nccl::pci_bandwidth_gb_s;
use topology::pci::{DeviceKind, PciAddress, VENDOR_NVIDIA};

use crate::element::Element;
use crate::reader::System;

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
        "{device}: link_speed \"{speed}\" and link_width \"{width}\" are less than the link can do"
    )]
    Slow {
        /// The device.
        device: String,
        /// The file's speed.
        speed: String,
        /// The file's width.
        width: String,
    },
}

/// All differences, by line; those without a line come first.
pub fn compare(system: &System, machine: &Machine) -> Vec<Difference> {
    let mut compare = Compare {
        machine,
        found: Vec::new(),
        listed: BTreeSet::new(),
        cpus: BTreeMap::new(),
    };
    for cpu in system.cpus() {
        compare.cpu(cpu);
    }
    compare.missing();
    compare.torn(system);
    compare.found.sort_by_key(|difference| difference.line);
    compare.found
}

struct Compare<'m> {
    machine: &'m Machine,
    found: Vec<Difference>,
    listed: BTreeSet<PciAddress>,
    /// The `numaid`s under which each package's GPUs are.
    cpus: BTreeMap<u32, BTreeSet<String>>,
}

impl Compare<'_> {
    fn note(&mut self, line: Option<usize>, kind: DifferenceKind) {
        self.found.push(Difference { line, kind });
    }

    fn cpu(&mut self, cpu: &Element) {
        let numaid = cpu.get("numaid").unwrap_or_default();
        let mut packages = BTreeSet::new();
        let mut devices = Vec::new();
        cpu.walk(&mut |element| {
            if element.name == "pci" {
                devices.push(element);
            }
        });
        for element in devices {
            let address = self.device(element);
            let gpu = address.and_then(|address| self.machine.gpu(address));
            packages.extend(gpu.and_then(|gpu| gpu.locality.package));
        }
        for package in &packages {
            self.cpus
                .entry(*package)
                .or_default()
                .insert(numaid.to_owned());
        }
        if packages.len() > 1 {
            let cpu_id = numaid.to_owned();
            let packages = list(packages.iter());
            self.note(
                Some(cpu.line),
                DifferenceKind::Joined {
                    cpu: cpu_id,
                    packages,
                },
            );
        }
    }

    /// One `<pci>`; gives its address where the machine has it.
    fn device(&mut self, element: &Element) -> Option<PciAddress> {
        let busid = element.get("busid").unwrap_or_default();
        let parsed = busid
            .parse::<PciAddress>()
            .ok()
            .filter(|real| real.to_string() == busid);
        let Some(device) = parsed.and_then(|address| self.machine.device(address)) else {
            let class = element.get("class").unwrap_or_default();
            // A switch may be made up, to say how devices hang together.
            if class.starts_with("0x03") || class.starts_with("0x02") {
                self.note(
                    Some(element.line),
                    DifferenceKind::NotHere(busid.to_owned()),
                );
            }
            return None;
        };
        let speed = element.get("link_speed").unwrap_or_default();
        let width = element.get("link_width").unwrap_or_default();
        let in_file = pci_bandwidth_gb_s(speed, width.parse().unwrap_or_default());
        let end = |device: &topology::pci::PciDevice| {
            let link = &device.link;
            Some((link.max_speed_gts?, link.max_width?))
        };
        let port = device
            .parent
            .and_then(|port| self.machine.device(port))
            .and_then(end);
        let least = [end(device), port]
            .into_iter()
            .flatten()
            .reduce(|a, b| (a.0.min(b.0), a.1.min(b.1)));
        // NCCL's figures: 8 GT/s with 16 lanes is 12 GB/s.
        let can = least.map(|(speed, width)| speed * f64::from(width) * 12.0 / 128.0);
        if can.is_some_and(|can| f64::from(in_file) < can * 0.9) {
            let kind = DifferenceKind::Slow {
                device: busid.to_owned(),
                speed: speed.to_owned(),
                width: width.to_owned(),
            };
            self.note(Some(element.line), kind);
        }
        self.listed.insert(device.address);
        Some(device.address)
    }

    fn missing(&mut self) {
        let gpus = self
            .machine
            .gpus
            .iter()
            .filter(|gpu| gpu.vendor == VENDOR_NVIDIA);
        let gpus = gpus.map(|gpu| DifferenceKind::MissingGpu(gpu.pci));
        let is_nic = |address| {
            let device = self.machine.device(address);
            device.is_some_and(|device| {
                device.kind() == DeviceKind::Nic && matches!(device.class >> 8, 0x0200 | 0x0207)
            })
        };
        let nics = self.machine.nics.iter().filter(|nic| is_nic(nic.pci));
        let nics = nics.map(|nic| DifferenceKind::MissingNic(nic.pci));
        let missing: Vec<_> = gpus
            .chain(nics)
            .filter(|kind| match kind {
                DifferenceKind::MissingGpu(pci) | DifferenceKind::MissingNic(pci) => {
                    !self.listed.contains(pci)
                }
                DifferenceKind::NotHere(_)
                | DifferenceKind::Torn { .. }
                | DifferenceKind::Joined { .. }
                | DifferenceKind::Slow { .. } => false,
            })
            .collect();
        for kind in missing {
            self.note(None, kind);
        }
    }

    /// Packages whose GPUs are under several `<cpu>`, but for those kept in order on purpose
    /// ([`crate::emit::Form::MultiHost`]).
    fn torn(&mut self, system: &System) {
        let on_purpose = system
            .cpus()
            .all(|cpu| cpu.named("nic").any(|nic| nic.get("keep") == Some("1")));
        if on_purpose {
            return;
        }
        for (package, cpus) in std::mem::take(&mut self.cpus) {
            if cpus.len() > 1 {
                let first = system
                    .cpus()
                    .find(|cpu| cpu.get("numaid").is_some_and(|id| cpus.contains(id)));
                let line = first.map(|cpu| cpu.line);
                let cpus = list(cpus.iter());
                self.note(line, DifferenceKind::Torn { package, cpus });
            }
        }
    }
}

fn list(items: impl Iterator<Item = impl ToString>) -> String {
    items
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::{Form, emit};
    use crate::reader::parse;
    use crate::testing::*;

    /// The messages for the file of `from`, changed by `edit`, against `machine`.
    fn differences(from: &Machine, machine: &Machine, form: Form) -> Vec<String> {
        let system = parse(&emit(from, form).unwrap().xml).unwrap();
        compare(&system, machine)
            .iter()
            .map(|found| found.kind.to_string())
            .collect()
    }

    #[test]
    fn a_machines_own_file_does_not_differ() {
        for machine in [
            with_switches(machine(2, 2, 4), 2),
            without_switches(machine(2, 2, 4), 2, true),
        ] {
            for form in [Form::SingleHost, Form::MultiHost] {
                assert_eq!(differences(&machine, &machine, form), [""; 0]);
            }
        }
    }

    #[test]
    fn missing_and_foreign_devices_are_named() {
        let small = with_switches(machine(2, 1, 4), 1);
        let large = with_switches(machine(2, 1, 4), 2);
        let found = differences(&small, &large, Form::SingleHost);
        assert!(
            found[0].starts_with("GPU 0000:04:00.0 is not in the file"),
            "{found:?}"
        );
        let found = differences(&large, &small, Form::SingleHost);
        assert!(
            found.contains(&"0000:14:00.0 is no device of this machine".to_owned()),
            "{found:?}"
        );
    }

    #[test]
    fn nodes_taken_for_sockets_and_packages_taken_for_one_are_named() {
        let split = with_switches(machine(4, 1, 4), 1);
        let joined = with_switches(machine(2, 2, 4), 1);
        let found = differences(&split, &joined, Form::SingleHost);
        assert!(
            found[0].starts_with("the GPUs of package 0 are under <cpu> 0, 1"),
            "{found:?}"
        );
        let found = differences(&joined, &split, Form::SingleHost);
        assert!(
            found[0].starts_with("<cpu numaid=\"0\"> holds GPUs of packages 0, 1"),
            "{found:?}"
        );
    }

    #[test]
    fn a_link_that_can_do_more_is_named() {
        let fast = with_switches(machine(1, 1, 4), 1);
        let mut slow = fast.clone();
        device(&mut slow, "0000:03:00.0").link.max_speed_gts = Some(2.5);
        let found = differences(&slow, &fast, Form::SingleHost);
        assert!(
            found[0].starts_with("0000:03:00.0: link_speed \"2.5 GT/s PCIe\""),
            "{found:?}"
        );
        assert_eq!(differences(&fast, &slow, Form::SingleHost), [""; 0]);
    }
}
