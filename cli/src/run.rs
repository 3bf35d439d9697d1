//! `gpu-numa run`: the binding of the plugin without Slurm.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use clap::Args;
use discovery::Source;
use ffi::exec::exec;
use launch::apply::apply_plan;
use launch::environment::{RunChoice, device_order};
use launch::frameworks;
use launch::nics::{UCX_DEVICES, ucx_devices};
use launch::observe;
use launch::own_list::{block, is_own_list};
use launch::rank::{Rank, rank_variables, read_rank};
use launch::variables::{Environment as _, OwnEnvironment};
use topology::binding::{StepPlan, StepRequest, TaskPlan, TaskRequest, plan_alone, plan_step};
use topology::machine::Machine;
use topology::names::GpuNames;
use topology::nics::{NicShare, nics_of_plan};
use topology::option::{Map, Nccl, Nic, Policy, Settings, Verbosity};
use topology::pci::PciAddress;
use topology::words::{self, Voice};

use crate::command::{CommandError, Outcome, parse_gpus};
use crate::hardware;
use crate::nics;
use crate::option::OptionItems;
use crate::out::{self, Out};
use crate::usage::whole;

/// Runs a command bound.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa run --gpus 0 ./train --epochs 3
  gpu-numa run --gpus 0,1 --option mem=bind -- ./train
  torchrun --nproc-per-node 8 --no-python \\
    gpu-numa run --per-rank -- python train.py

Exit status: the command's own; 127 when it is not found, 126 when it cannot be run, 2 when the options \
or the machine cannot be read, 1 when a strict policy refuses.")]
pub(crate) struct Run {
    /// The command's GPUs, by number in PCI order or by PCI address (default: those it sees)
    #[arg(long, value_name = "GPU,GPU")]
    gpus: Option<String>,
    /// Take this process's share of the GPUs by its rank on this host
    #[arg(long, help = per_rank_help())]
    per_rank: bool,
    /// CPUs (threads) that the command needs
    #[arg(long, value_name = "C", default_value_t = 1,
          value_parser = whole(1..=65536))]
    cpus_per_task: u32,
    #[command(flatten)]
    option: OptionItems,
    /// The command and its arguments; options of gpu-numa go before it
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What `--per-rank` goes by.
fn per_rank_help() -> String {
    format!(
        "Take this process's share of the GPUs by its rank on this host, the first that is set of {}",
        rank_variables()
    )
}

impl Run {
    pub(crate) fn run(&self, _out: &mut Out) -> Result<Outcome, CommandError> {
        let settings = self.option.settings()?;
        let rank = if self.per_rank {
            let rank = read_rank(&OwnEnvironment, observe::is_bound);
            Some(rank.map_err(|error| CommandError::Argument(format!("--per-rank: {error}")))?)
        } else {
            None
        };
        let mut variables = Vec::new();
        if self.option.nccl().is_some_and(|nccl| nccl != Nccl::Off) {
            out::message(
                "nccl= holds in steps of Slurm; run leaves NCCL's variables as they are (docs/nccl.md names the file)",
            );
        }
        if settings.policy != Policy::Off {
            let machine = discovery::read_machine(&Source::ThisMachine)?;
            let plan = self.plan(&machine, settings, rank)?;
            let names = hardware::names_here(&machine);
            if let Some(refusal) = &plan.refusal {
                out::message(&words::refused_line(
                    settings.policy,
                    refusal,
                    names,
                    Voice::Process,
                ));
                return Ok(Outcome::Wanting);
            }
            let own = plan
                .tasks
                .iter()
                .find(|task| Some(task.task) == rank.map(|rank| rank.index));
            if let Some(own) = own.or(plan.tasks.first()) {
                tell(&machine, settings, own, names);
                let share = share_of(&machine, &plan, own).filter(|_| settings.nic != Nic::Off);
                if let Some(share) = share {
                    tell_nics(&machine, settings, &share);
                    variables.extend(told_to_ucx(&machine, settings, &share));
                }
                apply(settings, own);
                let is_ranks = self.per_rank || self.gpus.is_some();
                let choice = RunChoice::new(&OwnEnvironment, own.gpus.clone(), is_ranks);
                variables.extend(choice.variable());
                if frameworks::is_settled(settings.frameworks, own) {
                    let still = frameworks::keep_still(&OwnEnvironment);
                    variables.extend(still.map(|(name, value)| (name, value.to_owned())));
                }
            }
            let order = device_order(&machine, &OwnEnvironment);
            variables.extend(order.map(|(name, value)| (name, value.to_owned())));
        }
        let (program, arguments) = match self.command.split_first() {
            Some((program, arguments)) => (program.as_os_str(), arguments),
            None => (OsStr::new(""), [].as_slice()),
        };
        let error = exec(program, arguments, &variables);
        let program = program.to_string_lossy();
        out::message(&format!("cannot run \"{program}\": {error}"));
        Ok(Outcome::Status(status_of(&error)))
    }

    fn plan(
        &self,
        machine: &Machine,
        settings: Settings,
        rank: Option<Rank>,
    ) -> Result<StepPlan, CommandError> {
        let visible = match &self.gpus {
            Some(list) => parse_gpus(machine, "--gpus", list)?,
            None => read_visible(machine),
        };
        let mask = observe::own_cpus().map_err(|error| {
            CommandError::Argument(format!("own affinity cannot be read: {error}"))
        })?;
        let own_list = match (rank, &self.gpus) {
            (Some(rank), None) => own_list_of(machine, &visible, rank),
            (Some(_) | None, _) => None,
        };
        let request = |visible| TaskRequest {
            visible,
            slurm_cpus: Some(mask.clone()),
            ..TaskRequest::default()
        };
        // Ranks of one host each run this command with the same facts, so each plans for all.
        let ranks = rank.and_then(|rank| rank.of).unwrap_or(1);
        let tasks = match &own_list {
            Some(OwnList::Blocks(blocks)) => blocks.iter().cloned().map(request).collect(),
            Some(OwnList::Alone) => vec![request(visible)],
            None => vec![request(visible); ranks],
        };
        let step = StepRequest {
            settings,
            step_cpus: mask.clone(),
            asked: self.cpus_per_task,
            tasks,
            kernel: observe::kernel(),
            allowed_nodes: None,
            owns_cpus: true,
            may_refuse: true,
        };
        let Some(rank) = rank else {
            return Ok(plan_step(machine, &step));
        };
        let mut step = step;
        // The programs of a launcher's ranks take the GPU of their number, whatever would come out even.
        let counts_in_list = own_list.is_none();
        if counts_in_list && (step.settings.map == Map::Auto || rank.of.is_none()) {
            step.settings.map = Map::Localid;
        }
        let is_alone = rank.of.is_none() || matches!(own_list, Some(OwnList::Alone));
        Ok(if is_alone {
            plan_alone(machine, &step, rank.index)
        } else {
            plan_step(machine, &step)
        })
    }
}

/// What the other ranks of a host see where each has a list of its own.
enum OwnList {
    /// The list of each: every rank has the GPUs of its number, as this one has.
    Blocks(Vec<Vec<PciAddress>>),
    /// Not known.
    Alone,
}

/// None where all ranks have the same list, or that cannot be seen.
fn own_list_of(machine: &Machine, visible: &[PciAddress], rank: Rank) -> Option<OwnList> {
    if !is_own_list(Path::new("/"), std::process::id(), machine, visible) {
        return None;
    }
    let of = |index| block(machine, visible, index);
    let blocks: Vec<Vec<PciAddress>> = (0..rank.of.unwrap_or(0)).map(of).collect();
    let are_all = blocks.iter().all(|block| !block.is_empty());
    let is_in_order = blocks.get(rank.index).is_some_and(|own| own == visible);
    Some(if are_all && is_in_order {
        OwnList::Blocks(blocks)
    } else {
        OwnList::Alone
    })
}

/// The GPUs that this process sees, as CUDA would.
pub(crate) fn read_visible(machine: &Machine) -> Vec<PciAddress> {
    let visible = observe::visible_to_process(machine, &OwnEnvironment);
    if let Some(remark) = visible.remark {
        out::message(&remark);
    }
    visible.gpus
}

/// The exit status of a command that does not start, as shells, `env` and `nice` have it (POSIX, `env`).
fn status_of(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    }
}

fn tell(machine: &Machine, settings: Settings, own: &TaskPlan, gpus: GpuNames<'_>) {
    let host = machine.hostname.as_deref().unwrap_or("this host");
    if own.gpus.is_empty() {
        if settings.report != Verbosity::Quiet {
            out::message(&words::no_gpu_seen(host, !machine.gpus.is_empty()));
        }
        return;
    }
    // `none` is there to be told what would be done.
    let is_asked = settings.report == Verbosity::Verbose
        || settings.policy == Policy::None && settings.report != Verbosity::Quiet;
    if own.is_trouble || is_asked {
        out::message(&words::task_line(host, own, gpus, Voice::Process));
    }
}

/// The NICs that the command should use, where lines are asked for.
fn tell_nics(machine: &Machine, settings: Settings, share: &NicShare) {
    if settings.report == Verbosity::Verbose {
        let host = machine.hostname.as_deref().unwrap_or("this host");
        out::message(&nics::of_process(machine, host, share));
    }
}

/// What a rank gets of the NICs that all ranks of the host take; none where it has no GPU, or the machine no NIC.
fn share_of(machine: &Machine, plan: &StepPlan, own: &TaskPlan) -> Option<NicShare> {
    if machine.nics.is_empty() || own.gpus.is_empty() {
        return None;
    }
    let mut shares = plan.tasks.iter().zip(nics_of_plan(machine, plan));
    let share = shares.find(|(task, _)| task.task == own.task);
    share.map(|(_, share)| share)
}

/// The variable that tells UCX, where that is asked for and the user has not told it.
fn told_to_ucx(
    machine: &Machine,
    settings: Settings,
    share: &NicShare,
) -> Option<(&'static str, String)> {
    let is_wanted = settings.nic == Nic::On && !OwnEnvironment.has(UCX_DEVICES);
    let devices = is_wanted.then(|| ucx_devices(machine, &share.nics));
    devices.flatten().map(|devices| (UCX_DEVICES, devices))
}

fn apply(settings: Settings, own: &TaskPlan) {
    let refused = apply_plan(settings.policy, own);
    if let Some(error) = refused.cpus {
        out::message(&words::cpus_refused(&own.cpus, &error, Voice::Process));
    }
    if let Some(error) = refused.memory {
        let nodes = &own.memory.nodes;
        out::message(&words::memory_refused(nodes, &error, Voice::Process));
    }
}
