//! A machine from an NCCL topology file.
//!
//! What is an error for NCCL itself is `gpu-numa nccl check`'s business; this reader takes all from which
//! a machine can be told.

use std::collections::BTreeMap;

use roxmltree::{Document, Node, ParsingOptions};
use topology::locality::{Overrides, locate_all};
use topology::machine::{Gpu, Locality, Machine, Nic, NodeKind, NumaNode, Processor, RdmaPort};
use topology::nvlink::{Links, SOME_SWITCH, set_nvlinks};
use topology::pci::{CLASS_3D, DeviceKind, Link, PciAddress, PciDevice};
use topology::set::{CpuSet, MAX_INDEX, NodeSet};
use topology::sysfs::{parse_mask, parse_speed, parse_width};
use topology::text::plain;
use topology::vendor;

/// How deep elements may nest.
const MAX_DEPTH: usize = 64;
/// Elements at most; NCCL takes 256.  Every GPU may have links to every other, so more would cost the square.
const MAX_ELEMENTS: usize = 8_192;
/// Elements, comments and texts between them at most.
const MAX_NODES: u32 = 1 << 16;

/// A fault in an NCCL XML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {what}")]
pub struct NcclXmlError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

/// Reads a topology file's text as a machine.
///
/// # Errors
/// [`NcclXmlError`] for text that is not XML, for bad ids, and for a GPU in parts (MLOPart).
pub(crate) fn parse_machine(text: &str) -> Result<Machine, NcclXmlError> {
    let options = ParsingOptions {
        // Some files of vendors have one; nothing outside the text is read.
        allow_dtd: true,
        nodes_limit: MAX_NODES,
        ..ParsingOptions::default()
    };
    let document =
        Document::parse_with_options(text, options).map_err(|error| not_xml(text, &error))?;
    let mut reader = Reader::default();
    reader.read(document.root_element(), Around::default())?;
    Ok(reader.finish())
}

fn not_xml(text: &str, error: &roxmltree::Error) -> NcclXmlError {
    if *error == roxmltree::Error::UnclosedRootNode {
        return NcclXmlError {
            line: text.lines().count(),
            what: "the file ends within an element".to_owned(),
        };
    }
    let line = usize::try_from(error.pos().row).unwrap_or_default();
    let what = if *error == roxmltree::Error::NodesLimitReached {
        format!("more than {MAX_ELEMENTS} elements")
    } else {
        error.to_string()
    };
    NcclXmlError { line, what }
}

type Tag<'a> = Node<'a, 'a>;

fn fault(tag: Tag<'_>, what: String) -> NcclXmlError {
    let place = tag.document().text_pos_at(tag.range().start);
    NcclXmlError {
        line: usize::try_from(place.row).unwrap_or_default(),
        what,
    }
}

/// The value of an attribute; None also where it is empty.
fn get<'a>(tag: Tag<'a>, name: &str) -> Option<&'a str> {
    let value = tag.attribute(name)?.trim();
    (!value.is_empty()).then_some(value)
}

/// What an element stands in.
#[derive(Debug, Clone, Copy, Default)]
struct Around {
    depth: usize,
    /// The NUMA node of the `<cpu>` around; None outside of one, and for `numaid="-1"`.
    node: Option<u32>,
    /// The `<pci>` around.
    pci: Option<PciAddress>,
}

#[derive(Debug, Default)]
struct Reader {
    elements: usize,
    /// The CPUs of each node; none where no `<cpu>` of it has an affinity.
    nodes: BTreeMap<u32, Option<CpuSet>>,
    processor: Option<Processor>,
    devices: BTreeMap<PciAddress, PciDevice>,
    /// Devices with a `<gpu>` element, and the vendor that its attributes show.
    gpus: BTreeMap<PciAddress, u16>,
    /// Names of `<net>`s by device.
    nets: BTreeMap<PciAddress, Vec<String>>,
    /// What the `<net>`s say of their ports.
    ports: BTreeMap<PciAddress, Vec<RdmaPort>>,
    /// The links of each device to others and to switches.
    links: BTreeMap<PciAddress, Links>,
}

impl Reader {
    fn read(&mut self, tag: Tag<'_>, around: Around) -> Result<(), NcclXmlError> {
        self.elements += 1;
        if self.elements > MAX_ELEMENTS {
            return Err(fault(tag, format!("more than {MAX_ELEMENTS} elements")));
        }
        if around.depth >= MAX_DEPTH {
            return Err(fault(tag, format!("elements nest deeper than {MAX_DEPTH}")));
        }
        let mut inside = Around {
            depth: around.depth + 1,
            ..around
        };
        match tag.tag_name().name() {
            "system" if around.depth > 0 => {
                return Err(fault(tag, "<system> within an element".to_owned()));
            }
            "cpu" => inside.node = self.read_cpu(tag)?,
            "pci" => inside.pci = Some(self.read_pci(tag, around)?),
            "gpu" => {
                if let Some(pci) = around.pci {
                    let part = get(tag, "mlopart").and_then(|part| part.parse::<i64>().ok());
                    if let Some(part) = part.filter(|part| *part >= 0) {
                        // A machine's GPU is one device: two parts of it would be shown and bound as one.
                        return Err(fault(
                            tag,
                            format!(
                                "GPU {pci} is in parts (mlopart=\"{part}\"), which are not modelled"
                            ),
                        ));
                    }
                    let vendor = vendor::id_by_mark(|name| get(tag, name).is_some());
                    self.gpus.insert(pci, vendor);
                }
            }
            "nvlink" | "xgmi" => self.read_link(tag, around.pci)?,
            "net" => {
                if let (Some(pci), Some(name)) = (around.pci, get(tag, "name")) {
                    self.nets.entry(pci).or_default().push(plain(name));
                    let number = |key| get(tag, key).and_then(|text| text.parse().ok());
                    self.ports.entry(pci).or_default().push(RdmaPort {
                        device: plain(name),
                        port: number("port").unwrap_or(1),
                        speed_mbit_s: number("speed").filter(|speed| *speed > 0),
                    });
                }
            }
            _ => {}
        }
        let mut children = tag.children().filter(Node::is_element);
        children.try_for_each(|child| self.read(child, inside))
    }

    fn read_cpu(&mut self, tag: Tag<'_>) -> Result<Option<u32>, NcclXmlError> {
        let numaid = get(tag, "numaid")
            .ok_or_else(|| fault(tag, "<cpu> without numaid; NCCL needs a number".to_owned()))?;
        let id = numaid
            .parse::<i64>()
            .ok()
            .filter(|id| *id <= i64::from(MAX_INDEX))
            .ok_or_else(|| {
                fault(
                    tag,
                    format!("<cpu numaid=\"{numaid}\">: expected a NUMA node, or -1 for unknown"),
                )
            })?;
        if self.processor.is_none() {
            self.processor = processor(tag);
        }
        let Ok(id) = u32::try_from(id) else {
            return Ok(None);
        };
        let affinity = match get(tag, "affinity") {
            Some(mask) => Some(parse_mask(mask).ok_or_else(|| {
                fault(
                    tag,
                    format!(
                        "<cpu affinity=\"{mask}\">: expected hex words such as 00ff00ff,00000000"
                    ),
                )
            })?),
            None => None,
        };
        let known = self.nodes.entry(id).or_default();
        if let Some(affinity) = affinity {
            known.get_or_insert_default().extend_with(&affinity);
        }
        Ok(Some(id))
    }

    fn read_pci(&mut self, tag: Tag<'_>, around: Around) -> Result<PciAddress, NcclXmlError> {
        let busid =
            get(tag, "busid").ok_or_else(|| fault(tag, "<pci> without busid".to_owned()))?;
        let address: PciAddress = busid.parse().map_err(|_| {
            fault(tag, format!("<pci busid=\"{busid}\">: expected domain:bus:device.function as in \"0000:3b:00.0\""))
        })?;
        let subsystem = id(tag, "subsystem_vendor")?.zip(id(tag, "subsystem_device")?);
        let device = PciDevice {
            address,
            parent: around.pci,
            root_bus: None,
            class: hex(tag, "class")?.unwrap_or(0),
            vendor: id(tag, "vendor")?.unwrap_or(0),
            device: id(tag, "device")?.unwrap_or(0),
            subsystem: subsystem.filter(|ids| *ids != (0, 0)),
            link: Link {
                max_speed_gts: get(tag, "link_speed").and_then(parse_speed),
                max_width: get(tag, "link_width").and_then(parse_width),
                ..Link::default()
            },
            numa_node: None,
            local_cpus: None,
            attached_nodes: around.node.map(NodeSet::single),
            attached_cpus: None,
        };
        // Merged dumps name a device twice; its first place counts.
        self.devices.entry(address).or_insert(device);
        Ok(address)
    }

    fn read_link(&mut self, tag: Tag<'_>, from: Option<PciAddress>) -> Result<(), NcclXmlError> {
        let count = match get(tag, "count") {
            Some(text) => text.parse().map_err(|_| {
                fault(
                    tag,
                    format!(
                        "<{} count=\"{text}\">: expected a number",
                        tag.tag_name().name()
                    ),
                )
            })?,
            None => 1,
        };
        let is_switch = get(tag, "tclass").is_some_and(|class| class.starts_with("0x0680"));
        // NVSwitches that give no address are written "fffffff:ffff:ff".
        let to = get(tag, "target")
            .and_then(|to| to.parse().ok())
            .filter(|_| !is_switch);
        if let Some(from) = from {
            let to = to.unwrap_or(SOME_SWITCH);
            self.links.entry(from).or_default().push((to, count));
        }
        Ok(())
    }

    fn finish(mut self) -> Machine {
        self.name_vendors();
        let mut machine = Machine {
            numa_nodes: self.take_nodes(),
            processor: self.processor.take(),
            nvlink_visible: !self.links.is_empty(),
            ..Machine::default()
        };
        for node in &machine.numa_nodes {
            machine.online.extend_with(&node.cpus);
        }
        machine.cores = machine.online.iter().map(CpuSet::single).collect();
        for device in self.devices.values() {
            match device.kind() {
                DeviceKind::Gpu => machine.gpus.push(Gpu::of(device)),
                DeviceKind::Nic => machine.nics.push(Nic {
                    pci: device.address,
                    vendor: device.vendor,
                    device: device.device,
                    names: self.nets.get(&device.address).cloned().unwrap_or_default(),
                    ports: self.ports.remove(&device.address).unwrap_or_default(),
                    aside: None,
                    locality: Locality::default(),
                }),
                DeviceKind::Bridge | DeviceKind::Other => {}
            }
        }
        machine.pci = self.devices.into_values().collect();
        for gpu in &machine.gpus {
            // One that names no link is still no switch.
            self.links.entry(gpu.pci).or_default();
        }
        set_nvlinks(&mut machine, &self.links);
        locate_all(&mut machine, &Overrides::new());
        machine
    }

    /// Vendor and class of GPUs where the file leaves them out, as vendors' static files do.
    fn name_vendors(&mut self) {
        for (address, device) in &mut self.devices {
            let marked = self.gpus.get(address).copied();
            if marked.is_some() && !matches!(device.class >> 16, 0x03 | 0x12) {
                device.class = CLASS_3D;
            }
            if device.vendor == 0 && (marked.is_some() || device.class >> 16 == 0x03) {
                device.vendor = marked.unwrap_or_else(|| vendor::id_by_mark(|_| false));
            }
            if self.nets.contains_key(address) && marked.is_none() && device.class == 0 {
                device.class = 0x02_0000;
            }
        }
    }

    fn take_nodes(&mut self) -> Vec<NumaNode> {
        let mut taken = CpuSet::new();
        std::mem::take(&mut self.nodes)
            .into_iter()
            .map(|(id, affinity)| {
                let is_recorded = affinity.is_some();
                let cpus = affinity.unwrap_or_default().difference(&taken);
                taken.extend_with(&cpus);
                NumaNode {
                    id,
                    package: None,
                    kind: match (is_recorded, cpus.is_empty()) {
                        (false, _) => NodeKind::Unrecorded,
                        (true, true) => NodeKind::Cpuless,
                        (true, false) => NodeKind::Dram,
                    },
                    cpus,
                    memory_bytes: None,
                    distances: BTreeMap::new(),
                }
            })
            .collect()
    }
}

fn hex(tag: Tag<'_>, name: &str) -> Result<Option<u32>, NcclXmlError> {
    let Some(text) = get(tag, name) else {
        return Ok(None);
    };
    u32::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16)
        .map(Some)
        .map_err(|_| {
            fault(
                tag,
                format!("<pci {name}=\"{text}\">: expected a number in hex"),
            )
        })
}

fn id(tag: Tag<'_>, name: &str) -> Result<Option<u16>, NcclXmlError> {
    let Some(value) = hex(tag, name)? else {
        return Ok(None);
    };
    u16::try_from(value).map(Some).map_err(|_| {
        fault(
            tag,
            format!("<pci {name}=\"{value:#x}\">: expected four hex digits"),
        )
    })
}

/// NCCL writes family plus sixteen times extended family (`graph/xml.cc`, 2.30.7): AMD's 25 as 175.
fn processor(tag: Tag<'_>) -> Option<Processor> {
    let number = |name: &str| get(tag, name).and_then(|text| text.parse::<u32>().ok());
    let family = number("familyid").map(|family| {
        if family > 0xf && family & 0xf == 0xf {
            0xf + (family >> 4)
        } else {
            family
        }
    });
    Some(Processor {
        arch: plain(get(tag, "arch")?),
        vendor: get(tag, "vendor").map(plain),
        family,
        model: number("modelid"),
    })
}

#[cfg(test)]
mod tests;
