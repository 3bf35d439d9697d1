//! The keys of slurm.conf and cgroup.conf by release, and what Slurm cannot read in their lines.
//!
//! A key or a value that Slurm cannot read ends every daemon and every command (`s_p_parse_file`,
//! common/parse_config.c; `_init_slurm_conf`, common/read_config.c).  The tables are those of the last patch of each release
//! from 22.05 to 26.05, and of the development tree of 26.11; `make test-gres` asks real daemons.

use std::fmt;

use topology::text::nearest;

use crate::config::Line;
use crate::gres;
use crate::release::{Release, Span};
use crate::values::{
    DEBUG_FLAGS, EXCLUSIVE, NODE_STATE, PART_LIMITS, PARTITION_SELECT, PARTITION_STATE,
    PROLOG_FLAGS, RESET_PERIOD, RESOURCE_LIMITS, SELECT_PARAMETERS, STORAGE_ENFORCE,
    TASK_PARAMETERS, Value,
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
    /// As Slurm spells them, with blanks between them.
    names: &'static str,
    releases: Span,
}

impl Keys {
    /// Keys of every release.
    const fn of(value: Value, names: &'static str) -> Self {
        Self {
            value,
            names,
            releases: Span::ALL,
        }
    }

    /// From a release on.
    const fn since(self, year: u32, month: u32) -> Self {
        Self {
            releases: self.releases.since(year, month),
            ..self
        }
    }

    /// Until the release before that one.
    const fn before(self, year: u32, month: u32) -> Self {
        Self {
            releases: self.releases.before(year, month),
            ..self
        }
    }

    fn are_in(&self, release: Release) -> bool {
        self.releases.has(release.series())
    }
}

/// Keys at which every release ends: their option has been removed (`_validate_and_set_defaults`).
const REMOVED: [&str; 3] = [
    "AccountingStorageLoc",
    "AccountingStoreJobComment",
    "SallocDefaultCommand",
];

/// slurm.conf itself (`slurm_conf_options`).
const SLURM_CONF: &[Keys] = &[
    Keys::of(
        Value::Text,
        "SlurmctldPlugstack",
    ).before(23, 2),
    Keys::of(
        Value::Text,
        "SchedulerAuth",
    ).before(24, 5),
    Keys::of(
        Value::Text,
        "FrontendName",
    ).before(25, 5),
    Keys::of(
        Value::Bits16,
        "AccountingStoragePort AcctGatherNodeFreq BatchStartTimeout CompleteWait EioTimeout ExtSensorsFreq \
         FairShareDampeningFactor FastSchedule GetEnvTimeout GroupUpdateForce GroupUpdateTime HealthCheckInterval \
         InactiveLimit JobFileAppend JobRequeue KillOnBadExit KillWait MaxTasksPerNode MessageTimeout \
         OverTimeLimit PrologEpilogTimeout ResumeRate ResumeTimeout ResvOverRun \
         ReturnToService SchedulerTimeSlice SlurmctldTimeout SlurmdTimeout SlurmSchedLogLevel SuspendRate \
         SuspendTimeout TCPTimeout TreeWidth UnkillableStepTimeout VSizeFactor WaitTime",
    ),
    Keys::of(
        Value::Bits32,
        "EpilogMsgTime JobCompPort KeepAliveTime MaxArraySize MaxJobId \
         MaxNodeCount MinJobAge PriorityWeightAge PriorityWeightAssoc PriorityWeightFairshare \
         PriorityWeightJobSize PriorityWeightPartition PriorityWeightQOS SlurmdPort",
    ),
    Keys::of(
        Value::Bits64,
        "DefCPUPerGPU DefMemPerCPU DefMemPerGPU DefMemPerNode MaxMemPerCPU MaxMemPerNode",
    ),
    Keys::of(
        Value::Text,
        "AccountingStorageBackupHost AccountingStorageExternalHost AccountingStorageHost \
         AccountingStorageParameters AccountingStoragePass AccountingStorageTRES AccountingStorageType \
         AccountingStorageUser AccountingStoreFlags AcctGatherEnergyType AcctGatherFilesystemType \
         AcctGatherInfinibandType AcctGatherInterconnectType AcctGatherProfileType AuthAltParameters AuthAltTypes \
         AuthInfo AuthType BackupAddr BackupController BcastExclude BcastParameters BurstBufferParameters \
         BurstBufferType CliFilterPlugins ClusterName CommunicationParameters ControlAddr ControlMachine \
         CoreSpecPlugin CpuFreqDef CpuFreqGovernors CredType CryptoType DependencyParameters DownNodes \
         Epilog EpilogSlurmctld ExtSensorsType FederationParameters GpuFreqDef GresTypes \
         HealthCheckNodeState HealthCheckProgram InteractiveStepOptions JobAcctGatherFrequency JobAcctGatherParams \
         JobAcctGatherType JobCompHost JobCompLoc JobCompParams JobCompPass JobCompType JobCompUser \
         JobContainerType JobCredentialPrivateKey JobCredentialPublicCertificate JobSubmitPlugins LaunchParameters \
         LaunchType Licenses LogTimeFormat MailDomain MailProg MCSParameters MCSPlugin MpiDefault MpiParams \
         NodeFeaturesPlugins NodeName NodeSet PartitionName PluginDir PlugStackConfig PowerParameters PowerPlugin \
         PreemptType PrEpParameters PrEpPlugins \
         PriorityFlags PriorityParameters PrioritySiteFactorParameters \
         PrioritySiteFactorPlugin PriorityType PriorityWeightTRES PrivateData \
         ProctrackType Prolog PrologSlurmctld RebootProgram ReconfigFlags RequeueExit RequeueExitHold ResumeFailProgram ResumeProgram ResvEpilog \
         ResvProlog RoutePlugin SbcastParameters SchedulerParameters SchedulerType \
         ScronParameters SelectType SlurmctldAddr SlurmctldHost \
         SlurmctldLogFile SlurmctldParameters SlurmctldPidFile SlurmctldPrimaryOffProg \
         SlurmctldPrimaryOnProg SlurmdLogFile SlurmdParameters SlurmdPidFile \
         SlurmdSpoolDir SlurmdUser SlurmSchedLogFile SlurmUser SrunEpilog SrunPortRange \
         SrunProlog StateSaveLocation SuspendExcNodes SuspendExcParts SuspendProgram SuspendTime SwitchParameters \
         SwitchType TaskEpilog TaskPlugin TaskProlog TmpFS TopologyParam TopologyPlugin \
         UnkillableStepProgram X11Parameters",
    ),
    Keys::of(Value::PreemptMode, "PreemptMode"),
    Keys::of(DEBUG_FLAGS, "DebugFlags"),
    Keys::of(STORAGE_ENFORCE, "AccountingStorageEnforce"),
    Keys::of(PART_LIMITS, "EnforcePartLimits"),
    Keys::of(RESET_PERIOD, "PriorityUsageResetPeriod"),
    Keys::of(
        Value::Time,
        "PreemptExemptTime PriorityDecayHalfLife PriorityMaxAge",
    ),
    Keys::of(Value::SomeTime, "PriorityCalcPeriod"),
    Keys::of(
        Value::Level,
        "SlurmctldDebug SlurmctldSyslogDebug SlurmdDebug SlurmdSyslogDebug",
    ),
    Keys::of(Value::Ports, "SlurmctldPort"),
    Keys::of(Value::Between(1, u64::MAX), "FirstJobId MaxJobCount MaxStepCount"),
    Keys::of(Value::Between(10_000, u64::MAX), "MaxDBDMsgs"),
    Keys::of(Value::Between(0, 2), "PropagatePrioProcess"),
    Keys::of(PROLOG_FLAGS, "PrologFlags"),
    Keys::of(
        RESOURCE_LIMITS,
        "PropagateResourceLimits PropagateResourceLimitsExcept",
    ),
    Keys::of(SELECT_PARAMETERS, "SelectTypeParameters"),
    Keys::of(TASK_PARAMETERS, "TaskPluginParam"),
    Keys::of(
        Value::YesOrNo,
        "AllowSpecResourcesUsage DisableRootJobs PriorityFavorSmall TrackWCKey UsePAM",
    ),
    Keys::of(
        Value::Bits32,
        "MaxBatchRequeue",
    ).since(23, 2),
    Keys::of(
        Value::Text,
        "PreemptParameters SuspendExcStates",
    ).since(23, 2),
    Keys::of(
        Value::Text,
        "HashPlugin TLSParameters TLSType",
    ).since(24, 5),
    Keys::of(
        Value::Text,
        "CertmgrParameters CertmgrType DataParserParameters",
    ).since(24, 11),
    Keys::of(
        Value::Bits16,
        "EpilogTimeout PrologTimeout",
    ).since(25, 5),
    Keys::of(
        Value::Text,
        "CertgenParameters CertgenType",
    ).since(25, 5),
    Keys::of(
        Value::Text,
        "CliFilterParameters HttpParserType JobCompPassScript MetricsType NamespaceType UrlParserType",
    ).since(25, 11),
    Keys::of(
        Value::Bits16,
        "HealthCheckTimeout",
    ).since(26, 5),
    Keys::of(
        Value::Text,
        "LicenseParameters MetricsAuthUsers MetricsParameters PowerAction SlurmctldHttpAuthParameters \
         SlurmdHttpAuthParameters",
    ).since(26, 5),
    Keys::of(
        Value::Text,
        "DefRuntimePlugin SerializerParameters SerializerPlugins SlurmrestdHttpAuthParameters SlurmrestdParameters \
         SlurmstepdParameters",
    ).since(26, 11),
];
/// Behind `NodeName=` (`_parse_nodename`).
const NODE_LINE: &[Keys] = &[
    Keys::of(
        Value::Bits16,
        "Boards CoreSpecCount CoresPerSocket CPUs Procs Sockets SocketsPerBoard ThreadsPerCore",
    ),
    Keys::of(Value::Bits32, "TmpDisk Weight"),
    Keys::of(Value::Bits64, "MemSpecLimit RealMemory"),
    Keys::of(
        Value::Text,
        "BcastAddr CpuBind CPUSpecList Feature Features Gres NodeAddr NodeHostname Port Reason TRESWeights",
    ),
    Keys::of(NODE_STATE, "State"),
    Keys::of(Value::Bits16, "RestrictedCoresPerGPU").since(24, 5),
    Keys::of(Value::Text, "Topology").since(25, 5),
    Keys::of(Value::Text, "GresConf Parameters").since(25, 11),
    Keys::of(Value::Text, "SuspendTime").since(26, 5),
];
/// Behind `PartitionName=` (`_parse_partitionname`).
const PARTITION_LINE: &[Keys] = &[
    Keys::of(
        Value::Bits16,
        "Priority PriorityJobFactor PriorityTier ResumeTimeout SuspendTimeout",
    ),
    Keys::of(Value::Bits32, "GraceTime MaxCPUsPerNode MaxNodes MinNodes"),
    Keys::of(
        Value::Bits64,
        "DefCPUPerGPU DefMemPerCPU DefMemPerGPU DefMemPerNode MaxMemPerCPU MaxMemPerNode",
    ),
    Keys::of(
        Value::Text,
        "AllocNodes AllowAccounts AllowGroups AllowQos Alternate CpuBind DenyAccounts DenyQos Nodes OverTimeLimit \
         QOS SuspendTime TRESBillingWeights",
    ),
    Keys::of(Value::Time, "DefaultTime MaxTime"),
    Keys::of(Value::PartitionPreemptMode, "PreemptMode"),
    Keys::of(Value::OverSubscribe, "OverSubscribe Shared"),
    Keys::of(PARTITION_SELECT, "SelectTypeParameters"),
    Keys::of(PARTITION_STATE, "State"),
    Keys::of(
        Value::YesOrNo,
        "Default DisableRootJobs ExclusiveUser Hidden LLN ReqResv RootOnly",
    ),
    Keys::of(Value::Bits32, "MaxCPUsPerSocket").since(23, 2),
    Keys::of(Value::YesOrNo, "PowerDownOnIdle").since(23, 2),
    Keys::of(Value::YesOrNo, "ExclusiveTopo").since(24, 5),
    Keys::of(Value::Text, "Topology").since(25, 5),
    Keys::of(EXCLUSIVE, "Exclusive").since(26, 5),
];
/// Behind `DownNodes=` (`_parse_downnodes`).
const DOWN_LINE: &[Keys] = &[Keys::of(Value::Text, "Reason State")];
/// Behind `NodeSet=` (`_parse_nodeset`).
const SET_LINE: &[Keys] = &[Keys::of(Value::Text, "Feature Nodes")];
/// Behind `PowerAction=` (`_parse_power_action`).
const POWER_LINE: &[Keys] = &[Keys::of(Value::Text, "Location Program").since(26, 5)];
/// cgroup.conf (`_read_slurm_cgroup_conf`, interfaces/cgroup.c; common/cgroup.c in 22.05).  All releases have CgroupReleaseAgentDir
/// until 25.05 and stop at it, so it stands in none.
const CGROUP_CONF: &[Keys] = &[
    Keys::of(Value::Bits64, "MinKmemSpace").before(23, 11),
    Keys::of(Value::Decimal, "AllowedKmemSpace MaxKmemPercent").before(23, 11),
    Keys::of(Value::YesOrNo, "ConstrainKmemSpace").before(23, 11),
    Keys::of(Value::Bits64, "MemorySwappiness MinRAMSpace"),
    Keys::of(
        Value::Decimal,
        "AllowedRAMSpace AllowedSwapSpace MaxRAMPercent MaxSwapPercent MemoryLimitThreshold",
    ),
    Keys::of(
        Value::Text,
        "AllowedDevicesFile CgroupMountpoint CgroupPlugin",
    ),
    Keys::of(
        Value::YesOrNo,
        "CgroupAutomount ConstrainCores ConstrainDevices ConstrainRAMSpace ConstrainSwapSpace IgnoreSystemd \
         IgnoreSystemdOnFailure MemoryLimitEnforcement",
    ),
    Keys::of(Value::YesOrNo, "RootOwnedCgroups")
        .since(23, 2)
        .before(23, 11),
    Keys::of(Value::YesOrNo, "EnableControllers").since(23, 2),
    Keys::of(Value::YesOrNo, "SignalChildrenProcesses").since(23, 11),
    Keys::of(Value::Bits64, "SystemdTimeout").since(24, 5),
    Keys::of(Value::Text, "EnableExtraControllers").since(25, 5),
    Keys::of(Value::Text, "CgroupSlice").since(25, 11),
    Keys::of(Value::YesOrNo, "CgroupJobIdPaths").since(26, 5),
];

/// The lines that have several pairs, by their first key, and the keys behind it (`S_P_ARRAY` with a handler that reads on).
const LINES: &[(&str, &[Keys])] = &[
    ("DownNodes", DOWN_LINE),
    ("NodeName", NODE_LINE),
    ("NodeSet", SET_LINE),
    ("PartitionName", PARTITION_LINE),
    ("PowerAction", POWER_LINE),
    ("SlurmctldHost", &[]),
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
    let is_first = |name: &&str| name.eq_ignore_ascii_case(&first.0);
    if file == ConfFile::Slurm && REMOVED.iter().any(is_first) {
        return Some(KeyFault::Removed(line.shown(0)));
    }
    if let Some(fault) = fault_in(table, line, 0, release) {
        return Some(fault);
    }
    if first.0 == "frontendname" {
        return Some(KeyFault::FrontEnd(line.shown(0)));
    }
    let mut lines = LINES.iter().filter(|_| file == ConfFile::Slurm);
    let behind = lines.find(|(key, _)| key.eq_ignore_ascii_case(&first.0));
    match (behind, rest.is_empty()) {
        (Some((_, keys)), _) => {
            let mut faults = (1..=rest.len()).filter_map(|at| fault_in(keys, line, at, release));
            if let Some(fault) = faults.next() {
                return Some(fault);
            }
        }
        (None, false) => {
            return Some(KeyFault::Behind {
                pair: line.shown(1),
                key: line.spelling(0).to_owned(),
            });
        }
        (None, true) => {}
    }
    line.stray.clone().map(KeyFault::Stray)
}

/// What is wrong with a pair of a line where the keys of `table` may stand.
fn fault_in(
    table: &'static [Keys],
    line: &Line,
    at: usize,
    release: Option<Release>,
) -> Option<KeyFault> {
    let (key, value) = line.pairs.get(at)?;
    let is_it = |name: &str| name.eq_ignore_ascii_case(key);
    let has_it =
        |table: &'static [Keys]| table.iter().find(|keys| keys.names.split(' ').any(is_it));
    let Some(keys) = has_it(table) else {
        let others = [("slurm.conf", SLURM_CONF), ("cgroup.conf", CGROUP_CONF)];
        let mut others = others
            .into_iter()
            .filter(|(_, other)| has_it(other).is_some());
        let of_gres = gres::is_key(key).then_some("gres.conf");
        return Some(KeyFault::Unknown {
            pair: line.shown(at),
            meant: nearest_in(key, table, release),
            belongs_in: others.next().map(|(file, _)| file).or(of_gres),
        });
    };
    if release.is_some_and(|release| !keys.are_in(release)) {
        return Some(KeyFault::OtherRelease {
            pair: line.shown(at),
            since: Release::from(keys.releases.since),
            before: keys.releases.before.map(Release::from),
        });
    }
    // An empty value is told as the words that it is not.
    (!value.is_empty() && !keys.value.takes(value, release)).then(|| KeyFault::BadValue {
        pair: line.shown(at),
        expected: keys.value,
    })
}

/// Pairs of a node's line as Slurm spells their keys, with blanks between them.
pub fn of_node_line(pairs: &[(String, String)]) -> String {
    let spelled = |key: &str| names(NODE_LINE, None).find(|name| name.eq_ignore_ascii_case(key));
    let words = pairs.iter().map(|(key, value)| {
        let name = spelled(key).unwrap_or(key);
        format!("{name}={value}")
    });
    words.collect::<Vec<String>>().join(" ")
}

/// The key of `table` that is meant, as Slurm spells it.
fn nearest_in(key: &str, table: &'static [Keys], release: Option<Release>) -> Option<&'static str> {
    let lower: Vec<String> = names(table, release).map(str::to_ascii_lowercase).collect();
    let meant = nearest(key, lower.iter().map(String::as_str))?;
    names(table, release).find(|name| name.eq_ignore_ascii_case(meant))
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
                Some("unknown key \"Sokcets=2\""),
            ),
            (
                "NodeName=n1 RestrictedCoresPerGPU=2",
                "22.05",
                Some("\"RestrictedCoresPerGPU=2\", which Slurm has from 24.05 on"),
            ),
            (
                "FrontendName=n1 State=UP",
                "25.05",
                Some("\"FrontendName=n1\", which Slurm has only before 25.05"),
            ),
            (
                "FrontendName=n1 State=UP",
                "24.11",
                Some(
                    "\"FrontendName=n1\", which a Slurm built with --enable-front-end alone takes",
                ),
            ),
            (
                "SallocDefaultCommand=x",
                "24.11",
                Some("\"SallocDefaultCommand=x\", which Slurm has no more"),
            ),
            (
                "NodeName=n1 CPUs=70000",
                "22.05",
                Some("\"CPUs=70000\": the key takes a number up to 65535"),
            ),
            (
                "NodeName=n1 CPUs=1k",
                "22.05",
                Some("\"CPUs=1k\": the key takes a number up to 65535"),
            ),
            ("NodeName=n1 CPUs=Unlimited", "22.05", None),
            (
                "GresTypes=gpu SlurmdParameters=x",
                "22.05",
                Some("\"SlurmdParameters=x\" stands behind GresTypes="),
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
                Some("unknown key \"TaskPlgin=task/none\""),
            ),
            (
                "DisableRootJobs=maybe",
                "22.05",
                Some("\"DisableRootJobs=maybe\": the key takes yes or no"),
            ),
            ("PowerAction=a Program=/b", "26.05", None),
            (
                "PartitionName=p MaxTime=2days",
                "24.11",
                Some(
                    "\"MaxTime=2days\": the key takes minutes, [days-]hours:minutes:seconds, days-hours or UNLIMITED",
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
                Some("\"State=open\": the key takes UP, DOWN, DRAIN or INACTIVE"),
            ),
            (
                "PartitionName=p SelectTypeParameters=CR_CPU",
                "24.11",
                Some("\"SelectTypeParameters=CR_CPU\": the key takes CR_Core or CR_Socket"),
            ),
            ("SelectTypeParameters=CR_Core_Memory,CR_LLN", "24.11", None),
            (
                "PartitionName=p Noodes=ALL",
                "22.05",
                Some("unknown key \"Noodes=ALL\""),
            ),
        ];
        let cgroup = [
            ("ConstrainCores=yes", "22.05", None),
            (
                "ConstrainCore=yes",
                "22.05",
                Some("unknown key \"ConstrainCore=yes\""),
            ),
            (
                "ConstrainKmemSpace=no",
                "24.11",
                Some("\"ConstrainKmemSpace=no\", which Slurm has only before 23.11"),
            ),
            ("AllowedRAMSpace=98.5", "22.05", None),
            (
                "NodeName=n1 CPUs=2",
                "22.05",
                Some("\"NodeName=n1\", a key of slurm.conf"),
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
            ("NodeName=n1 Sokcets=2", Some("Sockets")),
            ("TaskPlgin=x", Some("TaskPlugin")),
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
            let mut all: Vec<String> = names(table, None).map(str::to_ascii_lowercase).collect();
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count);
        }
        let first = |key: &str| names(SLURM_CONF, None).any(|own| own == key);
        assert!(LINES.iter().all(|(key, _)| first(key)));
    }
}
