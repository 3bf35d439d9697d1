//! gres.conf: the lines that hold for one node, and what they declare.

use std::fmt;

use topology::set::ParseSetError;

use crate::config::Line;
use crate::cores::CoreSet;
use crate::hostlist;
use crate::rules;
use crate::values::count_of;

/// The highest number of links (`GRES_MAX_LINK`, interfaces/gres.h).
const MOST_LINKS: i64 = 1023;

/// Device files taken from one line at most.
pub(crate) const MAX_FILES: usize = 256;

/// The keys of a line of gres.conf in lower case (`_gres_options`, interfaces/gres.c, common/gres.c in 22.05; the same from
/// 22.05 to 26.05).
const KEYS: [&str; 12] = [
    "autodetect",
    "cores",
    "count",
    "cpus",
    "file",
    "files",
    "flags",
    "link",
    "links",
    "multiplefiles",
    "name",
    "type",
];

/// The keys that a line may begin with (`_gres_conf_options`).
const FIRST_KEYS: [&str; 3] = ["autodetect", "name", "nodename"];

/// Why slurmd cannot read a line, whatever host it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineFault {
    /// A key that gres.conf does not have, as `key=value`.
    UnknownKey(String),
    /// Words that are no `Key=Value`.
    Stray(String),
    /// A line that begins with another key than AutoDetect, Name or NodeName.
    First(String),
    /// `NodeName=` behind another key, as `nodename=value`.
    NodeNameBehind(String),
    /// Something behind an `AutoDetect=` that begins a line.
    AfterAutoDetect,
}

impl fmt::Display for LineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey(pair) => write!(f, "unknown key \"{pair}\""),
            Self::Stray(words) => write!(f, "\"{words}\" is no Key=Value"),
            Self::First(pair) => write!(f, "the line begins with \"{pair}\""),
            Self::NodeNameBehind(pair) => write!(f, "\"{pair}\" stands behind another key"),
            Self::AfterAutoDetect => f.write_str("something follows AutoDetect="),
        }
    }
}

/// Whether gres.conf has this key, in lower case, beside NodeName, which slurm.conf has too.
pub(crate) fn is_key(key: &str) -> bool {
    KEYS.contains(&key)
}

/// The first thing in a line that slurmd cannot read (`s_p_parse_file`, common/parse_config.c).
pub fn fault_of(line: &Line) -> Option<LineFault> {
    let Some((first, rest)) = line.pairs.split_first() else {
        return line.stray.clone().map(LineFault::Stray);
    };
    let is_known = |key: &str| KEYS.contains(&key);
    if !is_known(&first.0) && first.0 != "nodename" {
        return Some(LineFault::UnknownKey(line.shown(0)));
    }
    let place_of = |is: &dyn Fn(&str) -> bool| {
        let at = rest.iter().position(|(key, _)| is(key))?;
        Some(line.shown(at + 1))
    };
    if let Some(pair) = place_of(&|key| key == "nodename") {
        return Some(LineFault::NodeNameBehind(pair));
    }
    if let Some(pair) = place_of(&|key| !is_known(key)) {
        return Some(LineFault::UnknownKey(pair));
    }
    if !FIRST_KEYS.contains(&first.0.as_str()) {
        return Some(LineFault::First(line.shown(0)));
    }
    if let Some(words) = &line.stray {
        return Some(LineFault::Stray(words.clone()));
    }
    (first.0 == "autodetect" && !rest.is_empty()).then_some(LineFault::AfterAutoDetect)
}

/// What gres.conf says of one GRES of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeGres<'a> {
    /// The AutoDetect= that holds for the node, and its line: that of a line with NodeName=, else the last of the file
    /// (`_handle_local_autodetect`, `_handle_global_autodetect`).
    pub autodetect: Option<(&'a str, &'a Line)>,
    /// AutoDetect= on `Name=` lines without NodeName=, which slurmd ignores.
    pub ignored: Vec<&'a Line>,
    /// An AutoDetect= of a line for the node that differs from an earlier one, at which slurmd stops.
    pub conflict: Option<&'a Line>,
    /// The lines of the GRES as slurmd orders them: those that begin with Name=, then those with NodeName=.
    pub lines: Vec<GresLine<'a>>,
    /// The lines of every GRES for the node, in the order of the file.
    pub every: Vec<GresLine<'a>>,
}

/// The lines of one GRES: those that begin with Name=, then those with NodeName=.
fn in_slurmds_order<'a>(every: &[GresLine<'a>], name: &str) -> Vec<GresLine<'a>> {
    let own = every.iter().copied().filter(|line| line.is_of(name));
    let mut own: Vec<GresLine<'a>> = own.collect();
    own.sort_by_key(|line| first_key(line.line) == "nodename");
    own
}

/// The key that a line begins with.
fn first_key(line: &Line) -> &str {
    line.pairs.first().map_or("", |(key, _)| key.as_str())
}

impl<'a> NodeGres<'a> {
    /// Takes the lines of GRES `name` (in any case) that are for `node`.
    pub fn of(lines: &'a [Line], node: &str, name: &str) -> Self {
        let ours = |line: &&Line| {
            line.get("nodename")
                .is_none_or(|list| hostlist::contains(list, node))
        };
        let detects = |line: &'a Line| Some((line.get("autodetect")?, line));
        let of_key = |key: &'static str| {
            let own = lines.iter().filter(ours);
            own.filter(move |line| first_key(line) == key)
        };
        // A word that no release knows sets nothing.
        let mut local = of_key("nodename").filter_map(detects);
        let known = |(value, _): &(&str, &Line)| {
            is_off(value) && !value.is_empty() && !value.eq_ignore_ascii_case("none")
                || rules::first_with_autodetect(value).is_some()
        };
        let first = local.find(known);
        let conflict = first.and_then(|(value, _)| {
            let method = |text: &str| (is_off(text), rules::newest_autodetect(text));
            let mut others = local.filter(|(other, _)| method(other) != method(value));
            others.next().map(|(_, line)| line)
        });
        let every: Vec<GresLine<'a>> = lines
            .iter()
            .filter(ours)
            .filter(|line| line.get("name").is_some())
            .map(|line| GresLine { line })
            .collect();
        Self {
            autodetect: first.or_else(|| of_key("autodetect").rev().find_map(detects)),
            ignored: of_key("name")
                .filter(|line| line.get("autodetect").is_some())
                .collect(),
            conflict,
            lines: in_slurmds_order(&every, name),
            every,
        }
    }

    /// The lines of another GRES for the node, in slurmd's order.
    pub fn of_name(&self, name: &str) -> Vec<GresLine<'a>> {
        in_slurmds_order(&self.every, name)
    }

    /// Whether slurmd looks for devices by itself.
    pub fn detects(&self) -> bool {
        self.autodetect.is_some_and(|(value, _)| !is_off(value))
    }

    /// How many of the GRES the lines declare.
    pub fn count(&self) -> u64 {
        let counts = self.lines.iter().map(GresLine::devices);
        counts.fold(0, u64::saturating_add)
    }
}

/// Whether an AutoDetect= value finds nothing on purpose.
pub fn is_off(autodetect: &str) -> bool {
    let mut words = ["off", "none", ""].iter();
    words.any(|off| autodetect.eq_ignore_ascii_case(off))
}

/// One line of gres.conf that declares devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GresLine<'a> {
    /// The line itself.
    pub line: &'a Line,
}

/// A `Count=` that slurmd refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadCount;

impl<'a> GresLine<'a> {
    /// Whether it is a line of GRES `name`, in any case.
    pub fn is_of(&self, name: &str) -> bool {
        let own = self.line.get("name");
        own.is_some_and(|own| own.eq_ignore_ascii_case(name))
    }

    /// Whether it is a line of GRES `name` in other capitals, by which slurmctld does not know it.
    pub fn is_misspelt(&self, name: &str) -> bool {
        self.is_of(name) && self.line.get("name") != Some(name)
    }

    /// The device files of `File=`, of which each is one device.
    pub fn files(&self) -> Vec<String> {
        self.file_list()
            .map(|list| hostlist::expand(list, MAX_FILES))
            .unwrap_or_default()
    }

    /// `File=` as it is written.
    pub(crate) fn file_list(&self) -> Option<&'a str> {
        self.line.get("file").or_else(|| self.line.get("files"))
    }

    /// `MultipleFiles=`: files that are one device together, as those of a MIG instance.
    pub fn is_of_several_files(&self) -> bool {
        self.line.get("multiplefiles").is_some()
    }

    /// The device files of `MultipleFiles=`, which are one device.
    pub fn several_files(&self) -> Vec<String> {
        let list = self.line.get("multiplefiles");
        list.map(|list| hostlist::expand(list, MAX_FILES))
            .unwrap_or_default()
    }

    /// `Count=`; None where it is missing or no number.
    pub fn count(&self) -> Option<u64> {
        self.given_count().ok().flatten()
    }

    /// `Count=`, which may have a suffix; None where it is missing.
    ///
    /// # Errors
    /// No number, at which slurmd stops.
    pub fn given_count(&self) -> Result<Option<u64>, BadCount> {
        let Some(value) = self.line.get("count") else {
            return Ok(None);
        };
        count_of(value).map(Some).ok_or(BadCount)
    }

    /// How many devices the line declares.
    pub fn devices(&self) -> u64 {
        let files = self.files();
        if self.is_of_several_files() {
            1
        } else if files.is_empty() {
            self.count().unwrap_or(1)
        } else {
            files.len() as u64
        }
    }

    /// To how many GPUs `Links=` tells links, the line's own among them; None where it is missing, or is no list of numbers with
    /// one -1 and then ignored (`gres_links_validate`, interfaces/gres.c).
    pub fn links(&self) -> Option<u64> {
        let list = self.line.get("link").or_else(|| self.line.get("links"))?;
        let numbers: Vec<i64> = list
            .split(',')
            .filter(|number| !number.is_empty())
            .map(|number| number.trim_start().parse().ok())
            .collect::<Option<_>>()?;
        let is_fit = |number: &i64| (-2..=MOST_LINKS).contains(number);
        let selves = numbers.iter().filter(|number| **number == -1).count();
        (selves == 1 && numbers.iter().all(is_fit)).then_some(numbers.len() as u64)
    }

    /// `Type=`.
    pub fn kind(&self) -> Option<&'a str> {
        self.line.get("type")
    }

    /// The key that names cores: `Cores`, or its old name `CPUs`; None where the line has neither.
    pub fn cores_key(&self) -> Option<&'static str> {
        let keys = [("cores", "Cores"), ("cpus", "CPUs")].into_iter();
        let mut given = keys.filter(|(key, _)| self.line.get(key).is_some());
        given.next().map(|(_, shown)| shown)
    }

    /// Its cores, by Slurm's numbers; None where it names none.
    ///
    /// # Errors
    /// What is wrong with the list; slurmd then refuses the file.
    pub fn cores(&self) -> Option<Result<CoreSet, ParseSetError>> {
        let value = self.line.get("cores").or_else(|| self.line.get("cpus"))?;
        Some(value.trim_matches(['[', ']']).parse())
    }

    /// Whether `Flags=` holds `flag` (in lower case): anywhere in the text, as slurmd looks for it.
    pub fn has_flag(&self, flag: &str) -> bool {
        let flags = self.line.get("flags").unwrap_or_default();
        flags.to_ascii_lowercase().contains(flag)
    }
}

/// The first device file that stands before one it should follow, as positions in `keys`: Slurm numbers devices in
/// the order of the lines, CUDA in the order of PCI addresses (the keys).
pub fn first_out_of_order<K: Ord>(keys: &[K]) -> Option<(usize, usize)> {
    let at = keys
        .windows(2)
        .position(|pair| pair.first() > pair.last())?;
    Some((at, at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::of_text;

    const CONF: &str = "AutoDetect=nvml\n\
        NodeName=n[1-2] Name=GPU Type=h100 File=/dev/nvidia[0-1] Cores=0-3 Flags=nvidia_gpu_env,ENV_UUID\n\
        NodeName=n3 AutoDetect=off Name=gpu File=/dev/nvidia[0-7]\n\
        Name=gpu Files=/dev/nvidia2 CPUs=4-x\nName=shard Count=32\n\
        Name=gpu Type=1g.10gb MultipleFiles=/dev/nvidia3,/dev/nvidia-caps/cap1 Count=7\nName=gpu Count=3\n";

    #[test]
    fn lines_of_other_nodes_and_other_gres_are_left_aside() {
        let lines = of_text(CONF, "gres.conf");
        let own = NodeGres::of(&lines, "n2", "gpu");
        let numbers: Vec<usize> = own.lines.iter().map(|own| own.line.number).collect();
        assert_eq!(numbers, [4, 6, 7, 2]);
        assert_eq!(
            own.autodetect.map(|(value, line)| (value, line.number)),
            Some(("nvml", 1))
        );
        assert!(own.detects());
        // Two files, one file, one of several files, and a count without files.
        assert_eq!(own.count(), 1 + 1 + 3 + 2);
        let other = NodeGres::of(&lines, "n3", "gpu");
        assert_eq!(other.lines.len(), 4);
        assert!(!other.detects());
        assert!(!NodeGres::of(&[], "n3", "gpu").detects());
    }

    #[test]
    fn a_line_names_files_cores_and_flags() {
        let lines = of_text(CONF, "gres.conf");
        let mut own = NodeGres::of(&lines, "n1", "gpu").every;
        own.retain(|line| line.is_of("gpu"));
        assert_eq!(own[0].files(), ["/dev/nvidia0", "/dev/nvidia1"]);
        assert_eq!(own[0].kind(), Some("h100"));
        assert_eq!(own[0].cores().unwrap().unwrap().to_string(), "0-3");
        assert!(own[0].has_flag("env_uuid") && !own[1].has_flag("env_uuid"));
        assert_eq!(
            (own[0].cores_key(), own[1].cores_key()),
            (Some("Cores"), Some("CPUs"))
        );
        assert!(own[1].cores().unwrap().is_err() && own[1].files() == ["/dev/nvidia2"]);
        assert!(own[2].is_of_several_files() && own[2].files().is_empty());
        assert_eq!((own[2].count(), own[2].devices()), (Some(7), 1));
        assert!(own[3].cores().is_none() && own[3].cores_key().is_none());
    }

    #[test]
    fn what_slurmd_cannot_read_is_found() {
        for (text, fault) in [
            (
                "Name=gpu Coers=1 File=x Link=0",
                Some("unknown key \"Coers=1\""),
            ),
            ("Name=gpu File=x Ignore=1", Some("unknown key \"Ignore=1\"")),
            ("Fiel=x", Some("unknown key \"Fiel=x\"")),
            (
                "Type=a Name=gpu File=x",
                Some("the line begins with \"Type=a\""),
            ),
            (
                "Name=gpu NodeName=n1 File=x",
                Some("\"NodeName=n1\" stands behind another key"),
            ),
            (
                "AutoDetect=nvml Name=gpu",
                Some("something follows AutoDetect="),
            ),
            ("Name=gpu Cores=0-1, 2-3", Some("\"2-3\" is no Key=Value")),
            (
                "NodeName=n1 Name=gpu Type=a MultipleFiles=x,y Links=0",
                None,
            ),
            ("NodeName=n1 AutoDetect=off", None),
            ("autodetect=NVML", None),
        ] {
            let lines = of_text(text, "f");
            let got = fault_of(&lines[0]).map(|fault| fault.to_string());
            assert_eq!(got.as_deref(), fault, "{text}");
        }
        assert!(is_off("OFF") && is_off("") && !is_off("nvml"));
    }

    #[test]
    fn a_nodes_own_detection_wins_wherever_it_stands() {
        for (text, value, conflicts) in [
            (
                "NodeName=n1 AutoDetect=off\nAutoDetect=nvml\n",
                Some("off"),
                false,
            ),
            ("AutoDetect=off\nAutoDetect=nvml\n", Some("nvml"), false),
            (
                "NodeName=n2 AutoDetect=off\nAutoDetect=nvml\n",
                Some("nvml"),
                false,
            ),
            (
                "NodeName=n1 AutoDetect=none\nAutoDetect=nvml\n",
                Some("nvml"),
                false,
            ),
            (
                "NodeName=n1 AutoDetect=nvml\nNodeName=n[1-2] AutoDetect=NVML\n",
                Some("nvml"),
                false,
            ),
            (
                "NodeName=n1 AutoDetect=nvml\nNodeName=n1 AutoDetect=off\n",
                Some("nvml"),
                true,
            ),
            ("Name=gpu AutoDetect=nvml\n", None, false),
            (
                "NodeName=n1 Name=gpu AutoDetect=rsmi\n",
                Some("rsmi"),
                false,
            ),
        ] {
            let lines = of_text(text, "f");
            let own = NodeGres::of(&lines, "n1", "gpu");
            assert_eq!(own.autodetect.map(|(value, _)| value), value, "{text}");
            assert_eq!(own.conflict.is_some(), conflicts, "{text}");
        }
        let lines = of_text(
            "NodeName=n1 Name=gpu File=a\nName=gpu File=b AutoDetect=nvml\n",
            "f",
        );
        let own = NodeGres::of(&lines, "n1", "gpu");
        let files: Vec<Vec<String>> = own.lines.iter().map(GresLine::files).collect();
        assert_eq!(files, [["b"], ["a"]]);
        assert_eq!((own.ignored.len(), own.every.len()), (1, 2));
    }

    #[test]
    fn counts_have_suffixes_and_links_one_minus_one() {
        let one = |text: &str| of_text(&format!("Name=gpu {text}"), "f");
        for (text, count) in [
            ("Count=4", Ok(Some(4))),
            ("Count=1K", Ok(Some(1024))),
            ("Count=2kb", Ok(Some(2000))),
            ("File=x", Ok(None)),
            ("Count=4x", Err(BadCount)),
            ("Count=x", Err(BadCount)),
            ("Count=-1", Err(BadCount)),
        ] {
            let lines = one(text);
            let line = GresLine { line: &lines[0] };
            assert_eq!(line.given_count(), count, "{text}");
        }
        for (text, links) in [
            ("Links=-1,0,4", Some(3)),
            ("Link=0,-1", Some(2)),
            ("Links=0,0", None),
            ("Links=-1,-1", None),
            ("Links=-1,a", None),
            ("Links=-1,2000", None),
        ] {
            let lines = one(text);
            let line = GresLine { line: &lines[0] };
            assert_eq!(line.links(), links, "{text}");
        }
    }

    #[test]
    fn the_first_pair_out_of_order_is_found() {
        assert_eq!(first_out_of_order(&[1, 3, 2, 0]), Some((1, 2)));
        assert_eq!(first_out_of_order(&[1, 1, 2]), None);
        assert_eq!(first_out_of_order::<u8>(&[]), None);
    }
}
