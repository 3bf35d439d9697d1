//! What `/proc` says of a process: threads, memory and GPUs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ffi::linux::access::{DeviceNumber, read_device_number};
use ffi::linux::mounts::{self, Mounts};
use topology::machine::{Gpu, Machine};
use topology::pci::{PciAddress, once_each};
use topology::set::{CpuSet, NodeSet};

use crate::environment::reported_partial;
use crate::numa_maps::{self, ProcessMemory};
use crate::observe::{self, status_list};
use crate::processes::Folder;
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
    /// The CPUs that the host has; none where masks are as the kernel writes them.
    online: Option<CpuSet>,
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
        let folder = Folder::of(root, pid);
        // Before all else, so that whoever gets its number while it is read is told from it.
        let started = read_start(&folder);
        let masks = read_masks(&folder)?;
        let name = folder.text("comm").unwrap_or_default();
        let mut process = Self {
            pid,
            name: name.trim().to_owned(),
            masks,
            online: None,
            memory: ProcessMemory::default(),
            bound_partly: reported_partial(&StartEnvironment::of(root, pid)),
            policies: BTreeMap::new(),
            allowed_nodes: None,
            started,
        };
        process.read_memory(root);
        Some(process)
    }

    /// The same with masks of CPUs that the host has: that of a process which nobody bound names every CPU that the host could ever
    /// have, 128 in many virtual machines (`Cpus_allowed_list`, from `task_cpus_mask`; cpuset(7)).
    #[must_use]
    pub fn on(mut self, online: &CpuSet) -> Self {
        self.masks = only_online(self.masks, online);
        self.online = Some(online.clone());
        self
    }

    /// Whether its number is still that of this process: another gets it some time after it has ended.
    pub fn is_still_there(&self, root: &Path) -> bool {
        read_start(&Folder::of(root, self.pid)) == self.started
    }

    /// Reads its threads again; false where it has ended.
    pub fn read_threads(&mut self, root: &Path) -> bool {
        match read_masks(&Folder::of(root, self.pid)) {
            Some(masks) if self.is_still_there(root) => {
                self.masks = match &self.online {
                    Some(online) => only_online(masks, online),
                    None => masks,
                };
            }
            Some(_) | None => return false,
        }
        true
    }

    /// Reads again where its memory is: the kernel walks all of it for that.
    pub fn read_memory(&mut self, root: &Path) {
        let folder = living_folder_of(root, self.pid);
        let text = folder.text("numa_maps");
        self.memory = text.map(|text| numa_maps::parse(&text)).unwrap_or_default();
        self.policies = self.other_policies(&folder, &Folder::of(root, self.pid).join("task"));
        let status = folder.text("status").unwrap_or_default();
        let nodes = status_list(&status, "Mems_allowed_list").map(str::parse::<NodeSet>);
        self.allowed_nodes = nodes.and_then(Result::ok).filter(|nodes| !nodes.is_empty());
    }

    /// The policies of the threads in `tasks` that differ from that of `first`.
    fn other_policies(
        &self,
        first: &Folder<'_>,
        tasks: &Folder<'_>,
    ) -> BTreeMap<String, Vec<Thread>> {
        let of = |folder: &Folder<'_>| {
            let (start, _) = folder.first("numa_maps", numa_maps::POLICY_BYTES).ok()?;
            numa_maps::first_policy(&start)
        };
        let mut others: BTreeMap<String, Vec<Thread>> = BTreeMap::new();
        let Some(first) = of(first) else {
            return others;
        };
        let threads = self.masks.values().flat_map(|(_, threads)| threads);
        for thread in threads.filter(|thread| thread.id != self.pid) {
            let policy = of(&tasks.join(&thread.id.to_string()));
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

/// `/proc/PID/cgroup`; empty where it may not be read.
pub(crate) fn cgroup_of(root: &Path, pid: u32) -> String {
    Folder::of(root, pid).text("cgroup").unwrap_or_default()
}

/// What the environment of process `pid` of this host says of the GPUs that it sees.
///
/// Numbers count within what the process may open.  Only a process of its own cgroup can ask the kernel for that; but
/// version 1 of cgroups lists what another one may open where it is a list and not all but some, a container has the files
/// of its GPUs alone, a number that is the last of the host's says that all count, and UUIDs stand for themselves.
pub fn seen_by(machine: &Machine, pid: u32) -> Seen {
    let root = Path::new("/");
    let environment = match StartEnvironment::find(root, pid) {
        Found::Environment(environment) => Some(environment),
        Found::Title => None,
        Found::Kernel => return Seen::Kernel,
        Found::Nothing => return Seen::Unreadable,
    };
    let own = std::process::id();
    let its_cgroup = cgroup_of(root, pid);
    let fences = [fence(&its_cgroup), fence(&cgroup_of(root, own))];
    let has_same_fence = matches!(&fences, [Some(its), Some(own)] if its == own);
    let listed = || listed_in_cgroup(machine, root, &its_cgroup);
    let present = present_to(machine, root, pid, own);
    let openable = match present {
        Some(present) if present.len() < machine.gpus.len() && !present.is_empty() => Some(present),
        Some(_) if has_same_fence => Some(observe::parts_openable_by_process(machine)),
        Some(_) | None => listed(),
    };
    match environment {
        Some(environment) => observe::seen_in(machine, &environment, openable),
        None => Seen::Titled(once_each(openable.unwrap_or_default())),
    }
}

/// What the environment of process `pid` of the recorded `/proc` below `root` says of the GPUs that it saw; what numbers
/// counted is not recorded.
pub fn recorded_seen(root: &Path, machine: &Machine, pid: u32) -> Seen {
    match StartEnvironment::find(root, pid) {
        Found::Environment(environment) => observe::seen_in(machine, &environment, None),
        Found::Title => Seen::Titled(Vec::new()),
        Found::Kernel => Seen::Kernel,
        Found::Nothing => Seen::Unreadable,
    }
}

/// The GPUs whose device file is in the `/dev` of process `pid`: those that `own` sees there too where both have the same; none
/// where it may not be looked at.
fn present_to(machine: &Machine, root: &Path, pid: u32, own: u32) -> Option<Vec<PciAddress>> {
    let folder = living_folder_of(root, pid);
    let namespace = |folder: &Folder<'_>| folder.link("ns/mnt");
    let its_root = folder.join("root").path();
    let top = folder.link("root")?;
    let own = living_folder_of(root, own);
    let is_in_ours = namespace(&folder)? == namespace(&own)?;
    let has_same = is_in_ours && top == Path::new("/");
    // A process's own list has what is mounted below its root, and not that in which its root is a folder.
    let (whose, top) = if is_in_ours {
        (&own, top.as_path())
    } else {
        (&folder, Path::new("/"))
    };
    let mountinfo = if has_same {
        Vec::new()
    } else {
        whose.first("mountinfo", LARGEST_MOUNTINFO).ok()?.0
    };
    let mounts = Mounts::parse(&mountinfo);
    let is_there = |gpu: &Gpu| {
        for device in gpu.device_paths() {
            if mounts::is_there(&mounts, &its_root, top, Path::new(&device))? {
                return Some(true);
            }
        }
        Some(false)
    };
    let mut present = Vec::new();
    for gpu in &machine.gpus {
        if has_same || is_there(gpu)? {
            present.extend(gpu.part_addresses());
        }
    }
    Some(present)
}

/// As many bytes of a process's list of mounts are read: the kernel allows 100,000 mounts (`fs.mount-max`).
const LARGEST_MOUNTINFO: usize = 32 << 20;

/// What decides which devices the processes of a cgroup may open, by `/proc/PID/cgroup`; none where that is empty.
///
/// Version 1 has a hierarchy of its own for that (cgroups(7)).  In version 2 programs are attached to a cgroup by whoever
/// made it; a user's own service manager may attach none, so all below the user's slice have the same.
fn fence(cgroup: &str) -> Option<String> {
    if let Some((_, path)) = devices_hierarchy(cgroup) {
        return Some(path.to_owned());
    }
    let (_, path) = hierarchies(cgroup).find(|(controllers, _)| controllers.is_empty())?;
    let parts: Vec<&str> = path.split('/').collect();
    let of_user = match parts.as_slice() {
        ["", "user.slice", user, ..] if user.starts_with("user-") => {
            Some(format!("/user.slice/{user}"))
        }
        _ => None,
    };
    Some(of_user.unwrap_or_else(|| path.to_owned()))
}

/// The GPUs that the processes of a cgroup of version 1 may open, by what its `devices.list` says; none where that is another
/// version, or may not be read, or lets all be opened but for exceptions, as Slurm's cgroups do: these the kernel does not list
/// (`devcgroup_seq_show`, security/device_cgroup.c).
fn listed_in_cgroup(machine: &Machine, root: &Path, cgroup: &str) -> Option<Vec<PciAddress>> {
    let (_, path) = devices_hierarchy(cgroup)?;
    let folder = root
        .join("sys/fs/cgroup/devices")
        .join(path.trim_start_matches('/'));
    let list = fs::read_to_string(folder.join("devices.list")).ok()?;
    if has_exceptions(&list) {
        return None;
    }
    let gpus = machine.gpus.iter().flat_map(|gpu| {
        let numbers = gpu
            .device_paths()
            .map(|path| read_device_number(Path::new(&path)));
        let open = numbers.filter(|number| number.is_some_and(|number| may_open(&list, number)));
        open.map(|_| gpu.pci)
    });
    Some(gpus.collect())
}

/// Whether a `devices.list` is of a cgroup that lets all be opened, with or without exceptions.
fn has_exceptions(list: &str) -> bool {
    list.lines().any(|line| line.starts_with("a "))
}

/// Whether a `devices.list` (Documentation/admin-guide/cgroup-v1/devices.rst) lets a character device be read and written.
fn may_open(list: &str, (major, minor): DeviceNumber) -> bool {
    list.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind, number, access] = words.as_slice() else {
            return false;
        };
        let is = |part: &str, own: u32| part == "*" || part.parse() == Ok(own);
        let is_number = number
            .split_once(':')
            .is_some_and(|(x, y)| is(x, major) && is(y, minor));
        *kind == "c" && is_number && access.contains('r') && access.contains('w')
    })
}

/// The controllers and the path of the hierarchy of version 1 that fences devices, of `/proc/PID/cgroup`.
fn devices_hierarchy(cgroup: &str) -> Option<(&str, &str)> {
    let mut lines = hierarchies(cgroup);
    lines.find(|(controllers, _)| controllers.split(',').any(|own| own == "devices"))
}

/// The controllers and the path of each hierarchy, of `/proc/PID/cgroup`.
fn hierarchies(cgroup: &str) -> impl Iterator<Item = (&str, &str)> {
    cgroup
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'))
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
        match Self::find(root, pid) {
            Found::Environment(environment) => Some(environment),
            Found::Title | Found::Kernel | Found::Nothing => None,
        }
    }

    /// As [`Self::of`], and why it is not there.
    fn find(root: &Path, pid: u32) -> Found {
        if is_kernels(&Folder::of(root, pid)) {
            return Found::Kernel;
        }
        match living_folder_of(root, pid).first("environ", LARGEST_ENVIRONMENT) {
            Ok((bytes, _)) if is_title(&bytes) => Found::Title,
            // No program was started with one that is larger: the process has set it since.
            Ok((bytes, true)) => Found::Environment(Self(without_empty_entries(bytes))),
            Ok((_, false)) | Err(_) => Found::Nothing,
        }
    }
}

/// What is found where a process's environment is.
enum Found {
    /// It.
    Environment(StartEnvironment),
    /// The process's own title.
    Title,
    /// Nothing, for it is a thread of the kernel.
    Kernel,
    /// Nothing that may be read.
    Nothing,
}

/// Whether this is what a program leaves of its environment that has given itself a title longer than its arguments, as vLLM's and
/// Ray's workers do (setproctitle, libbsd): the end of the title, and zeros in place of all else.
fn is_title(environ: &[u8]) -> bool {
    let end = environ.iter().position(|byte| *byte == 0);
    let (first, rest) = environ.split_at(end.unwrap_or(environ.len()));
    let is_all = !environ.is_empty() && rest.iter().all(|byte| *byte == 0);
    // A lone variable ends in one zero.
    is_all && (!first.contains(&b'=') || rest.len() > 1)
}

/// Whether the process of this folder is a thread of the kernel (`PF_KTHREAD`, linux/sched.h; proc_pid_stat(5), flags).
fn is_kernels(folder: &Folder<'_>) -> bool {
    const KERNELS: u32 = 0x0020_0000;
    read_stat::<u32>(folder, 6).is_some_and(|flags| flags & KERNELS != 0)
}

/// What a program's arguments and environment take at most, in bytes: three quarters of 8 MiB (execve(2)).
const LARGEST_ENVIRONMENT: usize = 6 << 20;

/// The same entries without what is none: a process may point `/proc/PID/environ` to a mapping of zeros, and each look at a variable goes
/// through all.
fn without_empty_entries(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.dedup_by(|next, before| *next == 0 && *before == 0);
    bytes.pop_if(|last| *last == 0);
    bytes
}

impl Environment for StartEnvironment {
    fn get(&self, name: &str) -> Option<String> {
        let mut entries = self.0.split(|byte| *byte == 0);
        let value = entries.find_map(|entry| {
            let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            std::str::from_utf8(value).ok()
        });
        value.map(str::to_owned)
    }
}

/// Whether process `pid` has ended, and whoever started it has not yet asked how.
pub fn is_zombie(root: &Path, pid: u32) -> bool {
    let folder = Folder::of(root, pid);
    has_ended(&folder) && read_masks(&folder).is_none()
}

/// Whether process `pid` is in the `/proc` below `root`.
pub fn is_there(root: &Path, pid: u32) -> bool {
    Folder::of(root, pid).is_there()
}

/// The folder in which a process's memory, files and environment are: of one whose first thread has ended, that of another
/// thread.
fn living_folder_of(root: &Path, pid: u32) -> Folder<'_> {
    let folder = Folder::of(root, pid);
    if !has_ended(&folder) {
        return folder;
    }
    let tasks = folder.join("task");
    let mut threads = tasks.names().into_iter().map(|name| tasks.join(&name));
    threads.find(|thread| !has_ended(thread)).unwrap_or(folder)
}

/// Whether the process or thread of this folder has ended, and only its end is still to be asked for (proc_pid_status(5), State).
fn has_ended(folder: &Folder<'_>) -> bool {
    let status = folder.text("status").unwrap_or_default();
    is_over(&status)
}

fn is_over(status: &str) -> bool {
    status_list(status, "State").is_some_and(|state| state.starts_with(['Z', 'X']))
}

fn read_start(folder: &Folder<'_>) -> u64 {
    read_stat(folder, 19).unwrap_or(0)
}

/// The process that started process `pid` of the `/proc` below `root`, or took it over; 0 where that is not known.
pub(crate) fn read_parent(root: &Path, pid: u32) -> u32 {
    read_stat(&Folder::of(root, pid), 1).unwrap_or(0)
}

/// A field of `stat` (proc_pid_stat(5)), counted from 0 behind the process's name.
fn read_stat<T: FromStr>(folder: &Folder<'_>, field: usize) -> Option<T> {
    let stat = folder.text("stat").ok()?;
    // The name before them, in brackets, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(field)?.parse().ok()
}

/// Masks without CPUs that are not `online`; one of which none is stays.
fn only_online(
    masks: BTreeMap<String, (CpuSet, Vec<Thread>)>,
    online: &CpuSet,
) -> BTreeMap<String, (CpuSet, Vec<Thread>)> {
    let mut all: BTreeMap<String, (CpuSet, Vec<Thread>)> = BTreeMap::new();
    for (mask, threads) in masks.into_values() {
        let present = mask.intersection(online);
        let own = if present.is_empty() { mask } else { present };
        let (_, known) = all
            .entry(own.to_string())
            .or_insert_with(|| (own, Vec::new()));
        known.extend(threads);
    }
    all
}

fn read_masks(folder: &Folder<'_>) -> Option<BTreeMap<String, (CpuSet, Vec<Thread>)>> {
    let mut masks: BTreeMap<String, (CpuSet, Vec<Thread>)> = BTreeMap::new();
    let tasks = folder.join("task");
    for id in tasks.names() {
        let thread = tasks.join(&id);
        // A thread may end while it is looked at.
        let status = thread.text("status").unwrap_or_default();
        if is_over(&status) {
            continue;
        }
        let mask = status_list(&status, "Cpus_allowed_list").map(str::parse::<CpuSet>);
        if let (Some(Ok(mask)), Ok(id)) = (mask, id.parse()) {
            let name = thread.text("comm").unwrap_or_default();
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
fn read_open_gpus(folder: &Folder<'_>, machine: &Machine) -> Vec<PciAddress> {
    let files = folder.join("fd");
    let open: Vec<(PathBuf, Option<DeviceNumber>)> = files
        .names()
        .iter()
        .filter_map(|name| {
            let target = files.link(name)?;
            // A recorded link leads to no file of its host.
            let is_file = folder.is_live() && target.is_absolute();
            let number = is_file.then(|| read_device_number(&files.join(name).path()));
            Some((target, number.flatten()))
        })
        .collect();
    let gpus = machine.gpus.iter().filter(|gpu| {
        gpu.device_paths().map(PathBuf::from).any(|device| {
            let number = read_device_number(&device);
            open.iter().any(|(target, own)| match (own, number) {
                (Some(own), Some(number)) => *own == number,
                (Some(_) | None, _) => *target == device,
            })
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

    /// A process chooses what `/proc/PID/environ` shows (prctl(2), `PR_SET_MM_MAP`).
    #[test]
    fn an_environment_that_no_program_is_started_with_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/7")).unwrap();
        let put = |bytes: &[u8]| fs::write(root.path().join("proc/7/environ"), bytes).unwrap();
        let mut most = b"A=1\0".to_vec();
        most.resize(LARGEST_ENVIRONMENT - 4, 0);
        most.extend(b"B=2\0");
        put(&most);
        let read = StartEnvironment::read(root.path(), 7).unwrap();
        assert_eq!(
            (read.get("A"), read.get("B")),
            (Some("1".to_owned()), Some("2".to_owned()))
        );
        assert_eq!(read.0, b"A=1\0B=2");
        most.push(0);
        put(&most);
        assert!(StartEnvironment::read(root.path(), 7).is_none());
        put(b"AB=1\0A\0A=\xff\0A=2\0A=3\0");
        let read = StartEnvironment::read(root.path(), 7).unwrap();
        assert_eq!(read.get("A"), Some("2".to_owned()));
    }

    #[test]
    fn a_title_in_place_of_an_environment_and_a_thread_of_the_kernel_are_told() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("proc/7");
        fs::create_dir_all(&folder).unwrap();
        let seen = |environ: &str, flags: &str| {
            fs::write(folder.join("environ"), environ).unwrap();
            let stat = format!("7 (a) b) S 1 7 7 0 -1 {flags} 0");
            fs::write(folder.join("stat"), stat).unwrap();
            recorded_seen(root.path(), &Machine::default(), 7)
        };
        const USERS: &str = "4194304";
        // As setproctitle leaves it: nothing of a short title, the end of a long one, all of one that is longer still.
        for environ in ["\0\0\0", "oad A=1\0\0\0\0", "oad a model"] {
            assert_eq!(
                seen(environ, USERS),
                Seen::Titled(Vec::new()),
                "{environ:?}"
            );
        }
        for environ in [
            "",
            "A=1\0B\0",
            "A=1\0\0B=2\0",
            "A=1\0B=\0\0",
            "a program\0A=1\0",
        ] {
            assert_eq!(seen(environ, USERS), Seen::NotNamed, "{environ:?}");
        }
        assert_eq!(seen("", "2129984"), Seen::Kernel);
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
    fn a_devices_list_says_what_may_be_opened() {
        let list = "c 1:3 rwm\nb 195:1 rwm\nc 195:0 rw\nc 195:2 r\n";
        assert!(may_open(list, (195, 0)) && may_open(list, (1, 3)));
        assert!(!may_open(list, (195, 1)) && !may_open(list, (195, 2)));
        assert!(may_open("c 195:* rwm\n", (195, 7)) && !may_open("", (195, 0)));
        assert!(has_exceptions("a *:* rwm\n") && !has_exceptions(list));
    }

    #[test]
    fn a_variable_of_a_started_process_is_found_by_its_whole_name() {
        let environment =
            StartEnvironment(b"SLURM_JOB_ID_X=1\0SLURM_JOB_ID=7=8\0BROKEN\0".to_vec());
        assert_eq!(environment.get("SLURM_JOB_ID").as_deref(), Some("7=8"));
        assert_eq!(environment.get("BROKEN"), None);
    }
}
