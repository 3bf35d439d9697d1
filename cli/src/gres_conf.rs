//! `gpu-numa gres-conf`: gres.conf for this machine, and the line of slurm.conf that fits.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use slurm_config::cores::{CoreMap, SocketKind};
use slurm_config::release::Release;
use topology::machine::{Gpu, Machine, NodeKind};
use topology::path::nvlinks;
use topology::pci::PciAddress;

use crate::command::{CommandError, Format, From, Outcome};
use crate::doctor::{parse_release, world};
use crate::out::Out;

/// Writes the lines.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa gres-conf > gres.conf
  gpu-numa gres-conf --numa-node-as-socket --slurm-release 24.11.7
  gpu-numa gres-conf --from /srv/recorded/node7 --json

Cores= are Slurm's own core numbers, not CPUs.  From Slurm 24.11.7 on they must be whole sockets, and \
they are written so too where the release is not known.  Lines are in PCI order, which is the order that \
CUDA counts in under CUDA_DEVICE_ORDER=PCI_BUS_ID.  What slurm.conf needs follows as comments.")]
pub(crate) struct GresConf {
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    format: Format,
    /// The Slurm to write for, where it cannot be found out
    #[arg(long, value_name = "RELEASE", value_parser = parse_release)]
    slurm_release: Option<Release>,
    /// Read this slurm.conf for SlurmdParameters
    #[arg(long, value_name = "FILE")]
    slurm_conf: Option<PathBuf>,
    /// Write for SlurmdParameters=numa_node_as_socket (default: as slurm.conf has it)
    #[arg(long)]
    numa_node_as_socket: bool,
}

/// The JSON document.
#[derive(Debug, Serialize)]
struct GresConfDocument {
    schema: &'static str,
    slurm_release: Option<String>,
    gres: Vec<GresLine>,
    /// The whole line for slurm.conf.
    node_line: String,
    /// What else slurm.conf needs.
    parameters: Vec<String>,
    remarks: Vec<String>,
}

/// A line of gres.conf.
#[derive(Debug, Serialize)]
struct GresLine {
    pci: PciAddress,
    #[serde(rename = "type")]
    kind: Option<String>,
    file: String,
    cores: Option<String>,
    links: Option<String>,
    /// What a person wants to know of it.
    note: String,
}

impl GresConf {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let machine = self.from.read()?;
        let world = world(&machine, &self.from.source(), self.slurm_conf.as_deref())?;
        let found = world.slurm().and_then(|slurm| slurm.release);
        let release = self.slurm_release.or(found);
        let configured = world
            .slurm()
            .map_or(SocketKind::Package, |slurm| slurm.socket_kind());
        let kind = if self.numa_node_as_socket {
            SocketKind::NumaNode
        } else {
            configured
        };
        if machine.packages.is_empty() {
            return Err(CommandError::Argument(
                "packages and cores are not recorded there; expected this machine, a directory holding sys/, \
                 an hwloc XML or a snapshot"
                    .to_owned(),
            ));
        }
        let map = CoreMap::new(&machine, kind).ok_or_else(|| {
            CommandError::Argument(
                "the machine's sockets are not alike, so Slurm's core numbers cannot be told"
                    .to_owned(),
            )
        })?;
        let name = machine
            .hostname
            .as_deref()
            .map_or("NODE", |name| name.split('.').next().unwrap_or(name));
        let document = write(&machine, name, &map, kind, release);
        if self.format.json {
            out.json(&document)?;
        } else {
            print(out, name, &document)?;
        }
        Ok(Outcome::Done)
    }
}

/// What the lines are made of.
struct Host<'a> {
    machine: &'a Machine,
    map: &'a CoreMap,
    /// NVIDIA's GPUs by number.
    gpus: Vec<(usize, &'a Gpu)>,
    /// Whether `Cores=` must be whole sockets.
    wants_whole: bool,
    /// Whether there may be NVLink that could not be seen.
    hides_nvlink: bool,
}

fn write(
    machine: &Machine,
    name: &str,
    map: &CoreMap,
    kind: SocketKind,
    release: Option<Release>,
) -> GresConfDocument {
    let numbered = machine.gpus.iter().enumerate();
    let gpus: Vec<(usize, &Gpu)> = numbered
        .filter(|(_, gpu)| gpu.is_bound_at_launch())
        .collect();
    let may_have = gpus.iter().any(|(_, gpu)| gpu.may_link());
    let host = Host {
        machine,
        map,
        wants_whole: release
            .and_then(Release::wants_whole_sockets)
            .unwrap_or(true),
        hides_nvlink: may_have && !machine.nvlink_visible && gpus.len() > 1,
        gpus,
    };
    let gres: Vec<GresLine> = host
        .gpus
        .iter()
        .map(|(index, gpu)| host.line(*index, gpu))
        .collect();
    GresConfDocument {
        schema: "gpu-numa/gres-conf/1",
        slurm_release: release.map(|release| release.to_string()),
        node_line: node_line(machine, name, map, &gres),
        gres,
        parameters: match kind {
            SocketKind::Package => Vec::new(),
            SocketKind::NumaNode => vec!["SlurmdParameters=numa_node_as_socket".to_owned()],
            SocketKind::L3 => vec!["SlurmdParameters=l3cache_as_socket".to_owned()],
        },
        remarks: host.remarks(kind),
    }
}

impl Host<'_> {
    /// The line of a GPU.
    fn line(&self, index: usize, gpu: &Gpu) -> GresLine {
        let local = gpu
            .locality
            .cpus
            .as_ref()
            .map(|cpus| self.map.cores_of(cpus));
        let cores = local.map(|own| {
            if self.wants_whole {
                self.map.whole_sockets(&own)
            } else {
                own
            }
        });
        let node = gpu.locality.numa_nodes.as_ref().map_or_else(
            || format!("nobody says which node (`gpu-numa show --explain GPU{index}`)"),
            |nodes| format!("node {nodes}"),
        );
        let shows_links = !self.hides_nvlink && self.gpus.len() > 1;
        GresLine {
            pci: gpu.pci,
            kind: gpu.name.as_deref().and_then(type_of),
            file: self.file(gpu, index),
            cores: cores.map(|cores| cores.to_string()),
            links: shows_links.then(|| links(self.machine, gpu, &self.gpus)),
            note: format!("GPU{index} {}, {node}", gpu.pci),
        }
    }

    /// The GPU's device file; without a driver to ask, by its place in PCI order.
    fn file(&self, gpu: &Gpu, index: usize) -> String {
        let maker = gpu.maker().unwrap_or(self.machine.launch_vendor());
        let by_order = || u32::try_from(index).unwrap_or(u32::MAX);
        maker.device_path(gpu.minor.unwrap_or_else(by_order))
    }

    /// What a person should know of the lines.
    fn remarks(&self, kind: SocketKind) -> Vec<String> {
        let is_less = |(_, gpu): &(usize, &Gpu)| {
            let own = gpu
                .locality
                .cpus
                .as_ref()
                .map(|cpus| self.map.cores_of(cpus));
            own.is_some_and(|own| self.map.whole_sockets(&own) != own)
        };
        let grew = self.wants_whole && kind == SocketKind::Package && self.gpus.iter().any(is_less);
        let unlisted = self
            .machine
            .gpus
            .iter()
            .filter(|gpu| !gpu.is_bound_at_launch());
        let left_out = unlisted
            .filter_map(Gpu::maker)
            .next()
            .map_or_else(String::new, |maker| {
                format!(
                    "{}'s GPUs are left out; AutoDetect={} finds them",
                    maker.name,
                    maker.autodetect.first().copied().unwrap_or_default()
                )
            });
        let maker = self.machine.launch_vendor();
        let in_order = format!(
            "driver not loaded: assuming {}, {}, ... follow PCI order",
            maker.device_path(0),
            maker.device_path(1)
        );
        let remarks = [
            (
                self.gpus.len() < self.machine.gpus.len(),
                left_out,
            ),
            (
                self.gpus.iter().any(|(_, gpu)| gpu.minor.is_none()),
                in_order,
            ),
            (
                self.hides_nvlink,
                "NVLink could not be seen, so Links= is left out".to_owned(),
            ),
            (
                grew,
                "the GPUs' nodes are smaller than a socket, and Slurm 24.11.7 and later take whole sockets only: \
                 --numa-node-as-socket says better"
                    .to_owned(),
            ),
        ];
        remarks
            .into_iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, remark)| remark)
            .collect()
    }
}

/// NVLinks to each GPU of the list, itself as -1.
fn links(machine: &Machine, gpu: &Gpu, gpus: &[(usize, &Gpu)]) -> String {
    let counts = gpus.iter().map(|(_, other)| {
        if other.pci == gpu.pci {
            "-1".to_owned()
        } else {
            nvlinks(machine, gpu.pci, other.pci).to_string()
        }
    });
    counts.collect::<Vec<_>>().join(",")
}

/// `h100` of "NVIDIA H100 80GB HBM3", `rtx_4090` of "NVIDIA GeForce RTX 4090"; Slurm matches a type
/// against the driver's name in lower case, blanks as underscores.
fn type_of(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let mut words = lower
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| {
            !word.is_empty()
                && !["nvidia", "tesla", "geforce", "quadro", "graphics", "device"].contains(word)
        });
    let first = words.next()?;
    Some(match (first, words.next()) {
        ("rtx" | "gtx" | "titan", Some(second)) => format!("{first}_{second}"),
        _ => first.to_owned(),
    })
}

fn node_line(machine: &Machine, name: &str, map: &CoreMap, gres: &[GresLine]) -> String {
    let mut line = format!(
        "NodeName={name} CPUs={} Boards=1 SocketsPerBoard={} CoresPerSocket={} ThreadsPerCore={}",
        map.cores() * map.threads_per_core(),
        map.sockets(),
        map.cores_per_socket(),
        map.threads_per_core()
    );
    let own = machine
        .numa_nodes
        .iter()
        .filter(|node| node.kind != NodeKind::Gpu);
    let mut memory = own.map(|node| node.memory_bytes);
    let memory = memory.try_fold(0, |sum: u64, bytes| Some(sum.saturating_add(bytes?)));
    if let Some(memory) = memory.filter(|memory| *memory > 0) {
        line.push_str(&format!(" RealMemory={}", memory >> 20));
    }
    let mut kinds: Vec<(Option<&str>, usize)> = Vec::new();
    for gpu in gres {
        match kinds
            .iter_mut()
            .find(|(kind, _)| *kind == gpu.kind.as_deref())
        {
            Some((_, count)) => *count += 1,
            None => kinds.push((gpu.kind.as_deref(), 1)),
        }
    }
    let items: Vec<String> = kinds
        .iter()
        .map(|(kind, count)| {
            kind.map_or_else(
                || format!("gpu:{count}"),
                |kind| format!("gpu:{kind}:{count}"),
            )
        })
        .collect();
    if !items.is_empty() {
        line.push_str(&format!(" Gres={}", items.join(",")));
    }
    line
}

fn print(out: &mut Out, name: &str, document: &GresConfDocument) -> Result<(), CommandError> {
    let release = document.slurm_release.as_deref().map_or_else(
        || "a Slurm of unknown release".to_owned(),
        |release| format!("Slurm {release}"),
    );
    out.line(format_args!("# gres.conf for {name}, {release}"))?;
    for remark in &document.remarks {
        out.line(format_args!("# {remark}"))?;
    }
    for gres in &document.gres {
        let mut line = format!("NodeName={name} Name=gpu");
        let parts = [
            ("Type", gres.kind.as_deref()),
            ("File", Some(gres.file.as_str())),
            ("Cores", gres.cores.as_deref()),
            ("Links", gres.links.as_deref()),
        ];
        for (key, value) in parts {
            if let Some(value) = value {
                line.push_str(&format!(" {key}={value}"));
            }
        }
        out.line(format_args!("{line}   # {}", gres.note))?;
    }
    out.line("")?;
    // Comments, so that what is printed is a gres.conf as it is.
    out.line("# and in slurm.conf:")?;
    if !document.gres.is_empty() {
        out.line("# GresTypes=gpu")?;
    }
    for parameter in &document.parameters {
        out.line(format_args!("# {parameter}"))?;
    }
    out.line(format_args!("# {}", document.node_line))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_the_models_own_word() {
        for (name, kind) in [
            ("NVIDIA H100 80GB HBM3", "h100"),
            ("Tesla V100-SXM2-16GB", "v100"),
            ("NVIDIA GeForce RTX 4090", "rtx_4090"),
            ("NVIDIA L40S", "l40s"),
        ] {
            assert_eq!(type_of(name).as_deref(), Some(kind));
        }
        assert_eq!(type_of("NVIDIA"), None);
    }
}
