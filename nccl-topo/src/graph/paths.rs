//! The paths between GPUs (`paths.cc`).

use super::nodes::{Graph, LinkType, NodeId, PlaceKind};
use super::path_type::PathType;
use crate::processor::{LOCAL_BANDWIDTH_GB_S, Processor};
use crate::rules::Rules;

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

    /// Whether `other` is taken instead (`ncclTopoSetPaths`).
    #[expect(
        clippy::float_cmp,
        reason = "NCCL compares the same values for equality"
    )]
    fn gives_way_to(&self, other: &Self) -> bool {
        if other.kind != self.kind {
            return other.kind < self.kind;
        }
        self.bandwidth_gb_s < other.bandwidth_gb_s
            || (self.bandwidth_gb_s == other.bandwidth_gb_s && self.hops.len() > other.hops.len())
    }

    /// This path, and then `next` from its end.
    fn then(&self, next: &Self, rules: &Rules) -> Self {
        let (near, far) = (self.kind.min(next.kind), self.kind.max(next.kind));
        let over_c2c = rules.c2c_and_phb_are_p2c && (near, far) == (PathType::C2c, PathType::Phb);
        let mut hops = self.hops.clone();
        hops.extend(&next.hops);
        Self {
            kind: if over_c2c { PathType::P2c } else { far },
            bandwidth_gb_s: self.bandwidth_gb_s.min(next.bandwidth_gb_s),
            hops,
        }
    }
}

/// The paths between all GPUs of a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Paths {
    gpus: Vec<NodeId>,
    /// The widest path between two devices, in GB/s.
    pub(super) widest_gb_s: f32,
    /// A row for each GPU, in which the paths from it stand by the GPU that they lead to.
    from: Vec<Vec<Path>>,
}

impl Paths {
    /// Computes them (`ncclTopoComputePaths`), for a job that allows P2P up to `limit` (`NCCL_P2P_LEVEL`);
    /// [`PathType::Loc`] is no P2P at all, none is NCCL's own choice.
    pub fn of(graph: &Graph, limit: Option<PathType>) -> Self {
        let gpus: Vec<_> = graph.of_kind(PlaceKind::Gpu).collect();
        let cpus: Vec<_> = graph.of_kind(PlaceKind::Cpu).collect();
        let to_gpus: Vec<_> = gpus.iter().map(|gpu| paths_to(graph, *gpu)).collect();
        let to_cpus: Vec<_> = cpus.iter().map(|cpu| paths_to(graph, *cpu)).collect();
        let limit = limit.unwrap_or_else(|| p2p_limit(graph));
        let direct =
            |target: &Vec<Path>, from: NodeId| target.get(from).cloned().unwrap_or_else(Path::none);
        let path = |from: NodeId, gpu: NodeId, target: &Vec<Path>| {
            let path = direct(target, from);
            if path.kind <= limit {
                return path;
            }
            // No P2P so far apart: through host memory at the receiving GPU's CPU.
            let cpu = cpus.iter().zip(&to_cpus);
            local_cpu(gpu, cpu).map_or(path, |(cpu, to_cpu)| {
                direct(to_cpu, from).then(&direct(target, cpu), graph.rules())
            })
        };
        let rows = gpus.iter().map(|from| {
            let row = gpus.iter().zip(&to_gpus);
            row.map(|(gpu, target)| path(*from, *gpu, target)).collect()
        });
        Self {
            from: rows.collect(),
            gpus: gpus.clone(),
            widest_gb_s: widest(graph),
        }
    }

    /// The GPUs, in the order of the graph.
    pub fn gpus(&self) -> &[NodeId] {
        &self.gpus
    }

    /// The path between two GPUs by their places in [`Paths::gpus`].
    pub fn between(&self, from: usize, to: usize) -> Option<&Path> {
        self.from.get(from)?.get(to)
    }
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
fn p2p_limit(graph: &Graph) -> PathType {
    let amd = graph.processor().is_some_and(Processor::is_amd);
    if amd && graph.of_kind(PlaceKind::Dev).count() <= 2 {
        PathType::Sys
    } else {
        PathType::Pxb
    }
}

/// The CPU nearest to a GPU: the widest, then the nearest type, then the fewest hops (`ncclGetLocalCpu`).
fn local_cpu<'p>(
    gpu: NodeId,
    cpus: impl Iterator<Item = (&'p NodeId, &'p Vec<Path>)>,
) -> Option<(NodeId, &'p Vec<Path>)> {
    let reached = cpus.filter_map(|(cpu, to_cpu)| Some((*cpu, to_cpu, to_cpu.get(gpu)?)));
    let best = reached.reduce(|best, other| {
        let wider = other.2.bandwidth_gb_s.total_cmp(&best.2.bandwidth_gb_s);
        let nearer = (best.2.kind, best.2.hops.len()).cmp(&(other.2.kind, other.2.hops.len()));
        if wider.then(nearer).is_gt() {
            other
        } else {
            best
        }
    });
    best.map(|(cpu, to_cpu, _)| (cpu, to_cpu))
}

/// The path from each place to `base`, by breadth-first search from `base` (`ncclTopoSetPaths`).
fn paths_to(graph: &Graph, base: NodeId) -> Vec<Path> {
    let mut paths = vec![Path::none(); graph.len()];
    if let Some(own) = paths.get_mut(base) {
        own.kind = PathType::Loc;
        own.bandwidth_gb_s = LOCAL_BANDWIDTH_GB_S;
    }
    let search = Search::new(graph, base);
    let mut places = vec![base];
    while !places.is_empty() {
        let mut next = Vec::new();
        for place in places {
            for (neighbour, path) in search.steps(place, &paths) {
                let Some(known) = paths.get_mut(neighbour) else {
                    continue;
                };
                if known.gives_way_to(&path) {
                    *known = path;
                    if !next.contains(&neighbour) {
                        next.push(neighbour);
                    }
                }
            }
        }
        places = next;
    }
    paths
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

    /// The steps from `place` that NCCL would try: where to, and the path from there.
    fn steps(&self, place: NodeId, paths: &[Path]) -> Vec<(NodeId, Path)> {
        let path = paths.get(place);
        let (Some(node), Some(path)) = (self.graph.node(place), path) else {
            return Vec::new();
        };
        let steps = node.links.iter().filter_map(|link| {
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
            // The path leads the other way.  NCCL gives up where there is no link back.
            let mut back = self.graph.node(link.to)?.links.iter();
            let mut hops = vec![Hop {
                from: link.to,
                link: back.position(|back| back.to == place && back.kind == link.kind)?,
            }];
            hops.extend(&path.hops);
            let path = Path {
                kind: path.kind.max(kind),
                bandwidth_gb_s: path.bandwidth_gb_s.min(link.bandwidth_gb_s),
                hops,
            };
            Some((link.to, path))
        });
        steps.collect()
    }
}
