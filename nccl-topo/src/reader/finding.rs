//! What a file can do wrong by the rules of NCCL's reader.

use std::fmt;

/// What a violation does to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// NCCL refuses the file and the communicator fails, or NCCL crashes.
    Fatal,
    /// NCCL reads it as something other than what was intended.
    Misread,
    /// NCCL skips it.
    Ignored,
    /// NCCL reads it as intended and then does not ask the machine: right as long as the value is right.
    Note,
}

/// A rule that a file breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Line, from 1.
    pub line: usize,
    /// The element, as `<pci busid="3b:00.0">`; empty where the text is no element.
    pub at: String,
    /// What it does.
    pub effect: Effect,
    /// The rule.
    pub problem: Problem,
}

/// `14: <pci busid="3b:00.0">: ...`, without the file's name.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if !self.at.is_empty() {
            write!(f, "{}: ", self.at)?;
        }
        write!(f, "{}", self.problem)
    }
}

/// The rules, each with the value that breaks it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// An XML header.
    #[error("an XML header, which neither NCCL nor RCCL accepts")]
    Header,
    /// A document type or another declaration.
    #[error("a declaration, which neither NCCL nor RCCL accepts")]
    Declaration,
    /// Something else than space or line break between tags.
    #[error(
        "{found:?} where a tag should begin; only spaces and line breaks are allowed between tags"
    )]
    BetweenTags {
        /// The character.
        found: char,
    },
    /// A tag that does not end where it should.
    #[error("{found:?} inside a tag; only single spaces are allowed between attributes")]
    InsideTag {
        /// The character.
        found: char,
    },
    /// A name with a value where there can be none.
    #[error("\"=\" in the first word of {place}, which NCCL's reader treats as an attribute")]
    ValueInName {
        /// A tag's name, a closing tag, or a comment.
        place: &'static str,
    },
    /// A value without quotes.
    #[error("the value of \"{key}\" begins with {found:?}; expected a quote")]
    NoQuote {
        /// The attribute.
        key: String,
        /// What stands there.
        found: char,
    },
    /// A name or value that is too long.
    #[error("\"{start}...\" is too long; NCCL accepts at most 253 bytes")]
    TooLong {
        /// How it begins.
        start: String,
    },
    /// The text ends too early.
    #[error("the file ends inside {inside}")]
    Unterminated {
        /// In what.
        inside: String,
    },
    /// A closing tag that closes nothing, or something else.
    #[error("found </{found}>; expected </{expected}>")]
    Mismatch {
        /// The closing tag.
        found: String,
        /// The open element.
        expected: String,
    },
    /// A closing tag outside everything.
    #[error("</{found}> closes no open element")]
    ClosesNothing {
        /// The closing tag.
        found: String,
    },
    /// More elements than NCCL has room for.
    #[error("this is element {count}; NCCL accepts at most 255 per file")]
    TooManyElements {
        /// Its number.
        count: usize,
    },
    /// More attributes than NCCL reads.
    #[error("{count} attributes, counting an empty one per extra space; NCCL reads the first 16")]
    TooManyAttributes {
        /// How many.
        count: usize,
    },
    /// More attributes than NCCL has room for, those that it adds counted.
    #[error(
        "{count} attributes, counting those that NCCL adds and an empty one per extra space; NCCL has room for 17, \
         and writes over other data"
    )]
    NoRoomForAttributes {
        /// How many.
        count: usize,
    },
    /// More elements inside one than NCCL has room for.
    #[error("{count} elements inside it; NCCL accepts {most}")]
    TooManyChildren {
        /// How many.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// No `<system>`.
    #[error("no <system>, so NCCL detects the machine by itself")]
    NoSystem,
    /// A second `<system>`.
    #[error("a second <system>; NCCL reads only the first")]
    SecondSystem,
    /// An element that has no place there.
    #[error("an element that NCCL does not know {parent}; NCCL skips it and everything inside it")]
    UnknownElement {
        /// Where it is.
        parent: String,
    },
    /// An attribute that must be there.
    #[error("no {key}; {because}")]
    Missing {
        /// The attribute.
        key: &'static str,
        /// What happens without it.
        because: &'static str,
    },
    /// A value that NCCL does not understand as meant.
    #[error("{key} is \"{value}\"; {expected}")]
    BadValue {
        /// The attribute.
        key: String,
        /// Its value.
        value: String,
        /// What is accepted, and what happens now.
        expected: &'static str,
    },
    /// Two elements with the same key.
    #[error("{key} \"{value}\" is also on line {first}; {because}")]
    Duplicate {
        /// The attribute.
        key: &'static str,
        /// Its value.
        value: String,
        /// Where it stood first.
        first: usize,
        /// What happens.
        because: &'static str,
    },
    /// An attribute that should not be there.
    #[error("{key}=\"{value}\" should be left out; {because}")]
    Unwanted {
        /// The attribute.
        key: &'static str,
        /// Its value.
        value: String,
        /// What happens.
        because: &'static str,
    },
    /// An element that should not be there.
    #[error("should be left out; {because}")]
    UnwantedElement {
        /// What happens.
        because: &'static str,
    },
}
