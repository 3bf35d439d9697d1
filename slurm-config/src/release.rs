//! Slurm's releases.

use std::fmt;

/// A release such as 24.11.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// Year.
    pub major: u32,
    /// Month.
    pub minor: u32,
    /// Patch; absent where only the series is known.
    pub micro: Option<u32>,
}

/// The closed table of releases that the plugin takes: `SLURM_API_CURRENT` (META of each release), which is the
/// number in `libslurm.so.N`, and the series.  A release belongs here once its `spank.h` was compared.
const APIS: &[(u32, u32, u32)] = &[
    (38, 22, 5),
    (39, 23, 2),
    (40, 23, 11),
    (41, 24, 5),
    (42, 24, 11),
    (43, 25, 5),
    (44, 25, 11),
    (45, 26, 5),
];

impl Release {
    /// Finds `22.05.8` in a text such as `slurm-wlm 22.05.8`; absent when there is none.
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

    /// The series whose library is `libslurm.so.API`.
    pub fn of_api(api: u32) -> Option<Self> {
        APIS.iter()
            .find(|(own, ..)| *own == api)
            .map(|(_, major, minor)| Self {
                major: *major,
                minor: *minor,
                micro: None,
            })
    }

    /// Whether the plugin takes this release.
    pub fn is_known(self) -> bool {
        APIS.iter()
            .any(|(_, major, minor)| (self.major, self.minor) == (*major, *minor))
    }

    /// The series as `SLURM_VERSION_NUM` has it, which is what Slurm compares a plugin's with.
    pub fn version_number(self) -> u32 {
        self.major << 16 | self.minor << 8
    }

    /// Whether gres.conf's `Cores=` must name whole sockets: from 24.11.7 (`_check_core_range_matches_sock`,
    /// gres.c; absent in 24.05.8).  Absent where the patch decides and is not known.
    pub fn wants_whole_sockets(self) -> Option<bool> {
        match (self.major, self.minor) {
            (24, 11) => self.micro.map(|micro| micro >= 7),
            series => Some(series > (24, 11)),
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.major, self.minor)?;
        self.micro.map_or(Ok(()), |micro| write!(f, ".{micro}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_ordered_and_printed() {
        let old = Release::find("slurm-wlm 22.05.8").unwrap();
        assert_eq!(old.to_string(), "22.05.8");
        assert_eq!(old.wants_whole_sockets(), Some(false));
        let border = |text| Release::find(text).unwrap().wants_whole_sockets();
        assert_eq!(border("24.11.6"), Some(false));
        assert_eq!(border("24.11.7"), Some(true));
        assert_eq!(border("24.11"), None);
        assert_eq!(border("25.05.0"), Some(true));
        assert_eq!(Release::of_api(45).unwrap().to_string(), "26.05");
        assert!(Release::find("slurm").is_none() && Release::of_api(99).is_none());
    }
}
