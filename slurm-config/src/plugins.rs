//! The plugins that slurm.conf and cgroup.conf name and without which slurmd does not start.
//!
//! A plugin is a file in PluginDir, `task_cgroup.so` for `task/cgroup` (`plugin_load_and_link`, common/plugin.c), so a
//! site may have some of its own, and its name is compared letter by letter.

use crate::config::{Line, has_word, last};
use crate::release::Release;
use crate::rules::{Series, TABLE};

/// A key that names plugins.
struct PluginKey {
    /// The key as it is shown.
    shown: &'static str,
    /// What stands before each name; TaskPlugin's names may lack it (`task_g_init`, interfaces/task.c).
    kind: &'static str,
    may_lack_kind: bool,
    /// Slurm's own names in a series.
    names: fn(&Series) -> &'static [&'static str],
}

/// The key whose plugin slurmctld needs, and slurmd only in some series.
const SELECT: &str = "SelectType";

/// The keys of slurm.conf.
const KEYS: [PluginKey; 4] = [
    PluginKey {
        shown: "TaskPlugin",
        kind: "task",
        may_lack_kind: true,
        names: |series| series.task_plugins,
    },
    PluginKey {
        shown: "ProctrackType",
        kind: "proctrack",
        may_lack_kind: false,
        names: |series| series.proctrack_plugins,
    },
    PluginKey {
        shown: "JobAcctGatherType",
        kind: "jobacct_gather",
        may_lack_kind: false,
        names: |_| &["cgroup", "linux", "none"],
    },
    PluginKey {
        shown: SELECT,
        kind: "select",
        may_lack_kind: false,
        names: |series| series.select_plugins,
    },
];

/// CgroupPlugin= of cgroup.conf (`_autodetect_cgroup_version`, interfaces/cgroup.c).
const CGROUP: PluginKey = PluginKey {
    shown: "CgroupPlugin",
    kind: "cgroup",
    may_lack_kind: false,
    names: |_| &["v1", "v2"],
};

/// A name that is no plugin of Slurm's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown<'a> {
    /// The line that has it.
    pub line: &'a Line,
    /// The key as it is shown.
    pub key: &'static str,
    /// The name as it is written.
    pub name: String,
    /// The names that are Slurm's own in that release.
    pub expected: Vec<String>,
}

impl Unknown<'_> {
    /// Whether slurmd of `release` does not start for it; if not, slurmctld does not.
    pub fn stops_slurmd(&self, release: Option<Release>) -> bool {
        self.key != SELECT || release.is_some_and(|own| Series::of(own).slurmd_loads_select)
    }
}

/// The names of slurm.conf and cgroup.conf that are no plugins of `release`, of any release where that is not known.
/// `has_file` says whether PluginDir has a file, None where that is not known.
pub fn unknown<'a>(
    conf: &'a [Line],
    cgroup: &'a [Line],
    release: Option<Release>,
    has_file: &dyn Fn(&str) -> Option<bool>,
) -> Vec<Unknown<'a>> {
    let mut found = Vec::new();
    for key in &KEYS {
        let Some((value, line)) = last(conf, &key.shown.to_ascii_lowercase()) else {
            continue;
        };
        let names = value.split(',').map(str::trim);
        for name in names.filter(|name| !name.is_empty()) {
            found.extend(key.check(name, line, release, has_file));
        }
    }
    if let Some((value, line)) = last(cgroup, "cgroupplugin") {
        let is_word = value == "autodetect"
            || value == "disabled" && release.is_none_or(|own| Series::of(own).loads_cgroup);
        if !is_word && uses_cgroups(conf, release) {
            found.extend(CGROUP.check(value, line, release, has_file));
        }
    }
    found
}

/// Whether slurmd loads its cgroup plugin: in some series only where another plugin needs it.
fn uses_cgroups(conf: &[Line], release: Option<Release>) -> bool {
    let names = |key: &str, word: &str| {
        last(conf, key).is_some_and(|(value, _)| {
            has_word(value, word) || has_word(value, word.trim_start_matches("task/"))
        })
    };
    release.is_none_or(|release| Series::of(release).loads_cgroup)
        || names("taskplugin", "task/cgroup")
        || names("proctracktype", "proctrack/cgroup")
        || names("jobacctgathertype", "jobacct_gather/cgroup")
        // The default.
        || last(conf, "proctracktype").is_none()
}

impl PluginKey {
    fn check<'a>(
        &self,
        name: &str,
        line: &'a Line,
        release: Option<Release>,
        has_file: &dyn Fn(&str) -> Option<bool>,
    ) -> Option<Unknown<'a>> {
        let (kind, bare) = match name.split_once('/') {
            Some((kind, bare)) => (kind, bare),
            None if self.may_lack_kind => (self.kind, name),
            None => ("", name),
        };
        // Where the release is not known, what one of them has is right.
        let series = match release {
            Some(release) => vec![*Series::of(release)],
            None => TABLE.to_vec(),
        };
        let is_own = |series: &Series| (self.names)(series).contains(&bare);
        if kind == self.kind && series.iter().any(is_own) {
            return None;
        }
        let file = if kind.is_empty() {
            format!("{bare}.so")
        } else {
            format!("{kind}_{bare}.so")
        };
        if has_file(&file) == Some(true) {
            return None;
        }
        Some(Unknown {
            line,
            key: self.shown,
            name: name.to_owned(),
            expected: series.last().map_or_else(Vec::new, |newest| {
                let names = (self.names)(newest).iter();
                names.map(|name| format!("{}/{name}", self.kind)).collect()
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::of_text;

    /// As real ones of 22.05, 24.11, 25.05, 25.11 and 26.05 answered (`make test-gres`).
    #[test]
    fn names_that_are_no_plugin_are_found() {
        for (conf, cgroup, release, expected) in [
            ("TaskPlugin=task/affinity,cgroup\n", "", "24.11", &[][..]),
            (
                "TaskPlugin=task/afinity,task/cgroup\n",
                "",
                "24.11",
                &["task/afinity"],
            ),
            (
                "TaskPlugin=task/Affinity\n",
                "",
                "24.11",
                &["task/Affinity"],
            ),
            ("TaskPlugin=task/none\n", "", "26.05", &[]),
            (
                "TaskPlugin=task/cray_aries\n",
                "",
                "26.05",
                &["task/cray_aries"],
            ),
            ("TaskPlugin=task/cray_aries\n", "", "22.05", &[]),
            ("TaskPlugin=task/cray_aries\n", "", "", &[]),
            ("TaskPlugin=task/site\n", "", "26.05", &[]),
            ("ProctrackType=cgroup\n", "", "22.05", &["cgroup"]),
            (
                "ProctrackType=proctrack/cgroup\n",
                "CgroupPlugin=cgroup/v3\n",
                "22.05",
                &["cgroup/v3"],
            ),
            (
                "ProctrackType=proctrack/linuxproc\n",
                "CgroupPlugin=cgroup/v3\n",
                "22.05",
                &[],
            ),
            (
                "ProctrackType=proctrack/linuxproc\n",
                "CgroupPlugin=cgroup/v3\n",
                "26.05",
                &["cgroup/v3"],
            ),
            ("ClusterName=c\n", "CgroupPlugin=disabled\n", "26.05", &[]),
            ("ClusterName=c\n", "CgroupPlugin=autodetect\n", "22.05", &[]),
            (
                "JobAcctGatherType=jobacct_gather/linx\n",
                "",
                "22.05",
                &["jobacct_gather/linx"],
            ),
        ] {
            let (conf, cgroup) = (of_text(conf, "f"), of_text(cgroup, "g"));
            let has_file = |file: &str| (file == "task_site.so").then_some(true);
            let found = unknown(&conf, &cgroup, Release::find(release), &has_file);
            let names: Vec<&str> = found.iter().map(|own| own.name.as_str()).collect();
            assert_eq!(names, expected, "{conf:?} {cgroup:?} {release}");
        }
    }
}
