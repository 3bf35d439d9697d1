# The fenced blocks of the documents, and how each is tested.
#
# The info string of a fence is `text` for what is no command, or `sh` and one of:
#   machine      run in the fast tests, on a made-up machine of two sockets and four GPUs
#   slurm        run in the Slurm tier; numbers of tasks, CPUs and hosts are scaled down to its one small host
#   script       a batch script, submitted there
#   make         make targets and scripts of this repository, which must exist
#   needs=WHAT   not run: WHAT, one of `lacking`, is not available where the tests run
#
# Sourced with `root` set to the repository.
documents=(README.md CONTRIBUTING.md SECURITY.md ARCHITECTURE.md docs/*.md)
lacking='pyxis apptainer systemd'

# FILE LINE CLASS for each fence; CLASS is `?` where the info string is none of the above.
list_blocks() {
    (cd "$root" && awk -v lacking=" $lacking " '
        FNR == 1 { inside = 0 }
        { line = $0; sub(/^ +/, "", line) }
        line !~ /^```/ { next }
        inside { inside = 0; next }
        {
            inside = 1
            info = substr(line, 4)
            class = "?"
            if (info == "text") class = "text"
            if (info ~ /^sh (machine|slurm|script|make)$/) class = substr(info, 4)
            if (info ~ /^sh needs=/ && index(lacking, " " substr(info, 10) " ")) class = substr(info, 4)
            print FILENAME, FNR, class
        }' "${documents[@]}")
}

block_text() { # FILE LINE
    awk -v line="$2" 'NR > line { text = $0; sub(/^ +/, "", text); if (text ~ /^```/) exit; print }' "$root/$1" | sed 's/^   //'
}

# A command that goes on in the next line is one.
block_commands() { # FILE LINE
    block_text "$1" "$2" | sed -e ':a' -e '/\\$/{N;s/\\\n *//;ba' -e '}' | grep -v -e '^ *#' -e '^ *$'
}

# The programs that the examples start, in FOLDER/bin, and files that they name: what they stand for is not tested here.
make_stand_ins() { # FOLDER
    local name
    mkdir -p "$1/bin"
    for name in train solver hybrid; do printf '#!/bin/sh\ngrep Cpus_allowed_list /proc/self/status\n' >"$1/$name"; done
    printf '#!/bin/sh\ngrep Cpus_allowed_list /proc/self/status\n' >"$1/bin/python"
    printf '#!/bin/sh\necho $PPID\n' >"$1/bin/pgrep"
    # What is run beside a job, with a process of that job on this host. tests/slurm/docs puts the real srun in its place.
    cat >"$1/bin/srun" <<'END'
#!/bin/bash
[ "$1 $2" = '--overlap --jobid' ] || { echo "srun: $*" >&2; exit 2; }
shift 3
export SLURM_JOB_ID=4711
CUDA_VISIBLE_DEVICES=0 sleep 60 &
"$@"
status=$?
kill $!
exit $status
END
    # This host in place of all that -w names; as the real one, it ends well however the command ends.
    cat >"$1/bin/clush" <<'END'
#!/bin/bash
folder=''
while [ $# -gt 0 ]; do
    case $1 in
    -w) shift 2 ;;
    -b) shift ;;
    --outdir) folder=$2; shift 2 ;;
    -*) echo "clush: $*" >&2; exit 2 ;;
    *) break ;;
    esac
done
[ -z "$folder" ] || exec >"$folder/gpu001"
sh -c "$*"
exit 0
END
    # One worker per local rank, as the real ones start them.
    cat >"$1/bin/torchrun" <<'END'
#!/bin/bash
while [ $# -gt 0 ]; do
    case $1 in
    --nproc-per-node) count=$2; shift 2 ;;
    --nnodes | --rdzv-*) shift 2 ;;
    --no-python) shift; break ;;
    *) echo "torchrun: $1" >&2; exit 2 ;;
    esac
done
for ((rank = 0; rank < count; rank++)); do LOCAL_RANK=$rank LOCAL_WORLD_SIZE=$count "$@" & pids+=($!); done
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit "${status:-0}"
END
    cat >"$1/bin/mpirun" <<'END'
#!/bin/bash
[ "$1" = -np ] && [ "$3" = --bind-to ] || { echo "mpirun: $*" >&2; exit 2; }
count=$2
shift 4
for ((rank = 0; rank < count; rank++)); do
    OMPI_COMM_WORLD_LOCAL_RANK=$rank OMPI_COMM_WORLD_LOCAL_SIZE=$count "$@" & pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit "${status:-0}"
END
    printf '#!/bin/bash\nsrun --gpu-numa-bind=verbose ./train\n' >"$1/job.sh"
    echo 'optional /usr/lib64/gpu-numa-bind/gpu_numa_bind.so' >"$1/gpu-numa-bind.conf"
    printf "gpu-numa-bind: gpu001: %s would be on their GPUs' CPUs\n" '4 tasks' '2 of 4 tasks' '4 tasks' >"$1/slurm-1.out"
    head -c 1048576 /dev/zero >"$1/model.safetensors"
    chmod 755 "$1" "$1"/bin "$1"/bin/* "$1"/train "$1"/solver "$1"/hybrid "$1"/job.sh
}

# Whether STATUS is how COMMAND may end: 1 is "looked, and found something" for those that look, 2 of metrics that nobody has
# started to count.
may_end_with() { # STATUS COMMAND
    [ "$1" != 0 ] || return 0
    case $1:$2 in 2:*'gpu-numa metrics'*) return 0 ;; esac
    [ "$1" = 1 ] || return 1
    case $2 in *'gpu-numa verify'* | *'gpu-numa heal'* | *'gpu-numa cache'* | *'gpu-numa doctor'* | *'gpu-numa check'* | *'gpu-numa fleet'* | *'snapshot --check'*) return 0 ;; *) return 1 ;; esac
}
