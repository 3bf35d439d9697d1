# What the two load scripts share: launches without and with the plugin in turn.
#
# Sourced with `slurm` set to tests/slurm, `work` to a folder, `plugged` to the plugin's arguments, and with `plugin`
# and `verdict`.

# Launches, alternating in blocks, so that both meet the same host.
launch() { # NAME STEPS BLOCK SRUN-ARGUMENT...
    local name=$1 steps=$2 size=$3 block mode i start bad=0
    shift 3
    : >"$work/times"
    for ((block = 0; block * size < steps; block++)); do
        for mode in off on; do
            # shellcheck disable=SC2086
            plugin $mode $plugged
            for ((i = 0; i < size; i++)); do
                start=${EPOCHREALTIME//[.,]/}
                timeout 100 srun "$@" true >/dev/null 2>"$work/err" || { bad=$((bad + 1)); cat "$work/err" >&2; }
                echo "$mode $block $((${EPOCHREALTIME//[.,]/} - start))" >>"$work/times"
            done
        done
    done
    [ $bad -eq 0 ]
    verdict $? "$name: $((block * size)) launches without the plugin and as many with it succeed" "$bad failed"
    # A minimal system has none.
    ! command -v python3 >/dev/null || "$slurm/ratio" <"$work/times"
}

# Enters an allocation of the whole node, and leaves it.
with_allocation() { # COMMAND [ARGUMENT...]
    salloc -Q -n2 --gpus=4 --no-shell -J load || return 1
    SLURM_JOB_ID=$(squeue -h -n load -o %i)
    export SLURM_JOB_ID
    echo "# load average $(cut -d ' ' -f 1-3 /proc/loadavg), $(nproc) CPUs"
    "$@"
    scancel -Q "$SLURM_JOB_ID"
    unset SLURM_JOB_ID
}
