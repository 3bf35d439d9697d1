//! Release numbers of Slurm, as programs, headers and libraries give them.

use std::fmt;

/// A release such as 24.11.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// Year.
    pub major: u32,
    /// Month.
    pub minor: u32,
    /// Patch; None where only the series is known.
    pub micro: Option<u32>,
}

impl Release {
    /// Finds `22.05.8` in a text such as `slurm-wlm 22.05.8`; None when there is none.
    pub fn find(text: &str) -> Option<Self> {
        text.split(|c: char| !c.is_ascii_digit() && c != '.')
            .find_map(|word| {
                let mut parts = word.split('.').map(str::parse::<u32>);
                let (major, minor) = (parts.next()?.ok()?, parts.next()?.ok()?);
                let micro = parts.next().and_then(Result::ok);
                (major >= 14 && (1..=12).contains(&minor)).then_some(Self {
                    major,
                    minor,
                    micro,
                })
            })
    }

    /// The release of a `slurm_version.h`, by its `#define SLURM_VERSION_NUMBER 0x160508`.
    pub fn of_header(text: &str) -> Option<Self> {
        let line = text
            .lines()
            .find(|line| line.contains("SLURM_VERSION_NUMBER"))?;
        let digits = line.split_whitespace().last()?.strip_prefix("0x")?;
        let number = u32::from_str_radix(digits, 16).ok()?;
        Some(Self {
            major: number >> 16,
            minor: number >> 8 & 0xff,
            micro: Some(number & 0xff),
        })
    }

    /// A series, by year and month.
    pub const fn of_series((major, minor): (u32, u32)) -> Self {
        Self {
            major,
            minor,
            micro: None,
        }
    }

    /// Year and month, without the patch.
    pub fn series(self) -> (u32, u32) {
        (self.major, self.minor)
    }

    /// The series as `SLURM_VERSION_NUM` has it, which is what Slurm compares a plugin's with.
    pub const fn version_number(self) -> u32 {
        self.major << 16 | self.minor << 8
    }
}

impl From<(u32, u32)> for Release {
    /// A series: year and month.
    fn from(series: (u32, u32)) -> Self {
        Self::of_series(series)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.major, self.minor)?;
        self.micro.map_or(Ok(()), |micro| write!(f, ".{micro}"))
    }
}

/// The releases that have something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Year and month of the first.
    pub(crate) since: (u32, u32),
    /// Year and month of the first that has it no more; none where the newest has it.
    pub(crate) before: Option<(u32, u32)>,
}

impl Span {
    /// Every release.
    pub(crate) const ALL: Self = Self {
        since: (0, 0),
        before: None,
    };

    /// Those of them from one on.
    pub(crate) const fn since(self, year: u32, month: u32) -> Self {
        Self {
            since: (year, month),
            ..self
        }
    }

    /// Those of them before one.
    pub(crate) const fn before(self, year: u32, month: u32) -> Self {
        Self {
            before: Some((year, month)),
            ..self
        }
    }

    /// Whether the releases of a year and month are among them.
    pub(crate) fn has(self, series: (u32, u32)) -> bool {
        self.since <= series && self.before.is_none_or(|before| series < before)
    }
}

/// N of a file called `libslurm.so.N` or `libslurm.so.N.0.0`; None for any other file.
pub fn api_of_library(file_name: &str) -> Option<u32> {
    let version = file_name.strip_prefix("libslurm.so.")?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_and_printed() {
        let old = Release::find("slurm-wlm 22.05.8").unwrap();
        assert_eq!(old.to_string(), "22.05.8");
        assert_eq!(old.version_number(), 0x16_0500);
        assert_eq!(Release::from((23, 2)).to_string(), "23.02");
        assert_eq!(Release::find("slurm"), None);
        assert_eq!(Release::find("13.12 and 22.13"), None);
    }

    #[test]
    fn headers_and_libraries_name_the_release() {
        let header = "/* x */\n#define SLURM_VERSION_NUMBER 0x180b07\n";
        assert_eq!(Release::of_header(header).unwrap().to_string(), "24.11.7");
        assert_eq!(Release::of_header("#define X 0x180b07\n"), None);
        assert_eq!(api_of_library("libslurm.so.42.0.0"), Some(42));
        assert_eq!(api_of_library("libslurm.so.42"), Some(42));
        for other in ["libslurm.so", "libslurmfull.so.42", "libslurm.a"] {
            assert_eq!(api_of_library(other), None);
        }
    }
}
