//! `/proc/PID/numa_maps` (proc(5)), summed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::Serialize;
use topology::set::NodeSet;

/// What a process's memory is.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProcessMemory {
    /// The policy of most of its own pages, as numa_maps words it; empty where it has none or the file
    /// cannot be read.
    pub policy: String,
    /// Its own memory by node, in bytes: anonymous pages, and shared memory that it has mapped.
    pub anonymous_bytes: BTreeMap<u32, u64>,
}

impl ProcessMemory {
    /// The nodes that the policy names; none under `default` and `local`.
    pub fn named(&self) -> Option<NodeSet> {
        nodes_of(&self.policy)
    }

    /// All of it, and what of it lies outside `nodes`, in bytes.
    pub fn outside(&self, nodes: &NodeSet) -> (u64, u64) {
        let sum = |is_wanted: &dyn Fn(u32) -> bool| {
            let bytes = self
                .anonymous_bytes
                .iter()
                .filter(|(node, _)| is_wanted(**node));
            bytes.map(|(_, bytes)| bytes).sum()
        };
        (sum(&|_| true), sum(&|node| !nodes.contains(node)))
    }
}

/// The nodes that a policy names, `bind:0-1`; none under `default` and `local`.
pub fn nodes_of(policy: &str) -> Option<NodeSet> {
    policy.rsplit_once(':')?.1.parse().ok()
}

/// Adds up a file; what is only a file's cache is left out, for it is where whoever read it first put it.
pub fn parse(text: &str) -> ProcessMemory {
    let mut memory = ProcessMemory::default();
    let mut by_policy: BTreeMap<&str, u64> = BTreeMap::new();
    for line in text.lines() {
        // ADDRESS POLICY [KEY=VALUE | WORD]...; a policy may hold a blank, "prefer (many):0".
        let Some((_, rest)) = line.split_once(' ') else {
            continue;
        };
        let policy = policy_of(rest);
        let details = rest.get(policy.len()..).unwrap_or_default();
        let fields = || {
            details
                .split_whitespace()
                .filter_map(|field| field.split_once('='))
        };
        // Huge pages are no file's cache either.
        let is_huge = details.split_whitespace().any(|word| word == "huge");
        let is_own = |(key, value)| key == "anon" || (key == "file" && is_shared_memory(value));
        if !is_huge && !fields().any(is_own) {
            continue;
        }
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

/// The policy of the thread whose numa_maps is at `path`, as its first mapping has it; none where it may not be read.
///
/// A mapping without a policy of its own is shown with that of the thread that is asked about (`show_numa_map`,
/// fs/proc/task_mmu.c), and the first one is the program's.  The kernel walks no more memory than fills what is read.
pub fn read_policy(path: &Path) -> Option<String> {
    let mut start = [0; 128];
    let length = File::open(path).ok()?.read(&mut start).ok()?;
    let text = String::from_utf8_lossy(start.get(..length)?).into_owned();
    let (_, rest) = text.lines().next()?.split_once(' ')?;
    Some(policy_of(rest).to_owned())
}

/// Memory that processes share and that no disk backs; a container has its `/dev/shm` below another root.
fn is_shared_memory(file: &str) -> bool {
    let starts = ["/SYSV", "/memfd:", "/dev/zero", "/anon_hugepage"];
    file.contains("/dev/shm/") || starts.iter().any(|start| file.starts_with(start))
}

/// The policy at the start of a line (`mpol_to_str`, mm/mempolicy.c): words with blanks end at a colon.
fn policy_of(rest: &str) -> &str {
    let blank = ["prefer (many)", "weighted interleave"]
        .iter()
        .find(|words| rest.starts_with(*words));
    let from = blank.map_or(0, |words| words.len());
    let end = rest
        .get(from..)
        .and_then(|tail| tail.find(' '))
        .map_or(rest.len(), |at| from + at);
    rest.get(..end).unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_pages_are_summed_by_node_with_their_policy() {
        let memory = parse(
            "55d0 prefer (many):0 heap anon=512 dirty=512 N0=500 N1=12 kernelpagesize_kB=4\n\
             7f00 default file=/usr/lib/libc.so mapped=300 N1=300 kernelpagesize_kB=4\n\
             7f08 prefer (many):0 file=/dev/shm/x dirty=3 N1=3 kernelpagesize_kB=4\n\
             7f10 prefer (many):0 huge anon=2 N0=2 kernelpagesize_kB=2048\n",
        );
        assert_eq!(memory.policy, "prefer (many):0");
        assert_eq!(memory.named().unwrap().to_string(), "0");
        assert_eq!(
            memory.anonymous_bytes,
            BTreeMap::from([(0, (500 << 12) + (4 << 20)), (1, 15 << 12)])
        );
        assert_eq!(memory.outside(&NodeSet::single(0)).1, 15 << 12);
    }

    #[test]
    fn every_policy_is_read() {
        for policy in [
            "default",
            "local",
            "bind=static:0-1",
            "interleave:0,2",
            "weighted interleave:0-1",
            "prefer:1",
        ] {
            let memory = parse(&format!("1 {policy} anon=1 N0=1 kernelpagesize_kB=4\n"));
            assert_eq!(memory.policy, policy);
        }
    }
}
