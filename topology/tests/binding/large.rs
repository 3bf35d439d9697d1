//! Steps on machines that are too large to try every split: the plan against a bound that no split exceeds
//! (`gpu_numa_tests::optimum`), which brute force holds to on small machines (`optimal.rs`), and against the rule by which
//! mpibind maps tasks.

use std::collections::{BTreeMap, BTreeSet};

use gpu_numa_tests::optimum::{Merit, PARTS};
use topology::binding::{KernelVersion, StepPlan, StepRequest, TaskRequest, plan_step};
use topology::machine::{Machine, NumaNode};
use topology::option::{Items, Settings};
use topology::pci::PciAddress;
use topology::set::CpuSet;

use super::judged::{judged, split_of};

/// Where "few caches for each" is among the [`PARTS`].
const FEW_CACHES: usize = 12;

/// CPUs times tasks of the steps of which all splits are tried where the plan is not as good as the bound.
const MOST_TRIED: usize = 64;

/// What was asked of one machine.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) steps: usize,
    pub(crate) complaints: Vec<String>,
}

impl Report {
    /// Takes in those of another machine.
    pub(crate) fn add(&mut self, more: Self) {
        self.steps += more.steps;
        self.complaints.extend(more.complaints);
    }

    pub(crate) fn assert_none(&self, least: usize) {
        assert!(
            self.complaints.is_empty(),
            "{} of {} steps:\n{}",
            self.complaints.len(),
            self.steps,
            self.complaints.join("\n")
        );
        assert!(self.steps >= least, "only {} steps", self.steps);
    }
}

/// Every step that is tried on a machine, each under every width.
pub(crate) fn judge(name: &str, machine: &Machine) -> Report {
    let mut report = Report::default();
    for (cpus, step_cpus) in step_cpus_of(machine) {
        for (views, tasks) in views_of(machine) {
            let room = local_to_each(machine, &step_cpus, &tasks);
            let cache = smallest_cache(machine, &step_cpus);
            for (index, asked) in [1, 7, room].into_iter().enumerate() {
                if asked > room || room == 0 {
                    continue;
                }
                let policy = ["best-effort", "restricted"][index % 2];
                for width in ["exclusive", "node", "l3"] {
                    if width == "l3" && asked > cache {
                        continue;
                    }
                    let option = format!("{policy},{width}");
                    let step = step_of(&option, &step_cpus, asked, &tasks);
                    let plan = plan_step(machine, &step);
                    let said = match width {
                        "exclusive" => not_the_best(machine, &step, &plan),
                        "node" => not_the_nodes(machine, &step, &plan),
                        _ => not_one_cache_each(machine, &step, &plan),
                    };
                    report.steps += 1;
                    report.complaints.extend(said.map(|said| {
                        format!("{name}, {cpus}, {views}, -c{asked} {option}: {said}")
                    }));
                }
            }
        }
    }
    report
}

/// The most that each task can ask for where all have local CPUs alone: an even share of those on the nodes that most tasks
/// have in common.
fn local_to_each(machine: &Machine, step_cpus: &CpuSet, tasks: &[Vec<PciAddress>]) -> usize {
    let nodes_of = |task: &Vec<PciAddress>| {
        let gpus = task.iter().map(|gpu| machine.gpu(*gpu).unwrap());
        gpus.fold(BTreeSet::new(), |mut nodes, gpu| {
            nodes.extend(gpu.locality.numa_nodes.as_ref().unwrap().iter());
            nodes
        })
    };
    let nodes: Vec<BTreeSet<u32>> = tasks.iter().map(nodes_of).collect();
    let shares = nodes.iter().map(|own| {
        let near = own.iter().copied().collect();
        let local = machine.cpus_of(&near).intersection(step_cpus).len();
        local / nodes.iter().filter(|other| !other.is_disjoint(own)).count()
    });
    shares.min().unwrap()
}

/// CPUs of the step below the cache that has the fewest: a task that asks for more gets several caches.
fn smallest_cache(machine: &Machine, step_cpus: &CpuSet) -> usize {
    let caches = machine.last_level_caches.iter();
    let sizes = caches.map(|cache| cache.intersection(step_cpus).len());
    sizes.min().unwrap()
}

fn step_of(option: &str, cpus: &CpuSet, asked: usize, tasks: &[Vec<PciAddress>]) -> StepRequest {
    let task = |visible: &Vec<PciAddress>| TaskRequest {
        visible: visible.clone(),
        ..TaskRequest::default()
    };
    StepRequest {
        settings: Settings::from(&Items::parse(option).unwrap()),
        step_cpus: cpus.clone(),
        asked: u32::try_from(asked).unwrap(),
        tasks: tasks.iter().map(task).collect(),
        kernel: KernelVersion { major: 6, minor: 1 },
        allowed_nodes: None,
        owns_cpus: true,
        may_refuse: true,
    }
}

/// The CPUs of steps: all, one thread of each core, all but the first core below each cache (which sites of this kind keep
/// for the system).
fn step_cpus_of(machine: &Machine) -> Vec<(&'static str, CpuSet)> {
    let first_of = |core: &CpuSet| core.first().unwrap();
    let one_each: CpuSet = machine.cores.iter().map(first_of).collect();
    let mut kept = CpuSet::new();
    for cache in &machine.last_level_caches {
        let below = |core: &&CpuSet| core.intersects(cache);
        kept.extend_with(machine.cores.iter().find(below).unwrap());
    }
    vec![
        ("all CPUs", machine.online.clone()),
        ("one thread of each core", one_each),
        (
            "without a core of each cache",
            machine.online.difference(&kept),
        ),
    ]
}

/// The GPUs that tasks see: parts of GPUs one by one, as their runtime counts them.
fn views_of(machine: &Machine) -> Vec<(&'static str, Vec<Vec<PciAddress>>)> {
    let gpus: Vec<PciAddress> = machine
        .gpus
        .iter()
        .flat_map(topology::machine::Gpu::part_addresses)
        .collect();
    let cards: Vec<PciAddress> = machine.gpus.iter().map(|gpu| gpu.pci).collect();
    let own = |gpus: &[PciAddress]| -> Vec<Vec<PciAddress>> {
        gpus.iter().map(|gpu| vec![*gpu]).collect()
    };
    let of =
        |size: usize| -> Vec<Vec<PciAddress>> { cards.chunks(size).map(<[_]>::to_vec).collect() };
    let every_second: Vec<PciAddress> = cards.iter().copied().step_by(2).collect();
    vec![
        ("one task for each GPU", own(&gpus)),
        ("one task for each card", own(&cards)),
        (
            "two tasks for each card",
            own(&[cards.clone(), cards.clone()].concat()),
        ),
        ("three tasks for each card", own(&cards.repeat(3))),
        ("tasks for every second card", own(&every_second)),
        (
            "tasks for the first card and one for the last",
            own(&[cards[0], cards[0], *cards.last().unwrap()]),
        ),
        ("pairs", of(2)),
        ("one task for all", of(cards.len())),
    ]
}

/// Where `exclusive` is not what no split exceeds.
fn not_the_best(machine: &Machine, step: &StepRequest, plan: &StepPlan) -> Option<String> {
    let (judge, numbers) = judged(machine, step);
    let split = split_of(plan, &numbers);
    let (bound, merit) = (judge.bound(), judge.merit(&split));
    let cpus = plan.tasks.iter().map(|task| task.cpus.to_string());
    let cpus = || cpus.clone().collect::<Vec<_>>();
    // A task whose GPUs are on several nodes may have CPUs below a cache more than it needs (ARCHITECTURE.md).
    let spans =
        |task: &gpu_numa_tests::optimum::Task| task.gpus.windows(2).any(|two| two[0] != two[1]);
    let judged = if judge.tasks.iter().any(spans) {
        FEW_CACHES
    } else {
        bound.len()
    };
    let misses = |best: &Merit| (0..judged).find(|part| merit[*part] != best[*part]);
    // Tasks whose GPUs are on several nodes need a CPU on each, so that others may not come to what the bound allows: trying all
    // decides, where that can be done.
    let mut best = bound;
    if misses(&bound).is_some() && judge.cpus.len() * judge.tasks.len() <= MOST_TRIED {
        best = judge.best().unwrap();
        if best > bound {
            return Some(format!("brute force {best:?} exceeds {bound:?}"));
        }
    }
    if let Some(part) = misses(&best) {
        return Some(format!(
            "{}: {merit:?}, no split exceeds {best:?}: {:?}",
            PARTS[part],
            cpus()
        ));
    }
    let mut dealt = CpuSet::new();
    for task in &plan.tasks {
        if dealt.intersects(&task.cpus) {
            return Some(format!("tasks share CPUs: {:?}", cpus()));
        }
        dealt.extend_with(&task.cpus);
    }
    let (near, most) = nearest(machine, step, plan);
    (near < most).then(|| format!("{near} CPUs are the nearest, {most} can be: {:?}", cpus()))
}

/// Of each task's CPUs those nearer to its GPU than the rest of the node, together, and the most that these can be: tasks
/// near the same CPUs have no more than these, and none more than it has CPUs.
fn nearest(machine: &Machine, step: &StepRequest, plan: &StepPlan) -> (usize, usize) {
    let mut held = 0;
    let mut places: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (task, planned) in step.tasks.iter().zip(&plan.tasks) {
        let mut near = CpuSet::new();
        for gpu in &task.visible {
            let locality = &machine.gpu(*gpu).unwrap().locality;
            near.extend_with(locality.nearest_cpus.as_ref().unwrap_or(&CpuSet::new()));
        }
        let near = near.intersection(&step.step_cpus);
        held += planned.cpus.intersection(&near).len();
        let place = places.entry(near.to_string()).or_insert((near.len(), 0));
        place.1 += planned.cpus.len();
    }
    (
        held,
        places.values().map(|(size, wanted)| size.min(wanted)).sum(),
    )
}

fn nodes_cpus(machine: &Machine, step: &StepRequest, task: &TaskRequest) -> CpuSet {
    let mut cpus = CpuSet::new();
    for gpu in &task.visible {
        let nodes = &machine.gpu(*gpu).unwrap().locality.numa_nodes;
        cpus.extend_with(&machine.cpus_of(nodes.as_ref().unwrap()));
    }
    cpus.intersection(&step.step_cpus)
}

fn not_the_nodes(machine: &Machine, step: &StepRequest, plan: &StepPlan) -> Option<String> {
    let mut each = step.tasks.iter().zip(&plan.tasks).enumerate();
    each.find_map(|(index, (task, planned))| {
        let nodes = nodes_cpus(machine, step, task);
        (planned.cpus != nodes).then(|| format!("task {index} has {}, not {nodes}", planned.cpus))
    })
}

/// Where `l3` is not the cache that a task's GPU hangs from, or not one of the node that the fewest have.
fn not_one_cache_each(machine: &Machine, step: &StepRequest, plan: &StepPlan) -> Option<String> {
    let mut loads: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for (index, (task, planned)) in step.tasks.iter().zip(&plan.tasks).enumerate() {
        let nodes = nodes_cpus(machine, step, task);
        let here = |cache: &CpuSet| cache.intersection(&step.step_cpus);
        let of_gpus = task.visible.iter().filter_map(|gpu| {
            let locality = &machine.gpu(*gpu).unwrap().locality;
            locality.nearest_cpus.clone()
        });
        let of_gpus: BTreeSet<String> = of_gpus.map(|near| here(&near).to_string()).collect();
        let own = planned.cpus.to_string();
        if task.visible.len() == 1 && !of_gpus.is_empty() {
            if !of_gpus.contains(&own) {
                return Some(format!(
                    "task {index} has {own}, its GPU hangs from {of_gpus:?}"
                ));
            }
            continue;
        }
        let caches = machine.last_level_caches.iter().map(here);
        let caches = caches.filter(|cache| cache.intersects(&nodes));
        let caches: BTreeSet<String> = caches.map(|cache| cache.to_string()).collect();
        if !caches.contains(&own) {
            return Some(format!("task {index} has {own}, none of {caches:?}"));
        }
        let unused = caches.into_iter().map(|cache| (cache, 0)).collect();
        let load = loads.entry(nodes.to_string()).or_insert_with(|| unused);
        *load.entry(own).or_default() += 1;
    }
    let uneven = loads.values().find(|load| {
        let (least, most) = (load.values().min(), load.values().max());
        least
            .zip(most)
            .is_some_and(|(least, most)| most - least > 1)
    });
    uneven.map(|load| format!("tasks for each cache: {load:?}"))
}

/// The CPUs and GPUs of each task by mpibind's rule (src/internals.c, `mpibind_distrib` with its defaults: greedy, by GPUs,
/// no SMT level, threads not said).
fn by_mpibind(machine: &Machine, tasks: usize) -> Vec<(CpuSet, Vec<PciAddress>)> {
    let nodes: Vec<&NumaNode> = machine
        .numa_nodes
        .iter()
        .filter(|node| !node.cpus.is_empty())
        .collect();
    let gpus_of = |node: &NumaNode| -> Vec<PciAddress> {
        let here = |gpu: &&topology::machine::Gpu| {
            let nodes = gpu.locality.numa_nodes.as_ref();
            nodes.is_some_and(|nodes| nodes.contains(node.id))
        };
        machine
            .gpus
            .iter()
            .filter(here)
            .flat_map(topology::machine::Gpu::part_addresses)
            .collect()
    };
    if tasks < nodes.len() {
        // `distrib_greedy`: whole nodes.
        let mut dealt = Vec::new();
        let mut rest = nodes.into_iter();
        for count in even(machine.numa_nodes.len(), tasks) {
            let own: Vec<&NumaNode> = rest.by_ref().take(count).collect();
            let mut cpus = CpuSet::new();
            for node in &own {
                cpus.extend_with(&node.cpus);
            }
            dealt.push((cpus, own.into_iter().flat_map(gpus_of).collect()));
        }
        return dealt;
    }
    // `distrib_mem_hierarchy`: as many tasks for a node as it has of all GPUs, what is left by the largest remainders.
    let counts: Vec<usize> = nodes.iter().map(|node| gpus_of(node).len()).collect();
    let all: usize = counts.iter().sum();
    let mut on_each: Vec<usize> = counts.iter().map(|count| tasks * count / all).collect();
    let mut by_rest: Vec<usize> = (0..nodes.len()).collect();
    by_rest.sort_by_key(|index| std::cmp::Reverse(tasks * counts[*index] % all));
    let left = tasks - on_each.iter().sum::<usize>();
    for index in by_rest.into_iter().take(left) {
        on_each[index] += 1;
    }
    let mut dealt = Vec::new();
    for (node, here) in nodes.into_iter().zip(on_each).filter(|(_, here)| *here > 0) {
        let cores: Vec<CpuSet> = machine
            .cores
            .iter()
            .filter(|core| core.is_subset(&node.cpus))
            .cloned()
            .collect();
        let gpus = gpus_of(node);
        // `cpu_match`: one worker a core; of objects that are enough for the tasks, the cores are the finest.
        let cpus = buckets(&cores, here);
        let gpus = buckets(&gpus, here);
        for (cores, gpus) in cpus.into_iter().zip(gpus) {
            let mut all = CpuSet::new();
            for core in cores {
                all.extend_with(&core);
            }
            dealt.push((all, gpus));
        }
    }
    dealt
}

/// `distrib`: so many in so many parts, the first have one more.
fn even(all: usize, parts: usize) -> Vec<usize> {
    (0..parts)
        .map(|part| all / parts + usize::from(part < all % parts))
        .collect()
}

/// `fill_in_buckets`: side by side; where there are fewer than buckets, several have the same.
fn buckets<T: Clone>(all: &[T], buckets: usize) -> Vec<Vec<T>> {
    if all.len() >= buckets {
        let mut rest = all.iter().cloned();
        return even(all.len(), buckets)
            .into_iter()
            .map(|count| rest.by_ref().take(count).collect())
            .collect();
    }
    let shared = even(buckets, all.len());
    let each = all.iter().zip(shared);
    each.flat_map(|(one, count)| std::iter::repeat_n(vec![one.clone()], count))
        .collect()
}

/// How many of `cpus`, in thousandths, are on the nodes of the GPUs, and nearer than that where it is known.
fn locality(machine: &Machine, cpus: &CpuSet, gpus: &[PciAddress]) -> [usize; 2] {
    let (mut local, mut near) = (CpuSet::new(), CpuSet::new());
    for gpu in gpus {
        let locality = &machine.gpu(*gpu).unwrap().locality;
        local.extend_with(&machine.cpus_of(locality.numa_nodes.as_ref().unwrap()));
        near.extend_with(
            locality
                .nearest_cpus
                .as_ref()
                .or(locality.cpus.as_ref())
                .unwrap(),
        );
    }
    [local, near].map(|of| cpus.intersection(&of).len() * 1000 / cpus.len().max(1))
}

/// For the GPUs that mpibind deals to each task: no task of ours is less local than mpibind's, nor are tasks less near together.
pub(crate) fn against_mpibind(name: &str, machine: &Machine) -> Report {
    let mut report = Report::default();
    let gpus: usize = machine.gpus.iter().map(topology::machine::Gpu::parts).sum();
    for tasks in (1..=machine.cores.len()).filter(|tasks| *tasks <= 2 * gpus || tasks % 16 == 0) {
        let theirs = by_mpibind(machine, tasks);
        let views: Vec<Vec<PciAddress>> = theirs.iter().map(|(_, gpus)| gpus.clone()).collect();
        if views.iter().any(Vec::is_empty) {
            continue;
        }
        // Where a node has fewer CPUs than tasks mpibind gives a CPU to several, and `exclusive` takes some of other nodes.
        let width = match local_to_each(machine, &machine.online, &views) {
            0 => "best-effort,node",
            _ => "best-effort",
        };
        let step = step_of(width, &machine.online, 1, &views);
        let plan = plan_step(machine, &step);
        report.steps += 1;
        let (mut near, mut near_there) = (0, 0);
        for (index, ((cpus, gpus), planned)) in theirs.iter().zip(&plan.tasks).enumerate() {
            let (our, their) = (
                locality(machine, &planned.cpus, gpus),
                locality(machine, cpus, gpus),
            );
            if our[0] < their[0] {
                report.complaints.push(format!(
                    "{name}, {tasks} tasks: task {index} on {}, mpibind's on {cpus}: {our:?}, {their:?}",
                    planned.cpus
                ));
            }
            near += our[1];
            near_there += their[1];
        }
        if near < near_there {
            report.complaints.push(format!(
                "{name}, {tasks} tasks: near together {near}, mpibind's {near_there}"
            ));
        }
    }
    report
}
