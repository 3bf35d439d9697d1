//! A variable that lists GPUs, read as each vendor's runtime reads it.

use crate::machine::{Gpu, Machine, one_of_uuid};
use crate::pci::PciAddress;

/// An entry of a list that names no openable GPU.
#[derive(Debug)]
pub(super) struct OddEntry<'l> {
    pub(super) named: &'l str,
    /// The GPUs that the runtime shows.
    pub(super) before: Vec<PciAddress>,
    /// What the runtime does there.
    pub(super) fault: Fault,
}

/// What a runtime does at an entry that names no openable GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
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
pub(super) fn parse_cuda<'l>(
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
pub(super) fn parse_list<'l>(
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
pub(super) fn parse_rocr<'l>(
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
pub(super) fn parse_hip(machine: &Machine, outer: &[&Gpu], list: &str) -> Option<Vec<PciAddress>> {
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
pub(super) fn is_quoted_nothing(value: &str) -> bool {
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
