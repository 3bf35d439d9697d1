//! Who says which line of [`topology::words`], and when.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fmt::Display;

use ffi::spank::Spank;
use ffi::spank::log::{To, write_line};
use ffi::spank::sys;
use launch::host::SnapshotFault;
use launch::host::UnknownHost;
use launch::site::Asked;
use topology::binding::{
    LaunchedBy, Refusal, StepPlan, StepRequest, TaskPlan, advise, find_socket_link, find_spanning,
    summarize,
};
use topology::machine::Machine;
use topology::names::GpuNames;
use topology::nics::NicDocument;
use topology::option::Verbosity;
use topology::pci::PciAddress;
use topology::set::{CpuSet, NodeSet};
use topology::words::{self, Voice};

use crate::step::{Step, StepKind};

/// The most tasks of a host whose trouble is said one by one.
const MOST_TROUBLED: usize = 8;

/// Says one line on the user's stderr.
pub(crate) fn say(line: &str) {
    write_line(To::User, &format!("gpu-numa-bind: {line}"));
}

/// Slurm's name of this host, with the step's where several steps may speak on one terminal.
pub(crate) fn step_label(step: &Step, spank: &Spank<'_>) -> String {
    label(step, &step.name_here(spank))
}

fn label(step: &Step, host: &str) -> String {
    if step.is_one_of_several {
        words::host_and_step(host, &step_name(step))
    } else {
        host.to_owned()
    }
}

/// The reporter of one task; the lowest local task speaks for the host.
pub(crate) struct Reporter<'a> {
    step: &'a Step,
    asked: &'a Asked,
    spank: &'a Spank<'a>,
    local_id: usize,
    /// Made when something is said: most tasks say nothing.
    host: OnceCell<String>,
    label: OnceCell<String>,
}

impl<'a> Reporter<'a> {
    pub(crate) fn new(
        step: &'a Step,
        asked: &'a Asked,
        spank: &'a Spank<'a>,
        local_id: usize,
    ) -> Self {
        let report = Self {
            step,
            asked,
            spank,
            local_id,
            host: OnceCell::new(),
            label: OnceCell::new(),
        };
        for problem in &asked.problems {
            report.trouble(&problem.to_string());
        }
        report
    }

    /// Slurm's name of this host.
    pub(crate) fn host(&self) -> &str {
        self.host.get_or_init(|| self.step.name_here(self.spank))
    }

    /// The same with the step's name where several steps may speak on one terminal.
    fn label(&self) -> &str {
        self.label.get_or_init(|| label(self.step, self.host()))
    }

    /// A line about the host, said once.
    pub(crate) fn trouble(&self, line: &str) {
        if self.local_id == 0 {
            say(line);
        }
    }

    /// A line about this task.
    pub(crate) fn trouble_of_task(&self, line: &str) {
        say(&words::of_task(self.label(), self.local_id, line));
    }

    /// A host of which nothing is known.
    pub(crate) fn unknown_host(&self, why: &UnknownHost) {
        self.trouble(&words::unknown_host_line(self.label(), why));
    }

    /// A snapshot that cannot be used.
    pub(crate) fn unusable_snapshot(&self, fault: &SnapshotFault) {
        self.trouble(&words::on_host(self.label(), &words::no_snapshot(fault)));
    }

    /// The plugin of NCCL's that was asked for is not there.
    pub(crate) fn no_profiler(&self) {
        self.trouble(&words::no_profiler(self.label()));
    }

    /// CPUs that the kernel would not bind this task to.
    pub(crate) fn cpus_refused(&self, cpus: &CpuSet, error: &dyn Display) {
        self.trouble_of_task(&words::cpus_refused(cpus, error, Voice::Step));
    }

    /// A memory policy that the kernel would not set for this task.
    pub(crate) fn memory_refused(&self, nodes: &NodeSet, error: &dyn Display) {
        self.trouble_of_task(&words::memory_refused(nodes, error, Voice::Step));
    }

    /// NCCL's variables that are left alone, because the user's configuration file was not read: when asked for detail.
    pub(crate) fn unread_conf(&self, why: &dyn Display) {
        if self.is_verbose() {
            self.trouble(&words::on_host(self.label(), &words::unread_conf(why)));
        }
    }

    /// The lines of a refused step of so many tasks.
    pub(crate) fn refusal(
        &self,
        machine: &Machine,
        request: &StepRequest,
        plan: &StepPlan,
        refusal: &Refusal,
    ) -> Vec<String> {
        let gpus = GpuNames::of_step(machine, request);
        let (step, policy) = (step_name(self.step), self.asked.settings.policy);
        let (tasks, advice) = (
            plan.tasks.len(),
            advise(machine, request, plan, self.launched_by(request)),
        );
        vec![
            words::step_refused_line(&step, self.host(), policy, tasks, refusal, gpus),
            self.of_step(words::advice_line(refusal, &advice, self.step.verb)),
        ]
    }

    /// Who started the tasks, for what may be advised.
    fn launched_by(&self, request: &StepRequest) -> LaunchedBy {
        match self.step.kind {
            StepKind::Ordinary => {
                let tasks = request.tasks.iter();
                let seen: BTreeSet<PciAddress> = tasks
                    .flat_map(|task| task.visible.iter().copied())
                    .collect();
                let has_unseen_gpus = seen.len() < self.step.gpus();
                LaunchedBy::Srun { has_unseen_gpus }
            }
            StepKind::Script => LaunchedBy::Shell {
                tasks: self.step.script_tasks,
            },
        }
    }

    /// `line`, with the step's name where several steps may speak on one terminal.
    fn of_step(&self, line: String) -> String {
        if self.step.is_one_of_several {
            words::on_host(self.label(), &line)
        } else {
            line
        }
    }

    /// A host without GPUs: one line when asked for detail.
    pub(crate) fn no_gpu(&self) {
        if self.is_verbose() {
            self.trouble(&words::no_gpu_in_step(self.label()));
        }
    }

    /// Whether this is a script's shell, whose tasks srun starts: there are several, or the shell is a person's.
    fn is_shell_of_steps(&self) -> bool {
        let is_shell = self.step.kind == StepKind::Script
            && (self.step.script_tasks > 1 || self.step.id == sys::STEP_INTERACTIVE);
        is_shell && !self.is_verbose()
    }

    /// What a task says of a plan in which none has a GPU.
    fn of_no_gpus(&self, speaks: bool) -> Vec<String> {
        let line = speaks.then(|| self.no_gpu_seen());
        line.flatten().into_iter().collect()
    }

    /// No task sees a GPU: said where the step should have some, and else when asked for detail.
    fn no_gpu_seen(&self) -> Option<String> {
        let detail = || {
            self.is_verbose()
                .then(|| words::no_gpu_in_step(self.label()))
        };
        self.unseen_gpus().or_else(detail)
    }

    /// Whether a strict policy refuses the step because no GPU is seen that Slurm gave it.
    pub(crate) fn refuses_unseen_gpus(&self) -> bool {
        let policy = self.asked.settings.policy;
        self.step.has_gpus && policy.is_strict() && self.step.may_refuse
    }

    /// That the step has GPUs by Slurm and none that is seen here; none where it has none.
    pub(crate) fn unseen_gpus(&self) -> Option<String> {
        let (step, policy) = (step_name(self.step), self.asked.settings.policy);
        let refused = self.refuses_unseen_gpus();
        self.step.has_gpus.then(|| {
            let refused = refused.then_some((step.as_str(), policy));
            words::unseen_gpus_line(self.host(), self.maker_left_alone(), refused)
        })
    }

    /// Whose the host's GPUs are, where those are not bound at launch; none where it has others beside them.
    fn maker_left_alone(&self) -> Option<&'static str> {
        let bind = self.step.bind.as_ref()?;
        let gpus = &bind.host.as_ref().ok()?.machine.gpus;
        let is_alone = gpus.iter().all(|gpu| !gpu.is_bound_at_launch());
        let maker = gpus.first()?.maker()?;
        is_alone.then_some(maker.name)
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
        nics: Option<&NicDocument>,
        speaks: bool,
    ) -> Vec<String> {
        if !has_gpus(plan) {
            return self.of_no_gpus(speaks);
        }
        let gpus = GpuNames::of_step(machine, request);
        let mut lines = Vec::new();
        if self.is_verbose() {
            let line = words::task_line_with_nics(self.label(), own, gpus, nics, Voice::Step);
            lines.push(line);
        }
        // A shell that starts its tasks by srun: each of those steps speaks for itself.
        if !speaks || self.is_shell_of_steps() {
            return lines;
        }
        if self.asked.settings.report == Verbosity::Line {
            let summary = summarize(machine, request, plan);
            lines.push(words::summary_line(self.label(), &summary));
        }
        self.add_trouble(&mut lines, plan, gpus);
        self.add_advice(&mut lines, machine, request, plan, gpus);
        lines
    }

    /// The same for a task whose neighbours are not known; `plan` is its own.
    pub(crate) fn outcome_alone(
        &self,
        machine: &Machine,
        request: &StepRequest,
        plan: &StepPlan,
        nics: Option<&NicDocument>,
        speaks: bool,
    ) -> Vec<String> {
        if !has_gpus(plan) {
            return self.of_no_gpus(speaks);
        }
        let gpus = GpuNames::of_step(machine, request);
        let mut lines = Vec::new();
        if self.is_verbose() {
            let line = |own| words::task_line_with_nics(self.label(), own, gpus, nics, Voice::Step);
            lines.extend(plan.tasks.iter().map(line));
        }
        if speaks && self.asked.settings.report != Verbosity::Quiet {
            lines.push(words::alone_line(self.label()));
        }
        self.add_trouble(&mut lines, plan, gpus);
        if speaks {
            self.add_advice(&mut lines, machine, request, plan, gpus);
        }
        lines
    }

    /// Tasks that are not as local as they could be, unless each says so itself.
    fn add_trouble(&self, lines: &mut Vec<String>, plan: &StepPlan, gpus: GpuNames<'_>) {
        if self.is_verbose() {
            return;
        }
        let troubled: Vec<&TaskPlan> = plan.tasks.iter().filter(|task| task.is_trouble).collect();
        let told = troubled.iter().take(MOST_TROUBLED);
        lines.extend(told.map(|task| words::task_line(self.label(), task, gpus, Voice::Step)));
        let more = troubled.len().saturating_sub(MOST_TROUBLED);
        lines.extend((more > 0).then(|| words::more_trouble_line(self.label(), more)));
    }

    /// What would fit better.
    fn add_advice(
        &self,
        lines: &mut Vec<String>,
        machine: &Machine,
        request: &StepRequest,
        plan: &StepPlan,
        gpus: GpuNames<'_>,
    ) {
        let host = self.label();
        let advice = advise(machine, request, plan, self.launched_by(request));
        let near = words::near_cpus_advice(&advice, self.step.verb);
        lines.extend(near.map(|line| self.of_step(line)));
        // A script that starts one worker per GPU by srun is not the one that spans.
        let spanning = find_spanning(machine, plan).filter(|_| self.step.script_tasks == 1);
        lines.extend(spanning.map(|spanning| words::spanning_line(host, &spanning)));
        let link = find_socket_link(machine, plan, self.step.hosts);
        lines.extend(link.map(|link| words::socket_link_line(host, &link, gpus)));
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
