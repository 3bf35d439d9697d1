//! A file for `NCCL_GRAPH_FILE`: a ring and a tree that NCCL takes as they are, where no true topology file makes its
//! search find them.
//!
//! NCCL reads it for every communicator of the process, and refuses a communicator that has not just these GPUs
//! (`graph/search.cc` `ncclTopoGetChannelFromXml`): the file is for jobs whose communicators each have all GPUs of the
//! host, and is only written on request.

use std::fmt::Write;

use topology::machine::Machine;
use topology::pci::PciAddress;

use crate::capability::machine_capability;
use crate::crossings::{chain_crossings, least_chain_crossings, least_crossings, ring_crossings};
use crate::emit::{Form, NotEmitted, emit};
use crate::graph::{Line, PathType, Search};
use crate::model::{COMPUTE_CAPABILITY, Conditions, Model, gpus_of};
use crate::reader;
use crate::rules::Rules;

/// `NCCL_TOPO_PATTERN_RING` and `NCCL_TOPO_PATTERN_BALANCED_TREE` (`include/graph.h`), with NCCL's numbers of the graphs
/// (`init.cc` `initTransportsRank`).
const RING: (u32, u32) = (0, 4);
const TREE: (u32, u32) = (1, 1);

/// The file.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphFile {
    /// Its text.
    pub xml: String,
    /// The GPUs in the order of ring and tree.
    pub order: Vec<PciAddress>,
    /// How many channels there are.
    pub channels: usize,
    /// What each is said to carry, in GB/s: the most for which all of them fit on the links by NCCL's own figures.
    pub bandwidth_gb_s: f32,
    /// How often the ring and the tree cross between packages: as seldom as the GPUs allow.
    pub crossings: (u32, u32),
}

/// Why there is no graph file.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NoGraph {
    /// There is no true topology file, so the GPUs' order is not known either.
    #[error(transparent)]
    NotEmitted(#[from] NotEmitted),
    /// One GPU makes no ring.
    #[error("fewer than two GPUs")]
    OneGpu,
    /// NVLink decides which ring is best.
    #[error("NVLink connects GPUs here, and NCCL's own search follows it")]
    NvLink,
    /// No order crosses as seldom as the GPUs' places allow.
    #[error("no order of the GPUs is known to cross between sockets as seldom as possible")]
    NoOrder,
}

/// A ring and a tree over all NVIDIA GPUs of `machine` that cross between packages as seldom as possible, with P2P or
/// without, for an NCCL with these rules.
///
/// # Errors
///
/// [`NoGraph`] by what is missing.
pub fn graph_file(
    machine: &Machine,
    with_p2p: bool,
    rules: &'static Rules,
) -> Result<GraphFile, NoGraph> {
    let emitted = emit(machine, Form::SingleHost)?;
    let order = emitted.gpus;
    if order.len() < 2 {
        return Err(NoGraph::OneGpu);
    }
    if machine.gpus.iter().any(|gpu| !gpu.nvlinks.is_empty()) {
        return Err(NoGraph::NvLink);
    }
    let crossings = (
        ring_crossings(machine, &order).ok_or(NoGraph::NoOrder)?,
        chain_crossings(machine, &order).ok_or(NoGraph::NoOrder)?,
    );
    let least = (least_crossings(machine), least_chain_crossings(machine));
    if least != (Some(crossings.0), Some(crossings.1)) {
        return Err(NoGraph::NoOrder);
    }
    let system = reader::parse(&emitted.xml).map_err(|_| NoGraph::NoOrder)?;
    let capability = machine_capability(machine).unwrap_or(COMPUTE_CAPABILITY);
    let conditions = Conditions {
        rules,
        ..Conditions::of_capability(capability)
    }
    .with_p2p(with_p2p);
    let model = Model::of(&system, &gpus_of(&system), conditions);
    let search = Search::of(&model.graph, &model.paths).ok_or(NoGraph::OneGpu)?;
    let place = |gpu: &PciAddress| {
        let busid = gpu.to_string();
        model.gpus.iter().position(|own| own.busid == busid)
    };
    let places: Vec<usize> = order.iter().filter_map(place).collect();
    let fits = |channels: usize| {
        let line = Line {
            order: &places,
            channels,
        };
        line.widest(&model.graph, &model.paths)
    };
    // As many channels as NCCL finds by itself, where they fit.
    let (channels, (bandwidth_gb_s, kind)) = (1..=search.ring.orders.len())
        .rev()
        .find_map(|channels| Some((channels, fits(channels)?)))
        .ok_or(NoGraph::NoOrder)?;
    let mut by_address: Vec<PciAddress> = machine.nccl_gpus().map(|gpu| gpu.pci).collect();
    by_address.sort_unstable();
    let numbers: Vec<usize> = order
        .iter()
        .filter_map(|gpu| by_address.iter().position(|other| other == gpu))
        .collect();
    let mut xml = String::from("<graphs version=\"1\">\n");
    for graph in [RING, TREE] {
        write_graph(&mut xml, graph, channels, (bandwidth_gb_s, kind), &numbers);
    }
    xml.push_str("</graphs>\n");
    Ok(GraphFile {
        xml,
        order,
        channels,
        bandwidth_gb_s,
        crossings,
    })
}

/// One `<graph>`; `numbers` are the GPUs' in NVML's order, which NCCL reads as hexadecimal.
fn write_graph(
    xml: &mut String,
    (id, pattern): (u32, u32),
    channels: usize,
    (bandwidth, kind): (f32, PathType),
    numbers: &[usize],
) {
    let _ = writeln!(
        xml,
        "  <graph id=\"{id}\" pattern=\"{pattern}\" crossnic=\"0\" nchannels=\"{channels}\" speedintra=\"{bandwidth}\" \
         speedinter=\"{bandwidth}\" latencyinter=\"0\" typeintra=\"{kind}\" typeinter=\"PIX\" samechannels=\"1\">"
    );
    for _ in 0..channels {
        xml.push_str("    <channel>\n");
        for number in numbers {
            let _ = writeln!(xml, "      <gpu dev=\"{number:x}\"/>");
        }
        xml.push_str("    </channel>\n");
    }
    xml.push_str("  </graph>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn ring_and_tree_follow_the_packages() {
        let mut machine = without_switches(machine(4, 1, 4), 2, false);
        for device in &mut machine.pci {
            device.link.max_speed_gts = Some(8.0);
        }
        machine.nvlink_visible = true;
        for with_p2p in [true, false] {
            let file = graph_file(&machine, with_p2p, Rules::assumed()).unwrap();
            assert_eq!(file.crossings, (4, 3));
            assert_eq!(file.order.len(), 8);
            assert!(file.bandwidth_gb_s > 3.0, "{file:?}");
            assert_eq!(file.xml.matches("<gpu dev=").count(), 16 * file.channels);
        }
    }

    #[test]
    fn blackwell_has_a_ring_where_nccls_search_finds_none() {
        let mut machine = amd(with_switches(machine(2, 1, 4), 2));
        for gpu in &mut machine.gpus {
            gpu.device = 0x2bb5;
        }
        let file = graph_file(&machine, true, Rules::assumed()).unwrap();
        assert_eq!((file.crossings, file.channels), ((2, 1), 1));
        assert!((file.bandwidth_gb_s - 15.0).abs() < 1e-6, "{file:?}");
    }

    #[test]
    fn nvlink_and_unknown_places_give_none() {
        let mut machine = with_switches(machine(2, 1, 4), 1);
        let far = machine.gpus[1].pci;
        machine.gpus[0].nvlinks = [(far, 4)].into();
        let found = graph_file(&machine, true, Rules::assumed());
        assert_eq!(found, Err(NoGraph::NvLink));
        machine.gpus[0].locality.package = None;
        let found = graph_file(&machine, true, Rules::assumed());
        assert!(matches!(found, Err(NoGraph::NotEmitted(_))), "{found:?}");
    }
}
