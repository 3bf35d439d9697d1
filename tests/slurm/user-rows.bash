# The rows of the fault table that a user makes: the option by environment variable, and what a job brings along.

rows_of_options() {
    local text name count=0
    section "the option by environment variable"
    plugin on
    for text in $'%s%n%x\n%s' $'\e[31m\r\n\t\x01' "$(printf '\xff\xfe,\xc3')" "snapshot=/etc/shadow,always=off" \
        "$(head -c 100000 /dev/zero | tr '\0' ',')" "$(head -c 100000 /dev/zero | tr '\0' x)"; do
        count=$((count + 1))
        name=$(sed -n "${count}p" <<'END'
format characters and a second line
escape and control characters
bytes that are no UTF-8
words of plugstack.conf
100,000 commas
one word of 100,000 letters
END
        )
        as=("${user[@]}" "_SLURM_SPANK_OPTION_gpu_numa_bind_gpu_numa_bind=$text")
        meet "$name" 0 COMPLETED bound srun "${two_tasks[@]}" "$probe" --mib 0
        as=("${user[@]}" "GPU_NUMA_BIND=$text")
        meet_srun "GPU_NUMA_BIND: $name" 0 COMPLETED bound
    done
    # Under the name that salloc and sbatch read it is refused where it is typed; under srun's it is not looked at.
    local variable wanted
    for variable in SLURM_SPANK__SLURM_SPANK_OPTION _SLURM_SPANK_OPTION; do
        case $variable in SLURM*) wanted=(1 none -) ;; *) wanted=(0 COMPLETED bound) ;; esac
        as=("${user[@]}" "$variable"$'_gpu_numa_bind_gpu_numa_bind=%s%n\e[31m,snapshot=/etc/shadow')
        meet "$variable: format and control characters" "${wanted[@]}" salloc -Q "${two_tasks[@]}" srun "$probe" --mib 0
        # The batch script's step has it, and takes it out of the environment.
        [ "${wanted[0]}" = 1 ] || wanted=(0 COMPLETED "as Slurm")
        rm -f "$work/batch"/*
        meet "$variable: format and control characters" "${wanted[@]}" sbatch -Q -D / -o "$work/batch/out" \
            -e "$work/batch/err" -n2 --gpus=4 --wrap "srun --gpu-bind=map_gpu:3,0 $probe --mib 0"
    done
    as=("${user[@]}")
}

# Limits, variables, streams and folders of a job are its own; that Slurm hands them on must not matter to the plugin.
rows_of_users() {
    section "what a user brings along"
    plugin on
    mkfifo "$work/conf"
    chmod 666 "$work/conf"
    as=("${user[@]}" prlimit --as=160000000 --data=50000000 --nofile=10:1024 --memlock=0 --stack=262144:262144 --rss=1000 --core=0)
    ! slurm_alone_can "little memory, stack and few descriptors" srun -n2 true ||
        meet_srun "little memory, stack and few descriptors" 0 COMPLETED bound
    as=(setpriv --reuid 1 --regid 1 --clear-groups env HOME=/root TMPDIR=/nowhere TZ=:/etc/shadow LC_ALL=xx RUST_LOG=trace
        RUST_BACKTRACE=full LD_PRELOAD=/nowhere.so MALLOC_PERTURB_=165 MALLOC_CHECK_=3 GLIBC_TUNABLES=glibc.malloc.check=3)
    meet_srun "variables of the loader, the allocator and Rust; another's HOME" 0 COMPLETED bound
    as=("${user[@]}" NCCL_CONF_FILE="$work/conf" HOME=/proc/self/fd)
    meet_srun "NCCL_CONF_FILE is a FIFO, HOME a folder of descriptors" 0 COMPLETED bound
    as=("${user[@]}" "GPU_NUMA_BIND_SET=NCCL_TOPO_FILE=/etc/shadow" NCCL_TOPO_FILE=/etc/shadow GPU_NUMA_BIND_REPORT={}
        SLURM_STEP_GPUS=99999,-1 SLURM_JOB_GPUS=x SLURM_GPUS_ON_NODE=-1 SLURM_CPU_BIND_LIST=0xffffffffffffffff
        SLURM_CPU_BIND_TYPE=none SLURM_TASKS_PER_NODE='4294967295(x4294967295)' SLURMD_NODENAME=$'\e[31m%n')
    meet_srun "variables under Slurm's names and ours" 0 COMPLETED bound
    as=("${user[@]}")
    meet_srun "a working folder that is not there" 0 COMPLETED bound -D /nonexistent
    as=("${user[@]}" sh -c 'exec "$@" 2>/dev/full' sh)
    meet_srun "stderr cannot be written" 0 COMPLETED bound
    # A task that itself writes to its stdout makes srun 22.05 hang, without any plugin, and one that writes to its stderr a
    # newer one.
    as=("${user[@]}" sh -c 'exec "$@" 0<&- 1>&- 2>&-' sh)
    ! slurm_alone_can "stdin, stdout and stderr are closed" srun -n2 sh -c 'echo a line >&2' ||
        meet "stdin, stdout and stderr are closed" 0 COMPLETED - srun "${two_tasks[@]}" "$option" true
    as=("${user[@]}" sh -c '{ "$@" 2>&1 1>&3 | { sleep 3; head -n 1 >&2; }; } 3>&1' sh)
    meet_srun "stderr is a full pipe that nobody reads for 3 s" 0 COMPLETED bound
    as=("${user[@]}")
    rows_of_hung_homes
}

# A task that waits in the kernel cannot be ended, and its node would drain.
rows_of_hung_homes() {
    local server tells
    # The kernel of the virtual servers has none.
    grep -qw fuse /proc/filesystems || modprobe -q fuse || { skip "a home that does not answer (FUSE)" "this kernel has no FUSE"; return; }
    plugin on "snapshot=$snapshot"
    fresh_snapshot
    mkdir "$work/hung"
    # The lab's /dev has the GPUs and little else.
    in_lab test -e /dev/fuse || in_lab mknod /dev/fuse c 10 229
    for tells in "" file; do
        server=$(in_lab "$tools/hung-fs" "$work/hung" $tells) || fail "a file system that hangs is mounted"
        as=("${user[@]}" HOME="$work/hung/anna")
        meet_srun "a home that does not answer${tells:+ when its files are read} (FUSE)" 0 COMPLETED bound
        kill "$server"
        in_lab umount --lazy "$work/hung"
    done
    as=("${user[@]}")
}
