//! Launchers and engines that place processes themselves, and what each does under a mask that it was started with.
//!
//! One table: what a launch sets, what `gpu-numa plan --for` prints and the table in docs/frameworks.md follow it.
//! Each row was read in the source that it names; docs/frameworks.md says which were run.

use topology::binding::{TaskPlan, Verdict};
use topology::option::Frameworks;

use crate::variables::Environment;

/// A launcher or an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framework {
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// TensorRT-LLM.
    TensorRtLlm,
    /// Ray.
    Ray,
    /// PyTorch's torchrun.
    Torchrun,
    /// Hugging Face's Accelerate.
    Accelerate,
    /// Open MPI's mpirun.
    Mpirun,
    /// OpenMP's runtimes.
    OpenMp,
}

/// What is known of one.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Which.
    pub framework: Framework,
    /// Its name, for a person.
    pub name: &'static str,
    /// How `gpu-numa plan --for` calls it; none where there are no flags to print.
    pub word: Option<&'static str>,
    /// The vendor whose GPUs alone it runs on; none where it runs on others' too.
    pub runs_on: Option<&'static str>,
    /// What it does under a mask that is narrower than the host.
    pub under_a_mask: &'static str,
    /// The variables, with their values, by which it leaves a task's binding alone; empty where it needs none or has none.
    pub keep_still: &'static [(&'static str, &'static str)],
    /// The release and the files that were read.
    pub read_in: &'static str,
}

/// All that were looked at.
pub const FRAMEWORKS: [Row; 8] = [
    Row {
        framework: Framework::Vllm,
        name: "vLLM",
        word: Some("vllm"),
        runs_on: None,
        under_a_mask: "keeps it by default; `--numa-bind` alone ends the server with a RuntimeError, `--numa-bind-nodes` alone widens it to whole nodes",
        keep_still: &[],
        read_in: "vllm 0.33.0, vllm/utils/numa_utils.py",
    },
    Row {
        framework: Framework::Sglang,
        name: "SGLang",
        word: Some("sglang"),
        runs_on: None,
        under_a_mask: "puts each worker on the mask's CPUs of its GPU's node, and binds its memory to that node alone (`--membind`)",
        keep_still: &[("SGLANG_AUTO_NUMA_BIND", "0")],
        read_in: "sglang 0.5.23, sglang/srt/utils/numa_utils.py and environ.py; its variables",
    },
    Row {
        framework: Framework::TensorRtLlm,
        name: "TensorRT-LLM",
        word: Some("trtllm"),
        runs_on: Some("NVIDIA"),
        under_a_mask: "removes it: its workers may use every CPU of the job",
        keep_still: &[("TLLM_NUMA_AWARE_WORKER_AFFINITY", "0")],
        read_in: "tensorrt_llm/executor/base_worker.py as of pull request 9549, and its deployment guide on CPU affinity",
    },
    Row {
        framework: Framework::Ray,
        name: "Ray",
        word: Some("ray"),
        runs_on: None,
        under_a_mask: "keeps it: all workers of a Ray node share the mask; counts the host's CPUs unless `--num-cpus` is given",
        keep_still: &[],
        read_in: "ray 2.60.0, ray/_private/utils.py and accelerators/nvidia_gpu.py; Ray on accelerators",
    },
    Row {
        framework: Framework::Torchrun,
        name: "torchrun",
        word: Some("torchrun"),
        runs_on: None,
        under_a_mask: "keeps it by default, the same for all workers; `--numa-binding` narrows it for each worker, CPUs only",
        keep_still: &[],
        read_in: "torch 2.15.0, torch/numa/binding.py and torch/distributed/run.py; PyTorch on NUMA binding",
    },
    Row {
        framework: Framework::Accelerate,
        name: "Accelerate",
        word: Some("accelerate"),
        runs_on: None,
        under_a_mask: "keeps it by default; `--enable_cpu_affinity` (`ACCELERATE_CPU_AFFINITY=1`) replaces it by all CPUs that NVML names for GPU number LOCAL_RANK",
        keep_still: &[],
        read_in: "accelerate 1.15.0, accelerate/state.py and utils/environment.py",
    },
    Row {
        framework: Framework::Mpirun,
        name: "Open MPI's mpirun",
        word: Some("mpirun"),
        runs_on: None,
        under_a_mask: "binds each rank to a core or a socket of the cpuset, without regard to GPUs, and outside the mask too, unless `--bind-to none` is given",
        keep_still: &[
            ("OMPI_MCA_hwloc_base_binding_policy", "none"),
            ("PRTE_MCA_hwloc_default_binding_policy", "none"),
        ],
        read_in: "Open MPI 4.1.4, run; 5 and later: docs/man-openmpi/man1/mpirun.1.rst of 6.1.0 (development); mpirun's page in 5.0",
    },
    Row {
        framework: Framework::OpenMp,
        name: "OpenMP",
        word: None,
        runs_on: None,
        under_a_mask: "makes its places from the mask, unless OMP_PLACES names CPUs by number or KMP_AFFINITY says `norespect`",
        keep_still: &[],
        read_in: "OpenMP 5.2, OMP_PLACES (GCC on it); LLVM's documentation of KMP_AFFINITY",
    },
];

impl Row {
    /// The one that `gpu-numa plan --for` calls by `word`.
    pub fn by_word(word: &str) -> Option<&'static Self> {
        let mut rows = FRAMEWORKS.iter();
        rows.find(|row| row.word.is_some_and(|own| own.eq_ignore_ascii_case(word)))
    }
}

/// Whether programs in the task are to leave its binding alone: it is where all of its GPUs are.  One whose GPUs are on
/// several nodes starts a worker for each, and these are better off where the engine puts them.
pub fn is_settled(asked: Frameworks, own: &TaskPlan) -> bool {
    asked == Frameworks::On
        && !own.is_dry_run
        && !own.gpus.is_empty()
        && matches!(own.verdict, Verdict::Local | Verdict::Partial)
}

/// The variables of all, with their values.  Worked out when this is compiled, as a plugin that used the table itself would
/// have its texts in it, each of them a relocation for the loader.
#[allow(
    clippy::indexing_slicing,
    reason = "worked out by the compiler, which would say so"
)]
pub(crate) const KEEP_STILL: [(&str, &str); count_keep_still()] = {
    let mut all = [("", ""); count_keep_still()];
    let (mut row, mut count) = (0, 0);
    while row < FRAMEWORKS.len() {
        let mut variables = FRAMEWORKS[row].keep_still;
        while let [first, rest @ ..] = variables {
            all[count] = *first;
            count += 1;
            variables = rest;
        }
        row += 1;
    }
    all
};

#[allow(
    clippy::indexing_slicing,
    reason = "worked out by the compiler, which would say so"
)]
const fn count_keep_still() -> usize {
    let (mut row, mut count) = (0, 0);
    while row < FRAMEWORKS.len() {
        count += FRAMEWORKS[row].keep_still.len();
        row += 1;
    }
    count
}

/// The variables, with their values, by which programs leave a binding alone, where they are unset.
pub fn keep_still(
    environment: &impl Environment,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    let all = KEEP_STILL.into_iter();
    all.filter(|(name, _)| !environment.has(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::tests::Variables;

    #[test]
    fn what_the_user_set_stays() {
        let own = Variables::of(&[("TLLM_NUMA_AWARE_WORKER_AFFINITY", "1")]);
        let set: Vec<_> = keep_still(&own).collect();
        let mpi = [
            ("OMPI_MCA_hwloc_base_binding_policy", "none"),
            ("PRTE_MCA_hwloc_default_binding_policy", "none"),
        ];
        assert_eq!(set, [&[("SGLANG_AUTO_NUMA_BIND", "0")], &mpi[..]].concat());
    }

    #[test]
    fn the_document_has_the_table_as_it_is_here() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/frameworks.md");
        let document = std::fs::read_to_string(path).unwrap();
        for row in &FRAMEWORKS {
            let set = row.keep_still.iter();
            let set: Vec<String> = set
                .map(|(name, value)| format!("`{name}={value}`"))
                .collect();
            let set = set.join("<br>");
            let line = format!(
                "| {} | {} | {set} | {} |",
                row.name, row.under_a_mask, row.read_in
            );
            let line = line.replace("|  |", "| |");
            let mut lines = document.lines();
            assert!(lines.any(|own| without_links(own) == line), "{line}");
        }
    }

    /// A line of Markdown with the words of its links alone.
    fn without_links(line: &str) -> String {
        let mut parts = line.split("](");
        let first = parts.next().unwrap_or_default().replace('[', "");
        parts.fold(first, |text, part| {
            let behind = part.split_once(')').map_or("", |(_, behind)| behind);
            text + &behind.replace('[', "")
        })
    }
}
