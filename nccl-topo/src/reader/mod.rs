//! NCCL's own reader, as a checker: its grammar (`graph/xml.cc`), its limits, and what it makes of the
//! values, each finding with its line.
//!
//! NCCL's files look like XML but are not: no header, no tab, no line break inside a tag.

use crate::element::Element;
use crate::rules::Rules;

mod finding;
mod lexer;
mod rules;
#[cfg(test)]
mod tests;
mod tree;

pub use finding::{Effect, Problem, Violation};

/// A topology file as NCCL has it after reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// The `<system>` element; its children are the `<cpu>` elements.
    pub root: Element,
}

impl System {
    /// The `<cpu>` elements in document order.
    pub fn cpus(&self) -> impl Iterator<Item = &Element> {
        self.root.named("cpu")
    }
}

/// What reading a file gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The file; none where NCCL refuses it.
    pub system: Option<System>,
    /// All findings, by line.
    pub violations: Vec<Violation>,
}

/// Reads a file as NCCL does and says all that is wrong with it, where the version is not known ([`Rules::assumed`]).
pub fn read(text: &str) -> Reading {
    read_for(text, Rules::assumed())
}

/// Reads a file as the NCCL of these rules does and says all that is wrong with it.
pub fn read_for(text: &str, nccl: &Rules) -> Reading {
    let (root, mut violations) = tree::read_tree(text);
    if let Some(root) = &root {
        violations.extend(rules::check(root, nccl));
    }
    violations.sort_by_key(|violation| violation.line);
    let refused = violations
        .iter()
        .any(|violation| violation.effect == Effect::Fatal);
    Reading {
        system: root.filter(|_| !refused).map(|root| System { root }),
        violations,
    }
}

/// The elements of any file in NCCL's grammar, in order and without what they hold: a topology file of RCCL's, a graph file.
///
/// # Errors
///
/// The first thing in the text at which NCCL gives up.
pub fn read_elements(text: &str) -> Result<Vec<Element>, Violation> {
    let mut lexer = lexer::Lexer::new(text);
    let mut elements = Vec::new();
    while let Some(tag) = lexer.next_tag() {
        if tag.kind != lexer::TagKind::Close {
            elements.push(tree::element_of(&tag));
        }
    }
    match lexer.errors.into_iter().next() {
        Some((line, problem)) => Err(tree::violation(line, "", Effect::Fatal, problem)),
        None => Ok(elements),
    }
}

/// Reads a file and takes it only if nothing at all is wrong with it.
///
/// # Errors
///
/// All violations, by line.
pub fn parse(text: &str) -> Result<System, Vec<Violation>> {
    let reading = read(text);
    match reading.system {
        Some(system) if reading.violations.is_empty() => Ok(system),
        Some(_) | None => Err(reading.violations),
    }
}
