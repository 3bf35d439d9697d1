//! Lines for slurm.conf with the feature of each host.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::names::{fold, is_node_name};
use super::read::Host;

/// Lines for slurm.conf, one for the hosts of each feature, and the hosts with GPUs whose names are none of a Slurm node.
pub(super) fn lines(hosts: &[Host]) -> (String, Vec<&str>) {
    let mut left_out = Vec::new();
    let mut by_feature: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for host in hosts {
        let Some(feature) = &host.feature else {
            continue;
        };
        if is_node_name(&host.name) {
            by_feature.entry(feature).or_default().push(&host.name);
        } else {
            left_out.push(host.name.as_str());
        }
    }
    let mut text = "# Written by `gpu-numa fleet --features`. slurm.conf defines a node once: add each feature to the Features=\n\
                    # of the NodeName= lines of these hosts.\n"
        .to_owned();
    for (feature, names) in by_feature {
        // A String takes all that is written.
        let _ = writeln!(text, "NodeName={} Features={feature}", fold(names));
    }
    (text, left_out)
}
