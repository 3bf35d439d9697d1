//! What is wrong with a process, measured against its GPUs.

use launch::process::Process;
use topology::binding::memory_nodes;
use topology::machine::Machine;
use topology::set::{CpuSet, NodeSet};

/// Pages elsewhere that are too few to matter, in bytes: what was there before a policy was set.
const FEW_BYTES: u64 = 1 << 20;

/// The verdict on a process.
#[derive(Debug)]
pub(super) struct Verdict {
    /// The CPUs near its GPUs; absent when a GPU's node is unknown.
    pub(super) local_cpus: Option<CpuSet>,
    /// What is wrong, a line each.
    pub(super) findings: Vec<String>,
}

/// Judges CPUs by thread, and memory by policy and by where it lies.
pub(super) fn judge(machine: &Machine, process: &Process) -> Verdict {
    let mut findings = Vec::new();
    let mut nodes = Some(NodeSet::new());
    for address in &process.gpus {
        let known = machine
            .gpu(*address)
            .and_then(|gpu| gpu.locality.numa_nodes.as_ref());
        match (&mut nodes, known) {
            (Some(nodes), Some(known)) => nodes.extend_with(known),
            _ => {
                findings.push(format!("nothing says which NUMA node GPU {address} is on"));
                nodes = None;
            }
        }
    }
    let local_cpus = nodes.as_ref().map(|nodes| machine.cpus_of(nodes));
    if process.gpus.is_empty() {
        let why = if machine.gpus.is_empty() {
            "the machine has no GPU, so there is nothing to be near"
        } else {
            "no GPU found for the process; name them with --gpus"
        };
        findings.push(why.to_owned());
    } else if let (Some(local), Some(nodes)) = (&local_cpus, &nodes) {
        judge_threads(&mut findings, process, nodes, local);
        judge_memory(&mut findings, process, &memory_nodes(machine, nodes));
    }
    Verdict {
        local_cpus,
        findings,
    }
}

fn judge_threads(findings: &mut Vec<String>, process: &Process, nodes: &NodeSet, local: &CpuSet) {
    for (mask, threads) in process.masks.values() {
        let far = mask.difference(local);
        if far.is_empty() {
            continue;
        }
        let who = match (threads.as_slice(), process.threads()) {
            (_, all) if all == threads.len() => "it".to_owned(),
            ([one], all) => format!("thread {one} of {all}"),
            (several, all) => {
                let first = several.first().copied().unwrap_or(process.pid);
                format!("{} of its {all} threads ({first} and more)", several.len())
            }
        };
        findings.push(format!(
            "{who} may run on CPUs {mask}, of which {far} are not on its GPUs' node {nodes} (CPUs {local})"
        ));
    }
}

/// Memory is wrong when a policy names other nodes, or when more than a tenth of it lies on them.
fn judge_memory(findings: &mut Vec<String>, process: &Process, nodes: &NodeSet) {
    let memory = &process.memory;
    if memory.policy.is_empty() {
        findings.push("its memory cannot be read (numa_maps)".to_owned());
    }
    let others = memory
        .named()
        .map(|named| named.difference(nodes))
        .filter(|others| !others.is_empty());
    if let Some(others) = others {
        findings.push(format!(
            "memory policy \"{}\" names node {others}, not of its GPUs ({nodes})",
            memory.policy
        ));
    }
    let (all, far) = memory.outside(nodes);
    if far > all / 2 || (far > all / 10 && far > FEW_BYTES) {
        findings.push(format!(
            "{} of its {} of memory are not on node {nodes}",
            amount(far),
            amount(all)
        ));
    }
}

/// A size as a person reads it.
fn amount(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use launch::numa_maps;

    fn process(masks: &[(&str, &[u32])], maps: &str) -> Process {
        let masks = masks.iter().map(|(list, threads)| {
            (
                (*list).to_owned(),
                (list.parse().unwrap(), threads.to_vec()),
            )
        });
        Process {
            pid: 10,
            name: "train".to_owned(),
            masks: masks.collect(),
            gpus: Vec::new(),
            memory: numa_maps::parse(maps),
        }
    }

    fn of_threads(masks: &[(&str, &[u32])]) -> Vec<String> {
        let mut findings = Vec::new();
        judge_threads(
            &mut findings,
            &process(masks, ""),
            &NodeSet::single(0),
            &CpuSet::from_range(0, 3),
        );
        findings
    }

    fn of_memory(maps: &str) -> Vec<String> {
        let mut findings = Vec::new();
        judge_memory(
            &mut findings,
            &process(&[("0", &[10])], maps),
            &NodeSet::single(0),
        );
        findings
    }

    #[test]
    fn threads_that_a_framework_moved_are_named() {
        assert!(of_threads(&[("0-1", &[10, 11]), ("3", &[12])]).is_empty());
        let findings = of_threads(&[("0-3", &[10, 11]), ("2-5", &[12])]);
        assert_eq!(
            findings,
            [
                "thread 12 of 3 may run on CPUs 2-5, of which 4-5 are not on its GPUs' node 0 (CPUs 0-3)"
            ]
        );
        assert!(of_threads(&[("4", &[10, 11])])[0].starts_with("it may run on CPUs 4,"));
    }

    #[test]
    fn a_policy_for_other_nodes_and_pages_elsewhere_are_wrong() {
        assert_eq!(
            of_memory("1 bind:1 heap anon=1000 N1=1000 kernelpagesize_kB=4\n").len(),
            2
        );
        assert_eq!(
            of_memory("1 interleave:0-1 heap anon=4 N0=2 N1=2 kernelpagesize_kB=4\n").len(),
            1
        );
        assert_eq!(
            of_memory("1 default heap anon=4000 N0=3000 N1=1000 kernelpagesize_kB=4\n").len(),
            1
        );
        assert!(
            of_memory("1 prefer:0 heap anon=400 N0=390 N1=10 kernelpagesize_kB=4\n").is_empty()
        );
        assert_eq!(of_memory(""), ["its memory cannot be read (numa_maps)"]);
    }
}
