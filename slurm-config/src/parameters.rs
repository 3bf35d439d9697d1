//! What slurmd is told of a host beside its hardware: SlurmdParameters, a node's own `Parameters=`, and the
//! option `--parameters` of slurmd.

use crate::config::{Line, last};
use crate::cores::SocketKind;
use crate::node::Node;
use crate::release::Release;
use crate::rules::Series;

/// All parameters of one host, joined with commas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlurmdParameters {
    joined: String,
}

impl SlurmdParameters {
    /// Joins what counts in `release`: slurm.conf's `SlurmdParameters=`, and where the release has them the
    /// node's `Parameters=` and `option`, the value of slurmd's `--parameters`.  Where the release is not known
    /// they count: a Slurm that does not know them refuses to start.
    pub fn of(
        conf: &[Line],
        node: Option<&Node>,
        option: Option<&str>,
        release: Option<Release>,
    ) -> Self {
        let mut parts = vec![last(conf, "slurmdparameters").map_or("", |(value, _)| value)];
        if release.is_none_or(|release| Series::of(release).has_node_parameters) {
            parts.extend(option);
            parts.extend(node.and_then(|node| node.whole.get("parameters")));
        }
        parts.retain(|part| !part.is_empty());
        Self {
            joined: parts.join(","),
        }
    }

    /// Whether `word` is among them: anywhere in the text, in any case, as slurmd looks for it
    /// (`parse_slurmd_params`, common/read_config.c; `xstrcasestr` in slurmd/common/xcpuinfo.c before 24.05).
    fn has(&self, word: &str) -> bool {
        self.joined.to_ascii_lowercase().contains(word)
    }

    /// What slurmd takes for a socket.  Of `l3cache_as_socket` and `numa_node_as_socket` the first wins, and slurmd
    /// ignores the other.
    pub fn socket_kind(&self) -> SocketKind {
        if self.has("l3cache_as_socket") {
            SocketKind::L3
        } else if self.has("numa_node_as_socket") {
            SocketKind::NumaNode
        } else {
            SocketKind::Package
        }
    }

    /// `config_overrides`: whether slurmd believes the node's line over the machine.
    pub fn overrides_machine(&self) -> bool {
        self.has("config_overrides")
    }

    /// Whether slurmd of `release` leaves Intel's E-cores out; taken to be so where the release is not known.
    pub fn leaves_out_ecores(&self, release: Option<Release>) -> bool {
        !self.has("allow_ecores")
            && release.is_none_or(|release| Series::of(release).leaves_out_ecores)
    }
}

/// The value of `--parameters` in the options of slurmd, as `SLURMD_OPTIONS="..."` of /etc/default/slurmd or
/// /etc/sysconfig/slurmd has them; the last where it is given twice.
pub fn option_of(text: &str) -> Option<String> {
    let lines = text.lines().map(str::trim);
    let options = lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('=').map(|(_, value)| value));
    let words: Vec<&str> = options
        .flat_map(|value| value.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')))
        .filter(|word| !word.is_empty())
        .collect();
    let given = words.iter().enumerate().rev().find_map(|(index, word)| {
        word.strip_prefix("--parameters=").or_else(|| {
            let next = words.get(index + 1).copied();
            next.filter(|_| *word == "--parameters")
        })
    });
    given.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::of_text;
    use crate::node;

    fn parameters(text: &str, option: Option<&str>, release: Option<&str>) -> SlurmdParameters {
        let lines = of_text(text, "slurm.conf");
        let node = node::find(&lines, Some("n1"));
        SlurmdParameters::of(
            &lines,
            node.as_ref(),
            option,
            release.and_then(Release::find),
        )
    }

    #[test]
    fn a_socket_is_what_the_parameters_say_and_the_cache_wins() {
        for (value, kind) in [
            ("", SocketKind::Package),
            ("config_overrides", SocketKind::Package),
            ("x,NUMA_node_as_socket", SocketKind::NumaNode),
            ("l3cache_as_socket", SocketKind::L3),
            ("numa_node_as_socket,l3cache_as_socket", SocketKind::L3),
        ] {
            let text = format!("SlurmdParameters={value}\n");
            for release in ["22.05.8", "26.05.3"] {
                let own = parameters(&text, None, Some(release));
                assert_eq!(own.socket_kind(), kind, "{value}");
            }
        }
    }

    #[test]
    fn a_nodes_own_parameters_and_slurmds_option_count_from_25_11_on() {
        let text = "SlurmdParameters=config_overrides\nNodeName=n1 Parameters=numa_node_as_socket\n\
                    NodeName=n2 Parameters=l3cache_as_socket\n";
        for (release, kind) in [
            (Some("25.05.8"), SocketKind::Package),
            (Some("25.11.0"), SocketKind::NumaNode),
            (Some("26.11"), SocketKind::NumaNode),
            (None, SocketKind::NumaNode),
        ] {
            let own = parameters(text, None, release);
            assert_eq!(own.socket_kind(), kind, "{release:?}");
            assert!(own.overrides_machine());
            let kind = if kind == SocketKind::Package {
                kind
            } else {
                SocketKind::L3
            };
            let own = parameters(text, Some("l3cache_as_socket"), release);
            assert_eq!(own.socket_kind(), kind, "{release:?}");
        }
        let defaults = "NodeName=DEFAULT Parameters=l3cache_as_socket\nNodeName=n1\n";
        let own = parameters(defaults, None, Some("25.11"));
        assert_eq!(own.socket_kind(), SocketKind::L3);
        assert!(!own.overrides_machine());
    }

    #[test]
    fn ecores_are_left_out_from_23_02_on_unless_allowed() {
        for (text, release, left_out) in [
            ("", Some("22.05.8"), false),
            ("", Some("23.02"), true),
            ("", Some("26.05.3"), true),
            ("", None, true),
            ("SlurmdParameters=allow_ecores\n", Some("23.02"), false),
            ("SlurmdParameters=allow_ecores\n", None, false),
        ] {
            let own = parameters(text, None, release);
            let release = release.and_then(Release::find);
            assert_eq!(
                own.leaves_out_ecores(release),
                left_out,
                "{text} {release:?}"
            );
        }
    }

    #[test]
    fn slurmds_option_is_found_in_its_environment_file() {
        for (text, value) in [
            (
                "SLURMD_OPTIONS=\"-M --parameters=l3cache_as_socket\"\n",
                Some("l3cache_as_socket"),
            ),
            (
                "SLURMD_OPTIONS='--parameters numa_node_as_socket -v'",
                Some("numa_node_as_socket"),
            ),
            ("SLURMD_OPTIONS=--parameters=a --parameters=b", Some("b")),
            ("# SLURMD_OPTIONS=--parameters=a\nSLURMD_OPTIONS=-v\n", None),
            ("SLURMD_OPTIONS=\"--parameters\"", None),
            ("", None),
        ] {
            assert_eq!(option_of(text).as_deref(), value, "{text}");
        }
    }
}
