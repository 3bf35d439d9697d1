//! `gpu-numa gres-conf`: gres.conf for this machine, and the line of slurm.conf that fits.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use slurm_config::cores::{CoreMap, CoreSet, SocketKind};
use slurm_config::release::Release;
use slurm_config::rules::CoresRule;
use topology::machine::{Gpu, Machine};
use topology::path::nvlinks;
use topology::pci::PciAddress;

use crate::command::{CommandError, Format, From, Outcome};
use crate::doctor::devices;
use crate::doctor::world::{Choice, World, parse_release};
use crate::out::Out;

/// Prints gres.conf for this host, and the node's line of slurm.conf.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct GresConf {
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    format: Format,
    /// Write for this release of Slurm, such as 24.11.7, instead of the one found on the host
    #[arg(long, value_name = "RELEASE", value_parser = parse_release)]
    slurm_release: Option<Release>,
    /// Read this slurm.conf for SlurmdParameters
    #[arg(long, value_name = "FILE")]
    slurm_conf: Option<PathBuf>,
    /// Write for SlurmdParameters=numa_node_as_socket (default: what slurm.conf says)
    #[arg(long)]
    numa_node_as_socket: bool,
}

/// The end of the command's long help.
fn help() -> String {
    let (whole, one) = (CoresRule::WholeSockets, CoresRule::OneSocketOrAll);
    format!(
        "Examples:
  gpu-numa gres-conf > gres.conf
  gpu-numa gres-conf --numa-node-as-socket --slurm-release 24.11.7
  gpu-numa gres-conf --from /srv/recorded/node7 --json

Cores= are Slurm's own core numbers, not CPUs.  From Slurm {} on they must be {whole}, from {} on {one}; where the \
release is unknown, they are written so that every release takes them.  Lines are in PCI order, in which CUDA counts \
under CUDA_DEVICE_ORDER=PCI_BUS_ID.  The lines for slurm.conf follow as comments.",
        whole.since(),
        one.since()
    )
}

/// The JSON document.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct GresConfDocument {
    schema: &'static str,
    slurm_release: Option<String>,
    gres: Vec<GpuLine>,
    /// The whole line for slurm.conf.
    node_line: String,
    /// What else slurm.conf needs.
    parameters: Vec<String>,
    remarks: Vec<String>,
}

/// A line of gres.conf.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct GpuLine {
    pci: PciAddress,
    #[serde(rename = "type")]
    kind: Option<String>,
    file: String,
    cores: Option<String>,
    links: Option<String>,
    /// The comment behind the line.
    note: String,
}

impl GresConf {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let machine = self.from.read()?;
        let choice = Choice {
            slurm_conf: self.slurm_conf.as_deref(),
            release: self.slurm_release,
        };
        let world = World::read(&machine, &self.from.source(), &choice)?;
        let kind = if self.numa_node_as_socket {
            SocketKind::NumaNode
        } else {
            world.parameters().socket_kind()
        };
        if machine.packages.is_empty() {
            return Err(CommandError::Argument(
                "sockets and cores are not recorded there; expected this machine, a directory holding sys/, \
                 an hwloc XML or a snapshot"
                    .to_owned(),
            ));
        }
        let map = world.core_map(kind).ok_or_else(|| {
            CommandError::Argument(
                "the machine's sockets differ, so Slurm's core numbers are unknown".to_owned(),
            )
        })?;
        let name = machine
            .hostname
            .as_deref()
            .map_or("NODE", |name| name.split('.').next().unwrap_or(name));
        let document = write(&world, name, &map, kind);
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
    /// The GPUs that jobs are bound to, by number, each with its device file.
    gpus: Vec<(usize, &'a Gpu, String)>,
    /// Which `Cores=` the Slurm takes.
    rule: CoresRule,
    /// Whether there may be NVLink that could not be seen.
    hides_nvlink: bool,
    /// `RealMemory=`; None where the host's memory is not recorded.
    memory_mib: Option<u64>,
}

fn write(world: &World<'_>, name: &str, map: &CoreMap, kind: SocketKind) -> GresConfDocument {
    let machine = world.machine;
    let numbered = machine.gpus.iter().enumerate();
    let gpus: Vec<(usize, &Gpu, String)> = numbered
        .filter_map(|(index, gpu)| Some((index, gpu, devices::file_of(machine, gpu)?)))
        .collect();
    let may_have = gpus.iter().any(|(_, gpu, _)| gpu.may_link());
    let host = Host {
        machine,
        map,
        rule: CoresRule::of(world.release),
        hides_nvlink: may_have && !machine.nvlink_visible && gpus.len() > 1,
        gpus,
        memory_mib: world.real_memory_mib(),
    };
    let gres: Vec<GpuLine> = host
        .gpus
        .iter()
        .map(|(index, gpu, file)| host.line(*index, gpu, file))
        .collect();
    GresConfDocument {
        schema: "gpu-numa/gres-conf/1",
        slurm_release: world.release.map(|release| release.to_string()),
        node_line: host.node_line(name, &gres),
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
    /// The cores near a GPU; None where its place is unknown.
    fn near(&self, gpu: &Gpu) -> Option<CoreSet> {
        let cpus = gpu.locality.cpus.as_ref();
        cpus.map(|cpus| self.map.cores_of(cpus))
    }

    /// The line of a GPU.
    fn line(&self, index: usize, gpu: &Gpu, file: &str) -> GpuLine {
        let cores = self.near(gpu).map(|own| self.rule.widen(self.map, &own));
        let node = gpu.locality.numa_nodes.as_ref().map_or_else(
            || format!("NUMA node unknown (see `gpu-numa show --explain GPU{index}`)"),
            |nodes| format!("node {nodes}"),
        );
        let shows_links = !self.hides_nvlink && self.gpus.len() > 1;
        GpuLine {
            pci: gpu.pci,
            kind: gpu.name.as_deref().and_then(type_of),
            file: file.to_owned(),
            cores: cores.map(|cores| cores.to_string()),
            links: shows_links.then(|| self.links(gpu)),
            note: format!("GPU{index} {}, {node}", gpu.pci),
        }
    }

    /// The number of NVLinks to each GPU of the list, and -1 for the GPU itself.
    fn links(&self, gpu: &Gpu) -> String {
        let counts = self.gpus.iter().map(|(_, other, _)| {
            if other.pci == gpu.pci {
                "-1".to_owned()
            } else {
                nvlinks(self.machine, gpu.pci, other.pci).to_string()
            }
        });
        counts.collect::<Vec<_>>().join(",")
    }

    /// What the reader should know about the lines.
    fn remarks(&self, kind: SocketKind) -> Vec<String> {
        let grew = self.gpus.iter().any(|(_, gpu, _)| {
            self.near(gpu)
                .is_some_and(|own| self.rule.widen(self.map, &own) != own)
        });
        let (rule, since) = (self.rule, self.rule.since());
        let (bound, others): (Vec<&Gpu>, Vec<&Gpu>) = self
            .machine
            .gpus
            .iter()
            .partition(|gpu| gpu.is_bound_at_launch());
        let other = others.iter().find_map(|gpu| gpu.maker());
        let remarks = [
            (
                other.is_some(),
                other.map_or_else(String::new, |maker| {
                    format!(
                        "{}'s GPUs are left out; AutoDetect={} finds them",
                        maker.name,
                        maker.autodetect.first().copied().unwrap_or_default()
                    )
                }),
            ),
            (
                self.gpus.len() < bound.len(),
                "GPUs without a device file of the driver are left out".to_owned(),
            ),
            (
                self.gpus.iter().any(|(_, gpu, _)| gpu.minor.is_none()),
                devices::assumption(self.machine),
            ),
            (
                self.hides_nvlink,
                "NVLink is not visible here, so Links= is left out".to_owned(),
            ),
            (
                self.memory_mib.is_none(),
                "/proc/meminfo is not recorded, so RealMemory= is left out".to_owned(),
            ),
            (
                grew && kind == SocketKind::Package,
                format!(
                    "the GPUs' NUMA nodes are smaller than a socket, and Slurm {since} and later take only {rule}: \
                     --numa-node-as-socket gives each GPU its own node's cores"
                ),
            ),
            (
                grew && kind != SocketKind::Package,
                format!(
                    "some GPUs are near a part of a socket or near several, and Slurm {since} and later take only {rule}: \
                     their Cores= hold more than their own"
                ),
            ),
        ];
        let holding = remarks.into_iter().filter(|(holds, _)| *holds);
        holding.map(|(_, remark)| remark).collect()
    }

    /// The line of slurm.conf.
    fn node_line(&self, name: &str, gres: &[GpuLine]) -> String {
        let map = self.map;
        let mut line = format!(
            "NodeName={name} CPUs={} Boards=1 SocketsPerBoard={} CoresPerSocket={} ThreadsPerCore={}",
            map.cores() * map.threads_per_core(),
            map.sockets(),
            map.cores_per_socket(),
            map.threads_per_core()
        );
        if let Some(memory) = self.memory_mib {
            line.push_str(&format!(" RealMemory={memory}"));
        }
        let items = gres_items(gres);
        if !items.is_empty() {
            line.push_str(&format!(" Gres={items}"));
        }
        line
    }
}

/// `gpu:h100:4,gpu:a30:2`, the value of the node's `Gres=`.
fn gres_items(gres: &[GpuLine]) -> String {
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
    items.join(",")
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
