//! Which processes of a host belong together: those of a job, and those that one process started.
//!
//! A job's processes are known by their cgroup, which any user may read and no process leaves by itself, and by the
//! number that their batch system put into their environment.  What one of them started belongs to the job too, and what
//! Slurm's own process for a step started, though it was given another environment (`env -i`, `sudo`) and no cgroup says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::process::{StartEnvironment, cgroup_of, read_parent};
use crate::processes::Folder;
use crate::variables::Environment;

/// What starts jobs.
#[derive(Debug)]
struct BatchSystem {
    /// The variable that holds a job's number.
    variable: &'static str,
    /// Whether a part of a cgroup's path is that of a job.
    has_cgroup: fn(part: &str, job: &str) -> bool,
}

/// First found, first taken.
const BATCH_SYSTEMS: [BatchSystem; 4] = [
    // Slurm: `.../job_7/step_0/user/task_0`.
    BatchSystem {
        variable: "SLURM_JOB_ID",
        has_cgroup: |part, job| part.strip_prefix("job_") == Some(job),
    },
    // PBS, by its cgroups hook: `/pbs_jobs.service/jobid/7.server`.
    BatchSystem {
        variable: "PBS_JOBID",
        has_cgroup: is_pbs_job,
    },
    // LSF: `/lsf/CLUSTER/job.7.PID.TIME`.
    BatchSystem {
        variable: "LSB_JOBID",
        has_cgroup: |part, job| {
            let number = part
                .strip_prefix("job.")
                .and_then(|rest| rest.split('.').next());
            number == Some(job)
        },
    },
    // Flux gives jobs no cgroup of their own name.
    BatchSystem {
        variable: "FLUX_JOB_ID",
        has_cgroup: |_, _| false,
    },
];

/// `7` is `7.server`, as qstat takes it.
fn is_pbs_job(text: &str, job: &str) -> bool {
    text == job
        || text
            .strip_prefix(job)
            .is_some_and(|rest| rest.starts_with('.'))
}

/// The number of the job that a process with this environment belongs to; none outside of one.
pub fn own_job(environment: &impl Environment) -> Option<String> {
    BATCH_SYSTEMS
        .iter()
        .find_map(|system| environment.get(system.variable))
        .filter(|job| !job.is_empty())
}

/// The variables that hold a job's number, for a person: `SLURM_JOB_ID, PBS_JOBID, ...`.
pub fn job_variables() -> String {
    BATCH_SYSTEMS.map(|system| system.variable).join(", ")
}

/// Whether `text` can be a job's number: digits for Slurm and LSF, `7[1].server` for PBS, `f2oLkTLb` for Flux.
pub fn is_job_number(text: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || ".-[]".contains(c);
    // None is 0 or a negative number (Slurm, PBS, LSF and Flux count from 1).
    let begins = text.chars().find(|c| *c != '0');
    begins.is_some_and(char::is_alphanumeric) && text.chars().all(is_part)
}

/// Processes that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// Those of the job with this number.
    Job(String),
    /// A process, those that it started, and those that these started.
    StartedBy(u32),
}

impl Group {
    /// Its processes in the `/proc` below `root`, in the order of their numbers, the calling one and Slurm's own left out.
    pub fn pids(&self, root: &Path) -> Vec<u32> {
        let Parents(parents) = Parents::read(root);
        let first: BTreeSet<u32> = match self {
            Self::Job(job) => {
                let all = parents.iter();
                let is_of_job = |(pid, parent): &(&u32, &u32)| {
                    is_of_job(root, **pid, job) || is_stepd_of(root, **parent, job)
                };
                all.filter(is_of_job).map(|(pid, _)| *pid).collect()
            }
            Self::StartedBy(pid) => {
                let pid = Some(*pid).filter(|pid| parents.contains_key(pid));
                pid.into_iter().collect()
            }
        };
        let mut pids = with_started(&parents, first);
        pids.remove(&std::process::id());
        pids.into_iter()
            .filter(|pid| !is_slurms(root, *pid))
            .collect()
    }
}

/// slurmstepd's own cgroup is `.../step_0/slurm`.
fn is_slurms(root: &Path, pid: u32) -> bool {
    cgroup_of(root, pid)
        .lines()
        .any(|line| line.ends_with("/slurm"))
}

/// Whether process `pid` is the slurmstepd of a step of `job`: its command line is `slurmstepd: [7.0]`, as seen under Slurm 22.05.
///
/// Its name is looked at first, which the kernel itself has: a command line is in a process's own memory.
fn is_stepd_of(root: &Path, pid: u32, job: &str) -> bool {
    /// Longer than any such title: other processes choose what stands there, and how much.
    const TITLE_BYTES: usize = 256;
    let folder = Folder::of(root, pid);
    if folder
        .text("comm")
        .is_ok_and(|name| name.trim() != "slurmstepd")
    {
        return false;
    }
    let (title, _) = folder.first("cmdline", TITLE_BYTES).unwrap_or_default();
    let title = String::from_utf8_lossy(&title);
    let step = title
        .strip_prefix("slurmstepd: [")
        .and_then(|step| step.strip_prefix(job));
    step.is_some_and(|step| step.starts_with(['.', ']']))
}

fn is_of_job(root: &Path, pid: u32, job: &str) -> bool {
    let cgroup = cgroup_of(root, pid);
    let mut parts = cgroup.lines().flat_map(|line| line.split('/'));
    if parts.any(|part| {
        BATCH_SYSTEMS
            .iter()
            .any(|system| (system.has_cgroup)(part, job))
    }) {
        return true;
    }
    let environment = StartEnvironment::of(root, pid);
    own_job(&environment).is_some_and(|own| is_pbs_job(&own, job))
}

/// Every process and the one that started it; a process whose parent has ended has got another, usually the first.
#[derive(Debug)]
pub struct Parents(BTreeMap<u32, u32>);

impl Parents {
    /// Of all processes in the `/proc` below `root`.
    pub fn read(root: &Path) -> Self {
        let names = Folder::proc(root).names();
        let pids = names.iter().filter_map(|name| name.parse().ok());
        Self(pids.map(|pid| (pid, read_parent(root, pid))).collect())
    }

    /// Whether process `starter` started process `pid`, or one that did.
    pub fn is_started_by(&self, pid: u32, starter: u32) -> bool {
        let above = std::iter::successors(self.0.get(&pid), |parent| self.0.get(parent));
        // A recorded list may go round.
        above.take(self.0.len()).any(|parent| *parent == starter)
    }
}

fn with_started(parents: &BTreeMap<u32, u32>, mut pids: BTreeSet<u32>) -> BTreeSet<u32> {
    loop {
        let more: BTreeSet<u32> = parents
            .iter()
            .filter(|(pid, parent)| pids.contains(parent) && !pids.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return pids;
        }
        pids.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::variables::tests::Variables;

    #[test]
    fn a_process_is_started_by_each_one_above_it() {
        let parents = Parents([(10, 1), (20, 10), (30, 20), (7, 8), (8, 7)].into());
        assert!(parents.is_started_by(30, 10) && parents.is_started_by(20, 10));
        assert!(!parents.is_started_by(10, 10) && !parents.is_started_by(10, 30));
        assert!(!parents.is_started_by(7, 10) && !parents.is_started_by(40, 1));
    }

    #[test]
    fn the_cgroup_of_each_batch_system_names_its_job() {
        let has = |part: &str, job: &str| {
            BATCH_SYSTEMS
                .iter()
                .any(|system| (system.has_cgroup)(part, job))
        };
        assert!(has("job_7", "7") && !has("job_77", "7"));
        assert!(has("7.server", "7") && has("7.server", "7.server") && !has("77.server", "7"));
        assert!(has("job.7.4711.1600000000", "7") && !has("job.77.4711.1600000000", "7"));
    }

    #[test]
    fn the_first_batch_system_that_names_a_job_counts() {
        let own = |set: &[(&str, &str)]| own_job(&Variables::of(set));
        assert_eq!(own(&[]), None);
        assert_eq!(
            own(&[("PBS_JOBID", "7[1].server")]).as_deref(),
            Some("7[1].server")
        );
        let both = [("PBS_JOBID", "8"), ("SLURM_JOB_ID", "7")];
        assert_eq!(own(&both).as_deref(), Some("7"));
        assert!(is_job_number("7[1].server-2") && is_job_number("\u{192}2oLkTLb"));
        assert!(!is_job_number("") && !is_job_number("7_3") && !is_job_number("../7"));
    }

    #[test]
    fn a_jobs_processes_are_those_of_its_cgroup_its_number_and_its_slurmstepd() {
        let root = tempfile::tempdir().unwrap();
        let put = |pid: u32, parent: u32, cgroup: &str, environment: &str, title: &str| {
            let folder = root.path().join(format!("proc/{pid}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cgroup"), cgroup).unwrap();
            fs::write(folder.join("environ"), environment).unwrap();
            fs::write(folder.join("cmdline"), title).unwrap();
            fs::write(folder.join("stat"), format!("{pid} (a) b) S {parent} 1")).unwrap();
        };
        put(11, 1, "0::/slurm/uid_1/job_7/step_0/task_0\n", "", "");
        put(12, 1, "0::/user.slice\n", "SLURM_JOB_ID=7\0", "");
        put(
            13,
            1,
            "0::/slurm/uid_1/job_77/step_0/task_0\n",
            "SLURM_JOB_ID=77\0",
            "",
        );
        put(
            14,
            1,
            "0::/system.slice/slurmstepd.scope/job_7/step_0/slurm\n",
            "",
            "",
        );
        put(15, 12, "0::/user.slice\n", "", "");
        put(16, 1, "0::/\n", "", "slurmstepd: [7.0]\0");
        put(17, 16, "0::/\n", "", "env");
        put(18, 17, "0::/\n", "", "python");
        put(19, 1, "0::/\n", "", "slurmstepd: [77.0]\0");
        put(20, 19, "0::/\n", "", "python");
        let own = std::process::id();
        put(own, 1, "0::/slurm/uid_1/job_7/step_0/task_1\n", "", "");
        let pids = |group: Group| group.pids(root.path());
        assert_eq!(pids(Group::Job("7".to_owned())), [11, 12, 15, 17, 18]);
        assert_eq!(pids(Group::StartedBy(17)), [17, 18]);
        assert!(pids(Group::StartedBy(own + 1_000_000)).is_empty());
    }

    #[test]
    fn what_is_started_belongs_to_its_starter_however_deep() {
        let parents = BTreeMap::from([(1, 0), (5, 1), (6, 5), (9, 6), (7, 1)]);
        let of = |pid| with_started(&parents, BTreeSet::from([pid]));
        assert_eq!(of(5), BTreeSet::from([5, 6, 9]));
        assert_eq!(of(9), BTreeSet::from([9]));
    }
}
