//! `gpu-numa show` as somebody reads it who has not seen the machine.

use crate::common::Host;

/// The page in one line, so that where a sentence is wrapped does not matter.
fn words(page: &str) -> String {
    page.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_the_kernel_says_has_no_mark_and_the_words_in_use_are_explained() {
    let page = words(&Host::new().page(&["show"]));
    assert!(!page.contains('*'), "{page}");
    assert!(
        page.contains("PIX: through one PCIe switch; SYS: between NUMA nodes."),
        "{page}"
    );
    assert!(!page.contains("PHB:") && !page.contains("NV#:"), "{page}");
    assert!(
        page.contains("To keep a job of 2 GPUs on one socket, ask for: --gpus-per-socket=2 --sockets-per-node=1"),
        "{page}"
    );
    assert!(
        page.contains("srun -n4 --gpus-per-task=1 --gpu-numa-bind"),
        "{page}"
    );
}

#[test]
fn parts_are_counted_whatever_the_driver_says_of_them() {
    for (machine, cards, parts, each) in
        [("mi300a-4s-tpx", 4, 12, 3), ("mi300x-2s8g-qpx", 8, 32, 4)]
    {
        let host = Host::of(machine);
        let page = words(&host.page(&["show"]));
        let last = cards - 1;
        assert!(
            page.contains(&format!("; {cards} GPUs in {parts} parts")),
            "{page}"
        );
        assert!(
            page.contains(&format!("Divided: GPU0-{last} into {each} parts.")),
            "{page}"
        );
        // Each task is on its card's node, and no two have a CPU in common.
        let plan = host.page(&["plan", "--json"]);
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
        let tasks = plan["tasks"].as_array().unwrap();
        assert_eq!(tasks.len(), parts);
    }
}

#[test]
fn gpus_that_are_divided_are_counted_as_programs_count_them() {
    let host = Host::of("mi300x-2s8g-cpx");
    let page = words(&host.page(&["show"]));
    assert!(page.contains("; 8 GPUs in 64 parts, 8 NICs"), "{page}");
    assert!(
        page.contains("Divided: GPU0-7 into 8 parts. Programs and Slurm count each part as a GPU, so that there are 64."),
        "{page}"
    );
    assert!(
        page.contains("srun -n64 --gpus-per-task=1 --gpu-numa-bind"),
        "{page}"
    );
    let plan = host.page(&["plan"]);
    let tasks: Vec<&str> = plan
        .lines()
        .filter(|line| line.starts_with("task "))
        .collect();
    assert_eq!(tasks.len(), 64);
    for (task, gpu) in [
        (0, "0000:05:00.0"),
        (7, "0000:05:00.0"),
        (8, "0000:26:00.0"),
        (63, "0000:e5:00.0"),
    ] {
        let begins = format!("task {task}: GPU {gpu} ");
        assert!(tasks[task].starts_with(&begins), "{}", tasks[task]);
    }
    let blocks = host.page(&["plan", "--gpus-per-task", "16"]);
    assert!(
        blocks.contains("task 3: GPUs 0000:c6:00.0 and 0000:e5:00.0 node 1,"),
        "{blocks}"
    );
    let whole = Host::of("mi300x-2s8g").page(&["show"]);
    assert!(!whole.contains("parts"), "{whole}");
}

#[test]
fn links_are_called_as_the_makers_of_their_gpus_call_them() {
    let host = Host::of("abi-2s2n-mixed");
    let page = words(&host.page(&["show"]));
    assert!(
        page.contains("except GPU1 with GPU3, which xGMI connects."),
        "{page}"
    );
    assert!(page.contains("NVLink not visible)"), "{page}");
    let output = host.run(&["plan", "--for", "vllm"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--for: these are GPUs of AMD and NVIDIA, and workers use those of one; name them with --gpus"), "{said}");
    let own = host.page(&["plan", "--for", "mpirun", "--gpus", "1,3"]);
    assert!(own.contains("-np 2 "), "{own}");
    let output = Host::of("frontier-mi250x").run(&["nccl", "ranks", "--tp", "2"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("the GPUs here are not NVIDIA's, and NCCL does not run on them"),
        "{said}"
    );
}

#[test]
fn an_inferred_node_is_marked_with_its_evidence() {
    let host = Host::new();
    host.write(&host.pci("0000:24:00.0", "numa_node"), "-1");
    host.write(&host.pci("0000:24:00.0", "local_cpulist"), "0-15");
    host.write(&host.pci("0000:24:00.0", "local_cpus"), "ffff");
    let page = words(&host.page(&["show"]));
    assert!(page.contains("GPU1 PIX X"), "{page}");
    assert!(page.contains("0* 0-3,8-11"), "{page}");
    assert!(
        page.contains(
            "* inferred from the devices below the same bridge; the kernel reports no NUMA node (`gpu-numa show --explain GPU1`"
        ),
        "{page}"
    );
}
