//! The network devices of a job, put into the file as NCCL puts them (`topo.cc` `ncclTopoPopulateNics`).

use topology::machine::Machine;
use topology::pci::PciAddress;

use crate::element::Element;
use crate::reader::System;

/// The speed taken for a port whose own is not recorded, in Mbit/s: that of NDR and of 400G Ethernet.
pub const SPEED_NOT_RECORDED_MBIT_S: u32 = 400_000;

/// The speed of the network device that stands for a host's Ethernet, in Mbit/s; NCCL assumes it where the kernel names
/// none (`transport/net_socket.cc` `ncclNetSocketGetSpeed`).
const SOCKET_SPEED_MBIT_S: u32 = 10_000;

/// A network device as a network plugin reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name.
    pub name: String,
    /// The adapter that it is of; none for one without a PCI device, which NCCL hangs below the file's first `<cpu>`.
    pub pci: Option<PciAddress>,
    /// In Mbit/s.
    pub speed_mbit_s: u32,
    /// The port of the adapter.
    pub port: u32,
    /// Whether it reads and writes GPU memory.
    pub gdr: bool,
}

impl NetDevice {
    /// The interface of a host without RDMA: NCCL's sockets, on no PCI device.
    pub fn socket() -> Self {
        Self {
            name: "eth0".to_owned(),
            pci: None,
            speed_mbit_s: SOCKET_SPEED_MBIT_S,
            port: 1,
            gdr: false,
        }
    }

    /// NCCL's sockets on the interface of an adapter.
    pub fn socket_at(pci: PciAddress) -> Self {
        Self {
            pci: Some(pci),
            ..Self::socket()
        }
    }
}

/// The ports of the machine's RDMA devices, in NCCL's order.
pub fn rdma_ports(machine: &Machine) -> Vec<NetDevice> {
    let mut devices: Vec<NetDevice> = machine
        .nics
        .iter()
        .flat_map(|nic| nic.ports.iter().map(|port| (nic.pci, port)))
        .map(|(pci, port)| NetDevice {
            name: port.device.clone(),
            pci: Some(pci),
            speed_mbit_s: port.speed_mbit_s.unwrap_or(SPEED_NOT_RECORDED_MBIT_S),
            port: port.port,
            gdr: true,
        })
        .collect();
    devices.sort_by_key(|device| (digits_apart(&device.name), device.port));
    devices
}

/// The `<net>`s that a file names, as their plugin would report them.
pub fn named_in(system: &System) -> Vec<NetDevice> {
    let mut devices: Vec<NetDevice> = Vec::new();
    system.root.walk(&mut |element| {
        let name = element.get("name").filter(|_| element.name == "net");
        if let Some(name) = name
            && devices.iter().all(|device| device.name != name)
        {
            devices.push(NetDevice {
                name: name.to_owned(),
                pci: None,
                speed_mbit_s: SPEED_NOT_RECORDED_MBIT_S,
                port: 1,
                gdr: true,
            });
        }
    });
    devices
}

/// A name so that `mlx5_10` comes after `mlx5_9`.
fn digits_apart(name: &str) -> (String, u64) {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = name
        .get(stem.len()..)
        .and_then(|digits| digits.parse().ok());
    (stem.to_owned(), number.unwrap_or_default())
}

/// The file with these network devices in it, and no others: each at its name, else at its adapter, else below the
/// first `<cpu>`.
///
/// One whose adapter the file does not name is left out: NCCL would look it up in `/sys`, as [`super::completed`] does.
#[must_use]
pub fn with_nets(system: &System, devices: &[NetDevice]) -> System {
    let mut system = system.clone();
    forget(&mut system.root);
    for (dev, device) in devices.iter().enumerate() {
        if number_named(&mut system.root, dev, device) {
            continue;
        }
        let place = match device.pci {
            Some(pci) => pci_element(&mut system.root, &pci.to_string()),
            None => system
                .root
                .children
                .iter_mut()
                .find(|child| child.name == "cpu"),
        };
        if let Some(place) = place {
            let mut net = Element::new("net").with("name", device.name.as_str());
            fill(&mut net, dev, device);
            place.child("nic").children.push(net);
        }
    }
    drop_unnumbered(&mut system.root);
    system
}

/// Takes the numbers away that the file gives its network devices: NCCL sets them anew.
fn forget(element: &mut Element) {
    if element.name == "net" {
        element.attributes.retain(|(key, _)| key != "dev");
    }
    element.children.iter_mut().for_each(forget);
}

/// Removes network devices that nobody reports, unless the file keeps them.
fn drop_unnumbered(element: &mut Element) {
    element.children.retain(|child| {
        child.name != "net" || child.get("dev").is_some() || child.get("keep") == Some("1")
    });
    element.children.iter_mut().for_each(drop_unnumbered);
}

/// Numbers the network device that the file names, if it does.
fn number_named(element: &mut Element, dev: usize, device: &NetDevice) -> bool {
    if element.name == "net"
        && element.get("name") == Some(&device.name)
        && element.get("dev").is_none()
    {
        fill(element, dev, device);
        return true;
    }
    element
        .children
        .iter_mut()
        .any(|child| number_named(child, dev, device))
}

/// Fills in what a plugin says and the file does not.
fn fill(net: &mut Element, dev: usize, device: &NetDevice) {
    net.attributes.push(("dev".to_owned(), dev.to_string()));
    let guid = device.pci.map_or_else(
        || format!("{:x}", dev + 1),
        // Functions of one adapter count as ports of their own.
        |pci| {
            format!(
                "{:x}{:02x}{:02x}{:x}",
                pci.domain, pci.bus, pci.device, pci.function
            )
        },
    );
    let values = [
        ("speed", device.speed_mbit_s.to_string()),
        ("port", device.port.to_string()),
        ("guid", guid),
        ("gdr", u8::from(device.gdr).to_string()),
    ];
    for (key, value) in values {
        if net.get(key).is_none() {
            net.attributes.push((key.to_owned(), value));
        }
    }
}

/// The `<pci>` of an address.
pub(super) fn pci_element<'e>(element: &'e mut Element, busid: &str) -> Option<&'e mut Element> {
    if element.name == "pci" && element.get("busid") == Some(busid) {
        return Some(element);
    }
    element
        .children
        .iter_mut()
        .find_map(|child| pci_element(child, busid))
}
