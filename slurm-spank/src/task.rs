//! One task: finds its GPUs and CPUs, decides with its neighbours, applies, reports or refuses.

use ffi::linux::process::exit_now;
use ffi::spank::Spank;
use launch::apply::apply_plan;
use launch::environment::{BindReport, PROFILER, TOPO_FILE, device_order, set_marked};
use launch::host::{KnownHost, Trust};
use launch::nccl::{Answered, profiler_file, topology_file};
use launch::observe;
use launch::shared::page::Page;
use launch::site::Asked;
use topology::binding::{StepPlan, StepRequest, TaskPlan, TaskRequest, plan_alone, plan_step};
use topology::machine::Machine;
use topology::option::{Nccl, Policy};
use topology::set::CpuSet;

use crate::report::{Reporter, step_name};
use crate::step::{self, Step, StepKind};

/// Runs in the task, after all of Slurm's own binding and before exec.
pub(crate) fn run(spank: &Spank<'_>) {
    if let Some(step) = step::current() {
        run_in(spank, step);
    }
}

/// Runs in a task of `step`.
pub(crate) fn run_in(spank: &Spank<'_>, step: &Step) {
    let local_id = spank
        .local_id()
        .and_then(|id| usize::try_from(id).ok())
        .unwrap_or(0);
    step.marks.clear(spank);
    let Some(bind) = &step.bind else { return };
    let asked = &bind.asked;
    let report = Reporter::new(step, asked, step.name_here(spank), local_id);
    let host = match &bind.host {
        Ok(host) => host,
        Err(why) => {
            report.unknown_host(why);
            return;
        }
    };
    if host.machine.gpus.is_empty() {
        report.no_gpu();
        return;
    }
    let mut task = Task {
        spank,
        step,
        asked,
        machine: &host.machine,
        local_id,
        report,
    };
    let is_script = step.kind == StepKind::Script;
    let step_list = step.gpu_list.as_deref();
    let (request, remark) = observe::read_task(&host.machine, spank, step_list, is_script);
    let (plan, step_request) = task.decide(request);
    if let Some(remark) = remark {
        task.report.trouble_of_task(&remark);
    }
    if let Some(fault) = host.fault.as_ref().filter(|fault| fault.is_defect()) {
        task.report.unusable_snapshot(fault);
    }
    let page = step.page.as_ref();
    if page.is_some_and(Page::is_refused) {
        // A neighbour that planned alone refused the step, and said so.
        exit_now(1);
    }
    if let Some(refusal) = &plan.refusal {
        task.report.refusal(refusal, &plan);
        if let Some(page) = page.filter(|_| task.report.is_alone()) {
            page.refuse();
        }
        exit_now(1);
    }
    let Some(own) = plan.tasks.iter().find(|own| own.task == local_id) else {
        return;
    };
    let own = task.apply(own);
    task.set_environment(host, &plan, &own);
    task.report.outcome(&host.machine, &step_request, &plan);
}

struct Task<'a> {
    spank: &'a Spank<'a>,
    step: &'a Step,
    asked: &'a Asked,
    machine: &'a Machine,
    local_id: usize,
    report: Reporter<'a>,
}

impl Task<'_> {
    /// Decides, with all tasks of this host where they are all there.
    fn decide(&mut self, request: TaskRequest) -> (StepPlan, StepRequest) {
        let together = self.step.page.as_ref().and_then(|page| {
            let is_in = page.publish(self.local_id, &request, self.machine);
            (is_in && page.wait(self.step.prepared_micros)).then(|| page.read(self.machine))
        });
        if let Some(tasks) = together {
            let masks: Vec<CpuSet> = tasks
                .iter()
                .filter_map(|task| task.slurm_cpus.clone())
                .collect();
            let step = self.step_request(tasks, &masks);
            return (plan_step(self.machine, &step), step);
        }
        let masks = observe::known_masks(self.spank, &request);
        let step = self.step_request(vec![request], &masks);
        if self.step.tasks == 1 {
            return (plan_step(self.machine, &step), step);
        }
        self.report.alone();
        (plan_alone(self.machine, &step, self.local_id), step)
    }

    fn step_request(&self, tasks: Vec<TaskRequest>, masks: &[CpuSet]) -> StepRequest {
        let found = observe::step_cpus(self.machine, masks, self.step.cores.as_ref());
        StepRequest {
            settings: self.asked.settings,
            step_cpus: found.cpus,
            owns_cpus: found.is_owned,
            asked: self.step.cpus_asked,
            tasks,
            kernel: self.step.kernel,
            allowed_nodes: observe::allowed_nodes(),
            may_refuse: self.step.may_refuse,
        }
    }

    /// Sets affinity and memory policy; what the kernel refuses is said, and stays as it was.
    fn apply(&self, plan: &TaskPlan) -> TaskPlan {
        let refused = apply_plan(self.asked.settings.policy, plan);
        if let Some(error) = refused.cpus {
            self.report.cpus_refused(&plan.cpus, &error);
        }
        if let Some(error) = refused.memory {
            self.report.memory_refused(&plan.memory.nodes, &error);
        }
        refused.took(plan)
    }

    /// Sets the variables of a bound task.
    fn set_environment(&self, host: &KnownHost, plan: &StepPlan, own: &TaskPlan) {
        let has_gpus = plan.tasks.iter().any(|task| !task.gpus.is_empty());
        if !has_gpus || self.asked.settings.policy == Policy::None {
            return;
        }
        let mut variables = Vec::new();
        let order = device_order(&host.machine, self.spank);
        variables.extend(order.map(|(name, value)| (name, value.to_owned())));
        let answered = Answered::in_task(self.spank);
        let text = |file: std::path::PathBuf| file.to_string_lossy().into_owned();
        if let Some(file) = self.topology_file(host)
            && !answered.topology()
        {
            variables.push((TOPO_FILE, text(file)));
        }
        if let Some(file) = profiler_file(self.asked.settings.nccl, self.machine, plan)
            && !answered.names(PROFILER)
        {
            variables.push((PROFILER, text(file)));
        }
        let step = step_name(self.step);
        let report = BindReport::new(&self.report.host, self.step.job, &step, own);
        set_marked(self.spank, &variables, &report);
    }

    /// The file that fits this job, where there is one and it may be used.
    fn topology_file(&self, host: &KnownHost) -> Option<std::path::PathBuf> {
        if self.asked.settings.nccl == Nccl::Off {
            return None;
        }
        let despite_efa = self.asked.site_nccl == Some(Nccl::Topo);
        let folder = host.folder.as_ref()?;
        topology_file(
            self.machine,
            folder,
            self.step.hosts,
            despite_efa,
            Trust::Root,
        )
    }
}
