//! What launchers put into the environment of the processes that they start: each one's place on its host.

use crate::variables::Environment;

/// The variables of one launcher.
struct Launcher {
    /// The process's number on its host.
    rank: &'static str,
    /// How many there are on its host, first found, first taken.
    here: &'static [&'static str],
    /// How many there are on all hosts; none where it says how many hosts there are instead ([`HOSTS`]).
    all: Option<&'static str>,
    /// Whether its processes share the mask that it was started with; others bind each process.
    shares_mask: bool,
}

/// The number of a Slurm task on its host.
const TASK: &str = "SLURM_LOCALID";

/// First found, first taken.
const LAUNCHERS: [Launcher; 11] = [
    // torchrun, and accelerate after it; deepspeed has a word of its own for how many there are.
    launcher(
        "LOCAL_RANK",
        &["LOCAL_WORLD_SIZE", "LOCAL_SIZE"],
        Some("WORLD_SIZE"),
        true,
    ),
    // Open MPI.
    launcher(
        "OMPI_COMM_WORLD_LOCAL_RANK",
        &["OMPI_COMM_WORLD_LOCAL_SIZE"],
        Some("OMPI_COMM_WORLD_SIZE"),
        false,
    ),
    // MPICH and Intel MPI.
    launcher(
        "MPI_LOCALRANKID",
        &["MPI_LOCALNRANKS"],
        Some("PMI_SIZE"),
        false,
    ),
    // MVAPICH2.
    launcher(
        "MV2_COMM_WORLD_LOCAL_RANK",
        &["MV2_COMM_WORLD_LOCAL_SIZE"],
        Some("MV2_COMM_WORLD_SIZE"),
        false,
    ),
    // MVAPICH 3 (mpirun_rsh).
    launcher(
        "MVP_COMM_WORLD_LOCAL_RANK",
        &["MVP_COMM_WORLD_LOCAL_SIZE"],
        Some("MVP_COMM_WORLD_SIZE"),
        false,
    ),
    // IBM's jsrun.
    launcher(
        "JSM_NAMESPACE_LOCAL_RANK",
        &["JSM_NAMESPACE_LOCAL_SIZE"],
        Some("JSM_NAMESPACE_SIZE"),
        false,
    ),
    // Others with PMI.
    launcher(
        "PMI_LOCAL_RANK",
        &["PMI_LOCAL_SIZE"],
        Some("PMI_SIZE"),
        false,
    ),
    // HPE's PALS (mpiexec on Cray EX).
    launcher(
        "PALS_LOCAL_RANKID",
        &["PALS_LOCAL_SIZE"],
        Some("PALS_SIZE"),
        false,
    ),
    // Horovod's own launcher (Gloo).
    launcher(
        "HOROVOD_LOCAL_RANK",
        &["HOROVOD_LOCAL_SIZE"],
        Some("HOROVOD_SIZE"),
        true,
    ),
    // Flux (flux-run(1)), which does not say how many there are on the host.
    launcher("FLUX_TASK_LOCAL_ID", &[], Some("FLUX_JOB_SIZE"), false),
    // Slurm.
    launcher(TASK, &["SLURM_STEP_TASKS_PER_NODE"], None, false),
];

/// Slurm's variables that hold a number of hosts.
const HOSTS: [&str; 3] = [
    "SLURM_JOB_NUM_NODES",
    "SLURM_NNODES",
    "SLURM_STEP_NUM_NODES",
];

/// The most processes of a host that are planned for together.
const MOST_RANKS: usize = 4096;

const fn launcher(
    rank: &'static str,
    here: &'static [&'static str],
    all: Option<&'static str>,
    shares_mask: bool,
) -> Launcher {
    Launcher {
        rank,
        here,
        all,
        shares_mask,
    }
}

/// A process's place among those of its launcher on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are that see the same CPUs; none where the launcher does not say, or has bound each to its own.
    pub of: Option<usize>,
}

/// Why the environment gives no rank.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RankError {
    /// No launcher's variable is set.
    #[error(
        "no local rank in the environment; expected one of {}",
        rank_variables()
    )]
    Missing,
    /// A launcher's variable holds something else.
    #[error("{name}=\"{value}\": expected a number")]
    NoNumber {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A number that is none of the host's ranks.
    #[error("{name}={index}: expected a number below {of}, the ranks of this host")]
    Beyond {
        /// The variable.
        name: &'static str,
        /// Its value.
        index: usize,
        /// How many ranks the host has, by the launcher; else the most that are planned for.
        of: usize,
    },
}

/// What a launcher's variables say of a process's place, whatever its processes' masks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalRank {
    /// The variable that holds its number.
    pub variable: &'static str,
    /// Its number on its host, from 0.
    pub index: usize,
    /// How many there are on its host; none where the launcher does not say.
    pub of: Option<usize>,
}

impl LocalRank {
    /// Of the first launcher whose variable is set; none where it holds no number of a rank.
    pub fn read(environment: &impl Environment) -> Option<Self> {
        let (launcher, text) = first_launcher(environment)?;
        Self::new(launcher, &text, environment)
    }

    /// None where the number is none of so many.
    fn new(launcher: &Launcher, text: &str, environment: &impl Environment) -> Option<Self> {
        let index = text.trim().parse().ok()?;
        let of = launcher.count(environment);
        of.is_none_or(|of| index < of).then_some(Self {
            variable: launcher.rank,
            index,
            of,
        })
    }

    /// Of the process's Slurm task, which other launchers may have started it in.
    pub fn of_task(environment: &impl Environment) -> Option<Self> {
        let launcher = LAUNCHERS.iter().find(|launcher| launcher.rank == TASK)?;
        Self::new(launcher, &environment.get(TASK)?, environment)
    }

    /// Whether Slurm itself gave it.
    pub fn is_of_task(&self) -> bool {
        self.variable == TASK
    }

    /// Whether it is that of a task to which Slurm gave GPUs of its own: it sees fewer than its step has on the host.
    pub fn has_slurms_share(&self, environment: &impl Environment, sees: usize) -> bool {
        let on_host = environment.get("SLURM_GPUS_ON_NODE");
        let on_host = on_host.and_then(|count| count.trim().parse::<usize>().ok());
        self.is_of_task() && on_host.is_some_and(|count| sees < count)
    }
}

impl Launcher {
    /// How many processes it has on this host; none where it does not say, or says none at all.
    fn count(&self, environment: &impl Environment) -> Option<usize> {
        let text = self.here.iter().find_map(|name| environment.get(name))?;
        let text = text.trim();
        // Slurm's list of all hosts, `4(x2)`, where each has as many.
        let text = match text.split_once("(x") {
            Some((count, hosts)) if hosts.ends_with(')') && !hosts.contains(',') => count,
            Some(_) | None => text,
        };
        text.parse().ok().filter(|count| *count > 0)
    }
}

fn first_launcher(environment: &impl Environment) -> Option<(&'static Launcher, String)> {
    LAUNCHERS
        .iter()
        .find_map(|launcher| Some((launcher, environment.get(launcher.rank)?)))
}

/// Whether a launcher started this process.
pub fn is_rank(environment: &impl Environment) -> bool {
    first_launcher(environment).is_some()
}

/// Reads the calling process's rank; `is_bound` says whether it may use fewer CPUs than its cpuset has.
///
/// # Errors
/// [`RankError`] where no launcher's variable is set, or the first one is no number of a rank.
pub fn read_rank(
    environment: &impl Environment,
    is_bound: impl FnOnce() -> bool,
) -> Result<Rank, RankError> {
    let (launcher, text) = first_launcher(environment).ok_or(RankError::Missing)?;
    let Ok(index) = text.trim().parse::<usize>() else {
        return Err(RankError::NoNumber {
            name: launcher.rank,
            value: text,
        });
    };
    let given = launcher.count(environment);
    if index >= MOST_RANKS || given.is_some_and(|of| index >= of) {
        return Err(RankError::Beyond {
            name: launcher.rank,
            index,
            of: given.unwrap_or(MOST_RANKS),
        });
    }
    let has_shared_mask = launcher.shares_mask || !is_bound();
    let of = given.filter(|of| has_shared_mask && (index + 1..=MOST_RANKS).contains(of));
    Ok(Rank { index, of })
}

/// Whether the job runs on several hosts, by what its launcher says; the same in every rank of a host.
pub fn is_on_several_hosts(environment: &impl Environment) -> bool {
    let hosts = HOSTS.iter().filter_map(|name| number(environment, name));
    let more_elsewhere = LAUNCHERS.iter().any(|launcher| {
        let all = launcher.all.and_then(|all| number(environment, all));
        let here = launcher
            .here
            .iter()
            .find_map(|name| number(environment, name));
        matches!((all, here), (Some(all), Some(here)) if all > here)
    });
    more_elsewhere || hosts.into_iter().any(|hosts| hosts > 1)
}

fn number(environment: &impl Environment, name: &str) -> Option<u64> {
    environment.get(name)?.trim().parse().ok()
}

/// The variables that hold a process's number on its host, the first that is set taken first, for a person.
pub fn rank_variables() -> String {
    LAUNCHERS.map(|launcher| launcher.rank).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::tests::Variables;

    #[test]
    fn the_launcher_says_how_many_hosts_there_are() {
        let among = |set: &[(&str, &str)]| is_on_several_hosts(&Variables::of(set));
        assert!(!among(&[]));
        assert!(among(&[("SLURM_JOB_NUM_NODES", "2")]));
        assert!(!among(&[("SLURM_JOB_NUM_NODES", "1"), ("WORLD_SIZE", "8")]));
        assert!(among(&[("WORLD_SIZE", "16"), ("LOCAL_WORLD_SIZE", "8")]));
        assert!(!among(&[("WORLD_SIZE", "8"), ("LOCAL_WORLD_SIZE", "8")]));
        assert!(!among(&[("WORLD_SIZE", "many"), ("LOCAL_WORLD_SIZE", "8")]));
        assert!(among(&[("PMI_SIZE", "16"), ("MPI_LOCALNRANKS", "8")]));
    }

    #[test]
    fn the_first_launcher_names_the_rank_and_those_that_share_a_mask_are_counted() {
        let rank = |set: &[(&str, &str)], bound| read_rank(&Variables::of(set), || bound);
        let torchrun = [
            ("LOCAL_RANK", "3"),
            ("LOCAL_WORLD_SIZE", "8"),
            ("SLURM_LOCALID", "0"),
        ];
        let of = Some(8);
        assert_eq!(rank(&torchrun, true), Ok(Rank { index: 3, of }));
        let deepspeed = [("LOCAL_RANK", "1"), ("LOCAL_SIZE", "2")];
        let own = LocalRank::read(&Variables::of(&deepspeed)).unwrap();
        assert_eq!((own.index, own.of), (1, Some(2)));
        let mpi = [("PMI_LOCAL_RANK", " 3 "), ("PMI_LOCAL_SIZE", "8")];
        assert_eq!(rank(&mpi, false), Ok(Rank { index: 3, of }));
        assert_eq!(rank(&mpi, true), Ok(Rank { index: 3, of: None }));
        let mvapich = [
            ("MV2_COMM_WORLD_LOCAL_RANK", "3"),
            ("MV2_COMM_WORLD_LOCAL_SIZE", "8"),
        ];
        assert_eq!(rank(&mvapich, false), Ok(Rank { index: 3, of }));
        let few = [("LOCAL_RANK", "3"), ("LOCAL_WORLD_SIZE", "3")];
        assert_eq!(
            rank(&few, false).unwrap_err().to_string(),
            "LOCAL_RANK=3: expected a number below 3, the ranks of this host"
        );
        let absurd = [("LOCAL_RANK", "99999999999")];
        assert!(rank(&absurd, false).is_err());
    }

    #[test]
    fn slurms_list_of_hosts_gives_a_number_where_all_have_as_many() {
        let of = |list: &str| {
            let set = [("SLURM_LOCALID", "1"), ("SLURM_STEP_TASKS_PER_NODE", list)];
            LocalRank::read(&Variables::of(&set)).unwrap().of
        };
        assert_eq!(of("4"), Some(4));
        assert_eq!(of("4(x2)"), Some(4));
        assert_eq!(of("4,2"), None);
        assert_eq!(of("4(x2),1"), None);
    }

    #[test]
    fn the_document_names_every_variable_in_its_order() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/without-slurm.md");
        let document = std::fs::read_to_string(path).unwrap();
        let document = document.split_whitespace().collect::<Vec<_>>().join(" ");
        let listed = format!("(`{}`)", rank_variables().replace(", ", "`, `"));
        assert!(
            document.contains(&listed),
            "docs/without-slurm.md lacks {listed}"
        );
    }

    #[test]
    fn no_rank_and_no_number_are_said() {
        let rank = |set: &[(&str, &str)]| read_rank(&Variables::of(set), || false).unwrap_err();
        assert!(
            rank(&[])
                .to_string()
                .contains("LOCAL_RANK, OMPI_COMM_WORLD_LOCAL_RANK,")
        );
        assert_eq!(
            rank(&[("LOCAL_RANK", "x"), ("SLURM_LOCALID", "1")]).to_string(),
            "LOCAL_RANK=\"x\": expected a number"
        );
    }
}
