//! The processes of a host, each with the GPUs that it uses and what is wrong with it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use launch::job::{Group, Parents};
use launch::own_list::is_own_list;
use launch::process::{self, Process, StartEnvironment};
use launch::processes::take_unread;
use launch::used::{Evidence, Facts, Seen, Silence, UsedGpus, find_used};
use topology::machine::Machine;
use topology::pci::PciAddress;

use super::judge::{Judgement, judge};
use super::words::not_read;
use crate::command::CommandError;
use crate::out;
use crate::run::read_visible;

/// A process, its GPUs, and what is wrong with it.
pub(crate) struct Checked {
    pub(crate) process: Process,
    pub(crate) used: UsedGpus,
    pub(crate) judgement: Judgement,
}

impl Checked {
    /// Whether it is taken to have no GPU, rather than that it is not known which.
    pub(crate) fn is_without_gpu(&self) -> bool {
        matches!(
            &self.used.evidence,
            Evidence::Nothing(Silence::NotNamed | Silence::Hidden(_) | Silence::Kernel)
        )
    }
}

/// The processes on each GPU.
pub(crate) type GpuProcesses = BTreeMap<PciAddress, Vec<u32>>;

/// Where processes are looked at.
pub(crate) struct Host<'m> {
    pub(crate) machine: &'m Machine,
    /// Below which `/proc` is.
    pub(crate) root: &'m Path,
    /// Whether it is this one, so that the kernel and NVML can be asked too.
    pub(crate) is_live: bool,
    /// The GPUs that the user named.
    pub(crate) named: Option<Vec<PciAddress>>,
    /// What NVML said of processes, and when.
    pub(crate) nvml: RefCell<Option<(Instant, GpuProcesses)>>,
}

/// NVML is asked once about all processes of a job.
pub(super) const NVML_AGE: Duration = Duration::from_secs(30);

impl Host<'_> {
    /// The GPUs on which NVML lists a process, by an answer that is no older than `age`.
    fn in_nvml(&self, pid: u32, age: Duration) -> Vec<PciAddress> {
        let mut nvml = self.nvml.borrow_mut();
        let is_new = nvml
            .as_ref()
            .is_some_and(|(asked, _)| asked.elapsed() <= age);
        if !is_new {
            *nvml = Some((Instant::now(), discovery::read_gpu_processes(self.machine)));
        }
        let gpus = nvml.iter().flat_map(|(_, gpus)| gpus);
        let gpus = gpus.filter(|(_, pids)| pids.contains(&pid));
        gpus.map(|(gpu, _)| *gpu).collect()
    }

    /// The GPUs that a process uses, by an answer of NVML that is no older than `age`.
    pub(crate) fn used(&self, pid: u32, age: Duration) -> UsedGpus {
        if let Some(named) = &self.named {
            return UsedGpus::named(named.clone());
        }
        let machine = self.machine;
        let mut facts = Facts {
            open: process::open_gpus(self.root, machine, pid),
            queues: topology::sysfs::gpus_used_by(self.root, machine, pid),
            ..Facts::default()
        };
        if self.is_live {
            if pid == std::process::id() {
                // Says what is odd in the variables that it was started with.
                read_visible(machine);
            }
            facts.in_nvml = self.in_nvml(pid, age);
            facts.seen = process::seen_by(machine, pid);
        } else {
            facts.seen = process::recorded_seen(self.root, machine, pid);
        }
        if let Seen::Listed(_, gpus) = &facts.seen {
            facts.is_own_list = is_own_list(self.root, pid, machine, gpus);
        }
        find_used(machine, &facts, &StartEnvironment::of(self.root, pid))
    }

    /// Reads and judges a process; none where it cannot be read.
    pub(crate) fn check(&self, pid: u32, age: Duration) -> Option<Checked> {
        let process = Process::read(self.root, pid)?.on(&self.machine.online);
        let used = self.used(pid, age);
        // Half of what was read may be of another process, which got its number meanwhile, or of none.
        if !process.is_still_there(self.root) || process::is_zombie(self.root, pid) {
            return None;
        }
        let judgement = judge(self.machine, &process, &used);
        Some(Checked {
            process,
            used,
            judgement,
        })
    }

    /// Says which files of processes did not answer since this was asked last; whether there were none.
    pub(crate) fn all_answered() -> bool {
        let unread = take_unread();
        for file in &unread.silent {
            out::message(&format!(
                "{file} does not answer: the process may wait for a file system itself; left out"
            ));
        }
        if unread.lacks_child {
            out::message(
                "environments and memory of other processes are left out: no child could be started that reads them (a library that was asked has not ended, or there are too many processes)",
            );
        }
        unread.silent.is_empty() && !unread.lacks_child
    }

    /// Reads and judges the processes that the user names; and whether all of them could be read.  Those that could not are
    /// said.
    ///
    /// # Errors
    /// One line: none could be read.
    pub(crate) fn check_named(
        &self,
        pids: &[u32],
        recording: Option<&Path>,
    ) -> Result<(Vec<Checked>, bool), CommandError> {
        let mut read = Vec::new();
        let mut faults = Vec::new();
        for pid in pids {
            match self.check(*pid, NVML_AGE) {
                Some(checked) => read.push(checked),
                None => faults.push(not_read(self.root, *pid, recording)),
            }
        }
        if read.is_empty() {
            Self::all_answered();
            return Err(CommandError::Argument(faults.join("; ")));
        }
        for fault in &faults {
            out::message(fault);
        }
        Ok((read, Self::all_answered() && faults.is_empty()))
    }

    /// Those of a group's processes that have GPUs, how many could be read, and whether all answered.  A launcher that only sees its ranks' GPUs is
    /// none of them.
    pub(crate) fn check_group(&self, group: &Group) -> (Vec<Checked>, usize, bool) {
        let pids = group.pids(self.root).into_iter();
        let all: Vec<Checked> = pids.filter_map(|pid| self.check(pid, NVML_AGE)).collect();
        let count = all.len();
        let with_gpus = all.into_iter().filter(|checked| !checked.is_without_gpu());
        let with_gpus: Vec<Checked> = with_gpus.collect();
        let parents = Parents::read(self.root);
        let launchers: Vec<u32> = with_gpus
            .iter()
            .filter(|checked| is_launcher(checked, &with_gpus, &parents))
            .map(|checked| checked.process.pid)
            .collect();
        let mut others = with_gpus;
        others.retain(|checked| !launchers.contains(&checked.process.pid));
        (others, count, Self::all_answered())
    }
}

/// Whether a process uses none of the GPUs that it sees, as far as can be known, but started processes that each use
/// some of these; or each see one, and all of them together.
fn is_launcher(checked: &Checked, group: &[Checked], parents: &Parents) -> bool {
    let used = &checked.used;
    if used.uses_all || used.evidence.is_of_use() {
        return false;
    }
    let own = checked.process.pid;
    let is_within = |other: &&Checked| {
        parents.is_started_by(other.process.pid, own)
            && other.used.gpus.iter().all(|gpu| used.gpus.contains(gpu))
    };
    let is_rank = |other: &&Checked| {
        let is_by_rank = matches!(other.used.evidence, Evidence::Rank(_)) && other.used.uses_all;
        is_by_rank || other.used.evidence.is_of_use()
    };
    let mut seen: BTreeSet<&PciAddress> = BTreeSet::new();
    for other in group.iter().filter(is_within) {
        if is_rank(&other) {
            return true;
        }
        if other.used.uses_all {
            seen.extend(&other.used.gpus);
        }
    }
    seen.len() == used.gpus.len()
}
