//! Linux's memory policies, and its releases as far as these depend on them.

use std::str::FromStr;

use serde::Serialize;

/// A Linux release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// 6 of 6.1.
    pub major: u32,
    /// 1 of 6.1.
    pub minor: u32,
}

impl KernelVersion {
    /// The first with `MPOL_PREFERRED_MANY` (commit b27abaccf8e8, Linux 5.15).
    pub const PREFERRED_MANY: Self = Self {
        major: 5,
        minor: 15,
    };
}

/// A text that is no kernel release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no kernel release; expected MAJOR.MINOR as in 5.15")]
pub struct ParseKernelError(String);

/// Takes `5.15` and anything that starts so, as `uname -r` does.
impl FromStr for KernelVersion {
    type Err = ParseKernelError;

    fn from_str(text: &str) -> Result<Self, ParseKernelError> {
        let number = |part: Option<&str>| {
            let part = part?;
            let digits = part
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(part.len());
            part.get(..digits)?.parse().ok()
        };
        let mut parts = text.split('.');
        match (number(parts.next()), number(parts.next())) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(ParseKernelError(crate::option::printable(text))),
        }
    }
}

/// A memory policy by Linux's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MemoryPolicy {
    /// The default policy; also where it is left as it is.
    Default,
    /// `MPOL_PREFERRED`.
    Preferred,
    /// `MPOL_PREFERRED_MANY`.
    PreferredMany,
    /// `MPOL_BIND`.
    Bind,
    /// `MPOL_INTERLEAVE`.
    Interleave,
}
