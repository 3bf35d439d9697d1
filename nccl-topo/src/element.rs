//! An element of a topology file, as read or as to be written.

/// The most elements that NCCL takes in one file: its reader has room for 256 and stops when they are
/// used up, even before the last closing tag (`graph/xml.cc` `xmlLoadSub`, `graph/topo.h`
/// `NCCL_TOPO_XML_MAX_NODES`).
pub const MAX_FILE_ELEMENTS: usize = 255;

/// The most elements of the tree that the ranks of a host make together (same places).
pub const MAX_FUSED_ELEMENTS: usize = 256;

/// The most attributes of an element that NCCL reads (`graph/xml.h` `MAX_ATTR_COUNT`); it passes over those after them.
pub const MAX_ATTRIBUTES: usize = 16;

/// The attributes that an element has room for, those that NCCL adds counted (`graph/xml.h` `ncclXmlNode`): beyond them it
/// writes over other data.
pub const ROOM_FOR_ATTRIBUTES: usize = MAX_ATTRIBUTES + 1;

/// The longest name or value, in bytes (`graph/xml.cc` `xmlGetValue`: 255 with the closing quote is
/// already too long).
pub const MAX_VALUE_BYTES: usize = 253;

/// How the class of a GPU begins (`graph/topo.cc` `kvDictPciClass`).
pub(crate) const GPU_CLASS: &str = "0x03";

/// A value that is a number as a whole, as C writes them: decimal, `0x` hex, leading 0 octal.  NCCL also takes one that other
/// text follows ([`crate::settings::number`]).
pub fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let value = if let Some(hex) = digits.strip_prefix("0x") {
        i64::from_str_radix(hex, 16)
    } else if digits.len() > 1 && digits.starts_with('0') {
        i64::from_str_radix(digits, 8)
    } else {
        digits.parse()
    };
    value.ok().map(|value| sign * value)
}

/// An element: its name, its attributes in order, its children in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// The tag: `system`, `cpu`, `pci`, `gpu`, `nic`, `net`, `nvlink`, `c2c` or `pcilink`.
    pub name: String,
    /// Key and value of each attribute.  NCCL takes the first of a key.
    pub attributes: Vec<(String, String)>,
    /// What it holds.
    pub children: Vec<Element>,
    /// Line of the file, from 1; 0 for one that was not read.
    pub line: usize,
    /// The keys of attributes that are not the file's: NCCL fills them in, in the trees of some ranks or of all.
    pub filled: Vec<String>,
}

impl Element {
    /// An element without attributes and children.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// The same with one more attribute.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.attributes.push((key.to_owned(), value.into()));
        self
    }

    /// The value of an attribute.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// The children with this tag.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first child with this tag, made where there is none.
    pub(crate) fn child(&mut self, name: &str) -> &mut Element {
        let known = self.children.iter().position(|child| child.name == name);
        let place = known.unwrap_or_else(|| {
            self.children.push(Element::new(name));
            self.children.len() - 1
        });
        #[expect(
            clippy::indexing_slicing,
            reason = "the place was found, or made, in the lines above"
        )]
        &mut self.children[place]
    }

    /// How many elements this one and all below it are.
    pub fn count(&self) -> usize {
        1 + self.children.iter().map(Element::count).sum::<usize>()
    }

    /// Calls `visit` for this element and all below it, in document order.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Element)) {
        visit(self);
        for child in &self.children {
            child.walk(visit);
        }
    }

    /// Whether it is a GPU: a PCI device of class 03, with a `<gpu>` or without.
    pub fn is_gpu(&self) -> bool {
        let is_display = |class: &str| class.starts_with(GPU_CLASS);
        self.name == "pci" && self.get("class").is_some_and(is_display)
    }

    /// The opening tag in short, as messages name it: `<pci busid="0000:3b:00.0">`.
    pub fn tag(&self) -> String {
        let key = match self.name.as_str() {
            "cpu" => "numaid",
            "net" => "name",
            "nvlink" | "pcilink" => "target",
            "gpu" => "dev",
            _ => "busid",
        };
        self.get(key).map_or_else(
            || format!("<{}>", self.name),
            |value| format!("<{} {key}=\"{value}\">", self.name),
        )
    }

    /// The element and all below it as text that NCCL's reader takes: two spaces a level, one tag a line.
    ///
    /// Values are written as they are: NCCL knows no entities, so one that holds a double quote cannot be
    /// written.  [`crate::emit`] refuses such values before.
    pub fn to_xml(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, 0);
        text
    }

    fn write(&self, text: &mut String, depth: usize) {
        let indent = "  ".repeat(depth);
        text.push_str(&indent);
        text.push('<');
        text.push_str(&self.name);
        for (key, value) in &self.attributes {
            for part in [" ", key, "=\"", value, "\""] {
                text.push_str(part);
            }
        }
        if self.children.is_empty() {
            text.push_str("/>\n");
            return;
        }
        text.push_str(">\n");
        for child in &self.children {
            child.write(text, depth + 1);
        }
        for part in [&indent, "</", &self.name, ">\n"] {
            text.push_str(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::integer;

    #[test]
    fn numbers_are_whole_values() {
        for (text, value) in [
            ("12", Some(12)),
            ("-1", Some(-1)),
            ("0x1f", Some(31)),
            ("010", Some(8)),
            ("0", Some(0)),
            ("", None),
            ("12x", None),
        ] {
            assert_eq!(integer(text), value, "{text}");
        }
    }
}
