//! `exclusive` against brute force: of all ways to give a step's CPUs to its tasks, none is better in the order that
//! ARCHITECTURE.md names.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use topology::binding::{StepRequest, plan_step};
use topology::machine::Machine;
use topology::set::{CpuSet, NodeSet};

use super::made_up::{gpu, lists, machine, step};

/// As in ARCHITECTURE.md: tasks with a local CPU where the policy is strict, CPUs asked for, local CPUs, tasks wholly
/// local, on one node, on one package, below one cache, with whole cores.
type Merit = [usize; 8];

/// One CPU, by what it is part of.
struct Place {
    node: usize,
    package: usize,
    cache: usize,
    core: usize,
}

struct Judge {
    places: Vec<Place>,
    /// For each task and node, whether a GPU of the task is near the node.
    near: Vec<Vec<bool>>,
    /// For each task, the nodes of each of its GPUs.
    gpus: Vec<Vec<NodeSet>>,
    asked: usize,
    is_strict: bool,
    cpus: Vec<u32>,
}

impl Judge {
    fn new(machine: &Machine, step: &StepRequest) -> Self {
        let cpus: Vec<u32> = step.step_cpus.iter().collect();
        let position = |sets: Vec<&CpuSet>, cpu: u32| sets.iter().position(|set| set.contains(cpu));
        let places = cpus
            .iter()
            .map(|cpu| Place {
                node: position(
                    machine.numa_nodes.iter().map(|node| &node.cpus).collect(),
                    *cpu,
                )
                .unwrap(),
                package: position(
                    machine
                        .packages
                        .iter()
                        .map(|package| &package.cpus)
                        .collect(),
                    *cpu,
                )
                .unwrap(),
                cache: position(machine.last_level_caches.iter().collect(), *cpu).unwrap_or(0),
                core: position(machine.cores.iter().collect(), *cpu).unwrap(),
            })
            .collect();
        let gpus: Vec<Vec<NodeSet>> = step
            .tasks
            .iter()
            .map(|task| {
                let nodes = |address| {
                    machine
                        .gpu(address)
                        .unwrap()
                        .locality
                        .numa_nodes
                        .clone()
                        .unwrap()
                };
                task.visible.iter().map(|address| nodes(*address)).collect()
            })
            .collect();
        let nodes = 0..u32::try_from(machine.numa_nodes.len()).unwrap();
        let near = gpus
            .iter()
            .map(|gpus| {
                nodes
                    .clone()
                    .map(|node| gpus.iter().any(|nodes| nodes.contains(node)))
                    .collect()
            })
            .collect();
        let is_strict = step.settings.policy == topology::option::Policy::Restricted;
        Self {
            places,
            near,
            gpus,
            asked: step.asked as usize,
            is_strict,
            cpus,
        }
    }

    fn tasks(&self) -> usize {
        self.near.len()
    }

    /// The merit of an owner for each CPU; none where a task has no CPU, or less than an even share where there are
    /// fewer than all asked for.
    fn merit(&self, owners: &[Option<usize>]) -> Option<Merit> {
        let mut merit = [0; 8];
        for task in 0..self.tasks() {
            let mine: Vec<&Place> = self
                .places
                .iter()
                .zip(owners)
                .filter(|(_, owner)| **owner == Some(task))
                .map(|(place, _)| place)
                .collect();
            if mine.len() < self.asked.min(self.places.len() / self.tasks()) {
                return None;
            }
            let is_local = |place: &&&Place| self.near[task][place.node];
            let local = mine.iter().filter(is_local).count();
            let all_touch = self.gpus[task].iter().all(|nodes| {
                let near = |place: &Place| nodes.contains(u32::try_from(place.node).unwrap());
                !self.places.iter().any(near) || mine.iter().any(|place| near(place))
            });
            let one = |of: fn(&Place) -> usize| mine.iter().all(|place| of(place) == of(mine[0]));
            let is_together = self.gpus[task].windows(2).all(|pair| pair[0] == pair[1]);
            let is_shared = |place: &&Place| {
                let others = self
                    .places
                    .iter()
                    .zip(owners)
                    .filter(|(other, _)| other.core == place.core);
                others
                    .into_iter()
                    .any(|(_, owner)| owner.is_some_and(|owner| owner != task))
            };
            merit[0] += usize::from(self.is_strict && local > 0);
            merit[1] += mine.len().min(self.asked);
            merit[2] += local;
            merit[3] += usize::from(local == mine.len() && all_touch);
            merit[4] += usize::from(is_together && one(|place| place.node));
            merit[5] += usize::from(is_together && one(|place| place.package));
            merit[6] += usize::from(is_together && one(|place| place.node * 64 + place.cache));
            merit[7] += usize::from(!mine.iter().any(is_shared));
        }
        Some(merit)
    }

    fn best(&self) -> Merit {
        let mut owners = Vec::new();
        let mut best = [0; 8];
        self.try_all(&mut owners, &mut best);
        best
    }

    /// CPUs of one core, and cores below one cache of a node, are alike: each is tried in one order only.
    fn try_all(&self, owners: &mut Vec<Option<usize>>, best: &mut Merit) {
        let at = owners.len();
        if at == self.places.len() {
            if let Some(merit) = self.merit(owners) {
                *best = merit.max(*best);
            }
            return;
        }
        let place = &self.places[at];
        let twin = (0..at)
            .rev()
            .find(|other| self.places[*other].core == place.core);
        let first = twin.and_then(|other| owners[other]);
        for owner in std::iter::once(None).chain((0..self.tasks()).map(Some)) {
            if twin.is_some() && owner < first {
                continue;
            }
            owners.push(owner);
            self.try_all(owners, best);
            owners.pop();
        }
    }

    fn owners(&self, plan: &[CpuSet]) -> Vec<Option<usize>> {
        self.cpus
            .iter()
            .map(|cpu| plan.iter().position(|cpus| cpus.contains(*cpu)))
            .collect()
    }
}

/// Whatever the caches: below one each, in pairs of cores, or as wide as a node.
fn with_caches(mut machine: Machine, cores_below_each: u32) -> Machine {
    machine.last_level_caches = machine
        .cores
        .chunks(cores_below_each as usize)
        .map(|cores| {
            cores
                .iter()
                .fold(CpuSet::new(), |all, core| all.union(core))
        })
        .collect();
    machine
}

/// Packages, nodes each, cores each, threads each; cores below each cache; the nodes of each task's GPU.
type Shape = ((u32, u32, u32, u32), u32, Vec<&'static str>);

fn shape() -> impl Strategy<Value = Shape> {
    let shapes = prop::sample::select(vec![
        (2, 2, 2, 1),
        (2, 1, 4, 1),
        (2, 1, 2, 2),
        (1, 2, 2, 2),
        (2, 2, 1, 2),
        (4, 1, 2, 1),
        (1, 1, 4, 2),
        (2, 1, 3, 1),
    ]);
    let places = vec!["0", "0", "1", "1", "0-1", "2", "3", "2-3"];
    let places = prop::collection::vec(prop::sample::select(places), 1..4);
    (shapes, 1u32..5, places).prop_map(|(shape, below, places)| {
        let is_there =
            |place: &&str| place.parse::<NodeSet>().unwrap().last().unwrap() < shape.0 * shape.1;
        let below = (1..=below)
            .rev()
            .find(|below| shape.2 % *below == 0)
            .unwrap();
        let places = places
            .into_iter()
            .map(|place| if is_there(&place) { place } else { "0" });
        (shape, below, places.collect())
    })
}

/// How many steps are tried: more where GPU_NUMA_CASES says so.
fn cases() -> u32 {
    let cases = std::env::var("GPU_NUMA_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(96)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, rng_seed: RngSeed::Fixed(20_261_128), ..ProptestConfig::default() })]

    #[test]
    fn no_split_is_better_than_the_one_that_is_chosen(
        (shape, below, places) in shape(),
        left_out in prop::collection::btree_set(0u32..8, 0..4),
        asked in 1u32..5,
        pairs in prop::bool::weighted(0.2),
        policy in prop::sample::select(vec!["", "", "restricted"]),
    ) {
        let (packages, nodes, cores, threads) = shape;
        let machine = with_caches(machine(packages, nodes, cores, threads, &places), below);
        let gpus: Vec<Vec<usize>> = (0..places.len()).map(|index| if pairs && index > 0 { vec![index - 1, index] } else { vec![index] }).collect();
        let views: Vec<&[usize]> = gpus.iter().map(Vec::as_slice).collect();
        let mut step = step(&machine, policy, asked, &views);
        step.may_refuse = false;
        for cpu in left_out {
            step.step_cpus.remove(cpu);
        }
        let near = |task: usize| {
            let nodes = |index: usize| machine.gpu(gpu(index)).unwrap().locality.numa_nodes.clone().unwrap();
            gpus[task].iter().any(|index| machine.cpus_of(&nodes(*index)).intersects(&step.step_cpus))
        };
        prop_assume!(step.step_cpus.len() >= places.len() && (0..places.len()).all(near));
        // GPUs of one task that share a node only in part are no machine's.
        prop_assume!(!pairs || places.iter().all(|place| !place.contains('-')));
        let plan = plan_step(&machine, &step);
        let judge = Judge::new(&machine, &step);
        let cpus: Vec<CpuSet> = plan.tasks.iter().map(|task| task.cpus.clone()).collect();
        let merit = judge.merit(&judge.owners(&cpus));
        let best = judge.best();
        // A step without a local CPU for each is refused.
        prop_assume!(policy.is_empty() || best[0] == places.len());
        // Tasks with GPUs on several nodes belong on all of them, and fewer CPUs than asked are shared evenly: neither is
        // in the order.
        let is_even = places.len() * asked as usize <= step.step_cpus.len();
        // Where each must have a local core first, cores are cut as that needs.
        let counts = match policy {
            _ if pairs || !is_even => 3,
            // GPUs near two nodes leave a choice that is made before caches are looked at.
            _ if places.iter().any(|place| place.contains('-')) => 6,
            "restricted" => 7,
            _ => 8,
        };
        prop_assert_eq!(merit.map(|merit| merit[..counts].to_vec()), Some(best[..counts].to_vec()), "{:?} of {} on {:?}", lists(&plan), step.step_cpus, places);
    }
}
