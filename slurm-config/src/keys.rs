//! The keys of slurm.conf and cgroup.conf by release, and what Slurm cannot read in their lines.
//!
//! A key or a value that Slurm cannot read ends every daemon and every command (`s_p_parse_file`,
//! common/parse_config.c; `_init_slurm_conf`, common/read_config.c).  The tables are those of the last patch of each release
//! from 22.05 to 26.05, and of the development tree of 26.11; `make test-gres` asks real daemons.

use std::fmt;

use topology::text::nearest;

use crate::config::Line;
use crate::gres;
use crate::release::Release;
use crate::values::{
    EXCLUSIVE, NODE_STATE, PARTITION_SELECT, PARTITION_STATE, PROLOG_FLAGS, RESOURCE_LIMITS,
    SELECT_PARAMETERS, TASK_PARAMETERS, Value,
};

/// A file of `Key=Value` lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfFile {
    /// slurm.conf.
    Slurm,
    /// cgroup.conf.
    Cgroup,
}

/// Why Slurm cannot read a line of slurm.conf or cgroup.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFault {
    /// Words that are no `Key=Value`.
    Stray(String),
    /// A pair behind another, as `key=value`; only lines such as those of NodeName= have several.
    Behind {
        /// The pair.
        pair: String,
        /// The key that stands before it.
        key: String,
    },
    /// A key whose option has been removed, as `key=value`.
    Removed(String),
    /// FrontendName, which is in slurm.conf of a Slurm of another build only (`--enable-front-end`), as `key=value`.
    FrontEnd(String),
    /// A key that no release of the table has there.
    Unknown {
        /// The pair.
        pair: String,
        /// The key that it may be meant for.
        meant: Option<&'static str>,
        /// The file in which it is a key.
        belongs_in: Option<&'static str>,
    },
    /// A key that this release does not have there, or not any more.
    OtherRelease {
        /// The pair.
        pair: String,
        /// The release that first has it.
        since: Release,
        /// The release that first lacks it again.
        before: Option<Release>,
    },
    /// A value that the key does not take.
    BadValue {
        /// The pair.
        pair: String,
        /// What the key takes.
        expected: Value,
    },
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stray(words) => write!(f, "\"{words}\" is no Key=Value"),
            Self::Behind { pair, key } => write!(f, "\"{pair}\" stands behind {key}="),
            Self::Removed(pair) => write!(f, "\"{pair}\", which Slurm has no more"),
            Self::FrontEnd(pair) => {
                write!(
                    f,
                    "\"{pair}\", which a Slurm built with --enable-front-end alone takes"
                )
            }
            Self::Unknown {
                pair,
                belongs_in: Some(file),
                ..
            } => write!(f, "\"{pair}\", a key of {file}"),
            Self::Unknown { pair, .. } => write!(f, "unknown key \"{pair}\""),
            Self::OtherRelease {
                pair,
                since,
                before: None,
            } => write!(f, "\"{pair}\", which Slurm has from {since} on"),
            Self::OtherRelease {
                pair,
                before: Some(before),
                ..
            } => write!(f, "\"{pair}\", which Slurm has only before {before}"),
            Self::BadValue { pair, expected } => {
                write!(f, "\"{pair}\": the key takes {expected}")
            }
        }
    }
}

/// Keys that take the same and are of the same releases.
#[derive(Debug, Clone, Copy)]
struct Keys {
    value: Value,
    /// In lower case, with blanks between them.
    names: &'static str,
    since: (u32, u32),
    before: Option<(u32, u32)>,
}

impl Keys {
    /// Keys of every release.
    const fn of(value: Value, names: &'static str) -> Self {
        Self {
            value,
            names,
            since: (0, 0),
            before: None,
        }
    }

    /// From a release on.
    const fn since(self, year: u32, month: u32) -> Self {
        Self {
            since: (year, month),
            ..self
        }
    }

    /// Until the release before that one.
    const fn before(self, year: u32, month: u32) -> Self {
        Self {
            before: Some((year, month)),
            ..self
        }
    }

    fn are_in(&self, release: Release) -> bool {
        let series = release.series();
        self.since <= series && self.before.is_none_or(|before| series < before)
    }
}

/// Keys at which every release ends: their option has been removed (`_validate_and_set_defaults`).
const REMOVED: [&str; 3] = [
    "accountingstorageloc",
    "accountingstorejobcomment",
    "sallocdefaultcommand",
];

/// slurm.conf itself (`slurm_conf_options`).
const SLURM_CONF: &[Keys] = &[
    Keys::of(
        Value::Text,
        "slurmctldplugstack",
    ).before(23, 2),
    Keys::of(
        Value::Text,
        "schedulerauth",
    ).before(24, 5),
    Keys::of(
        Value::Text,
        "frontendname",
    ).before(25, 5),
    Keys::of(
        Value::Bits16,
        "accountingstorageport acctgathernodefreq batchstarttimeout completewait eiotimeout extsensorsfreq \
         fairsharedampeningfactor fastschedule getenvtimeout groupupdateforce groupupdatetime healthcheckinterval \
         inactivelimit jobfileappend jobrequeue killonbadexit killwait maxtaskspernode messagetimeout \
         overtimelimit prologepilogtimeout propagateprioprocess resumerate resumetimeout resvoverrun \
         returntoservice schedulertimeslice slurmctldtimeout slurmdtimeout slurmschedloglevel suspendrate \
         suspendtimeout tcptimeout treewidth unkillablesteptimeout vsizefactor waittime",
    ),
    Keys::of(
        Value::Bits32,
        "epilogmsgtime firstjobid jobcompport keepalivetime maxarraysize maxdbdmsgs maxjobcount maxjobid \
         maxnodecount maxstepcount minjobage priorityweightage priorityweightassoc priorityweightfairshare \
         priorityweightjobsize priorityweightpartition priorityweightqos slurmdport",
    ),
    Keys::of(
        Value::Bits64,
        "defcpupergpu defmempercpu defmempergpu defmempernode maxmempercpu maxmempernode",
    ),
    Keys::of(
        Value::Text,
        "accountingstoragebackuphost accountingstorageenforce accountingstorageexternalhost accountingstoragehost \
         accountingstorageparameters accountingstoragepass accountingstoragetres accountingstoragetype \
         accountingstorageuser accountingstoreflags acctgatherenergytype acctgatherfilesystemtype \
         acctgatherinfinibandtype acctgatherinterconnecttype acctgatherprofiletype authaltparameters authalttypes \
         authinfo authtype backupaddr backupcontroller bcastexclude bcastparameters burstbufferparameters \
         burstbuffertype clifilterplugins clustername communicationparameters controladdr controlmachine \
         corespecplugin cpufreqdef cpufreqgovernors credtype cryptotype debugflags dependencyparameters downnodes \
         enforcepartlimits epilog epilogslurmctld extsensorstype federationparameters gpufreqdef grestypes \
         healthchecknodestate healthcheckprogram interactivestepoptions jobacctgatherfrequency jobacctgatherparams \
         jobacctgathertype jobcomphost jobcomploc jobcompparams jobcomppass jobcomptype jobcompuser \
         jobcontainertype jobcredentialprivatekey jobcredentialpubliccertificate jobsubmitplugins launchparameters \
         launchtype licenses logtimeformat maildomain mailprog mcsparameters mcsplugin mpidefault mpiparams \
         nodefeaturesplugins nodename nodeset partitionname plugindir plugstackconfig powerparameters powerplugin \
         preemptexempttime preempttype prepparameters prepplugins prioritycalcperiod \
         prioritydecayhalflife priorityflags prioritymaxage priorityparameters prioritysitefactorparameters \
         prioritysitefactorplugin prioritytype priorityusageresetperiod priorityweighttres privatedata \
         proctracktype prolog prologslurmctld rebootprogram reconfigflags requeueexit requeueexithold resumefailprogram resumeprogram resvepilog \
         resvprolog routeplugin sbcastparameters schedulerparameters schedulertype \
         scronparameters selecttype slurmctldaddr slurmctlddebug slurmctldhost \
         slurmctldlogfile slurmctldparameters slurmctldpidfile slurmctldport slurmctldprimaryoffprog \
         slurmctldprimaryonprog slurmctldsyslogdebug slurmddebug slurmdlogfile slurmdparameters slurmdpidfile \
         slurmdspooldir slurmdsyslogdebug slurmduser slurmschedlogfile slurmuser srunepilog srunportrange \
         srunprolog statesavelocation suspendexcnodes suspendexcparts suspendprogram suspendtime switchparameters \
         switchtype taskepilog taskplugin taskprolog tmpfs topologyparam topologyplugin \
         unkillablestepprogram x11parameters",
    ),
    Keys::of(Value::PreemptMode, "preemptmode"),
    Keys::of(PROLOG_FLAGS, "prologflags"),
    Keys::of(
        RESOURCE_LIMITS,
        "propagateresourcelimits propagateresourcelimitsexcept",
    ),
    Keys::of(SELECT_PARAMETERS, "selecttypeparameters"),
    Keys::of(TASK_PARAMETERS, "taskpluginparam"),
    Keys::of(
        Value::YesOrNo,
        "allowspecresourcesusage disablerootjobs priorityfavorsmall trackwckey usepam",
    ),
    Keys::of(
        Value::Bits32,
        "maxbatchrequeue",
    ).since(23, 2),
    Keys::of(
        Value::Text,
        "preemptparameters suspendexcstates",
    ).since(23, 2),
    Keys::of(
        Value::Text,
        "hashplugin tlsparameters tlstype",
    ).since(24, 5),
    Keys::of(
        Value::Text,
        "certmgrparameters certmgrtype dataparserparameters",
    ).since(24, 11),
    Keys::of(
        Value::Bits16,
        "epilogtimeout prologtimeout",
    ).since(25, 5),
    Keys::of(
        Value::Text,
        "certgenparameters certgentype",
    ).since(25, 5),
    Keys::of(
        Value::Text,
        "clifilterparameters httpparsertype jobcomppassscript metricstype namespacetype urlparsertype",
    ).since(25, 11),
    Keys::of(
        Value::Bits16,
        "healthchecktimeout",
    ).since(26, 5),
    Keys::of(
        Value::Text,
        "licenseparameters metricsauthusers metricsparameters poweraction slurmctldhttpauthparameters \
         slurmdhttpauthparameters",
    ).since(26, 5),
    Keys::of(
        Value::Text,
        "defruntimeplugin serializerparameters serializerplugins slurmrestdhttpauthparameters slurmrestdparameters \
         slurmstepdparameters",
    ).since(26, 11),
];
/// Behind `NodeName=` (`_parse_nodename`).
const NODE_LINE: &[Keys] = &[
    Keys::of(
        Value::Bits16,
        "boards corespeccount corespersocket cpus procs sockets socketsperboard threadspercore",
    ),
    Keys::of(Value::Bits32, "tmpdisk weight"),
    Keys::of(Value::Bits64, "memspeclimit realmemory"),
    Keys::of(
        Value::Text,
        "bcastaddr cpubind cpuspeclist feature features gres nodeaddr nodehostname port reason tresweights",
    ),
    Keys::of(NODE_STATE, "state"),
    Keys::of(Value::Bits16, "restrictedcorespergpu").since(24, 5),
    Keys::of(Value::Text, "topology").since(25, 5),
    Keys::of(Value::Text, "gresconf parameters").since(25, 11),
    Keys::of(Value::Text, "suspendtime").since(26, 5),
];
/// Behind `PartitionName=` (`_parse_partitionname`).
const PARTITION_LINE: &[Keys] = &[
    Keys::of(
        Value::Bits16,
        "priority priorityjobfactor prioritytier resumetimeout suspendtimeout",
    ),
    Keys::of(Value::Bits32, "gracetime maxcpuspernode maxnodes minnodes"),
    Keys::of(
        Value::Bits64,
        "defcpupergpu defmempercpu defmempergpu defmempernode maxmempercpu maxmempernode",
    ),
    Keys::of(
        Value::Text,
        "allocnodes allowaccounts allowgroups allowqos alternate cpubind denyaccounts denyqos nodes overtimelimit \
         preemptmode qos suspendtime tresbillingweights",
    ),
    Keys::of(Value::Time, "defaulttime maxtime"),
    Keys::of(Value::OverSubscribe, "oversubscribe shared"),
    Keys::of(PARTITION_SELECT, "selecttypeparameters"),
    Keys::of(PARTITION_STATE, "state"),
    Keys::of(
        Value::YesOrNo,
        "default disablerootjobs exclusiveuser hidden lln reqresv rootonly",
    ),
    Keys::of(Value::Bits32, "maxcpuspersocket").since(23, 2),
    Keys::of(Value::YesOrNo, "powerdownonidle").since(23, 2),
    Keys::of(Value::YesOrNo, "exclusivetopo").since(24, 5),
    Keys::of(Value::Text, "topology").since(25, 5),
    Keys::of(EXCLUSIVE, "exclusive").since(26, 5),
];
/// Behind `DownNodes=` (`_parse_downnodes`).
const DOWN_LINE: &[Keys] = &[Keys::of(Value::Text, "reason state")];
/// Behind `NodeSet=` (`_parse_nodeset`).
const SET_LINE: &[Keys] = &[Keys::of(Value::Text, "feature nodes")];
/// Behind `PowerAction=` (`_parse_power_action`).
const POWER_LINE: &[Keys] = &[Keys::of(Value::Text, "location program").since(26, 5)];
/// cgroup.conf (`_read_slurm_cgroup_conf`, interfaces/cgroup.c; common/cgroup.c in 22.05).  All releases have CgroupReleaseAgentDir
/// until 25.05 and stop at it, so it stands in none.
const CGROUP_CONF: &[Keys] = &[
    Keys::of(Value::Bits64, "minkmemspace").before(23, 11),
    Keys::of(Value::Decimal, "allowedkmemspace maxkmempercent").before(23, 11),
    Keys::of(Value::YesOrNo, "constrainkmemspace").before(23, 11),
    Keys::of(Value::Bits64, "memoryswappiness minramspace"),
    Keys::of(
        Value::Decimal,
        "allowedramspace allowedswapspace maxrampercent maxswappercent memorylimitthreshold",
    ),
    Keys::of(
        Value::Text,
        "alloweddevicesfile cgroupmountpoint cgroupplugin",
    ),
    Keys::of(
        Value::YesOrNo,
        "cgroupautomount constraincores constraindevices constrainramspace constrainswapspace ignoresystemd \
         ignoresystemdonfailure memorylimitenforcement",
    ),
    Keys::of(Value::YesOrNo, "rootownedcgroups")
        .since(23, 2)
        .before(23, 11),
    Keys::of(Value::YesOrNo, "enablecontrollers").since(23, 2),
    Keys::of(Value::YesOrNo, "signalchildrenprocesses").since(23, 11),
    Keys::of(Value::Bits64, "systemdtimeout").since(24, 5),
    Keys::of(Value::Text, "enableextracontrollers").since(25, 5),
    Keys::of(Value::Text, "cgroupslice").since(25, 11),
    Keys::of(Value::YesOrNo, "cgroupjobidpaths").since(26, 5),
];

/// The lines that have several pairs, by their first key, and the keys behind it (`S_P_ARRAY` with a handler that reads on).
const LINES: &[(&str, &[Keys])] = &[
    ("downnodes", DOWN_LINE),
    ("nodename", NODE_LINE),
    ("nodeset", SET_LINE),
    ("partitionname", PARTITION_LINE),
    ("poweraction", POWER_LINE),
    ("slurmctldhost", &[]),
];

/// The first thing in a line that Slurm of `release` cannot read; where that is not known, what no release can.
pub fn fault_of(line: &Line, file: ConfFile, release: Option<Release>) -> Option<KeyFault> {
    let Some((first, rest)) = line.pairs.split_first() else {
        return line.stray.clone().map(KeyFault::Stray);
    };
    let table = match file {
        ConfFile::Slurm => SLURM_CONF,
        ConfFile::Cgroup => CGROUP_CONF,
    };
    if file == ConfFile::Slurm && REMOVED.contains(&first.0.as_str()) {
        return Some(KeyFault::Removed(shown(first)));
    }
    if let Some(fault) = fault_in(table, first, release) {
        return Some(fault);
    }
    if first.0 == "frontendname" {
        return Some(KeyFault::FrontEnd(shown(first)));
    }
    let mut lines = LINES.iter().filter(|_| file == ConfFile::Slurm);
    let behind = lines.find(|(key, _)| *key == first.0);
    match (behind, rest.first()) {
        (Some((_, keys)), _) => {
            let mut faults = rest.iter().filter_map(|pair| fault_in(keys, pair, release));
            if let Some(fault) = faults.next() {
                return Some(fault);
            }
        }
        (None, Some(second)) => {
            return Some(KeyFault::Behind {
                pair: shown(second),
                key: first.0.clone(),
            });
        }
        (None, None) => {}
    }
    line.stray.clone().map(KeyFault::Stray)
}

fn shown((key, value): &(String, String)) -> String {
    format!("{key}={value}")
}

/// What is wrong with a pair where the keys of `table` may stand.
fn fault_in(
    table: &'static [Keys],
    pair: &(String, String),
    release: Option<Release>,
) -> Option<KeyFault> {
    let (key, value) = pair;
    let is_it = |name: &str| name == key;
    let has_it =
        |table: &'static [Keys]| table.iter().find(|keys| keys.names.split(' ').any(is_it));
    let Some(keys) = has_it(table) else {
        let others = [("slurm.conf", SLURM_CONF), ("cgroup.conf", CGROUP_CONF)];
        let mut others = others
            .into_iter()
            .filter(|(_, other)| has_it(other).is_some());
        let of_gres = gres::is_key(key).then_some("gres.conf");
        return Some(KeyFault::Unknown {
            pair: shown(pair),
            meant: nearest(key, names(table, release)),
            belongs_in: others.next().map(|(file, _)| file).or(of_gres),
        });
    };
    if release.is_some_and(|release| !keys.are_in(release)) {
        return Some(KeyFault::OtherRelease {
            pair: shown(pair),
            since: Release::from(keys.since),
            before: keys.before.map(Release::from),
        });
    }
    // An empty value is told as the words that it is not.
    (!value.is_empty() && !keys.value.takes(value, release)).then(|| KeyFault::BadValue {
        pair: shown(pair),
        expected: keys.value,
    })
}

/// The keys that `release` has, of those of `table`.
fn names(table: &'static [Keys], release: Option<Release>) -> impl Iterator<Item = &'static str> {
    let own = table
        .iter()
        .filter(move |keys| release.is_none_or(|release| keys.are_in(release)));
    own.flat_map(|keys| keys.names.split(' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::of_text;

    fn fault(text: &str, file: ConfFile, release: &str) -> Option<String> {
        let lines = of_text(text, "f");
        let found = fault_of(&lines[0], file, Release::find(release));
        found.map(|fault| fault.to_string())
    }

    /// As real ones of 22.05, 24.11, 25.05, 25.11 and 26.05 answered (`make test-gres`).
    #[test]
    fn what_slurm_cannot_read_is_found() {
        let slurm = [
            ("NodeName=n1 CPUs=2 Gres=gpu:4 SuspendTime=3", "26.05", None),
            ("NodeName=n1 Port=1-3 Weight=1K CPUs=0x10", "22.05", None),
            (
                "NodeName=n2 Gres=gpu:4, nic:1",
                "22.05",
                Some("\"nic:1\" is no Key=Value"),
            ),
            (
                "NodeName=n1 Sokcets=2",
                "22.05",
                Some("unknown key \"sokcets=2\""),
            ),
            (
                "NodeName=n1 RestrictedCoresPerGPU=2",
                "22.05",
                Some("\"restrictedcorespergpu=2\", which Slurm has from 24.05 on"),
            ),
            (
                "FrontendName=n1 State=UP",
                "25.05",
                Some("\"frontendname=n1\", which Slurm has only before 25.05"),
            ),
            (
                "FrontendName=n1 State=UP",
                "24.11",
                Some(
                    "\"frontendname=n1\", which a Slurm built with --enable-front-end alone takes",
                ),
            ),
            (
                "SallocDefaultCommand=x",
                "24.11",
                Some("\"sallocdefaultcommand=x\", which Slurm has no more"),
            ),
            (
                "NodeName=n1 CPUs=70000",
                "22.05",
                Some("\"cpus=70000\": the key takes a number up to 65535"),
            ),
            (
                "NodeName=n1 CPUs=1k",
                "22.05",
                Some("\"cpus=1k\": the key takes a number up to 65535"),
            ),
            ("NodeName=n1 CPUs=Unlimited", "22.05", None),
            (
                "GresTypes=gpu SlurmdParameters=x",
                "22.05",
                Some("\"slurmdparameters=x\" stands behind grestypes="),
            ),
            (
                "SlurmdParameters=",
                "22.05",
                Some("\"SlurmdParameters=\" is no Key=Value"),
            ),
            ("SlurmdTimeout=300 # x", "22.05", None),
            (
                "TaskPlgin=task/none",
                "22.05",
                Some("unknown key \"taskplgin=task/none\""),
            ),
            (
                "DisableRootJobs=maybe",
                "22.05",
                Some("\"disablerootjobs=maybe\": the key takes yes or no"),
            ),
            ("PowerAction=a Program=/b", "26.05", None),
            (
                "PartitionName=p MaxTime=2days",
                "24.11",
                Some(
                    "\"maxtime=2days\": the key takes minutes, [days-]hours:minutes:seconds, days-hours or UNLIMITED",
                ),
            ),
            (
                "PartitionName=p MaxTime=2-0 DefaultTime=1:00:00 State=UP OverSubscribe=FORCE:2",
                "24.11",
                None,
            ),
            (
                "PartitionName=p State=open",
                "24.11",
                Some("\"state=open\": the key takes UP, DOWN, DRAIN or INACTIVE"),
            ),
            (
                "PartitionName=p SelectTypeParameters=CR_CPU",
                "24.11",
                Some("\"selecttypeparameters=CR_CPU\": the key takes CR_Core or CR_Socket"),
            ),
            ("SelectTypeParameters=CR_Core_Memory,CR_LLN", "24.11", None),
            (
                "PartitionName=p Noodes=ALL",
                "22.05",
                Some("unknown key \"noodes=ALL\""),
            ),
        ];
        let cgroup = [
            ("ConstrainCores=yes", "22.05", None),
            (
                "ConstrainCore=yes",
                "22.05",
                Some("unknown key \"constraincore=yes\""),
            ),
            (
                "ConstrainKmemSpace=no",
                "24.11",
                Some("\"constrainkmemspace=no\", which Slurm has only before 23.11"),
            ),
            ("AllowedRAMSpace=98.5", "22.05", None),
            (
                "NodeName=n1 CPUs=2",
                "22.05",
                Some("\"nodename=n1\", a key of slurm.conf"),
            ),
        ];
        let slurm = slurm.map(|row| (ConfFile::Slurm, row));
        let cgroup = cgroup.map(|row| (ConfFile::Cgroup, row));
        for (file, (text, release, expected)) in slurm.into_iter().chain(cgroup) {
            let found = fault(text, file, release);
            assert_eq!(found.as_deref(), expected, "{text} {release}");
        }
    }

    #[test]
    fn a_misspelt_key_names_the_one_that_was_meant() {
        for (text, expected) in [
            ("NodeName=n1 Sokcets=2", Some("sockets")),
            ("TaskPlgin=x", Some("taskplugin")),
            ("NodeName=n1 Colour=red", None),
        ] {
            let lines = of_text(text, "f");
            let Some(KeyFault::Unknown { meant, .. }) = fault_of(&lines[0], ConfFile::Slurm, None)
            else {
                panic!("{text}");
            };
            assert_eq!(meant, expected, "{text}");
        }
    }

    #[test]
    fn no_key_stands_twice_where_it_may_stand() {
        let tables = LINES.iter().map(|(_, keys)| *keys);
        for table in tables.chain([SLURM_CONF, CGROUP_CONF]) {
            let mut all: Vec<&str> = names(table, None).collect();
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count);
        }
        let first = |key: &str| names(SLURM_CONF, None).any(|own| own == key);
        assert!(LINES.iter().all(|(key, _)| first(key)));
    }
}
