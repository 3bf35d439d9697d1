//! The lines that a launch brings with it: what the kernel would not do, and who speaks for whom.

use std::fmt::Display;

use super::{Voice, phrases};
use crate::option::Policy;
use crate::set::{CpuSet, NodeSet};

/// A step whose tasks cannot share a page, and why.
pub fn no_page_line(error: &dyn Display) -> String {
    format!("no shared page ({error}); each task is bound on its own")
}

/// A line about one task.
pub fn of_task(host: &str, task: usize, line: &str) -> String {
    format!("{host} task {task}: {line}")
}

/// A host of which nothing is known, and why.
pub fn unknown_host_line(host: &str, why: &dyn Display) -> String {
    format!("{host}: {why}; left as Slurm made it")
}

/// A snapshot that cannot be used, and why.
pub fn no_snapshot(fault: &dyn Display) -> String {
    format!(
        "{fault}; reading /sys instead, NCCL_TOPO_FILE is not set (gpu-numa snapshot writes it)"
    )
}

/// A step that is not in the host's counters, and why.
pub fn not_counted(why: &dyn Display) -> String {
    format!("{why}; this step is not counted (gpu-numa metrics --start writes the table)")
}

/// NCCL's variables that are left as they are, because it is not known what the user's configuration file sets, and why.
pub fn unread_conf(why: &dyn Display) -> String {
    format!("NCCL's variables are left as they are; they may be set by the user's nccl.conf, {why}")
}

/// The name of a host and of one of the steps that may speak of it: `12.0`, `12.batch`.
pub fn host_and_step(host: &str, step: &str) -> String {
    format!("{host} step {step}")
}

/// A step that has GPUs by Slurm, and none that the plugin sees or, where all are of that `maker`, binds; `refused` names the
/// step that is refused for it.
pub fn unseen_gpus_line(
    host: &str,
    maker: Option<&str>,
    refused: Option<(&str, Policy)>,
) -> String {
    let unseen = "Slurm gave the step GPUs, but none of them is seen here";
    let (why, hint) = match maker {
        Some(maker) => (format!("{maker}'s GPUs are not bound at launch"), ""),
        None => (unseen.to_owned(), " (gpu-numa doctor)"),
    };
    match refused {
        None => format!("{host}: {why}; left as Slurm made it{hint}"),
        Some((step, policy)) => {
            let policy = policy.word();
            format!("step {step} refused on {host} ({policy}): {why}{hint}")
        }
    }
}

/// A line about a host.
pub fn on_host(host: &str, line: &str) -> String {
    format!("{host}: {line}")
}

/// `nccl=log` on a host without the plugin that writes NCCL's log line.
pub fn no_profiler(host: &str) -> String {
    format!(
        "{host}: nccl=log: libnccl-profiler-gpu-numa.so is not beside the plugin, or not root's; NCCL's log gets no line about the socket link"
    )
}

/// A strict policy that a step asks for where the site has turned binding off.
pub fn policy_turned_off(host: &str, policy: Policy) -> String {
    format!(
        "{host}: {} does not hold, because this site has turned binding off; left as Slurm made it",
        policy.word()
    )
}

/// Slurm would not register the option.
pub fn no_option_line(error: &dyn Display) -> String {
    format!("{error}; --gpu-numa-bind is not available")
}

/// An argument in plugstack.conf that is not understood.
pub fn argument_left_out(problem: &dyn Display) -> String {
    format!("plugstack: {problem}; left out")
}

/// An item of the variable that is not understood, said where the option is typed.
pub fn variable_left_out(problem: &dyn Display) -> String {
    format!("GPU_NUMA_BIND: {problem}; that item is left out")
}

/// A defect of the plugin's own, in the hook `hook`.
pub fn internal_fault(hook: &str) -> String {
    // What is set for a task is found in the first of these and set in the second; around the others it is set all the same.
    if matches!(hook, "user_init" | "task_init") {
        format!("internal fault in {hook}; the job goes on as Slurm made it")
    } else {
        format!("internal fault in {hook}; the job goes on without it")
    }
}

/// A step without GPUs.
pub fn no_gpu_in_step(host: &str) -> String {
    format!("{host}: the step has no GPU; left as Slurm made it")
}

/// CPUs that the kernel would not bind a task to.
pub fn cpus_refused(cpus: &CpuSet, error: &dyn Display, voice: Voice) -> String {
    let cpus = phrases::cpus(cpus);
    match voice {
        Voice::Step => format!("{cpus} refused by the kernel ({error}); left as Slurm made it"),
        Voice::Process => format!("{cpus} refused by the kernel ({error}); left as it is"),
    }
}

/// Nodes that the kernel would not take a task's memory from.
pub fn memory_refused(nodes: &NodeSet, error: &dyn Display, voice: Voice) -> String {
    let nodes = phrases::nodes(nodes);
    match voice {
        Voice::Step => {
            format!("memory on {nodes} refused by the kernel ({error}); left as Slurm made it")
        }
        Voice::Process => {
            format!("memory on {nodes} refused by the kernel ({error}); left as it is")
        }
    }
}

/// A step whose tasks on `host` did not all start in time, said once.
pub fn alone_line(host: &str) -> String {
    format!("{host}: not all tasks came in time; each is bound on its own")
}

/// A strict policy in a batch script's own step.
pub fn batch_line(host: &str) -> String {
    format!("{host}: a batch script's own step is never refused; bound as best-effort")
}

/// Tasks whose trouble is not said one by one.
pub fn more_trouble_line(host: &str, tasks: usize) -> String {
    if tasks == 1 {
        format!("{host}: 1 more task is unbound or short of local CPUs")
    } else {
        format!("{host}: {tasks} more tasks are unbound or short of local CPUs")
    }
}
