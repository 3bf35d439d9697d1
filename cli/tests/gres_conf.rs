//! `gpu-numa gres-conf`: the lines for a recorded host, and what doctor says of them.

use crate::common::Host;

fn lines(host: &Host, arguments: &[&str]) -> String {
    host.page(&[&["gres-conf"], arguments].concat())
}

#[test]
fn files_cores_links_and_the_node_line_fit_the_machine() {
    let text = lines(&Host::new(), &[]);
    assert!(
        text.starts_with("# gres.conf for gpu1, Slurm 22.05\n"),
        "{text}"
    );
    for line in [
        "NodeName=gpu1 Name=gpu Type=l40s File=/dev/nvidia0 Cores=0-3 Links=-1,0,0,0   # GPU0 0000:23:00.0, node 0",
        "NodeName=gpu1 Name=gpu Type=l40s File=/dev/nvidia3 Cores=4-7 Links=0,0,0,-1   # GPU3 0000:84:00.0, node 1",
        "# NodeName=gpu1 CPUs=16 Boards=1 SocketsPerBoard=2 CoresPerSocket=4 ThreadsPerCore=2 RealMemory=127500 Gres=gpu:l40s:4",
    ] {
        assert!(text.lines().any(|own| own == line), "{line}\n{text}");
    }
}

#[test]
fn doctor_finds_nothing_wrong_with_the_lines() {
    let host = Host::new();
    let text = lines(&host, &[]);
    let gres: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("Name=gpu "))
        .collect();
    host.write("etc/slurm/gres.conf", &gres.join("\n"));
    let node = text.lines().find(|line| line.contains("CPUs=")).unwrap();
    let node = node.trim_start_matches("# ");
    host.write("etc/slurm/nodes.conf", node);
    let output = host.run(&["doctor", "--slurm-release", "24.11.7"]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn cores_are_whole_sockets_where_the_release_wants_them() {
    let host = Host::new();
    host.split_packages();
    let first = |arguments: &[&str]| {
        let text = lines(&host, arguments);
        let line = text
            .lines()
            .find(|line| line.contains("File=/dev/nvidia0"))
            .unwrap();
        line.split_whitespace()
            .find(|word| word.starts_with("Cores="))
            .unwrap()
            .to_owned()
    };
    assert_eq!(first(&["--slurm-release", "22.05.8"]), "Cores=0-1");
    assert_eq!(first(&["--slurm-release", "24.11.7"]), "Cores=0-3");
    assert_eq!(
        first(&["--slurm-release", "24.11.7", "--numa-node-as-socket"]),
        "Cores=0-1"
    );
    // Near both nodes of the package: two sockets, then all cores, from these releases on.
    let gpu = "0000:23:00.0";
    host.write(&host.pci(gpu, "numa_node"), "-1");
    host.write(&host.pci(gpu, "local_cpulist"), "0-3,8-11");
    for (release, cores) in [
        ("24.05.8", "Cores=0-3"),
        ("24.11.0", "Cores=0-3"),
        ("25.05.8", "Cores=0-3"),
        ("25.11.0", "Cores=0-7"),
        ("26.05.3", "Cores=0-7"),
    ] {
        let own = first(&["--slurm-release", release, "--numa-node-as-socket"]);
        assert_eq!(own, cores, "{release}");
    }
    let text = lines(&host, &["--numa-node-as-socket"]);
    assert!(
        text.contains("SlurmdParameters=numa_node_as_socket\n")
            && text.contains("SocketsPerBoard=4 CoresPerSocket=2"),
        "{text}"
    );
}

/// As slurmd counts nodes of three cores and one: no core number of theirs is known.
#[test]
fn nodes_of_several_sizes_are_no_advice() {
    let host = Host::new();
    host.split_packages();
    let advice = "--numa-node-as-socket gives each GPU its own node's cores";
    let release = ["--slurm-release", "24.11"];
    assert!(lines(&host, &release).contains(advice));
    for (node, cpus) in [("node0", "0-2,8-10"), ("node1", "3,11")] {
        host.write(&format!("sys/devices/system/node/{node}/cpulist"), cpus);
    }
    for gpu in ["0000:23:00.0", "0000:24:00.0"] {
        host.write(&host.pci(gpu, "local_cpulist"), "0-2,8-10");
    }
    host.snapshot_now();
    let text = lines(&host, &release);
    assert!(!text.contains(advice), "{text}");
    assert!(
        text.contains("their Cores= hold more than their own"),
        "{text}"
    );
}

#[test]
fn real_memory_is_the_kernels_total_and_left_out_where_that_is_not_recorded() {
    let host = Host::new();
    host.write("proc/meminfo", "MemTotal:       65536000 kB\n");
    let text = lines(&host, &[]);
    assert!(text.contains(" RealMemory=63744 "), "{text}");
    std::fs::remove_file(host.path("proc/meminfo")).unwrap();
    let text = lines(&host, &[]);
    assert!(!text.contains(" RealMemory=6"), "{text}");
    assert!(
        text.contains("# /proc/meminfo is not recorded, so RealMemory= is left out\n"),
        "{text}"
    );
}

#[test]
fn machines_whose_cores_differ_get_slurms_counts_and_no_cores() {
    let host = Host::new();
    host.write("sys/devices/system/cpu/online", "0-14\n");
    let text = lines(&host, &[]);
    assert!(!text.contains("Cores=0"), "{text}");
    assert!(
        text.contains("CPUs=15 Boards=1 SocketsPerBoard=2 CoresPerSocket=4 ThreadsPerCore=1")
            && text.contains("so Cores= is left out"),
        "{text}"
    );
}

#[test]
fn mig_instances_and_shards_have_lines() {
    let host = Host::new();
    let gpus = [
        ("0000:23:00.0", 0),
        ("0000:24:00.0", 1),
        ("0000:83:00.0", 2),
        ("0000:84:00.0", 3),
    ];
    for (gpu, minor) in gpus {
        host.write(
            &format!("proc/driver/nvidia/gpus/{gpu}/information"),
            &format!("Model: \t NVIDIA L40S\nBus Location: \t {gpu}\nDevice Minor: \t {minor}\n"),
        );
    }
    let text = lines(&host, &["--shards", "4"]);
    for line in [
        "NodeName=gpu1 Name=shard Count=4 File=/dev/nvidia3",
        "# GresTypes=gpu,shard",
    ] {
        assert!(text.lines().any(|own| own == line), "{line}\n{text}");
    }
    assert!(text.contains("Gres=gpu:l40s:4,shard:16"), "{text}");
    for (path, minor) in [("gi1", 66), ("gi1/ci0", 67), ("gi2", 75), ("gi2/ci0", 76)] {
        host.write(
            &format!("proc/driver/nvidia/capabilities/gpu3/mig/{path}/access"),
            &format!("DeviceFileMinor: {minor}\nDeviceFileMode: 256\nDeviceFileModify: 1\n"),
        );
    }
    let text = lines(&host, &[]);
    assert!(
        text.contains("MultipleFiles=/dev/nvidia3,/dev/nvidia-caps/nvidia-cap66,/dev/nvidia-caps/nvidia-cap67 Cores=4-7   # GPU3")
            && text.contains("MultipleFiles=/dev/nvidia3,/dev/nvidia-caps/nvidia-cap75,/dev/nvidia-caps/nvidia-cap76 Cores=4-7")
            && text.contains("Gres=gpu:5\n"),
        "{text}"
    );
    let output = host.run(&["gres-conf", "--shards", "2"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_sites_types_are_kept() {
    let host = Host::new();
    host.replace("etc/slurm/nodes.conf", "gpu:l40s:4", "gpu:ada:4");
    host.write("etc/slurm/gres.conf", "AutoDetect=nvml\n");
    let text = lines(&host, &[]);
    assert!(
        text.contains("Name=gpu Type=ada File=/dev/nvidia0") && text.contains("Gres=gpu:ada:4"),
        "{text}"
    );
    host.write(
        "etc/slurm/gres.conf",
        "Name=gpu Type=old File=/dev/nvidia[0-1]\nName=gpu Type=new File=/dev/nvidia[2-3]\n",
    );
    let text = lines(&host, &[]);
    assert!(text.contains("Gres=gpu:old:2,gpu:new:2"), "{text}");
    host.write("etc/slurm/gres.conf", "# none\n");
    host.replace("etc/slurm/nodes.conf", "gpu:ada:4", "gpu:4");
    let text = lines(&host, &[]);
    assert!(
        text.contains("Gres=gpu:4") && !text.contains("Type="),
        "{text}"
    );
}

/// Lines for whole cards would not be what jobs can open.
#[test]
fn the_sites_mig_instances_are_kept_where_the_driver_is_not_recorded() {
    let text = lines(&Host::of("spr-2s-2g-mig-slurm"), &[]);
    assert!(
        text.contains("Type=3g.40gb MultipleFiles=/dev/nvidia0,/dev/nvidia-caps/nvidia-cap21,")
            && text.contains("Type=h100 File=/dev/nvidia1")
            && text.contains("Gres=gpu:3g.40gb:2,gpu:h100:1"),
        "{text}"
    );
}

/// A site that gives its GPUs out in MIG profiles has no use for lines of whole cards.
#[test]
fn mig_instances_that_are_not_recorded_are_not_written_as_whole_gpus() {
    let host = Host::of("spr-2s-2g-mig-slurm");
    for gres in ["AutoDetect=nvml\n", "# none\n"] {
        host.write("etc/slurm/gres.conf", gres);
        let output = host.run(&["gres-conf"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("the MIG instances of GPU0, GPU1 are not recorded")
                && output.stdout.is_empty(),
            "{said}"
        );
    }
    // The driver's list says that there are none.
    host.write(
        "proc/driver/nvidia/capabilities/mig/config",
        "DeviceFileMinor: 1\n",
    );
    assert!(lines(&host, &[]).contains(" File=/dev/nvidia0 "));
}

#[test]
fn numa_nodes_are_told_to_be_sockets_where_the_release_takes_it() {
    let host = Host::new();
    host.split_packages();
    let told = |release: &str| {
        let text = lines(
            &host,
            &["--slurm-release", release, "--numa-node-as-socket"],
        );
        let is_told = |line: &&str| line.contains("Parameters=numa");
        text.lines().find(is_told).unwrap().to_owned()
    };
    assert_eq!(told("25.05"), "# SlurmdParameters=numa_node_as_socket");
    let line = told("25.11");
    assert!(
        line.starts_with("# NodeName=gpu1 ") && line.ends_with(" Parameters=numa_node_as_socket"),
        "{line}"
    );
    let text = lines(
        &host,
        &["--slurm-release", "25.11", "--numa-node-as-socket"],
    );
    assert!(
        text.contains("Parameters= is a key of Slurm 25.11 and later"),
        "{text}"
    );
}

#[test]
fn amds_gpus_get_lines_in_the_order_in_which_rocm_counts() {
    let files = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .filter(|line| line.starts_with("NodeName=") && line.contains("Flags=amd_gpu_env"));
        let file = |line: &str| {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix("File=").map(str::to_owned))
        };
        lines.filter_map(file).collect()
    };
    let text = lines(&Host::of("frontier-mi250x"), &["--slurm-release", "24.11"]);
    let expected: Vec<String> = (128..136)
        .map(|number| format!("/dev/dri/renderD{number}"))
        .collect();
    assert_eq!(files(&text), expected, "{text}");
    assert!(
        text.contains("0000:d1:00.0, node 0") && text.contains("Links=-1,4,"),
        "{text}"
    );
    // Three parts of four GPUs, for each of which the driver makes eight files.
    let text = lines(&Host::of("mi300a-4s-tpx"), &["--slurm-release", "24.11"]);
    let expected: Vec<String> = (0..4)
        .flat_map(|gpu| (0..3).map(move |part| 128 + 8 * gpu + part))
        .map(|number| format!("/dev/dri/renderD{number}"))
        .collect();
    assert_eq!(files(&text), expected, "{text}");
    // On a node of its own each, in other than the nodes' order; this release wants whole sockets.
    let text = lines(&Host::of("mi300x-2s8g-qpx"), &["--slurm-release", "24.11"]);
    assert_eq!(files(&text).len(), 32, "{text}");
    for (number, node, cpus) in [(131, 3, "0-95"), (160, 7, "96-191"), (187, 5, "96-191")] {
        let file = format!("File=/dev/dri/renderD{number} ");
        let line = text.lines().find(|line| line.contains(&file)).unwrap();
        let is_near =
            line.contains(&format!("Cores={cpus} ")) && line.ends_with(&format!("node {node}"));
        assert!(is_near, "{line}");
    }
    // Eight parts of eight GPUs.
    let text = lines(&Host::of("mi300x-2s8g-cpx"), &["--slurm-release", "24.11"]);
    assert_eq!(files(&text).len(), 64, "{text}");
    assert!(
        text.contains("Gres=gpu:") && text.contains(":64") && !text.contains("Links="),
        "{text}"
    );
}

/// Groups of NUMA nodes near each other are boards, as a real `slurmd -C` prints them.
#[test]
fn boards_are_groups_of_near_sockets() {
    let host = Host::new();
    let line = |words: &[&str]| {
        let page = host.page(&[&["gres-conf"], words].concat());
        page.lines().last().unwrap_or_default().to_owned()
    };
    assert!(line(&[]).contains(" Boards=1 SocketsPerBoard=2 CoresPerSocket=4 "));
    host.split_packages();
    assert!(line(&[]).contains(" Boards=1 SocketsPerBoard=2 CoresPerSocket=4 "));
    let nodes = line(&["--numa-node-as-socket"]);
    assert!(
        nodes.contains(" Boards=1 SocketsPerBoard=4 CoresPerSocket=2 "),
        "{nodes}"
    );
}
