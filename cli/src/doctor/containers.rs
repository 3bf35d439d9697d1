//! Whether containers see the files that the plugins refer to.

use topology::snapshot::DIRECTORY;

use super::report::{DoctorReport, Harm};
use super::world::World;

pub(crate) fn check(world: &World<'_>, report: &mut DoctorReport) {
    let Some(tree) = &world.tree else { return };
    // Nothing of ours in a container's environment names a file but for NCCL.
    if !world.machine.has_nccl_gpus() {
        return;
    }
    let effect = "in a container NCCL_TOPO_FILE names a file that does not exist there: NCCL warns and detects the topology itself";
    let mentions = |text: &str| {
        text.lines().any(|line| {
            let line = line.trim();
            !line.starts_with('#') && line.contains(DIRECTORY)
        })
    };
    if tree.exists("/etc/enroot") {
        let folder = "/etc/enroot/mounts.d";
        // enroot reads the files that end in .fstab (4.1.2, runtime.sh).
        let has = tree.entries(folder).iter().any(|name| {
            name.ends_with(".fstab")
                && tree
                    .read(&format!("{folder}/{name}"))
                    .is_ok_and(|text| mentions(&text))
        });
        if !has {
            report.find(
                "container-mount",
                Harm::SlowsJobs,
                format!("{folder}: no .fstab file mounts {DIRECTORY}"),
                effect,
                format!(
                    "{folder}/50-gpu-numa-bind.fstab: {DIRECTORY} {DIRECTORY} none x-create=dir,bind,ro,nosuid,nodev,noexec,rslave,nofail,silent 0 -1"
                ),
            );
        }
    }
    for path in [
        "/etc/apptainer/apptainer.conf",
        "/etc/singularity/singularity.conf",
    ] {
        if let Ok(text) = tree.read(path)
            && !mentions(&text)
        {
            report.find(
                "container-mount",
                Harm::SlowsJobs,
                format!("{path}: no \"bind path\" for {DIRECTORY}"),
                effect,
                format!("{path}: bind path = {DIRECTORY}"),
            );
        }
    }
}
