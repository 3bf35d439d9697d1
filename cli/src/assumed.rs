//! The step that `gpu-numa plan` assumes: its CPUs, and from where they are taken.

use std::fmt;

use serde::Serialize;
use slurm_config::rules::CoresRule;
use topology::quantity::count;
use topology::set::CpuSet;

/// From where the CPUs of a step are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CpusFrom {
    /// All that are online: a job that has the whole host.
    Host,
    /// `--allowed`.
    Allowed,
    /// `--mask`: all that one of the tasks has.
    Masks,
    /// `--exact`: those that the tasks ask for, near the step's GPUs first, as Slurm's default distribution takes them.
    Exact,
    /// What this process may use, for `--for`.
    Process,
}

/// How Slurm knows which cores are near a step's GPUs: by the `Cores=` of gres.conf that `gpu-numa gres-conf` writes for the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Near {
    /// They are those near the GPUs.
    Told,
    /// They hold others, too, because the release takes only such sets.
    Widened(CoresRule),
    /// No such line can be written for any of the GPUs.
    Unknown,
}

/// The step that is planned.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct AssumedStep {
    /// The CPUs of all tasks together.
    pub(crate) cpus: CpuSet,
    /// From where these are taken.
    pub(crate) cpus_from: CpusFrom,
    /// The number of tasks.
    pub(crate) tasks: usize,
    /// The CPUs (threads) that each task asks for.
    pub(crate) cpus_per_task: u32,
    /// With `--exact`, how Slurm knows which of them are near the GPUs.
    #[serde(skip)]
    pub(crate) near: Near,
}

impl fmt::Display for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told => f.write_str(
                "near the step's GPUs first (by the Cores= that gres-conf writes; the host's gres.conf is not read)",
            ),
            Self::Widened(rule) => write!(
                f,
                "near the step's GPUs first by the Cores= that gres-conf writes (the host's gres.conf is not read), which from Slurm {} on names only {rule}",
                rule.since()
            ),
            Self::Unknown => f.write_str(
                "from any socket, for no Cores= of gres.conf can say which cores are near the step's GPUs",
            ),
        }
    }
}

impl AssumedStep {
    /// How many CPUs the tasks ask for together.
    pub(crate) fn wanted(&self) -> usize {
        self.tasks.saturating_mul(self.cpus_per_task as usize)
    }

    /// `4 tasks with 2 CPUs each`, `1 task with 2 CPUs`.
    fn request(&self) -> String {
        let each = if self.tasks == 1 { "" } else { " each" };
        format!(
            "{} with {}{each}",
            count(self.tasks, "task"),
            count(self.cpus_per_task as usize, "CPU")
        )
    }

    /// Why Slurm would not start it: its tasks ask for more CPUs than it has (`srun -n4 -c5` on 16 CPUs); none where it would.
    ///
    /// Slurm counts threads and refuses a request for more of them than a host has, unless `--overcommit` is given
    /// (srun(1), `-n` and `-O`).
    pub(crate) fn too_large(&self) -> Option<String> {
        let has = self.cpus.len();
        (self.wanted() > has).then(|| {
            let (named, most) = match has.checked_div(self.tasks) {
                Some(most) if most > 0 => (format!("--cpus-per-task {}", self.cpus_per_task), most),
                Some(_) | None => (format!("--tasks {}", self.tasks), has),
            };
            let asks = if self.tasks == 1 { "asks" } else { "ask" };
            format!(
                "{named}: {} {asks} for {}, but the step has {has} ({}), so srun would not start it; expected at most {most} \
                 (--overcommit plans it as srun --overcommit starts it)",
                count(self.tasks, "task"),
                count(self.wanted(), "CPU"),
                self.cpus,
            )
        })
    }

    /// What is planned, for a picture.
    pub(crate) fn note(&self) -> String {
        format!("a step of {} on CPUs {}", self.request(), self.cpus)
    }

    /// What is planned, in a line for a person.
    pub(crate) fn line(&self, host: &str) -> String {
        let request = self.request();
        let cpus = &self.cpus;
        let mut line = match self.cpus_from {
            CpusFrom::Host => format!(
                "step assumed: {request}, in a job that has all {} of {host}",
                count(cpus.len(), "CPU")
            ),
            CpusFrom::Allowed => format!("step: {request}, on CPUs {cpus} (--allowed)"),
            CpusFrom::Masks => {
                format!("step assumed: {request}, on CPUs {cpus}, all those of --mask")
            }
            CpusFrom::Exact => format!(
                "step assumed: {request}, on CPUs {cpus}, as Slurm takes them: {}, block:cyclic",
                self.near
            ),
            CpusFrom::Process => {
                format!("step assumed: {request}, on CPUs {cpus}, those of this process")
            }
        };
        let (wanted, has) = (self.wanted(), cpus.len());
        if wanted > has {
            line.push_str("; srun starts it only with --overcommit");
        } else if self.cpus_from == CpusFrom::Host && wanted < has {
            line.push_str(&format!(
                "; --exact plans a step with only the {wanted} that srun -c gives it, --allowed one with the CPUs that you name"
            ));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(cpus: u32, tasks: usize, cpus_per_task: u32) -> AssumedStep {
        AssumedStep {
            cpus: CpuSet::from_range(0, cpus - 1),
            cpus_from: CpusFrom::Host,
            tasks,
            cpus_per_task,
            near: Near::Told,
        }
    }

    #[test]
    fn a_step_fits_where_its_tasks_ask_for_no_more_threads_than_there_are() {
        for (cpus, tasks, each, fits) in [
            (16, 4, 4, true),
            (16, 4, 5, false),
            (16, 17, 1, false),
            (16, 1, 16, true),
            (16, 1, 17, false),
            (1, 4096, 65_536, false),
        ] {
            let step = step(cpus, tasks, each);
            assert_eq!(step.too_large().is_none(), fits, "{step:?}");
        }
    }
}
