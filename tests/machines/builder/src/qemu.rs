//! A declaration as QEMU's arguments: what `tests/vm/run-vm` boots.

use std::collections::{BTreeMap, BTreeSet};

use crate::declared::{Declared, Function, Link, Role};
use crate::models;
use crate::values::Address;

/// Why QEMU cannot be the machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotForQemu {
    /// QEMU here is an x86 machine.
    #[error("it is no x86_64 machine")]
    NotX86,
    /// All sockets and cores of a virtual machine are alike.
    #[error("its packages or cores are not alike")]
    NotRegular,
    /// QEMU numbers thread after thread, core after core, socket after socket.
    #[error("CPU {0} has another number than QEMU would give it")]
    Numbering(u32),
    /// Firmware numbers buses as it finds them.
    #[error("{0} would have bus {1:02x}")]
    Bus(Address, u8),
    /// Below a root port: a device, or a switch with one level of ports.
    #[error("{0} is below more ports than a virtual switch has")]
    TooDeep(Address),
    /// A host bridge behind a device, or right on the root bus of all.
    #[error("its PCI buses are not those of extra host bridges")]
    Buses,
    /// A virtual machine's CPUs are online when it starts.
    #[error("some of its CPUs are offline")]
    Offline,
}

/// What QEMU is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Qemu {
    /// The identities for `fakepci.so`, as its variable `FAKEPCI_TYPES` takes them.
    pub identities: String,
    /// Arguments.
    pub arguments: Vec<String>,
}

/// A core's CPUs and its node.
type Core = (BTreeSet<u32>, Option<u32>);

struct Builder {
    arguments: Vec<String>,
    identities: BTreeSet<String>,
    chassis: u32,
}

pub(crate) fn build(declared: &Declared) -> Result<Qemu, NotForQemu> {
    if declared.processor.arch != "x86_64" {
        return Err(NotForQemu::NotX86);
    }
    if !declared.offline.0.is_empty() {
        return Err(NotForQemu::Offline);
    }
    let mut builder = Builder {
        arguments: Vec::new(),
        identities: BTreeSet::new(),
        chassis: 0,
    };
    builder.processors(declared)?;
    builder.distances(declared);
    builder.buses(declared)?;
    let identities: Vec<String> = builder.identities.into_iter().collect();
    Ok(Qemu {
        identities: identities.join(" "),
        arguments: builder.arguments,
    })
}

impl Builder {
    fn add(&mut self, option: &str, value: String) {
        self.arguments.extend([option.to_owned(), value]);
    }

    fn processors(&mut self, declared: &Declared) -> Result<(), NotForQemu> {
        let groups = &declared.cores;
        let threads = groups.first().map_or(1, |group| group.threads);
        let mut cores_of: BTreeMap<i32, Vec<Core>> = BTreeMap::new();
        for group in groups {
            let cores = group.groups().into_iter().map(|core| (core, group.node));
            cores_of.entry(group.package).or_default().extend(cores);
        }
        let each = cores_of.values().next().map_or(0, Vec::len);
        let is_regular = groups.iter().all(|group| group.threads == threads)
            && cores_of.values().all(|cores| cores.len() == each)
            && cores_of.keys().copied().eq((0..).take(cores_of.len()));
        if !is_regular {
            return Err(NotForQemu::NotRegular);
        }
        let all = cores_of.values().flatten().flat_map(|(core, _)| core);
        for (number, cpu) in (0..).zip(all) {
            if number != *cpu {
                return Err(NotForQemu::Numbering(*cpu));
            }
        }
        let (sockets, count) = (cores_of.len(), cores_of.len() * each * threads);
        self.add(
            "-smp",
            format!("{count},sockets={sockets},cores={each},threads={threads}"),
        );
        let mut total = 0;
        for node in &declared.nodes {
            let (id, size) = (node.id, node.memory.map_or(0, |memory| memory.0 >> 20));
            total += size;
            if size == 0 {
                self.add("-numa", format!("node,nodeid={id}"));
            } else {
                self.add(
                    "-object",
                    format!("memory-backend-ram,id=ram{id},size={size}M"),
                );
                self.add("-numa", format!("node,nodeid={id},memdev=ram{id}"));
            }
            for (socket, cores) in &cores_of {
                let own: Vec<usize> = (0..each)
                    .filter(|core| cores[*core].1 == Some(id))
                    .collect();
                if own.len() == each {
                    self.add("-numa", format!("cpu,node-id={id},socket-id={socket}"));
                    continue;
                }
                for core in own {
                    self.add(
                        "-numa",
                        format!("cpu,node-id={id},socket-id={socket},core-id={core}"),
                    );
                }
            }
        }
        self.add("-m", format!("{total}M"));
        Ok(())
    }

    fn distances(&mut self, declared: &Declared) {
        for (row, from) in declared.slit.iter().zip(&declared.nodes) {
            for (distance, to) in row.iter().zip(&declared.nodes) {
                if from.id < to.id {
                    let (from, to) = (from.id, to.id);
                    self.add("-numa", format!("dist,src={from},dst={to},val={distance}"));
                }
            }
        }
    }

    fn buses(&mut self, declared: &Declared) -> Result<(), NotForQemu> {
        let all = declared.functions();
        for bridge in &declared.bridges {
            if bridge.behind.is_some() || bridge.bus.domain != 0 || bridge.bus.bus == 0 {
                return Err(NotForQemu::Buses);
            }
            let bus = bridge.bus.bus;
            let node = u32::try_from(bridge.node).ok();
            let node = node.map_or_else(String::new, |node| format!(",numa_node={node}"));
            let value = format!("pxb-pcie,id=rc{bus:02x},bus=pcie.0,bus_nr={bus:#04x}{node}");
            self.add("-device", value);
            let own: Vec<&Function> = all
                .iter()
                .filter(|function| function.root_bus == bridge.bus)
                .collect();
            let mut next = bus;
            self.below(&own, None, &format!("rc{bus:02x}"), 0, &mut next)?;
        }
        Ok(())
    }

    /// Adds what is right below `parent`, and numbers buses as firmware does: depth first.
    fn below(
        &mut self,
        all: &[&Function],
        parent: Option<Address>,
        bus: &str,
        depth: usize,
        next: &mut u8,
    ) -> Result<(), NotForQemu> {
        let number = *next;
        for function in all.iter().filter(|function| function.parent == parent) {
            let at = function.address;
            if at.bus != number {
                return Err(NotForQemu::Bus(at, number));
            }
            if function.role != Role::Port {
                self.device(function, bus);
                continue;
            }
            let (kind, id) = (
                ["root", "up", "down"].get(depth),
                format!("p{:02x}.{:02x}", at.bus, at.device),
            );
            let kind = *kind.ok_or(NotForQemu::TooDeep(at))?;
            let parent = ["pcie-root-port", "x3130-upstream", "xio3130-downstream"][depth];
            let name = self.identity(function, kind, parent);
            let mut value = format!("{name},id={id},bus={bus}");
            if kind != "up" {
                self.chassis += 1;
                let place = self.chassis;
                value += &format!(
                    ",addr={:x},chassis={place},slot={place},hotplug=off",
                    at.device
                );
            }
            self.add("-device", value);
            *next += 1;
            self.below(all, Some(at), &id, depth + 1, next)?;
        }
        Ok(())
    }

    /// A device without a backend has QEMU's own USB controller under it; QEMU cannot make NICs and disks that
    /// are nobody's.
    fn device(&mut self, function: &Function, bus: &str) {
        let name = self.identity(function, "", "qemu-xhci");
        self.add("-device", format!("{name},bus={bus}"));
    }

    /// The name of the device type with this identity.
    fn identity(&mut self, function: &Function, kind: &str, parent: &str) -> String {
        let model = function.model;
        let (vendor, device) = model.ids;
        let none = Link {
            best: None,
            now: (0.0, 0),
        };
        let (speed, width) = function.link.unwrap_or(none).now;
        let generation = if width == 0 {
            0
        } else {
            models::generation(speed)
        };
        let dash = if kind.is_empty() { "" } else { "-" };
        let name = format!("fake-{}{dash}{kind}-{generation}x{width}", model.name);
        // Firmware needs the class that a bridge has.
        let class = if function.role == Role::Port {
            String::new()
        } else {
            format!("{:06x}", model.class)
        };
        let identity =
            format!("{name}:{parent}:{vendor:04x}:{device:04x}:{class}:{generation}:{width}");
        self.identities.insert(identity);
        name
    }
}
