//! How slurmd is started on a host, and by which slurm.conf it goes.

use std::collections::BTreeMap;
use std::path::Path;

use slurm_config::parameters::{ConfSource, SlurmdOptions};

use super::tree::Tree;

/// The slurm.conf that Slurm of the packages was built for.
const DEFAULT: &str = "/etc/slurm/slurm.conf";
/// That of Debian's packages of old; looked at last.
const OLD_DEFAULT: &str = "/etc/slurm-llnl/slurm.conf";
/// Where slurmd has its copies of slurmctld's files: the link that it makes (`_handle_slash_run`), and the folder in the default of
/// SlurmdSpoolDir=.
const COPIES: [&str; 2] = ["/run/slurm/conf", "/var/spool/slurmd/conf-cache"];
/// The folder's name in every SlurmdSpoolDir=.
const COPIES_NAME: &str = "/conf-cache";
/// What matters here of the unit of Slurm's own source (etc/slurmd.service.in, the same for this from 22.05 on), for a host whose unit is not recorded.
const SLURMS_UNIT: &str = "EnvironmentFile=-/etc/sysconfig/slurmd\nEnvironmentFile=-/etc/default/slurmd\n\
                           ExecStart=/usr/sbin/slurmd $SLURMD_OPTIONS\n";
/// Where systemd looks for units, the first above the others (systemd.unit(5)).
const UNITS: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// A slurm.conf, and why it is that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConfPlace {
    /// The file.
    pub(super) path: String,
    /// Why; None where it is the one that Slurm was built for.
    pub(super) why: Option<String>,
}

/// The slurm.conf that slurmd goes by, or would when it is started; None where the host has none.
///
/// # Errors
/// slurmd has another than the host's, which is not there: what to say.
pub(super) fn conf_place(
    tree: &Tree,
    options: &SlurmdOptions,
    is_running: bool,
) -> Result<Option<ConfPlace>, String> {
    let starts = if is_running {
        "slurmd was started with"
    } else {
        "slurmd's service starts it with"
    };
    let has_default = tree.exists(DEFAULT);
    let unused = |path: &str| {
        if has_default && path != DEFAULT {
            format!(", {DEFAULT} is not used")
        } else {
            String::new()
        }
    };
    let from_server = |kept: Option<&str>| {
        let how = if options.names_server() {
            format!("{starts} --conf-server")
        } else {
            "slurmd has its files from slurmctld".to_owned()
        };
        match find_copy(tree, kept) {
            Some(path) => Ok(Some(ConfPlace {
                why: Some(format!("{how}: its copy {path} is read{}", unused(&path))),
                path,
            })),
            None => Err(format!(
                "{how}, and its copy is not there (in {}){}",
                kept.into_iter()
                    .chain(COPIES)
                    .collect::<Vec<_>>()
                    .join(" or "),
                unused("")
            )),
        }
    };
    let named = |how: &str, path: &str| {
        if !path.starts_with('/') || path.contains('$') {
            return Err(format!(
                "{starts} {how}{path}, and which file that is is not known{}",
                unused("")
            ));
        }
        let why = format!("{starts} {how}{path}{}", unused(path));
        Ok(Some(ConfPlace {
            path: path.to_owned(),
            why: (path != DEFAULT).then_some(why),
        }))
    };
    match options.conf_source() {
        ConfSource::Kept(folder) => from_server(Some(folder)),
        ConfSource::Server => from_server(None),
        ConfSource::File(path) => named("-f ", path),
        ConfSource::Environment(path) => named("SLURM_CONF=", path),
        ConfSource::Default => Ok(default_place(tree)),
    }
}

/// The slurm.conf of a slurmd that is told of none.
fn default_place(tree: &Tree) -> Option<ConfPlace> {
    let copy = find_copy(tree, None);
    if tree.exists(DEFAULT) {
        // One that was started before the file was there goes by its copy until it is started anew.
        let why =
            copy.map(|copy| format!("a slurmd that starts now reads it, and not the copy {copy}"));
        return Some(ConfPlace {
            path: DEFAULT.to_owned(),
            why,
        });
    }
    match copy {
        Some(path) => Some(ConfPlace {
            path,
            why: Some(format!(
                "slurmd's copy of slurmctld's file, as there is no {DEFAULT}"
            )),
        }),
        None => tree.exists(OLD_DEFAULT).then(|| ConfPlace {
            path: OLD_DEFAULT.to_owned(),
            why: None,
        }),
    }
}

/// By what other slurm.conf than `path`, which the user named, slurmd goes; None where it is that one or that is not known.
pub(super) fn other_than(
    path: &str,
    tree: &Tree,
    options: &SlurmdOptions,
    is_running: bool,
) -> Option<String> {
    match conf_place(tree, options, is_running) {
        Ok(Some(own)) if tree.are_one(&own.path, path) => None,
        Ok(Some(own)) => {
            let why = own.why.map_or_else(String::new, |why| format!(" ({why})"));
            Some(format!("as asked for; slurmd goes by {}{why}", own.path))
        }
        Ok(None) => None,
        Err(why) => Some(format!("as asked for; {why}")),
    }
}

/// Whether slurmd keeps copies of slurmctld's files in a folder.
pub(super) fn keeps_copies_in(folder: &str) -> bool {
    COPIES.contains(&folder) || folder.ends_with(COPIES_NAME)
}

/// slurmd's copy of slurm.conf: in the folder that it says, where its link leads to, or where it is without SlurmdSpoolDir=.
fn find_copy(tree: &Tree, kept: Option<&str>) -> Option<String> {
    kept.into_iter()
        .chain(COPIES)
        .map(|folder| format!("{}/slurm.conf", folder.trim_end_matches('/')))
        .find(|path| tree.exists(path))
}

/// Whether a process was started by another user than root: anybody can name a program slurmd.  The owner of its folder does not
/// say so, for a process may make that root (PR_SET_DUMPABLE).
fn is_users(tree: &Tree, process: u32) -> bool {
    let status = tree.text(&format!("/proc/{process}/status"));
    let status = status.unwrap_or_default();
    let real = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:")?.split_ascii_whitespace().next());
    real.is_some_and(|user| user != "0")
}

/// The slurmd that runs: its process and its command line.
fn running(tree: &Tree) -> Option<(u32, Vec<u8>)> {
    tree.processes().into_iter().find_map(|process| {
        let name = tree.text(&format!("/proc/{process}/comm"))?;
        // slurmd's own threads and slurmstepd have other names; a child that is about to become one has no terminator yet.
        let is_slurmd = name == "slurmd" && !is_users(tree, process);
        let line = is_slurmd.then(|| tree.bytes(&format!("/proc/{process}/cmdline")))??;
        Some((process, line)).filter(|(_, line)| !line.is_empty())
    })
}

/// The files of the slurmd that runs on this host, and its slurm.conf, where that is another file than the one of the same path here:
/// slurmd runs in a container, or its unit mounts something over.  None where it is the same file, or nothing can be said.
pub(super) fn own_files(tree: &Tree, options: &SlurmdOptions) -> Option<(Tree, ConfPlace)> {
    if !tree.is_this_host() {
        return None;
    }
    let (process, _) = running(tree)?;
    let namespace = |process: &str| tree.link_name(&format!("/proc/{process}/ns/mnt"));
    let own = namespace("self")?;
    // Only root may look.
    if namespace(&process.to_string())? == own {
        return None;
    }
    let files = Tree::new(Path::new(&format!("/proc/{process}/root")));
    let place = conf_place(&files, options, true).ok()??;
    if files.shares(tree, &place.path) {
        return None;
    }
    let why = format!(
        "slurmd, process {process}, runs in another mount namespace, whose files are read{}",
        place.why.map_or_else(String::new, |why| format!("; {why}"))
    );
    let why = Some(why);
    Some((files, ConfPlace { why, ..place }))
}

/// The options of the slurmd that runs, and true; where none does, those of its service: unit, drop-ins and environment files.
pub(super) fn options(tree: &Tree) -> (SlurmdOptions, bool) {
    let Some((process, line)) = running(tree) else {
        return (of_service(tree), false);
    };
    let own = SlurmdOptions::of_command_line(&line);
    // Only root may read it.
    let own = match tree.bytes(&format!("/proc/{process}/environ")) {
        Some(environment) => own.with_environment(&environment),
        None => own.with_environment_of(of_service(tree)),
    };
    (own, true)
}

fn of_service(tree: &Tree) -> SlurmdOptions {
    let unit = UNITS
        .iter()
        .find_map(|folder| tree.text(&format!("{folder}/slurmd.service")));
    let mut texts: Vec<String> = vec![unit.unwrap_or_else(|| SLURMS_UNIT.to_owned())];
    // Drop-ins count by name; a name in an earlier folder hides the same in a later one.
    let mut dropped: BTreeMap<String, String> = BTreeMap::new();
    for folder in UNITS
        .iter()
        .rev()
        .map(|folder| format!("{folder}/slurmd.service.d"))
    {
        let names = tree.entries(&folder).into_iter();
        for name in names.filter(|name| name.ends_with(".conf")) {
            let text = tree.text(&format!("{folder}/{name}")).unwrap_or_default();
            dropped.insert(name, text);
        }
    }
    texts.extend(dropped.into_values());
    SlurmdOptions::of_service(&texts, |path| tree.text(path)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn no_number_of_other_processes_hides_the_slurmd_that_runs() {
        let folder = tempfile::tempdir().unwrap();
        let process = |pid: u32, name: &str| {
            let own = folder.path().join(format!("proc/{pid}"));
            fs::create_dir_all(&own).unwrap();
            fs::write(own.join("comm"), name).unwrap();
            own
        };
        for pid in 1..=4500 {
            process(pid, "sleep\n");
        }
        let users = process(4600, "slurmd\n");
        fs::write(users.join("status"), "Uid:\t1000\t1000\t1000\t1000\n").unwrap();
        fs::write(users.join("cmdline"), "slurmd\0-f\0/home/u/conf\0").unwrap();
        let own = process(4_194_303, "slurmd\n");
        fs::write(own.join("cmdline"), "slurmd\0-f\0/srv/slurm.conf\0").unwrap();
        let (options, is_running) = options(&crate::doctor::tree::Tree::new(folder.path()));
        assert!(is_running);
        assert!(matches!(
            options.conf_source(),
            ConfSource::File("/srv/slurm.conf")
        ));
    }
}
