//! SMBIOS slot records: boards print the CPU that a slot is wired to in its designation.

use std::collections::{BTreeMap, BTreeSet};

use super::around::{name, proximity};
use super::{
    Evidence, Facts, Grounds, NoEvidence, RungAnswer, firmware, nodes_of_package, package_of,
    with_cpus,
};
use crate::firmware::{Firmware, RootBus, Slot};
use crate::machine::Machine;

/// How a board names its CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    /// `CPU1`.
    Cpu,
    /// `PROC 1`, `Processor 1`.
    Proc,
    /// `P1` at the beginning.
    P,
}

/// A CPU's name in a designation.
type Label = (Word, u32);

/// The CPU's name and a slot that gives it, by root bus.
type LabelledBuses<'a> = BTreeMap<(u32, u8), (Label, &'a Slot)>;

/// The CPU of a slot below the same host bridge, if the slots as a whole can be trusted.
///
/// That is: one way of naming that fits the packages in one way only, no host bridge under two names,
/// and no contradiction to a host bridge that firmware places.
pub(super) fn by_dmi(facts: &Facts<'_>) -> RungAnswer {
    let machine = facts.machine;
    let firmware = firmware(facts)?;
    let bus = facts.device.root_bus;
    let bus = bus.ok_or(NoEvidence::NotRecorded("root bus"))?;
    let packages = packages_by_label(machine, firmware)?;
    let labels = labels_by_bus(firmware, &packages)?;
    for root in &firmware.root_buses {
        let Some((label, slot)) = labels.get(&root.bus) else {
            continue;
        };
        if is_elsewhere(machine, root, packages.get(label).copied()) {
            return Err(NoEvidence::SlotContradicts {
                slot: slot.designation.clone(),
                bridge: name(root),
            });
        }
    }
    let (label, slot) = labels.get(&bus).ok_or(NoEvidence::NoSlot)?;
    let package = *packages.get(label).ok_or(NoEvidence::NoSlot)?;
    let nodes = nodes_of_package(machine, package);
    if nodes.is_empty() {
        return Err(NoEvidence::PackageWithoutNodes(package));
    }
    Ok(Evidence {
        because: Grounds::Slot {
            designation: slot.designation.clone(),
            address: slot.address,
            cpu: (text(*label), packages.len()),
            package,
            nodes: nodes.clone(),
        },
        nodes,
    })
}

/// Whether firmware puts a host bridge, or anything below it, into another package.
fn is_elsewhere(machine: &Machine, root: &RootBus, package: Option<u32>) -> bool {
    let named = root
        .nodes
        .iter()
        .filter_map(|id| with_cpus(machine, id).ok());
    named
        .chain(proximity(machine, root))
        .any(|nodes| package_of(machine, &nodes) != package)
}

/// Which package each name is: by the processors' own names, or counted from 0 or 1.
fn packages_by_label(
    machine: &Machine,
    firmware: &Firmware,
) -> Result<BTreeMap<Label, u32>, NoEvidence> {
    let designations = firmware.slots.iter().map(|slot| slot.designation.as_str());
    let labels: BTreeSet<Label> = designations.filter_map(parse_label).collect();
    let Some((word, _)) = labels.first().copied() else {
        return Err(NoEvidence::SlotsNameNoCpu);
    };
    let named = firmware.processors.iter();
    let processors: BTreeSet<Label> = named
        .filter_map(|name| parse_label(name))
        .filter(|(other, _)| *other == word)
        .collect();
    let packages = machine.packages.iter().map(|package| package.id);
    let names = if processors.is_empty() {
        counted(word, &labels, machine.packages.len())
    } else {
        Some(processors).filter(|names| names.len() == machine.packages.len())
    };
    // One name on every slot of several packages is a board that does not tell them apart.
    names
        .filter(|names| labels.is_subset(names) && labels.len().min(2) == names.len().min(2))
        .map(|names| names.into_iter().zip(packages).collect())
        .ok_or_else(|| {
            let words: Vec<_> = labels.iter().map(|label| text(*label)).collect();
            NoEvidence::SlotsUnmatched {
                names: words.join(", "),
                packages: machine.packages.len(),
            }
        })
}

/// All names from 0, or from 1, on; none when `labels` fit both or neither.
fn counted(word: Word, labels: &BTreeSet<Label>, packages: usize) -> Option<BTreeSet<Label>> {
    let from = |first: u32| -> BTreeSet<Label> {
        (first..)
            .take(packages)
            .map(|number| (word, number))
            .collect()
    };
    let mut fitting = [from(0), from(1)]
        .into_iter()
        .filter(|names| labels.is_subset(names));
    let names = fitting.next()?;
    fitting.next().is_none().then_some(names)
}

/// The name that the slots below each host bridge give, with one of these slots.
fn labels_by_bus<'a>(
    firmware: &'a Firmware,
    packages: &BTreeMap<Label, u32>,
) -> Result<LabelledBuses<'a>, NoEvidence> {
    let mut found = LabelledBuses::new();
    for slot in &firmware.slots {
        let label = parse_label(&slot.designation).filter(|label| packages.contains_key(label));
        let Some((bus, label)) = slot.root_bus.zip(label) else {
            continue;
        };
        let (other, first) = *found.entry(bus).or_insert((label, slot));
        if other != label {
            return Err(NoEvidence::SlotsDisagree {
                first: first.designation.clone(),
                second: slot.designation.clone(),
            });
        }
    }
    Ok(found)
}

fn text((word, number): Label) -> String {
    let word = match word {
        Word::Cpu => "CPU",
        Word::Proc => "PROC",
        Word::P => "P",
    };
    format!("{word}{number}")
}

/// The CPU that a designation names; none when it names none, or several.
///
/// `CPU1 SLOT2`, `PCIE3_CPU0`, `Slot 4 (Proc 2)`, `P0 SLOT1`; not `M.2 Socket 3`, which is a connector.
fn parse_label(designation: &str) -> Option<Label> {
    let upper = designation.to_ascii_uppercase();
    let words: Vec<&str> = upper
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let mut found = BTreeSet::new();
    for (index, word) in words.iter().enumerate() {
        let next = words.get(index + 1).copied().unwrap_or_default();
        let label = |kind: Word, prefix: &str| {
            let rest = word.strip_prefix(prefix)?;
            let digits = if rest.is_empty() { next } else { rest };
            let end = digits.find(|c: char| !c.is_ascii_digit());
            let (digits, _) = digits.split_at_checked(end.unwrap_or(digits.len()))?;
            Some((kind, digits.parse::<u32>().ok()?))
        };
        found.extend(
            label(Word::Cpu, "CPU")
                .or_else(|| label(Word::Proc, "PROCESSOR"))
                .or_else(|| label(Word::Proc, "PROC")),
        );
        let is_short = index == 0 && word.len() == 2;
        found.extend(label(Word::P, "P").filter(|_| is_short));
    }
    found.first().copied().filter(|_| found.len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_found_in_a_designation() {
        for (designation, label) in [
            ("CPU1 SLOT1 PCI-E 5.0 X16", "CPU1"),
            ("PCIE3_CPU0", "CPU0"),
            ("Slot 4 (Proc 2)", "PROC2"),
            ("CPU2SLOT5", "CPU2"),
            ("P0 SLOT1", "P0"),
            ("Processor 1 Riser", "PROC1"),
        ] {
            assert_eq!(parse_label(designation).map(text).as_deref(), Some(label));
        }
    }

    #[test]
    fn other_words_are_no_cpu() {
        for designation in [
            "PCIe Slot 1",
            "M.2 Socket 3",
            "CPU SLOT1",
            "CPU1/CPU2 RISER",
            "PCIE P1",
            "P12",
            "SLOT CPU",
            "",
            "CPU99999999999",
        ] {
            assert_eq!(parse_label(designation), None, "{designation}");
        }
    }
}
