//! What is left of a machine's links in one number that is the same for places that are alike.
//!
//! GPUs below one switch, switches below one CPU and the network devices of like adapters mostly differ in nothing but their
//! numbers.  What leads nowhere from one of them leads nowhere from another, after as many steps; so what a search knows of
//! the one it knows of the other.  A CPU is like no other.
//!
//! The links of a machine without NVLink and C2C are trees below the CPUs.  Each place has a number of its own, which changes
//! with what is taken of the links to the place above it, and the number of a place has a share from each place below that
//! does not tell which of several alike it came from.

use std::collections::HashMap;

use super::super::nodes::{Graph, LinkType, NodeId, PlaceKind};
use super::super::paths::Paths;
use super::known::{mixed, spread};
use super::links::{PARTS, Way};

/// What can be said of a place, as factors of its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A GPU is in a channel.
    Used,
    /// It is the last one of the channel so far.
    Last,
    /// It is the first one.
    First,
    /// A channel comes in by this network device.
    Into,
    /// It went out by this one.
    Out,
    /// The channel before came in by it.
    BeforeInto,
    /// The channel before went out by it.
    BeforeOut,
    /// So much of its bandwidth is taken, in GB/s.
    Charged,
}

impl Mark {
    fn factor(self) -> u64 {
        spread(self as usize + (1 << 20)) | 1
    }
}

/// A place in its tree.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The place above; one that does not exist above a CPU.
    above: usize,
    number: u64,
    /// Its share in the number of the place above.
    share: u64,
}

/// A place whose number a way changes.
#[derive(Debug, Clone, Copy)]
struct Rung {
    place: usize,
    /// Which rung of the way the place above is; none above a CPU.
    above: Option<usize>,
    /// The sums of the factors of its links on the way, by the part of a bandwidth that they take.
    factors: [u64; PARTS],
}

/// What was changed, to be as it was when it is given back: what was taken last first.
#[derive(Debug, Clone, Copy)]
enum Undo {
    /// A place, as it was.
    Place(usize, Place),
    /// The total as it was before all that follows.
    Total(u64),
}

impl Place {
    /// Adds to its number; gives by how much its share becomes more.
    fn change(&mut self, more: u64) -> u64 {
        self.number = self.number.wrapping_add(more);
        let before = std::mem::replace(&mut self.share, mixed(self.number));
        self.share.wrapping_sub(before)
    }
}

/// The trees of a machine.
#[derive(Debug)]
pub(super) struct Twins {
    places: Vec<Place>,
    /// As they were before anything was taken.
    untouched: Vec<Place>,
    /// What all places come to.
    total: u64,
    /// The place that each link belongs to, and its factor there.
    links: Vec<(usize, u64)>,
    /// What each way changes, places before those above them, and where each way begins; one more than there are ways.
    rungs: Vec<Rung>,
    starts: Vec<usize>,
    /// What comes from the rungs below, of the present way.
    pending: Vec<u64>,
    undo: Vec<Undo>,
    gpus: Vec<NodeId>,
    nets: Vec<NodeId>,
}

/// Above a CPU.
const NOWHERE: usize = usize::MAX;
/// The factors of the links to the place above and from there.
const UP: usize = 1 << 21;
const DOWN: usize = 1 << 22;

impl Twins {
    /// None where the links are no trees, and where places that look alike have ways to others that are not.
    pub(super) fn of(graph: &Graph, paths: &Paths, ways: &[Way], nets: usize) -> Option<Self> {
        let above = above(graph)?;
        let mut links = Vec::new();
        for id in 0..graph.len() {
            for link in &graph.node(id)?.links {
                links.push(match link.kind {
                    LinkType::Sys => (id, spread(links.len()) | 1),
                    LinkType::Local
                    | LinkType::NvLink
                    | LinkType::C2c
                    | LinkType::Pci
                    | LinkType::Net => {
                        if above.get(id) == Some(&link.to) {
                            (id, spread(UP) | 1)
                        } else {
                            (link.to, spread(DOWN) | 1)
                        }
                    }
                });
            }
        }
        let place = |above: &usize| Place {
            above: *above,
            number: 0,
            share: mixed(0),
        };
        let mut twins = Self {
            places: above.iter().map(place).collect(),
            untouched: Vec::new(),
            total: 0,
            links,
            rungs: Vec::new(),
            starts: vec![0],
            pending: Vec::new(),
            undo: Vec::new(),
            gpus: paths.gpus().to_vec(),
            nets: paths.nets().iter().take(nets).copied().collect(),
        };
        for (id, above) in above.iter().enumerate() {
            let label = label(graph, id, *above)?;
            twins.add(id, label);
        }
        twins.untouched.clone_from(&twins.places);
        twins.is_true_of(ways).then_some(twins)
    }

    /// Nothing is taken, and nothing is marked.
    pub(super) fn begin(&mut self) {
        self.places.clone_from(&self.untouched);
        self.total = 0;
        self.undo.clear();
    }

    /// Makes a way ready, after those before it, by the links that it takes and which part of a bandwidth it takes of each.
    pub(super) fn add_way(&mut self, taken: impl Iterator<Item = (usize, usize)>) {
        let mut factors: Vec<(usize, [u64; PARTS])> = Vec::new();
        for (link, part) in taken {
            let Some((mut place, factor)) = self.links.get(link).copied() else {
                continue;
            };
            let mut own = Some((part, factor));
            // And all above it.
            while place < self.places.len() {
                let known = factors.iter().position(|(known, _)| *known == place);
                let at = known.unwrap_or_else(|| {
                    factors.push((place, [0; PARTS]));
                    factors.len() - 1
                });
                if let Some((part, factor)) = own.take()
                    && let Some(sum) = factors.get_mut(at).and_then(|(_, all)| all.get_mut(part))
                {
                    *sum = sum.wrapping_add(factor);
                }
                place = self.above(place);
            }
        }
        factors.sort_by_key(|(place, _)| std::cmp::Reverse(self.depth(*place)));
        let rung = |(place, own): &(usize, [u64; PARTS])| {
            let above = self.above(*place);
            Rung {
                place: *place,
                above: factors.iter().position(|(other, _)| *other == above),
                factors: *own,
            }
        };
        let rungs: Vec<Rung> = factors.iter().map(rung).collect();
        self.rungs.extend(rungs);
        self.starts.push(self.rungs.len());
    }

    /// So much of the links of a way was taken, in thousandths of GB/s by part.
    pub(super) fn take(&mut self, way: usize, amounts: &[i32; PARTS]) {
        self.undo.push(Undo::Total(self.total));
        let (Some(start), Some(end)) = (self.starts.get(way), self.starts.get(way + 1)) else {
            return;
        };
        let rungs = self.rungs.get(*start..*end).unwrap_or_default();
        self.pending.clear();
        self.pending.resize(rungs.len(), 0);
        for (number, rung) in rungs.iter().enumerate() {
            let below = self.pending.get(number).copied().unwrap_or_default();
            let parts = rung.factors.iter().zip(amounts);
            let change = parts.fold(below, |sum, (factor, amount)| {
                sum.wrapping_add(factor.wrapping_mul(i64::from(*amount).cast_unsigned()))
            });
            let Some(place) = self.places.get_mut(rung.place) else {
                continue;
            };
            self.undo.push(Undo::Place(rung.place, *place));
            let change = place.change(change);
            match rung.above {
                Some(above) => {
                    if let Some(pending) = self.pending.get_mut(above) {
                        *pending = pending.wrapping_add(change);
                    }
                }
                None => self.total = self.total.wrapping_add(change),
            }
        }
    }

    /// All is as it was before what was taken last, or marked for a while, and is not given back yet.
    pub(super) fn give_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Place(id, before) => {
                    if let Some(place) = self.places.get_mut(id) {
                        *place = before;
                    }
                }
                Undo::Total(before) => {
                    self.total = before;
                    return;
                }
            }
        }
    }

    /// Whatever is marked until it is given back.
    pub(super) fn for_a_while(&mut self) {
        self.undo.push(Undo::Total(self.total));
    }

    /// Marks a GPU, until it is given back.
    pub(super) fn mark_gpu(&mut self, gpu: usize, mark: Mark) {
        if let Some(place) = self.gpus.get(gpu).copied() {
            self.mark(place, mark.factor());
        }
    }

    /// The same of a network device.
    pub(super) fn mark_net_for_a_while(&mut self, net: usize, mark: Mark) {
        if let Some(place) = self.nets.get(net).copied() {
            self.mark(place, mark.factor());
        }
    }

    fn mark(&mut self, mut id: usize, mut change: u64) {
        while let Some(place) = self.places.get_mut(id) {
            self.undo.push(Undo::Place(id, *place));
            change = place.change(change);
            id = place.above;
        }
        self.total = self.total.wrapping_add(change);
    }

    /// Marks a network device so many times more.
    pub(super) fn mark_net(&mut self, net: usize, mark: Mark, times: i64) {
        if let Some(place) = self.nets.get(net).copied() {
            self.add(place, mark.factor().wrapping_mul(times.cast_unsigned()));
        }
    }

    /// All that is taken and marked, as one number.
    pub(super) fn as_number(&self) -> u64 {
        self.total
    }

    fn add(&mut self, mut place: usize, mut change: u64) {
        while let Some(own) = self.places.get_mut(place) {
            change = own.change(change);
            place = own.above;
        }
        self.total = self.total.wrapping_add(change);
    }

    /// Whether ways between ends that look alike are alike.
    fn is_true_of(&self, ways: &[Way]) -> bool {
        let ends: Vec<NodeId> = self.gpus.iter().chain(&self.nets).copied().collect();
        let looks: Vec<u64> = (0..self.places.len()).map(|id| self.look(id)).collect();
        let look = |id: usize| looks.get(id).copied().unwrap_or_default();
        let mut known: HashMap<u64, u64> = HashMap::new();
        for (place, way) in ways.iter().enumerate() {
            let both = (ends.get(place / ends.len()), ends.get(place % ends.len()));
            let (Some(from), Some(to)) = both else {
                return false;
            };
            let mut pair = Number::default();
            pair.add(look(*from));
            pair.add(look(*to));
            pair.add(self.common(*from, *to) as u64);
            let mut own = Number::default();
            own.add(way.kind.map_or(0, |kind| kind as u64 + 1));
            own.add(u64::from(way.intel));
            own.add(u64::from(way.bandwidth.to_bits()));
            for step in &way.steps {
                let Some((at, factor)) = self.links.get(step.link).copied() else {
                    return false;
                };
                own.add(look(at) ^ factor);
                own.add(u64::from(step.pci) | u64::from(step.back.is_some()) << 1);
            }
            if *known.entry(pair.0).or_insert(own.0) != own.0 {
                return false;
            }
        }
        // What comes in by a network device goes out by it over as near a path.
        let gpus = self.gpus.len();
        let kind = |from: usize, to: usize| {
            let way = ways.get(from * ends.len() + to);
            way.and_then(|way| way.kind)
        };
        (0..gpus).all(|gpu| (gpus..ends.len()).all(|net| kind(gpu, net) == kind(net, gpu)))
    }

    /// What a place looks like from the CPU that it is below.
    fn look(&self, mut id: usize) -> u64 {
        let mut look = Number::default();
        while let Some(place) = self.places.get(id) {
            look.add(place.number);
            id = place.above;
        }
        look.0
    }

    /// How many places are above both, each being above itself.
    fn common(&self, mut a: usize, mut b: usize) -> usize {
        let (mut to_a, mut to_b) = (self.depth(a), self.depth(b));
        while a != b && to_a + to_b > 0 {
            if to_a >= to_b {
                a = self.above(a);
                to_a -= 1;
            } else {
                b = self.above(b);
                to_b -= 1;
            }
        }
        to_a
    }

    fn above(&self, id: usize) -> usize {
        self.places.get(id).map_or(NOWHERE, |place| place.above)
    }

    fn depth(&self, mut id: usize) -> usize {
        let mut depth = 0;
        while let Some(place) = self.places.get(id) {
            depth += 1;
            id = place.above;
        }
        depth
    }
}

/// Several numbers in one.
#[derive(Debug, Clone, Copy, Default)]
struct Number(u64);

impl Number {
    fn add(&mut self, number: u64) {
        self.0 = mixed(self.0.rotate_left(7) ^ number.wrapping_add(0x9e37_79b9));
    }
}

/// The place above each one; none where the links are no trees below the CPUs.
fn above(graph: &Graph) -> Option<Vec<usize>> {
    let mut above = vec![NOWHERE; graph.len()];
    let mut places: Vec<NodeId> = graph.of_kind(PlaceKind::Cpu).collect();
    let mut is_met = vec![false; graph.len()];
    for cpu in &places {
        *is_met.get_mut(*cpu)? = true;
    }
    while let Some(id) = places.pop() {
        for link in &graph.node(id)?.links {
            match link.kind {
                LinkType::Sys => continue,
                LinkType::NvLink | LinkType::C2c => return None,
                // Between two switches.
                LinkType::Local if graph.node(link.to)?.kind == PlaceKind::Pci => return None,
                LinkType::Local | LinkType::Pci | LinkType::Net => {}
            }
            if above.get(id) == Some(&link.to) {
                continue;
            }
            if std::mem::replace(is_met.get_mut(link.to)?, true) {
                return None;
            }
            *above.get_mut(link.to)? = id;
            places.push(link.to);
        }
    }
    let has_links = |id: &usize| graph.node(*id).is_some_and(|node| !node.links.is_empty());
    let mut linked = (0..graph.len()).filter(has_links);
    linked
        .all(|id| is_met.get(id) == Some(&true))
        .then_some(above)
}

/// What tells a place from others, besides what is below it.
fn label(graph: &Graph, id: NodeId, above: NodeId) -> Option<u64> {
    let node = graph.node(id)?;
    let mut label = Number::default();
    label.add(node.kind as u64);
    if above == NOWHERE {
        label.add(id as u64);
        return Some(label.0);
    }
    label.add(u64::from(node.compute_capability));
    label.add(u64::from(node.gdr));
    let mut there = node.links.iter().filter(|link| link.to == above);
    let mut back = graph.node(above)?.links.iter();
    let links = [there.next(), back.find(|link| link.to == id)];
    for link in links {
        label.add(u64::from(link?.bandwidth_gb_s.to_bits()));
    }
    if let Some(net) = &node.net {
        label.add(u64::from(net.bandwidth_gb_s.to_bits()));
        label.add(u64::from(net.gdr));
        let others = graph.of_kind(PlaceKind::Net).filter(|other| *other != id);
        let mut others = others.filter_map(|other| graph.node(other)?.net.as_ref());
        let shares_port = others.any(|other| (other.asic, other.port) == (net.asic, net.port));
        if shares_port || net.rail.is_some() || net.plane.is_some() {
            label.add(id as u64 + 1);
        }
    }
    Some(label.0)
}
