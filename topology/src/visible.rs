//! Which GPUs a task sees.
//!
//! The vendor's variable (`CUDA_VISIBLE_DEVICES`, `ROCR_VISIBLE_DEVICES`) and `SLURM_STEP_GPUS` number GPUs from 0 inside a
//! device cgroup, so in four tasks of one step they may all say 0 and mean four GPUs (gres.c,
//! `gres_use_local_device_index`, Slurm 22.05 to 26.05).  What counts is which devices the kernel lets the
//! task open; the variables are read as the vendor's runtime reads them, as indexes into those.

use crate::machine::{Gpu, Machine, one_of_uuid};
use crate::option::printable;
use crate::pci::PciAddress;
use crate::vendor::{GpuVendor, ListRules, OrderVariable, VENDORS};

/// What a task's environment and the kernel say of its GPUs, those of one vendor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskView {
    /// The vendor; none for the machine's ([`Machine::launch_vendor`]).
    pub vendor: Option<&'static GpuVendor>,
    /// The GPUs that the task may open; one that is divided stands once for each part that it may open.
    pub openable: Vec<PciAddress>,
    /// The variable that lists the GPUs that a program sees ([`crate::vendor::Variables::visible`]).
    pub visible: Option<String>,
    /// The variable of the runtime above that counts within these ([`crate::vendor::Variables::within`]).
    pub within: Option<String>,
    /// Its name.
    pub within_name: &'static str,
    /// The variable that says how they are numbered ([`crate::vendor::Variables::order`]).
    pub order: Option<String>,
    /// `SLURM_STEP_GPUS` (for a batch script `SLURM_JOB_GPUS`) as the step had it before the fork.
    pub step_list: Option<String>,
    /// `SLURM_GPUS_ON_NODE`.
    pub on_host: Option<String>,
}

impl TaskView {
    /// What the variables of `vendor` say, by `env`.
    fn read(
        vendor: &'static GpuVendor,
        asked: &Asked<'_>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let variables = &vendor.variables;
        let within = variables.within.iter();
        let mut within = within.filter_map(|name| Some((*name, env(name)?)));
        let within = within.find(|(_, list)| !is_quoted_nothing(list));
        let (within_name, within) = within.map_or(("", None), |(name, list)| (name, Some(list)));
        Self {
            vendor: Some(vendor),
            openable: asked.openable.to_vec(),
            visible: env(variables.visible),
            within,
            within_name,
            order: variables.order.and_then(|order| env(order.name)),
            step_list: asked.step_list.map(str::to_owned),
            on_host: asked.on_host.clone(),
        }
    }
}

/// What is known of a task's GPUs beside its environment.
#[derive(Debug, Clone, Default)]
pub struct Asked<'a> {
    /// As [`TaskView::openable`], of all vendors.
    pub openable: &'a [PciAddress],
    /// As [`TaskView::step_list`].
    pub step_list: Option<&'a str>,
    /// As [`TaskView::on_host`].
    pub on_host: Option<String>,
}

/// The GPUs that a task sees, in the order of its own numbering.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Visible {
    /// Their addresses; one that is divided stands once for each part that the task sees.
    pub gpus: Vec<PciAddress>,
    /// What was odd, for a person.
    pub remark: Option<String>,
    /// Whether the variable could not be read as the runtime reads it, so that `gpus` are all that may be opened.
    pub is_guess: bool,
}

/// The GPUs of all vendors that a task with the environment `env` sees.
///
/// On a host with GPUs of several vendors one vendor's variable says nothing of the others' GPUs: where only another's is
/// set, the task has those that the kernel lets it open, if it fences any.
#[inline]
pub fn find_all(
    machine: &Machine,
    asked: &Asked<'_>,
    env: impl Fn(&str) -> Option<String>,
) -> Visible {
    let mut vendors = machine.launch_vendors();
    let first = vendors.next().unwrap_or(machine.launch_vendor());
    let Some(second) = vendors.next() else {
        return find_visible(machine, &TaskView::read(first, asked, env));
    };
    let all: Vec<&'static GpuVendor> = [first, second].into_iter().chain(vendors).collect();
    let any_is_set = all
        .iter()
        .any(|vendor| env(vendor.variables.visible).is_some());
    let files: usize = all.iter().map(|vendor| askable(machine, vendor)).sum();
    let is_fenced = asked.openable.len() < files;
    let mut seen = Visible::default();
    for vendor in all {
        // Slurm's list numbers the GPUs of all lines of gres.conf, in an order that is not known here.
        let mut view = TaskView::read(vendor, asked, &env);
        view.step_list = None;
        if view.visible.is_none() && any_is_set && !is_fenced {
            continue;
        }
        let own = find_visible(machine, &view);
        seen.gpus.extend(own.gpus);
        seen.remark = seen.remark.or(own.remark);
        seen.is_guess |= own.is_guess;
    }
    seen
}

/// The GPUs of the view's vendor that a task sees on `machine`.
///
/// Inlined, as all that each task of a step runs: code that lies together costs a new process fewer page faults.
#[inline]
pub fn find_visible(machine: &Machine, view: &TaskView) -> Visible {
    let vendor = view.vendor.unwrap_or(machine.launch_vendor());
    let outer = find_outer(machine, vendor, view);
    let Some(list) = &view.within else {
        return outer;
    };
    let gpus: Vec<&Gpu> = outer
        .gpus
        .iter()
        .filter_map(|pci| machine.gpu(*pci))
        .collect();
    let Some(within) = parse_hip(machine, &gpus, list) else {
        return outer;
    };
    // Slurm gives both variables the same numbers where a line of gres.conf names no vendor's (gres_common.c,
    // `gres_common_gpu_set_env`, 22.05 to 26.05), and these count within each other.
    let is_doubled = within.is_empty() && view.within == view.visible && !outer.gpus.is_empty();
    if is_doubled && !list.trim().is_empty() {
        return Visible {
            remark: Some(format!(
                "{} is \"{}\" and counts within {}, so HIP shows no GPU; taking those of {} (gres.conf: Flags=amd_gpu_env sets it alone)",
                view.within_name,
                printable(list),
                vendor.variables.visible,
                vendor.variables.visible
            )),
            ..outer
        };
    }
    Visible {
        gpus: within,
        ..outer
    }
}

/// The GPUs of a vendor in the order in which its runtime numbers them.
pub fn runtime_order<'m>(machine: &'m Machine, vendor: &GpuVendor) -> Vec<&'m Gpu> {
    let own = machine.gpus.iter().filter(|gpu| gpu.vendor == vendor.id);
    let mut gpus: Vec<&Gpu> = own.collect();
    let first = |gpu: &Gpu| Some(gpu.kfd.as_ref()?.nodes.first()?.node);
    // Without KFD's order, that of their addresses, in which Linux finds them on most hosts.
    if vendor.variables.list == ListRules::Rocr && gpus.iter().all(|gpu| first(gpu).is_some()) {
        gpus.sort_by_key(|gpu| first(gpu));
    }
    gpus
}

/// All GPUs, those of [`Machine::launch_vendor`] first, each vendor's as [`runtime_order`] has them: the order of the lines that
/// `gpu-numa gres-conf` writes, and so of Slurm's numbers.
pub fn counted_order(machine: &Machine) -> Vec<&Gpu> {
    let first = machine.launch_vendor();
    let others = VENDORS.iter().filter(|vendor| *vendor != first);
    let known = std::iter::once(first).chain(others);
    let mut gpus: Vec<&Gpu> = known
        .flat_map(|vendor| runtime_order(machine, vendor))
        .collect();
    gpus.extend(machine.gpus.iter().filter(|gpu| gpu.maker().is_none()));
    gpus
}

/// The addresses of a vendor's GPUs among `openable`, as its runtime numbers them; one that is divided stands once for each part
/// that is there.
pub fn runtime_numbers(
    machine: &Machine,
    vendor: &GpuVendor,
    openable: &[PciAddress],
) -> Vec<PciAddress> {
    let gpus = in_order(machine, vendor, openable).into_iter();
    gpus.map(|gpu| gpu.pci).collect()
}

/// The GPUs that the task may open, as its runtime numbers them; one that is divided stands once for each part.
fn in_order<'m>(machine: &'m Machine, vendor: &GpuVendor, openable: &[PciAddress]) -> Vec<&'m Gpu> {
    let gpus = runtime_order(machine, vendor);
    match vendor.variables.list {
        ListRules::Cuda | ListRules::LevelZero => {
            let own = gpus.into_iter();
            own.filter(|gpu| openable.contains(&gpu.pci)).collect()
        }
        ListRules::Rocr => {
            let parts = |gpu: &'m Gpu| {
                let times = openable.iter().filter(|pci| **pci == gpu.pci).count();
                std::iter::repeat_n(gpu, times.min(gpu.parts()))
            };
            gpus.into_iter().flat_map(parts).collect()
        }
    }
}

/// Without the variable of the runtime above.
#[inline]
fn find_outer(machine: &Machine, vendor: &GpuVendor, view: &TaskView) -> Visible {
    if !has_gpus(view) {
        return Visible::default();
    }
    let openable = in_order(machine, vendor, &view.openable);
    let all = || openable.iter().map(|gpu| gpu.pci).collect::<Vec<_>>();
    let Some(list) = &view.visible else {
        return Visible {
            gpus: bound_by_step(machine, vendor, view, &openable),
            ..Visible::default()
        };
    };
    let variables = &vendor.variables;
    if let Some(order) = by_speed(vendor, view).filter(|_| !are_alike(&openable)) {
        return Visible {
            gpus: all(),
            remark: Some(format!(
                "{} is {} and the GPUs differ, so their numbers are not known; taking all that it may open",
                order.name, order.by_speed
            )),
            is_guess: true,
        };
    }
    let parsed = match variables.list {
        ListRules::Cuda => parse_cuda(machine, &openable, list),
        // Whole GPUs are meant where numbers are; a list with tiles ("0.1") names none of these.
        ListRules::LevelZero => parse_list(machine, &openable, list),
        ListRules::Rocr => parse_rocr(machine, &openable, list),
    };
    match parsed {
        Ok(gpus) => Visible {
            gpus,
            ..Visible::default()
        },
        // Variables inherited from the batch script, in a step that Slurm gave no GPU.
        Err(_)
            if openable.is_empty() && view.step_list.is_none() && askable(machine, vendor) > 0 =>
        {
            Visible::default()
        }
        Err(odd) if odd.fault != Fault::NotKnown => Visible {
            remark: Some(ending_entry(vendor, &odd)),
            gpus: odd.before,
            is_guess: false,
        },
        Err(odd) => Visible {
            gpus: all(),
            remark: Some(odd_entry(variables.visible, odd.named, openable.is_empty())),
            is_guess: true,
        },
    }
}

fn ending_entry(vendor: &GpuVendor, odd: &OddEntry<'_>) -> String {
    let (variable, named) = (vendor.variables.visible, printable(odd.named));
    match (odd.fault, vendor.variables.list) {
        (Fault::Again, _) => format!(
            "{variable} names a GPU twice (\"{named}\"); CUDA does not start with such a list, so no GPU is seen"
        ),
        (_, ListRules::Rocr) => format!(
            "{variable} names \"{named}\", which is no further GPU that it may open; ROCm shows none from there on"
        ),
        (_, _) => format!(
            "{variable} names \"{named}\", which is no GPU that it may open; CUDA shows none from there on"
        ),
    }
}

fn odd_entry(variable: &str, odd: &str, none_openable: bool) -> String {
    let odd = printable(odd);
    if none_openable {
        format!("{variable} names \"{odd}\", but none of the GPUs known here may be opened")
    } else {
        format!("{variable} names \"{odd}\", which is no GPU that it may open; taking all of those")
    }
}

/// Whether the environment says that the step has GPUs at all: openable devices alone do not, because a
/// host without a device fence lets every task open all.
#[inline]
fn has_gpus(view: &TaskView) -> bool {
    if let Some(list) = &view.visible {
        return !matches!(list.trim(), "" | "NoDevFiles" | "-1");
    }
    let listed = view
        .step_list
        .as_ref()
        .is_some_and(|list| !list.trim().is_empty());
    let counted = view
        .on_host
        .as_ref()
        .is_some_and(|count| count.trim().parse::<u32>().is_ok_and(|n| n > 0));
    listed || counted || view.within.is_some()
}

/// Without the vendor's variable: all openable ones, but without a fence only those of the step's list.
fn bound_by_step(
    machine: &Machine,
    vendor: &GpuVendor,
    view: &TaskView,
    openable: &[&Gpu],
) -> Vec<PciAddress> {
    let all = openable.iter().map(|gpu| gpu.pci).collect();
    // Slurm numbers them by address, in whatever order the runtime has them (rocm_smi_main.cc sorts by it too).
    let mut by_address = openable.to_vec();
    by_address.sort_by_key(|gpu| gpu.pci);
    let listed = view
        .step_list
        .as_deref()
        // Where GPUs are divided by MIG it numbers instances.
        .filter(|_| machine.gpus.iter().all(|gpu| gpu.mig.is_empty()))
        .and_then(|list| parse_list(machine, &by_address, list).ok());
    match listed {
        Some(listed) if openable.len() == askable(machine, vendor) && !listed.is_empty() => listed,
        Some(_) | None => all,
    }
}

/// How many device files of the vendor's GPUs have a name that is known.
fn askable(machine: &Machine, vendor: &GpuVendor) -> usize {
    let own = machine.gpus.iter().filter(|gpu| gpu.vendor == vendor.id);
    let named = own.filter(|gpu| gpu.minor.is_some());
    named.map(Gpu::parts).sum()
}

/// The order variable, where it says that numbers depend on the models.
fn by_speed(vendor: &GpuVendor, view: &TaskView) -> Option<OrderVariable> {
    vendor
        .variables
        .order
        .filter(|order| view.order.as_deref() == Some(order.by_speed))
}

fn are_alike(gpus: &[&Gpu]) -> bool {
    gpus.windows(2).all(|pair| match pair {
        [a, b] => a.device == b.device,
        _ => true,
    })
}

/// An entry of a list that names no openable GPU.
#[derive(Debug)]
struct OddEntry<'l> {
    named: &'l str,
    /// The GPUs that the runtime shows.
    before: Vec<PciAddress>,
    /// What the runtime does there.
    fault: Fault,
}

/// What a runtime does at an entry that names no openable GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It shows the GPUs of the entries before it.
    Ends,
    /// It shows none at all, because the entry names a GPU again.
    Again,
    /// Not known: the entry may name a GPU that is not known here by that name.
    NotKnown,
}

/// Reads a list as CUDA does ([`ListRules::Cuda`]).  The error is the first entry that ends the list, but a negative number,
/// which people write for that.
#[inline]
fn parse_cuda<'l>(
    machine: &Machine,
    openable: &[&Gpu],
    list: &'l str,
) -> Result<Vec<PciAddress>, OddEntry<'l>> {
    let is_uuid = |entry: &str| ["GPU-", "MIG-"].iter().any(|kind| entry.starts_with(kind));
    let are_uuids = is_uuid(list);
    let mut gpus = Vec::with_capacity(openable.len());
    let mut taken = Vec::new();
    for entry in list.split(',').take(4096) {
        let odd = |before, fault| OddEntry {
            named: entry.trim(),
            before,
            fault,
        };
        let index = parse_leading_int(entry);
        if !are_uuids && index.is_some_and(|index| index < 0) {
            break;
        }
        // What the first entry is, all are.
        let found = match are_uuids {
            true if is_uuid(entry) => gpu_of_uuid(openable, entry),
            true => None,
            false => index
                .and_then(|index| usize::try_from(index).ok())
                .filter(|index| *index < openable.len()),
        };
        let Some(index) = found else {
            let anywhere = are_uuids
                .then(|| by_uuid_anywhere(machine, entry))
                .flatten();
            if let Some(gpu) = anywhere {
                gpus.push(gpu.pci);
                continue;
            }
            // Instances are made and unmade while a snapshot stays as it is.
            let may_be_new = entry.starts_with("MIG-");
            let fault = if !may_be_new && is_known(machine, openable, are_uuids && is_uuid(entry)) {
                Fault::Ends
            } else {
                Fault::NotKnown
            };
            return Err(odd(gpus, fault));
        };
        let Some(gpu) = openable.get(index) else {
            break;
        };
        // Of a GPU with MIG instances a UUID names one of them.
        if taken.contains(&index) && gpu.mig.is_empty() {
            return Err(odd(Vec::new(), Fault::Again));
        }
        if !taken.contains(&index) {
            taken.push(index);
            gpus.push(gpu.pci);
        }
    }
    Ok(gpus)
}

/// Whether what names no GPU of `openable` is known to name none at all.
fn is_known(machine: &Machine, openable: &[&Gpu], is_uuid: bool) -> bool {
    let is_whole = |gpu: &Gpu| gpu.mig.is_empty() && (!is_uuid || gpu.uuid.is_some());
    let have_files = machine.gpus.iter().all(|gpu| gpu.minor.is_some());
    have_files && !openable.is_empty() && openable.iter().all(|gpu| is_whole(gpu))
}

/// The place of the one GPU that CUDA takes a UUID or its beginning for.
///
/// Up to 32 hexadecimal digits count, in any case and with hyphens anywhere; what follows them does not.
fn gpu_of_uuid(openable: &[&Gpu], entry: &str) -> Option<usize> {
    let by_digits = entry.strip_prefix("GPU-").and_then(|digits| {
        let digits: String = digits.chars().filter(|c| *c != '-').take(32).collect();
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_hex && entry.len() > "GPU-".len()).then(|| digits.to_ascii_lowercase())
    });
    let matches = |gpu: &&Gpu| match &by_digits {
        Some(digits) => gpu.uuid.as_deref().is_some_and(|uuid| {
            let uuid = uuid.trim_start_matches("GPU-").replace('-', "");
            uuid.to_ascii_lowercase().starts_with(digits)
        }),
        None => entry.starts_with("MIG-") && one_of_uuid([*gpu], entry).is_some(),
    };
    let mut matching = openable.iter().enumerate().filter(|(_, gpu)| matches(gpu));
    match (matching.next(), matching.next()) {
        (Some((index, _)), None) => Some(index),
        _ => None,
    }
}

/// A number as C's `atoi` reads it from the beginning of a text, in 32 bits; none where there is no digit.
fn parse_leading_int(text: &str) -> Option<i32> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let value = match unsigned.get(..digits)? {
        "" => return None,
        digits => digits.parse().unwrap_or(i64::MAX),
    };
    let value = if text.starts_with('-') { -value } else { value };
    let [a, b, c, d, ..] = value.to_le_bytes();
    Some(i32::from_le_bytes([a, b, c, d]))
}

/// Reads a list of indexes into the openable GPUs in PCI order, UUIDs or their beginnings; a -1 ends it.  The error is the
/// first entry that names no openable GPU.
#[inline]
fn parse_list<'l>(
    machine: &Machine,
    openable: &[&Gpu],
    list: &'l str,
) -> Result<Vec<PciAddress>, OddEntry<'l>> {
    let mut gpus = Vec::with_capacity(openable.len());
    let mut indexes = Vec::new();
    for entry in list
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .take(4096)
    {
        if entry == "-1" {
            break;
        }
        let index = entry.parse::<usize>().ok();
        let found = match index {
            Some(index) => openable.get(index).copied(),
            None => one_of_uuid(openable.iter().copied(), entry)
                .or_else(|| by_uuid_anywhere(machine, entry)),
        };
        let Some(gpu) = found else {
            return Err(OddEntry {
                named: entry,
                before: gpus,
                fault: Fault::NotKnown,
            });
        };
        // Of a GPU that is divided each index is another part.
        let is_new_part = index.is_some_and(|index| gpu.parts() > 1 && !indexes.contains(&index));
        indexes.extend(index);
        if is_new_part || !gpus.contains(&gpu.pci) {
            gpus.push(gpu.pci);
        }
    }
    Ok(gpus)
}

/// Reads a list as ROCR does ([`ListRules::Rocr`]).  The error is the first entry that ends the list, but -1, which people
/// write for that.
fn parse_rocr<'l>(
    machine: &Machine,
    openable: &[&Gpu],
    list: &'l str,
) -> Result<Vec<PciAddress>, OddEntry<'l>> {
    let mut gpus = Vec::with_capacity(openable.len());
    let mut taken = Vec::new();
    // As many entries as there are GPUs are looked at, and all where none may be opened.
    for entry in list.split(',').map(str::trim).take(openable.len().max(1)) {
        if entry == "-1" {
            break;
        }
        let is_name = entry.starts_with(['g', 'G']);
        let found = if is_name {
            unique_index(openable, entry)
        } else {
            parse_c_number(entry).filter(|index| *index < openable.len())
        };
        let gpu = found
            .filter(|index| !taken.contains(index))
            .and_then(|index| openable.get(index));
        if let (Some(index), Some(gpu)) = (found, gpu) {
            taken.push(index);
            gpus.push(gpu.pci);
            continue;
        }
        if let Some(gpu) = is_name.then(|| by_uuid_anywhere(machine, entry)).flatten() {
            gpus.push(gpu.pci);
            continue;
        }
        // Which GPU a name stands for is not known where one has no unique id here.
        let is_known = !is_name || openable.iter().all(|gpu| gpu.uuid.is_some());
        let is_known = is_known && !openable.is_empty();
        let fault = if is_known {
            Fault::Ends
        } else {
            Fault::NotKnown
        };
        return Err(OddEntry {
            named: entry,
            before: gpus,
            fault,
        });
    }
    Ok(gpus)
}

/// The place of the one GPU whose unique id begins as `entry` does, `GPU-` and at least one digit in any case.
fn unique_index(openable: &[&Gpu], entry: &str) -> Option<usize> {
    if !(5..=20).contains(&entry.len()) {
        return None;
    }
    let begins = |id: &str| {
        let start = id.as_bytes().get(..entry.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(entry.as_bytes()))
    };
    let mut matching =
        (0..openable.len()).filter(|index| unique_id(openable, *index).is_some_and(begins));
    match (matching.next(), matching.next()) {
        (Some(index), None) => Some(index),
        _ => None,
    }
}

/// The unique id of the GPU, or the part of one, that is at a place of `openable`.
///
/// The k-th part of a GPU of which the task may open all has an id of its own; of one that it may open in part it is not known
/// which parts these are.
fn unique_id<'g>(openable: &[&'g Gpu], index: usize) -> Option<&'g str> {
    let gpu = *openable.get(index)?;
    let parts = gpu.kfd.as_ref().map_or(&[][..], |kfd| &kfd.nodes);
    let same = |other: &&&Gpu| other.pci == gpu.pci;
    let before = openable.iter().take(index).filter(same).count();
    let all = openable.iter().filter(same).count();
    let part = parts.get(before).filter(|_| all == parts.len());
    part.map_or(&gpu.uuid, |part| &part.uuid).as_deref()
}

/// Reads a list as HIP does, which counts within the GPUs of `outer`: an index as a program would write it, or the beginning of a
/// unique id, of which the first counts; the first entry that is neither ends the list (clr, rocclr/device/rocm/rocdevice.cpp,
/// `Device::init`, and rocclr/utils/flags.cpp, from ROCm 5.6 on).  None where it is not known which GPU an entry names.
fn parse_hip(machine: &Machine, outer: &[&Gpu], list: &str) -> Option<Vec<PciAddress>> {
    let mut taken = Vec::new();
    let mut gpus = Vec::new();
    for entry in without_quotes(list).split(',') {
        let is_name = entry.starts_with("GPU-");
        let found = if is_name {
            // What has no unique id is called GPU-XX.
            let begins = |id: &str| id.starts_with(entry);
            (0..outer.len()).find(|index| begins(unique_id(outer, *index).unwrap_or("GPU-")))
        } else {
            let index = entry.parse::<usize>().ok();
            index.filter(|index| *index < outer.len() && index.to_string() == entry)
        };
        match found.and_then(|index| Some((index, outer.get(index)?))) {
            Some((index, gpu)) if !taken.contains(&index) => {
                taken.push(index);
                gpus.push(gpu.pci);
            }
            Some(_) => {}
            None => {
                // One that is not known by its unique id, or not as one that may be opened.
                let is_unknown = |index: usize| unique_id(outer, index).is_none();
                let may_be_one =
                    (0..outer.len()).any(is_unknown) || by_uuid_anywhere(machine, entry).is_some();
                return (!is_name || !may_be_one).then_some(gpus);
            }
        }
    }
    Some(gpus)
}

/// What HIP takes the value of a variable for, without the quotes around it (clr, rocclr/utils/flags.cpp, `removeQuotes`).
fn without_quotes(value: &str) -> &str {
    let start = value.trim_start_matches(' ').strip_prefix('"');
    let inner = start.and_then(|rest| rest.trim_end_matches(' ').strip_suffix('"'));
    inner.unwrap_or(value)
}

/// Whether HIP takes a variable for one that is not set.  One that is empty it takes for a blank, which names no GPU.
fn is_quoted_nothing(value: &str) -> bool {
    !value.is_empty() && without_quotes(value).is_empty()
}

/// A number as C's `strtol` reads it with base 0: decimal, octal after `0`, hexadecimal after `0x`.
fn parse_c_number(text: &str) -> Option<usize> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let (digits, radix) = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(rest) => (rest, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    usize::from_str_radix(digits, radix)
        .ok()
        .filter(|_| is_plain)
}

/// Over the GPUs whose minor number is not known and which so cannot be asked for.
fn by_uuid_anywhere<'m>(machine: &'m Machine, entry: &str) -> Option<&'m Gpu> {
    one_of_uuid(machine.gpus.iter().filter(|gpu| gpu.minor.is_none()), entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{KfdGpu, KfdNode, MigInstance};
    use crate::pci::PciDevice;

    fn machine() -> Machine {
        let gpus = (0..4u32)
            .map(|index| Gpu {
                minor: Some(3 - index),
                uuid: Some(format!("GPU-{index}aaa-bbbb")),
                mig: vec![MigInstance {
                    uuid: format!("MIG-{index}ccc"),
                    ..MigInstance::default()
                }],
                ..Gpu::of(&PciDevice::new(address(index), 0x03_0200, 0x10de, 0x2330))
            })
            .collect();
        Machine {
            gpus,
            ..Machine::default()
        }
    }

    fn address(index: u32) -> PciAddress {
        format!("0000:{index:02x}:00.0").parse().unwrap()
    }

    fn view(openable: &[u32], cuda: Option<&str>) -> TaskView {
        TaskView {
            openable: openable.iter().map(|index| address(*index)).collect(),
            visible: cuda.map(str::to_owned),
            ..TaskView::default()
        }
    }

    fn seen(view: &TaskView) -> Vec<u32> {
        find_visible(&machine(), view)
            .gpus
            .iter()
            .map(|gpu| gpu.bus.into())
            .collect()
    }

    #[test]
    fn zero_means_the_one_that_the_cgroup_lets_open() {
        assert_eq!(seen(&view(&[2], Some("0"))), [2]);
        assert_eq!(seen(&view(&[1, 3], Some("1,0"))), [3, 1]);
    }

    #[test]
    fn without_a_fence_the_number_counts_over_the_host() {
        assert_eq!(seen(&view(&[0, 1, 2, 3], Some("2"))), [2]);
    }

    #[test]
    fn an_unset_variable_means_all_openable_bounded_by_the_step() {
        let mut machine = machine();
        machine.gpus.iter_mut().for_each(|gpu| gpu.mig.clear());
        let seen = |view: &TaskView| -> Vec<u32> {
            let gpus = find_visible(&machine, view).gpus;
            gpus.iter().map(|gpu| gpu.bus.into()).collect()
        };
        let mut open = view(&[0, 1, 2, 3], None);
        assert_eq!(
            seen(&open),
            [0u32; 0],
            "nothing says that the step has GPUs"
        );
        open.on_host = Some("2".to_owned());
        assert_eq!(seen(&open), [0, 1, 2, 3]);
        open.step_list = Some("1,2".to_owned());
        assert_eq!(seen(&open), [1, 2]);
        let fenced = TaskView {
            step_list: Some("1,2".to_owned()),
            ..view(&[1, 2], None)
        };
        assert_eq!(seen(&fenced), [1, 2]);
    }

    #[test]
    fn the_steps_list_of_a_host_with_mig_numbers_instances() {
        let mut all = view(&[0, 1, 2, 3], None);
        all.step_list = Some("2".to_owned());
        let mut machine = machine();
        assert_eq!(find_visible(&machine, &all).gpus.len(), 4);
        machine.gpus.iter_mut().for_each(|gpu| gpu.mig.clear());
        assert_eq!(find_visible(&machine, &all).gpus, [address(2)]);
    }

    #[test]
    fn the_runtime_above_counts_within_what_the_one_below_shows() {
        let within = |outer, list: &str| {
            seen(&TaskView {
                within: Some(list.to_owned()),
                on_host: Some("4".to_owned()),
                ..view(&[0, 1, 2, 3], outer)
            })
        };
        assert_eq!(within(Some("1,3"), "1"), [3]);
        assert_eq!(within(Some("3,1"), "0"), [3]);
        assert_eq!(within(None, "2,0"), [2, 0]);
        assert_eq!(within(None, ""), [0u32; 0]);
        assert_eq!(within(Some("1,3"), ""), [0u32; 0]);
        assert_eq!(within(Some("1,3"), "7"), [0u32; 0]);
        assert_eq!(within(Some("1,3"), "1,7,0"), [3]);
        assert_eq!(within(Some("1,3"), "0,-1,1"), [1]);
        assert_eq!(within(Some("1,3"), "GPU-ffff"), [0u32; 0]);
    }

    #[test]
    fn gpus_of_which_no_device_file_is_known_are_said() {
        let mut machine = machine();
        machine.gpus.iter_mut().for_each(|gpu| gpu.minor = None);
        let visible = find_visible(&machine, &view(&[], Some("1")));
        assert!(visible.gpus.is_empty() && visible.remark.is_some());
        let by_uuid = find_visible(&machine, &view(&[], Some("GPU-1aaa")));
        assert_eq!(by_uuid.gpus, [address(1)]);
    }

    #[test]
    fn uuids_and_mig_instances_name_their_gpu() {
        for entry in [
            "GPU-2aaa-bbbb",
            "GPU-2aaa",
            "GPU-2AAAB",
            "GPU-2",
            "MIG-2ccc",
            "MIG-GPU-2aaa-bbbb/1/0",
        ] {
            assert_eq!(seen(&view(&[0, 1, 2, 3], Some(entry))), [2], "{entry}");
        }
    }

    #[test]
    fn cuda_shows_the_gpus_before_what_names_none() {
        // As CUDA of driver 580.159 has them on one H200, GPU 1 of this machine.
        for (list, sees, is_said) in [
            ("0", true, false),
            ("1", false, true),
            ("-1", false, false),
            ("0,99", true, true),
            ("99,0", false, true),
            ("0,-1,0", true, false),
            ("0,1,0", true, true),
            ("0,,0", true, true),
            (",0", false, true),
            (" 0", true, false),
            (" 0 ,-1", true, false),
            ("+0", true, false),
            ("-0", true, false),
            ("-2", false, false),
            ("00", true, false),
            ("01", false, true),
            ("0x1", true, false),
            ("0.5", true, false),
            ("0 1", true, false),
            ("1e0", false, true),
            ("+ 0", false, true),
            ("4294967296", true, false),
            ("99999999999999999999", false, false),
            ("abc", false, true),
            ("0,abc", true, true),
            ("all", false, true),
            ("GPU-1aaa-bbbb", true, false),
            ("GPU-1AAABBBB", true, false),
            ("GPU-1aaa-", true, false),
            ("GPU--", true, false),
            ("GPU-", false, true),
            ("GPU", false, true),
            ("gpu-1aaa", false, true),
            ("GPU-1aaa-zz", false, true),
            ("GPU-1a ", false, true),
            (" GPU-1aaa", false, true),
            ("GPU-ffff,GPU-1aaa", false, true),
            ("GPU-1aaa,0", true, true),
            ("0,GPU-1aaa", true, true),
            ("GPU-1aaa,GPU-1aaa", false, true),
            ("0,0", false, true),
            ("0,00", false, true),
            ("0,0x1", false, true),
        ] {
            let mut machine = machine();
            machine.gpus.iter_mut().for_each(|gpu| gpu.mig.clear());
            let visible = find_visible(&machine, &view(&[1], Some(list)));
            let expected = if sees { vec![address(1)] } else { Vec::new() };
            assert_eq!(visible.gpus, expected, "{list}");
            assert_eq!(visible.remark.is_some(), is_said, "{list}");
            assert!(!visible.is_guess, "{list}");
        }
    }

    #[test]
    fn a_name_that_may_be_a_gpus_falls_back_to_the_openable_with_a_line() {
        let mut unnamed = machine();
        for gpu in &mut unnamed.gpus {
            (gpu.uuid, gpu.mig) = (None, Vec::new());
        }
        for (machine, entry) in [(machine(), "MIG-ffff"), (unnamed, "GPU-ffff")] {
            let visible = find_visible(&machine, &view(&[1], Some(entry)));
            assert_eq!(visible.gpus, [address(1)]);
            assert!(visible.is_guess);
            assert!(visible.remark.unwrap().contains(&format!("\"{entry}\"")));
        }
    }

    #[test]
    fn a_step_without_gpus_inside_a_job_with_some_sees_none() {
        let inherited = view(&[], Some("0,1"));
        assert_eq!(find_visible(&machine(), &inherited), Visible::default());
        let given = TaskView {
            step_list: Some("0".to_owned()),
            ..inherited
        };
        assert!(find_visible(&machine(), &given).remark.is_some());
    }

    #[test]
    fn no_device_means_none() {
        for none in ["", "NoDevFiles", "-1"] {
            assert_eq!(seen(&view(&[0], Some(none))), [0u32; 0]);
        }
        assert_eq!(seen(&view(&[0, 1], Some("0,-1,1"))), [0]);
    }

    /// Four of AMD's, which its driver found in the order 2, 3, 0, 1.
    fn amd(parts: u32) -> Machine {
        let mut machine = machine();
        for (index, gpu) in (0u32..).zip(&mut machine.gpus) {
            let uuid = Some(format!("GPU-{index}aaabbbbccccdddd"));
            let nodes = (0..parts).map(|part| KfdNode {
                node: 2 + (index + 2) % 4 * parts + part,
                minor: Some(128 + index * parts + part),
                uuid: uuid.clone(),
            });
            gpu.kfd = Some(KfdGpu {
                nodes: nodes.collect(),
                ..KfdGpu::default()
            });
            (gpu.vendor, gpu.uuid) = (0x1002, uuid);
            gpu.mig.clear();
        }
        machine
    }

    fn amd_seen(parts: u32, openable: &[u32], list: &str) -> (Vec<u32>, bool) {
        let view = TaskView {
            vendor: GpuVendor::of(0x1002),
            ..view(openable, Some(list))
        };
        let seen = find_visible(&amd(parts), &view);
        let gpus = seen.gpus.iter().map(|gpu| gpu.bus.into());
        (gpus.collect(), seen.remark.is_some())
    }

    #[test]
    fn rocr_counts_in_the_order_in_which_the_driver_found_them() {
        let all = &[0, 1, 2, 3];
        assert_eq!(amd_seen(1, all, "0"), (vec![2], false));
        assert_eq!(amd_seen(1, all, "3,0x2, 01"), (vec![1, 0, 3], false));
        assert_eq!(amd_seen(1, &[1, 2], "1,0"), (vec![1, 2], false));
    }

    #[test]
    fn rocr_ends_a_list_at_what_names_no_further_gpu() {
        let all = &[0, 1, 2, 3];
        for (list, seen) in [
            ("4", vec![]),
            ("1,1,0", vec![3]),
            ("1,x,0", vec![3]),
            ("1,,0", vec![3]),
            ("GPU-", vec![]),
            ("gpu-", vec![]),
            ("GPU-3AAA,GPU-f", vec![3]),
            ("08", vec![]),
        ] {
            assert_eq!(amd_seen(1, all, list), (seen, true), "{list}");
        }
        assert_eq!(amd_seen(1, all, "2,-1,0"), (vec![0], false));
        assert_eq!(amd_seen(1, all, "gpu-1aaaBBBB"), (vec![1], false));
        assert_eq!(amd_seen(1, all, ""), (vec![], false));
    }

    #[test]
    fn rocr_counts_the_parts_of_gpus_that_are_divided() {
        let two = &[0, 0, 1, 1, 2, 2, 3, 3];
        assert_eq!(amd_seen(2, two, "0,1,2"), (vec![2, 2, 3], false));
        assert_eq!(amd_seen(2, &[0, 2, 2], "2"), (vec![0], false));
        // All parts have the GPU's id, so it names none of them.
        assert_eq!(amd_seen(2, two, "GPU-1"), (vec![], true));
    }

    /// What HIP shows of four GPUs that ROCR numbers 2, 3, 0, 1.
    #[test]
    fn hip_ends_a_list_at_the_first_entry_that_is_no_number_as_it_writes_them() {
        for (list, seen) in [
            ("3,0", vec![1, 2]),
            ("3,3,0", vec![1, 2]),
            ("3, 0", vec![1]),
            ("3,,0", vec![1]),
            ("3,", vec![1]),
            ("3,00", vec![1]),
            ("3,+0", vec![1]),
            ("3,-1,0", vec![1]),
            ("3,abc,0", vec![1]),
            ("3,4,0", vec![1]),
            ("3,0x1", vec![1]),
            (" 3", vec![]),
            ("03,0", vec![]),
            ("-0", vec![]),
            ("-1", vec![]),
            ("abc,3", vec![]),
            ("NoDevFiles", vec![]),
            ("99999999999999999999", vec![]),
            ("", vec![]),
            (" ", vec![]),
            (",3", vec![]),
            ("GPU-1aaabbbbccccdddd,0", vec![1, 2]),
            ("GPU-1aaa,1", vec![1, 3]),
            ("GPU-", vec![2]),
            ("GPU-1AAA", vec![]),
            ("gpu-1aaa", vec![]),
            (" GPU-1aaa", vec![]),
            ("3,GPU-f,0", vec![1]),
            ("\"3,0\"", vec![1, 2]),
            (" \"3,0\"  ", vec![1, 2]),
            ("\"3\",0", vec![]),
            ("\"3", vec![]),
        ] {
            let view = TaskView {
                vendor: GpuVendor::of(0x1002),
                within: Some(list.to_owned()),
                on_host: Some("4".to_owned()),
                ..view(&[0, 1, 2, 3], None)
            };
            let own = find_visible(&amd(1), &view);
            let gpus: Vec<u32> = own.gpus.iter().map(|gpu| gpu.bus.into()).collect();
            assert_eq!((gpus, own.remark), (seen, None), "{list}");
        }
    }

    #[test]
    fn hip_reads_cudas_variable_where_its_own_is_quotes_around_nothing() {
        let seen = |hip: &str, cuda: &str| {
            let asked = Asked {
                openable: &[0, 1, 2, 3].map(address),
                on_host: Some("4".to_owned()),
                step_list: None,
            };
            let lists = [("HIP_VISIBLE_DEVICES", hip), ("CUDA_VISIBLE_DEVICES", cuda)];
            let env = |name: &str| {
                let own = lists.iter().find(|(own, _)| *own == name);
                own.map(|(_, list)| (*list).to_owned())
            };
            find_all(&amd(1), &asked, env).gpus.len()
        };
        assert_eq!(seen("\"\"", "0"), 1);
        assert_eq!(seen("\"\"", "\"\""), 4);
        assert_eq!(seen("", "0"), 0);
        assert_eq!(seen("0,1", "0"), 2);
    }

    #[test]
    fn which_gpu_a_name_stands_for_is_not_known_where_a_unique_id_is_not() {
        let mut machine = amd(1);
        machine.gpus[3].uuid = None;
        machine.gpus[3].kfd.as_mut().unwrap().nodes[0].uuid = None;
        let seen = |list: &str| {
            let view = TaskView {
                vendor: GpuVendor::of(0x1002),
                within: Some(list.to_owned()),
                ..view(&[0, 1, 2, 3], None)
            };
            find_visible(&machine, &view).gpus.len()
        };
        assert_eq!(seen("GPU-f"), 4);
        assert_eq!(seen("GPU-1aaa,f"), 1);
    }

    #[test]
    fn slurms_same_numbers_in_both_variables_are_said() {
        let view = TaskView {
            vendor: GpuVendor::of(0x1002),
            within: Some("2,3".to_owned()),
            within_name: "CUDA_VISIBLE_DEVICES",
            ..view(&[0, 1, 2, 3], Some("2,3"))
        };
        let seen = find_visible(&amd(1), &view);
        assert_eq!(seen.gpus, [address(0), address(1)]);
        assert!(seen.remark.unwrap().contains("Flags=amd_gpu_env"));
    }

    #[test]
    fn fastest_first_on_mixed_models_means_all() {
        let mut mixed = machine();
        mixed.gpus[3].device = 0x26b9;
        let mut fastest = view(&[0, 3], Some("0"));
        fastest.order = Some("FASTEST_FIRST".to_owned());
        assert_eq!(find_visible(&mixed, &fastest).gpus.len(), 2);
        assert_eq!(find_visible(&machine(), &fastest).gpus, [address(0)]);
    }
}
