//! What slurmd is told of a host beside its hardware: SlurmdParameters, a node's own `Parameters=`, and the
//! option `--parameters` of slurmd.

use topology::text::nearest;

use crate::config::{Line, last};
use crate::cores::SocketKind;
use crate::node::Node;
use crate::options::{LETTER_THAT_MAY_HAVE, LETTERS_WITH_VALUE, LONG, LongOption};
use crate::release::Release;
use crate::rules::Series;

/// The words that slurmd looks for (`parse_slurmd_params`, common/read_config.c; `shutdown_on_reboot` and `conmgr_` elsewhere in
/// slurmd), the same from 25.05 to 26.11; earlier releases have fewer.
const WORDS: [&str; 7] = [
    "allow_ecores",
    "config_overrides",
    "conmgr_",
    "contain_spank",
    "l3cache_as_socket",
    "numa_node_as_socket",
    "shutdown_on_reboot",
];

/// The words of a SlurmdParameters= or `Parameters=` in which slurmd of no release finds one that it knows, each with the one that it may
/// be meant for.
pub fn unknown_words(value: &str) -> Vec<(&str, Option<&'static str>)> {
    let knows = |word: &str| {
        let lower = word.to_ascii_lowercase();
        // slurmd looks for it without the last letter.
        lower.contains("config_override") || WORDS.iter().any(|own| lower.contains(own))
    };
    let words = value.split(',').map(str::trim);
    let unknown = words.filter(|word| !word.is_empty() && !knows(word));
    unknown
        .map(|word| (word, nearest(&word.to_ascii_lowercase(), WORDS.into_iter())))
        .collect()
}

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

/// The word that makes `kind` a socket; None for packages.
pub fn word_of(kind: SocketKind) -> Option<&'static str> {
    match kind {
        SocketKind::Package => None,
        SocketKind::NumaNode => Some("numa_node_as_socket"),
        SocketKind::L3 => Some("l3cache_as_socket"),
    }
}

/// Where a word that makes something else a socket goes, with the words that are there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketWord {
    /// `Parameters=` of the node's line, for this node alone.
    OfNode(String),
    /// `SlurmdParameters=`, for every node of the cluster.
    OfCluster(String),
}

impl SocketWord {
    /// For a Slurm of `release`: on the node's line where the release has that, unless all nodes are told so already; where the
    /// release is not known, as every release takes it.  None for packages, which need no word.
    pub fn of(
        kind: SocketKind,
        conf: &[Line],
        node: Option<&Node>,
        release: Option<Release>,
    ) -> Option<Self> {
        let word = word_of(kind)?;
        let of_cluster = last(conf, "slurmdparameters").map_or("", |(value, _)| value);
        let of_node = node
            .and_then(|node| node.whole.get("parameters"))
            .unwrap_or_default();
        let has = |value: &str| value.to_ascii_lowercase().contains(word);
        let with = |value: &str| {
            let words = value.split(',').map(str::trim);
            // Of two such words slurmd takes one.
            let mut words: Vec<&str> = words
                .filter(|own| !own.is_empty() && !own.to_ascii_lowercase().contains("_as_socket"))
                .collect();
            words.push(word);
            words.join(",")
        };
        let has_own = release.is_some_and(|release| Series::of(release).has_node_parameters);
        // On the node's line of a release that does not have it, it is no word.
        let takes_own = release.is_none() || has_own;
        Some(
            if takes_own && has(of_node) || has_own && !has(of_cluster) {
                Self::OfNode(with(of_node))
            } else {
                Self::OfCluster(with(of_cluster))
            },
        )
    }
}

/// Whether `CoreSpecCount=` takes the first cores of sockets instead of the last: slurmd looks for the word anywhere in
/// `SchedulerParameters=` (`_select_spec_cores`, slurmd/slurmd.c, in all of the table).
pub fn takes_first_cores(conf: &[Line]) -> bool {
    let value = last(conf, "schedulerparameters").map_or("", |(value, _)| value);
    value.to_ascii_lowercase().contains("spec_cores_first")
}

/// Where slurmd takes its slurm.conf from, and with it the files beside that (`_establish_configuration`, slurmd/slurmd.c): the first of
/// these that is given, in every release from 22.05 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfSource<'a> {
    /// The folder of its copies of slurmctld's files, which slurmd hands on to itself when it is reconfigured (from 23.11 on).
    Kept(&'a str),
    /// slurmctld, which `--conf-server` names: files of the host do not count, not even that of `-f`.
    Server,
    /// The file that `-f` names.
    File(&'a str),
    /// The file that SLURM_CONF names in slurmd's environment.
    Environment(&'a str),
    /// The file that Slurm was built for where that is there; else slurmctld, as SLURM_CONF_SERVER or the DNS names it.
    Default,
}

/// The words of slurmd's command line, and its environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlurmdOptions {
    words: Vec<String>,
    /// Names and values; of two of a name the last counts.
    environment: Vec<(String, String)>,
}

impl SlurmdOptions {
    /// Of a running process: `/proc/PID/cmdline`.
    pub fn of_command_line(bytes: &[u8]) -> Self {
        let words = bytes.split(|byte| *byte == 0).skip(1);
        Self {
            words: words
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .filter(|word| !word.is_empty())
                .collect(),
            environment: Vec::new(),
        }
    }

    /// With the environment that a running process was started with: `/proc/PID/environ`.
    #[must_use]
    pub fn with_environment(mut self, bytes: &[u8]) -> Self {
        let pairs = bytes.split(|byte| *byte == 0).filter_map(|pair| {
            let pair = String::from_utf8_lossy(pair);
            let (name, value) = pair.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        self.environment = pairs.collect();
        self
    }

    /// With the environment of others in place of its own.
    #[must_use]
    pub fn with_environment_of(mut self, others: Self) -> Self {
        self.environment = others.environment;
        self
    }

    /// Of slurmd's service, whose unit and drop-ins are `texts` in order, as systemd starts it: the last `ExecStart=`, an empty one of
    /// which takes back those before, with the values of its variables in their place; `EnvironmentFile=`, which `read` reads, counts
    /// above `Environment=`, and of two files the later (systemd.exec(5), systemd.service(5)).  None where no line starts anything.
    pub fn of_service(texts: &[String], read: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let mut started = None;
        let (mut environment, mut files) = (Vec::new(), Vec::new());
        for line in texts.iter().flat_map(|text| unit_lines(text)) {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            match (key.trim(), value.trim()) {
                ("ExecStart", "") => started = None,
                ("ExecStart", value) => started = Some(value.to_owned()),
                ("Environment", "") => environment.clear(),
                ("Environment", value) => environment.extend(pairs_of(split(value))),
                ("EnvironmentFile", "") => files.clear(),
                ("EnvironmentFile", value) => {
                    // A dash says that the file need not be there.
                    files.push(value.trim_start_matches('-').trim_matches('"').to_owned());
                }
                _ => {}
            }
        }
        let started = started?;
        for file in files {
            let text = read(&file).unwrap_or_default();
            environment.extend(pairs_of_file(&text));
        }
        Some(Self {
            words: expand(&started, &environment),
            environment,
        })
    }

    /// The value of `--parameters`; the last where it is given twice.
    pub fn parameters(&self) -> Option<&str> {
        self.value("parameters")
    }

    /// The node's name where slurmd is told it (`-N`); None where it goes by the host's.
    pub fn node_name(&self) -> Option<&str> {
        // systemd's `%n` and the like are not the name itself.
        self.value("N").filter(|name| !name.contains(['%', '$']))
    }

    /// What the node says of itself where it is dynamic (`-Z`): the words of `--conf`, which a NodeName line would have, empty
    /// where there are none; None for a node of slurm.conf.
    pub fn dynamic(&self) -> Option<&str> {
        self.value("Z")?;
        Some(self.value("conf").unwrap_or_default())
    }

    /// The first option that slurmd of `release` does not have, and since when it is there.  `--systemd` is left out: it stands in
    /// the unit file, which comes with each Slurm.
    pub fn unknown_to(&self, release: Release) -> Option<(&'static str, Release)> {
        let given = self.given();
        let mut later = LONG.into_iter().filter(|own| {
            own.since > release.series()
                && own.name != "systemd"
                && given.iter().any(|(name, _)| *name == own.name)
        });
        let first = later.next()?;
        Some((first.name, Release::from(first.since)))
    }

    /// Where slurmd takes its slurm.conf from.
    pub fn conf_source(&self) -> ConfSource<'_> {
        if let Some(folder) = self.variable("SLURMD_RECONF_CONF_CACHE") {
            ConfSource::Kept(folder)
        } else if self.names_server() {
            ConfSource::Server
        } else if let Some(file) = self.value("f") {
            ConfSource::File(file)
        } else if let Some(file) = self.variable("SLURM_CONF") {
            ConfSource::Environment(file)
        } else {
            ConfSource::Default
        }
    }

    /// Whether `--conf-server` is given.
    pub fn names_server(&self) -> bool {
        self.value("conf-server").is_some()
    }

    /// A variable of the environment; None where it is not set or empty.
    fn variable(&self, name: &str) -> Option<&str> {
        let mut set = self.environment.iter().rev();
        let (_, value) = set.find(|(own, _)| own == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// The value of an option by its letter or its long name, empty where it takes none; the last where it is given twice.
    fn value(&self, name: &str) -> Option<&str> {
        let mut given = self.given().into_iter().rev();
        given.find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// The options with their values, as `getopt_long(3)` takes them from the words.
    fn given(&self) -> Vec<(&str, &str)> {
        let mut given = Vec::new();
        let mut words = self.words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            if let Some(long) = word.strip_prefix("--") {
                let (name, attached) = long
                    .split_once('=')
                    .map_or((long, None), |(name, value)| (name, Some(value)));
                let Some(option) = LongOption::find(name) else {
                    continue;
                };
                let value = match attached {
                    None if option.takes_value => words.next(),
                    None => Some(""),
                    Some(value) => Some(value),
                };
                given.extend(value.map(|value| (option.name, value)));
            } else if let Some(letters) = word.strip_prefix('-') {
                let mut rest = letters;
                while let Some(letter) = rest.chars().next() {
                    let (name, behind) = rest.split_at(letter.len_utf8());
                    rest = behind;
                    if LETTERS_WITH_VALUE.contains(&letter) {
                        let attached = Some(behind).filter(|value| !value.is_empty());
                        given.extend(attached.or_else(|| words.next()).map(|value| (name, value)));
                        break;
                    }
                    if letter == LETTER_THAT_MAY_HAVE {
                        break;
                    }
                    given.push((name, ""));
                }
            }
        }
        given
    }
}

/// The variables of an environment file.
fn pairs_of_file(text: &str) -> Vec<(String, String)> {
    let lines = unit_lines(text);
    let pairs = lines.iter().filter_map(|line| line.split_once('='));
    // The value is quoted as a whole, and its words may be quoted again.
    pairs
        .map(|(name, value)| (name.trim().to_owned(), split(value).join(" ")))
        .collect()
}

/// The variables of words, as `Environment=` has them.
fn pairs_of(words: Vec<String>) -> impl Iterator<Item = (String, String)> {
    words.into_iter().filter_map(|word| {
        let (name, value) = word.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    })
}

/// The words behind the program of an `ExecStart=`, with variables' values: `$NAME`, a word of its own, becomes the value's words, and
/// `${NAME}` the value within its word; what is not set is nothing.
fn expand(command: &str, environment: &[(String, String)]) -> Vec<String> {
    let value = |name: &str| {
        let mut set = environment.iter().rev();
        let found = set.find(|(own, _)| own == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let mut words = Vec::new();
    for word in split(command) {
        let name = word.strip_prefix('$');
        let name = name.filter(|name| !name.is_empty() && name.chars().all(is_of_name));
        match name {
            Some(name) => words.extend(split(value(name))),
            None => words.push(expand_braces(&word, value)),
        }
    }
    // What stands before the program has signs of systemd's, or is a program that starts it.
    let is_slurmd = |word: &String| {
        let program = word.trim_start_matches(['@', '-', ':', '+', '!', '|']);
        program.rsplit('/').next() == Some("slurmd")
    };
    let program = words.iter().position(is_slurmd).unwrap_or(0);
    words.split_off((program + 1).min(words.len()))
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// A word with the value of each `${NAME}`.
fn expand_braces<'a>(word: &str, value: impl Fn(&str) -> &'a str) -> String {
    let mut expanded = String::new();
    let mut rest = word;
    while let Some((before, behind)) = rest.split_once("${") {
        let Some((name, after)) = behind.split_once('}') else {
            break;
        };
        expanded.push_str(before);
        expanded.push_str(value(name));
        rest = after;
    }
    expanded.push_str(rest);
    expanded
}

/// The lines of a unit file, those that end in a backslash joined with the next.
fn unit_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('#') || line.starts_with(';') {
            continue;
        }
        let (own, goes_on) = line
            .strip_suffix('\\')
            .map_or((line, false), |own| (own, true));
        match lines.last_mut().filter(|_| is_open) {
            Some(last) => {
                last.push(' ');
                last.push_str(own);
            }
            None => lines.push(own.to_owned()),
        }
        is_open = goes_on;
    }
    lines
}

/// The words of a text, of which quotes hold some together; a quote may begin within a word.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            Some(_) | None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_that_slurmd_does_not_look_for_are_found() {
        assert_eq!(
            unknown_words(
                "numa_nodes_as_socket,Allow_ECores,config_override,conmgr_threads=4,colour"
            ),
            [
                ("numa_nodes_as_socket", Some("numa_node_as_socket")),
                ("colour", None)
            ]
        );
        assert_eq!(unknown_words("xnuma_node_as_sockets, "), []);
    }

    #[test]
    fn a_socket_word_goes_where_the_release_takes_it() {
        let word = |conf: &str, release: &str| {
            let conf = crate::config::of_text(conf, "f");
            let node = crate::node::find(&conf, None);
            SocketWord::of(
                SocketKind::NumaNode,
                &conf,
                node.as_ref(),
                Release::find(release),
            )
            .unwrap()
        };
        let of_node = |value: &str| SocketWord::OfNode(value.to_owned());
        let of_cluster = |value: &str| SocketWord::OfCluster(value.to_owned());
        let line = "NodeName=n1 CPUs=2\n";
        let told = "NodeName=n1 CPUs=2\nSlurmdParameters=allow_ecores,numa_node_as_socket\n";
        for (conf, release, expected) in [
            (line, "24.11", of_cluster("numa_node_as_socket")),
            (line, "", of_cluster("numa_node_as_socket")),
            (line, "25.11", of_node("numa_node_as_socket")),
            (
                told,
                "25.11",
                of_cluster("allow_ecores,numa_node_as_socket"),
            ),
            (
                "NodeName=n1 Parameters=allow_ecores,l3cache_as_socket\n",
                "25.11",
                of_node("allow_ecores,numa_node_as_socket"),
            ),
        ] {
            assert_eq!(word(conf, release), expected, "{conf} {release}");
        }
    }

    use super::*;
    use crate::config::of_text;
    use crate::node;

    /// As a service starts slurmd that takes every variable of a file.
    fn of_environment_file(text: &str) -> SlurmdOptions {
        let names: Vec<String> = pairs_of_file(text)
            .into_iter()
            .map(|(name, _)| format!("${name}"))
            .collect();
        let unit = format!("EnvironmentFile=f\nExecStart=slurmd {}\n", names.join(" "));
        SlurmdOptions::of_service(&[unit], |_| Some(text.to_owned())).unwrap()
    }

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
    fn slurmd_may_be_told_its_nodes_name() {
        for (text, name) in [
            ("SLURMD_OPTIONS=\"-N n7 -D\"", Some("n7")),
            ("SLURMD_OPTIONS=-Nn7", Some("n7")),
            ("SLURMD_OPTIONS=\"-D -s\"", None),
            ("SLURMD_OPTIONS=\"-N %i\"", None),
        ] {
            let options = of_environment_file(text);
            assert_eq!(options.node_name(), name, "{text}");
        }
    }

    #[test]
    fn slurmd_takes_its_configuration_from_the_first_place_that_is_given() {
        let server = ConfSource::Server;
        for (text, source) in [
            ("O=-D", ConfSource::Default),
            ("O=\"--conf-server head:6817\"", server),
            ("O=--conf-server=head,head2:6817", server),
            ("O=\"-D --conf-s head -f /a\"", server),
            ("O=\"--conf -f --systemd\"", ConfSource::Default),
            ("O=\"--conf-server\"", ConfSource::Default),
            ("O=\"-Df/a/slurm.conf\"", ConfSource::File("/a/slurm.conf")),
            ("O=\"-f /a -vsf /b\"", ConfSource::File("/b")),
            ("O=\"-Ff -N-f\"", ConfSource::Default),
            ("SLURM_CONF='/c'\nO=-v", ConfSource::Environment("/c")),
            ("SLURM_CONF=/c\nO=\"-f /a\"", ConfSource::File("/a")),
            ("SLURM_CONF=\nSLURM_CONF_SERVER=head", ConfSource::Default),
        ] {
            let own = of_environment_file(text);
            assert_eq!(own.conf_source(), source, "{text}");
        }
        let unit = "Environment=SLURM_CONF=/u\nExecStart=/usr/sbin/slurmd -D".to_owned();
        let unit = SlurmdOptions::of_service(&[unit], |_| None).unwrap();
        assert_eq!(unit.conf_source(), ConfSource::Environment("/u"));
        let running = SlurmdOptions::of_command_line(b"slurmd\0--conf-server=h\0");
        let both = running.clone().with_environment_of(unit);
        assert_eq!(both.conf_source(), server);
        let kept = running.with_environment(b"A=1\0SLURMD_RECONF_CONF_CACHE=/s/conf-cache\0");
        assert_eq!(kept.conf_source(), ConfSource::Kept("/s/conf-cache"));
        assert!(kept.names_server());
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
            ("SLURMD_OPTIONS=--parametersx=a", None),
            ("", None),
        ] {
            let own = of_environment_file(text);
            assert_eq!(own.parameters(), value, "{text}");
        }
    }

    #[test]
    fn slurmds_option_is_found_in_its_unit_and_in_its_command_line() {
        let unit = "[Service]\nEnvironment=\"A=1\" 'SLURMD_OPTIONS=-v --parameters=e'\n\
                    ExecStart=/usr/sbin/slurmd --systemd \\\n  --parameters=l3cache_as_socket $SLURMD_OPTIONS\n";
        let own = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            SlurmdOptions::of_service(&texts, |_| None).unwrap()
        };
        assert_eq!(own(&[unit]).parameters(), Some("e"));
        let plain = unit.replace("Environment", "#Environment");
        assert_eq!(own(&[&plain]).parameters(), Some("l3cache_as_socket"));
        let reset = "[Service]\nExecStart=\nExecStart=/usr/sbin/slurmd -D\n";
        assert_eq!(own(&[&plain, reset]).parameters(), None);
        let running = SlurmdOptions::of_command_line(b"/usr/sbin/slurmd\0-D\0--parameters\0a,b\0");
        assert_eq!(running.parameters(), Some("a,b"));
    }

    /// The units of Slurm's own source (etc/slurmd.service.in, the same for this from 22.05 on) and what sites make of them.
    #[test]
    fn a_service_is_started_with_the_values_of_its_variables() {
        let unit = "[Service]\nType=notify\nEnvironmentFile=-/etc/sysconfig/slurmd\nEnvironmentFile=-/etc/default/slurmd\n\
                    ExecStart=/usr/sbin/slurmd --systemd $SLURMD_OPTIONS\n";
        let words = |texts: &[&str], sysconfig: &str, default: &str| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let read = |path: &str| {
                let text = match path {
                    "/etc/sysconfig/slurmd" => sysconfig,
                    "/etc/default/slurmd" => default,
                    _ => return None,
                };
                Some(text.to_owned())
            };
            let own = SlurmdOptions::of_service(&texts, read).unwrap();
            own.words.join("|")
        };
        let conf = "SLURMD_OPTIONS='--conf-server head:6817'\nOTHER=-N x\n";
        for (texts, sysconfig, default, expected) in [
            (vec![unit], "", "", "--systemd"),
            (vec![unit], conf, "", "--systemd|--conf-server|head:6817"),
            // The later file counts, and a variable that the line does not name counts for nothing.
            (vec![unit], conf, "SLURMD_OPTIONS=-v", "--systemd|-v"),
            (
                vec![
                    unit,
                    "[Service]\nEnvironmentFile=\nEnvironment=SLURMD_OPTIONS=-vv\n",
                ],
                conf,
                "",
                "--systemd|-vv",
            ),
            (
                vec![unit, "[Service]\nEnvironment=\"SLURMD_OPTIONS=-f /a b\"\n"],
                conf,
                "",
                "--systemd|--conf-server|head:6817",
            ),
            (
                vec![
                    unit,
                    "[Service]\nExecStart=\nExecStart=-/usr/bin/nice -n 5 /opt/slurm/sbin/slurmd -N ${NODE}-a -f ${CONF} $NONE\n",
                ],
                "NODE=n1\nCONF=\"/srv/my slurm.conf\"\n",
                "",
                "-N|n1-a|-f|/srv/my slurm.conf",
            ),
            (
                vec![unit],
                "",
                "# options\nSLURMD_OPTIONS=\"-Z \\\n --conf 'Gres=gpu:4 Feature=x'\"\n",
                "--systemd|-Z|--conf|Gres=gpu:4 Feature=x",
            ),
        ] {
            assert_eq!(words(&texts, sysconfig, default), expected, "{texts:?}");
        }
        let nothing = SlurmdOptions::of_service(&["[Service]\nType=simple\n".to_owned()], |_| None);
        assert_eq!(nothing, None);
    }

    #[test]
    fn options_of_later_releases_are_found() {
        let release = |text: &str| Release::find(text).unwrap();
        let own = of_environment_file("O=\"-Z --systemd --param=a --extra x\"");
        for (text, first) in [
            ("22.05", Some(("extra", release("23.11")))),
            ("25.05.8", Some(("parameters", release("25.11")))),
            ("25.11", None),
        ] {
            assert_eq!(own.unknown_to(release(text)), first, "{text}");
        }
    }

    #[test]
    fn a_dynamic_node_says_what_it_is_on_slurmds_command_line() {
        for (text, conf) in [
            (
                "O=\"-Z --conf 'Gres=gpu:4 Feature=x'\"",
                Some("Gres=gpu:4 Feature=x"),
            ),
            ("O=\"-DZ --conf=Gres=gpu:2\"", Some("Gres=gpu:2")),
            ("O=-Z", Some("")),
            ("O=\"--conf=Gres=gpu:2\"", None),
            ("O=--conf-serverZ", None),
        ] {
            let own = of_environment_file(text);
            assert_eq!(own.dynamic(), conf, "{text}");
        }
        let running = SlurmdOptions::of_command_line(b"slurmd\0-Z\0--conf\0Gres=gpu:4 CPUs=8\0");
        assert_eq!(running.dynamic(), Some("Gres=gpu:4 CPUs=8"));
    }
}
