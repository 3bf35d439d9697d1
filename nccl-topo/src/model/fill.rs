//! What NCCL fills in of a file on the host where it runs: attributes that are missing at its GPUs and NICs and above them
//! (`graph/xml.cc` `ncclTopoGetXmlFromSys`, `ncclTopoGetXmlFromCpu`).

use topology::machine::{Machine, Processor};
use topology::pci::{DeviceKind, PciDevice};

use super::absent::is_found_in_sys;
use crate::element::Element;
use crate::link::LinkMaximum;
use crate::processor::written_family;
use crate::reader::System;
use crate::rules::Rules;

/// A file as NCCL has it on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// The file with what was missing.
    pub system: System,
    /// What was filled in of that which decides paths: `vendor of <cpu numaid="0">`.
    pub added: Vec<String>,
    /// The same that is missing still, because the machine does not tell.
    pub missing: Vec<String>,
    /// GPUs whose link is taken at its highest speed, where NCCL takes the speed that it has at the moment.
    pub at_highest_speed: Vec<String>,
}

/// The file as the NCCL of these rules has it on `machine`.
pub fn filled(system: &System, machine: &Machine, rules: &Rules) -> Filled {
    fill(system, Some(machine), rules)
}

/// What the NCCL of these rules would fill in of a file on a machine that is not known here ([`Filled::missing`]).
pub fn left_out(system: &System, rules: &Rules) -> Vec<String> {
    fill(system, None, rules).missing
}

fn fill(system: &System, machine: Option<&Machine>, rules: &Rules) -> Filled {
    let mut filled = Filled {
        system: system.clone(),
        added: Vec::new(),
        missing: Vec::new(),
        at_highest_speed: Vec::new(),
    };
    let mut root = std::mem::take(&mut filled.system.root);
    let mut fill = Fill {
        machine,
        rules,
        filled: &mut filled,
    };
    for cpu in root.children.iter_mut().filter(|cpu| cpu.name == "cpu") {
        fill.cpu(cpu);
    }
    filled.system.root = root;
    filled
}

struct Fill<'m> {
    machine: Option<&'m Machine>,
    rules: &'m Rules,
    filled: &'m mut Filled,
}

impl Fill<'_> {
    fn cpu(&mut self, cpu: &mut Element) {
        let mut is_used = false;
        for child in &mut cpu.children {
            is_used |= self.pci(child);
        }
        if !is_used {
            return;
        }
        if self.machine.is_some() && cpu.get("affinity").is_none() {
            // It decides no path, but elements that differ in it are not one.
            add(cpu, "affinity", String::new());
        }
        let processor = self.machine.and_then(|machine| machine.processor.as_ref());
        let arch = processor.map(|processor| processor.arch.clone());
        let is_x86 = arch.as_deref().or(cpu.get("arch")) == Some("x86_64");
        self.set(cpu, "arch", arch);
        // Only an NCCL built for x86 asks the processor.
        if !is_x86 {
            return;
        }
        let vendor = processor.and_then(|processor| processor.vendor.clone());
        self.set(cpu, "vendor", vendor);
        let decides = self.reads_family(cpu);
        if cpu.get("familyid").is_some() || (self.machine.is_none() && !decides) {
            return;
        }
        let number = |of: fn(&Processor) -> Option<u32>| processor.and_then(of);
        let family = number(|processor| processor.family).map(written_family);
        let model = number(|processor| processor.model);
        if let (Some(_), Some(model)) = (family, model) {
            // Both come from one reading, so that a model without a family is lost.
            cpu.attributes.retain(|(key, _)| key != "modelid");
            add(cpu, "modelid", model.to_string());
        }
        let family = family.map(|family| family.to_string());
        if decides {
            self.set(cpu, "familyid", family);
        } else if let Some(family) = family {
            add(cpu, "familyid", family);
        }
    }

    /// Whether the family of a `<cpu>` decides anything.
    fn reads_family(&self, cpu: &Element) -> bool {
        let is_amd = |vendor: &str| vendor.starts_with("AuthenticAMD");
        self.rules.amd_needs_family || !cpu.get("vendor").is_some_and(is_amd)
    }

    /// Fills in a `<pci>` and those below it; gives whether a GPU or NIC is among them.
    fn pci(&mut self, pci: &mut Element) -> bool {
        if pci.name != "pci" {
            return false;
        }
        let mut is_used = false;
        for child in &mut pci.children {
            is_used |= self.pci(child);
        }
        let address = pci.get("busid").and_then(|busid| busid.parse().ok());
        let device = self.machine.zip(address);
        let device = device.and_then(|(machine, address)| machine.device(address));
        if let Some(device) = device {
            is_used |= matches!(device.kind(), DeviceKind::Gpu | DeviceKind::Nic);
        } else if self.machine.is_none() {
            let class = pci.get("class").unwrap_or_default();
            is_used |= pci.is_gpu() || class.starts_with("0x02");
        }
        if !is_used {
            return false;
        }
        // NVML tells of a GPU what `/sys` does.
        let by_driver = pci.is_gpu() && self.rules.gpu_link_speed_is_of_the_moment;
        let known = device.filter(|device| by_driver || is_found_in_sys(device.address));
        if let Some(device) = known {
            identify(pci, device);
        }
        self.link(pci, known);
        true
    }

    fn link(&mut self, pci: &mut Element, device: Option<&PciDevice>) {
        if self.machine.is_some() && device.is_none() {
            // Of one that is invented NCCL knows nothing, and takes the least for it.
            for key in ["link_speed", "link_width"] {
                if pci.get(key).is_none() {
                    add(pci, key, String::new());
                }
            }
            return;
        }
        let is_gpu = pci.is_gpu();
        let of_moment = is_gpu && self.rules.gpu_link_speed_is_of_the_moment;
        let ends = self.machine.zip(device);
        let most = ends.map(|(machine, device)| LinkMaximum::of(machine, device));
        let speed = most.map(|most| most.speed_word().to_owned());
        if of_moment && pci.get("link_speed").is_none() && speed.is_some() {
            self.filled
                .at_highest_speed
                .extend(pci.get("busid").map(str::to_owned));
        }
        self.set(pci, "link_speed", speed);
        let width = ends.map(|(machine, device)| {
            if of_moment {
                return most.map(LinkMaximum::width_word).unwrap_or_default();
            }
            // The lesser of both ends; one that is not there counts as 0.
            let port = device.parent.and_then(|port| machine.device(port));
            let port = port.and_then(|port| port.link.max_width);
            let width = device.link.max_width.min(port).unwrap_or_default();
            width.to_string()
        });
        self.set(pci, "link_width", width);
    }

    /// Sets an attribute that is missing.
    fn set(&mut self, element: &mut Element, key: &str, value: Option<String>) {
        if element.get(key).is_some() {
            return;
        }
        let what = format!("{key} of {}", element.tag());
        match value {
            Some(value) => {
                // What is not the file's own leaves nothing out.
                if element.line > 0 {
                    self.filled.added.push(what);
                }
                add(element, key, value);
            }
            None => self.filled.missing.push(what),
        }
    }
}

/// Fills in what a device is.
fn identify(pci: &mut Element, device: &PciDevice) {
    let hex = |id: u16| format!("{id:#06x}");
    let subsystem = device.subsystem;
    let values = [
        ("class", Some(format!("{:#08x}", device.class))),
        ("vendor", Some(hex(device.vendor))),
        ("device", Some(hex(device.device))),
        ("subsystem_vendor", subsystem.map(|(vendor, _)| hex(vendor))),
        ("subsystem_device", subsystem.map(|(_, device)| hex(device))),
    ];
    for (key, value) in values {
        if let Some(value) = value.filter(|_| pci.get(key).is_none()) {
            add(pci, key, value);
        }
    }
}

/// Adds an attribute that is not the file's.
fn add(element: &mut Element, key: &str, value: String) {
    element.attributes.push((key.to_owned(), value));
    element.filled.push(key.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::{Form, emit};
    use crate::graph::PathType;
    use crate::model::nets::{NetDevice, with_nets};
    use crate::model::{Conditions, Model, gpus_of};
    use crate::reader::read;
    use crate::testing::*;

    /// The machine's own file without an attribute, and what is filled in of it.
    fn without(machine: &Machine, key: &str, version: &str) -> (System, Filled) {
        let xml = emit(machine, Form::SingleHost).unwrap().xml;
        let own = read(&xml).system.unwrap();
        let mut system = own.clone();
        drop_key(&mut system.root, key);
        assert_ne!(system, own, "{key}");
        let rules = Rules::of(version.parse().unwrap());
        let filled = filled(&system, machine, rules);
        (own, filled)
    }

    fn drop_key(element: &mut Element, key: &str) {
        element.attributes.retain(|(name, _)| name != key);
        for child in &mut element.children {
            drop_key(child, key);
        }
    }

    #[test]
    fn what_is_left_out_is_the_machines_own() {
        let machine = amd(with_switches(machine(2, 1, 4), 1));
        for key in [
            "arch",
            "vendor",
            "familyid",
            "class",
            "link_speed",
            "link_width",
            "device",
        ] {
            let (own, found) = without(&machine, key, "2.31.0");
            assert_eq!(found.missing, [""; 0], "{key}");
            own.root.walk(&mut |element| {
                let mut same = None;
                found.system.root.walk(&mut |other| {
                    if other.line == element.line {
                        same = Some(other);
                    }
                });
                assert_eq!(
                    same.unwrap().get(key),
                    element.get(key),
                    "{key} of {}",
                    element.tag()
                );
            });
        }
    }

    #[test]
    fn amds_family_is_missed_from_2_31_on_and_speeds_of_gpus_are_of_the_moment_from_2_30_7_on() {
        let machine = amd(with_switches(machine(2, 1, 4), 1));
        for (version, of_family, of_moment) in
            [("2.30.4", 0, 0), ("2.30.7", 0, 2), ("2.31.0", 2, 2)]
        {
            assert_eq!(
                without(&machine, "familyid", version).1.added.len(),
                of_family,
                "{version}"
            );
            let (_, found) = without(&machine, "link_speed", version);
            assert_eq!(found.at_highest_speed.len(), of_moment, "{version}");
        }
    }

    #[test]
    fn a_link_with_one_end_that_is_not_there_has_a_width_of_0() {
        let mut machine = with_switches(machine(1, 1, 4), 1);
        device(&mut machine, "0000:01:00.0").parent = None;
        let xml = "<system version=\"1\"><cpu numaid=\"0\"><pci busid=\"0000:01:00.0\"><pci busid=\"0000:03:00.0\"/>\
                   </pci></cpu></system>";
        let system = read(xml).system.unwrap();
        let found = filled(&system, &machine, Rules::assumed());
        let port = &found.system.root.children[0].children[0];
        assert_eq!(port.get("link_width"), Some("0"));
        let unknown = left_out(&system, Rules::assumed());
        assert_eq!(unknown, [""; 0]);
    }

    #[test]
    fn a_cpu_that_only_a_network_device_keeps_is_not_filled_in() {
        let intel = with_switches(machine(2, 1, 4), 1);
        let (rome, turin) = (amd(intel.clone()), "2.31.0");
        for (machine, key, version, does_stop) in [
            (&intel, "arch", "2.30.7", true),
            (&intel, "vendor", "2.29.7", true),
            (&intel, "familyid", "2.30.7", true),
            (&intel, "affinity", "2.30.7", false),
            (&rome, "familyid", "2.30.7", false),
            (&rome, "familyid", turin, true),
        ] {
            let (own, found) = without(machine, key, version);
            let conditions = Conditions {
                rules: Rules::of(version.parse().unwrap()),
                ..Conditions::of_capability(80)
            };
            let stops_at = |net: Option<NetDevice>| {
                let nets: Vec<_> = net.into_iter().collect();
                let system = with_nets(&found.system, &nets);
                Model::of(&system, &gpus_of(&own), conditions).stops_at
            };
            // It hangs below the first <cpu>, in the trees of all ranks.
            let expected = does_stop.then(|| format!("{key} of <cpu numaid=\"0\">"));
            let expected: Vec<String> = expected.into_iter().collect();
            assert_eq!(stops_at(Some(NetDevice::socket())), expected, "{key}");
            // Each rank fills in what is above an adapter that the file has no <net> of.
            let adapter = NetDevice::socket_at(at("0000:0f:00.0"));
            assert_eq!(stops_at(Some(adapter)), [""; 0], "{key}");
            assert_eq!(stops_at(None), [""; 0], "{key}");
        }
    }

    #[test]
    fn a_cpu_that_some_ranks_fill_in_is_there_twice_and_so_is_what_is_below_it() {
        let machine = with_switches(machine(2, 1, 4), 1);
        let (own, found) = without(&machine, "affinity", "2.30.7");
        let system = with_nets(&found.system, &[NetDevice::socket()]);
        let model = Model::of(&system, &gpus_of(&own), Conditions::of_capability(80));
        let kinds = |net| [0, 1].map(|gpu| model.paths.to_net(gpu, net).unwrap().kind);
        assert_eq!(model.paths.nets().len(), 2);
        assert_eq!(kinds(0), [PathType::Phb, PathType::Sys]);
        assert_eq!(kinds(1), [PathType::Dis; 2]);
    }
}
