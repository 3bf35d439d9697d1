//! The `<cpu>` elements against the machine's NUMA nodes and processors.

use topology::machine::{Locality, Machine};
use topology::pci::PciAddress;
use topology::set::{CpuSet, NodeSet};

use super::difference::{DifferenceKind, Found};
use crate::element::{Element, integer};
use crate::processor::{Processor, written_family};

/// The number, and whether the devices `below` are at its package.
pub(super) fn place(found: &mut Found<'_>, cpu: &Element, below: &[PciAddress]) {
    let numaid = cpu.get("numaid").unwrap_or_default();
    let known = below
        .iter()
        .filter_map(|address| Some((*address, locality(found.machine, *address)?)))
        .filter_map(|(address, locality)| Some((address, locality.package?, locality.numa_source)))
        .collect::<Vec<_>>();
    let id = integer(numaid).and_then(|id| u32::try_from(id).ok());
    let node = id.and_then(|id| found.machine.node(id));
    let Some(node) = node.filter(|node| !node.cpus.is_empty()) else {
        // Where the devices' places are unknown, "-1" is as good as any.
        if !known.is_empty() && !found.machine.numa_nodes.is_empty() {
            let numaid = numaid.to_owned();
            found.note(Some(cpu.line), DifferenceKind::NoSuchNode { numaid });
        }
        return;
    };
    let Some(of_cpu) = node.package else { return };
    for (device, package, source) in known {
        if package != of_cpu {
            let kind = DifferenceKind::OtherPackage {
                device,
                numaid: numaid.to_owned(),
                of_cpu,
                package,
                source_words: source.words(),
            };
            let line = line_of(cpu, device);
            found.note(line, kind);
        }
    }
}

/// `affinity`, by which NCCL pins its threads; an empty one pins nothing.
pub(super) fn affinity(found: &mut Found<'_>, cpu: &Element, below: &[PciAddress]) {
    let machine = found.machine;
    let numaid = cpu.get("numaid").unwrap_or_default().to_owned();
    let gpus: Vec<_> = below
        .iter()
        .filter_map(|address| machine.gpu(*address))
        .collect();
    let lacking = |has: &CpuSet| {
        let mut near = gpus.iter().filter_map(|gpu| {
            let near = machine.cpus_of(gpu.locality.numa_nodes.as_ref()?);
            Some((gpu.pci, near.difference(has)))
        });
        near.find(|(_, cpus)| !cpus.is_empty())
    };
    let is_files = !cpu.filled.iter().any(|key| key == "affinity");
    let Some(affinity) = cpu.get("affinity").filter(|_| is_files) else {
        let id = integer(&numaid).and_then(|id| u32::try_from(id).ok());
        let own = id.map(|id| machine.cpus_of(&NodeSet::single(id)));
        if let Some((gpu, cpus)) = own
            .filter(|own| !own.is_empty())
            .and_then(|own| lacking(&own))
        {
            let kind = DifferenceKind::NoAffinity { numaid, cpus, gpu };
            found.note(Some(cpu.line), kind);
        }
        return;
    };
    let Some(mask) = parse_mask(affinity).filter(|mask| !mask.is_empty()) else {
        return;
    };
    let affinity = affinity.to_owned();
    let line = Some(cpu.line);
    let foreign = mask.difference(&machine.online);
    if !machine.online.is_empty() && !foreign.is_empty() {
        let kind = DifferenceKind::ForeignCpus {
            numaid,
            affinity,
            cpus: foreign,
        };
        return found.note(line, kind);
    }
    let package = gpus.iter().find_map(|gpu| gpu.locality.package);
    let own = package.and_then(|id| machine.packages.iter().find(|package| package.id == id));
    let others = own.map(|own| mask.difference(&own.cpus));
    if let (Some(package), Some(cpus)) = (package, others.filter(|cpus| !cpus.is_empty())) {
        let kind = DifferenceKind::CpusOfOthers {
            numaid,
            affinity,
            cpus,
            package,
        };
        found.note(line, kind);
    } else if let Some((gpu, cpus)) = lacking(&mask) {
        let kind = DifferenceKind::LacksCpus {
            numaid,
            affinity,
            cpus,
            gpu,
        };
        found.note(line, kind);
    }
}

/// The processor, as far as NCCL draws the socket link's bandwidth from it.
pub(super) fn processor(found: &mut Found<'_>, cpu: &Element) {
    let Some(real) = &found.machine.processor else {
        return;
    };
    let keys = ["arch", "vendor", "familyid", "modelid"];
    let given: Vec<_> = keys
        .iter()
        .filter_map(|key| cpu.get(key))
        .filter(|value| !value.is_empty())
        .collect();
    let text = |key| cpu.get(key).unwrap_or_default();
    let complete = match text("arch") {
        "arm64" | "ppc64" => true,
        "x86_64" if text("vendor").starts_with("AuthenticAMD") => true,
        _ => given.len() == keys.len(),
    };
    let known = match real.arch.as_str() {
        "arm64" | "ppc64" => true,
        _ => real.vendor.is_some() && real.family.is_some() && real.model.is_some(),
    };
    if !complete || !known {
        return;
    }
    let family = real.family.map(i64::from).unwrap_or_default();
    let model = real.model.map(i64::from).unwrap_or_default();
    let vendor = real.vendor.as_deref().unwrap_or_default();
    let truth = Processor::of(&real.arch, vendor, family, model);
    let taken = Processor::of_element(cpu);
    let rules = found.rules;
    if !taken.counts_as(truth, rules) {
        let real = match real.arch.as_str() {
            "arm64" | "ppc64" => real.arch.clone(),
            // In the file's numbering.
            arch => {
                let family = real.family.map(written_family).unwrap_or_default();
                format!("{arch} {vendor} {family} {model}")
            }
        };
        let kind = DifferenceKind::OtherProcessor {
            numaid: text("numaid").to_owned(),
            given: given.join(" "),
            takes: taken.socket_link_gb_s(rules),
            real,
            truth: truth.socket_link_gb_s(rules),
        };
        found.note(Some(cpu.line), kind);
    }
}

/// Where a GPU or NIC is.
fn locality(machine: &Machine, address: PciAddress) -> Option<&Locality> {
    let nic = || machine.nics.iter().find(|nic| nic.pci == address);
    machine
        .gpu(address)
        .map(|gpu| &gpu.locality)
        .or_else(|| nic().map(|nic| &nic.locality))
}

/// The line of a device below `cpu`.
fn line_of(cpu: &Element, device: PciAddress) -> Option<usize> {
    let busid = device.to_string();
    let mut line = None;
    cpu.walk(&mut |element| {
        if element.name == "pci" && element.get("busid") == Some(&busid) {
            line.get_or_insert(element.line);
        }
    });
    line
}

/// A mask in NCCL's form: hex words of 32 bits, the highest first; none where it is in another.
fn parse_mask(text: &str) -> Option<CpuSet> {
    let mut cpus = CpuSet::new();
    for (index, word) in (0..).zip(text.rsplit(',')) {
        let bits = u32::from_str_radix(word, 16).ok()?;
        for bit in (0..32).filter(|bit| bits >> bit & 1 == 1) {
            cpus.insert(index * 32 + bit);
        }
    }
    Some(cpus)
}
