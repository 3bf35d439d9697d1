//! The document of `show --json`.

use serde::{Serialize, Serializer};
use topology::machine::Machine;
use topology::path::{crosses_socket, nvlinks, pci_path};
use topology::pci::PciAddress;

/// `gpu-numa/machine/1`.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    schema: &'static str,
    #[serde(flatten)]
    machine: &'a Machine,
    pairs: Vec<Pair>,
}

/// Two GPUs, or a GPU and a NIC.
#[derive(Debug, Serialize)]
struct Pair {
    a: PciAddress,
    b: PciAddress,
    #[serde(serialize_with = "as_text")]
    path: Option<String>,
    crosses_socket: Option<bool>,
    /// As NVML has it; left out where it did not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    p2p: Option<String>,
}

fn as_text<S: Serializer>(path: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    path.serialize(serializer)
}

impl<'a> Document<'a> {
    pub(crate) fn new(machine: &'a Machine) -> Self {
        let gpus: Vec<_> = machine.gpus.iter().map(|gpu| gpu.pci).collect();
        let others: Vec<_> = gpus
            .iter()
            .copied()
            .chain(machine.nics.iter().map(|nic| nic.pci))
            .collect();
        let mut pairs = Vec::new();
        for (index, a) in gpus.iter().enumerate() {
            for b in others.iter().skip(index + 1) {
                pairs.push(Pair {
                    a: *a,
                    b: *b,
                    path: path(machine, *a, *b),
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
            machine,
            pairs,
        }
    }
}

/// The path between two devices in `nvidia-smi`'s words; absent where it is not known.
pub(crate) fn path(machine: &Machine, a: PciAddress, b: PciAddress) -> Option<String> {
    match nvlinks(machine, a, b) {
        0 => pci_path(machine, a, b).map(|path| path.to_string()),
        links => Some(format!("NV{links}")),
    }
}
