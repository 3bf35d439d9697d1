//! Ranks that share a host: in one process or several, some of them missing, beside hostile users.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::process::Command;

use crate::setup::{Run, World, machine, require_root};

/// The shared file of communicator `id`.
fn shared_file(id: &str) -> PathBuf {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let user = fs::metadata("/proc/self").unwrap().uid();
    format!("/dev/shm/gpu-numa-nccl.{user}.{}.{:0>16}", &boot[..8], id).into()
}

#[test]
fn ranks_in_processes_of_their_own_say_it_once() {
    let world = World::new(2, 2);
    let run = world.profile(6, "--processes --ids 5eb1", "AllReduce:RING:262144");
    assert_eq!(run.lines().len(), 2, "{}", run.stderr());
    assert_eq!(
        run.summary()["local_ranks"],
        serde_json::json!([0, 1, 2, 3])
    );
    assert!(!shared_file("5eb1").exists());
}

#[test]
fn a_missing_peer_leaves_a_bound() {
    let world = World::new(2, 2);
    let run = world.profile(
        6,
        "--missing 0 --ids 5eb2",
        "AllReduce:RING:256 sleep:1100 AllReduce:RING:256",
    );
    let lines = run.lines();
    assert!(
        lines[1].contains("(4 ranks, 1 host): its ring crosses the socket link at least twice"),
        "{lines:#?}"
    );
    assert!(!shared_file("5eb2").exists(), "the last one takes it away");
}

#[test]
fn communicators_are_told_apart() {
    let world = World::new(2, 2);
    let run = world.profile(6, "--ids 5eb3,5eb4", "AllReduce:RING:256");
    for id in ["0x5eb3", "0x5eb4"] {
        let of = |line: &&String| line.starts_with(&format!("communicator {id} "));
        assert_eq!(run.lines().iter().filter(of).count(), 2, "{}", run.stderr());
    }
}

/// What the host counted, each time: descriptors, mappings, and KiB in /dev/shm.
fn counts(run: &Run, word: &str) -> Vec<Vec<u64>> {
    let stdout = run.stdout();
    let lines = stdout.lines().filter_map(|line| line.strip_prefix(word));
    let numbers = lines.map(|line| {
        line.split_whitespace()
            .map(|number| number.parse().unwrap())
    });
    numbers.map(Iterator::collect).collect()
}

/// As containers have it: a /dev/shm of its own of this size, in a mount namespace.
fn with_shared_memory(command: &Command, size: &str) -> Command {
    let mut within = Command::new("unshare");
    let script = "mount -t tmpfs -o size=\"$0\" shm /dev/shm && exec \"$@\"";
    within.args(["-m", "sh", "-c", script, size]);
    within.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => within.env(name, value),
            None => within.env_remove(name),
        };
    }
    within
}

/// Docker's /dev/shm is of 64 MiB unless told otherwise, and NCCL has to put its own files there.
#[test]
fn a_thousand_communicators_leave_a_containers_shared_memory_free() {
    require_root();
    for (packages, each) in [(2, 2), (4, 1)] {
        let world = World::new(packages, each);
        let gpus = world.machine.gpus.len();
        let options = "--ids 5eb90000 --many 1000";
        let command = world.command(6, options, "AllReduce:RING:256 count");
        let run = world.profile_by(&mut with_shared_memory(&command, "64m"));
        let held = counts(&run, "held ");
        // A page each: ranks are counted in the file itself, 256 bytes a rank.
        assert!(
            (1..=4_000).contains(&held[0][2]),
            "{gpus} GPUs: {held:?} KiB"
        );
        assert!(counts(&run, "left ").iter().all(|left| left[2] == 0));
        println!(
            "{gpus} ranks, 1,000 communicators: {} KiB in /dev/shm",
            held[0][2]
        );
    }
}

#[test]
fn communicators_that_find_no_room_are_silent() {
    require_root();
    let world = World::new(2, 2);
    for size in ["4k", "64k"] {
        let command = world.command(6, "--ids 5eba0000 --many 100", "AllReduce:RING:256 count");
        let run = world.profile_by(&mut with_shared_memory(&command, size));
        assert!(!run.stderr().contains("internal fault"), "{}", run.stderr());
    }
}

#[test]
fn a_thousand_communicators_leave_no_memory_and_no_descriptor() {
    // All GPUs, and those of one socket of two.
    for gpus in [4, 2] {
        let mut world = World::new(2, 2);
        world.machine.gpus.truncate(gpus);
        let run = world.profile(6, "--ids 5eb80000 --many 1000", "AllReduce:RING:256 count");
        let (left, held) = (counts(&run, "left "), counts(&run, "held "));
        assert!(left.len() == 2 && held.len() == 1, "{left:?} {held:?}");
        assert_eq!(
            left[0][..2],
            left[1][..2],
            "{gpus} GPUs: what is left is what was there before"
        );
        // Those of the last communicators, whose ranks are not all there yet, may be open.
        assert!(
            held[0][0] < left[0][0] + 20,
            "{gpus} GPUs: a descriptor for each communicator: {held:?} {left:?}"
        );
        assert_eq!(
            held[0][1] > 0,
            gpus > 2,
            "{gpus} GPUs: memory only where something crosses"
        );
        let shared = fs::read_dir("/dev/shm").unwrap().flatten();
        let mut names = shared.map(|entry| entry.file_name().into_string().unwrap());
        assert!(!names.any(|name| name.contains("5eb8")), "{gpus} GPUs");
    }
}

#[test]
fn a_forked_child_does_not_speak_for_its_parent() {
    let world = World::new(2, 2);
    let run = world.profile(
        6,
        "--ids 5eb5",
        "AllReduce:RING:256 fork AllReduce:RING:256",
    );
    assert_eq!(run.lines().len(), 2, "{}", run.stderr());
    assert_eq!(run.summary()["collectives"][0]["count"], 2);
}

#[test]
fn what_killed_processes_left_is_removed() {
    let left = shared_file("dead");
    fs::write(&left, "").unwrap();
    let mut mode = fs::metadata(&left).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o600);
    fs::set_permissions(&left, mode).unwrap();
    World::new(2, 1).profile(6, "--ids 5eb6", "AllReduce:RING:256");
    assert!(!left.exists());
}

#[test]
fn another_users_file_is_not_used_and_not_touched() {
    require_root();
    let file = shared_file("5eb7");
    fs::write(&file, "theirs").unwrap();
    chown(&file, Some(65_534), None).unwrap();
    let run = World::new(2, 2).profile(6, "--ids 5eb7", "AllReduce:RING:256");
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!((run.stderr().as_str(), text.as_str()), ("", "theirs"));
}

#[test]
fn a_snapshot_that_another_user_could_have_written_is_not_believed() {
    require_root();
    let world = World::new(2, 2);
    chown(world.path("node.json"), Some(65_534), None).unwrap();
    assert_eq!(
        world
            .profile(6, "--ids 5eb8", "AllReduce:RING:256")
            .stderr(),
        ""
    );
}

#[test]
fn a_snapshot_of_another_boot_is_not_believed() {
    let world = World::new(2, 2);
    let text = fs::read_to_string(world.path("node.json")).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    world.write(
        "node.json",
        &text.replace(boot.trim(), "00000000-0000-0000-0000-000000000000"),
    );
    assert_eq!(
        world
            .profile(6, "--ids 5eb9", "AllReduce:RING:256")
            .stderr(),
        ""
    );
}

#[test]
fn gpus_that_the_snapshot_does_not_have_are_not_guessed_at() {
    let world = World::new(2, 2);
    let other = World::of(machine(3, 1)); // lacks two of the four
    let mut command = world.command(6, "--ids 5eba", "AllReduce:RING:256");
    command.env("NCCL_TOPO_FILE", other.path("nccl-topo.xml"));
    assert_eq!(world.profile_by(&mut command).stderr(), "");
}

#[test]
fn memory_and_threads_are_sound_under_valgrind() {
    let world = World::new(2, 2);
    let words =
        "AllReduce:RING:256 Broadcast:RING:64:1 all-to-all:64 captured:AllReduce:8 ce:AllGather";
    for (version, options) in [(4, "--ids 5ebb"), (7, "--ids 5ebc,5ebd")] {
        let run = world.profile_by(&mut world.command_under_valgrind(version, options, words));
        assert!(
            run.stderr().contains("its ring crosses"),
            "{}",
            run.stderr()
        );
    }
    let run =
        world.profile_by(&mut world.command_under_valgrind(6, "--processes --ids 5ebe", words));
    assert_eq!(run.records.len(), 2);
}
