//! The cores of each GPU in gres.conf, written or found by AutoDetect, against where the GPU is and which cores this
//! Slurm takes.

use slurm_config::config::Line;
use slurm_config::cores::{CoreMap, CoreSet, SocketKind};
use slurm_config::gres::{GresLine, NodeGres};
use slurm_config::parameters::SocketWord;
use slurm_config::rules::{CoresRule, Series};
use topology::machine::{Gpu, Locality};
use topology::set::CpuSet;

use super::devices;
use super::forecast::{self, Near, NearCores};
use super::report::{DoctorReport, Harm};
use super::slurm::Slurm;
use super::world::World;
use crate::hardware::gpu_name;

/// The lines of gres.conf whose cores this Slurm does not take, for `sockets` to say what to change.
pub(super) struct CutLines {
    /// Where they are, and what Slurm takes.
    pub(super) evidence: String,
    /// What Slurm does about them.
    pub(super) effect: String,
    /// Each line with cores that Slurm takes.
    pub(super) lines: String,
    /// Whether a socket has several NUMA nodes, so that nodes for sockets may make the lines right.
    pub(super) are_sockets_cut: bool,
}

/// Checks cores; returns the lines whose cores this Slurm does not take, which are not in the report.
pub(crate) fn check(
    world: &World<'_>,
    slurm: &Slurm,
    gres: &NodeGres<'_>,
    report: &mut DoctorReport,
) -> Option<CutLines> {
    let parameters = world.parameters();
    let map = if parameters.overrides_machine() {
        None
    } else {
        world.map_of(world.release)
    };
    let judge = Judge {
        world,
        map: map.as_ref(),
        rule: CoresRule::of(world.release),
        detects: gres.detects(),
        near: near_cores(world, slurm, gres),
        registers: forecast::is_accepted(world),
        stops_slurmctld: slurm
            .node
            .as_ref()
            .is_some_and(|node| forecast::beyond_cpus(gres, node).is_some()),
    };
    let lines = gres.lines.iter();
    let mut cut: Vec<Cut> = Vec::new();
    let coreless: Vec<Coreless> = lines
        .filter_map(|line| judge.check_line(line, &mut cut, report))
        .collect();
    report_coreless(&coreless, report);
    if gres.detects() {
        judge.check_detected(slurm, gres, report);
    }
    judge.cut_lines(&cut)
}

/// How slurmd numbers the cores that AutoDetect finds; where the release is not known, that of the newest.
fn near_cores(world: &World<'_>, slurm: &Slurm, gres: &NodeGres<'_>) -> Option<NearCores> {
    let (value, _) = gres.autodetect.filter(|_| gres.detects())?;
    let node = slurm.node.as_ref()?;
    let release = world.release.unwrap_or_else(|| Series::newest().release());
    let method = Series::of(release).autodetect_of(value)?;
    Some(NearCores::of(world, slurm, node, method, release))
}

/// A line whose cores this Slurm does not take.
struct Cut {
    evidence: String,
    change: String,
}

/// What every line is held against.
struct Judge<'a> {
    world: &'a World<'a>,
    /// The machine as Slurm counts it; None where Slurm counts by its configuration or sockets differ.
    map: Option<&'a CoreMap>,
    rule: CoresRule,
    /// Whether slurmd also looks for cores by itself.
    detects: bool,
    /// How slurmd numbers the cores that it finds.
    near: Option<NearCores>,
    /// Whether slurmctld takes the node as it is: its line may divide the machine in other sockets, or not count all lines.
    registers: bool,
    /// Whether a slurmctld with these lines of a cloud node ends.
    stops_slurmctld: bool,
}

/// The cores that a line gives its GPUs.
struct Given<'a> {
    /// The machine as Slurm counts it.
    map: &'a CoreMap,
    line: &'a GresLine<'a>,
    cores: &'a CoreSet,
    /// The device files that are known GPUs.
    gpus: &'a [(String, &'a Gpu)],
}

/// Cores that are not near the GPU of their line.
struct Misplaced {
    /// What is wrong with them.
    problem: String,
    /// Whether some are on another package than the GPU.
    is_across_link: bool,
}

/// A line without `Cores=` that should have it.
struct Coreless {
    place: String,
    files: String,
    change: String,
}

/// One finding for all of them.
fn report_coreless(lines: &[Coreless], report: &mut DoctorReport) {
    if lines.is_empty() {
        return;
    }
    let join = |part: &dyn Fn(&Coreless) -> &str, between: &str| {
        let parts: Vec<&str> = lines.iter().map(part).collect();
        parts.join(between)
    };
    report.find(
        "gres-cores",
        Harm::SlowsJobs,
        format!(
            "{}: no Cores= for {}",
            join(&|line| &line.place, ", "),
            join(&|line| &line.files, ", ")
        ),
        "Slurm does not know which cores are near the GPU and gives jobs any; --gres-flags=enforce-binding has no effect",
        join(&|line| &line.change, "; "),
    );
}

impl Judge<'_> {
    /// Checks a line's cores; returns the line where it has none and should.
    fn check_line(
        &self,
        line: &GresLine<'_>,
        cut: &mut Vec<Cut>,
        report: &mut DoctorReport,
    ) -> Option<Coreless> {
        let machine = self.world.machine;
        let gpus = devices::of_line(machine, line);
        match (line.cores(), self.map) {
            (None, _) => {
                // Where no GPU's place is known there is nothing to propose.
                let is_known = gpus
                    .iter()
                    .any(|(_, gpu)| gpu.locality.near_cpus().is_some());
                // Where the machine's sockets differ, which cores Slurm's numbers are is unknown, and `gres-conf` writes none.
                let is_counted = self.map.is_some() || self.world.parameters().overrides_machine();
                let is_known = is_known && is_counted;
                let matters = !self.detects && is_known && machine.cpu_nodes().len() > 1;
                return matters.then(|| Coreless {
                    place: line.line.place(),
                    files: line
                        .line
                        .get("file")
                        .or_else(|| line.line.get("files"))
                        .or_else(|| line.line.get("multiplefiles"))
                        .unwrap_or_default()
                        .to_owned(),
                    change: self.proposal(line, &gpus),
                });
            }
            (Some(Err(error)), Some(_)) => {
                let (harm, effect) = self.effect_of_none();
                report.find(
                    "gres-cores",
                    harm,
                    format!("{}: {error}", evidence(line)),
                    effect,
                    self.proposal(line, &gpus),
                );
            }
            (Some(Ok(cores)), Some(map)) => {
                let given = Given {
                    map,
                    line,
                    cores: &cores,
                    gpus: &gpus,
                };
                self.check_cores(&given, cut, report);
            }
            (Some(_), None) => {}
        }
        None
    }

    /// What follows from cores that the node does not have.
    fn effect_of_none(&self) -> (Harm, String) {
        let none = "Slurm does not know which cores are near the GPU";
        if self.stops_slurmctld {
            return (
                Harm::StopsJobs,
                format!("{}; any other: {none}", forecast::CLOUD_CORES),
            );
        }
        if self.registers || self.rule == CoresRule::AnySet {
            return (
                Harm::StopsBinding,
                format!("{none}, and gives its jobs any"),
            );
        }
        match self.world.release {
            Some(_) => (
                Harm::StopsJobs,
                "slurmctld sets the node invalid and drains it (\"GRES core specification ... for node\")"
                    .to_owned(),
            ),
            None => (
                Harm::StopsBinding,
                format!(
                    "{none}, and slurmctld drains the node from {} on",
                    CoresRule::WholeSockets.since()
                ),
            ),
        }
    }

    /// One line's cores against the GPUs that it is for.
    fn check_cores(&self, given: &Given<'_>, cut: &mut Vec<Cut>, report: &mut DoctorReport) {
        let Given {
            map,
            line,
            cores,
            gpus,
        } = *given;
        if let Some(last) = map
            .all_cores()
            .last()
            .filter(|last| cores.last() > Some(*last))
        {
            let hint = if map.threads_per_core() > 1 {
                "; Cores= counts cores, not CPUs"
            } else {
                ""
            };
            let (harm, effect) = self.effect_of_none();
            report.find(
                "gres-cores",
                harm,
                format!("{}, but the host has cores 0-{last}{hint}", evidence(line)),
                effect,
                self.proposal(line, gpus),
            );
            return;
        }
        let mut found = gpus.iter().filter_map(|(_, gpu)| self.detected(gpu));
        // Where this Slurm refuses what is detected, `check_detected` says what to do, and that is not to go by it.
        let knows = self.world.release.is_some();
        let is_refused = |found: &CoreSet| knows && !self.rule.admits(map, found);
        let differs = |found: CoreSet| found != *cores && !is_refused(&found);
        if self.detects && !self.registers && found.any(differs) {
            report.find(
                "gres-autodetect",
                Harm::StopsJobs,
                format!("{}, but AutoDetect finds other cores", evidence(line)),
                "slurmd leaves out a GPU whose line differs from what AutoDetect finds, and the node is drained",
                format!("{}: remove Cores=", line.line.place()),
            );
            return;
        }
        for (file, gpu) in gpus {
            let (Some(local), Some(nodes)) = (&gpu.locality.cpus, &gpu.locality.numa_nodes) else {
                report.skip(format!(
                    "{}: Cores= of {file}: the NUMA node of {} is unknown",
                    line.line.place(),
                    gpu_name(self.world.machine, gpu.pci)
                ));
                continue;
            };
            // All CPUs of its socket are offline: no core is nearer than another.
            if local.is_empty() {
                continue;
            }
            let Some(Misplaced {
                problem,
                is_across_link,
            }) = self.misplaced(map, cores, local)
            else {
                continue;
            };
            let place = format!(
                "{}, {problem}; {file} is {} on node {nodes}, CPUs {local}",
                evidence(line),
                gpu_name(self.world.machine, gpu.pci)
            );
            let binding = if is_across_link {
                "Slurm gives this GPU's jobs cores on the wrong side of the socket link"
            } else {
                "Slurm gives this GPU's jobs cores of other NUMA nodes than the GPU's"
            };
            let change = self.proposal(line, gpus);
            if self.refuses(map, cores) && knows {
                report.find(
                    "gres-cores",
                    Harm::StopsJobs,
                    format!("{place}; {}", breach(self.rule, map)),
                    consequence(self.rule),
                    change,
                );
            } else {
                report.find("gres-cores", Harm::StopsBinding, place, binding, change);
            }
            return;
        }
        self.check_borders(given, cut, report);
    }

    /// What is wrong with cores for a GPU whose CPUs are `local`.  Whole sockets that hold one of those are right, and
    /// so is what this Slurm's rule makes of them.
    fn misplaced(&self, map: &CoreMap, cores: &CoreSet, local: &CpuSet) -> Option<Misplaced> {
        let named = map.cpus_of(cores);
        let near = map.cores_of(local);
        let mut legal = map.cpus_of(&map.whole_sockets(&near));
        legal.extend_with(&map.cpus_of(&self.rule.widen(map, &near)));
        let machine = self.world.machine;
        // What Slurm counts as a socket may be a part of one.
        let mut beside = local.clone();
        let packages = machine.packages.iter();
        for package in packages.filter(|own| own.cpus.intersects(local)) {
            beside.extend_with(&package.cpus);
        }
        if !named.intersects(local) {
            Some(Misplaced {
                problem: format!("which is CPUs {named} of node {}", machine.nodes_of(&named)),
                is_across_link: !named.is_subset(&beside),
            })
        } else if !named.is_subset(&legal) {
            let others = named.difference(&legal);
            let of = if others.intersects(&beside) {
                "NUMA nodes"
            } else {
                "sockets"
            };
            Some(Misplaced {
                problem: format!("which includes CPUs {others} of other {of}"),
                is_across_link: !others.is_subset(&beside),
            })
        } else {
            None
        }
    }

    /// Whether this Slurm, or the newest where it is not known, does not take the cores at all.
    fn refuses(&self, map: &CoreMap, cores: &CoreSet) -> bool {
        !self.registers && !self.rule.admits(map, cores)
    }

    /// Finds a line whose cores this Slurm does not take.
    fn check_borders(&self, given: &Given<'_>, cut: &mut Vec<Cut>, report: &mut DoctorReport) {
        let Given {
            map,
            line,
            cores,
            gpus,
        } = *given;
        if !self.refuses(map, cores) {
            return;
        }
        let problem = breach(self.rule, map);
        if self.world.release.is_none() {
            report.skip(format!(
                "{}: {problem}, but the release of this Slurm is unknown (--slurm-release)",
                evidence(line)
            ));
            return;
        }
        cut.push(Cut {
            evidence: evidence(line),
            change: self.proposal(line, gpus),
        });
    }

    /// All lines whose cores this Slurm does not take, for one finding.
    fn cut_lines(&self, cut: &[Cut]) -> Option<CutLines> {
        let (map, first) = (self.map?, cut.first()?);
        let join = |part: &dyn Fn(&Cut) -> &str, between: &str| {
            let mut parts: Vec<&str> = cut.iter().map(part).collect();
            parts.dedup();
            parts.join(between)
        };
        let evidence = if cut.len() == 1 {
            first.evidence.clone()
        } else {
            join(&|own| &own.evidence, ", ")
        };
        Some(CutLines {
            evidence: format!("{evidence}, but {}", breach(self.rule, map)),
            effect: consequence(self.rule),
            lines: join(&|own| &own.change, "; "),
            are_sockets_cut: self.cuts_sockets(),
        })
    }

    /// Whether a socket has several NUMA nodes.
    fn cuts_sockets(&self) -> bool {
        let nodes = self.world.core_map(SocketKind::NumaNode);
        let kind = self.world.socket_kind();
        kind == SocketKind::Package
            && nodes
                .zip(self.map)
                .is_some_and(|(nodes, map)| nodes.sockets() > map.sockets())
    }

    /// The cores that AutoDetect finds for a GPU; None where it finds none or they are not known.
    fn detected(&self, gpu: &Gpu) -> Option<CoreSet> {
        let near = self.near.as_ref()?;
        match near.of_gpu(self.world.machine, gpu).ok()? {
            Near::Cores(cores) => Some(cores),
            Near::None | Near::LeftOut => None,
        }
    }

    /// Cores that AutoDetect finds and this Slurm refuses, or that are not those of the GPU; lines cannot override them, because
    /// they must agree.
    fn check_detected(&self, slurm: &Slurm, gres: &NodeGres<'_>, report: &mut DoctorReport) {
        let (Some(map), Some((_, line)), Some(near)) = (self.map, gres.autodetect, &self.near)
        else {
            return;
        };
        let is_as_the_machine = near.shape().threads_per_core == map.shape().threads_per_core;
        if !is_as_the_machine && near.shape().cores() == map.shape().cores() {
            self.check_threads(slurm, map, line, report);
            return;
        }
        if self.registers || self.world.release.is_none() {
            return;
        }
        let gpus = self.world.machine.gpus.iter();
        let refused: Vec<String> = gpus
            .filter_map(|gpu| {
                let cores = self.detected(gpu)?;
                (!self.rule.admits(map, &cores)).then(|| {
                    format!(
                        "Cores={cores} for {}",
                        gpu_name(self.world.machine, gpu.pci)
                    )
                })
            })
            .collect();
        if refused.is_empty() {
            return;
        }
        report.find(
            "gres-autodetect",
            Harm::StopsJobs,
            format!(
                "{} finds {}, but {}",
                line.quote("AutoDetect"),
                refused.join(", "),
                breach(self.rule, map)
            ),
            consequence(self.rule),
            self.changes_of_detected(slurm, map, line),
        );
    }

    /// What to do where this Slurm refuses the cores that AutoDetect finds: other sockets, where all that is found is made of those,
    /// or lines.
    fn changes_of_detected(&self, slurm: &Slurm, map: &CoreMap, line: &Line) -> String {
        let is_taken = |kind: SocketKind| {
            let other = self.world.core_map(kind);
            other.is_some_and(|other| {
                let found = self
                    .world
                    .machine
                    .gpus
                    .iter()
                    .filter_map(|gpu| self.detected(gpu));
                let mut counted = found.map(|cores| other.cores_of(&map.cpus_of(&cores)));
                counted.all(|cores| self.rule.admits(&other, &cores))
            })
        };
        let kinds = [SocketKind::NumaNode, SocketKind::L3].into_iter();
        let mut changes: Vec<String> = kinds
            .filter(|kind| is_taken(*kind))
            .filter_map(|kind| {
                let word = match self.world.socket_word(kind)? {
                    SocketWord::OfNode(words) => {
                        let node = slurm.node.as_ref();
                        let place =
                            node.map_or_else(|| slurm.path.clone(), |node| node.line.place());
                        format!("{place}: Parameters={words}")
                    }
                    SocketWord::OfCluster(words) => {
                        format!("{}: SlurmdParameters={words}", slurm.path)
                    }
                };
                Some(match kind {
                    SocketKind::NumaNode => format!(
                        "{word} (`gpu-numa gres-conf --numa-node-as-socket` prints the node's line)"
                    ),
                    SocketKind::L3 | SocketKind::Package => word,
                })
            })
            .collect();
        changes.push(format!(
            "{}: AutoDetect=off and the lines that `gpu-numa gres-conf` prints",
            line.place()
        ));
        changes.join(", or ")
    }

    /// Cores that AutoDetect finds where the node's line has as many cores as the machine and other threads: slurmd then takes CPUs for
    /// those of other cores ([`slurm_config::block_map`]).
    fn check_threads(&self, slurm: &Slurm, map: &CoreMap, line: &Line, report: &mut DoctorReport) {
        let (Some(near), Some(node)) = (&self.near, &slurm.node) else {
            return;
        };
        let gpus = self.world.machine.gpus.iter();
        let others = gpus.filter_map(|gpu| {
            let cores = self.detected(gpu)?;
            let device = self.world.machine.device(gpu.pci)?;
            let own = map.cores_of(device.local_cpus.as_ref()?);
            (cores != own).then(|| {
                let name = gpu_name(self.world.machine, gpu.pci);
                format!("Cores={cores} for {name}, which is near {own}")
            })
        });
        let others: Vec<String> = others.collect();
        if others.is_empty() {
            return;
        }
        let (threads, has) = (near.shape().threads_per_core, map.threads_per_core());
        let refuses = !self.registers && self.world.release.is_some();
        let (harm, effect) = if refuses {
            (Harm::StopsJobs, consequence(self.rule))
        } else {
            let drains = CoresRule::WholeSockets.since();
            let effect = format!(
                "Slurm takes other cores for those near the GPU; from {drains} on it drains such a node"
            );
            (Harm::SlowsJobs, effect)
        };
        report.find(
            "gres-autodetect",
            harm,
            format!(
                "{} finds {}: {}: ThreadsPerCore={threads}, and the machine has {has}",
                line.quote("AutoDetect"),
                others.join(", "),
                node.line.place()
            ),
            effect,
            format!(
                "{}: AutoDetect=off and the lines that `gpu-numa gres-conf` prints, or {}: ThreadsPerCore={has}",
                line.place(),
                node.line.place()
            ),
        );
    }

    /// What the line should say.
    fn proposal(&self, line: &GresLine<'_>, gpus: &[(String, &Gpu)]) -> String {
        let place = line.line.place();
        let mut localities = gpus.iter().map(|(_, gpu)| &gpu.locality);
        let first = localities.next();
        let is_same = localities.all(|own| first.is_some_and(|first| first.cpus == own.cpus));
        let local = first.and_then(Locality::near_cpus);
        match (self.map, local, is_same) {
            (Some(map), Some(local), true) => {
                let written = first.and_then(|first| self.rule.cores_to_write(Some(map), first));
                let cores = written.unwrap_or_else(|| self.rule.widen(map, &map.cores_of(local)));
                let nodes = first.and_then(|first| first.numa_nodes.as_ref());
                let node = nodes.map_or_else(String::new, |nodes| format!("   (node {nodes})"));
                format!("{place}: Cores={cores}{node}")
            }
            _ => format!("{place}: one line per GPU, as `gpu-numa gres-conf` prints them"),
        }
    }
}

/// The line's cores as a person reads them: `gres.conf:1: Cores=0-3`.
fn evidence(line: &GresLine<'_>) -> String {
    line.line.quote(line.cores_key().unwrap_or("Cores"))
}

/// Which cores this Slurm takes, after the cores that it does not.
fn breach(rule: CoresRule, map: &CoreMap) -> String {
    format!(
        "Slurm {} and later take only {rule} ({} cores per socket)",
        rule.since(),
        map.cores_per_socket()
    )
}

/// What Slurm does about cores that it does not take.
fn consequence(rule: CoresRule) -> String {
    let complaint = rule.complaint().unwrap_or_default();
    format!("slurmctld sets the node invalid and drains it (\"... {complaint}\")")
}
