//! A machine as a list of facts that hosts of one kind have in common.
//!
//! Left out: what differs between any two hosts (UUIDs, boot id, time), what changes as a GPU sleeps (its
//! link's speed now), and memory sizes, which firmware lets differ by a little and which are compared apart.

use std::collections::BTreeMap;

use topology::machine::{Locality, Machine, NodeKind};
use topology::option::printable;
use topology::pci::PciAddress;
use topology::quantity::count;
use topology::snapshot::Snapshot;

use crate::hardware::product_name;

/// More of a kind than any host has; a file with more is no machine.
pub(super) const MOST_OBJECTS: usize = 2_048;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Fact {
    /// `GPU 0000:3b:00.0`; empty for the host itself.
    pub(super) object: String,
    /// `NUMA node`.
    pub(super) attribute: &'static str,
    /// `1`.
    pub(super) value: String,
}

/// The facts of a machine, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Facts {
    /// Hosts that differ here are never of one kind.
    pub(super) family: String,
    /// For people: what the host is.
    pub(super) summary: String,
    /// Sorted.
    pub(super) facts: Vec<Fact>,
}

/// A machine has more parts of a kind than any real one.
#[derive(Debug, thiserror::Error)]
#[error("{count} {parts}; expected at most {MOST_OBJECTS}")]
pub(super) struct TooManyParts {
    count: usize,
    parts: &'static str,
}

/// Lists the facts.
///
/// # Errors
/// The machine has more parts than any real one.
pub(super) fn list_facts(snapshot: &Snapshot) -> Result<Facts, TooManyParts> {
    let machine = &snapshot.machine;
    for (parts, count) in [
        ("sockets", machine.packages.len()),
        ("NUMA nodes", machine.numa_nodes.len()),
        ("GPUs", machine.gpus.len()),
        ("NICs", machine.nics.len()),
    ] {
        if count > MOST_OBJECTS {
            return Err(TooManyParts { count, parts });
        }
    }
    let mut facts = Vec::new();
    add_host(&mut facts, snapshot);
    add_nodes(&mut facts, machine);
    add_gpus(&mut facts, machine);
    add_nics(&mut facts, machine);
    facts.sort();
    facts.dedup();
    let models = list_models(machine);
    let processor = describe_processor(machine);
    Ok(Facts {
        family: format!(
            "{processor}|{}|{:?}",
            machine.packages.len(),
            models.keys().collect::<Vec<_>>()
        ),
        summary: describe(machine, &models, &processor, snapshot.driver.as_deref()),
        facts,
    })
}

fn add(
    facts: &mut Vec<Fact>,
    object: &str,
    attribute: &'static str,
    value: impl std::fmt::Display,
) {
    facts.push(Fact {
        object: object.to_owned(),
        attribute,
        value: printable(&value.to_string()),
    });
}

fn add_host(facts: &mut Vec<Fact>, snapshot: &Snapshot) {
    let machine = &snapshot.machine;
    add(facts, "", "sockets", machine.packages.len());
    add(facts, "", "NUMA nodes", machine.numa_nodes.len());
    add(facts, "", "CPUs online", machine.online.len());
    add(facts, "", "cores", machine.cores.len());
    add(facts, "", "processor", describe_processor(machine));
    if let Some(driver) = &snapshot.driver {
        add(facts, "", "driver", driver);
    }
    for package in &machine.packages {
        let object = format!("socket {}", package.id);
        add(facts, &object, "CPUs", &package.cpus);
    }
}

fn add_nodes(facts: &mut Vec<Fact>, machine: &Machine) {
    for node in &machine.numa_nodes {
        let object = format!("node {}", node.id);
        let kind = match node.kind {
            NodeKind::Dram => "dram",
            NodeKind::Gpu => "gpu",
            NodeKind::Cpuless => "cpuless",
            NodeKind::Offline => "offline",
            NodeKind::Unrecorded => "unrecorded",
        };
        add(facts, &object, "kind", kind);
        add(facts, &object, "CPUs", &node.cpus);
        add(facts, &object, "socket", or_unknown(node.package));
        let distances: Vec<String> = node
            .distances
            .iter()
            .map(|(to, distance)| format!("{to}:{distance}"))
            .collect();
        add(facts, &object, "distances", distances.join(" "));
    }
}

fn add_gpus(facts: &mut Vec<Fact>, machine: &Machine) {
    for gpu in &machine.gpus {
        let object = format!("GPU {}", gpu.pci);
        add_device(facts, &object, (gpu.vendor, gpu.device), &gpu.locality);
        add(facts, &object, "MIG instances", gpu.mig.len());
        if let Some(kfd) = &gpu.kfd {
            add(facts, &object, "parts", gpu.parts());
            let modes = [
                ("compute partition", &kfd.compute_partition),
                ("memory partition", &kfd.memory_partition),
            ];
            for (key, mode) in modes {
                if let Some(mode) = mode {
                    add(facts, &object, key, mode);
                }
            }
        }
        if machine.nvlink_visible || (gpu.may_link() && !machine.hides_links_of(gpu)) {
            add(
                facts,
                &object,
                gpu.maker().map_or("links", |maker| maker.link_name),
                gpu.nvlinks
                    .values()
                    .map(|links| u64::from(*links))
                    .sum::<u64>(),
            );
        }
        add_link(facts, machine, &object, gpu.pci);
    }
}

fn add_nics(facts: &mut Vec<Fact>, machine: &Machine) {
    for nic in &machine.nics {
        let object = format!("NIC {}", nic.pci);
        add_device(facts, &object, (nic.vendor, nic.device), &nic.locality);
        add_link(facts, machine, &object, nic.pci);
    }
}

fn add_device(facts: &mut Vec<Fact>, object: &str, model: (u16, u16), place: &Locality) {
    let (vendor, device) = model;
    let model = format!("{vendor:04x}:{device:04x}");
    add(facts, object, "model", model);
    let nodes = or_unknown(place.numa_nodes.as_ref());
    add(facts, object, "NUMA node", nodes);
}

fn add_link(facts: &mut Vec<Fact>, machine: &Machine, object: &str, pci: PciAddress) {
    let Some(device) = machine.device(pci) else {
        return;
    };
    let link = &device.link;
    if let (Some(speed), Some(width)) = (link.max_speed_gts, link.max_width) {
        add(
            facts,
            object,
            "link at most",
            format_args!("{speed} GT/s x{width}"),
        );
    }
    if let Some(width) = link.current_width {
        add(facts, object, "lanes now", format_args!("x{width}"));
    }
    if let Some(node) = device.numa_node {
        add(facts, object, "firmware's NUMA node", node);
    }
}

fn or_unknown(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| value.to_string())
}

/// How many GPUs there are of each model.
fn list_models(machine: &Machine) -> BTreeMap<String, (usize, Option<String>)> {
    let mut models: BTreeMap<String, (usize, Option<String>)> = BTreeMap::new();
    for gpu in &machine.gpus {
        let model = format!("{:04x}:{:04x}", gpu.vendor, gpu.device);
        let entry = models.entry(model).or_default();
        entry.0 += 1;
        entry.1 = entry.1.take().or_else(|| product_name(gpu));
    }
    models
}

fn describe_processor(machine: &Machine) -> String {
    let Some(processor) = &machine.processor else {
        return "unknown".to_owned();
    };
    let mut text = printable(processor.vendor.as_deref().unwrap_or(&processor.arch));
    if let (Some(family), Some(model)) = (processor.family, processor.model) {
        text.push_str(&format!(" family {family} model {model}"));
    }
    text
}

fn describe(
    machine: &Machine,
    models: &BTreeMap<String, (usize, Option<String>)>,
    processor: &str,
    driver: Option<&str>,
) -> String {
    let gpus: Vec<String> = models
        .iter()
        .map(|(model, (number, name))| {
            let name = name
                .as_deref()
                .map_or(String::new(), |name| format!(" {}", printable(name)));
            format!("{number} of {model}{name}")
        })
        .collect();
    let mut parts = vec![
        count(machine.packages.len(), "socket"),
        count(machine.numa_nodes.len(), "NUMA node"),
        count(machine.online.len(), "CPU"),
        match gpus.as_slice() {
            [] => "no GPU".to_owned(),
            gpus => format!("GPUs: {}", gpus.join(" and ")),
        },
        count(machine.nics.len(), "NIC"),
        format!("processor {processor}"),
    ];
    if let Some(driver) = driver {
        parts.push(format!("driver {}", printable(driver)));
    }
    parts.join(", ")
}

/// In what `host` differs from its kind, in words.
pub(super) fn compare(host: &Facts, kind: &Facts) -> Vec<String> {
    let (ours, theirs) = (by_object(host), by_object(kind));
    let mut differences = Vec::new();
    for (object, expected) in &theirs {
        match ours.get(object) {
            None => differences.push(format!("{object} is missing")),
            Some(given) => compare_object(&mut differences, object, given, expected),
        }
    }
    for object in ours.keys().filter(|object| !theirs.contains_key(*object)) {
        differences.push(format!("{object} is extra: its kind has none"));
    }
    differences
}

fn compare_object(
    differences: &mut Vec<String>,
    object: &str,
    given: &BTreeMap<&str, &str>,
    expected: &BTreeMap<&str, &str>,
) {
    let attributes: std::collections::BTreeSet<_> = given.keys().chain(expected.keys()).collect();
    for attribute in attributes {
        let (ours, theirs) = (given.get(*attribute), expected.get(*attribute));
        if ours != theirs {
            let word = |value: Option<&&str>| value.map_or("not known", |value| *value).to_owned();
            let colon = if object.is_empty() { "" } else { ": " };
            differences.push(format!(
                "{object}{colon}{attribute} {}; its kind: {}",
                word(ours),
                word(theirs)
            ));
        }
    }
}

fn by_object(facts: &Facts) -> BTreeMap<&str, BTreeMap<&str, &str>> {
    let mut objects: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for fact in &facts.facts {
        objects
            .entry(&fact.object)
            .or_default()
            .insert(fact.attribute, &fact.value);
    }
    objects
}

/// How many facts only one of two machines has.  Both lists must be sorted.
pub(super) fn distance(a: &Facts, b: &Facts) -> usize {
    let (mut left, mut right) = (a.facts.iter().peekable(), b.facts.iter().peekable());
    let mut apart = 0;
    loop {
        match (left.peek(), right.peek()) {
            (None, None) => return apart,
            (Some(x), Some(y)) if x == y => {
                left.next();
                right.next();
            }
            (Some(x), Some(y)) if x < y => {
                left.next();
                apart += 1;
            }
            (_, Some(_)) => {
                right.next();
                apart += 1;
            }
            (Some(_), None) => {
                left.next();
                apart += 1;
            }
        }
    }
}
