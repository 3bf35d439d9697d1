//! One task: finds its GPUs and CPUs, decides with its neighbours, applies, reports or refuses.

use std::ffi::CString;

use ffi::linux::access::{Access, read_access};
use ffi::linux::mempolicy::Mode;
use ffi::linux::{affinity, mempolicy};
use ffi::spank::Spank;
use topology::allowed::{StepView, find_step_cpus, parse_mask_list};
use topology::binding::{
    MemoryPlan, StepPlan, StepRequest, TaskPlan, TaskRequest, plan_alone, plan_step,
};
use topology::machine::Machine;
use topology::option::Policy;
use topology::set::{CpuSet, NodeSet};
use topology::visible::{TaskView, find_visible};

use crate::environment;
use crate::option::{Asked, config};
use crate::page::Page;
use crate::report::Report;
use crate::snapshot::Remark;
use crate::step::{self, Step, StepKind};

/// Runs in the task, after all of Slurm's own binding and before exec.
pub(crate) fn run(spank: &Spank<'_>) {
    let Some(step) = step::current() else { return };
    let local_id = spank
        .local_id()
        .and_then(|id| usize::try_from(id).ok())
        .unwrap_or(0);
    environment::clear_marks(spank, &step.marks);
    let Some(asked) = &step.asked else { return };
    let report = Report::new(step, asked, step.name_here(spank), local_id);
    let host = match &step.host {
        Ok(host) => host,
        Err(why) => {
            report.trouble(&format!("{}: {why}; left as Slurm made it", report.host));
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
    let (request, remark) = task.read_request();
    let (plan, step_request) = task.decide(request);
    if let Some(remark) = remark {
        task.report.trouble_of_task(local_id, &remark);
    }
    if let Some(remark @ Remark::Unusable(_)) = &host.remark {
        task.report
            .trouble(&format!("{}: {remark}", task.report.host));
    }
    let page = step.page.as_ref();
    if page.is_some_and(Page::is_refused) {
        // A neighbour that planned alone refused the step, and said so.
        ffi::linux::process::exit_now(1);
    }
    if let Some(refusal) = &plan.refusal {
        task.report.refusal(refusal, &plan);
        if let Some(page) = page.filter(|_| task.report.is_alone()) {
            page.refuse();
        }
        ffi::linux::process::exit_now(1);
    }
    let Some(own) = plan.tasks.iter().find(|own| own.task == local_id) else {
        return;
    };
    let own = task.apply(own);
    environment::set(spank, step, asked, host, &task.report.host, &plan, &own);
    task.report.outcome(&host.machine, &step_request, &plan);
}

struct Task<'a> {
    spank: &'a Spank<'a>,
    step: &'a Step,
    asked: &'a Asked,
    machine: &'a Machine,
    local_id: usize,
    report: Report<'a>,
}

impl Task<'_> {
    /// What this task has: its GPUs, Slurm's mask, what the user bound himself; and what was odd.
    fn read_request(&self) -> (TaskRequest, Option<String>) {
        let visible = find_visible(self.machine, &self.read_view());
        let ordinary = self.step.kind == StepKind::Ordinary;
        let bind_type = self.spank.env("SLURM_CPU_BIND_TYPE").unwrap_or_default();
        let user_cpu_bind =
            ordinary && (bind_type.contains("none") || bind_type.contains("map_cpu"));
        let user_mem_bind = mempolicy::read_policy()
            .is_ok_and(|(mode, _)| !matches!(mode, Mode::Default | Mode::Local));
        let mask = affinity::read_affinity(0).map(|words| CpuSet::from_words(&words));
        let request = TaskRequest {
            visible: visible.gpus,
            slurm_cpus: mask.ok(),
            user_cpu_bind,
            user_mem_bind,
        };
        (request, visible.remark)
    }

    fn read_view(&self) -> TaskView {
        let openable = self
            .machine
            .gpus
            .iter()
            .filter(|gpu| gpu.minor.is_some_and(may_open))
            .map(|gpu| gpu.pci)
            .collect();
        TaskView {
            openable,
            cuda_visible: self.spank.env("CUDA_VISIBLE_DEVICES"),
            cuda_order: self.spank.env("CUDA_DEVICE_ORDER"),
            step_list: self.step.gpu_list.clone(),
            on_host: self.spank.env("SLURM_GPUS_ON_NODE"),
        }
    }

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
        let mut masks = parse_mask_list(&self.spank.env("SLURM_CPU_BIND_LIST").unwrap_or_default());
        masks.extend(request.slurm_cpus.clone());
        let step = self.step_request(vec![request], &masks);
        if self.step.tasks == 1 {
            return (plan_step(self.machine, &step), step);
        }
        self.report.alone();
        (plan_alone(self.machine, &step, self.local_id), step)
    }

    fn step_request(&self, tasks: Vec<TaskRequest>, masks: &[CpuSet]) -> StepRequest {
        // Where a filter forbids to ask for the cpuset, what Slurm gave the tasks is all that is known of it.
        let given = || {
            let none = CpuSet::default();
            masks.iter().fold(none, |all, mask| all.union(mask))
        };
        let cpuset = affinity::read_cpuset().map(|words| CpuSet::from_words(&words));
        let view = StepView {
            cpuset: cpuset.unwrap_or_else(|_| given()),
            masks,
            core_count: self.step.core_count,
        };
        StepRequest {
            settings: self.asked.settings,
            step_cpus: find_step_cpus(self.machine, &view),
            asked: self.step.cpus_asked,
            tasks,
            kernel: self.step.kernel,
            allowed_nodes: read_allowed_nodes(),
            may_refuse: self.step.kind == StepKind::Ordinary || config().strict_batch,
        }
    }

    /// Sets affinity and memory policy; what the kernel refuses is said, and stays as it was.
    fn apply(&self, plan: &TaskPlan) -> TaskPlan {
        let mut done = plan.clone();
        if self.asked.settings.policy == Policy::None {
            return done;
        }
        if plan.bind_cpus
            && let Err(error) = affinity::apply_affinity(0, plan.cpus.words())
        {
            let line = format!(
                "CPUs {} refused by the kernel ({error}); left as Slurm made it",
                plan.cpus
            );
            self.report.trouble_of_task(self.local_id, &line);
            done.bind_cpus = false;
        }
        if plan.bind_memory
            && let Err(error) = mempolicy::apply_policy(
                Mode::of(plan.memory.policy.number()),
                plan.memory.nodes.words(),
            )
        {
            let line = format!(
                "memory on node {} refused by the kernel ({error}); left as Slurm made it",
                plan.memory.nodes
            );
            self.report.trouble_of_task(self.local_id, &line);
            done.memory = MemoryPlan::unchanged();
        }
        done
    }
}

/// Asks the kernel, through the device cgroup, without opening anything.
fn may_open(minor: u32) -> bool {
    CString::new(format!("/dev/nvidia{minor}"))
        .is_ok_and(|device| read_access(&device) == Access::Allowed)
}

/// `Mems_allowed_list` of the own process; absent where it cannot be read.
fn read_allowed_nodes() -> Option<NodeSet> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Mems_allowed_list:"))?;
    list.parse().ok()
}
