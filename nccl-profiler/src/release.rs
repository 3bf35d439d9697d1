//! Which NCCL this is.

use std::sync::atomic::{AtomicU32, Ordering};

use ffi::nccl::{NcclLog, read_version};
use nccl_topo::rules::{Rules, TABLE, Version};
use once_cell::sync::OnceCell;

/// What NCCL said when it loaded this library as its env plugin, as `ncclGetVersion` counts; 0 for nothing.
static SAID: AtomicU32 = AtomicU32::new(0);

/// What is known of the NCCL in this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Release {
    /// Its version; none where it does not tell.
    pub(crate) version: Option<Version>,
    /// Its rules; none where the version is not known, or newer than any that is.
    pub(crate) rules: Option<&'static Rules>,
}

/// Keeps the version that NCCL tells its env plugin.
pub(crate) fn note(major: u8, minor: u8, patch: u8) {
    let code = u32::from(major) * 10_000 + u32::from(minor) * 100 + u32::from(patch);
    SAID.store(code, Ordering::Relaxed);
}

impl Release {
    /// The release of the NCCL whose logger this is, and which asked for version `interface` of the profiler.
    pub(crate) fn read(log: NcclLog, interface: u8) -> Self {
        static READ: OnceCell<Release> = OnceCell::new();
        *READ.get_or_init(|| {
            let said = || Some(SAID.load(Ordering::Relaxed)).filter(|code| *code > 0);
            let code = read_version(log).or_else(said);
            Self::of(code.and_then(Version::of_code), interface)
        })
    }

    fn of(version: Option<Version>, interface: u8) -> Self {
        let rules = match version {
            Some(version) => version.is_known().then(|| Rules::of(version)),
            None => by_interface(interface),
        };
        Self { version, rules }
    }

    /// Whether it is newer than any whose rules are known.
    pub(crate) fn is_too_new(self) -> bool {
        self.version.is_some_and(|version| !version.is_known())
    }
}

/// The rules of all versions that ask for this interface first, where they are the same in what the plugin needs:
/// those that join the parts of a host over the network, and those that do not.
fn by_interface(interface: u8) -> Option<&'static Rules> {
    let mut all = TABLE.iter().filter(|rules| rules.profiler == interface);
    let first = all.next()?;
    let joins = |rules: &Rules| rules.parts_of_host_join_over_network;
    all.all(|rules| joins(rules) == joins(first))
        .then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_not_told_follows_from_the_interface_where_that_tells() {
        assert!(
            Release::of(None, 5)
                .rules
                .is_some_and(|rules| rules.profiler == 5)
        );
        // Some of its versions join the parts of a host over the network, and some do not.
        assert!(Release::of(None, 6).rules.is_none());
        assert!(Release::of(None, 7).rules.is_some());
    }

    #[test]
    fn a_newer_version_has_unknown_rules() {
        let newer = Release::of("2.33.0".parse().ok(), 7);
        assert!(newer.rules.is_none() && newer.is_too_new());
        let known = Release::of("2.32.3".parse().ok(), 7);
        assert!(known.rules.is_some() && !known.is_too_new());
    }
}
