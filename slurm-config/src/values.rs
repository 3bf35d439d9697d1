//! What the keys of slurm.conf and cgroup.conf take: numbers, words and lists of words, each as Slurm of 22.05 to 26.05 reads it.

use std::fmt;

use crate::config::{is_no, is_yes};
use crate::release::{Release, Span};

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Anything.
    Text,
    /// A word for yes or no.
    YesOrNo,
    /// A number up to 65535, or UNLIMITED.
    Bits16,
    /// A number up to 4294967295, or UNLIMITED.
    Bits32,
    /// A number, or UNLIMITED.
    Bits64,
    /// A decimal number, or UNLIMITED.
    Decimal,
    /// A number from one to another, or UNLIMITED where the second is the largest of all.
    Between(u64, u64),
    /// A length of time (`_is_valid_timespec`, common/parse_time.c).
    Time,
    /// A length of time of a minute or more that ends.
    SomeTime,
    /// A level of messages: a word or a number.
    Level,
    /// A port, or the first and the last of several.
    Ports,
    /// A word that begins with one of these (`_parse_partitionname`, common/read_config.c).
    Beginning(&'static [&'static str]),
    /// One of these words.
    Word(&'static [&'static str]),
    /// `NO`, `EXCLUSIVE`, or `YES` or `FORCE`, perhaps with a number.
    OverSubscribe,
    /// Words with commas between them, at most one of those that say what becomes of a job (`preempt_mode_num`,
    /// common/slurm_protocol_defs.c).
    PreemptMode,
    /// The same of a partition, of which slurmctld looks at nothing from 24.11 on (`_parse_partitionname`, common/read_config.c).
    PartitionPreemptMode,
    /// ALL or NONE, or some of these words, with commas between them and perhaps with `RLIMIT_` before them.
    Limits(&'static [&'static str]),
    /// Words with commas between them.
    List(&'static Words),
}

/// The words that a list takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// Each alone or with others.
    any: &'static [Word],
    /// Of each of these sets one, once.
    one_of: &'static [&'static [&'static str]],
    /// Pairs that exclude each other.
    apart: &'static [(&'static str, &'static str)],
}

/// A word, and the releases that have it.
type Word = (&'static str, Span);

/// A word of every release.
const fn always(name: &'static str) -> Word {
    (name, Span::ALL)
}

/// A word of a release and those after it.
const fn since(year: u32, month: u32, name: &'static str) -> Word {
    (name, Span::ALL.since(year, month))
}

/// A word of the releases before one.
const fn before(year: u32, month: u32, name: &'static str) -> Word {
    (name, Span::ALL.before(year, month))
}

/// SelectTypeParameters= of slurm.conf (`_parse_select_type_param`, common/read_config.c).
pub const SELECT_PARAMETERS: Value = Value::List(&Words {
    any: &[
        always("CR_ONE_TASK_PER_CORE"),
        always("CR_CORE_DEFAULT_DIST_BLOCK"),
        always("CR_LLN"),
        always("CR_PACK_NODES"),
        since(23, 11, "LL_SHARED_GRES"),
        since(23, 11, "MULTIPLE_SHARING_GRES_PJ"),
        since(23, 11, "ENFORCE_BINDING_GRES"),
        since(23, 11, "ONE_TASK_PER_SHARING_GRES"),
        before(24, 5, "OTHER_CONS_RES"),
        before(24, 5, "OTHER_CONS_TRES"),
    ],
    one_of: &[&[
        "CR_Core",
        "CR_Core_Memory",
        "CR_CPU",
        "CR_CPU_Memory",
        "CR_Socket",
        "CR_Socket_Memory",
        "CR_Memory",
    ]],
    apart: &[
        ("CR_CPU", "CR_ONE_TASK_PER_CORE"),
        ("CR_CPU_Memory", "CR_ONE_TASK_PER_CORE"),
    ],
});

/// TaskPluginParam= (`_validate_and_set_defaults`, common/read_config.c).
pub const TASK_PARAMETERS: Value = Value::List(&Words {
    any: &[
        always("Verbose"),
        always("SlurmdOffSpec"),
        since(24, 11, "OOMKillStep"),
        since(25, 5, "SlurmdSpecOverride"),
    ],
    one_of: &[
        &["None", "Sockets", "Cores", "Threads"],
        &[
            "Autobind=none",
            "Autobind=threads",
            "Autobind=cores",
            "Autobind=sockets",
        ],
    ],
    apart: &[("SlurmdOffSpec", "SlurmdSpecOverride")],
});

/// PrologFlags= (`prolog_str2flags`, common/read_config.c).
pub const PROLOG_FLAGS: Value = Value::List(&Words {
    any: &[
        always("Alloc"),
        always("Contain"),
        always("DeferBatch"),
        always("NoHold"),
        always("Serial"),
        always("X11"),
        since(23, 2, "ForceRequeueOnFail"),
        since(24, 5, "RunInJob"),
    ],
    one_of: &[],
    apart: &[
        ("NoHold", "Contain"),
        ("NoHold", "X11"),
        ("NoHold", "RunInJob"),
    ],
});

/// `State=` of a node (`state_str2int`, common/slurm_protocol_defs.c); of some words the beginning counts.
pub const NODE_STATE: Value = Value::Beginning(&[
    "UNKNOWN",
    "IDLE",
    "DOWN",
    "DRAIN",
    "FAIL",
    "FUTURE",
    "CLOUD",
    "EXTERNAL",
    "ALLOCATED",
    "ERROR",
    "MIXED",
    "END",
]);

/// PropagateResourceLimits= and PropagateResourceLimitsExcept= (`parse_rlimits`, common/slurm_rlimits_info.c): ALL or NONE alone, or
/// names of limits, also with `RLIMIT_` before them.
pub const RESOURCE_LIMITS: Value = Value::Limits(&[
    "AS", "CORE", "CPU", "DATA", "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "RSS", "STACK",
]);

/// `State=` of a partition.
pub const PARTITION_STATE: Value = Value::Beginning(&["UP", "DOWN", "DRAIN", "INACTIVE"]);

/// `Exclusive=` of a partition.
pub const EXCLUSIVE: Value = Value::Word(&["NO", "NODE", "USER", "TOPO", "NONE"]);

/// `SelectTypeParameters=` of a partition.
pub const PARTITION_SELECT: Value = Value::Beginning(&["CR_Core", "CR_Socket"]);

/// DebugFlags= (`debug_str2flags`, common/slurm_protocol_defs.c).
pub const DEBUG_FLAGS: Value = Value::List(&Words {
    any: &[
        always("Accrue"),
        always("Agent"),
        since(24, 5, "AuditRPCs"),
        since(25, 5, "AuditTLS"),
        always("Backfill"),
        always("BackfillMap"),
        always("BurstBuffer"),
        always("Cgroup"),
        since(24, 11, "ConMgr"),
        always("CPU_Bind"),
        always("CpuFrequency"),
        always("Data"),
        since(24, 5, "DBD_Agent"),
        always("DB_Archive"),
        always("DB_Assoc"),
        always("DB_Event"),
        always("DB_Job"),
        always("DB_QOS"),
        always("DB_Query"),
        always("DB_Reservation"),
        always("DB_Resource"),
        always("DB_Step"),
        always("DB_TRES"),
        always("DB_Usage"),
        always("DB_WCKey"),
        always("Dependency"),
        always("Elasticsearch"),
        always("Energy"),
        before(24, 5, "ExtSensors"),
        always("Federation"),
        before(25, 5, "FrontEnd"),
        always("Gang"),
        since(23, 11, "GLOB_SILENCE"),
        always("Gres"),
        always("Hetjob"),
        always("Interconnect"),
        always("JAG"),
        always("JobAccountGather"),
        since(23, 2, "JobComp"),
        always("JobContainer"),
        always("License"),
        since(25, 11, "Metrics"),
        always("MPI"),
        since(25, 11, "Namespace"),
        always("Net"),
        always("NetRaw"),
        always("Network"),
        always("NetworkRaw"),
        always("NodeFeatures"),
        always("NO_CONF_HASH"),
        always("Power"),
        always("PowerSave"),
        always("Priority"),
        always("Profile"),
        always("Protocol"),
        always("Reservation"),
        always("Route"),
        since(23, 11, "Sack"),
        always("Script"),
        always("SelectType"),
        always("Steps"),
        always("Switch"),
        always("Task"),
        since(26, 5, "Thread"),
        since(26, 5, "Threads"),
        before(24, 5, "TimeCray"),
        since(24, 5, "TLS"),
        always("TraceJobs"),
        always("Trigger"),
        always("Triggers"),
        always("WorkQ"),
        always("WorkQueue"),
    ],
    one_of: &[],
    apart: &[],
});

/// AccountingStorageEnforce= (`_validate_accounting_storage_enforce`, common/read_config.c).
pub const STORAGE_ENFORCE: Value = Value::List(&Words {
    any: &[
        always("associations"),
        always("limits"),
        always("nojobs"),
        always("nosteps"),
        always("qos"),
        always("safe"),
        always("wckeys"),
        always("all"),
        always("1"),
        always("2"),
    ],
    one_of: &[],
    apart: &[],
});

/// EnforcePartLimits= (`parse_part_enforce_type`, common/slurm_protocol_defs.c).
pub const PART_LIMITS: Value = Value::Word(&[
    "ALL", "ANY", "NO", "YES", "up", "true", "1", "down", "false", "0",
]);

/// PriorityUsageResetPeriod=.
pub const RESET_PERIOD: Value = Value::Word(&[
    "NONE",
    "NOW",
    "DAILY",
    "WEEKLY",
    "MONTHLY",
    "QUARTERLY",
    "YEARLY",
]);

/// What `PreemptMode=` says of a job.
const PREEMPT_WORDS: [&str; 6] = ["off", "cluster", "cancel", "requeue", "on", "suspend"];
/// What may stand beside it.
const PREEMPT_BESIDE: [Word; 3] = [always("gang"), always("within"), since(25, 5, "priority")];
/// The words of a level of messages, which may be a number, too (`log_string2num`, common/slurm_protocol_defs.c).
const LEVELS: [&str; 10] = [
    "quiet", "fatal", "error", "info", "verbose", "debug", "debug2", "debug3", "debug4", "debug5",
];

impl Value {
    /// Whether a key that takes this takes `value` in `release`; where that is not known, in any release.
    pub(crate) fn takes(self, value: &str, release: Option<Release>) -> bool {
        let is = |word: &&str| value.eq_ignore_ascii_case(word);
        let is_unlimited = ["unlimited", "infinite"].iter().any(is);
        let up_to = |most: u64| is_unlimited || number(value).is_some_and(|number| number <= most);
        match self {
            Self::Text => true,
            Self::YesOrNo => is_yes(value) || is_no(value),
            // `k` stands behind longer numbers only.
            Self::Bits16 => up_to(0xffff) && (is_unlimited || !value.ends_with(['k', 'K'])),
            Self::Bits32 => up_to(0xffff_ffff),
            Self::Bits64 => up_to(u64::MAX),
            Self::Decimal => is_unlimited || value.parse::<f64>().is_ok(),
            Self::Between(least, most) => {
                is_unlimited && most == u64::MAX
                    || number(value).is_some_and(|number| (least..=most).contains(&number))
            }
            Self::Time => is_unlimited || value == "-1" || is_time(value),
            Self::SomeTime => {
                is_time(value) && value.bytes().any(|own| (b'1'..=b'9').contains(&own))
            }
            Self::Level => {
                value.starts_with(|first: char| first.is_ascii_digit()) || LEVELS.iter().any(is)
            }
            Self::Ports => takes_ports(value),
            Self::Beginning(words) => words.iter().any(|word| {
                let own = value.get(..word.len());
                own.is_some_and(|own| own.eq_ignore_ascii_case(word))
            }),
            Self::Word(words) => words.iter().any(is),
            Self::OverSubscribe => {
                let word = value.split(':').next().unwrap_or_default();
                let is_counted = ["yes", "force"]
                    .iter()
                    .any(|own| word.eq_ignore_ascii_case(own));
                is_counted || ["no", "exclusive"].iter().any(is)
            }
            Self::PreemptMode => takes_preempt_mode(value, release),
            Self::PartitionPreemptMode => {
                release.is_none_or(|own| own.series() >= (24, 11))
                    || takes_preempt_mode(value, release)
            }
            Self::Limits(words) => {
                // In capitals, as they are.
                let is_one =
                    |token: &str| words.contains(&token.strip_prefix("RLIMIT_").unwrap_or(token));
                ["ALL", "NONE"].contains(&value)
                    || value
                        .split([',', ' '])
                        .all(|token| token.is_empty() || is_one(token))
            }
            Self::List(words) => takes_list(words, value, release),
        }
    }
}

/// `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours` and so on: each colon wants a number before and behind it.
fn is_time(value: &str) -> bool {
    let numbers = value.split(['-', ':']).filter(|part| !part.is_empty());
    let (numbers, dashes, colons) = (
        numbers.count(),
        value.matches('-').count(),
        value.matches(':').count(),
    );
    let is_made = |c: char| c.is_ascii_digit() || c == '-' || c == ':';
    let is_dash_first = !value
        .split_once(':')
        .is_some_and(|(_, rest)| rest.contains('-'));
    let wanted = if colons > 0 {
        dashes.min(1) + colons + 1
    } else {
        1
    };
    value.chars().all(is_made) && is_dash_first && dashes <= 1 && colons <= 2 && numbers >= wanted
}

/// `6817` or `6817-6820`.
fn takes_ports(value: &str) -> bool {
    let (first, last) = value
        .split_once('-')
        .map_or((value, None), |(first, last)| (first, Some(last)));
    let first = first.parse::<u64>().ok().filter(|first| *first > 0);
    let is_behind =
        |first: u64| last.is_none_or(|last| last.parse::<u64>().is_ok_and(|last| last > first));
    first.is_some_and(is_behind)
}

fn takes_preempt_mode(value: &str, release: Option<Release>) -> bool {
    let words: Vec<String> = tokens(value).map(str::to_ascii_lowercase).collect();
    let has = |word: &str| words.iter().any(|own| own == word);
    let modes = words
        .iter()
        .filter(|word| PREEMPT_WORDS.contains(&word.as_str()));
    let is_known = |word: &String| {
        let mut beside = PREEMPT_BESIDE.iter();
        PREEMPT_WORDS.contains(&word.as_str())
            || beside.any(|own| own.0 == word && is_of(own, release))
    };
    modes.count() <= 1
        && words.iter().all(is_known)
        && !(has("gang") && (has("within") || has("priority")))
}

fn takes_list(words: &'static Words, value: &str, release: Option<Release>) -> bool {
    let given: Vec<&str> = tokens(value).collect();
    let count = |name: &str| {
        given
            .iter()
            .filter(|own| own.eq_ignore_ascii_case(name))
            .count()
    };
    let sets = words.one_of.iter();
    let known: usize = words
        .any
        .iter()
        .filter(|word| is_of(word, release))
        .map(|(name, ..)| *name)
        .chain(sets.clone().flat_map(|set| set.iter().copied()))
        .map(count)
        .sum();
    let is_once = |set: &&[&str]| set.iter().map(|name| count(name)).sum::<usize>() <= 1;
    let is_apart = |(a, b): &(&str, &str)| count(a) == 0 || count(b) == 0;
    known == given.len() && sets.clone().all(is_once) && words.apart.iter().all(is_apart)
}

/// Whether `release` has a word; where that is not known, whether any has.
fn is_of((_, releases): &Word, release: Option<Release>) -> bool {
    release.is_none_or(|release| releases.has(release.series()))
}

/// The words between commas, without empty ones (`strtok`).
fn tokens(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').filter(|token| !token.is_empty())
}

/// `CR_Core, CR_Core_Memory or CR_CPU`.
fn one_of(f: &mut fmt::Formatter<'_>, words: &[&str]) -> fmt::Result {
    match words {
        [before @ .., last] if !before.is_empty() => write!(f, "{} or {last}", before.join(", ")),
        words => f.write_str(&words.join(", ")),
    }
}

impl fmt::Display for Value {
    /// What is expected, after "expected".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("a value"),
            Self::YesOrNo => f.write_str("yes or no"),
            Self::Bits16 => f.write_str("a number up to 65535"),
            Self::Bits32 => f.write_str("a number up to 4294967295"),
            Self::Bits64 | Self::Decimal => f.write_str("a number"),
            Self::Time => f.write_str("minutes, [days-]hours:minutes:seconds, days-hours or UNLIMITED"),
            Self::Between(least, u64::MAX) => write!(f, "a number from {least} on"),
            Self::Between(least, most) => write!(f, "a number from {least} to {most}"),
            Self::SomeTime => f.write_str("minutes, [days-]hours:minutes:seconds or days-hours, and not 0"),
            Self::Level => {
                f.write_str("a number, or ")?;
                one_of(f, &LEVELS)
            }
            Self::Ports => f.write_str("a port, or the first and the last of several with a hyphen between them"),
            Self::Beginning(words) | Self::Word(words) => one_of(f, words),
            Self::OverSubscribe => f.write_str("NO, EXCLUSIVE, YES or FORCE, the last two perhaps with :COUNT"),
            Self::PreemptMode | Self::PartitionPreemptMode => f.write_str(
                "one of OFF, CANCEL, REQUEUE and SUSPEND, perhaps with GANG, WITHIN or PRIORITY behind a comma",
            ),
            Self::Limits(words) => {
                f.write_str("ALL, NONE, or with commas between them ")?;
                one_of(f, words)
            }
            Self::List(words) => {
                let sets = words.one_of.iter().flat_map(|set| set.iter().copied());
                let names: Vec<&str> = sets.chain(words.any.iter().map(|(name, ..)| *name)).collect();
                f.write_str("words with commas between them, such as ")?;
                one_of(f, &names)
            }
        }
    }
}

/// A number as Slurm reads it (`strtoul` of any base, then `s_p_handle_uint64`, common/parse_value.c): `0x` begins a
/// hexadecimal one, `0` an octal one, and `k` behind it means 1024 times; None where it is none.
pub fn number(text: &str) -> Option<u64> {
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1024),
        None => (text, 1),
    };
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let lower = digits.to_ascii_lowercase();
    let number = if let Some(hexadecimal) = lower.strip_prefix("0x") {
        u64::from_str_radix(hexadecimal, 16)
    } else if lower.len() > 1 && lower.starts_with('0') {
        u64::from_str_radix(&lower, 8)
    } else {
        lower.parse()
    };
    number.ok()?.checked_mul(factor)
}

/// A number with a suffix as in `1K` (`suffix_mult`, common/slurm_protocol_api.c); None where it is none.
pub(crate) fn count_of(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let factor: u64 = match suffix.to_ascii_lowercase().as_str() {
        "" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "p" | "pib" => 1 << 50,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "pb" => 1_000_000_000_000_000,
        _ => return None,
    };
    Some(number.saturating_mul(factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_strtoul() {
        for (text, expected) in [
            ("16", Some(16)),
            ("0x10", Some(16)),
            ("020", Some(16)),
            ("+16", Some(16)),
            ("16K", Some(16384)),
            ("09", None),
            ("", None),
            ("-1", None),
            ("1 2", None),
            ("0", Some(0)),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    /// As real ones of 22.05, 25.05, 25.11 and 26.11 answered.
    #[test]
    fn words_and_times_are_those_that_slurm_takes() {
        for (kind, taken, refused) in [
            (
                Value::Time,
                &["90", "1:30", "2-0", "2-", "1-1:0:0", "UNLIMITED", "-1", "0"][..],
                &[
                    "2days",
                    "1h",
                    "90m",
                    "1:00:00:00",
                    "1-2-3",
                    "1:",
                    ":",
                    "1:2-3",
                ][..],
            ),
            (
                SELECT_PARAMETERS,
                &["CR_Core", "cr_core_memory,CR_LLN", "CR_Memory", "CR_LLN"],
                &[
                    "CR_Cores_Memory",
                    "CR_Core,CR_Memory",
                    "CR_Core,CR_Core",
                    "CR_CPU,CR_ONE_TASK_PER_CORE",
                    "CR_Core, CR_LLN",
                ],
            ),
            (
                TASK_PARAMETERS,
                &["Cores,Verbose", "autobind=Cores", "SlurmdOffSpec"],
                &["Core", "Cores,Threads", "Autobind=core", "Sched"],
            ),
            (
                PROLOG_FLAGS,
                &["Alloc,Contain", "x11"],
                &["Contian", "NoHold,Contain"],
            ),
            (
                Value::PreemptMode,
                &["OFF", "CANCEL", "GANG,SUSPEND", "requeue,within"],
                &["KILL", "CANCEL,REQUEUE", "GANG,WITHIN"],
            ),
            (
                Value::OverSubscribe,
                &["NO", "exclusive", "YES", "FORCE:4", "Yes:x"],
                &["MAYBE", "EXCLUSIVE:2", "NO:1"],
            ),
            (PARTITION_STATE, &["UP", "drained"], &["ON"]),
            (NODE_STATE, &["unknown", "DRAINED", "CLOUD"], &["FOO", "UP"]),
            (
                RESOURCE_LIMITS,
                &["NONE", "MEMLOCK,STACK", "RLIMIT_CORE"],
                &["MEMLOK", "ALL,CORE"],
            ),
        ] {
            for value in taken {
                assert!(kind.takes(value, None), "{kind:?} {value}");
            }
            for value in refused {
                assert!(!kind.takes(value, None), "{kind:?} {value}");
            }
        }
    }
}
