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
        "NodeName=gpu1 Name=gpu File=/dev/nvidia0 Cores=0-3 Links=-1,0,0,0   # GPU0 0000:23:00.0, node 0",
        "NodeName=gpu1 Name=gpu File=/dev/nvidia3 Cores=4-7 Links=0,0,0,-1   # GPU3 0000:84:00.0, node 1",
        "# NodeName=gpu1 CPUs=16 Boards=1 SocketsPerBoard=2 CoresPerSocket=4 ThreadsPerCore=2 RealMemory=128000 Gres=gpu:4",
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

#[test]
fn real_memory_is_the_kernels_total_and_left_out_where_that_is_not_recorded() {
    let host = Host::new();
    host.write("proc/meminfo", "MemTotal:       65536000 kB\n");
    let text = lines(&host, &[]);
    assert!(text.contains(" RealMemory=64000 "), "{text}");
    std::fs::remove_file(host.path("proc/meminfo")).unwrap();
    let text = lines(&host, &[]);
    assert!(!text.contains("RealMemory=6"), "{text}");
    assert!(
        text.contains("# /proc/meminfo is not recorded, so RealMemory= is left out\n"),
        "{text}"
    );
}
