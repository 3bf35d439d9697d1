//! What the host itself has: drivers, memory, MIG, reserved CPUs.

use crate::common::Host;
use serde_json::Value;

use super::{CONF, GRES, NODES, document, driver, findings, forecast, found};

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
            "the host has 3 that Slurm can give (vfio-pci has GPU3 0000:84:00.0)"
        ),
        "{all:#?}"
    );
    assert!(
        has(
            "gres-file",
            "/dev/nvidia3 is GPU3 0000:84:00.0, which the kernel driver vfio-pci has"
        ),
        "{all:#?}"
    );
    let lines = host.page(&["gres-conf"]);
    assert!(
        lines.contains("another kernel driver has them: GPU3 0000:84:00.0 (vfio-pci)"),
        "{lines}"
    );
    assert!(
        lines.contains("Gres=gpu:l40s:3") && !lines.contains("File=/dev/nvidia3"),
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
        "NCCL_DEBUG=WARN\n# NCCL_TOPO_FILE=/opt/old.xml\nNCCL_TOPO_FILE=/opt/none.xml\nNCCL_GRAPH_FILE=/opt/graph.xml\n",
    );
    let found = || {
        let all = findings(&host, "24.11");
        let own = all.iter().filter(|finding| finding["check"] == "nccl-conf");
        let text =
            |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
        own.map(|finding| {
            let evidence = text(finding, "evidence");
            let what = evidence.split_once("/opt/").unwrap().1.to_owned();
            format!("{}: {what}", text(finding, "harm"))
        })
        .collect::<Vec<_>>()
    };
    // As NCCL 2.30.7's code and librccl 2.27.7 do with such files.
    let missing = "slows-jobs: none.xml: no such file";
    assert_eq!(found(), ["stops-jobs: graph.xml: no such file", missing]);
    let graph = |version: &str, last: &str| {
        format!(
            "<graphs version=\"{version}\"><graph id=\"0\"><channel><gpu dev=\"0\"/><gpu dev=\"{last}\"/></channel></graph></graphs>\n"
        )
    };
    for (text, finding) in [
        (
            graph("1", "7"),
            Some("the file names GPUs up to number 7, this host has 4, from 0"),
        ),
        (
            graph("1", "a"),
            Some("the file names GPUs up to number 10, this host has 4, from 0"),
        ),
        (
            graph("1", "0x5 "),
            Some("the file names GPUs up to number 5, this host has 4, from 0"),
        ),
        (graph("1x", "0x3"), None),
        (
            graph("2", "3"),
            Some("the file is of version \"2\", and 1 alone is taken"),
        ),
        (
            graph("", "3"),
            Some("the file is of version \"\", and 1 alone is taken"),
        ),
        (graph("1", "3"), None),
        (graph("0x1", "3"), None),
        (
            "<!-- <graphs version=\"2\"> -->\n".to_owned() + &graph("1", "3"),
            None,
        ),
        (String::new(), None),
        (
            "<?xml version=\"1.0\"?>\n".to_owned() + &graph("1", "3"),
            Some("line 1: an XML header, which neither NCCL nor RCCL accepts"),
        ),
    ] {
        host.write("opt/graph.xml", &text);
        let expected = finding.map(|finding| format!("stops-jobs: graph.xml: {finding}"));
        let expected: Vec<String> = expected.into_iter().chain([missing.to_owned()]).collect();
        assert_eq!(found(), expected, "{text}");
    }
    host.write("etc/nccl.conf", "NCCL_GRAPH_FILE=\nNCCL_TOPO_FILE=\n");
    let all = findings(&host, "24.11").into_iter();
    let own: Vec<String> = all
        .filter(|finding| finding["check"] == "nccl-conf")
        .map(|finding| finding["evidence"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        own,
        [
            "/etc/nccl.conf:1: NCCL_GRAPH_FILE=: no such file",
            "/etc/nccl.conf:2: NCCL_TOPO_FILE=: no such file"
        ]
    );
}

#[test]
fn mig_instances_are_not_cards() {
    let host = Host::new();
    host.replace(NODES, "Gres=gpu:l40s:4", "Gres=gpu:1g.10gb:7");
    let line = |number: usize| {
        let (outer, inner) = (9 * number + 3, 9 * number + 4);
        format!(
            "NodeName=gpu1 Name=gpu Type=1g.10gb MultipleFiles=/dev/nvidia0,/dev/nvidia-caps/nvidia-cap{outer},/dev/nvidia-caps/nvidia-cap{inner}\n"
        )
    };
    let lines = |count: usize| (1..=count).map(line).collect::<String>();
    host.write(GRES, &lines(7));
    let all = findings(&host, "22.05.8");
    assert!(all.is_empty(), "{all:#?}");
    host.write(GRES, &lines(6));
    assert_eq!(
        found(&host, "22.05.8", "gres-count"),
        [
            "stops-jobs: /etc/slurm/nodes.conf:2: Gres= declares 7 GPUs, gres.conf has 6 -> \
          gres.conf and the node's Gres=: what `gpu-numa gres-conf` prints"
        ]
    );
}

#[test]
fn mig_instances_are_whole_and_given_once() {
    let host = Host::new();
    host.replace(NODES, "Gres=gpu:l40s:4", "Gres=gpu:1g.10gb:2");
    let instance = |files: &str| {
        let one = |files: &str| format!("NodeName=gpu1 Name=gpu Type=1g.10gb {files}\n");
        host.write(
            GRES,
            &format!(
                "{}{}",
                one(files),
                one("MultipleFiles=/dev/nvidia1,/dev/nvidia-caps/nvidia-cap[12-13]")
            ),
        );
        found(&host, "22.05.8", "mig-files")
    };
    for (files, expected) in [
        (
            "MultipleFiles=/dev/nvidia0,/dev/nvidia-caps/nvidia-cap[21-22]",
            None,
        ),
        (
            "MultipleFiles=/dev/nvidia1,/dev/nvidia-caps/nvidia-cap12,/dev/nvidia-caps/nvidia-cap13",
            Some(
                "stops-binding: /etc/slurm/gres.conf:2: the files of /etc/slurm/gres.conf:1 again",
            ),
        ),
        (
            "MultipleFiles=/dev/nvidia-caps/nvidia-cap21,/dev/nvidia-caps/nvidia-cap22",
            Some(
                "has no file of the GPU itself -> /etc/slurm/gres.conf:1: /dev/nvidiaN of the instance's GPU first",
            ),
        ),
        (
            "MultipleFiles=/dev/nvidia0,/dev/nvidia-caps/nvidia-cap21",
            Some("has the file of one capability -> "),
        ),
        (
            "File=/dev/nvidia-caps/nvidia-cap21,/dev/nvidia-caps/nvidia-cap22",
            Some(
                "File=/dev/nvidia-caps/nvidia-cap21,/dev/nvidia-caps/nvidia-cap22 -> /etc/slurm/gres.conf:1: MultipleFiles=",
            ),
        ),
    ] {
        let all = instance(files);
        match expected {
            None => assert!(all.is_empty(), "{all:#?}"),
            Some(expected) => assert!(
                all.len() == 1 && all[0].contains(expected),
                "{files}: {all:#?}"
            ),
        }
    }
}

#[test]
fn a_gpu_that_is_divided_is_not_given_whole() {
    let host = Host::new();
    host.replace(NODES, "Gres=gpu:l40s:4", "Gres=gpu:l40s:2,gpu:1g.10gb:1");
    let whole = |files: &str| {
        let gres = format!(
            "NodeName=gpu1 Name=gpu Type=l40s File=/dev/nvidia[{files}] Cores=0-3\n\
             NodeName=gpu1 Name=gpu Type=1g.10gb MultipleFiles=/dev/nvidia2,/dev/nvidia-caps/nvidia-cap[12-13]\n"
        );
        host.write(GRES, &gres);
        found(&host, "24.11", "mig-files")
    };
    assert!(whole("0-1").is_empty());
    let all = whole("1-2");
    assert_eq!(all.len(), 1, "{all:#?}");
    assert!(
        all[0].contains("gres.conf:1: File= gives /dev/nvidia2 whole, and /etc/slurm/gres.conf:2 has an instance of it"),
        "{all:#?}"
    );
}

/// Of what GresTypes= does not name slurmctld and slurmd leave out what the node's line and gres.conf say, as a real 22.05.8 did.
#[test]
fn shards_count_where_gres_types_has_them() {
    let host = Host::new();
    host.replace(
        GRES,
        "NodeName=gpu9",
        "Name=shard Count=4\nName=shard Count=4\nNodeName=gpu9",
    );
    host.replace(NODES, "Gres=gpu:l40s:4", "Gres=gpu:l40s:4,shard:8");
    let types = found(&host, "24.11", "gres-types");
    assert_eq!(types.len(), 1, "{types:?}");
    assert!(
        types[0].ends_with("slurm.conf:5: GresTypes=gpu,shard"),
        "{types:?}"
    );
    assert!(found(&host, "24.11", "gres-count").is_empty());
    assert!(forecast(&host, "24.11").contains("accepted"));
    host.replace(CONF, "GresTypes=gpu", "GresTypes=gpu,shard");
    assert!(found(&host, "24.11", "gres-types").is_empty());
    let counts = found(&host, "24.11", "gres-count");
    assert_eq!(counts.len(), 1, "{counts:?}");
    assert!(
        counts[0].contains("gres/shard has several lines without File="),
        "{counts:?}"
    );
    // In another case it is another name.
    host.replace(CONF, "GresTypes=gpu,shard", "GresTypes=gpu,Shard,nic");
    let types = found(&host, "24.11", "gres-types");
    assert!(types[0].ends_with("GresTypes=gpu,nic,shard"), "{types:?}");
}

/// As a real 22.05.8 took it: two lines of three files each are six GPUs.
#[test]
fn mig_instances_beside_shards_come_apart_before_23_02_7() {
    let host = Host::new();
    host.replace(NODES, "Gres=gpu:l40s:4", "Gres=gpu:1g.10gb:2");
    let line = |minor: u32, low: u32| {
        format!(
            "NodeName=gpu1 Name=gpu Type=1g.10gb MultipleFiles=/dev/nvidia{minor},/dev/nvidia-caps/nvidia-cap[{low}-{}]\n",
            low + 1
        )
    };
    host.write(GRES, &format!("{}{}", line(0, 12), line(1, 21)));
    assert!(found(&host, "22.05.8", "mig-files").is_empty());
    host.replace(CONF, "GresTypes=gpu", "GresTypes=gpu,shard");
    for (release, is_split) in [
        ("22.05.8", true),
        ("23.02.6", true),
        ("23.02.7", false),
        ("24.11", false),
    ] {
        let all = found(&host, release, "mig-files");
        assert_eq!(all.len(), usize::from(is_split), "{release}: {all:#?}");
    }
    for (gpus, count) in [("3", 0), ("6", 0), ("7", 1)] {
        host.replace(NODES, "1g.10gb:", &format!("1g.10gb:{gpus} Feature=x"));
        assert_eq!(found(&host, "22.05.8", "gres-count").len(), count, "{gpus}");
        host.replace(NODES, &format!("1g.10gb:{gpus} Feature=x"), "1g.10gb:");
    }
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
fn cpus_that_are_quiet_and_kept_from_jobs_are_found() {
    let quiet = |host: &Host, list: &str| {
        host.write("sys/devices/system/cpu/nohz_full", list);
        found(host, "24.11", "reserved-cpus")
    };
    let host = Host::new();
    // Slurm counts the CPUs of a core one after the other: 0-1 are CPUs 0 and 8 here.
    host.replace(NODES, "Gres=", "CpuSpecList=0-1 Gres=");
    assert!(quiet(&host, "1-7,9-15\n").is_empty());
    let all = quiet(&host, "0-3\n");
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(
        all[0].contains("keeps CPUs 0,8 from jobs, and nohz_full=0-3 has CPUs 0 of them"),
        "{all:?}"
    );
}

#[test]
fn gpus_whose_cpus_are_all_kept_from_jobs_are_found() {
    let host = Host::new();
    host.replace(NODES, "Gres=", "CpuSpecList=8-15 Gres=");
    let all = found(&host, "24.11", "reserved-cpus");
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(
        all[0].contains("which are all that are near GPU2 0000:83:00.0, GPU3 0000:84:00.0"),
        "{all:?}"
    );
    assert!(
        effect(&host).contains("its tasks run on the other side of the socket link"),
        "{all:?}"
    );
    // Both nodes on one socket.
    for cpu in 0..16 {
        let package = format!("sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id");
        host.write(&package, "0\n");
    }
    let words = effect(&host);
    assert!(
        words.contains("its tasks run on another NUMA node of the same socket at best, and"),
        "{words}"
    );
    let host = Host::new();
    host.replace(NODES, "Gres=", "CpuSpecList=8-13 Gres=");
    assert!(found(&host, "24.11", "reserved-cpus").is_empty());
}

/// The effect of the one finding about CPUs that are kept from jobs.
fn effect(host: &Host) -> String {
    let all = findings(host, "24.11").into_iter();
    let mut own = all.filter(|finding| finding["check"] == "reserved-cpus");
    let effect = own.next().unwrap()["effect"].as_str().unwrap().to_owned();
    assert_eq!(own.next(), None);
    effect
}

#[test]
fn gpus_whose_cpus_are_isolated_or_kept_are_found() {
    let host = Host::new();
    host.write("sys/devices/system/cpu/isolated", "8-9\n");
    let all = found(&host, "24.11", "reserved-cpus");
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(!all[0].contains("no others"), "{all:?}");
    assert!(all[0].contains("or keep them from jobs with CpuSpecList="));
    // CpuSpecList= would take these threads' cores, and with them all that is near the GPUs.
    host.write("sys/devices/system/cpu/isolated", "4-7\n");
    let all = found(&host, "24.11", "reserved-cpus");
    assert!(!all[0].contains("no others"), "{all:?}");
    assert!(!all[0].contains("CpuSpecList="), "{all:?}");
    host.write("sys/devices/system/cpu/isolated", "4-7,12-15\n");
    let all = found(&host, "24.11", "reserved-cpus");
    assert!(!all[0].contains("CpuSpecList="), "{all:?}");
    assert!(
        all[0].contains("(isolcpus); no others are near GPU2 0000:83:00.0, GPU3 0000:84:00.0 ->"),
        "{all:?}"
    );
    // Slurm's CPUs 8 and 9 are the threads of the second socket's first core.
    host.write("sys/devices/system/cpu/isolated", "5-7,13-15\n");
    host.replace(NODES, "Gres=", "CpuSpecList=8-9 Gres=");
    let all = found(&host, "24.11", "reserved-cpus");
    assert!(
        all[0].contains(
            "no others are near GPU2 0000:83:00.0, GPU3 0000:84:00.0 but those that the node's line keeps from jobs"
        ),
        "{all:?}"
    );
}

#[test]
fn a_gpu_that_its_driver_does_not_have_among_others_is_found() {
    let host = Host::new();
    driver(&host, [0, 1, 2, 3]);
    assert!(found(&host, "24.11", "gpu-driver").is_empty());
    std::fs::remove_dir_all(host.path("proc/driver/nvidia/gpus/0000:84:00.0")).unwrap();
    let all = found(&host, "24.11", "gpu-driver");
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(
        all[0].contains("GPU 0000:84:00.0: the driver has others of this host and not this one"),
        "{all:?}"
    );
    // No job can have what the node says that it has.
    assert_eq!(host.run(&["check"]).status.code(), Some(1));
}

/// As a real srun 22.05.8 and 25.11.7 reads them: it looks for a `required` plugin that is not there.
#[test]
fn files_of_plugstack_are_included_as_slurm_includes_them() {
    let host = Host::new();
    let folder = "etc/slurm/plugstack.conf.d";
    let line = std::fs::read_to_string(host.path(&format!("{folder}/gpu-numa-bind.conf"))).unwrap();
    std::fs::remove_file(host.path(&format!("{folder}/gpu-numa-bind.conf"))).unwrap();
    host.write("etc/slurm/gpu.txt", &line);
    host.write(&format!("{folder}/site/gpu.txt"), &line);
    for (pattern, is_read) in [
        ("/etc/slurm/*.d/site/gpu.txt", true),
        ("/etc/slurm/[a-h]??.txt", true),
        ("/etc/slurm/[!g]*.txt", false),
        ("gpu.txt", true),
        ("plugstack.conf.d/site/*", true),
        ("site/*", false),
    ] {
        host.write("etc/slurm/plugstack.conf", &format!("include {pattern}\n"));
        let all = found(&host, "24.11", "plugin");
        assert_eq!(all.is_empty(), is_read, "{pattern}: {all:?}");
    }
    // In the folder of the file that has the line, not of slurm.conf.
    host.write(
        "etc/slurm/plugstack.conf",
        "include plugstack.conf.d/*.conf\n",
    );
    for (name, is_read) in [("gpu.txt", false), ("site/gpu.txt", true)] {
        host.write(&format!("{folder}/more.conf"), &format!("include {name}\n"));
        let all = found(&host, "24.11", "plugin");
        assert_eq!(all.is_empty(), is_read, "{name}: {all:?}");
    }
}

#[test]
fn what_slurm_needs_and_a_recording_lacks_is_listed_and_what_it_lacks_for_certain_is_found() {
    let host = Host::new();
    let text = std::fs::read_to_string(host.path(CONF)).unwrap();
    let users = "SlurmctldHost=c\nSlurmUser=slrum\nTopologyPlugin=topology/tree\n";
    host.write(CONF, &format!("{text}\n{users}"));
    let (found, open) = needed(&host);
    assert_eq!(found, Vec::<String>::new());
    assert_eq!(open.len(), 2, "{open:?}");
    assert!(
        open[0].ends_with("the user slrum of SlurmUser= (no daemon starts without it)"),
        "{open:?}"
    );
    assert!(
        open[1].contains("topology.conf beside slurm.conf"),
        "{open:?}"
    );
    // A directory service may know the user, unless the host asks none.
    host.write(
        "etc/passwd",
        "root:x:0:0::/:/bin/sh\nslurm:x:64030:64030::/:/bin/sh\n",
    );
    host.write("etc/nsswitch.conf", "passwd: files sss\n");
    assert_eq!(needed(&host), (found, open));
    host.write("etc/nsswitch.conf", "passwd: files\n");
    let (found, open) = needed(&host);
    assert_eq!(open.len(), 1, "{open:?}");
    assert!(
        found[0].contains("missing: the user slrum of SlurmUser= ->"),
        "{found:?}"
    );
    host.replace(CONF, "SlurmUser=slrum", "SlurmUser=slurm");
    assert_eq!(needed(&host), (Vec::new(), open));
}

/// What is missing for slurm.conf, and what is not known to be there.
fn needed(host: &Host) -> (Vec<String>, Vec<String>) {
    let document = document(host, "24.11");
    let texts = |name: &str| document[name].as_array().unwrap().clone();
    let open = texts("unchecked").into_iter();
    let open = open.filter_map(|own| Some(own.as_str()?.to_owned()));
    (
        found(host, "24.11", "slurm-conf"),
        open.filter(|own| own.contains("without it)")).collect(),
    )
}

#[test]
fn memory_that_slurm_does_not_keep_is_found() {
    for (words, evidence) in [
        (
            "RealMemory=64000 MemSpecLimit=64000",
            Some("MemSpecLimit=64000 is not less than RealMemory=64000"),
        ),
        (
            "MemSpecLimit=2000",
            Some("MemSpecLimit=2000, but no RealMemory=, which is 1 then"),
        ),
        ("RealMemory=64000 MemSpecLimit=2000", None),
        ("MemSpecLimit=0", None),
    ] {
        let host = Host::new();
        host.replace(NODES, "Gres=", &format!("{words} Gres="));
        let all = found(&host, "24.11", "reserved-memory");
        assert_eq!(
            all.len(),
            usize::from(evidence.is_some()),
            "{words}: {all:?}"
        );
        assert!(
            all.iter().all(|text| text.contains(evidence.unwrap())),
            "{all:?}"
        );
    }
}

/// slurmd's own options: of the unit, its drop-ins, the files that it reads, or the command line of one that runs.
#[test]
fn slurmds_options_are_read_where_its_service_has_them() {
    let sockets = |host: &Host| {
        host.split_packages();
        host.replace(
            NODES,
            "Sockets=2 \\\n  CoresPerSocket=4",
            "Sockets=4 CoresPerSocket=2",
        );
        !found(host, "25.11", "node-line").is_empty()
    };
    let unit = "[Service]\nEnvironmentFile=-/etc/sysconfig/slurmd\nEnvironmentFile=-/etc/default/slurmd\n\
                ExecStart=/usr/sbin/slurmd --systemd $SLURMD_OPTIONS\n";
    let drop =
        "[Service]\nExecStart=\nExecStart=/usr/sbin/slurmd -D --parameters=numa_node_as_socket\n";
    for (file, text) in [
        (
            "etc/default/slurmd",
            "SLURMD_OPTIONS=\"--parameters numa_node_as_socket\"\n",
        ),
        (
            "etc/sysconfig/slurmd",
            "SLURMD_OPTIONS=--parameters=numa_node_as_socket\n",
        ),
        ("etc/systemd/system/slurmd.service.d/site.conf", drop),
        ("usr/lib/systemd/system/slurmd.service.d/10.conf", drop),
        (
            "run/systemd/system/slurmd.service",
            "[Service]\nExecStart=/usr/sbin/slurmd \\\n --parameters=numa_node_as_socket\n",
        ),
    ] {
        let host = Host::new();
        host.write("usr/lib64/libhwloc.so.15.5.2", "");
        host.write("usr/lib/systemd/system/slurmd.service", unit);
        host.write(file, text);
        assert!(!sockets(&host), "{file}");
    }
    // Neither a file that the unit does not name counts nor a variable that its line does not have.
    for (file, text) in [
        ("etc/default/slurmd", ""),
        (
            "etc/default/slurm",
            "SLURMD_OPTIONS=--parameters=numa_node_as_socket\n",
        ),
        (
            "etc/default/slurmd",
            "OPTIONS=--parameters=numa_node_as_socket\n",
        ),
    ] {
        let host = Host::new();
        host.write("usr/lib64/libhwloc.so.15.5.2", "");
        host.write("usr/lib/systemd/system/slurmd.service", unit);
        host.write(file, text);
        assert!(sockets(&host), "{file}");
    }
    // The one that runs was started with these.
    let host = Host::new();
    host.write("usr/lib64/libhwloc.so.15.5.2", "");
    host.write(
        "etc/default/slurmd",
        "SLURMD_OPTIONS=--parameters=l3cache_as_socket\n",
    );
    host.write("proc/4711/comm", "slurmd\n");
    host.write(
        "proc/4711/cmdline",
        "/usr/sbin/slurmd\0--parameters\0numa_node_as_socket\0",
    );
    assert!(!sockets(&host));
}

/// Gives a device interrupts `first` and the one after it, served by one CPU each.
fn interrupts(host: &Host, address: &str, first: u32, cpus: [&str; 2]) {
    for (number, cpu) in (first..).zip(cpus) {
        host.write(&host.pci(address, &format!("msi_irqs/{number}")), "msi\n");
        host.write(&format!("proc/irq/{number}/smp_affinity_list"), "0-15\n");
        let effective = format!("proc/irq/{number}/effective_affinity_list");
        host.write(&effective, &format!("{cpu}\n"));
    }
}

#[test]
fn interrupts_of_which_none_is_served_near_the_device_are_found() {
    let host = Host::new();
    // One near; one that is not in use; one far and one near: nothing to say.
    interrupts(&host, "0000:23:00.0", 40, ["3", "9"]);
    interrupts(&host, "0000:24:00.0", 50, ["", ""]);
    interrupts(&host, "0000:25:00.0", 60, ["5", "1"]);
    assert_eq!(findings(&host, "22.05.8").len(), 0);
    interrupts(&host, "0000:85:00.0", 70, ["0", "9"]);
    let all = found(&host, "22.05.8", "interrupts");
    assert_eq!(all.len(), 1, "{all:#?}");
    assert!(
        all[0].starts_with(
            "slows-jobs: all interrupts of NIC1 0000:85:00.0 (node 1) are served by CPUs 0,9, on node 0 -> "
        ),
        "{all:#?}"
    );
    assert!(
        all[0].contains("for i in 70 71; do echo 4-7,12-15 >/proc/irq/$i/smp_affinity_list; done"),
        "{all:#?}"
    );
}
