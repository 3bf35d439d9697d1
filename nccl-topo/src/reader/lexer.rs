//! Tags, as NCCL's reader splits the text into them (`graph/xml.cc` `xmlGetNode`, `xmlGetToken`).
//!
//! Where NCCL gives up, this one notes why and goes on where a person would, to find what else is wrong.

use super::finding::Problem;
use crate::element::{MAX_ATTRIBUTES, MAX_VALUE_BYTES};

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) line: usize,
    pub(super) kind: TagKind,
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
    /// Attributes as NCCL counts them: extra spaces make empty ones.
    pub(super) counted: usize,
}

/// What a tag does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TagKind {
    Open,
    Close,
    Single,
}

impl Tag {
    /// Keeps an attribute, unless it is after those that NCCL reads.
    fn keep(&mut self, key: String, value: String) {
        if self.counted <= MAX_ATTRIBUTES {
            self.attributes.push((key, value));
        }
    }
}

/// Walks over the text.
#[derive(Debug)]
pub(super) struct Lexer<'t> {
    rest: &'t [u8],
    line: usize,
    /// What made NCCL give up, by line.
    pub(super) errors: Vec<(usize, Problem)>,
    /// Whether the text ended inside a tag or comment.
    pub(super) ended: bool,
}

/// The end of the text inside a tag.
struct Ended;

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            rest: text.as_bytes(),
            line: 1,
            errors: Vec::new(),
            ended: false,
        }
    }

    /// The line that is being read.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// The next tag; nothing at the end of the text.
    pub(super) fn next_tag(&mut self) -> Option<Tag> {
        loop {
            self.skip_between();
            self.peek()?;
            let line = self.line;
            match self.tag(line) {
                Ok(Some(tag)) => return Some(tag),
                Ok(None) => {}
                Err(Ended) => {
                    self.end_inside(line, "a tag");
                    return None;
                }
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn take(&mut self) -> Result<u8, Ended> {
        let (first, rest) = self.rest.split_first().ok_or(Ended)?;
        self.rest = rest;
        if *first == b'\n' {
            self.line += 1;
        }
        Ok(*first)
    }

    fn error(&mut self, problem: Problem) {
        self.errors.push((self.line, problem));
    }

    fn end_inside(&mut self, line: usize, inside: &str) {
        self.ended = true;
        let inside = inside.to_owned();
        self.errors.push((line, Problem::Unterminated { inside }));
    }

    /// Passes over what may stand between tags, and over what may not after one word about it.
    fn skip_between(&mut self) {
        let mut told = false;
        while let Some(byte) = self.peek().filter(|byte| *byte != b'<') {
            if !matches!(byte, b' ' | b'\n' | b'\r') && !told {
                told = true;
                let found = self.char_here();
                self.error(Problem::BetweenTags { found });
            }
            if self.take().is_err() {
                return;
            }
        }
    }

    /// One tag from its `<`; nothing for a comment or declaration.
    fn tag(&mut self, line: usize) -> Result<Option<Tag>, Ended> {
        self.take()?;
        if self.rest.starts_with(b"!--") {
            return self.comment().map(|()| None);
        }
        if matches!(self.peek(), Some(b'?' | b'!')) {
            let header = self.peek() == Some(b'?');
            self.error(if header {
                Problem::Header
            } else {
                Problem::Declaration
            });
            while self.take()? != b'>' {}
            return Ok(None);
        }
        let mut tag = Tag {
            line,
            kind: TagKind::Open,
            name: String::new(),
            attributes: Vec::new(),
            counted: 0,
        };
        if self.peek() == Some(b'/') {
            self.take()?;
            tag.kind = TagKind::Close;
        }
        let place = if tag.kind == TagKind::Close {
            "a closing tag"
        } else {
            "a tag"
        };
        tag.name = self.name(place)?;
        self.attributes(&mut tag)?;
        Ok(Some(tag))
    }

    /// The first word of a tag, up to what ends it.
    fn name(&mut self, place: &'static str) -> Result<String, Ended> {
        let mut name = Vec::new();
        while !matches!(
            self.peek().ok_or(Ended)?,
            b' ' | b'>' | b'/' | b'\n' | b'\r'
        ) {
            let byte = self.take()?;
            if byte == b'=' {
                self.error(Problem::ValueInName { place });
            }
            name.push(byte);
        }
        self.bounded(&name)
    }

    /// What follows the first word, to the `>`.
    fn attributes(&mut self, tag: &mut Tag) -> Result<(), Ended> {
        loop {
            match self.peek().ok_or(Ended)? {
                b'>' => {
                    self.take()?;
                    return Ok(());
                }
                b' ' if tag.kind != TagKind::Close => {
                    self.take()?;
                    tag.counted += 1;
                    self.attribute(tag)?;
                }
                b'/' if tag.kind == TagKind::Open => {
                    self.take()?;
                    tag.kind = TagKind::Single;
                    if self.peek().ok_or(Ended)? != b'>' {
                        self.inside_tag()?;
                    }
                }
                _ => self.inside_tag()?,
            }
        }
    }

    /// One attribute after its space; nothing where the space was an extra one.
    fn attribute(&mut self, tag: &mut Tag) -> Result<(), Ended> {
        let mut key = Vec::new();
        loop {
            match self.peek().ok_or(Ended)? {
                b' ' | b'>' | b'/' | b'\n' | b'\r' => break,
                b'\t' => {
                    self.inside_tag()?;
                    if key.is_empty() {
                        continue;
                    }
                    break;
                }
                b'=' => {
                    self.take()?;
                    let key = self.bounded(&key)?;
                    let value = self.value(&key)?;
                    tag.keep(key, value);
                    return Ok(());
                }
                _ => key.push(self.take()?),
            }
        }
        if !key.is_empty() {
            let key = self.bounded(&key)?;
            tag.keep(key, String::new());
        }
        Ok(())
    }

    fn value(&mut self, key: &str) -> Result<String, Ended> {
        let quote = self.peek().ok_or(Ended)?;
        if !matches!(quote, b'"' | b'\'') {
            let found = self.char_here();
            self.error(Problem::NoQuote {
                key: key.to_owned(),
                found,
            });
            let mut bare = Vec::new();
            while !matches!(
                self.peek().ok_or(Ended)?,
                b' ' | b'>' | b'/' | b'\n' | b'\r'
            ) {
                bare.push(self.take()?);
            }
            return self.bounded(&bare);
        }
        self.take()?;
        let mut value = Vec::new();
        loop {
            let byte = self.take()?;
            if byte == quote {
                return self.bounded(&value);
            }
            value.push(byte);
        }
    }

    /// Passes over one wrong character inside a tag.
    fn inside_tag(&mut self) -> Result<(), Ended> {
        let found = self.char_here();
        self.error(Problem::InsideTag { found });
        self.take().map(|_| ())
    }

    /// A comment from its `!--`.  NCCL reads its first word as a tag's name.
    fn comment(&mut self) -> Result<(), Ended> {
        let line = self.line;
        let first: Vec<_> = self
            .rest
            .iter()
            .take_while(|byte| !matches!(byte, b' ' | b'>' | b'/' | b'\n' | b'\r'))
            .copied()
            .collect();
        if first.contains(&b'=') {
            self.error(Problem::ValueInName { place: "a comment" });
        }
        self.bounded(&first)?;
        for _ in 0..b"!--".len() {
            self.take()?;
        }
        while !self.rest.starts_with(b"-->") {
            if self.take().is_err() {
                self.end_inside(line, "a comment");
                return Ok(());
            }
        }
        for _ in 0..b"-->".len() {
            self.take()?;
        }
        Ok(())
    }

    fn bounded(&mut self, bytes: &[u8]) -> Result<String, Ended> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if bytes.len() > MAX_VALUE_BYTES {
            let start = text.chars().take(20).collect();
            self.error(Problem::TooLong { start });
        }
        Ok(text)
    }

    /// The character that begins here.
    fn char_here(&self) -> char {
        let head: Vec<_> = self.rest.iter().take(4).copied().collect();
        String::from_utf8_lossy(&head)
            .chars()
            .next()
            .unwrap_or(char::REPLACEMENT_CHARACTER)
    }
}
