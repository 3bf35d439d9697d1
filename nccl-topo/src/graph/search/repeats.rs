//! Searches that were made, so that what differs in names alone is not searched again.
//!
//! Ranks the other way round, the next version of NCCL, or the same host with another network mostly give the search
//! the very same places, links and paths, as only addresses, versions and names of devices differ.

use std::cell::RefCell;

use super::super::nodes::{Graph, Node};
use super::super::paths::Paths;
use super::Search;

/// Searches kept at most; the first go first.
const KEPT: usize = 64;

/// The searches of one question, each made once: for callers that ask of one machine in several ways.
#[derive(Debug, Default)]
pub struct Searches(RefCell<Vec<(Asked, Option<Search>)>>);

/// All that decides a search.
#[derive(Debug, PartialEq)]
struct Asked {
    between_hosts: bool,
    /// The places without what tells one device from another of its kind.
    places: Vec<Node>,
    paths: Paths,
    /// The bandwidths that are tried, inside a host or between hosts.
    speeds: &'static [f32],
    gpus_have_devices: bool,
}

impl Asked {
    fn of(graph: &Graph, paths: &Paths, between_hosts: bool) -> Self {
        let nodes = (0..graph.len()).filter_map(|id| graph.node(id));
        let places = nodes.map(|node| {
            let mut place = node.clone();
            place.ids = 0;
            place.number = 0;
            if let Some(net) = place.net.as_mut() {
                net.name.clear();
            }
            place
        });
        let rules = graph.rules();
        let capability = super::job::capability(graph);
        Self {
            between_hosts,
            places: places.collect(),
            paths: paths.clone(),
            speeds: if between_hosts {
                rules.speeds_between_hosts(capability)
            } else {
                rules.speeds(capability)
            },
            gpus_have_devices: rules.gpus_have_devices,
        }
    }
}

impl Searches {
    /// [`Search::of`], or [`Search::between_hosts`] where that is asked; none as these.
    pub fn search(&self, graph: &Graph, paths: &Paths, between_hosts: bool) -> Option<Search> {
        let asked = Asked::of(graph, paths, between_hosts);
        let mut kept = self.0.borrow_mut();
        if let Some((_, found)) = kept.iter().find(|(before, _)| *before == asked) {
            return found.clone();
        }
        let found = if between_hosts {
            Search::between_hosts(graph, paths)
        } else {
            Search::of(graph, paths)
        };
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((asked, found.clone()));
        found
    }
}
