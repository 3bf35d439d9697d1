//! The hooks over a stand-in for Slurm.  What needs a process of its own, a refusal or a panic, is in `tests/abi`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use ffi::spank::Spank;
use ffi::spank::sys::{
    S_CTX_LOCAL, S_JOB_ID, S_JOB_LOCAL_TASK_COUNT, S_JOB_NNODES, S_JOB_NODEID, S_JOB_STEPID,
    S_STEP_CPUS_PER_TASK, S_TASK_ID, STEP_BATCH, STEP_INTERACTIVE, SpankItem,
};
use launch::host::KnownHost;
use launch::observe::{self, Came};
use launch::site::SiteConfig;
use launch::variables::Recorded;
use topology::machine::{Gpu, Machine, NodeKind, NumaNode, Package};
use topology::pci::PciDevice;
use topology::set::NodeSet;
use topology::vendor::VENDORS;
use topology::words::Verb;

use crate::report::step_name;
use crate::stand_in::{hook, take_lines, with};
use crate::step::{Step, StepKind, read_step};
use crate::{guard, option, task};

/// A site whose snapshot folder is empty.
fn site(arguments: &[&str]) -> (SiteConfig, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut site = SiteConfig::parse(arguments);
    site.directory = folder.path().to_owned();
    (site, folder)
}

/// The step that Slurm's items and variables make, of a user who typed `given`.
fn step(
    given: Option<&str>,
    arguments: &[&str],
    items: &[(SpankItem, u32)],
    variables: &[(&str, &str)],
) -> Option<Step> {
    let (site, _folder) = site(arguments);
    let spank = hook(items, variables);
    let asked = site.resolve(given, spank.env("GPU_NUMA_BIND").as_deref());
    read_step(&spank, &site, asked)
}

fn run_task(spank: &Spank<'_>, step: &Step) {
    task::run_in(spank, step, &Came::read(), &Recorded::new(spank));
}

#[test]
fn a_step_that_nobody_asks_to_bind_is_let_be() {
    assert!(step(None, &[], &[], &[("GPU_NUMA_BIND", "node")]).is_none());
    assert!(step(Some("off"), &["always="], &[], &[]).is_none());
    assert!(take_lines().is_empty());
}

#[test]
fn off_still_clears_what_an_outer_step_set() {
    let outer = [
        ("GPU_NUMA_BIND_SET", "CUDA_DEVICE_ORDER=PCI_BUS_ID"),
        ("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
        ("GPU_NUMA_BIND_REPORT", "{}"),
        ("HOME", "/root"),
    ];
    let step = step(Some("off"), &[], &[], &outer).unwrap();
    assert!(step.bind.is_none());
    run_task(&hook(&[], &[]), &step);
    let left: Vec<String> = with(|slurm| slurm.environment.keys().cloned().collect());
    assert_eq!(left, ["HOME"]);
}

/// What srun exports in each case, as seen with `srun`, `salloc` and `sbatch` of a real Slurm and read in the source of the others.
#[test]
fn advice_goes_to_the_command_that_made_the_allocation() {
    let numbered = ("SLURM_JOB_CPUS_PER_NODE_PACK_GROUP_0", "8");
    let batch = ("ENVIRONMENT", "BATCH");
    let of_srun = ("SLURM_JOB_ID_PACK_GROUP_0", "12");
    let of_job = ("SLURM_JOB_ID_HET_GROUP_0", "12");
    let two_hosts = ("SLURM_JOB_NUM_NODES", "2");
    for (id, variables, verb) in [
        (STEP_BATCH, vec![batch], Verb::Sbatch),
        (STEP_INTERACTIVE, vec![], Verb::Salloc),
        (0, vec![], Verb::Srun),
        (0, vec![batch, numbered], Verb::Sbatch),
        (7, vec![batch, numbered], Verb::Sbatch),
        (0, vec![numbered], Verb::Earlier),
        (7, vec![numbered], Verb::Earlier),
        (0, vec![numbered, of_srun], Verb::Srun),
        (0, vec![numbered, of_srun, of_job], Verb::Earlier),
        (0, vec![two_hosts], Verb::Earlier),
    ] {
        with(|slurm| slurm.environment.clear());
        let items = [(S_JOB_STEPID, id), (S_JOB_NNODES, 1)];
        let step = step(Some(""), &[], &items, &variables).unwrap();
        assert_eq!(step.verb, verb, "{id} {variables:?}");
    }
}

#[test]
fn an_ordinary_step_is_as_slurms_items_say() {
    let items = [
        (S_JOB_ID, 12),
        (S_JOB_STEPID, 3),
        (S_JOB_NNODES, 2),
        (S_JOB_LOCAL_TASK_COUNT, 4),
        (S_STEP_CPUS_PER_TASK, 6),
    ];
    let variables = [("SLURM_STEP_GPUS", "0,1"), ("SLURM_HET_SIZE", "3")];
    with(|slurm| slurm.cores = Some(c"0-7".to_owned()));
    let step = step(Some(""), &[], &items, &variables).unwrap();
    assert_eq!((step.kind, step.may_refuse), (StepKind::Ordinary, true));
    assert_eq!((step.tasks, step.cpus_asked, step.hosts), (4, 6, 3));
    assert_eq!(
        (
            step.gpu_list.as_deref(),
            step.cores.as_ref().map(|cores| cores.count),
        ),
        (Some("0,1"), Some(8))
    );
    assert_eq!(step_name(&step), "12.3");
}

#[test]
fn a_batch_script_asks_for_all_tasks_of_its_host_and_is_refused_by_strict_batch_alone() {
    let items = [
        (S_JOB_ID, 12),
        (S_JOB_STEPID, STEP_BATCH),
        (S_JOB_NODEID, 2),
        // Slurm says all CPUs of the host here.
        (S_STEP_CPUS_PER_TASK, 64),
    ];
    let variables = [
        ("SLURM_CPUS_PER_TASK", "3"),
        ("SLURM_TASKS_PER_NODE", "4(x2),5"),
        ("SLURM_JOB_NUM_NODES", "3"),
        ("SLURM_JOB_GPUS", "0-3"),
    ];
    let read = |arguments: &[&str]| step(Some(""), arguments, &items, &variables).unwrap();
    let script = read(&[]);
    assert_eq!((script.kind, script.may_refuse), (StepKind::Script, false));
    assert_eq!(
        (script.script_tasks, script.cpus_asked, script.hosts),
        (5, 15, 3)
    );
    assert_eq!(script.gpu_list.as_deref(), Some("0-3"));
    assert_eq!(step_name(&script), "12.batch");
    assert!(read(&["strict_batch"]).may_refuse);
}

#[test]
fn a_list_of_tasks_that_ends_too_early_means_one() {
    let items = [(S_JOB_STEPID, STEP_BATCH), (S_JOB_NODEID, 2)];
    for list in ["4(x2)", "4(x2", "x", "(x9)"] {
        let variables = [("SLURM_TASKS_PER_NODE", list)];
        assert_eq!(
            step(Some(""), &[], &items, &variables)
                .unwrap()
                .script_tasks,
            1,
            "{list}"
        );
    }
}

/// This host's CPUs as one node with one GPU, which nothing but its UUID names.
fn one_gpu() -> Machine {
    let online = observe::cpuset().unwrap();
    let address = "0000:21:00.0".parse().unwrap();
    let mut gpu = Gpu::of(&PciDevice::new(address, 0x03_0200, VENDORS[0].id, 0x2330));
    gpu.uuid = Some("GPU-1aaa-bbbb".to_owned());
    gpu.locality.numa_nodes = Some(NodeSet::single(0));
    gpu.locality.package = Some(0);
    Machine {
        packages: vec![Package {
            id: 0,
            cpus: online.clone(),
            numa_nodes: NodeSet::single(0),
        }],
        numa_nodes: vec![NumaNode {
            id: 0,
            package: Some(0),
            cpus: online.clone(),
            memory_bytes: Some(1 << 30),
            kind: NodeKind::Dram,
            distances: [(0, 10)].into(),
        }],
        cores: online.iter().map(topology::set::CpuSet::single).collect(),
        online,
        gpus: vec![gpu],
        ..Machine::default()
    }
}

/// Runs a task of a step on that machine, and gives what was said.
fn run(given: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let items = [(S_JOB_ID, 12), (S_JOB_STEPID, 0), (S_TASK_ID, 0)];
    let mut step = step(Some(given), &[], &items, variables).unwrap();
    let bind = step.bind.as_mut().unwrap();
    bind.host = Ok(KnownHost::new(one_gpu(), None, None));
    take_lines();
    run_task(&hook(&items, variables), &step);
    take_lines()
}

fn variable(name: &str) -> Option<String> {
    with(|slurm| slurm.environment.get(name).cloned())
}

#[test]
fn a_bound_task_gets_its_variables_and_marks() {
    let gpu = [
        ("CUDA_VISIBLE_DEVICES", "GPU-1aaa-bbbb"),
        ("SLURMD_NODENAME", "n7"),
    ];
    let lines = run("verbose,mem=none", &gpu);
    assert!(
        lines[0].starts_with("gpu-numa-bind: n7 task 0: GPU 0000:21:00.0"),
        "{lines:?}"
    );
    assert_eq!(variable("CUDA_DEVICE_ORDER").as_deref(), Some("PCI_BUS_ID"));
    let set: Vec<String> = launch::frameworks::FRAMEWORKS
        .iter()
        .flat_map(|row| row.keep_still)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        variable("GPU_NUMA_BIND_SET").unwrap(),
        format!("CUDA_DEVICE_ORDER=PCI_BUS_ID\n{}", set.join("\n"))
    );
    let report = variable("GPU_NUMA_BIND_REPORT").unwrap();
    assert!(report.starts_with(
        r#"{"schema":"gpu-numa/report/1","host":"n7","job":12,"step":"12.0","task":0,"#
    ));
    assert!(report.contains(r#""gpus":["0000:21:00.0"]"#), "{report}");
}

#[test]
fn the_policy_none_sets_no_variable() {
    let gpu = [("CUDA_VISIBLE_DEVICES", "GPU-1aaa-bbbb")];
    assert!(!run("none,verbose", &gpu).is_empty());
    assert_eq!(variable("CUDA_DEVICE_ORDER"), None);
    assert_eq!(variable("GPU_NUMA_BIND_REPORT"), None);
}

#[test]
fn a_step_without_gpus_is_said_when_asked_for_detail() {
    let lines = run("verbose", &[]);
    assert!(
        lines.len() == 1 && lines[0].contains("the step has no GPU"),
        "{lines:?}"
    );
    assert!(run("", &[]).is_empty());
}

#[test]
fn a_strict_policy_that_the_site_has_turned_off_is_said_by_the_first_task() {
    let off = &["always=off,quiet", "lock=policy"][..];
    let said = |given| {
        if let Some(step) = step(given, off, &[], &[("SLURMD_NODENAME", "n1")]) {
            run_task(&hook(&[], &[("SLURMD_NODENAME", "n1")]), &step);
        }
        take_lines()
    };
    assert_eq!(
        said(Some("restricted")),
        [
            "gpu-numa-bind: n1: restricted does not hold, because this site has turned binding off; left as Slurm made it"
        ]
    );
    assert!(said(Some("best-effort")).is_empty());
    assert!(said(None).is_empty());
}

#[test]
fn what_is_odd_in_the_option_is_said_once_by_the_first_task() {
    let lines = run("node,bogus,quiet", &[]);
    assert!(
        lines.len() == 1 && lines[0].contains("unknown item \"bogus\""),
        "{lines:?}"
    );
}

#[test]
fn a_bad_option_is_refused_where_it_is_typed_and_taken_in_slurmstepd() {
    with(|slurm| slurm.context = S_CTX_LOCAL);
    assert_eq!(option::take("clsest", false), -1);
    let lines = take_lines();
    assert!(
        lines[0].starts_with("gpu-numa-bind: unknown item \"clsest\"; expected"),
        "{lines:?}"
    );
    assert_eq!(option::take("clsest", true), 0);
    // What printf makes of no value.
    assert_eq!(option::take("(null)", false), 0);
    assert!(take_lines().is_empty());
}

#[test]
fn a_panic_in_a_hook_is_a_line_and_success() {
    assert_eq!(guard::hook("user_init", || panic!("made up")), 0);
    let lines = take_lines().join("\n");
    assert!(
        lines.contains("made up") && lines.contains("internal fault in user_init"),
        "{lines}"
    );
    assert_eq!(guard::callback(|| 7), 7);
}
