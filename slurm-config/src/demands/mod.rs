//! What Slurm demands of slurm.conf as a whole: keys that must be there, and values that need or exclude others.
//!
//! Most of it stops every daemon and command (`_validate_and_set_defaults`, common/read_config.c, in the last patch of each release
//! from 22.05 to 26.05, and in the development tree of 26.11); the rest slurmctld alone.  `make test-gres` asks real daemons.

mod found;
mod needs;
mod table;

pub use needs::{Need, Wanted, needs, reads_topologies};

use std::fmt;

use crate::config::{Line, last};
use crate::release::{Release, Span};
use crate::rules::{Series, TABLE};
use table::DEMANDS;

/// Who does not start, or does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stops {
    /// slurmctld, slurmd and every command.
    All,
    /// slurmctld; slurmd starts and waits for it.
    Slurmctld,
    /// slurmd.
    Slurmd,
    /// Every srun, salloc, sbatch and scrontab; the daemons start.
    Submission,
    /// Every srun without `--mpi=`; the daemons start.
    Srun,
    /// Every srun; the daemons start, and sbatch and salloc run.
    EverySrun,
}

/// A demand that is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach<'a> {
    /// The line that asks for it; None where something is missing.
    pub line: Option<&'a Line>,
    /// What is wrong, behind the place.
    pub what: String,
    /// What to write there instead.
    pub change: String,
    /// Who does not start.
    pub stops: Stops,
}

impl fmt::Display for Breach<'_> {
    /// Where it is, and what is wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}: {}", line.place(), self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// One thing that Slurm demands.
struct Demand {
    stops: Stops,
    /// Those that demand it.
    releases: Span,
    rule: Rule,
}

enum Rule {
    /// One of these keys must be there.
    Key(&'static [&'static str]),
    /// Where the first is so, the second must be so.
    Needs(Has, Has),
    /// Where the first is so, the second must not be so.
    Excludes(Has, Has),
    /// Anything else.
    Of(for<'a> fn(&Conf<'a>) -> Option<Finding<'a>>),
}

/// That a value has a word in it, in any case (`xstrcasestr`), or a key any value.
#[derive(Debug, Clone, Copy)]
struct Has {
    key: &'static str,
    /// Empty for any value but those with `none` in it.
    word: &'static str,
}

/// A line, what is wrong with it, and what to write.
type Finding<'a> = (&'a Line, String, String);

const fn has(key: &'static str, word: &'static str) -> Has {
    Has { key, word }
}

impl Demand {
    const fn all(rule: Rule) -> Self {
        Self {
            stops: Stops::All,
            releases: Span::ALL,
            rule,
        }
    }

    const fn of_slurmctld(rule: Rule) -> Self {
        Self {
            stops: Stops::Slurmctld,
            ..Self::all(rule)
        }
    }

    const fn of_slurmd(rule: Rule) -> Self {
        Self {
            stops: Stops::Slurmd,
            ..Self::all(rule)
        }
    }

    const fn since(self, year: u32, month: u32) -> Self {
        Self {
            releases: self.releases.since(year, month),
            ..self
        }
    }

    const fn before(self, year: u32, month: u32) -> Self {
        Self {
            releases: self.releases.before(year, month),
            ..self
        }
    }
}

/// Of PrologFlags=; X11 and RunInJob have it in them (`prolog_str2flags`, common/read_config.c).
const CONTAIN: &str = "Contain";

/// What slurm.conf and cgroup.conf say under one release.
struct Conf<'a> {
    conf: &'a [Line],
    cgroup: &'a [Line],
    series: &'static Series,
    /// Whether a key that is not there stands nowhere.
    is_whole: bool,
}

impl<'a> Conf<'a> {
    /// A value of slurm.conf and its line.
    fn given(&self, key: &str) -> Option<(&'a str, &'a Line)> {
        last(self.conf, &key.to_ascii_lowercase())
    }

    /// Whether a key is not there, and may stand in what was not read.
    fn may_be_elsewhere(&self, key: &str) -> bool {
        !self.is_whole && self.given(key).is_none()
    }

    /// A value, or what Slurm takes where there is none.
    fn value(&self, key: &str) -> &'a str {
        match (self.given(key), key) {
            (Some((value, _)), _) => value,
            (None, "SelectType") => self.series.default_select,
            (None, "PriorityType") if Span::ALL.since(23, 11).has(self.series.number) => {
                "priority/multifactor"
            }
            (None, _) => "",
        }
    }

    fn has(&self, own: Has) -> bool {
        let value = self.value(own.key).to_ascii_lowercase();
        match own.word {
            "" => !value.is_empty() && !value.contains("none"),
            CONTAIN => ["contain", "x11", "runinjob"]
                .iter()
                .any(|word| value.contains(word)),
            word => value.contains(&word.to_ascii_lowercase()),
        }
    }

    /// `PrologFlags=X11`, for words to a person.
    fn words(&self, own: Has) -> String {
        let value = if own.word.is_empty() {
            self.value(own.key)
        } else {
            own.word
        };
        format!("{}={value}", own.key)
    }

    fn breach_of(&self, demand: &'static Demand) -> Option<Breach<'a>> {
        if !demand.releases.has(self.series.number) {
            return None;
        }
        let of = |(line, what, change): Finding<'a>| Breach {
            line: Some(line),
            change: format!("{}: {change}", line.place()),
            what,
            stops: demand.stops,
        };
        match demand.rule {
            Rule::Key(keys) => {
                let [key, ..] = keys else { return None };
                let is_there = keys.iter().any(|key| {
                    let value = self.given(key);
                    value.is_some_and(|(value, _)| !value.is_empty())
                });
                let name = match *key {
                    "ClusterName" => "the cluster's name",
                    "PartitionName" => "the first partition",
                    _ => "the host of slurmctld",
                };
                (self.is_whole && !is_there).then(|| Breach {
                    line: None,
                    what: format!("no {key}="),
                    change: format!("{key}= with {name}"),
                    stops: demand.stops,
                })
            }
            Rule::Needs(first, second) => {
                let (_, line) = self.given(first.key)?;
                let lacks = !self.has(second) && !self.may_be_elsewhere(second.key);
                (self.has(first) && lacks).then(|| {
                    of((
                        line,
                        format!(
                            "{}, which needs {}",
                            self.words(first),
                            self.words_needed(second)
                        ),
                        format!(
                            "{} too, or no {}",
                            self.words_needed(second),
                            self.words(first)
                        ),
                    ))
                })
            }
            Rule::Excludes(first, second) => {
                let (_, line) = self.given(first.key)?;
                let has_both = self.has(first) && self.has(second);
                (has_both && !self.may_be_elsewhere(second.key)).then(|| {
                    of((
                        line,
                        format!(
                            "{}, which Slurm does not take beside {}",
                            self.words(first),
                            self.words(second)
                        ),
                        "one of the two".to_owned(),
                    ))
                })
            }
            Rule::Of(find) => find(self).map(of),
        }
    }

    /// What is to be written of a key: `SelectType=select/cons_tres`.
    fn words_needed(&self, own: Has) -> String {
        match own.word {
            "cons_tres" => format!("{}=select/cons_tres", own.key),
            word => format!("{}={word}", own.key),
        }
    }
}

/// What is not met in these lines; where the release is not known, what is met in none.  Where `is_whole` is false they are a
/// part of a slurm.conf, and nothing is missing.
pub fn breaches<'a>(
    conf: &'a [Line],
    cgroup: &'a [Line],
    release: Option<Release>,
    is_whole: bool,
) -> Vec<Breach<'a>> {
    let series: Vec<&'static Series> = match release {
        Some(release) => vec![Series::of(release)],
        None => TABLE.iter().collect(),
    };
    let of = |demand: &'static Demand| {
        let under = |series: &&'static Series| {
            let own = Conf {
                conf,
                cgroup,
                series,
                is_whole,
            };
            own.breach_of(demand)
        };
        let all: Option<Vec<Breach<'a>>> = series.iter().map(under).collect();
        all.and_then(|mut all| all.pop())
    };
    DEMANDS.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::of_text;

    /// As real ones of 22.05, 24.11, 25.11 and 26.05 answered (`make test-gres`).
    #[test]
    fn what_slurm_demands_and_does_not_find() {
        let whole = "ClusterName=c\nSlurmctldHost=h\nProctrackType=proctrack/linuxproc\nNodeName=n1 CPUs=1\nPartitionName=p Nodes=n1\n";
        for (text, release, expected) in [
            ("", "22.05", None),
            (
                "JobContainerType=job_container/tmpfs",
                "22.05",
                Some("f:6: JobContainerType=tmpfs, which needs PrologFlags=Contain"),
            ),
            (
                "JobContainerType=job_container/tmpfs\nPrologFlags=Contain",
                "25.11",
                None,
            ),
            (
                "NamespaceType=namespace/linux",
                "25.11",
                Some("f:6: NamespaceType=namespace/linux, which needs PrologFlags=Contain"),
            ),
            (
                "PrologFlags=X11",
                "26.05",
                Some(
                    "f:6: PrologFlags=X11, which Slurm does not take beside ProctrackType=proctrack/linuxproc",
                ),
            ),
            (
                "PreemptMode=REQUEUE",
                "24.11",
                Some("f:6: PreemptMode=REQUEUE without a PreemptType= that preempts"),
            ),
            ("PreemptMode=GANG", "24.11", None),
            ("PartitionName=q Nodes=n1 PreemptMode=CANCEL", "24.11", None),
            (
                "PreemptType=preempt/qos",
                "24.11",
                Some(
                    "f:6: PreemptType=preempt/qos without a PreemptMode= that says what becomes of a job",
                ),
            ),
            (
                "PreemptType=preempt/qos\nPreemptMode=SUSPEND",
                "24.11",
                Some("f:7: PreemptMode=SUSPEND without GANG"),
            ),
            (
                "PreemptType=preempt/qos\nPreemptMode=GANG,SUSPEND",
                "24.11",
                None,
            ),
            ("FastSchedule=1", "24.11", None),
            (
                "FastSchedule=2",
                "24.11",
                Some("f:6: FastSchedule=2, which Slurm has no more"),
            ),
            ("SlurmctldParameters=enable_stepmgr", "23.11", None),
            (
                "SlurmctldParameters=enable_stepmgr",
                "24.11",
                Some("f:6: SlurmctldParameters=enable_stepmgr, which needs PrologFlags=Contain"),
            ),
            (
                "GresTypes=shard",
                "22.05",
                Some("f:6: GresTypes=shard: shard without gpu"),
            ),
            (
                "GresTypes=gpu,shard",
                "22.05",
                Some("f:6: GresTypes=gpu,shard: shard with SelectType=select/linear"),
            ),
            ("GresTypes=gpu,shard", "24.11", None),
            (
                "MaxNodeCount=8\nSelectType=select/linear",
                "26.05",
                Some("f:6: MaxNodeCount=8, which needs SelectType=select/cons_tres"),
            ),
            (
                "AccountingStorageTRES=gres/gpu",
                "26.05",
                Some(
                    "f:6: AccountingStorageTRES=gres/gpu: gres/gpu needs AccountingStorageType=accounting_storage/slurmdbd",
                ),
            ),
            (
                "AccountingStorageTRES=gress/gpu\nAccountingStorageType=accounting_storage/slurmdbd",
                "26.05",
                Some("f:6: AccountingStorageTRES=gress/gpu: Slurm counts no gress/gpu"),
            ),
            ("AccountingStorageTRES=CPU,Mem", "26.05", None),
            (
                "PartitionName=p Nodes=n1",
                "26.05",
                Some("f:6: PartitionName=p has an earlier line, too"),
            ),
            ("NodeSet=n1 Feature=x", "23.11", None),
            (
                "NodeSet=n1 Feature=x",
                "25.11",
                Some("f:6: NodeSet=n1 is also the name of a node"),
            ),
            (
                "NodeName=x[1-3] NodeAddr=10.0.0.[1-2] CPUs=1",
                "25.11",
                Some("f:6: NodeName=x[1-3] has 3 names, and NodeAddr=10.0.0.[1-2] 2"),
            ),
            ("HealthCheckNodeState=START_ONLY,IDLE", "25.11", None),
            (
                "HealthCheckNodeState=START_ONLY,IDLE",
                "26.05",
                Some("f:6: HealthCheckNodeState=START_ONLY,IDLE: START_ONLY beside others"),
            ),
            ("HealthCheckNodeState=START_ONLY", "26.05", None),
            ("SuspendTime=99999999999", "22.05", None),
            (
                "SuspendTime=-2",
                "24.11",
                Some("f:6: SuspendTime=-2, which is no number of seconds up to 4294967295"),
            ),
            ("SuspendTime=-1", "24.11", None),
            ("SuspendTime=never", "24.11", None),
            (
                "SchedulerParameters=bf_interval=9,max_script_size=999999999",
                "22.05",
                Some(
                    "f:6: SchedulerParameters=max_script_size=999999999, of which Slurm takes 536870912 at most",
                ),
            ),
            (
                "PartitionName=q Nodes=n1 TRESBillingWeights=CPU=1.0,Mem=0.25G",
                "24.11",
                None,
            ),
            (
                "PartitionName=q Nodes=n1 TRESBillingWeights=CPU=1.0,GRES/gpu=8",
                "24.11",
                Some("f:6: TRESBillingWeights=CPU=1.0,GRES/gpu=8: GRES/gpu=8 is no weight"),
            ),
            (
                "AccountingStorageType=accounting_storage/slurmdbd\nPartitionName=q Nodes=n1 TRESBillingWeights=GRES/gpu=8",
                "24.11",
                None,
            ),
            ("PriorityWeightTRES=Memory=2", "22.05", None),
            (
                "PriorityWeightTRES=Memory=2",
                "24.11",
                Some("f:6: PriorityWeightTRES=Memory=2: Memory=2 is no weight"),
            ),
            ("PartitionName=q Nodes=n1 AllowQOS=ALL", "25.11", None),
            ("PartitionName=q Nodes=n1 QOS=high", "25.05", None),
            (
                "PartitionName=q Nodes=n1 QOS=high",
                "25.11",
                Some(
                    "f:6: QOS=high, which needs AccountingStorageType=accounting_storage/slurmdbd",
                ),
            ),
            ("Licenses=a:5,b", "25.11", None),
            (
                "Licenses=\"a:5, b\"",
                "25.11",
                Some("f:6: Licenses=\"a:5, b\" is no list of name:count"),
            ),
        ] {
            let lines = of_text(&format!("{whole}{text}\n"), "f");
            let found = breaches(&lines, &[], Release::find(release), true);
            let told = found.first().map(ToString::to_string);
            assert_eq!(told.as_deref(), expected, "{text} {release}");
        }
        let lines = of_text("SelectType=select/cons_tres\n", "f");
        let found = breaches(&lines, &[], None, true);
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["no ClusterName=", "no SlurmctldHost="]);
    }

    #[test]
    fn in_a_part_of_a_file_nothing_is_missing() {
        let told = |text: &str| {
            let lines = of_text(text, "f");
            let found = breaches(&lines, &[], Release::find("22.05"), false);
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let part = "GresTypes=gpu,shard\nJobContainerType=job_container/tmpfs\nPreemptMode=REQUEUE\n\
                    AccountingStorageTRES=gres/gpu\nSlurmSchedLogLevel=1\nMCSPlugin=mcs/group\n";
        assert_eq!(told(part), Vec::<String>::new());
        let said = "GresTypes=gpu,shard\nSelectType=select/linear\n";
        assert_eq!(
            told(said),
            ["f:1: GresTypes=gpu,shard: shard with SelectType=select/linear"]
        );
    }

    #[test]
    fn cgroups_that_are_switched_off_are_not_used() {
        let lines = of_text(
            "ClusterName=c\nSlurmctldHost=h\nTaskPlugin=task/cgroup\n",
            "f",
        );
        let cgroup = of_text("CgroupPlugin=disabled\n", "g");
        let told = |release| {
            let found = breaches(&lines, &cgroup, Release::find(release), true);
            let found = found.into_iter().find(|own| own.stops == Stops::Slurmd);
            found.map(|own| own.to_string())
        };
        assert_eq!(told("23.11"), None);
        assert_eq!(
            told("26.05").as_deref(),
            Some("g:1: CgroupPlugin=disabled, but TaskPlugin= of slurm.conf uses cgroups")
        );
    }
}
