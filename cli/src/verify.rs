//! `gpu-numa verify`: what a process really has, against its GPUs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use discovery::Source;
use serde::Serialize;
use topology::binding::memory_nodes;
use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::set::{CpuSet, NodeSet};

use crate::command::{CommandError, Format, Outcome, parse_gpus};
use crate::out::Out;
use crate::run::read_visible;

/// Checks a process.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  srun ... --gpu-numa-bind gpu-numa verify\n  gpu-numa verify 12345\n  \
gpu-numa verify --gpus 0 $(pgrep -n python)"
)]
pub(crate) struct Verify {
    /// The process (default: this one, which has what its shell or task gave it)
    pid: Option<u32>,
    /// Its GPUs, by number in PCI order or by PCI address (default: those it reports, holds open or
    /// sees)
    #[arg(long, value_name = "GPU,GPU")]
    gpus: Option<String>,
    #[command(flatten)]
    format: Format,
}

/// The JSON document.
#[derive(Debug, Serialize)]
struct Document {
    schema: &'static str,
    pid: u32,
    gpus: Vec<PciAddress>,
    /// The CPUs of all its threads.
    cpus: CpuSet,
    /// The CPUs near its GPUs; null when a GPU's node is unknown.
    local_cpus: Option<CpuSet>,
    memory: Memory,
    findings: Vec<String>,
    ok: bool,
}

/// What its memory is.
#[derive(Debug, Default, Serialize)]
struct Memory {
    /// The policy of most of its anonymous pages, as numa_maps words it.
    policy: String,
    /// Anonymous memory by node, in bytes.
    anonymous_bytes: BTreeMap<u32, u64>,
}

impl Verify {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let pid = self.pid.unwrap_or_else(std::process::id);
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let machine = discovery::read_machine(&Source::ThisMachine)?;
        let cpus = read_cpus(&folder)
            .ok_or_else(|| CommandError::Argument(format!("no process {pid} that may be read")))?;
        let gpus = match &self.gpus {
            Some(list) => parse_gpus(&machine, "--gpus", list)?,
            None => read_gpus(&folder, &machine, self.pid.is_none()),
        };
        let memory = fs::read_to_string(folder.join("numa_maps"))
            .map(|text| parse_numa_maps(&text))
            .unwrap_or_default();
        let document = judge(&machine, pid, gpus, cpus, memory);
        if self.format.json {
            out.json(&document)?;
        } else {
            print(out, &document)?;
        }
        Ok(if document.ok {
            Outcome::Done
        } else {
            Outcome::Wanting
        })
    }
}

fn judge(
    machine: &Machine,
    pid: u32,
    gpus: Vec<PciAddress>,
    cpus: CpuSet,
    memory: Memory,
) -> Document {
    let mut findings = Vec::new();
    let mut nodes = Some(NodeSet::new());
    for address in &gpus {
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
    if gpus.is_empty() {
        findings.push("no GPU found for the process; name them with --gpus".to_owned());
    } else if let (Some(local), Some(nodes)) = (&local_cpus, &nodes) {
        let far = cpus.difference(local);
        if !far.is_empty() {
            findings.push(format!(
                "CPUs {far} are not on its GPUs' node {nodes} (CPUs {local})"
            ));
        }
        judge_memory(&mut findings, &memory_nodes(machine, nodes), &memory);
    }
    let ok = findings.is_empty();
    Document {
        schema: "gpu-numa/verify/1",
        pid,
        gpus,
        cpus,
        local_cpus,
        memory,
        findings,
        ok,
    }
}

/// Memory is wrong when a policy names other nodes, or when more than half of it lies on them.
fn judge_memory(findings: &mut Vec<String>, nodes: &NodeSet, memory: &Memory) {
    if memory.policy.is_empty() {
        findings.push("its memory cannot be read (numa_maps)".to_owned());
    }
    let named: Option<NodeSet> = memory
        .policy
        .rsplit_once(':')
        .and_then(|(_, list)| list.parse().ok());
    if let Some(named) = named
        && !named.intersects(nodes)
    {
        findings.push(format!(
            "memory policy \"{}\" names no node of its GPUs ({nodes})",
            memory.policy
        ));
    }
    let all: u64 = memory.anonymous_bytes.values().sum();
    let far: u64 = memory
        .anonymous_bytes
        .iter()
        .filter(|(node, _)| !nodes.contains(**node))
        .map(|(_, bytes)| bytes)
        .sum();
    if far > all / 2 {
        findings.push(format!(
            "{} of {} MiB are not on node {nodes}",
            far >> 20,
            all >> 20
        ));
    }
}

fn print(out: &mut Out, document: &Document) -> Result<(), CommandError> {
    let gpus: Vec<String> = document.gpus.iter().map(ToString::to_string).collect();
    let gpus = if gpus.is_empty() {
        "none".to_owned()
    } else {
        gpus.join(", ")
    };
    out.line(format_args!("process {}", document.pid))?;
    out.line(format_args!("  GPUs    {gpus}"))?;
    let local = document
        .local_cpus
        .as_ref()
        .map_or("?".to_owned(), ToString::to_string);
    out.line(format_args!("  CPUs    {} (local: {local})", document.cpus))?;
    let policy = &document.memory.policy;
    let policy = if policy.is_empty() {
        "cannot be read"
    } else {
        policy
    };
    let pages: Vec<String> = document
        .memory
        .anonymous_bytes
        .iter()
        .map(|(node, bytes)| format!("node {node}: {:.1} MiB", mebibytes(*bytes)))
        .collect();
    out.line(format_args!("  memory  {policy}; {}", pages.join(", ")))?;
    for finding in &document.findings {
        out.line(format_args!("  WRONG   {finding}"))?;
    }
    if document.ok {
        out.line("  all local")?;
    }
    Ok(())
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a figure for a person, to a tenth"
)]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The CPUs that any thread of the process may run on.
fn read_cpus(folder: &Path) -> Option<CpuSet> {
    let mut cpus = CpuSet::new();
    for thread in fs::read_dir(folder.join("task")).ok()?.flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        if let Some(Ok(own)) = list.map(str::parse) {
            cpus.extend_with(&own);
        }
    }
    (!cpus.is_empty()).then_some(cpus)
}

/// The GPUs of a process: those of its report, else those that it holds open, else, for this process
/// itself, those that it sees.  What another may open cannot be asked, so its numbers mean nothing.
fn read_gpus(folder: &Path, machine: &Machine, is_own: bool) -> Vec<PciAddress> {
    let environment = fs::read(folder.join("environ")).unwrap_or_default();
    let variable = |name: &str| {
        environment
            .split(|byte| *byte == 0)
            .filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    };
    let report = variable("GPU_NUMA_BIND_REPORT")
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let reported: Vec<PciAddress> = report
        .as_ref()
        .and_then(|report| report.get("gpus")?.as_array())
        .map(|gpus| {
            gpus.iter()
                .filter_map(|gpu| gpu.as_str()?.parse().ok())
                .collect()
        })
        .unwrap_or_default();
    if !reported.is_empty() {
        return reported;
    }
    let open = read_open_gpus(folder, machine);
    if !open.is_empty() {
        return open;
    }
    if is_own {
        read_visible(machine)
    } else {
        Vec::new()
    }
}

fn read_open_gpus(folder: &Path, machine: &Machine) -> Vec<PciAddress> {
    let targets: Vec<PathBuf> = fs::read_dir(folder.join("fd"))
        .map(|entries| {
            entries
                .flatten()
                .filter_map(|entry| fs::read_link(entry.path()).ok())
                .collect()
        })
        .unwrap_or_default();
    let is_open = |minor: u32| targets.contains(&PathBuf::from(format!("/dev/nvidia{minor}")));
    machine
        .gpus
        .iter()
        .filter(|gpu| gpu.minor.is_some_and(is_open))
        .map(|gpu| gpu.pci)
        .collect()
}

/// Sums the anonymous pages of `/proc/PID/numa_maps` (proc(5)) by node, and finds their policy.
fn parse_numa_maps(text: &str) -> Memory {
    let mut memory = Memory::default();
    let mut by_policy: BTreeMap<&str, u64> = BTreeMap::new();
    for line in text.lines() {
        // ADDRESS POLICY [KEY=VALUE | WORD]...; a policy may hold a blank, "prefer (many):0".
        let Some((_, rest)) = line.split_once(' ') else {
            continue;
        };
        let policy = rest.find(" anon=").map(|_| policy_of(rest));
        let Some(policy) = policy else { continue };
        let fields = || {
            rest.split_whitespace()
                .filter_map(|field| field.split_once('='))
        };
        let page_kib = fields()
            .find(|(key, _)| *key == "kernelpagesize_kB")
            .and_then(|(_, value)| value.parse::<u64>().ok())
            .unwrap_or(4);
        for (key, value) in fields() {
            let node = key
                .strip_prefix('N')
                .and_then(|node| node.parse::<u32>().ok());
            let (Some(node), Ok(pages)) = (node, value.parse::<u64>()) else {
                continue;
            };
            let bytes = pages.saturating_mul(page_kib << 10);
            *memory.anonymous_bytes.entry(node).or_default() += bytes;
            *by_policy.entry(policy).or_default() += bytes;
        }
    }
    let most = by_policy.into_iter().max_by_key(|(_, bytes)| *bytes);
    memory.policy = most
        .map(|(policy, _)| policy.to_owned())
        .unwrap_or_default();
    memory
}

fn policy_of(rest: &str) -> &str {
    let end = match rest.strip_prefix("prefer (many)") {
        Some(tail) => rest.len() - tail.len() + tail.find(' ').unwrap_or(tail.len()),
        None => rest.find(' ').unwrap_or(rest.len()),
    };
    rest.get(..end).unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_pages_are_summed_by_node_with_their_policy() {
        let memory = parse_numa_maps(
            "55d0 prefer (many):0 heap anon=512 dirty=512 N0=500 N1=12 kernelpagesize_kB=4\n\
             7f00 default file=/usr/lib/libc.so mapped=300 N1=300 kernelpagesize_kB=4\n\
             7f10 prefer (many):0 huge anon=2 N0=2 kernelpagesize_kB=2048\n",
        );
        assert_eq!(memory.policy, "prefer (many):0");
        assert_eq!(
            memory.anonymous_bytes,
            BTreeMap::from([(0, (500 << 12) + (4 << 20)), (1, 12 << 12)])
        );
    }

    #[test]
    fn a_policy_for_other_nodes_and_pages_elsewhere_are_wrong() {
        let mut findings = Vec::new();
        let memory = parse_numa_maps("1 bind:1 heap anon=1000 N1=1000 kernelpagesize_kB=4\n");
        judge_memory(&mut findings, &NodeSet::single(0), &memory);
        assert_eq!(findings.len(), 2, "{findings:?}");
    }
}
