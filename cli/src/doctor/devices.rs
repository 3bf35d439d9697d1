//! Which GPU a device file of gres.conf is.

use slurm_config::gres::GresLine;
use topology::machine::{Gpu, Machine};
use topology::vendor::{GpuVendor, VENDORS};

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

/// Whether a vendor's driver has numbered its GPUs; without it they are taken to be numbered in PCI order.
pub(crate) fn knows_minors(machine: &Machine, vendor: u16) -> bool {
    let mut own = machine.gpus.iter().filter(|gpu| gpu.vendor == vendor);
    own.any(|gpu| gpu.minor.is_some())
}

/// Whether any driver has numbered its GPUs.
pub(crate) fn knows_some(machine: &Machine) -> bool {
    machine.gpus.iter().any(|gpu| gpu.minor.is_some())
}

/// What is assumed where the driver of `gpu` is not loaded.
pub(crate) fn assumption(machine: &Machine, gpu: &Gpu) -> String {
    let maker = gpu.maker().unwrap_or(machine.launch_vendor());
    format!(
        "driver not loaded: assuming {}, {}, ... follow PCI order",
        maker.device_path(maker.first_number),
        maker.device_path(maker.first_number + 1)
    )
}

/// The word of `AutoDetect=` that finds the machine's GPUs in every release of Slurm.
pub(crate) fn autodetect_of(machine: &Machine) -> &'static str {
    let maker = machine.gpus.first().and_then(Gpu::maker);
    let maker: &GpuVendor = maker.unwrap_or(machine.launch_vendor());
    maker.autodetect.first().copied().unwrap_or("off")
}

/// Whether a file has the name of one that a GPU's driver makes, for a GPU or for a part of one.
pub(crate) fn is_of_a_driver(file: &str) -> bool {
    // Slurm takes a path with two slashes for the same file.
    let parts: Vec<&str> = file.split('/').filter(|part| !part.is_empty()).collect();
    let path = parts.join("/");
    VENDORS.iter().any(|maker| {
        let mut folders = maker.driver.control_files.iter();
        maker.device_number(&format!("/{path}")).is_some()
            || folders.any(|folder| {
                path.strip_prefix(folder)
                    .is_some_and(|rest| rest.starts_with('/'))
            })
    })
}

/// What a device file is.
pub(crate) fn of_file<'a>(machine: &'a Machine, file: &str) -> DeviceFile<'a> {
    let mut makers = VENDORS.iter();
    let Some(maker) = makers.find(|maker| maker.device_number(file).is_some()) else {
        // Several without brackets are the name of one, which no driver makes.
        return match in_brackets(file) {
            Some(_) => DeviceFile::Missing,
            None => DeviceFile::Unknown,
        };
    };
    let mut found = files(machine).filter(|(own, _)| own == file);
    if let Some((_, gpu)) = found.next() {
        return DeviceFile::Gpu(gpu);
    }
    let own = || bound(machine).filter(|gpu| gpu.vendor == maker.id);
    let is_numbered = |gpu: &Gpu| files(machine).any(|(_, other)| other.pci == gpu.pci);
    // It may be a GPU whose number is not known, or, where other drivers have such files too, another device.
    let is_shared = maker.driver.device_files.is_some() && own().next().is_none();
    if is_shared || own().any(|gpu| !is_numbered(gpu)) {
        DeviceFile::Unknown
    } else {
        DeviceFile::Missing
    }
}

/// A file of a driver's that is no GPU's own, as `gres.conf` may name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// All GPUs of the vendor have it in common.
    Shared(&'static GpuVendor),
    /// Programs that compute do not open it.
    Display(&'static GpuVendor),
}

/// What a file is beside the GPUs' own of the vendors that `machine` has GPUs of; None where it is no such file.
pub(crate) fn beside(machine: &Machine, file: &str) -> Option<Beside> {
    let path = file.strip_prefix('/')?;
    let is_numbered = |stem: &&str| {
        path.strip_prefix(*stem).is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
        })
    };
    machine.launch_vendors().find_map(|maker| {
        let driver = &maker.driver;
        if driver.shared_files.contains(&path) {
            return Some(Beside::Shared(maker));
        }
        let mut display = driver.display_files.iter();
        display.any(is_numbered).then_some(Beside::Display(maker))
    })
}

/// `/dev/nvidia[0-3]` for `/dev/nvidia0-3`, which slurmd takes for the name of one file; None for any other.
pub(crate) fn in_brackets(file: &str) -> Option<String> {
    let (first, last) = file.rsplit_once('-')?;
    let last: u32 = last.parse().ok()?;
    let mut makers = VENDORS.iter();
    let number = makers.find_map(|maker| maker.device_number(first))?;
    let stem = first.trim_end_matches(|own: char| own.is_ascii_digit());
    Some(format!("{stem}[{number}-{last}]"))
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

/// The device file of a GPU, the first of one that is divided; None for one of a vendor whose GPUs are not bound at launch,
/// and for one that the driver has not numbered while it has others.
pub(crate) fn file_of(machine: &Machine, gpu: &Gpu) -> Option<String> {
    files_of(machine, gpu).next()
}

/// The device files of a GPU: one, or one for each part of a GPU that is divided.
pub(crate) fn files_of<'m>(
    machine: &'m Machine,
    gpu: &Gpu,
) -> impl Iterator<Item = String> + use<'m> {
    let address = gpu.pci;
    let found = files(machine).filter(move |(_, own)| own.pci == address);
    found.map(|(file, _)| file)
}

/// The device files of the GPUs that can be bound to: the driver's, else by PCI address.
fn files(machine: &Machine) -> impl Iterator<Item = (String, &Gpu)> {
    bound(machine).flat_map(move |gpu| {
        let assumed = || {
            let own = bound(machine).filter(|other| other.vendor == gpu.vendor);
            let before = own.take_while(|other| other.pci != gpu.pci);
            let files = |gpu: &Gpu| {
                let model = gpu.model();
                model.map_or(1, |model| model.device_files).max(gpu.parts())
            };
            let first = before.map(files).sum::<usize>();
            let maker = gpu.maker();
            (first..first + gpu.parts()).filter_map(move |place| {
                let maker = maker?;
                Some(maker.device_path(maker.first_number + u32::try_from(place).ok()?))
            })
        };
        let mut own: Vec<String> = gpu.device_paths().collect();
        if own.is_empty() && !knows_minors(machine, gpu.vendor) {
            own.extend(assumed());
        }
        own.into_iter().map(move |file| (file, gpu))
    })
}

fn bound(machine: &Machine) -> impl Iterator<Item = &Gpu> {
    machine.gpus.iter().filter(|gpu| gpu.is_bound_at_launch())
}

/// The kernel modules of the first GPU's vendor, in words; None where the vendor is not known.
pub(crate) fn modules_of(machine: &Machine) -> Option<String> {
    let maker = machine.gpus.iter().find_map(Gpu::maker)?;
    Some(maker.driver.modules.join(" or "))
}
