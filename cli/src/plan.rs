//! `gpu-numa plan`: what the plugin would do.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use topology::binding::{
    KernelVersion, StepPlan, StepRequest, TaskRequest, advise, find_socket_link, find_spanning,
    plan_step, summarize,
};
use topology::machine::Machine;
use topology::option::{Policy, Width};
use topology::pci::PciAddress;
use topology::quantity::count;
use topology::set::CpuSet;
use topology::words::{self, TaskDocument, Verb, Voice};

use crate::command::{CommandError, Format, From, Outcome, parse_gpus};
use crate::option::OptionItems;
use crate::out::{self, Out};
use crate::picture::Picture;
use crate::usage::whole;

/// Plans a step.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa plan
  gpu-numa plan --tasks 4 --cpus-per-task 2 --option restricted
  gpu-numa plan --gpus 0,1 --gpus 2,3 --allowed 0-15
  gpu-numa plan --from topo.xml --gpus 0000:23:00.0 --json
  gpu-numa plan --tasks 4 --svg plan.svg

The exit status is 1 when a strict policy would refuse the step.")]
pub(crate) struct Plan {
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    format: Format,
    /// Tasks on the host (default: GPUs divided by --gpus-per-task)
    #[arg(long, value_name = "N", value_parser = whole(1..=4096))]
    tasks: Option<u32>,
    /// GPUs per task; tasks get consecutive GPUs in PCI order, starting again after the last
    #[arg(long, value_name = "K", default_value_t = 1,
          value_parser = whole(1..=64), conflicts_with = "gpus")]
    gpus_per_task: u32,
    /// The GPUs of one task, by PCI address or number; once per task, in order
    #[arg(long, value_name = "GPU,GPU")]
    gpus: Vec<String>,
    /// CPUs (threads) that each task asks for
    #[arg(long, value_name = "C", default_value_t = 1,
          value_parser = whole(1..=65536))]
    cpus_per_task: u32,
    /// The CPUs that Slurm gives one task before it is bound, such as 0-1; once per task, in order (default: unknown)
    #[arg(long, value_name = "LIST")]
    mask: Vec<String>,
    /// The step's CPUs, such as 0-3,8 (default: all that are online)
    #[arg(long, value_name = "LIST")]
    allowed: Option<String>,
    #[command(flatten)]
    option: OptionItems,
    /// Plan for this Linux kernel release, which decides which memory policies exist
    #[arg(long, value_name = "RELEASE", default_value = "5.15")]
    kernel: String,
    /// Draw the machine with each task's colour as SVG into FILE; - is standard output
    #[arg(long, value_name = "FILE", value_parser = crate::usage::parse_svg,
          conflicts_with = "json")]
    svg: Option<PathBuf>,
}

/// The JSON document.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PlanDocument<'a> {
    schema: &'static str,
    policy: Policy,
    width: Width,
    tasks: Vec<TaskDocument<'a>>,
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
        let step_cpus = self.step_cpus(&machine)?;
        self.check_size(&machine, &step_cpus)?;
        let step = StepRequest {
            settings,
            step_cpus,
            asked: self.cpus_per_task,
            tasks: self.tasks(&machine)?,
            kernel,
            allowed_nodes: None,
            owns_cpus: true,
            may_refuse: true,
        };
        let plan = plan_step(&machine, &step);
        if let Some(path) = &self.svg {
            out.file(path, &Picture::new(&machine, &plan.tasks).draw())?;
        } else if self.format.json {
            let plans = plan.tasks.iter();
            let tasks = plans.map(|task| TaskDocument::new(task, Voice::Step));
            out.json(&PlanDocument {
                schema: "gpu-numa/plan/1",
                policy: step.settings.policy,
                width: step.settings.width,
                tasks: tasks.collect(),
            })?;
        } else {
            print(out, &machine, &step, &plan)?;
        }
        Ok(if plan.refusal.is_some() {
            Outcome::Wanting
        } else {
            Outcome::Done
        })
    }

    /// Whether one task asks for more than there is.
    fn check_size(&self, machine: &Machine, step_cpus: &CpuSet) -> Result<(), CommandError> {
        let gpus = machine.gpus.len();
        if gpus > 0 && self.gpus_per_task as usize > gpus {
            return Err(CommandError::Argument(format!(
                "--gpus-per-task {}: the machine has {}",
                self.gpus_per_task,
                count(gpus, "GPU")
            )));
        }
        let cpus = step_cpus.len();
        if self.cpus_per_task as usize > cpus {
            return Err(CommandError::Argument(format!(
                "--cpus-per-task {}: the step has {}",
                self.cpus_per_task,
                count(cpus, "CPU")
            )));
        }
        Ok(())
    }

    fn step_cpus(&self, machine: &Machine) -> Result<CpuSet, CommandError> {
        let Some(list) = &self.allowed else {
            return Ok(machine.online.clone());
        };
        let asked: CpuSet = list
            .parse()
            .map_err(|problem| CommandError::Argument(format!("--allowed: {problem}")))?;
        let cpus = asked.intersection(&machine.online);
        if cpus.is_empty() {
            return Err(CommandError::Argument(format!(
                "--allowed \"{list}\": none of these CPUs is online; expected some of {}",
                machine.online
            )));
        }
        if cpus != asked {
            out::message(&format!(
                "CPUs {} are not online; left out",
                asked.difference(&cpus)
            ));
        }
        Ok(cpus)
    }

    fn tasks(&self, machine: &Machine) -> Result<Vec<TaskRequest>, CommandError> {
        let lists: Vec<Vec<PciAddress>> = if self.gpus.is_empty() {
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
        if !self.mask.is_empty() && self.mask.len() != tasks.len() {
            return Err(CommandError::Argument(format!(
                "--mask given {} times for {} tasks; give --mask once per task",
                self.mask.len(),
                tasks.len()
            )));
        }
        for (task, list) in tasks.iter_mut().zip(&self.mask) {
            let cpus = list.parse().map_err(|problem| {
                CommandError::Argument(format!("--mask \"{list}\": {problem}"))
            })?;
            task.slurm_cpus = Some(cpus);
        }
        Ok(tasks)
    }

    fn deal(&self, machine: &Machine) -> Vec<Vec<PciAddress>> {
        let block = self.gpus_per_task as usize;
        let tasks = self
            .tasks
            .map_or(machine.gpus.len() / block, |tasks| tasks as usize);
        let dealt = machine.gpus.iter().cycle().map(|gpu| gpu.pci);
        let block = block.min(machine.gpus.len());
        (0..tasks)
            .map(|task| dealt.clone().skip(task * block).take(block).collect())
            .collect()
    }
}

/// `--gpus` names the GPUs of more or fewer tasks than there are.
fn uneven_gpus(named: usize, tasks: u32) -> String {
    if named == 1 {
        format!("--gpus given once but --tasks is {tasks}; give --gpus once per task")
    } else {
        format!("--gpus given {named} times but --tasks is {tasks}; give --gpus once per task")
    }
}

fn print(
    out: &mut Out,
    machine: &Machine,
    step: &StepRequest,
    plan: &StepPlan,
) -> Result<(), CommandError> {
    let host = machine.hostname.as_deref().unwrap_or("this host");
    if machine.gpus.is_empty() {
        out.line(words::no_gpu_on_host(host))?;
        return Ok(());
    }
    if let Some(refusal) = &plan.refusal {
        let policy = step.settings.policy;
        out.line(words::refused_line(policy, refusal, Voice::Step))?;
        let advice = advise(machine, step, plan);
        out.line(words::advice_line(refusal, &advice, Verb::Srun))?;
        return Ok(());
    }
    for task in &plan.tasks {
        let message = words::task_message(task, Voice::Step);
        out.line(format_args!("task {}: {message}", task.task))?;
    }
    out.line(words::summary_line(host, &summarize(machine, step, plan)))?;
    if let Some(spanning) = find_spanning(machine, plan) {
        out.line(words::spanning_line(host, &spanning))?;
    }
    if let Some(link) = find_socket_link(machine, plan, 1) {
        out.line(words::socket_link_line(host, &link))?;
    }
    let advice = advise(machine, step, plan);
    if let Some(line) = words::near_cpus_advice(&advice, Verb::Srun) {
        out.line(line)?;
    }
    Ok(())
}
