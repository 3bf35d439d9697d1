//! The table of hosts that `packaging/lua` goes by: how many GPUs are beside how many CPUs.

use std::collections::BTreeMap;
use std::fmt::Write;

use topology::machine::Machine;
use topology::set::NodeSet;

use super::names::fold;
use super::read::Host;

/// What of a host a job's GPUs and CPUs must share.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seats {
    /// GPUs.
    gpus: usize,
    /// CPUs of its largest core.
    threads: usize,
    /// Of each set of NUMA nodes that GPUs are nearest to: GPUs, and CPUs.  Empty where the place of a GPU is not known.
    areas: Vec<(usize, usize)>,
}

impl Seats {
    /// Counts a machine's.
    pub(super) fn of(machine: &Machine) -> Self {
        let mut areas: BTreeMap<&NodeSet, (usize, usize)> = BTreeMap::new();
        let mut is_known = true;
        for gpu in &machine.gpus {
            let place = &gpu.locality;
            let (Some(nodes), Some(cpus)) = (&place.numa_nodes, &place.cpus) else {
                is_known = false;
                continue;
            };
            areas.entry(nodes).or_insert((0, cpus.len())).0 += 1;
        }
        let threads = machine.cores.iter().map(|core| core.len()).max();
        Self {
            gpus: machine.gpus.len(),
            threads: threads.unwrap_or(1).max(1),
            areas: if is_known {
                areas.into_values().collect()
            } else {
                Vec::new()
            },
        }
    }
}

/// The table as Lua: one row for all hosts that are alike; hosts without GPUs are left out.
pub(super) fn table(hosts: &[Host]) -> String {
    let mut kinds: BTreeMap<&Seats, Vec<&str>> = BTreeMap::new();
    for host in hosts {
        let seats = host.seats.as_ref().filter(|seats| seats.gpus > 0);
        if let Some(seats) = seats {
            kinds.entry(seats).or_default().push(&host.name);
        }
    }
    let mut text = "-- Written by `gpu-numa fleet --lua-table`; write it again when hosts change.  An area is the NUMA \
                    nodes that some\n-- GPUs are nearest to; a row without areas has a GPU whose place is not known.\n\
                    return {\n"
        .to_owned();
    for (seats, names) in kinds {
        let areas: Vec<String> = seats
            .areas
            .iter()
            .map(|(gpus, cpus)| format!("{{ gpus = {gpus}, cpus = {cpus} }}"))
            .collect();
        let names = quote(&fold(names));
        // A String takes all that is written.
        let _ = writeln!(
            text,
            "    {{ hosts = {names}, gpus = {}, threads = {}, areas = {{ {} }} }},",
            seats.gpus,
            seats.threads,
            areas.join(", ")
        );
    }
    text.push_str("}\n");
    text
}

/// A text as Lua writes it; names come from files that anybody may have written.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,[]() ".contains(c);
    let kept: String = text
        .chars()
        .map(|c| if plain(c) { c } else { '?' })
        .collect();
    format!("\"{kept}\"")
}
