//! Which GPU each rank of a parallel layout takes on a host, so that its communicators cross between packages least.
//!
//! NCCL orders the GPUs of a communicator by itself ([`crate::graph::Search`]), so what a rank order decides is which GPUs are in
//! one communicator together.  Tensor-parallel groups count first, because they send in every layer; then data-parallel ones, then
//! the pipeline's, which send least.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use topology::crossings::{fewest, groups, packages_of};
use topology::machine::Machine;
use topology::path::{PciPath, are_linked, pci_path};
use topology::pci::PciAddress;

use crate::graph::Searches;
use crate::model::{Conditions, Model, with_links};
use crate::outcome::most_crossings;
use crate::reader::System;
use crate::route::{self, Route};

/// The most orders that are all tried: those of eight GPUs.  Of more GPUs the order is made better by exchanges as long as one
/// does.
const MOST_TRIED: usize = 40_320;

/// A way in which a job's ranks are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parallel {
    /// Parts of a layer.
    Tensor,
    /// Copies of the model.
    Data,
    /// Layers one behind the other.
    Pipeline,
}

/// All, the one whose communicators send most first.
pub const PARALLELS: [Parallel; 3] = [Parallel::Tensor, Parallel::Data, Parallel::Pipeline];

/// How the ranks of a job are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// Tensor, data, pipeline, the first fastest (Megatron-LM's `tp-cp-ep-dp-pp`; DeepSpeed's axes pipe, data, model).
    TensorDataPipeline,
    /// Tensor, pipeline, data, the first fastest (vLLM).
    TensorPipelineData,
}

/// A parallel layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Ranks of a tensor-parallel group.
    pub tensor: usize,
    /// Ranks of a data-parallel group.
    pub data: usize,
    /// Ranks of a pipeline.
    pub pipeline: usize,
    /// How ranks are numbered.
    pub numbering: Numbering,
}

/// The ranks of one communicator that are on a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// What it is for.
    pub parallel: Parallel,
    /// Its ranks on the host, by their number there.
    pub members: Vec<usize>,
    /// Whether it has others on other hosts.
    pub goes_on: bool,
}

impl Layout {
    /// How many ranks the job has; none where they are too many to count.
    pub fn ranks(&self) -> Option<usize> {
        self.tensor
            .checked_mul(self.data)?
            .checked_mul(self.pipeline)
    }

    /// What identifies the group of a rank: its coordinates in the other two directions.
    fn group_of(&self, rank: usize, parallel: Parallel) -> (usize, usize) {
        let tensor = rank % self.tensor;
        let rest = rank / self.tensor;
        let (data, pipeline) = match self.numbering {
            Numbering::TensorDataPipeline => (rest % self.data, rest / self.data),
            Numbering::TensorPipelineData => (rest / self.pipeline, rest % self.pipeline),
        };
        match parallel {
            Parallel::Tensor => (data, pipeline),
            Parallel::Data => (tensor, pipeline),
            Parallel::Pipeline => (tensor, data),
        }
    }

    /// How many ranks a group has.
    pub fn size(&self, parallel: Parallel) -> usize {
        match parallel {
            Parallel::Tensor => self.tensor,
            Parallel::Data => self.data,
            Parallel::Pipeline => self.pipeline,
        }
    }

    /// The communicators of which a host with `here` ranks has several ranks, each pattern that some host of `hosts` has once.
    pub fn groups(&self, here: usize, hosts: usize) -> Vec<Group> {
        let mut all = BTreeSet::new();
        for host in 0..hosts {
            for parallel in PARALLELS {
                let mut of: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
                for local in 0..here {
                    let group = self.group_of(host * here + local, parallel);
                    of.entry(group).or_default().push(local);
                }
                let several = of.into_values().filter(|members| members.len() > 1);
                all.extend(several.map(|members| Group {
                    parallel,
                    goes_on: members.len() < self.size(parallel),
                    members,
                }));
            }
        }
        all.into_iter().collect()
    }
}

/// What an order of GPUs costs: less is better, the first field first.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// The fewest crossings between packages of the rings of all groups together, by [`PARALLELS`].
    pub crossings: [u32; 3],
    /// How far the members of groups are from each other, summed over pairs, by [`PARALLELS`].
    pub distances: [u32; 3],
}

/// GPUs and the groups that are to be placed on them.
pub struct Placing<'m> {
    machine: &'m Machine,
    gpus: Vec<PciAddress>,
    groups: Vec<Group>,
    /// How far two GPUs are from each other, by their places.
    far: Vec<Vec<u32>>,
    /// The fewest crossings of groups that were asked for: their places, and whether they have others on other hosts.
    known: RefCell<BTreeMap<(Vec<usize>, bool), u32>>,
}

impl std::fmt::Debug for Placing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { gpus, groups, .. } = self;
        f.debug_struct("Placing")
            .field("gpus", gpus)
            .field("groups", groups)
            .finish_non_exhaustive()
    }
}

impl<'m> Placing<'m> {
    /// Groups of the ranks of a host on some of `gpus`, which are at known packages.
    pub fn new(machine: &'m Machine, gpus: Vec<PciAddress>, groups: Vec<Group>) -> Self {
        let row = |a: &PciAddress| gpus.iter().map(|b| distance(machine, *a, *b)).collect();
        Self {
            machine,
            far: gpus.iter().map(row).collect(),
            gpus,
            groups,
            known: RefCell::default(),
        }
    }

    /// The cost of an order, which names the GPU of each rank by its place.
    pub fn cost(&self, order: &[usize]) -> Cost {
        let mut cost = Cost::default();
        for group in &self.groups {
            let members = group.members.iter().filter_map(|rank| order.get(*rank));
            let members: Vec<usize> = members.copied().collect();
            let at = group.parallel as usize;
            if let Some(sum) = cost.crossings.get_mut(at) {
                *sum += self.crossings(&members, group.goes_on);
            }
            let pairs = members.iter().enumerate().flat_map(|(place, a)| {
                let rest = members.get(place + 1..).unwrap_or_default().iter();
                rest.filter_map(|b| self.far.get(*a)?.get(*b))
            });
            if let Some(sum) = cost.distances.get_mut(at) {
                *sum += pairs.sum::<u32>();
            }
        }
        cost
    }

    fn crossings(&self, members: &[usize], goes_on: bool) -> u32 {
        let mut set = members.to_vec();
        set.sort_unstable();
        if let Some(known) = self.known.borrow().get(&(set.clone(), goes_on)) {
            return *known;
        }
        let gpus = set.iter().filter_map(|place| self.gpus.get(*place));
        let gpus: Vec<PciAddress> = gpus.copied().collect();
        let found = least_of(self.machine, &gpus, !goes_on);
        self.known.borrow_mut().insert((set, goes_on), found);
        found
    }

    /// The best order for `ranks` ranks: of orders that cost the same the one that is tried first, which begins in the order
    /// of the GPUs.
    pub fn best(&self, ranks: usize) -> Vec<usize> {
        let count = self.gpus.len();
        let ways = (count.saturating_sub(ranks) + 1..=count).try_fold(1usize, |ways, left| {
            ways.checked_mul(left).filter(|ways| *ways <= MOST_TRIED)
        });
        if ways.is_some() {
            return self.best_of_all(ranks);
        }
        self.by_exchanges(ranks)
    }

    /// An order for `ranks` ranks that no exchange of two GPUs or three makes better: for callers that cannot wait until all
    /// orders are tried.
    pub fn by_exchanges(&self, ranks: usize) -> Vec<usize> {
        let count = self.gpus.len();
        let plain: Vec<usize> = (0..count).collect();
        // GPUs that are near each other one behind the other.
        let mut chained: Vec<usize> = Vec::new();
        while chained.len() < count {
            let left = plain.iter().filter(|place| !chained.contains(place));
            let next = left.min_by_key(|place| {
                let far = |from: &usize| self.far.get(*from)?.get(**place).copied();
                (chained.last().and_then(far).unwrap_or(0), **place)
            });
            chained.extend(next);
        }
        let starts = [plain, chained].map(|start| self.improve(start, ranks));
        let mut best = starts.into_iter().min_by_key(|order| self.cost(order));
        if let Some(best) = &mut best {
            best.truncate(ranks);
        }
        best.unwrap_or_default()
    }

    fn best_of_all(&self, ranks: usize) -> Vec<usize> {
        let mut best: Option<(Cost, Vec<usize>)> = None;
        let mut order = Vec::with_capacity(ranks);
        self.try_all(&mut order, ranks, &mut best);
        best.map(|(_, order)| order).unwrap_or_default()
    }

    fn try_all(&self, order: &mut Vec<usize>, ranks: usize, best: &mut Option<(Cost, Vec<usize>)>) {
        if order.len() == ranks {
            let cost = self.cost(order);
            if best.as_ref().is_none_or(|(known, _)| cost < *known) {
                *best = Some((cost, order.clone()));
            }
            return;
        }
        for place in 0..self.gpus.len() {
            if !order.contains(&place) {
                order.push(place);
                self.try_all(order, ranks, best);
                order.pop();
            }
        }
    }

    /// Exchanges two GPUs, or three in a ring, as long as that makes the order better.
    fn improve(&self, mut order: Vec<usize>, ranks: usize) -> Vec<usize> {
        let cost = |order: &[usize]| self.cost(order.get(..ranks).unwrap_or(order));
        let mut known = cost(&order);
        loop {
            let better = self.exchanges(&order).find_map(|other| {
                let own = cost(&other);
                (own < known).then_some((own, other))
            });
            match better {
                Some((own, other)) => (known, order) = (own, other),
                None => return order,
            }
        }
    }

    fn exchanges<'o>(&self, order: &'o [usize]) -> impl Iterator<Item = Vec<usize>> + 'o {
        let count = order.len();
        let pairs = (0..count).flat_map(move |a| (a + 1..count).map(move |b| (a, b)));
        let twos = pairs.clone().map(move |(a, b)| {
            let mut other = order.to_vec();
            other.swap(a, b);
            other
        });
        let threes = pairs.flat_map(move |(a, b)| {
            (b + 1..count).flat_map(move |c| {
                [(b, c), (c, b)].map(|(first, second)| {
                    let mut other = order.to_vec();
                    other.swap(a, first);
                    other.swap(first, second);
                    other
                })
            })
        });
        twos.chain(threes)
    }

    /// How many crossings NCCL makes in its ring of each group, by [`PARALLELS`], and how many groups cross; of the chain that the ring
    /// is here for groups that go on elsewhere.  `system` has the network devices of the job.
    ///
    /// None of a kind where a search gives nothing, a package is not known, or NCCL cuts the host for a group that goes on elsewhere:
    /// other hosts then stand between its parts.
    pub fn by_nccl(
        &self,
        system: &System,
        conditions: Conditions,
        searches: &Searches,
        order: &[usize],
    ) -> [Option<Crossing>; 3] {
        let system = with_links(system, self.machine);
        let mut all = [Some(Crossing::default()); 3];
        for group in &self.groups {
            let members = group.members.iter();
            let members = members.filter_map(|rank| self.gpus.get(*order.get(*rank)?));
            let ranks: Vec<String> = members.map(ToString::to_string).collect();
            let model = Model::of(&system, &ranks, conditions);
            let crossings = if group.goes_on {
                self.of_chain(&model, searches)
            } else {
                self.of_ring(&model, conditions, searches)
            };
            if let Some(own) = all.get_mut(group.parallel as usize) {
                *own = own.zip(crossings).map(|(sum, crossings)| Crossing {
                    groups: sum.groups + 1,
                    crossing_groups: sum.crossing_groups + u32::from(crossings > 0),
                    crossings: sum.crossings + crossings,
                });
            }
        }
        all
    }

    fn of_chain(&self, model: &Model, searches: &Searches) -> Option<u32> {
        let parts = model.parts();
        let [part] = parts.as_slice() else {
            return None;
        };
        let search = searches.search(&part.graph, &part.paths, true)?;
        most_crossings(self.machine, model, &search.ring, false)
    }

    fn of_ring(&self, model: &Model, conditions: Conditions, searches: &Searches) -> Option<u32> {
        let by_network = conditions.rules.parts_of_host_join_over_network;
        let route = Route::of(model, by_network, searches)?;
        let package = |rank: usize| {
            let gpu = model.gpus.iter().find(|gpu| gpu.rank == rank)?;
            let gpu = self.machine.gpu(gpu.busid.parse().ok()?)?;
            gpu.locality.package
        };
        u32::try_from(route::most_crossings(&route.rings, package)).ok()
    }
}

/// How NCCL's rings of groups of one kind cross between packages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Crossing {
    /// How many groups there are.
    pub groups: u32,
    /// How many of them have a ring that crosses.
    pub crossing_groups: u32,
    /// How often all their rings cross.
    pub crossings: u32,
}

/// The most GPUs of a group whose rings are all looked at where NVLinks join some that are at different packages.
const MOST_JOINED: usize = 8;

/// The fewest crossings of a ring over `gpus`, or of a chain.
///
/// Without an NVLink from package to package that is one for each package.  Where there are some, a ring may lead over as many as fit:
/// all are tried, of few GPUs.  Of more it is what [`fewest`] says, which no ring goes below.
fn least_of(machine: &Machine, gpus: &[PciAddress], closes: bool) -> u32 {
    let packages = packages_of(machine, gpus.iter().copied());
    let bound = fewest(groups(machine, &packages, &packages), closes);
    let (mut is_joined, mut is_apart) = (false, false);
    for (a, own) in &packages {
        for (b, _) in packages.iter().filter(|(_, other)| *other != own) {
            *(if are_linked(machine, *a, *b) {
                &mut is_joined
            } else {
                &mut is_apart
            }) = true;
        }
    }
    if !is_joined || !is_apart || gpus.len() > MOST_JOINED {
        return bound;
    }
    let cost = |a: &PciAddress, b: &PciAddress| {
        u32::from(packages.get(a) != packages.get(b) && !are_linked(machine, *a, *b))
    };
    // A ring begins at the first, a chain anywhere.
    let (start, rest) = match gpus.split_first() {
        Some((first, rest)) if closes => (Some(first), rest),
        _ => (None, gpus),
    };
    let to_start = |gpu: &PciAddress| start.map_or(0, |start| cost(start, gpu));
    // The cheapest way through each set of GPUs, by the one at which it ends (Held and Karp).
    let mut ways: BTreeMap<(usize, usize), u32> = BTreeMap::new();
    let whole = (1usize << rest.len()) - 1;
    for set in 1..=whole {
        for (end, gpu) in rest.iter().enumerate() {
            if set >> end & 1 == 0 {
                continue;
            }
            let before = set & !(1 << end);
            let through = rest
                .iter()
                .enumerate()
                .filter_map(|(place, other)| Some(ways.get(&(before, place))? + cost(other, gpu)));
            let least = if before == 0 {
                Some(to_start(gpu))
            } else {
                through.min()
            };
            ways.extend(least.map(|least| ((set, end), least)));
        }
    }
    let ends = rest.iter().enumerate();
    ends.filter_map(|(end, gpu)| Some(ways.get(&(whole, end))? + to_start(gpu)))
        .min()
        .unwrap_or(bound)
}

/// How far two GPUs are from each other: 0 over NVLink, else by what lies between.
fn distance(machine: &Machine, a: PciAddress, b: PciAddress) -> u32 {
    if a == b || are_linked(machine, a, b) {
        return 0;
    }
    match pci_path(machine, a, b) {
        Some(PciPath::Pix) => 1,
        Some(PciPath::Pxb) => 2,
        Some(PciPath::Phb) => 3,
        Some(PciPath::Node) => 4,
        Some(PciPath::Sys) => 5,
        None => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::{Form, emit};
    use crate::reader;
    use crate::testing::*;

    fn layout(tensor: usize, data: usize, pipeline: usize) -> Layout {
        Layout {
            tensor,
            data,
            pipeline,
            numbering: Numbering::TensorDataPipeline,
        }
    }

    fn members(layout: Layout, here: usize, hosts: usize, parallel: Parallel) -> Vec<Vec<usize>> {
        let groups = layout.groups(here, hosts).into_iter();
        let own = groups.filter(|group| group.parallel == parallel);
        own.map(|group| group.members).collect()
    }

    #[test]
    fn ranks_are_numbered_as_megatron_and_vllm_do() {
        let eight = layout(2, 2, 2);
        let of = |parallel| members(eight, 8, 1, parallel);
        assert_eq!(of(Parallel::Tensor), [[0, 1], [2, 3], [4, 5], [6, 7]]);
        assert_eq!(of(Parallel::Data), [[0, 2], [1, 3], [4, 6], [5, 7]]);
        assert_eq!(of(Parallel::Pipeline), [[0, 4], [1, 5], [2, 6], [3, 7]]);
        let vllm = Layout {
            numbering: Numbering::TensorPipelineData,
            ..eight
        };
        let of = |parallel| members(vllm, 8, 1, parallel);
        assert_eq!(of(Parallel::Pipeline), [[0, 2], [1, 3], [4, 6], [5, 7]]);
        assert_eq!(of(Parallel::Data), [[0, 4], [1, 5], [2, 6], [3, 7]]);
        // Pipelines over hosts have one rank on each.
        assert!(members(layout(2, 4, 2), 8, 2, Parallel::Pipeline).is_empty());
        let data = layout(4, 4, 1).groups(8, 2);
        let data = data.iter().find(|group| group.parallel == Parallel::Data);
        assert!(data.unwrap().goes_on);
        assert_eq!(layout(usize::MAX, 2, 1).ranks(), None);
    }

    /// GPUs of two packages by turns in the order of their addresses.
    fn mixed() -> Machine {
        let mut machine = with_switches(machine(2, 1, 8), 4);
        for (number, gpu) in (0u32..).zip(&mut machine.gpus) {
            let package = number % 2;
            gpu.locality.package = Some(package);
            gpu.locality.numa_nodes = Some(topology::set::NodeSet::single(package));
        }
        machine
    }

    fn gpus_of(machine: &Machine) -> Vec<PciAddress> {
        machine.gpus.iter().map(|gpu| gpu.pci).collect()
    }

    fn layouts(count: usize) -> Vec<Layout> {
        let divisors = |of: usize| (1..=of).filter(move |own| of.is_multiple_of(*own));
        let mut all = Vec::new();
        for tensor in divisors(count) {
            for data in divisors(count / tensor) {
                for numbering in [Numbering::TensorDataPipeline, Numbering::TensorPipelineData] {
                    all.push(Layout {
                        tensor,
                        data,
                        pipeline: count / tensor / data,
                        numbering,
                    });
                }
            }
        }
        all
    }

    #[test]
    fn tensor_parallel_groups_stay_on_a_package() {
        let machine = mixed();
        let placing = Placing::new(&machine, gpus_of(&machine), layout(4, 2, 1).groups(8, 1));
        let plain: Vec<usize> = (0..8).collect();
        assert_eq!(placing.cost(&plain).crossings[0], 4);
        let best = placing.best(8);
        assert_eq!(placing.cost(&best).crossings[0], 0);
        assert_eq!(best, [0, 2, 4, 6, 1, 3, 5, 7]);
    }

    #[test]
    fn exchanges_come_as_far_as_trying_all() {
        for machine in [
            mixed(),
            with_switches(machine(2, 2, 6), 2),
            without_switches(machine(3, 1, 6), 2, true),
        ] {
            let gpus = gpus_of(&machine);
            let count = gpus.len().min(6);
            for layout in layouts(count) {
                let groups = layout.groups(count, 1);
                let placing = Placing::new(&machine, gpus[..count].to_vec(), groups);
                let best = placing.cost(&placing.best_of_all(count));
                let near = (0..count).collect();
                let found = placing.cost(&placing.improve(near, count));
                assert_eq!(found, best, "{layout:?}");
            }
        }
    }

    #[test]
    fn nccls_own_rings_cross_as_often_as_is_said() {
        let machine = with_switches(machine(2, 1, 8), 2);
        let xml = emit(&machine, Form::SingleHost).unwrap().xml;
        let system = reader::parse(&xml).unwrap();
        let searches = Searches::default();
        for layout in layouts(4) {
            let placing = Placing::new(&machine, gpus_of(&machine), layout.groups(4, 1));
            let best = placing.best(4);
            let conditions = Conditions::of_capability(80);
            let found = placing.by_nccl(&system, conditions, &searches, &best);
            let found = found.map(|own| own.unwrap().crossings);
            assert_eq!(found, placing.cost(&best).crossings, "{layout:?}");
        }
    }

    /// Brute force: the fewest crossings of any ring, or chain, over the GPUs.
    fn least_by_trying(machine: &Machine, gpus: &[PciAddress], closes: bool) -> u32 {
        fn orders(rest: &[PciAddress]) -> Vec<Vec<PciAddress>> {
            if rest.is_empty() {
                return vec![Vec::new()];
            }
            let first = |place: usize| {
                let mut others = rest.to_vec();
                let own = others.remove(place);
                let rest = orders(&others).into_iter();
                rest.map(move |order| [vec![own], order].concat())
            };
            (0..rest.len()).flat_map(first).collect()
        }
        let count = if closes {
            crate::crossings::ring_crossings
        } else {
            crate::crossings::chain_crossings
        };
        let all = orders(gpus).into_iter();
        all.map(|order| count(machine, &order).unwrap())
            .min()
            .unwrap()
    }

    #[test]
    fn nvlinks_between_packages_save_no_more_crossings_than_a_ring_can_use() {
        let mut seed = 20_261_130u64;
        let mut random = move |below: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % below
        };
        let mut below_trying = 0;
        for _ in 0..150 {
            let packages = u32::try_from(2 + random(2)).unwrap();
            let mut machine = with_switches(machine(packages, 1, 6), 2);
            let gpus = gpus_of(&machine);
            for _ in 0..random(6) {
                let (a, b) = (random(gpus.len()), random(gpus.len()));
                if a != b {
                    machine.gpus[a].nvlinks.insert(gpus[b], 2);
                    machine.gpus[b].nvlinks.insert(gpus[a], 2);
                }
            }
            let members: Vec<PciAddress> = gpus
                .iter()
                .filter(|_| random(4) > 0)
                .take(6)
                .copied()
                .collect();
            if members.len() < 2 {
                continue;
            }
            for closes in [true, false] {
                let least = least_by_trying(&machine, &members, closes);
                assert_eq!(least_of(&machine, &members, closes), least, "{machine:?}");
                let packages = packages_of(&machine, members.iter().copied());
                let bound = fewest(groups(&machine, &packages, &packages), closes);
                below_trying += u32::from(bound < least);
            }
        }
        // Else nothing was tried.
        assert!(below_trying > 10, "{below_trying}");
    }
}
