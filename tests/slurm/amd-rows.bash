# The rows of the fault table on a host with AMD's GPUs: KFD, its nodes and links, render nodes, and a snapshot of such a host.

amd_gone=0000:91:00.0 # task 0's, GPU 3

amd_lab() {
    "$here/slurm-lab" down "$lab"
    LAB_MACHINE=slurm-2s4a LAB_FLAGS=Flags=amd_gpu_env \
        LAB_FILES='/dev/dri/renderD128 /dev/dri/renderD136 /dev/dri/renderD144 /dev/dri/renderD152' \
        "$here/slurm-lab" up "$lab" || fail "Slurm starts on a host with AMD's GPUs"
    kfd=$lab/sys/class/kfd/kfd/topology
    cp -a "$kfd" "$work/kfd"
}

kfd_is_right() {
    rm -rf "$kfd"
    cp -a "$work/kfd" "$kfd"
}

# The node of task 0's GPU: two of CPUs, three GPUs, then it.
kfd_node() { echo "$kfd/nodes/5"; }

rows_of_amd() {
    local kfd
    plugin on "snapshot=$snapshot"
    rm -rf "$snapshot"
    amd_lab
    plugin on "snapshot=$snapshot"
    rows_of_kfd
    rows_of_render_nodes
    rows_of_amd_snapshots
    rows_of_amd_lists
    rm -rf "$snapshot"
}

# Without a snapshot each job reads it.
rows_of_kfd() {
    local properties text
    section "on a host with AMD's GPUs: what KFD says"
    meet_srun "none of them" 0 COMPLETED bound
    rm -rf "$kfd"
    meet_srun "KFD has no topology" 0 COMPLETED bound
    kfd_is_right
    in_lab mv /dev/kfd /dev/kfd-gone
    meet_srun "/dev/kfd is missing" 0 COMPLETED bound
    in_lab mv /dev/kfd-gone /dev/kfd
    in_lab chmod 600 /dev/kfd
    meet_srun "/dev/kfd may not be opened" 0 COMPLETED bound
    in_lab chmod 666 /dev/kfd
    properties=$(kfd_node)/properties
    for text in "empty" "bytes that are no text" "one line of 10 MB" "numbers beyond any type" "a folder" "a link to itself" \
        "a link to /dev/zero"; do
        rm "$properties"
        case $text in
        "empty") : >"$properties" ;;
        "bytes"*) head -c 4096 /dev/urandom >"$properties" ;;
        "one line"*) head -c 10000000 /dev/zero | tr '\0' 9 >"$properties" ;;
        "numbers"*) sed 's/ .*/ 99999999999999999999999/' "$work/kfd/nodes/5/properties" >"$properties" ;;
        "a folder") mkdir "$properties" ;;
        "a link to itself") ln -s properties "$properties" ;;
        *) ln -s /dev/zero "$properties" ;;
        esac
        meet_srun "the properties of a node: $text" 0 COMPLETED bound
        kfd_is_right
    done
    for text in "a GPU that is not there:/location_id /s/.*/location_id 65535/" "the address of another:/location_id /s/.*/location_id 8448/" \
        "the domain of another:/domain /s/.*/domain 7/" "the render node of another:/drm_render_minor /s/.*/drm_render_minor 128/" \
        "no render node:/drm_render_minor /s/.*/drm_render_minor 0/" "no processors:/simd_count /s/.*/simd_count 0/"; do
        sed -i "${text#*:}" "$properties"
        meet_srun "a node has ${text%%:*}" 0 COMPLETED bound
        kfd_is_right
    done
    for ((text = 6; text < 3000; text++)); do ln -s 5 "$kfd/nodes/$text"; done
    meet_srun "one GPU has 2,995 nodes" 0 COMPLETED bound
    kfd_is_right
    for properties in "$kfd"/nodes/*/io_links/*/properties; do sed -i 's/^\(node_to\|weight\|max_bandwidth\) .*/\1 4294967295/' "$properties"; done
    meet_srun "links that lead nowhere" 0 COMPLETED bound
    kfd_is_right
}

rows_of_render_nodes() {
    section "on a host with AMD's GPUs: their device files"
    in_lab mv /dev/dri/renderD152 /dev/dri/gone
    # ROCm counts only GPUs that it can open, so task 0's number is none's.
    meet_srun "a render node is missing" 0 COMPLETED "as Slurm"
    in_lab mv /dev/dri/gone /dev/dri/renderD152
    in_lab chmod 600 /dev/dri/renderD152
    meet_srun "a render node may not be opened" 0 COMPLETED "as Slurm"
    in_lab chmod 666 /dev/dri/renderD152
    in_lab mv /dev/dri /dev/dri-gone
    meet_srun "no render node is there" 0 COMPLETED "as Slurm"
    in_lab mv /dev/dri-gone /dev/dri
}

rows_of_amd_snapshots() {
    local binding change file=$snapshot/node.json away=$lab/sys/bus/pci/devices/$amd_gone node
    section "on a host with AMD's GPUs: the snapshot"
    fresh_snapshot
    meet_srun "none of them, with a snapshot" 0 COMPLETED bound
    for change in "cut in the middle:truncate -s 700" "with a node's number that is none:sed -i s/\"node\":5/\"node\":-5/" \
        "with nodes that are no list:sed -i s/\"nodes\":\[/\"nodes\":7,\"x\":[/" "with another node for a GPU:sed -i s/\"node\":5/\"node\":2/" \
        "with a render node that is another's:sed -i s/\"minor\":152/\"minor\":128/" "of an older release, without KFD:sed -i s/\"kfd\":/\"old\":/g"; do
        fresh_snapshot
        ${change#*:} "$file"
        binding=bound
        # Where steps are fenced, the GPU whose render node is not known is none that the step may open.
        case $change in *"another's"*) [ -z "${LAB_CGROUPS:-}" ] || binding="as Slurm" ;; esac
        meet_srun "a snapshot ${change%%:*}" 0 COMPLETED "$binding"
    done
    fresh_snapshot
    # As SPX is made DPX: a further node, with a render node of its own.
    cp -a "$kfd/nodes/5" "$kfd/nodes/6"
    sed -i 's/^drm_render_minor .*/drm_render_minor 153/; s/^location_id .*/location_id 37121/' "$kfd/nodes/6/properties"
    echo 7 >"$kfd/generation_id"
    in_lab mknod -m 666 /dev/dri/renderD153 c 226 153
    meet_srun "a GPU was divided since the snapshot" 0 COMPLETED bound
    in_lab rm /dev/dri/renderD153
    kfd_is_right
    mv "$kfd" "$work/away"
    for node in "$lab"/sys/bus/pci/devices/*/drm; do mv "$node" "${node%/*}/away"; done
    fresh_snapshot
    mv "$work/away" "$kfd"
    for node in "$lab"/sys/bus/pci/devices/*/away; do mv "$node" "${node%/*}/drm"; done
    meet_srun "the driver came after the snapshot" 0 COMPLETED bound
    fresh_snapshot
    mv "$away" "$work/gone"
    rm -r "$(kfd_node)"
    # ROCm shows a task no GPU whose number is none's any more.
    meet_srun "a GPU is gone since the snapshot" 0 COMPLETED "as Slurm"
    mv "$work/gone" "$away"
    kfd_is_right
}

rows_of_amd_lists() {
    section "on a host with AMD's GPUs: what names them"
    fresh_snapshot
    as=("${user[@]}" HIP_VISIBLE_DEVICES=7)
    meet_srun "HIP_VISIBLE_DEVICES names no GPU of the task's" 0 COMPLETED "as Slurm"
    as=("${user[@]}" HIP_VISIBLE_DEVICES=$'%s\e[31m' GPU_DEVICE_ORDINAL=99)
    meet_srun "HIP_VISIBLE_DEVICES is no list" 0 COMPLETED "as Slurm"
    as=("${user[@]}" GPU_DEVICE_ORDINAL=99)
    meet_srun "GPU_DEVICE_ORDINAL names no GPU" 0 COMPLETED bound
    as=("${user[@]}")
    plugins "$tools/rival.so container $snapshot /dev" "$work/libgpu_numa_bind.so snapshot=$snapshot"
    meet_srun "containers without the host's /dev" 0 COMPLETED "as Slurm"
    plugin on "snapshot=$snapshot"
}
