//! Lines of the site's own files, and what may be wrong with one.

use crate::option::printable;
use crate::pci::{ParsePciError, PciAddress};
use crate::set::ParseSetError;

/// A line of a site's file that does not count, or not as it was meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {fault}")]
pub struct SiteLineError {
    /// The file, for a person.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it, and what happens now.
    pub fault: SiteLineFault,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SiteLineFault {
    /// A word that is no PCI address.
    #[error("{0}; line ignored")]
    Address(#[from] ParsePciError),
    /// The second word of a locality is no list of nodes.
    #[error("{0}; line ignored")]
    Nodes(#[from] ParseSetError),
    /// A locality without nodes.
    #[error("\"{0}\" names no node; {LOCALITY}; line ignored")]
    NoNode(String),
    /// A third word other than `measured`, or a fourth.
    #[error("\"{0}\" after the nodes; {LOCALITY}; line ignored")]
    Extra(String),
    /// A device that has a locality already.
    #[error("{0} is named twice; this line counts")]
    LocalityTwice(PciAddress),
    /// A device that is below a switch already.
    #[error("{0} is named twice; line ignored")]
    SwitchTwice(PciAddress),
    /// A switch with one device.
    #[error(
        "\"{0}\" names one device; expected those that share a switch, as in \"0000:03:00.0 0000:04:00.0\"; line ignored"
    )]
    OneDevice(String),
}

/// What a line of localities looks like.
const LOCALITY: &str = "expected a PCI address and NUMA nodes, as in \"0000:3b:00.0 1\", and \"measured\" \
                        where that is how you know";

/// The lines that say something, without comments, numbered from 1.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter_map(|(number, line)| {
        let line = line.split('#').next().unwrap_or_default().trim();
        (!line.is_empty()).then_some((number, line))
    })
}

/// The PCI address that a word is.
pub(super) fn parse_address(word: &str) -> Result<PciAddress, ParsePciError> {
    printable(word).parse()
}
