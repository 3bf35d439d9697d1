//! Which PCI devices the file names, and below what: those that NCCL would record.

use std::collections::{BTreeMap, BTreeSet};

use topology::machine::{HiddenSwitch, Locality, Machine};
use topology::pci::{PciAddress, PciDevice};

use super::refusal::NotEmitted;

/// The deepest chain of bridges that is followed; PCI allows 255 buses, servers have four levels.
const MAX_DEPTH: usize = 32;

/// The PCI domain of made-up switches, which no machine has.
const MADE_UP_DOMAIN: u32 = 0xffff;

/// What NCCL may add below a GPU: `<gpu>`, up to six `<nvlink>` (the switches of an HGX A100), none of
/// them where the links are known.
const NVLINKS_ASSUMED: usize = 6;

/// Which functions of a network adapter to name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Functions {
    /// All of them.
    All,
    /// The first of each adapter: NCCL's InfiniBand transport takes the ports and virtual functions of an
    /// adapter for its device 00, function 0 (`transport/net_ib` `ncclIbGetPciPath`,
    /// `NCCL_IB_MERGE_VFS`).
    OnePerNic,
}

/// A GPU or NIC that the file names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf<'m> {
    pub(super) device: &'m PciDevice,
    pub(super) locality: &'m Locality,
    pub(super) is_gpu: bool,
}

/// A switch that the site names.
#[derive(Debug)]
pub(super) struct MadeUp<'m> {
    /// What the site says.
    pub(super) switch: &'m HiddenSwitch,
    /// The devices of the file below it.
    pub(super) below: Vec<PciAddress>,
}

/// The GPUs and NICs, and the switches that NCCL records above them.
#[derive(Debug)]
pub(super) struct Devices<'m> {
    /// GPUs, then NICs, each by address.
    pub(super) leaves: Vec<Leaf<'m>>,
    /// Every device of the file, by address.
    pub(super) recorded: BTreeMap<PciAddress, &'m PciDevice>,
    /// What each hangs below in the file; none for those directly below a `<cpu>`.
    pub(super) parents: BTreeMap<PciAddress, PciAddress>,
    /// Switches that the site names, by the address made up for each.
    pub(super) made_up: BTreeMap<PciAddress, MadeUp<'m>>,
    /// NIC functions left out for room.
    pub(super) left_out: Vec<PciAddress>,
    /// NICs left out because their package is not known.
    pub(super) of_unknown_place: Vec<PciAddress>,
    /// How many `<nvlink>` NCCL may add in all.
    nvlinks: usize,
}

impl<'m> Devices<'m> {
    /// Finds the devices of `machine`.
    pub(super) fn collect(machine: &'m Machine, functions: Functions) -> Result<Self, NotEmitted> {
        let mut devices = Self {
            leaves: Vec::new(),
            recorded: BTreeMap::new(),
            parents: BTreeMap::new(),
            made_up: BTreeMap::new(),
            left_out: Vec::new(),
            of_unknown_place: Vec::new(),
            nvlinks: 0,
        };
        for gpu in machine.nccl_gpus() {
            devices.nvlinks += if machine.nvlink_visible {
                gpu.nvlinks.len().min(NVLINKS_ASSUMED)
            } else {
                NVLINKS_ASSUMED
            };
            devices.add_leaf(machine, gpu.pci, &gpu.locality, true)?;
        }
        let adapters: BTreeSet<_> = machine.nics.iter().map(|nic| nic.pci).collect();
        for nic in &machine.nics {
            if !device(machine, nic.pci)?.class_is_network() {
                continue;
            }
            if functions == Functions::OnePerNic && merges_into_another(nic.pci, &adapters) {
                devices.left_out.push(nic.pci);
                continue;
            }
            devices.add_leaf(machine, nic.pci, &nic.locality, false)?;
        }
        devices.add_hidden_switches(machine);
        Ok(devices)
    }

    /// Leaves NICs out whose package is not known, with the bridges above them that lead to nothing else.
    pub(super) fn leave_out_nics_of_unknown_place(&mut self, machine: &Machine) {
        if machine.packages.len() < 2 {
            return;
        }
        let is_unknown = |leaf: &Leaf<'_>| !leaf.is_gpu && leaf.locality.package.is_none();
        let (unknown, known): (Vec<_>, Vec<_>) = std::mem::take(&mut self.leaves)
            .into_iter()
            .partition(is_unknown);
        self.leaves = known;
        if unknown.is_empty() {
            return;
        }
        let kept: BTreeSet<_> = self
            .leaves
            .iter()
            .flat_map(|leaf| self.chain(leaf.device.address).collect::<Vec<_>>())
            .collect();
        self.recorded.retain(|address, _| kept.contains(address));
        self.parents.retain(|address, _| kept.contains(address));
        for made_up in self.made_up.values_mut() {
            made_up.below.retain(|address| kept.contains(address));
        }
        let addresses = unknown.iter().map(|leaf| leaf.device.address);
        self.of_unknown_place.extend(addresses);
    }

    /// How many elements NCCL adds to the file, at most: a `<gpu>` and its `<nvlink>`s for each GPU, `<nic>`
    /// and `<net>` for each NIC.
    pub(super) fn added_by_nccl(&self) -> usize {
        let gpus = self.gpus().count();
        gpus + self.nvlinks + 2 * (self.leaves.len() - gpus)
    }

    /// The GPUs.
    pub(super) fn gpus(&self) -> impl Iterator<Item = &Leaf<'m>> {
        self.leaves.iter().filter(|leaf| leaf.is_gpu)
    }

    /// The NICs.
    pub(super) fn nics(&self) -> impl Iterator<Item = &Leaf<'m>> {
        self.leaves.iter().filter(|leaf| !leaf.is_gpu)
    }

    /// The device and those above it in the file, up to the one directly below a `<cpu>`.
    pub(super) fn chain(&self, address: PciAddress) -> impl Iterator<Item = PciAddress> + '_ {
        std::iter::successors(Some(address), |at| self.parents.get(at).copied()).take(MAX_DEPTH)
    }

    /// The topmost of [`Devices::chain`].
    pub(super) fn top(&self, address: PciAddress) -> PciAddress {
        self.chain(address).last().unwrap_or(address)
    }

    /// Whether the two hang below a switch that the file names.
    pub(super) fn share_switch(&self, a: PciAddress, b: PciAddress) -> bool {
        self.top(a) == self.top(b)
    }

    /// Puts a made-up switch above the devices of each that the site names, where the machine shows none
    /// above any of them (`graph/xml.cc` looks its address up and takes the attributes as given).
    fn add_hidden_switches(&mut self, machine: &'m Machine) {
        let mut addresses = (1..=u8::MAX)
            .map(|bus| PciAddress {
                domain: MADE_UP_DOMAIN,
                bus,
                device: 0,
                function: 0,
            })
            .filter(|address| machine.device(*address).is_none());
        for switch in &machine.hidden_switches {
            let is_leaf = |address: &&PciAddress| {
                self.leaves
                    .iter()
                    .any(|leaf| leaf.device.address == **address)
            };
            let below: Vec<_> = switch
                .devices
                .iter()
                .copied()
                .filter(|at| is_leaf(&at))
                .collect();
            let seen = below.iter().any(|at| self.parents.contains_key(at));
            if below.len() < 2 || seen {
                continue;
            }
            let Some(address) = addresses.next() else {
                return;
            };
            for device in &below {
                self.parents.insert(*device, address);
            }
            self.made_up.insert(address, MadeUp { switch, below });
        }
    }

    fn add_leaf(
        &mut self,
        machine: &'m Machine,
        address: PciAddress,
        locality: &'m Locality,
        is_gpu: bool,
    ) -> Result<(), NotEmitted> {
        let mut at = device(machine, address)?;
        self.leaves.push(Leaf {
            device: at,
            locality,
            is_gpu,
        });
        for _ in 0..MAX_DEPTH {
            self.recorded.insert(at.address, at);
            let Some(above) = recorded_above(machine, at)? else {
                return Ok(());
            };
            self.parents.insert(at.address, above.address);
            at = above;
        }
        Err(NotEmitted::EndlessBridges { device: address })
    }
}

/// The device that NCCL records above `device`: two levels up, so the upstream port of a switch and never a
/// root port (`graph/xml.cc` `ncclTopoGetXmlFromSys`); none where that is not there.
///
/// A bridge in a domain beyond 16 bits (behind Intel VMD) ends the climb there as well: NCCL takes its
/// longer name for a host bridge (`checkBDFFormat`).
fn recorded_above<'m>(
    machine: &'m Machine,
    below: &PciDevice,
) -> Result<Option<&'m PciDevice>, NotEmitted> {
    let climbable = |address: &PciAddress| address.domain <= 0xffff;
    let Some(port) = below.parent.filter(climbable) else {
        return Ok(None);
    };
    let Some(above) = device(machine, port)?.parent.filter(climbable) else {
        return Ok(None);
    };
    device(machine, above).map(Some)
}

/// The device at `address`, which the machine is expected to have.
pub(super) fn device(machine: &Machine, address: PciAddress) -> Result<&PciDevice, NotEmitted> {
    machine
        .device(address)
        .ok_or(NotEmitted::DeviceNotRecorded { device: address })
}

fn merges_into_another(address: PciAddress, adapters: &BTreeSet<PciAddress>) -> bool {
    let first = PciAddress {
        device: 0,
        function: 0,
        ..address
    };
    address != first && adapters.contains(&first)
}

/// What NCCL takes for a NIC.
trait NetworkClass {
    fn class_is_network(&self) -> bool;
}

impl NetworkClass for PciDevice {
    /// Ethernet (0200) and InfiniBand (0207): what NCCL's transports run on.
    fn class_is_network(&self) -> bool {
        matches!(self.class >> 8, 0x0200 | 0x0207)
    }
}
