//! What fences and binds tasks: TaskPlugin and cgroup.conf.

use slurm_config::config::{Line, has_word, is_yes, last};

use super::World;
use super::report::{Harm, Report};
use super::slurm::Slurm;

pub(crate) fn check(world: &World<'_>, report: &mut Report) {
    let Some(slurm) = &world.slurm else { return };
    let has_cgroup = check_task_plugin(slurm, report);
    check_task_plugin_param(slurm, report);
    if has_cgroup {
        check_cgroup(world, slurm, report);
    }
}

/// Whether task/cgroup is there.
fn check_task_plugin(slurm: &Slurm, report: &mut Report) -> bool {
    let given = slurm.value("taskplugin");
    let value = given.map_or("", |(value, _)| value);
    let has = |plugin: &str| has_word(value, plugin) || has_word(value, &format!("task/{plugin}"));
    let (affinity, cgroup) = (has("affinity"), has("cgroup"));
    let evidence = given.map_or_else(
        || format!("{}: no TaskPlugin", slurm.path),
        |(_, line)| line.quote("TaskPlugin"),
    );
    let (harm, effect) = match (affinity, cgroup) {
        (true, true) => return true,
        (false, true) => (
            Harm::WeakensBinding,
            "Slurm gives tasks no CPUs of their own: --cpu-bind and --mem-bind do nothing, and a job \
             that does not ask for binding runs anywhere in its cores",
        ),
        (true, false) => (
            Harm::WeakensBinding,
            "nothing fences a job: every task can open every GPU and use every CPU, so which GPUs are a \
             task's own is only what CUDA_VISIBLE_DEVICES says",
        ),
        (false, false) => (
            Harm::StopsBinding,
            "nothing fences or binds a job: the plugin cannot tell a step's CPUs and GPUs from other jobs'",
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

/// `none` there reaches a task just as a user's --cpu-bind=none does, and that is respected.
fn check_task_plugin_param(slurm: &Slurm, report: &mut Report) {
    let Some((value, line)) = slurm.value("taskpluginparam") else {
        return;
    };
    if has_word(value, "none") {
        report.find(
            "task-plugin",
            Harm::StopsBinding,
            line.quote("TaskPluginParam"),
            "every step looks as if its user had said --cpu-bind=none, so the plugin leaves the CPUs alone",
            format!(
                "{}: take `none` out of TaskPluginParam, or plugstack.conf: default=override",
                line.place()
            ),
        );
    }
}

/// The keys that fence a job, with what follows where one is not yes.
const FENCES: [(&str, &str); 2] = [
    (
        "ConstrainCores",
        "jobs are not kept to their cores: a task can be moved onto another job's, and neighbours slow each other",
    ),
    (
        "ConstrainDevices",
        "every task can open every GPU of the host, so a task's GPUs are what CUDA_VISIBLE_DEVICES says and nothing checks it",
    ),
];

fn check_cgroup(world: &World<'_>, slurm: &Slurm, report: &mut Report) {
    let path = slurm.beside("cgroup.conf");
    let Some(lines) = &slurm.cgroup else {
        report.find(
            "cgroup",
            Harm::WeakensBinding,
            format!("{path}: not there, so ConstrainCores and ConstrainDevices are no"),
            "jobs are kept to no cores and no GPUs: any task can use any CPU and open any GPU of the host",
            format!("{path}: ConstrainCores=yes, and ConstrainDevices=yes on a line of its own"),
        );
        return;
    };
    for (key, effect) in FENCES {
        let given = last(lines, &key.to_ascii_lowercase());
        if given.is_some_and(|(value, _)| is_yes(value)) {
            continue;
        }
        let evidence = match given {
            Some((_, line)) => line.quote(key),
            None => format!("{path}: no {key}, which means no"),
        };
        report.find(
            "cgroup",
            Harm::WeakensBinding,
            evidence,
            effect,
            format!("{path}: {key}=yes"),
        );
    }
    check_version(world, lines, report);
}

/// `CgroupPlugin=` against the hierarchy that the host has mounted.
fn check_version(world: &World<'_>, lines: &[Line], report: &mut Report) {
    let Some((value, line)) = last(lines, "cgroupplugin") else {
        return;
    };
    let Some(tree) = &world.tree else { return };
    let is_unified = tree.exists("/sys/fs/cgroup/cgroup.controllers");
    let is_old = tree.exists("/sys/fs/cgroup/cpuset") || tree.exists("/sys/fs/cgroup/devices");
    let value = value.to_ascii_lowercase();
    let (has, wants) = match value.as_str() {
        "cgroup/v1" if is_unified => ("cgroup v2 (the unified hierarchy)", "cgroup/v2"),
        "cgroup/v2" if is_old => ("cgroup v1 controllers", "cgroup/v1"),
        _ => return,
    };
    report.find(
        "cgroup",
        Harm::StopsJobs,
        format!("{}, but the host has {has}", line.quote("CgroupPlugin")),
        "slurmd does not start, or fences no job",
        format!(
            "{}: CgroupPlugin={wants}, or take the line out",
            line.place()
        ),
    );
}
