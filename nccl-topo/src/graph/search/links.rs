//! Paths made ready for a search, which tries each of them thousands of times.

use super::super::nodes::{Graph, Link, LinkType, PlaceKind};
use super::super::path_type::PathType;
use super::super::paths::{Hop, Path};
use crate::processor::Processor;

/// Below this compute capability a GPU's link back carries a part of what a network device sends to it.
const FULL_DUPLEX: u32 = 80;
/// That part is one of these (`followPath`).
pub(super) const ONE_OF: f32 = 8.0;
/// The parts of a bandwidth that a link can be asked for: all of it or that part, plain or through an Intel CPU.
pub(super) const PARTS: usize = 4;

/// A path, made ready for being tried many times.
#[derive(Debug, Clone, Default)]
pub(super) struct Way {
    pub(super) kind: Option<PathType>,
    /// From a GPU through an Intel CPU, where P2P goes in small packets.
    pub(super) intel: bool,
    pub(super) bandwidth: f32,
    pub(super) steps: Vec<Step>,
}

impl Way {
    /// What a bandwidth takes of a PCI link.
    pub(super) fn over_pci(&self, bandwidth: f32) -> f32 {
        if self.intel {
            bandwidth * 6.0 / 5.0
        } else {
            bandwidth
        }
    }

    /// Whether it takes no link twice, and of links back a part at most.
    pub(super) fn takes_each_link_once(&self) -> bool {
        let steps = || self.steps.iter();
        let mut back = steps().filter_map(|step| step.back);
        let is_part = |(_, share): (usize, f32)| share > 1.0;
        let mut links: Vec<usize> = steps().map(|step| step.link).collect();
        links.extend(back.clone().map(|(link, _)| link));
        links.sort_unstable();
        let is_twice = links.windows(2).any(|two| matches!(two, [a, b] if a == b));
        !is_twice && back.all(is_part)
    }
}

/// A link on a way, by its place among all links.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) link: usize,
    pub(super) pci: bool,
    /// The link back, where NCCL counts both, and by what the bandwidth is divided there.
    pub(super) back: Option<(usize, f32)>,
}

/// All links of a graph in a row.
pub(super) struct Links<'g> {
    graph: &'g Graph,
    /// Where each place's links begin.
    starts: Vec<usize>,
}

impl<'g> Links<'g> {
    pub(super) fn of(graph: &'g Graph) -> Self {
        let mut next = 0;
        let count = |id| graph.node(id).map_or(0, |node| node.links.len());
        let starts = (0..graph.len()).map(|id| {
            let start = next;
            next += count(id);
            start
        });
        Self {
            starts: starts.collect(),
            graph,
        }
    }

    pub(super) fn bandwidths(&self) -> Vec<f32> {
        let nodes = (0..self.graph.len()).filter_map(|id| self.graph.node(id));
        nodes
            .flat_map(|node| node.links.iter().map(|link| link.bandwidth_gb_s))
            .collect()
    }

    /// A path made ready, which begins at a GPU or at a network device; one of a kind that is never taken where there
    /// is none.
    pub(super) fn way(&self, path: Option<&Path>, from_gpu: bool) -> Way {
        let Some(path) = path.filter(|path| path.kind < PathType::Dis) else {
            return Way::default();
        };
        let enters_intel = |hop: &Hop| self.entered(*hop).is_some_and(Processor::is_intel);
        let through_intel = || path.hops.iter().any(enters_intel);
        let steps = path.hops.iter().map(|hop| self.step(*hop, from_gpu));
        Way {
            kind: Some(path.kind),
            intel: from_gpu && path.kind == PathType::Phb && through_intel(),
            bandwidth: path.bandwidth_gb_s,
            steps: steps.collect::<Option<Vec<_>>>().unwrap_or_default(),
        }
    }

    /// The PCI link of a GPU, there and back (`gpuPciBw`); none where it has none.
    pub(super) fn pci_of_gpu(&self, gpu: usize) -> Option<[usize; 2]> {
        let own = self.graph.node(gpu)?.device?;
        let mut links = self.graph.node(own)?.links.iter().enumerate();
        links.find_map(|(at, link)| {
            let mut back = self.graph.node(link.to)?.links.iter();
            let back = back.position(|back| back.to == own)?;
            let starts = (self.starts.get(own)?, self.starts.get(link.to)?);
            (link.kind == LinkType::Pci).then_some([starts.0 + at, starts.1 + back])
        })
    }

    fn step(&self, hop: Hop, from_gpu: bool) -> Option<Step> {
        let link = self.link(hop)?;
        let entered = self.graph.node(link.to)?;
        let to_power = entered.processor == Some(Processor::Power);
        let to_old_gpu = entered.kind == PlaceKind::Dev && entered.compute_capability < FULL_DUPLEX;
        let share = if link.kind == LinkType::NvLink && to_power {
            Some(1.0)
        } else if !from_gpu && to_old_gpu {
            Some(ONE_OF)
        } else {
            None
        };
        let mut others = entered.links.iter();
        let back = others.position(|back| back.to == hop.from && back.kind == link.kind);
        let back = back.zip(self.starts.get(link.to));
        Some(Step {
            link: self.starts.get(hop.from)? + hop.link,
            pci: link.kind == LinkType::Pci,
            back: back
                .zip(share)
                .map(|((at, start), share)| (start + at, share)),
        })
    }

    fn link(&self, hop: Hop) -> Option<&Link> {
        self.graph.node(hop.from)?.links.get(hop.link)
    }

    /// The processor of the CPU that a hop leads to.
    fn entered(&self, hop: Hop) -> Option<Processor> {
        self.graph.node(self.link(hop)?.to)?.processor
    }
}
