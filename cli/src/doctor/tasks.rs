//! What fences and binds tasks: TaskPlugin and cgroup.conf.

use topology::slurm::config::{has_word, is_yes, last};

use super::World;
use super::report::{Harm, Report};
use super::slurm::Slurm;

pub(crate) fn check(world: &World<'_>, report: &mut Report) {
    let Some(slurm) = &world.slurm else { return };
    let has_cgroup = check_task_plugin(slurm, report);
    if has_cgroup {
        check_cgroup(slurm, report);
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
    let effect = match (affinity, cgroup) {
        (true, true) => return true,
        (false, true) => {
            "Slurm gives tasks no CPUs of their own: --cpu-bind and --mem-bind do nothing, and a job \
             that does not ask for binding runs anywhere in its cores"
        }
        (true, false) => {
            "nothing fences a job: every task can open every GPU and use every CPU, so which GPUs are a \
             task's own is only what CUDA_VISIBLE_DEVICES says"
        }
        (false, false) => {
            "nothing fences or binds a job: the plugin cannot tell a step's CPUs and GPUs from other jobs'"
        }
    };
    report.find(
        "task-plugin",
        Harm::StopsBinding,
        evidence,
        effect,
        format!("{}: TaskPlugin=task/affinity,task/cgroup", slurm.path),
    );
    cgroup
}

fn check_cgroup(slurm: &Slurm, report: &mut Report) {
    let path = slurm.beside("cgroup.conf");
    for (key, effect) in [
        (
            "ConstrainCores",
            "jobs are not kept to their cores: a task can be moved onto another job's, and neighbours slow each other",
        ),
        (
            "ConstrainDevices",
            "every task can open every GPU of the host, so a task's GPUs are what CUDA_VISIBLE_DEVICES says and nothing checks it",
        ),
    ] {
        let lines = slurm.cgroup.as_deref().unwrap_or_default();
        let given = last(lines, &key.to_ascii_lowercase());
        if given.is_some_and(|(value, _)| is_yes(value)) {
            continue;
        }
        let evidence = match (given, &slurm.cgroup) {
            (Some((_, line)), _) => line.quote(key),
            (None, Some(_)) => format!("{path}: no {key}, which means no"),
            (None, None) => format!("{path}: not there, so {key} is no"),
        };
        report.find(
            "cgroup",
            Harm::StopsBinding,
            evidence,
            effect,
            format!("{path}: {key}=yes"),
        );
    }
}
