# The cgroup.conf of a Slurm that fences its steps by cgroups of the version that is mounted, where no systemd runs.
#
# CONSTRAIN_CORES and CONSTRAIN_DEVICES (yes) say what is fenced.

fenced_by_cgroups() {
    local plugin=cgroup/v1
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        # Without systemd nobody makes the slice that Slurm 22.05 puts its scope in.
        plugin=cgroup/v2
        mkdir -p /sys/fs/cgroup/system.slice
        echo "+cpuset +cpu +memory +pids" >/sys/fs/cgroup/system.slice/cgroup.subtree_control
    fi
    cat <<END
CgroupPlugin=$plugin
IgnoreSystemd=yes
CgroupAutomount=no
ConstrainCores=${CONSTRAIN_CORES:-yes}
ConstrainDevices=${CONSTRAIN_DEVICES:-yes}
ConstrainRAMSpace=yes
END
}
