//! What the kernel and the environment say of the calling task: its GPUs, CPUs and memory.

use std::ffi::CString;

use ffi::errno::Errno;
use ffi::linux::access::{Access, read_access};
use ffi::linux::mempolicy::{KernelPolicy, Mode, read_allowed_nodes, read_policy};
use ffi::linux::{affinity, process};
use topology::allowed::{StepCpus, StepView, find_step_cpus, parse_mask_list};
use topology::binding::{KernelVersion, MemoryPolicy, TaskRequest, UserMemory};
use topology::machine::{Gpu, Machine};
use topology::pci::{PciAddress, once_each};
use topology::set::{CpuSet, NodeSet};
use topology::vendor::Variables;
use topology::visible::{Asked, Visible, find_all};

use crate::used::Seen;
use crate::variables::Environment;

/// The mask and the memory policy that a task came with, asked for once.
#[derive(Debug)]
pub struct Came {
    /// The mask in words of 64 CPUs.
    pub cpus: Result<Vec<u64>, Errno>,
    /// The policy.
    pub policy: Result<KernelPolicy, Errno>,
}

impl Came {
    /// Asks for those of the calling thread.
    pub fn read() -> Self {
        Self {
            cpus: affinity::read_affinity(0),
            policy: read_policy(),
        }
    }

    /// Gives the calling thread both back.  What the kernel refuses stays as it is.
    pub fn restore(&self) {
        if let Ok(words) = &self.cpus {
            let _ = affinity::apply_affinity(0, words);
        }
        if let Ok(policy) = &self.policy {
            let _ = policy.restore();
        }
    }
}

/// The CPUs that the calling thread may run on.
///
/// # Errors
/// `EPERM` where a filter forbids to ask.
pub fn own_cpus() -> Result<CpuSet, Errno> {
    affinity::read_affinity(0).map(|words| CpuSet::from_words(&words))
}

/// The CPUs that the calling thread's cpuset allows.
///
/// # Errors
/// As [`own_cpus`].
pub fn cpuset() -> Result<CpuSet, Errno> {
    affinity::read_cpuset().map(|words| CpuSet::from_words(&words))
}

/// Whether the calling thread may run on fewer CPUs than its cpuset has.
pub fn is_bound() -> bool {
    own_cpus().ok() != cpuset().ok()
}

/// The nodes that the calling process may have memory from; none where that is not known.
pub fn allowed_nodes() -> Option<NodeSet> {
    let asked = read_allowed_nodes().map(|words| NodeSet::from_words(&words));
    match asked {
        Ok(nodes) if !nodes.is_empty() => Some(nodes),
        // A filter may forbid to ask.
        Ok(_) | Err(_) => allowed_nodes_by_status(),
    }
}

fn allowed_nodes_by_status() -> Option<NodeSet> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status_list(&status, "Mems_allowed_list")?.parse().ok()
}

/// The value of a line of `/proc/PID/status` (proc(5)).
pub(crate) fn status_list<'s>(status: &'s str, key: &str) -> Option<&'s str> {
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    lines
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value.trim())
}

/// The running kernel; 0.0, which has no memory policy of newer ones, where it is not known.
pub fn kernel() -> KernelVersion {
    let release = process::read_kernel_release().parse();
    release.unwrap_or(KernelVersion { major: 0, minor: 0 })
}

/// The device files of a machine's GPUs, by which the kernel is asked who may open them.
#[derive(Debug, Default)]
pub struct Devices(Vec<(PciAddress, Option<CString>)>);

impl Devices {
    /// Of all GPUs of `machine`, in its order: one each, one for each part of a GPU that is divided.
    pub fn of(machine: &Machine) -> Self {
        let mut devices = Vec::with_capacity(machine.gpus.len());
        for gpu in &machine.gpus {
            let paths = gpu.device_paths().map(|path| CString::new(path).ok());
            devices.extend(paths.map(|path| (gpu.pci, path)));
            if devices.last().is_none_or(|(last, _)| *last != gpu.pci) {
                devices.push((gpu.pci, None));
            }
        }
        Self(devices)
    }

    /// The GPUs of which the kernel's answer, through the device cgroup, is one that is wanted; nothing is opened.  There
    /// is no answer where a GPU's device file is not known.  One that is divided is there once for each such part.
    fn whose(&self, is_wanted: impl Fn(Option<Access>) -> bool) -> Vec<PciAddress> {
        let ask = |device: &Option<CString>| device.as_deref().map(read_access);
        let gpus = self.0.iter().filter(|(_, device)| is_wanted(ask(device)));
        gpus.map(|(address, _)| *address).collect()
    }

    /// The GPUs that the calling task may open.
    #[inline]
    fn openable(&self) -> Vec<PciAddress> {
        self.whose(|answer| answer == Some(Access::Allowed))
    }
}

/// The GPUs that a task of a Slurm step sees; `step_list` is the step's list as it was before the fork.
#[inline]
fn visible_to_task(
    machine: &Machine,
    openable: &[PciAddress],
    environment: &impl Environment,
    step_list: Option<&str>,
) -> Visible {
    let asked = Asked {
        openable,
        step_list,
        on_host: environment.get("SLURM_GPUS_ON_NODE"),
    };
    find_all(machine, &asked, |name| environment.get(name))
}

/// The GPUs that a process sees which no Slurm gave any: also those whose device file is not there or not known.
pub fn visible_to_process(machine: &Machine, environment: &impl Environment) -> Visible {
    visible_of(machine, environment, &parts_openable_by_process(machine))
}

fn visible_of(
    machine: &Machine,
    environment: &impl Environment,
    openable: &[PciAddress],
) -> Visible {
    let asked = Asked {
        openable,
        step_list: None,
        on_host: Some(openable.len().to_string()),
    };
    let mut visible = find_all(machine, &asked, |name| environment.get(name));
    visible.gpus = once_each(visible.gpus);
    visible
}

/// The GPUs that the calling process may open, and those whose device file is not there or not known.
pub fn openable_by_process(machine: &Machine) -> Vec<PciAddress> {
    once_each(parts_openable_by_process(machine))
}

/// As [`openable_by_process`]; a GPU that is divided is there once for each part.
pub fn parts_openable_by_process(machine: &Machine) -> Vec<PciAddress> {
    Devices::of(machine).whose(|answer| answer != Some(Access::Denied))
}

/// What the environment of a process that may open `openable`, where that is known, says of its GPUs.
pub fn seen_in(
    machine: &Machine,
    environment: &impl Environment,
    openable: Option<Vec<PciAddress>>,
) -> Seen {
    let vendors = machine.launch_vendors().map(|vendor| &vendor.variables);
    let mut variables: Vec<&Variables> = vendors.collect();
    if variables.is_empty() {
        variables.push(&machine.launch_vendor().variables);
    }
    // Each vendor's outermost first: only its numbers count among what the process may open.
    let mut set: Vec<(&'static str, String)> = Vec::new();
    for of_vendor in variables {
        let get = |name: &'static str| Some((name, environment.get(name)?));
        let outer = get(of_vendor.visible);
        let inner = of_vendor.within.iter().find_map(|name| get(name));
        for own in outer.into_iter().chain(inner) {
            if !set.contains(&own) {
                set.push(own);
            }
        }
    }
    let (Some(outermost), Some((innermost, _))) = (set.first(), set.last()) else {
        return openable.map_or(Seen::NotNamed, |gpus| Seen::Openable(once_each(gpus)));
    };
    let hiding = set.iter().find(|(_, list)| entries_of(list).is_empty());
    let variable = hiding.map_or(*innermost, |(name, _)| *name);
    let entries = entries_of(&outermost.1);
    let last = entries
        .iter()
        .filter_map(|entry| entry.parse::<usize>().ok());
    // Numbers up to the host's last GPU count among all of them.
    let counts_all = last
        .max()
        .is_some_and(|last| last + 1 == machine.gpus.iter().map(Gpu::parts).sum::<usize>());
    let is_number = |entry: &&str| entry.parse::<usize>().is_ok();
    let is_by_name = set.len() == 1 && !entries.iter().any(is_number);
    let all = || machine.gpus.iter().flat_map(Gpu::part_addresses).collect();
    let Some(openable) = openable.or_else(|| (is_by_name || counts_all).then(all)) else {
        let fewest = set.iter().map(|(_, list)| entries_of(list).len()).min();
        let has_numbers = |list: &str| entries_of(list).iter().any(is_number);
        let numbered = set.iter().find(|(_, list)| has_numbers(list));
        let (name, list) = numbered.unwrap_or(outermost);
        return Seen::Numbered(name, list.clone(), fewest.unwrap_or_default());
    };
    let visible = visible_of(machine, environment, &openable);
    if visible.is_guess {
        Seen::Misread(innermost, visible.gpus)
    } else {
        Seen::Listed(variable, visible.gpus)
    }
}

/// The entries of a vendor's list, up to a -1, which ends it.
fn entries_of(list: &str) -> Vec<&str> {
    let entries = list.split(',').map(str::trim);
    let entries = entries.take_while(|entry| *entry != "-1");
    entries
        .filter(|entry| !entry.is_empty() && *entry != "NoDevFiles")
        .collect()
}

/// A task of a Slurm step as it is before it is bound: its GPUs, Slurm's mask, what its user bound; and what was odd.
///
/// `devices` are those of `machine`; `is_script` says that it is a batch script's own or an interactive step, whose
/// `--cpu-bind` is that of the steps in it.
pub fn read_task(
    machine: &Machine,
    devices: &Devices,
    environment: &impl Environment,
    came: &Came,
    step_list: Option<&str>,
    is_script: bool,
) -> (TaskRequest, Option<String>) {
    let openable = devices.openable();
    let visible = visible_to_task(machine, &openable, environment, step_list);
    let user_cpu_bind = !is_script && is_bound_by_user(environment);
    let request = TaskRequest {
        visible: visible.gpus,
        sees_all_gpus: openable.len() == devices.0.len(),
        slurm_cpus: came.cpus.as_deref().ok().map(CpuSet::from_words),
        user_cpu_bind,
        user_memory: user_memory(environment, came),
    };
    (request, visible.remark)
}

/// Whether the step's CPUs are by the user's own `--cpu-bind`.
///
/// `cores`, `threads`, `sockets` and `ldoms` reach a task as the masks that Slurm makes without being asked, and so does
/// `none` in a job that has not the whole host (`lllp_distribution`, task/affinity).  The others have a type of their
/// own (`setup_env`, env.c), but `rank` where it is no choice (24.11.5 ignores it as obsolete, 25.11 has none).  Of masks, Slurm's own are written with
/// 0x (`bit_fmt_hexmask`) and those that the user typed without (`_expand_mult`, `task_cpuset_to_str`).  All read in
/// 22.05 to 26.05.
fn is_bound_by_user(environment: &impl Environment) -> bool {
    let kinds = environment.get("SLURM_CPU_BIND_TYPE").unwrap_or_default();
    kinds
        .split(',')
        .any(|kind| match kind.trim_end_matches(':') {
            "none" | "map_cpu" | "rank" | "rank_ldom" | "map_ldom" | "mask_ldom" => true,
            "mask_cpu" => environment
                .get("SLURM_CPU_BIND_LIST")
                .is_some_and(|list| !list.is_empty() && !list.contains("0x")),
            _ => false,
        })
}

/// The memory policy that the task came with; none where it is the default policy.
///
/// `--mem-bind` that is `local` is a policy over the nodes of the CPUs that Slurm gave the task (`get_memset`,
/// task/affinity, 22.05 to 26.05), and SLURM_MEM_BIND_TYPE is `local` (`setup_env`, env.c).
fn user_memory(environment: &impl Environment, came: &Came) -> Option<UserMemory> {
    let came = came.policy.as_ref().ok()?;
    let policy = match came.mode() {
        Mode::Default | Mode::Local => return None,
        Mode::Preferred => MemoryPolicy::Preferred,
        Mode::PreferredMany => MemoryPolicy::PreferredMany,
        Mode::Bind => MemoryPolicy::Bind,
        // Weighted interleave, and whatever a newer kernel adds.
        Mode::Interleave | Mode::Other(_) => MemoryPolicy::Interleave,
    };
    let kind = environment.get("SLURM_MEM_BIND_TYPE").unwrap_or_default();
    Some(UserMemory {
        policy,
        nodes: NodeSet::from_words(came.nodes()),
        is_local: kind == "local",
    })
}

/// The masks that Slurm gave the step's tasks, as far as the calling one knows: the step's list and its own.
pub fn known_masks(environment: &impl Environment, own: &TaskRequest) -> Vec<CpuSet> {
    let mut masks = parse_mask_list(&environment.get("SLURM_CPU_BIND_LIST").unwrap_or_default());
    masks.extend(own.slurm_cpus.clone());
    masks
}

/// What Slurm says of the cores that it gave a step on this host.
#[derive(Debug, Clone, Default)]
pub struct GivenCores {
    /// How many they are.
    pub count: usize,
    /// Their CPUs; none where Slurm's numbers cannot be turned into CPUs of this machine.
    pub cpus: Option<CpuSet>,
}

/// What the cpuset of the calling task allows, whose mask is now that of `has`.
///
/// A mask that holds every CPU of the machine is all that a cpuset can have of it.
fn cpuset_of(machine: &Machine, has: &Came) -> Result<CpuSet, Errno> {
    let Ok(own) = &has.cpus else {
        return cpuset();
    };
    let mask = CpuSet::from_words(own);
    if !machine.online.is_empty() && machine.online.is_subset(&mask) {
        return Ok(mask);
    }
    affinity::widen(own).map(|words| CpuSet::from_words(&words))
}

/// The CPUs that the step of the calling task may use, whose mask is now that of `has`; `given` is none where Slurm does not
/// say.
pub fn step_cpus(
    machine: &Machine,
    masks: &[CpuSet],
    has: &Came,
    given: Option<&GivenCores>,
) -> StepCpus {
    // Where a filter forbids to ask for the cpuset, what Slurm gave the tasks is all that is known of it.
    let masked = || {
        let none = CpuSet::default();
        masks.iter().fold(none, |all, mask| all.union(mask))
    };
    let view = StepView {
        cpuset: cpuset_of(machine, has).unwrap_or_else(|_| masked()),
        masks,
        core_count: given.map(|given| given.count),
        cores: given.and_then(|given| given.cpus.clone()),
    };
    find_step_cpus(machine, &view)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::tests::Variables;
    use topology::pci::PciDevice;

    fn machine(minor: Option<u32>) -> Machine {
        let address = "0000:21:00.0".parse().unwrap();
        let gpu = Gpu::of(&PciDevice::new(address, 0x03_0200, 0x10de, 0x2330));
        Machine {
            gpus: vec![Gpu { minor, ..gpu }],
            ..Machine::default()
        }
    }

    #[test]
    fn a_device_that_is_not_there_counts_for_a_process_and_not_for_a_task() {
        let environment = Variables::default();
        for minor in [Some(4095), None] {
            let machine = machine(minor);
            let devices = Devices::of(&machine);
            let task = visible_to_task(&machine, &devices.openable(), &environment, Some("0"));
            assert!(task.gpus.is_empty());
            let process = visible_to_process(&machine, &environment);
            assert_eq!(process.gpus, [machine.gpus[0].pci]);
        }
    }

    #[test]
    fn of_two_vendors_lists_the_one_that_has_numbers_counts_among_gpus_that_are_not_known() {
        let gpu = |address: &str, vendor| {
            Gpu::of(&PciDevice::new(
                address.parse().unwrap(),
                0x03_0200,
                vendor,
                0x2330,
            ))
        };
        let machine = Machine {
            gpus: vec![
                gpu("0000:21:00.0", 0x10de),
                gpu("0000:81:00.0", 0x1002),
                gpu("0000:82:00.0", 0x1002),
            ],
            ..Machine::default()
        };
        let seen = |cuda: &str, rocr: &str| {
            let environment = Variables::of(&[
                ("CUDA_VISIBLE_DEVICES", cuda),
                ("ROCR_VISIBLE_DEVICES", rocr),
            ]);
            let seen = seen_in(&machine, &environment, None);
            matches!(seen, Seen::Numbered("ROCR_VISIBLE_DEVICES", list, _) if list == rocr)
        };
        assert!(seen("-1", "0,1") && !seen("0", "-1"));
    }

    #[test]
    fn the_users_own_cpu_bind_counts_in_an_ordinary_step_alone() {
        let environment = Variables::of(&[("SLURM_CPU_BIND_TYPE", "quiet,map_cpu:")]);
        let bound = |is_script| {
            let (machine, came) = (machine(None), Came::read());
            let devices = Devices::of(&machine);
            let (request, _) = read_task(&machine, &devices, &environment, &came, None, is_script);
            request.user_cpu_bind
        };
        assert!(bound(false) && !bound(true));
    }

    #[test]
    fn a_cpu_bind_that_can_be_told_from_slurms_own_is_the_users() {
        let bound = |kind: &str, list: &str| {
            is_bound_by_user(&Variables::of(&[
                ("SLURM_CPU_BIND_TYPE", kind),
                ("SLURM_CPU_BIND_LIST", list),
            ]))
        };
        for kind in ["none", "rank", "rank_ldom"] {
            assert!(bound(kind, ""), "{kind}");
        }
        assert!(bound("threads,map_cpu:", "0,1") && bound("map_ldom:", "0"));
        assert!(bound("mask_ldom:", "1,2"));
        assert!(bound("mask_cpu:", "c0,30"), "typed");
        assert!(!bound("mask_cpu:", "0x03,0x30") && !bound("mask_cpu:", ""));
        assert!(!bound("cores,mask_cpu:", "0x03") && !bound("cores", "") && !bound("", ""));
    }

    #[test]
    fn masks_are_those_of_slurms_list_and_the_tasks_own() {
        let environment = Variables::of(&[("SLURM_CPU_BIND_LIST", "0x3,0xc")]);
        let own = TaskRequest {
            slurm_cpus: Some(CpuSet::single(9)),
            ..TaskRequest::default()
        };
        let masks: Vec<String> = known_masks(&environment, &own)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(masks, ["0-1", "2-3", "9"]);
    }

    #[test]
    fn this_process_has_cpus_within_its_cpuset_and_a_kernel() {
        assert!(own_cpus().unwrap().is_subset(&cpuset().unwrap()));
        assert!(kernel().major >= 3);
    }

    #[test]
    fn a_line_of_a_status_is_found_by_its_whole_name() {
        let status = "Mems_allowed:\t00000003\nMems_allowed_list:\t0-1\n";
        assert_eq!(status_list(status, "Mems_allowed_list"), Some("0-1"));
        assert_eq!(status_list(status, "Cpus_allowed_list"), None);
    }
}
