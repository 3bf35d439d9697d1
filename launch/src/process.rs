//! What `/proc` says of a process: threads, memory, GPUs, and which processes a job has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::set::CpuSet;
use topology::vendor::VENDORS;

use crate::environment::reported_partial;
use crate::numa_maps::{self, ProcessMemory};
use crate::observe::{self, status_list};
use crate::variables::Environment;

/// A process as it is now.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name, of at most 15 characters.
    pub name: String,
    /// The threads of each CPU mask.
    pub masks: BTreeMap<String, (CpuSet, Vec<Thread>)>,
    /// Where its memory is.
    pub memory: ProcessMemory,
    /// The GPUs and CPUs that a launch gave its task of which it said `partial`, by its report; none where it has no
    /// report, or another.
    pub bound_partly: Option<(Vec<PciAddress>, CpuSet)>,
    /// When it was started, in clock ticks since the host was (proc_pid_stat(5), starttime); 0 where that is not known.
    started: u64,
}

/// A thread of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// Its number.
    pub id: u32,
    /// Its name, of at most 15 characters: that of its process where nobody gave it one.
    pub name: String,
}

impl Process {
    /// Reads process `pid` of the `/proc` below `root`; none where there is no such process, or it may not be read.
    pub fn read(root: &Path, pid: u32) -> Option<Self> {
        let folder = folder_of(root, pid);
        let masks = read_masks(&folder)?;
        let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        let mut process = Self {
            pid,
            name: name.trim().to_owned(),
            masks,
            memory: ProcessMemory::default(),
            bound_partly: reported_partial(&StartEnvironment::of(root, pid)),
            started: read_start(&folder),
        };
        process.read_memory(root);
        Some(process)
    }

    /// Reads its threads again; false where it has ended.
    pub fn read_threads(&mut self, root: &Path) -> bool {
        let folder = folder_of(root, self.pid);
        match read_masks(&folder) {
            // Another may have got its number.
            Some(masks) if read_start(&folder) == self.started => self.masks = masks,
            Some(_) | None => return false,
        }
        true
    }

    /// Reads again where its memory is: the kernel walks all of it for that.
    pub fn read_memory(&mut self, root: &Path) {
        let text = fs::read_to_string(folder_of(root, self.pid).join("numa_maps"));
        self.memory = text.map(|text| numa_maps::parse(&text)).unwrap_or_default();
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

/// The processes of Slurm job `job` in the `/proc` below `root` that may be read, the calling one left out: those whose cgroup is the
/// job's, and those that were started with its number.
pub fn of_job(root: &Path, job: &str) -> Vec<u32> {
    let own = std::process::id();
    let is_of_job = |pid: &u32| {
        let cgroup = cgroup_of(root, *pid);
        let variable = || StartEnvironment::of(root, *pid).get("SLURM_JOB_ID");
        // slurmstepd's own is `.../step_0/slurm`.
        let is_slurms = cgroup.lines().any(|line| line.ends_with("/slurm"));
        let is_cgroups = cgroup.lines().any(|line| {
            line.split('/')
                .any(|part| part.strip_prefix("job_") == Some(job))
        });
        *pid != own && !is_slurms && (is_cgroups || variable().as_deref() == Some(job))
    };
    let entries = fs::read_dir(root.join("proc"))
        .into_iter()
        .flatten()
        .flatten();
    let mut pids: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(is_of_job)
        .collect();
    pids.sort_unstable();
    pids
}

/// `/proc/PID/cgroup`; empty where it may not be read.
fn cgroup_of(root: &Path, pid: u32) -> String {
    fs::read_to_string(folder_of(root, pid).join("cgroup")).unwrap_or_default()
}

/// The GPUs that process `pid` of this host sees, in the order of its own numbering; empty where that is not known.
///
/// Numbers count within what the process may open, which only a process of its own cgroup can ask; UUIDs stand for
/// themselves.
pub fn visible_to(machine: &Machine, pid: u32) -> Vec<PciAddress> {
    let root = Path::new("/");
    let environment = StartEnvironment::of(root, pid);
    let has_same_fence = cgroup_of(root, pid) == cgroup_of(root, std::process::id());
    if has_same_fence || names_by_uuid(&environment) {
        observe::visible_to_process(machine, &environment).gpus
    } else {
        Vec::new()
    }
}

/// The GPUs that process `pid` of the recorded `/proc` below `root` saw, where its environment names them by UUID; what
/// numbers counted is not recorded.
pub fn recorded_visible(root: &Path, machine: &Machine, pid: u32) -> Vec<PciAddress> {
    let environment = StartEnvironment::of(root, pid);
    if names_by_uuid(&environment) {
        observe::visible_to_process(machine, &environment).gpus
    } else {
        Vec::new()
    }
}

/// Whether a vendor's variable names GPUs by nothing but UUIDs.
fn names_by_uuid(environment: &StartEnvironment) -> bool {
    VENDORS.iter().any(|vendor| {
        let list = environment.get(vendor.variables.visible);
        list.is_some_and(|list| {
            let mut entries = list.split(',').map(str::trim);
            entries.all(|entry| entry.starts_with("GPU-") || entry.starts_with("MIG-"))
        })
    })
}

/// The GPUs whose device file process `pid` holds open.
pub fn open_gpus(root: &Path, machine: &Machine, pid: u32) -> Vec<PciAddress> {
    read_open_gpus(&folder_of(root, pid), machine)
}

/// The environment of a process as it was started.
#[derive(Debug)]
pub struct StartEnvironment(Vec<u8>);

impl StartEnvironment {
    /// Of process `pid` of the `/proc` below `root`; empty where it may not be read.
    pub fn of(root: &Path, pid: u32) -> Self {
        Self(fs::read(folder_of(root, pid).join("environ")).unwrap_or_default())
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

fn folder_of(root: &Path, pid: u32) -> PathBuf {
    root.join(format!("proc/{pid}"))
}

fn read_start(folder: &Path) -> u64 {
    let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
    // The name before it, in brackets, may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let start = fields.split_whitespace().nth(19);
    start.and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

fn read_masks(folder: &Path) -> Option<BTreeMap<String, (CpuSet, Vec<Thread>)>> {
    let mut masks: BTreeMap<String, (CpuSet, Vec<Thread>)> = BTreeMap::new();
    for thread in fs::read_dir(folder.join("task")).ok()?.flatten() {
        // A thread may end while it is looked at.
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let mask = status_list(&status, "Cpus_allowed_list").map(str::parse::<CpuSet>);
        let id = thread
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let (Some(Ok(mask)), Some(id)) = (mask, id) {
            let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
            let name = name.trim().to_owned();
            let (_, threads) = masks
                .entry(mask.to_string())
                .or_insert_with(|| (mask, Vec::new()));
            threads.push(Thread { id, name });
        }
    }
    for (_, threads) in masks.values_mut() {
        threads.sort_by_key(|thread| thread.id);
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
        let mut own = Process::read(Path::new("/"), std::process::id()).unwrap();
        assert!(!own.name.is_empty() && own.threads() > 0 && !own.cpus().is_empty());
        assert!(
            own.masks
                .values()
                .all(|(_, threads)| threads.iter().all(|thread| !thread.name.is_empty()))
        );
        assert!(own.read_threads(Path::new("/")));
        assert!(Process::read(Path::new("/"), u32::MAX).is_none());
    }

    #[test]
    fn a_jobs_processes_are_those_of_its_cgroup_and_those_started_with_its_number() {
        let root = tempfile::tempdir().unwrap();
        let put = |pid: u32, cgroup: &str, environment: &str| {
            let folder = root.path().join(format!("proc/{pid}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cgroup"), cgroup).unwrap();
            fs::write(folder.join("environ"), environment).unwrap();
        };
        put(11, "0::/slurm/uid_1/job_7/step_0/task_0\n", "");
        put(12, "0::/user.slice\n", "SLURM_JOB_ID=7\0");
        put(
            13,
            "0::/slurm/uid_1/job_77/step_0/task_0\n",
            "SLURM_JOB_ID=77\0",
        );
        put(
            14,
            "0::/system.slice/slurmstepd.scope/job_7/step_0/slurm\n",
            "",
        );
        put(
            std::process::id(),
            "0::/slurm/uid_1/job_7/step_0/task_1\n",
            "",
        );
        assert_eq!(of_job(root.path(), "7"), [11, 12]);
    }

    #[test]
    fn a_variable_of_a_started_process_is_found_by_its_whole_name() {
        let environment =
            StartEnvironment(b"SLURM_JOB_ID_X=1\0SLURM_JOB_ID=7=8\0BROKEN\0".to_vec());
        assert_eq!(environment.get("SLURM_JOB_ID").as_deref(), Some("7=8"));
        assert_eq!(environment.get("BROKEN"), None);
    }
}
