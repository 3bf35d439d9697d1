//! Snapshots that are missing, broken, old or somebody else's: the job is bound by `/sys`, and the log says why.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::host::{Outcome, Scenario, run};
use crate::world::{World, give_to_user, set_mode};

/// A step of one task that opens the second GPU by PCI order, on a host whose `/sys` says the same.
fn step(world: &World) -> Scenario {
    // Without a driver minors are taken to follow PCI order.
    Scenario::on(world, 1)
        .line(format_args!(
            "bind {} /sys/devices/system/node",
            world.path("node").display()
        ))
        .line("opens 0 1")
        .line("task-env 0 CUDA_VISIBLE_DEVICES=0")
        .option("")
}

/// Spoils a world's snapshot, and runs a step.
fn spoilt(spoil: impl FnOnce(&World, &Path)) -> (Outcome, World) {
    let world = World::with_real_cpus();
    spoil(&world, &world.node_file());
    let outcome = run(step(&world));
    (outcome, world)
}

/// The step was bound by `/sys`, in time, and the log says why.
fn assert_bound_by_sysfs(outcome: &Outcome, world: &World, because: &[&str]) {
    let own = outcome.task(0);
    assert_eq!(
        own.cpus,
        world.cpus_of_gpu(1).to_string(),
        "{}",
        outcome.text
    );
    assert!(outcome.logs(because), "{because:?}\n{}", outcome.text);
    assert!(outcome.elapsed < Duration::from_secs(5));
    // NCCL's file goes with the snapshot that it was written with.
    assert!(!own.env.contains_key("NCCL_TOPO_FILE"));
}

macro_rules! spoilt_snapshot {
    ($name:ident, $because:expr, $spoil:expr) => {
        #[test]
        fn $name() {
            let (outcome, world) = spoilt($spoil);
            assert_bound_by_sysfs(&outcome, &world, $because);
        }
    };
}

spoilt_snapshot!(
    an_empty_snapshot_is_left_out,
    &["node.json", "not a snapshot"],
    |_, file| {
        fs::write(file, "").unwrap();
    }
);

spoilt_snapshot!(
    a_truncated_snapshot_is_left_out,
    &["node.json", "not a snapshot"],
    |_, file| {
        let text = fs::read_to_string(file).unwrap();
        fs::write(file, &text[..text.len() / 2]).unwrap();
    }
);

spoilt_snapshot!(
    bottomless_brackets_are_left_out,
    &["node.json", "not a snapshot"],
    |_, file| {
        fs::write(file, "[".repeat(1 << 20)).unwrap();
    }
);

spoilt_snapshot!(
    bytes_that_are_no_text_are_left_out,
    &["node.json", "not text"],
    |_, file| {
        fs::write(file, [0xff; 100]).unwrap();
    }
);

spoilt_snapshot!(
    another_format_is_left_out,
    &["gpu-numa/snapshot/9"],
    |_, file| {
        let text = fs::read_to_string(file).unwrap();
        fs::write(file, text.replace("snapshot/1", "snapshot/9")).unwrap();
    }
);

spoilt_snapshot!(
    another_boots_snapshot_is_left_out,
    &["stale", "another boot"],
    |world, _| {
        let mut snapshot = world.snapshot();
        snapshot.boot_id = Some("00000000-0000-4000-8000-000000000000".to_owned());
        world.write_snapshot(&snapshot);
    }
);

spoilt_snapshot!(
    another_drivers_snapshot_is_left_out,
    &["stale", "driver 1.0"],
    |world, _| {
        let mut snapshot = world.snapshot();
        snapshot.driver = Some("1.0".to_owned());
        world.write_snapshot(&snapshot);
    }
);

spoilt_snapshot!(
    a_gone_gpu_makes_it_stale,
    &["stale", "0000:fe:00.0", "gone"],
    |world, _| {
        let mut snapshot = world.snapshot();
        snapshot.machine.gpus[0].pci = "0000:fe:00.0".parse().unwrap();
        world.write_snapshot(&snapshot);
    }
);

spoilt_snapshot!(
    other_cpus_make_it_stale,
    &["stale", "online"],
    |world, _| {
        let mut snapshot = world.snapshot();
        snapshot.machine.online.insert(4000);
        world.write_snapshot(&snapshot);
    }
);

spoilt_snapshot!(
    a_folder_in_its_place_is_left_out,
    &["not a regular file"],
    |_, file| {
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
    }
);

spoilt_snapshot!(
    a_fifo_in_its_place_does_not_block,
    &["not a regular file"],
    |_, file| {
        fs::remove_file(file).unwrap();
        make_fifo(file);
    }
);

spoilt_snapshot!(a_gigabyte_is_not_read, &["1073741824 bytes"], |_, file| {
    fs::File::options()
        .write(true)
        .open(file)
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
});

spoilt_snapshot!(
    a_users_file_is_not_trusted,
    &["writable only by root", "65534"],
    |_, file| {
        give_to_user(file);
    }
);

spoilt_snapshot!(
    a_users_folder_is_not_trusted,
    &["writable only by root", "65534"],
    |_, file| {
        give_to_user(file.parent().unwrap());
    }
);

spoilt_snapshot!(
    a_file_that_all_can_write_is_not_trusted,
    &["writable only by root", "666"],
    |_, file| {
        set_mode(file, 0o666);
    }
);

spoilt_snapshot!(a_link_is_not_followed, &["node.json"], |world, file| {
    let real = world.path("elsewhere.json");
    fs::rename(file, &real).unwrap();
    symlink(&real, file).unwrap();
});

spoilt_snapshot!(
    a_file_that_the_user_may_not_read_is_left_out,
    &["node.json", "denied"],
    |_, file| {
        set_mode(file, 0o600);
    }
);

#[test]
fn without_a_snapshot_sysfs_binds_and_only_the_log_says_so() {
    let (outcome, world) = spoilt(|_, file| fs::remove_file(file).unwrap());
    assert_bound_by_sysfs(&outcome, &world, &["1 task on its GPUs' CPUs"]);
    assert!(
        outcome.logs(&["host log info", "node.json", "/sys"]),
        "{}",
        outcome.text
    );
    assert_eq!(outcome.task(0).user.len(), 1, "{}", outcome.text);
}

#[test]
fn a_snapshot_folder_that_is_not_there_is_no_snapshot() {
    let (outcome, world) = spoilt(|world, _| {
        fs::remove_dir_all(world.path("snapshot")).unwrap();
    });
    assert_bound_by_sysfs(&outcome, &world, &["1 task on its GPUs' CPUs"]);
}

#[test]
fn without_snapshot_and_sysfs_the_job_is_left_with_a_line() {
    let world = World::with_real_cpus();
    fs::remove_file(world.node_file()).unwrap();
    let outcome = run(step(&world).line("tmpfs /sys"));
    let own = outcome.task(0);
    assert_eq!(own.cpus, world.machine.online.to_string());
    assert_eq!(own.user.len(), 1, "{:?}", own.user);
    assert!(
        own.user[0].contains("left as Slurm made it"),
        "{:?}",
        own.user
    );
}

/// Every scalar of a snapshot, replaced by each of a few absurd ones, one at a time.  Whatever the plugin
/// makes of it, [`Scenario::run`] checks that nothing crashes or panics.
#[test]
fn a_snapshot_with_an_absurd_value_does_no_harm() {
    let world = World::declared("abi-2s1n2c2t");
    let whole = serde_json::to_value(world.snapshot()).unwrap();
    let mut places = Vec::new();
    collect_places(&whole, String::new(), &mut places);
    let absurd = [
        "null",
        "-1",
        "4294967295",
        "\"\"",
        "\"0-65535\"",
        "[]",
        "{}",
        "\"\u{1}\"",
    ];
    for (index, place) in places.iter().enumerate() {
        // Two a place, other ones at the next: all of them come to every kind of place.
        for pick in [index, index + 3] {
            let mut spoilt = whole.clone();
            let value = serde_json::from_str(absurd[pick % absurd.len()]).unwrap_or_default();
            *spoilt.pointer_mut(place).unwrap() = value;
            world.write("snapshot/node.json", &spoilt.to_string());
            let outcome = run(Scenario::on(&world, 2).option("l3").fence(&world, &[0, 1]));
            assert_eq!(outcome.task(1).exit, "0", "{place}\n{}", outcome.text);
        }
    }
}

/// JSON pointers to everything within a value.
fn collect_places(value: &serde_json::Value, at: String, places: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, inner) in map {
                collect_places(inner, format!("{at}/{key}"), places);
            }
        }
        serde_json::Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                collect_places(inner, format!("{at}/{index}"), places);
            }
        }
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => {}
    }
    if !at.is_empty() {
        places.push(at);
    }
}

pub(crate) fn make_fifo(path: &Path) {
    let status = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(status.success());
}
