//! Which processes are looked at, as `verify` and `heal` take it on their command line.

use clap::Args;
use launch::job::{self, Group};
use launch::variables::OwnEnvironment;
use topology::machine::Machine;
use topology::option::printable;
use topology::pci::PciAddress;

use crate::command::{CommandError, parse_gpus};
use crate::usage::Pids;

/// A process, or several that belong together.
#[derive(Debug, Args)]
pub(crate) struct Whom {
    /// The processes
    #[arg(value_name = "PID", value_parser = crate::usage::parse_pids)]
    pid: Vec<Pids>,
    /// All processes on this host of this job (Slurm, PBS, LSF, Flux), or of the one named, that have GPUs
    #[arg(long, value_name = "JOB", num_args = 0..=1, conflicts_with = "pid")]
    job: Option<Option<String>>,
    /// With PID: it and all processes that it started, as mpirun or torchrun does, that have GPUs
    #[arg(long, requires = "pid", conflicts_with_all = ["job", "gpus"])]
    children: bool,
    /// Their GPUs, by number in PCI order or by PCI address (default: those that each is found to use)
    #[arg(long, value_name = "GPU,GPU", conflicts_with = "job")]
    gpus: Option<String>,
}

impl Whom {
    /// The GPUs that the user named.
    pub(crate) fn gpus(&self, machine: &Machine) -> Result<Option<Vec<PciAddress>>, CommandError> {
        let named = self.gpus.as_ref();
        named
            .map(|list| parse_gpus(machine, "--gpus", list))
            .transpose()
    }

    /// The processes that the user names, each once.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        for pid in self.pid.iter().flat_map(|pids| &pids.0) {
            if !pids.contains(pid) {
                pids.push(*pid);
            }
        }
        pids
    }

    /// The processes that belong together; none where the user names processes by themselves, or none.
    pub(crate) fn group(&self) -> Result<Option<Group>, CommandError> {
        if let Some(job) = &self.job {
            return Ok(Some(Group::Job(job_number(job.as_deref())?)));
        }
        match self.pids().as_slice() {
            _ if !self.children => Ok(None),
            [pid] => Ok(Some(Group::StartedBy(*pid))),
            several => Err(CommandError::Argument(format!(
                "--children: {} processes are named; expected one, which started the others",
                several.len()
            ))),
        }
    }
}

/// The number of the job that `--job` names; where it names none, that of the job that this command runs in.
fn job_number(named: Option<&str>) -> Result<String, CommandError> {
    let Some(named) = named else {
        return job::own_job(&OwnEnvironment).ok_or_else(|| {
            CommandError::Argument(format!(
                "--job: this command runs in no job ({} are unset); name the job, or with --children the process \
                 that started its processes",
                job::job_variables()
            ))
        });
    };
    if !job::is_job_number(named) {
        return Err(CommandError::Argument(format!(
            "--job \"{}\": expected a job's number; squeue -o %A prints that of an array's task",
            printable(named)
        )));
    }
    Ok(named.to_owned())
}
