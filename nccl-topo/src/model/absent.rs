//! What NCCL adds to a file on the host where it runs: GPUs of the job and adapters of its network that the file does not
//! have, where `/sys` has them (`graph/xml.cc` `ncclTopoFillGpu`, `ncclTopoFillNet`, `ncclTopoGetXmlFromSys`).

use topology::machine::Machine;
use topology::pci::PciAddress;

use super::gpus_of;
use super::nets::{pci_element, rdma_ports};
use crate::element::{Element, GPU_CLASS};
use crate::reader::System;

/// How the class of a network adapter begins.
const NIC_CLASS: &str = "0x02";

/// The deepest chain of switches that is followed, also where a recording leads in a circle.
const MAX_DEPTH: usize = 32;

/// The `numaid` of what NCCL finds no place for.
const NOWHERE: &str = "-1";

/// A file with the GPUs and adapters of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// The file with those that it does not have.
    pub system: System,
    /// These, by address; first the GPUs.
    pub added: Vec<PciAddress>,
    /// Those whose place `/sys` is not known to have.
    pub unplaced: Vec<PciAddress>,
}

/// The file with the GPUs and RDMA adapters of `machine` that it does not have, for NCCL where firmware reports them.  A file
/// with GPUs of another machine alone is left as it is.
pub fn completed(system: &System, machine: &Machine) -> Completed {
    let mut completed = Completed {
        system: system.clone(),
        added: Vec::new(),
        unplaced: Vec::new(),
    };
    let own = gpus_of(system);
    let gpus: Vec<PciAddress> = machine.nccl_gpus().map(|gpu| gpu.pci).collect();
    let is_own = |gpu: &PciAddress| own.contains(&gpu.to_string());
    if !gpus.iter().any(is_own) {
        return completed;
    }
    let ports = rdma_ports(machine).into_iter();
    let mut adapters: Vec<PciAddress> = ports
        .filter(|port| !names_net(&system.root, &port.name))
        .filter_map(|port| Some(adapter_of(machine, port.pci?)))
        .collect();
    adapters.dedup();
    let kinds = [(GPU_CLASS, gpus), (NIC_CLASS, adapters)];
    for (class, devices) in kinds {
        for device in devices {
            let root = &mut completed.system.root;
            if pci_element(root, &device.to_string()).is_some() {
                continue;
            }
            let element = Element::new("pci")
                .with("busid", device.to_string())
                .with("class", class);
            let list = match place(root, machine, device, element) {
                Some(()) => &mut completed.added,
                None => &mut completed.unplaced,
            };
            list.push(device);
        }
    }
    completed
}

/// The adapter for which NCCL takes a port of a function: device 00, function 0 of its bus, where there is one
/// (`transport/net_ib` `ncclIbGetPciPath`).
fn adapter_of(machine: &Machine, function: PciAddress) -> PciAddress {
    let first = PciAddress {
        device: 0,
        function: 0,
        ..function
    };
    let known = machine.device(first).map(|first| first.address);
    known.unwrap_or(function)
}

/// Whether a file has a network device of a name.
fn names_net(element: &Element, name: &str) -> bool {
    element.name == "net" && element.get("name") == Some(name)
        || element.children.iter().any(|child| names_net(child, name))
}

/// Puts the element of a device below the switch that `/sys` has above it, else below the `<cpu>` of its node; what the file
/// lacks of them is made.  A switch is two bridges: NCCL goes two up and takes the upper.  None where `/sys` is not known.
fn place(
    root: &mut Element,
    machine: &Machine,
    mut address: PciAddress,
    mut element: Element,
) -> Option<()> {
    for _ in 0..MAX_DEPTH {
        let device = machine.device(address)?;
        if !is_found_in_sys(address) {
            below_cpu(root, NOWHERE, element);
            return Some(());
        }
        let port = device.parent.and_then(|port| machine.device(port));
        let Some(switch) = port.and_then(|port| port.parent) else {
            below_cpu(root, &device.numa_node?.to_string(), element);
            return Some(());
        };
        let busid = switch.to_string();
        if let Some(known) = pci_element(root, &busid) {
            insert(known, element);
            return Some(());
        }
        let mut above = Element::new("pci").with("busid", busid);
        above.children.push(element);
        (address, element) = (switch, above);
    }
    None
}

/// Whether NCCL finds a device in `/sys`: it takes a domain to have four digits (`ncclOsGetPciPath`).
pub(super) fn is_found_in_sys(address: PciAddress) -> bool {
    address.domain <= 0xffff
}

/// Puts a device below the `<cpu>` of a number, made where there is none.
fn below_cpu(root: &mut Element, numaid: &str, element: Element) {
    let cpus = root.children.iter_mut();
    let mut own = cpus.filter(|child| child.name == "cpu" && child.get("numaid") == Some(numaid));
    match own.next() {
        Some(cpu) => insert(cpu, element),
        None => {
            let mut cpu = Element::new("cpu").with("numaid", numaid);
            cpu.children.push(element);
            root.children.push(cpu);
        }
    }
}

/// Puts a device before the first whose address is greater as text.
fn insert(holder: &mut Element, element: Element) {
    let own = element.get("busid");
    let is_after = |child: &Element| child.get("busid").is_some() && child.get("busid") > own;
    let place = holder.children.iter().position(is_after);
    holder
        .children
        .insert(place.unwrap_or(holder.children.len()), element);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::{Form, emit};
    use crate::reader::read;
    use crate::testing::*;

    /// The file without what `is_gone` says.
    fn without(element: &mut Element, is_gone: &dyn Fn(&Element) -> bool) {
        element.children.retain(|child| !is_gone(child));
        for child in &mut element.children {
            without(child, is_gone);
        }
    }

    /// The tags of a file, in document order.
    fn tags(system: &System) -> Vec<String> {
        let mut tags = Vec::new();
        system.root.walk(&mut |element| tags.push(element.tag()));
        tags
    }

    #[test]
    fn what_a_file_lacks_is_where_sys_has_it() {
        let machine = with_switches(machine(2, 1, 4), 2);
        let whole = read(&emit(&machine, Form::SingleHost).unwrap().xml)
            .system
            .unwrap();
        let gpus = gpus_of(&whole);
        assert!(gpus.len() > 2, "{gpus:?}");
        for gone in &gpus {
            let mut system = whole.clone();
            without(&mut system.root, &|element| {
                element.get("busid") == Some(gone)
            });
            let found = completed(&system, &machine);
            assert_eq!(tags(&found.system), tags(&whole), "{gone}");
            assert_eq!(found.added, [at(gone)]);
            assert_eq!(found.unplaced, []);
        }
        assert_eq!(completed(&whole, &machine).added, []);
    }

    #[test]
    fn a_device_whose_domain_has_five_digits_is_nowhere() {
        let mut machine = with_switches(machine(1, 1, 4), 1);
        let far = at("10000:01:00.0");
        machine.pci.iter_mut().for_each(|device| {
            if device.address == machine.gpus[0].pci {
                device.address = far;
            }
        });
        let mut gpu = machine.gpus[0].clone();
        gpu.pci = far;
        let near = machine.gpus[0].pci;
        machine.gpus.push(gpu);
        let text = format!(
            "<system version=\"1\"><cpu numaid=\"0\"><pci busid=\"{near}\" class=\"0x030200\"/></cpu></system>"
        );
        let found = completed(&read(&text).system.unwrap(), &machine);
        assert!(found.added.contains(&far));
        let filled = super::super::filled(&found.system, &machine, crate::rules::Rules::assumed());
        let mut cpus = filled.system.root.named("cpu");
        let nowhere = cpus.find(|cpu| cpu.get("numaid") == Some(NOWHERE)).unwrap();
        assert_eq!(nowhere.children[0].get("busid"), Some("10000:01:00.0"));
        assert_eq!(
            nowhere.children[0].get("link_speed"),
            Some("32.0 GT/s PCIe")
        );
    }

    #[test]
    fn a_processor_that_a_file_lacks_is_the_last() {
        let machine = with_switches(machine(2, 1, 4), 1);
        let whole = read(&emit(&machine, Form::SingleHost).unwrap().xml)
            .system
            .unwrap();
        let mut system = whole.clone();
        without(&mut system.root, &|element| {
            element.get("numaid") == Some("0")
        });
        let found = completed(&system, &machine);
        let cpus: Vec<_> = found
            .system
            .root
            .named("cpu")
            .map(|cpu| cpu.get("numaid"))
            .collect();
        assert_eq!(cpus, [Some("1"), Some("0")]);
        assert_eq!(gpus_of(&found.system).len(), gpus_of(&whole).len());
    }

    #[test]
    fn files_of_other_machines_and_devices_that_sys_does_not_have_are_left() {
        let mut machine = with_switches(machine(2, 1, 4), 1);
        let other = "<system version=\"1\"><cpu numaid=\"0\"><pci busid=\"00ff:03:00.0\" class=\"0x030200\"/></cpu></system>";
        let other = read(other).system.unwrap();
        assert_eq!(completed(&other, &machine).system, other);
        let first = machine.gpus[0].pci;
        let second = machine.gpus[1].pci;
        let text = format!(
            "<system version=\"1\"><cpu numaid=\"0\"><pci busid=\"{first}\" class=\"0x030200\"/></cpu></system>"
        );
        let system = read(&text).system.unwrap();
        // Two bridges, each above the other.
        let ends = [at("0000:f0:00.0"), at("0000:f1:00.0")];
        for (own, other) in [(0, 1), (1, 0)] {
            let mut bridge = machine.device(first).unwrap().clone();
            (bridge.address, bridge.parent) = (ends[own], Some(ends[other]));
            machine.pci.push(bridge);
        }
        device(&mut machine, &second.to_string()).parent = Some(ends[0]);
        assert_eq!(completed(&system, &machine).unplaced, [second]);
        machine.pci.clear();
        let found = completed(&system, &machine);
        assert_eq!((found.added, found.unplaced), (vec![], vec![second]));
    }
}
