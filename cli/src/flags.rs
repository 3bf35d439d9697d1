//! `gpu-numa plan --for NAME`: the flags with which a launcher or an engine binds its workers as the plugin would.

use clap::builder::PossibleValue;
use launch::frameworks::{FRAMEWORKS, Framework, Row};
use serde::Serialize;
use topology::binding::{StepPlan, StepRequest, TaskPlan, Verdict, memory_nodes};
use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::quantity::count;
use topology::set::CpuSet;

use crate::hardware;

/// What `--for` takes, for clap.
pub(crate) fn words() -> Vec<PossibleValue> {
    let rows = FRAMEWORKS.iter().filter_map(|row| Some((row, row.word?)));
    rows.map(|(row, word)| PossibleValue::new(word).help(row.name))
        .collect()
}

/// One worker, which uses one GPU.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Worker {
    gpu: PciAddress,
    /// The node for its memory; null where that of its GPU is unknown.
    numa_node: Option<u32>,
    cpus: CpuSet,
    #[serde(skip)]
    verdict: Option<Verdict>,
}

/// What the user gave `plan --for`, so that what is printed keeps to it.
#[derive(Debug)]
pub(crate) struct Given {
    /// The command as it was typed, without `--json`.
    pub(crate) again: String,
    /// Options for `gpu-numa run`.
    pub(crate) of_run: Vec<String>,
    /// What stands before the launcher, with a blank at its end: `CUDA_VISIBLE_DEVICES=1,3 ` where it is not to use the
    /// first GPUs, `taskset -c 0-3 ` where CPUs were given; otherwise empty.
    pub(crate) before: String,
}

/// The flags that fit, and what there is to know of them.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FlagsDocument {
    schema: &'static str,
    /// What `--for` named.
    framework: &'static str,
    /// Empty where none is needed, or none can be given.
    flags: Vec<String>,
    workers: Vec<Worker>,
    notes: Vec<String>,
    /// Whether flags are needed and cannot be given.
    #[serde(skip)]
    pub(crate) is_wanting: bool,
}

impl FlagsDocument {
    /// For workers with one GPU each, as `plan` places them on the CPUs of `step`.
    pub(crate) fn new(
        row: &'static Row,
        machine: &Machine,
        step: &StepRequest,
        plan: &StepPlan,
        given: &Given,
    ) -> Self {
        let workers: Vec<Worker> = plan
            .tasks
            .iter()
            .filter_map(|task| worker(machine, task))
            .collect();
        let mut document = Self {
            schema: "gpu-numa/flags/1",
            framework: row.word.unwrap_or_default(),
            flags: Vec::new(),
            workers,
            notes: Vec::new(),
            is_wanting: false,
        };
        document.fill(row, (machine, step), given);
        document
    }

    /// The flags in one line.
    pub(crate) fn line(&self) -> String {
        self.flags.join(" ")
    }

    /// What there is to know, one line each.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    fn fill(&mut self, row: &Row, (machine, step): (&Machine, &StepRequest), given: &Given) {
        let workers = self.workers.len().to_string();
        let mut per_rank = words_of(&["gpu-numa", "run"]);
        per_rank.extend(given.of_run.iter().cloned());
        per_rank.extend(words_of(&["--per-rank", "--"]));
        let (again, before) = (&given.again, &given.before);
        match row.framework {
            Framework::Vllm => self.for_vllm(machine, step, given),
            Framework::Sglang => self.for_sglang(machine, step, given),
            Framework::TensorRtLlm => {
                let value = if self.is_near_all(machine, step) {
                    0
                } else {
                    1
                };
                self.flags = vec![format!("TLLM_NUMA_AWARE_WORKER_AFFINITY={value}")];
                self.note(&format!(
                    "a variable: {before}env $({again}) trtllm-serve ..."
                ));
            }
            Framework::Ray => {
                let cpus = step.step_cpus.len();
                self.flags = words_of(&["--num-gpus", &workers, "--num-cpus", &cpus.to_string()]);
                self.note(
                    "Ray does not bind its workers: start one Ray node per GPU with srun, or let the engine in it bind \
                     them (docs/frameworks.md)",
                );
            }
            Framework::Torchrun => {
                self.flags = words_of(&["--nproc-per-node", &workers, "--no-python"]);
                self.flags.extend(per_rank);
                self.note(&format!("for: {before}torchrun $({again}) python train.py"));
            }
            Framework::Accelerate => {
                self.flags = words_of(&["--num_processes", &workers, "--no_python"]);
                self.flags.extend(per_rank);
                self.note(&format!(
                    "for: {before}accelerate launch $({again}) python train.py"
                ));
            }
            Framework::Mpirun => {
                self.flags = words_of(&["-np", &workers, "--bind-to", "none"]);
                self.flags.extend(per_rank);
                self.note(&format!("for: {before}mpirun $({again}) ./solver"));
            }
            Framework::OpenMp => {}
        }
    }

    fn for_vllm(&mut self, machine: &Machine, step: &StepRequest, given: &Given) {
        let Some(nodes) = self.nodes("--numa-bind", machine, step) else {
            return;
        };
        self.flags = words_of(&["--numa-bind", "--numa-bind-nodes"]);
        self.flags.extend(nodes);
        self.flags.push("--numa-bind-cpus".to_owned());
        let cpus = self.workers.iter().map(|worker| worker.cpus.to_string());
        self.flags.extend(cpus);
        self.note(&format!(
            "for: {}vllm serve MODEL --tensor-parallel-size {} $({})",
            given.before,
            self.workers.len(),
            given.again
        ));
        self.note("vLLM runs numactl for this, and takes memory from these nodes only: a full node ends the worker");
    }

    fn for_sglang(&mut self, machine: &Machine, step: &StepRequest, given: &Given) {
        let Some(nodes) = self.nodes("--numa-node", machine, step) else {
            return;
        };
        self.flags = words_of(&["--numa-node"]);
        self.flags.extend(nodes);
        self.note(&format!(
            "for: {}python -m sglang.launch_server --model-path MODEL --tp-size {} $({})",
            given.before,
            self.workers.len(),
            given.again
        ));
        self.note("SGLang runs numactl for this, and takes memory from these nodes only: a full node ends the worker");
    }

    /// The node of each worker as a flag takes it; none, with the reason as a note, where no flag is needed or one is unknown.
    fn nodes(&mut self, flag: &str, machine: &Machine, step: &StepRequest) -> Option<Vec<String>> {
        if let Some(worker) = self
            .workers
            .iter()
            .find(|worker| worker.numa_node.is_none())
        {
            let gpu = hardware::gpu_label(machine, worker.gpu);
            self.note(&format!(
                "the NUMA node of {gpu} is unknown: leave {flag} out"
            ));
            self.is_wanting = true;
            return None;
        }
        if self.is_near_all(machine, step) {
            let gpus = count(self.workers.len(), "GPU");
            self.note(&format!(
                "no flag needed: CPUs {} are near each of {gpus}, so leave {flag} out",
                step.step_cpus
            ));
            return None;
        }
        let has_near = |worker: &&Worker| {
            let near = machine.cpus_of(&machine.nodes_of_gpus(&[worker.gpu]));
            near.intersects(&step.step_cpus)
        };
        let label = |worker: &Worker| hardware::gpu_label(machine, worker.gpu);
        let far = self
            .workers
            .iter()
            .filter(|worker| worker.verdict != Some(Verdict::Local));
        let (few, none): (Vec<&Worker>, Vec<&Worker>) = far.partition(has_near);
        let [few, none] =
            [few, none].map(|workers| workers.into_iter().map(label).collect::<Vec<_>>());
        if !none.is_empty() {
            self.note(&format!(
                "CPUs {}: none is near {}",
                step.step_cpus,
                none.join(", ")
            ));
        }
        if !few.is_empty() {
            self.note(&format!(
                "CPUs {}: too few for every worker are near {}",
                step.step_cpus,
                few.join(", ")
            ));
        }
        let nodes = self.workers.iter().filter_map(|worker| worker.numa_node);
        Some(nodes.map(|node| node.to_string()).collect())
    }

    /// Whether every CPU of the step is near every GPU, so that nobody can do wrong.
    fn is_near_all(&self, machine: &Machine, step: &StepRequest) -> bool {
        self.workers.iter().all(|worker| {
            let near = machine.cpus_of(&machine.nodes_of_gpus(&[worker.gpu]));
            !near.is_empty() && step.step_cpus.is_subset(&near)
        })
    }

    fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }
}

fn worker(machine: &Machine, task: &TaskPlan) -> Option<Worker> {
    let gpu = *task.gpus.first()?;
    let nodes = memory_nodes(machine, &machine.nodes_of_gpus(&[gpu]));
    Some(Worker {
        gpu,
        numa_node: nodes.iter().next(),
        cpus: task.cpus.clone(),
        verdict: Some(task.verdict),
    })
}

fn words_of(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
