//! What keeps a job to its own CPUs and devices: TaskPlugin, TaskPluginParam and cgroup.conf.

use crate::config::{Line, has_word, is_yes, last};

/// The task plugins that bind and fence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskPlugins {
    /// task/affinity: gives each task CPUs of its own.
    pub affinity: bool,
    /// task/cgroup: keeps a job to its cores and devices.
    pub cgroup: bool,
}

impl TaskPlugins {
    /// Reads a `TaskPlugin=`, whose names may lack `task/`.
    pub fn of(value: &str) -> Self {
        let has = |name: &str| has_word(value, name) || has_word(value, &format!("task/{name}"));
        Self {
            affinity: has("affinity"),
            cgroup: has("cgroup"),
        }
    }
}

/// Whether a `TaskPluginParam=` reaches every task as a user's `--cpu-bind=none` would.
pub fn unbinds_every_task(task_plugin_param: &str) -> bool {
    has_word(task_plugin_param, "none")
}

/// A key of cgroup.conf that fences, and the line that gives it; None where no line does, which means no.
pub type Open<'a> = (&'static str, Option<&'a Line>);

/// The fences of cgroup.conf that are open: ConstrainCores, ConstrainDevices.
pub fn open_fences(cgroup_conf: &[Line]) -> Vec<Open<'_>> {
    ["ConstrainCores", "ConstrainDevices"]
        .into_iter()
        .filter_map(|key| match last(cgroup_conf, &key.to_ascii_lowercase()) {
            Some((value, _)) if is_yes(value) => None,
            Some((_, line)) => Some((key, Some(line))),
            None => Some((key, None)),
        })
        .collect()
}

/// A control group hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hierarchy {
    /// One mount for each controller.
    V1,
    /// The unified hierarchy.
    V2,
}

impl Hierarchy {
    /// The one that a `CgroupPlugin=` insists on; None where it leaves the choice to slurmd.
    pub fn of_plugin(value: &str) -> Option<Self> {
        match value.to_ascii_lowercase().as_str() {
            "cgroup/v1" => Some(Self::V1),
            "cgroup/v2" => Some(Self::V2),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::of_text;

    #[test]
    fn task_plugins_are_read_with_and_without_their_prefix() {
        for (value, affinity, cgroup) in [
            ("task/affinity,task/cgroup", true, true),
            ("Affinity, CGROUP", true, true),
            ("task/cgroup", false, true),
            ("affinity", true, false),
            ("task/none", false, false),
            ("", false, false),
        ] {
            assert_eq!(TaskPlugins::of(value), TaskPlugins { affinity, cgroup });
        }
        assert!(unbinds_every_task("Verbose,None") && !unbinds_every_task("autobind=none"));
    }

    #[test]
    fn a_fence_is_open_unless_its_last_line_says_yes() {
        let conf = of_text("ConstrainCores=no\nconstraincores=YES\n", "cgroup.conf");
        assert_eq!(open_fences(&conf), [("ConstrainDevices", None)]);
        let conf = of_text(
            "ConstrainCores=yes\nConstrainDevices=1\nConstrainCores=0\n",
            "c",
        );
        let open = open_fences(&conf);
        assert_eq!(open.len(), 1);
        assert_eq!(
            (open[0].0, open[0].1.unwrap().number),
            ("ConstrainCores", 3)
        );
    }

    #[test]
    fn only_a_named_hierarchy_is_insisted_on() {
        assert_eq!(Hierarchy::of_plugin("Cgroup/V1"), Some(Hierarchy::V1));
        assert_eq!(Hierarchy::of_plugin("cgroup/v2"), Some(Hierarchy::V2));
        assert_eq!(Hierarchy::of_plugin("autodetect"), None);
    }
}
