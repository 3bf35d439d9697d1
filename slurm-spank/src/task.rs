//! One task: finds its GPUs and CPUs, meets its neighbours, does what one of them decided for all, reports or refuses.

use std::cell::OnceCell;

use ffi::linux::process::exit_now;
use ffi::linux::shared::SharedWords;
use ffi::spank::Spank;
use launch::apply::{Refused, apply, to_set};
use launch::environment::{BindReport, PROFILER, TOPO_FILE, device_order, nics_in, set_marked};
use launch::frameworks;
use launch::host::SnapshotFault;
use launch::nccl::{Answered, WantedFiles};
use launch::nics::{UCX_DEVICES, ucx_devices};
use launch::observe::{self, Came};
use launch::shared::page::{Meeting, Order, Page};
use launch::variables::{Environment as _, Recorded};
use topology::binding::{StepPlan, StepRequest, TaskPlan, TaskRequest, plan_alone, plan_step};
use topology::machine::Machine;
use topology::names::GpuNames;
use topology::nics::{NicDocument, NicShare, nics_of_plan};
use topology::option::{Nic, Policy};
use topology::set::CpuSet;
use topology::words;

use crate::metrics;
use crate::report::{Reporter, say, step_name};
use crate::step::{Bind, Step, StepKind};
use crate::summary;

/// Runs in a task of `step`, after all of Slurm's own binding and before exec.
pub(crate) fn run_in(
    spank: &Spank<'_>,
    step: &Step,
    came: &Came,
    environment: &Recorded<'_, Spank<'_>>,
) {
    let local_id = spank
        .local_id()
        .and_then(|id| usize::try_from(id).ok())
        .unwrap_or(0);
    metrics::start();
    bind_task(spank, step, came, environment, local_id);
    metrics::finish(local_id);
}

fn bind_task(
    spank: &Spank<'_>,
    step: &Step,
    came: &Came,
    environment: &Recorded<'_, Spank<'_>>,
    local_id: usize,
) {
    step.marks.clear(environment);
    let Some(bind) = &step.bind else {
        if let Some(policy) = step.lost_policy.filter(|_| local_id == 0) {
            say(&words::policy_turned_off(&step.name_here(spank), policy));
        }
        return;
    };
    let report = Reporter::new(step, &bind.asked, spank, local_id);
    let host = match &bind.host {
        Ok(host) => host,
        Err(why) => {
            report.unknown_host(why);
            refuse_unseen(&report, local_id);
            metrics::decide_unseen(local_id, step.has_gpus);
            return;
        }
    };
    if host.machine.gpus.is_empty() {
        report.no_gpu();
        refuse_unseen(&report, local_id);
        metrics::decide_unseen(local_id, step.has_gpus);
        return;
    }
    let task = Task {
        spank,
        environment,
        step,
        came,
        bind,
        machine: &host.machine,
        local_id,
        report,
        answered: Answered::in_task(spank),
    };
    let is_script = step.kind == StepKind::Script;
    let step_list = step.gpu_list.as_deref();
    let (request, remark) = observe::read_task(
        &host.machine,
        &host.devices,
        spank,
        came,
        step_list,
        is_script,
    );
    let (order, decision) = task.decide(request);
    if let Some(remark) = remark {
        task.report.trouble_of_task(&remark);
    }
    let binds = bind.asked.settings.policy != Policy::None;
    if binds && host.machine.has_nccl_gpus() && bind.files.lacks_log(bind.asked.settings.nccl) {
        task.report.no_profiler();
    }
    // One that is stale is root's to renew; slurmd's log has it (`read_step`).
    let is_users = |fault: &&SnapshotFault| fault.is_defect() && !fault.is_stale();
    if let Some(fault) = host.fault.as_ref().filter(is_users) {
        task.report.unusable_snapshot(fault);
    }
    if decision.as_ref().is_some_and(|decision| decision.is_alone) {
        task.heed_refusals(&order);
    }
    if order.is_refused {
        tell(&order);
        end_refused(local_id);
    }
    task.carry_out(order, decision);
}

/// Says that the step has GPUs which nobody sees here, where it has; ends the task under a strict policy.
fn refuse_unseen(report: &Reporter<'_>, local_id: usize) {
    if let Some(line) = report.unseen_gpus() {
        report.trouble(&line);
    }
    if report.refuses_unseen_gpus() {
        end_refused(local_id);
    }
}

/// Ends the task of a refused step.
fn end_refused(local_id: usize) -> ! {
    metrics::refuse(local_id);
    exit_now(1)
}

/// What was decided, and what follows from it for all tasks alike.
struct Decision<'m> {
    plan: StepPlan,
    request: StepRequest,
    /// What its users are told of the GPUs by.
    gpus: GpuNames<'m>,
    /// Whether any of the tasks has a GPU.
    has_gpus: bool,
    wanted: WantedFiles,
    /// The NICs of each task of the plan, in its order, once somebody asks.
    nics: OnceCell<Vec<NicShare>>,
    /// The neighbours are not known, so it is for one task alone.
    is_alone: bool,
}

impl Decision<'_> {
    /// The NICs of a task.
    fn nics(&self, machine: &Machine, task: usize) -> Option<&NicShare> {
        let all = self.nics.get_or_init(|| nics_of_plan(machine, &self.plan));
        all.get(self.place_of(task)?)
    }

    /// The plan of a task.
    fn of(&self, task: usize) -> Option<&TaskPlan> {
        self.plan.tasks.get(self.place_of(task)?)
    }

    /// Where the plan has a task: at its number, but of a task alone.
    fn place_of(&self, task: usize) -> Option<usize> {
        let tasks = &self.plan.tasks;
        let is_at = |place: &usize| tasks.get(*place).is_some_and(|plan| plan.task == task);
        let at_number = Some(task).filter(is_at);
        at_number.or_else(|| tasks.iter().position(|plan| plan.task == task))
    }
}

struct Task<'a> {
    spank: &'a Spank<'a>,
    environment: &'a Recorded<'a, Spank<'a>>,
    step: &'a Step,
    came: &'a Came,
    bind: &'a Bind,
    machine: &'a Machine,
    local_id: usize,
    report: Reporter<'a>,
    answered: Answered<'a, Spank<'a>>,
}

/// Says an order's lines.
fn tell(order: &Order) {
    order.lines.lines().for_each(say);
}

impl<'a> Task<'a> {
    /// Decides, with all tasks of this host where they are all there; gives the decision too where it was made here.
    fn decide(&self, request: TaskRequest) -> (Order, Option<Decision<'a>>) {
        let Some(page) = &self.step.page else {
            return self.decide_alone(request);
        };
        let prepared = self.step.prepared_micros;
        match page.meet(self.local_id, &request, self.machine, prepared) {
            Meeting::Decides(decider) => {
                let decision = self.decide_together(page, self.came);
                let orders: Vec<Order> = decision
                    .plan
                    .tasks
                    .iter()
                    .map(|own| self.order(&decision, own, own.task == 0))
                    .collect();
                decider.publish(&orders);
                let own = orders.into_iter().nth(self.local_id);
                (own.unwrap_or_default(), Some(decision))
            }
            Meeting::Ordered => match page.order(self.local_id) {
                Some(order) => (order, None),
                None => self.decide_for_itself(page),
            },
            Meeting::Known => self.decide_for_itself(page),
            Meeting::Apart => self.decide_alone(request),
        }
    }

    /// The decision for all, on what they told, by a task that now has what `has` says.
    fn decide_together(&self, page: &Page<SharedWords>, has: &Came) -> Decision<'a> {
        let tasks = page.read(self.machine);
        let masks: Vec<CpuSet> = tasks
            .iter()
            .filter_map(|task| task.slurm_cpus.clone())
            .collect();
        let request = self.step_request(tasks, &masks, has);
        let plan = plan_step(self.machine, &request);
        self.decision(plan, request, false)
    }

    /// As all others do by themselves, on what all told.
    fn decide_for_itself(&self, page: &Page<SharedWords>) -> (Order, Option<Decision<'a>>) {
        let decision = self.decide_together(page, self.came);
        let order = self.own_order(&decision, self.local_id == 0);
        (order, Some(decision))
    }

    /// For this task alone: the only one here, or one whose neighbours are not known.
    fn decide_alone(&self, request: TaskRequest) -> (Order, Option<Decision<'a>>) {
        let masks = observe::known_masks(self.spank, &request);
        let request = self.step_request(vec![request], &masks, self.came);
        let is_alone = self.step.tasks != 1;
        let plan = if is_alone {
            plan_alone(self.machine, &request, self.local_id)
        } else {
            plan_step(self.machine, &request)
        };
        let decision = self.decision(plan, request, is_alone);
        // A refusal is each one's own, until the first has told the others.
        let speaks = match &self.step.page {
            _ if decision.plan.refusal.is_some() => true,
            Some(page) => page.may_speak(),
            None => self.local_id == 0,
        };
        let order = self.own_order(&decision, speaks);
        (order, Some(decision))
    }

    /// The request of a task that now has what `has` says.
    fn step_request(&self, tasks: Vec<TaskRequest>, masks: &[CpuSet], has: &Came) -> StepRequest {
        let found = observe::step_cpus(self.machine, masks, has, self.step.cores.as_ref());
        StepRequest {
            settings: self.bind.asked.settings,
            step_cpus: found.cpus,
            owns_cpus: found.is_owned,
            asked: self.step.cpus_asked,
            tasks,
            kernel: self.step.kernel,
            allowed_nodes: observe::allowed_nodes(),
            may_refuse: self.step.may_refuse,
        }
    }

    fn decision(&self, plan: StepPlan, request: StepRequest, is_alone: bool) -> Decision<'a> {
        let settings = &self.bind.asked.settings;
        let has_gpus = plan.tasks.iter().any(|task| !task.gpus.is_empty());
        let sets = has_gpus && plan.refusal.is_none() && settings.policy != Policy::None;
        let files = &self.bind.files;
        let wanted = || files.wanted(settings.nccl, self.machine, &plan, &self.answered);
        Decision {
            wanted: sets.then(wanted).unwrap_or_default(),
            plan,
            gpus: GpuNames::of_step(self.machine, &request),
            request,
            has_gpus,
            nics: OnceCell::new(),
            is_alone,
        }
    }

    fn own_order(&self, decision: &Decision<'_>, speaks: bool) -> Order {
        let own = decision.of(self.local_id);
        own.map(|own| self.order(decision, own, speaks))
            .unwrap_or_default()
    }

    /// What a task is to do by the decision; one that speaks says what concerns all.
    fn order(&self, decision: &Decision<'_>, own: &TaskPlan, speaks: bool) -> Order {
        let plan = &decision.plan;
        if metrics::is_on() {
            let nic = decision.nics(self.machine, own.task);
            let path = nic.and_then(|nic| nic.path);
            metrics::decide(self.bind.asked.settings.policy, own, path);
        }
        if let Some(refusal) = &plan.refusal {
            let lines = speaks.then(|| {
                self.report
                    .refusal(self.machine, &decision.request, plan, refusal)
            });
            return Order {
                is_refused: true,
                lines: lines.unwrap_or_default().join("\n"),
                ..Order::default()
            };
        }
        if !decision.has_gpus && self.report.refuses_unseen_gpus() {
            let lines = speaks.then(|| self.report.unseen_gpus());
            return Order {
                is_refused: true,
                lines: lines.flatten().unwrap_or_default(),
                ..Order::default()
            };
        }
        let (cpus, memory) = to_set(self.bind.asked.settings.policy, own);
        let (machine, request) = (self.machine, &decision.request);
        let nics = self.nics(decision, own);
        let lines = if decision.is_alone {
            self.report
                .outcome_alone(machine, request, plan, nics.as_ref(), speaks)
        } else {
            self.report
                .outcome(machine, request, plan, own, nics.as_ref(), speaks)
        };
        Order {
            is_refused: false,
            cpus: cpus.cloned(),
            memory: memory.map(|(policy, nodes)| (policy, nodes.clone())),
            sets_topology: decision.wanted.topology,
            sets_profiler: decision.wanted.profiler,
            keeps_still: frameworks::is_settled(self.bind.asked.settings.frameworks, own),
            lines: lines.join("\n"),
            report: self.bind_report(decision, own, nics.as_ref()),
        }
    }

    /// The report of a task; empty where its environment is left as it is.
    fn bind_report(
        &self,
        decision: &Decision<'_>,
        own: &TaskPlan,
        nics: Option<&NicDocument>,
    ) -> String {
        if !decision.has_gpus || self.bind.asked.settings.policy == Policy::None {
            return String::new();
        }
        let step = step_name(self.step);
        BindReport::new(
            self.report.host(),
            self.step.job,
            &step,
            own,
            decision.gpus,
            nics,
        )
        .to_json()
    }

    /// The NICs of a task with GPUs, as they are reported; none where the user wants to hear of none.
    fn nics(&self, decision: &Decision<'_>, own: &TaskPlan) -> Option<NicDocument> {
        let is_wanted = self.bind.asked.settings.nic != Nic::Off && !own.gpus.is_empty();
        let share = is_wanted.then(|| decision.nics(self.machine, own.task));
        Some(NicDocument::new(self.machine, share.flatten()?))
    }

    /// Of tasks that plan alone the first that refuses says so, and all go.
    fn heed_refusals(&self, order: &Order) {
        let Some(page) = &self.step.page else { return };
        if order.is_refused && page.refuse() {
            tell(order);
        }
        if page.is_refused() {
            end_refused(self.local_id);
        }
    }

    /// Sets what the order says.  What the kernel refuses is said, and stays as it was.
    fn carry_out(&self, mut order: Order, decision: Option<Decision<'a>>) {
        let memory = order.memory.as_ref();
        let memory = memory.map(|(policy, nodes)| (*policy, nodes));
        let refused = apply(order.cpus.as_ref(), memory);
        metrics::note(&refused);
        if let (Some(error), Some(cpus)) = (&refused.cpus, &order.cpus) {
            self.report.cpus_refused(cpus, error);
        }
        if let (Some(error), Some((_, nodes))) = (&refused.memory, &order.memory) {
            self.report.memory_refused(nodes, error);
        }
        if refused != Refused::default() && !order.report.is_empty() {
            let page = self.step.page.as_ref();
            // Not with the mask that it came with, which may be gone.
            let again = || Some(self.decide_together(page?, &Came::read()));
            let decision = decision.or_else(again);
            if let Some(decision) = &decision
                && let Some(own) = decision.of(self.local_id)
            {
                let nics = self.nics(decision, own);
                order.report = self.bind_report(decision, &refused.took(own), nics.as_ref());
            }
        }
        self.set_environment(&order);
        summary::hand_down(self.environment);
        tell(&order);
    }

    /// What UCX is told of the task's NICs, under `nic=on` and where the user has not told it.
    fn ucx_devices(&self, order: &Order) -> Option<String> {
        let is_wanted = self.bind.asked.settings.nic == Nic::On && !self.spank.has(UCX_DEVICES);
        is_wanted
            .then(|| ucx_devices(self.machine, &nics_in(&order.report)))
            .flatten()
    }

    /// Sets the variables of a bound task.
    fn set_environment(&self, order: &Order) {
        if order.report.is_empty() {
            return;
        }
        let mut variables = Vec::with_capacity(8);
        variables.extend(device_order(self.machine, self.spank));
        if order.keeps_still {
            // One by one: in an `extend` all would have to be as long-lived as these.
            for variable in frameworks::keep_still(self.spank) {
                variables.push(variable);
            }
        }
        let devices = self.ucx_devices(order);
        variables.extend(devices.as_deref().map(|devices| (UCX_DEVICES, devices)));
        let answered = &self.answered;
        let files = &self.bind.files;
        let named = [
            (order.sets_topology, TOPO_FILE, &files.topology),
            (order.sets_profiler, PROFILER, &files.profiler),
        ];
        for (is_wanted, name, file) in named {
            if is_wanted
                && let Some(file) = file
                && !answered.names(name)
            {
                variables.push((name, file.path()));
            }
        }
        if let Some(why) = answered.unread() {
            self.report.unread_conf(why);
        }
        set_marked(self.environment, &variables, &order.report);
    }
}
