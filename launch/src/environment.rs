//! Which variables in a task's environment are ours.
//!
//! What we set is also written into [`MARKS`], so that a step inside our own batch step can tell our values from the
//! user's, and replace or remove them.

use serde::{Deserialize, Serialize};
use topology::binding::TaskPlan;
use topology::machine::Machine;
use topology::names::GpuNames;
use topology::nics::NicDocument;
use topology::pci::PciAddress;
use topology::set::CpuSet;
use topology::vendor::VENDORS;
use topology::words::{TaskDocument, Voice};

use crate::frameworks::KEEP_STILL;
use crate::nics::UCX_DEVICES;
use crate::rank::LocalRank;
use crate::shared::totals::VARIABLE as TOTALS;
use crate::variables::{Environment, TaskEnvironment};

/// Names what we set: `NAME=value` items with a newline between.
const MARKS: &str = "GPU_NUMA_BIND_SET";
/// Where NCCL reads its topology.
pub const TOPO_FILE: &str = "NCCL_TOPO_FILE";
/// Which profiler plugin NCCL loads.
pub const PROFILER: &str = "NCCL_PROFILER_PLUGIN";
/// What was decided for the task, as one line of JSON.
const REPORT: &str = "GPU_NUMA_BIND_REPORT";

/// The first of the numbers that stand for `extern`, `batch` and so on (slurm.h, SLURM_MAX_NORMAL_STEP_ID).
const FIRST_NAMED_STEP: u32 = 0xffff_fff0;

/// What `gpu-numa run` chose, as one line of JSON.
const RUN: &str = "GPU_NUMA_RUN";

/// Whether a step inside our own may find the variable with our value.
fn is_ours(name: &str) -> bool {
    let mut orders = VENDORS.iter().filter_map(|vendor| vendor.variables.order);
    [TOPO_FILE, PROFILER, UCX_DEVICES].contains(&name)
        || orders.any(|order| order.name == name)
        || KEEP_STILL.iter().any(|(own, _)| *own == name)
}

/// The variable, and its value, that has a program number GPUs by PCI address, as we do; none where it is set
/// already, and where the vendor has none.
pub fn device_order(
    machine: &Machine,
    environment: &impl Environment,
) -> Option<(&'static str, &'static str)> {
    let mut vendors = machine.launch_vendors();
    let order = vendors.find_map(|vendor| vendor.variables.order)?;
    let is_free = !environment.has(order.name);
    is_free.then_some((order.name, order.by_address))
}

/// Variables that an outer step of ours set and that still hold its value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks(Vec<String>);

impl Marks {
    /// The names that our outer step set and no one changed since.
    pub fn read(environment: &impl Environment) -> Self {
        let Some(marks) = environment.get(MARKS) else {
            return Self::default();
        };
        let mut names: Vec<String> = marks
            .lines()
            .filter_map(|mark| mark.split_once('='))
            .filter(|(name, value)| {
                is_ours(name) && environment.get(name).as_deref() == Some(*value)
            })
            .map(|(name, _)| name.to_owned())
            .collect();
        names.extend([MARKS, REPORT, TOTALS].map(str::to_owned));
        Self(names)
    }

    /// Whether there is nothing of an outer step.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes what the outer step left.
    pub fn clear(&self, task: &impl TaskEnvironment) {
        for name in &self.0 {
            task.remove(name);
        }
    }
}

/// Sets a bound task's variables, none of which is set, marked as ours, and its report ([`BindReport::to_json`]).
pub fn set_marked(task: &impl TaskEnvironment, variables: &[(&str, &str)], report: &str) {
    let mut marks = String::with_capacity(512);
    for (name, value) in variables {
        if task.add(name, value) {
            let before = if marks.is_empty() { "" } else { "\n" };
            marks.extend([before, name, "=", value]);
        }
    }
    // Even an empty one tells an inner step that the report is ours.
    task.set(MARKS, &marks);
    task.set(REPORT, report);
}

/// What was decided for one task, as its environment has it.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BindReport<'a> {
    schema: &'static str,
    host: &'a str,
    job: u32,
    step: &'a str,
    #[serde(flatten)]
    plan: TaskDocument<'a>,
    /// The NICs nearest to its GPUs; absent under `nic=off`, and where it has no GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    nic: Option<&'a NicDocument>,
}

impl<'a> BindReport<'a> {
    /// The report of a task of `step` (`12.0`, `12.batch`).
    pub fn new(
        host: &'a str,
        job: u32,
        step: &'a str,
        plan: &'a TaskPlan,
        gpus: GpuNames<'_>,
        nic: Option<&'a NicDocument>,
    ) -> Self {
        Self {
            schema: "gpu-numa/report/1",
            host,
            job,
            step,
            plan: TaskDocument::new(plan, gpus, Voice::Step),
            nic,
        }
    }

    /// The report as its variable has it.
    pub fn to_json(&self) -> String {
        // Every field has a JSON form, and few are longer than this.
        let mut json = Vec::with_capacity(512);
        match serde_json::to_writer(&mut json, self) {
            Ok(()) => String::from_utf8(json).unwrap_or_default(),
            Err(_) => String::new(),
        }
    }
}

/// What `gpu-numa run` chose for the command that it became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunChoice {
    /// The GPUs.
    pub gpus: Vec<PciAddress>,
    /// The rank that they are for, `LOCAL_RANK=3`; none where they are for whatever the command starts.
    pub rank: Option<String>,
    /// The Slurm task in which it ran, `JOB.STEP.TASK`; none outside Slurm.
    step: Option<String>,
}

impl RunChoice {
    /// GPUs for the rank of this environment where `is_ranks`, else for all that the command starts.
    pub fn new(environment: &impl Environment, gpus: Vec<PciAddress>, is_ranks: bool) -> Self {
        Self {
            gpus,
            rank: rank_text(environment).filter(|_| is_ranks),
            step: step_text(environment),
        }
    }

    /// The variable that hands it on.
    pub fn variable(&self) -> Option<(&'static str, String)> {
        Some((RUN, serde_json::to_string(self).ok()?))
    }

    /// What a process was handed; none where it is in another Slurm task than the one that chose.
    pub fn read(environment: &impl Environment) -> Option<Self> {
        let choice: Self = serde_json::from_str(&environment.get(RUN)?).ok()?;
        (choice.step == step_text(environment)).then_some(choice)
    }

    /// Whether it is for this environment's rank.
    pub fn is_for_rank(&self, environment: &impl Environment) -> bool {
        self.rank == rank_text(environment)
    }
}

fn rank_text(environment: &impl Environment) -> Option<String> {
    let rank = LocalRank::read(environment)?;
    Some(format!("{}={}", rank.variable, rank.index))
}

fn step_text(environment: &impl Environment) -> Option<String> {
    let names = ["SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_LOCALID"];
    let parts: Option<Vec<String>> = names.iter().map(|name| environment.get(name)).collect();
    parts.map(|parts| parts.join("."))
}

/// The GPUs and CPUs of a task whose report says that some of these CPUs are not near them (`partial`); none for any other.
pub fn reported_partial(environment: &impl Environment) -> Option<(Vec<PciAddress>, CpuSet)> {
    let report = report(environment)?;
    if report.get("verdict")?.as_str()? != "partial" {
        return None;
    }
    let cpus = report.get("cpus")?.as_str()?.parse().ok()?;
    Some((gpus_in(&report), cpus))
}

/// A task's report; none where it has none, and where it is that of another step, around this one.
fn report(environment: &impl Environment) -> Option<serde_json::Value> {
    let report: serde_json::Value = serde_json::from_str(&environment.get(REPORT)?).ok()?;
    let number = |name: &str| environment.get(name)?.trim().parse::<u32>().ok();
    let reported_job = report.get("job").and_then(serde_json::Value::as_u64);
    // The components of a heterogeneous job have numbers of their own.
    let job = number("SLURM_JOB_ID").filter(|_| environment.get("SLURM_HET_SIZE").is_none());
    let is_of_job = reported_job
        .zip(job)
        .is_none_or(|(own, job)| own == u64::from(job));
    let reported_step = report
        .get("step")
        .and_then(|step| step.as_str()?.rsplit_once('.').map(|(_, step)| step));
    // A batch script's own has a number of this range, or none.
    let step = number("SLURM_STEP_ID").filter(|step| *step < FIRST_NAMED_STEP);
    let is_of_step = match (reported_step, step) {
        (Some(reported), Some(step)) => reported == step.to_string(),
        (Some(_) | None, _) => true,
    };
    (is_of_job && is_of_step).then_some(report)
}

/// The GPUs that a task's report names; none where it has no report.
pub fn reported_gpus(environment: &impl Environment) -> Vec<PciAddress> {
    report(environment).as_ref().map_or_else(Vec::new, gpus_in)
}

fn gpus_in(report: &serde_json::Value) -> Vec<PciAddress> {
    addresses(report.get("gpus"))
}

/// The NICs that a task's own report names, in the text of the report.
pub fn nics_in(report: &str) -> Vec<PciAddress> {
    let report: Option<serde_json::Value> = serde_json::from_str(report).ok();
    addresses(
        report
            .as_ref()
            .and_then(|report| report.get("nic")?.get("nics")),
    )
}

fn addresses(list: Option<&serde_json::Value>) -> Vec<PciAddress> {
    let list = list.and_then(serde_json::Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|own| own.as_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::Recorded;
    use crate::variables::tests::Variables;

    #[test]
    fn changes_are_taken_back() {
        let before = [(TOPO_FILE, "/outer.xml"), (MARKS, "x")];
        let task = Variables::of(&before);
        let recorded = Recorded::new(&task);
        recorded.remove(TOPO_FILE);
        recorded.remove("GPU_NUMA_NOT_THERE");
        set_marked(&recorded, &[(TOPO_FILE, "/own.xml")], "{}");
        assert_eq!(task.get(REPORT).as_deref(), Some("{}"));
        recorded.take_back();
        assert_eq!(*task.0.borrow(), *Variables::of(&before).0.borrow());
    }

    #[test]
    fn an_inner_step_removes_what_is_still_ours_and_keeps_what_the_user_changed() {
        let task = Variables::of(&[
            (
                "GPU_NUMA_BIND_SET",
                "NCCL_TOPO_FILE=/a\nCUDA_DEVICE_ORDER=PCI_BUS_ID\nPATH=/bin",
            ),
            ("NCCL_TOPO_FILE", "/of/the/user"),
            ("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
            ("PATH", "/bin"),
            ("GPU_NUMA_BIND_REPORT", "{}"),
        ]);
        let marks = Marks::read(&task);
        assert!(!marks.is_empty());
        marks.clear(&task);
        let left: Vec<String> = task.0.borrow().keys().cloned().collect();
        assert_eq!(left, ["NCCL_TOPO_FILE", "PATH"]);
    }

    #[test]
    fn without_a_mark_nothing_is_ours() {
        let task = Variables::of(&[("CUDA_DEVICE_ORDER", "PCI_BUS_ID")]);
        assert!(Marks::read(&task).is_empty());
    }

    #[test]
    fn only_a_partial_report_gives_the_cpus_that_were_chosen() {
        let of = |verdict: &str| {
            let report = format!(r#"{{"verdict":"{verdict}","cpus":"0-7"}}"#);
            reported_partial(&Variables::of(&[("GPU_NUMA_BIND_REPORT", &report)]))
        };
        assert_eq!(of("partial").unwrap().1.to_string(), "0-7");
        assert_eq!(of("local"), None);
        assert_eq!(reported_partial(&Variables::default()), None);
    }

    #[test]
    fn a_report_names_its_gpus_and_any_other_text_none() {
        let of = |text: &str| reported_gpus(&Variables::of(&[("GPU_NUMA_BIND_REPORT", text)]));
        assert_eq!(
            of(r#"{"gpus":["0000:21:00.0","x"]}"#),
            ["0000:21:00.0".parse().unwrap()]
        );
        assert!(of("{").is_empty() && of(r#"{"gpus":3}"#).is_empty());
        assert!(reported_gpus(&Variables::default()).is_empty());
    }
}
