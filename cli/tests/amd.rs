//! Commands that need no vendor's library do on hosts with AMD's GPUs, and with GPUs of two vendors, what they do on hosts with
//! NVIDIA's.

use std::fs;
use std::process::Output;

use tempfile::TempDir;

use crate::common::{Host, as_root};

/// This host's CPUs as a declared server, in a mount namespace with its /sys.
struct Here {
    folder: TempDir,
}

impl Here {
    fn as_server(machine: &str) -> Self {
        let cpus = std::thread::available_parallelism().unwrap().get();
        let cpus: Vec<u32> = (0..u32::try_from(cpus).unwrap()).collect();
        let folder = tempfile::tempdir().unwrap();
        let server = machines::named(machine).on_cpus(&cpus);
        let sys = folder.path().join("sys");
        server.tree().below("sys").write(&sys).unwrap();
        Self { folder }
    }

    /// What a script says there on its two outputs, and how it ends; `$gpu_numa` is the program and `$folder` a folder.
    fn says(&self, script: &str) -> (String, String, Option<i32>) {
        let output: Output = as_root("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c"])
            .arg("mount --rbind \"$folder/sys\" /sys && mount -t tmpfs tmpfs /proc/driver && eval \"$1\"")
            .args(["sh", script])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("gpu_numa", env!("CARGO_BIN_EXE_gpu-numa"))
            .env("folder", self.folder.path())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            let lines = text.lines().filter(|line| !line.contains("NVML"));
            let text: Vec<&str> = lines.collect();
            let text = text.join("\n");
            text.replace(&*self.folder.path().to_string_lossy(), "FOLDER")
        };
        (
            text(&output.stdout),
            text(&output.stderr),
            output.status.code(),
        )
    }
}

/// Two servers that differ in whose GPUs they have.
const PAIR: [&str; 2] = ["slurm-2s4g", "slurm-2s4a"];

/// What a script says on both, which is the same; `VISIBLE` stands for the vendor's variable.
fn on_both(script: &str) -> (String, String, Option<i32>) {
    let [nvidia, amd] = PAIR.map(|machine| {
        let variable = if machine == "slurm-2s4a" {
            "ROCR_VISIBLE_DEVICES"
        } else {
            "CUDA_VISIBLE_DEVICES"
        };
        let (said, errors, status) =
            Here::as_server(machine).says(&script.replace("VISIBLE", variable));
        (
            said.replace(variable, "VISIBLE"),
            errors.replace(variable, "VISIBLE"),
            status,
        )
    });
    assert_eq!(nvidia, amd, "{script}");
    amd
}

const CPUS: &str = "sh -c 'grep Cpus_allowed_list /proc/self/status'";

#[test]
fn run_binds_to_the_same_cpus() {
    let near = |words: &str| on_both(&format!("$gpu_numa run {words} -- {CPUS} 2>/dev/null")).0;
    let (first, second) = (near("--gpus 0"), near("--gpus 3"));
    assert!(first.starts_with("Cpus_allowed_list:"), "{first}");
    assert_ne!(first, second);
    let of = |before: &str, words: &str| {
        on_both(&format!(
            "{before} $gpu_numa run {words} -- {CPUS} 2>/dev/null"
        ))
        .0
    };
    assert_eq!(of("VISIBLE=3", ""), second);
    assert_eq!(of("LOCAL_RANK=0 LOCAL_WORLD_SIZE=4", "--per-rank"), first);
    assert_eq!(of("LOCAL_RANK=3 LOCAL_WORLD_SIZE=4", "--per-rank"), second);
    assert_eq!(
        of("VISIBLE=2,3 LOCAL_RANK=0 LOCAL_WORLD_SIZE=2", "--per-rank"),
        second
    );
}

#[test]
fn run_sets_variables_of_nvidias_libraries_on_hosts_that_have_its_gpus_alone() {
    let script = "$gpu_numa run --gpus 0 -- env | grep -E '^(CUDA|NCCL|ROCR|HIP|RCCL)'";
    assert_eq!(Here::as_server("slurm-2s4a").says(script).0, "");
    for machine in ["slurm-2s4g", "abi-2s2n-mixed"] {
        assert_eq!(
            Here::as_server(machine).says(script).0,
            "CUDA_DEVICE_ORDER=PCI_BUS_ID",
            "{machine}"
        );
    }
}

#[test]
fn heal_cache_and_check_say_the_same() {
    let (said, errors, _) =
        on_both("VISIBLE=0 sleep 60 & $gpu_numa heal $! | sed s/$!/PID/; kill $!");
    assert!(said.contains("node 0"), "{said} {errors}");
    let (said, errors, status) =
        on_both("head -c 300000 /dev/zero >$folder/f; $gpu_numa cache --gpus 0 $folder/f");
    assert!(
        said.contains("in 1 file cached"),
        "{said} {errors} {status:?}"
    );
    for machine in PAIR {
        let output = Host::of(machine).run(&["check"]);
        assert_eq!(output.status.code(), Some(0), "{machine}");
    }
    let (said, errors, status) = on_both("$gpu_numa plan --for torchrun 2>/dev/null");
    assert_eq!(status, Some(0), "{errors}");
    assert_eq!(
        said,
        "--nproc-per-node 4 --no-python gpu-numa run --per-rank --"
    );
}

#[test]
fn on_a_mixed_host_each_variable_counts_its_own_vendors_gpus() {
    let here = Here::as_server("abi-2s2n-mixed");
    // GPU 0 and 2 are NVIDIA's, 1 and 3 AMD's.
    for (variable, number, is_there) in [
        ("CUDA_VISIBLE_DEVICES", 1, true),
        ("ROCR_VISIBLE_DEVICES", 1, true),
        ("ROCR_VISIBLE_DEVICES", 2, false),
    ] {
        let script = format!("{variable}={number} $gpu_numa run --option verbose -- true");
        let (_, errors, status) = here.says(&script);
        assert_eq!(status, Some(0), "{errors}");
        assert_eq!(
            errors.contains("runs unbound"),
            !is_there,
            "{script}: {errors}"
        );
    }
    let mixed = "--for: these are GPUs of AMD and NVIDIA, and workers use those of one; name them with --gpus";
    assert!(here.says("$gpu_numa plan --for torchrun").1.contains(mixed));
}

#[test]
fn a_fleet_tells_the_vendors_of_a_kind() {
    let folder = tempfile::tempdir().unwrap();
    for machine in ["slurm-2s4g", "slurm-2s4a", "abi-2s2n-mixed"] {
        for number in 1..3 {
            let page = Host::of(machine).page(&["show", "--json"]);
            fs::write(folder.path().join(format!("{machine}-{number}.json")), page).unwrap();
        }
    }
    let output = Here::as_server("slurm-2s4a");
    let (said, errors, status) =
        output.says(&format!("$gpu_numa fleet {}", folder.path().display()));
    assert_eq!(status, Some(0), "{said} {errors}");
    assert!(said.contains("6 hosts in 3 kinds"), "{said}");
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains(
            "2 of 1002:7408 AMD Instinct MI250X and 2 of 10de:2330 NVIDIA H100 80GB HBM3"
        ),
        "{said}"
    );
}

#[test]
fn only_where_nccl_runs_containers_need_our_files() {
    for (machine, needs) in [("frontier-mi250x", false), ("abi-2s2n-mixed", true)] {
        let host = Host::of(machine);
        host.write(
            "etc/enroot/mounts.d/10-system.fstab",
            "/proc /proc none rbind\n",
        );
        let output = host.run(&["doctor", "--json"]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.contains("container-mount"), needs, "{machine}: {said}");
    }
}
