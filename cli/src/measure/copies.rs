//! Copies between host and GPUs, from the memory of each NUMA node.
//!
//! In a child process with a limit, because a driver may hang or stop the process.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use clap::Args;
use discovery::child::{ChildError, read_output};
use ffi::linux::mempolicy::{self, Mode};
use ffi::linux::{affinity, pages::Pages};
use ffi::runtime::{MAKERS, Runtime};
use serde::{Deserialize, Serialize};
use topology::machine::Machine;
use topology::option::one_line;
use topology::pci::PciAddress;
use topology::set::{CpuSet, NodeSet};
use topology::vendor::GpuVendor;

use super::kernels;
use crate::command::{CommandError, Outcome};
use crate::out::Out;

/// Words of a copy: 64 MiB, long enough that starting it does not count.
const WORDS: usize = 8 << 20;
/// Copies each way.
const COUNT: u32 = 8;
/// How long all GPUs together may take; making eight contexts takes some seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much better the best node must be to be offered as a GPU's own.
const CLEAR: f64 = 1.1;

/// Copies between a GPU and the memory of a node.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct GpuCopy {
    /// The GPU.
    pub(super) pci: PciAddress,
    /// The node.
    pub(super) node: u32,
    /// To the GPU, in GB/s (10^9).
    pub(super) to_gpu_gb_s: f64,
    /// From the GPU, in GB/s (10^9).
    pub(super) from_gpu_gb_s: f64,
}

/// The child's command; its parent names nodes as `NODE:CPUS`.
#[derive(Debug, Args)]
pub(crate) struct Copies {
    #[arg(value_name = "NODE:CPUS")]
    nodes: Vec<String>,
}

impl Copies {
    /// Prints an [`Answer`] as JSON.
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let mut answer = Answer::default();
        for maker in &MAKERS {
            let runtime = match maker.load() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let why = format!("{}: {}", maker.name, one_line(&error.to_string()));
                    answer.not_loaded.push((maker.gpus.to_owned(), why));
                    continue;
                }
            };
            // A GPU in parts is several devices at one address, whose link they share.
            let mut seen: Vec<PciAddress> = Vec::new();
            for device in 0..runtime.count().unwrap_or(0).clamp(0, 256) {
                let pci = runtime
                    .pci_address(device)
                    .ok()
                    .and_then(|text| text.parse::<PciAddress>().ok());
                let Some(pci) = pci.filter(|pci| !seen.contains(pci)) else {
                    continue;
                };
                seen.push(pci);
                for (node, cpus) in self.nodes.iter().filter_map(|text| parse(text)) {
                    let copy = measure(&runtime, device, pci, node, &cpus);
                    answer.copies.extend(copy);
                }
            }
        }
        out.json(&answer)?;
        Ok(Outcome::Done)
    }
}

/// What the child found.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Answer {
    copies: Vec<GpuCopy>,
    /// Makers of GPUs whose library gave nothing, and why.
    not_loaded: Vec<(String, String)>,
}

fn parse(text: &str) -> Option<(u32, CpuSet)> {
    let (node, cpus) = text.split_once(':')?;
    Some((node.parse().ok()?, cpus.parse().ok()?))
}

/// Bound as a job is, in a thread of its own.
fn measure(
    runtime: &Runtime,
    device: i32,
    pci: PciAddress,
    node: u32,
    cpus: &CpuSet,
) -> Option<GpuCopy> {
    std::thread::scope(|scope| {
        let timed = scope.spawn(|| {
            affinity::apply_affinity(0, cpus.words()).ok()?;
            mempolicy::apply_policy(Mode::Bind, NodeSet::single(node).words()).ok()?;
            let mut pages = Pages::map(WORDS).ok()?;
            pages
                .words_mut()
                .iter_mut()
                .step_by(64)
                .for_each(|word| *word = 1);
            runtime.time_copies(device, &mut pages, COUNT).ok()
        });
        let (to_gpu, from_gpu) = timed.join().ok().flatten()?;
        let gigabytes =
            f64::from(COUNT) * kernels::gigabytes(u64::try_from(WORDS * size_of::<u64>()).ok()?);
        Some(GpuCopy {
            pci,
            node,
            to_gpu_gb_s: gigabytes / to_gpu.as_secs_f64(),
            from_gpu_gb_s: gigabytes / from_gpu.as_secs_f64(),
        })
    })
}

/// Asks the child; remarks where it does not answer, and of makers whose GPUs were not asked.
pub(super) fn ask(
    machine: &Machine,
    nodes: &[(u32, CpuSet)],
    remarks: &mut Vec<String>,
) -> Vec<GpuCopy> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("__copies")
        .args(nodes.iter().map(|(node, cpus)| format!("{node}:{cpus}")));
    let answer = read_output(command, PATIENCE)
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|_| ChildError::Died));
    let answer: Answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            remarks.push(format!("copies to GPUs: {error}"));
            return Vec::new();
        }
    };
    let makers: BTreeSet<u16> = machine.gpus.iter().map(|gpu| gpu.vendor).collect();
    for vendor in makers {
        let name = GpuVendor::of(vendor).map_or("other makers", |maker| maker.name);
        let why = answer.not_loaded.iter().find(|(own, _)| own == name);
        if let Some((_, why)) = why {
            remarks.push(format!("copies to {name} GPUs are not measured: {why}"));
        } else if MAKERS.iter().all(|maker| maker.gpus != name) {
            remarks.push(format!(
                "copies to {name} GPUs are not measured: gpu-numa knows no library for them"
            ));
        }
    }
    answer.copies
}

/// Lines for the override file: GPUs whose node is unknown, where one node is clearly nearest.
pub(super) fn offers(machine: &Machine, copies: &[GpuCopy]) -> Vec<String> {
    let lost = machine
        .gpus
        .iter()
        .filter(|gpu| gpu.locality.numa_nodes.is_none());
    lost.filter_map(|gpu| {
        let mut own: Vec<(f64, u32)> = copies
            .iter()
            .filter(|copy| copy.pci == gpu.pci)
            .map(|copy| (copy.to_gpu_gb_s.min(copy.from_gpu_gb_s), copy.node))
            .collect();
        own.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (best, second) = (own.first()?, own.get(1)?);
        (best.0 > second.0 * CLEAR).then(|| format!("{} {} measured", gpu.pci, best.1))
    })
    .collect()
}
