//! What `/proc` says of a process: threads, memory, GPUs, and which processes a job has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::set::CpuSet;

use super::numa_maps::{self, Memory};
use crate::run::read_visible;

/// A process as it is now.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Its name, of at most 15 characters.
    pub(super) name: String,
    /// The thread ids of each CPU mask.
    pub(super) masks: BTreeMap<String, (CpuSet, Vec<u32>)>,
    pub(super) gpus: Vec<PciAddress>,
    pub(super) memory: Memory,
}

impl Process {
    /// Reads process `pid`; absent when there is none or it may not be read.
    pub(super) fn read(machine: &Machine, pid: u32, gpus: Option<&[PciAddress]>) -> Option<Self> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let masks = read_masks(&folder)?;
        let is_own = pid == std::process::id();
        let gpus = gpus.map_or_else(
            || read_gpus(&folder, machine, is_own),
            <[PciAddress]>::to_vec,
        );
        let memory = fs::read_to_string(folder.join("numa_maps"));
        Some(Self {
            pid,
            name: fs::read_to_string(folder.join("comm"))
                .unwrap_or_default()
                .trim()
                .to_owned(),
            masks,
            gpus,
            memory: memory
                .map(|text| numa_maps::parse(&text))
                .unwrap_or_default(),
        })
    }

    /// The CPUs that any of its threads may run on.
    pub(super) fn cpus(&self) -> CpuSet {
        let mut cpus = CpuSet::new();
        self.masks
            .values()
            .for_each(|(mask, _)| cpus.extend_with(mask));
        cpus
    }

    /// How many threads it has.
    pub(super) fn threads(&self) -> usize {
        self.masks.values().map(|(_, threads)| threads.len()).sum()
    }
}

/// The processes of Slurm job `job` on this host that may be read, this one left out.
pub(super) fn of_job(job: &str) -> Vec<u32> {
    let own = std::process::id();
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = numbers
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            variable(&PathBuf::from(format!("/proc/{pid}")), "SLURM_JOB_ID").as_deref() == Some(job)
        })
        .collect();
    pids.sort_unstable();
    pids
}

fn read_masks(folder: &Path) -> Option<BTreeMap<String, (CpuSet, Vec<u32>)>> {
    let mut masks: BTreeMap<String, (CpuSet, Vec<u32>)> = BTreeMap::new();
    for thread in fs::read_dir(folder.join("task")).ok()?.flatten() {
        // A thread may end while it is looked at.
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let id = thread
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let (Some(Ok(mask)), Some(id)) = (list.map(|list| list.trim().parse::<CpuSet>()), id) {
            masks
                .entry(mask.to_string())
                .or_insert_with(|| (mask, Vec::new()))
                .1
                .push(id);
        }
    }
    (!masks.is_empty()).then_some(masks)
}

/// A variable of a process's environment as it was started.
fn variable(folder: &Path, name: &str) -> Option<String> {
    let environment = fs::read(folder.join("environ")).ok()?;
    environment
        .split(|byte| *byte == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

/// The GPUs of a process: those of its report, else those that it holds open, else, for this process
/// itself, those that it sees.  What another may open cannot be asked, so its numbers mean nothing.
fn read_gpus(folder: &Path, machine: &Machine, is_own: bool) -> Vec<PciAddress> {
    let report = variable(folder, "GPU_NUMA_BIND_REPORT")
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
    if !open.is_empty() || !is_own {
        return open;
    }
    read_visible(machine)
}

fn read_open_gpus(folder: &Path, machine: &Machine) -> Vec<PciAddress> {
    let files = fs::read_dir(folder.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    let targets: Vec<PathBuf> = files
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect();
    let is_open = |minor: u32| targets.contains(&PathBuf::from(format!("/dev/nvidia{minor}")));
    let gpus = machine
        .gpus
        .iter()
        .filter(|gpu| gpu.minor.is_some_and(is_open));
    gpus.map(|gpu| gpu.pci).collect()
}
