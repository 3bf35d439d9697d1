//! What slurm.conf needs of the host: looked at where the host's files are there, and said not to be checked where they are not.

use slurm_config::config::{self, Statement};
use slurm_config::demands::{self, Need, Stops, Wanted};
use slurm_config::plugins::Unseen;
use slurm_config::release::Release;

use super::slurm::Slurm;

/// What is known of something that must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    There,
    Missing,
    Open,
}

/// The services of users in nsswitch.conf with which /etc/passwd has them all.
const FILES_ALONE: [&str; 2] = ["files", "compat"];

/// Those that are not there.
pub(super) fn missing<'a>(slurm: &Slurm, needs: Vec<Need<'a>>) -> Vec<Need<'a>> {
    let needs = needs.into_iter();
    needs
        .filter(|need| state_of(slurm, need) == State::Missing)
        .collect()
}

/// Those of which nothing is known, each with what follows where they are not there.
pub(super) fn open(slurm: &Slurm, needs: &[Need<'_>], unseen: &[Unseen<'_>]) -> Vec<String> {
    let needs = needs.iter();
    let needs = needs.filter(|need| state_of(slurm, need) == State::Open);
    let of_host = needs.map(|need| {
        let is_there = is_beside(slurm, need.wanted) == Some(true);
        let says = if is_there { "what is in " } else { "" };
        let what = format!("{}: {says}{}", need.line.place(), words_of(need));
        (what, need.stops)
    });
    let of_plugins = unseen.iter().map(|own| {
        let what = format!(
            "{}: the plugin of {}={}",
            own.line.place(),
            own.key,
            own.name
        );
        (what, own.stops)
    });
    let all = of_host.chain(of_plugins);
    all.map(|(what, stops)| {
        let who = match stops {
            Stops::All => "no daemon starts",
            Stops::Slurmctld => "slurmctld does not start",
            Stops::Slurmd => "slurmd does not start",
            Stops::Submission => "srun, salloc and sbatch do not run",
            Stops::Srun => "srun without --mpi= does not run",
            Stops::EverySrun => "srun does not run",
        };
        format!("{what} ({who} without it)")
    })
    .collect()
}

/// A topology.yaml that no key of slurm.conf asks for, by which the daemons go where it is there (`topology_g_init`,
/// interfaces/topology.c).
pub(super) fn open_topology(
    slurm: &Slurm,
    release: Option<Release>,
    needs: &[Need<'_>],
) -> Option<String> {
    let is_asked_for = needs.iter().any(
        |need| matches!(need.wanted, Wanted::FileBeside(files) if files.contains(&TOPOLOGIES)),
    );
    let reads = slurm.looks_for_needs() && release.is_none_or(demands::reads_topologies);
    let is_there = || slurm.has_beside(TOPOLOGIES) == Some(true);
    (reads && !is_asked_for && is_there()).then(|| {
        format!(
            "what is in {}, which newer releases read whatever TopologyPlugin= says (no daemon starts where it is wrong)",
            slurm.beside(TOPOLOGIES)
        )
    })
}

/// The file of a cluster's topologies.
const TOPOLOGIES: &str = "topology.yaml";

/// `the user slurm of SlurmUser=`.
pub(super) fn words_of(need: &Need<'_>) -> String {
    let Need { key, name, .. } = need;
    match need.wanted {
        Wanted::User => format!("the user {name} of {key}="),
        Wanted::StartedBy => format!("{key}={name}: that slurmd is started by this user"),
        Wanted::Folder => format!("the folder {name} of {key}="),
        Wanted::FileBeside(files) => {
            format!("{} beside slurm.conf for {key}={name}", files.join(" or "))
        }
        Wanted::TopologyLine(line) => {
            format!("a line {line}= in topology.conf for {key}={name}")
        }
        Wanted::Database => {
            format!("an answer of slurmdbd for {key}={name}, or what slurmctld kept of one")
        }
        Wanted::Qos => format!("the QOS of {key}={name} in slurmdbd"),
        Wanted::JwtKey => format!(
            "on slurmctld's host a key for {key}={name}, which AuthAltParameters= names, else jwt_hs256.key in StateSaveLocation"
        ),
        Wanted::SlurmKey(files) => format!(
            "{} beside slurm.conf for {key}={name}, or the key that SLURM_SACK_KEY names to the daemon",
            files.join(" or ")
        ),
        Wanted::Topology => {
            format!(
                "what {key}={name}, and each {key}= after it, names in slurmctld's topology.yaml or topology.conf"
            )
        }
    }
}

/// Whether one of the files that are wanted beside slurm.conf is there; None where a recording lacks them, or where no file is wanted.
fn is_beside(slurm: &Slurm, wanted: Wanted) -> Option<bool> {
    let Wanted::FileBeside(files) = wanted else {
        return None;
    };
    let known: Vec<Option<bool>> = files.iter().map(|file| slurm.has_beside(file)).collect();
    if known.contains(&Some(true)) {
        Some(true)
    } else {
        known.first().copied().flatten()
    }
}

fn state_of(slurm: &Slurm, need: &Need<'_>) -> State {
    let of = |is_there: Option<bool>| match is_there {
        Some(true) => State::There,
        Some(false) => State::Missing,
        None => State::Open,
    };
    match need.wanted {
        Wanted::User => of(has_user(slurm, need.name)),
        Wanted::Folder => of(slurm.host_has_all(need.name)),
        // What else is in the file is not looked at.
        Wanted::FileBeside(_) => match is_beside(slurm, need.wanted) {
            Some(false) => State::Missing,
            Some(true) | None => State::Open,
        },
        Wanted::TopologyLine(key) => state_of_topology(slurm, key),
        // One of a daemon's own may be anywhere.
        Wanted::SlurmKey(files) => {
            let is_there = files
                .iter()
                .any(|file| slurm.has_beside(file) == Some(true));
            if is_there { State::There } else { State::Open }
        }
        Wanted::Database | Wanted::JwtKey | Wanted::Qos | Wanted::StartedBy | Wanted::Topology => {
            State::Open
        }
    }
}

/// Whether topology.conf has a line with a key; it need not where it is not there, of which another need says what follows, or
/// topology.yaml stands in its place.
fn state_of_topology(slurm: &Slurm, key: &str) -> State {
    if slurm.has_beside("topology.yaml") == Some(true) {
        return State::There;
    }
    let path = slurm.beside("topology.conf");
    let Ok(text) = slurm.tree.read(&path) else {
        return State::There;
    };
    let key = key.to_ascii_lowercase();
    let mut lines = config::parse(&text, &path).into_iter();
    let may_have = |statement: Statement| match statement {
        Statement::Line(line) => line.get(&key).is_some(),
        Statement::Include { .. } => true,
    };
    if lines.any(may_have) {
        State::There
    } else {
        State::Missing
    }
}

/// Whether a host has a user; None where another place than /etc/passwd may know it.
fn has_user(slurm: &Slurm, name: &str) -> Option<bool> {
    let host = slurm.host.as_ref()?;
    let users = host.text("/etc/passwd")?;
    let is_own = |line: &str| {
        let mut fields = line.split(':');
        fields.next() == Some(name) || fields.nth(1) == Some(name)
    };
    if users.lines().any(is_own) {
        return Some(true);
    }
    let services = host.text("/etc/nsswitch.conf")?;
    let line = services
        .lines()
        .find_map(|line| line.strip_prefix("passwd:"))?;
    let mut services = line.split_whitespace();
    services
        .all(|own| FILES_ALONE.contains(&own))
        .then_some(false)
}
