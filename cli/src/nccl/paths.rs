//! `gpu-numa nccl paths`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use discovery::Source;
use nccl_topo::capability::machine_capability;
use nccl_topo::element::Element;
use nccl_topo::emit::{Form, emit_with};
use nccl_topo::graph::{Channels, Path, PathType, Reach, Searches, hops};
use nccl_topo::model::nets::{NetDevice, named_in, rdma_ports, with_nets};
use nccl_topo::model::{
    COMPUTE_CAPABILITY, Completed, Conditions, Filled, Model, ModelGpu, Part, SharedGpu, completed,
    filled, gpus_of, left_out, shared_gpus, with_links,
};
use nccl_topo::predict::{TrueFile, true_file_for};
use nccl_topo::reader::{self, System};
use nccl_topo::settings::p2p_level;
use serde::Serialize;
use topology::crossings::fewest;
use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::quantity::count;

use crate::command::{CommandError, Format, From, Outcome, gpu_entries};
use crate::hardware;
use crate::nccl::version::{For, ForNccl, without_nvlink};
use crate::out::{self, Out};
use crate::paper::Ink;
use crate::table::{Cell, Column, Table};

/// The widest matrix that is printed, in ranks and network devices.
const MATRIX: usize = 20;

/// Show the paths, rings and trees that NCCL makes of a file, or of this machine
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa nccl paths
  gpu-numa nccl paths /etc/nccl/topo.xml --nets eth
  gpu-numa nccl paths topo.xml --gpus 0000:03:00.0,0000:83:00.0 --json
  gpu-numa nccl paths --from /srv/recorded/node7 --hosts 2 --p2p off

Computed as NCCL 2.30.7 does, with one rank per GPU; --nccl names another version.  Without FILE, the file is that of \
gpu-numa nccl emit.  --gpus lists the ranks in order.  With a machine, sockets and NVLinks are the machine's; without \
one, each <cpu> of the file counts as a socket.

On one host, ring and tree are those of a host that NCCL keeps whole (NCCL_NET_DISABLE_INTRA=1).  Where NICs make it \
count the host as several nodes, the nodes and their rings follow.")]
pub(crate) struct PathsOf {
    /// The topology file [default: that of gpu-numa nccl emit]
    file: Option<PathBuf>,
    /// The communicator's GPUs in rank order: numbers in file order, or PCI addresses
    #[arg(long, value_name = "LIST")]
    gpus: Option<String>,
    /// Equal hosts of the job
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = crate::usage::whole(1..=65_536))]
    hosts: u32,
    /// How far P2P goes: on (as NCCL chooses), off (NCCL_P2P_DISABLE=1), or a value of NCCL_P2P_LEVEL
    #[arg(long, value_name = "LEVEL", default_value = "on", value_parser = parse_p2p)]
    p2p: P2p,
    /// The network devices: the RDMA ports of the file and machine, one socket without a PCI device, or none
    /// [default: ib where there are some, else eth]
    #[arg(long, value_name = "KIND")]
    nets: Option<Nets>,
    /// Compute capability of GPUs whose file does not say, as 90 for 9.0 [default: that of the machine, else 80]
    #[arg(long, value_name = "N", value_parser = parse_capability)]
    sm: Option<u32>,
    #[command(flatten)]
    nccl: ForNccl,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    format: Format,
}

/// Which network devices the job has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Nets {
    /// None.
    None,
    /// A socket without a PCI device.
    Eth,
    /// RDMA ports.
    Ib,
}

/// How far P2P goes; none is NCCL's own choice.
#[derive(Debug, Clone, Copy)]
pub(super) struct P2p(pub(super) Option<PathType>);

/// Reads `off` or a level for clap.
pub(super) fn parse_p2p(text: &str) -> Result<P2p, String> {
    match text.to_ascii_uppercase().as_str() {
        "ON" => Ok(P2p(None)),
        "OFF" => Ok(P2p(Some(PathType::Loc))),
        // NCCL reads the number that a text begins with, however large; here only one that is meant is taken.
        level => Some(level)
            .filter(|level| level.parse::<u8>().is_ok() || level.chars().all(char::is_alphabetic))
            .and_then(p2p_level)
            .map(|level| P2p(Some(level)))
            .ok_or_else(|| {
                "expected on, off, or a level as LOC, NVL, PIX, PXB, PHB or SYS".to_owned()
            }),
    }
}

/// NVIDIA's compute capabilities that NCCL 2.30's builds and tuning tables know of, 5.0 to 12.1.
const CAPABILITIES: [u32; 21] = [
    50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 88, 89, 90, 100, 101, 103, 110, 120, 121,
];

/// Reads `90` for clap.
fn parse_capability(text: &str) -> Result<u32, String> {
    let number = text.parse::<u32>().ok();
    number
        .filter(|number| CAPABILITIES.contains(number))
        .ok_or_else(|| {
            let known = CAPABILITIES.map(|number| number.to_string()).join(", ");
            format!("expected a compute capability without its point, one of {known}")
        })
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PathsDocument {
    schema: &'static str,
    #[serde(flatten)]
    view: PathsView,
    /// The same for other versions of NCCL, where something differs.
    others: Vec<PathsView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PathsView {
    /// The version of NCCL.
    nccl: String,
    hosts: u32,
    gpus: Vec<RankedGpu>,
    /// In both directions.
    pairs: Vec<GpuPair>,
    /// The network devices in NCCL's order.
    nics: Vec<NicPaths>,
    ring: Option<ChannelGraph>,
    tree: Option<ChannelGraph>,
    /// The nodes as which NCCL counts a host, where there are several.
    nodes: Vec<NodeView>,
    verdict: String,
    /// Whether NVLinks are not known, so that paths, rings and trees are those of GPUs that none joins.
    assumes_no_nvlink: bool,
    /// What the answer does not know, in words.
    notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RankedGpu {
    pci: String,
    /// Its number on the machine, as `gpu-numa show` has it; none where the machine is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<usize>,
    numaid: i64,
    rank: usize,
    /// The network devices that it uses, by channel.
    nics: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct GpuPair {
    a: String,
    b: String,
    r#type: String,
    bandwidth_gb_s: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct NicPaths {
    dev: usize,
    name: String,
    speed_gb_s: f64,
    rail: Option<i64>,
    /// Whether it stands for sockets on an interface that neither file nor machine names: its name, its speed and its place
    /// are what NCCL assumes where it is told none.
    assumed: bool,
    /// The path from each GPU, by rank.
    from: Vec<NicPath>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct NicPath {
    gpu: String,
    r#type: String,
    bandwidth_gb_s: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct NodeView {
    ranks: Vec<usize>,
    ring: Option<ChannelGraph>,
    tree: Option<ChannelGraph>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ChannelGraph {
    channels: usize,
    r#type: String,
    bandwidth_gb_s: f64,
    order: Vec<Vec<String>>,
    /// The network devices by which each channel comes in and goes out; empty inside a host.
    nics: Vec<[String; 2]>,
    sys_hops: Vec<usize>,
    socket_crossings: Vec<usize>,
}

impl PathsOf {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let is_here = matches!(self.from.source(), Source::ThisMachine);
        let machine = match &self.file {
            Some(_) if is_here => None,
            Some(_) | None => Some(self.from.read()?),
        };
        let searches = Searches::default();
        let versions = self.nccl.versions(is_here);
        let files = self.files(machine.as_ref(), &versions, &searches)?;
        let Some(SeenFile { system, .. }) = files.first() else {
            return Ok(Outcome::Wanting);
        };
        let all = gpus_of(system);
        let ranks = match &self.gpus {
            Some(list) => {
                let entries = gpu_entries("--gpus", list)?.into_iter();
                let named = entries.map(|entry| gpu(&all, entry));
                let named: Vec<String> = named.collect::<Result<_, _>>()?;
                expect_once(&named)?;
                named
            }
            None => all,
        };
        if let Some(why) = refusal(system, &ranks, machine.as_ref()) {
            out::message(&why);
            return Ok(Outcome::Wanting);
        }
        let of_machine = machine.as_ref().and_then(machine_capability);
        let capability = self.sm.or(of_machine).unwrap_or(COMPUTE_CAPABILITY);
        let mut views = files.iter().filter_map(|file| {
            let nets = self.net_devices(&file.system, machine.as_ref());
            let system = with_nets(&file.system, &nets);
            let link_note = link_note(&system, machine.as_ref());
            let notes = link_note.iter().chain(&file.notes);
            let view = View {
                ranks: &ranks,
                hosts: self.hosts,
                p2p_limit: self.p2p.0,
                version: &file.version,
                sockets: machine.as_ref(),
                capability,
                nets_are_assumed: nets == [NetDevice::socket()],
                is_corrected: self.file.is_none(),
                assumes_no_nvlink: link_note.is_some(),
                notes: &notes.cloned().collect::<Vec<_>>(),
                searches: &searches,
                system: &system,
            };
            let stops_at = view.model(true).model.stops_at;
            if stops_at.is_empty() {
                return Some(view.build());
            }
            out::message(&format!(
                "no paths: NCCL {} stops at this file: it needs {}, and fills in only what is above a rank's own GPU and above \
                 NICs that the file has no <net> of",
                view.version.name,
                named(&stops_at)
            ));
            None
        });
        let Some(first) = views.next() else {
            return Ok(Outcome::Wanting);
        };
        let others = views.filter(|other| !is_alike(other, &first)).collect();
        let document = PathsDocument {
            schema: "gpu-numa/nccl-paths/1",
            view: first,
            others,
        };
        if self.format.json {
            out.json(&document)?;
        } else {
            print(out, &document)?;
        }
        Ok(Outcome::Done)
    }

    /// The file that is named, as the versions read it that take it, else the machine's own; with what NCCL adds on the
    /// machine.  Empty where there is none, which is said.
    fn files(
        &self,
        machine: Option<&Machine>,
        versions: &[For],
        searches: &Searches,
    ) -> Result<Vec<SeenFile>, CommandError> {
        let taken = match (&self.file, machine) {
            (Some(file), _) => super::read_accepted(file, versions)?,
            (None, Some(machine)) => {
                match emit_with(machine, Form::for_hosts(self.hosts), searches) {
                    Ok(emitted) => versions
                        .iter()
                        .filter_map(|one| {
                            let reading = reader::read_for(&emitted.xml, one.rules);
                            Some((one.clone(), reading.system?))
                        })
                        .collect(),
                    Err(why) => {
                        out::message(&format!("no NCCL topology file: {why}"));
                        Vec::new()
                    }
                }
            }
            (None, None) => Vec::new(),
        };
        let seen = taken.into_iter().map(|(version, system)| match machine {
            Some(machine) => {
                let completed = completed(&system, machine);
                let filled = filled(&completed.system, machine, version.rules);
                let mut notes = absent_notes(&completed);
                notes.extend(filled_notes(&filled));
                SeenFile {
                    notes,
                    system: with_links(&filled.system, machine),
                    version,
                }
            }
            None => SeenFile {
                notes: left_out_note(&left_out(&system, version.rules)),
                system,
                version,
            },
        });
        Ok(seen.collect())
    }

    /// The network devices of the job.
    fn net_devices(&self, system: &System, machine: Option<&Machine>) -> Vec<NetDevice> {
        let mut ports = named_in(system);
        for port in machine.map(rdma_ports).unwrap_or_default() {
            match ports.iter_mut().find(|known| known.name == port.name) {
                Some(known) => *known = port,
                None => ports.push(port),
            }
        }
        let kind = self.nets.unwrap_or(if ports.is_empty() {
            Nets::Eth
        } else {
            Nets::Ib
        });
        match kind {
            Nets::None => Vec::new(),
            Nets::Eth => vec![NetDevice::socket()],
            Nets::Ib => ports,
        }
    }
}

/// A file as a version of NCCL has it.
struct SeenFile {
    version: For,
    system: System,
    /// What was filled in, or could not be, in words.
    notes: Vec<String>,
}

/// The most attributes that a note names.
const MOST_NAMED: usize = 3;

/// The first attributes of a list, and how many more there are.
fn named(attributes: &[String]) -> String {
    let mut text: Vec<String> = attributes.iter().take(MOST_NAMED).cloned().collect();
    let more = attributes.len().saturating_sub(MOST_NAMED);
    if more > 0 {
        text.push(format!("{more} more"));
    }
    text.join(", ")
}

/// The devices of the machine that the file does not have.
fn absent_notes(completed: &Completed) -> Vec<String> {
    let addresses = |devices: &[PciAddress]| {
        let texts: Vec<String> = devices.iter().map(ToString::to_string).collect();
        named(&texts)
    };
    let (added, unplaced) = (&completed.added, &completed.unplaced);
    let of_added = (!added.is_empty()).then(|| {
        format!(
            "The file does not have {}; placed where firmware reports it, as NCCL does.",
            addresses(added)
        )
    });
    let of_unplaced = (!unplaced.is_empty()).then(|| {
        format!(
            "The file does not have {}, which NCCL places where firmware reports it; that is not known here, and it is left out.",
            addresses(unplaced)
        )
    });
    of_added.into_iter().chain(of_unplaced).collect()
}

/// What NCCL fills in of the file on the machine.
fn filled_notes(filled: &Filled) -> Vec<String> {
    let mut notes = Vec::new();
    if !filled.added.is_empty() {
        notes.push(format!(
            "The file leaves out {}; filled in from the machine, as NCCL does above GPUs and NICs that it uses.",
            named(&filled.added)
        ));
    }
    if !filled.at_highest_speed.is_empty() {
        notes.push(format!(
            "NCCL takes the link of {} at the speed that it has at the moment, here assumed to be its highest.",
            named(&filled.at_highest_speed)
        ));
    }
    notes.extend(left_out_note(&filled.missing));
    notes
}

/// What NCCL would fill in and is not known here.
fn left_out_note(missing: &[String]) -> Vec<String> {
    let note = (!missing.is_empty()).then(|| {
        format!(
            "The file leaves out {}. NCCL fills these in on its machine, which is not known here, and paths may differ; \
             --from names a machine.",
            named(missing)
        )
    });
    note.into_iter().collect()
}

/// What is not known of NVLinks: the machine's were not visible, or no machine is asked and the file names none.
fn link_note(system: &System, machine: Option<&Machine>) -> Option<String> {
    match machine {
        Some(machine) => hardware::hidden_links(machine),
        None if names_links(&system.root) || gpus_of(system).len() < 2 => None,
        None => Some(
            "The file names no NVLink. NCCL finds NVLinks by itself, and paths over them take the place of those above; \
             --from joins those of a machine."
                .to_owned(),
        ),
    }
}

/// Why there are no paths of these ranks: a GPU that is no rank's alone.
fn refusal(system: &System, ranks: &[String], machine: Option<&Machine>) -> Option<String> {
    let is_asked = |busid: &String| ranks.contains(busid);
    let mut shared = shared_gpus(system);
    shared.retain(|gpu| is_asked(&gpu.busid));
    let (parts, several): (Vec<_>, Vec<_>) = shared.into_iter().partition(|gpu| gpu.is_in_parts);
    let busids = |gpus: Vec<SharedGpu>| gpus.into_iter().map(|gpu| gpu.busid).collect::<Vec<_>>();
    let machine = machine.into_iter().flat_map(|machine| &machine.gpus);
    let instances = machine.filter(|gpu| !gpu.mig.is_empty());
    let instances = instances.map(|gpu| gpu.pci.to_string()).filter(is_asked);
    let kinds = [
        ("in parts (MLOPart)", busids(parts)),
        ("shared by several ranks", busids(several)),
        ("divided by MIG", instances.collect()),
    ];
    let said: Vec<String> = kinds
        .into_iter()
        .filter(|(_, gpus)| !gpus.is_empty())
        .map(|(what, gpus)| {
            let verb = if gpus.len() == 1 { "is" } else { "are" };
            format!("{} {verb} {what}", gpus.join(", "))
        })
        .collect();
    (!said.is_empty()).then(|| {
        format!(
            "no paths: {}, and ranks on a part of a GPU are not modelled; --gpus can name the others",
            said.join("; ")
        )
    })
}

/// Whether an element or one below it is an NVLink.
fn names_links(element: &Element) -> bool {
    element.name == "nvlink" || element.children.iter().any(names_links)
}

/// Whether two versions of NCCL make the same of a file.
fn is_alike(one: &PathsView, other: &PathsView) -> bool {
    let unnamed = |view: &PathsView| PathsView {
        nccl: String::new(),
        ..view.clone()
    };
    unnamed(one) == unnamed(other)
}

/// A rank holds one GPU, and NCCL refuses a communicator that names one twice.
fn expect_once(gpus: &[String]) -> Result<(), CommandError> {
    let twice = (1..gpus.len()).find_map(|place| {
        let (before, rest) = gpus.split_at_checked(place)?;
        rest.first().filter(|gpu| before.contains(gpu))
    });
    twice.map_or(Ok(()), |gpu| {
        Err(CommandError::Argument(format!(
            "--gpus: \"{gpu}\" is named twice; expected each GPU once"
        )))
    })
}

/// A GPU of the file by its number or PCI address.
fn gpu(all: &[String], entry: &str) -> Result<String, CommandError> {
    let found = match entry.strip_prefix("GPU").unwrap_or(entry).parse::<usize>() {
        Ok(number) => all.get(number),
        Err(_) => all.iter().find(|busid| *busid == entry),
    };
    found.cloned().ok_or_else(|| {
        CommandError::Argument(format!(
            "--gpus \"{entry}\": no such GPU in the file; expected a number from 0 or one of {}",
            all.join(", ")
        ))
    })
}

/// What is looked at, and what a socket is.
struct View<'a> {
    system: &'a System,
    ranks: &'a [String],
    hosts: u32,
    p2p_limit: Option<PathType>,
    version: &'a For,
    sockets: Option<&'a Machine>,
    capability: u32,
    /// Whether the network devices are assumed, for neither file nor machine names one.
    nets_are_assumed: bool,
    /// Whether the file is that of `gpu-numa nccl emit`.
    is_corrected: bool,
    /// Whether NVLinks are not known.
    assumes_no_nvlink: bool,
    /// What is not known, in words.
    notes: &'a [String],
    /// Those that were made for this page.
    searches: &'a Searches,
}

/// A model, for what is asked of it.
struct Modelled<'a> {
    of: &'a View<'a>,
    model: Model,
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

    fn model(&self, is_whole: bool) -> Modelled<'_> {
        Modelled {
            of: self,
            model: Model::of(self.system, self.ranks, self.conditions(is_whole)),
        }
    }

    fn build(&self) -> PathsView {
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
            pci: gpu.busid.clone(),
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
        gpu.map(|gpu| gpu.busid.clone()).unwrap_or_default()
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

fn print(out: &mut Out, document: &PathsDocument) -> Result<(), CommandError> {
    let all: Vec<&PathsView> = std::iter::once(&document.view)
        .chain(&document.others)
        .collect();
    for (place, view) in all.iter().enumerate() {
        if place > 0 {
            out.line("")?;
        }
        if all.len() > 1 {
            out.line(format_args!("NCCL {}", view.nccl))?;
            out.line("")?;
        }
        print_view(out, view)?;
    }
    Ok(())
}

fn print_view(out: &mut Out, view: &PathsView) -> Result<(), CommandError> {
    let heads = ["rank", NUMBER, "PCI address", "NUMA id", NICS];
    let mut ranks = Table::new(heads.map(Column::left));
    for gpu in &view.gpus {
        ranks.row([
            Cell::plain(gpu.rank.to_string()),
            Cell::plain(
                gpu.number
                    .map_or_else(String::new, |number| format!("GPU{number}")),
            ),
            Cell::plain(gpu.pci.clone()),
            Cell::plain(gpu.numaid.to_string()),
            Cell::plain(marked(view, &gpu.nics).join(" ")),
        ]);
    }
    if view.nics.is_empty() {
        ranks.drop_column(NICS);
    }
    if view.gpus.iter().all(|gpu| gpu.number.is_none()) {
        ranks.drop_column(NUMBER);
    }
    out.lines(&ranks)?;
    if view.gpus.len() + view.nics.len() <= MATRIX {
        out.table(&matrix(view))?;
    } else {
        out.table(&list(view))?;
    }
    let width = out.paper().width(PAGE);
    for note in legend(view).into_iter().chain(assumed(view)) {
        out.sentence(&note, Ink::Faint, width)?;
    }
    for note in &view.notes {
        out.sentence(note, Ink::Plain, width)?;
    }
    let condition = condition(view.assumes_no_nvlink);
    for (name, graph) in [("ring", &view.ring), ("tree", &view.tree)] {
        print_graph(out, name, condition, graph.as_ref())?;
    }
    for node in &view.nodes {
        let ranks: Vec<String> = node.ranks.iter().map(ToString::to_string).collect();
        out.line("")?;
        out.line(format_args!("node of ranks {}:", ranks.join(" ")))?;
        for (name, graph) in [("ring", &node.ring), ("tree", &node.tree)] {
            print_graph(out, name, condition, graph.as_ref())?;
        }
    }
    out.line("")?;
    if let Some(used) = fewest_channels(view) {
        let channels = count(used, "channel");
        out.told(
            Ink::Plain,
            format_args!("{condition}NCCL uses {channels} of each, as many as the search that found the fewest"),
        )?;
    }
    out.told(Ink::Plain, &view.verdict)?;
    Ok(())
}

/// How many channels NCCL uses of each ring and tree, where its searches found different numbers (`route.rs`).
fn fewest_channels(view: &PathsView) -> Option<usize> {
    let whole = [&view.ring, &view.tree];
    let parts = view.nodes.iter().flat_map(|node| [&node.ring, &node.tree]);
    let graphs = whole.into_iter().chain(parts).flatten();
    let found: Vec<usize> = graphs.map(|graph| graph.channels).collect();
    let fewest = found.iter().copied().min()?;
    found.iter().any(|more| *more > fewest).then_some(fewest)
}

/// Behind the name of a network device that is assumed.
const MARK: &str = "*";

/// The width of notes where that of the paper is not known.
const PAGE: usize = 100;

/// The names of network devices, those with a mark that are assumed.
fn marked(view: &PathsView, names: &[String]) -> Vec<String> {
    let is_assumed = |name: &String| view.nics.iter().any(|nic| nic.assumed && nic.name == *name);
    let names = names.iter();
    names
        .map(|name| {
            if is_assumed(name) {
                format!("{name}{MARK}")
            } else {
                name.clone()
            }
        })
        .collect()
}

/// What the words of the paths mean, and how they differ from those of `gpu-numa show`.
fn legend(view: &PathsView) -> Option<String> {
    let to_gpus = view.pairs.iter().map(|pair| pair.r#type.as_str());
    let to_nics = view.nics.iter().flat_map(|nic| &nic.from);
    let used: BTreeSet<&str> = to_gpus
        .chain(to_nics.map(|path| path.r#type.as_str()))
        .collect();
    let words = [
        ("NVL", "over NVLink"),
        ("NVB", "over NVLink through another GPU"),
        ("C2C", "over NVLink-C2C"),
        ("PIX", "through one PCIe switch"),
        ("PXB", "through several PCIe switches"),
        ("P2C", "to a NIC over NVLink-C2C and the processor"),
        ("PXN", "to a NIC through another GPU"),
        (
            "PHB",
            "through the processor of one <cpu>, which `gpu-numa show` and nvidia-smi call PHB or NODE",
        ),
        ("SYS", "from one <cpu> to another"),
        ("NET", "through the network"),
        ("DIS", "not connected"),
    ];
    let known = words.iter().filter(|(word, _)| used.contains(word));
    let parts: Vec<String> = known
        .map(|(word, meaning)| format!("{word}: {meaning}"))
        .collect();
    (!parts.is_empty()).then(|| {
        format!(
            "NCCL's path types and GB/s by its own tables, not measured. {}.",
            parts.join("; ")
        )
    })
}

/// The network devices that are assumed.
fn assumed(view: &PathsView) -> Option<String> {
    let nic = view.nics.iter().find(|nic| nic.assumed)?;
    Some(format!(
        "{MARK} assumed: sockets over one interface of {} GB/s at the first <cpu>, as NCCL takes one whose speed and PCI \
         address it cannot read. No RDMA port is known here, or --nets eth asks for this.",
        nic.speed_gb_s
    ))
}

/// The head of the column of the machine's numbers of GPUs.
const NUMBER: &str = "GPU";

/// The head of the column of the network devices that a rank uses.
const NICS: &str = "NICs";

/// The paths from each rank in a row: their type and GB/s.
fn matrix(view: &PathsView) -> Table {
    let ranks = view.gpus.iter().map(|gpu| format!("rank {}", gpu.rank));
    let names: Vec<String> = view.nics.iter().map(|nic| nic.name.clone()).collect();
    let nics = marked(view, &names);
    let heads = std::iter::once("from".to_owned()).chain(ranks).chain(nics);
    let mut table = Table::new(heads.map(Column::left));
    for from in &view.gpus {
        let pair = |to: &RankedGpu| {
            let mut pairs = view.pairs.iter();
            pairs.find(|pair| pair.a == from.pci && pair.b == to.pci)
        };
        let to_gpus = view.gpus.iter().map(|to| {
            pair(to).map_or_else(
                || "X".to_owned(),
                |pair| format!("{} {}", pair.r#type, pair.bandwidth_gb_s),
            )
        });
        let to_nics = view.nics.iter().map(|nic| {
            let path = nic.from.iter().find(|path| path.gpu == from.pci);
            path.map_or_else(String::new, |path| {
                format!("{} {}", path.r#type, path.bandwidth_gb_s)
            })
        });
        let first = std::iter::once(format!("rank {}", from.rank));
        table.row(first.chain(to_gpus).chain(to_nics).map(Cell::plain));
    }
    table
}

/// The paths as a list, where a matrix would be too wide.
fn list(view: &PathsView) -> Table {
    let words = ["from", "to", "path"].map(Column::left);
    let mut pairs = Table::new(words.into_iter().chain([Column::right("GB/s")]));
    for pair in &view.pairs {
        pairs.row([
            Cell::plain(pair.a.clone()),
            Cell::plain(pair.b.clone()),
            Cell::plain(pair.r#type.clone()),
            Cell::plain(pair.bandwidth_gb_s.to_string()),
        ]);
    }
    for nic in &view.nics {
        for path in &nic.from {
            pairs.row([
                Cell::plain(path.gpu.clone()),
                Cell::plain(marked(view, std::slice::from_ref(&nic.name)).concat()),
                Cell::plain(path.r#type.clone()),
                Cell::plain(path.bandwidth_gb_s.to_string()),
            ]);
        }
    }
    pairs
}

/// What stands before a statement that may hold without NVLink alone.
fn condition(assumes_no_nvlink: bool) -> &'static str {
    if assumes_no_nvlink {
        "if no NVLink joins the GPUs, "
    } else {
        ""
    }
}

fn print_graph(
    out: &mut Out,
    name: &str,
    condition: &str,
    graph: Option<&ChannelGraph>,
) -> Result<(), CommandError> {
    let Some(graph) = graph else { return Ok(()) };
    out.line("")?;
    out.line(format_args!(
        "{condition}{name}: {} of {} GB/s, {}",
        count(graph.channels, "channel"),
        graph.bandwidth_gb_s,
        graph.r#type
    ))?;
    let counts = graph.sys_hops.iter().zip(&graph.socket_crossings);
    for (channel, (order, (sys, crossings))) in graph.order.iter().zip(counts).enumerate() {
        let order = order.join(" ");
        let order = match graph.nics.get(channel) {
            Some([into, back]) => format!("{into} > {order} > {back}"),
            None => order,
        };
        out.line(format_args!(
            "  {order}  ({}, {})",
            count(*sys, "SYS hop"),
            match graph.nics.get(channel) {
                Some(_) => format!("{} between GPUs", count(*crossings, "socket crossing")),
                None => count(*crossings, "socket crossing"),
            }
        ))?;
    }
    Ok(())
}
