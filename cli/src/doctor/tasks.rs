//! What fences and binds tasks: TaskPlugin and cgroup.conf.

use slurm_config::config::{Line, last};
use slurm_config::fences::{Hierarchy, TaskPlugins, open_fences, unbinds_every_task};
use topology::machine::Machine;

use super::report::{DoctorReport, Harm};
use super::slurm::Slurm;
use super::world::World;

pub(crate) fn check(world: &World<'_>, report: &mut DoctorReport) {
    let Some(slurm) = &world.slurm else { return };
    let has_cgroup = check_task_plugin(world, slurm, report);
    check_task_plugin_param(slurm, report);
    check_tracking(slurm, report);
    if has_cgroup {
        check_cgroup(world, slurm, report);
    }
}

/// Checks TaskPlugin; returns whether it has task/cgroup.
fn check_task_plugin(world: &World<'_>, slurm: &Slurm, report: &mut DoctorReport) -> bool {
    let given = slurm.value("taskplugin");
    let value = given.map_or("", |(value, _)| value);
    let TaskPlugins { affinity, cgroup } = TaskPlugins::of(value);
    let evidence = given.map_or_else(
        || format!("{}: no TaskPlugin", slurm.path),
        |(_, line)| line.quote("TaskPlugin"),
    );
    let (harm, effect) = match (affinity, cgroup) {
        (true, true) => return true,
        // What is misspelt there is said, and with it what is missing.
        _ if report.stops("task-plugin") => return cgroup,
        (false, true) => (
            Harm::WeakensBinding,
            "Slurm does not give tasks their own CPUs: --cpu-bind and --mem-bind have no effect, and a job \
             that does not ask for binding runs anywhere in its cores"
                .to_owned(),
        ),
        (true, false) => (
            Harm::WeakensBinding,
            format!(
                "jobs are not fenced: every task can open every GPU and use every CPU, and only {} which GPUs are a task's own",
                variables_say(world.machine)
            ),
        ),
        (false, false) => (
            Harm::StopsBinding,
            "jobs are neither fenced nor bound: the plugin cannot tell a step's CPUs and GPUs from those of other jobs"
                .to_owned(),
        ),
    };
    report.find(
        "task-plugin",
        harm,
        evidence,
        effect,
        format!("{}: TaskPlugin=task/affinity,task/cgroup", slurm.path),
    );
    cgroup
}

/// `none` there looks to the plugin like a user's --cpu-bind=none, which it respects.
fn check_task_plugin_param(slurm: &Slurm, report: &mut DoctorReport) {
    let Some((value, line)) = slurm.value("taskpluginparam") else {
        return;
    };
    if unbinds_every_task(value) {
        report.find(
            "task-plugin",
            Harm::StopsBinding,
            line.quote("TaskPluginParam"),
            "every step looks like one whose user gave --cpu-bind=none, so the plugin leaves its CPUs alone",
            format!(
                "{}: remove `none` from TaskPluginParam, or plugstack.conf: default=override",
                line.place()
            ),
        );
    }
}

/// ProctrackType without cgroups, which knows a job's processes by their parents or their process group only
/// (`proctrack_p_add` and `proctrack_p_has_pid`, plugins/proctrack).
fn check_tracking(slurm: &Slurm, report: &mut DoctorReport) {
    let Some((value, line)) = slurm.value("proctracktype") else {
        return;
    };
    let known_by = match value {
        "proctrack/linuxproc" => "their parents",
        "proctrack/pgid" => "their process group",
        _ => return,
    };
    report.find(
        "proctrack",
        Harm::WeakensBinding,
        line.quote("ProctrackType"),
        format!(
            "Slurm knows a job's processes by {known_by}: one that leaves those is not ended with its job, and keeps its CPUs, its memory and its \
             GPUs while the next job has them"
        ),
        format!("{}: ProctrackType=proctrack/cgroup", line.place()),
    );
}

/// The variables in which Slurm tells a task its GPUs, one for each vendor of the machine's.
fn variables_say(machine: &Machine) -> String {
    let vendors = machine.launch_vendors();
    let names: Vec<&str> = vendors.map(|vendor| vendor.variables.visible).collect();
    match names.as_slice() {
        [] => format!("{} says", machine.launch_vendor().variables.visible),
        [only] => format!("{only} says"),
        several => format!("{} say", several.join(" and ")),
    }
}

/// What follows where a key of cgroup.conf is not yes.
fn effect_without(key: &str, machine: &Machine) -> String {
    match key {
        "ConstrainCores" => {
            "jobs are not kept to their cores: a task can be moved onto another job's, and neighbours slow each other"
                .to_owned()
        }
        _ => format!(
            "every task can open every GPU of the host, so only {} which GPUs are a task's own",
            variables_say(machine)
        ),
    }
}

fn check_cgroup(world: &World<'_>, slurm: &Slurm, report: &mut DoctorReport) {
    let path = slurm.beside("cgroup.conf");
    let Some(lines) = &slurm.cgroup else {
        report.find(
            "cgroup",
            Harm::WeakensBinding,
            format!("{path}: no such file, so ConstrainCores and ConstrainDevices are no"),
            "jobs are not kept to their cores and GPUs: any task can use any CPU and open any GPU of the host",
            format!("{path}: ConstrainCores=yes, and ConstrainDevices=yes on a line of its own"),
        );
        return;
    };
    for (key, given) in open_fences(lines) {
        let evidence = match given {
            Some(line) => line.quote(key),
            None => format!("{path}: no {key}, which means no"),
        };
        report.find(
            "cgroup",
            Harm::WeakensBinding,
            evidence,
            effect_without(key, world.machine),
            format!("{path}: {key}=yes"),
        );
    }
    check_version(world, lines, report);
}

/// `CgroupPlugin=` against the hierarchy that the host has mounted.
fn check_version(world: &World<'_>, lines: &[Line], report: &mut DoctorReport) {
    let Some((value, line)) = last(lines, "cgroupplugin") else {
        return;
    };
    let Some(tree) = &world.tree else { return };
    let is_unified = tree.exists("/sys/fs/cgroup/cgroup.controllers");
    let is_old = tree.exists("/sys/fs/cgroup/cpuset") || tree.exists("/sys/fs/cgroup/devices");
    let (has, wants) = match Hierarchy::of_plugin(value) {
        Some(Hierarchy::V1) if is_unified => ("cgroup v2 (the unified hierarchy)", "cgroup/v2"),
        Some(Hierarchy::V2) if is_old => ("cgroup v1 controllers", "cgroup/v1"),
        Some(Hierarchy::V1 | Hierarchy::V2) | None => return,
    };
    report.find(
        "cgroup",
        Harm::StopsJobs,
        format!("{}, but the host has {has}", line.quote("CgroupPlugin")),
        "slurmd does not start, or does not fence jobs",
        format!("{}: CgroupPlugin={wants}, or no such line", line.place()),
    );
}
