//! What is counted, and what is said.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use launch::shared::totals::{StepTotals, VARIABLE};
use nccl_topo::rules::{env_interfaces, profiler_interfaces};
use topology::words::NcclTotal;

use crate::setup::{World, machine, plugin};

/// A MiB.
const MIB: u64 = 1 << 20;

#[test]
fn the_plugin_exports_the_interfaces_of_the_rules_and_no_other() {
    let output = Command::new("nm")
        .args(["--dynamic", "--defined-only", "--format=just-symbols"])
        .arg(plugin())
        .output()
        .expect("nm runs");
    let text = String::from_utf8(output.stdout).unwrap();
    let exported: BTreeSet<_> = text
        .lines()
        .filter(|name| name.starts_with("nccl"))
        .map(str::to_owned)
        .collect();
    let profilers = profiler_interfaces();
    let profilers = profilers.iter().map(|v| format!("ncclProfiler_v{v}"));
    let envs = env_interfaces();
    let envs = envs.iter().map(|v| format!("ncclEnvPlugin_v{v}"));
    assert_eq!(exported, profilers.chain(envs).collect());
}

#[test]
fn every_version_tells_of_a_ring_that_crosses() {
    let world = World::new(2, 2);
    for version in profiler_interfaces().into_iter().map(u32::from) {
        let run = world.profile(version, "", "AllReduce:RING:262144 AllReduce:RING:262144");
        let lines = run.lines();
        assert_eq!(lines.len(), 2, "v{version}: {lines:#?}");
        let way = " (4 ranks, 1 host): its ring crosses the socket link twice per channel (0000:";
        assert!(lines.iter().all(|line| line.contains(way)), "{lines:#?}");
        assert!(lines[1].contains("; 2 AllReduce of 1 MiB moved about 3.0 MiB over it each way; "));
        assert!(lines[1].ends_with("modelled limit 22 GB/s against 48 GB/s inside a socket"));
        // A hop carries 2 (n - 1) / n of the buffer, one hop each way.
        assert_eq!(run.over_link(), (3 * MIB, 3 * MIB));
    }
}

#[test]
fn in_a_process_with_rccl_nothing_is_watched() {
    let world = World::new(2, 2);
    let library = world.empty_rccl();
    for version in profiler_interfaces().into_iter().map(u32::from) {
        let mut command = world.command(version, "", "AllReduce:RING:262144");
        let run = world.profile_by(command.env("LD_PRELOAD", &library));
        assert!(run.lines().is_empty(), "v{version}: {:#?}", run.lines());
    }
}

#[test]
fn each_function_and_algorithm_has_its_own_traffic() {
    let world = World::new(2, 2);
    for (word, up, down) in [
        // Up the tree and down again, over one edge.
        ("AllReduce:TREE:262144", MIB, MIB),
        // A rank's part is told; all other ranks' parts go over each hop.
        ("AllGather:RING:1048576", 3 * MIB, 3 * MIB),
        ("ReduceScatter:RING:262144", 3 * MIB, 3 * MIB),
    ] {
        let run = world.profile(6, "", word);
        assert_eq!(run.over_link(), (up, down), "{word}");
    }
    // One hop of the ring is not used; whether it crosses, the root says.
    for function in ["Broadcast:RING:1048576", "Reduce:RING:262144"] {
        let loads = (0..4).map(|root| {
            let (up, down) = world
                .profile(6, "", &format!("{function}:{root}"))
                .over_link();
            up + down
        });
        let mut loads: Vec<u64> = loads.collect();
        loads.sort_unstable();
        assert_eq!(loads, [MIB, MIB, 2 * MIB, 2 * MIB], "{function}");
    }
}

#[test]
fn a_broadcast_is_counted_once_whether_nccl_plans_it_or_not() {
    let world = World::new(2, 1);
    for (version, word) in [
        (4, "Broadcast:RING:1048576"),
        (5, "Broadcast:RING:1048576"),
        (6, "call:Broadcast:1048576"),
    ] {
        let run = world.profile(version, "", word);
        assert_eq!(run.summary()["collectives"][0]["count"], 1, "v{version}");
        assert_eq!(run.summary()["not_counted"]["calls"], 0, "v{version}");
    }
}

#[test]
fn sends_are_counted_by_their_pair() {
    let world = World::new(2, 2);
    for options in ["", "--processes"] {
        let run = world.profile(6, options, "all-to-all:1048576");
        let sends = &run.summary()["sends"];
        assert_eq!(sends["count"], 8, "{options}");
        assert_eq!(
            (sends["up_bytes"].as_u64(), sends["down_bytes"].as_u64()),
            (Some(4 * MIB), Some(4 * MIB))
        );
        assert!(
            run.lines()
                .last()
                .unwrap()
                .contains("8 sends between GPUs of different sockets moved 4.0 MiB")
        );
    }
}

#[test]
fn sends_recorded_into_a_graph_are_not_taken_for_sent() {
    let world = World::new(2, 1);
    for version in [5, 7] {
        let run = world.profile(version, "", "recorded-all-to-all:1048576");
        assert_eq!(run.summary()["sends"]["count"], 0, "v{version}");
        assert_eq!(run.summary()["captured"], 1, "the speaker's own");
    }
}

#[test]
fn what_no_ring_or_tree_carries_is_listed_as_not_counted() {
    let world = World::new(2, 2);
    let run = world.profile(
        7,
        "",
        "AllReduce:RING:256 AllReduce:NVLS:256 symmetric:AllGather:256 ce:AllGather call:AllReduce:256",
    );
    assert_eq!(run.summary()["not_counted"]["calls"], 4);
    assert!(run.lines()[1].contains(
        "; not counted: 4 calls (1 by NVLS, 1 by copy engines, 1 over symmetric memory, 1 whose algorithm NCCL does \
         not report)"
    ));
    let run = world.profile(
        6,
        "",
        "AllReduce:RING:256 captured:AllReduce:256 captured:AllReduce:256",
    );
    assert_eq!(
        (
            &run.summary()["captured"],
            &run.summary()["not_counted"]["calls"]
        ),
        (&2.into(), &0.into())
    );
    assert_eq!(run.summary()["collectives"][0]["count"], 1);
    assert!(run.lines()[1].contains("2 recorded into CUDA graphs, whose replays are not counted"));
}

#[test]
fn a_steps_totals_are_what_its_communicators_say() {
    let world = World::new(2, 2);
    let step = StepTotals::make().unwrap();
    let path = step.hand_down(std::process::id()).unwrap();
    let run = |words: &str| {
        let mut command = world.command(6, "--processes", words);
        world.profile_by(command.env(VARIABLE, &path))
    };
    let mut bytes = 0;
    for words in [
        "AllReduce:RING:262144 AllReduce:RING:262144",
        "all-to-all:1048576",
    ] {
        let run = run(words);
        let load = |name: &str| run.summary()[name]["both_bytes"].as_u64();
        bytes += load("over_link").unwrap_or(0);
        let sent = |name: &str| run.summary()["sends"][name].as_u64().unwrap();
        bytes += sent("up_bytes") + sent("down_bytes");
        let all = NcclTotal {
            bytes,
            is_bound: false,
        };
        assert_eq!(step.read(), Some(all), "{words}");
    }
    run("AllReduce:RING:256 AllReduce:NVLS:256");
    assert!(step.read().unwrap().is_bound, "one call is not counted");
    // Nothing that another says is believed to be such words.
    let mut command = world.command(6, "", "AllReduce:RING:256");
    let run = world.profile_by(command.env(VARIABLE, world.path("node.json")));
    assert_eq!(run.lines().len(), 2);
}

#[test]
fn communicators_of_one_kind_have_one_line_each_way() {
    let world = World::new(2, 2);
    for (version, options) in [(4, "--processes"), (5, ""), (6, "--processes"), (7, "")] {
        let first = 0xa000_0000u64 + 0x100 * u64::from(version);
        let ids: Vec<String> = (0..4).map(|id| format!("{:x}", first + id)).collect();
        let options = format!(
            "{options} --ids {} --names dp_0,dp_1,dp_2,world",
            ids.join(",")
        );
        let mut command =
            world.command(version, &options, "AllReduce:RING:262144 AllReduce:RING:8");
        let run = world.profile_by(command.env("SLURM_JOB_ID", ids[0].as_str()));
        let lines = run.lines();
        assert_eq!(lines.len(), 4, "v{version}: {lines:#?}");
        let of = |name: &str| -> Vec<&String> {
            lines.iter().filter(|line| line.contains(name)).collect()
        };
        let [begin, end] = of("dp_")[..] else {
            panic!("v{version}: {lines:#?}")
        };
        assert!(begin.starts_with("communicator \"dp_"), "{begin}");
        assert!(
            begin.contains(" (4 ranks, 1 host), the first of 3 \"dp_*\" so far: its ring crosses the socket link twice"),
            "{begin}"
        );
        let all = "3 communicators \"dp_*\" (4 ranks, 1 host each): each ring crosses the socket link twice per channel; \
                   6 AllReduce of 32 B to 1 MiB moved about 4.5 MiB over it each way in all; \
                   by size: 3 below 64 KiB (96 B), 3 below 16 MiB (3.0 MiB); modelled limit";
        assert!(end.starts_with(all), "v{version}: {end}");
        assert!(
            of("\"world\"")
                .iter()
                .all(|line| line.contains("\"world\" 0xa000"))
        );
        // The records are of each by itself.
        let summaries = run
            .records
            .iter()
            .filter(|record| record["event"] == "summary");
        let mut names: Vec<_> = summaries.map(|record| record["name"].clone()).collect();
        names.sort_by_key(ToString::to_string);
        assert_eq!(names, ["dp_0", "dp_1", "dp_2", "world"]);
        let sizes = &run.records.last().unwrap()["sizes"];
        assert_eq!(sizes[0]["below_bytes"], 65_536, "{sizes}");
        assert_eq!(sizes[1]["below_bytes"], 16 << 20, "{sizes}");
        assert_eq!([&sizes[0]["count"], &sizes[1]["count"]], [1, 1]);
    }
    let left = std::fs::read_dir("/dev/shm").unwrap().flatten();
    let mut left = left.filter(|file| file.file_name().to_string_lossy().contains(".kind-"));
    assert!(left.next().is_none(), "a file is left");
}

#[test]
fn no_kind_of_call_hides_another_that_is_not_counted() {
    let world = World::new(2, 2);
    // An AlltoAll by copy engines is no collective of the model, and each call of one that is stays in the sum.
    let run = world.profile(
        6,
        "",
        "AllReduce:RING:256 call:AllReduce:256 ce:AlltoAll ce:AlltoAll",
    );
    assert_eq!(run.summary()["not_counted"]["calls"], 3);
    assert!(run.lines()[1].contains(
        "not counted: 3 calls (2 by copy engines, 1 whose algorithm NCCL does not report)"
    ));
    // Those that are recorded are listed as such, and once.
    let words = "AllReduce:RING:256 call:AllReduce:256 captured-ce:AllGather captured-symmetric:AllGather:256";
    let run = world.profile(7, "", words);
    assert_eq!(run.summary()["captured"], 2);
    assert_eq!(run.summary()["not_counted"]["calls"], 1);
    // A function that is not known is listed in every version.
    for version in [4, 5, 6, 7] {
        let run = world.profile(version, "", "AllReduce:RING:256 Permute:RING:256");
        assert_eq!(run.summary()["not_counted"]["calls"], 1, "v{version}");
    }
}

#[test]
fn a_job_of_which_nothing_is_counted_is_told_so_at_the_end() {
    let run = World::new(2, 1).profile(7, "", "symmetric:AllGather:256 call:AllReduce:256");
    assert_eq!(run.lines().len(), 1);
    assert_eq!(run.summary()["over_link"]["both_bytes"], 0);
    assert_eq!(run.summary()["not_counted"]["calls"], 2);
}

#[test]
fn a_job_that_runs_on_cuda_graphs_alone_is_told_too() {
    let run = World::new(2, 1).profile(6, "", "captured:AllReduce:256");
    assert_eq!(run.lines().len(), 2);
}

#[test]
fn where_nothing_crosses_nothing_is_asked_for_and_nothing_said() {
    let one_package = World::new(1, 4);
    let run = one_package.profile(6, "", "AllReduce:RING:256 all-to-all:4096");
    assert!(
        run.masks().values().all(|mask| *mask == 0),
        "{:?}",
        run.masks()
    );
    assert_eq!((run.stderr().as_str(), run.records.len()), ("", 0));

    let mut joined = machine(2, 2);
    let all: Vec<_> = joined.gpus.iter().map(|gpu| gpu.pci).collect();
    for gpu in &mut joined.gpus {
        gpu.nvlinks = all
            .iter()
            .filter(|to| **to != gpu.pci)
            .map(|to| (*to, 18))
            .collect();
    }
    let run = World::of(joined).profile(6, "", "AllReduce:RING:256 all-to-all:4096");
    assert_eq!((run.stderr().as_str(), run.records.len()), ("", 0));
}

#[test]
fn where_nvlink_may_hide_nothing_is_claimed() {
    let mut hidden = machine(2, 2);
    hidden.nvlink_visible = false;
    let world = World::of(hidden);
    let run = world.profile(6, "", "AllReduce:RING:256");
    assert_eq!(run.stderr(), "");
    let run = world.profile_by(
        world
            .command(6, "", "AllReduce:RING:256")
            .env("NCCL_DEBUG", "INFO"),
    );
    assert!(
        run.stderr().contains("unknown whether it crosses"),
        "{}",
        run.stderr()
    );
}

#[test]
fn without_a_file_of_nccl_the_least_is_said() {
    let world = World::new(2, 2);
    std::fs::remove_file(world.path("nccl-topo.xml")).unwrap();
    let run = world.profile(6, "", "AllReduce:RING:262144");
    let line = &run.lines()[1];
    assert!(
        line.contains("its ring crosses the socket link at least twice per channel; 1 AllReduce"),
        "{line}"
    );
    assert!(
        line.contains("moved at least 1.5 MiB over it each way"),
        "{line}"
    );
}

#[test]
fn on_several_hosts_a_ring_is_a_chain_here() {
    let world = World::new(2, 2);
    let run = world.profile(
        6,
        "--hosts 2",
        "AllReduce:RING:262144 sleep:1100 AllReduce:RING:262144",
    );
    let line = &run.lines()[1];
    assert!(
        line.contains(
            "(8 ranks, 2 hosts): its ring crosses the socket link at least once per channel"
        ),
        "{line}"
    );
}

#[test]
fn four_packages_have_several_links() {
    let run = World::new(4, 1).profile(6, "", "AllReduce:RING:262144");
    let line = &run.lines()[1];
    assert!(
        line.contains("its ring crosses the socket links 4 times per channel"),
        "{line}"
    );
    assert!(line.contains("moved about 6.0 MiB over them"), "{line}");
}

#[test]
fn lines_go_through_nccls_logger_where_it_shows_them() {
    let world = World::new(2, 2);
    let run = world.profile_by(
        world
            .command(6, "", "AllReduce:RING:256")
            .env("NCCL_DEBUG", "INFO"),
    );
    let stderr = run.stderr();
    assert_eq!(
        stderr
            .matches("NCCL level 3 gpu-numa: communicator 0x")
            .count(),
        2,
        "{stderr}"
    );
    assert!(
        !stderr.contains("level 2"),
        "a warning would become the last error: {stderr}"
    );
    assert_eq!(run.records.len(), 2);
}

#[test]
fn a_record_names_the_slurm_task() {
    let world = World::new(2, 2);
    let mut command = world.command(6, "", "AllReduce:RING:256");
    for (name, value) in [
        ("SLURM_JOB_ID", "12"),
        ("SLURM_STEP_ID", "0"),
        ("SLURM_PROCID", "3"),
    ] {
        command.env(name, value);
    }
    let run = world.profile_by(&mut command);
    let record = run.summary();
    assert_eq!(record["schema"], "gpu-numa/nccl-log/1");
    let ids: BTreeMap<_, _> = ["job", "step", "task"]
        .map(|id| (id, record[id].as_str().unwrap()))
        .into();
    assert_eq!(ids, [("job", "12"), ("step", "0"), ("task", "3")].into());
}

/// The aims are 50 ns where nothing crosses and 200 ns where something does; the bounds are for a busy machine
/// and a debug build.
#[test]
fn an_event_costs_little() {
    // Of the rank that waits longest: mostly the one that speaks.
    let bench = |world: &World, words: &str| -> f64 {
        let stdout = world.profile(6, "", words).stdout();
        let ranks = stdout
            .lines()
            .filter_map(|line| line.strip_prefix("bench "));
        let times = ranks.map(|time| time.parse().unwrap());
        times.reduce(f64::max).unwrap()
    };
    let many = "AllReduce:RING:256 bench:200000";
    let silent = bench(&World::new(1, 2), many);
    let crossing = bench(&World::new(2, 1), many);
    println!("an event: {silent} ns where nothing crosses, {crossing} ns where something does");
    assert!(
        silent < 2_000.0 && crossing < 20_000.0,
        "{silent} {crossing}"
    );
    // The search for the ring of 16 GPUs is over before.
    let mut large = machine(2, 2);
    for gpu in large.gpus.clone() {
        // Each on a root bus of its own, as the first ones.
        let buses = (1..4).map(|more| gpu.pci.bus + 4 * more);
        large.gpus.extend(buses.map(|bus| {
            let mut other = gpu.clone();
            other.pci.bus = bus;
            other
        }));
    }
    large.gpus.sort_by_key(|gpu| gpu.pci);
    let first = bench(&World::of(large), "bench:1");
    println!(
        "the first event of 16 ranks: {} us, with its line",
        first / 1000.0
    );
    assert!(first < 1e9, "{first}");
}
