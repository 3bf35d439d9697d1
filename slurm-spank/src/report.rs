//! What is said to the user.

use std::cell::Cell;

use ffi::spank::log::{To, write_line};
use ffi::spank::sys;
use launch::host::SnapshotFault;
use launch::site::Asked;
use topology::binding::{
    Refusal, StepPlan, StepRequest, TaskPlan, launch_advice, socket_link_line, spanning_line,
    summary_line, task_line,
};
use topology::machine::Machine;
use topology::option;

use crate::step::Step;

/// The most tasks of a host whose trouble is told one by one.
const MOST_TROUBLED: usize = 8;

/// What a snapshot that cannot be used leads to.
pub(crate) fn without_snapshot(fault: &SnapshotFault) -> String {
    format!(
        "{fault}; reading /sys instead, NCCL_TOPO_FILE is not set (gpu-numa snapshot writes it)"
    )
}

/// Says one line on the user's stderr.
fn say(line: &str) {
    write_line(To::User, &format!("gpu-numa-bind: {line}"));
}

/// The reporter of one task; the lowest local task speaks for the host.
pub(crate) struct Report<'a> {
    step: &'a Step,
    asked: &'a Asked,
    /// Slurm's name of this host.
    pub(crate) host: String,
    local_id: usize,
    /// The neighbours are not known, so each task speaks for itself.
    alone: Cell<bool>,
}

impl<'a> Report<'a> {
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

    /// A line about one task.
    pub(crate) fn trouble_of_task(&self, task: usize, line: &str) {
        say(&format!("{} task {task}: {line}", self.host));
    }

    /// A refused step, said once a host where the tasks know of each other.
    pub(crate) fn refusal(&self, refusal: &Refusal, plan: &StepPlan) {
        if !self.speaks() {
            return;
        }
        let policy = self.asked.settings.policy.word();
        let tasks = if plan.tasks.len() > 1 {
            format!(", all {} tasks here", plan.tasks.len())
        } else {
            String::new()
        };
        say(&format!(
            "step {} refused on {} ({policy}{tasks}): {}",
            step_name(self.step),
            self.host,
            refusal.reason
        ));
        say(&refusal.advice);
    }

    /// A step without GPUs: one line when asked for detail.
    pub(crate) fn no_gpu(&self) {
        if self.asked.settings.report == option::Verbosity::Verbose && self.speaks() {
            say(&format!(
                "{}: the step has no GPU; left as Slurm made it",
                self.host
            ));
        }
    }

    /// What was done: a line per host, or per task, and whatever is wrong.
    pub(crate) fn outcome(&self, machine: &Machine, request: &StepRequest, plan: &StepPlan) {
        let has_gpus = plan.tasks.iter().any(|task| !task.gpus.is_empty());
        let verbose = self.asked.settings.report == option::Verbosity::Verbose;
        let host = &self.host;
        if !has_gpus {
            self.no_gpu();
            return;
        }
        let own = plan.tasks.iter().find(|task| task.task == self.local_id);
        if verbose && let Some(own) = own {
            say(&task_line(host, own));
        }
        if !self.speaks() {
            return;
        }
        match self.asked.settings.report {
            option::Verbosity::Quiet => {}
            _ if self.alone.get() => {
                let task = self.local_id;
                say(&format!(
                    "{host} task {task}: not all tasks came in time; bound for itself alone"
                ));
            }
            option::Verbosity::Line => say(&summary_line(host, machine, request, plan)),
            option::Verbosity::Verbose => {}
        }
        self.tell_trouble(plan, verbose);
        // A script that starts one worker a GPU by srun is not the one that spans.
        let spanning = spanning_line(host, machine, plan).filter(|_| self.step.script_tasks == 1);
        let told = [
            spanning,
            socket_link_line(host, machine, plan, self.step.hosts),
        ];
        for line in told.iter().flatten() {
            say(line);
        }
        if !request.may_refuse
            && self.asked.settings.policy.is_strict()
            && plan.tasks.iter().any(|task| task.is_trouble)
        {
            say(&format!(
                "{host}: a batch script's own step is never refused; bound as best-effort"
            ));
        }
    }

    fn tell_trouble(&self, plan: &StepPlan, told: bool) {
        let troubled: Vec<&TaskPlan> = plan.tasks.iter().filter(|task| task.is_trouble).collect();
        if !told {
            for task in troubled.iter().take(MOST_TROUBLED) {
                say(&task_line(&self.host, task));
            }
            if let Some(more) = troubled
                .len()
                .checked_sub(MOST_TROUBLED)
                .filter(|more| *more > 0)
            {
                say(&format!("{}: {more} more tasks likewise", self.host));
            }
        }
        if let Some(advice) = launch_advice(plan) {
            say(advice);
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
