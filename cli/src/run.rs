//! `gpu-numa run`: the binding of the plugin without Slurm.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Args;
use discovery::Source;
use ffi::linux::access::{Access, read_access};
use ffi::linux::mempolicy::{self, Mode};
use ffi::linux::{affinity, process};
use topology::binding::{
    KernelVersion, StepPlan, StepRequest, TaskPlan, TaskRequest, plan_alone, plan_step, task_line,
};
use topology::machine::Machine;
use topology::option::{Policy, Settings, Verbosity};
use topology::pci::PciAddress;
use topology::set::CpuSet;
use topology::visible::{TaskView, find_visible};

use crate::command::{CommandError, Outcome, parse_gpus, settings};
use crate::out::{self, Out};
use crate::usage::whole;

/// Variables that hold a process's rank on its host, first found first.
const LOCAL_RANK: [&str; 5] = [
    "LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "PMI_LOCAL_RANK",
    "SLURM_LOCALID",
];
/// Variables that hold the number of ranks on the host, of the same launchers in the same order.
const LOCAL_SIZE: [&str; 5] = [
    "LOCAL_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "MPI_LOCALNRANKS",
    "PMI_LOCAL_SIZE",
    "SLURM_STEP_TASKS_PER_NODE",
];

/// Runs a command bound.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa run --gpus 0 -- ./train
  gpu-numa run --gpus 0,1 --option mem=bind -- ./train
  torchrun --nproc-per-node 8 --no-python \\
    gpu-numa run --per-rank -- python train.py

Exit status: the command's own; 127 when it is not found, 126 when it cannot be run, 2 when the options \
or the machine cannot be read, 1 when a strict policy refuses.")]
pub(crate) struct Run {
    /// The command's GPUs, by number in PCI order or by PCI address (default: those it sees)
    #[arg(long, value_name = "GPU,GPU")]
    gpus: Option<String>,
    /// Take this process's share of the GPUs by its rank on this host: LOCAL_RANK,
    /// OMPI_COMM_WORLD_LOCAL_RANK, MPI_LOCALRANKID, PMI_LOCAL_RANK or SLURM_LOCALID
    #[arg(long)]
    per_rank: bool,
    /// CPUs (threads) that the command needs
    #[arg(long, value_name = "C", default_value_t = 1,
          value_parser = whole(1..=65536))]
    cpus_per_task: u32,
    /// Items as after --gpu-numa-bind=; GPU_NUMA_BIND fills in what they leave unsaid
    #[arg(long, value_name = "ITEM,...", default_value = "")]
    option: String,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Run {
    pub(crate) fn run(&self, _out: &mut Out) -> Result<Outcome, CommandError> {
        let settings = settings(&self.option)?;
        let rank = if self.per_rank {
            Some(read_rank()?)
        } else {
            None
        };
        let mut command = self.command();
        if settings.policy != Policy::Off {
            let machine = discovery::read_machine(&Source::ThisMachine)?;
            let plan = self.plan(&machine, settings, rank)?;
            if let Some(refusal) = &plan.refusal {
                out::message(&format!(
                    "refused ({}): {}",
                    settings.policy.word(),
                    outside_slurm(&refusal.reason)
                ));
                return Ok(Outcome::Wanting);
            }
            let own = plan
                .tasks
                .iter()
                .find(|task| Some(task.task) == rank.map(|rank| rank.index));
            if let Some(own) = own.or(plan.tasks.first()) {
                tell(&machine, settings, own);
                apply(settings, own);
            }
            if std::env::var_os("CUDA_DEVICE_ORDER").is_none() {
                command.env("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
            }
        }
        // Comes back only when the command cannot be started.
        let error = command.exec();
        let program = command.get_program().to_string_lossy();
        out::message(&format!("cannot run \"{program}\": {error}"));
        Ok(Outcome::Status(status_of(&error)))
    }

    fn command(&self) -> Command {
        let mut words = self.command.iter();
        let mut command = Command::new(words.next().cloned().unwrap_or_default());
        command.args(words);
        command
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
        let mask = affinity::read_affinity(0)
            .map(|words| CpuSet::from_words(&words))
            .map_err(|error| {
                CommandError::Argument(format!("own affinity cannot be read: {error}"))
            })?;
        let kernel = process::read_kernel_release().parse();
        let request = TaskRequest {
            visible,
            slurm_cpus: Some(mask.clone()),
            ..TaskRequest::default()
        };
        // Ranks of one host each run this command with the same facts, so each plans for all.
        let ranks = rank.and_then(|rank| rank.of).unwrap_or(1);
        let step = StepRequest {
            settings,
            step_cpus: mask,
            asked: self.cpus_per_task,
            tasks: vec![request; ranks],
            kernel: kernel.unwrap_or(KernelVersion { major: 0, minor: 0 }),
            allowed_nodes: None,
            may_refuse: true,
        };
        Ok(match rank {
            Some(Rank { index, of: None }) => {
                let mut step = step;
                step.settings.map = topology::option::Map::Localid;
                plan_alone(machine, &step, index)
            }
            Some(_) | None => plan_step(machine, &step),
        })
    }
}

/// A process's place among those of its launcher on this host.
#[derive(Debug, Clone, Copy)]
struct Rank {
    index: usize,
    /// How many there are; absent where the launcher does not say.
    of: Option<usize>,
}

fn read_rank() -> Result<Rank, CommandError> {
    let read = |name: &&str| {
        std::env::var(name)
            .ok()
            .map(|text| (text.trim().parse::<usize>(), text))
    };
    for (rank, size) in LOCAL_RANK.iter().zip(&LOCAL_SIZE) {
        match read(rank) {
            None => {}
            Some((Ok(index), _)) => {
                // torchrun's workers share the mask that it was started with; MPI and Slurm bind each.
                let is_shared = *rank == "LOCAL_RANK" || !is_bound();
                let of = read(size)
                    .filter(|_| is_shared)
                    .and_then(|(size, _)| size.ok());
                return Ok(Rank {
                    index,
                    of: of.filter(|of| (index + 1..=4096).contains(of)),
                });
            }
            Some((Err(_), text)) => {
                return Err(CommandError::Argument(format!(
                    "{rank}=\"{text}\": expected a number"
                )));
            }
        }
    }
    Err(CommandError::Argument(format!(
        "--per-rank: no local rank in the environment; expected one of {}",
        LOCAL_RANK.join(", ")
    )))
}

/// Whether this process may use fewer CPUs than its cpuset has.
fn is_bound() -> bool {
    let own = affinity::read_affinity(0).map(|words| CpuSet::from_words(&words));
    let all = affinity::read_cpuset().map(|words| CpuSet::from_words(&words));
    own.ok() != all.ok()
}

/// The GPUs that this process sees, as CUDA would.
pub(crate) fn read_visible(machine: &Machine) -> Vec<PciAddress> {
    let may_open = |minor: Option<u32>| {
        let device = minor.and_then(|minor| CString::new(format!("/dev/nvidia{minor}")).ok());
        device.is_none_or(|device| read_access(&device) != Access::Denied)
    };
    let openable: Vec<PciAddress> = machine
        .gpus
        .iter()
        .filter(|gpu| may_open(gpu.minor))
        .map(|gpu| gpu.pci)
        .collect();
    let view = TaskView {
        on_host: Some(openable.len().to_string()),
        openable,
        cuda_visible: std::env::var("CUDA_VISIBLE_DEVICES").ok(),
        cuda_order: std::env::var("CUDA_DEVICE_ORDER").ok(),
        step_list: None,
    };
    let visible = find_visible(machine, &view);
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

/// A line of the plugin's in the words of a process that no Slurm has started.
fn outside_slurm(line: &str) -> String {
    line.replace("left as Slurm made it", "left as it is")
        .replace("but the step has CPUs", "but this process may use CPUs")
}

fn tell(machine: &Machine, settings: Settings, own: &TaskPlan) {
    let host = machine.hostname.as_deref().unwrap_or("this host");
    if own.gpus.is_empty() {
        if settings.report != Verbosity::Quiet {
            let why = if machine.gpus.is_empty() {
                "the machine has no GPU"
            } else {
                "the command sees no GPU (--gpus names some)"
            };
            out::message(&format!("{host}: {why}; the command runs unbound"));
        }
        return;
    }
    if own.is_trouble || settings.report == Verbosity::Verbose {
        out::message(&outside_slurm(&task_line(host, own)));
    }
}

fn apply(settings: Settings, own: &TaskPlan) {
    if settings.policy == Policy::None {
        return;
    }
    if own.bind_cpus
        && let Err(error) = affinity::apply_affinity(0, own.cpus.words())
    {
        out::message(&format!(
            "CPUs {} refused by the kernel ({error}); left as they are",
            own.cpus
        ));
    }
    if !own.bind_memory {
        return;
    }
    let mode = Mode::of(own.memory.policy.number());
    if let Err(error) = mempolicy::apply_policy(mode, own.memory.nodes.words()) {
        let nodes = &own.memory.nodes;
        out::message(&format!(
            "memory on node {nodes} refused by the kernel ({error}); left as it is"
        ));
    }
}
