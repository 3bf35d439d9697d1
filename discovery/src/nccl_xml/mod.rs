//! A machine from an NCCL topology file.
//!
//! What is an error for NCCL itself is `gpu-numa nccl check`'s business; this reader takes all from which
//! a machine can be told.

mod tags;

use std::collections::BTreeMap;

use tags::{Tag, TagKind, Tags};
use topology::locality::{Overrides, locate_all};
use topology::machine::{Gpu, Locality, Machine, Nic, NodeKind, NumaNode, Processor};
use topology::pci::{CLASS_3D, DeviceKind, Link, PciAddress, PciDevice};
use topology::set::{CpuSet, MAX_INDEX, NodeSet};
use topology::sysfs::{parse_mask, parse_speed, parse_width};
use topology::vendor;

/// How deep elements may nest.
const MAX_DEPTH: usize = 64;
/// Tags at most; NCCL takes 256 elements.  Every GPU may have links to every other, so more would cost the square.
const MAX_ELEMENTS: usize = 8_192;

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
/// [`NcclXmlError`] for text that is cut off, elements that do not match, and bad ids.
pub(crate) fn parse_machine(text: &str) -> Result<Machine, NcclXmlError> {
    let mut reader = Reader::default();
    let mut tags = Tags::new(text);
    let mut elements = 0;
    while let Some(tag) = tags.next_tag()? {
        elements += 1;
        if elements > MAX_ELEMENTS {
            return Err(fault(&tag, format!("more than {MAX_ELEMENTS} elements")));
        }
        match tag.kind {
            TagKind::Open => reader.open(&tag)?,
            TagKind::Empty => {
                reader.open(&tag)?;
                reader.open.pop();
            }
            TagKind::Close => reader.close(&tag)?,
        }
    }
    if let Some(open) = reader.open.last() {
        let what = format!("the file ends within <{}> of line {}", open.name, open.line);
        return Err(NcclXmlError {
            line: tags.line(),
            what,
        });
    }
    Ok(reader.finish())
}

fn fault(tag: &Tag<'_>, what: String) -> NcclXmlError {
    NcclXmlError {
        line: tag.line,
        what,
    }
}

/// An element that is still open.
#[derive(Debug)]
struct Open {
    name: String,
    line: usize,
    /// The NUMA node of the `<cpu>` around; absent outside and for `numaid="-1"`.
    node: Option<u32>,
    /// The `<pci>` around.
    pci: Option<PciAddress>,
}

#[derive(Debug, Default)]
struct Reader {
    open: Vec<Open>,
    nodes: BTreeMap<u32, CpuSet>,
    processor: Option<Processor>,
    devices: BTreeMap<PciAddress, PciDevice>,
    /// Devices with a `<gpu>` element, and the vendor that its attributes show.
    gpus: BTreeMap<PciAddress, u16>,
    /// Names of `<net>`s by device.
    nets: BTreeMap<PciAddress, Vec<String>>,
    /// From GPU, to far end, how many links.
    links: Vec<(PciAddress, Option<PciAddress>, u32)>,
}

impl Reader {
    fn open(&mut self, tag: &Tag<'_>) -> Result<(), NcclXmlError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(fault(tag, format!("elements nest deeper than {MAX_DEPTH}")));
        }
        let (node, above) = self
            .open
            .last()
            .map_or((None, None), |open| (open.node, open.pci));
        let mut open = Open {
            name: tag.name.to_owned(),
            line: tag.line,
            node,
            pci: above,
        };
        match tag.name {
            "system" if !self.open.is_empty() => {
                return Err(fault(tag, "<system> within an element".to_owned()));
            }
            "cpu" => open.node = self.read_cpu(tag)?,
            "pci" => open.pci = Some(self.read_pci(tag, node, above)?),
            "gpu" => {
                if let Some(pci) = above {
                    let vendor = vendor::id_by_mark(|name| tag.get(name).is_some());
                    self.gpus.insert(pci, vendor);
                }
            }
            "nvlink" | "xgmi" => self.read_link(tag, above)?,
            "net" => {
                if let (Some(pci), Some(name)) = (above, tag.get("name")) {
                    self.nets.entry(pci).or_default().push(name.to_owned());
                }
            }
            _ => {}
        }
        self.open.push(open);
        Ok(())
    }

    fn close(&mut self, tag: &Tag<'_>) -> Result<(), NcclXmlError> {
        match self.open.pop() {
            Some(open) if open.name == tag.name => Ok(()),
            Some(open) => {
                let what = format!(
                    "</{}> closes <{}> of line {}",
                    tag.name, open.name, open.line
                );
                Err(fault(tag, what))
            }
            None => Err(fault(tag, format!("</{}> closes nothing", tag.name))),
        }
    }

    fn read_cpu(&mut self, tag: &Tag<'_>) -> Result<Option<u32>, NcclXmlError> {
        let numaid = tag
            .get("numaid")
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
        let affinity = match tag.get("affinity") {
            Some(mask) => parse_mask(mask).ok_or_else(|| {
                fault(
                    tag,
                    format!(
                        "<cpu affinity=\"{mask}\">: expected hex words such as 00ff00ff,00000000"
                    ),
                )
            })?,
            None => CpuSet::new(),
        };
        self.nodes.entry(id).or_default().extend_with(&affinity);
        Ok(Some(id))
    }

    fn read_pci(
        &mut self,
        tag: &Tag<'_>,
        node: Option<u32>,
        parent: Option<PciAddress>,
    ) -> Result<PciAddress, NcclXmlError> {
        let busid = tag
            .get("busid")
            .ok_or_else(|| fault(tag, "<pci> without busid".to_owned()))?;
        let address: PciAddress = busid.parse().map_err(|_| {
            fault(tag, format!("<pci busid=\"{busid}\">: expected domain:bus:device.function as in \"0000:3b:00.0\""))
        })?;
        let subsystem = id(tag, "subsystem_vendor")?.zip(id(tag, "subsystem_device")?);
        let device = PciDevice {
            address,
            parent,
            root_bus: None,
            class: hex(tag, "class")?.unwrap_or(0),
            vendor: id(tag, "vendor")?.unwrap_or(0),
            device: id(tag, "device")?.unwrap_or(0),
            subsystem: subsystem.filter(|ids| *ids != (0, 0)),
            link: Link {
                max_speed_gts: tag.get("link_speed").and_then(parse_speed),
                max_width: tag.get("link_width").and_then(parse_width),
                ..Link::default()
            },
            numa_node: None,
            local_cpus: None,
            attached_nodes: node.map(NodeSet::single),
        };
        // Merged dumps name a device twice; its first place counts.
        self.devices.entry(address).or_insert(device);
        Ok(address)
    }

    fn read_link(&mut self, tag: &Tag<'_>, from: Option<PciAddress>) -> Result<(), NcclXmlError> {
        let count = match tag.get("count") {
            Some(text) => text.parse().map_err(|_| {
                fault(
                    tag,
                    format!("<{} count=\"{text}\">: expected a number", tag.name),
                )
            })?,
            None => 1,
        };
        let is_switch = tag
            .get("tclass")
            .is_some_and(|class| class.starts_with("0x0680"));
        // NVSwitches that give no address are written "fffffff:ffff:ff".
        let to = tag
            .get("target")
            .and_then(|to| to.parse().ok())
            .filter(|_| !is_switch);
        if let Some(from) = from {
            self.links.push((from, to, count));
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
        let switched = self.switched();
        for device in self.devices.values() {
            match device.kind() {
                DeviceKind::Gpu => machine.gpus.push(self.gpu(device, &switched)),
                DeviceKind::Nic => machine.nics.push(Nic {
                    pci: device.address,
                    vendor: device.vendor,
                    device: device.device,
                    names: self.nets.get(&device.address).cloned().unwrap_or_default(),
                    locality: Locality::default(),
                }),
                DeviceKind::Bridge | DeviceKind::Other => {}
            }
        }
        machine.pci = self.devices.into_values().collect();
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
                let cpus = affinity.difference(&taken);
                taken.extend_with(&cpus);
                NumaNode {
                    id,
                    package: None,
                    kind: if cpus.is_empty() {
                        NodeKind::Cpuless
                    } else {
                        NodeKind::Dram
                    },
                    cpus,
                    memory_bytes: None,
                    distances: BTreeMap::new(),
                }
            })
            .collect()
    }

    /// How many links lead from each device into switches; a file may claim any number.
    fn switched(&self) -> BTreeMap<PciAddress, u32> {
        let mut switched = BTreeMap::<PciAddress, u32>::new();
        for (from, _, count) in self.links.iter().filter(|(_, to, _)| to.is_none()) {
            let links = switched.entry(*from).or_default();
            *links = links.saturating_add(*count);
        }
        switched
    }

    fn gpu(&self, device: &PciDevice, switched: &BTreeMap<PciAddress, u32>) -> Gpu {
        let mut nvlinks: BTreeMap<PciAddress, u32> = BTreeMap::new();
        for (_, to, count) in self
            .links
            .iter()
            .filter(|(from, _, _)| *from == device.address)
        {
            if let Some(to) = to {
                let links = nvlinks.entry(*to).or_default();
                *links = links.saturating_add(*count);
            }
        }
        let own = switched.get(&device.address).copied().unwrap_or(0);
        for (other, theirs) in switched {
            let both = own.min(*theirs);
            if both > 0 && *other != device.address {
                let links = nvlinks.entry(*other).or_default();
                *links = links.saturating_add(both);
            }
        }
        Gpu {
            nvlinks,
            ..Gpu::of(device)
        }
    }
}

fn hex(tag: &Tag<'_>, name: &str) -> Result<Option<u32>, NcclXmlError> {
    let Some(text) = tag.get(name) else {
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

fn id(tag: &Tag<'_>, name: &str) -> Result<Option<u16>, NcclXmlError> {
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
fn processor(tag: &Tag<'_>) -> Option<Processor> {
    let number = |name: &str| tag.get(name).and_then(|text| text.parse::<u32>().ok());
    let family = number("familyid").map(|family| {
        if family > 0xf && family & 0xf == 0xf {
            0xf + (family >> 4)
        } else {
            family
        }
    });
    Some(Processor {
        arch: tag.get("arch")?.to_owned(),
        vendor: tag.get("vendor").map(str::to_owned),
        family,
        model: number("modelid"),
    })
}

#[cfg(test)]
mod tests;
