//! `gpu-numa nccl paths`.

use std::path::PathBuf;

use clap::Args;
use discovery::Source;
use nccl_topo::capability::machine_capability;
use nccl_topo::graph::{Channels, PathType, Search, hops};
use nccl_topo::model::{COMPUTE_CAPABILITY, Conditions, Model, ModelGpu, gpus_of};
use nccl_topo::predict::{predict, true_file_is_good};
use serde::Serialize;
use topology::crossings::fewest;
use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::quantity::count;

use crate::command::{CommandError, Format, From, Outcome};
use crate::out::Out;
use crate::table::{Cell, Column, Table};

/// Show the paths, rings and trees that NCCL makes of a file
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa nccl paths /etc/nccl/topo.xml
  gpu-numa nccl paths topo.xml --gpus 0000:03:00.0,0000:83:00.0 --json
  gpu-numa nccl paths topo.xml --from /srv/recorded/node7

Computed as NCCL 2.30.7 does for one host with one rank per GPU, no network, and P2P working.  --gpus lists the \
ranks in order.  With --from, sockets are those of that machine; without it, each <cpu> of the file counts as one.")]
pub(crate) struct PathsOf {
    /// The topology file
    file: PathBuf,
    /// The communicator's GPUs in rank order: numbers in file order, or PCI addresses
    #[arg(long, value_name = "LIST")]
    gpus: Option<String>,
    /// Compute capability of GPUs whose file does not say, as 90 for 9.0 [default: that of --from, else 80]
    #[arg(long, value_name = "N", value_parser = parse_capability)]
    sm: Option<u32>,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    format: Format,
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
    gpus: Vec<RankedGpu>,
    pairs: Vec<GpuPair>,
    ring: Option<ChannelGraph>,
    tree: Option<ChannelGraph>,
    verdict: String,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RankedGpu {
    pci: String,
    numaid: i64,
    rank: usize,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct GpuPair {
    a: String,
    b: String,
    r#type: String,
    bandwidth_gb_s: f64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ChannelGraph {
    channels: usize,
    r#type: String,
    bandwidth_gb_s: f64,
    order: Vec<Vec<String>>,
    sys_hops: Vec<usize>,
    socket_crossings: Vec<usize>,
}

impl PathsOf {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let system = super::read_accepted(&self.file)?;
        let all = gpus_of(&system);
        let ranks = match &self.gpus {
            Some(list) => {
                let named = list.split(',').map(|entry| gpu(&all, entry.trim()));
                let named: Vec<String> = named.collect::<Result<_, _>>()?;
                expect_once(&named)?;
                named
            }
            None => all,
        };
        let sockets = match self.from.source() {
            Source::ThisMachine => None,
            Source::Path(_) => Some(self.from.read()?),
        };
        let of_machine = sockets.as_ref().and_then(machine_capability);
        let capability = self.sm.or(of_machine).unwrap_or(COMPUTE_CAPABILITY);
        let view = View {
            model: Model::of(&system, &ranks, Conditions::of_capability(capability)),
            sockets,
            capability,
        };
        let document = view.document();
        if self.format.json {
            out.json(&document)?;
        } else {
            print(out, &document)?;
        }
        Ok(Outcome::Done)
    }
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

/// A model, and what a socket is.
struct View {
    model: Model,
    sockets: Option<Machine>,
    capability: u32,
}

impl View {
    fn document(&self) -> PathsDocument {
        let gpus = &self.model.gpus;
        let mut by_rank: Vec<_> = (0..gpus.len()).collect();
        by_rank.sort_by_key(|index| gpus.get(*index).map(|gpu| gpu.rank));
        let search = Search::of(&self.model.graph, &self.model.paths);
        let ring = search.as_ref().map(|search| self.graph(&search.ring, true));
        let tree = search
            .as_ref()
            .map(|search| self.graph(&search.tree, false));
        let listed = by_rank.iter().filter_map(|index| gpus.get(*index));
        PathsDocument {
            schema: "gpu-numa/nccl-paths/1",
            gpus: listed
                .map(|gpu| RankedGpu {
                    pci: gpu.busid.clone(),
                    numaid: gpu.numaid,
                    rank: gpu.rank,
                })
                .collect(),
            pairs: self.pairs(&by_rank),
            verdict: self.verdict(ring.as_ref()),
            ring,
            tree,
        }
    }

    fn pairs(&self, by_rank: &[usize]) -> Vec<GpuPair> {
        let mut pairs = Vec::new();
        for (place, a) in by_rank.iter().enumerate() {
            for b in by_rank.iter().skip(place + 1) {
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

    fn graph(&self, channels: &Channels, closes: bool) -> ChannelGraph {
        let count = |test: &dyn Fn(usize, usize) -> bool| {
            let orders = channels.orders.iter();
            orders
                .map(|order| hops(order, closes).filter(|(a, b)| test(*a, *b)).count())
                .collect()
        };
        let names = |order: &Vec<usize>| order.iter().map(|gpu| self.name(*gpu)).collect();
        ChannelGraph {
            channels: channels.orders.len(),
            r#type: channels.kind.to_string(),
            bandwidth_gb_s: rounded(channels.bandwidth_gb_s),
            order: channels.orders.iter().map(names).collect(),
            sys_hops: count(&|a, b| self.kind(a, b) == Some(PathType::Sys)),
            socket_crossings: count(&|a, b| self.crosses(a, b)),
        }
    }

    fn name(&self, gpu: usize) -> String {
        self.model
            .gpus
            .get(gpu)
            .map(|gpu| gpu.busid.clone())
            .unwrap_or_default()
    }

    fn kind(&self, a: usize, b: usize) -> Option<PathType> {
        self.model.paths.between(a, b).map(|path| path.kind)
    }

    /// Whether a hop goes from socket to socket: not over NVLink, whatever the sockets are.
    fn crosses(&self, a: usize, b: usize) -> bool {
        let through_host = self.kind(a, b).is_some_and(PathType::is_through_host);
        through_host && self.socket(a) != self.socket(b)
    }

    /// The package by the machine, else the `<cpu>` of the file.
    fn socket(&self, gpu: usize) -> Option<u64> {
        let gpu: &ModelGpu = self.model.gpus.get(gpu)?;
        let Some(machine) = &self.sockets else {
            return u64::try_from(gpu.cpu).ok();
        };
        let address: PciAddress = gpu.busid.parse().ok()?;
        machine.gpu(address)?.locality.package.map(u64::from)
    }

    fn verdict(&self, ring: Option<&ChannelGraph>) -> String {
        let Some(ring) = ring else {
            return "fewer than two GPUs: no ring".to_owned();
        };
        let mut sockets: Vec<_> = (0..self.model.gpus.len())
            .map(|gpu| self.socket(gpu))
            .collect();
        sockets.sort_unstable();
        sockets.dedup();
        let groups = u32::try_from(sockets.len()).unwrap_or(u32::MAX);
        let least = usize::try_from(fewest(groups, true)).unwrap_or(usize::MAX);
        let most = ring
            .socket_crossings
            .iter()
            .max()
            .copied()
            .unwrap_or_default();
        let place = if self.sockets.is_some() {
            "sockets"
        } else {
            "<cpu> elements"
        };
        let times = count(most, "time");
        if ring.bandwidth_gb_s < 1.0 {
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
        let Some(machine) = &self.sockets else {
            return String::new();
        };
        match true_file_is_good(machine, self.capability) {
            Some(true) => "; `gpu-numa nccl emit` writes a file that fixes this".to_owned(),
            Some(false) => predict(machine)
                .iter()
                .find(|found| found.with_p2p && found.compute_capability == self.capability)
                .map_or_else(
                    || "; no true topology file can fix this".to_owned(),
                    |found| format!("; {found}"),
                ),
            None => String::new(),
        }
    }
}

/// Two places after the point, as NCCL's log has one.
fn rounded(value: f32) -> f64 {
    (f64::from(value) * 100.0).round() / 100.0
}

fn print(out: &mut Out, document: &PathsDocument) -> Result<(), CommandError> {
    let heads = ["rank", "PCI address", "NUMA id"];
    let mut ranks = Table::new(heads.map(Column::left));
    for gpu in &document.gpus {
        ranks.row([
            Cell::plain(gpu.rank.to_string()),
            Cell::plain(gpu.pci.clone()),
            Cell::plain(gpu.numaid.to_string()),
        ]);
    }
    out.lines(&ranks)?;
    let words = ["from", "to", "path"].map(Column::left);
    let mut pairs = Table::new(words.into_iter().chain([Column::right("GB/s")]));
    for pair in &document.pairs {
        pairs.row([
            Cell::plain(pair.a.clone()),
            Cell::plain(pair.b.clone()),
            Cell::plain(pair.r#type.clone()),
            Cell::plain(pair.bandwidth_gb_s.to_string()),
        ]);
    }
    out.table(&pairs)?;
    for (name, graph) in [("ring", &document.ring), ("tree", &document.tree)] {
        let Some(graph) = graph else { continue };
        out.line("")?;
        out.line(format_args!(
            "{name}: {} of {} GB/s, {}",
            count(graph.channels, "channel"),
            graph.bandwidth_gb_s,
            graph.r#type
        ))?;
        let counts = graph.sys_hops.iter().zip(&graph.socket_crossings);
        for (order, (sys, crossings)) in graph.order.iter().zip(counts) {
            let order = order.join(" ");
            out.line(format_args!(
                "  {order}  ({}, {})",
                count(*sys, "SYS hop"),
                count(*crossings, "socket crossing")
            ))?;
        }
    }
    out.line("")?;
    out.line(&document.verdict)?;
    Ok(())
}
