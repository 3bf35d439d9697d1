//! `gpu-numa nccl ranks`: which GPU each rank of a parallel layout should take.

use clap::{Args, ValueEnum};
use discovery::Source;
use nccl_topo::capability::machine_capability;
use nccl_topo::emit::{Form, NotEmitted, emit_with};
use nccl_topo::graph::{PathType, Reach, Searches};
use nccl_topo::model::nets::{NetDevice, rdma_ports, with_nets};
use nccl_topo::model::{COMPUTE_CAPABILITY, Conditions};
use nccl_topo::ranks::{Cost, Crossing, Layout, Numbering, PARALLELS, Parallel, Placing};
use nccl_topo::reader;
use serde::Serialize;
use topology::machine::Machine;
use topology::pci::PciAddress;
use topology::quantity::count;

use crate::command::{CommandError, Format, From, Outcome, parse_gpus};
use crate::hardware;
use crate::nccl::paths::{P2p, parse_p2p};
use crate::nccl::version::ForNccl;
use crate::out::Out;
use crate::usage::whole;

/// The most hosts of a job.
const MOST_HOSTS: usize = 65_536;

/// Find the order of GPUs in which a parallel layout's communicators cross sockets least
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa nccl ranks --tp 4 --dp 2
  gpu-numa nccl ranks --tp 2 --pp 2 --dp 8 --order tp-pp-dp --from /srv/recorded/node7

The host's ranks take its GPUs in the order that is printed for CUDA_VISIBLE_DEVICES, each the one of its local rank, as \
torchrun's workers do.  NCCL orders the GPUs of a communicator by itself, so what an order decides is which GPUs are in \
one communicator together: tensor-parallel groups count first, then data-parallel ones, then pipelines.  Up to 8 GPUs \
all orders are tried.

Exit status: 0 when the order of PCI addresses is as good as any, 1 when another is better, 2 when nothing can be said.")]
pub(crate) struct Ranks {
    /// Ranks of a tensor-parallel group (default: 1)
    #[arg(long, value_name = "N", value_parser = whole(1..=4096))]
    tp: Option<u32>,
    /// Ranks of a data-parallel group (default: 1)
    #[arg(long, value_name = "N", value_parser = whole(1..=65536))]
    dp: Option<u32>,
    /// Stages of a pipeline (default: 1)
    #[arg(long, value_name = "N", value_parser = whole(1..=4096))]
    pp: Option<u32>,
    /// How ranks are numbered, the first fastest: tp-dp-pp (Megatron-LM, DeepSpeed) or tp-pp-dp (vLLM)
    #[arg(long, value_name = "ORDER", default_value = "tp-dp-pp")]
    order: Order,
    /// The host's GPUs, by number in PCI order or by PCI address [default: all]
    #[arg(long, value_name = "GPU,GPU")]
    gpus: Option<String>,
    /// How far P2P goes: on (as NCCL chooses), off (NCCL_P2P_DISABLE=1), or a value of NCCL_P2P_LEVEL
    #[arg(long, value_name = "LEVEL", default_value = "on", value_parser = parse_p2p)]
    p2p: P2p,
    #[command(flatten)]
    nccl: ForNccl,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    format: Format,
}

/// How ranks are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    /// Tensor, data, pipeline.
    TpDpPp,
    /// Tensor, pipeline, data.
    TpPpDp,
}

/// The JSON document.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RanksDocument {
    /// `gpu-numa/nccl-ranks/1`.
    schema: &'static str,
    /// Hosts of the job.
    hosts: usize,
    /// Ranks on each host.
    ranks_per_host: usize,
    /// The GPU of each local rank in the best order.
    gpus: Vec<PciAddress>,
    /// The same by number in PCI order, for `CUDA_VISIBLE_DEVICES` with `CUDA_DEVICE_ORDER=PCI_BUS_ID`.
    visible: Vec<usize>,
    /// Whether the order of PCI addresses costs the same.
    pci_order_is_as_good: bool,
    /// Whether the best order crosses less; if not, its groups are only nearer to each other where the other is not as good.
    crosses_less: bool,
    /// The communicators of which this host has several ranks.
    groups: Vec<GroupKind>,
    /// The version of NCCL whose search made the rings; null where there is no topology file of this machine.
    nccl: Option<String>,
    /// What is not known, in words.
    notes: Vec<String>,
}

/// The communicators of one kind.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct GroupKind {
    /// `tp`, `dp` or `pp`.
    kind: &'static str,
    /// How many ranks of the job each has.
    size: usize,
    /// How many of them the host has several ranks of.
    groups: usize,
    /// How they fare in the order of PCI addresses.
    in_pci_order: Fares,
    /// How they fare in the best order.
    in_best_order: Fares,
}

/// How communicators of one kind fare in an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Fares {
    /// Between sockets, of all rings together: what their GPUs force at least.
    crossings: u32,
    /// How many of the groups have a ring that crosses in NCCL's search; null where it was not run, and for groups on several hosts
    /// where NCCL cuts a host.
    nccl_crossing_groups: Option<u32>,
}

/// What NCCL's search makes of each kind of group; none of one where it is not known.
type Searched = [Option<Crossing>; 3];

impl Ranks {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let machine = self.from.read()?;
        let gpus = match &self.gpus {
            Some(list) => {
                let mut named = parse_gpus(&machine, "--gpus", list)?;
                // What is compared with is the order of addresses, however they were typed.
                named.sort_unstable();
                named
            }
            None => machine.nccl_gpus().map(|gpu| gpu.pci).collect(),
        };
        if gpus.is_empty() {
            let why = if machine.gpus.is_empty() {
                NotEmitted::NoNvidiaGpu
            } else {
                NotEmitted::OtherVendor
            };
            return Err(CommandError::Argument(why.to_string()));
        }
        if self.tp.or(self.dp).or(self.pp).is_none() {
            return Err(CommandError::Argument(
                "--tp, --dp and --pp: none is given; expected the layout's, such as --tp 4 --dp 2"
                    .to_owned(),
            ));
        }
        let layout = self.layout();
        let (ranks, hosts) = places(layout, gpus.len())?;
        if let Some(lost) = gpus.iter().find(|gpu| !has_package(&machine, **gpu)) {
            return Err(CommandError::Argument(format!(
                "the socket of {} is unknown, so no order can be compared",
                hardware::gpu_label(&machine, *lost)
            )));
        }
        let reach = Reach {
            p2p_limit: self.p2p.0,
            ..Reach::default()
        };
        // Where no P2P is allowed, NVLinks carry nothing.
        let carrying = reach.carrying(&machine);
        let placing = Placing::new(&carrying, gpus.clone(), layout.groups(ranks, hosts));
        let plain: Vec<usize> = (0..ranks).collect();
        let best = placing.best(ranks);
        let costs = [placing.cost(&plain), placing.cost(&best)];
        let [in_pci_order, in_best_order] = &costs;
        let is_as_good = in_pci_order == in_best_order;
        let crosses_less = in_best_order.crossings < in_pci_order.crossings;
        // Where nothing is gained, nothing is to be set.
        let best = if is_as_good { plain.clone() } else { best };
        let searched = self.by_nccl(&machine, &placing, (hosts, reach), [&plain, &best]);
        let document = RanksDocument {
            schema: "gpu-numa/nccl-ranks/1",
            hosts,
            ranks_per_host: ranks,
            gpus: best
                .iter()
                .filter_map(|place| gpus.get(*place).copied())
                .collect(),
            visible: numbers(&machine, &gpus, &best),
            pci_order_is_as_good: is_as_good,
            crosses_less,
            groups: kinds(
                layout,
                (ranks, hosts),
                &costs,
                searched.as_ref().map(|(_, found)| found),
            ),
            nccl: searched.map(|(name, _)| name),
            notes: hardware::hidden_links(&carrying).into_iter().collect(),
        };
        if self.format.json {
            out.json(&document)?;
        } else {
            self.print(out, &machine, &document, gpus.len())?;
        }
        Ok(if is_as_good {
            Outcome::Done
        } else {
            Outcome::Wanting
        })
    }

    /// Ranks of a tensor-parallel group, of a data-parallel one, and stages.
    fn sizes(&self) -> [u32; 3] {
        [self.tp, self.dp, self.pp].map(|size| size.unwrap_or(1))
    }

    fn layout(&self) -> Layout {
        let size = |ranks: u32| usize::try_from(ranks).unwrap_or(usize::MAX);
        let [tensor, data, pipeline] = self.sizes().map(size);
        Layout {
            tensor,
            data,
            pipeline,
            numbering: match self.order {
                Order::TpDpPp => Numbering::TensorDataPipeline,
                Order::TpPpDp => Numbering::TensorPipelineData,
            },
        }
    }

    /// What NCCL's search makes of each kind of group in two orders, under the file that this machine should have and with its RDMA
    /// ports, or with sockets where it has none.
    fn by_nccl(
        &self,
        machine: &Machine,
        placing: &Placing<'_>,
        (hosts, reach): (usize, Reach),
        orders: [&[usize]; 2],
    ) -> Option<(String, [Searched; 2])> {
        let searches = Searches::default();
        let form = if hosts > 1 {
            Form::MultiHost
        } else {
            Form::SingleHost
        };
        let emitted = emit_with(machine, form, &searches).ok()?;
        let is_here = matches!(self.from.source(), Source::ThisMachine);
        let version = self.nccl.versions(is_here).into_iter().next()?;
        let system = reader::read_for(&emitted.xml, version.rules).system?;
        let mut nets = rdma_ports(machine);
        if nets.is_empty() {
            nets.push(NetDevice::socket());
        }
        let system = with_nets(&system, &nets);
        let conditions = Conditions {
            compute_capability: machine_capability(machine).unwrap_or(COMPUTE_CAPABILITY),
            reach,
            rules: version.rules,
        };
        let searched = orders.map(|order| placing.by_nccl(&system, conditions, &searches, order));
        let is_known = searched.iter().flatten().any(Option::is_some);
        is_known.then_some((version.name, searched))
    }

    fn print(
        &self,
        out: &mut Out,
        machine: &Machine,
        document: &RanksDocument,
        of_gpus: usize,
    ) -> Result<(), CommandError> {
        let [tp, dp, pp] = self.sizes();
        let order = match self.order {
            Order::TpDpPp => "tp-dp-pp",
            Order::TpPpDp => "tp-pp-dp",
        };
        let ranks = count(document.ranks_per_host, "rank");
        out.line(match document.hosts {
            1 => format!("tp {tp}, dp {dp}, pp {pp}: {ranks} on one host, numbered {order}"),
            hosts => format!(
                "tp {tp}, dp {dp}, pp {pp}: {hosts} hosts with {ranks} each, numbered {order}"
            ),
        })?;
        let taken: Vec<String> = document.visible.iter().map(usize::to_string).collect();
        let taken = taken.join(",");
        if document.ranks_per_host < of_gpus {
            out.line(format_args!(
                "  they take {} of {of_gpus} GPUs: {taken} by number in PCI order",
                document.ranks_per_host
            ))?;
        }
        // Before figures that hold without it.
        for note in &document.notes {
            out.line(format_args!("  {note}"))?;
        }
        if document.groups.is_empty() {
            out.line("no communicator has several ranks of one host, so any order is as good")?;
            return Ok(());
        }
        for kind in &document.groups {
            out.line(format_args!(
                "  {}",
                kind_line(kind, document.pci_order_is_as_good)
            ))?;
        }
        if let Some(version) = &document.nccl {
            let p2p = match self.p2p.0 {
                None => String::new(),
                Some(PathType::Loc) => ", without P2P".to_owned(),
                Some(level) => format!(", with P2P up to {level}"),
            };
            out.line(format_args!(
                "  (rings as NCCL {version} makes them with the file of gpu-numa nccl emit{p2p})"
            ))?;
        }
        if document.pci_order_is_as_good {
            out.line("the order of PCI addresses is as good as any")?;
        } else {
            if !document.crosses_less {
                out.line("no order crosses less; in this one the GPUs of a group are nearer to each other")?;
            }
            out.line(format_args!(
                "set for the ranks of each host: CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES={taken}"
            ))?;
            for (rank, gpu) in document.gpus.iter().enumerate() {
                out.line(format_args!(
                    "  local rank {rank}: {}",
                    hardware::gpu_label(machine, *gpu)
                ))?;
            }
        }
        Ok(())
    }
}

/// How many ranks a host has, and how many hosts there are.
fn places(layout: Layout, gpus: usize) -> Result<(usize, usize), CommandError> {
    let wrong = |why: String| Err(CommandError::Argument(why));
    let Some(all) = layout.ranks().filter(|all| *all <= MOST_HOSTS * 16) else {
        return wrong("--tp, --dp and --pp: too many ranks".to_owned());
    };
    if all <= gpus {
        return Ok((all, 1));
    }
    if !all.is_multiple_of(gpus) {
        return wrong(format!(
            "--tp, --dp and --pp make {all} ranks, which do not fill hosts of {}; name as many as a host has ranks with --gpus",
            count(gpus, "GPU")
        ));
    }
    let hosts = all / gpus;
    if hosts > MOST_HOSTS {
        return wrong(format!("{hosts} hosts; expected at most {MOST_HOSTS}"));
    }
    Ok((gpus, hosts))
}

fn has_package(machine: &Machine, gpu: PciAddress) -> bool {
    machine
        .gpu(gpu)
        .is_some_and(|gpu| gpu.locality.package.is_some())
}

/// The GPUs of an order by number in PCI order.
fn numbers(machine: &Machine, gpus: &[PciAddress], order: &[usize]) -> Vec<usize> {
    let number = |place: &usize| {
        let own = gpus.get(*place)?;
        machine.nccl_gpus().position(|gpu| gpu.pci == *own)
    };
    order.iter().filter_map(number).collect()
}

fn kinds(
    layout: Layout,
    (ranks, hosts): (usize, usize),
    [plain, best]: &[Cost; 2],
    searched: Option<&[Searched; 2]>,
) -> Vec<GroupKind> {
    let groups = layout.groups(ranks, hosts);
    let of = |parallel: Parallel| {
        groups
            .iter()
            .filter(move |group| group.parallel == parallel)
    };
    let fares = |parallel: Parallel, cost: &Cost, order: usize| Fares {
        crossings: cost.crossings.get(parallel as usize).copied().unwrap_or(0),
        nccl_crossing_groups: searched
            .and_then(|both| *both.get(order)?.get(parallel as usize)?)
            .map(|found| found.crossing_groups),
    };
    PARALLELS
        .into_iter()
        .filter(|parallel| of(*parallel).next().is_some())
        .map(|parallel| GroupKind {
            kind: word(parallel),
            size: layout.size(parallel),
            groups: of(parallel).count(),
            in_pci_order: fares(parallel, plain, 0),
            in_best_order: fares(parallel, best, 1),
        })
        .collect()
}

fn word(parallel: Parallel) -> &'static str {
    match parallel {
        Parallel::Tensor => "tp",
        Parallel::Data => "dp",
        Parallel::Pipeline => "pp",
    }
}

fn kind_line(kind: &GroupKind, is_as_good: bool) -> String {
    let GroupKind {
        kind: word,
        size,
        groups,
        in_pci_order,
        in_best_order,
    } = kind;
    let groups = count(*groups, "group");
    let (plain, best) = (fares_words(*in_pci_order), fares_words(*in_best_order));
    if is_as_good || plain == best {
        format!("{word}: {groups} of {size}: {best}")
    } else {
        format!("{word}: {groups} of {size}: {best}; in PCI order {plain}")
    }
}

fn fares_words(fares: Fares) -> String {
    match (fares.nccl_crossing_groups, fares.crossings) {
        (Some(0), _) | (None, 0) => "none crosses the socket link".to_owned(),
        (Some(1), _) => "1 crosses the socket link".to_owned(),
        (Some(several), _) => format!("{several} cross the socket link"),
        (None, 1) => "at least 1 hop crosses the socket link".to_owned(),
        (None, several) => format!("at least {several} hops cross the socket link"),
    }
}
