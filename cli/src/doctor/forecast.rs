//! Whether the node registers, by release: what slurmd will say of it and what slurmctld will make of that.
//!
//! `make test-gres` holds this to real daemons, row by row.

use serde::Serialize;
use slurm_config::block_map::BlockMap;
use slurm_config::cores::{CoreSet, Counts};
use slurm_config::gres::{NodeGres, fault_of};
use slurm_config::node::{Node, Shape};
use slurm_config::registration::{
    Fatal, Record, Refused, Registration, registered_shape, sharing, type_of_name,
};
use slurm_config::release::Release;
use slurm_config::rules::{self, CoresRule, RestrictedCores, Series};
use topology::machine::{Gpu, Machine};

use super::detection;
use super::devices::{self, DeviceFile};
use super::foretold::{ForecastOutcome, Foretold};
use super::keys;
use super::report::{DoctorFinding, DoctorReport, Harm};
use super::reserved;
use super::slurm::Slurm;
use super::world::World;
use crate::hardware::gpu_name;

/// Whether the node registers, in every release of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Forecast {
    /// What slurmd registers under the release at hand, as `4 gpu:h100, cores 0-31 / 32-63`; null where it does not start or that
    /// is not known.
    pub(crate) gpus: Option<String>,
    /// Releases with the same outcome, oldest first.
    pub(crate) releases: Vec<ForecastSpan>,
    /// What was looked at to say so.
    pub(crate) looked_at: String,
}

/// What every forecast goes by besides the node's line.
const LOOKED_AT: &str = "its GPUs, and in slurm.conf, gres.conf and cgroup.conf keys, values, names of plugins and what they need of \
                         each other";

/// What this forecast goes by.  Whatever else a daemon may stop at is not in it.
fn looked_at(world: &World<'_>, slurm: &Slurm, node: &Node) -> String {
    let host = if !slurm.looks_for_needs() || slurm.host.is_none() {
        "not users, folders, other files, accounts, scripts or the network"
    } else if world.is_live {
        "on this host users, folders and files that slurm.conf needs; not what is in those files, accounts, scripts or the network"
    } else {
        "users, folders and files that slurm.conf needs, as far as they are recorded; not what is in those files, accounts, scripts or the \
         network"
    };
    let given = [
        (
            "RealMemory=",
            node.real_memory_mib(),
            world.real_memory_mib(),
        ),
        ("TmpDisk=", node.tmp_disk_mib(), world.tmp_disk_mib()),
    ];
    let unheld: Vec<&str> = given
        .iter()
        .filter(|(_, given, there)| given.is_some() && there.is_none())
        .map(|(key, ..)| *key)
        .collect();
    let line = if unheld.is_empty() {
        "the node's line and".to_owned()
    } else {
        format!(
            "the node's line without {} (not recorded of the machine) and",
            unheld.join(" and ")
        )
    };
    format!("{line} {LOOKED_AT}; {host}")
}

/// Consecutive releases with the same outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ForecastSpan {
    /// The first of them.
    pub(crate) from: String,
    /// The last of them.
    pub(crate) to: String,
    /// What happens.
    pub(crate) outcome: ForecastOutcome,
    /// Why, unless the node registers.
    pub(crate) why: Option<String>,
}

/// The forecast; None where there is no node line or the machine is not known well enough.
pub(crate) fn forecast(world: &World<'_>) -> Option<Forecast> {
    let (slurm, node) = subject(world)?;
    let mut releases: Vec<ForecastSpan> = Vec::new();
    for own in all(world)? {
        let name = own.release.to_string();
        match releases
            .last_mut()
            .filter(|last| last.outcome == own.outcome && last.why == own.why)
        {
            Some(last) => last.to = name,
            None => releases.push(ForecastSpan {
                from: name.clone(),
                to: name,
                outcome: own.outcome,
                why: own.why.clone(),
            }),
        }
    }
    Some(Forecast {
        gpus: at_hand(world)?.gpus.clone(),
        releases,
        looked_at: looked_at(world, slurm, node),
    })
}

/// What becomes of the node under each release of the table, oldest first; it is found once.
fn all<'w>(world: &'w World<'_>) -> Option<&'w [Foretold]> {
    let (slurm, node) = subject(world)?;
    let foretell_all = || {
        let releases = rules::TABLE.iter().map(Series::release);
        // Some rules changed with a patch.
        let at_hand = |release: Release| {
            let own = world.release.filter(|own| own.series() == release.series());
            own.unwrap_or(release)
        };
        let each = releases.map(|release| Foretold {
            release,
            ..foretell(world, slurm, node, at_hand(release))
        });
        each.collect()
    };
    Some(world.foretold.get_or_init(foretell_all))
}

/// The series of the release at hand, the newest where that is not known.
fn series_at_hand(world: &World<'_>) -> &'static Series {
    world.release.map_or_else(Series::newest, Series::of)
}

/// What becomes of it under the release at hand, the newest where that is not known.
fn at_hand<'w>(world: &'w World<'_>) -> Option<&'w Foretold> {
    let release = series_at_hand(world).release();
    all(world)?.iter().find(|own| own.release == release)
}

impl Forecast {
    /// Whether a release of the table is known not to take the node.
    pub(crate) fn is_refused_somewhere(&self) -> bool {
        self.releases.iter().any(|span| match span.outcome {
            ForecastOutcome::Drained | ForecastOutcome::NoStart => true,
            ForecastOutcome::Accepted | ForecastOutcome::Unknown => false,
        })
    }

    /// The forecast in one line.
    pub(crate) fn line(&self, node: &str) -> String {
        let last = self.releases.len().saturating_sub(1);
        let spans = self.releases.iter().enumerate().map(|(at, span)| {
            let (every, when) = match (at, self.releases.get(at + 1)) {
                (0, None) => (true, "every release".to_owned()),
                (0, Some(next)) => (false, format!("before {}", next.from)),
                _ if at == last => (false, format!("from {} on", span.from)),
                _ if span.from == span.to => (false, format!("in {}", span.from)),
                _ => (false, format!("from {} to {}", span.from, span.to)),
            };
            span.words(every, &when)
        });
        let spans: Vec<String> = spans.collect();
        match self.gpus.as_deref() {
            Some(gpus) => format!(
                "slurmd on {node} will register {gpus}: {}",
                spans.join("; ")
            ),
            None => format!("the registration of {node}: {}", spans.join("; ")),
        }
    }
}

impl ForecastSpan {
    /// `refused from 25.11 on, because cores 0-7 are not one whole socket or all cores`.
    fn words(&self, every: bool, when: &str) -> String {
        let why = self.why.as_deref().unwrap_or_default();
        let by = if every { "by " } else { "" };
        let under = if every { "under " } else { "" };
        match self.outcome {
            ForecastOutcome::Accepted => format!("accepted {by}{when}"),
            ForecastOutcome::Drained => format!("refused {by}{when}, because {why}"),
            ForecastOutcome::NoStart if every => format!("slurmd starts under no release: {why}"),
            ForecastOutcome::NoStart => format!("slurmd does not start {when}: {why}"),
            ForecastOutcome::Unknown => format!("unknown {under}{when}: {why}"),
        }
    }
}

/// `4 gpu:h100, cores 0-31 / 32-63`; None without GPUs.
fn words(own: &Registration) -> Option<String> {
    let mut kinds: Vec<(Option<&str>, u64)> = Vec::new();
    let mut cores: Vec<String> = Vec::new();
    for record in &own.records {
        let kind = record.kind.as_deref();
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += record.count,
            None => kinds.push((kind, record.count)),
        }
        let text = match &record.cores {
            None => "any".to_owned(),
            Some(Ok(cores)) if cores.is_empty() => "none".to_owned(),
            Some(Ok(cores)) => cores.to_string(),
            Some(Err(text)) => text.clone(),
        };
        if !cores.contains(&text) {
            cores.push(text);
        }
    }
    let items: Vec<String> = kinds
        .iter()
        .map(|(kind, count)| {
            kind.map_or_else(
                || format!("{count} gpu"),
                |kind| format!("{count} gpu:{kind}"),
            )
        })
        .collect();
    (!items.is_empty()).then(|| format!("{}, cores {}", items.join(" and "), cores.join(" / ")))
}

/// Whether slurmctld of the release at hand drains the node because AutoDetect finds more GPUs than its line has.
pub(super) fn detects_more(world: &World<'_>) -> bool {
    let refused = at_hand(world).and_then(|own| own.refused.as_ref());
    matches!(refused, Some(Refused::Links { .. }))
}

/// Whether the node registers under the release at hand, under all where that is not known.
pub(super) fn is_accepted(world: &World<'_>) -> bool {
    now(world).is_some_and(|own| own.outcome == ForecastOutcome::Accepted)
}

/// Whether the node registers under the release at hand with another `Gres=`, as far as that is known.
pub(super) fn accepts_gres(world: &World<'_>, node: &Node, gres: &str) -> bool {
    let Some(slurm) = &world.slurm else {
        return true;
    };
    let mut node = Node::clone(node);
    for line in [&mut node.line, &mut node.whole] {
        line.pairs.push(("gres".to_owned(), gres.to_owned()));
    }
    let release = world.release.unwrap_or_else(|| Series::newest().release());
    matches!(
        foretell(world, slurm, &node, release).outcome,
        ForecastOutcome::Accepted | ForecastOutcome::Unknown
    )
}

/// What is foretold of: Slurm's configuration and the node's line; none where one of them or the machine is not known.
fn subject<'w>(world: &'w World<'_>) -> Option<(&'w Slurm, &'w Node)> {
    let slurm = world.slurm.as_ref()?;
    let is_known = !world.machine.packages.is_empty() || world.tree.is_some();
    Some((slurm, slurm.node.as_ref().filter(|_| is_known)?))
}

/// What becomes of the node under the release at hand; where that is not known, what becomes of it under all.
pub(super) fn now<'w>(world: &'w World<'_>) -> Option<&'w Foretold> {
    if world.release.is_some() {
        return at_hand(world);
    }
    let (first, others) = all(world)?.split_first()?;
    let is_same = |own: &Foretold| (own.outcome, &own.why) == (first.outcome, &first.why);
    others.iter().all(is_same).then_some(first)
}

/// That the node does not register, where no other finding says so; and that it does, where another says that it does not.
pub(super) fn check(world: &World<'_>, report: &mut DoctorReport) {
    let Some(((_, node), own)) = subject(world).zip(now(world)) else {
        return;
    };
    if own.outcome == ForecastOutcome::Accepted {
        forget_what_slurm_forgets(world, node, report);
    }
    let Some(why) = &own.why else { return };
    let effect = match own.outcome {
        ForecastOutcome::Accepted | ForecastOutcome::Unknown => return,
        ForecastOutcome::Drained => "slurmctld sets the node invalid and drains it",
        ForecastOutcome::NoStart => "slurmd does not start, and the node is down",
    };
    // A node without GPUs in its line is told so, and that is no word of its registration.
    let has_gpus = node.gres_count("gpu").is_some();
    let is_own = |own: &DoctorFinding| match own.check {
        "gres-types" => false,
        "gres-count" => has_gpus,
        "node-line" | "slurm-conf" => true,
        check => check.starts_with("gres-"),
    };
    let is_said = |own: &DoctorFinding| {
        let stops_slurmd = ["cgroup", "task-plugin"].contains(&own.check);
        own.harm == Harm::StopsJobs && (is_own(own) || stops_slurmd)
    };
    if report.findings.iter().any(is_said) {
        return;
    }
    // One mistake is one finding: what was found says what follows from it.
    let mut found = report.findings.iter_mut();
    if let Some(own) = found.find(|own| own.harm == Harm::StopsBinding && is_own(own)) {
        own.harm = Harm::StopsJobs;
        own.effect = format!("{}; {effect}, because {why}", own.effect);
        return;
    }
    report.find(
        "registration",
        Harm::StopsJobs,
        format!("{}: NodeName={}: {why}", node.line.place(), node.name),
        effect,
        "gres.conf and the node's line as `gpu-numa gres-conf` prints them",
    );
}

/// Where slurmctld looks at nothing of the GPUs but `RestrictedCoresPerGPU=`, a node is not drained for what else is wrong
/// with them.
fn forget_what_slurm_forgets(world: &World<'_>, node: &Node, report: &mut DoctorReport) {
    let forgets = |series: &&Series| series.restricted_cores == RestrictedCores::Alone;
    let Some(series) = world.release.map(Series::of).filter(forgets) else {
        return;
    };
    let mut newer = rules::TABLE.iter();
    let Some(looks) = newer.find(|series| series.restricted_cores == RestrictedCores::Besides)
    else {
        return;
    };
    if node.restricted_cores_per_gpu().is_none() {
        return;
    }
    let findings = report.findings.iter_mut();
    // What is wrong with cores asks the forecast by itself.
    let is_forgotten = |own: &&mut DoctorFinding| {
        own.harm == Harm::StopsJobs && ["gres-count", "gres-type"].contains(&own.check)
    };
    for own in findings.filter(is_forgotten) {
        own.harm = Harm::StopsBinding;
        own.effect = format!(
            "from {} on: {}; {} forgets it beside RestrictedCoresPerGPU= and takes the node",
            looks.release(),
            own.effect,
            series.release()
        );
    }
}

fn foretell(world: &World<'_>, slurm: &Slurm, node: &Node, release: Release) -> Foretold {
    let registered = register(world, slurm, node, release);
    let gpus = registered.as_ref().ok().and_then(words);
    // Without a context of that name slurmd registers none (`gres_g_node_config_load`, interfaces/gres.c).
    let gpus = gpus.filter(|_| slurm.has_gpu_type());
    let told = |outcome: ForecastOutcome, why: Option<String>| Foretold {
        release,
        outcome,
        why,
        gpus: gpus.clone(),
        refused: None,
    };
    if let Err((ForecastOutcome::NoStart, why)) = registered {
        return told(ForecastOutcome::NoStart, Some(why));
    }
    if world.stops_at_sockets(Some(release)) {
        return told(
            ForecastOutcome::NoStart,
            Some(
                "hwloc has groups of several kinds, so slurmd cannot count NUMA nodes as sockets"
                    .to_owned(),
            ),
        );
    }
    let series = Series::of(release);
    let shape = world.shape_of(node, Some(release));
    // slurmd registers what these say, whatever the machine has.
    let overrides = slurm.parameters(Some(release)).overrides_machine();
    let counts = counts_registered(world, slurm, node, release);
    let judged = registered.as_ref().map(|registration| {
        let own = shape_registered(world, slurm, node, release);
        judge(world, registration, node, own, series)
    });
    let refused = judged.as_ref().ok().and_then(|own| own.clone().err());
    // What the machine lacks is so whatever is known of its GPUs.
    let lacking = lacks(world, node, shape, counts).filter(|_| !overrides);
    let mut own = match (lacking, judged) {
        (Some(why), _) => told(ForecastOutcome::Drained, Some(why)),
        (None, Err((outcome, why))) => told(*outcome, Some(why.clone())),
        (None, Ok(Ok(()))) => unknown_topology(node, release).map_or_else(
            || told(ForecastOutcome::Accepted, None),
            |why| told(ForecastOutcome::Unknown, Some(why)),
        ),
        (None, Ok(Err(why))) if is_judged_before(node, &why) => told(
            ForecastOutcome::Unknown,
            Some(format!(
                "slurmctld takes the node as it is where it has this gres.conf itself (State=CLOUD); else it drains it, because {why}"
            )),
        ),
        (None, Ok(Err(why))) => told(ForecastOutcome::Drained, Some(why.to_string())),
    };
    own.refused = refused;
    own
}

/// What slurmd counts of the machine where it registers that; None where it registers its line.
fn counts_registered(
    world: &World<'_>,
    slurm: &Slurm,
    node: &Node,
    release: Release,
) -> Option<Counts> {
    let overrides = slurm.parameters(Some(release)).overrides_machine();
    let counts = world.counts(Some(release));
    counts.filter(|_| !overrides && !node.is_dynamic())
}

/// The sockets, cores and threads that slurmd registers.
fn shape_registered(world: &World<'_>, slurm: &Slurm, node: &Node, release: Release) -> Shape {
    let shape = world.shape_of(node, Some(release));
    let counts = counts_registered(world, slurm, node, release);
    counts.map_or(shape, |counts| {
        registered_shape(shape, counts, Series::of(release), slurm.selects_cores())
    })
}

/// What slurmctld takes a node that registers itself for: the topologies that its words name are slurmctld's own.  Before
/// `rules::refuses_topologies` it forgets those that it does not have.
fn unknown_topology(node: &Node, release: Release) -> Option<String> {
    let named = node.whole.get("topology")?;
    (node.is_dynamic() && !named.is_empty() && rules::refuses_topologies(release)).then(|| {
        format!(
            "slurmctld refuses the node where its topology.yaml or topology.conf does not have what Topology={named} names"
        )
    })
}

/// Whether slurmctld may have judged this by its own gres.conf before the node started, and then looks no more than at how many GPUs it
/// registers (`_node_config_validate`, interfaces/gres.c: nothing is new where their number is not).
fn is_judged_before(node: &Node, why: &Refused) -> bool {
    node.is_cloud()
        && match why {
            Refused::Fewer { .. }
            | Refused::FewerShared { .. }
            | Refused::Restricted { .. }
            | Refused::RestrictedWithoutPlaces => false,
            Refused::FewerOfType { .. }
            | Refused::OtherType { .. }
            | Refused::NoNumbers { .. }
            | Refused::Cores { .. }
            | Refused::Links { .. }
            | Refused::NoSuchCore { .. } => true,
        }
}

/// Whether slurmctld of `series` takes what slurmd registers, on a node of `shape`.
fn judge(
    world: &World<'_>,
    registration: &Registration,
    node: &Node,
    shape: Shape,
    series: &Series,
) -> Result<(), Refused> {
    let own = registration.judge(series.cores, shape);
    let Some(per_gpu) = node.restricted_cores_per_gpu() else {
        return own;
    };
    let kept = || {
        let map = world.map_of(Some(series.release()));
        map.and_then(|map| reserved::kept_cores(world, node, &map))
    };
    let restricted = || {
        let kept = kept().unwrap_or_default();
        registration.judge_restricted(per_gpu, &kept, series.cores, shape)
    };
    match series.restricted_cores {
        RestrictedCores::NotThere => own,
        RestrictedCores::Alone => restricted(),
        RestrictedCores::Besides => own.and_then(|()| restricted()),
    }
}

/// What the machine has less of than the node's line says; slurmd believes a line that says less
/// (`_read_config`, slurmd/slurmd.c), and slurmctld drains a node that has less (`validate_node_specs`).
fn lacks(world: &World<'_>, node: &Node, shape: Shape, counts: Option<Counts>) -> Option<String> {
    if let Some(cpus) = counts.map(|counts| counts.cpus as u64)
        && cpus < shape.cpus
    {
        return Some(format!(
            "the line has CPUs={} and the machine {cpus}",
            shape.cpus
        ));
    }
    if let Some((given, there)) = node.real_memory_mib().zip(world.real_memory_mib())
        && !world.takes_memory(given, there)
    {
        return Some(format!(
            "the line has RealMemory={given} and the machine {there}"
        ));
    }
    let (given, there) = node.tmp_disk_mib().zip(world.tmp_disk_mib())?;
    (given > there).then(|| {
        let path = world.tmp_fs();
        format!("the line has TmpDisk={given} and {path} {there}")
    })
}

/// Why nothing is known of a cloud node with cores beyond its CPUs.
pub(super) const CLOUD_CORES: &str =
    "a slurmctld that has this gres.conf itself does not start (\"Invalid GRES data\")";

/// The first line of a cloud node's that has cores beyond the node's CPUs, as gres.conf spells them: slurmctld makes a map of so many CPUs
/// for its lines and stops where a number is not in it (`_parse_gres_config`, interfaces/gres.c; common/gres.c in 22.05, in every release).
pub(super) fn beyond_cpus(own: &NodeGres<'_>, node: &Node) -> Option<String> {
    let cpus = node.geometry().shape().cpus;
    let mut lines = own.every.iter().filter(|_| node.is_cloud());
    let line = lines.find(|line| {
        let cores = line.cores().and_then(Result::ok);
        cores
            .and_then(|cores| cores.last())
            .is_some_and(|last| u64::from(last) >= cpus)
    })?;
    Some(line.line.quote(line.cores_key()?))
}

/// What slurmd registers, or what happens instead and why.
fn register(
    world: &World<'_>,
    slurm: &Slurm,
    node: &Node,
    release: Release,
) -> Result<Registration, (ForecastOutcome, String)> {
    let lines = slurm.gres.as_deref().unwrap_or_default();
    let own = NodeGres::of(lines, &node.name, "gpu");
    if let Some(stop) = keys::stop(slurm, release) {
        return Err(stop);
    }
    if let Some((why, ..)) = slurm.named_twice() {
        return Err((ForecastOutcome::NoStart, why));
    }
    if node.is_cloud() && own.detects() && rules::stops_at_detection_of_clouds(release) {
        let why = "slurmctld does not start (\"Cannot use AutoDetect on cloud node\")";
        return Err((ForecastOutcome::Unknown, why.to_owned()));
    }
    if let Some(line) = beyond_cpus(&own, node) {
        return Err((ForecastOutcome::Unknown, format!("{line}: {}", CLOUD_CORES)));
    }
    let mut faults = lines.iter();
    if let Some((fault, line)) = faults.find_map(|line| Some((fault_of(line)?, line))) {
        let why = format!("{}: {fault}", line.place());
        return Err((ForecastOutcome::NoStart, why));
    }
    // slurmd looks for the files of every line for this node, whatever it declares.
    for line in &own.every {
        for file in line.files().iter().chain(&line.several_files()) {
            let is_gone = world.has_device_file(file).map_or_else(
                || devices::of_file(world.machine, file) == DeviceFile::Missing,
                |there| !there,
            );
            if is_gone || is_pattern(file) {
                let why = format!("{}: the host has no {file}", line.line.place());
                return Err((ForecastOutcome::NoStart, why));
            }
            if world.has_device_file(file).is_none() && !devices::is_of_a_driver(file) {
                let why = format!(
                    "{}: whether the host has {file} is not recorded",
                    line.line.place()
                );
                return Err((ForecastOutcome::Unknown, why));
            }
        }
    }
    let shared = shared_by(slurm);
    let by_lines = |detected| Registration::of(&own, node, detected, Series::of(release), &shared);
    // What is wrong with the lines is so whatever is found.
    match by_lines(None) {
        Err(Fatal::SharedAlone { .. }) if own.detects() => {}
        Err(why) => return Err((ForecastOutcome::NoStart, why.to_string())),
        Ok(_) => {}
    }
    let detected = if node.gres_count("gpu").is_some() {
        detect(world, slurm, &own, node, release).map_err(|why| (ForecastOutcome::Unknown, why))?
    } else {
        None
    };
    by_lines(detected)
        .map(|own| {
            if splits_several_files(slurm, release) {
                own.with_files_split()
            } else {
                own
            }
        })
        .map_err(|why| (ForecastOutcome::NoStart, why.to_string()))
}

/// Whether slurmd takes each file of a MIG instance for a GPU of its own.
pub(super) fn splits_several_files(slurm: &Slurm, release: Release) -> bool {
    rules::splits_several_files(release) && !shared_by(slurm).is_empty()
}

/// The GRES of GresTypes= that share GPUs.
pub(super) fn shared_by(slurm: &Slurm) -> Vec<&'static str> {
    let types = slurm.value("grestypes");
    types.map_or_else(Vec::new, |(value, _)| sharing(value))
}

/// How many GPUs the lines of gres.conf are for slurmd of the release at hand.
pub(super) fn gpus_of_lines(world: &World<'_>, gres: &NodeGres<'_>) -> u64 {
    let slurm = world.slurm.as_ref().zip(world.release);
    if !slurm.is_some_and(|(slurm, release)| splits_several_files(slurm, release)) {
        return gres.count();
    }
    let counts = gres.lines.iter().map(|line| {
        let several = line.several_files().len() as u64;
        if several > 0 { several } else { line.devices() }
    });
    counts.fold(0, u64::saturating_add)
}

/// Whether a bracket of a list of files is not closed, or there is a wildcard: slurmd cannot read it, or takes it for the name of a file.
pub(super) fn is_pattern(file: &str) -> bool {
    file.contains(['[', ']', '*', '?'])
}

/// What AutoDetect finds; None where slurmd does not look.
///
/// # Errors
/// What is not known of the GPUs.
fn detect(
    world: &World<'_>,
    slurm: &Slurm,
    gres: &NodeGres<'_>,
    node: &Node,
    release: Release,
) -> Result<Option<Vec<Record>>, String> {
    let Some((value, _)) = gres.autodetect.filter(|_| gres.detects()) else {
        return Ok(None);
    };
    let Some(method) = Series::of(release).autodetect_of(value) else {
        return Ok(None);
    };
    // slurmd then goes by the lines alone.
    if detection::obstacle(world, slurm, method, release).is_some() {
        return Ok(None);
    }
    let is_typed = node.gres("gpu").iter().any(|(kind, _)| kind.is_some());
    let near = NearCores::of(world, slurm, node, method, release);
    let finds = |gpu: &&Gpu| {
        gpu.maker().is_some_and(|maker| {
            rules::tries_every_method(method) || maker.autodetect.contains(&method)
        })
    };
    let seen: Vec<&Gpu> = world.given().filter(finds).collect();
    if method == "nvml" && node.counts_mig("gpu") && seen.iter().all(|gpu| gpu.mig.is_empty()) {
        return Err("the MIG instances of the GPUs are not recorded".to_owned());
    }
    let links = rules::gives_links(method).then_some(seen.len() as u64);
    // A release that takes any cores asks for them alone where lines give some, too, or each GPU is to have its own.
    let needs_cores = Series::of(release).cores != CoresRule::AnySet
        || node.restricted_cores_per_gpu().is_some()
        || gres.lines.iter().any(|line| line.cores().is_some());
    let mut found = Vec::new();
    for gpu in seen {
        let knows_mig = method == "nvml";
        let own = detected(world, &near, gpu, is_typed, knows_mig, needs_cores)?;
        found.extend(own.into_iter().map(|record| Record { links, ..record }));
    }
    Ok(Some(found))
}

/// How slurmd numbers the cores near a GPU that it finds itself.
pub(super) struct NearCores {
    map: Option<BlockMap>,
    shape: Shape,
    release: Release,
    /// Whether CPUs that slurmd has no place for are left out before they are converted (`enabled_cpus_bits`, plugins/gpu/nvml and
    /// nvidia).
    leaves_out_unplaced: bool,
    /// Whether a GPU whose CPUs are not converted is registered without cores; else it is left out.
    keeps_unconverted: bool,
}

/// The cores of a GPU that slurmd finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Near {
    Cores(CoreSet),
    /// slurmd cannot convert its CPUs, and registers it without cores.
    None,
    /// slurmd cannot convert its CPUs, and leaves the GPU out ("Conversion from machine to abstract failed").
    LeftOut,
}

impl NearCores {
    /// Those of a node, found by `method`.
    pub(super) fn of(
        world: &World<'_>,
        slurm: &Slurm,
        node: &Node,
        method: &str,
        release: Release,
    ) -> Self {
        let is_of_nvidia = matches!(method, "nvml" | "nvidia");
        Self {
            map: world.block_map(Some(release)),
            shape: shape_registered(world, slurm, node, release),
            release,
            leaves_out_unplaced: is_of_nvidia
                && slurm
                    .parameters(Some(release))
                    .leaves_out_ecores(Some(release)),
            keeps_unconverted: method == "nvidia",
        }
    }

    /// The sockets, cores and threads that slurmd registers.
    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// Those near a GPU.
    ///
    /// # Errors
    /// Why they are not known.
    pub(super) fn of_gpu(&self, machine: &Machine, gpu: &Gpu) -> Result<Near, String> {
        let Some(map) = &self.map else {
            return Err("what slurmd counts of the machine is not known".to_owned());
        };
        let device = machine.device(gpu.pci);
        let local = device.and_then(|device| device.local_cpus.as_ref());
        let local = local.ok_or_else(|| {
            format!(
                "the local_cpulist of {} is not recorded",
                gpu_name(machine, gpu.pci)
            )
        })?;
        let cores = if self.leaves_out_unplaced {
            map.cores_of(&map.without_unplaced(local), self.shape, self.release)
        } else {
            map.cores_of(local, self.shape, self.release)
        };
        Ok(match cores {
            Some(cores) => Near::Cores(cores),
            None if self.keeps_unconverted => Near::None,
            None => Near::LeftOut,
        })
    }
}

/// A GPU as AutoDetect finds it: one record, or one for each MIG instance where the method knows MIG.
///
/// # Errors
/// What is not known of it; its cores where the release `needs_cores`.
fn detected(
    world: &World<'_>,
    near: &NearCores,
    gpu: &Gpu,
    is_typed: bool,
    knows_mig: bool,
    needs_cores: bool,
) -> Result<Vec<Record>, String> {
    let name = gpu_name(world.machine, gpu.pci);
    let cores = match near.of_gpu(world.machine, gpu) {
        Err(_) if !needs_cores => Some(Err("unknown".to_owned())),
        Err(why) => return Err(why),
        Ok(Near::Cores(cores)) => Some(Ok(cores)),
        Ok(Near::None) => None,
        Ok(Near::LeftOut) => return Ok(Vec::new()),
    };
    let file = devices::file_of(world.machine, gpu);
    let kind = gpu.name.as_deref().map(type_of_name);
    if is_typed && kind.is_none() {
        return Err(format!("the name of {name} is not recorded"));
    }
    if is_typed && knows_mig && !gpu.mig.is_empty() {
        return Err(format!("the MIG profiles of {name} are not recorded"));
    }
    let one = |file: Option<String>| Record {
        kind: kind.clone(),
        file,
        count: 1,
        cores: cores.clone(),
        links: None,
        is_of_several_files: false,
        is_misspelt: false,
    };
    if knows_mig && !gpu.mig.is_empty() {
        // Each instance has three files: the GPU's, and two of its own that need no names here.
        let instances = gpu.mig.iter().map(|instance| Record {
            is_of_several_files: true,
            ..one(Some(format!("{0},{0}-gi,{0}-ci", instance.uuid)))
        });
        return Ok(instances.collect());
    }
    Ok(vec![one(file.or_else(|| Some(gpu.pci.to_string())))])
}
