//! What a GPU is called where a person reads it: its number beside its PCI address, or the address alone.

use std::fmt::{self, Display, Formatter};

use crate::binding::StepRequest;
use crate::machine::{Gpu, Machine};
use crate::pci::PciAddress;
use crate::visible::runtime_order;

/// The names of a host's GPUs: `GPU0 0000:3b:00.0`, or `GPU 0000:3b:00.0` where a number would mislead.
///
/// A GPU's number is its place by PCI address, as `gpu-numa show`, `nvidia-smi` and, with `CUDA_DEVICE_ORDER=PCI_BUS_ID`, CUDA
/// count.  The address is what it is known by; the number is for the eye.
#[derive(Debug, Clone, Copy)]
pub struct GpuNames<'m> {
    /// The GPUs by number; empty where they have their addresses alone.
    numbered: &'m [Gpu],
}

impl<'m> GpuNames<'m> {
    /// By address alone.
    pub const ADDRESSES: Self = Self { numbered: &[] };

    /// As pages about a host number them; by address where the driver leaves a GPU out, so that its tools count the others
    /// otherwise.
    pub fn of_host(machine: &'m Machine) -> Self {
        if machine.gpus.iter().any(|gpu| is_left_out(machine, gpu)) {
            return Self::ADDRESSES;
        }
        Self {
            numbered: &machine.gpus,
        }
    }

    /// For the users of a step, as [`GpuNames::of_programs`].
    pub fn of_step(machine: &'m Machine, step: &StepRequest) -> Self {
        Self::of_programs(machine, step.tasks.iter().all(|task| task.sees_all_gpus))
    }

    /// For who runs programs that `see_all` GPUs of the host or only some: numbers only where programs and their tools count as
    /// the host does.
    ///
    /// They count otherwise where a device cgroup hides a GPU from them, where the driver leaves one out, where a GPU is divided (MIG instances, AMD's parts),
    /// where GPUs of several vendors are numbered by tools of each, and where the vendor's runtime has an order of its own.
    pub fn of_programs(machine: &'m Machine, see_all: bool) -> Self {
        if see_all && is_counted_alike(machine) {
            Self::of_host(machine)
        } else {
            Self::ADDRESSES
        }
    }

    /// The number of a GPU; none where it has its address alone.
    fn number(self, pci: PciAddress) -> Option<usize> {
        self.numbered.iter().position(|gpu| gpu.pci == pci)
    }

    /// `GPU0 0000:3b:00.0`; without a number `0000:3b:00.0`, to stand after a word for what it is.
    pub fn label(self, pci: PciAddress) -> impl Display + use<> {
        Label {
            number: self.number(pci),
            pci,
        }
    }

    /// `GPU0 0000:3b:00.0`; without a number `GPU 0000:3b:00.0`.
    pub fn name(self, pci: PciAddress) -> String {
        format!("{}{}", self.before(&[pci]), self.label(pci))
    }

    /// What comes before a list of [`GpuNames::label`]s: `GPUs ` where one of them has no number, else nothing.
    pub fn before(self, gpus: &[PciAddress]) -> &'static str {
        let is_numbered = |pci: &PciAddress| self.number(*pci).is_some();
        match gpus {
            _ if gpus.iter().all(is_numbered) && !gpus.is_empty() => "",
            [_] => "GPU ",
            _ => "GPUs ",
        }
    }
}

/// A [`GpuNames::label`].
struct Label {
    number: Option<usize>,
    pci: PciAddress,
}

impl Display for Label {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(number) = self.number {
            write!(f, "GPU{number} ")?;
        }
        self.pci.fmt(f)
    }
}

/// Whether the driver has numbered other GPUs of the vendor and not this one: another has it, such as vfio-pci, or it has failed.
fn is_left_out(machine: &Machine, gpu: &Gpu) -> bool {
    let mut own = machine.gpus.iter().filter(|own| own.vendor == gpu.vendor);
    gpu.minor.is_none() && own.any(|own| own.minor.is_some())
}

/// Whether whoever counts the machine's GPUs counts them as [`Machine::gpus`] stand.
fn is_counted_alike(machine: &Machine) -> bool {
    let is_whole = |gpu: &Gpu| gpu.mig.is_empty() && gpu.parts() == 1 && !gpu.only_in_nvml;
    let vendor = machine.launch_vendor();
    let by_runtime = runtime_order(machine, vendor).into_iter();
    machine.gpus.iter().all(is_whole)
        // Also that none is of another vendor, which is not in this order.
        && by_runtime.map(|gpu| gpu.pci).eq(machine.gpus.iter().map(|gpu| gpu.pci))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{KfdGpu, KfdNode, MigInstance};
    use crate::pci::PciDevice;

    fn pci(bus: u8) -> PciAddress {
        format!("0000:{bus:02x}:00.0").parse().unwrap()
    }

    fn machine(vendor: u16) -> Machine {
        let of = |bus| Gpu::of(&PciDevice::new(pci(bus), 0x03_0200, vendor, 0x2330));
        Machine {
            gpus: vec![of(0x21), of(0x81)],
            ..Machine::default()
        }
    }

    #[test]
    fn a_number_stands_beside_the_address_where_all_count_alike() {
        let own = machine(0x10de);
        let names = GpuNames::of_host(&own);
        assert_eq!(names.name(pci(0x81)), "GPU1 0000:81:00.0");
        assert_eq!(names.label(pci(0x81)).to_string(), "GPU1 0000:81:00.0");
        assert_eq!(names.name(pci(0x99)), "GPU 0000:99:00.0", "not the host's");
        assert_eq!(names.label(pci(0x99)).to_string(), "0000:99:00.0");
        assert_eq!(GpuNames::ADDRESSES.name(pci(0x21)), "GPU 0000:21:00.0");
        assert_eq!(names.before(&[pci(0x21), pci(0x81)]), "");
        assert_eq!(names.before(&[pci(0x21), pci(0x99)]), "GPUs ");
        assert_eq!(GpuNames::ADDRESSES.before(&[pci(0x21)]), "GPU ");
    }

    #[test]
    fn no_number_is_said_that_a_program_would_not_count() {
        assert!(is_counted_alike(&machine(0x10de)));
        let mut divided = machine(0x10de);
        divided.gpus[1].mig = vec![MigInstance::default()];
        assert!(!is_counted_alike(&divided), "MIG");
        let mut mixed = machine(0x10de);
        mixed.gpus[0].vendor = 0x1002;
        assert!(!is_counted_alike(&mixed), "two vendors");
        // vfio-pci has the first, so that nvidia-smi's GPU 0 is the second.
        let mut lent = machine(0x10de);
        lent.gpus[1].minor = Some(0);
        assert_eq!(GpuNames::of_host(&lent).name(pci(0x81)), "GPU 0000:81:00.0");
        lent.gpus[0].minor = Some(1);
        assert_eq!(
            GpuNames::of_host(&lent).name(pci(0x81)),
            "GPU1 0000:81:00.0"
        );
        // AMD's driver found the second by address first.
        let mut turned = machine(0x1002);
        for (gpu, node) in turned.gpus.iter_mut().zip([3, 2]) {
            let nodes = vec![KfdNode {
                node,
                ..KfdNode::default()
            }];
            gpu.kfd = Some(KfdGpu {
                nodes,
                ..KfdGpu::default()
            });
        }
        assert!(!is_counted_alike(&turned), "KFD's order");
    }
}
