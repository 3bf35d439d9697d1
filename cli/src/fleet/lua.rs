//! The table of hosts that `packaging/lua` goes by: how many GPUs are beside how many CPUs.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::names::{fold, is_node_name};
use super::read::Host;
use super::seats::{Area, Seats};

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
                    nodes that some\n-- GPUs are nearest to, with the GPUs of each name that a type may be a part of; a row \
                    without areas has a GPU whose\n-- place is not known.\nreturn {\n"
        .to_owned();
    for (seats, names) in kinds {
        let areas: Vec<String> = seats.areas.iter().map(area).collect();
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

/// One area as Lua.
fn area(area: &Area) -> String {
    let types = area
        .names
        .iter()
        .map(|(name, count)| format!("[\"{}\"] = {count}", plain(name)));
    let types: Vec<String> = types.collect();
    format!(
        "{{ gpus = {}, cpus = {}, types = {{ {} }} }}",
        area.names.values().sum::<usize>(),
        area.cpus,
        types.join(", ")
    )
}

/// A GPU's name without what needs quoting in Lua; names come from files that anybody may have written.
fn plain(name: &str) -> String {
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.+()/".contains(c) {
            c
        } else {
            '_'
        }
    };
    name.chars().take(LONGEST_NAME).map(keep).collect()
}

/// Names of GPUs are shorter.
const LONGEST_NAME: usize = 64;
