//! Every sentence of `gpu-numa verify`, each a whole template.

use std::path::Path;

use launch::job::Group;
use launch::process::{Thread, is_there, is_zombie};
use launch::used::{Evidence, Silence, UsedGpus};
use topology::binding::Verdict;
use topology::machine::Machine;
use topology::option::printable;
use topology::pci::PciAddress;
use topology::quantity::{count, volume};
use topology::set::{CpuSet, NodeSet};

use super::judge::{FarFile, Finding, Judgement};
use crate::command::shell_word;
use crate::hardware::{gpu_label, nodes};

/// The most threads that are named.
const MOST_THREADS: usize = 4;

/// The most lines about threads by the CPUs that they may run on.
const MOST_MASKS: usize = 8;

/// `process 4711 (python)`; the process chose its name.
pub(crate) fn title(pid: u32, name: &str) -> String {
    format!("process {pid} ({})", printable(name))
}

/// `GPU2 0000:83:00.0 (by LOCAL_RANK=2 of 4)`.
pub(crate) fn gpus(machine: &Machine, used: &UsedGpus) -> String {
    let names = labels(machine, &used.gpus);
    match (&used.evidence, used.uses_all) {
        (Evidence::Nothing(_), _) => "none found".to_owned(),
        (Evidence::Named, _) => format!("{names} (named by --gpus)"),
        (Evidence::Nvml, _) => format!("{names} (in use, according to NVML)"),
        (Evidence::Queues, _) => format!("{names} (in use: it has work queues there)"),
        (Evidence::OpenFile, true) => format!("{names} (holds the device file open)"),
        (Evidence::OpenFile, false) => format!("some of {names} (holds the device files open)"),
        (Evidence::Run, true) => format!("{names} (chosen by gpu-numa run)"),
        (Evidence::Run, false) => format!("some of {names} (chosen by gpu-numa run)"),
        (Evidence::Report, true) => format!("{names} (according to GPU_NUMA_BIND_REPORT)"),
        (Evidence::Report, false) => {
            format!("some of {names} (according to GPU_NUMA_BIND_REPORT)")
        }
        (Evidence::Misread(_), true) => format!("{names} (the only one that it may see)"),
        (Evidence::Misread(variable), false) => {
            format!("some of {names} (which of these {variable} names is not known)")
        }
        (Evidence::Titled, true) => format!("{names} (the only one that it may open)"),
        (Evidence::Titled, false) => {
            format!(
                "some of {names} (all that it may open; its title stands where its environment was)"
            )
        }
        (Evidence::Visible, true) => format!("{names} (all that it was started with)"),
        (Evidence::Visible, false) => format!("some of {names} (all that it was started with)"),
        (Evidence::Rank(rank), uses_all) => match (rank.of, uses_all) {
            (Some(of), true) => format!("{names} (by {}={} of {of})", rank.variable, rank.index),
            (None, true) => format!("{names} (by {}={})", rank.variable, rank.index),
            (Some(of), false) => {
                format!(
                    "some of {names} (by {}={} of {of})",
                    rank.variable, rank.index
                )
            }
            (None, false) => format!("some of {names} (by {}={})", rank.variable, rank.index),
        },
    }
}

/// Process `pid` of the host at `root` could not be read; `recording` is what `--from` names.
pub(super) fn not_read(root: &Path, pid: u32, recording: Option<&Path>) -> String {
    let is_there = is_there(root, pid);
    if is_zombie(root, pid) {
        return format!("process {pid} has ended; the one that started it has not yet asked how");
    }
    match (recording, is_there) {
        (Some(path), false) => format!(
            "process {pid} is not recorded: {} has no proc/{pid}",
            path.display()
        ),
        (Some(path), true) => format!(
            "process {pid} cannot be read: proc/{pid} in {} lacks its threads (task/*/status)",
            path.display()
        ),
        (None, false) => {
            format!("no process {pid} on this host; in a container, its number there counts")
        }
        (None, true) => format!(
            "process {pid} cannot be read: it has just ended, or another user's are hidden here"
        ),
    }
}

/// No process of `group` has a GPU; `count` is how many could be read.
pub(crate) fn no_gpu_in_group(group: &Group, count: usize) -> String {
    match (group, count) {
        (Group::Job(job), 0) => {
            let job = printable(job);
            format!(
                "--job: job {job} has no process on this host; run this on one of the job's hosts, under Slurm by \
                 srun --overlap --jobid {job}"
            )
        }
        (Group::Job(job), 1) => format!(
            "--job: job {} has one process on this host, and nothing says that it has a GPU",
            printable(job)
        ),
        (Group::Job(job), several) => format!(
            "--job: job {} has {several} processes on this host, and nothing says that one of them has a GPU",
            printable(job)
        ),
        (Group::StartedBy(pid), 0) => {
            format!("--children: no process {pid} on this host that can be read")
        }
        (Group::StartedBy(pid), _) => format!(
            "--children: nothing says that process {pid}, or one that it started, has a GPU"
        ),
    }
}

/// The line of a process in which nothing is wrong; `gpus` is how many it uses.
pub(super) fn all_well(verdict: Option<Verdict>, gpus: usize) -> String {
    match verdict {
        Some(Verdict::Spanning) => format!(
            "spanning: its CPUs are local to one or another of its {gpus} GPUs, which are on several nodes; if it uses only \
             some of them, name these with --gpus"
        ),
        Some(Verdict::Partial) => {
            "partial, as its launch bound it: not all of its CPUs are local, according to GPU_NUMA_BIND_REPORT".to_owned()
        }
        Some(Verdict::Local | Verdict::Remote | Verdict::Unbound | Verdict::Refused) | None => {
            "all local".to_owned()
        }
    }
}

/// What a finding says.
pub(super) fn finding(machine: &Machine, judgement: &Judgement, finding: &Finding) -> String {
    match finding {
        Finding::NoGpuOnHost => "no GPU found on this machine; nothing to check".to_owned(),
        Finding::NoGpuOfProcess(silence) => match silence {
            Silence::NotNamed => "no GPU found for the process; name them with --gpus".to_owned(),
            Silence::Unreadable => "which GPUs the process has cannot be read: run this as its user or as root, or name them with \
                 --gpus"
                .to_owned(),
            Silence::Titled => "which GPUs the process has cannot be read, for it has written its title over its environment; name them \
                 with --gpus"
                .to_owned(),
            Silence::Kernel => "it is a thread of the kernel, which uses no GPU as programs do".to_owned(),
            Silence::Hidden(variable) => format!(
                "{variable} hides all GPUs from the process; if it has one in spite of that, name it with --gpus"
            ),
            Silence::Numbered(variable, value) => format!(
                "{variable}=\"{}\" counts among the GPUs that the process may open, and which these are cannot be seen from here; \
                 name them with --gpus",
                printable(value)
            ),
        },
        Finding::NotHere(gpu) => format!(
            "{gpu}, which it was given, is not on this machine: lost since, or the process is another host's; name its GPUs with --gpus"
        ),
        Finding::UnknownNode(gpu) => format!(
            "the NUMA node of {} is unknown (name the node in /{})",
            gpu_label(machine, *gpu),
            topology::sysfs::OVERRIDE_FILE
        ),
        Finding::AnyOf(gpus) => {
            let each: Vec<String> = gpus
                .iter()
                .map(|(gpu, verdict)| {
                    let known = machine
                        .gpu(*gpu)
                        .and_then(|gpu| gpu.locality.numa_nodes.clone())
                        .unwrap_or_default();
                    let name = gpu_label(machine, *gpu);
                    format!("{name} ({}: {})", nodes(&known), word(*verdict))
                })
                .collect();
            format!(
                "which of these GPUs it uses is not known: {}; name it with --gpus",
                each.join(", ")
            )
        }
        Finding::Threads {
            threads,
            of,
            cpus: own,
            far,
            verdict,
        } => {
            let who = who(threads, *of);
            let place = judgement.nodes.clone().unwrap_or_default();
            let (place, own) = (nodes(&place), cpus(own));
            let local = cpus(&judgement.local_cpus.clone().unwrap_or_default());
            let is_partial = *verdict == Verdict::Partial;
            match (is_partial, judgement.gpus) {
                (true, 1) => format!(
                    "{who} may run on {own}; {} not local to its GPU ({place}, {local}): partial",
                    are(far)
                ),
                (true, _) => format!(
                    "{who} may run on {own}; {} not local to its GPUs ({place}, {local}): partial",
                    are(far)
                ),
                (false, 1) => {
                    format!("{who} may run on {own} only; its GPU is on {place} ({local}): remote")
                }
                (false, _) => format!(
                    "{who} may run on {own} only; its GPUs are on {place} ({local}): remote"
                ),
            }
        }
        Finding::FarGpus(gpus) => {
            format!(
                "it may not run on any CPU that is local to {}: partial",
                labels(machine, gpus)
            )
        }
        Finding::FarIfUsed(gpus) => {
            format!(
                "it may not run on any CPU that is local to {}, which it was given too: partial if it uses them, else name those \
                 that it uses with --gpus",
                labels(machine, gpus)
            )
        }
        Finding::MemoryNotAllowed { allowed, nodes: right } => {
            let (allowed, place) = (nodes(allowed), right_place(judgement, right));
            format!("its cpuset gives it memory from {allowed} only; {place}")
        }
        Finding::ThreadsPolicy {
            threads,
            of,
            policy,
            nodes: right,
        } => {
            let (who, place) = (who(threads, *of), right_place(judgement, right));
            format!("{who} took another memory policy, \"{policy}\"; {place}")
        }
        Finding::MemoryUnreadable => "its memory cannot be read (numa_maps)".to_owned(),
        Finding::MemoryPolicy {
            policy,
            others,
            nodes: right,
        } => {
            let (others, place) = (nodes(others), right_place(judgement, right));
            format!("its memory policy \"{policy}\" names {others}; {place}")
        }
        Finding::MemoryElsewhere {
            far,
            all,
            shared,
            nodes: right,
        } => {
            let is_at_gpus = is_at_gpus(judgement, right);
            let (is_all_shared, is_shared) = (shared >= far, *shared > 0);
            let (far, all, right) = (volume(*far), volume(*all), nodes(right));
            // Where a finding beside this one says that it may have none there, nothing moves them.
            let is_shut_out = |other: &Finding| matches!(other, Finding::MemoryNotAllowed { .. });
            let cure = if judgement.findings.iter().any(is_shut_out) {
                ""
            } else if is_all_shared {
                "; gpu-numa heal leaves what other processes have too"
            } else if is_shared {
                "; gpu-numa heal moves what no other process has too"
            } else {
                "; gpu-numa heal moves them"
            };
            match (judgement.gpus, is_at_gpus) {
                (1, true) => format!("{far} of its {all} of memory are not on its GPU's {right}{cure}"),
                (_, true) => format!("{far} of its {all} of memory are not on its GPUs' {right}{cure}"),
                (1, false) => format!(
                    "{far} of its {all} of memory are not on {right}, the nearest with memory to its GPU{cure}"
                ),
                (_, false) => format!(
                    "{far} of its {all} of memory are not on {right}, the nearest with memory to its GPUs{cure}"
                ),
            }
        }
    }
}

/// Whether memory on `right` is on the nodes of the GPUs: these may have none.
fn is_at_gpus(judgement: &Judgement, right: &NodeSet) -> bool {
    let of_gpus = judgement.nodes.as_ref();
    of_gpus.is_none_or(|nodes| right.is_subset(nodes))
}

/// Where the memory of a process belongs, as the end of a sentence.
fn right_place(judgement: &Judgement, right: &NodeSet) -> String {
    let place = nodes(right);
    match (judgement.gpus, is_at_gpus(judgement, right)) {
        (1, true) => format!("its GPU is on {place}"),
        (_, true) => format!("its GPUs are on {place}"),
        (1, false) => format!("{place} is the nearest with memory to its GPU"),
        (_, false) => format!("the nearest with memory to its GPUs: {place}"),
    }
}

/// What is to be known of local CPUs that are not the nearest ones.
pub(super) fn beyond_nearest(judgement: &Judgement, held: &CpuSet) -> Option<String> {
    let (nearest, local) = (
        judgement.nearest_cpus.as_ref()?,
        judgement.local_cpus.as_ref()?,
    );
    let others = held.intersection(local).difference(nearest);
    let (whose, of) = match judgement.gpus {
        1 => ("its GPU", "its node"),
        _ => ("its GPUs", "their nodes"),
    };
    (!others.is_empty()).then(|| {
        format!(
            "{} local, but {} nearer to {whose} than the rest of {of} (exclusive gives these first, l3 alone)",
            are(&others),
            are(nearest)
        )
    })
}

/// What is to be known of a file that is cached elsewhere.
pub(super) fn far_file(judgement: &Judgement, file: &FarFile) -> String {
    let right = nodes(&judgement.memory_nodes.clone().unwrap_or_default());
    let (far, path) = (volume(file.far), shell_word(&file.path).into_owned());
    format!(
        "{far} of a file that it has mapped are cached elsewhere than on {right}: gpu-numa cache {path}"
    )
}

/// `GPU0 0000:23:00.0, GPU2 0000:83:00.0`.
fn labels(machine: &Machine, gpus: &[PciAddress]) -> String {
    let labels: Vec<String> = gpus.iter().map(|gpu| gpu_label(machine, *gpu)).collect();
    labels.join(", ")
}

/// `local`: a verdict as plans and launch lines have it.
pub(super) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Local => "local",
        Verdict::Spanning => "spanning",
        Verdict::Partial => "partial",
        Verdict::Remote => "remote",
        Verdict::Unbound => "unbound",
        Verdict::Refused => "refused",
    }
}

/// `it`, `all 3 threads`, `thread 12 (NCCL Progress 0) of 3`, `2 of 9 threads (11 pt_data_worker, 12 pt_data_worker)`.
fn who(threads: &[Thread], of: usize) -> String {
    let name = |thread: &Thread| format!("{} {}", thread.id, printable(&thread.name));
    match threads {
        all if all.len() == of && of > 1 => format!("all {of} threads"),
        [_] if of == 1 => "it".to_owned(),
        [one] => format!("thread {} ({}) of {of}", one.id, printable(&one.name)),
        several => {
            let first: Vec<String> = several.iter().take(MOST_THREADS).map(name).collect();
            let more = if several.len() > MOST_THREADS {
                ", ..."
            } else {
                ""
            };
            format!(
                "{} of {of} threads ({}{more})",
                several.len(),
                first.join(", ")
            )
        }
    }
}

/// `NCCL Progress 0`, or `3 threads pt_data_worker`: how many threads of each name, for a line about threads.
fn names(threads: &[Thread]) -> String {
    let mut names: Vec<(&str, usize)> = Vec::new();
    for thread in threads {
        match names.iter_mut().find(|(name, _)| *name == thread.name) {
            Some((_, number)) => *number += 1,
            None => names.push((&thread.name, 1)),
        }
    }
    let each: Vec<String> = names
        .iter()
        .take(MOST_THREADS)
        .map(|(name, number)| match number {
            1 => printable(name),
            several => format!("{several} {}", printable(name)),
        })
        .collect();
    let more = if names.len() > MOST_THREADS {
        ", ..."
    } else {
        ""
    };
    format!("{}{more}", each.join(", "))
}

/// A line for each set of CPUs, by its first CPU; what is beyond [`MOST_MASKS`] in one.
pub(super) fn threads_by_mask<'p>(
    masks: impl Iterator<Item = &'p (CpuSet, Vec<Thread>)>,
) -> Vec<String> {
    let mut masks: Vec<&(CpuSet, Vec<Thread>)> = masks.collect();
    masks.sort_by_key(|(cpus, _)| cpus.first());
    let is_told = |place: usize| masks.len() <= MOST_MASKS || place + 1 < MOST_MASKS;
    let mut rest = (CpuSet::new(), Vec::new());
    let mut sets = 0;
    let mut lines = Vec::new();
    for (place, (cpus, threads)) in masks.iter().enumerate() {
        if is_told(place) {
            lines.push(threads_of_mask(cpus, threads));
        } else {
            rest.0.extend_with(cpus);
            rest.1.extend(threads.iter().cloned());
            sets += 1;
        }
    }
    if sets > 0 {
        let (of, names) = (cpus(&rest.0), names(&rest.1));
        let threads = count(rest.1.len(), "thread");
        lines.push(format!(
            "{threads} on {sets} other sets of CPUs, of {of}: {names}"
        ));
    }
    lines
}

/// `45 threads on CPUs 0-3: pt_data_worker`.
fn threads_of_mask(cpus_of: &CpuSet, threads: &[Thread]) -> String {
    format!(
        "{} on {}: {}",
        count(threads.len(), "thread"),
        cpus(cpus_of),
        names(threads)
    )
}

fn cpus(cpus: &CpuSet) -> String {
    if cpus.len() == 1 {
        format!("CPU {cpus}")
    } else {
        format!("CPUs {cpus}")
    }
}

/// `CPU 4 is`, `CPUs 4-5 are`.
fn are(set: &CpuSet) -> String {
    if set.len() == 1 {
        format!("CPU {set} is")
    } else {
        format!("CPUs {set} are")
    }
}
