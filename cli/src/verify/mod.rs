//! `gpu-numa verify`: what a process really has, against its GPUs.

mod judge;

use clap::Args;
use discovery::Source;
use launch::numa_maps::ProcessMemory;
use launch::process::{self, Process};
use serde::Serialize;
use topology::machine::Machine;
use topology::option::printable;
use topology::pci::PciAddress;
use topology::set::CpuSet;

use crate::command::{CommandError, Format, Outcome, parse_gpus};
use crate::out::Out;
use crate::run::read_visible;
use judge::{Verdict, judge};

/// Checks a process.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  srun ... --gpu-numa-bind gpu-numa verify
  gpu-numa verify 12345
  gpu-numa verify --gpus 0 $(pgrep -n python)
  srun --overlap --jobid 4711 gpu-numa verify --job

Looks at every thread's CPUs, at the memory policy, and at where the pages are.  The exit status is 1 when \
something is wrong, so one line in a job script can stop the job: `gpu-numa verify || exit`.")]
pub(crate) struct Verify {
    /// The process (default: this one, which has what its shell or task gave it)
    #[arg(value_parser = crate::usage::parse_pid)]
    pid: Option<u32>,
    /// All processes of this Slurm job on this host that have GPUs
    #[arg(long, conflicts_with = "pid")]
    job: bool,
    /// Its GPUs, by number in PCI order or by PCI address (default: those it reports, holds open or
    /// sees)
    #[arg(long, value_name = "GPU,GPU", conflicts_with = "job")]
    gpus: Option<String>,
    #[command(flatten)]
    format: Format,
}

/// The JSON document of a process.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VerifyDocument {
    schema: &'static str,
    pid: u32,
    name: String,
    gpus: Vec<PciAddress>,
    /// The CPUs of all its threads.
    cpus: CpuSet,
    /// Threads by mask.
    threads: Vec<Threads>,
    /// The CPUs near its GPUs; null when a GPU's node is unknown.
    local_cpus: Option<CpuSet>,
    memory: ProcessMemory,
    findings: Vec<String>,
    ok: bool,
}

/// Threads that share a mask.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Threads {
    cpus: CpuSet,
    count: usize,
}

/// The JSON document of a job.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VerifyJobDocument {
    schema: &'static str,
    job: String,
    processes: Vec<VerifyDocument>,
    ok: bool,
}

impl Verify {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let machine = discovery::read_machine(&Source::ThisMachine)?;
        if self.job {
            return self.run_job(out, &machine);
        }
        let pid = self.pid.unwrap_or_else(std::process::id);
        let gpus = match &self.gpus {
            Some(list) => Some(parse_gpus(&machine, "--gpus", list)?),
            None => None,
        };
        let mut process = Process::read(&machine, pid)
            .ok_or_else(|| CommandError::Argument(format!("no process {pid} that may be read")))?;
        if let Some(gpus) = gpus {
            process.gpus = gpus;
        } else if process.gpus.is_empty() && pid == std::process::id() {
            // What another process may open cannot be asked, so its numbers mean nothing.
            process.gpus = read_visible(&machine);
        }
        let document = document(&machine, process);
        if self.format.json {
            out.json(&document)?;
        } else {
            print(out, &document)?;
        }
        Ok(outcome(document.ok))
    }

    fn run_job(&self, out: &mut Out, machine: &Machine) -> Result<Outcome, CommandError> {
        let job = std::env::var("SLURM_JOB_ID").map_err(|_| {
            CommandError::Argument(
                "--job: no SLURM_JOB_ID in the environment; run it by srun in the job".to_owned(),
            )
        })?;
        let read = process::of_job(&job);
        let processes: Vec<VerifyDocument> = read
            .into_iter()
            .filter_map(|pid| Process::read(machine, pid))
            .filter(|process| !process.gpus.is_empty())
            .map(|process| document(machine, process))
            .collect();
        if processes.is_empty() {
            return Err(CommandError::Argument(format!(
                "--job: no process of job {job} on this host has a GPU"
            )));
        }
        let ok = processes.iter().all(|process| process.ok);
        if self.format.json {
            out.json(&VerifyJobDocument {
                schema: "gpu-numa/verify-job/1",
                job,
                processes,
                ok,
            })?;
        } else {
            for process in &processes {
                print(out, process)?;
            }
        }
        Ok(outcome(ok))
    }
}

fn outcome(ok: bool) -> Outcome {
    if ok { Outcome::Done } else { Outcome::Wanting }
}

fn document(machine: &Machine, process: Process) -> VerifyDocument {
    let Verdict {
        local_cpus,
        findings,
    } = judge(machine, &process);
    let threads = process.masks.values().map(|(cpus, threads)| Threads {
        cpus: cpus.clone(),
        count: threads.len(),
    });
    VerifyDocument {
        schema: "gpu-numa/verify/1",
        pid: process.pid,
        threads: threads.collect(),
        cpus: process.cpus(),
        local_cpus,
        ok: findings.is_empty(),
        findings,
        name: process.name,
        gpus: process.gpus,
        memory: process.memory,
    }
}

fn print(out: &mut Out, document: &VerifyDocument) -> Result<(), CommandError> {
    let gpus: Vec<String> = document.gpus.iter().map(ToString::to_string).collect();
    let gpus = if gpus.is_empty() {
        "none".to_owned()
    } else {
        gpus.join(", ")
    };
    let threads: usize = document.threads.iter().map(|threads| threads.count).sum();
    // The process chose its name.
    let name = printable(&document.name);
    out.line(format_args!("process {} ({name})", document.pid))?;
    out.line(format_args!("  GPUs    {gpus}"))?;
    let local = match &document.local_cpus {
        _ if document.gpus.is_empty() => String::new(),
        Some(local) => format!(" (local: {local})"),
        None => " (local: ?)".to_owned(),
    };
    out.line(format_args!(
        "  CPUs    {}{local}, {}",
        document.cpus,
        topology::quantity::count(threads, "thread")
    ))?;
    let policy = &document.memory.policy;
    let policy = if policy.is_empty() {
        "cannot be read"
    } else {
        policy
    };
    let bytes = document.memory.anonymous_bytes.iter();
    let pages: Vec<String> = bytes
        .map(|(node, bytes)| format!("node {node}: {:.1} MiB", mebibytes(*bytes)))
        .collect();
    let pages = if pages.is_empty() {
        "pages cannot be read".to_owned()
    } else {
        pages.join(", ")
    };
    out.line(format_args!("  memory  {policy}; {pages}"))?;
    for finding in &document.findings {
        out.line(format_args!("  WRONG   {finding}"))?;
    }
    if document.ok {
        out.line("  all local")?;
    }
    Ok(())
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a figure for a person, to a tenth"
)]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
