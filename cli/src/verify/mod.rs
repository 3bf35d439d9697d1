//! `gpu-numa verify`: what a process really has, against the GPUs that it uses.

mod follow;
mod host;
mod judge;
mod own;
mod whom;
mod words;

use std::cell::RefCell;
use std::collections::BTreeMap;

use clap::Args;
use launch::job::Group;
use launch::numa_maps::ProcessMemory;
use launch::processes::ask_by_child;
use serde::Serialize;
use topology::binding::{Verdict, judge_cpus};
use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::quantity::{count, volume};
use topology::set::CpuSet;

use crate::command::{CommandError, Format, From, Outcome};
use crate::out::Out;
pub(crate) use host::{Checked, Host};
use judge::Finding;
pub(crate) use whom::Whom;
pub(crate) use words::{gpus as gpus_in_words, no_gpu_in_group, title};

/// Checks a process.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  srun ... --gpu-numa-bind gpu-numa verify
  gpu-numa verify 12345
  gpu-numa verify --gpus 0 12345
  srun --overlap --jobid 4711 gpu-numa verify --job
  gpu-numa verify --children \"$(pgrep -o mpirun)\"
  gpu-numa verify --follow 12345

Looks at every thread's CPUs, at the memory policy, and at where the pages are.  One line in a job script can stop the \
job: `gpu-numa verify || exit`.

Without PID it looks at itself, which has what its shell or task gave it, as any program started there: in a job, under \
a launcher or gpu-numa run, and where it is bound.  Anywhere else that is an error, as nothing would be checked \
(--self asks for it): an unquoted $(pgrep python) that finds nothing leaves no PID, so write the quotes where one \
process is meant.

The GPUs are those on which NVML lists the process, or AMD's driver its work queues; else the one whose device file it holds open; else those that \
gpu-numa run chose, or its Slurm task was bound for, or that it sees: of these a rank of torchrun or MPI uses the one \
of its number; and where CUDA_VISIBLE_DEVICES names fewer, those.  Numbers there count among the GPUs that a process may open: of \
a process in another cgroup or container, or a recorded one (--from), these are known only where it has the files of \
some GPUs alone, or names the host's last; UUIDs always count.  Where that leaves several on different NUMA nodes, they are named, and it is right only where it would \
be with each of them.

Exit status: 0 when all is well; 1 when something is wrong or cannot be known (with --follow, when something was wrong at any time), \
and when one of several processes cannot be looked at; 2 when none can, or with --job or --children none has a GPU.")]
#[command(mut_arg("pid", |pid| pid.help(
    "The processes (default: this command itself, in a job or where it is bound)"
)))]
pub(crate) struct Verify {
    #[command(flatten)]
    whom: Whom,
    /// Look at this command itself, wherever it runs
    #[arg(long = "self", conflicts_with_all = ["pid", "job", "follow", "path"])]
    own: bool,
    /// Look again until it ends, and print a line whenever something changes
    #[arg(long, conflicts_with = "json")]
    follow: bool,
    /// Seconds between two looks of --follow, more where a look takes long
    #[arg(long, value_name = "S", default_value_t = 10, requires = "follow",
          conflicts_with_all = ["json", "own"],
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
    /// Those of them that are nearer to its GPUs than the rest of their nodes, such as those below the last-level cache that a GPU
    /// hangs from; absent where none are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest_cpus: Option<CpuSet>,
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

/// The JSON document of several processes: a job's, one and those that it started, or those that were named.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VerifyJobDocument {
    schema: &'static str,
    /// The job's number; absent where processes were named.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    /// The process that started them, as `--children` was asked about; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_by: Option<u32>,
    processes: Vec<VerifyDocument>,
    ok: bool,
}

impl Verify {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let is_live = self.from.is_this_machine();
        if is_live {
            ask_by_child();
        }
        // Remarks on what could not be read are for `show`; those of a recording nobody else gives.
        let machine = discovery::read_machine(&self.from.source())?;
        let host = Host {
            machine: &machine,
            root: self.from.root(),
            is_live,
            named: self.whom.gpus(&machine)?,
            nvml: RefCell::new(None),
        };
        if let Some(group) = self.whom.group()? {
            return self.run_group(out, &host, &group);
        }
        let pids = match self.whom.pids() {
            pids if !pids.is_empty() => pids,
            _ if !is_live || self.follow => {
                return Err(CommandError::Argument(
                    "PID is missing: --follow and --from look at a process that you name, or at a --job".to_owned(),
                ));
            }
            _ if self.own || own::is_worth_a_look(&machine) => vec![std::process::id()],
            _ => return Err(CommandError::Argument(own::NOTHING_TO_CHECK.to_owned())),
        };
        let (mut checked, all_read) = host.check_named(&pids, self.from.path())?;
        if pids.len() > 1 {
            return self.tell_several(out, &host, checked, None, all_read);
        }
        let Some(checked) = checked.pop() else {
            return Ok(Outcome::Wanting);
        };
        if self.follow {
            print(out, &host, &checked)?;
            return follow::follow(out, &host, vec![checked], None, (self.every, all_read));
        }
        let mut document = document(&machine, &checked);
        document.ok &= all_read;
        if self.format.json {
            out.json(&document)?;
        } else {
            print(out, &host, &checked)?;
        }
        Ok(outcome(document.ok))
    }

    fn run_group(
        &self,
        out: &mut Out,
        host: &Host<'_>,
        group: &Group,
    ) -> Result<Outcome, CommandError> {
        let (checked, count, all_read) = host.check_group(group);
        if checked.is_empty() {
            return Err(CommandError::Argument(words::no_gpu_in_group(group, count)));
        }
        self.tell_several(out, host, checked, Some(group), all_read)
    }

    /// Tells of several processes; all is well only where `all_read` says that none is missing.
    fn tell_several(
        &self,
        out: &mut Out,
        host: &Host<'_>,
        checked: Vec<Checked>,
        group: Option<&Group>,
        all_read: bool,
    ) -> Result<Outcome, CommandError> {
        if self.format.json {
            let processes: Vec<VerifyDocument> = checked
                .iter()
                .map(|checked| document(host.machine, checked))
                .collect();
            let ok = all_read && processes.iter().all(|process| process.ok);
            let (job, started_by) = match group {
                Some(Group::Job(job)) => (Some(job.clone()), None),
                Some(Group::StartedBy(pid)) => (None, Some(*pid)),
                None => (None, None),
            };
            out.json(&VerifyJobDocument {
                schema: "gpu-numa/verify-job/1",
                job,
                started_by,
                processes,
                ok,
            })?;
            return Ok(outcome(ok));
        }
        for checked in &checked {
            print(out, host, checked)?;
        }
        if self.follow {
            return follow::follow(out, host, checked, group, (self.every, all_read));
        }
        let mut findings = checked.iter().map(|checked| &checked.judgement.findings);
        Ok(outcome(all_read && findings.all(Vec::is_empty)))
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
        nearest_cpus: judgement.nearest_cpus.clone(),
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
    let is_own = process.pid == std::process::id() && *is_live;
    if is_own {
        out.line(format_args!(
            "{}: this command itself, with the CPUs and memory policy that a program started from here gets (no PID was given)",
            title(process.pid, &process.name)
        ))?;
    } else {
        out.line(title(process.pid, &process.name))?;
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
        for line in words::threads_by_mask(process.masks.values()) {
            out.line(format_args!("          {line}"))?;
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
    for file in &judgement.far_files {
        out.line(format_args!(
            "  note    {}",
            words::far_file(judgement, file)
        ))?;
    }
    if let Some(note) = words::beyond_nearest(judgement, &process.cpus()) {
        out.line(format_args!("  note    {note}"))?;
    }
    if judgement.findings.is_empty() {
        let well = words::all_well(judgement.verdict, used.gpus.len());
        if is_own {
            out.line(format_args!(
                "  {well} (of this command itself; no other process was looked at)"
            ))?;
        } else {
            out.line(format_args!("  {well}"))?;
        }
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
