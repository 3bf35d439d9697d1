//! What Slurm demands of slurm.conf as a whole: keys that must be there, and values that need or exclude others.
//!
//! Most of it stops every daemon and command (`_validate_and_set_defaults`, common/read_config.c, in the last patch of each release
//! from 22.05 to 26.05, and in the development tree of 26.11); the rest slurmctld alone.  `make test-gres` asks real daemons.

use std::collections::BTreeSet;
use std::fmt;

use crate::config::{Line, is_yes, last};
use crate::node::{self, NamesLeft, Node};
use crate::release::{Release, Span};
use crate::rules::{Series, TABLE};
use crate::values::number;

/// Who does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stops {
    /// slurmctld, slurmd and every command.
    All,
    /// slurmctld; slurmd starts and waits for it.
    Slurmctld,
    /// slurmd.
    Slurmd,
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

const DEMANDS: &[Demand] = &[
    Demand::all(Rule::Key(&["ClusterName"])),
    Demand::all(Rule::Key(&["SlurmctldHost", "ControlMachine"])),
    Demand::all(Rule::Needs(
        has("JobContainerType", "tmpfs"),
        has("PrologFlags", CONTAIN),
    ))
    .before(25, 11),
    Demand::all(Rule::Needs(
        has("JobContainerType", ""),
        has("PrologFlags", CONTAIN),
    ))
    .since(25, 11),
    Demand::all(Rule::Needs(
        has("NamespaceType", ""),
        has("PrologFlags", CONTAIN),
    ))
    .since(25, 11),
    Demand::all(Rule::Excludes(
        has("PrologFlags", "X11"),
        has("ProctrackType", "proctrack/linuxproc"),
    )),
    Demand::all(Rule::Of(preemption)),
    Demand::all(Rule::Excludes(
        has("LaunchParameters", "enable_nss_slurm"),
        has("LaunchParameters", "disable_send_gids"),
    )),
    Demand::all(Rule::Excludes(
        has("JobAcctGatherParams", "UsePSS"),
        has("JobAcctGatherParams", "NoShared"),
    )),
    Demand::all(Rule::Needs(
        has("CommunicationParameters", "DisableIPv4"),
        has("CommunicationParameters", "EnableIPv6"),
    )),
    Demand::all(Rule::Of(accounting_by_mysql)),
    Demand::all(Rule::Of(compartments)),
    Demand::all(Rule::Of(first_and_last_job)),
    Demand::all(Rule::Of(usage_for_ever)),
    Demand::all(Rule::Of(level_of_scheduling)),
    Demand::all(Rule::Needs(
        has("MaxNodeCount", ""),
        has("SelectType", "cons_tres"),
    )),
    Demand::all(Rule::Needs(
        has("TaskPluginParam", "OOMKillStep"),
        has("TaskPlugin", "task/cgroup"),
    ))
    .since(24, 11),
    Demand::all(Rule::Needs(
        has("TaskPluginParam", "SlurmdSpecOverride"),
        has("TaskPlugin", "task/cgroup"),
    ))
    .since(25, 5),
    Demand::all(Rule::Needs(
        has("TaskPluginParam", "SlurmdSpecOverride"),
        has("SelectType", "cons_tres"),
    ))
    .since(25, 5),
    Demand::all(Rule::Excludes(
        has("TopologyPlugin", "topology/tree"),
        has("SelectType", "select/linear"),
    ))
    .since(24, 5),
    Demand::all(Rule::Needs(
        has("RoutePlugin", "route/topology"),
        has("TopologyPlugin", "topology/tree"),
    ))
    .before(23, 11),
    Demand::all(Rule::Of(set_called_as_a_node)).since(24, 11),
    Demand::all(Rule::Of(lists_that_differ)),
    Demand::all(Rule::Of(sharing_without_gpus)),
    Demand::all(Rule::Of(memory_fenced_twice)),
    Demand::of_slurmctld(Rule::Of(sharing_without_cores)),
    Demand::of_slurmctld(Rule::Of(fast_schedule)),
    Demand::of_slurmctld(Rule::Needs(
        has("SlurmctldParameters", "enable_stepmgr"),
        has("PrologFlags", CONTAIN),
    ))
    .since(24, 5),
    Demand::of_slurmctld(Rule::Of(counted_without_database)),
    Demand::of_slurmctld(Rule::Of(partition_twice)),
    Demand::of_slurmctld(Rule::Of(licenses)),
    Demand::of_slurmctld(Rule::Of(sockets_kept)),
    Demand::of_slurmctld(Rule::Key(&["PartitionName"])).before(23, 2),
    Demand::of_slurmd(Rule::Of(cgroups_without_plugin)),
];

/// Of PrologFlags=; X11 and RunInJob have it in them (`prolog_str2flags`, common/read_config.c).
const CONTAIN: &str = "Contain";
/// The GRES that share GPUs (`_is_shared_name`, interfaces/gres.c).
const SHARING: [&str; 2] = ["shard", "mps"];

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

/// PreemptMode= against PreemptType=.
fn preemption<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let (mode, kind) = (conf.given("PreemptMode"), conf.given("PreemptType"));
    let words: Vec<String> = conf
        .value("PreemptMode")
        .split(',')
        .map(str::to_ascii_lowercase)
        .collect();
    let has = |names: &[&str]| words.iter().any(|word| names.contains(&word.as_str()));
    let suspends = has(&["suspend", "on"]);
    let preempts = suspends || has(&["cancel", "requeue"]);
    let is_beside = has(&["within", "priority"]);
    let is_alone = !has(&["gang"]) && !is_beside;
    if let Some((value, line)) = mode
        && suspends
        && is_alone
    {
        return Some((
            line,
            format!("PreemptMode={value} without GANG"),
            "PreemptMode=SUSPEND,GANG".to_owned(),
        ));
    }
    match kind.filter(|(kind, _)| *kind != "preempt/none") {
        None => {
            let (value, line) = mode?;
            let is_known = !conf.may_be_elsewhere("PreemptType");
            (is_known && (preempts || is_beside)).then(|| {
                (
                    line,
                    format!("PreemptMode={value} without a PreemptType= that preempts"),
                    "PreemptType=preempt/partition_prio or preempt/qos too, or PreemptMode=OFF"
                        .to_owned(),
                )
            })
        }
        Some((kind, line)) => {
            let is_known = ["preempt/qos", "preempt/partition_prio"].contains(&kind)
                && !conf.may_be_elsewhere("PreemptMode");
            (is_known && !preempts).then(|| {
                (
                    line,
                    format!(
                        "PreemptType={kind} without a PreemptMode= that says what becomes of a job"
                    ),
                    "PreemptMode=REQUEUE, CANCEL or SUSPEND,GANG too, or no PreemptType="
                        .to_owned(),
                )
            })
        }
    }
}

/// A database that slurmdbd alone may use.
fn accounting_by_mysql<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let (value, line) = conf.given("AccountingStorageType")?;
    value.to_ascii_lowercase().contains("mysql").then(|| {
        (
            line,
            format!("AccountingStorageType={value}, which is slurmdbd's own"),
            "AccountingStorageType=accounting_storage/slurmdbd".to_owned(),
        )
    })
}

/// MCSPlugin= and MCSParameters=.
fn compartments<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let (plugin, parameters) = (conf.given("MCSPlugin"), conf.given("MCSParameters"));
    match (plugin, parameters) {
        (None, _) | (_, None) if !conf.is_whole => None,
        (None, Some((value, line))) => Some((
            line,
            format!("MCSParameters={value} without MCSPlugin="),
            "MCSPlugin= too, or no MCSParameters=".to_owned(),
        )),
        (Some(("mcs/group", line)), None) => Some((
            line,
            "MCSPlugin=mcs/group without MCSParameters=".to_owned(),
            "MCSParameters= with the groups too".to_owned(),
        )),
        _ => None,
    }
}

/// FirstJobId= behind MaxJobId=.
fn first_and_last_job<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let (first, line) = conf.given("FirstJobId")?;
    let (most, _) = conf.given("MaxJobId")?;
    (number(first)? > number(most)?).then(|| {
        (
            line,
            format!("FirstJobId={first}, but MaxJobId={most}"),
            "FirstJobId= below MaxJobId=".to_owned(),
        )
    })
}

/// Usage that neither decays nor begins again.
fn usage_for_ever<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let (value, line) = conf.given("PriorityDecayHalfLife")?;
    let is_none = value
        .bytes()
        .all(|own| !own.is_ascii_digit() || own == b'0')
        && value.contains('0');
    let is_for_ever = conf.is_whole && conf.given("PriorityUsageResetPeriod").is_none();
    (is_none && is_for_ever).then(|| {
        (
            line,
            format!("PriorityDecayHalfLife={value} without PriorityUsageResetPeriod="),
            "PriorityUsageResetPeriod=MONTHLY or another period too".to_owned(),
        )
    })
}

/// SlurmSchedLogLevel= without a file.
fn level_of_scheduling<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let (value, line) = conf.given("SlurmSchedLogLevel")?;
    let is_on = number(value).is_some_and(|level| level > 0);
    let lacks_file = conf.is_whole && conf.given("SlurmSchedLogFile").is_none();
    (is_on && lacks_file).then(|| {
        (
            line,
            format!("SlurmSchedLogLevel={value} without SlurmSchedLogFile="),
            "SlurmSchedLogFile= with a path too".to_owned(),
        )
    })
}

/// GresTypes= with a GRES that shares GPUs (`gres_init`, interfaces/gres.c).
fn sharing<'a>(conf: &Conf<'a>) -> Option<(&'a str, &'a Line, &'static str)> {
    let (value, line) = conf.given("GresTypes")?;
    let name = SHARING
        .into_iter()
        .find(|name| value.split(',').any(|own| own == *name))?;
    Some((value, line, name))
}

/// gres/shard and gres/mps without gres/gpu.
fn sharing_without_gpus<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let (value, line, name) = sharing(conf)?;
    (!value.split(',').any(|own| own == "gpu")).then(|| {
        (
            line,
            format!("GresTypes={value}: {name} without gpu"),
            format!("GresTypes=gpu,{value}"),
        )
    })
}

/// gres/shard and gres/mps where whole nodes are given to jobs.
fn sharing_without_cores<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let (value, line, name) = sharing(conf)?;
    let select = conf.value("SelectType");
    let is_known = !conf.may_be_elsewhere("SelectType");
    (is_known && !select.contains("cons_tres")).then(|| {
        (
            line,
            format!("GresTypes={value}: {name} with SelectType={select}"),
            format!("SelectType=select/cons_tres, or no {name}"),
        )
    })
}

/// Memory that both task/cgroup and the gathering of accounting keep jobs within (`cgroup_memcg_job_confinement`,
/// interfaces/cgroup.c).
fn memory_fenced_twice<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let (value, line) = conf.given("JobAcctGatherParams")?;
    let kills = value
        .split(',')
        .any(|word| word.eq_ignore_ascii_case("OverMemoryKill"));
    let yes = |key: &str| last(conf.cgroup, key).is_some_and(|(value, _)| is_yes(value));
    let fences = yes("constrainramspace") || yes("constrainswapspace");
    let is_off = conf.series.loads_cgroup
        && last(conf.cgroup, "cgroupplugin").is_some_and(|(value, _)| value == "disabled");
    let is_used = conf.value("TaskPlugin").contains("cgroup");
    (kills && fences && is_used && !is_off).then(|| {
        (
            line,
            format!(
                "JobAcctGatherParams={value} beside TaskPlugin=task/cgroup and ConstrainRAMSpace= or ConstrainSwapSpace= in cgroup.conf"
            ),
            "no OverMemoryKill: task/cgroup keeps jobs within their memory".to_owned(),
        )
    })
}

/// FastSchedule=, of which slurmctld takes 1 alone.
fn fast_schedule<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let (value, line) = conf.given("FastSchedule")?;
    (number(value)? != 1).then(|| {
        (
            line,
            format!("FastSchedule={value}, which Slurm has no more"),
            if number(value) == Some(2) {
                "SlurmdParameters=config_overrides instead".to_owned()
            } else {
                "remove the key".to_owned()
            },
        )
    })
}

/// The TRES that need no database (`_init_tres`, slurmctld/controller.c; `slurmdb_tres_rec_t` without an id).
const OWN_TRES: [&str; 8] = [
    "cpu", "mem", "energy", "node", "billing", "fs/disk", "vmem", "pages",
];
/// The kinds of TRES that have names.
const NAMED_TRES: [&str; 6] = ["gres", "license", "bb", "fs", "ic", "interconnect"];

/// AccountingStorageTRES= with what slurmdbd alone counts, or with no TRES at all.
fn counted_without_database<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let (value, line) = conf.given("AccountingStorageTRES")?;
    let is_own = |word: &str| OWN_TRES.iter().any(|own| own.eq_ignore_ascii_case(word));
    let is_named = |word: &str| {
        word.split_once('/').is_some_and(|(kind, name)| {
            !name.is_empty() && NAMED_TRES.iter().any(|own| own.eq_ignore_ascii_case(kind))
        })
    };
    let others = || {
        value
            .split(',')
            .filter(|word| !word.is_empty() && !is_own(word))
    };
    if let Some(word) = others().find(|word| !is_named(word)) {
        return Some((
            line,
            format!("AccountingStorageTRES={value}: Slurm counts no {word}"),
            "names such as gres/gpu".to_owned(),
        ));
    }
    let word = others().next()?;
    let stores = conf.value("AccountingStorageType").to_ascii_lowercase();
    let is_known = !conf.may_be_elsewhere("AccountingStorageType");
    (is_known && !stores.contains("slurmdbd")).then(|| {
        (
            line,
            format!("AccountingStorageTRES={value}: {word} needs AccountingStorageType=accounting_storage/slurmdbd"),
            format!("AccountingStorageType=accounting_storage/slurmdbd too, or no {word}"),
        )
    })
}

/// A partition with two lines (`_build_single_partitionline_info`, slurmctld/read_config.c).
fn partition_twice<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let mut known: BTreeSet<&str> = BTreeSet::new();
    let lines = conf.conf.iter();
    let named = lines.filter_map(|line| Some((line, line.get("partitionname")?)));
    for (line, names) in named {
        for name in names.split(',').filter(|name| *name != "DEFAULT") {
            if !known.insert(name) {
                return Some((
                    line,
                    format!("PartitionName={name} has an earlier line, too"),
                    "one line for a partition".to_owned(),
                ));
            }
        }
    }
    None
}

/// Licenses= with a blank, or with a count that is no number (`_build_license_list`, slurmctld/licenses.c).
fn licenses<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let (value, line) = conf.given("Licenses")?;
    let is_counted = |word: &str| {
        word.split_once([':', '='])
            .is_none_or(|(_, count)| count.starts_with(|first: char| first.is_ascii_digit()))
    };
    let is_right = !value.contains(char::is_whitespace) && value.split([',', ';']).all(is_counted);
    (!is_right).then(|| {
        (
            line,
            format!("Licenses=\"{value}\" is no list of name:count"),
            "Licenses= with name:count and commas between them, without blanks".to_owned(),
        )
    })
}

/// A node's line with several lists whose lengths differ (`expand_nodeline_info`, common/node_conf.c).
///
/// Of a file with more names than any cluster has no more are counted.
fn lists_that_differ<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let mut left = NamesLeft::all();
    let mut count = |list: &str| left.of(list).map(|names| names.len());
    for line in conf.conf {
        let names = line.pairs.first().filter(|(key, _)| key == "nodename");
        let Some((_, names)) = names.filter(|(_, names)| names != "DEFAULT") else {
            continue;
        };
        for key in ["NodeHostname", "NodeAddr", "Port"] {
            let Some(value) = line.get(&key.to_ascii_lowercase()) else {
                continue;
            };
            let (there, own) = (count(names)?, count(value)?);
            let is_right = own == there || own == 1 && (key != "NodeHostname" || there == 1);
            if !is_right {
                return Some((
                    line,
                    format!("NodeName={names} has {there} names, and {key}={value} {own}"),
                    format!("{key}= with as many names as NodeName="),
                ));
            }
        }
    }
    None
}

/// The sets of nodes that are looked at; no cluster is known to have more.
const MOST_SETS: usize = 100;

/// A NodeSet= with the name of a node (`_validate_conf_nodeset_vs_nodenames`, common/read_config.c).
fn set_called_as_a_node<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let sets = conf.conf.iter().filter_map(|line| {
        let set = line.pairs.first().filter(|(key, _)| key == "nodeset")?;
        Some((line, set))
    });
    let mut sets = sets.take(MOST_SETS);
    sets.find_map(|(line, set)| {
        node::called(conf.conf, &set.1)?;
        Some((
            line,
            format!("NodeSet={} is also the name of a node", set.1),
            "another name for the set".to_owned(),
        ))
    })
}

/// Sockets that jobs are given whole and that all have cores for the system (`_check_allocatable_sockets`, select/cons_tres).
fn sockets_kept<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let parameters = conf.value("SelectTypeParameters").to_ascii_lowercase();
    let is_shared = conf
        .given("AllowSpecResourcesUsage")
        .is_some_and(|(value, _)| is_yes(value));
    if !parameters.contains("cr_socket") || is_shared {
        return None;
    }
    let is_node = |names: &str| !names.eq_ignore_ascii_case("DEFAULT");
    let lines = conf.conf.iter();
    let lines = lines.filter(|line| line.get("nodename").is_some_and(is_node));
    let mut nodes = lines.zip(node::with_defaults(conf.conf));
    nodes.find_map(|(line, (own, whole))| {
        let name = line.get("nodename")?.to_owned();
        let shape = Node { name, line: own, whole }.geometry().shape();
        let kept = line.get("corespeccount").and_then(number)?;
        let others = shape.sockets.checked_sub(1)?.checked_mul(shape.cores_per_socket)?;
        (kept > others).then(|| {
            (
                line,
                format!("CoreSpecCount={kept} takes cores of every socket, and SelectTypeParameters= gives jobs whole sockets"),
                "CoreSpecCount= that leaves a socket, or SelectTypeParameters=CR_Core".to_owned(),
            )
        })
    })
}

/// Plugins of cgroups with CgroupPlugin=disabled (`cgroup_g_init`, interfaces/cgroup.c; task/cgroup).
fn cgroups_without_plugin<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let (_, line) = last(conf.cgroup, "cgroupplugin").filter(|(value, _)| *value == "disabled")?;
    if !conf.series.loads_cgroup {
        return None;
    }
    let uses = [
        ("TaskPlugin", conf.value("TaskPlugin").contains("cgroup")),
        (
            "ProctrackType",
            conf.given("ProctrackType")
                .map_or(conf.is_whole, |(value, _)| value.contains("cgroup")),
        ),
        (
            "JobAcctGatherType",
            conf.value("JobAcctGatherType").contains("cgroup"),
        ),
    ];
    let (key, _) = uses.into_iter().find(|(_, uses)| *uses)?;
    Some((
        line,
        format!("CgroupPlugin=disabled, but {key}= of slurm.conf uses cgroups"),
        "CgroupPlugin=autodetect".to_owned(),
    ))
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
