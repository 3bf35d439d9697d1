# What checks and faults share: a lab of their own, the plugin in and out of plugstack.conf, one command run.
#
# Sourced with `here` set to tests/slurm.  GPU_NUMA_PLUGIN names the plugin, by default what cargo built for release;
# GPU_NUMA_TOOLS a folder with the probe and shims, by default they are built.
root=$(cd "$here/../.." && pwd)
[ -n "${GPU_NUMA_CLEAN_HOST:-}" ] || exec "$root/tests/on-clean-host" "$0" "$@"
# shellcheck source=../vm/checks.bash
. "$root/tests/vm/checks.bash"
plugin_file=${GPU_NUMA_PLUGIN:-${CARGO_TARGET_DIR:-$root/target}/release/libgpu_numa_bind.so}
option=--gpu-numa-bind
# What a bound task has more of than without: ours, and those by which programs leave the binding alone.
own_variables='GPU_NUMA_BIND.*|NCCL_TOPO_FILE|NCCL_PROFILER_PLUGIN|CUDA_DEVICE_ORDER|SGLANG_AUTO_NUMA_BIND'
own_variables+='|TLLM_NUMA_AWARE_WORKER_AFFINITY|(OMPI|PRTE)_MCA_hwloc_(base|default)_binding_policy'
work=$(mktemp -d "${TMPDIR:-/tmp}/gpu-numa-slurm.XXXXXX")
lab=$work/lab
trap '"$here/slurm-lab" down "$lab"; rm -rf "$work"' EXIT
trap 'exit 143' TERM INT HUP
chmod 755 "$work"

die() { echo "tests/slurm: $*" >&2; exit 1; }

plugin() { # off, or on [ARGUMENT...]
    local lines=''
    if [ "$1" = on ]; then
        shift
        lines="optional $work/libgpu_numa_bind.so $*"
    fi
    echo "$lines" >"$lab/etc/plugstack.conf"
}

run() { # OUTPUT COMMAND...
    local output=$1
    shift
    shown_facts=$output shown_errors=$output.err
    timeout -k 5 $((3 * ${LAB_PATIENCE:-20})) "$@" >"$output" 2>"$output.err"
    status=$?
}

node_is_idle() {
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        [ "$(timeout 5 sinfo -h -o %T)" != idle ] || return 0
        sleep 0.1
    done
    return 1
}

# Sets `tools`, `probe` and `release`, as "22.05".
start_lab() {
    [ -e "$plugin_file" ] || die "no $plugin_file; build it: cargo build --release -p gpu-numa-spank"
    [ "$(id -u)" = 0 ] || die "needs root, for munged, slurmd and a mount namespace"
    # Copied out of the build folder, which others may be writing.
    cp "$plugin_file" "$work/libgpu_numa_bind.so"
    tools=${GPU_NUMA_TOOLS:-$work/tools}
    if [ ! -d "$tools" ]; then
        "$root/tests/probe/build" "$tools" >/dev/null && "$here/build-shims" "$tools" "$plugin_file" >/dev/null ||
            die "the probe and the shims do not build"
    fi
    probe=$tools/probe
    export SLURM_CONF=$lab/etc/slurm.conf
    "$here/slurm-lab" up "$lab" || die "Slurm did not start"
    release=$(slurmd -V | sed -E 's/^[^0-9]*([0-9]+\.[0-9]+).*/\1/')
    echo "# $(slurmd -V), plugin sha256 $(sha256sum <"$plugin_file" | cut -c 1-16)"
    [ -n "${SLURM_EXPECTED:-}" ] || return 0
    [ "$release" = "$SLURM_EXPECTED" ]
    verdict $? "Slurm here is $SLURM_EXPECTED" "it is $release"
}

finish() {
    node_is_idle
    verdict $? "the node is idle at the end"
    echo "$passed passed, $failed failed"
    [ $failed -eq 0 ]
}
