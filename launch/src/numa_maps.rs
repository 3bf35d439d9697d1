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
    /// What of it is in mappings some of whose pages other processes have too, in bytes.
    #[serde(skip)]
    pub shared_bytes: BTreeMap<u32, u64>,
    /// The large files that it has mapped, as weights are; of each what is in its page table.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<MappedFile>,
}

/// A file that a process has mapped.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MappedFile {
    /// Its path, as the process sees it.
    pub path: String,
    /// Its cached pages by node, in bytes.
    pub bytes: BTreeMap<u32, u64>,
}

/// Mapped files with fewer bytes in memory are not named: a process has hundreds of libraries.
const LARGE_BYTES: u64 = 64 << 20;

impl ProcessMemory {
    /// The nodes that the policy names; none under `default` and `local`.
    pub fn named(&self) -> Option<NodeSet> {
        nodes_of(&self.policy)
    }

    /// All of it, what of it lies outside `nodes`, and what of that other processes may have too, in bytes.
    pub fn outside(&self, nodes: &NodeSet) -> (u64, u64, u64) {
        let far = |bytes: &BTreeMap<u32, u64>| {
            let far = bytes.iter().filter(|(node, _)| !nodes.contains(**node));
            far.map(|(_, bytes)| bytes).sum()
        };
        let all = self.anonymous_bytes.values().sum();
        (all, far(&self.anonymous_bytes), far(&self.shared_bytes))
    }
}

/// The nodes that a policy names, `bind:0-1`; none under `default` and `local`.
pub fn nodes_of(policy: &str) -> Option<NodeSet> {
    policy.rsplit_once(':')?.1.parse().ok()
}

/// A mapping of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping<'t> {
    /// Where it begins.
    pub start: u64,
    /// Its policy, or that of the thread that is asked about.
    policy: &'t str,
    /// Whether its pages are the process's own: anonymous, shared memory, huge; else they are a file's cache, and are where
    /// whoever read it first put them.
    pub is_own: bool,
    /// Whether another process has one of its pages too, or this one has it in another mapping as well.
    pub is_shared: bool,
    /// The file, as the kernel writes it: a blank is `\040`.
    file: Option<&'t str>,
    /// The size of its pages, in bytes.
    pub page_bytes: u64,
    /// How many of them each node has.
    pub pages: Vec<(u32, u64)>,
}

impl<'t> Mapping<'t> {
    fn parse(line: &'t str) -> Option<Self> {
        // ADDRESS POLICY [KEY=VALUE | WORD]...; a policy may hold a blank, "prefer (many):0".
        let (start, rest) = line.split_once(' ')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let policy = policy_of(rest);
        let details = rest.get(policy.len()..).unwrap_or_default();
        let fields = || {
            details
                .split_whitespace()
                .filter_map(|field| field.split_once('='))
        };
        let value_of = |name: &str| {
            fields()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value)
        };
        // Huge pages are no file's cache either.
        let is_huge = details.split_whitespace().any(|word| word == "huge");
        let file = value_of("file");
        let is_own = is_huge || value_of("anon").is_some() || file.is_some_and(is_shared_memory);
        let page_kib = value_of("kernelpagesize_kB").and_then(|value| value.parse::<u64>().ok());
        let pages = fields().filter_map(|(key, value)| {
            let node = key.strip_prefix('N')?.parse::<u32>().ok()?;
            Some((node, value.parse::<u64>().ok()?))
        });
        Some(Self {
            start,
            policy,
            is_own,
            is_shared: value_of("mapmax").is_some(),
            file,
            page_bytes: page_kib.unwrap_or(4) << 10,
            pages: pages.collect(),
        })
    }

    /// How much each node has of it, in bytes.
    pub fn bytes(&self) -> impl Iterator<Item = (u32, u64)> {
        let bytes_of = |(node, pages): &(u32, u64)| (*node, pages.saturating_mul(self.page_bytes));
        self.pages.iter().map(bytes_of)
    }
}

/// The mappings of a `numa_maps`, in the order of their addresses.
pub fn mappings(text: &str) -> impl Iterator<Item = Mapping<'_>> {
    text.lines().filter_map(Mapping::parse)
}

/// Adds up a file.
pub fn parse(text: &str) -> ProcessMemory {
    let mut memory = ProcessMemory::default();
    let mut by_policy: BTreeMap<&str, u64> = BTreeMap::new();
    let mut files: BTreeMap<&str, BTreeMap<u32, u64>> = BTreeMap::new();
    for mapping in mappings(text) {
        let file = mapping.file.filter(|_| !mapping.is_own);
        for (node, bytes) in mapping.bytes() {
            if mapping.is_own {
                *memory.anonymous_bytes.entry(node).or_default() += bytes;
                if mapping.is_shared {
                    *memory.shared_bytes.entry(node).or_default() += bytes;
                }
                *by_policy.entry(mapping.policy).or_default() += bytes;
            } else if let Some(file) = file {
                *files.entry(file).or_default().entry(node).or_default() += bytes;
            }
        }
    }
    let most = by_policy.into_iter().max_by_key(|(_, bytes)| *bytes);
    memory.policy = most
        .map(|(policy, _)| policy.to_owned())
        .unwrap_or_default();
    let files = files.into_iter().map(|(path, bytes)| MappedFile {
        path: unescape(path),
        bytes,
    });
    memory.files = files
        .filter(|file| file.bytes.values().sum::<u64>() >= LARGE_BYTES)
        .collect();
    memory
}

/// A path in which the kernel has written a blank and the like as `\040` (`mangle_path`, fs/seq_file.c).
fn unescape(path: &str) -> String {
    let mut parts = path.split('\\');
    let mut text = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match code {
            Some(code) => {
                text.push(code);
                text.extend(part.bytes().skip(3));
            }
            None => {
                text.push(b'\\');
                text.extend(part.bytes());
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// As much of a numa_maps as [`first_policy`] wants: the kernel walks no more memory than fills what is read.
pub const POLICY_BYTES: usize = 128;

/// The policy of the thread whose numa_maps begins like this, as its first mapping has it; none where there is none.
///
/// A mapping without a policy of its own is shown with that of the thread that is asked about (`show_numa_map`,
/// fs/proc/task_mmu.c), and the first one is the program's.
pub fn first_policy(start: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(start).into_owned();
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
        assert!(memory.shared_bytes.is_empty());
    }

    #[test]
    fn what_other_processes_have_too_is_known_by_the_most_that_have_a_page() {
        let memory = parse(
            "7f08 default file=/dev/shm/x dirty=9 mapmax=4 N0=1 N1=8 kernelpagesize_kB=4\n\
             7f10 default anon=2 dirty=2 N1=2 kernelpagesize_kB=4\n",
        );
        let of_node_0 = memory.outside(&NodeSet::single(0));
        assert_eq!(of_node_0, (11 << 12, 10 << 12, 8 << 12));
    }

    #[test]
    fn large_files_are_named_as_they_are_called() {
        let memory = parse(
            "7f00 default file=/models/a\\040b\\\\x.safetensors mapped=32768 N0=1 N1=32767 kernelpagesize_kB=4\n\
             7f01 default file=/usr/lib/libc.so mapped=300 N1=300 kernelpagesize_kB=4\n",
        );
        let [file] = memory.files.as_slice() else {
            panic!("{memory:?}")
        };
        assert_eq!(file.path, "/models/a b\\\\x.safetensors");
        assert_eq!(file.bytes, BTreeMap::from([(0, 4096), (1, 32767 << 12)]));
        assert!(memory.anonymous_bytes.is_empty());
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
