//! Slurm's `Key=Value` files (slurm.conf, gres.conf, cgroup.conf).
//!
//! The rules are those of `parse_config.c` (22.05 to 26.05): keys in any case, several pairs on a line,
//! values in double quotes or without blanks, `#` starts a comment unless a backslash stands before it,
//! a backslash at the end joins the next line, `Include FILE` at the beginning of a line of its own, the name up to the
//! first blank.

/// One logical line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The file, as it is to be named to a person.
    pub file: String,
    /// The number of its first physical line, from 1.
    pub number: usize,
    /// Keys in lower case and their values, in order.
    pub pairs: Vec<(String, String)>,
    /// The keys of `pairs` as the file spells them.
    pub spelled: Vec<String>,
    /// The first words that are no pair, at which Slurm stops reading the file.
    pub stray: Option<String>,
}

impl Line {
    /// The value of `key` (in lower case); the last where it is given twice.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.pairs.iter().rev().find(|(own, _)| own == key);
        found.map(|(_, value)| value.as_str())
    }

    /// The key of a pair as the file spells it.
    pub fn spelling(&self, at: usize) -> &str {
        let pair = self.pairs.get(at).map(|(key, _)| key.as_str());
        let own = self.spelled.get(at).map(String::as_str);
        own.or(pair).unwrap_or_default()
    }

    /// A pair as the file spells it: `CPUs=4`.
    pub fn shown(&self, at: usize) -> String {
        let value = self.pairs.get(at).map(|(_, value)| value.as_str());
        format!("{}={}", self.spelling(at), value.unwrap_or_default())
    }

    /// `slurm.conf:12`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.number)
    }

    /// `slurm.conf:12: TaskPlugin=task/none` with the key as `shown`.
    pub fn quote(&self, shown: &str) -> String {
        let value = self.get(&shown.to_ascii_lowercase()).unwrap_or_default();
        format!("{}: {shown}={value}", self.place())
    }
}

/// A line, or another file in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Keys and values.
    Line(Line),
    /// `Include FILE`.
    Include {
        /// The file, as written.
        path: String,
        /// Where it is asked for.
        place: String,
    },
}

/// The statements of a file, in order.
pub fn parse(text: &str, file: &str) -> Vec<Statement> {
    let mut statements = Vec::new();
    for (number, line) in logical_lines(text) {
        let trimmed = line.trim();
        if let Some(path) = included(&line) {
            statements.push(Statement::Include {
                path: path.to_owned(),
                place: format!("{file}:{number}"),
            });
            continue;
        }
        let (pairs, stray) = parse_pairs(trimmed);
        let spelled = pairs.iter().map(|(key, _)| key.clone()).collect();
        let in_lower_case = |(key, value): (String, String)| (key.to_ascii_lowercase(), value);
        let pairs: Vec<_> = pairs.into_iter().map(in_lower_case).collect();
        if !pairs.is_empty() || stray.is_some() {
            statements.push(Statement::Line(Line {
                file: file.to_owned(),
                number,
                pairs,
                spelled,
                stray,
            }));
        }
    }
    statements
}

/// The last value of a key that is given once a file, and its line.  Behind another key it is that line's own, such as `PreemptMode=` of a
/// partition.
pub fn last<'a>(lines: &'a [Line], key: &str) -> Option<(&'a str, &'a Line)> {
    let mut found = lines.iter().rev();
    found.find_map(|line| {
        let (first, value) = line.pairs.first()?;
        (first == key).then_some((value.as_str(), line))
    })
}

/// The file of an `Include FILE` line (`_parse_include_directive`); none where something follows the name, or the word does not
/// begin the line, which Slurm takes for a faulty line.
fn included(line: &str) -> Option<&str> {
    let (word, rest) = line.split_once(char::is_whitespace)?;
    let path = rest.trim();
    (word.eq_ignore_ascii_case("include")
        && !path.is_empty()
        && !path.contains(char::is_whitespace))
    .then_some(path)
}

/// A file that is to be included, with `%c` for the cluster's name in lower case (`_parse_for_format`); None where no ClusterName
/// stands before it, at which Slurm stops.
pub fn with_cluster(path: &str, cluster: Option<&str>) -> Option<String> {
    if path.contains("%c") {
        return cluster.map(|name| path.replace("%c", &name.to_lowercase()));
    }
    Some(path.to_owned())
}

/// Lines without comments, continued ones joined, with the number of the first.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, physical) in (1..).zip(text.lines()) {
        let bare = without_comment(physical);
        let (start, mut joined) = open.take().unwrap_or((number, String::new()));
        let trimmed = bare.trim_end();
        let slashes = trimmed.len() - trimmed.trim_end_matches('\\').len();
        if slashes % 2 == 1 {
            joined.push_str(trimmed.strip_suffix('\\').unwrap_or(trimmed));
            open = Some((start, joined));
        } else {
            joined.push_str(&bare);
            lines.push((start, joined));
        }
    }
    lines.extend(open);
    lines
}

fn without_comment(line: &str) -> String {
    let mut kept = String::new();
    let mut is_escaped = false;
    for c in line.chars() {
        if c == '#' {
            if !is_escaped {
                break;
            }
            // The backslash only kept the mark from starting a comment.
            kept.pop();
        }
        is_escaped = c == '\\' && !is_escaped;
        kept.push(c);
    }
    kept
}

/// The pairs of a line, keys as they are written, and the first words that are none.
fn parse_pairs(line: &str) -> (Vec<(String, String)>, Option<String>) {
    let mut pairs = Vec::new();
    let mut stray: Option<String> = None;
    let mut rest = line;
    while let Some(at) = rest.find('=') {
        let (before, after) = rest.split_at(at);
        let before = before.trim_end_matches(['-', '+', '*', '/']).trim();
        let (extra, key) = before
            .rsplit_once(char::is_whitespace)
            .unwrap_or(("", before));
        if !extra.trim().is_empty() {
            stray.get_or_insert_with(|| extra.trim().to_owned());
        }
        let after = after.get(1..).unwrap_or_default().trim_start();
        let (value, tail) = match after
            .strip_prefix('"')
            .and_then(|text| text.split_once('"'))
        {
            Some(quoted) => quoted,
            None => after.split_at(after.find(char::is_whitespace).unwrap_or(after.len())),
        };
        // A value that is not there is none to Slurm; one in quotes may be empty.
        if value.is_empty() && !after.starts_with('"') {
            stray.get_or_insert_with(|| format!("{key}="));
        }
        if !key.is_empty() {
            pairs.push((key.to_owned(), value.to_owned()));
        }
        rest = tail;
    }
    let rest = rest.trim();
    if !rest.is_empty() {
        stray.get_or_insert_with(|| rest.to_owned());
    }
    (pairs, stray)
}

/// Whether a comma-separated value holds `word`, in any case.
pub fn has_word(value: &str, word: &str) -> bool {
    value
        .split(',')
        .any(|own| own.trim().eq_ignore_ascii_case(word))
}

/// Slurm's words for yes.
pub fn is_yes(value: &str) -> bool {
    ["yes", "up", "true", "1"]
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word))
}

/// Slurm's words for no.
pub fn is_no(value: &str) -> bool {
    ["no", "down", "false", "0"]
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word))
}

/// Whether lines are those of a slurm.conf: one of them has a key that other files do not have.
pub fn is_slurm_conf(lines: &[Line]) -> bool {
    let known = [
        "clustername",
        "slurmctldhost",
        "controlmachine",
        "nodename",
        "partitionname",
        "taskplugin",
        "grestypes",
        "slurmdparameters",
        "selecttype",
        "proctracktype",
        "plugstackconfig",
        "slurmduser",
        "slurmuser",
    ];
    let mut pairs = lines.iter().flat_map(|line| &line.pairs);
    pairs.any(|(key, _)| known.contains(&key.as_str()))
}

/// The lines of a text without includes.
pub(crate) fn of_text(text: &str, file: &str) -> Vec<Line> {
    let of = |statement| match statement {
        Statement::Line(line) => Some(line),
        Statement::Include { .. } => None,
    };
    parse(text, file).into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Line> {
        of_text(text, "f")
    }

    #[test]
    fn keys_are_read_in_any_case_and_comments_and_continuations_as_slurm_does() {
        let lines = lines(
            "# TaskPlugin=none\ntaskPLUGIN = task/affinity,task/cgroup # why\n\
             NodeName=n[1-2] \\\n  Sockets=2 # half\nX=a\\#b Y=\"c d\" Z=\n",
        );
        assert_eq!(
            last(&lines, "taskplugin").unwrap().0,
            "task/affinity,task/cgroup"
        );
        assert_eq!(lines[1].number, 3);
        assert_eq!(lines[1].get("sockets"), Some("2"));
        assert_eq!(
            (lines[2].get("x"), lines[2].get("y")),
            (Some("a#b"), Some("c d"))
        );
        assert_eq!(lines[2].get("z"), Some(""));
    }

    #[test]
    fn a_slurm_conf_is_known_by_one_key_among_others() {
        let is = |text: &str| is_slurm_conf(&lines(text));
        assert!(is("PrologFlags=X11\nSlurmctldHost=a\n"));
        assert!(!is("Name=gpu File=/dev/nvidia0\nConstrainCores=yes\n"));
        assert!(!is(""));
    }

    #[test]
    fn words_that_are_no_pair_are_kept() {
        for (text, stray) in [
            ("A=1 B=2\n", None),
            ("A=1, 2\n", Some("2")),
            ("A=1 2 B=3\n", Some("2")),
            ("A B=1\n", Some("A")),
            ("A = 1 # 2\n", None),
            ("word\n", Some("word")),
            ("A=\"1 2\" B=3\n", None),
            ("A=\n", Some("A=")),
            ("A=\"\"\n", None),
        ] {
            assert_eq!(lines(text)[0].stray.as_deref(), stray, "{text}");
        }
    }

    #[test]
    fn the_last_of_a_key_counts_and_includes_are_named() {
        let text = "A=1\ninclude  nodes.conf\nA=2\n  include b.conf\ninclude c.conf d\n";
        assert_eq!(last(&lines(text), "a").unwrap().1.place(), "f:3");
        let includes: Vec<_> = parse(text, "f")
            .into_iter()
            .filter(|s| matches!(s, Statement::Include { path, .. } if path == "nodes.conf"))
            .collect();
        assert_eq!(includes.len(), 1);
        let all = lines(text);
        let stray: Vec<_> = all
            .iter()
            .filter_map(|line| line.stray.as_deref())
            .collect();
        assert_eq!(stray, ["include b.conf", "include c.conf d"]);
        assert_eq!(
            with_cluster("n-%c.conf", Some("Cl")).as_deref(),
            Some("n-cl.conf")
        );
        assert_eq!(with_cluster("n-%c.conf", None), None);
    }
}
