# What tests/vm/shapes asserts with: sets of CPUs, the machine, a task's facts, and checks that print TAP lines.
#
# CPUs and nodes are bits of a shell number, so a machine has at most 63 of each; functions leave their result in
# REPLY.  Both because starting a program costs 0.1 s under emulation.

passed=0 failed=0

# A word that names no command would otherwise be one line among thousands.
command_not_found_handle() {
    echo "not ok - $0:${BASH_LINENO[0]}: $1: no such command"
    kill "$$"
    return 127
}

pass() { passed=$((passed + 1)); echo "ok - $*"; }
skip() { echo "ok - $1 # SKIP $2"; } # SENTENCE WHY
fail() { # SENTENCE: what the tasks had is shown with it
    failed=$((failed + 1))
    echo "not ok - $*"
    [ -z "${shown_facts:-}" ] || sed 's/^/#   /' "$shown_facts"
    [ ! -s "${shown_errors:-}" ] || sed 's/^/#   stderr: /' "$shown_errors"
}
verdict() { # STATUS SENTENCE [WHY]
    if [ "$1" = 0 ]; then pass "$2"; else fail "$2${3:+ ($3)}"; fi
}

# --- sets ----------------------------------------------------------------------------------------------------

mask_of() { # LIST in kernel form, or "-"
    local range bit sum=0
    REPLY=0
    [ "$1" != - ] || return 0
    for range in ${1//,/ }; do
        for ((bit = ${range%-*}; bit <= ${range#*-}; bit++)); do sum=$((sum | 1 << bit)); done
    done
    REPLY=$sum
}
count_of() { # MASK
    local mask=$1
    REPLY=0
    while ((mask)); do
        mask=$((mask & mask - 1))
        REPLY=$((REPLY + 1))
    done
}

# --- the machine, from /sys ----------------------------------------------------------------------------------

get() { REPLY=''; [ ! -r "$1" ] || read -r REPLY <"$1" || :; }

read_machine() {
    local path device
    declare -gA node_cpus=() gpu_node=()
    core_masks=() gpu_order=() memory_nodes=0 threads=1
    for path in /sys/devices/system/node/node[0-9]*; do
        get "$path/cpulist"; mask_of "$REPLY"
        node_cpus[${path##*node}]=$REPLY
    done
    # Memory of a node without CPUs is a device's own: no policy should name it.
    get /sys/devices/system/node/has_memory; mask_of "$REPLY"; memory_nodes=$REPLY
    get /sys/devices/system/node/has_cpu; mask_of "$REPLY"; memory_nodes=$((memory_nodes & REPLY))
    for path in /sys/devices/system/cpu/cpu[0-9]*; do
        get "$path/topology/thread_siblings_list"
        [ "${REPLY%%[,-]*}" = "${path##*cpu}" ] || continue
        mask_of "$REPLY"
        core_masks+=("$REPLY")
        count_of "$REPLY"; threads=$REPLY
    done
    for path in /sys/bus/pci/devices/*; do
        device=${path##*/}
        get "$path/vendor"; [ "$REPLY" = 0x10de ] || continue
        get "$path/class"; case $REPLY in 0x03*) ;; *) continue ;; esac
        get "$path/numa_node"
        gpu_order+=("$device")
        gpu_node[$device]=$REPLY
    done
}

# The node whose memory serves NODE: its own, or the nearest that has some.
memory_node_of() { # NODE
    local node distances best=-1
    REPLY=$1
    ((memory_nodes >> $1 & 1)) && return
    get "/sys/devices/system/node/node$1/distance"
    read -ra distances <<<"$REPLY"
    for node in "${!distances[@]}"; do
        ((memory_nodes >> node & 1)) || continue
        ((best >= 0 && distances[node] >= distances[best])) || best=$node
    done
    REPLY=$best
}

# --- facts: the lines of tests/probe -------------------------------------------------------------------------

# Fills the associative array ARRAY with TASK.KEY, for the tasks of one step and depth, and ARRAY_tasks with the
# tasks in order.  STEP is a step id, or empty for whatever there is.
read_facts() { # ARRAY FILE [STEP [DEPTH]]
    local -n facts=$1 tasks=$1_tasks
    local line word id step depth
    facts=() tasks=()
    while read -r line; do
        case $line in task=*) ;; *) continue ;; esac
        id=${line#task=}; id=${id%% *}
        step=${line#* stepid=}; step=${step%% *}
        depth=${line#* depth=}; depth=${depth%% *}
        [ -z "${3:-}" ] || [ "$step" = "$3" ] || continue
        [ "$depth" = "${4:-0}" ] || continue
        tasks+=("$id")
        for word in $line; do facts[$id.${word%%=*}]=${word#*=}; done
    done < <(sort "$2")
}

# The GPUs that a task of `bound` sees, as CUDA counts: indexes into those that it may open, in PCI order.
visible_gpus() { # TASK
    local index list=() open
    open=${bound[$1.opens]}
    REPLY=
    [ "$open" != - ] || return 0
    IFS=, read -ra open <<<"$open"
    case ${bound[$1.cvd]} in
    -) list=("${open[@]}") ;;
    *) for index in ${bound[$1.cvd]//,/ }; do list+=("${open[index]:-}"); done ;;
    esac
    REPLY=${list[*]}
}

# The GPUs that a task is taken to use: all that it sees, or under map=auto and map=localid its share.
used_gpus() { # TASK MAP
    local list n=${#bound_tasks[@]} task alike=1 first
    visible_gpus "$1"
    read -ra list <<<"$REPLY"
    case $2 in
    visible) return ;;
    localid) REPLY=${list[$(($1 % ${#list[@]}))]}; return ;;
    esac
    first=${bound[${bound_tasks[0]}.opens]}/${bound[${bound_tasks[0]}.cvd]}
    for task in "${bound_tasks[@]}"; do [ "${bound[$task.opens]}/${bound[$task.cvd]}" = "$first" ] || alike=; done
    [ "$alike" ] && [ "$n" -gt 1 ] && [ ${#list[@]} -gt 1 ] || return 0
    if ((n % ${#list[@]} == 0)); then
        REPLY=${list[$(($1 % ${#list[@]}))]}
    elif ((${#list[@]} % n == 0)); then
        REPLY=${list[*]:$(($1 * (${#list[@]} / n))):$((${#list[@]} / n))}
    fi
}

# The step's CPUs: its cpuset, or where cores are not fenced what Slurm gave its tasks.
step_cpus() {
    local task sum=0
    if [ "${fenced_cores:-yes}" = yes ]; then
        mask_of "${bound[${bound_tasks[0]}.cpuset]}"
        return
    fi
    for task in "${alone_tasks[@]}"; do
        mask_of "${alone[$task.cpus]}"
        sum=$((sum | REPLY))
    done
    REPLY=$sum
}

# What each task should be near: `near` the step's CPUs there, `near_nodes` the nodes; `has` its own CPUs.
work_out() { # MAP
    local task gpu nodes cpus
    declare -gA near=() near_nodes=() has=()
    step_cpus
    step=$REPLY
    for task in "${bound_tasks[@]}"; do
        used_gpus "$task" "$1"
        nodes=0 cpus=0
        for gpu in $REPLY; do
            # If one GPU's node is unknown, the task is not judged.
            [ "${gpu_node[$gpu]}" -ge 0 ] || { nodes=0 cpus=0; break; }
            memory_node_of "${gpu_node[$gpu]}"
            nodes=$((nodes | 1 << REPLY))
            cpus=$((cpus | node_cpus[${gpu_node[$gpu]}]))
        done
        near[$task]=$((cpus & step)) near_nodes[$task]=$nodes
        mask_of "${bound[$task.cpus]}"
        has[$task]=$REPLY
    done
}

# CPUs that the tasks with whom TASK shares its local CPUs asked for, all together.
demand_near() { # TASK ASKED
    local other sum=0
    for other in "${bound_tasks[@]}"; do (((near[$1] & near[$other]) == 0)) || sum=$((sum + $2)); done
    REPLY=$sum
}

# --- checks --------------------------------------------------------------------------------------------------

check_local_cpus() { # NAME ASKED
    local task why='' wanted have got
    for task in "${bound_tasks[@]}"; do
        (((has[$task] & ~step) == 0)) || why+="task $task has CPUs outside its step; "
        ((near[$task])) || continue
        demand_near "$task" "$2"; wanted=$REPLY
        count_of "${near[$task]}"; have=$REPLY
        count_of "${has[$task]}"; got=$REPLY
        if ((have >= wanted)); then
            (((has[$task] & ~near[$task]) == 0)) || why+="task $task has CPUs that are not near its GPU; "
        else
            ((has[$task] & near[$task])) || why+="task $task has no CPU near its GPU; "
        fi
        ((got >= $2)) || ((got * ${#bound_tasks[@]} >= have)) || why+="task $task has $got CPUs and asked for $2; "
    done
    [ -z "$why" ]
    verdict $? "$1: every task has CPUs of its step near its GPU" "$why"
}

# Where the local CPUs of a task's one node are too few, the others are the nearest of its step: none that it has is
# farther than one that it has not.
check_nearest() { # NAME
    local task node distances taken left why='' other
    for task in "${bound_tasks[@]}"; do
        for node in "${!node_cpus[@]}"; do ((near_nodes[$task] == 1 << node)) && break; done
        get "/sys/devices/system/node/node$node/distance"
        read -ra distances <<<"$REPLY"
        taken=0 left=999
        for other in "${!node_cpus[@]}"; do
            (((has[$task] & node_cpus[$other]) == 0 || distances[other] <= taken)) || taken=${distances[other]}
            (((step & ~has[$task] & node_cpus[$other]) == 0 || distances[other] >= left)) || left=${distances[other]}
        done
        ((left < 999)) || why+="task $task had nothing to choose from; "
        ((taken <= left)) || why+="task $task has CPUs at distance $taken and not those at $left; "
    done
    [ -z "$why" ] && [ ${#bound_tasks[@]} -gt 0 ]
    verdict $? "$1: what is not local is the nearest" "$why"
}

# CPUs disjoint, and whole cores where the tasks asked for whole cores.  A task with nothing near its GPU keeps the
# CPUs that Slurm gave it, whoever else was bound there, so it is not counted.
shared_cpus() { # ASKED; leaves in REPLY who shares what
    local task other core taken why=''
    count_of "$step"
    if ((REPLY < $1 * ${#bound_tasks[@]})); then REPLY=''; return; fi
    for task in "${bound_tasks[@]}"; do
        for other in "${bound_tasks[@]}"; do
            ((task < other && near[$task] && near[$other])) || continue
            (((has[$task] & has[$other]) == 0)) || why+="tasks $task and $other share CPUs; "
            (($1 % threads == 0)) || continue
            # A CPU near each of its GPUs comes before whole cores (ARCHITECTURE.md, "The decision").
            (((near_nodes[$task] & (near_nodes[$task] - 1)) == 0)) || continue
            for core in "${core_masks[@]}"; do
                taken=$(((has[$task] & core) && (has[$other] & core)))
                ((!taken)) || why+="tasks $task and $other share a core; "
            done
        done
    done
    REPLY=$why
}

check_disjoint() { # NAME ASKED
    shared_cpus "$2"
    [ -z "$REPLY" ]
    verdict $? "$1: no CPU and no core belongs to two tasks" "$REPLY"
}

# The policy names the GPUs' nodes, and fresh memory is there.  Tasks near all nodes keep the default policy.
check_memory() { # NAME
    local task why='' pages page named
    for task in "${bound_tasks[@]}"; do
        ((near[$task])) || continue
        mask_of "${bound[$task.policy_nodes]}"; named=$REPLY
        if (((near_nodes[$task] & memory_nodes) == memory_nodes)); then
            [ "${bound[$task.policy]}" = default ] || why+="task $task is near all nodes and has policy ${bound[$task.policy]}; "
            continue
        fi
        [ "${bound[$task.policy]}" = preferred-many ] || why+="task $task has policy ${bound[$task.policy]}; "
        ((named == (near_nodes[$task] & memory_nodes))) || why+="task $task's policy names nodes ${bound[$task.policy_nodes]}; "
        pages=${bound[$task.pages]:-none}
        for page in ${pages//,/ }; do
            ((1 << ${page%:*} & near_nodes[$task])) || ((${page#*:} < 64)) || why+="task $task has pages $pages; "
        done
    done
    [ -z "$why" ]
    verdict $? "$1: memory is preferred on the GPU's node and comes from there" "$why"
}

# The plugin changes nothing of what the task may use, and leaves nothing open in it.
check_untouched() { # NAME
    local task key why=''
    [ "${#alone_tasks[@]}" = "${#bound_tasks[@]}" ] || why="${#alone_tasks[@]} tasks without the plugin, ${#bound_tasks[@]} with it; "
    for task in "${alone_tasks[@]}"; do
        for key in opens minors cvd step_gpus fds mems uid; do
            [ "${alone[$task.$key]}" = "${bound[$task.$key]:-}" ] ||
                why+="task $task: $key was ${alone[$task.$key]}, is ${bound[$task.$key]:-}; "
        done
    done
    [ -z "$why" ]
    verdict $? "$1: GPUs, CUDA_VISIBLE_DEVICES and open files are as without the plugin" "$why"
}

check_nccl() { # NAME
    local task why=''
    [ -e /run/gpu-numa-bind/nccl-topo.xml ] || return 0
    for task in "${bound_tasks[@]}"; do
        case ${bound[$task.nccl_topo]}/${bound[$task.nccl_topo_bytes]} in
        /run/gpu-numa-bind/nccl-topo.xml/[1-9]*) ;;
        *) why+="task $task has NCCL_TOPO_FILE=${bound[$task.nccl_topo]}, ${bound[$task.nccl_topo_bytes]} bytes; " ;;
        esac
        [ "${bound[$task.cuda_order]}" = PCI_BUS_ID ] || why+="task $task has CUDA_DEVICE_ORDER=${bound[$task.cuda_order]}; "
    done
    [ -z "$why" ]
    verdict $? "$1: every task can read NCCL_TOPO_FILE" "$why"
}

check_bound() { # NAME MAP ASKED: all of the above on `bound` and `alone`; `again` launches the job once more
    local try
    if [ ${#bound_tasks[@]} -eq 0 ]; then fail "$1: the tasks ran"; return; fi
    work_out "$2"
    # Tasks of a loaded emulator may start further apart than the plugin waits for them, and then it falls back to
    # shared CPUs by design.  So one launch proves nothing; a third that is no better does.
    for try in 2 3; do
        shared_cpus "$3"
        [ "$REPLY" ] && [ ${#again[@]} -gt 0 ] || break
        echo "# $1: $REPLY launch $try"
        "${again[@]}"
        read_facts bound "$work/bound" "${read_step:-}"
        work_out "$2"
    done
    check_local_cpus "$1" "$3"
    check_disjoint "$1" "$3"
    check_memory "$1"
    check_nccl "$1"
    check_untouched "$1"
}

# All CPUs of the step near some task's GPU belong to a task: nothing lies idle.
check_handed_out() { # NAME
    local task given=0 wanted=0
    for task in "${bound_tasks[@]}"; do
        given=$((given | has[$task]))
        wanted=$((wanted | near[$task]))
    done
    (((wanted & ~given) == 0))
    verdict $? "$1: all CPUs near the GPUs are handed out"
}

# Facts of the tasks equal those without the plugin.
check_same() { # NAME KEY...
    local name=$1 task key why=''
    shift
    for task in "${alone_tasks[@]}"; do
        for key; do
            [ "${alone[$task.$key]:-}" = "${bound[$task.$key]:-}" ] ||
                why+="task $task: $key was ${alone[$task.$key]:-}, is ${bound[$task.$key]:-}; "
        done
    done
    [ -z "$why" ] && [ ${#bound_tasks[@]} -gt 0 ]
    verdict $? "$name" "$why"
}
