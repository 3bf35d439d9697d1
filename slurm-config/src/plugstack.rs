//! `plugstack.conf`, by the rules of `spank.c` (`_plugin_stack_parse`, 22.05 to 26.05).

/// A line that loads a plugin or includes other files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The file, as it is to be named to a person.
    pub file: String,
    /// The line, from 1.
    pub number: usize,
    /// What it asks for.
    pub kind: EntryKind,
}

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// `required` or `optional` PLUGIN ARGUMENT...
    Plugin {
        /// `required`: what goes wrong in it stops Slurm.
        is_required: bool,
        /// The shared object: a path, or a name looked for in `PluginDir`.
        path: String,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// `include GLOB`.
    Include(String),
}

impl Entry {
    /// `plugstack.conf:3`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.number)
    }

    /// Whether one of its words ends in a carriage return, as in a file that was written on Windows.
    pub fn has_carriage_return(&self) -> bool {
        match &self.kind {
            EntryKind::Plugin {
                path, arguments, ..
            } => path.ends_with('\r') || arguments.iter().any(|word| word.ends_with('\r')),
            EntryKind::Include(path) => path.ends_with('\r'),
        }
    }

    /// Whether it loads a plugin whose file name holds `name`.
    pub fn loads(&self, name: &str) -> bool {
        match &self.kind {
            EntryKind::Plugin { path, .. } => path
                .rsplit('/')
                .next()
                .is_some_and(|file| file.contains(name)),
            EntryKind::Include(_) => false,
        }
    }
}

/// The entries of a file, in order; comments and other lines are left out.
///
/// Words end at blanks, tabs and line feeds alone: quotes, and the carriage returns of a file from Windows, are parts of them.
pub fn parse(text: &str, file: &str) -> Vec<Entry> {
    let entry = |(number, line): (usize, &str)| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line
            .split([' ', '\t'])
            .filter(|word| !word.is_empty())
            .map(str::to_owned);
        // `OPTIONAL` is an invalid line, which is passed over (spank.c, `_plugin_stack_line_type`).
        let first = words.next()?;
        let path = words.next()?;
        let kind = match first.as_str() {
            "include" => EntryKind::Include(path),
            "required" | "optional" => EntryKind::Plugin {
                is_required: first == "required",
                path,
                arguments: words.collect(),
            },
            _ => return None,
        };
        Some(Entry {
            file: file.to_owned(),
            number,
            kind,
        })
    };
    (1..).zip(text.split('\n')).filter_map(entry).collect()
}

/// Whether a file's `name` fits `pattern`, one part of a path such as `plugstack.conf.d/[0-9]*.conf`, as `glob(3)` has it: `*`, `?`,
/// sets in brackets, and a backslash before what stands for itself; a wildcard never matches a leading dot.
pub fn fits(pattern: &str, name: &str) -> bool {
    fn walk(pattern: &[u8], name: &[u8]) -> bool {
        let Some((first, rest)) = pattern.split_first() else {
            return name.is_empty();
        };
        let next = name.split_first();
        match first {
            b'*' => walk(rest, name) || next.is_some_and(|(_, tail)| walk(pattern, tail)),
            b'?' => next.is_some_and(|(_, tail)| walk(rest, tail)),
            b'[' => match Set::parse(rest) {
                Some((set, rest)) => {
                    next.is_some_and(|(byte, tail)| set.contains(*byte) && walk(rest, tail))
                }
                // Without an end it stands for itself.
                None => next.is_some_and(|(byte, tail)| *byte == b'[' && walk(rest, tail)),
            },
            b'\\' if !rest.is_empty() => match (rest.split_first(), next) {
                (Some((own, rest)), Some((byte, tail))) => own == byte && walk(rest, tail),
                (Some(_) | None, Some(_) | None) => false,
            },
            own => next.is_some_and(|(byte, tail)| own == byte && walk(rest, tail)),
        }
    }
    let hidden = name.starts_with('.') && !pattern.starts_with('.');
    // Longer patterns with many stars take too long and name no file.
    pattern.len() <= 255
        && pattern.matches('*').count() <= 4
        && !hidden
        && walk(pattern.as_bytes(), name.as_bytes())
}

/// Whether a part of a path is a pattern.
pub fn has_wildcard(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

/// What stands between brackets.
struct Set<'p> {
    is_negated: bool,
    members: &'p [u8],
}

impl<'p> Set<'p> {
    /// The set whose text begins after its bracket, and what follows it; none where nothing ends it.
    fn parse(text: &'p [u8]) -> Option<(Self, &'p [u8])> {
        let is_negated = matches!(text.first(), Some(b'!' | b'^'));
        let text = text.get(usize::from(is_negated)..)?;
        // A bracket in the first place is a member.
        let end = 1 + text.get(1..)?.iter().position(|byte| *byte == b']')?;
        let (members, rest) = (text.get(..end)?, text.get(end + 1..)?);
        Some((
            Self {
                is_negated,
                members,
            },
            rest,
        ))
    }

    fn contains(&self, byte: u8) -> bool {
        let mut left = self.members;
        let mut is_member = false;
        while let Some((first, rest)) = left.split_first() {
            left = match rest {
                [b'-', last, tail @ ..] => {
                    is_member |= (*first..=*last).contains(&byte);
                    tail
                }
                _ => {
                    is_member |= *first == byte;
                    rest
                }
            };
        }
        is_member != self.is_negated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_and_includes_are_told_apart_from_comments() {
        let text = "# optional a.so\ninclude /etc/slurm/plugstack.conf.d/*.conf\n\
                    required  /usr/lib/spank_pyxis.so a=1 # b\nwhat x\n";
        let entries = parse(text, "plugstack.conf");
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[1].place(), "plugstack.conf:3");
        assert!(entries[1].loads("pyxis") && !entries[1].loads("lib"));
        assert!(!entries[0].loads("conf"));
        assert_eq!(
            entries[1].kind,
            EntryKind::Plugin {
                is_required: true,
                path: "/usr/lib/spank_pyxis.so".to_owned(),
                arguments: vec!["a=1".to_owned()],
            }
        );
    }

    #[test]
    fn quotes_and_carriage_returns_are_parts_of_words() {
        let entries = parse("optional \"a.so\" x=1#2\r\ninclude d/*.conf\r\n", "f");
        assert_eq!(
            entries[0].kind,
            EntryKind::Plugin {
                is_required: false,
                path: "\"a.so\"".to_owned(),
                arguments: vec!["x=1".to_owned()],
            }
        );
        assert_eq!(entries[1].kind, EntryKind::Include("d/*.conf\r".to_owned()));
        assert!(entries[1].has_carriage_return() && !entries[0].has_carriage_return());
    }

    #[test]
    fn patterns_fit_as_in_a_shell() {
        assert!(fits("*.conf", "pyxis.conf") && fits("a?.conf", "a1.conf"));
        assert!(fits("[0-9]*.conf", "20-x.conf") && !fits("[0-9]*.conf", "x.conf"));
        assert!(fits("[!a]?.conf", "b1.conf") && !fits("[!a]?.conf", "a1.conf"));
        assert!(fits("[]a-]*", "]x") && fits("[]a-]*", "-x") && !fits("[]a-]*", "b"));
        assert!(fits("a\\*.conf", "a*.conf") && !fits("a\\*.conf", "ab.conf"));
        assert!(fits("[a.conf", "[a.conf") && !fits("[a.conf", "a.conf"));
        assert!(!fits("*.conf", ".hidden.conf") && !fits("*.conf", "x.conf.rpmnew"));
    }
}
