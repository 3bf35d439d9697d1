//! Paths made ready for a search, which tries each of them thousands of times.

use super::super::nodes::{Graph, Link, LinkType};
use super::super::path_type::PathType;
use super::super::paths::{Hop, Path};
use crate::processor::Processor;

/// A path, made ready for being tried many times.
#[derive(Debug, Clone, Default)]
pub(super) struct Way {
    pub(super) kind: Option<PathType>,
    /// Through an Intel CPU, where P2P goes in small packets.
    pub(super) intel: bool,
    pub(super) bandwidth: f32,
    pub(super) steps: Vec<Step>,
}

/// A link on a way, by its place among all links.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) link: usize,
    pub(super) pci: bool,
    /// The link back, where NCCL counts both.
    pub(super) back: Option<usize>,
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

    /// A path made ready; one of a kind that is never taken where there is none.
    pub(super) fn way(&self, path: Option<&Path>) -> Way {
        let Some(path) = path.filter(|path| path.kind < PathType::Dis) else {
            return Way::default();
        };
        let enters_intel = |hop: &Hop| self.entered(*hop).is_some_and(Processor::is_intel);
        let steps: Option<Vec<_>> = path.hops.iter().map(|hop| self.step(*hop)).collect();
        Way {
            kind: Some(path.kind),
            intel: path.kind == PathType::Phb && path.hops.iter().any(enters_intel),
            bandwidth: path.bandwidth_gb_s,
            steps: steps.unwrap_or_default(),
        }
    }

    fn step(&self, hop: Hop) -> Option<Step> {
        let link = self.link(hop)?;
        let to_power = self.entered(hop) == Some(Processor::Power);
        let both = link.kind == LinkType::NvLink && to_power;
        let mut others = self.graph.node(link.to)?.links.iter();
        let back = others.position(|back| back.to == hop.from && back.kind == link.kind);
        Some(Step {
            link: self.starts.get(hop.from)? + hop.link,
            pci: link.kind == LinkType::Pci,
            back: back
                .filter(|_| both)
                .zip(self.starts.get(link.to))
                .map(|(at, start)| start + at),
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
