//! What is wrong with a process, measured against the GPUs that it uses.

use launch::numa_maps;
use launch::process::{Process, Thread};
use launch::used::{Evidence, Silence, UsedGpus};
use topology::binding::{Verdict, as_near_nodes, judge_cpus, memory_nodes};
use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::set::{CpuSet, NodeSet};

/// Pages elsewhere that are too few to matter, in bytes: what was there before a policy was set.
const FEW_BYTES: u64 = 1 << 20;

/// Of a mapped file, what is elsewhere and too little to be worth a word, in bytes.
const LARGE_FILE_BYTES: u64 = 64 << 20;

/// The verdict on a process.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// How many GPUs it has.
    pub(super) gpus: usize,
    /// The NUMA nodes of its GPUs; none where one is unknown, or it has no GPU.
    pub(super) nodes: Option<NodeSet>,
    /// The CPUs of these nodes.
    pub(super) local_cpus: Option<CpuSet>,
    /// Those of them that are nearer to its GPUs than the rest of their nodes; none where that is not known of each, and where which
    /// GPUs it uses is not.
    pub(super) nearest_cpus: Option<CpuSet>,
    /// Where its memory belongs; none where that is not known, or depends on which GPU it uses.
    pub(crate) memory_nodes: Option<NodeSet>,
    /// Where it is as well: on these and on nodes without CPUs near them, as a GPU's own memory is where that is a node.
    pub(crate) kept_nodes: NodeSet,
    /// That of its worst thread; none where it cannot be known.
    pub(super) verdict: Option<Verdict>,
    /// What is wrong, or cannot be known.
    pub(super) findings: Vec<Finding>,
    /// Large files that it has mapped, cached elsewhere: no fault of the process's, which reads what somebody else put there.
    pub(super) far_files: Vec<FarFile>,
}

/// A file that a process has mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FarFile {
    /// Its path, as the process sees it.
    pub(super) path: String,
    /// What of it the process has mapped and is not on the right nodes, in bytes.
    pub(super) far: u64,
}

/// One thing that is wrong, or cannot be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The machine has no GPU.
    NoGpuOnHost,
    /// Nothing says that the process has a GPU, for this reason.
    NoGpuOfProcess(Silence),
    /// The machine does not have this GPU, which the process was given.
    NotHere(PciAddress),
    /// The NUMA node of this GPU is unknown.
    UnknownNode(PciAddress),
    /// It may use any of these GPUs, and its CPUs are not local to all of them.
    AnyOf(Vec<(PciAddress, Verdict)>),
    /// Threads may run where no GPU of the process is near.
    Threads {
        /// They, in the order of `/proc`.
        threads: Vec<Thread>,
        /// How many threads the process has.
        of: usize,
        /// Where they may run.
        cpus: CpuSet,
        /// Those of `cpus` that are local to none of its GPUs.
        far: CpuSet,
        /// `Remote` or `Partial`.
        verdict: Verdict,
    },
    /// It uses these GPUs and others, and none of its threads may run near these.
    FarGpus(Vec<PciAddress>),
    /// It was given these GPUs and others, and none of its threads may run near these; whether it uses them is not known.
    FarIfUsed(Vec<PciAddress>),
    /// Its memory may not be read.
    MemoryUnreadable,
    /// Its cpuset lets it have no memory on its GPUs' nodes.
    MemoryNotAllowed {
        /// The nodes that it may have memory from.
        allowed: NodeSet,
        /// The right ones.
        nodes: NodeSet,
    },
    /// Threads take new memory by a policy that names nodes that are not its GPUs'.
    ThreadsPolicy {
        /// They, in the order of their numbers.
        threads: Vec<Thread>,
        /// How many threads the process has.
        of: usize,
        /// The policy, as the kernel writes it.
        policy: String,
        /// The right nodes.
        nodes: NodeSet,
    },
    /// Its memory policy names nodes that are not its GPUs'.
    MemoryPolicy {
        /// The policy, as the kernel writes it.
        policy: String,
        /// Those nodes.
        others: NodeSet,
        /// The right ones.
        nodes: NodeSet,
    },
    /// Much of its memory is on other nodes.
    MemoryElsewhere {
        /// How much, in bytes.
        far: u64,
        /// Of how much, in bytes.
        all: u64,
        /// How much of `far` is where other processes have some too, in bytes.
        shared: u64,
        /// The right nodes.
        nodes: NodeSet,
    },
}

impl Finding {
    /// Whether it says that something cannot be known, not that it is wrong.
    pub(super) fn is_doubt(&self) -> bool {
        matches!(
            self,
            Self::NoGpuOnHost
                | Self::NoGpuOfProcess(_)
                | Self::FarIfUsed(_)
                | Self::NotHere(_)
                | Self::UnknownNode(_)
                | Self::AnyOf(_)
                | Self::MemoryUnreadable
        )
    }

    /// Whether it says the same as `other` but for amounts that change from one look to the next.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Threads { cpus, .. }, Self::Threads { cpus: others, .. }) => cpus == others,
            (Self::MemoryElsewhere { .. }, Self::MemoryElsewhere { .. }) => true,
            _ => self == other,
        }
    }
}

/// Judges CPUs by thread, and memory by policy and by where it lies.
pub(super) fn judge(machine: &Machine, process: &Process, used: &UsedGpus) -> Judgement {
    let mut judgement = Judgement {
        gpus: used.gpus.len(),
        nodes: None,
        local_cpus: None,
        nearest_cpus: None,
        memory_nodes: None,
        kept_nodes: NodeSet::new(),
        verdict: None,
        findings: Vec::new(),
        far_files: Vec::new(),
    };
    let findings = &mut judgement.findings;
    if used.gpus.is_empty() {
        findings.push(if machine.gpus.is_empty() {
            Finding::NoGpuOnHost
        } else {
            Finding::NoGpuOfProcess(if let Evidence::Nothing(silence) = &used.evidence {
                silence.clone()
            } else {
                Silence::NotNamed
            })
        });
        return judgement;
    }
    let is_unknown = |gpu: &&PciAddress| nodes_of(machine, **gpu).is_none();
    let unknown = used.gpus.iter().filter(is_unknown);
    findings.extend(unknown.map(|gpu| match machine.gpu(*gpu) {
        Some(_) => Finding::UnknownNode(*gpu),
        None => Finding::NotHere(*gpu),
    }));
    if !findings.is_empty() {
        return judgement;
    }
    let partly = process.bound_partly.as_ref();
    let placed = Placed {
        machine,
        process,
        chosen: partly
            .filter(|(gpus, _)| *gpus == used.gpus)
            .map(|(_, cpus)| cpus),
    };
    let is_one_place = used
        .gpus
        .windows(2)
        .all(|pair| matches!(pair, [a, b] if nodes_of(machine, *a) == nodes_of(machine, *b)));
    let nodes = machine.nodes_of_gpus(&used.gpus);
    let local = machine.cpus_of(&nodes);
    if used.uses_all || is_one_place {
        judgement.verdict = placed.worst(&used.gpus);
        judgement.nearest_cpus = nearest_cpus(machine, &used.gpus).filter(|_| used.uses_all);
        findings.extend(placed.far_threads(&local));
        let far = placed.far_gpus(&used.gpus);
        let is_chosen = placed.chosen == Some(&placed.cpus());
        if findings.is_empty() && !far.is_empty() && !is_chosen {
            if used.evidence.is_of_use() {
                findings.push(Finding::FarGpus(far));
            } else {
                findings.push(Finding::FarIfUsed(far));
                judgement.verdict = None;
            }
        }
        let right = memory_nodes(machine, &nodes);
        let kept = as_near_nodes(machine, &right.union(&nodes));
        judge_memory(findings, process, &right, &kept);
        judgement.far_files = far_files(process, &kept);
        judgement.memory_nodes = Some(right);
        judgement.kept_nodes = kept;
    } else {
        let verdicts = placed.with_each(&used.gpus);
        let first = verdicts.first().map(|(_, verdict)| *verdict);
        judgement.verdict = first.filter(|first| verdicts.iter().all(|(_, own)| own == first));
        if judgement.verdict != Some(Verdict::Local) {
            // Threads that are near none of them are wrong whichever it uses.
            findings.extend(placed.far_threads(&local));
            if findings.is_empty() {
                findings.push(Finding::AnyOf(verdicts));
            }
        }
    }
    judgement.nodes = Some(nodes);
    judgement.local_cpus = Some(local);
    judgement
}

fn nodes_of(machine: &Machine, gpu: PciAddress) -> Option<&NodeSet> {
    machine.gpu(gpu)?.locality.numa_nodes.as_ref()
}

fn nearest_cpus(machine: &Machine, gpus: &[PciAddress]) -> Option<CpuSet> {
    let mut nearest = CpuSet::new();
    for gpu in gpus {
        nearest.extend_with(machine.gpu(*gpu)?.locality.nearest_cpus.as_ref()?);
    }
    Some(nearest)
}

/// How bad a verdict is; the worst of a process's threads counts.
fn badness(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Local => 0,
        Verdict::Spanning => 1,
        Verdict::Partial => 2,
        Verdict::Remote | Verdict::Unbound | Verdict::Refused => 3,
    }
}

/// A process on its machine.
struct Placed<'p> {
    machine: &'p Machine,
    process: &'p Process,
    /// The CPUs that a launch gave its task, saying that some of them are not near these very GPUs.
    chosen: Option<&'p CpuSet>,
}

impl Placed<'_> {
    /// The verdict on the process, if it uses all of `gpus`: that of its worst thread, and worse where no thread is near
    /// one of them.
    fn worst(&self, gpus: &[PciAddress]) -> Option<Verdict> {
        let together = judge_cpus(self.machine, gpus, &self.cpus())?;
        let local = self.near(gpus);
        let masks = self.process.masks.values();
        let each = masks.filter_map(|(mask, _)| thread_verdict(mask, &local));
        each.chain([together]).max_by_key(badness)
    }

    /// Where any thread may run.
    fn cpus(&self) -> CpuSet {
        let mut all = CpuSet::new();
        for (mask, _) in self.process.masks.values() {
            all.extend_with(mask);
        }
        all
    }

    /// The CPUs that are local to one of `gpus`.
    fn near(&self, gpus: &[PciAddress]) -> CpuSet {
        self.machine.cpus_of(&self.machine.nodes_of_gpus(gpus))
    }

    /// The GPUs that no thread may run near.
    fn far_gpus(&self, gpus: &[PciAddress]) -> Vec<PciAddress> {
        let cpus = self.cpus();
        let is_far = |gpu: &&PciAddress| !self.near(&[**gpu]).intersects(&cpus);
        gpus.iter().filter(is_far).copied().collect()
    }

    /// The verdict for each of `gpus`, if the process uses that one.
    fn with_each(&self, gpus: &[PciAddress]) -> Vec<(PciAddress, Verdict)> {
        gpus.iter()
            .filter_map(|gpu| Some((*gpu, self.worst(&[*gpu])?)))
            .collect()
    }

    /// The threads that may run elsewhere than on `local`.
    ///
    /// Those with the CPUs that a launch gave a task of which it said `partial` are where they were put: no mistake.
    fn far_threads(&self, local: &CpuSet) -> Vec<Finding> {
        let masks = self.process.masks.values();
        let others = masks.filter(|(mask, _)| Some(mask) != self.chosen);
        let mut far: Vec<FarThreads> = Vec::new();
        for (mask, threads) in others {
            let Some(verdict) = thread_verdict(mask, local) else {
                continue;
            };
            far.push(FarThreads {
                threads: threads.clone(),
                cpus: mask.clone(),
                verdict,
            });
        }
        let far = [Verdict::Remote, Verdict::Partial]
            .into_iter()
            .flat_map(|verdict| {
                let alike = far.iter().filter(|own| own.verdict == verdict);
                FarThreads::summed(alike.cloned().collect())
            });
        far.map(|own| Finding::Threads {
            threads: own.threads,
            of: self.process.threads(),
            far: own.cpus.difference(local),
            cpus: own.cpus,
            verdict: own.verdict,
        })
        .collect()
    }
}

/// Of one verdict, so many sets of CPUs are told apart: OpenMP puts each thread on a core of its own.
const MOST_MASKS: usize = 4;

/// Threads that may run elsewhere than near their GPUs.
#[derive(Debug, Clone)]
struct FarThreads {
    threads: Vec<Thread>,
    cpus: CpuSet,
    verdict: Verdict,
}

impl FarThreads {
    /// All in one where they are too many to be told apart.
    fn summed(all: Vec<Self>) -> Vec<Self> {
        if all.len() <= MOST_MASKS {
            return all;
        }
        let mut all = all.into_iter();
        let Some(mut sum) = all.next() else {
            return Vec::new();
        };
        for own in all {
            sum.threads.extend(own.threads);
            sum.cpus.extend_with(&own.cpus);
        }
        sum.threads.sort_by_key(|thread| thread.id);
        vec![sum]
    }
}

/// What is wrong with a thread that may run on `mask`; none where all of that is within `local`: a thread need not be
/// near every GPU of its process.
fn thread_verdict(mask: &CpuSet, local: &CpuSet) -> Option<Verdict> {
    if mask.is_subset(local) {
        None
    } else if mask.intersects(local) {
        Some(Verdict::Partial)
    } else {
        Some(Verdict::Remote)
    }
}

/// Memory is wrong when a policy names other nodes, or when more than a tenth of it lies on them.
fn far_files(process: &Process, nodes: &NodeSet) -> Vec<FarFile> {
    let files = process.memory.files.iter().map(|file| {
        let far = file
            .bytes
            .iter()
            .filter(|(node, _)| !nodes.contains(**node));
        FarFile {
            path: file.path.clone(),
            far: far.map(|(_, bytes)| bytes).sum(),
        }
    });
    files.filter(|file| file.far >= LARGE_FILE_BYTES).collect()
}

/// `nodes` are where it belongs, `kept` where it is as well.
fn judge_memory(findings: &mut Vec<Finding>, process: &Process, nodes: &NodeSet, kept: &NodeSet) {
    let memory = &process.memory;
    if memory.policy.is_empty() {
        findings.push(Finding::MemoryUnreadable);
    }
    let allowed = process.allowed_nodes.as_ref();
    if let Some(allowed) = allowed.filter(|allowed| !allowed.intersects(kept)) {
        findings.push(Finding::MemoryNotAllowed {
            allowed: allowed.clone(),
            nodes: nodes.clone(),
        });
    }
    for (policy, threads) in &process.policies {
        let named = numa_maps::nodes_of(policy);
        if named.is_some_and(|named| !named.is_subset(kept)) {
            findings.push(Finding::ThreadsPolicy {
                threads: threads.clone(),
                of: process.threads(),
                policy: policy.clone(),
                nodes: nodes.clone(),
            });
        }
    }
    let others = memory
        .named()
        .map(|named| named.difference(kept))
        .filter(|others| !others.is_empty());
    if let Some(others) = others {
        findings.push(Finding::MemoryPolicy {
            policy: memory.policy.clone(),
            others,
            nodes: nodes.clone(),
        });
    }
    let (all, far, shared) = memory.outside(kept);
    if far > all / 2 || (far > all / 10 && far > FEW_BYTES) {
        findings.push(Finding::MemoryElsewhere {
            far,
            all,
            shared,
            nodes: nodes.clone(),
        });
    }
}
