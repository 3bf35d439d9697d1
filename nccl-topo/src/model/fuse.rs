//! The tree that the ranks of a host make together.

use crate::element::Element;

/// Each rank's tree joined in the order of ranks (`topo.cc` `ncclTopoGetSystem`).
pub(super) fn joined(system: &Element, ranks: &[String]) -> Element {
    let mut all = bare(system);
    for rank in ranks {
        let own = children_kept(system, rank).1;
        join(&mut all, own);
    }
    all
}

/// The element without its children.
fn bare(element: &Element) -> Element {
    Element {
        name: element.name.clone(),
        attributes: element.attributes.clone(),
        children: Vec::new(),
        line: element.line,
    }
}

/// What a rank keeps of an element, if anything: its own GPU, all networks, and what says `keep`
/// (`xml.cc` `ncclTopoTrimXmlRec`).
fn kept(element: &Element, rank: &str) -> Option<Element> {
    let stays = element.get("keep") == Some("1") || element.name == "net";
    if stays || element.is_gpu() {
        let own = element.is_gpu() && element.get("busid") == Some(rank);
        return (stays || own).then(|| element.clone());
    }
    let (any, children) = children_kept(element, rank);
    any.then(|| Element {
        children,
        ..bare(element)
    })
}

/// The children that a rank keeps, and whether one of them makes the element stay.
fn children_kept(element: &Element, rank: &str) -> (bool, Vec<Element>) {
    let mut any = false;
    let mut children = Vec::new();
    for child in &element.children {
        if child.name == "pcilink" {
            children.push(child.clone());
        } else if let Some(child) = kept(child, rank) {
            any = true;
            children.push(child);
        }
    }
    (any, children)
}

/// Adds children, those that are there already (equal in tag and all attributes) with what they hold
/// (`ncclTopoFuseXml`).
fn join(into: &mut Element, children: Vec<Element>) {
    for child in children {
        let same =
            |other: &&mut Element| other.name == child.name && other.attributes == child.attributes;
        let holder = match into.children.iter_mut().find(same) {
            Some(holder) => holder,
            None => {
                into.children.push(bare(&child));
                let Some(holder) = into.children.last_mut() else {
                    continue;
                };
                holder
            }
        };
        join(holder, child.children);
    }
}
