//! What `/proc` says of a process: threads, memory, GPUs, and which processes a job has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ffi::linux::access::{DeviceNumber, read_device_number};
use topology::machine::{Gpu, Machine};
use topology::pci::PciAddress;
use topology::set::{CpuSet, NodeSet};

use crate::environment::reported_partial;
use crate::numa_maps::{self, ProcessMemory};
use crate::observe::{self, status_list};
use crate::used::Seen;
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
    /// Threads that take new memory by another policy than the first one, by that policy.
    pub policies: BTreeMap<String, Vec<Thread>>,
    /// The nodes that its cpuset lets it have memory from; none where that is not known.
    pub allowed_nodes: Option<NodeSet>,
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
            policies: BTreeMap::new(),
            allowed_nodes: None,
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
        let folder = living_folder_of(root, self.pid);
        let text = fs::read_to_string(folder.join("numa_maps"));
        self.memory = text.map(|text| numa_maps::parse(&text)).unwrap_or_default();
        self.policies = self.other_policies(&folder, &folder_of(root, self.pid).join("task"));
        let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
        let nodes = status_list(&status, "Mems_allowed_list").map(str::parse::<NodeSet>);
        self.allowed_nodes = nodes.and_then(Result::ok).filter(|nodes| !nodes.is_empty());
    }

    /// The policies of the threads in `tasks` that differ from that of `first`.
    fn other_policies(&self, first: &Path, tasks: &Path) -> BTreeMap<String, Vec<Thread>> {
        let of = |folder: &Path| numa_maps::read_policy(&folder.join("numa_maps"));
        let mut others: BTreeMap<String, Vec<Thread>> = BTreeMap::new();
        let Some(first) = of(first) else {
            return others;
        };
        let threads = self.masks.values().flat_map(|(_, threads)| threads);
        for thread in threads.filter(|thread| thread.id != self.pid) {
            let policy = of(&tasks.join(thread.id.to_string()));
            if let Some(policy) = policy.filter(|policy| *policy != first) {
                others.entry(policy).or_default().push(thread.clone());
            }
        }
        for threads in others.values_mut() {
            threads.sort_by_key(|thread| thread.id);
        }
        others
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

/// What the environment of process `pid` of this host says of the GPUs that it sees.
///
/// Numbers count within what the process may open.  Only a process of its own cgroup can ask the kernel for that; but a
/// container has the files of its GPUs alone, a number that is the last of the host's says that all count, and UUIDs
/// stand for themselves.
pub fn seen_by(machine: &Machine, pid: u32) -> Seen {
    let root = Path::new("/");
    let Some(environment) = StartEnvironment::read(root, pid) else {
        return Seen::Unreadable;
    };
    let own = std::process::id();
    let fences = [pid, own].map(|pid| fence(&cgroup_of(root, pid)));
    let has_same_fence = matches!(&fences, [Some(its), Some(own)] if its == own);
    let present = present_to(machine, root, pid, own);
    let openable = match present {
        Some(present) if present.len() < machine.gpus.len() && !present.is_empty() => Some(present),
        Some(_) => has_same_fence.then(|| observe::openable_by_process(machine)),
        None => None,
    };
    observe::seen_in(machine, &environment, openable)
}

/// What the environment of process `pid` of the recorded `/proc` below `root` says of the GPUs that it saw; what numbers
/// counted is not recorded.
pub fn recorded_seen(root: &Path, machine: &Machine, pid: u32) -> Seen {
    StartEnvironment::read(root, pid).map_or(Seen::Unreadable, |environment| {
        observe::seen_in(machine, &environment, None)
    })
}

/// The GPUs whose device file is in the `/dev` of process `pid`: those that `own` sees there too where both have the same; none
/// where it may not be looked at.
fn present_to(machine: &Machine, root: &Path, pid: u32, own: u32) -> Option<Vec<PciAddress>> {
    let folder = living_folder_of(root, pid);
    let namespace = |folder: &Path| fs::read_link(folder.join("ns/mnt")).ok();
    let its_root = folder.join("root");
    let is_at_root = || fs::read_link(&its_root).is_ok_and(|path| path == Path::new("/"));
    let has_same = namespace(&folder)? == namespace(&living_folder_of(root, own))? && is_at_root();
    let is_there = |gpu: &&Gpu| {
        let device = gpu.device_path();
        device.is_some_and(|device| its_root.join(device.trim_start_matches('/')).exists())
    };
    let gpus = machine.gpus.iter();
    let present = gpus.filter(|gpu| has_same || is_there(gpu));
    Some(present.map(|gpu| gpu.pci).collect())
}

/// What decides which devices the processes of a cgroup may open, by `/proc/PID/cgroup`; none where that is empty.
///
/// Version 1 has a hierarchy of its own for that (cgroups(7)).  In version 2 programs are attached to a cgroup by whoever
/// made it; a user's own service manager may attach none, so all below the user's slice have the same.
fn fence(cgroup: &str) -> Option<String> {
    let lines = || {
        cgroup
            .lines()
            .filter_map(|line| line.split_once(':')?.1.split_once(':'))
    };
    let first = lines().find(|(controllers, _)| controllers.split(',').any(|own| own == "devices"));
    if let Some((_, path)) = first {
        return Some(path.to_owned());
    }
    let (_, path) = lines().find(|(controllers, _)| controllers.is_empty())?;
    let parts: Vec<&str> = path.split('/').collect();
    let of_user = match parts.as_slice() {
        ["", "user.slice", user, ..] if user.starts_with("user-") => {
            Some(format!("/user.slice/{user}"))
        }
        _ => None,
    };
    Some(of_user.unwrap_or_else(|| path.to_owned()))
}

/// The GPUs whose device file process `pid` holds open.
pub fn open_gpus(root: &Path, machine: &Machine, pid: u32) -> Vec<PciAddress> {
    read_open_gpus(&living_folder_of(root, pid), machine)
}

/// The environment of a process as it was started.
#[derive(Debug, Default)]
pub struct StartEnvironment(Vec<u8>);

impl StartEnvironment {
    /// Of process `pid` of the `/proc` below `root`; empty where it may not be read.
    pub fn of(root: &Path, pid: u32) -> Self {
        Self::read(root, pid).unwrap_or_default()
    }

    /// As [`Self::of`]; none where it may not be read.
    pub fn read(root: &Path, pid: u32) -> Option<Self> {
        let environ = living_folder_of(root, pid).join("environ");
        Some(Self(fs::read(environ).ok()?))
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

/// The folder in which a process's memory, files and environment are: of one whose first thread has ended, that of another
/// thread.
fn living_folder_of(root: &Path, pid: u32) -> PathBuf {
    let folder = folder_of(root, pid);
    if !has_ended(&folder) {
        return folder;
    }
    let threads = fs::read_dir(folder.join("task"));
    let mut threads = threads.into_iter().flatten().flatten();
    let living = threads.find(|thread| !has_ended(&thread.path()));
    living.map_or(folder, |thread| thread.path())
}

/// Whether the process or thread of this folder has ended, and only its end is still to be asked for (proc_pid_status(5), State).
fn has_ended(folder: &Path) -> bool {
    let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
    is_over(&status)
}

fn is_over(status: &str) -> bool {
    status_list(status, "State").is_some_and(|state| state.starts_with(['Z', 'X']))
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
        if is_over(&status) {
            continue;
        }
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

/// By the file's name, and on this host by its device number too: in a container or below another root it may have another name.
fn read_open_gpus(folder: &Path, machine: &Machine) -> Vec<PciAddress> {
    let files = fs::read_dir(folder.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    let open: Vec<(PathBuf, Option<DeviceNumber>)> = files
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            let number = target
                .is_absolute()
                .then(|| read_device_number(&entry.path()))
                .flatten();
            Some((target, number))
        })
        .collect();
    let gpus = machine.gpus.iter().filter(|gpu| {
        let Some(device) = gpu.device_path().map(PathBuf::from) else {
            return false;
        };
        let number = read_device_number(&device);
        open.iter().any(|(target, own)| match (own, number) {
            (Some(own), Some(number)) => *own == number,
            (Some(_) | None, _) => *target == device,
        })
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
    fn a_process_whose_first_thread_has_ended_is_that_of_the_others() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join("proc/7").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("status", "State:\tZ (zombie)\nCpus_allowed_list:\t0-7\n");
        put("environ", "");
        put(
            "task/7/status",
            "State:\tZ (zombie)\nCpus_allowed_list:\t0-7\n",
        );
        assert!(Process::read(root.path(), 7).is_none());
        put(
            "task/8/status",
            "State:\tS (sleeping)\nCpus_allowed_list:\t3\n",
        );
        put("task/8/environ", "LOCAL_RANK=2\0");
        put(
            "task/8/numa_maps",
            "1 bind:1 anon=1 N1=1 kernelpagesize_kB=4\n",
        );
        let process = Process::read(root.path(), 7).unwrap();
        assert_eq!(process.cpus().to_string(), "3");
        assert_eq!(process.memory.policy, "bind:1");
        let environment = StartEnvironment::of(root.path(), 7);
        assert_eq!(environment.get("LOCAL_RANK").as_deref(), Some("2"));
    }

    #[test]
    fn what_fences_devices_is_told_by_the_cgroup() {
        let v2 = |path: &str| fence(&format!("0::{path}\n"));
        assert_eq!(
            v2("/user.slice/user-7.slice/session-5.scope"),
            v2("/user.slice/user-7.slice/user@7.service/app.slice/x.scope")
        );
        assert_ne!(
            v2("/user.slice/user-7.slice/session-5.scope"),
            v2("/user.slice/user-8.slice/session-6.scope")
        );
        assert_ne!(
            v2("/system.slice/slurmstepd.scope/job_7/step_0/user/task_0"),
            v2("/system.slice/slurmstepd.scope/job_7/step_0/user/task_1")
        );
        let v1 = |devices: &str, other: &str| {
            fence(&format!(
                "4:cpu,cpuacct:{other}\n3:devices:{devices}\n0::{other}\n"
            ))
        };
        assert_eq!(
            v1("/slurm/uid_1/job_7", "/a"),
            v1("/slurm/uid_1/job_7", "/b")
        );
        assert_ne!(
            v1("/slurm/uid_1/job_7", "/a"),
            v1("/slurm/uid_1/job_8", "/a")
        );
        assert_eq!(fence(""), None);
    }

    #[test]
    fn a_variable_of_a_started_process_is_found_by_its_whole_name() {
        let environment =
            StartEnvironment(b"SLURM_JOB_ID_X=1\0SLURM_JOB_ID=7=8\0BROKEN\0".to_vec());
        assert_eq!(environment.get("SLURM_JOB_ID").as_deref(), Some("7=8"));
        assert_eq!(environment.get("BROKEN"), None);
    }
}
