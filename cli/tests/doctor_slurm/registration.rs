//! Whether the node registers, in the sentence that foretells it.

use crate::common::Host;

use super::{GRES, NODES, driver, findings, forecast};

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
    // 24.11 and 25.05 go by the sockets that slurmd counts.
    let host = Host::new();
    host.replace(
        NODES,
        "Sockets=2 \\\n  CoresPerSocket=4",
        "Sockets=1 CoresPerSocket=8",
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
            "slurmd starts under no release: /etc/slurm/gres.conf:1: the host has no /dev/nvidia0"
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
        forecast(&host, "24.11").contains("the name of GPU0 0000:23:00.0 is not recorded"),
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

/// slurmd then takes CPUs for those of other cores (`tests/slurm/near.py`, from a real one's map).
#[test]
fn detection_goes_by_the_threads_of_the_nodes_line() {
    let host = Host::new();
    driver(&host, [0, 1, 2, 3]);
    host.write(GRES, "AutoDetect=nvml\n");
    host.replace(NODES, "ThreadsPerCore=2", "ThreadsPerCore=1");
    assert_eq!(
        forecast(&host, "25.11"),
        "slurmd on gpu1 will register 4 gpu:l40s, cores 0,2 / 4,6: accepted before 24.11; refused from 24.11 to 25.05, \
         because cores 0,2 are not whole sockets; refused from 25.11 on, because cores 0,2 are not one whole socket or all cores"
    );
    assert!(
        forecast(&host, "22.05").contains("4 gpu:l40s, cores 0,2,4,6 / none"),
        "{}",
        forecast(&host, "22.05")
    );
    for (release, harm, cores) in [
        ("22.05", "slows-jobs", "0,2,4,6"),
        ("23.11", "slows-jobs", "0,2"),
        ("25.11", "stops-jobs", "0,2"),
    ] {
        let all = super::found(&host, release, "gres-autodetect");
        let start = format!(
            "{harm}: /etc/slurm/gres.conf:1: AutoDetect=nvml finds Cores={cores} for GPU0 0000:23:00.0, which is near 0-3, "
        );
        assert!(
            all.len() == 1 && all[0].starts_with(&start),
            "{release}: {all:#?}"
        );
        assert!(
            all[0].contains(
                "ThreadsPerCore=1, and the machine has 2 -> /etc/slurm/gres.conf:1: AutoDetect=off"
            ),
            "{all:#?}"
        );
    }
    // From 23.11 on one thread of each core is what jobs get, and lines by hand are right.
    let line = |release: &str| super::found(&host, release, "node-line");
    assert!(line("22.05").len() == 1 && line("23.11").is_empty() && line("25.11").is_empty());
    let host = Host::new();
    driver(&host, [0, 1, 2, 3]);
    host.replace(NODES, "ThreadsPerCore=2", "ThreadsPerCore=1");
    assert!(
        findings(&host, "25.11")
            .iter()
            .all(|own| own["check"] == "snapshot")
    );
}

/// What Slurm takes for no GPU does not stand beside them in the advice.
#[test]
fn gpus_written_as_in_a_jobs_tres_are_replaced() {
    for written in ["gres/gpu:4", "gpu=4", "(null)"] {
        let host = Host::new();
        host.replace(NODES, "gpu:l40s:4", written);
        let all = super::found(&host, "25.11", "gres-count");
        assert!(
            all.len() == 1 && all[0].ends_with("Gres=gpu:l40s:4"),
            "{written}: {all:#?}"
        );
    }
}

/// AutoDetect gives every GPU links to all that it finds; `nvidia` gives none.
#[test]
fn a_node_whose_line_has_fewer_gpus_than_autodetect_finds_is_drained() {
    let host = Host::new();
    driver(&host, [0, 1, 2, 3]);
    host.write(GRES, "AutoDetect=nvml\n");
    host.replace(NODES, "gpu:l40s:4", "gpu:l40s:2");
    assert!(
        forecast(&host, "24.11").ends_with(
            "refused by every release, because links to 4 GPUs are given and the node's line has 2 (\"Invalid GRES Links value\")"
        ),
        "{}",
        forecast(&host, "24.11")
    );
    let found = super::found(&host, "24.11", "gres-count");
    assert!(
        found.len() == 1 && found[0].starts_with("stops-jobs: "),
        "{found:?}"
    );
    host.write(GRES, "AutoDetect=nvidia\n");
    let found = super::found(&host, "24.11", "gres-count");
    assert!(
        found.len() == 1 && found[0].starts_with("slows-jobs: "),
        "{found:?}"
    );
}

/// `slurmd -Z`: what a NodeName line would say is among slurmd's options.
#[test]
fn a_dynamic_node_is_what_slurmd_says_of_it() {
    let host = Host::new();
    driver(&host, [0, 1, 2, 3]);
    host.replace(NODES, "gpu[1-3]", "other[1-3]");
    host.replace(GRES, "NodeName=gpu[1-3] ", "");
    host.write(
        "etc/default/slurmd",
        "SLURMD_OPTIONS=\"-Z --conf 'Sockets=2 CoresPerSocket=4 ThreadsPerCore=2 Gres=gpu:l40s:4'\"\n",
    );
    assert!(
        forecast(&host, "24.11")
            .starts_with("slurmd on gpu1 will register 4 gpu:l40s, cores 0-3 / 4-7: accepted"),
        "{}",
        forecast(&host, "24.11")
    );
    // slurmctld reads no gres.conf for it.
    host.write(GRES, "AutoDetect=nvml\n");
    let found = super::found(&host, "24.11", "gres-autodetect");
    assert!(found.is_empty(), "{found:?}");
    let by_line = "slurmd on gpu1 will register 4 gpu:l40s, cores 0-3 / 4-7: accepted";
    assert!(
        forecast(&host, "24.11").starts_with(by_line),
        "{}",
        forecast(&host, "24.11")
    );
    // A line that says nothing of the machine gets what that has from slurmd.
    host.write(
        "etc/default/slurmd",
        "SLURMD_OPTIONS=\"-Z --conf 'Gres=gpu:l40s:4 Feature=x'\"\n",
    );
    assert!(
        forecast(&host, "24.11").starts_with(by_line),
        "{}",
        forecast(&host, "24.11")
    );
}

/// slurmd's own command line is of its release: its options, and the keys of a node that registers itself.
#[test]
fn what_slurmd_is_told_on_its_command_line_is_of_its_release() {
    let host = Host::new();
    driver(&host, [0, 1, 2, 3]);
    host.replace(NODES, "gpu[1-3]", "other[1-3]");
    host.replace(GRES, "NodeName=gpu[1-3] ", "");
    for (options, check, old, new) in [
        (
            "--parameters l3cache_as_socket",
            "slurmd-options",
            "24.11",
            "25.11",
        ),
        // A key without a value takes the next words.
        ("", "node-line", "22.05", "25.05"),
    ] {
        host.write(
            "etc/default/slurmd",
            &format!("SLURMD_OPTIONS=\"-Z --conf 'Feature=x Topology= CoreSpecCount=1 Gres=gpu:l40s:4' {options}\"\n")
                .replace(if options.is_empty() { "no" } else { "Topology= " }, ""),
        );
        let found = super::found(&host, old, check);
        assert!(
            found.len() == 1 && found[0].starts_with("stops-jobs: "),
            "{found:?}"
        );
        assert!(
            forecast(&host, old).contains("slurmd does not start"),
            "{}",
            forecast(&host, old)
        );
        assert!(super::found(&host, new, "slurmd-options").is_empty());
        assert!(
            forecast(&host, new).contains("accepted"),
            "{}",
            forecast(&host, new)
        );
    }
    // The topology that the last one names is slurmctld's to know.
    let newest = forecast(&host, "26.05");
    assert!(
        newest.contains("Topology=CoreSpecCount=1 names"),
        "{newest}"
    );
}

/// slurmctld makes a map of a cloud node's CPUs for its lines, and stops at a core that is not in it.
#[test]
fn cores_of_a_node_in_the_cloud_beyond_its_cpus_stop_slurmctld() {
    let host = Host::new();
    driver(&host, [0, 1, 2, 3]);
    host.replace(NODES, "Gres=", "State=CLOUD Gres=");
    host.write(
        GRES,
        "Name=gpu Type=l40s File=/dev/nvidia[0-3] Cores=0-31\n",
    );
    for release in ["22.05", "24.11", "26.05"] {
        let found = super::found(&host, release, "gres-cores");
        assert!(
            found.len() == 1 && found[0].starts_with("stops-jobs: "),
            "{release}: {found:?}"
        );
        let all = super::findings(&host, release);
        let effects = all.iter().map(|own| own["effect"].as_str().unwrap());
        let told: Vec<&str> = effects
            .filter(|own| own.contains("Invalid GRES data"))
            .collect();
        assert_eq!(told.len(), 1, "{release}: {told:?}");
    }
}

/// Before 23.11.4 slurmctld stops at AutoDetect for a node in the cloud.
#[test]
fn detection_of_a_node_in_the_cloud_stops_slurmctld_of_old() {
    let host = Host::new();
    driver(&host, [0, 1, 2, 3]);
    host.replace(NODES, "Gres=", "State=CLOUD Gres=");
    host.write(GRES, "AutoDetect=nvml\n");
    for (release, harm, outcome) in [
        ("22.05", "stops-jobs", "slurmctld does not start"),
        ("23.11.3", "stops-jobs", "accepted"),
        ("24.11", "stops-binding", "accepted"),
    ] {
        let found = super::found(&host, release, "gres-autodetect");
        assert!(
            found.len() == 1 && found[0].starts_with(harm),
            "{release}: {found:?}"
        );
        let told = forecast(&host, release);
        assert!(told.contains(outcome), "{release}: {told}");
    }
}

/// 24.05 and 24.11 look at no count of the GPUs where they look at their cores; a finding must not say that they do.
#[test]
fn what_slurm_forgets_of_the_gpus_drains_no_node() {
    let host = Host::new();
    driver(&host, [0, 1, 2, 3]);
    host.replace(NODES, "gpu:l40s:4", "gpu:l40s:5 RestrictedCoresPerGPU=1");
    for (release, harm) in [("24.11", "stops-binding"), ("25.05", "stops-jobs")] {
        let found = super::found(&host, release, "gres-count");
        assert!(
            found.len() == 1 && found[0].starts_with(harm),
            "{release}: {found:?}"
        );
    }
    assert!(
        forecast(&host, "24.11").contains("accepted from 24.05 to 24.11; refused from 25.05 on"),
        "{}",
        forecast(&host, "24.11")
    );
}
