# The rows of the fault table: what is done to the plugin, and what must become of the job.

# --- hooks ---------------------------------------------------------------------------------------------------

# Where the option's registration is lost, always= still binds; where the whole of init is lost, nobody asks for binding.
rows_in_slurmstepd() {
    local hook kind binding
    section "in slurmstepd"
    plugin on always=best-effort
    for hook in init option init_post_opt user_init task_init; do
        for kind in error panic slow; do
            # Nothing of ours that could panic runs there in slurmstepd.
            case $hook/$kind in option/panic | init_post_opt/panic) continue ;; esac
            binding=bound
            case $hook/$kind in init/panic | user_init/error | user_init/panic | task_init/error | task_init/panic) binding="as Slurm" ;; esac
            fault slurmstepd $hook $kind
            meet_srun "$hook: $kind" 0 COMPLETED "$binding"
            case $kind/$hook in slow/option | slow/init_post_opt | slow/init) continue ;; esac
            meet_sbatch "$hook: $kind" 0 COMPLETED "$binding"
        done
    done
    fault slurmstepd task_init slow-one
    meet_srun "task_init: slow in one task" 0 COMPLETED bound
    fault slurmstepd task_init die-one
    meet_srun "one task is killed before task_init" 137 FAILED -
    [ "$mode" != --sample ] || return 0
    fault slurmstepd task_init die-others
    # srun ends the one that is left, before or after that has spoken.
    instead="the task that is left says that not all came in time, or is ended before" \
        meet "all of eight tasks but one are" 137 FAILED - srun -n8 -O --gres=gpu:4 "$option" true
    fault slurmstepd task_init stop-one
    meet_srun "task_init: one task is stopped for 3 s" 0 COMPLETED bound
}

# Nothing of these two hooks is in the way of a step that is over: the line at its end may be missing, and it may not be
# counted.
rows_at_the_end() {
    local hook kind ends=$work/ends
    section "when tasks and their step have ended"
    mkdir -p "$ends"
    # The counters are memory.
    in_lab mount -t tmpfs -o mode=755 tmpfs "$ends"
    in_lab "$cli" snapshot --dir "$ends" >/dev/null 2>"$work/cli.err" && in_lab "$cli" metrics --dir "$ends" --start >/dev/null ||
        fail "the host has counters"
    plugin on always=best-effort "snapshot=$ends" summary
    for hook in task_exit exit; do
        for kind in error panic slow; do
            fault slurmstepd $hook $kind
            meet_srun "$hook: $kind" 0 COMPLETED bound
            [ $kind != panic ] || { grep -q "internal fault in $hook;" "$lab/log/slurmd.log"; verdict $? "$hook: the panic is caught"; }
        done
    done
    fault slurmstepd task_exit die
    local meanwhile=cancel instead="that the job was cancelled"
    meet "task_exit: slurmstepd is killed, then the job cancelled" any CANCELLED - srun "${two_tasks[@]}" "$option" true
    meanwhile='' instead=''
    # Seen with 26.05.5 and a plugin that does nothing else, without ours.
    case $release in
    26.*) skip "exit: slurmstepd is killed" "Slurm $release alone: srun does not end where any plugin's slurmstepd is killed in slurm_spank_exit" ;;
    *)
        fault slurmstepd exit die
        meet_srun "exit: slurmstepd is killed" 0 COMPLETED bound
        ;;
    esac
    fault none
    in_lab umount "$ends"
}

rows_in_srun() {
    local kind
    section "in srun"
    plugin on always=best-effort
    as=("${user[@]}" "LD_PRELOAD=$SLURMD_PRELOAD" GPU_NUMA_BIND=node)
    for kind in error panic slow; do
        # Without registration nobody can type the option.
        fault srun init $kind
        meet "init: $kind, the option not typed" 0 COMPLETED bound srun "${two_tasks[@]}" "$probe" --mib 0
    done
    for kind in panic slow; do
        fault srun option $kind
        meet_srun "option: $kind" 0 COMPLETED bound
    done
    for kind in error panic slow; do
        fault srun init_post_opt $kind
        meet_srun "init_post_opt: $kind" 0 COMPLETED bound
    done
    as=("${user[@]}")
}

rows_in_slurmd() {
    local kind
    section "in slurmd, when it starts"
    plugin on always=best-effort
    for kind in error panic slow; do
        fault slurmd init $kind
        "$here/slurm-lab" restart-slurmd "$lab" || fail "slurmd starts, init: $kind"
        meet_srun "init: $kind" 0 COMPLETED bound
    done
    fault none
}

# --- the snapshot --------------------------------------------------------------------------------------------

fresh_snapshot() {
    rm -rf "$snapshot"
    in_lab "$cli" snapshot --dir "$snapshot" >/dev/null 2>"$work/cli.err" || fail "gpu-numa snapshot writes one"
}

rows_of_snapshot() {
    local file=$snapshot/node.json
    section "the snapshot"
    plugin on "snapshot=$snapshot"
    fresh_snapshot
    meet_srun "none of them: NVML is missing on this host" 0 COMPLETED bound
    rm -rf "$snapshot"
    meet_srun "no snapshot" 0 COMPLETED bound
    for change in "cut in the middle:truncate -s 700" "empty:truncate -s 0" "1 GB of holes:truncate -s 1G" \
        "of another boot, so of another host too:sed -i s/\"boot_id\":\"[0-9a-f]*/\"boot_id\":\"0/" "owned by a user:chown 1" \
        "writable by all:chmod 666"; do
        fresh_snapshot
        ${change#*:} "$file"
        meet_srun "${change%%:*}" 0 COMPLETED bound
    done
    fresh_snapshot
    chmod 700 "$snapshot"
    meet_srun "in a folder that a user may not enter" 0 COMPLETED bound
    fresh_snapshot
    chown 1 "$snapshot"
    meet_srun "its folder is a user's" 0 COMPLETED bound
    for kind in directory FIFO "link to a right one" "link to /dev/zero" "device"; do
        fresh_snapshot
        mv "$file" "$snapshot/right.json"
        case $kind in
        directory) mkdir "$file" ;;
        FIFO) mkfifo "$file" ;;
        "link to a right one") ln -s right.json "$file" ;;
        "link to /dev/zero") ln -s /dev/zero "$file" ;;
        device) mknod "$file" c 1 5 ;;
        esac
        meet_srun "a $kind" 0 COMPLETED bound
    done
}

# What NVML does is the snapshot service's affair: the plugin does not load it.
rows_of_nvml() {
    local start=$SECONDS
    mkdir -p "$work/nvml"
    echo "hang nvmlInit_v2" >"$work/nvml/scenario"
    export STAND_IN_NVML=$work/nvml/scenario LD_LIBRARY_PATH=$tools/nvml
    "$here/slurm-lab" restart-slurmd "$lab" || fail "slurmd starts, where NVML hangs"
    fresh_snapshot
    ((SECONDS - start < 30))
    verdict $? "where NVML hangs gpu-numa snapshot writes without it, in time" "$((SECONDS - start)) s"
    unset LD_LIBRARY_PATH
    meet_srun "NVML hangs, for the snapshot service and when a job starts" 0 COMPLETED bound
    unset STAND_IN_NVML
    "$here/slurm-lab" restart-slurmd "$lab" || fail "slurmd starts again"
}

# /run is full: the boot service fails and says so, what was there before stays, and jobs run.
rows_of_full_run() {
    rm -rf "$snapshot"
    mkdir -p "$snapshot"
    in_lab mount -t tmpfs -o size=4k,mode=755 tmpfs "$snapshot"
    in_lab "$cli" snapshot --dir "$snapshot" >/dev/null 2>"$work/cli.err"
    [ $? -eq 2 ] && grep -q "$snapshot" "$work/cli.err"
    verdict $? "on a full /run gpu-numa snapshot fails and says where" "$(cat "$work/cli.err")"
    meet_srun "the file system of /run is full" 0 COMPLETED bound
    in_lab umount "$snapshot"
    # The tasks' page is anonymous memory.
    in_lab mount -t tmpfs -o size=4k,mode=1777 tmpfs /dev/shm
    in_lab sh -c 'head -c 4096 /dev/zero >/dev/shm/full'
    meet_srun "/dev/shm is full" 0 COMPLETED bound
    in_lab umount /dev/shm
}

# --- the host ------------------------------------------------------------------------------------------------

rows_of_host() {
    local online=$lab/sys/devices/system/cpu/online cpus folder
    section "the host"
    plugin on "snapshot=$snapshot"
    rm -rf "$snapshot"
    fault slurmstepd user_init eacces
    meet_srun "nothing can be opened: no snapshot, no /sys" 0 COMPLETED "as Slurm"
    fault none
    for folder in bus class devices; do in_lab mount -t tmpfs tmpfs "/sys/$folder"; done
    meet_srun "/sys is empty, no snapshot" 0 COMPLETED "as Slurm"
    for folder in bus class devices; do in_lab umount "/sys/$folder"; done
    fresh_snapshot
    cpus=$(cat "$online")
    echo "0-$((${cpus#*-} - 1))" >"$online"
    # Of two CPUs, one is left for both tasks, and the socket of one's GPU has none.
    meet_srun "a CPU went offline since the snapshot" 0 COMPLETED "$([ "$(nproc --all)" = 2 ] && echo mixed || echo bound)"
    echo "$cpus" >"$online"
    mv "$lab/sys/bus/pci/devices/0000:91:00.0" "$work/gone"
    in_lab mv /proc/driver/nvidia/gpus/0000:91:00.0 /proc/driver/nvidia/gone
    # CUDA shows a task no GPU whose number is none's any more.
    meet_srun "a GPU is gone since the snapshot" 0 COMPLETED "as Slurm"
    mv "$work/gone" "$lab/sys/bus/pci/devices/0000:91:00.0"
    in_lab mv /proc/driver/nvidia/gone /proc/driver/nvidia/gpus/0000:91:00.0
    rm -rf "$snapshot"
}

rows_of_kernel() {
    section "the kernel and the step"
    plugin on
    fault slurmstepd task_init no-affinity
    meet_srun "seccomp denies sched_setaffinity" 0 COMPLETED "as Slurm"
    fault slurmstepd task_init no-policy
    meet_srun "seccomp denies set_mempolicy" 0 COMPLETED bound
    fault none
    # Another job has the only core of the first package.
    sbatch -Q -n1 -o /dev/null --wrap 'sleep 60'
    local node_wanted=mixed
    meet "one of three GPUs has no CPU of the step near it" 0 COMPLETED - srun -n1 --gres=gpu:3 "$option" "$probe"
    meet "the same, restricted" 1 FAILED - srun -n1 --gres=gpu:3 "$option=restricted" "$probe"
    scancel -Q -u root
    node_wanted=idle
    state_becomes idle
    # Under load they may not all come in time, and then each speaks for itself.
    local instead="a line for up to eight tasks without a local CPU"
    meet "256 tasks in a step" 0 COMPLETED - srun -n256 -O --gres=gpu:4 "$option" true
    meet "256 tasks, one of which fails" 3 FAILED - srun -n256 -O --gres=gpu:4 "$option" \
        sh -c '[ $SLURM_PROCID != 200 ] || exit 3'
}

# No CPU of the step is near its tasks' GPUs.
rows_of_policies() {
    local policy wanted node_wanted=mixed
    section "no CPU of the step near its GPUs"
    plugin on
    # Another job has the first package whole.
    sbatch -Q -n1 -c$(($(nproc --all) / 2)) -m block:block -o /dev/null --wrap 'sleep 100'
    for policy in none best-effort best-effort,socket best-effort,l3 best-effort,mem=bind restricted,node single-numa-node; do
        wanted='0 COMPLETED mixed'
        case $policy in restricted* | single*) wanted='1 FAILED -' ;; esac
        # shellcheck disable=SC2086
        meet "$policy" $wanted srun -n2 -O --gpus=4 --gpu-bind=map_gpu:0,1 "$option=$policy" "$probe" --mib 0
    done
    scancel -Q -u root
    node_wanted=idle
    state_becomes idle
}

# --- while a hook is at work ---------------------------------------------------------------------------------

cancel() { scancel -Q -n "$1"; }

suspend_and_resume() {
    local job
    job=$(timeout 5 squeue -h -n "$1" -o %A)
    timeout 10 scontrol suspend "$job"
    sleep 1
    timeout 10 scontrol resume "$job"
}

restart_slurmd() { "$here/slurm-lab" restart-slurmd "$lab" || fail "slurmd starts while a hook is at work"; }

rows_of_interruptions() {
    local hook meanwhile instead
    section "while a hook is at work"
    plugin on
    for hook in init user_init task_init; do
        meanwhile=cancel instead="that the job was cancelled"
        fault slurmstepd $hook slow
        meet "$hook: the job is cancelled" any CANCELLED - srun "${two_tasks[@]}" "$option" sleep 30
        fault slurmstepd $hook slow
        meanwhile=suspend_and_resume instead=
        meet_srun "$hook: the job is suspended, and goes on" 0 COMPLETED bound
        fault slurmstepd $hook slow
        meanwhile=restart_slurmd
        meet_srun "$hook: slurmd is started anew" 0 COMPLETED bound
        meanwhile=
    done
    # Slurm itself tells srun of a slurmstepd that is gone only once the job ends.
    for hook in init user_init; do
        fault slurmstepd $hook die
        meanwhile=cancel instead="that the job was cancelled"
        meet_srun "$hook: slurmstepd is killed, then the job cancelled" any CANCELLED -
    done
    [ "$mode" = --sample ] || rows_of_time_limits
    meanwhile='' instead="its own lines"
    fault slurmstepd task_init die-parent
    meet_srun "task_init: slurmstepd is killed" any COMPLETED bound
    fault slurmstepd task_init die
    instead="that the tasks were killed" meet_srun "task_init: all tasks are killed, as where memory runs out" 137 FAILED -
    [ "$mode" = --sample ] || rows_of_memory
    instead=
    fault slurmstepd task_init slow
    meanwhile=another_user
    meet "task_init: meanwhile another user's job starts" 0 COMPLETED - srun -n1 --gres=gpu:1 "$option" "$probe" --mib 0
    is_local "$work/out" && is_local "$work/other"
    verdict $? "the tasks of two users' jobs at once are each by their GPU" "$(cat "$work/other" "$work/other.err")"
    meanwhile=
    fault none
    meet_srun "and the next job" 0 COMPLETED bound
}

# The kernel ends what takes most of a group's memory: the step's own group where steps are fenced by cgroups, else one that
# slurmd is in.
rows_of_memory() {
    local name="task_init: the memory of its cgroup runs out" group='' limit=memory.limit_in_bytes own mount slurmd
    local argument=() ends=(137 FAILED) instead="that the tasks were killed" tries
    slurmd=$(cat "$lab/run/slurmd.started")
    if [ -n "${LAB_CGROUPS:-}" ]; then
        # srun's status is the plugin's or Slurm's, by which of the two is told first.
        argument=(--mem=64) ends=(any OUT_OF_MEMORY)
    else
        own=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup) mount=/sys/fs/cgroup/memory
        [ -n "$own" ] || { own=$(sed -n 's/^0:://p' /proc/self/cgroup) mount=/sys/fs/cgroup limit=memory.max; }
        group=$mount$own/gpu-numa-$$
        { mkdir "$group" && echo 256M >"$group/$limit" && echo "$slurmd" >"$group/cgroup.procs"; } 2>/dev/null ||
            { rmdir "$group" 2>/dev/null; skip "$name" "no cgroup with a limit of memory can be made here"; return; }
    fi
    fault slurmstepd task_init eat
    meet_srun "$name" "${ends[@]}" - "${argument[@]}"
    [ -n "$group" ] || return 0
    echo "$slurmd" >"$mount$own/cgroup.procs"
    for ((tries = 0; tries < 50; tries++)); do
        ! rmdir "$group" 2>/dev/null || return 0
        sleep 0.1
    done
    fail "the cgroup is empty again"
}

# slurmctld looks for jobs whose time is up every 30 s; the hook is at work then, and goes on for a while.
rows_of_time_limits() {
    local hook meanwhile=end_time instead="that its time was up" LAB_PATIENCE=$((4 * ${LAB_PATIENCE:-20}))
    for hook in user_init task_init; do
        fault slurmstepd $hook slow-told
        meet "$hook: the job's time is up" any TIMEOUT - srun "${two_tasks[@]}" "$option" sleep 100
    done
}

end_time() {
    local job='' tries
    # On a busy host slurmctld answers late.
    for ((tries = 0; tries < 20; tries++)); do
        [ -n "$job" ] || job=$(timeout 5 squeue -h -n "$1" -o %A)
        [ -z "$job" ] || ! timeout 10 scontrol update "JobId=$job" EndTime=now || break
        sleep 0.5
    done
    for ((tries = 0; tries < 450; tries++)); do
        [ "$(timeout 5 squeue -h -j "$job" -o %T)" = RUNNING ] || break
        sleep 0.1
    done
    touch "$GPU_NUMA_FAULT.go"
}

another_user() {
    timeout 30 setpriv --reuid 2 --regid 2 --clear-groups env HOME=/ srun -Q -n1 --gres=gpu:1 "$option" "$probe" --mib 0 \
        >"$work/other" 2>"$work/other.err"
}

is_local() { grep -q '^task=0 .*"verdict":"local"' "$1"; } # OUTPUT

# --- other plugins ----------------------------------------------------------------------------------

plugins() { printf 'optional %s\n' "$@" >"$lab/etc/plugstack.conf"; }

rows_of_rivals() {
    local ours="$work/libgpu_numa_bind.so always=best-effort" rival=$tools/rival.so
    section "other plugins"
    cp "$work/libgpu_numa_bind.so" "$work/second_gpu_numa_bind.so"
    plugins "$ours" "$work/second_gpu_numa_bind.so"
    meet_srun "ours twice" 0 COMPLETED bound
    plugins "$ours" "$rival option"
    meet_srun "another with our option, after ours" 0 COMPLETED bound
    plugins "$rival option" "$ours"
    meet_srun "another with our option, before ours" 0 COMPLETED bound
    plugins "$ours" "$rival environment"
    meet_srun "another that changes the environment, after ours" 0 COMPLETED bound
    plugins "$rival environment" "$ours"
    # It names a GPU that is not there, so that CUDA shows none.
    meet_srun "another that changes the environment, before ours" 0 COMPLETED "as Slurm"
    # What is read of the host is read before the fork; only a task itself can say which GPUs it may open.
    plugins "$ours" "$rival container $snapshot"
    mkdir -p "$snapshot"
    meet_srun "another that starts containers, after ours" 0 COMPLETED bound
    plugins "$rival container $snapshot" "$ours"
    meet_srun "another that starts containers, before ours" 0 COMPLETED bound
    plugins "$rival container $snapshot /dev" "$ours"
    meet_srun "the same, with no GPU in them" 0 COMPLETED "as Slurm"
}

# --- what a task inherits ------------------------------------------------------------------------------------

# Everything of a process but the binding and its number: descriptors, signals, limits, ids, names of variables.
task_state='ls -l /proc/self/fd | sed -n "s/.* \([0-9]*\) -> /fd \1 /p" | sed "s/\[.*//" | grep -v " /proc/"
grep -E "^(Sig[BIC]|ShdPnd|Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Umask|CoreDumping|THP)" /proc/self/status
sed "s/Max pending signals.*//" /proc/self/limits; cat /proc/self/oom_score_adj; umask; pwd
env | sed -n "s/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/variable \1/p" | sort'

check_inheritance() {
    local kind
    plugin off
    run "$work/alone" "${user[@]}" srun -n1 --gres=gpu:1 sh -c "$task_state"
    [ $status -eq 0 ] && grep -q '^fd 2' "$work/alone" && grep -q '^SigBlk' "$work/alone"
    verdict $? "a task's descriptors, signals and limits can be seen"
    plugin on always=best-effort
    for kind in none error panic; do
        fault slurmstepd task_init $kind
        run "$work/bound" "${user[@]}" srun -n1 --gres=gpu:1 "$option" sh -c "$task_state"
        grep -vE "^variable ($own_variables)\$" "$work/bound" |
            diff "$work/alone" - >"$work/diff"
        verdict $? "with the option, fault $kind: a task has the same descriptors, signals, limits, ids and variables" \
            "$(cat "$work/diff")"
    done
    fault none
}

all_faults() {
    cli=${GPU_NUMA_CLI:-${CARGO_TARGET_DIR:-$root/target}/release/gpu-numa}
    check_inheritance
    rows_in_slurmstepd
    if [ "$mode" != --sample ]; then
        [ -x "$cli" ] || die "no $cli; build it: cargo build --release -p gpu-numa"
        rows_at_the_end
    fi
    rows_in_srun
    rows_in_slurmd
    if [ "$mode" != --sample ]; then
        rows_of_snapshot
        rows_of_nvml
        rows_of_full_run
        rows_of_host
    fi
    rows_of_kernel
    rows_of_interruptions
    rows_of_rivals
    rows_of_options
    [ "$mode" = --sample ] || {
        rows_of_policies
        rows_of_users
        rows_of_amd
    }
}
