//! Faults that sites make in their files, and files that are right.

use crate::common::Host;

use super::{CGROUP, CONF, GRES, NODES, document, driver, findings, found};

/// What to spoil, in which file, and what must be found, with a word of its evidence.
const FAULTS: &[(&str, &str, &str, &str, &str)] = &[
    (
        GRES,
        "COREs=4-7",
        "Coers=4-7",
        "gres-key",
        "unknown key \"Coers=4-7\"",
    ),
    (
        GRES,
        "Type=l40s File=/dev/nvidia[2-3]",
        "Type=l40s Files=/dev/nvidia[2-3] Typ=x",
        "gres-key",
        "Typ=x",
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
        "File=/dev/nvidia[2-3] COREs=4-7",
        "Files=/dev/nvidia[2-3]",
        "gres-cores",
        "no Cores= for /dev/nvidia[2-3]",
    ),
    (
        GRES,
        "/dev/nvidia[2-3]",
        "/dev/nvidia*",
        "gres-file",
        "/dev/nvidia*",
    ),
    (
        GRES,
        "/dev/nvidia[2-3]",
        "/dev/nvidia[1-3]",
        "gres-file",
        "/dev/nvidia1 is given twice",
    ),
    (
        GRES,
        "COREs=4-7",
        "COREs=4-7 Flags=nvidia_gpu_env",
        "gres-conf",
        "Flags=nvidia_gpu_env is not what an earlier line of the GRES has",
    ),
    (
        GRES,
        "COREs=4-7",
        "COREs=4-5, 6-7",
        "gres-key",
        "/etc/slurm/gres.conf:2: \"6-7\" is no Key=Value",
    ),
    (
        GRES,
        "NodeName=gpu[1-3] Name=gpu Type=l40s File=/dev/nvidia[0-1]",
        "Name=gpu NodeName=gpu[1-3] Type=l40s File=/dev/nvidia[0-1]",
        "gres-key",
        "\"NodeName=gpu[1-3]\" stands behind another key",
    ),
    (
        GRES,
        "NodeName=gpu[1-3] Name=gpu Type=l40s File=/dev/nvidia[0-1]",
        "Type=l40s Name=gpu File=/dev/nvidia[0-1]",
        "gres-key",
        "the line begins with \"Type=l40s\"",
    ),
    (
        GRES,
        "NodeName=gpu9",
        "AutoDetect=nvml Name=gpu\nNodeName=gpu9",
        "gres-key",
        "something follows AutoDetect=",
    ),
    (
        GRES,
        "NodeName=gpu9",
        "NodeName=gpu1 AutoDetect=off\nNodeName=gpu1 AutoDetect=nvml\nNodeName=gpu9",
        "gres-autodetect",
        "/etc/slurm/gres.conf:4: two AutoDetect= for this node differ",
    ),
    (
        GRES,
        "NodeName=gpu9",
        "Name=gpu Type=l40s AutoDetect=nvml File=/dev/nvidia0\nNodeName=gpu9",
        "gres-autodetect",
        "/etc/slurm/gres.conf:3: AutoDetect=nvml behind Name=",
    ),
    (
        GRES,
        "Name=gpu Type=l40s File=/dev/nvidia[0-1]",
        "Name=GPU Type=l40s File=/dev/nvidia[0-1]",
        "gres-key",
        "/etc/slurm/gres.conf:1: Name=GPU: the GRES is called gpu",
    ),
    (
        NODES,
        "Gres=gpu:l40s:4",
        "Gres=gpu:l40s:4,shard:8,nic",
        "gres-types",
        "Gres= has shard, nic, which GresTypes=gpu does not name",
    ),
    (
        NODES,
        "Gres=",
        "CpuSpecList=0-15 Gres=",
        "reserved-cpus",
        "CpuSpecList=0-15 keeps CPUs 0-15 from jobs, which are all that there are",
    ),
    (
        NODES,
        "Gres=",
        "CoreSpecCount=8 Gres=",
        "reserved-cpus",
        "CoreSpecCount=8 is not less than the 8 cores of the line",
    ),
    (
        NODES,
        "gpu:l40s:4",
        "gpu:l40s:4, nic:1",
        "slurm-conf",
        "/etc/slurm/nodes.conf:2: \"nic:1\" is no Key=Value",
    ),
    (
        CONF,
        "GresTypes=gpu\n",
        "GresTypes=gpu SlurmdParameters=numa_node_as_socket\n",
        "slurm-conf",
        "\"SlurmdParameters=numa_node_as_socket\" stands behind GresTypes=",
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
        "NodeName=gpu2 CPUs=1\nNodeName=gpu3",
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
        "unknown key \"ConstrainCore=yes\"",
    ),
    (
        CGROUP,
        "constraincores=yes\n",
        "constraincores=yes ",
        "cgroup",
        "stands behind constraincores=",
    ),
    (
        NODES,
        "Sockets=2",
        "Sokcets=2",
        "slurm-conf",
        "unknown key \"Sokcets=2\"",
    ),
    (
        NODES,
        "Gres=",
        "RestrictedCoresPerGPU=2 Gres=",
        "slurm-conf",
        "which Slurm has from 24.05 on",
    ),
    (
        NODES,
        "CoresPerSocket=4",
        "CoresPerSocket=four",
        "slurm-conf",
        "\"CoresPerSocket=four\": the key takes a number",
    ),
    (
        CONF,
        "GresTypes=gpu\n",
        "GresTypes=gpu\nDisableRootJobs=maybe\n",
        "slurm-conf",
        "the key takes yes or no",
    ),
    (
        CONF,
        "task/affinity,task/cgroup",
        "task/afinity,task/cgroup",
        "task-plugin",
        "TaskPlugin=task/afinity: Slurm has no such plugin",
    ),
    (
        CONF,
        "GresTypes=gpu\n",
        "GresTypes=gpu\nProctrackType=cgroup\n",
        "slurm-conf",
        "ProctrackType=cgroup: Slurm has no such plugin",
    ),
    (
        CONF,
        "GresTypes=gpu\n",
        "GresTypes=gpu\nAuthAltTypes=auth/nonsense\n",
        "slurm-conf",
        "AuthAltTypes=auth/nonsense: Slurm has no such plugin",
    ),
    (
        CONF,
        "GresTypes=gpu\n",
        "GresTypes=gpu\nMpiDefault=mpi/pmi2\n",
        "slurm-conf",
        "MpiDefault=mpi/pmi2: Slurm has no such plugin",
    ),
    (
        CONF,
        "GresTypes=gpu\n",
        "GresTypes=gpu\nInclude partitions.conf\n",
        "slurm-conf",
        "Include partitions.conf: no such file",
    ),
    (
        CONF,
        "GresTypes=gpu\n",
        "GresTypes=gpu\nInclude /etc/slurm/conf.d/*.conf\n",
        "slurm-conf",
        "is a pattern, and Slurm includes only files by name",
    ),
    (
        NODES,
        "NodeName=gpu[1-3]",
        "NodeName=gpu2 CPUs=1\nNodeName=gpu3",
        "node-line",
        "no NodeName= names gpu1",
    ),
    (
        CGROUP,
        "constraincores",
        "CgroupPlugin=cgroup/v3\nconstraincores",
        "cgroup",
        "CgroupPlugin=cgroup/v3: Slurm has no such plugin",
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
fn bytes_that_are_not_utf8_are_read_as_slurm_reads_them() {
    let host = Host::new();
    for file in [CONF, NODES, GRES, CGROUP] {
        let mut bytes = b"# caf\xe9\n".to_vec();
        bytes.extend(std::fs::read(host.path(file)).unwrap());
        std::fs::write(host.path(file), bytes).unwrap();
    }
    let all = findings(&host, "22.05.8");
    assert!(all.is_empty(), "{all:#?}");
    let mut bytes = std::fs::read(host.path(CONF)).unwrap();
    bytes.extend(b"NodeName=caf\xe9 Feature=\xe9t\xe9\n");
    std::fs::write(host.path(CONF), &bytes).unwrap();
    assert!(findings(&host, "22.05.8").is_empty());
    bytes.extend(b"Caf\xe9=1\n");
    std::fs::write(host.path(CONF), bytes).unwrap();
    let all = findings(&host, "22.05.8");
    assert!(
        all[0]["evidence"].as_str().unwrap().contains("unknown key"),
        "{all:#?}"
    );
}

#[test]
fn of_a_file_full_of_wrong_lines_the_first_are_reported_and_the_rest_is_said_to_be_left() {
    let host = Host::new();
    let conf = std::fs::read_to_string(host.path(CONF)).unwrap();
    let lines: String = (0..100_000).map(|key| format!("Key{key}=1\n")).collect();
    host.write(CONF, &(conf.clone() + &lines));
    let said = document(&host, "24.11.5");
    let unknown = said["findings"].as_array().unwrap().iter();
    let unknown = unknown.filter(|finding| finding["evidence"].to_string().contains("unknown key"));
    assert_eq!(unknown.count(), 255);
    let next = conf.lines().count() + 256;
    let left = format!("{next} and the lines after it: 255 lines before them are wrong");
    let unchecked = said["unchecked"].to_string();
    assert!(unchecked.contains(&left), "{unchecked}");
}

/// The line is found as slurmd finds it: by -N, by the host's other names, and as localhost.
#[test]
fn the_nodes_line_may_have_another_name() {
    let gres = |host: &Host, name: &str| {
        host.replace(NODES, "NodeName=gpu[1-3]", &format!("NodeName={name}"));
        host.replace(GRES, "NodeName=gpu[1-3]", &format!("NodeName={name}"));
    };
    for (name, file, text) in [
        ("worker7", "etc/hosts", "10.0.0.7 worker7 gpu1 # rack 3\n"),
        ("localhost", "etc/hosts", "127.0.0.1 localhost\n"),
        ("n7", "etc/default/slurmd", "SLURMD_OPTIONS=\"-N n7\"\n"),
    ] {
        let host = Host::new();
        gres(&host, name);
        // More than one line, so that a recording's only line is not what is found.
        let nodes = std::fs::read_to_string(host.path(NODES)).unwrap();
        host.write(NODES, &format!("{nodes}\nNodeName=other CPUs=1\n"));
        let is_missing = || {
            let all = findings(&host, "22.05.8");
            all.iter().any(|own| own["check"] == "node-line")
        };
        assert_eq!(is_missing(), name != "localhost");
        host.write(file, text);
        assert!(!is_missing(), "{name}");
    }
}

#[test]
fn a_change_of_gres_keeps_the_type_and_the_other_gres() {
    for (gres, change) in [
        ("gpu:l40s:5,nic:2", "Gres=gpu:l40s:4,nic:2"),
        ("nic:2,gpu:l40s:3(S:0)", "Gres=nic:2,gpu:l40s:4"),
        ("gpu:5", "Gres=gpu:4"),
        ("nic:2", "Gres=gpu:l40s:4,nic:2"),
    ] {
        let host = Host::new();
        host.replace(NODES, "Gres=gpu:l40s:4", &format!("Gres={gres}"));
        let all = super::found(&host, "24.11", "gres-count");
        assert!(
            all.iter().any(|own| own.ends_with(change)),
            "{gres}: {all:#?}"
        );
        host.replace(NODES, &format!("Gres={gres}"), change);
        assert!(super::found(&host, "24.11", "gres-count").is_empty());
        let line = super::forecast(&host, "24.11");
        assert!(
            line.ends_with("accepted by every release"),
            "{gres}: {line}"
        );
    }
    // Lines that are too few for the advice are named with it.
    let host = Host::new();
    host.replace(NODES, "gpu:l40s:4", "gpu:l40s:2");
    host.write(GRES, "Name=gpu Type=l40s File=/dev/nvidia[0-1] Cores=0-3\n");
    let all = super::found(&host, "24.11", "gres-count");
    assert!(
        all[0].ends_with(
            "Gres=gpu:l40s:4, and in gres.conf the lines that `gpu-numa gres-conf` prints"
        ),
        "{all:#?}"
    );
}

#[test]
fn a_file_that_is_given_twice_may_be_meant_for_another() {
    let host = Host::new();
    host.replace(GRES, "/dev/nvidia[2-3]", "/dev/nvidia[1-2]");
    let all = super::found(&host, "24.11", "gres-file");
    assert!(
        all[0]
            .contains("/dev/nvidia3, which no line names, instead of /dev/nvidia1 in one of them"),
        "{all:#?}"
    );
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
    // The lines have files of their own, by which slurmd goes then.
    let bound = |host: &Host, release: &str| found(host, release, "gres-autodetect").join("");
    assert!(bound(&host, "22.05.8").starts_with("stops-binding: "));
    host.write("usr/lib64/slurm/gpu_nvml.so", "");
    assert!(findings(&host, "22.05.8").is_empty());
    host.write("usr/lib64/libnvidia-ml.so.1", "");
    assert!(bound(&host, "24.05.4").contains("looks for libnvidia-ml.so, and the host has"));
    assert!(findings(&host, "24.05.5").is_empty());
    // Without lines the node has no GPU.
    host.write(GRES, "AutoDetect=nvml\n");
    assert!(bound(&host, "22.05.8").starts_with("stops-jobs: "));
    host.write("usr/lib64/libnvidia-ml.so", "");
    assert!(findings(&host, "22.05.8").is_empty());
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
