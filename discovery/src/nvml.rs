//! What NVML says.  Runs in the child process only, where a hanging driver can be given up.
//!
//! Drivers of ten years are met, so every function but `nvmlInit_v2` may be missing or fail for a GPU:
//! what it would have said is then not known.

use std::collections::BTreeMap;
use std::error::Error;

use ffi::nvml::{LinkEnd, read_compute_instance, read_gpu_instance, read_link_end, read_p2p};
use nvml_wrapper::Nvml;
use nvml_wrapper::device::Device;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::PciInfo;
use serde::{Deserialize, Serialize};
use topology::machine::{MigInstance, NvmlPlace, P2pState};
use topology::nvlink::{Links, SOME_SWITCH, add_link};
use topology::pci::PciAddress;
use topology::set::{CpuSet, IndexSet, NodeSet};

use crate::error::ProbeError;

/// The library, as the driver installs it and as its development package does.
const LIBRARIES: [&str; 2] = ["libnvidia-ml.so.1", "libnvidia-ml.so"];
/// GPUs asked for at most.
const MAX_GPUS: u32 = 1024;
/// GPUs whose pairs are asked for at most.
const MAX_P2P: usize = 32;
/// GPUs that are named where they do not answer.
const MAX_REMARKS: usize = 16;
/// Links asked for on one GPU at most; NVLink 5 has 18.
const MAX_LINKS: u32 = 64;
/// MIG instances asked for on one GPU at most; GPUs of 2026 have 7.
const MAX_MIG: u32 = 64;
/// Words of a CPU set that NVML is asked to fill: 8,192 CPUs, the most that Linux takes.
const CPU_WORDS: usize = 128;
/// Words of a node set that NVML is asked to fill: 1,024 nodes, the most that Linux takes.
const NODE_WORDS: usize = 16;
/// `NVML_AFFINITY_SCOPE_NODE`.
const SCOPE_NODE: u32 = 0;

/// NVML's GPUs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct NvmlAnswer {
    /// By NVML's index.
    pub(crate) gpus: Vec<NvmlGpu>,
    /// Whether every GPU answered about NVLink (having none is an answer).
    pub(crate) nvlink_asked: bool,
    /// Whether pairs of GPUs read each other's memory.
    pub(crate) p2p: Vec<P2pState>,
    /// What could not be read.
    pub(crate) remarks: Vec<String>,
}

/// A GPU as NVML has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NvmlGpu {
    /// PCI address.
    pub(crate) pci: PciAddress,
    /// PCI device id; 0 when not given.
    pub(crate) device: u16,
    /// UUID.
    pub(crate) uuid: Option<String>,
    /// Minor number.
    pub(crate) minor: Option<u32>,
    /// Product name.
    pub(crate) name: Option<String>,
    /// Its MIG instances.
    pub(crate) mig: Vec<MigInstance>,
    /// Active NVLinks to other GPUs and to switches, by address of the far end.
    pub(crate) links: Links,
    /// Where it is.
    pub(crate) place: NvmlPlace,
}

/// Why NVML's GPU at an index cannot be told apart from others.
#[derive(Debug, thiserror::Error)]
enum NoGpu {
    /// NVML does not give its address.
    #[error(transparent)]
    Nvml(#[from] NvmlError),
    /// The address is none.
    #[error("\"{0}\" is no PCI address")]
    Address(String),
}

fn in_its_words(error: &NvmlError) -> ProbeError {
    ProbeError::Library(in_one_line(&error.to_string()))
}

/// Asks NVML.
pub(crate) fn read() -> Result<NvmlAnswer, ProbeError> {
    let nvml = load()?;
    let count = nvml.device_count();
    if let Err(error) = &count
        && !matches!(error, NvmlError::FailedToLoadSymbol(_))
    {
        return Err(in_its_words(error));
    }
    let own = OwnSets::read();
    let mut devices = Vec::new();
    let mut answer = NvmlAnswer {
        nvlink_asked: true,
        ..NvmlAnswer::default()
    };
    for index in 0..count
        .as_ref()
        .map_or(MAX_GPUS, |count| *count)
        .min(MAX_GPUS)
    {
        let device = match nvml.device_by_index(index) {
            Ok(device) => device,
            // There is no count, and this is the first beyond the last.
            Err(NvmlError::InvalidArg) if count.is_err() => break,
            Err(error) => {
                answer.complain(index, &error);
                if matches!(error, NvmlError::FailedToLoadSymbol(_)) {
                    break;
                }
                continue;
            }
        };
        match read_gpu(&device, &own) {
            Ok((gpu, asked)) => {
                answer.nvlink_asked &= asked;
                devices.push((gpu.pci, device));
                answer.gpus.push(gpu);
            }
            Err(error) => answer.complain(index, &error),
        }
    }
    answer.p2p = read_p2p_states(&devices);
    drop(devices);
    // nvmlShutdown may wait for a GPU to fall asleep; the process ends right after this.
    std::mem::forget(nvml);
    Ok(answer)
}

/// The processes on each GPU, by their numbers in the first process namespace.
pub(crate) type GpuProcesses = BTreeMap<PciAddress, Vec<u32>>;

/// Asks NVML which processes have a context on which GPU; a GPU that does not answer has none.
pub(crate) fn read_processes() -> Result<GpuProcesses, ProbeError> {
    let nvml = load()?;
    let count = nvml.device_count().map_err(|error| in_its_words(&error))?;
    let mut processes = GpuProcesses::new();
    for index in 0..count.min(MAX_GPUS) {
        let Ok(device) = nvml.device_by_index(index) else {
            continue;
        };
        let Some(pci) = device.pci_info().ok().as_ref().and_then(address) else {
            continue;
        };
        // Not there before R510; what else is known of a process has to do then.
        let compute = device.running_compute_processes();
        let graphics = device.running_graphics_processes();
        let all = [compute, graphics].into_iter().flatten().flatten();
        processes.insert(pci, all.map(|process| process.pid).collect());
    }
    std::mem::forget(nvml);
    Ok(processes)
}

impl NvmlAnswer {
    /// A GPU gives no answer, and so none on its links.
    fn complain(&mut self, index: u32, error: &dyn Error) {
        self.nvlink_asked = false;
        if self.remarks.len() < MAX_REMARKS {
            let why = in_one_line(&error.to_string());
            self.remarks.push(format!("NVML: GPU {index}: {why}"));
        }
    }
}

/// Loads the library by the names it may have, as the dynamic loader finds them (`LD_LIBRARY_PATH`).
fn load() -> Result<Nvml, ProbeError> {
    let mut first = None;
    for name in LIBRARIES {
        match Nvml::builder().lib_path(name.as_ref()).init() {
            Ok(nvml) => return Ok(nvml),
            Err(NvmlError::LibloadingError(error)) => {
                first.get_or_insert_with(|| in_one_line(&error.to_string()));
            }
            Err(error) => return Err(in_its_words(&error)),
        }
    }
    Err(ProbeError::NotLoaded(first.unwrap_or_default()))
}

/// Each pair once; none of those that NVML says nothing of.
fn read_p2p_states(devices: &[(PciAddress, Device<'_>)]) -> Vec<P2pState> {
    let mut states = Vec::new();
    for (place, (a, from)) in devices.iter().enumerate().take(MAX_P2P) {
        for (b, to) in devices.iter().take(MAX_P2P).skip(place + 1) {
            // Not every pair is the same both ways; the worse way counts.
            let (there, back) = (read_p2p(from, to), read_p2p(to, from));
            let state = [there, back]
                .into_iter()
                .flatten()
                .max_by_key(|state| *state != "ok");
            states.extend(state.map(|state| P2pState {
                a: *a,
                b: *b,
                state: state.to_owned(),
            }));
        }
    }
    states
}

fn read_gpu(device: &Device<'_>, own: &OwnSets) -> Result<(NvmlGpu, bool), NoGpu> {
    let pci = device.pci_info()?;
    let address = address(&pci).ok_or_else(|| NoGpu::Address(pci.bus_id.clone()))?;
    let (links, asked) = read_links(device);
    let gpu = NvmlGpu {
        pci: address,
        device: u16::try_from(pci.pci_device_id >> 16).unwrap_or(0),
        uuid: device.uuid().ok().and_then(|uuid| identifier(&uuid)),
        minor: device.minor_number().ok(),
        name: device.name().ok().map(|name| in_one_line(&name)),
        mig: read_mig(device),
        links,
        place: read_place(device, own),
    };
    Ok((gpu, asked))
}

/// The address by its text, failing that by its numbers; none when both are empty.
fn address(pci: &PciInfo) -> Option<PciAddress> {
    let by_numbers = || {
        let address = PciAddress {
            domain: pci.domain,
            bus: u8::try_from(pci.bus).ok()?,
            device: u8::try_from(pci.device)
                .ok()
                .filter(|device| *device < 32)?,
            function: 0,
        };
        let is_empty = (address.domain, address.bus, address.device) == (0, 0, 0);
        (!is_empty).then_some(address)
    };
    pci.bus_id.trim().parse().ok().or_else(by_numbers)
}

/// Instances that are not there give an error: `nvmlDeviceGetMaxMigDeviceCount` counts what could be.
fn read_mig(device: &Device<'_>) -> Vec<MigInstance> {
    let count = match device.mig_device_count() {
        Ok(count) => count.min(MAX_MIG),
        Err(NvmlError::FailedToLoadSymbol(_)) => MAX_MIG,
        Err(_) => 0,
    };
    (0..count)
        .filter_map(|index| {
            let mig = device.mig_device_by_index(index).ok()?;
            let uuid = identifier(&mig.uuid().ok()?)?;
            // Drivers before R470 name an instance by its GPU and its numbers: MIG-GPU-<uuid>/<gi>/<ci>.
            let mut numbers = uuid.split('/').skip(1).map(|number| number.parse().ok());
            let (gpu, compute) = (numbers.next().flatten(), numbers.next().flatten());
            Some(MigInstance {
                gpu_instance: read_gpu_instance(&mig).or(gpu),
                compute_instance: read_compute_instance(&mig).or(compute),
                uuid,
            })
        })
        .collect()
}

/// Active links by far end, and whether NVML told where all of them lead.
fn read_links(device: &Device<'_>) -> (Links, bool) {
    let mut links = Links::new();
    let mut all_told = true;
    for index in 0..MAX_LINKS {
        let link = device.link_wrapper_for(index);
        match link.is_active() {
            Ok(true) => {}
            Ok(false) | Err(NvmlError::NotSupported) => continue,
            // The first link beyond the last.
            Err(NvmlError::InvalidArg) => break,
            Err(_) => return (links, false),
        }
        let far = link.remote_pci_info().ok().and_then(|pci| address(&pci));
        let to = match (read_link_end(device, index), far) {
            (LinkEnd::Npu, _) => continue,
            (LinkEnd::Gpu | LinkEnd::Unknown, Some(far)) => far,
            // All switches are one: what counts is how many links lead into the fabric.
            (LinkEnd::Switch, far) => far.unwrap_or(SOME_SWITCH),
            (LinkEnd::Gpu | LinkEnd::Unknown, None) => {
                all_told = false;
                continue;
            }
        };
        add_link(&mut links, to);
    }
    (links, all_told)
}

/// What this process itself may use: NVML cuts a GPU's affinity to that.
struct OwnSets {
    cpus: Option<CpuSet>,
    nodes: Option<NodeSet>,
}

impl OwnSets {
    fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let value = |key: &str| {
            let mut lines = status.lines();
            lines.find_map(|line| line.strip_prefix(key)).map(str::trim)
        };
        Self {
            cpus: value("Cpus_allowed_list:").and_then(|list| list.parse().ok()),
            nodes: value("Mems_allowed_list:").and_then(|list| list.parse().ok()),
        }
    }
}

/// What NVML says of a GPU's place, but for a set that is only this process's own.
fn read_place(device: &Device<'_>, own: &OwnSets) -> NvmlPlace {
    let cpus = device
        .cpu_affinity(CPU_WORDS)
        .or_else(|_| device.cpu_affinity_within_scope(CPU_WORDS, SCOPE_NODE));
    let nodes = device.memory_affinity(NODE_WORDS, SCOPE_NODE);
    NvmlPlace {
        numa_node: device.numa_node_id().ok(),
        memory_nodes: nodes
            .ok()
            .and_then(|words| narrower(&words, own.nodes.as_ref())),
        cpus: cpus
            .ok()
            .and_then(|words| narrower(&words, own.cpus.as_ref())),
    }
}

/// A set that is not empty and leaves out something of `own`.
fn narrower<K>(words: &[u64], own: Option<&IndexSet<K>>) -> Option<IndexSet<K>> {
    let set = IndexSet::from_words(words);
    let is_all = own.is_some_and(|own| own.is_subset(&set));
    (!set.is_empty() && !is_all).then_some(set)
}

/// A UUID; none where the text is none that `CUDA_VISIBLE_DEVICES` could hold.
fn identifier(text: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/' | b'_');
    let text = text.trim();
    (!text.is_empty() && text.bytes().all(is_plain)).then(|| text.to_owned())
}

/// A library's words without line breaks and other control characters.
fn in_one_line(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

#[cfg(test)]
impl Default for NvmlGpu {
    fn default() -> Self {
        Self {
            pci: SOME_SWITCH,
            device: 0,
            uuid: None,
            minor: None,
            name: None,
            mig: Vec::new(),
            links: Vec::new(),
            place: NvmlPlace::default(),
        }
    }
}
