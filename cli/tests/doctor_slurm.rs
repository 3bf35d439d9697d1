//! `gpu-numa doctor` on Slurm set-ups: faults that sites make are found, and right ones are not reported.

use crate::common::Host;
use serde_json::Value;

const CONF: &str = "etc/slurm/slurm.conf";
const NODES: &str = "etc/slurm/nodes.conf";
const GRES: &str = "etc/slurm/gres.conf";
const CGROUP: &str = "etc/slurm/cgroup.conf";

fn findings(host: &Host, release: &str) -> Vec<Value> {
    let output = host.run(&["doctor", "--json", "--slurm-release", release]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    document["findings"].as_array().unwrap().clone()
}

/// A driver, with `/dev/nvidiaN` in the order of `minors` by PCI address.
fn driver(host: &Host, minors: [u32; 4]) {
    let gpus = [
        "0000:23:00.0",
        "0000:24:00.0",
        "0000:83:00.0",
        "0000:84:00.0",
    ];
    for (gpu, minor) in gpus.iter().zip(minors) {
        host.write(
            &format!("proc/driver/nvidia/gpus/{gpu}/information"),
            &format!("Model: \t NVIDIA L40S\nBus Location: \t {gpu}\nDevice Minor: \t {minor}\n"),
        );
    }
    host.snapshot_now();
}

/// What to spoil, in which file, and what must be found, with a word of its evidence.
const FAULTS: &[(&str, &str, &str, &str, &str)] = &[
    (
        GRES,
        "COREs=4-7",
        "Coers=4-7",
        "gres-key",
        "unknown key \"coers=4-7\"",
    ),
    (
        GRES,
        "Type=l40s File=/dev/nvidia[2-3]",
        "Type=l40s Files=/dev/nvidia[2-3] Typ=x",
        "gres-key",
        "typ=x",
    ),
    (
        GRES,
        "/dev/nvidia[2-3]",
        "/dev/nvidia[2-4]",
        "gres-file",
        "/dev/nvidia[2-4]",
    ),
    (
        GRES,
        "/dev/nvidia[2-3]",
        "/dev/nvidia[1-3]",
        "gres-file",
        "/dev/nvidia1 is also on an earlier line",
    ),
    (
        GRES,
        "File=/dev/nvidia[2-3]",
        "Count=2",
        "gres-file",
        "without File=",
    ),
    (
        GRES,
        "/dev/nvidia[2-3]",
        "/dev/nvidia2",
        "gres-count",
        "declares 4 GPUs, gres.conf has 3",
    ),
    (
        GRES,
        "/dev/nvidia[2-3]",
        "/dev/nvidia[2-3] Count=4",
        "gres-count",
        "Count=4, but File= names 2",
    ),
    (
        GRES,
        "Type=l40s",
        "Type=h100",
        "gres-type",
        "Gres=gpu:l40s, but gres.conf has Type=h100",
    ),
    (
        NODES,
        "Gres=gpu:l40s:4",
        "Gres=gpu:L40S:4",
        "gres-type",
        "Gres=gpu:L40S, but gres.conf has Type=l40s",
    ),
    (
        GRES,
        "Type=l40s ",
        "",
        "gres-type",
        "Gres=gpu:l40s, but gres.conf's lines have no Type=",
    ),
    (
        GRES,
        "Type=l40s File=/dev/nvidia[2-3]",
        "File=/dev/nvidia[2-3]",
        "gres-conf",
        "some lines have Type= and others do not",
    ),
    (
        NODES,
        "Gres=gpu:l40s:4",
        "Gres=gpu:l40s:2,gpu:2",
        "gres-type",
        "some GPUs of the node's Gres= have a type and others do not",
    ),
    (
        NODES,
        "Gres=",
        "CpuSpecList=0-7 Gres=",
        "reserved-cpus",
        "CpuSpecList=0-7 keeps CPUs 0-3,8-11 from jobs, which are all that are near GPU0 0000:23:00.0, GPU1",
    ),
    (
        GRES,
        "Cores=0-3",
        "Cores=0-3,8-11",
        "gres-cores",
        "Cores= counts cores, not CPUs",
    ),
    (
        GRES,
        "COREs=4-7",
        "Cores=0-3",
        "gres-cores",
        "Cores=0-3, which is CPUs",
    ),
    (
        GRES,
        "NodeName=gpu[1-3]",
        "NodeName=gpu[2-3]",
        "gres-conf",
        "no Name=gpu line",
    ),
    (
        GRES,
        "NodeName=gpu9",
        "AutoDetect=nvlm\nNodeName=gpu9",
        "gres-autodetect",
        "AutoDetect=nvlm, which Slurm does not know; expected full, nvml, rsmi, oneapi, nrt, nvidia or off",
    ),
    (
        GRES,
        "NodeName=gpu9",
        "AutoDetect=rsmi\nNodeName=gpu9",
        "gres-autodetect",
        "does not find NVIDIA's",
    ),
    (
        GRES,
        "NodeName=gpu9",
        "AutoDetect=nvidia\nNodeName=gpu9",
        "gres-autodetect",
        "AutoDetect=nvidia, which Slurm has from 24.11 on",
    ),
    (
        NODES,
        "Gres=gpu:l40s:4",
        "Gres=gpu:l40s:2",
        "gres-count",
        "declares 2 GPUs, the host has 4",
    ),
    (
        NODES,
        "Gres=gpu:l40s:4",
        "Gres=gpu:a100:4",
        "gres-type",
        "Gres=gpu:a100, but gres.conf has Type=l40s",
    ),
    (
        NODES,
        "Gres=",
        "RealMemory=512000 Gres=",
        "node-line",
        "RealMemory=512000 (the machine has 128000)",
    ),
    (NODES, "Gres=", "CPUs=32 Gres=", "node-line", "CPUs=32"),
    (
        NODES,
        "CoresPerSocket=4",
        "CoresPerSocket=8",
        "node-line",
        "CoresPerSocket=8 (the machine has 4)",
    ),
    (
        CONF,
        "task/affinity,task/cgroup",
        "task/none",
        "task-plugin",
        "TaskPlugin=task/none",
    ),
    (
        CONF,
        "GresTypes=gpu\n",
        "GresTypes=gpu\nTaskPluginParam=Verbose,none\n",
        "task-plugin",
        "TaskPluginParam=Verbose,none",
    ),
    (CONF, "GresTypes=gpu\n", "", "gres-types", "no GresTypes"),
    (
        CGROUP,
        "constraincores=yes\n",
        "ConstrainCore=yes\n",
        "cgroup",
        "no ConstrainCores",
    ),
    (
        CGROUP,
        "constraincores",
        "CgroupPlugin=cgroup/v1\nconstraincores",
        "cgroup",
        "the unified hierarchy",
    ),
];

#[test]
fn faults_that_sites_make_are_found() {
    for (file, from, to, check, evidence) in FAULTS {
        let host = Host::new();
        host.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu\n");
        host.replace(file, from, to);
        let all = findings(&host, "22.05.8");
        let found = all.iter().any(|finding| {
            finding["check"] == *check && finding["evidence"].as_str().unwrap().contains(evidence)
        });
        assert!(found, "{file}: {to}: {all:#?}");
    }
}

#[test]
fn a_missing_cgroup_conf_is_one_finding_that_stops_no_binding() {
    let host = Host::new();
    std::fs::remove_file(host.path(CGROUP)).unwrap();
    let all = findings(&host, "22.05.8");
    assert_eq!(all.len(), 1, "{all:#?}");
    assert_eq!(all[0]["harm"], "weakens-binding");
}

#[test]
fn one_fault_of_several_gpus_is_one_finding_that_lists_them() {
    let host = Host::new();
    for gpu in ["0000:83:00.0", "0000:84:00.0"] {
        host.write(&host.pci(gpu, "current_link_width"), "8");
    }
    let all = findings(&host, "22.05.8");
    assert_eq!(all.len(), 1, "{all:#?}");
    assert_eq!(
        all[0]["evidence"],
        "GPU2 0000:83:00.0, GPU3 0000:84:00.0 run at gen4 x8 of gen4 x16"
    );

    let host = Host::new();
    for bus in ["20", "80"] {
        let up = u32::from_str_radix(bus, 16).unwrap();
        for address in [
            format!("0000:{bus}:00.0"),
            format!("0000:{:02x}:00.0", up + 1),
            format!("0000:{:02x}:00.0", up + 2),
            format!("0000:{:02x}:01.0", up + 2),
            format!("0000:{:02x}:02.0", up + 2),
            format!("0000:{:02x}:00.0", up + 3),
            format!("0000:{:02x}:00.0", up + 4),
        ] {
            host.write(&host.pci(&address, "numa_node"), "-1");
            host.write(&host.pci(&address, "local_cpulist"), "0-15");
            host.write(&host.pci(&address, "local_cpus"), "ffff");
        }
    }
    let all = findings(&host, "22.05.8");
    let places: Vec<&Value> = all
        .iter()
        .filter(|finding| finding["check"] == "gpu-locality")
        .collect();
    assert_eq!(places.len(), 1, "{all:#?}");
    let evidence = places[0]["evidence"].as_str().unwrap();
    assert!(
        evidence.contains("GPU0 ") && evidence.contains("GPU3 "),
        "{evidence}"
    );
}

#[test]
fn lines_without_cores_are_one_finding() {
    let host = Host::new();
    host.replace(GRES, "Cores=0-3", "");
    host.replace(GRES, "COREs=4-7", "");
    let all = findings(&host, "22.05.8");
    assert_eq!(all.len(), 1, "{all:#?}");
    assert_eq!(
        all[0]["evidence"],
        "/etc/slurm/gres.conf:1, /etc/slurm/gres.conf:2: no Cores= for /dev/nvidia[0-1], /dev/nvidia[2-3]"
    );
}

#[test]
fn device_files_out_of_pci_order_are_found() {
    let host = Host::new();
    driver(&host, [0, 1, 2, 3]);
    assert!(findings(&host, "22.05.8").is_empty());
    driver(&host, [1, 0, 2, 3]);
    let all = findings(&host, "22.05.8");
    assert!(
        all.len() == 1 && all[0]["check"] == "gres-order",
        "{all:#?}"
    );
}

#[test]
fn autodetect_is_found_wanting_beside_other_cores_or_without_its_library() {
    let nvml = "AutoDetect=nvml\nNodeName=gpu9";
    let host = Host::new();
    host.replace(GRES, "NodeName=gpu9", nvml);
    host.replace(GRES, "Cores=0-3", "Cores=0-1");
    let all = findings(&host, "22.05.8");
    assert!(
        all.len() == 1 && all[0]["check"] == "gres-autodetect",
        "{all:#?}"
    );

    let host = Host::new();
    host.replace(GRES, "NodeName=gpu9", nvml);
    host.write("usr/lib64/slurm/task_affinity.so", "");
    let all = findings(&host, "22.05.8");
    assert!(
        all.len() == 1 && all[0]["check"] == "gres-autodetect",
        "{all:#?}"
    );
    host.write("usr/lib64/slurm/gpu_nvml.so", "");
    assert!(findings(&host, "22.05.8").is_empty());
}

/// The sentence about the node's registration.
fn forecast(host: &Host, release: &str) -> String {
    let output = host.run(&["doctor", "--slurm-release", release]);
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().filter(|line| line.contains("gpu1"));
    lines.next_back().unwrap_or_default().to_owned()
}

/// Each as a real slurmctld and slurmd of 22.05, 24.11 and 25.11 answered (`make test-gres`).
#[test]
fn registration_is_foretold_for_every_release() {
    let host = Host::new();
    assert_eq!(
        forecast(&host, "24.11"),
        "slurmd on gpu1 will register 4 gpu:l40s, cores 0-3 / 4-7: accepted by every release"
    );
    host.replace(GRES, "Cores=0-3", "Cores=0-1");
    assert_eq!(
        forecast(&host, "24.11"),
        "slurmd on gpu1 will register 4 gpu:l40s, cores 0-1 / 4-7: accepted before 24.11; refused from 24.11 to 25.05, \
         because cores 0-1 are not whole sockets; refused from 25.11 on, because cores 0-1 are not one whole socket or all cores"
    );
    let host = Host::new();
    host.replace(
        NODES,
        "Sockets=2 \\\n  CoresPerSocket=4",
        "Sockets=4 CoresPerSocket=2",
    );
    assert_eq!(
        forecast(&host, "22.05"),
        "slurmd on gpu1 will register 4 gpu:l40s, cores 0-3 / 4-7: accepted before 25.11; refused from 25.11 on, \
         because cores 0-3 are not one whole socket or all cores"
    );
    let host = Host::new();
    host.replace(NODES, "CoresPerSocket=4", "CoresPerSocket=8");
    assert!(
        forecast(&host, "22.05").ends_with(
            ": refused by every release, because the line has CPUs=32 and the machine 16"
        ),
        "{}",
        forecast(&host, "22.05")
    );
    let host = Host::new();
    host.write("dev/null", "");
    assert!(
        forecast(&host, "22.05").contains(
            "slurmd does not start under every release: /etc/slurm/gres.conf:1: the host has no /dev/nvidia0"
        ),
        "{}",
        forecast(&host, "22.05")
    );
}

#[test]
fn autodetect_is_foretold_with_types_and_cores() {
    let nvml = "AutoDetect=nvml\nNodeName=gpu9";
    let host = Host::new();
    host.write(GRES, "AutoDetect=nvml\n");
    assert!(
        forecast(&host, "24.11").contains("the name of GPU 0000:23:00.0 is not recorded"),
        "{}",
        forecast(&host, "24.11")
    );
    driver(&host, [0, 1, 2, 3]);
    assert_eq!(
        forecast(&host, "24.11"),
        "slurmd on gpu1 will register 4 gpu:l40s, cores 0-3 / 4-7: accepted by every release"
    );
    host.replace(NODES, "gpu:l40s:4", "gpu:l4s:4");
    assert_eq!(
        forecast(&host, "24.11"),
        "the registration of gpu1: refused by every release, because slurmd has 0 of 4 GPUs"
    );
    let checks = findings(&host, "24.11");
    assert!(
        checks
            .iter()
            .any(|finding| finding["check"] == "gres-type" && finding["harm"] == "stops-jobs"),
        "{checks:#?}"
    );
    let host = Host::new();
    driver(&host, [0, 1, 2, 3]);
    host.replace(GRES, "NodeName=gpu9", nvml);
    host.replace(NODES, "Gres=gpu", "State=CLOUD Gres=gpu");
    let checks = findings(&host, "24.11");
    assert!(
        checks.iter().any(|finding| finding["evidence"]
            .as_str()
            .unwrap()
            .contains("State=CLOUD")),
        "{checks:#?}"
    );
}

#[test]
fn a_gpu_that_another_driver_has_is_not_slurms_to_give() {
    let host = Host::new();
    let driver = host.path(&host.pci("0000:84:00.0", "driver"));
    std::os::unix::fs::symlink("../../../../bus/pci/drivers/vfio-pci", driver).unwrap();
    let all = findings(&host, "24.11");
    let has = |check: &str, word: &str| {
        all.iter().any(|finding| {
            finding["check"] == check && finding["evidence"].as_str().unwrap().contains(word)
        })
    };
    assert!(
        has(
            "gres-count",
            "the host has 3 that Slurm can give (vfio-pci has GPU 0000:84:00.0)"
        ),
        "{all:#?}"
    );
    assert!(
        has(
            "gres-file",
            "/dev/nvidia3 is GPU 0000:84:00.0, which the kernel driver vfio-pci has"
        ),
        "{all:#?}"
    );
    let lines = host.page(&["gres-conf"]);
    assert!(
        lines.contains("another kernel driver has them: 0000:84:00.0 (vfio-pci)"),
        "{lines}"
    );
    assert!(
        lines.contains("Gres=gpu:3") && !lines.contains("File=/dev/nvidia3"),
        "{lines}"
    );
}

/// A Slurm that was built with hwloc 1 counts NUMA nodes; with which it was built is not always known.
#[test]
fn sockets_are_those_of_the_hwloc_that_slurm_has() {
    let host = Host::new();
    host.split_packages();
    host.replace(
        NODES,
        "Sockets=2 \\\n  CoresPerSocket=4",
        "Sockets=4 CoresPerSocket=2",
    );
    let is_found = |host: &Host| {
        let all = findings(host, "22.05");
        all.iter().any(|finding| finding["check"] == "node-line")
    };
    assert!(!is_found(&host));
    let page = host.run(&["doctor", "--slurm-release", "22.05"]);
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(
        page.contains("built with hwloc 1 takes NUMA nodes for sockets"),
        "{page}"
    );
    host.write("usr/lib64/libhwloc.so.15.5.2", "");
    assert!(is_found(&host));
    std::fs::remove_file(host.path("usr/lib64/libhwloc.so.15.5.2")).unwrap();
    host.write("usr/lib64/libhwloc.so.5.7.8", "");
    assert!(!is_found(&host));
}

#[test]
fn isolated_cpus_near_gpus_are_found() {
    let host = Host::new();
    host.write("sys/devices/system/cpu/isolated", "4-7,12-15\n");
    let all = findings(&host, "24.11");
    let found = all.iter().any(|finding| {
        finding["check"] == "reserved-cpus"
            && finding["evidence"]
                .as_str()
                .unwrap()
                .contains("CPUs 4-7,12-15 near GPUs")
    });
    assert!(found, "{all:#?}");
}

#[test]
fn nccls_configuration_of_another_host_is_found() {
    let host = Host::new();
    host.write(
        "etc/nccl.conf",
        "NCCL_DEBUG=WARN\nNCCL_TOPO_FILE=/opt/none.xml\nNCCL_GRAPH_FILE=/opt/graph.xml\n",
    );
    host.write(
        "opt/graph.xml",
        "<graphs version=\"1\"><graph id=\"0\"><channel><gpu dev=\"0\"/><gpu dev=\"7\"/></channel></graph></graphs>\n",
    );
    let all = findings(&host, "24.11");
    let evidence: Vec<&str> = all
        .iter()
        .filter(|finding| finding["check"] == "nccl-conf")
        .map(|finding| finding["evidence"].as_str().unwrap())
        .collect();
    assert_eq!(
        evidence,
        [
            "/etc/nccl.conf:2: NCCL_TOPO_FILE=/opt/none.xml: no such file",
            "/etc/nccl.conf:3: NCCL_GRAPH_FILE=/opt/graph.xml: the file is for 8 GPUs, this host has 4",
        ],
        "{all:#?}"
    );
}

/// A file, what stands there, and what to write instead.
type Change = (&'static str, &'static str, &'static str);

/// Right set-ups, each as a release and the changes to the first one.
const RIGHT: &[(&str, &[Change])] = &[
    ("22.05.8", &[]),
    ("24.11.7", &[]),
    (
        "23.11",
        &[
            (GRES, "Type=l40s ", ""),
            (NODES, "Gres=gpu:l40s:4", "Gres=gpu:4"),
        ],
    ),
    ("22.05.8", &[(NODES, "Gres=gpu:l40s:4", "Gres=gpu:4")]),
    (
        "24.11.7",
        &[(NODES, "Gres=gpu:l40s:4", "Gres=gpu:l40s:4(S:0-1)")],
    ),
    (
        "22.05.8",
        &[(
            NODES,
            "Gres=gpu:l40s:4",
            "Gres=gpu:l40s:no_consume:4 RealMemory=120000 CPUs=16",
        )],
    ),
    (
        "22.05.8",
        &[(
            GRES,
            "File=/dev/nvidia[0-1]",
            "File=/dev/nvidia0,/dev/nvidia1 Count=2 Flags=nvidia_gpu_env",
        )],
    ),
    (
        "25.05.1",
        &[(GRES, "NodeName=gpu9", "AutoDetect=nvml\nNodeName=gpu9")],
    ),
    (
        "24.11.7",
        &[(
            GRES,
            "NodeName=gpu[1-3] Name=gpu",
            "NodeName=gpu[1-3] AutoDetect=off Name=gpu",
        )],
    ),
    (
        "26.05.3",
        &[(GRES, "NodeName=gpu9", "Name=shard Count=32\nNodeName=gpu9")],
    ),
    (
        "22.05.8",
        &[(
            CGROUP,
            "constraincores=yes",
            "CgroupPlugin=autodetect\nConstrainCores=YES\nConstrainRAMSpace=yes",
        )],
    ),
    (
        "24.05",
        &[(
            CGROUP,
            "constraincores=yes",
            "CgroupPlugin=cgroup/v2\nConstrainCores=1",
        )],
    ),
    (
        "22.05.8",
        &[(
            CONF,
            "taskplugin=task/affinity,task/cgroup",
            "TaskPlugin=cgroup,affinity",
        )],
    ),
    (
        "22.05.8",
        &[(
            CONF,
            "GresTypes=gpu",
            "GresTypes=gpu,shard,mps\nTaskPluginParam=autobind=none\nSelectType=select/cons_tres\nProctrackType=proctrack/cgroup",
        )],
    ),
];

#[test]
fn nothing_is_found_on_right_set_ups() {
    for (release, changes) in RIGHT {
        let host = Host::new();
        host.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu\n");
        for (file, from, to) in *changes {
            host.replace(file, from, to);
        }
        let all = findings(&host, release);
        assert!(all.is_empty(), "{release} {changes:?}: {all:#?}");
    }
}

/// The findings of `check`, of each its harm, evidence and change.
fn found(host: &Host, release: &str, check: &str) -> Vec<String> {
    let all = findings(host, release).into_iter();
    all.filter(|finding| finding["check"] == check)
        .map(|finding| {
            let part = |name: &str| finding[name].as_str().unwrap().to_owned();
            format!(
                "{}: {} -> {}",
                part("harm"),
                part("evidence"),
                part("change")
            )
        })
        .collect()
}

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
            let all = found(&host, release, "numa-node-as-socket");
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

#[test]
fn mig_instances_are_not_cards() {
    let host = Host::new();
    host.replace(NODES, "Gres=gpu:l40s:4", "Gres=gpu:1g.10gb:7");
    let line = "NodeName=gpu1 Name=gpu Type=1g.10gb MultipleFiles=/dev/nvidia0,/dev/nvidia-caps/nvidia-cap21\n";
    host.write(GRES, &line.repeat(7));
    let all = findings(&host, "22.05.8");
    assert!(all.is_empty(), "{all:#?}");
    host.write(GRES, &line.repeat(6));
    assert_eq!(
        found(&host, "22.05.8", "gres-count"),
        [
            "stops-jobs: /etc/slurm/nodes.conf:2: Gres= declares 7 GPUs, gres.conf has 6 -> \
          gres.conf: the lines that `gpu-numa gres-conf` prints"
        ]
    );
}

#[test]
fn real_memory_is_held_against_the_kernels_total_and_not_the_nodes() {
    let host = Host::new();
    host.replace(NODES, "Gres=", "RealMemory=120000 Gres=");
    assert!(findings(&host, "22.05.8").is_empty());
    host.write("proc/meminfo", "MemTotal:       65536000 kB\n");
    let all = found(&host, "22.05.8", "node-line");
    assert!(
        all[0].contains("RealMemory=120000 (the machine has 64000)"),
        "{all:?}"
    );
    // Without it the machine's memory is not known: the nodes have more.
    std::fs::remove_file(host.path("proc/meminfo")).unwrap();
    host.replace(NODES, "RealMemory=120000", "RealMemory=999999");
    assert!(findings(&host, "22.05.8").is_empty());
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
