//! Demands that are more than a key beside another.

use std::collections::BTreeSet;

use super::needs::{is_database, named_qos};
use super::{Conf, Finding};
use crate::config::{Line, is_yes, last};
use crate::cores::CoreSet;
use crate::node::{self, NamesLeft, Node, Shape};
use crate::release::Span;
use crate::values::number;

/// The GRES that share GPUs (`_is_shared_name`, interfaces/gres.c).
const SHARING: [&str; 2] = ["shard", "mps"];

/// PreemptMode= against PreemptType=.
pub(super) fn preemption<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
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
pub(super) fn accounting_by_mysql<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
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
pub(super) fn compartments<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
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
pub(super) fn first_and_last_job<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
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
pub(super) fn usage_for_ever<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
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
pub(super) fn level_of_scheduling<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
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
pub(super) fn sharing_without_gpus<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
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
pub(super) fn sharing_without_cores<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
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
pub(super) fn memory_fenced_twice<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
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
pub(super) fn fast_schedule<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
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
pub(super) fn counted_without_database<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
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
    (is_known && !is_database(&stores)).then(|| {
        (
            line,
            format!("AccountingStorageTRES={value}: {word} needs AccountingStorageType=accounting_storage/slurmdbd"),
            format!("AccountingStorageType=accounting_storage/slurmdbd too, or no {word}"),
        )
    })
}

/// A partition with two lines (`_build_single_partitionline_info`, slurmctld/read_config.c).
pub(super) fn partition_twice<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
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
pub(super) fn licenses<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
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
pub(super) fn lists_that_differ<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
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
pub(super) fn set_called_as_a_node<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
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
pub(super) fn sockets_kept<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
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
        let (key, value, is_of_all) = match line.get("cpuspeclist") {
            Some(list) => ("CpuSpecList", list, touches_all(list, shape)?),
            None => {
                let value = line.get("corespeccount")?;
                let others = shape.sockets.checked_sub(1)?.checked_mul(shape.cores_per_socket)?;
                ("CoreSpecCount", value, number(value)? > others)
            }
        };
        is_of_all.then(|| {
            (
                line,
                format!("{key}={value} takes cores of every socket, and SelectTypeParameters= gives jobs whole sockets"),
                format!("{key}= that leaves a socket, or SelectTypeParameters=CR_Core"),
            )
        })
    })
}

/// Whether a list of a line's CPUs has some of every socket; None where it is no list of them, which Slurm ignores.
fn touches_all(list: &str, shape: Shape) -> Option<bool> {
    let list: CoreSet = list.parse().ok()?;
    let last = u64::from(list.last()?);
    let of_socket = shape.cores_per_socket.checked_mul(shape.threads_per_core)?;
    if last >= shape.cpus || of_socket == 0 {
        return None;
    }
    let touched: BTreeSet<u64> = list.iter().map(|cpu| u64::from(cpu) / of_socket).collect();
    Some(touched.len() as u64 == shape.sockets)
}

/// Plugins of cgroups with CgroupPlugin=disabled (`cgroup_g_init`, interfaces/cgroup.c; task/cgroup).
pub(super) fn cgroups_without_plugin<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
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

/// Options of SchedulerParameters= with the most bytes that they may say, and the releases that look.
const MOST_BYTES: [(&str, i64, Span); 2] = [
    ("max_script_size=", 512 << 20, Span::ALL),
    ("max_submit_line_size=", 2 << 20, Span::ALL.since(23, 11)),
];

/// SchedulerParameters= with more bytes for a script or a command than Slurm takes.
pub(super) fn script_too_long<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let (value, line) = conf.given("SchedulerParameters")?;
    let lower = value.to_ascii_lowercase();
    let mut options = MOST_BYTES.iter();
    options.find_map(|(name, most, releases)| {
        let (_, rest) = lower.split_once(name)?;
        // As `atoi` reads it.
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let bytes: i64 = digits.parse().ok()?;
        (releases.has(conf.series.number) && bytes > *most).then(|| {
            (
                line,
                format!("SchedulerParameters={name}{digits}, of which Slurm takes {most} at most"),
                format!("{name}{most} or less"),
            )
        })
    })
}

/// MaxNodeCount= beyond the most nodes that a cluster may have (`MAX_SLURM_NODES`).
pub(super) fn too_many_nodes<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    const MOST_NODES: u64 = 65_536;
    let (value, line) = conf.given("MaxNodeCount")?;
    (number(value)? > MOST_NODES).then(|| {
        (
            line,
            format!("MaxNodeCount={value}, of which Slurm takes {MOST_NODES} at most"),
            format!("MaxNodeCount={MOST_NODES} or less"),
        )
    })
}

/// Seconds of SuspendTime= as `slurm_atoul` reads them; None for a word.
fn seconds(value: &str) -> Option<i128> {
    let (sign, digits) = match value.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, value),
    };
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    Some(sign * digits.parse::<i128>().ok()?)
}

/// SuspendTime= of the cluster, a partition or a node that does not fit 32 bits; a negative one does not either.
pub(super) fn suspended_too_late<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let number = conf.series.number;
    let mut lines = conf.conf.iter();
    lines.find_map(|line| {
        let value = line.get("suspendtime")?;
        let is_looked_at = if line.get("partitionname").is_some() {
            true
        } else if line.get("nodename").is_some() {
            Span::ALL.since(26, 5).has(number)
        } else {
            Span::ALL.since(23, 2).has(number)
        };
        let seconds = seconds(value)?;
        let fits = seconds == -1 || (0..=i128::from(u32::MAX)).contains(&seconds);
        (is_looked_at && !fits).then(|| {
            (
                line,
                format!(
                    "SuspendTime={value}, which is no number of seconds up to {}",
                    u32::MAX
                ),
                "SuspendTime= with seconds, or INFINITE".to_owned(),
            )
        })
    })
}

/// HealthCheckNodeState= with START_ONLY or REBOOT_ONLY beside others (`_health_node_state`, common/read_config.c).
pub(super) fn health_states<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let (value, line) = conf.given("HealthCheckNodeState")?;
    let words = || value.split(',').filter(|word| !word.is_empty());
    let is = |word: &str, own: &&&str| word.eq_ignore_ascii_case(own);
    let word = ["START_ONLY", "REBOOT_ONLY"]
        .iter()
        .find(|own| words().any(|word| is(word, own)))?;
    words()
        .any(|other| !other.eq_ignore_ascii_case(word))
        .then(|| {
            (
                line,
                format!("HealthCheckNodeState={value}: {word} beside others"),
                format!("{word} alone, or the others"),
            )
        })
}

/// A partition with a QOS where there is no database that has one.
pub(super) fn qos_without_database<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let stores = conf.value("AccountingStorageType");
    if conf.may_be_elsewhere("AccountingStorageType") || is_database(stores) {
        return None;
    }
    let (line, key, value) = named_qos(conf.conf).next()?;
    Some((
        line,
        format!("{key}={value}, which needs AccountingStorageType=accounting_storage/slurmdbd"),
        format!("no {key}=, or AccountingStorageType=accounting_storage/slurmdbd too"),
    ))
}

/// Weights of TRES that cannot be read (`slurm_get_tres_weight_array`, common/slurm_protocol_api.c): those of partitions and nodes, and
/// those of priority/multifactor.
pub(super) fn weights<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let of_lines = [
        ("partitionname", "TRESBillingWeights"),
        ("nodename", "TRESWeights"),
    ];
    let mut given = conf.conf.iter().flat_map(|line| {
        of_lines.into_iter().filter_map(move |(kind, key)| {
            line.get(kind)?;
            Some((key, line.get(&key.to_ascii_lowercase())?, line))
        })
    });
    let is_weighed = conf.value("PriorityType").contains("multifactor");
    let of_jobs = conf.given("PriorityWeightTRES").filter(|_| is_weighed);
    let mut own = of_jobs.map(|(value, line)| ("PriorityWeightTRES", value, line));
    let mut next = || own.take().or_else(|| given.next());
    std::iter::from_fn(&mut next).find_map(|(key, value, line)| {
        let mut items = value.split(',').filter(|item| !item.is_empty());
        let item = items.find(|item| !is_weight(item, conf))?;
        Some((
            line,
            format!("{key}={value}: {item} is no weight"),
            format!(
                "{key}= such as CPU=1.0,Mem=0.25G; GRES/gpu=8 where AccountingStorageTRES= has gres/gpu"
            ),
        ))
    })
}

fn is_weight(item: &str, conf: &Conf<'_>) -> bool {
    let Some((name, weight)) = item.trim_start_matches('=').split_once('=') else {
        return false;
    };
    let is = |own: &str| name.eq_ignore_ascii_case(own);
    // What the database has is not known here.
    let may_be_counted = is_database(conf.value("AccountingStorageType"))
        || conf.may_be_elsewhere("AccountingStorageType");
    let is_known = OWN_TRES.iter().any(|own| is(own)) || name.contains('/') && may_be_counted;
    // The longest beginning that is a number, and then a unit.
    let ends = (1..=weight.len())
        .rev()
        .filter(|end| weight.is_char_boundary(*end));
    let number = ends
        .filter(|end| {
            weight
                .get(..*end)
                .is_some_and(|own| own.parse::<f64>().is_ok())
        })
        .max()
        .unwrap_or(0);
    let unit = weight.get(number..).and_then(|rest| rest.chars().next());
    let has_unit = unit.is_none_or(|unit| "KMGTP".contains(unit.to_ascii_uppercase()));
    is_known && !weight.is_empty() && has_unit
}

/// A topology whose plugin no build for Linux can use (`nodes_to_hilbert_curve`, topology/3d_torus).
pub(super) fn torus<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let (value, line) = conf.given("TopologyPlugin")?;
    (value == "topology/3d_torus").then(|| {
        (
            line,
            format!("TopologyPlugin={value}, for names of hosts with three dimensions"),
            "topology/tree, or no TopologyPlugin=".to_owned(),
        )
    })
}

/// A word that names every node (`_parse_nodename`, common/read_config.c).
pub(super) fn node_called_all<'a>(conf: &Conf<'a>) -> Option<Finding<'a>> {
    let mut lines = conf.conf.iter();
    lines.find_map(|line| {
        let name = line.get("nodename")?;
        name.eq_ignore_ascii_case("ALL").then(|| {
            (
                line,
                format!("NodeName={name}, which is a word for all nodes"),
                "NodeName= with names of hosts".to_owned(),
            )
        })
    })
}
