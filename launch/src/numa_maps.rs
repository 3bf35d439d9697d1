//! `/proc/PID/numa_maps` (proc(5)), summed.

use std::collections::BTreeMap;

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
        let (_, list) = self.policy.rsplit_once(':')?;
        list.parse().ok()
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
        if !fields().any(|(key, value)| key == "anon" || (key == "file" && is_shared_memory(value)))
        {
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

/// Memory that processes share and that no disk backs.
fn is_shared_memory(file: &str) -> bool {
    ["/dev/shm/", "/SYSV", "/memfd:", "/dev/zero"]
        .iter()
        .any(|start| file.starts_with(start))
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
