//! The paths between GPUs, and between GPUs and network devices (`paths.cc`).

use std::borrow::Cow;

use topology::machine::Machine;

use super::nodes::{Graph, LinkType, NodeId, PlaceKind};
use super::path_type::PathType;
use crate::processor::{LOCAL_BANDWIDTH_GB_S, Processor};
use crate::rules::Rules;

/// The most channels of a communicator (`MAXCHANNELS`).
const MAX_CHANNELS: usize = 64;

/// What the job and its network decide about paths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// The farthest path type that the job allows P2P over (`NCCL_P2P_LEVEL`); [`PathType::Loc`] is no P2P at all,
    /// none is NCCL's own choice.
    pub p2p_limit: Option<PathType>,
    /// Whether NCCL keeps a host whole (`NCCL_NET_DISABLE_INTRA=1`).
    pub is_whole: bool,
    /// Whether there is no shared memory between ranks (`NCCL_SHM_DISABLE=1`).
    pub without_shm: bool,
}

impl Reach {
    /// Whether NVLinks carry nothing.
    pub fn leaves_nvlinks(&self) -> bool {
        self.p2p_limit == Some(PathType::Loc)
    }

    /// The machine as data goes through it: where the job allows no P2P, NVLinks carry nothing, and whether there are
    /// any does not matter (`graph/paths.cc` `ncclTopoCheckP2p`).
    pub fn carrying<'m>(&self, machine: &'m Machine) -> Cow<'m, Machine> {
        if !self.leaves_nvlinks() {
            return Cow::Borrowed(machine);
        }
        let mut machine = machine.clone();
        machine.nvlink_visible = true;
        for gpu in &mut machine.gpus {
            gpu.nvlinks.clear();
        }
        Cow::Owned(machine)
    }
}

/// A path.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    /// Its type.
    pub kind: PathType,
    /// What it carries, in GB/s, alone.
    pub bandwidth_gb_s: f32,
    /// The links on it.
    pub hops: Vec<Hop>,
}

/// A link of a path: that at `link` of the place `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// The place it leaves.
    pub from: NodeId,
    /// Its index there.
    pub link: usize,
}

impl Path {
    fn none() -> Self {
        Self {
            kind: PathType::Dis,
            bandwidth_gb_s: 0.0,
            hops: Vec::new(),
        }
    }

    /// This path, and then `next` from its end (`addInterStep`).
    fn then(&self, next: &Self, rules: &Rules) -> Self {
        let mut hops = self.hops.clone();
        hops.extend(&next.hops);
        Self {
            kind: merged(self.kind, next.kind, rules),
            bandwidth_gb_s: self.bandwidth_gb_s.min(next.bandwidth_gb_s),
            hops,
        }
    }
}

/// The type of two paths after one another (`mergePathType`).
fn merged(a: PathType, b: PathType, rules: &Rules) -> PathType {
    let (near, far) = (a.min(b), a.max(b));
    let over_c2c = rules.c2c_and_phb_are_p2c && (near, far) == (PathType::C2c, PathType::Phb);
    if over_c2c { PathType::P2c } else { far }
}

/// Rows of paths: from each place of one kind to each of another.
type Rows = Vec<Vec<Path>>;

fn cell(rows: &Rows, from: usize, to: usize) -> Option<&Path> {
    rows.get(from)?.get(to)
}

/// The paths between all GPUs of a graph, and between these and the network devices.
#[derive(Debug, Clone, PartialEq)]
pub struct Paths {
    gpus: Vec<NodeId>,
    nets: Vec<NodeId>,
    /// The widest path between two devices, in GB/s.
    pub(super) widest_gb_s: f32,
    /// The widest path from a device to a network device, in GB/s.
    pub(super) widest_to_net_gb_s: f32,
    between: Rows,
    to_net: Rows,
    from_net: Rows,
    /// The GPU through which each network device is used, by the places in [`Paths::gpus`].
    net_gpu: Vec<Option<usize>>,
    /// The network devices nearest to each GPU, and which of them it uses on which channel.
    local_nets: Vec<Vec<usize>>,
}

impl Paths {
    /// Computes them (`ncclTopoComputePaths`).
    pub fn of(graph: &Graph, reach: Reach) -> Self {
        Work::of(graph).finish(reach)
    }

    /// The GPUs, in the order of the graph.
    pub fn gpus(&self) -> &[NodeId] {
        &self.gpus
    }

    /// The network devices, in the order of the graph.
    pub fn nets(&self) -> &[NodeId] {
        &self.nets
    }

    /// The path between two GPUs by their places in [`Paths::gpus`].
    pub fn between(&self, from: usize, to: usize) -> Option<&Path> {
        cell(&self.between, from, to)
    }

    /// The path from a GPU to a network device, by their places in [`Paths::gpus`] and [`Paths::nets`].
    pub fn to_net(&self, gpu: usize, net: usize) -> Option<&Path> {
        cell(&self.to_net, gpu, net)
    }

    /// The path from a network device to a GPU.
    pub fn from_net(&self, net: usize, gpu: usize) -> Option<&Path> {
        cell(&self.from_net, net, gpu)
    }

    /// The GPU through which a network device is used (`ncclTopoGetLocalGpu`); none where no GPU uses it.
    pub fn gpu_of_net(&self, net: usize) -> Option<usize> {
        self.net_gpu.get(net).copied().flatten()
    }

    /// The network devices that a GPU uses, by channel (`ncclTopoGetLocalNet`), each once; empty where there is none.
    pub fn nets_of_gpu(&self, gpu: usize) -> &[usize] {
        self.local_nets.get(gpu).map_or(&[], Vec::as_slice)
    }

    /// The GPUs nearest to a network device and the type of the path to them (`ncclTopoGetLocal`).
    pub(super) fn gpus_near_net(&self, net: usize) -> (Vec<usize>, PathType) {
        local(self.from_net.get(net).map_or(&[], Vec::as_slice))
    }

    /// The parts into which NCCL cuts the host, each the places of its GPUs: those that only the network joins are in
    /// different ones (`ncclTopoTrimSystem`).
    pub fn parts(&self) -> Vec<Vec<usize>> {
        let mut domains: Vec<usize> = Vec::new();
        for gpu in 0..self.gpus.len() {
            let joined = domains.iter().enumerate().filter(|(other, _)| {
                self.between(gpu, *other)
                    .is_some_and(|path| path.kind < PathType::Net)
            });
            let own = joined.map(|(_, domain)| *domain).min();
            domains.push(own.map_or(gpu, |own| own.min(gpu)));
        }
        let mut parts: Vec<(usize, Vec<usize>)> = Vec::new();
        for (gpu, domain) in domains.into_iter().enumerate() {
            match parts.iter_mut().find(|(own, _)| *own == domain) {
                Some((_, part)) => part.push(gpu),
                None => parts.push((domain, vec![gpu])),
            }
        }
        parts.into_iter().map(|(_, part)| part).collect()
    }
}

/// The widest of paths, of the nearest type among these: their places, and that type (`ncclTopoGetLocal`).
#[expect(
    clippy::float_cmp,
    reason = "NCCL compares the same values for equality"
)]
fn local(paths: &[Path]) -> (Vec<usize>, PathType) {
    let (mut kind, mut bandwidth) = (PathType::Dis, 0.0_f32);
    let mut places = Vec::new();
    for (place, path) in paths.iter().enumerate() {
        let wider = path.bandwidth_gb_s > bandwidth;
        let same = path.bandwidth_gb_s == bandwidth;
        if wider || (same && path.kind < kind) {
            (kind, bandwidth) = (path.kind, path.bandwidth_gb_s);
            places.clear();
        }
        if path.bandwidth_gb_s == bandwidth && path.kind == kind {
            places.push(place);
        }
    }
    (places, kind)
}

/// Paths while they are computed.
struct Work<'g> {
    graph: &'g Graph,
    gpus: Vec<NodeId>,
    nets: Vec<NodeId>,
    /// The paths from each GPU to the CPUs, and from each network device; and those back.
    gpu_cpus: Rows,
    net_cpus: Rows,
    cpu_gpus: Rows,
    cpu_nets: Rows,
    /// The CPU of each GPU.
    own_cpus: Vec<Option<usize>>,
    between: Rows,
    to_net: Rows,
    from_net: Rows,
    widest_to_net_gb_s: f32,
}

impl<'g> Work<'g> {
    /// All direct paths.
    fn of(graph: &'g Graph) -> Self {
        let of_kind = |kind| graph.of_kind(kind).collect::<Vec<NodeId>>();
        let (gpus, nets, cpus) = (
            of_kind(PlaceKind::Gpu),
            of_kind(PlaceKind::Net),
            of_kind(PlaceKind::Cpu),
        );
        let to = |targets: &[NodeId]| -> Vec<Vec<Path>> {
            targets.iter().map(|to| paths_to(graph, *to)).collect()
        };
        let rows = |from: &[NodeId], targets: &[Vec<Path>]| -> Rows {
            let row = |from: &NodeId| {
                let path = |target: &Vec<Path>| target.get(*from).cloned();
                let paths = targets
                    .iter()
                    .map(|target| path(target).unwrap_or_else(Path::none));
                paths.collect()
            };
            from.iter().map(row).collect()
        };
        let (to_gpus, mut to_nets, to_cpus) = (to(&gpus), to(&nets), paths_to_cpus(graph, &cpus));
        let number = |net: &NodeId| Some(graph.node(*net)?.net.as_ref()?.dev);
        for (place, paths) in to_nets.iter_mut().enumerate() {
            // Paths are kept by the device's number, so that to one that is there twice all lead to the first
            // (`ncclTopoSetPaths`, `ncclTopoIdToIndex`).
            let (before, rest) = nets.split_at(place);
            if before
                .iter()
                .map(number)
                .any(|one| Some(one) == rest.first().map(number))
            {
                paths.fill(Path::none());
            }
        }
        let gpu_cpus = rows(&gpus, &to_cpus);
        let own_cpus = gpu_cpus
            .iter()
            .map(|paths| own_cpu(paths, graph.rules()))
            .collect();
        let devices = of_kind(PlaceKind::Dev);
        let from_devices = rows(&devices, &to_nets);
        Self {
            graph,
            own_cpus,
            net_cpus: rows(&nets, &to_cpus),
            cpu_gpus: rows(&cpus, &to_gpus),
            cpu_nets: rows(&cpus, &to_nets),
            between: rows(&gpus, &to_gpus),
            to_net: rows(&gpus, &to_nets),
            from_net: rows(&nets, &to_gpus),
            gpu_cpus,
            widest_to_net_gb_s: widest_of(&from_devices),
            gpus,
            nets,
        }
    }

    fn finish(mut self, reach: Reach) -> Paths {
        let rules = self.graph.rules();
        let limit = reach.p2p_limit.unwrap_or_else(|| p2p_limit(self.graph));
        for to in 0..self.gpus.len() {
            for from in 0..self.gpus.len() {
                self.divert(from, to, limit);
            }
            for from in (0..self.gpus.len()).filter(|from| *from != to) {
                if self.goes_by_net(from, to, limit, reach)
                    && let Some(path) = cell_mut(&mut self.between, from, to)
                {
                    path.kind = PathType::Net;
                }
            }
        }
        self.update_net_paths();
        let widest_gb_s = if rules.gpus_have_devices {
            widest(self.graph)
        } else {
            widest_of(&self.between)
        };
        if !rules.gpus_have_devices {
            self.widest_to_net_gb_s = widest_of(&self.to_net);
        }
        let net_gpu = (0..self.nets.len()).map(|net| self.gpu_of_net(net));
        let local_nets = (0..self.gpus.len()).map(|gpu| self.nets_of_gpu(gpu));
        Paths {
            widest_gb_s,
            widest_to_net_gb_s: self.widest_to_net_gb_s,
            net_gpu: net_gpu.collect(),
            local_nets: local_nets.collect(),
            gpus: self.gpus,
            nets: self.nets,
            between: self.between,
            to_net: self.to_net,
            from_net: self.from_net,
        }
    }

    /// Sends a path that is farther than P2P goes through host memory at the receiving GPU's CPU.
    fn divert(&mut self, from: usize, to: usize, limit: PathType) {
        let direct = cell(&self.between, from, to);
        if direct.is_none_or(|path| path.kind <= limit) {
            return;
        }
        let Some(cpu) = self.own_cpus.get(to).copied().flatten() else {
            return;
        };
        let up = cell(&self.gpu_cpus, from, cpu);
        let down = cell(&self.cpu_gpus, cpu, to);
        if let Some((up, down)) = up.zip(down) {
            let diverted = up.then(down, self.graph.rules());
            if let Some(path) = cell_mut(&mut self.between, from, to) {
                *path = diverted;
            }
        }
    }

    /// Whether two GPUs are joined by the network alone: both have a network device below a switch of theirs that is
    /// faster than the path between them (`ncclTopoCheckNet`), or they are no peers and there is no shared memory.
    fn goes_by_net(&self, from: usize, to: usize, limit: PathType, reach: Reach) -> bool {
        let Some(path) = cell(&self.between, from, to) else {
            return false;
        };
        if reach.without_shm && path.kind > limit {
            return true;
        }
        if reach.is_whole {
            return false;
        }
        let near = |gpu: usize| {
            let paths = self.to_net.get(gpu).into_iter().flatten();
            let near = paths.filter(|path| path.kind <= PathType::Pxb);
            near.map(|path| path.bandwidth_gb_s).fold(0.0, f32::max)
        };
        near(from) > path.bandwidth_gb_s && near(to) > path.bandwidth_gb_s
    }

    /// Paths to network devices over C2C, through other GPUs, and through host memory.
    fn update_net_paths(&mut self) {
        let rules = self.graph.rules();
        for gpu in 0..self.gpus.len() {
            let Some(cpu) = self.own_cpus.get(gpu).copied().flatten() else {
                continue;
            };
            let (nets, _) = local(self.to_net.get(gpu).map_or(&[], Vec::as_slice));
            for net in nets {
                let kinds = cell(&self.gpu_cpus, gpu, cpu).zip(cell(&self.net_cpus, net, cpu));
                let over_c2c =
                    kinds.is_some_and(|(a, b)| merged(a.kind, b.kind, rules) == PathType::P2c);
                let ways = [
                    cell_mut(&mut self.to_net, gpu, net),
                    cell_mut(&mut self.from_net, net, gpu),
                ];
                for path in ways.into_iter().flatten().filter(|_| over_c2c) {
                    path.kind = path.kind.min(PathType::P2c);
                }
            }
        }
        for net in 0..self.nets.len() {
            for gpu in 0..self.gpus.len() {
                self.relay(gpu, net);
                let near =
                    cell(&self.to_net, gpu, net).is_some_and(|path| path.kind < PathType::Phb);
                if near && !self.has_gdr(gpu, net, false) {
                    self.divert_net(gpu, net);
                }
            }
        }
    }

    /// Takes another GPU as a relay to a network device, where NVLink leads to it (PXN).
    fn relay(&mut self, gpu: usize, net: usize) {
        let Some(peer) = self.gpu_of_net(net).filter(|peer| *peer != gpu) else {
            return;
        };
        let (Some(own), Some(peers), Some(over)) = (
            cell(&self.to_net, gpu, net),
            cell(&self.to_net, peer, net),
            cell(&self.between, peer, gpu),
        ) else {
            return;
        };
        let is_near = peers.kind <= PathType::P2c && over.kind <= PathType::Nvl;
        let is_better = peers.bandwidth_gb_s > own.bandwidth_gb_s || own.kind > PathType::Pxn;
        let may = !self.graph.rules().relays_need_gdr || self.has_gdr(peer, net, true);
        if !(is_near && is_better && may) {
            return;
        }
        let Some(there) = cell(&self.between, gpu, peer) else {
            return;
        };
        let mut relayed = there.then(peers, self.graph.rules());
        relayed.kind = PathType::Pxn;
        if let Some(path) = cell_mut(&mut self.to_net, gpu, net) {
            *path = relayed;
        }
    }

    /// Whether a network device reads and writes the memory of a GPU (`ncclTopoCheckGdr`); `sends` where it is to read.
    fn has_gdr(&self, gpu: usize, net: usize, sends: bool) -> bool {
        let gpu_node = self.gpus.get(gpu).and_then(|id| self.graph.node(*id));
        let net_node = self.nets.get(net).and_then(|id| self.graph.node(*id));
        let (Some(gpu_node), Some(own)) = (gpu_node, net_node.and_then(|node| node.net.as_ref()))
        else {
            return false;
        };
        if !own.gdr || !gpu_node.gdr {
            return false;
        }
        if sends && gpu_node.compute_capability < 80 && self.gpus.len() > 1 {
            let paths = self.between.get(gpu).into_iter().flatten();
            if !paths.into_iter().any(|path| path.kind == PathType::Nvl) {
                return false;
            }
        }
        let kind = |gpu| cell(&self.to_net, gpu, net).map(|path| path.kind);
        let distance = match kind(gpu) {
            Some(PathType::Pxn) => self.gpu_of_net(net).and_then(kind),
            other => other,
        };
        distance.is_some_and(|distance| distance <= PathType::P2c)
    }

    /// Sends both ways between a GPU and a network device through the GPU's CPU.
    fn divert_net(&mut self, gpu: usize, net: usize) {
        let rules = self.graph.rules();
        let Some(cpu) = self.own_cpus.get(gpu).copied().flatten() else {
            return;
        };
        let back = cell(&self.net_cpus, net, cpu).zip(cell(&self.cpu_gpus, cpu, gpu));
        let back = back.map(|(up, down)| up.then(down, rules));
        let there = cell(&self.gpu_cpus, gpu, cpu).zip(cell(&self.cpu_nets, cpu, net));
        let there = there.map(|(up, down)| up.then(down, rules));
        if let Some((path, new)) = cell_mut(&mut self.from_net, net, gpu).zip(back) {
            *path = new;
        }
        if let Some((path, new)) = cell_mut(&mut self.to_net, gpu, net).zip(there) {
            *path = new;
        }
    }

    /// The network devices that a GPU uses, by channel, each once.
    fn nets_of_gpu(&self, gpu: usize) -> Vec<usize> {
        let mut used = Vec::new();
        for channel in 0..MAX_CHANNELS {
            let Some(net) = self.net_of_channel(gpu, channel) else {
                break;
            };
            if used.first() == Some(&net) {
                break;
            }
            used.push(net);
        }
        used
    }

    /// The network device that a GPU uses on a channel (`ncclTopoGetLocalNet`).
    fn net_of_channel(&self, gpu: usize, channel: usize) -> Option<usize> {
        let (nets, _) = local(self.to_net.get(gpu)?);
        let first = nets.first()?;
        let (gpus, _) = local(self.from_net.get(*first)?);
        let share = nets.len().div_ceil(gpus.len().max(1)).max(1);
        let mut start = self.graph.node(*self.gpus.get(gpu)?)?.number;
        if self.graph.rules().nets_are_dealt_among_local_gpus {
            start %= gpus.len().max(1);
        }
        if nets.len().is_power_of_two() {
            start = mirrored(start, nets.len());
        }
        nets.get((start + channel % share) % nets.len()).copied()
    }

    /// The GPU through which a network device is used (`ncclTopoGetLocalGpu`).
    fn gpu_of_net(&self, net: usize) -> Option<usize> {
        let (gpus, _) = local(self.from_net.get(net)?);
        (0..MAX_CHANNELS).find_map(|channel| {
            let uses = |gpu: &&usize| self.net_of_channel(**gpu, channel) == Some(net);
            gpus.iter().find(uses).copied()
        })
    }
}

fn cell_mut(rows: &mut Rows, from: usize, to: usize) -> Option<&mut Path> {
    rows.get_mut(from)?.get_mut(to)
}

/// The bits of a number below a power of two, the other way round (`mirrorBits`).
fn mirrored(number: usize, below: usize) -> usize {
    let mut mirrored = 0;
    let (mut bit, mut other) = (1, below >> 1);
    while bit < below {
        if number & bit != 0 {
            mirrored |= other;
        }
        bit <<= 1;
        other >>= 1;
    }
    mirrored
}

fn widest_of(rows: &Rows) -> f32 {
    let paths = rows.iter().flatten().filter(|path| !path.hops.is_empty());
    paths.map(|path| path.bandwidth_gb_s).fold(0.0, f32::max)
}

/// The widest path between two devices (`search.cc` `ncclTopoSearchInit`).
fn widest(graph: &Graph) -> f32 {
    let devices: Vec<_> = graph.of_kind(PlaceKind::Dev).collect();
    let to_others = devices.iter().flat_map(|device| {
        let paths = paths_to(graph, *device);
        let others = devices
            .iter()
            .filter_map(move |other| paths.get(*other).cloned());
        others.filter(|path| !path.hops.is_empty())
    });
    to_others
        .map(|path| path.bandwidth_gb_s)
        .fold(0.0, f32::max)
}

/// The farthest type over which NCCL uses P2P by itself (`ncclTopoCheckP2p`).
pub(crate) fn p2p_limit(graph: &Graph) -> PathType {
    let amd = graph.processor().is_some_and(Processor::is_amd);
    if amd && graph.of_kind(PlaceKind::Dev).count() <= 2 {
        PathType::Sys
    } else {
        PathType::Pxb
    }
}

/// The CPU that counts as a GPU's own, from its paths to all (`ncclGetLocalCpu`).
fn own_cpu(paths: &[Path], rules: &Rules) -> Option<usize> {
    let fewest_hops = |places: Vec<usize>| {
        let hops = |place: &usize| paths.get(*place).map_or(usize::MAX, |path| path.hops.len());
        places.into_iter().min_by_key(hops)
    };
    if rules.nearer_path_is_taken {
        return fewest_hops(local(paths).0);
    }
    let reached = |place: &usize| paths.get(*place).is_some_and(|path| !path.hops.is_empty());
    fewest_hops((0..paths.len()).filter(reached).collect())
}

/// The path from each place to `base`, by breadth-first search from `base` (`ncclTopoSetPaths`).
fn paths_to(graph: &Graph, base: NodeId) -> Vec<Path> {
    paths_besides(graph, base, vec![Path::none(); graph.len()])
}

/// The paths to the CPUs.  NCCL finds a CPU by its `numaid`: those to several of one number are kept as paths to the first,
/// the better one of each place, and none lead to the others.
fn paths_to_cpus(graph: &Graph, cpus: &[NodeId]) -> Vec<Vec<Path>> {
    let numaid = |cpu: NodeId| graph.node(cpu).map(|node| node.numaid);
    let mut all = vec![vec![Path::none(); graph.len()]; cpus.len()];
    for cpu in cpus {
        let first = cpus.iter().position(|other| numaid(*other) == numaid(*cpu));
        if let Some(paths) = first.and_then(|first| all.get_mut(first)) {
            *paths = paths_besides(graph, *cpu, std::mem::take(paths));
        }
    }
    all
}

/// [`paths_to`] where some paths are known, which only better ones replace.
fn paths_besides(graph: &Graph, base: NodeId, mut paths: Vec<Path>) -> Vec<Path> {
    if let Some(own) = paths.get_mut(base) {
        *own = Path {
            kind: PathType::Loc,
            bandwidth_gb_s: LOCAL_BANDWIDTH_GB_S,
            hops: Vec::new(),
        };
    }
    let search = Search::new(graph, base);
    let mut places = vec![base];
    while !places.is_empty() {
        let mut next = Vec::new();
        for place in places {
            let links = graph.node(place).map_or(&[][..], |node| &node.links);
            for link in links {
                let Some(step) = search.step(place, link, &paths) else {
                    continue;
                };
                if paths
                    .get(link.to)
                    .is_some_and(|known| search.is_taken(known, &step))
                    && let Some(hop) = search.back(place, link)
                {
                    let mut hops = vec![hop];
                    hops.extend(paths.get(place).into_iter().flat_map(|path| &path.hops));
                    if let Some(known) = paths.get_mut(link.to) {
                        *known = Path {
                            kind: step.kind,
                            bandwidth_gb_s: step.bandwidth,
                            hops,
                        };
                    }
                    if !next.contains(&link.to) {
                        next.push(link.to);
                    }
                }
            }
        }
        places = next;
    }
    paths
}

/// A path that may be taken, without its links.
struct Candidate {
    kind: PathType,
    bandwidth: f32,
    /// Links up to the last.
    before: usize,
}

/// What does not change during a search.
struct Search<'g> {
    graph: &'g Graph,
    /// The device of the GPU at which the search began, or that place itself.
    own_device: NodeId,
    /// The longest path that an NVLink of another GPU may still prolong.
    through_gpu: usize,
}

impl<'g> Search<'g> {
    fn new(graph: &'g Graph, base: NodeId) -> Self {
        let device = graph.node(base).and_then(|node| node.device);
        Self {
            graph,
            own_device: device.unwrap_or(base),
            through_gpu: if device.is_some() { 2 } else { 1 },
        }
    }

    /// The path over a link from `place`, which NCCL would try.
    fn step(&self, place: NodeId, link: &super::nodes::Link, paths: &[Path]) -> Option<Candidate> {
        let (node, path) = (self.graph.node(place)?, paths.get(place)?);
        let to = self.graph.kind(link.to)?;
        let nvlink = link.kind == LinkType::NvLink && to == PlaceKind::Dev;
        let at_end = link.kind == LinkType::Local && to == PlaceKind::Gpu;
        // A GPU passes on only over NVLink, and only for its neighbour.
        let passes = place == self.own_device
            || node.kind != PlaceKind::Dev
            || at_end
            || (nvlink && path.hops.len() <= self.through_gpu);
        if !passes {
            return None;
        }
        let mut kind = link.kind.path_type();
        if node.kind == PlaceKind::Pci && to == PlaceKind::Pci {
            kind = PathType::Pxb;
        }
        if link.kind == LinkType::Pci && (node.kind == PlaceKind::Cpu || to == PlaceKind::Cpu) {
            kind = PathType::Phb;
        }
        let relayed = node.kind == PlaceKind::Dev
            && path.kind == PathType::Nvl
            && kind == PathType::Nvl
            && path.hops.len() == self.through_gpu;
        if relayed {
            kind = PathType::Nvb;
        }
        Some(Candidate {
            kind: path.kind.max(kind),
            bandwidth: path.bandwidth_gb_s.min(link.bandwidth_gb_s),
            before: path.hops.len(),
        })
    }

    /// The link back: a path leads the other way.  NCCL gives up where there is none.
    fn back(&self, place: NodeId, link: &super::nodes::Link) -> Option<Hop> {
        let mut back = self.graph.node(link.to)?.links.iter();
        let link_back = back.position(|back| back.to == place && back.kind == link.kind)?;
        Some(Hop {
            from: link.to,
            link: link_back,
        })
    }

    /// Whether `other` is taken instead of a path that is known.
    #[expect(
        clippy::float_cmp,
        reason = "NCCL compares the same values for equality"
    )]
    fn is_taken(&self, known: &Path, other: &Candidate) -> bool {
        if !self.graph.rules().nearer_path_is_taken {
            let is_new = known.bandwidth_gb_s == 0.0 || known.hops.len() > other.before;
            return is_new && known.bandwidth_gb_s < other.bandwidth;
        }
        if other.kind != known.kind {
            return other.kind < known.kind;
        }
        known.bandwidth_gb_s < other.bandwidth
            || (known.bandwidth_gb_s == other.bandwidth && known.hops.len() > other.before + 1)
    }
}
