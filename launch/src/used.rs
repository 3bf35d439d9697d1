//! Which GPUs a process uses, as far as that can be known from outside it.
//!
//! What a process was given and what it uses are two things: each rank of torchrun is given all GPUs of its task and
//! uses one.  The evidence is asked in this order: who asks; NVML's list of processes; the compute driver's
//! list of their queues; the one device file that it holds
//! open; what `gpu-numa run` chose for it; the report of its Slurm task; the GPUs that it sees.  The last three may be
//! for several ranks, and a launcher's variables say which of them this is.  What `run` and the task's report name was
//! given to the first process; one that it started may see fewer of them, or none.

use topology::machine::Machine;
use topology::pci::PciAddress;

use crate::environment::{RunChoice, reported_gpus};
use crate::rank::LocalRank;
use crate::variables::Environment;

/// The GPUs of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedGpus {
    /// Them, in the order of its own numbering where that is known.
    pub gpus: Vec<PciAddress>,
    /// Whether it is taken to use all of them; else it uses some of them, and which is not known.
    pub uses_all: bool,
    /// How they are known.
    pub evidence: Evidence,
}

/// How a process's GPUs are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// Whoever asks named them.
    Named,
    /// NVML lists the process on them.
    Nvml,
    /// It has work queues on them, as their compute driver lists.
    Queues,
    /// It holds their device files open.
    OpenFile,
    /// `gpu-numa run` chose them for it.
    Run,
    /// Its Slurm task's report.
    Report,
    /// Its rank among the processes of its launcher, and the GPUs that all of them see.
    Rank(LocalRank),
    /// It sees them.
    Visible,
    /// It may see them: this variable says which, in a way that is not known here.
    Misread(&'static str),
    /// It may open them, and its own title stands where its environment was.
    Titled,
    /// Nothing says that it has any, for this reason.
    Nothing(Silence),
}

/// Why nothing says that a process has a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// Neither its files nor its environment name one.
    NotNamed,
    /// Its environment and its open files may not be read.
    Unreadable,
    /// Its own title stands where its environment was.
    Titled,
    /// It is a thread of the kernel.
    Kernel,
    /// This variable hides all GPUs from it.
    Hidden(&'static str),
    /// This variable, with this value, counts among the GPUs that the process's own cgroup or container lets it open, and which these
    /// are is not known.
    Numbered(&'static str, String),
}

impl Evidence {
    /// Whether it says what the process does; what it was given, it need not use.
    pub fn is_of_use(&self) -> bool {
        matches!(
            self,
            Self::Named | Self::Nvml | Self::Queues | Self::OpenFile
        )
    }
}

/// What a process's environment says of the GPUs that it sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seen {
    /// It names none, and what the process may open is not known.
    #[default]
    NotNamed,
    /// It may not be read.
    Unreadable,
    /// The process's own title stands in its place; these the process may open, none where that is not known.
    Titled(Vec<PciAddress>),
    /// It is a thread of the kernel, which has none.
    Kernel,
    /// It names none, and these the process may open.
    Openable(Vec<PciAddress>),
    /// A variable names these, in the order of the process's own numbering; none where it hides all.
    Listed(&'static str, Vec<PciAddress>),
    /// A variable names some of these in a way that is not known here: a MIG instance, or numbers by speed.
    Misread(&'static str, Vec<PciAddress>),
    /// A variable, with this value, names as many as this by numbers that count among GPUs which are not known.
    Numbered(&'static str, String, usize),
}

impl Seen {
    /// Those that are known, in the order of the process's own numbering where that is known.
    fn gpus(&self) -> &[PciAddress] {
        match self {
            Self::Openable(gpus)
            | Self::Listed(_, gpus)
            | Self::Misread(_, gpus)
            | Self::Titled(gpus) => gpus,
            Self::NotNamed | Self::Unreadable | Self::Kernel | Self::Numbered(..) => &[],
        }
    }

    fn silence(&self) -> Silence {
        match self {
            Self::NotNamed | Self::Openable(_) | Self::Misread(..) => Silence::NotNamed,
            Self::Unreadable => Silence::Unreadable,
            Self::Titled(_) => Silence::Titled,
            Self::Kernel => Silence::Kernel,
            Self::Listed(variable, _) => Silence::Hidden(variable),
            Self::Numbered(variable, value, _) => Silence::Numbered(variable, value.clone()),
        }
    }
}

/// What is known of a process.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Those on which NVML lists it.
    pub in_nvml: Vec<PciAddress>,
    /// Those on which it has work queues, by their compute driver's list.
    pub queues: Vec<PciAddress>,
    /// Those whose device file it holds open.
    pub open: Vec<PciAddress>,
    /// What its environment says.
    pub seen: Seen,
    /// Whether it says so of this rank alone ([`crate::own_list`]).
    pub is_own_list: bool,
}

impl UsedGpus {
    /// Those that whoever asks named.
    pub fn named(gpus: Vec<PciAddress>) -> Self {
        Self::all(gpus, Evidence::Named)
    }

    fn all(gpus: Vec<PciAddress>, evidence: Evidence) -> Self {
        Self {
            gpus,
            uses_all: true,
            evidence,
        }
    }
}

/// What several processes of a launcher, or one alone, were given.
struct Given {
    gpus: Vec<PciAddress>,
    evidence: Evidence,
    /// The rank that takes its share of them; none where all are for this process.
    rank: Option<LocalRank>,
    /// Whether it sees fewer, and which is not known.
    is_narrowed: bool,
}

/// The GPUs that a process uses; `environment` is the one that it was started with.
pub fn find_used(machine: &Machine, facts: &Facts, environment: &impl Environment) -> UsedGpus {
    let known = |gpus: &[PciAddress]| -> Vec<PciAddress> {
        let gpus = gpus.iter().filter(|gpu| machine.gpu(**gpu).is_some());
        gpus.copied().collect()
    };
    let in_nvml = known(&facts.in_nvml);
    if !in_nvml.is_empty() {
        return UsedGpus::all(in_nvml, Evidence::Nvml);
    }
    let queues = known(&facts.queues);
    if !queues.is_empty() {
        return UsedGpus::all(queues, Evidence::Queues);
    }
    if let [_] = facts.open.as_slice() {
        return UsedGpus::all(facts.open.clone(), Evidence::OpenFile);
    }
    let given = given(facts, environment);
    if given.gpus.is_empty() {
        // One of several open files may be that of the GPU that it works on.
        return match facts.open.as_slice() {
            [] => UsedGpus::all(Vec::new(), Evidence::Nothing(facts.seen.silence())),
            open => {
                let rank = LocalRank::read(environment);
                of_rank(open, rank, Evidence::OpenFile)
            }
        };
    }
    let mut used = if given.is_narrowed {
        UsedGpus {
            gpus: given.gpus,
            uses_all: false,
            evidence: given.evidence,
        }
    } else {
        of_rank(&given.gpus, given.rank, given.evidence)
    };
    let is_open = |gpu: &PciAddress| facts.open.is_empty() || facts.open.contains(gpu);
    if used.gpus.iter().any(is_open) {
        // It works on none whose file it does not hold open.
        used.gpus.retain(is_open);
        return used;
    }
    // It works on others than it was given.
    UsedGpus {
        gpus: facts.open.clone(),
        uses_all: false,
        evidence: Evidence::OpenFile,
    }
}

/// What was given to a process that sees `seen`.
fn narrow(
    gpus: Vec<PciAddress>,
    evidence: Evidence,
    rank: Option<LocalRank>,
    seen: &Seen,
) -> Given {
    let given = |gpus, evidence, is_narrowed| Given {
        gpus,
        evidence,
        rank,
        is_narrowed,
    };
    match seen {
        Seen::Listed(_, seen) => {
            let both = seen.iter().copied().filter(|gpu| gpus.contains(gpu));
            let both: Vec<PciAddress> = both.collect();
            if both.is_empty() {
                // It was started with others than those that its task was bound for.
                given(seen.clone(), Evidence::Visible, false)
            } else if both.len() < gpus.len() {
                given(both, Evidence::Visible, false)
            } else {
                // In the order of its own numbers.
                given(both, evidence, false)
            }
        }
        Seen::Numbered(_, _, count) => {
            let is_narrowed = *count < gpus.len();
            given(gpus, evidence, is_narrowed)
        }
        Seen::NotNamed
        | Seen::Unreadable
        | Seen::Titled(_)
        | Seen::Kernel
        | Seen::Openable(_)
        | Seen::Misread(..) => given(gpus, evidence, false),
    }
}

fn given(facts: &Facts, environment: &impl Environment) -> Given {
    let rank = LocalRank::read(environment);
    let all = |gpus, evidence, rank| narrow(gpus, evidence, rank, &facts.seen);
    if let Some(choice) = RunChoice::read(environment).filter(|choice| !choice.gpus.is_empty()) {
        let rank = rank.filter(|_| !choice.is_for_rank(environment));
        return all(choice.gpus, Evidence::Run, rank);
    }
    let reported = reported_gpus(environment);
    if !reported.is_empty() {
        let task = LocalRank::of_task(environment);
        // A launcher in the task may number its processes as Slurm numbers its tasks (MPI started by srun).
        let is_tasks = |rank: &LocalRank| {
            rank.is_of_task()
                || task.as_ref().is_some_and(|task| {
                    task.index == rank.index && task.of.is_some() && task.of == rank.of
                })
        };
        return all(
            reported,
            Evidence::Report,
            rank.filter(|rank| !is_tasks(rank)),
        );
    }
    let visible = facts.seen.gpus();
    let evidence = match &facts.seen {
        Seen::Misread(variable, _) => Evidence::Misread(variable),
        Seen::Titled(_) => Evidence::Titled,
        Seen::NotNamed
        | Seen::Unreadable
        | Seen::Kernel
        | Seen::Openable(_)
        | Seen::Listed(..)
        | Seen::Numbered(..) => Evidence::Visible,
    };
    // Whatever the variable names, its number counts within that.
    let rank = rank.filter(|_| !matches!(facts.seen, Seen::Misread(..)));
    let has_own =
        |rank: &LocalRank| facts.is_own_list || rank.has_slurms_share(environment, visible.len());
    let rank = rank.filter(|rank| !has_own(rank));
    all(visible.to_vec(), evidence, rank)
}

/// What the process of `rank` uses of the GPUs that all ranks of its host see: the one with its number, as frameworks
/// and MPI programs choose; where ranks are fewer, it may also be the block that `gpu-numa run --per-rank` deals.  Where ranks are
/// more, some programs count round and others give neighbours the same.
fn of_rank(gpus: &[PciAddress], rank: Option<LocalRank>, evidence: Evidence) -> UsedGpus {
    let Some(rank) = rank.filter(|rank| gpus.len() > 1 && rank.of != Some(1)) else {
        // What it sees or holds open says what it may use, not what it does.
        let is_use = !matches!(
            evidence,
            Evidence::Visible | Evidence::Misread(_) | Evidence::Titled | Evidence::OpenFile
        );
        return UsedGpus {
            gpus: gpus.to_vec(),
            uses_all: is_use || gpus.len() == 1,
            evidence,
        };
    };
    let (index, count) = (rank.index, gpus.len());
    let is_candidate = |place: usize| match rank.of {
        Some(of) if of >= count && of % count == 0 => {
            place == index % count || place == index / (of / count)
        }
        Some(of) if of < count && count % of == 0 => {
            place == index || place / (count / of) == index
        }
        // The number alone: rank 0 may be the only one.
        None if (1..count).contains(&index) => place == index,
        Some(_) | None => true,
    };
    let chosen = gpus.iter().enumerate();
    let chosen = chosen.filter(|(place, _)| is_candidate(*place));
    let chosen: Vec<PciAddress> = chosen.map(|(_, gpu)| *gpu).collect();
    UsedGpus {
        uses_all: chosen.len() == 1,
        gpus: chosen,
        evidence: Evidence::Rank(rank),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::tests::Variables;
    use topology::machine::Gpu;
    use topology::pci::{CLASS_3D, PciDevice};

    fn gpus(numbers: std::ops::Range<u8>) -> Vec<PciAddress> {
        numbers
            .map(|number| format!("0000:{:02x}:00.0", 0x20 + number).parse().unwrap())
            .collect()
    }

    fn machine() -> Machine {
        let gpus = gpus(0..8).into_iter();
        let gpus = gpus.map(|pci| Gpu::of(&PciDevice::new(pci, CLASS_3D, 0x10de, 0x2330)));
        Machine {
            gpus: gpus.collect(),
            ..Machine::default()
        }
    }

    /// The numbers of the GPUs, and whether it uses all of them.
    fn used(facts: &Facts, variables: &[(&str, &str)]) -> (Vec<usize>, bool) {
        let used = find_used(&machine(), facts, &Variables::of(variables));
        let all = gpus(0..8);
        let number = |gpu| all.iter().position(|own| own == gpu).unwrap();
        (used.gpus.iter().map(number).collect(), used.uses_all)
    }

    fn sees(count: u8) -> Facts {
        Facts {
            seen: Seen::Openable(gpus(0..count)),
            ..Facts::default()
        }
    }

    fn report(count: u8) -> String {
        let gpus: Vec<String> = gpus(0..count).iter().map(ToString::to_string).collect();
        serde_json::json!({ "gpus": gpus }).to_string()
    }

    #[test]
    fn a_rank_of_torchrun_uses_the_gpu_of_its_number() {
        let rank = |index, of| used(&sees(8), &[("LOCAL_RANK", index), ("LOCAL_WORLD_SIZE", of)]);
        assert_eq!(rank("5", "8"), (vec![5], true));
        // With more it may be either of two, of which the first and the last rank's are one.
        assert_eq!(rank("13", "16"), (vec![5, 6], false));
        assert_eq!(rank("0", "16"), (vec![0], true));
        assert_eq!(rank("15", "16"), (vec![7], true));
        assert_eq!(rank("0", "1"), ((0..8).collect(), false));
        // With fewer ranks it may be the GPU of its number or its block; with a number that does not fit, any.
        assert_eq!(rank("1", "4"), (vec![1, 2, 3], false));
        assert_eq!(rank("0", "4"), (vec![0, 1], false));
        assert_eq!(rank("2", "3"), ((0..8).collect(), false));
        // What no launcher says: one of none, and one beyond the last.
        assert_eq!(rank("0", "0"), ((0..8).collect(), false));
        assert_eq!(rank("9", "8"), ((0..8).collect(), false));
    }

    #[test]
    fn a_rank_without_a_count_is_one_of_several_unless_it_is_the_first() {
        assert_eq!(used(&sees(8), &[("LOCAL_RANK", "5")]), (vec![5], true));
        assert_eq!(
            used(&sees(8), &[("LOCAL_RANK", "0")]),
            ((0..8).collect(), false)
        );
    }

    #[test]
    fn torchruns_ranks_share_their_tasks_report_and_srun_s_tasks_do_not() {
        let report = report(8);
        let task = [
            ("GPU_NUMA_BIND_REPORT", report.as_str()),
            ("SLURM_LOCALID", "0"),
            ("SLURM_STEP_TASKS_PER_NODE", "1(x2)"),
        ];
        assert_eq!(used(&sees(0), &task), ((0..8).collect(), true));
        let torchrun = [("LOCAL_RANK", "6"), ("LOCAL_WORLD_SIZE", "8")];
        assert_eq!(
            used(&sees(0), &[&task[..], &torchrun].concat()),
            (vec![6], true)
        );
        let mpi = [
            ("SLURM_LOCALID", "2"),
            ("SLURM_STEP_TASKS_PER_NODE", "4"),
            ("PMI_LOCAL_RANK", "2"),
            ("PMI_LOCAL_SIZE", "4"),
        ];
        let two = self::report(2);
        let mpi = [&mpi[..], &[("GPU_NUMA_BIND_REPORT", two.as_str())]].concat();
        assert_eq!(used(&sees(0), &mpi), (vec![0, 1], true));
    }

    #[test]
    fn without_a_report_slurms_tasks_share_what_they_see_only_where_that_is_all() {
        let task = |on_host| {
            let set = [
                ("SLURM_LOCALID", "1"),
                ("SLURM_STEP_TASKS_PER_NODE", "4"),
                ("SLURM_GPUS_ON_NODE", on_host),
            ];
            used(&sees(4), &set)
        };
        assert_eq!(task("4"), (vec![1], true));
        assert_eq!(task("8"), ((0..4).collect(), false));
    }

    #[test]
    fn what_run_chose_is_for_its_own_rank_and_its_own_task() {
        let torchrun = [("LOCAL_RANK", "3"), ("LOCAL_WORLD_SIZE", "4")];
        let choice = |set: &[(&str, &str)], is_ranks| {
            let choice = RunChoice::new(&Variables::of(set), gpus(4..8), is_ranks);
            choice.variable().unwrap().1
        };
        let for_rank = choice(&torchrun, true);
        let handed = [&torchrun[..], &[("GPU_NUMA_RUN", for_rank.as_str())]].concat();
        assert_eq!(used(&sees(8), &handed), (vec![4, 5, 6, 7], true));
        // run started torchrun, not torchrun run.
        let for_all = choice(&[], false);
        let handed = [&torchrun[..], &[("GPU_NUMA_RUN", for_all.as_str())]].concat();
        assert_eq!(used(&sees(8), &handed), (vec![7], true));
        // A step that inherits the choice of the script around it.
        let step = [
            ("SLURM_JOB_ID", "7"),
            ("SLURM_STEP_ID", "0"),
            ("SLURM_LOCALID", "0"),
            ("GPU_NUMA_RUN", for_all.as_str()),
        ];
        assert_eq!(used(&sees(2), &step), (vec![0, 1], false));
    }

    #[test]
    fn a_program_that_sees_fewer_than_its_task_uses_those() {
        let report = report(4);
        let task = [("GPU_NUMA_BIND_REPORT", report.as_str())];
        let listed = |of: std::ops::Range<u8>| Facts {
            seen: Seen::Listed("CUDA_VISIBLE_DEVICES", gpus(of)),
            ..Facts::default()
        };
        assert_eq!(used(&listed(2..3), &task), (vec![2], true));
        assert_eq!(used(&listed(2..4), &task), (vec![2, 3], false));
        assert_eq!(used(&listed(0..4), &task), (vec![0, 1, 2, 3], true));
        // It was started with others.
        assert_eq!(used(&listed(6..7), &task), (vec![6], true));
        // A rank counts within its own list.
        let rank = [("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "2")];
        assert_eq!(
            used(&listed(2..4), &[&task[..], &rank].concat()),
            (vec![3], true)
        );
        let numbered = |count| Facts {
            seen: Seen::Numbered("CUDA_VISIBLE_DEVICES", "0".to_owned(), count),
            ..Facts::default()
        };
        assert_eq!(used(&numbered(4), &task), (vec![0, 1, 2, 3], true));
        assert_eq!(used(&numbered(1), &task), (vec![0, 1, 2, 3], false));
    }

    #[test]
    fn where_nothing_is_found_the_reason_is_given() {
        let silence = |seen: Seen, variables: &[(&str, &str)]| {
            let facts = Facts {
                seen,
                ..Facts::default()
            };
            find_used(&machine(), &facts, &Variables::of(variables)).evidence
        };
        let report = report(4);
        let task = [("GPU_NUMA_BIND_REPORT", report.as_str())];
        for variables in [&task[..], &[]] {
            assert_eq!(
                silence(Seen::Listed("ROCR", Vec::new()), variables),
                Evidence::Nothing(Silence::Hidden("ROCR"))
            );
        }
        assert_eq!(
            silence(Seen::Unreadable, &[]),
            Evidence::Nothing(Silence::Unreadable)
        );
        assert_eq!(
            silence(Seen::Numbered("ROCR", "0".to_owned(), 1), &[]),
            Evidence::Nothing(Silence::Numbered("ROCR", "0".to_owned()))
        );
        assert_eq!(
            silence(Seen::NotNamed, &[]),
            Evidence::Nothing(Silence::NotNamed)
        );
    }

    #[test]
    fn of_its_tasks_gpus_it_uses_those_whose_files_it_holds_open() {
        let report = report(4);
        let task = [("GPU_NUMA_BIND_REPORT", report.as_str())];
        let facts = Facts {
            open: gpus(1..3),
            ..sees(8)
        };
        assert_eq!(used(&facts, &task), (vec![1, 2], true));
    }

    #[test]
    fn the_report_of_the_step_around_is_not_its_own() {
        let of_script = r#"{"job":7,"step":"7.batch","gpus":["0000:20:00.0"]}"#;
        let with = |variables: &[(&str, &str)]| {
            let report = [("GPU_NUMA_BIND_REPORT", of_script)];
            used(&Facts::default(), &[&report[..], variables].concat()).0
        };
        let job = ("SLURM_JOB_ID", "7");
        assert_eq!(with(&[job]), [0]);
        assert_eq!(with(&[job, ("SLURM_STEP_ID", "4294967291")]), [0]);
        assert_eq!(with(&[job, ("SLURM_STEP_ID", "0")]), [0usize; 0]);
        assert_eq!(with(&[("SLURM_JOB_ID", "8")]), [0usize; 0]);
        let parts = [("SLURM_JOB_ID", "8"), ("SLURM_HET_SIZE", "2")];
        assert_eq!(with(&parts), [0]);
    }

    #[test]
    fn what_it_does_goes_before_what_it_was_given() {
        let torchrun = [("LOCAL_RANK", "3"), ("LOCAL_WORLD_SIZE", "8")];
        let mut facts = sees(8);
        facts.open = gpus(0..8);
        assert_eq!(used(&facts, &torchrun), (vec![3], true));
        facts.open = gpus(6..7);
        assert_eq!(used(&facts, &torchrun), (vec![6], true));
        facts.open = gpus(5..8);
        assert_eq!(used(&facts, &torchrun), (vec![5, 6, 7], false));
        // A runtime opens all that a process sees, and has work queues on what it uses.
        facts.queues = gpus(4..5);
        assert_eq!(used(&facts, &torchrun), (vec![4], true));
        facts.in_nvml = gpus(0..2);
        assert_eq!(used(&facts, &torchrun), (vec![0, 1], true));
        assert_eq!(used(&Facts::default(), &torchrun), (vec![], true));
    }
}
