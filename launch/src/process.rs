//! What `/proc` says of a process: threads, memory, GPUs, and which processes a job has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::set::CpuSet;

use crate::environment::{Environment, reported_gpus};
use crate::numa_maps::{self, ProcessMemory};
use crate::observe::status_list;

/// A process as it is now.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name, of at most 15 characters.
    pub name: String,
    /// The thread ids of each CPU mask.
    pub masks: BTreeMap<String, (CpuSet, Vec<u32>)>,
    /// Where its memory is.
    pub memory: ProcessMemory,
    /// The GPUs of its report, else those that it holds open.
    pub gpus: Vec<PciAddress>,
}

impl Process {
    /// Reads process `pid`; none where there is no such process, or it may not be read.
    pub fn read(machine: &Machine, pid: u32) -> Option<Self> {
        let folder = folder_of(pid);
        let masks = read_masks(&folder)?;
        let memory = fs::read_to_string(folder.join("numa_maps"));
        let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        let reported = reported_gpus(&StartEnvironment::of(pid));
        let gpus = if reported.is_empty() {
            read_open_gpus(&folder, machine)
        } else {
            reported
        };
        Some(Self {
            pid,
            name: name.trim().to_owned(),
            masks,
            memory: memory
                .map(|text| numa_maps::parse(&text))
                .unwrap_or_default(),
            gpus,
        })
    }

    /// The CPUs that any of its threads may run on.
    pub fn cpus(&self) -> CpuSet {
        let mut cpus = CpuSet::new();
        for (mask, _) in self.masks.values() {
            cpus.extend_with(mask);
        }
        cpus
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        self.masks.values().map(|(_, threads)| threads.len()).sum()
    }
}

/// The processes of Slurm job `job` on this host that may be read, the calling one left out.
pub fn of_job(job: &str) -> Vec<u32> {
    let own = std::process::id();
    let is_of_job = |pid: &u32| {
        let variable = StartEnvironment::of(*pid).get("SLURM_JOB_ID");
        *pid != own && variable.as_deref() == Some(job)
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(is_of_job)
        .collect();
    pids.sort_unstable();
    pids
}

/// The environment of a process as it was started.
#[derive(Debug)]
struct StartEnvironment(Vec<u8>);

impl StartEnvironment {
    /// Of process `pid`; empty where it may not be read.
    fn of(pid: u32) -> Self {
        Self(fs::read(folder_of(pid).join("environ")).unwrap_or_default())
    }
}

impl Environment for StartEnvironment {
    fn get(&self, name: &str) -> Option<String> {
        self.0
            .split(|byte| *byte == 0)
            .filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    }
}

fn folder_of(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

fn read_masks(folder: &Path) -> Option<BTreeMap<String, (CpuSet, Vec<u32>)>> {
    let mut masks: BTreeMap<String, (CpuSet, Vec<u32>)> = BTreeMap::new();
    for thread in fs::read_dir(folder.join("task")).ok()?.flatten() {
        // A thread may end while it is looked at.
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let mask = status_list(&status, "Cpus_allowed_list").map(str::parse::<CpuSet>);
        let id = thread
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let (Some(Ok(mask)), Some(id)) = (mask, id) {
            let of_mask = masks.entry(mask.to_string());
            of_mask.or_insert_with(|| (mask, Vec::new())).1.push(id);
        }
    }
    (!masks.is_empty()).then_some(masks)
}

fn read_open_gpus(folder: &Path, machine: &Machine) -> Vec<PciAddress> {
    let files = fs::read_dir(folder.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    let targets: Vec<PathBuf> = files
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect();
    let gpus = machine.gpus.iter().filter(|gpu| {
        gpu.device_path()
            .is_some_and(|device| targets.contains(&PathBuf::from(device)))
    });
    gpus.map(|gpu| gpu.pci).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_name_threads_and_cpus() {
        let own = Process::read(&Machine::default(), std::process::id()).unwrap();
        assert!(!own.name.is_empty() && own.threads() > 0 && !own.cpus().is_empty());
        assert!(Process::read(&Machine::default(), u32::MAX).is_none());
    }

    #[test]
    fn a_variable_of_a_started_process_is_found_by_its_whole_name() {
        let environment =
            StartEnvironment(b"SLURM_JOB_ID_X=1\0SLURM_JOB_ID=7=8\0BROKEN\0".to_vec());
        assert_eq!(environment.get("SLURM_JOB_ID").as_deref(), Some("7=8"));
        assert_eq!(environment.get("BROKEN"), None);
    }
}
