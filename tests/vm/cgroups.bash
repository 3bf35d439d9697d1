# The cgroup.conf of a Slurm that fences its steps by cgroups of the version that is mounted, where no systemd runs.
#
# CONSTRAIN_CORES and CONSTRAIN_DEVICES (yes) say what is fenced.

give_controller() { # CONTROLLER: for the groups below system.slice
    echo "+$1" >/sys/fs/cgroup/cgroup.subtree_control && echo "+$1" >/sys/fs/cgroup/system.slice/cgroup.subtree_control
}

fenced_by_cgroups() {
    local plugin=cgroup/v1 memory=yes controller
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        # Without systemd nobody makes the slice that Slurm 22.05 puts its scope in.
        plugin=cgroup/v2
        mkdir -p /sys/fs/cgroup/system.slice
        for controller in cpuset cpu pids; do give_controller "$controller"; done
        # On a host whose other hierarchies have it there is none here.
        give_controller memory 2>/dev/null || memory=no
    fi
    cat <<END
CgroupPlugin=$plugin
IgnoreSystemd=yes
CgroupAutomount=no
ConstrainCores=${CONSTRAIN_CORES:-yes}
ConstrainDevices=${CONSTRAIN_DEVICES:-yes}
ConstrainRAMSpace=$memory
END
}
