//! What the site says in plugstack.conf (`optional gpu_numa_bind.so [ARG...]`), and what holds once option,
//! environment and site are put together.

use std::path::{Path, PathBuf};

use topology::option::{
    Item, ItemKind, Items, Nccl, OptionError, Policy, Settings, Verbosity, printable,
};
use topology::snapshot::DIRECTORY;

/// The variable with items that complete the option's.
pub const VARIABLE: &str = "GPU_NUMA_BIND";

/// What the site says.
#[derive(Debug, Clone)]
pub struct SiteConfig {
    /// `always=ITEMS`: binding is on for every step.
    pub always: Option<Items>,
    /// `default=ITEMS`: what fills in when binding is asked for.
    pub default: Items,
    /// `lock=KIND[,KIND]`: kinds of item that a user cannot choose.
    pub locked: Vec<ItemKind>,
    /// `strict_batch`: strict policies may refuse a batch script's own step.
    pub strict_batch: bool,
    /// `summary`: a line at the end of each step for which binding was asked.
    pub summary: bool,
    /// `snapshot=DIR`: where the snapshot service writes.
    pub directory: PathBuf,
    /// Arguments that were not understood, or parts of them; they are left out.
    pub problems: Vec<ArgumentError>,
}

/// Why an argument, or a part of it, is left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// An item of `always=` or `default=`.
    #[error("{key}=: {error}")]
    Item {
        /// The argument.
        key: &'static str,
        /// What is wrong with the item.
        error: OptionError,
    },
    /// A word of `lock=` that is no kind of item.
    #[error("lock={0}: expected {kinds}", kinds = ItemKind::ALL.map(ItemKind::name).join(", "))]
    Kind(String),
    /// A snapshot folder that is relative.
    #[error("\"snapshot={0}\": expected an absolute path")]
    Relative(String),
    /// Anything else.
    #[error(
        "unknown argument \"{0}\"; expected always=, default=, lock=, snapshot=, strict_batch or summary"
    )]
    Unknown(String),
}

impl Default for SiteConfig {
    fn default() -> Self {
        Self {
            always: None,
            default: Items::default(),
            locked: Vec::new(),
            strict_batch: false,
            summary: false,
            directory: PathBuf::from(DIRECTORY),
            problems: Vec::new(),
        }
    }
}

impl SiteConfig {
    /// Reads the arguments; of a list whatever is good, so that a slip costs no more than itself.
    pub fn parse<A: AsRef<str>>(arguments: &[A]) -> Self {
        let mut config = Self::default();
        for argument in arguments {
            config.take(argument.as_ref());
        }
        config
    }

    fn take(&mut self, argument: &str) {
        match argument.split_once('=') {
            Some(("always", text)) => self.always = Some(self.items("always", text)),
            Some(("default", text)) => self.default = self.items("default", text),
            Some(("lock", kinds)) => self.lock(kinds),
            Some(("snapshot", directory)) if Path::new(directory).is_absolute() => {
                self.directory = PathBuf::from(directory);
            }
            Some(("snapshot", directory)) => {
                self.problems
                    .push(ArgumentError::Relative(printable(directory)));
            }
            None if argument == "strict_batch" => self.strict_batch = true,
            None if argument == "summary" => self.summary = true,
            Some(_) | None => self
                .problems
                .push(ArgumentError::Unknown(printable(argument))),
        }
    }

    fn items(&mut self, key: &'static str, text: &str) -> Items {
        let (items, problems) = Items::parse_leniently(text);
        let problems = problems.into_iter();
        self.problems
            .extend(problems.map(|error| ArgumentError::Item { key, error }));
        items
    }

    fn lock(&mut self, kinds: &str) {
        for name in kinds
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            match ItemKind::ALL.into_iter().find(|kind| kind.name() == name) {
                Some(kind) => self.locked.push(kind),
                None => self.problems.push(ArgumentError::Kind(printable(name))),
            }
        }
    }

    /// Puts the option (`given`), `GPU_NUMA_BIND` (`variable`) and the site together; none where binding is asked for
    /// by neither user nor site.
    pub fn resolve(&self, given: Option<&str>, variable: Option<&str>) -> Option<Asked> {
        if given.is_none() && self.always.is_none() {
            return None;
        }
        let (mut user, mut problems) = user_items(given.unwrap_or_default(), variable);
        let own = user.of(ItemKind::Policy);
        let locked = user.drop_kinds(&self.locked).into_iter();
        problems.extend(locked.map(AskedProblem::Locked));
        let site = self.always.clone().unwrap_or_default().or(&self.default);
        let all = user.or(&site);
        let mut settings = Settings::from(&all);
        // Only a user who asked is told that all is well.
        if given.is_none() && all.of(ItemKind::Report).is_none() {
            settings.report = Verbosity::Quiet;
        }
        let lost_policy = match own {
            Some(Item::Policy(own)) if own.is_strict() && settings.policy == Policy::Off => {
                Some(own)
            }
            _ => None,
        };
        Some(Asked {
            settings,
            site_nccl: site.nccl(),
            problems,
            lost_policy,
        })
    }
}

/// The user's items, with what was not understood of them.
fn user_items(option: &str, variable: Option<&str>) -> (Items, Vec<AskedProblem>) {
    let mut problems = Vec::new();
    let mut read = |place, text| {
        let (items, odd) = Items::parse_leniently(text);
        let odd = odd.into_iter();
        problems.extend(odd.map(|error| AskedProblem::Item { place, error }));
        items
    };
    let option = read(ItemSource::Option, option);
    let items = option.or(&read(ItemSource::Variable, variable.unwrap_or_default()));
    (items, problems)
}

/// What holds where there is no site: the option, completed by `GPU_NUMA_BIND` (`variable`).
pub fn asked_without_site(option: &str, variable: Option<&str>) -> Asked {
    let (items, problems) = user_items(option, variable);
    Asked {
        settings: Settings::from(&items),
        site_nccl: None,
        problems,
        lost_policy: None,
    }
}

/// What holds for a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Every kind decided.
    pub settings: Settings,
    /// `nccl=` as the site itself says it.
    pub site_nccl: Option<Nccl>,
    /// What was not understood or not allowed.
    pub problems: Vec<AskedProblem>,
    /// A strict policy of the user's where the site has turned binding off and locked that; none where nothing of the
    /// kind was asked for.
    pub lost_policy: Option<Policy>,
}

/// Where a user's items stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemSource {
    /// After `--gpu-numa-bind=`.
    Option,
    /// In the variable `GPU_NUMA_BIND`.
    Variable,
}

impl ItemSource {
    fn word(self) -> &'static str {
        match self {
            Self::Option => "--gpu-numa-bind",
            Self::Variable => VARIABLE,
        }
    }
}

/// An item of the user's that does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskedProblem {
    /// It is not understood.
    #[error("{}: {error}; left out", place.word())]
    Item {
        /// Where it stands.
        place: ItemSource,
        /// What is wrong with it.
        error: OptionError,
    },
    /// The site locked its kind.
    #[error("this site decides the {0} itself; yours is left out")]
    Locked(ItemKind),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(arguments: &[&str]) -> Vec<String> {
        let problems = SiteConfig::parse(arguments).problems.into_iter();
        problems.map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn every_argument_is_read() {
        let arguments = [
            "always=node,quiet",
            "default=mem=bind",
            "lock=policy, width,",
            "strict_batch",
            "summary",
            "snapshot=/srv/x",
        ];
        let config = SiteConfig::parse(&arguments);
        assert_eq!(config.always, Items::parse("node,quiet").ok());
        assert_eq!(config.default, Items::parse("mem=bind").unwrap());
        assert_eq!(config.locked, [ItemKind::Policy, ItemKind::Width]);
        assert!(config.strict_batch && config.summary && config.directory == Path::new("/srv/x"));
        assert!(config.problems.is_empty());
    }

    #[test]
    fn of_a_list_only_what_is_wrong_is_left_out() {
        let config = SiteConfig::parse(&["always=node,bogus", "lock=policy,speed"]);
        assert_eq!(config.always, Items::parse("node").ok());
        assert_eq!(config.locked, [ItemKind::Policy]);
        let said = problems(&["always=node,bogus", "lock=policy,speed"]);
        assert!(said[0].starts_with("always=: unknown item \"bogus\"; expected off,"));
        assert!(said[1].starts_with("lock=speed: expected policy, width, mem,"));
    }

    #[test]
    fn relative_folders_and_unknown_arguments_are_said() {
        assert_eq!(
            problems(&["snapshot=run", "strict-batch"]),
            [
                "\"snapshot=run\": expected an absolute path",
                "unknown argument \"strict-batch\"; expected always=, default=, lock=, snapshot=, strict_batch or summary"
            ]
        );
    }

    #[test]
    fn the_option_wins_over_the_variable_and_that_over_the_site() {
        let config = SiteConfig::parse(&["always=l3,mem=bind,nccl=topo", "default=map=visible"]);
        let asked = config
            .resolve(Some("node"), Some("socket,restricted"))
            .unwrap();
        let expected = Items::parse("node,restricted,mem=bind,nccl=topo,map=visible").unwrap();
        assert_eq!(asked.settings, Settings::from(&expected));
        assert_eq!(asked.site_nccl, Some(Nccl::Topo));
        assert!(asked.problems.is_empty());
    }

    #[test]
    fn the_variable_alone_asks_for_nothing_and_a_site_for_all_steps_quietly() {
        assert_eq!(SiteConfig::default().resolve(None, Some("node")), None);
        let always = SiteConfig::parse(&["always="]);
        let asked = always.resolve(None, None).unwrap();
        assert_eq!(
            (asked.settings.policy, asked.settings.report),
            (Policy::BestEffort, Verbosity::Quiet)
        );
        assert_eq!(
            always.resolve(Some(""), None).unwrap().settings.report,
            Verbosity::Line
        );
    }

    #[test]
    fn locked_kinds_and_bad_items_are_said() {
        let config = SiteConfig::parse(&["default=restricted", "lock=policy"]);
        let asked = config.resolve(Some("none,x"), Some("mem=y")).unwrap();
        assert_eq!(asked.settings.policy, Policy::Restricted);
        let said: Vec<String> = asked.problems.iter().map(ToString::to_string).collect();
        assert!(said[0].starts_with("--gpu-numa-bind: unknown item \"x\""));
        assert!(
            said[1].starts_with("GPU_NUMA_BIND: \"mem=y\": expected")
                && said[1].ends_with("; left out")
        );
        assert_eq!(
            said[2],
            "this site decides the policy itself; yours is left out"
        );
    }

    #[test]
    fn a_strict_policy_that_the_site_takes_away_is_kept_to_be_said() {
        let off = SiteConfig::parse(&["always=off,quiet", "lock=policy"]);
        let lost = |given| off.resolve(given, None).unwrap().lost_policy;
        assert_eq!(lost(Some("restricted")), Some(Policy::Restricted));
        assert_eq!(
            lost(Some("single-numa-node,node")),
            Some(Policy::SingleNumaNode)
        );
        assert_eq!(lost(Some("best-effort")), None);
        assert_eq!(lost(None), None);
        // Who turns it off himself knows.
        let strict = SiteConfig::parse(&["always=restricted"]);
        assert_eq!(strict.resolve(Some("off"), None).unwrap().lost_policy, None);
    }
}
