//! Which GPU a device file of gres.conf is.

use slurm_config::gres::GresLine;
use topology::machine::{Gpu, Machine};
use topology::vendor::GpuVendor;

/// What a `File=` names on a machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum DeviceFile<'a> {
    /// This GPU.
    Gpu(&'a Gpu),
    /// A device that the host does not have.
    Missing,
    /// No file that is known to be a GPU's.
    Unknown,
}

/// Whether the driver has numbered the GPUs; without it they are taken to be numbered in PCI order.
pub(crate) fn knows_minors(machine: &Machine) -> bool {
    machine.gpus.iter().any(|gpu| gpu.minor.is_some())
}

/// What is assumed where the driver is not loaded.
pub(crate) fn assumption(machine: &Machine) -> String {
    let maker = machine.launch_vendor();
    format!(
        "driver not loaded: assuming {}, {}, ... follow PCI order",
        maker.device_path(0),
        maker.device_path(1)
    )
}

/// The word of `AutoDetect=` that finds the machine's GPUs in every release of Slurm.
pub(crate) fn autodetect_of(machine: &Machine) -> &'static str {
    let maker = machine.gpus.first().and_then(Gpu::maker);
    let maker: &GpuVendor = maker.unwrap_or(machine.launch_vendor());
    maker.autodetect.first().copied().unwrap_or("off")
}

/// What a device file is.
pub(crate) fn of_file<'a>(machine: &'a Machine, file: &str) -> DeviceFile<'a> {
    let Some(number) = machine.launch_vendor().device_number(file) else {
        return DeviceFile::Unknown;
    };
    let mut found = numbered(machine).filter(|(own, _)| *own == number);
    match found.next() {
        Some((_, gpu)) => DeviceFile::Gpu(gpu),
        // It may be a GPU whose number is not known.
        None if numbered(machine).count() < bound(machine).count() => DeviceFile::Unknown,
        None => DeviceFile::Missing,
    }
}

/// The GPUs of a line, each with its device file.
pub(crate) fn of_line<'a>(machine: &'a Machine, line: &GresLine<'_>) -> Vec<(String, &'a Gpu)> {
    let files = line.files().into_iter();
    files
        .filter_map(|file| match of_file(machine, &file) {
            DeviceFile::Gpu(gpu) => Some((file, gpu)),
            DeviceFile::Missing | DeviceFile::Unknown => None,
        })
        .collect()
}

/// The device file of a GPU; None for one of a vendor whose GPUs are not bound at launch, and for one that the driver
/// has not numbered while it has others.
pub(crate) fn file_of(machine: &Machine, gpu: &Gpu) -> Option<String> {
    let mut found = numbered(machine).filter(|(_, own)| own.pci == gpu.pci);
    let (number, _) = found.next()?;
    Some(gpu.maker()?.device_path(number))
}

/// The GPUs that can be bound to, with their numbers: the driver's, else by PCI address.
fn numbered(machine: &Machine) -> impl Iterator<Item = (u32, &Gpu)> {
    let knows = knows_minors(machine);
    (0..)
        .zip(bound(machine))
        .filter_map(move |(position, gpu)| {
            let number = if knows { gpu.minor } else { Some(position) };
            number.map(|number| (number, gpu))
        })
}

fn bound(machine: &Machine) -> impl Iterator<Item = &Gpu> {
    machine.gpus.iter().filter(|gpu| gpu.is_bound_at_launch())
}

/// The kernel module of the first GPU's vendor; None where the vendor is not known.
pub(crate) fn module_of(machine: &Machine) -> Option<&'static str> {
    machine
        .gpus
        .iter()
        .find_map(Gpu::maker)
        .and_then(module_of_maker)
}

/// The kernel module of a vendor's GPUs.
pub(crate) fn module_of_maker(maker: &'static GpuVendor) -> Option<&'static str> {
    // `sys/module/NAME/version`
    maker.driver.version.split('/').nth(2)
}
