//! `show --svg` and `plan --svg`: what the picture holds.

use crate::common::Host;

fn picture(host: &Host, arguments: &[&str]) -> String {
    host.page(&[arguments, &["--svg", "-"]].concat())
}

/// The picture of a declared machine.
fn picture_of(machine: &str, arguments: &[&str]) -> String {
    let recording = machines::named(machine).record();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_gpu-numa"))
        .args(arguments)
        .args(["--svg", "-", "--from"])
        .arg(recording.root())
        .output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

#[test]
fn every_socket_node_and_device_is_drawn_and_the_socket_link_named() {
    let svg = picture(&Host::new(), &["show"]);
    let words = |text: &str| svg.matches(&format!(">{text}</text>")).count();
    for text in [
        "socket 0",
        "socket 1",
        "node 0",
        "node 1",
        "GPU3",
        "NIC1",
        "0000:84:00.0",
        "host bridge 0000:80",
    ] {
        assert_eq!(words(text), 1, "{text}");
    }
    assert_eq!(words("PCIe switch"), 2);
    assert_eq!(words("socket link: SLIT 21, 2.1x local latency"), 1);
}

#[test]
fn a_plan_colours_cpus_memory_and_gpu_of_each_task() {
    let host = Host::new();
    let svg = picture(&host, &["plan", "--tasks", "4", "--cpus-per-task", "4"]);
    for (task, colour) in [
        (0, "#0072b2"),
        (1, "#e69f00"),
        (2, "#009e73"),
        (3, "#cc79a7"),
    ] {
        assert!(svg.contains(&format!("GPU{task} task {task}")), "{svg}");
        // Two cores, half a memory bar, a GPU's head, half that of the NIC below the same switch, the legend.
        assert_eq!(
            svg.matches(&format!("fill=\"{colour}\"")).count(),
            6,
            "task {task}"
        );
    }
    let bare = picture(&host, &["show"]);
    assert!(!bare.contains("#0072b2"));
}

#[test]
fn what_is_remote_is_hatched_with_an_arrow_over_the_link_and_the_bound_step_is_not() {
    let host = Host::new();
    let pair = picture(&host, &["plan", "-c2", "--exact", "--compare"]);
    let (alone, bound) = pair.split_once(">--gpu-numa-bind<").unwrap();
    // Of tasks 1 and 2: a core, two stripes of the card, the legend.
    assert_eq!(alone.matches("fill=\"url(#wrong)\"").count(), 8);
    assert!(alone.contains(">task 1</text>") && alone.contains(">task 2</text>"));
    assert!(!bound.contains("url(#wrong)") && !bound.contains(">task 1</text>"));
    // What is compared is one step: 4 tasks of 2 CPUs each, not all that the host has.
    assert!(pair.contains("; a step of 4 tasks with 2 CPUs each on CPUs 0-1,4-5,8-9,12-13<"));
    for task in ["CPUs 0,8", "CPUs 4,12", "CPUs 1,9", "CPUs 5,13"] {
        let of_task = format!(", {task}, memory");
        assert!(
            alone.contains(&of_task) && bound.contains(&of_task),
            "{task}"
        );
    }
    let masks = ["0-1", "2-3", "4-5", "6-7"]
        .map(|mask| ["--mask", mask])
        .concat();
    let own = picture(&host, &[&["plan", "--compare"], &masks[..]].concat());
    assert!(own.contains("Slurm alone (--mask)") && !own.contains("fill=\"url(#wrong)\""));
    let few = host.page(&[
        "plan",
        "--gpus",
        "0",
        "--mask",
        "4,12",
        "--compare",
        "--svg",
        "-",
    ]);
    assert!(
        few.contains("a step of 1 task with 1 CPU on CPUs 4,12<"),
        "{few}"
    );
}

#[test]
fn slurm_binds_nothing_where_a_step_has_other_cpus_than_its_tasks_ask_for() {
    let host = Host::new();
    let drawn = |tasks: &str, asked: &str, allowed: &str| {
        let step = [
            "--tasks",
            tasks,
            "--cpus-per-task",
            asked,
            "--allowed",
            allowed,
        ];
        picture(&host, &[&["plan", "--compare"], &step[..]].concat())
    };
    // As dist_tasks.c of Slurm has it: sockets, cores or threads, as many as are asked for; else the whole step.
    let loose = drawn("2", "2", "0-15");
    assert!(loose.contains("Slurm alone (binds no task)"));
    assert_eq!(
        loose.matches(", CPUs 0-15, memory left as it is").count(),
        2
    );
    let sockets = drawn("2", "1", "0-15");
    assert!(
        sockets.contains(", CPUs 0-3,8-11, memory left as it is"),
        "{sockets}"
    );
    let cores = drawn("4", "2", "0-1,4-5,8-9,12-13");
    assert!(cores.contains("Slurm alone (default distribution)"));
}

#[test]
fn cpus_that_are_not_known_are_not_coloured() {
    let drawn = |options: &[&str]| picture_of("vm-nonode", &[&["plan"], options].concat());
    let unknown = drawn(&[]);
    assert!(
        unknown.contains("task 2: the NUMA node of GPU2 0000:83:00.0 is unknown"),
        "{unknown}"
    );
    // The GPU's head and frame, half the NIC's head, and the legend.
    assert_eq!(unknown.matches("#009e73").count(), 4);
    let masks = ["0", "1", "4-5", "6"].map(|mask| ["--mask", mask]);
    let known = drawn(&masks.concat());
    assert_eq!(known.matches("#009e73").count(), 6);
}

#[test]
fn tasks_that_share_a_gpu_are_named_on_a_white_plate() {
    let svg = picture(&Host::new(), &["plan", "--tasks", "8"]);
    assert!(
        svg.contains("fill=\"#1f2933\" font-weight=\"bold\">GPU0 tasks 0,4</text>"),
        "{svg}"
    );
}

#[test]
fn a_refused_step_is_said_to_be_refused_and_gets_no_memory() {
    let step = ["plan", "--gpus", "0", "--gpus", "3", "--allowed", "0-3"];
    let drawn = |policy: &str| picture_of("vm-2s4g", &[&step[..], &["--option", policy]].concat());
    let refused = drawn("restricted");
    assert_eq!(
        refused.matches(">task 0: refused: ").count(),
        1,
        "{refused}"
    );
    let (colour, bound) = ("fill=\"#0072b2\"", drawn("best-effort"));
    assert!(refused.matches(colour).count() < bound.matches(colour).count());
}

#[test]
fn words_below_a_narrow_picture_are_broken_and_many_stand_in_columns() {
    let narrow = picture_of("spr-2s-2g-mig-slurm", &["show"]);
    assert!(narrow.contains(">NVLink is not visible here"), "{narrow}");
    assert!(
        narrow.contains("drawn.</text>")
            && !narrow.contains("here: GPUs may be connected in ways that are not drawn.")
    );
    let many = picture_of("dgx2", &["plan", "-n16", "-c2"]);
    let left_of = |task: &str| {
        let mut lines = many.lines();
        let line = lines.find(|line| line.contains(&format!(">{task}: ")));
        line.unwrap().split('"').nth(1).unwrap().to_owned()
    };
    assert_eq!(left_of("task 0"), left_of("task 7"), "{many}");
    assert_ne!(left_of("task 0"), left_of("task 15"), "{many}");
}

#[test]
fn a_hostile_name_stays_text() {
    let host = Host::new();
    let information = "Model: </text><script>alert(1)</script>\nBus Location: 0000:23:00.0\n";
    host.write(
        "proc/driver/nvidia/gpus/0000:23:00.0/information",
        information,
    );
    let machine = host.page(&["show", "--json"]);
    assert!(machine.contains("<script>"), "{machine}");
    assert!(!picture(&host, &["show"]).contains("<script"));
    host.write("proc/sys/kernel/hostname", "</title><script>\n");
    assert!(picture(&host, &["show"]).contains("<title>machine</title>"));
}

#[test]
fn a_file_is_written_and_a_folder_refused() {
    let host = Host::new();
    let path = host.path("machine.svg");
    let output = host.run(&["show", "--svg", path.to_str().unwrap()]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    assert!(std::fs::read_to_string(path).unwrap().ends_with("</svg>\n"));
    assert_eq!(host.run(&["show", "--svg", "/"]).status.code(), Some(2));
}

#[test]
fn the_picture_in_the_readme_is_what_the_program_draws() {
    let drawn = picture(
        &Host::new(),
        &["plan", "-n4", "-c2", "--exact", "--compare"],
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/plan.svg");
    if std::env::var_os("UPDATE_PICTURES").is_some() {
        std::fs::write(path, &drawn).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(
        kept == drawn,
        "UPDATE_PICTURES=1 cargo test -p gpu-numa readme writes docs/plan.svg"
    );
}
