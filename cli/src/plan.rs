//! `gpu-numa plan`: what the plugin would do.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use launch::frameworks::Row;
use launch::observe;
use serde::Serialize;
use slurm_config::release::Release;
use slurm_config::rules::{Series, release_before};
use slurm_config::step::{Picked, Request, other_cpus_since};
use topology::allowed::parse_mask_list;
use topology::binding::{
    Advice, KernelVersion, LaunchedBy, StepPlan, StepRequest, TaskRequest, Verdict, advise,
    find_faster, find_socket_link, find_spanning, plan_step, summarize,
};
use topology::machine::{Gpu, Machine};
use topology::names::GpuNames;
use topology::nics::{NicDocument, nics_of_plan};
use topology::option::{Nic, Policy, Width, printable};
use topology::pci::PciAddress;
use topology::quantity::count;
use topology::set::CpuSet;
use topology::vendor::ListRules;
use topology::visible::{counted_order, runtime_numbers};
use topology::words::{self, TaskDocument, Verb, Voice};

use crate::assumed::{AssumedStep, CpusFrom, Near};
use crate::command::{
    CommandError, Format, From, Outcome, parse_cpus, parse_gpus, parse_release, shell_word,
};
use crate::compare::{Alone, StepCores, after, before};
use crate::flags::{FlagsDocument, Given};
use crate::hardware;
use crate::nics;
use crate::option::OptionItems;
use crate::out::{self, Out};
use crate::paper::Ink;
use crate::picture::{self, Picture};
use crate::run::read_visible;
use crate::usage::whole;

/// Plans a step.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa plan
  gpu-numa plan --tasks 4 --cpus-per-task 2 --option restricted
  gpu-numa plan --gpus 0,1 --gpus 2,3 --allowed 0-15
  gpu-numa plan --from topo.xml --gpus 0000:23:00.0 --json
  gpu-numa plan -n4 -c2 --exact
  gpu-numa plan -n4 -c2 --exact --svg plan.svg --compare
  vllm serve MODEL --tensor-parallel-size 4 $(gpu-numa plan --for vllm)
  torchrun $(gpu-numa plan --for torchrun) python train.py

Without --allowed, --mask or --exact the step has all CPUs of the host, as in a job with --exclusive; the first line \
says what is assumed.  The exit status is 1 when a strict policy would refuse the step, and 2 when srun would start no \
such step, because the tasks that --tasks or --cpus-per-task name ask for more CPUs than it has; where one task for each GPU is \
assumed, the first line says so instead.")]
pub(crate) struct Plan {
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    format: Format,
    /// Tasks on the host (default: GPUs divided by --gpus-per-task)
    #[arg(short = 'n', long, alias = "ntasks", value_name = "N", allow_negative_numbers = true, value_parser = whole(1..=4096))]
    tasks: Option<u32>,
    /// GPUs per task; tasks get consecutive GPUs in the order in which their vendor's programs count (CUDA's PCI order, KFD's for
    /// ROCm), starting again after the last
    #[arg(long, value_name = "K", default_value_t = 1,
          value_parser = whole(1..=64), conflicts_with = "gpus")]
    gpus_per_task: u32,
    /// The GPUs of one task, by PCI address or number; once per task, in order
    #[arg(long, value_name = "GPU,GPU")]
    gpus: Vec<String>,
    /// CPUs (threads) that each task asks for (default: 1)
    #[arg(short = 'c', long, value_name = "C", allow_negative_numbers = true, value_parser = whole(1..=65536))]
    cpus_per_task: Option<u32>,
    /// The CPUs that Slurm gives one task before it is bound, such as 0-1; once per task, in order (default: unknown).
    /// Masks as --cpu-bind=mask_cpu: takes them, such as 0xfe,0xfe00, are one task's each.  Without --allowed the step has the
    /// CPUs of all these
    #[arg(long, value_name = "LIST")]
    mask: Vec<String>,
    /// The step's CPUs, such as 0-3,8 (default: all that are online)
    #[arg(long, value_name = "LIST")]
    allowed: Option<String>,
    /// The step has only the CPUs that its tasks ask for, as srun -c and srun --exact give them: near its GPUs first, by
    /// Slurm's default distribution (block:cyclic), whole cores, which tasks share where each asks for fewer CPUs than a core
    /// has, of --allowed or of the host
    #[arg(long, conflicts_with = "mask")]
    exact: bool,
    /// The release of Slurm whose rules --exact follows, such as 24.11.7 (default: the newest); before 23.11 a step may have
    /// other cores where its tasks share some
    #[arg(long, value_name = "RELEASE", value_parser = parse_release, requires = "exact",
          conflicts_with = "mask")]
    slurm_release: Option<Release>,
    /// Plan also where the tasks ask for more CPUs than the step has, as srun --overcommit starts them
    #[arg(short = 'O', long)]
    overcommit: bool,
    #[command(flatten)]
    option: OptionItems,
    /// Plan for this Linux kernel release, which decides which memory policies exist
    #[arg(long, value_name = "RELEASE", default_value = "5.15")]
    kernel: String,
    /// Draw the machine with each task's colour as SVG into FILE; - is standard output
    #[arg(long, value_name = "FILE", value_parser = crate::usage::parse_svg,
          conflicts_with = "json")]
    svg: Option<PathBuf>,
    /// Draw the step twice, on the same CPUs: as Slurm gives them to tasks by itself, and bound. The former are the CPUs of
    /// --mask; without it those of Slurm's default distribution (block:cyclic) where the tasks ask for as many CPUs as the
    /// step has sockets, cores or threads (--exact), else all of them for each
    #[arg(long, requires = "svg", conflicts_with = "json")]
    compare: bool,
    /// Print the flags with which this launcher or engine binds one worker per GPU in the same way; without --gpus and
    /// --allowed, for the GPUs and CPUs that this process sees
    #[arg(long = "for", value_name = "NAME", ignore_case = true, value_parser = PossibleValuesParser::new(crate::flags::words()),
          conflicts_with_all = ["tasks", "gpus_per_task", "mask", "exact", "slurm_release", "svg", "compare"])]
    for_framework: Option<String>,
}

/// The JSON document.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PlanDocument<'a> {
    schema: &'static str,
    policy: Policy,
    width: Width,
    /// The step that is planned.
    step: &'a AssumedStep,
    tasks: Vec<TaskDocument<'a>>,
    /// The NICs that each task should use, the nearest to its GPUs.
    nics: Vec<TaskNics>,
    /// CPUs of the step that are faster than its others, the fastest first, each list with those before it; not there where all
    /// are alike, or the kernel does not say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faster_cpus: Vec<FasterDocument>,
}

/// Faster CPUs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FasterDocument {
    /// They.
    cpus: CpuSet,
    /// How many of them each task has, in the order of `tasks`.
    held: Vec<usize>,
}

/// Says of GPUs that tasks are not bound to at launch that the plan is that of `gpu-numa run` alone.
fn tell_unbound(machine: &Machine, plan: &StepPlan) {
    let gpus = plan.tasks.iter().flat_map(|task| &task.gpus);
    let mut gpus = gpus.filter_map(|pci| machine.gpu(*pci));
    let unbound = gpus.find(|gpu| !gpu.is_bound_at_launch());
    if let Some(maker) = unbound.and_then(Gpu::maker) {
        out::message(&format!(
            "tasks with {}'s GPUs are left as Slurm makes them: whether {} numbers GPUs or parts of them is not known at launch; \
             `gpu-numa run --gpus` binds as planned here",
            maker.name, maker.variables.visible
        ));
    }
}

/// The newest release of the table.
fn newest_release() -> Release {
    Series::newest().release()
}

/// Says which CPUs releases before the newest give the step, where these are others.
fn tell_releases(newest: &Picked, picked: impl Fn(Release) -> Picked) {
    let mut others = Vec::new();
    let mut since = None;
    let mut known = newest.clone();
    for first in other_cpus_since() {
        let before = picked(release_before(first));
        if before != known {
            since = since.or(Some(first));
            others.push(match before.missing {
                0 => format!("before {first} CPUs {}", before.cpus),
                more => format!(
                    "before {first} none: it is short of {}",
                    count(more, "core")
                ),
            });
        }
        known = before;
    }
    if let Some(since) = since {
        out::message(&format!(
            "the step's CPUs by the rules of Slurm since {since}; {} (--slurm-release)",
            others.join(", ")
        ));
    }
}

/// The NICs of a task.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct TaskNics {
    /// Local task id.
    task: usize,
    #[serde(flatten)]
    share: NicDocument,
}

impl Plan {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let argument = |name: &str, problem: &dyn std::fmt::Display| {
            CommandError::Argument(format!("{name}: {problem}"))
        };
        let settings = self.option.settings()?;
        let kernel: KernelVersion = self
            .kernel
            .parse()
            .map_err(|problem| argument("--kernel", &problem))?;
        let machine = self.from.read()?;
        let (own_cpus, cpus_from) = self.own_cpus(&machine)?;
        let mut tasks = self.tasks(&machine, &own_cpus)?;
        let mut assumed = AssumedStep {
            cpus: own_cpus,
            cpus_from,
            tasks: tasks.len(),
            cpus_per_task: self.cpus_per_task.unwrap_or(1),
            near: Near::Told,
        };
        self.check_size(&machine, &assumed)?;
        let alone = self.alone(&machine, &mut assumed, &tasks)?;
        if self.exact {
            for (task, mask) in tasks
                .iter_mut()
                .zip(alone.iter().flat_map(|alone| &alone.masks))
            {
                task.slurm_cpus = Some(mask.clone());
            }
        }
        let step = StepRequest {
            settings,
            step_cpus: assumed.cpus.clone(),
            asked: assumed.cpus_per_task,
            tasks,
            kernel,
            allowed_nodes: None,
            owns_cpus: true,
            may_refuse: true,
        };
        let plan = plan_step(&machine, &step);
        tell_unbound(&machine, &plan);
        let names = if self.from.is_this_machine() {
            hardware::names_here(&machine)
        } else {
            GpuNames::of_programs(&machine, true)
        };
        if let Some(row) = self.row()
            && plan.refusal.is_none()
        {
            let gpus = self.workers_gpus(&machine)?;
            let given = self.given(&machine, &gpus);
            return self.print_flags(
                out,
                &FlagsDocument::new(row, &machine, &step, &plan, &given),
            );
        }
        if let Some(path) = &self.svg {
            let alone = alone.as_ref().filter(|_| self.compare);
            out.file(path, &self.picture(&machine, &assumed, &plan, alone))?;
            // A picture alone leaves out what has no place in it.
            if path.as_os_str() != "-" {
                print(out, &machine, &assumed, &step, &plan, names)?;
            }
        } else if self.format.json {
            let plans = plan.tasks.iter();
            let tasks = plans.map(|task| TaskDocument::new(task, names, Voice::Step));
            out.json(&PlanDocument {
                schema: "gpu-numa/plan/1",
                policy: step.settings.policy,
                width: step.settings.width,
                step: &assumed,
                tasks: tasks.collect(),
                nics: plan
                    .tasks
                    .iter()
                    .zip(nics_of_plan(&machine, &plan))
                    .map(|(task, share)| TaskNics {
                        task: task.task,
                        share: NicDocument::new(&machine, &share),
                    })
                    .collect(),
                faster_cpus: find_faster(&machine, &step.step_cpus, &plan)
                    .into_iter()
                    .map(|faster| FasterDocument {
                        cpus: faster.cpus,
                        held: faster.held,
                    })
                    .collect(),
            })?;
        } else {
            print(out, &machine, &assumed, &step, &plan, names)?;
        }
        Ok(if plan.refusal.is_some() {
            Outcome::Wanting
        } else {
            Outcome::Done
        })
    }

    /// The step as Slurm alone runs it, where that is needed; with `--exact` its CPUs become those of `assumed`.
    fn alone(
        &self,
        machine: &Machine,
        assumed: &mut AssumedStep,
        tasks: &[TaskRequest],
    ) -> Result<Option<Alone>, CommandError> {
        if tasks.is_empty() || !(self.exact || self.compare) {
            return Ok(None);
        }
        let masks = tasks.iter().map(|task| task.slurm_cpus.clone());
        if let Some(masks) = masks.collect() {
            return Ok(Some(Alone::with_masks(masks)));
        }
        let request = Request {
            tasks: tasks.len(),
            cpus_per_task: assumed.cpus_per_task as usize,
        };
        if !self.exact {
            return Ok(Some(Alone::in_step(machine, &assumed.cpus, request)));
        }
        let gpus: Vec<PciAddress> = tasks.iter().flat_map(|task| task.visible.clone()).collect();
        let free = assumed.cpus.clone();
        let under = |release| Alone::in_own_step(machine, &free, &gpus, request, release);
        let release = self.slurm_release.unwrap_or_else(newest_release);
        let (alone, picked) = under(release);
        // Without --overcommit the tasks ask for no more CPUs than there are, but perhaps for more cores.
        if let Some(release) = self.slurm_release
            && picked.missing > 0
            && !self.overcommit
        {
            return Err(CommandError::Argument(format!(
                "--cpus-per-task {}: Slurm {release} gives each task whole cores, {} more than the {} of CPUs {free}, so srun would \
                 not start it (--overcommit plans it as srun --overcommit starts it)",
                assumed.cpus_per_task,
                count(picked.missing, "core"),
                count(
                    machine
                        .cores
                        .iter()
                        .filter(|core| core.intersects(&free))
                        .count(),
                    "core"
                ),
            )));
        }
        if self.slurm_release.is_none() {
            tell_releases(&picked, |release| under(release).1);
        }
        assumed.cpus = picked.cpus;
        assumed.cpus_from = CpusFrom::Exact;
        assumed.near = StepCores::new(machine, release).near(&gpus);
        Ok(Some(alone))
    }

    fn picture(
        &self,
        machine: &Machine,
        assumed: &AssumedStep,
        plan: &StepPlan,
        alone: Option<&Alone>,
    ) -> String {
        let words = assumed.note();
        let Some(alone) = alone else {
            let knows_unbound = self.exact || !self.mask.is_empty();
            return Picture::new(machine, &plan.tasks, knows_unbound)
                .with_note(&words)
                .draw();
        };
        let tasks = before(machine, plan, &alone.masks);
        let bound = after(plan, &alone.masks);
        picture::compare(
            machine,
            &words,
            (alone.heading, &tasks),
            ("--gpu-numa-bind", &bound),
        )
    }

    /// What `--for` names.
    fn row(&self) -> Option<&'static Row> {
        self.for_framework.as_deref().and_then(Row::by_word)
    }

    /// What was given, for what `--for` prints.
    fn given(&self, machine: &Machine, gpus: &[PciAddress]) -> Given {
        let mut of_run = Vec::new();
        for list in &self.gpus {
            of_run.extend(["--gpus".to_owned(), list.clone()]);
        }
        if let Some(cpus) = self.cpus_per_task.filter(|cpus| *cpus != 1) {
            of_run.extend(["--cpus-per-task".to_owned(), cpus.to_string()]);
        }
        of_run.extend(self.option.given());
        let name = self.for_framework.as_deref().unwrap_or_default();
        let mut again: Vec<String> = ["gpu-numa", "plan", "--for", name]
            .map(str::to_owned)
            .into();
        let from = self.from.path().map(|path| path.display().to_string());
        again.extend(
            from.into_iter()
                .flat_map(|path| ["--from".to_owned(), path]),
        );
        again.extend(of_run.iter().cloned());
        let allowed = self.allowed.iter();
        again.extend(allowed.flat_map(|list| ["--allowed".to_owned(), list.clone()]));
        Given {
            again: again
                .iter()
                .map(|word| shell_word(word))
                .collect::<Vec<_>>()
                .join(" "),
            of_run,
            before: format!("{}{}", self.choice(machine, gpus), self.taskset()),
        }
    }

    /// `CUDA_VISIBLE_DEVICES=1,3 ` where `--gpus` names others than the first that a program sees: worker k uses the k-th
    /// of these.  Numbers count among what it may open.
    fn choice(&self, machine: &Machine, gpus: &[PciAddress]) -> String {
        let maker = gpus.first().and_then(|gpu| machine.gpu(*gpu)?.maker());
        let maker = maker.unwrap_or(machine.launch_vendor());
        let openable: Vec<PciAddress> = if self.from.is_this_machine() {
            observe::parts_openable_by_process(machine)
        } else {
            counted_addresses(machine).collect()
        };
        let seen = runtime_numbers(machine, maker, &openable);
        if self.gpus.is_empty() || seen.starts_with(gpus) {
            return String::new();
        }
        let numbers: Option<Vec<String>> = gpus
            .iter()
            .map(|gpu| Some(seen.iter().position(|own| own == gpu)?.to_string()))
            .collect();
        // The id of a GPU that is divided names none of its parts.
        let whole = gpus
            .iter()
            .map(|gpu| machine.gpu(*gpu).filter(|gpu| gpu.parts() == 1));
        let uuids: Option<Vec<String>> = whole.map(|gpu| gpu?.uuid.clone()).collect();
        let variables = &maker.variables;
        // ROCR counts in the order in which the driver found the GPUs, which may be another after the next boot.
        let list = match variables.list {
            ListRules::Cuda => numbers.or(uuids),
            ListRules::Rocr => uuids.or(numbers),
            ListRules::LevelZero => numbers,
        };
        match list {
            Some(list) => {
                let list = list.join(",");
                format!("{}{}={list} ", variables.before_numbers, variables.visible)
            }
            None => String::new(),
        }
    }

    fn taskset(&self) -> String {
        let list = self.allowed.as_ref();
        list.map_or_else(String::new, |list| format!("taskset -c {list} "))
    }

    fn print_flags(&self, out: &mut Out, flags: &FlagsDocument) -> Result<Outcome, CommandError> {
        if self.format.json {
            out.json(flags)?;
        } else {
            for note in flags.notes() {
                out::message(note);
            }
            if !flags.line().is_empty() {
                out.line(flags.line())?;
            }
        }
        Ok(if flags.is_wanting {
            Outcome::Wanting
        } else {
            Outcome::Done
        })
    }

    /// Whether the tasks ask for more than there is.
    fn check_size(&self, machine: &Machine, assumed: &AssumedStep) -> Result<(), CommandError> {
        let gpus = counted_addresses(machine).count();
        if gpus > 0 && self.gpus_per_task as usize > gpus {
            return Err(CommandError::Argument(format!(
                "--gpus-per-task {}: the machine has {}",
                self.gpus_per_task,
                count(gpus, "GPU")
            )));
        }
        // Tasks that are one per GPU, and workers, ask for CPUs only where the user says how many.
        let is_asked = self.tasks.is_some() || self.cpus_per_task.is_some();
        match assumed.too_large() {
            Some(why) if is_asked && !self.overcommit => Err(CommandError::Argument(why)),
            Some(_) | None => Ok(()),
        }
    }

    /// The step's CPUs, but for what `--exact` leaves out, and from where they are.
    fn own_cpus(&self, machine: &Machine) -> Result<(CpuSet, CpusFrom), CommandError> {
        if let Some(list) = &self.allowed {
            let cpus = online_cpus(machine, "--allowed", list)?;
            return Ok((cpus, CpusFrom::Allowed));
        }
        if !self.mask.is_empty() {
            let mut cpus = CpuSet::new();
            for list in &self.masks()? {
                cpus.extend_with(&online_cpus(machine, "--mask", list)?);
            }
            return Ok((cpus, CpusFrom::Masks));
        }
        if self.for_framework.is_some() && self.from.is_this_machine() {
            let own = observe::own_cpus().map_err(|error| {
                CommandError::Argument(format!("own affinity cannot be read: {error}"))
            })?;
            return Ok((own.intersection(&machine.online), CpusFrom::Process));
        }
        Ok((machine.online.clone(), CpusFrom::Host))
    }

    fn tasks(
        &self,
        machine: &Machine,
        step_cpus: &CpuSet,
    ) -> Result<Vec<TaskRequest>, CommandError> {
        let lists: Vec<Vec<PciAddress>> = if self.for_framework.is_some() {
            let gpus = self.workers_gpus(machine)?;
            gpus.into_iter().map(|gpu| vec![gpu]).collect()
        } else if self.gpus.is_empty() {
            self.deal(machine)
        } else {
            let named = self
                .gpus
                .iter()
                .map(|list| parse_gpus(machine, "--gpus", list));
            let named: Vec<_> = named.collect::<Result<_, _>>()?;
            if let Some(tasks) = self.tasks.filter(|tasks| *tasks as usize != named.len()) {
                return Err(CommandError::Argument(uneven_gpus(named.len(), tasks)));
            }
            named
        };
        let request = |visible| TaskRequest {
            visible,
            ..TaskRequest::default()
        };
        let mut tasks: Vec<TaskRequest> = lists.into_iter().map(request).collect();
        let masks = self.masks()?;
        if !masks.is_empty() && masks.len() != tasks.len() {
            return Err(CommandError::Argument(format!(
                "--mask given {} for {}; give --mask once per task",
                times(masks.len()),
                count(tasks.len(), "task")
            )));
        }
        for (task, list) in tasks.iter_mut().zip(&masks) {
            let cpus = parse_cpus("--mask", list)?;
            // Where Slurm binds no task by itself, its mask is the host's.
            if !cpus.intersects(step_cpus) {
                return Err(CommandError::Argument(format!(
                    "--mask \"{list}\": expected some of the step's CPUs {step_cpus}"
                )));
            }
            task.slurm_cpus = Some(cpus);
        }
        Ok(tasks)
    }

    /// `--mask` as a list for each task.
    fn masks(&self) -> Result<Vec<String>, CommandError> {
        let mut lists = Vec::new();
        for given in &self.mask {
            let masks = given.strip_prefix("mask_cpu:").unwrap_or(given);
            if !masks.trim_start().starts_with("0x") {
                lists.push(given.clone());
                continue;
            }
            let parsed = parse_mask_list(masks);
            if parsed.len() != masks.split(',').count() || parsed.iter().any(CpuSet::is_empty) {
                return Err(CommandError::Argument(format!(
                    "--mask \"{}\": expected hexadecimal masks, such as 0xfe,0xfe00, each of at least one CPU",
                    printable(given)
                )));
            }
            lists.extend(parsed.iter().map(CpuSet::to_string));
        }
        Ok(lists)
    }

    /// The GPUs of the workers that `--for` is about.
    fn workers_gpus(&self, machine: &Machine) -> Result<Vec<PciAddress>, CommandError> {
        let gpus = match self.gpus.as_slice() {
            [] if self.from.is_this_machine() => read_visible(machine),
            [] => counted_addresses(machine).collect(),
            [list] => parse_gpus(machine, "--gpus", list)?,
            [..] => {
                return Err(CommandError::Argument(format!(
                    "--gpus given {}; with --for, give all GPUs of the workers once",
                    times(self.gpus.len())
                )));
            }
        };
        if gpus.is_empty() {
            let host = hardware::host(machine);
            return Err(CommandError::Argument(if machine.gpus.is_empty() {
                format!("--for: {host} has no GPU, so workers there need no flags")
            } else {
                format!(
                    "--for: {host}: this command sees no GPU, so there are no flags; name some with --gpus"
                )
            }));
        }
        let makers = gpus.iter().filter_map(|gpu| machine.gpu(*gpu)?.maker());
        let makers: BTreeSet<&str> = makers.map(|maker| maker.name).collect();
        if makers.len() > 1 {
            return Err(CommandError::Argument(format!(
                "--for: these are GPUs of {}, and workers use those of one; name them with --gpus",
                makers.into_iter().collect::<Vec<_>>().join(" and ")
            )));
        }
        let other = |only: &str| makers.iter().find(|maker| **maker != only).copied();
        if let Some(row) = self.row()
            && let Some(only) = row.runs_on
            && let Some(other) = other(only)
        {
            return Err(CommandError::Argument(format!(
                "--for {}: {} runs on {only}'s GPUs alone, and these are {other}'s",
                row.word.unwrap_or_default(),
                row.name
            )));
        }
        Ok(gpus)
    }

    fn deal(&self, machine: &Machine) -> Vec<Vec<PciAddress>> {
        let block = self.gpus_per_task as usize;
        let all: Vec<PciAddress> = counted_addresses(machine).collect();
        let tasks = self.tasks.map_or(all.len() / block, |tasks| tasks as usize);
        let block = block.min(all.len());
        let deal = |task: usize| {
            let own = all.iter().cycle().skip(task * block).take(block);
            let mut own: Vec<PciAddress> = own.copied().collect();
            // Several parts of one GPU are one place.
            own.dedup();
            own
        };
        (0..tasks).map(deal).collect()
    }
}

/// All GPUs as programs and Slurm count them; one that is divided stands once for each part.
fn counted_addresses(machine: &Machine) -> impl Iterator<Item = PciAddress> {
    counted_order(machine)
        .into_iter()
        .flat_map(Gpu::part_addresses)
}

/// The CPUs of `list` that are online; the others are said to be left out.
fn online_cpus(machine: &Machine, argument: &str, list: &str) -> Result<CpuSet, CommandError> {
    let asked = parse_cpus(argument, list)?;
    let cpus = asked.intersection(&machine.online);
    if cpus.is_empty() {
        return Err(CommandError::Argument(format!(
            "{argument} \"{list}\": none of these CPUs is online; expected some of {}",
            machine.online
        )));
    }
    if cpus != asked {
        out::message(&format!(
            "{argument} \"{list}\": CPUs {} are not online; left out",
            asked.difference(&cpus)
        ));
    }
    Ok(cpus)
}

/// `--gpus` names the GPUs of more or fewer tasks than there are.
fn uneven_gpus(named: usize, tasks: u32) -> String {
    format!(
        "--gpus given {} but --tasks is {tasks}; give --gpus once per task",
        times(named)
    )
}

/// `once`, `3 times`.
fn times(number: usize) -> String {
    match number {
        1 => "once".to_owned(),
        several => format!("{several} times"),
    }
}

fn print(
    out: &mut Out,
    machine: &Machine,
    assumed: &AssumedStep,
    step: &StepRequest,
    plan: &StepPlan,
    names: GpuNames<'_>,
) -> Result<(), CommandError> {
    let host = hardware::host(machine);
    if machine.gpus.is_empty() {
        out.told(Ink::Plain, words::no_gpu_on_host(host))?;
        return Ok(());
    }
    out.told(Ink::Faint, assumed.line(hardware::host(machine)))?;
    if let Some(refusal) = &plan.refusal {
        let policy = step.settings.policy;
        out.told(
            Ink::Bad,
            words::refused_line(policy, refusal, names, Voice::Step),
        )?;
        let advice = advice(machine, step, plan);
        out.told(Ink::Plain, words::advice_line(refusal, &advice, Verb::Any))?;
        return Ok(());
    }
    for task in &plan.tasks {
        let message = words::task_message(task, names, Voice::Step);
        out.told(
            ink(task.verdict),
            format_args!("task {}: {message}", task.task),
        )?;
    }
    // What nobody binds nobody speaks of at a launch either.
    if step.settings.policy == Policy::Off {
        return Ok(());
    }
    out.told(
        Ink::Head,
        words::summary_line(host, &summarize(machine, step, plan)),
    )?;
    if let Some(spanning) = find_spanning(machine, plan) {
        out.told(Ink::Plain, words::spanning_line(host, &spanning))?;
    }
    if let Some(link) = find_socket_link(machine, plan, 1) {
        out.told(Ink::Plain, words::socket_link_line(host, &link, names))?;
    }
    for faster in find_faster(machine, &step.step_cpus, plan) {
        if let Some(line) = words::faster_cpus_line(host, &faster) {
            out.told(Ink::Plain, line)?;
        }
    }
    if !machine.nics.is_empty() && step.settings.nic != Nic::Off {
        out.told(
            Ink::Plain,
            nics::of_tasks(machine, host, &nics_of_plan(machine, plan)),
        )?;
    }
    if let Some(line) = words::near_cpus_advice(&advice(machine, step, plan), Verb::Any) {
        out.told(Ink::Plain, line)?;
    }
    Ok(())
}

/// What would help, of a step whose GPUs are those that its tasks were given.
fn advice(machine: &Machine, step: &StepRequest, plan: &StepPlan) -> Advice {
    let by = LaunchedBy::Srun {
        has_unseen_gpus: false,
    };
    advise(machine, step, plan, by)
}

/// The colour of a task by how it is placed.
fn ink(verdict: Verdict) -> Ink {
    match verdict {
        Verdict::Local => Ink::Good,
        Verdict::Spanning | Verdict::Partial | Verdict::Unbound => Ink::Far,
        Verdict::Remote | Verdict::Refused => Ink::Bad,
    }
}
