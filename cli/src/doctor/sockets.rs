//! Sockets that have several NUMA nodes: whether nodes should be sockets to Slurm, and what that means for lines of gres.conf that are
//! refused as they are.

use slurm_config::cores::SocketKind;
use slurm_config::keys::of_node_line;
use slurm_config::node::Node;
use slurm_config::parameters::SocketWord;
use topology::machine::Package;

use super::forecast;
use super::gres;
use super::gres_cores::CutLines;
use super::report::{DoctorReport, Harm};
use super::slurm::Slurm;
use super::world::World;

/// Says what to change: `cut` are the lines of gres.conf whose cores this Slurm does not take.
///
/// Where NUMA nodes cut the sockets, cores that are right for them become so with nodes for sockets.  Both ways together would be wrong:
/// they are a choice, in one finding.
pub(super) fn check(world: &World<'_>, cut: Option<CutLines>, report: &mut DoctorReport) {
    let Some(slurm) = &world.slurm else { return };
    let Some(node) = &slurm.node else { return };
    let split = split_package(world);
    let is_tried = split.is_some() || cut.as_ref().is_some_and(|own| own.are_sockets_cut);
    let nodes = is_tried
        .then(|| nodes_as_sockets(world, slurm, node))
        .flatten();
    let (choice, nodes) = match (&cut, nodes) {
        (Some(cut), Some(nodes)) if cut.are_sockets_cut && nodes.takes_lines => (
            Some(format!(
                "either {} (the lines of gres.conf are right then), or leave that and write {}: jobs then get cores of any NUMA \
                 node of the socket",
                nodes.text, cut.lines
            )),
            None,
        ),
        (_, nodes) => (None, nodes),
    };
    if let Some((package, nodes)) = split.zip(nodes) {
        report_split(slurm, package, &nodes, report);
    }
    if let Some(cut) = cut {
        report.find(
            "gres-cores",
            Harm::StopsJobs,
            cut.evidence,
            cut.effect,
            choice.unwrap_or(cut.lines),
        );
    }
}

/// A package with several NUMA nodes and a GPU that is near some of them, which Slurm does not know while it takes packages for sockets.
fn split_package<'a>(world: &World<'a>) -> Option<&'a Package> {
    let machine = world.machine;
    let is_counted = !world.parameters().overrides_machine()
        && world.counts(world.release).is_some()
        && world.socket_kind() == SocketKind::Package;
    let cpu_nodes = machine.cpu_nodes();
    let mut packages = machine.packages.iter().filter(|_| is_counted);
    packages.find(|package| {
        let nodes = package.numa_nodes.intersection(&cpu_nodes);
        nodes.len() > 1
            && machine.gpus.iter().any(|gpu| {
                let own = gpu.locality.numa_nodes.as_ref();
                own.is_some_and(|own| own.intersects(&nodes) && !nodes.is_subset(own))
            })
    })
}

fn report_split(
    slurm: &Slurm,
    package: &Package,
    nodes: &NodesAsSockets,
    report: &mut DoctorReport,
) {
    let given = slurm.value("slurmdparameters");
    let and_lines = if nodes.takes_lines {
        ""
    } else {
        ", and in gres.conf the lines that it prints"
    };
    report.find(
        "numa-node-as-socket",
        Harm::SlowsJobs,
        format!(
            "socket {} has {} NUMA nodes ({}), and {}",
            package.id,
            package.numa_nodes.len(),
            package.numa_nodes,
            given.map_or_else(
                || format!("{} has no SlurmdParameters=numa_node_as_socket", slurm.path),
                |(_, line)| line.quote("SlurmdParameters"),
            )
        ),
        "Slurm chooses cores by socket: it gives a job cores of the right socket and the wrong NUMA node, \
         whatever gres.conf says",
        format!(
            "{} (`gpu-numa gres-conf --numa-node-as-socket` prints both){and_lines}",
            nodes.text
        ),
    );
}

/// What makes NUMA nodes the sockets of this host.
struct NodesAsSockets {
    /// The words and the node's line.
    text: String,
    /// Whether gres.conf is right then as it is.
    takes_lines: bool,
}

/// What makes NUMA nodes the sockets of this host, tried; None where nothing does.
fn nodes_as_sockets(world: &World<'_>, slurm: &Slurm, node: &Node) -> Option<NodesAsSockets> {
    let map = world.core_map(SocketKind::NumaNode)?;
    let geometry = of_node_line(&map.socket_pairs(node));
    let text = match world.socket_word(SocketKind::NumaNode)? {
        SocketWord::OfNode(words) => {
            format!("{}: Parameters={words} {geometry}", node.line.place())
        }
        SocketWord::OfCluster(words) => format!(
            "{}: SlurmdParameters={words}, and on the node's line {geometry}",
            slurm.path
        ),
    };
    let tried = world.with_nodes_as_sockets(&map)?;
    // A Slurm that was built with hwloc 1, or slurmd's own options, may pass over the word.
    if tried.socket_kind() != SocketKind::NumaNode {
        return None;
    }
    let mut after = DoctorReport::default();
    let cut = gres::check(&tried, &mut after);
    forecast::check(&tried, &mut after);
    let is_of_cores =
        |check: &str| ["gres-cores", "gres-autodetect", "registration"].contains(&check);
    Some(NodesAsSockets {
        text,
        takes_lines: cut.is_none() && !after.findings.iter().any(|own| is_of_cores(own.check)),
    })
}
