//! Who says which line of [`topology::words`], and when.

use std::cell::Cell;
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
fn say(line: &str) {
    write_line(To::User, &format!("gpu-numa-bind: {line}"));
}

/// The reporter of one task; the lowest local task speaks for the host.
pub(crate) struct Reporter<'a> {
    step: &'a Step,
    asked: &'a Asked,
    /// Slurm's name of this host.
    pub(crate) host: String,
    local_id: usize,
    /// The neighbours are not known, so each task speaks for itself.
    alone: Cell<bool>,
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(step: &'a Step, asked: &'a Asked, host: String, local_id: usize) -> Self {
        let report = Self {
            step,
            asked,
            host,
            local_id,
            alone: Cell::new(false),
        };
        for problem in &asked.problems {
            report.trouble(&problem.to_string());
        }
        report
    }

    /// The neighbours did not all come in time.
    pub(crate) fn alone(&self) {
        self.alone.set(true);
    }

    /// Whether this task plans for itself alone.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone.get()
    }

    fn speaks(&self) -> bool {
        self.local_id == 0 || self.alone.get()
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

    /// A refused step, said once a host where the tasks know of each other.
    pub(crate) fn refusal(&self, refusal: &Refusal, plan: &StepPlan) {
        if !self.speaks() {
            return;
        }
        let (step, policy) = (step_name(self.step), self.asked.settings.policy);
        let tasks = plan.tasks.len();
        say(&words::step_refused_line(
            &step, &self.host, policy, tasks, refusal,
        ));
        say(&words::advice_line(refusal));
    }

    /// A step without GPUs: one line when asked for detail.
    pub(crate) fn no_gpu(&self) {
        if self.asked.settings.report == Verbosity::Verbose && self.speaks() {
            say(&words::no_gpu_in_step(&self.host));
        }
    }

    /// What was done: a line per host, or per task, and whatever is wrong.
    pub(crate) fn outcome(&self, machine: &Machine, request: &StepRequest, plan: &StepPlan) {
        let has_gpus = plan.tasks.iter().any(|task| !task.gpus.is_empty());
        let verbose = self.asked.settings.report == Verbosity::Verbose;
        let host = &self.host;
        if !has_gpus {
            self.no_gpu();
            return;
        }
        let own = plan.tasks.iter().find(|task| task.task == self.local_id);
        if verbose && let Some(own) = own {
            say(&words::task_line(host, own, Voice::Step));
        }
        if !self.speaks() {
            return;
        }
        match self.asked.settings.report {
            Verbosity::Quiet => {}
            _ if self.alone.get() => {
                say(&words::alone_line(host, self.local_id));
            }
            Verbosity::Line => {
                let summary = summarize(machine, request, plan);
                say(&words::summary_line(host, &summary));
            }
            Verbosity::Verbose => {}
        }
        self.tell_trouble(plan, verbose);
        // A script that starts one worker per GPU by srun is not the one that spans.
        if let Some(spanning) = find_spanning(machine, plan)
            && self.step.script_tasks == 1
        {
            say(&words::spanning_line(host, &spanning));
        }
        if let Some(link) = find_socket_link(machine, plan, self.step.hosts) {
            say(&words::socket_link_line(host, &link));
        }
        if !request.may_refuse
            && self.asked.settings.policy.is_strict()
            && plan.tasks.iter().any(|task| task.is_trouble)
        {
            say(&words::batch_line(host));
        }
    }

    fn tell_trouble(&self, plan: &StepPlan, told: bool) {
        let troubled: Vec<&TaskPlan> = plan.tasks.iter().filter(|task| task.is_trouble).collect();
        if !told {
            for task in troubled.iter().take(MOST_TROUBLED) {
                say(&words::task_line(&self.host, task, Voice::Step));
            }
            if let Some(more) = troubled
                .len()
                .checked_sub(MOST_TROUBLED)
                .filter(|more| *more > 0)
            {
                say(&words::more_trouble_line(&self.host, more));
            }
        }
        if plan.lacks_local_cpus() {
            say(words::NEAR_CPUS_ADVICE);
        }
    }
}

/// `12.0`, or `12.batch` for a script's own step.
pub(crate) fn step_name(step: &Step) -> String {
    match step.id {
        sys::STEP_BATCH => format!("{}.batch", step.job),
        sys::STEP_INTERACTIVE => format!("{}.interactive", step.job),
        id => format!("{}.{id}", step.job),
    }
}
