//! Tags of an NCCL topology file, with their lines.
//!
//! NCCL's own reader (`graph/xml.cc`, 2.30.7) takes a small dialect of XML; this one takes that and what
//! people write by hand: a declaration, tabs, newlines within a tag, single quotes.

use super::NcclXmlError;

/// Attributes of one element at most; NCCL takes 16.
const MAX_ATTRIBUTES: usize = 64;

/// What a tag does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TagKind {
    /// `<a>`
    Open,
    /// `</a>`
    Close,
    /// `<a/>`
    Empty,
}

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag<'a> {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) kind: TagKind,
    pub(super) name: &'a str,
    pub(super) attributes: Vec<(&'a str, &'a str)>,
}

impl<'a> Tag<'a> {
    /// The value of an attribute; absent also when empty.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.attributes.iter().find(|(key, _)| *key == name)?;
        Some(value.trim()).filter(|value| !value.is_empty())
    }
}

/// Reads tags one after the other.
#[derive(Debug)]
pub(super) struct Tags<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Tags<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            rest: text.trim_start_matches('\u{feff}'),
            line: 1,
        }
    }

    /// The line that is being read.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// The next tag; absent at the end of the text.  Text between tags is skipped.
    pub(super) fn next_tag(&mut self) -> Result<Option<Tag<'a>>, NcclXmlError> {
        loop {
            let Some(start) = self.rest.find('<') else {
                return Ok(None);
            };
            self.skip(start);
            let (opening, closing) = if self.rest.starts_with("<!--") {
                ("<!--", "-->")
            } else if self.rest.starts_with("<?") {
                ("<?", "?>")
            } else if self.rest.starts_with("<!") {
                ("<!", ">")
            } else {
                return self.read_tag().map(Some);
            };
            let inner = self.rest.get(opening.len()..).unwrap_or_default();
            let length = inner
                .find(closing)
                .ok_or_else(|| self.fault("a comment has no end"))?;
            self.skip(opening.len() + length + closing.len());
        }
    }

    fn read_tag(&mut self) -> Result<Tag<'a>, NcclXmlError> {
        let line = self.line;
        self.skip(1);
        let is_close = self.take_if("/");
        let name = self.take_while(|c| !c.is_whitespace() && !"<>/=\"'".contains(c));
        if name.is_empty() {
            return Err(self.fault("\"<\" without a name after it"));
        }
        let mut attributes = Vec::new();
        loop {
            self.take_while(char::is_whitespace);
            if self.take_if("/>") {
                return Ok(Tag {
                    line,
                    kind: TagKind::Empty,
                    name,
                    attributes,
                });
            }
            if self.take_if(">") {
                let kind = if is_close {
                    TagKind::Close
                } else {
                    TagKind::Open
                };
                return Ok(Tag {
                    line,
                    kind,
                    name,
                    attributes,
                });
            }
            if attributes.len() >= MAX_ATTRIBUTES {
                return Err(self.fault(&format!(
                    "<{name}> has more than {MAX_ATTRIBUTES} attributes"
                )));
            }
            attributes.push(self.read_attribute(name)?);
        }
    }

    fn read_attribute(&mut self, tag: &str) -> Result<(&'a str, &'a str), NcclXmlError> {
        let key = self.take_while(|c| !c.is_whitespace() && !"<>/=\"'".contains(c));
        if key.is_empty() {
            return Err(self.fault(&format!("<{tag}> has no end, or a stray character in it")));
        }
        self.take_while(char::is_whitespace);
        let quote = match self.take_if("=") {
            true => {
                self.take_while(char::is_whitespace);
                ["\"", "'"].into_iter().find(|quote| self.take_if(quote))
            }
            false => None,
        };
        let quote = quote
            .ok_or_else(|| self.fault(&format!("<{tag}>: attribute {key} has no quoted value")))?;
        let value = self
            .rest
            .find(quote)
            .and_then(|end| self.rest.get(..end))
            .ok_or_else(|| self.fault(&format!("<{tag}>: the value of {key} has no end")))?;
        self.skip(value.len() + 1);
        Ok((key, value))
    }

    fn take_if(&mut self, text: &str) -> bool {
        let is_there = self.rest.starts_with(text);
        if is_there {
            self.skip(text.len());
        }
        is_there
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !keep(c)).unwrap_or(self.rest.len());
        let taken = self.rest.get(..end).unwrap_or_default();
        self.skip(end);
        taken
    }

    fn skip(&mut self, bytes: usize) {
        let skipped = self.rest.get(..bytes).unwrap_or(self.rest);
        self.line += skipped.matches('\n').count();
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn fault(&self, what: &str) -> NcclXmlError {
        NcclXmlError {
            line: self.line,
            what: what.to_owned(),
        }
    }
}
