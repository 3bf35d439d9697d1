//! The options of slurmd, by release.

/// Letters of slurmd's options that take a value, attached or as the next word (`_process_cmdline`, slurmd/slurmd.c).
pub(crate) const LETTERS_WITH_VALUE: [char; 5] = ['d', 'f', 'L', 'n', 'N'];

/// The letter whose value is attached or none.
pub(crate) const LETTER_THAT_MAY_HAVE: char = 'F';

/// A long option of slurmd.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LongOption {
    /// Its name, as a whole.
    pub(crate) name: &'static str,
    /// Whether the next word is its value where none is attached.
    pub(crate) takes_value: bool,
    /// The first series that has it; an earlier one prints how slurmd is called, and does not start.
    pub(crate) since: (u32, u32),
}

/// Long options of slurmd, 22.05 to 26.05 (`_process_cmdline`, slurmd/slurmd.c).
pub(crate) const LONG: [LongOption; 10] = [
    LongOption::of("authinfo", true, (23, 2)),
    LongOption::of("ca-cert-file", true, (25, 5)),
    LongOption::of("conf", true, (22, 5)),
    LongOption::of("conf-server", true, (22, 5)),
    LongOption::of("extra", true, (23, 11)),
    LongOption::of("instance-id", true, (23, 11)),
    LongOption::of("instance-type", true, (23, 11)),
    LongOption::of("parameters", true, (25, 11)),
    LongOption::of("systemd", false, (23, 11)),
    LongOption::of("version", false, (22, 5)),
];

impl LongOption {
    const fn of(name: &'static str, takes_value: bool, since: (u32, u32)) -> Self {
        Self {
            name,
            takes_value,
            since,
        }
    }

    /// The one of a name or of the beginning of one, as `getopt_long(3)` finds it.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let exact = LONG.into_iter().find(|own| own.name == name);
        let mut begin = LONG.into_iter().filter(|own| own.name.starts_with(name));
        let first = begin.next().filter(|_| begin.next().is_none());
        exact.or(first)
    }
}
