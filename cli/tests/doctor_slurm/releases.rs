//! What depends on the release of Slurm.

use crate::common::Host;

use super::{CONF, GRES, NODES, findings, forecast, found};

/// Every release, some with the patches at which a rule could be thought to begin.
const RELEASES: [&str; 12] = [
    "22.05.8", "23.02", "23.11.1", "24.05.8", "24.11.0", "24.11.6", "24.11.7", "25.05.8",
    "25.11.0", "25.11.7", "26.05.3", "26.11",
];

/// Whether `release` is not before the series `first`; None is never.
fn is_from(release: &str, first: Option<&str>) -> bool {
    first.is_some_and(|first| &release[..5] >= first)
}

#[test]
fn cores_that_a_release_refuses_are_found_from_that_release_on() {
    let host = Host::new();
    host.split_packages();
    // Sockets are NUMA nodes of two cores, and the first two GPUs are near both nodes of package 0.
    for gpu in ["0000:23:00.0", "0000:24:00.0"] {
        host.write(&host.pci(gpu, "numa_node"), "-1");
        host.write(&host.pci(gpu, "local_cpulist"), "0-3,8-11");
    }
    host.replace(
        CONF,
        "GresTypes=gpu",
        "SlurmdParameters=numa_node_as_socket\nGresTypes=gpu",
    );
    host.replace(
        NODES,
        "Sockets=2 \\\n  CoresPerSocket=4",
        "Sockets=4 CoresPerSocket=2",
    );
    host.replace(GRES, "COREs=4-7", "Cores=4-5");
    let mut before = "0-3";
    for (cores, refused_from) in [
        ("0-1", None),
        ("0-3", Some("25.11")),
        ("0-2", Some("24.11")),
        ("1", Some("24.11")),
    ] {
        host.replace(
            GRES,
            &format!("Cores={before}\n"),
            &format!("Cores={cores}\n"),
        );
        before = cores;
        for release in RELEASES {
            let all = found(&host, release, "gres-cores");
            if !is_from(release, refused_from) {
                assert!(all.is_empty(), "{release} {cores}: {all:?}");
                continue;
            }
            let (rule, change) = if is_from(release, Some("25.11")) {
                (
                    "Slurm 25.11 and later take only one whole socket or all cores",
                    "0-7",
                )
            } else {
                ("Slurm 24.11 and later take only whole sockets", "0-3")
            };
            let expected = format!(
                "stops-jobs: /etc/slurm/gres.conf:1: Cores={cores}, but {rule} (2 cores per socket) -> \
                 /etc/slurm/gres.conf:1: Cores={change}   (node 0-1)"
            );
            assert_eq!(all, [expected], "{release}");
        }
    }
}

#[test]
fn cores_that_autodetect_finds_are_refused_like_those_that_are_written() {
    let host = Host::new();
    host.split_packages();
    host.write(GRES, "AutoDetect=nvml\n");
    for release in RELEASES {
        let all = found(&host, release, "gres-autodetect");
        assert_eq!(
            all.len(),
            usize::from(is_from(release, Some("24.11"))),
            "{release}: {all:?}"
        );
        if let Some(text) = all.first() {
            let start = "stops-jobs: /etc/slurm/gres.conf:1: AutoDetect=nvml finds Cores=0-1 for GPU0 0000:23:00.0, ";
            assert!(text.starts_with(start), "{text}");
        }
    }
    // Once NUMA nodes are the sockets, what is found is one whole socket.
    host.replace(
        CONF,
        "GresTypes=gpu",
        "SlurmdParameters=numa_node_as_socket\nGresTypes=gpu",
    );
    for release in RELEASES {
        let all = found(&host, release, "gres-autodetect");
        assert!(all.is_empty(), "{release}: {all:?}");
    }
}

/// As a real slurmd ends on such a machine: "can not handle nobj[SOCKET] = -1" (`tests/slurm/counts`).
#[test]
fn slurmd_does_not_start_where_nodes_hang_on_groups_of_several_kinds() {
    let host = Host::new();
    host.split_packages();
    host.replace(
        CONF,
        "GresTypes=gpu",
        "SlurmdParameters=numa_node_as_socket\nGresTypes=gpu",
    );
    let stops = "hwloc has groups of several kinds, so slurmd cannot count NUMA nodes as sockets";
    assert!(!forecast(&host, "25.11").contains(stops));
    // The kernel calls the cores of the first node a cluster.
    for cpu in [0, 1, 8, 9] {
        let folder = format!("sys/devices/system/cpu/cpu{cpu}/topology");
        host.write(&format!("{folder}/cluster_cpus_list"), "0-1,8-9");
    }
    host.snapshot_now();
    let said = forecast(&host, "25.11");
    assert!(said.contains(stops), "{said}");
}

#[test]
fn written_cores_must_be_just_those_that_autodetect_finds() {
    let host = Host::new();
    host.split_packages();
    host.replace(GRES, "NodeName=gpu9", "AutoDetect=nvml\nNodeName=gpu9");
    host.replace(GRES, "COREs=4-7", "Cores=4-5");
    // The whole socket, of which AutoDetect finds a half.
    let all = found(&host, "22.05.8", "gres-autodetect");
    assert_eq!(
        all,
        [
            "stops-jobs: /etc/slurm/gres.conf:1: Cores=0-3, but AutoDetect finds other cores -> \
          /etc/slurm/gres.conf:1: remove Cores="
        ]
    );
    host.replace(GRES, "Cores=0-3", "Cores=0-1");
    assert!(found(&host, "22.05.8", "gres-autodetect").is_empty());
}

#[test]
fn a_nodes_own_parameters_count_from_25_11_on() {
    let host = Host::new();
    host.split_packages();
    host.replace(GRES, "Cores=0-3", "Cores=0-1");
    host.replace(GRES, "COREs=4-7", "Cores=4-5");
    host.replace(
        NODES,
        "Sockets=2 \\\n  CoresPerSocket=4",
        "Sockets=4 CoresPerSocket=2",
    );
    host.write("usr/lib64/libhwloc.so.15.5.2", "");
    for own in ["node", "slurmd"] {
        if own == "node" {
            host.replace(NODES, "Gres=", "Parameters=numa_node_as_socket Gres=");
        } else {
            host.replace(NODES, "Parameters=numa_node_as_socket ", "");
            host.write(
                "etc/default/slurmd",
                "SLURMD_OPTIONS=\"--parameters=numa_node_as_socket\"\n",
            );
        }
        for release in RELEASES {
            let counts = is_from(release, Some("25.11"));
            let all = found(&host, release, "node-line");
            assert_eq!(all.is_empty(), counts, "{own} {release}: {all:?}");
            // Where the release refuses the cores besides, it is one of the ways to choose from.
            let mut all = found(&host, release, "numa-node-as-socket");
            let cores = found(&host, release, "gres-cores").into_iter();
            all.extend(cores.filter(|own| own.contains("numa_node_as_socket")));
            assert_eq!(all.is_empty(), counts, "{own} {release}: {all:?}");
        }
    }
}

#[test]
fn smaller_numa_nodes_are_to_be_sockets_where_the_release_lets_a_node_say_so() {
    let host = Host::new();
    host.split_packages();
    for release in RELEASES {
        let all = found(&host, release, "numa-node-as-socket");
        let start = if is_from(release, Some("25.11")) {
            "/etc/slurm/nodes.conf:2: Parameters=numa_node_as_socket Sockets=4 CoresPerSocket=2"
        } else {
            "/etc/slurm/slurm.conf: SlurmdParameters=numa_node_as_socket, and on the node's line Sockets=4"
        };
        assert!(
            all[0].contains(&format!("-> {start}")),
            "{release}: {all:?}"
        );
        assert!(
            all[0].contains("socket 0 has 2 NUMA nodes (0-1)"),
            "{all:?}"
        );
    }
}

#[test]
fn ecores_are_no_cores_of_slurms_from_23_02_on() {
    let host = Host::new();
    host.write("sys/devices/cpu_core/cpus", "0-1,4-5,8-9,12-13\n");
    host.write("sys/devices/cpu_atom/cpus", "2-3,6-7,10-11,14-15\n");
    for release in RELEASES {
        let all = found(&host, release, "node-line");
        assert_eq!(
            all.len(),
            usize::from(is_from(release, Some("23.02"))),
            "{release}: {all:?}"
        );
        assert!(
            all.iter()
                .all(|text| text.contains("CoresPerSocket=4 (the machine has 2)"))
        );
    }
    host.replace(
        CONF,
        "GresTypes=gpu",
        "SlurmdParameters=allow_ecores\nGresTypes=gpu",
    );
    assert!(found(&host, "26.05.3", "node-line").is_empty());
}

#[test]
fn words_of_gres_conf_are_known_from_their_release_on() {
    for (value, known_from) in [
        ("AutoDetect=full", "26.05"),
        ("AutoDetect=nvidia", "24.11"),
        ("AutoDetect=nvml", "22.05"),
    ] {
        let host = Host::new();
        host.replace(GRES, "NodeName=gpu9", &format!("{value}\nNodeName=gpu9"));
        for release in RELEASES {
            let all = found(&host, release, "gres-autodetect");
            assert_eq!(
                all.is_empty(),
                is_from(release, Some(known_from)),
                "{release}: {all:?}"
            );
            let message = format!("{value}, which Slurm has from {known_from} on");
            assert!(all.iter().all(|text| text.contains(&message)), "{all:?}");
        }
    }
    let host = Host::new();
    host.replace(
        GRES,
        "Type=l40s File=/dev/nvidia[2-3]",
        "Type=l40s Flags=env_uuid File=/dev/nvidia[2-3]",
    );
    for release in RELEASES {
        let all = found(&host, release, "gres-key");
        assert_eq!(
            all.is_empty(),
            is_from(release, Some("26.05")),
            "{release}: {all:?}"
        );
    }
}

/// `Flags=` that leave jobs without CUDA_VISIBLE_DEVICES, and those beside which it is set all the same.
#[test]
fn flags_without_the_makers_own_word_are_reported_where_a_release_then_sets_no_variable() {
    let told = |flags: &str, release: &str| {
        let host = Host::new();
        for files in ["[0-1]", "[2-3]"] {
            let line = |flags: &str| format!("Type=l40s{flags} File=/dev/nvidia{files}");
            host.replace(GRES, &line(""), &line(&format!(" Flags={flags}")));
        }
        let all = findings(&host, release).into_iter();
        let own = all.filter(|finding| finding["check"] == "gres-key");
        let effects = own.map(|finding| finding["effect"].as_str().unwrap().to_owned());
        effects.collect::<Vec<_>>()
    };
    let unset = "jobs get no CUDA_VISIBLE_DEVICES";
    for release in ["22.05", "23.02", "25.11", "26.05"] {
        let is_middle = ["23.02", "25.11"].contains(&release);
        let all = told("explicit,nvidia_gpu_env", release);
        assert!(release == "22.05" || all.is_empty(), "{release}: {all:?}");
        let all = told("explicit", release);
        assert_eq!(
            all.iter().any(|text| text.contains(unset)),
            is_middle,
            "{release}: {all:?}"
        );
        for flags in ["no_gpu_env", "opencl_env"] {
            let all = told(flags, release);
            assert!(
                all.iter().all(|text| text.contains(unset)) && !all.is_empty(),
                "{release}: {all:?}"
            );
        }
        let all = told("CountOnly", release);
        assert!(
            all.iter().all(|text| text.contains("gres_gpu.so")) && !all.is_empty(),
            "{all:?}"
        );
        let all = told("nvidia_gpu_env,env_uuid", release);
        assert_eq!(all.is_empty(), release == "26.05", "{release}: {all:?}");
        assert!(
            all.iter().all(|text| text.contains("numbers, not UUIDs")),
            "{release}: {all:?}"
        );
    }
}

#[test]
fn only_releases_of_the_table_can_be_named_and_only_some_load_the_plugin() {
    let host = Host::new();
    for release in RELEASES {
        let all = found(&host, release, "plugin-release");
        assert_eq!(
            all.len(),
            usize::from(release == "26.11"),
            "{release}: {all:?}"
        );
        assert!(all.iter().all(|text| {
            text.contains("this is Slurm 26.11; the plugin was checked with Slurm 22.05 to 26.05")
        }));
    }
    for command in ["doctor", "gres-conf"] {
        for unknown in ["27.05", "21.08.8", "24.10", "new"] {
            let output = host.run(&[command, "--slurm-release", unknown]);
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{message}");
            assert!(
                message.contains("expected one of 22.05, 23.02, "),
                "{message}"
            );
        }
    }
}

/// CUDA numbers GPUs of several models by speed.
#[test]
fn uuids_are_advised_where_a_number_may_name_another_model() {
    let host = Host::new();
    host.write(&host.pci("0000:84:00.0", "device"), "0x2330\n");
    host.write(GRES, "AutoDetect=nvml\n");
    host.replace(NODES, "gpu:l40s:4", "gpu:4");
    let advice = |host: &Host, release| found(host, release, "gres-order");
    assert!(advice(&host, "25.11.7").is_empty());
    let all = advice(&host, "26.05.3");
    assert!(
        all.len() == 1
            && all[0].ends_with(
                "-> /etc/slurm/gres.conf: Name=gpu Flags=env_uuid, which puts UUIDs in CUDA_VISIBLE_DEVICES"
            ),
        "{all:?}"
    );
    host.replace(NODES, "gpu:4", "gpu:l40s:3,gpu:h100:1");
    let all = advice(&host, "26.05.3");
    assert!(
        all[0].contains("Name=gpu Type=l40s Flags=env_uuid and Name=gpu Type=h100 Flags=env_uuid"),
        "{all:?}"
    );
    // A line without a file would stop slurmd beside these.
    host.write(
        GRES,
        "AutoDetect=nvml\nName=gpu File=/dev/nvidia[0-2]\nName=gpu File=/dev/nvidia3\n",
    );
    let all = advice(&host, "26.05.3");
    assert!(
        all[0].contains("gres.conf:2, /etc/slurm/gres.conf:3: Flags=env_uuid"),
        "{all:?}"
    );
}

/// What is detected is refused, and lines cannot say otherwise beside it: one advice for both.
#[test]
fn lines_beside_a_detection_that_is_refused_get_one_advice() {
    let host = Host::new();
    host.split_packages();
    host.write(
        GRES,
        "AutoDetect=nvml\nName=gpu Type=l40s File=/dev/nvidia[0-1] Cores=0-3\nName=gpu Type=l40s File=/dev/nvidia[2-3] Cores=4-7\n",
    );
    let of = |release: &str| found(&host, release, "gres-autodetect");
    for (release, word) in [
        (
            "24.11.7",
            "slurm.conf: SlurmdParameters=numa_node_as_socket (",
        ),
        ("25.11.7", "nodes.conf:2: Parameters=numa_node_as_socket ("),
    ] {
        let all = of(release);
        assert!(
            all.len() == 1
                && all[0].contains("AutoDetect=off and the lines that")
                && all[0].contains(word),
            "{release}: {all:#?}"
        );
    }
    let all = of("22.05.8");
    assert!(
        all.len() == 2 && all[0].ends_with("remove Cores="),
        "{all:#?}"
    );
}
