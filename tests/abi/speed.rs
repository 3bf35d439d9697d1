//! What the plugin costs, against a plugin that makes only the system calls that are needed, and one that does nothing
//! (`floor.c`): not run with the others, for it wants a release build and a quiet machine.
//!
//! `make bench` prints the tables; with `BENCH_DOCS=docs` it writes `benchmarks.md` and `benchmarks.svg` there.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small counts and times"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::build;
use crate::host::{Outcome, Scenario, run};
use crate::world::{World, set_mode};

/// Steps of each plugin and size, one after the other in turn.
const ROUNDS: usize = 25;
/// How many tasks a step has, on the machine with 8 GPUs.
const TASKS: [usize; 5] = [1, 8, 32, 64, 256];
/// Machines by their number of GPUs.
const MACHINES: [&str; 5] = [
    "l40s-1s-1g",
    "abi-2s1n4c1t",
    "abi-2s2n4c2t",
    "abi-2s4n16c2t",
    "dgx2",
];
/// The machine with 8 GPUs.
const USUAL: &str = "abi-2s4n16c2t";

/// What is loaded into the host.
#[derive(Clone, Copy, PartialEq)]
enum Plugin {
    Empty,
    Floor,
    Unused,
    Binding,
}

const PLUGINS: [Plugin; 4] = [
    Plugin::Empty,
    Plugin::Floor,
    Plugin::Unused,
    Plugin::Binding,
];

impl Plugin {
    fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Floor => "floor",
            Self::Unused => "ours, not asked for",
            Self::Binding => "ours, binding",
        }
    }

    fn path(self) -> &'static Path {
        match self {
            Self::Empty => build::empty(),
            Self::Floor => build::floor(),
            Self::Unused | Self::Binding => build::plugin(),
        }
    }

    fn scenario(self, world: &World, tasks: usize) -> Scenario {
        let gpus: Vec<usize> = (0..tasks)
            .map(|task| task % world.machine.gpus.len())
            .collect();
        let scenario = Scenario::on(world, tasks)
            .loading(self.path())
            .fence(world, &gpus)
            .line("timed");
        match self {
            Self::Binding => scenario.option(""),
            Self::Empty | Self::Floor | Self::Unused => scenario,
        }
    }
}

/// Microseconds, one for each round.
#[derive(Default)]
struct Sample(Vec<f64>);

/// Median, and what holds it in 95 of 100 such samples (order statistics).
impl Sample {
    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    fn median(&self) -> f64 {
        let sorted = self.sorted();
        (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
    }

    fn words(&self) -> String {
        let sorted = self.sorted();
        let count = sorted.len() as f64;
        let reach = (0.98 * count.sqrt()).ceil();
        let low = ((count / 2.0 - reach).max(0.0)) as usize;
        let high = ((count / 2.0 + reach) as usize).min(sorted.len() - 1);
        format!(
            "{} ({} to {})",
            short(self.median()),
            short(sorted[low]),
            short(sorted[high])
        )
    }

    /// This less another of the same rounds.
    fn less(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a - b).collect())
    }
}

fn short(micros: f64) -> String {
    if micros.abs() < 10.0 {
        format!("{micros:.1}")
    } else {
        format!("{micros:.0}")
    }
}

/// What one plugin took in steps of one size.
#[derive(Default)]
struct Times {
    dlopen: Sample,
    init: Sample,
    user_init: Sample,
    /// The median task of each step.
    task_init: Sample,
    step: Sample,
    /// Of all tasks together.
    processor: Sample,
    faults: Sample,
}

impl Times {
    fn add(&mut self, outcome: &Outcome) {
        let micros = |hook| {
            let nanos = outcome.numbers("nanos", hook);
            nanos.iter().map(|nanos| *nanos as f64 / 1000.0).collect()
        };
        let faults = outcome.numbers("faults", "task_init");
        let faults = faults.iter().map(|faults| *faults as f64).collect();
        self.dlopen.0.push(Sample(micros("dlopen")).median());
        self.init.0.push(Sample(micros("init")).median());
        self.user_init.0.push(Sample(micros("user_init")).median());
        self.task_init.0.push(Sample(micros("task_init")).median());
        self.step.0.push(Sample(micros("step")).median());
        self.processor.0.push(Sample(micros("processor")).median());
        self.faults.0.push(Sample(faults).median());
    }
}

/// Steps of `tasks` tasks with each plugin in turn.
fn measure(world: &World, tasks: usize) -> [Times; 4] {
    let mut all: [Times; 4] = Default::default();
    for round in 0..rounds() {
        for turn in 0..PLUGINS.len() {
            let which = (round + turn) % PLUGINS.len();
            let outcome = run(PLUGINS[which].scenario(world, tasks));
            all[which].add(&outcome);
        }
    }
    all
}

fn rounds() -> usize {
    let rounds = std::env::var("BENCH_ROUNDS").ok();
    rounds.and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

/// A table row for each plugin.
fn rows(text: &mut String, head: &str, all: &[Times; 4]) {
    for (plugin, times) in PLUGINS.iter().zip(all) {
        let added = |own: &Sample, of_empty: &Sample| match plugin {
            Plugin::Empty => "-".to_owned(),
            Plugin::Floor | Plugin::Unused | Plugin::Binding => own.less(of_empty).words(),
        };
        writeln!(
            text,
            "| {head} | {} | {} | {} | {} | {} | {} |",
            plugin.name(),
            times.user_init.words(),
            times.task_init.words(),
            added(&times.step, &all[0].step),
            added(&times.processor, &all[0].processor),
            short(times.faults.median()),
        )
        .unwrap();
    }
}

fn machine_words() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unnamed processor", |(_, model)| model);
    let cpus = info.lines().filter(|line| line.starts_with("processor"));
    let load = read("/proc/loadavg");
    format!(
        "{model}, {} CPUs, Linux {}, load average {} at the end",
        cpus.count(),
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or("unknown"),
    )
}

/// The commit that is measured, as far as git tells, and its date.
fn commit_words() -> String {
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=commit %h of %cs"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let told = git.output().ok().filter(|output| output.status.success());
    told.map_or("an unknown commit".to_owned(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}

const COLUMNS: &str = "plugin | user_init | task_init | added to the step | processor time added | page faults of a task |\n\
                       |---|---|---|---|---|---|---|\n";

#[test]
#[ignore = "a measurement"]
fn what_each_plugin_costs() {
    let mut by_tasks = format!("| tasks | {COLUMNS}");
    let mut plot = Vec::new();
    let mut loading: [[Sample; 2]; 4] = Default::default();
    let world = World::declared(USUAL);
    for tasks in TASKS {
        let mut all = measure(&world, tasks);
        rows(&mut by_tasks, &tasks.to_string(), &all);
        let added = |which: usize| all[which].step.less(&all[0].step).median();
        plot.push((tasks, [added(1), added(2), added(3)]));
        for ([dlopen, init], times) in loading.iter_mut().zip(&mut all) {
            dlopen.0.append(&mut times.dlopen.0);
            init.0.append(&mut times.init.0);
        }
    }
    let mut by_gpus = format!("| GPUs | {COLUMNS}");
    for name in MACHINES {
        let world = World::declared(name);
        let all = measure(&world, 8);
        rows(&mut by_gpus, &world.machine.gpus.len().to_string(), &all);
    }
    let mut by_plugin = "| plugin | dlopen | init |\n|---|---|---|\n".to_owned();
    for (plugin, [dlopen, init]) in PLUGINS.iter().zip(&loading) {
        if *plugin != Plugin::Binding {
            let (name, dlopen, init) = (plugin.name(), dlopen.words(), init.words());
            writeln!(by_plugin, "| {name} | {dlopen} | {init} |").unwrap();
        }
    }
    let words = format!(
        "{}\n\n{rounds} steps of each plugin and size, in turn: `make bench BENCH_DOCS=docs BENCH_ROUNDS={rounds}` of {}.\n\n\
         ## Loading, which srun, sbatch and salloc pay too\n\n{by_plugin}\n\
         ## By tasks, on a made-up machine of 256 CPUs, 8 NUMA nodes and 8 GPUs\n\n{by_tasks}\n\
         ![microseconds added to a step, by tasks](benchmarks.svg)\n\n\
         ## By GPUs, for 8 tasks\n\n{by_gpus}",
        machine_words(),
        commit_words(),
        rounds = rounds(),
    );
    eprintln!("{words}");
    if let Ok(folder) = std::env::var("BENCH_DOCS")
        && !folder.is_empty()
    {
        let folder = Path::new(&folder);
        let head = include_str!("benchmarks-head.md");
        std::fs::write(folder.join("benchmarks.md"), format!("{head}\n{words}")).unwrap();
        std::fs::write(folder.join("benchmarks.svg"), draw(&plot)).unwrap();
    }
}

/// Instructions of a hook of all tasks together, and how many it may take: a quarter more than it took when this was
/// written (rustc 1.95, glibc 2.36, x86_64), so that another compiler passes and a second decision per task does not.
///
/// Under a valgrind that does not know `openat2` a task reads the mount table, as on Linux before 5.12: of its instructions
/// some 22,000 are that.
const INSTRUCTIONS: [(Plugin, usize, &str, u64); 5] = [
    (Plugin::Unused, 1, "init", 3_300),
    (Plugin::Unused, 1, "task_init", 20),
    (Plugin::Binding, 1, "user_init", 201_000),
    (Plugin::Binding, 1, "task_init", 112_000),
    (Plugin::Binding, 16, "task_init", 2_485_000),
];

/// Tasks wait for the one that decides up to two seconds, and then each decides.  Under valgrind, on a machine that is
/// busy with other things, that is short: by this clock it is not.
const SLOW_CLOCK: &str = "slow-clock 1000";

/// A regression that a busy machine's clock would not show.
#[test]
#[ignore = "for a release build: make test-abi"]
fn hooks_take_no_more_instructions_than_they_did() {
    let world = World::declared(USUAL);
    let mut over = Vec::new();
    for (plugin, tasks, hook, taken) in INSTRUCTIONS {
        let most = taken + taken / 4;
        let counted = count_instructions(plugin, &world, tasks, hook);
        let name = plugin.name();
        let line = format!("{name}, {tasks} tasks, {hook}: {counted} instructions, at most {most}");
        eprintln!("{line}");
        over.extend((counted > most).then_some(line));
    }
    assert!(over.is_empty(), "{}", over.join("\n"));
}

fn count_instructions(plugin: Plugin, world: &World, tasks: usize, hook: &str) -> u64 {
    let totals = profiles(plugin, world, tasks, hook)
        .into_iter()
        .filter_map(|text| {
            let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
            totals?.trim().parse::<u64>().ok()
        });
    // What was counted before the fork is in the tasks' files as well.
    let totals: Vec<u64> = totals.collect();
    let most = totals.iter().max().copied().unwrap_or(0);
    if hook == "task_init" {
        totals.iter().sum()
    } else {
        most
    }
}

/// What callgrind wrote of a hook, one text for each process.
fn profiles(plugin: Plugin, world: &World, tasks: usize, hook: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    // The tasks, ordinary users by then, write there too.
    set_mode(folder.path(), 0o777);
    let mut valgrind = Command::new("/usr/bin/valgrind");
    valgrind
        .args(["--tool=callgrind", "--quiet"])
        .args(["--demangle=no", "--compress-strings=no"])
        .arg(format!("--toggle-collect=slurm_spank_{hook}"))
        .arg(format!(
            "--callgrind-out-file={}/%p",
            folder.path().display()
        ))
        .arg(build::host());
    plugin
        .scenario(world, tasks)
        .line(SLOW_CLOCK)
        .run_by(valgrind);
    let files = std::fs::read_dir(folder.path()).unwrap();
    files
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}

/// The list of functions that the linker puts together (`slurm-spank/build.rs`).
const ORDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../slurm-spank/launch.ld");

/// Each 64 KiB of code that a task comes into is a page fault, which costs more than what most functions compute.
///
/// `UPDATE_ORDER=1` writes the list anew; the plugin is then to be built again.
#[test]
#[ignore = "for a release build: make test-abi"]
fn code_that_a_launch_runs_is_together() {
    let world = World::declared(USUAL);
    let run = functions_in_order(&world);
    if std::env::var_os("UPDATE_ORDER").is_some() {
        std::fs::write(ORDER, order_of(&run)).unwrap();
        return;
    }
    let sizes = symbols();
    let bytes = |is_counted: &dyn Fn(u64) -> bool| -> u64 {
        let of_run = run.iter().filter_map(|name| sizes.get(name));
        let counted = of_run.filter(|(at, _)| is_counted(*at));
        counted.map(|(_, size)| size).sum()
    };
    let all = bytes(&|_| true);
    // They come first, and what lies between them has the same name but for its hash.
    let start = start_of(".text");
    let end = start + all + all / 4;
    let together = bytes(&|at| (start..end).contains(&at));
    let line = format!("{together} of {all} bytes of code that a launch runs are together");
    eprintln!("{line}");
    assert!(
        together * 10 >= all * 8,
        "{line}: UPDATE_ORDER=1 writes the list"
    );
}

/// Each page that the dynamic loader writes is one to copy, in every program of Slurm's: a text in a table that the plugin
/// uses is a pointer for it to adjust.
#[test]
#[ignore = "for a release build: make test-abi"]
fn the_loader_writes_few_pages() {
    let text = output_of("readelf", &["-lW"]);
    let segments = text.lines().map(str::split_whitespace);
    let written: u64 = segments
        .map(Iterator::collect::<Vec<_>>)
        .filter(|words| words.first() == Some(&"LOAD") && words.get(6) == Some(&"RW"))
        .map(|words| {
            let (start, length) = (hex(&words[2][2..]), hex(&words[4][2..]));
            (start + length).div_ceil(4096) - start / 4096
        })
        .sum();
    eprintln!("{written} pages that the loader writes");
    assert!((1..=7).contains(&written), "{text}");
}

/// The plugin's functions that a launch runs, in the order in which they are to lie: what the loader runs and every program
/// of Slurm's, what each task runs, what the one that decides runs, and what comes before the fork.
fn functions_in_order(world: &World) -> Vec<String> {
    // What the dynamic loader runs, ours and std's, is in no hook.
    let is_loaders = |name: &String| {
        ["fill_version", "ARGV_INIT_ARRAY"]
            .iter()
            .any(|part| name.contains(part))
    };
    let run_by = |plugin, tasks, hook, processes: usize| -> Vec<String> {
        let mut counts = BTreeMap::<String, usize>::new();
        for text in profiles(plugin, world, tasks, hook) {
            for name in functions(&text) {
                *counts.entry(name).or_default() += 1;
            }
        }
        let usual = counts.into_iter().filter(|(_, count)| *count >= processes);
        usual.map(|(name, _)| name).collect()
    };
    // A task reads the mount table where valgrind does not know `openat2`, and nowhere else (see [`INSTRUCTIONS`]).
    let is_of_old_kernels = |name: &String| name.contains("mounts");
    let (of_old_kernels, of_each): (Vec<_>, Vec<_>) = run_by(Plugin::Binding, 8, "task_init", 3)
        .into_iter()
        .partition(is_of_old_kernels);
    let before_the_fork = run_by(Plugin::Binding, 1, "user_init", 1);
    let (of_both, of_tasks): (Vec<_>, Vec<_>) = of_each
        .into_iter()
        .partition(|name| before_the_fork.contains(name));
    let deciding = [8, 1].map(|tasks| run_by(Plugin::Binding, tasks, "task_init", 1));
    let deciding = deciding.concat();
    let pieces = [
        symbols().into_keys().filter(is_loaders).collect(),
        run_by(Plugin::Unused, 1, "init", 1),
        run_by(Plugin::Unused, 1, "user_init", 1),
        run_by(Plugin::Unused, 1, "task_init", 1),
        of_both,
        of_tasks,
        deciding
            .into_iter()
            .filter(|name| !is_of_old_kernels(name))
            .collect(),
        before_the_fork,
        of_old_kernels,
    ];
    let mut known = BTreeSet::new();
    let all = pieces.into_iter().flatten();
    all.filter(|name| known.insert(name.clone())).collect()
}

/// The plugin's functions in what callgrind wrote.
fn functions(text: &str) -> BTreeSet<String> {
    let plugin = build::plugin().to_str().unwrap();
    let mut is_plugins = false;
    let mut names = BTreeSet::new();
    for line in text.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            is_plugins = object == plugin;
        } else if let Some(name) = line.strip_prefix("fn=").filter(|_| is_plugins) {
            // Of a function that calls itself each depth has a name.
            names.insert(name.split('\'').next().unwrap_or(name).to_owned());
        }
    }
    names
}

/// The linker script for these functions, behind what the loader runs of the C runtime's.  They begin one of the pieces of
/// 64 KiB in which the kernel maps code, with `.plt`, by which they call Slurm.  All are put beside a section that every
/// linker's layout has: with zig's there is no `.init` and no `.fini`.  The allocator's reserve comes last: what the
/// loader and the first hooks write lies on one page then, and not on one behind it too.
fn order_of(run: &[String]) -> String {
    let mut text = "/* What a launch runs, put together by the linker: written by UPDATE_ORDER=1 with `make test-abi`, see\n   \
                    tests/abi/speed.rs.  A function that is not here, or not there any more, is linked all the same. */\n\
                    SECTIONS {\n  .init ALIGN(0x10000) : { KEEP (*(.init)) }\n  .plt : { *(.plt) }\n  \
                    .fini : { KEEP (*(.fini)) }\n  .text : {\n    *crtbegin*.o(.text)\n"
        .to_owned();
    let mut patterns = BTreeSet::new();
    for name in run {
        let pattern = without_hashes(name);
        // The first pattern takes all that it stands for.
        if patterns.insert(pattern.clone()) {
            writeln!(text, "    *(.text.{pattern} .text.unlikely.{pattern})").unwrap();
        }
    }
    text + "    *(.text .text.*)\n  }\n}\nINSERT AFTER .eh_frame;\n\
            SECTIONS {\n  .reserve : { *(.bss.*7RESERVE*) }\n}\nINSERT AFTER .bss;\n"
}

/// A function's name with `*` for what another compiler, or other code in the crate, would name otherwise: the hash of the
/// older names, the crates' of the newer ones, and LLVM's own number.
fn without_hashes(name: &str) -> String {
    let name = name.split_once(".llvm.").map_or(name, |(name, _)| name);
    // Of several functions of one name: which has which number is another with each build.
    let numbered = name.rsplit_once('.').filter(|(_, number)| {
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    });
    let name = numbered.map_or(name, |(name, _)| name);
    let hash = name.strip_suffix('E').and_then(|name| {
        let (before, hash) = name.rsplit_once("17h")?;
        let is_hash = hash.len() == 16 && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_hash.then(|| format!("{before}17h*"))
    });
    if let Some(name) = hash {
        return name;
    }
    let mut parts = name.split("Cs");
    let mut pattern = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.split_once('_').map(|(_, rest)| format!("Cs*_{rest}"));
        pattern += &rest.unwrap_or_else(|| format!("Cs{part}"));
    }
    pattern + "*"
}

fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .arg(build::plugin())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap()
}

/// Where a section of the plugin begins.
fn start_of(section: &str) -> u64 {
    let text = output_of("readelf", &["-SW"]);
    let mut lines = text.lines().map(str::split_whitespace);
    let mut words = lines
        .find_map(|mut words| words.any(|word| word == section).then_some(words))
        .expect("the plugin has that section");
    hex(words.nth(1).unwrap())
}

/// Address and size of each symbol of the plugin.
fn symbols() -> BTreeMap<String, (u64, u64)> {
    let text = output_of("nm", &["-S", "--defined-only"]);
    let lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines
        .filter_map(|words| match words.as_slice() {
            [at, size, _, name] => Some(((*name).to_owned(), (hex(at), hex(size)))),
            _ => None,
        })
        .collect()
}

/// The time added to a step by its tasks, both on scales of powers, which have no place for less than one microsecond.
fn draw(plot: &[(usize, [f64; 3])]) -> String {
    const COLOURS: [&str; 3] = ["#888888", "#2a7f62", "#c0392b"];
    let x = |tasks: usize| 60.0 + (tasks as f64).log2() * 60.0;
    let y = |micros: f64| 290.0 - micros.max(1.0).log10() * 50.0;
    let mut svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 330\" \
                   font-family=\"sans-serif\" font-size=\"12\">\n\
                   <rect width=\"720\" height=\"330\" fill=\"#ffffff\"/>\n"
        .to_owned();
    for power in 0..6 {
        let (at, micros) = (y(10f64.powi(power)), 10u32.pow(power.unsigned_abs()));
        writeln!(
            svg,
            "<path d=\"M60 {at}H560\" stroke=\"#dddddd\"/><text x=\"54\" y=\"{}\" \
             text-anchor=\"end\">{micros}</text>",
            at + 4.0
        )
        .unwrap();
    }
    for (tasks, _) in plot {
        writeln!(
            svg,
            "<text x=\"{}\" y=\"308\" text-anchor=\"middle\">{tasks}</text>",
            x(*tasks)
        )
        .unwrap();
    }
    svg.push_str("<text x=\"300\" y=\"325\" text-anchor=\"middle\">tasks</text>\n");
    svg.push_str("<text x=\"8\" y=\"16\">microseconds added</text>\n");
    for (which, colour) in COLOURS.iter().enumerate() {
        let points: Vec<String> = plot
            .iter()
            .filter(|(_, added)| added[which] >= 1.0)
            .map(|(tasks, added)| format!("{:.1},{:.1}", x(*tasks), y(added[which])))
            .collect();
        let last = plot.last().map_or(290.0, |(_, added)| y(added[which]));
        writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"570\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
            points.join(" "),
            last + 4.0,
            PLUGINS[which + 1].name()
        )
        .unwrap();
    }
    svg + "</svg>\n"
}
