//! What NCCL makes of a file, as `gpu-numa nccl paths` shows it.

use nccl_topo::graph::{Channels, Path, PathType, Reach, Searches, hops};
use nccl_topo::model::{Conditions, Model, ModelGpu, Part};
use nccl_topo::predict::{TrueFile, true_file_for};
use nccl_topo::reader::System;
use serde::Serialize;
use topology::crossings::fewest;
use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::quantity::count;

use crate::nccl::version::{For, without_nvlink};

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct PathsView {
    /// The version of NCCL.
    pub(super) nccl: String,
    /// Other versions that make the same of the file.
    pub(super) also: Vec<String>,
    pub(super) hosts: u32,
    pub(super) gpus: Vec<RankedGpu>,
    /// In both directions.
    pub(super) pairs: Vec<GpuPair>,
    /// The network devices in NCCL's order.
    pub(super) nics: Vec<NicPaths>,
    pub(super) ring: Option<ChannelGraph>,
    pub(super) tree: Option<ChannelGraph>,
    /// The nodes as which NCCL counts a host, where there are several.
    pub(super) nodes: Vec<NodeView>,
    pub(super) verdict: String,
    /// Whether NVLinks are not known, so that paths, rings and trees are those of GPUs that none joins.
    pub(super) assumes_no_nvlink: bool,
    /// What the answer does not know, in words.
    pub(super) notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct RankedGpu {
    /// Its PCI address, with `/0` or `/1` for a part of it (MLOPart); pairs, orders and network devices name it so.
    pub(super) pci: String,
    /// Its number on the machine, as `gpu-numa show` has it; none where the machine is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) number: Option<usize>,
    pub(super) numaid: i64,
    pub(super) rank: usize,
    /// The network devices that it uses, by channel.
    pub(super) nics: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct GpuPair {
    pub(super) a: String,
    pub(super) b: String,
    pub(super) r#type: String,
    pub(super) bandwidth_gb_s: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NicPaths {
    pub(super) dev: usize,
    pub(super) name: String,
    pub(super) speed_gb_s: f64,
    pub(super) rail: Option<i64>,
    /// Whether it stands for sockets on an interface that neither file nor machine names: its name, its speed and its place
    /// are what NCCL assumes where it is told none.
    pub(super) assumed: bool,
    /// The path from each GPU, by rank.
    pub(super) from: Vec<NicPath>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NicPath {
    pub(super) gpu: String,
    pub(super) r#type: String,
    pub(super) bandwidth_gb_s: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NodeView {
    pub(super) ranks: Vec<usize>,
    pub(super) ring: Option<ChannelGraph>,
    pub(super) tree: Option<ChannelGraph>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ChannelGraph {
    pub(super) channels: usize,
    pub(super) r#type: String,
    pub(super) bandwidth_gb_s: f64,
    pub(super) order: Vec<Vec<String>>,
    /// The network devices by which each channel comes in and goes out; empty inside a host.
    pub(super) nics: Vec<[String; 2]>,
    pub(super) sys_hops: Vec<usize>,
    pub(super) socket_crossings: Vec<usize>,
}

/// Whether two versions of NCCL make the same of a file.
pub(super) fn is_alike(one: &PathsView, other: &PathsView) -> bool {
    let unnamed = |view: &PathsView| PathsView {
        nccl: String::new(),
        ..view.clone()
    };
    unnamed(one) == unnamed(other)
}

/// What is looked at, and what a socket is.
pub(super) struct View<'a> {
    pub(super) system: &'a System,
    pub(super) ranks: &'a [String],
    pub(super) hosts: u32,
    pub(super) p2p_limit: Option<PathType>,
    pub(super) version: &'a For,
    pub(super) sockets: Option<&'a Machine>,
    pub(super) capability: u32,
    /// Whether the network devices are assumed, for neither file nor machine names one.
    pub(super) nets_are_assumed: bool,
    /// Whether the file is that of `gpu-numa nccl emit`.
    pub(super) is_corrected: bool,
    /// Whether NVLinks are not known.
    pub(super) assumes_no_nvlink: bool,
    /// What is not known, in words.
    pub(super) notes: &'a [String],
    /// Those that were made for this page.
    pub(super) searches: &'a Searches,
}

/// A model, for what is asked of it.
pub(super) struct Modelled<'a> {
    pub(super) of: &'a View<'a>,
    pub(super) model: Model,
}

impl View<'_> {
    fn conditions(&self, is_whole: bool) -> Conditions {
        Conditions {
            compute_capability: self.capability,
            reach: Reach {
                p2p_limit: self.p2p_limit,
                is_whole,
                without_shm: false,
            },
            rules: self.version.rules,
        }
    }

    pub(super) fn model(&self, is_whole: bool) -> Modelled<'_> {
        Modelled {
            of: self,
            model: Model::of(self.system, self.ranks, self.conditions(is_whole)),
        }
    }

    pub(super) fn build(&self) -> PathsView {
        let whole = self.model(true);
        let cut = self.model(false);
        let parts = cut.model.parts();
        let between_hosts = self.hosts > 1;
        // A host that is kept whole, or is a node of its own among others.
        let one = if between_hosts {
            match parts.as_slice() {
                [part] => cut.search(part, true),
                _ => None,
            }
        } else {
            whole
                .model
                .parts()
                .first()
                .and_then(|part| whole.search(part, false))
        };
        let (ring, tree) = one.unzip();
        let nodes = if parts.len() > 1 {
            parts.iter().map(|part| cut.node(part)).collect()
        } else {
            Vec::new()
        };
        let gpus = &whole.model.gpus;
        let mut by_rank: Vec<_> = (0..gpus.len()).collect();
        by_rank.sort_by_key(|index| gpus.get(*index).map(|gpu| gpu.rank));
        PathsView {
            nccl: self.version.name.clone(),
            also: Vec::new(),
            hosts: self.hosts,
            gpus: by_rank
                .iter()
                .filter_map(|index| whole.ranked(*index))
                .collect(),
            pairs: whole.pairs(&by_rank),
            nics: whole.nics(&by_rank),
            verdict: whole.verdict(ring.as_ref(), &nodes),
            ring,
            tree,
            nodes,
            assumes_no_nvlink: self.assumes_no_nvlink,
            notes: self.notes.to_vec(),
        }
    }
}

impl Modelled<'_> {
    /// Ring and tree of a part, as pages show them.
    fn search(&self, part: &Part, between_hosts: bool) -> Option<(ChannelGraph, ChannelGraph)> {
        let searches = self.of.searches;
        let search = searches.search(&part.graph, &part.paths, between_hosts)?;
        if search.ends_communicator(&part.paths, self.of.version.rules) {
            return None;
        }
        let ring = self.graph(part, &search.ring, !between_hosts);
        let tree = self.graph(part, &search.tree, false);
        Some((ring, tree))
    }

    fn node(&self, part: &Part) -> NodeView {
        let ranks = part.gpus.iter().filter_map(|gpu| self.model.gpus.get(*gpu));
        let mut ranks: Vec<usize> = ranks.map(|gpu| gpu.rank).collect();
        ranks.sort_unstable();
        let (ring, tree) = self.search(part, true).unzip();
        NodeView { ranks, ring, tree }
    }

    fn ranked(&self, index: usize) -> Option<RankedGpu> {
        let gpu = self.model.gpus.get(index)?;
        let nets = self.model.paths.nets_of_gpu(index).iter();
        Some(RankedGpu {
            pci: gpu.name.clone(),
            number: self.number(&gpu.busid),
            numaid: gpu.numaid,
            rank: gpu.rank,
            nics: nets.filter_map(|net| self.net_name(*net)).collect(),
        })
    }

    fn net_name(&self, net: usize) -> Option<String> {
        let id = self.model.paths.nets().get(net)?;
        let net = self.model.graph.node(*id)?.net.as_ref()?;
        Some(net.name.clone())
    }

    fn pairs(&self, by_rank: &[usize]) -> Vec<GpuPair> {
        let mut pairs = Vec::new();
        for a in by_rank {
            for b in by_rank.iter().filter(|b| *b != a) {
                if let Some(path) = self.model.paths.between(*a, *b) {
                    pairs.push(GpuPair {
                        a: self.name(*a),
                        b: self.name(*b),
                        r#type: path.kind.to_string(),
                        bandwidth_gb_s: rounded(path.bandwidth_gb_s),
                    });
                }
            }
        }
        pairs
    }

    fn nics(&self, by_rank: &[usize]) -> Vec<NicPaths> {
        let path = |gpu: usize, path: &Path| NicPath {
            gpu: self.name(gpu),
            r#type: path.kind.to_string(),
            bandwidth_gb_s: rounded(path.bandwidth_gb_s),
        };
        let nets = self.model.paths.nets().iter().enumerate();
        let all = nets.filter_map(|(place, id)| {
            let net = self.model.graph.node(*id)?.net.as_ref()?;
            let from = by_rank
                .iter()
                .filter_map(|gpu| Some(path(*gpu, self.model.paths.to_net(*gpu, place)?)));
            Some(NicPaths {
                dev: net.dev,
                name: net.name.clone(),
                speed_gb_s: rounded(net.bandwidth_gb_s),
                rail: net.rail,
                assumed: self.of.nets_are_assumed,
                from: from.collect(),
            })
        });
        all.collect()
    }

    fn graph(&self, part: &Part, channels: &Channels, closes: bool) -> ChannelGraph {
        let place = |own: usize| part.gpus.get(own).copied().unwrap_or_default();
        let count = |test: &dyn Fn(usize, usize) -> bool| {
            let orders = channels.orders.iter();
            orders
                .map(|order| hops(order, closes).filter(|(a, b)| test(*a, *b)).count())
                .collect()
        };
        let kind = |a, b| part.paths.between(a, b).map(|path| path.kind);
        let crosses = |a, b| {
            // Not over NVLink, whatever the sockets are.
            let through_host = kind(a, b).is_some_and(PathType::is_through_host);
            through_host && self.socket(place(a)) != self.socket(place(b))
        };
        let names = |order: &Vec<usize>| order.iter().map(|gpu| self.name(place(*gpu))).collect();
        let net = |net: usize| self.net_name(net).unwrap_or_default();
        ChannelGraph {
            channels: channels.orders.len(),
            r#type: channels.kind.to_string(),
            bandwidth_gb_s: rounded(channels.bandwidth_gb_s),
            order: channels.orders.iter().map(names).collect(),
            nics: channels
                .nets
                .iter()
                .map(|[into, out]| [net(*into), net(*out)])
                .collect(),
            sys_hops: count(&|a, b| kind(a, b) == Some(PathType::Sys)),
            socket_crossings: count(&crosses),
        }
    }

    fn name(&self, gpu: usize) -> String {
        let gpu = self.model.gpus.get(gpu);
        gpu.map(|gpu| gpu.name.clone()).unwrap_or_default()
    }

    /// The number of a GPU on the machine, as `gpu-numa show` counts; none without a machine that has it.
    fn number(&self, busid: &str) -> Option<usize> {
        let address: PciAddress = busid.parse().ok()?;
        let mut gpus = self.of.sockets?.gpus.iter();
        gpus.position(|gpu| gpu.pci == address)
    }

    /// The package by the machine, else the `<cpu>` of the file.
    fn socket(&self, gpu: usize) -> Option<u64> {
        let gpu: &ModelGpu = self.model.gpus.get(gpu)?;
        let Some(machine) = self.of.sockets else {
            return u64::try_from(gpu.cpu).ok();
        };
        let address: PciAddress = gpu.busid.parse().ok()?;
        machine.gpu(address)?.locality.package.map(u64::from)
    }

    fn verdict(&self, ring: Option<&ChannelGraph>, nodes: &[NodeView]) -> String {
        let mut said = match ring {
            Some(ring) => {
                let condition = condition(self.of.assumes_no_nvlink);
                format!("{condition}{}", self.verdict_of(ring))
            }
            None if self.model.gpus.len() < 2 && nodes.is_empty() => {
                return "fewer than two GPUs: no ring".to_owned();
            }
            None if self.of.hosts == 1 && nodes.is_empty() => {
                "NCCL finds no ring, and without a network device the communicator ends with an error"
                    .to_owned()
            }
            None => String::new(),
        };
        if nodes.len() > 1 {
            let rules = self.of.version.rules;
            let joint = if rules.parts_of_host_join_over_network {
                "the network"
            } else {
                "shared memory"
            };
            let separator = if said.is_empty() { "" } else { "; " };
            said.push_str(&format!(
                "{separator}NCCL counts a host as {} nodes, joined by {joint}, unless NCCL_NET_DISABLE_INTRA=1",
                nodes.len()
            ));
        }
        if let Some(text) = self.of.sockets.and_then(without_nvlink) {
            said.push_str(&format!("; {text}"));
        }
        said
    }

    fn verdict_of(&self, ring: &ChannelGraph) -> String {
        let mut sockets: Vec<_> = (0..self.model.gpus.len())
            .map(|gpu| self.socket(gpu))
            .collect();
        sockets.sort_unstable();
        sockets.dedup();
        let groups = u32::try_from(sockets.len()).unwrap_or(u32::MAX);
        let least = fewest(groups, self.of.hosts == 1);
        let least = usize::try_from(least).unwrap_or(usize::MAX);
        let crossings = &ring.socket_crossings;
        let most = crossings.iter().max().copied().unwrap_or_default();
        let place = if self.of.sockets.is_some() {
            "sockets"
        } else {
            "<cpu> elements"
        };
        let times = count(most, "time");
        let times = if self.of.hosts > 1 {
            format!("{times} between its GPUs (the way to NICs not counted)")
        } else {
            times
        };
        if ring.bandwidth_gb_s < 1.0 && self.of.hosts == 1 {
            let remedy = self.remedy();
            format!(
                "NCCL finds no ring and uses the order of the file, which crosses between {place} \
                 {times}{remedy}"
            )
        } else if most == 0 {
            format!("no ring crosses between {place}")
        } else if most <= least {
            format!("each ring crosses between {place} {times}, the minimum without NVLink")
        } else {
            let remedy = self.remedy();
            format!("a ring crosses between {place} {times}; {least} would be enough{remedy}")
        }
    }

    /// What another file could do, in words that follow the verdict; empty where the machine is not known.
    fn remedy(&self) -> String {
        let Some(machine) = self.of.sockets else {
            return String::new();
        };
        let (conditions, hosts) = (self.of.conditions(true), self.of.hosts);
        if !self.of.version.is_known {
            return String::new();
        }
        match true_file_for(machine, conditions, hosts, self.of.searches) {
            TrueFile::Good if self.of.is_corrected => {
                "; the file is the corrected one already".to_owned()
            }
            TrueFile::Good => "; `gpu-numa nccl emit` writes a file that fixes this".to_owned(),
            TrueFile::NotEnough(Some(why)) => format!("; {why}"),
            TrueFile::NotEnough(None) => "; no true topology file can fix this".to_owned(),
            TrueFile::Missing => String::new(),
        }
    }
}

/// Two places after the point, as NCCL's log has one.
fn rounded(value: f32) -> f64 {
    (f64::from(value) * 100.0).round() / 100.0
}

/// What stands before a statement that may hold without NVLink alone.
pub(super) fn condition(assumes_no_nvlink: bool) -> &'static str {
    if assumes_no_nvlink {
        "if no NVLink joins the GPUs, "
    } else {
        ""
    }
}
