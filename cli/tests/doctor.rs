//! `gpu-numa doctor` on a recorded host: nothing is said of a right one, and each seeded fault is found.

use std::fs;

use crate::common::Host;
use serde_json::Value;

fn examine(host: &Host) -> (Option<i32>, Value) {
    let output = host.run(&["doctor", "--json"]);
    let document = serde_json::from_slice(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (
        output.status.code(),
        document.unwrap_or_else(|error| panic!("{error}: {stderr}")),
    )
}

/// The finding of `check`, which must be the only one.
fn only_finding(host: &Host, check: &str) -> Value {
    let (code, document) = examine(host);
    assert_eq!(code, Some(1), "{document:#}");
    let findings = document["findings"].as_array().unwrap();
    assert!(
        findings.len() == 1 && findings[0]["check"] == check,
        "expected {check} alone: {document:#}"
    );
    for part in ["evidence", "effect", "change"] {
        assert!(!findings[0][part].as_str().unwrap().is_empty(), "{part}");
    }
    findings[0].clone()
}

#[test]
fn nothing_is_found_on_a_right_host() {
    let (code, document) = examine(&Host::new());
    assert_eq!(code, Some(0), "{document:#}");
    assert_eq!(document["slurm_release"], "22.05");
    let page = Host::new().run(&["doctor"]).stdout;
    assert!(
        String::from_utf8(page)
            .unwrap()
            .starts_with("gpu1: nothing found wrong   (Slurm 22.05, ")
    );
}

/// What to spoil, in which file, and the check that must find it, with a word of its evidence.
const FAULTS: &[(&str, &str, &str, &str, &str)] = &[
    (
        "etc/slurm/slurm.conf",
        "affinity,task/cgroup",
        "affinity",
        "task-plugin",
        "slurm.conf:4: TaskPlugin=",
    ),
    (
        "etc/slurm/slurm.conf",
        "affinity,task/cgroup",
        "cgroup",
        "task-plugin",
        "slurm.conf:4",
    ),
    (
        "etc/slurm/slurm.conf",
        "GresTypes=gpu",
        "GresTypes=nic",
        "gres-types",
        "slurm.conf:5",
    ),
    (
        "etc/slurm/cgroup.conf",
        "constraincores=yes",
        "ConstrainCores=no",
        "cgroup",
        "cgroup.conf:1: ConstrainCores=no",
    ),
    (
        "etc/slurm/cgroup.conf",
        "ConstrainDevices=Yes",
        "",
        "cgroup",
        "no ConstrainDevices",
    ),
    (
        "etc/slurm/nodes.conf",
        "Sockets=2",
        "Sockets=1",
        "node-line",
        "nodes.conf:2",
    ),
    (
        "etc/slurm/nodes.conf",
        "ThreadsPerCore=2",
        "ThreadsPerCore=1",
        "node-line",
        "ThreadsPerCore=1 (the machine has 2)",
    ),
    (
        "etc/slurm/nodes.conf",
        "Gres=gpu:l40s:4",
        "Gres=gpu:l40s:8",
        "gres-count",
        "8 GPUs, the host has 4",
    ),
    (
        "etc/slurm/nodes.conf",
        "Gres=gpu:l40s:4",
        "",
        "gres-count",
        "no Gres=gpu",
    ),
    (
        "etc/slurm/gres.conf",
        "Cores=0-3",
        "Cores=4-7",
        "gres-cores",
        "gres.conf:1: Cores=4-7, which is CPUs 4-7,12-15 of node 1",
    ),
    (
        "etc/slurm/gres.conf",
        "COREs=4-7",
        "Cores=4-7,12-15",
        "gres-cores",
        "Cores= counts cores, not CPUs",
    ),
    (
        "etc/slurm/gres.conf",
        "Cores=0-3",
        "Cores=0-7",
        "gres-cores",
        "of other sockets",
    ),
    (
        "etc/slurm/gres.conf",
        "Cores=0-3",
        "",
        "gres-cores",
        "no Cores=",
    ),
    (
        "etc/slurm/plugstack.conf.d/gpu-numa-bind.conf",
        "optional",
        "required",
        "plugin-required",
        "required /usr",
    ),
    (
        "etc/slurm/plugstack.conf.d/gpu-numa-bind.conf",
        "default=",
        "defualt=",
        "plugin-argument",
        "defualt=",
    ),
    (
        "etc/slurm/plugstack.conf.d/gpu-numa-bind.conf",
        "best-effort",
        "clsest",
        "plugin-argument",
        "\"clsest\"",
    ),
    (
        "etc/slurm/plugstack.conf.d/gpu-numa-bind.conf",
        "default=best-effort",
        "default=best-effort,mem=bind",
        "mem-bind",
        "gpu-numa-bind.conf:1: mem=bind",
    ),
    (
        "etc/slurm/plugstack.conf.d/gpu-numa-bind.conf",
        "default=best-effort",
        "always=mem=bind",
        "mem-bind",
        "gpu-numa-bind.conf:1: mem=bind",
    ),
    (
        "etc/slurm/plugstack.conf.d/gpu-numa-bind.conf",
        "gpu_numa_bind.so",
        "old/gpu_numa_bind.so",
        "plugin-file",
        "there is no /usr/lib64/gpu-numa-bind/old/gpu_numa_bind.so",
    ),
    (
        "etc/slurm/plugstack.conf",
        "include",
        "# include",
        "plugin",
        "no line loads",
    ),
    (
        "etc/slurm/plugstack.conf.d/gpu-numa-bind.conf",
        "optional",
        "OPTIONAL",
        "plugin",
        "no line loads",
    ),
    (
        "etc/slurm/plugstack.conf",
        "*.conf",
        "*.conf\r",
        "plugin",
        "a carriage return ends the line",
    ),
    (
        "etc/slurm/slurm.conf",
        "GresTypes=gpu",
        "<<<<<<< HEAD\nGresTypes=gpu",
        "slurm-conf",
        "\"<<<<<<< HEAD\" is no Key=Value",
    ),
    (
        "etc/slurm/slurm.conf",
        "GresTypes=gpu",
        "GresTypes=gpu\nConstrainCores=yes",
        "slurm-conf",
        "\"ConstrainCores=yes\", a key of cgroup.conf",
    ),
    (
        "etc/slurm/slurm.conf",
        "GresTypes=gpu",
        "GresTypes=GPU",
        "gres-types",
        "GresTypes=GPU",
    ),
    (
        "etc/slurm/plugstack.conf",
        "# our own",
        "required spank_pyxis.so",
        "plugstack-order",
        "plugstack.conf:1 loads pyxis before",
    ),
    (
        "proc/sys/kernel/numa_balancing",
        "0",
        "1",
        "numa-balancing",
        "numa_balancing: 1",
    ),
    (
        "proc/sys/vm/zone_reclaim_mode",
        "0",
        "1",
        "zone-reclaim",
        "zone_reclaim_mode: 1",
    ),
    (
        "proc/sys/kernel/random/boot_id",
        "b-1",
        "b-2",
        "snapshot",
        "another boot",
    ),
    (
        "run/gpu-numa-bind/node.json",
        "{",
        "",
        "snapshot",
        "node.json",
    ),
];

#[test]
fn each_seeded_fault_is_found_alone() {
    for (file, from, to, check, evidence) in FAULTS {
        let host = Host::new();
        host.replace(file, from, to);
        let finding = only_finding(&host, check);
        assert!(
            finding["evidence"].as_str().unwrap().contains(evidence),
            "{finding:#}"
        );
    }
}

/// The plugin and doctor read the arguments by one rule (`launch::site`).
#[test]
fn arguments_that_the_plugin_takes_are_no_finding() {
    let file = "etc/slurm/plugstack.conf.d/gpu-numa-bind.conf";
    for taken in [
        "lock=policy,",
        "lock=policy, always=",
        "strict_batch snapshot=/run/gpu-numa-bind",
    ] {
        let host = Host::new();
        host.replace(file, "default=", &format!("{taken} default="));
        let (code, document) = examine(&host);
        assert_eq!(code, Some(0), "{taken}: {document:#}");
    }
    let host = Host::new();
    host.replace(file, "default=", "lock=policy,speed default=");
    let finding = only_finding(&host, "plugin-argument");
    let evidence = finding["evidence"].as_str().unwrap();
    assert!(
        evidence.contains("lock=speed: expected policy, width,"),
        "{evidence}"
    );
    let effect = finding["effect"].as_str().unwrap();
    assert!(
        effect.contains("leaves this word out; what else the argument says holds"),
        "{effect}"
    );
}

#[test]
fn a_line_that_is_a_comment_is_the_one_to_change() {
    let drop_in = "etc/slurm/plugstack.conf.d/gpu-numa-bind.conf";
    let host = Host::new();
    host.replace(drop_in, "optional", "#optional");
    let finding = only_finding(&host, "plugin");
    assert_eq!(
        finding["change"],
        format!("/{drop_in}:1: take the # away, where jobs are to be bound")
    );
}

#[test]
fn a_locality_on_a_node_that_is_not_here_is_found() {
    let host = Host::new();
    let file = "etc/gpu-numa-bind/localities";
    host.write(file, "0000:ff:00.0 1\n");
    assert_eq!(
        examine(&host).0,
        Some(0),
        "a file for several kinds of hosts"
    );
    let shown = host.run(&["show", "--json"]).stdout;
    let shown: Value = serde_json::from_slice(&shown).unwrap();
    let gpu = shown["gpus"][0]["pci"].as_str().unwrap();
    host.write(file, &format!("{gpu} 9\n"));
    let evidence = only_finding(&host, "localities-file")["evidence"].to_string();
    assert!(
        evidence.contains(&format!("{gpu} is to be on node 9")),
        "{evidence}"
    );
}

#[test]
fn a_drop_in_that_nothing_includes_is_named_with_the_line_to_add() {
    let host = Host::new();
    host.replace("etc/slurm/plugstack.conf", "include", "# include");
    let finding = only_finding(&host, "plugin");
    assert!(
        finding["evidence"].as_str().unwrap().contains(
            "/etc/slurm/plugstack.conf.d/gpu-numa-bind.conf would, but no line includes it"
        ),
        "{finding:#}"
    );
    assert_eq!(
        finding["change"],
        "/etc/slurm/plugstack.conf: include /etc/slurm/plugstack.conf.d/*.conf"
    );

    // Slurm's files elsewhere, without a plugstack.conf; the package's drop-in where the package puts it.
    let host = Host::new();
    host.write(
        "etc/slurm/slurm.conf",
        &format!(
            "{}PlugStackConfig=/opt/slurm/etc/plugstack.conf\n",
            fs::read_to_string(host.path("etc/slurm/slurm.conf")).unwrap()
        ),
    );
    let finding = only_finding(&host, "plugin");
    assert_eq!(
        finding["change"],
        "/opt/slurm/etc/plugstack.conf: include /etc/slurm/plugstack.conf.d/*.conf"
    );

    // No drop-in either: the plugin's own line, with the plugin where this host has it.
    fs::remove_file(host.path("etc/slurm/plugstack.conf.d/gpu-numa-bind.conf")).unwrap();
    let plugin = "usr/lib64/gpu-numa-bind/gpu_numa_bind.so";
    fs::remove_file(host.path(plugin)).unwrap();
    host.write(&plugin.replace("lib64", "lib/x86_64-linux-gnu"), "");
    let finding = only_finding(&host, "plugin");
    assert_eq!(
        finding["change"],
        "/opt/slurm/etc/plugstack.conf: optional /usr/lib/x86_64-linux-gnu/gpu-numa-bind/gpu_numa_bind.so"
    );
}

#[test]
fn faults_of_the_hardware_are_found() {
    let gpu = "0000:84:00.0";
    let host = Host::new();
    host.write(&host.pci(gpu, "current_link_width"), "4");
    let finding = only_finding(&host, "link");
    assert!(
        finding["evidence"]
            .as_str()
            .unwrap()
            .contains("GPU3 0000:84:00.0 runs at gen4 x4 of gen4 x16")
    );

    let host = Host::new();
    host.write(&host.pci(gpu, "current_link_speed"), "8.0 GT/s PCIe");
    only_finding(&host, "link");

    let host = Host::new();
    let mut config = vec![0u8; 4096];
    config[0x100..0x104].copy_from_slice(&0x0001_000du32.to_le_bytes());
    config[0x106] = 0x1d;
    fs::write(host.path(&host.pci("0000:22:01.0", "config")), config).unwrap();
    only_finding(&host, "acs");

    let host = Host::new();
    host.write("proc/cmdline", "quiet intel_iommu=on\n");
    only_finding(&host, "iommu");

    let host = Host::new();
    host.write("sys/kernel/iommu_groups/7/type", "DMA-FQ\n");
    std::os::unix::fs::symlink(
        "../../../../kernel/iommu_groups/7",
        host.path(&host.pci(gpu, "iommu_group")),
    )
    .unwrap();
    only_finding(&host, "iommu");

    let host = Host::new();
    host.write(&host.pci("0000:85:00.0", "numa_node"), "0");
    let finding = only_finding(&host, "nic-socket");
    assert!(
        finding["evidence"]
            .as_str()
            .unwrap()
            .starts_with("GPU2, GPU3 on socket 1")
    );

    let host = Host::new();
    host.write(
        "etc/enroot/mounts.d/10-system.fstab",
        "/proc /proc none rbind\n",
    );
    // A file of another name is none of enroot's.
    host.write(
        "etc/enroot/mounts.d/50-gpu-numa-bind.conf",
        "/run/gpu-numa-bind /run/gpu-numa-bind none bind\n",
    );
    only_finding(&host, "container-mount");
}

#[test]
fn a_recording_under_another_name_is_examined_by_its_only_node_line() {
    let host = Host::new();
    host.write("proc/sys/kernel/hostname", "lab\n");
    host.replace("etc/slurm/gres.conf", "Cores=0-3", "Cores=4-7");
    let finding = only_finding(&host, "gres-cores");
    assert!(
        finding["evidence"]
            .as_str()
            .unwrap()
            .contains("/dev/nvidia0 is GPU0 0000:23:00.0")
    );
}

#[test]
fn a_recorded_host_is_none_of_a_list_of_its_kin() {
    let host = Host::new();
    host.write("proc/sys/kernel/hostname", "gpu12\n");
    only_finding(&host, "node-line");
}

#[test]
fn the_clusters_name_may_be_a_part_of_an_included_files() {
    let host = Host::new();
    let conf = "etc/slurm/slurm.conf";
    host.replace(conf, "clustername=c\n", "ClusterName=Lab\n");
    host.replace(conf, "Include nodes.conf", "Include %c.conf");
    fs::rename(
        host.path("etc/slurm/nodes.conf"),
        host.path("etc/slurm/lab.conf"),
    )
    .unwrap();
    let (code, document) = examine(&host);
    assert_eq!(code, Some(0), "{document:#}");
    host.replace(conf, "ClusterName=Lab\n", "");
    let (_, document) = examine(&host);
    let evidence = document["findings"][0]["evidence"].as_str().unwrap();
    assert!(
        evidence.contains("no ClusterName= stands before it"),
        "{evidence}"
    );
}

#[test]
fn hosts_of_a_range_are_known_by_their_place_in_it() {
    let host = Host::new();
    host.replace(
        "etc/slurm/nodes.conf",
        "NodeName=gpu[1-3]",
        "NodeName=n[1-3] NodeHostname=gpu[3,2,1]",
    );
    let gres = |own: &str| {
        let lines = fs::read_to_string(host.path("etc/slurm/gres.conf")).unwrap();
        let lines = lines.replace("gpu[1-3]", own);
        let others = "NodeName=n[1-2] Name=gpu Type=l40s File=/dev/nvidia[0-3] Cores=0-7\n";
        host.write("etc/slurm/gres.conf", &format!("{lines}{others}"));
    };
    gres("n3");
    let (code, document) = examine(&host);
    assert_eq!(code, Some(0), "{document:#}");
    let page = String::from_utf8(host.run(&["gres-conf"]).stdout).unwrap();
    assert!(page.contains("NodeName=n3 "), "{page}");
}

#[test]
fn a_slurm_that_the_plugin_does_not_know_is_found() {
    let host = Host::new();
    fs::remove_file(host.path("usr/lib64/libslurm.so.38.0.0")).unwrap();
    host.write("usr/lib64/libslurm.so.47.0.0", "");
    only_finding(&host, "plugin-release");
}

#[test]
fn a_gpu_at_idle_speed_is_no_finding() {
    let host = Host::new();
    host.write(
        &host.pci("0000:84:00.0", "current_link_speed"),
        "2.5 GT/s PCIe",
    );
    let (code, document) = examine(&host);
    assert_eq!(code, Some(0), "{document:#}");
    assert!(document["unchecked"].to_string().contains("under load"));
}

#[test]
fn cores_that_are_no_whole_socket_depend_on_the_release() {
    let host = Host::new();
    host.replace("etc/slurm/gres.conf", "Cores=0-3", "Cores=0-1");
    assert_eq!(examine(&host).0, Some(0));
    let output = host.run(&["doctor", "--slurm-release", "24.11.7"]);
    let page = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{page}");
    assert!(
        page.contains("gres.conf:1: Cores=0-1, but Slurm 24.11 and later take only whole sockets (4 cores per socket)")
            && page.contains("gres.conf:1: Cores=0-3"),
        "{page}"
    );
}

#[test]
fn without_slurm_or_gpus_the_rest_is_examined() {
    let host = Host::new();
    fs::remove_dir_all(host.path("etc/slurm")).unwrap();
    let (code, document) = examine(&host);
    assert_eq!(code, Some(0), "{document:#}");
    assert!(document["unchecked"].to_string().contains("no slurm.conf"));
}

#[test]
fn a_configuration_does_not_lead_out_of_the_recording() {
    let host = Host::new();
    fs::remove_file(host.path("etc/slurm/nodes.conf")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", host.path("etc/slurm/nodes.conf")).unwrap();
    let (_, document) = examine(&host);
    assert!(
        document["unchecked"]
            .to_string()
            .contains("nodes.conf: no such file"),
        "{document:#}"
    );
}
