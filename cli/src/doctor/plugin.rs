//! plugstack.conf: whether our plugin is loaded, in the right order and with arguments it knows.

use launch::site::{ArgumentError, SiteConfig};
use slurm_config::plugstack::{self, Entry, EntryKind};
use slurm_config::rules;
use topology::option::{Item, ItemKind, Items, Memory};

use super::report::{DoctorReport, Harm};
use super::slurm::{PLUGIN, Slurm};
use super::tree::Tree;
use super::world::World;

pub(crate) fn check(world: &World<'_>, report: &mut DoctorReport) {
    let Some(slurm) = &world.slurm else { return };
    let entries = slurm.plugstack.as_deref().unwrap_or_default();
    if let Some((place, file)) = &slurm.carriage_return {
        report.find(
            "plugin",
            Harm::StopsBinding,
            format!("{place}: a carriage return ends the line, as in files that are written on Windows"),
            "Slurm takes it for a part of the last word: a pattern names no file, a plugin is not there, an argument is unknown",
            format!("sed -i 's/\\r$//' {file}"),
        );
    }
    check_required(slurm, entries, report);
    let ours: Vec<&Entry> = entries.iter().filter(|entry| entry.loads(PLUGIN)).collect();
    let Some(first) = ours.first() else {
        if slurm.carriage_return.is_none() {
            report_unloaded(slurm, report);
        }
        return;
    };
    if let Some(second) = ours.get(1) {
        report.find(
            "plugin",
            Harm::StopsBinding,
            format!(
                "{} and {} both load gpu_numa_bind.so",
                first.place(),
                second.place()
            ),
            "the option is registered twice, and every task is bound twice",
            format!("{}: remove the line", second.place()),
        );
    }
    check_order(entries, first, report);
    check_line(slurm, first, report);
    check_release(world, report);
}

/// Whether the plugin offers itself to this Slurm.
fn check_release(world: &World<'_>, report: &mut DoctorReport) {
    let range = rules::plugin_range();
    let evidence = match (world.release, &world.strange_library) {
        (Some(release), _) if !rules::loads_plugin(release) => {
            format!("this is Slurm {release}; the plugin was checked with Slurm {range}")
        }
        (None, Some(library)) => {
            format!("{library} is of an unknown release; the plugin was checked with Slurm {range}")
        }
        _ => return,
    };
    report.find(
        "plugin-release",
        Harm::StopsBinding,
        evidence,
        "Slurm refuses the plugin: with \"optional\" jobs run unbound, with \"required\" they do not start",
        "install a gpu-numa-bind-slurm that names this release",
    );
}

/// Nothing loads the plugin: the drop-in is there and no line includes it, or there is no line for it at all.
fn report_unloaded(slurm: &Slurm, report: &mut DoctorReport) {
    let file = &slurm.plugstack_path;
    let missing = if slurm.plugstack.is_some() {
        "no line loads gpu_numa_bind.so"
    } else {
        "no such file"
    };
    let plugin = find_plugin(slurm);
    let (evidence, change) = match (find_drop_in(slurm), find_comment(slurm)) {
        (Some((folder, name)), _) => (
            format!("{file}: {missing}; {folder}/{name} would, but no line includes it"),
            format!("{file}: include {folder}/*.conf"),
        ),
        (None, Some(place)) => (
            format!("{place} is a comment, and no other line loads gpu_numa_bind.so"),
            format!("{place}: take the # away, where jobs are to be bound"),
        ),
        (None, None) if slurm.host_has_all(&plugin) == Some(false) => (
            format!("{file}: {missing}, and there is no {plugin}"),
            format!("install gpu-numa-bind-slurm on this host; {file}: include {PACKAGED}/*.conf"),
        ),
        (None, None) => (
            format!("{file}: {missing}"),
            format!("{file}: optional {plugin}"),
        ),
    };
    report.find(
        "plugin",
        Harm::StopsBinding,
        evidence,
        "--gpu-numa-bind is an unknown option, and no job is bound",
        change,
    );
}

/// Where the packages put their file for plugstack.conf.
const PACKAGED: &str = "/etc/slurm/plugstack.conf.d";

/// The files that plugstack.conf may include, beside it and where the packages put theirs: tree, folder and name.
fn drop_ins(slurm: &Slurm) -> Vec<(&Tree, String, String)> {
    let beside = slurm.plugstack_path.rsplit_once('/');
    let beside = beside.map(|(folder, _)| (&slurm.tree, format!("{folder}/plugstack.conf.d")));
    let packaged = slurm.host.as_ref().map(|tree| (tree, PACKAGED.to_owned()));
    let folders = beside.into_iter().chain(packaged);
    let files = folders.flat_map(|(tree, folder)| {
        let names = tree.entries(&folder).into_iter();
        let names = names.filter(|name| name.ends_with(".conf"));
        names.map(move |name| (tree, folder.clone(), name))
    });
    files.collect()
}

/// The folder and name of a drop-in that loads the plugin.
fn find_drop_in(slurm: &Slurm) -> Option<(String, String)> {
    let found = drop_ins(slurm).into_iter().find(|(tree, folder, name)| {
        let path = format!("{folder}/{name}");
        let entries = tree.read(&path).map(|text| plugstack::parse(&text, &path));
        entries.is_ok_and(|entries| entries.iter().any(|entry| entry.loads(PLUGIN)))
    });
    found.map(|(_, folder, name)| (folder, name))
}

/// The line that would load the plugin if it were no comment: in plugstack.conf, or in a drop-in.
fn find_comment(slurm: &Slurm) -> Option<String> {
    let own = (&slurm.tree, slurm.plugstack_path.clone());
    let others = drop_ins(slurm).into_iter();
    let others = others.map(|(tree, folder, name)| (tree, format!("{folder}/{name}")));
    std::iter::once(own).chain(others).find_map(|(tree, path)| {
        let text = tree.read(&path).ok()?;
        let without = |line: &str| line.trim_start().trim_start_matches('#').to_owned();
        let uncommented: Vec<String> = text.lines().map(without).collect();
        let entries = plugstack::parse(&uncommented.join("\n"), &path);
        let entry = entries.iter().find(|entry| entry.loads(PLUGIN))?;
        Some(entry.place())
    })
}

/// Where the packages put the plugin: `%{_libdir}` of EL and SUSE, or Debian's folder of the architecture.
fn find_plugin(slurm: &Slurm) -> String {
    let places = ["lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"]
        .map(|folder| format!("/usr/{folder}/gpu-numa-bind/gpu_numa_bind.so"));
    let found = places.iter().find(|place| slurm.host_has(place));
    found.or(places.first()).cloned().unwrap_or_default()
}

/// pyxis enters the container in its own `task_init`; after it, /sys and /run are the container's.
fn check_order(entries: &[Entry], ours: &Entry, report: &mut DoctorReport) {
    let at = |wanted: &dyn Fn(&Entry) -> bool| entries.iter().position(wanted);
    let (Some(own), Some(pyxis)) = (
        at(&|entry| entry == ours),
        at(&|entry| entry.loads("pyxis")),
    ) else {
        return;
    };
    if let Some(before) = entries.get(pyxis).filter(|_| pyxis < own) {
        report.find(
            "plugstack-order",
            Harm::StopsBinding,
            format!("{} loads pyxis before {} loads gpu_numa_bind.so", before.place(), ours.place()),
            "in a container step the plugin runs after pyxis has entered the container, and takes the container's files for the host's",
            change_of_order(ours, before),
        );
    }
}

/// How our line comes before that of pyxis: files of one folder are read in the order of their names.
fn change_of_order(ours: &Entry, pyxis: &Entry) -> String {
    let plain = format!(
        "put the line of {} before that of {}",
        ours.place(),
        pyxis.place()
    );
    let (Some((folder, own)), Some((others, other))) =
        (ours.file.rsplit_once('/'), pyxis.file.rsplit_once('/'))
    else {
        return plain;
    };
    if ours.file == pyxis.file {
        return plain;
    }
    if folder != others {
        return format!(
            "{plain}: the line that loads pyxis, or the one that includes it, has to follow {}",
            ours.file
        );
    }
    // The first that sorts before the other, and is still found by `*.conf`.
    let names = ["00-", "0-", "!"].map(|prefix| format!("{prefix}{own}"));
    let first = names.into_iter().find(|name| name.as_str() < other);
    first.map_or(plain, |name| {
        format!(
            "mv {} {folder}/{name}: files of a folder are read in the order of their names",
            ours.file
        )
    })
}

fn check_line(slurm: &Slurm, entry: &Entry, report: &mut DoctorReport) {
    let EntryKind::Plugin {
        is_required,
        path,
        arguments,
    } = &entry.kind
    else {
        return;
    };
    let rest: String = arguments
        .iter()
        .map(|argument| format!(" {argument}"))
        .collect();
    if *is_required {
        report.find(
            "plugin-required",
            Harm::StopsBinding,
            format!("{}: required {path}", entry.place()),
            "when the plugin cannot be loaded, for example after an upgrade of Slurm, slurmd does not start and every srun fails",
            format!("{}: optional {path}{rest}", entry.place()),
        );
    }
    check_repeated(entry, arguments, report);
    for argument in arguments {
        // One by one, so that each finding names its argument.
        for problem in SiteConfig::parse(&[argument]).problems {
            let (effect, what) = match &problem {
                ArgumentError::Item { .. } | ArgumentError::Kind(_) => (
                    "the plugin leaves this word out; what else the argument says holds",
                    format!("this word in \"{argument}\""),
                ),
                ArgumentError::Relative(_) | ArgumentError::Unknown(_) => {
                    ("the plugin ignores the argument", format!("\"{argument}\""))
                }
            };
            report.find(
                "plugin-argument",
                Harm::StopsBinding,
                format!("{}: {problem}", entry.place()),
                effect,
                format!("{}: correct or remove {what}", entry.place()),
            );
        }
    }
    check_memory(slurm, entry, arguments, report);
    check_file(slurm, entry, path, *is_required, report);
}

/// Arguments that are given twice, of which the plugin takes the last; `lock=` adds to what is locked.
fn check_repeated(entry: &Entry, arguments: &[String], report: &mut DoctorReport) {
    for key in ["always", "default", "snapshot"] {
        let is_it = |argument: &&String| argument.split('=').next() == Some(key);
        let given: Vec<&String> = arguments.iter().filter(is_it).collect();
        let [others @ .., last] = given.as_slice() else {
            continue;
        };
        if let Some(first) = others.first() {
            report.find(
                "plugin-argument",
                Harm::StopsBinding,
                format!("{}: {key}= is given {} times", entry.place(), given.len()),
                format!("the plugin takes {last} and passes over {first}"),
                format!(
                    "{}: one {key}= with commas between its items",
                    entry.place()
                ),
            );
        }
    }
}

/// Whether the site binds memory of jobs that share a host: a full node then ends a process while others have room.
fn check_memory(slurm: &Slurm, entry: &Entry, arguments: &[String], report: &mut DoctorReport) {
    let site = SiteConfig::parse(arguments);
    let asks = |items: &Items| items.of(ItemKind::Memory) == Some(Item::Memory(Memory::Bind));
    let is_bound = site.always.as_ref().is_some_and(asks) || asks(&site.default);
    let select = slurm.value("selecttype").map(|(value, _)| value);
    if !is_bound || select.is_some_and(|value| value.eq_ignore_ascii_case("select/linear")) {
        return;
    }
    report.find(
        "mem-bind",
        Harm::WeakensBinding,
        format!("{}: mem=bind", entry.place()),
        "memory comes from the GPUs' NUMA nodes only: where jobs share a host and one fills a node, the kernel ends a \
         process there although other nodes have memory",
        format!(
            "{}: mem=preferred; or, where every partition gives whole hosts (OverSubscribe=EXCLUSIVE), leave it",
            entry.place()
        ),
    );
}

/// Whether our shared object is where the line says.
fn check_file(
    slurm: &Slurm,
    entry: &Entry,
    path: &str,
    is_required: bool,
    report: &mut DoctorReport,
) {
    let place = entry.place();
    let Some(places) = places_of(slurm, path) else {
        report.skip(format!(
            "{place}: whether {path} is in Slurm's own plugin folder"
        ));
        return;
    };
    if places.iter().any(|place| slurm.host_has(place)) {
        return;
    }
    // A recording may hold the configuration and not the programs.
    let is_recorded = places.iter().any(|place| {
        let top = place
            .trim_start_matches('/')
            .split('/')
            .next()
            .unwrap_or_default();
        slurm.host_has(&format!("/{top}"))
    });
    if !is_recorded {
        report.skip(format!(
            "{place}: whether {path} exists (its folder is not in the recording)"
        ));
        return;
    }
    if is_required {
        find_missing(entry, path, report);
        return;
    }
    report.find(
        "plugin-file",
        Harm::StopsBinding,
        format!("{place}: there is no {path}"),
        "--gpu-numa-bind is an unknown option, and srun of older releases complains of the file each time",
        format!("install gpu-numa-bind-slurm, or correct {place}"),
    );
}

/// Plugins of others without which nothing starts.
fn check_required(slurm: &Slurm, entries: &[Entry], report: &mut DoctorReport) {
    for entry in entries.iter().filter(|entry| !entry.loads(PLUGIN)) {
        let EntryKind::Plugin {
            is_required: true,
            path,
            ..
        } = &entry.kind
        else {
            continue;
        };
        let Some(places) = places_of(slurm, path) else {
            continue;
        };
        // A recording has none of them.
        let is_missing = |place: &String| slurm.host_has_all(place) == Some(false);
        if places.iter().all(is_missing) {
            find_missing(entry, path, report);
        }
    }
}

/// A required plugin whose file is not there ends slurmd at its start, and srun, sbatch and salloc (`_spank_stack_process_line`,
/// common/spank.c, in every release).
fn find_missing(entry: &Entry, path: &str, report: &mut DoctorReport) {
    let place = entry.place();
    report.find(
        "plugin-file",
        Harm::StopsJobs,
        format!("{place}: there is no {path}, which is required"),
        format!(
            "slurmd does not start (\"Failed to load plugin {path}. Aborting.\"), and every srun, sbatch and salloc fails"
        ),
        format!("{place}: optional instead of required, or the path of the file"),
    );
}

/// Where Slurm looks for a plugin; None where that is its own plugin folder.
fn places_of(slurm: &Slurm, path: &str) -> Option<Vec<String>> {
    if path.starts_with('/') {
        return Some(vec![path.to_owned()]);
    }
    let (folders, _) = slurm.value("plugindir")?;
    let folders = folders.split(':');
    Some(folders.map(|folder| format!("{folder}/{path}")).collect())
}
