//! A network adapter and its ports.

use serde::{Deserialize, Serialize};

use super::{Locality, hex4};
use crate::pci::PciAddress;
use crate::text;

/// A network adapter.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Nic {
    /// PCI address.
    pub pci: PciAddress,
    /// PCI vendor id, four hex digits.
    #[serde(with = "hex4")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub vendor: u16,
    /// PCI device id, four hex digits.
    #[serde(with = "hex4")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub device: u16,
    /// Interface names (`mlx5_0`, `ib0`); empty where not recorded.
    #[serde(default)]
    pub names: Vec<String>,
    /// The ports of its RDMA devices that are up; empty where it has none, and where they are not recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<RdmaPort>,
    /// Why jobs send no data by it; absent where nothing is known against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aside: Option<NicAside>,
    /// Where it is.
    #[serde(flatten)]
    pub locality: Locality,
}

/// Why jobs send no data by a NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum NicAside {
    /// No port of its RDMA devices and no interface was up when the machine was read.
    Down,
    /// It is a virtual function of a NIC that is there and up: both have one port.
    VirtualFunction,
}

/// A port of an RDMA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RdmaPort {
    /// The device (`mlx5_0`).
    #[serde(deserialize_with = "text::read_plain")]
    pub device: String,
    /// The port's number, from 1.
    pub port: u32,
    /// Its rate in Mbit/s (`ports/N/rate`); none where not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_mbit_s: Option<u32>,
}
