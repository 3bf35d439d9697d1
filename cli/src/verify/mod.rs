//! `gpu-numa verify`: what a process really has, against the GPUs that it uses.

mod follow;
mod judge;
mod words;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use launch::numa_maps::ProcessMemory;
use launch::process::{self, Process, StartEnvironment};
use launch::used::{Evidence, Facts, Silence, UsedGpus, find_used};
use serde::Serialize;
use topology::binding::{Verdict, judge_cpus};
use topology::machine::Machine;
use topology::option::printable;
use topology::pci::PciAddress;
use topology::quantity::{count, volume};
use topology::set::CpuSet;

use crate::command::{CommandError, Format, From, Outcome, parse_gpus};
use crate::out::Out;
use crate::run::read_visible;
use judge::{Finding, Judgement, judge};

/// Checks a process.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  srun ... --gpu-numa-bind gpu-numa verify
  gpu-numa verify 12345
  gpu-numa verify --gpus 0 $(pgrep -n python)
  srun --overlap --jobid 4711 gpu-numa verify --job
  gpu-numa verify --follow 12345

Looks at every thread's CPUs, at the memory policy, and at where the pages are.  The exit status is 1 when \
something is wrong or cannot be known, so one line in a job script can stop the job: `gpu-numa verify || exit`.

The GPUs are those on which NVML lists the process; else the one whose device file it holds open; else those that \
gpu-numa run chose, or its Slurm task was bound for, or that it sees: of these a rank of torchrun or MPI uses the one \
of its number; and where CUDA_VISIBLE_DEVICES names fewer, those.  Numbers there count among the GPUs that a process may open: of \
a process in another cgroup or container, or a recorded one (--from), these are known only where it has the files of \
some GPUs alone, or names the host's last; UUIDs always count.  Where that leaves several on different NUMA nodes, they are named, and it is right only where it would \
be with each of them.")]
pub(crate) struct Verify {
    /// The process (default: this command itself, which has what its shell or task gave it, as any program started there)
    #[arg(value_parser = crate::usage::parse_pid)]
    pid: Option<u32>,
    /// All processes on this host of this Slurm job, or of the one named, that have GPUs
    #[arg(long, value_name = "JOB", num_args = 0..=1, default_missing_value = "", conflicts_with = "pid")]
    job: Option<String>,
    /// Its GPUs, by number in PCI order or by PCI address (default: those it is found to use)
    #[arg(long, value_name = "GPU,GPU", conflicts_with = "job")]
    gpus: Option<String>,
    /// Look again until it ends, and print a line whenever something changes
    #[arg(long, conflicts_with = "json")]
    follow: bool,
    /// Seconds between two looks of --follow, more where a look takes long
    #[arg(long, value_name = "S", default_value_t = 10, requires = "follow",
          value_parser = crate::usage::whole(1..=86400))]
    every: u32,
    #[command(flatten)]
    from: From,
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
    /// The GPUs that it uses, or some of which it uses.
    gpus: Vec<PciAddress>,
    /// Whether it is taken to use all of `gpus`; else which of them is not known.
    uses_all_gpus: bool,
    /// How they are known, for a person.
    gpus_known_by: String,
    /// The CPUs of all its threads.
    cpus: CpuSet,
    /// Threads by mask.
    threads: Vec<Threads>,
    /// The CPUs near its GPUs; null when a GPU's node is unknown.
    local_cpus: Option<CpuSet>,
    /// How well its worst thread is placed, as plans have it; null where that cannot be known.
    verdict: Option<Verdict>,
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
    /// How many of them have each name.
    names: BTreeMap<String, usize>,
    /// How well they are placed; null where that cannot be known.
    verdict: Option<Verdict>,
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

/// A process, its GPUs, and what is wrong with it.
struct Checked {
    process: Process,
    used: UsedGpus,
    judgement: Judgement,
}

impl Checked {
    /// Whether it is taken to have no GPU, rather than that it is not known which.
    fn is_without_gpu(&self) -> bool {
        matches!(
            &self.used.evidence,
            Evidence::Nothing(Silence::NotNamed | Silence::Hidden(_))
        )
    }
}

/// The processes on each GPU.
type GpuProcesses = BTreeMap<PciAddress, Vec<u32>>;

/// Where processes are looked at.
struct Host<'m> {
    machine: &'m Machine,
    /// Below which `/proc` is.
    root: &'m Path,
    /// Whether it is this one, so that the kernel and NVML can be asked too.
    is_live: bool,
    /// The GPUs that the user named.
    named: Option<Vec<PciAddress>>,
    /// What NVML said of processes, and when.
    nvml: RefCell<Option<(Instant, GpuProcesses)>>,
}

/// NVML is asked once about all processes of a job.
const NVML_AGE: Duration = Duration::from_secs(30);

impl Host<'_> {
    /// The GPUs on which NVML lists a process, by an answer that is no older than `age`.
    fn in_nvml(&self, pid: u32, age: Duration) -> Vec<PciAddress> {
        let mut nvml = self.nvml.borrow_mut();
        let is_new = nvml
            .as_ref()
            .is_some_and(|(asked, _)| asked.elapsed() <= age);
        if !is_new {
            *nvml = Some((Instant::now(), discovery::read_gpu_processes()));
        }
        let gpus = nvml.iter().flat_map(|(_, gpus)| gpus);
        let gpus = gpus.filter(|(_, pids)| pids.contains(&pid));
        gpus.map(|(gpu, _)| *gpu).collect()
    }

    /// The GPUs that a process uses, by an answer of NVML that is no older than `age`.
    fn used(&self, pid: u32, age: Duration) -> UsedGpus {
        if let Some(named) = &self.named {
            return UsedGpus::named(named.clone());
        }
        let machine = self.machine;
        let mut facts = Facts {
            open: process::open_gpus(self.root, machine, pid),
            ..Facts::default()
        };
        if self.is_live {
            if pid == std::process::id() {
                // Says what is odd in the variables that it was started with.
                read_visible(machine);
            }
            facts.in_nvml = self.in_nvml(pid, age);
            facts.seen = process::seen_by(machine, pid);
        } else {
            facts.seen = process::recorded_seen(self.root, machine, pid);
        }
        find_used(machine, &facts, &StartEnvironment::of(self.root, pid))
    }

    /// Reads and judges a process; none where it cannot be read.
    fn check(&self, pid: u32, age: Duration) -> Option<Checked> {
        let process = Process::read(self.root, pid)?;
        let used = self.used(pid, age);
        let judgement = judge(self.machine, &process, &used);
        Some(Checked {
            process,
            used,
            judgement,
        })
    }

    /// The job's processes that have GPUs.
    fn check_job(&self, job: &str) -> Vec<Checked> {
        let pids = process::of_job(self.root, job).into_iter();
        let checked = pids.filter_map(|pid| self.check(pid, NVML_AGE));
        checked
            .filter(|checked| !checked.is_without_gpu())
            .collect()
    }
}

impl Verify {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let is_live = self.from.is_this_machine();
        // Remarks on what could not be read are for `show`; those of a recording nobody else gives.
        let machine = discovery::read_machine(&self.from.source())?;
        let named = match &self.gpus {
            Some(list) => Some(parse_gpus(&machine, "--gpus", list)?),
            None => None,
        };
        let host = Host {
            machine: &machine,
            root: self.from.root(),
            is_live,
            named,
            nvml: RefCell::new(None),
        };
        if let Some(job) = &self.job {
            return self.run_job(out, &host, job);
        }
        let pid = match self.pid {
            Some(pid) => pid,
            None if is_live && !self.follow => std::process::id(),
            None => {
                return Err(CommandError::Argument(
                    "PID is missing: --follow and --from look at a process that you name, or at a --job".to_owned(),
                ));
            }
        };
        let checked = host.check(pid, NVML_AGE);
        let checked = checked
            .ok_or_else(|| CommandError::Argument(words::not_read(&host, pid, self.from.path())))?;
        if self.follow {
            print(out, &host, &checked)?;
            return follow::follow(out, &host, vec![checked], None, self.every);
        }
        let document = document(&machine, &checked);
        if self.format.json {
            out.json(&document)?;
        } else {
            print(out, &host, &checked)?;
        }
        Ok(outcome(document.ok))
    }

    fn run_job(&self, out: &mut Out, host: &Host<'_>, job: &str) -> Result<Outcome, CommandError> {
        let job = match job {
            "" => std::env::var("SLURM_JOB_ID").map_err(|_| {
                CommandError::Argument(
                    "--job: no SLURM_JOB_ID in the environment; run it by srun in the job, or name the job".to_owned(),
                )
            })?,
            named => named.to_owned(),
        };
        if !job.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(CommandError::Argument(format!(
                "--job \"{}\": expected a job's number; squeue -o %A prints that of an array's task",
                printable(&job)
            )));
        }
        let checked = host.check_job(&job);
        if checked.is_empty() {
            return Err(CommandError::Argument(format!(
                "--job: no process of job {job} on this host has a GPU"
            )));
        }
        if self.format.json {
            let processes: Vec<VerifyDocument> = checked
                .iter()
                .map(|checked| document(host.machine, checked))
                .collect();
            let ok = processes.iter().all(|process| process.ok);
            out.json(&VerifyJobDocument {
                schema: "gpu-numa/verify-job/1",
                job,
                processes,
                ok,
            })?;
            return Ok(outcome(ok));
        }
        for checked in &checked {
            print(out, host, checked)?;
        }
        if self.follow {
            return follow::follow(out, host, checked, Some(&job), self.every);
        }
        let mut findings = checked.iter().map(|checked| &checked.judgement.findings);
        Ok(outcome(findings.all(Vec::is_empty)))
    }
}

fn outcome(ok: bool) -> Outcome {
    if ok { Outcome::Done } else { Outcome::Wanting }
}

fn document(machine: &Machine, checked: &Checked) -> VerifyDocument {
    let Checked {
        process,
        used,
        judgement,
    } = checked;
    let threads = process.masks.values().map(|(cpus, threads)| {
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for thread in threads {
            *names.entry(thread.name.clone()).or_default() += 1;
        }
        Threads {
            cpus: cpus.clone(),
            count: threads.len(),
            names,
            verdict: judge_cpus(machine, &used.gpus, cpus).filter(|_| used.uses_all),
        }
    });
    let findings = judgement.findings.iter();
    VerifyDocument {
        schema: "gpu-numa/verify/1",
        pid: process.pid,
        threads: threads.collect(),
        cpus: process.cpus(),
        local_cpus: judgement.local_cpus.clone(),
        verdict: judgement.verdict,
        ok: judgement.findings.is_empty(),
        findings: findings
            .map(|finding| words::finding(machine, judgement, finding))
            .collect(),
        name: process.name.clone(),
        gpus_known_by: words::gpus(machine, used),
        uses_all_gpus: used.uses_all,
        gpus: used.gpus.clone(),
        memory: process.memory.clone(),
    }
}

/// `process 4711 (python)`; the process chose its name.
fn title(process: &Process) -> String {
    format!("process {} ({})", process.pid, printable(&process.name))
}

fn print(
    out: &mut Out,
    Host {
        machine, is_live, ..
    }: &Host<'_>,
    checked: &Checked,
) -> Result<(), CommandError> {
    let Checked {
        process,
        used,
        judgement,
    } = checked;
    if process.pid == std::process::id() && *is_live {
        out.line(format_args!(
            "{}: this command itself, with the CPUs and memory policy that a program started from here gets (give a PID for \
             another process)",
            title(process)
        ))?;
    } else {
        out.line(title(process))?;
    }
    out.line(format_args!("  GPUs    {}", words::gpus(machine, used)))?;
    let local = match &judgement.local_cpus {
        _ if used.gpus.is_empty() => String::new(),
        Some(local) if used.uses_all => format!(" (local: {local})"),
        Some(local) => format!(" (local to one or another: {local})"),
        None => " (local: ?)".to_owned(),
    };
    let threads = count(process.threads(), "thread");
    out.line(format_args!(
        "  CPUs    {}{local}, {threads}",
        process.cpus()
    ))?;
    if process.masks.len() > 1 {
        for (cpus, threads) in process.masks.values() {
            out.line(format_args!(
                "          {}",
                words::threads_of_mask(cpus, threads)
            ))?;
        }
    }
    let policy = match process.memory.policy.as_str() {
        "" => "policy cannot be read",
        policy => policy,
    };
    let bytes = process.memory.anonymous_bytes.iter();
    let pages: Vec<String> = bytes
        .map(|(node, bytes)| format!("node {node}: {}", volume(*bytes)))
        .collect();
    let pages = if pages.is_empty() {
        "pages cannot be read".to_owned()
    } else {
        pages.join(", ")
    };
    out.line(format_args!("  memory  {policy}; {pages}"))?;
    for finding in &judgement.findings {
        let sentence = words::finding(machine, judgement, finding);
        out.line(format_args!("  {:<6}  {sentence}", mark(finding)))?;
    }
    if judgement.findings.is_empty() {
        let well = words::all_well(judgement.verdict, used.gpus.len());
        out.line(format_args!("  {well}"))?;
    }
    Ok(())
}

/// What stands before a finding.
fn mark(finding: &Finding) -> &'static str {
    if finding.is_doubt() {
        "UNSURE"
    } else {
        "WRONG"
    }
}
