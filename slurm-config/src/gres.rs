//! gres.conf: the lines that hold for one node, and what they declare.

use topology::set::ParseSetError;

use crate::config::Line;
use crate::cores::CoreSet;
use crate::hostlist;

/// Device files taken from one line at most.
const MAX_FILES: usize = 256;

/// The keys of gres.conf in lower case (`_gres_options`, interfaces/gres.c, 22.05 to 26.05; gres.conf(5)).
const KEYS: [&str; 14] = [
    "autodetect",
    "cores",
    "count",
    "cpus",
    "file",
    "files",
    "flags",
    "ignore",
    "link",
    "links",
    "multiplefiles",
    "name",
    "nodename",
    "type",
];

/// The pairs of a line whose key gres.conf does not have; slurmd stops at one, whatever host the line is for.
pub fn unknown_pairs(line: &Line) -> impl Iterator<Item = &(String, String)> {
    let pairs = line.pairs.iter();
    pairs.filter(|(key, _)| !KEYS.contains(&key.as_str()))
}

/// What gres.conf says of one GRES of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeGres<'a> {
    /// The last AutoDetect= that holds for the node, and its line.
    pub autodetect: Option<(&'a str, &'a Line)>,
    /// The lines of the GRES, in the order of the file.
    pub lines: Vec<GresLine<'a>>,
}

impl<'a> NodeGres<'a> {
    /// Takes the lines of GRES `name` (in any case) that are for `node`.
    pub fn of(lines: &'a [Line], node: &str, name: &str) -> Self {
        let ours = |line: &&Line| {
            line.get("nodename")
                .is_none_or(|list| hostlist::contains(list, node))
        };
        let detects = |line: &'a Line| Some((line.get("autodetect")?, line));
        let is_named = |line: &&Line| {
            line.get("name")
                .is_some_and(|own| own.eq_ignore_ascii_case(name))
        };
        Self {
            autodetect: lines.iter().filter(ours).rev().find_map(detects),
            lines: lines
                .iter()
                .filter(ours)
                .filter(is_named)
                .map(|line| GresLine { line })
                .collect(),
        }
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

impl<'a> GresLine<'a> {
    /// The device files of `File=`, of which each is one device.
    pub fn files(&self) -> Vec<String> {
        let list = self.line.get("file").or_else(|| self.line.get("files"));
        list.map(|list| hostlist::expand(list, MAX_FILES))
            .unwrap_or_default()
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
        self.line.get("count").and_then(|value| value.parse().ok())
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

    /// To how many GPUs `Links=` tells links, the line's own among them; None where it is missing.
    pub fn links(&self) -> Option<u64> {
        let list = self.line.get("links").or_else(|| self.line.get("link"))?;
        Some(list.split(',').count() as u64)
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
        Some(value.parse())
    }

    /// Whether `Flags=` holds `flag` (in lower case): anywhere in the text, as slurmd looks for it.
    pub fn has_flag(&self, flag: &str) -> bool {
        let flags = self.line.get("flags").unwrap_or_default();
        flags.to_ascii_lowercase().contains(flag)
    }
}

/// Whether a type names a MIG profile (`1g.10gb`, `a100_4g.40gb`, `h100_1g.12gb+me`, `1g.24gb-me`, `1c.2g.20gb`): such devices are parts of a
/// GPU, so their number says nothing about the number of GPUs.
pub fn is_mig_type(kind: &str) -> bool {
    let lower = kind.to_ascii_lowercase();
    let profile = lower.rsplit('_').next().unwrap_or_default();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A compute instance has the slices of its own before those of the GPU instance.
    let own = profile
        .split_once("c.")
        .filter(|(slices, _)| is_number(slices));
    let profile = own.map_or(profile, |(_, rest)| rest);
    profile.split_once("g.").is_some_and(|(slices, memory)| {
        let memory = memory.split(['+', '-']).next().unwrap_or_default();
        is_number(slices) && memory.strip_suffix("gb").is_some_and(is_number)
    })
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
        assert_eq!(numbers, [2, 4, 6, 7]);
        assert_eq!(
            own.autodetect.map(|(value, line)| (value, line.number)),
            Some(("nvml", 1))
        );
        assert!(own.detects());
        // Two files, one file, one of several files, and a count without files.
        assert_eq!(own.count(), 2 + 1 + 1 + 3);
        let other = NodeGres::of(&lines, "n3", "gpu");
        assert_eq!(other.lines.len(), 4);
        assert!(!other.detects());
        assert!(!NodeGres::of(&[], "n3", "gpu").detects());
    }

    #[test]
    fn a_line_names_files_cores_and_flags() {
        let lines = of_text(CONF, "gres.conf");
        let own = NodeGres::of(&lines, "n1", "gpu").lines;
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
    fn keys_that_slurm_does_not_have_are_found() {
        let lines = of_text(
            "Name=gpu Coers=1 File=x Link=0 MultipleFiles=y Ignore=1",
            "f",
        );
        let unknown: Vec<&str> = unknown_pairs(&lines[0])
            .map(|(key, _)| key.as_str())
            .collect();
        assert_eq!(unknown, ["coers"]);
        assert!(is_off("OFF") && is_off("") && !is_off("nvml"));
    }

    #[test]
    fn mig_profiles_are_told_from_models() {
        for kind in [
            "1g.10gb",
            "a100_4g.40gb",
            "h100_1g.12gb+me",
            "NVIDIA_A100_3G.20GB",
            "nvidia_rtx_pro_6000_1g.24gb-me",
            "1c.2g.20gb",
            "1g.23gb+me.all",
        ] {
            assert!(is_mig_type(kind), "{kind}");
        }
        for kind in ["h100", "a100_80gb", "l40s", "g.10gb", "1g.gb", "1g.10", ""] {
            assert!(!is_mig_type(kind), "{kind}");
        }
    }

    #[test]
    fn the_first_pair_out_of_order_is_found() {
        assert_eq!(first_out_of_order(&[1, 3, 2, 0]), Some((1, 2)));
        assert_eq!(first_out_of_order(&[1, 1, 2]), None);
        assert_eq!(first_out_of_order::<u8>(&[]), None);
    }
}
