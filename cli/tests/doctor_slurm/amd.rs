//! Hosts with AMD's GPUs, alone and beside NVIDIA's.

use super::{CGROUP, CONF, GRES, findings};
use crate::common::Host;
use serde_json::Value;

/// Slurm's files of a node with eight parts of AMD's GPUs, whose `sockets` are what `parameters` say.
fn frontier(sockets: &str, parameters: &str) -> Host {
    let host = Host::of("frontier-mi250x");
    set_up(
        &host,
        &format!("{sockets} ThreadsPerCore=2 Gres=gpu:mi250:8"),
        parameters,
    );
    host
}

fn set_up(host: &Host, line: &str, parameters: &str) {
    host.write(
        CONF,
        &format!(
            "ClusterName=c\nSlurmctldHost=ctl\nSelectType=select/cons_tres\nSelectTypeParameters=CR_Core_Memory\n\
             TaskPlugin=task/affinity,task/cgroup\nProctrackType=proctrack/cgroup\nGresTypes=gpu\n{parameters}\n\
             NodeName=gpu1 {line}\nPartitionName=batch Nodes=gpu1 Default=YES\n"
        ),
    );
    host.write(CGROUP, "ConstrainCores=yes\nConstrainDevices=yes\n");
}

/// A part of every finding of a check.
fn parts(host: &Host, release: &str, check: &str, part: &str) -> Vec<String> {
    let all = findings(host, release).into_iter();
    let own = all.filter(|own| own["check"] == check);
    own.map(|own: Value| own[part].as_str().unwrap().to_owned())
        .collect()
}

const CACHES: &str = "SlurmdParameters=l3cache_as_socket";

#[test]
fn files_that_are_all_missing_are_not_to_be_removed() {
    let host = frontier("Sockets=1 CoresPerSocket=64", "");
    for files in ["/dev/dri/card[0-7]", "/dev/nvidia[0-7]"] {
        host.write(GRES, &format!("Name=gpu Type=mi250 File={files}\n"));
        let all = parts(&host, "24.11.5", "gres-file", "change");
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(
            all[0].ends_with("the files of the GPUs, as `gpu-numa gres-conf` prints them"),
            "{all:?}"
        );
    }
}

#[test]
fn gpus_of_several_vendors_are_not_left_to_one_ones_detection() {
    let host = Host::of("abi-2s2n-mixed");
    set_up(&host, "CPUs=4 Gres=gpu:4", "");
    for text in ["", "AutoDetect=full\n"] {
        host.write(GRES, text);
        let found = findings(&host, "24.11.5");
        let changes: Vec<&str> = found
            .iter()
            .filter(|own| own["check"] == "gres-conf" || own["check"] == "gres-autodetect")
            .map(|own| own["change"].as_str().unwrap())
            .collect();
        assert!(!changes.is_empty(), "{found:#?}");
        for change in changes {
            assert!(
                change.contains("AutoDetect=off and the lines") && !change.contains("nvml"),
                "{change}"
            );
        }
    }
    host.write(CGROUP, "ConstrainCores=yes\nConstrainDevices=no\n");
    let all = parts(&host, "24.11.5", "cgroup", "effect");
    assert!(
        all[0].contains("only CUDA_VISIBLE_DEVICES and ROCR_VISIBLE_DEVICES say which"),
        "{all:?}"
    );
}

#[test]
fn what_tells_a_task_its_gpus_is_its_vendors_variable() {
    let host = frontier("Sockets=1 CoresPerSocket=64", "");
    host.write(CGROUP, "ConstrainCores=yes\nConstrainDevices=no\n");
    let all = parts(&host, "24.11.5", "cgroup", "effect");
    assert!(
        all[0].contains("only ROCR_VISIBLE_DEVICES says which"),
        "{all:?}"
    );
}

/// Cores of a NUMA node are two caches: with caches for sockets the release takes one of them alone.
#[test]
fn sockets_are_named_that_make_detected_cores_one() {
    let host = frontier("Sockets=8 CoresPerSocket=8", CACHES);
    host.write(GRES, "AutoDetect=rsmi\n");
    let all = parts(&host, "25.11.1", "gres-autodetect", "change");
    let is_told = |change: &String| {
        change.contains("numa_node_as_socket (`gpu-numa gres-conf --numa-node-as-socket`")
            && !change.contains("l3cache_as_socket")
    };
    assert!(all.iter().any(is_told), "{all:?}");
}

#[test]
fn the_cores_of_a_gpus_own_cache_are_written_where_it_is_a_socket() {
    let host = frontier("Sockets=8 CoresPerSocket=8", CACHES);
    for release in ["23.11.10", "24.11.5", "25.11.1"] {
        let text = host.page(&["gres-conf", "--slurm-release", release]);
        let cores: Vec<&str> = text
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("Cores="))
            .collect();
        let own = [
            "0-7", "8-15", "16-23", "24-31", "32-39", "40-47", "48-55", "56-63",
        ];
        let mut sorted = cores.clone();
        sorted.sort_by_key(|text| own.iter().position(|own| own == text));
        assert_eq!(sorted, own, "{text}");
        assert!(!text.contains("their Cores= hold more"), "{text}");
        host.write(GRES, &text);
        let found = findings(&host, release);
        assert!(
            !found
                .iter()
                .any(|own| own["check"].as_str().unwrap().starts_with("gres-")),
            "{found:#?}"
        );
    }
    let text = host.page(&[
        "gres-conf",
        "--numa-node-as-socket",
        "--slurm-release",
        "25.11.1",
    ]);
    assert_eq!(text.matches("Cores=48-63").count(), 2, "{text}");
}

/// One package: no other is across a link.
#[test]
fn cores_of_the_same_package_are_across_no_link() {
    let host = frontier("Sockets=8 CoresPerSocket=8", CACHES);
    let text = host.page(&["gres-conf", "--slurm-release", "23.11.10"]);
    host.write(GRES, &text.replace("Cores=48-55", "Cores=0-63"));
    let of = |part: &str| parts(&host, "23.11.10", "gres-cores", part);
    assert!(
        of("evidence")[0].contains(" of other NUMA nodes;"),
        "{:?}",
        of("evidence")
    );
    assert!(of("effect")[0].ends_with("cores of other NUMA nodes than the GPU's"));
}

#[test]
fn the_first_cores_are_kept_where_the_scheduler_is_told_so() {
    let kept = |parameters: &str, count: usize| {
        let host = frontier(
            &format!("Sockets=4 CoresPerSocket=16 CoreSpecCount={count}"),
            &format!("SlurmdParameters=numa_node_as_socket\n{parameters}"),
        );
        // The kernel keeps its work off the first core.
        host.write("sys/devices/system/cpu/nohz_full", "0,64");
        parts(&host, "24.11.5", "reserved-cpus", "evidence")
    };
    assert!(kept("", 4).is_empty());
    let first = kept("SchedulerParameters=bf_window=60,Spec_Cores_First", 4);
    assert!(
        first[0].contains("CoreSpecCount=4 keeps CPUs 0,16,32,48,64,80,96,112 from jobs"),
        "{first:?}"
    );
}

#[test]
fn files_that_are_no_gpus_own_are_said() {
    let host = frontier("Sockets=1 CoresPerSocket=64", "");
    for file in ["card0", "card7"] {
        host.write(&format!("dev/dri/{file}"), "");
    }
    for (file, effect) in [
        (
            "/dev/dri/card[0,7]",
            "do not open /dev/dri/card0, /dev/dri/card7 but /dev/dri/renderD* of AMD's GPUs",
        ),
        ("/dev/kfd", "/dev/kfd is one file for all of AMD's GPUs"),
    ] {
        host.write(GRES, &format!("Name=gpu Type=mi250 File={file}\n"));
        let all = parts(&host, "24.11.5", "gres-file", "effect");
        assert!(all.iter().any(|own| own.contains(effect)), "{all:?}");
        let changes = parts(&host, "24.11.5", "gres-file", "change");
        assert!(
            changes
                .iter()
                .any(|own| own.contains("File=/dev/dri/renderD128 and so on")),
            "{changes:?}"
        );
    }
}

/// ROCm SMI finds GPUs by address, and the driver of this host found others first.
#[test]
fn detected_gpus_are_not_numbered_as_rocm_counts() {
    let host = frontier("Sockets=1 CoresPerSocket=64", "");
    host.write(GRES, "AutoDetect=rsmi\n");
    let all = parts(&host, "24.11.5", "gres-order", "evidence");
    assert!(
        all[0].ends_with("so 0000:c1:00.0 is GPU 0, and KFD's topology has 0000:d1:00.0 there"),
        "{all:?}"
    );
    let text = host.page(&["gres-conf"]);
    host.write(GRES, &text);
    assert!(parts(&host, "24.11.5", "gres-order", "evidence").is_empty());
}

#[test]
fn a_topology_file_of_nccls_in_rccls_configuration_is_found() {
    let host = frontier("Sockets=1 CoresPerSocket=64", "");
    host.write(
        "etc/rccl.conf",
        "NCCL_DEBUG=WARN\nNCCL_TOPO_FILE=/opt/topo.xml\n",
    );
    let evidence = || parts(&host, "24.11.5", "nccl-conf", "evidence");
    assert!(evidence()[0].ends_with("/opt/topo.xml: no such file"));
    // As librccl 2.27.7 does with such files (`make test-rccl` has the library).
    for (text, finding) in [
        (
            "<system version=\"1\"></system>",
            Some("the file is of version \"1\""),
        ),
        ("<system></system>", Some("the file has no version")),
        (
            "<?xml version=\"1.0\"?>\n<system version=\"2\"></system>",
            Some("line 1: an XML header, which neither NCCL nor RCCL accepts"),
        ),
        (
            "<!-- <system version=\"1\"> -->\n<system version=\"2\"></system>",
            None,
        ),
        ("<system version=\"02\"></system>", None),
        ("<system name=\"x\" version=\"2 \"></system>", None),
        ("<systems version=\"1\"></systems>", None),
        ("", None),
        ("<system version=\"2\"></system>", None),
    ] {
        host.write("opt/topo.xml", text);
        let finding = finding
            .map(|finding| format!("/etc/rccl.conf:2: NCCL_TOPO_FILE=/opt/topo.xml: {finding}"));
        assert_eq!(evidence(), Vec::from_iter(finding), "{text}");
        for effect in parts(&host, "24.11.5", "nccl-conf", "effect") {
            let is_of_version = !text.starts_with("<?xml");
            assert_eq!(
                effect.contains("takes version 2 alone"),
                is_of_version,
                "{effect}"
            );
        }
    }
    host.write("etc/rccl.conf", "NCCL_GRAPH_FILE=/opt/graph.xml\n");
    assert_eq!(
        evidence(),
        ["/etc/rccl.conf:1: NCCL_GRAPH_FILE=/opt/graph.xml: no such file"]
    );
}
