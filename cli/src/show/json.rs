//! The document of `show --json`.

use serde::Serialize;
use topology::machine::Machine;
use topology::nics::{NicDocument, deal_nics};
use topology::path::crosses_socket;
use topology::pci::PciAddress;

use crate::hardware;

/// The machine, and what lies between its devices.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ShowDocument<'a> {
    /// `gpu-numa/machine/1`.
    schema: &'static str,
    /// The version of the GPUs' driver; left out where none is loaded, or the source does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
    #[serde(flatten)]
    machine: &'a Machine,
    /// Every two GPUs, and every GPU with every NIC, once.
    pairs: Vec<DevicePair>,
    /// The NICs that each GPU should use, where all GPUs are at work: the nearest, dealt evenly where several are.
    gpu_nics: Vec<GpuNics>,
}

/// The NICs of a GPU.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct GpuNics {
    gpu: PciAddress,
    #[serde(flatten)]
    share: NicDocument,
}

/// Two GPUs, or a GPU and a NIC.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct DevicePair {
    /// A GPU.
    a: PciAddress,
    /// A GPU or NIC.
    b: PciAddress,
    /// `nvidia-smi`'s word (PIX, PXB, PHB, NODE, SYS), or NV and the number of NVLinks; null where not known.
    path: Option<String>,
    /// Whether data between them passes from one package to another; null where not known.
    crosses_socket: Option<bool>,
    /// `ok`, or why the two GPUs cannot read each other's memory, in NVML's words; left out where NVML was not
    /// asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    p2p: Option<String>,
}

impl<'a> ShowDocument<'a> {
    pub(crate) fn new(machine: &'a Machine, driver: Option<String>) -> Self {
        let gpus: Vec<_> = machine.gpus.iter().map(|gpu| gpu.pci).collect();
        let others: Vec<_> = gpus
            .iter()
            .copied()
            .chain(machine.nics.iter().map(|nic| nic.pci))
            .collect();
        let mut pairs = Vec::new();
        for (index, a) in gpus.iter().enumerate() {
            for b in others.iter().skip(index + 1) {
                pairs.push(DevicePair {
                    a: *a,
                    b: *b,
                    path: hardware::path(machine, *a, *b),
                    crosses_socket: crosses_socket(machine, *a, *b),
                    p2p: machine
                        .p2p
                        .iter()
                        .find(|own| (own.a, own.b) == (*a, *b) || (own.b, own.a) == (*a, *b))
                        .map(|own| own.state.clone()),
                });
            }
        }
        Self {
            schema: discovery::MACHINE_SCHEMA,
            driver,
            machine,
            pairs,
            gpu_nics: gpus
                .iter()
                .zip(deal_nics(machine, &gpus))
                .map(|(gpu, share)| GpuNics {
                    gpu: *gpu,
                    share: NicDocument::new(machine, &share),
                })
                .collect(),
        }
    }
}
