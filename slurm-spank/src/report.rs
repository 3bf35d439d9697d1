//! Who says which line of [`topology::words`], and when.

use std::fmt::Display;

use ffi::spank::log::{To, write_line};
use ffi::spank::sys;
use launch::host::SnapshotFault;
use launch::host::UnknownHost;
use launch::site::Asked;
use topology::binding::{
    Refusal, StepPlan, StepRequest, TaskPlan, find_socket_link, find_spanning, summarize,
};
use topology::machine::Machine;
use topology::option::Verbosity;
use topology::set::{CpuSet, NodeSet};
use topology::words::{self, Voice};

use crate::step::Step;

/// The most tasks of a host whose trouble is said one by one.
const MOST_TROUBLED: usize = 8;

/// Says one line on the user's stderr.
pub(crate) fn say(line: &str) {
    write_line(To::User, &format!("gpu-numa-bind: {line}"));
}

/// The reporter of one task; the lowest local task speaks for the host.
pub(crate) struct Reporter<'a> {
    step: &'a Step,
    asked: &'a Asked,
    /// Slurm's name of this host.
    pub(crate) host: String,
    local_id: usize,
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(step: &'a Step, asked: &'a Asked, host: String, local_id: usize) -> Self {
        let report = Self {
            step,
            asked,
            host,
            local_id,
        };
        for problem in &asked.problems {
            report.trouble(&problem.to_string());
        }
        report
    }

    /// A line about the host, said once.
    pub(crate) fn trouble(&self, line: &str) {
        if self.local_id == 0 {
            say(line);
        }
    }

    /// A line about this task.
    pub(crate) fn trouble_of_task(&self, line: &str) {
        say(&words::of_task(&self.host, self.local_id, line));
    }

    /// A host of which nothing is known.
    pub(crate) fn unknown_host(&self, why: &UnknownHost) {
        self.trouble(&words::unknown_host_line(&self.host, why));
    }

    /// A snapshot that cannot be used.
    pub(crate) fn unusable_snapshot(&self, fault: &SnapshotFault) {
        self.trouble(&words::on_host(&self.host, &words::no_snapshot(fault)));
    }

    /// CPUs that the kernel would not bind this task to.
    pub(crate) fn cpus_refused(&self, cpus: &CpuSet, error: &dyn Display) {
        self.trouble_of_task(&words::cpus_refused(cpus, error, Voice::Step));
    }

    /// A memory policy that the kernel would not set for this task.
    pub(crate) fn memory_refused(&self, nodes: &NodeSet, error: &dyn Display) {
        self.trouble_of_task(&words::memory_refused(nodes, error, Voice::Step));
    }

    /// The lines of a refused step of so many tasks.
    pub(crate) fn refusal(&self, refusal: &Refusal, tasks: usize) -> Vec<String> {
        let (step, policy) = (step_name(self.step), self.asked.settings.policy);
        vec![
            words::step_refused_line(&step, &self.host, policy, tasks, refusal),
            words::advice_line(refusal),
        ]
    }

    /// A host without GPUs: one line when asked for detail.
    pub(crate) fn no_gpu(&self) {
        if self.is_verbose() {
            self.trouble(&words::no_gpu_in_step(&self.host));
        }
    }

    fn is_verbose(&self) -> bool {
        self.asked.settings.report == Verbosity::Verbose
    }

    /// What the task `own` says of the step's plan: its own line when asked for detail; if it speaks for all, a line
    /// per host, and whatever is wrong.
    pub(crate) fn outcome(
        &self,
        machine: &Machine,
        request: &StepRequest,
        plan: &StepPlan,
        own: &TaskPlan,
        speaks: bool,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        if !has_gpus(plan) {
            lines.extend((self.is_verbose() && speaks).then(|| words::no_gpu_in_step(&self.host)));
            return lines;
        }
        if self.is_verbose() {
            lines.push(words::task_line(&self.host, own, Voice::Step));
        }
        if !speaks {
            return lines;
        }
        if self.asked.settings.report == Verbosity::Line {
            let summary = summarize(machine, request, plan);
            lines.push(words::summary_line(&self.host, &summary));
        }
        self.add_trouble(&mut lines, plan);
        self.add_advice(&mut lines, machine, request, plan);
        lines
    }

    /// The same for a task whose neighbours are not known; `plan` is its own.
    pub(crate) fn outcome_alone(
        &self,
        machine: &Machine,
        request: &StepRequest,
        plan: &StepPlan,
        speaks: bool,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        if !has_gpus(plan) {
            lines.extend((self.is_verbose() && speaks).then(|| words::no_gpu_in_step(&self.host)));
            return lines;
        }
        if self.is_verbose() {
            let own = plan.tasks.iter();
            lines.extend(own.map(|own| words::task_line(&self.host, own, Voice::Step)));
        }
        if speaks && self.asked.settings.report != Verbosity::Quiet {
            lines.push(words::alone_line(&self.host));
        }
        self.add_trouble(&mut lines, plan);
        if speaks {
            self.add_advice(&mut lines, machine, request, plan);
        }
        lines
    }

    /// Tasks that are not as local as they could be, unless each says so itself.
    fn add_trouble(&self, lines: &mut Vec<String>, plan: &StepPlan) {
        if self.is_verbose() {
            return;
        }
        let troubled: Vec<&TaskPlan> = plan.tasks.iter().filter(|task| task.is_trouble).collect();
        let told = troubled.iter().take(MOST_TROUBLED);
        lines.extend(told.map(|task| words::task_line(&self.host, task, Voice::Step)));
        let more = troubled.len().saturating_sub(MOST_TROUBLED);
        lines.extend((more > 0).then(|| words::more_trouble_line(&self.host, more)));
    }

    /// What would fit better.
    fn add_advice(
        &self,
        lines: &mut Vec<String>,
        machine: &Machine,
        request: &StepRequest,
        plan: &StepPlan,
    ) {
        let host = &self.host;
        lines.extend(
            plan.lacks_local_cpus()
                .then(|| words::NEAR_CPUS_ADVICE.to_owned()),
        );
        // A script that starts one worker per GPU by srun is not the one that spans.
        let spanning = find_spanning(machine, plan).filter(|_| self.step.script_tasks == 1);
        lines.extend(spanning.map(|spanning| words::spanning_line(host, &spanning)));
        let link = find_socket_link(machine, plan, self.step.hosts);
        lines.extend(link.map(|link| words::socket_link_line(host, &link)));
        let would_refuse = !request.may_refuse
            && self.asked.settings.policy.is_strict()
            && plan.tasks.iter().any(|task| task.is_trouble);
        lines.extend(would_refuse.then(|| words::batch_line(host)));
    }
}

fn has_gpus(plan: &StepPlan) -> bool {
    plan.tasks.iter().any(|task| !task.gpus.is_empty())
}

/// `12.0`, or `12.batch` for a script's own step.
pub(crate) fn step_name(step: &Step) -> String {
    match step.id {
        sys::STEP_BATCH => format!("{}.batch", step.job),
        sys::STEP_INTERACTIVE => format!("{}.interactive", step.job),
        id => format!("{}.{id}", step.job),
    }
}
