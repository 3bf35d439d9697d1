//! The table of hosts that `packaging/lua` goes by: how many GPUs are beside how many CPUs.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::names::fold;
use super::read::Host;
use super::seats::Seats;

/// The table as Lua: one row for all hosts that are alike; hosts without GPUs are left out.  With it the hosts with GPUs
/// whose names are none of a Slurm node.
pub(super) fn table(hosts: &[Host]) -> (String, Vec<&str>) {
    let mut left_out = Vec::new();
    let mut kinds: BTreeMap<&Seats, Vec<&str>> = BTreeMap::new();
    for host in hosts {
        let seats = host.seats.as_deref().filter(|seats| seats.gpus > 0);
        if let Some(seats) = seats {
            if is_node_name(&host.name) {
                kinds.entry(seats).or_default().push(&host.name);
            } else {
                left_out.push(host.name.as_str());
            }
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
        let names = fold(names);
        // A String takes all that is written.
        let _ = writeln!(
            text,
            "    {{ hosts = \"{names}\", gpus = {}, threads = {}, areas = {{ {} }} }},",
            seats.gpus,
            seats.threads,
            areas.join(", ")
        );
    }
    text.push_str("}\n");
    (text, left_out)
}

/// Whether a name can be a Slurm node's, and needs no quoting in Lua; names come from files that anybody may have written.
fn is_node_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.chars().all(is_plain)
}
