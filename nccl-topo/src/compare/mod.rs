//! A file against the machine that it is meant for.

use std::collections::{BTreeMap, BTreeSet};

use topology::machine::Machine;
use topology::pci::{DeviceKind, PciAddress};

use crate::element::Element;
use crate::model::filled;
use crate::reader::System;
use crate::rules::Rules;

mod cpus;
mod devices;
mod difference;
#[cfg(test)]
mod tests;

pub use difference::{Difference, DifferenceKind};

use difference::Found;

/// All differences for the NCCL of these rules, by line; those without a line come first.
pub fn compare(system: &System, machine: &Machine, rules: &Rules) -> Vec<Difference> {
    let system = &filled(system, machine, rules).system;
    let mut compare = Compare {
        found: Found {
            machine,
            rules,
            list: Vec::new(),
        },
        listed: BTreeSet::new(),
        cpus: BTreeMap::new(),
    };
    for cpu in system.cpus() {
        compare.cpu(cpu);
    }
    compare.missing();
    compare.torn(system);
    let mut found = compare.found.list;
    found.sort_by_key(|difference| difference.line);
    found
}

struct Compare<'m> {
    found: Found<'m>,
    listed: BTreeSet<PciAddress>,
    /// The `numaid`s under which each package's GPUs are.
    cpus: BTreeMap<u32, BTreeSet<String>>,
}

impl Compare<'_> {
    fn cpu(&mut self, cpu: &Element) {
        let mut below = Vec::new();
        for child in cpu.named("pci") {
            devices::compare(&mut self.found, child, None, &mut below);
        }
        self.listed.extend(&below);
        let packages: BTreeSet<_> = below
            .iter()
            .filter_map(|address| self.found.machine.gpu(*address)?.locality.package)
            .collect();
        let numaid = cpu.get("numaid").unwrap_or_default();
        for package in &packages {
            let cpus = self.cpus.entry(*package).or_default();
            cpus.insert(numaid.to_owned());
        }
        if packages.len() > 1 {
            let kind = DifferenceKind::Joined {
                cpu: numaid.to_owned(),
                packages: list(packages.iter()),
            };
            self.found.note(Some(cpu.line), kind);
        }
        cpus::place(&mut self.found, cpu, &below);
        cpus::affinity(&mut self.found, cpu, &below);
        cpus::processor(&mut self.found, cpu);
    }

    fn missing(&mut self) {
        let machine = self.found.machine;
        for gpu in machine
            .nccl_gpus()
            .filter(|gpu| !self.listed.contains(&gpu.pci))
            .collect::<Vec<_>>()
        {
            self.found.note(None, DifferenceKind::MissingGpu(gpu.pci));
        }
        let is_nic = |address| {
            let device = machine.device(address);
            device.is_some_and(|device| {
                device.kind() == DeviceKind::Nic && matches!(device.class >> 8, 0x0200 | 0x0207)
            })
        };
        for nic in machine.nics.iter().filter(|nic| is_nic(nic.pci)) {
            if !self.listed.contains(&nic.pci) {
                self.found.note(None, DifferenceKind::MissingNic(nic.pci));
            }
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
                self.found
                    .note(line, DifferenceKind::Torn { package, cpus });
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
