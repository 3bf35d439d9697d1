//! A declaration as the files that a kernel would show.

use std::collections::BTreeSet;

use crate::declared::{Amdgpu, Declared, Function, MEMORY_WITHOUT_NUMA, Part, Quirk};
use crate::firmware;
use crate::tree::Tree;
use crate::values::{list, mask};

const CPUS: &str = "sys/devices/system/cpu";
const NODES: &str = "sys/devices/system/node";
const GPUS: &str = "proc/driver/nvidia/gpus";

/// The machine's filesystem root: `sys/`, `proc/`, `dev/`, `etc/` as far as it is declared.
pub(crate) fn build(declared: &Declared) -> Tree {
    let mut root = Root {
        declared,
        tree: Tree::default(),
        possible: declared.present().last().map_or(0, |last| last + 1),
    };
    root.processes();
    root.cpus();
    root.nodes();
    root.pci();
    root.driver();
    root.amdgpu();
    root.xe();
    root.firmware();
    for (path, text) in &declared.files {
        root.tree.bytes(path.clone(), text.clone().into_bytes());
    }
    root.tree
}

struct Root<'d> {
    declared: &'d Declared,
    tree: Tree,
    /// CPUs that there may be: what the kernel's masks have room for.
    possible: u32,
}

impl Root<'_> {
    fn line(&mut self, path: String, text: impl std::fmt::Display) {
        self.tree.line(path, text);
    }

    /// The two files of a set, its list where the kernel has lists.
    fn set(&mut self, list_file: String, mask_file: String, set: &BTreeSet<u32>) {
        if !self.declared.has(Quirk::MasksOnly) {
            let end = if self.declared.has(Quirk::NulEndedLists) {
                "\0"
            } else {
                ""
            };
            self.line(list_file, format!("{}{end}", list(set)));
        }
        self.line(mask_file, mask(set, self.possible));
    }

    fn processes(&mut self) {
        self.line(
            "proc/sys/kernel/hostname".to_owned(),
            &self.declared.hostname,
        );
        self.line("proc/sys/kernel/random/boot_id".to_owned(), "b-1");
        if let Some(board) = &self.declared.board {
            self.line("sys/class/dmi/id/board_name".to_owned(), board);
        }
        self.line("proc/sys/kernel/numa_balancing".to_owned(), 0);
        self.line("proc/sys/vm/zone_reclaim_mode".to_owned(), 0);
        let processor = &self.declared.processor;
        let text = match processor.arch.as_str() {
            "arm64" => "processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8".to_owned(),
            "ppc64" => "processor\t: 0\ncpu\t\t: POWER9, altivec supported".to_owned(),
            _ => {
                let mut text = "processor\t: 0".to_owned();
                if let Some(vendor) = &processor.vendor {
                    text += &format!("\nvendor_id\t: {vendor}");
                }
                if let Some(family) = processor.family {
                    text += &format!("\ncpu family\t: {family}");
                }
                if let Some(model) = processor.model {
                    text += &format!("\nmodel\t\t: {model}");
                }
                text
            }
        };
        self.line("proc/cpuinfo".to_owned(), text);
        if self.declared.nodes.is_empty() {
            let memory = MEMORY_WITHOUT_NUMA >> 10;
            self.line(
                "proc/meminfo".to_owned(),
                format!("MemTotal:       {memory} kB"),
            );
        }
    }

    fn cpus(&mut self) {
        let declared = self.declared;
        let (online, present) = (declared.online(), declared.present());
        if !declared.has(Quirk::NoOnlineList) {
            self.line(format!("{CPUS}/online"), list(&online));
        }
        for file in ["possible", "present"] {
            self.line(format!("{CPUS}/{file}"), list(&present));
        }
        let mut core_id = 0;
        for group in &declared.cores {
            let package = declared.cpus_of_package(group.package);
            let cores = group.groups();
            for (index, core) in cores.iter().enumerate() {
                for cpu in core {
                    let folder = format!("{CPUS}/cpu{cpu}");
                    let is_online = online.contains(cpu);
                    // The first CPU of most kernels cannot be switched off and has no such file.
                    if *cpu != 0 {
                        self.line(format!("{folder}/online"), u8::from(is_online));
                    }
                    // Linux takes the folders away with the CPU.
                    if !is_online {
                        continue;
                    }
                    if let Some(mhz) = group.max_mhz {
                        let khz = u64::from(mhz) * 1000;
                        self.line(format!("{folder}/cpufreq/cpuinfo_max_freq"), khz);
                    }
                    if let Some(highest) = group.highest_perf {
                        self.line(format!("{folder}/acpi_cppc/highest_perf"), highest);
                    }
                    let topology = format!("{folder}/topology");
                    self.line(format!("{topology}/physical_package_id"), group.package);
                    self.line(format!("{topology}/core_id"), core_id);
                    let threads = core & &online;
                    self.topology(&topology, ["core_cpus", "thread_siblings"], &threads);
                    self.topology(&topology, ["package_cpus", "core_siblings"], &package);
                    let shared = |per: usize| -> BTreeSet<u32> {
                        let first = index / per * per;
                        let sharing = cores.iter().skip(first).take(per);
                        &sharing.flatten().copied().collect() & &online
                    };
                    for (kind, per) in [
                        ("die_cpus", group.cores_per_die),
                        ("cluster_cpus", group.cores_per_cluster),
                    ] {
                        if let Some(per) = per {
                            let path = format!("{topology}/{kind}");
                            self.set(format!("{path}_list"), path, &shared(per));
                        }
                    }
                    if !declared.has(Quirk::NoCaches) {
                        let mut caches = vec![
                            (1, "Data", threads.clone()),
                            (1, "Instruction", threads.clone()),
                            (2, "Unified", shared(group.cores_per_l2)),
                        ];
                        let per_l3 = group.cores_per_l3.unwrap_or(cores.len());
                        if per_l3 > 0 {
                            caches.push((3, "Unified", shared(per_l3)));
                        }
                        self.caches(&folder, &caches);
                    }
                }
                core_id += 1;
            }
        }
    }

    /// The set under its new name and the one before Linux 5.3.
    fn topology(&mut self, folder: &str, [new, old]: [&str; 2], set: &BTreeSet<u32>) {
        let mut names = vec![old];
        if !self.declared.has(Quirk::MasksOnly) {
            names.push(new);
        }
        for name in names {
            let list_file = format!("{folder}/{name}_list");
            self.set(list_file, format!("{folder}/{name}"), set);
        }
    }

    fn caches(&mut self, cpu: &str, caches: &[(u32, &str, BTreeSet<u32>)]) {
        for (index, (level, kind, shared)) in caches.iter().enumerate() {
            let folder = format!("{cpu}/cache/index{index}");
            self.line(format!("{folder}/level"), level);
            self.line(format!("{folder}/type"), kind);
            let (list_file, mask_file) = ("shared_cpu_list", "shared_cpu_map");
            self.set(
                format!("{folder}/{list_file}"),
                format!("{folder}/{mask_file}"),
                shared,
            );
        }
    }

    fn nodes(&mut self) {
        let declared = self.declared;
        if declared.nodes.is_empty() {
            return;
        }
        let ids: BTreeSet<u32> = declared.nodes.iter().map(|node| node.id).collect();
        let with_cpus = ids
            .iter()
            .filter(|id| !declared.cpus_of_node(**id).is_empty());
        let with_cpus: BTreeSet<u32> = with_cpus.copied().collect();
        let filled = |node: &&crate::declared::Node| node.memory.is_none_or(|memory| memory.0 > 0);
        let with_memory = declared.nodes.iter().filter(filled).map(|node| node.id);
        let with_memory: BTreeSet<u32> = with_memory.collect();
        for (file, set) in [
            ("online", &ids),
            ("possible", &ids),
            ("has_cpu", &with_cpus),
            ("has_memory", &with_memory),
            ("has_normal_memory", &with_memory),
        ] {
            self.line(format!("{NODES}/{file}"), list(set));
        }
        for (index, node) in declared.nodes.iter().enumerate() {
            let folder = format!("{NODES}/node{}", node.id);
            let cpus = declared.cpus_of_node(node.id);
            self.set(
                format!("{folder}/cpulist"),
                format!("{folder}/cpumap"),
                &cpus,
            );
            if let Some(memory) = node.memory {
                let text = format!("Node {} MemTotal:       {} kB", node.id, memory.0 >> 10);
                self.line(format!("{folder}/meminfo"), text);
            }
            if let Some(row) = declared.slit.get(index) {
                let row: Vec<String> = row.iter().map(u32::to_string).collect();
                self.line(format!("{folder}/distance"), row.join(" "));
            }
        }
    }

    fn pci(&mut self) {
        let declared = self.declared;
        for function in declared.functions() {
            self.function(&function);
        }
        for bridge in &declared.bridges {
            let behind = bridge.behind.as_ref();
            let folder = match behind.and_then(|way| Some((way.0.first()?, way))) {
                None => format!("sys/devices/pci{}", bridge.bus),
                Some((first, way)) => {
                    let above: Vec<String> = way.0.iter().map(ToString::to_string).collect();
                    format!(
                        "sys/devices/pci{:04x}:{:02x}/{}/pci{}",
                        first.domain,
                        first.bus,
                        above.join("/"),
                        bridge.bus
                    )
                }
            };
            if let Some(node) = bridge.numa_node_file {
                self.line(format!("{folder}/numa_node"), node);
            }
            let near = bridge.proximity.unwrap_or(bridge.node);
            let cpus = u32::try_from(near)
                .map_or_else(|_| declared.online(), |node| declared.cpus_of_node(node));
            let bus = format!("{folder}/pci_bus/{}", bridge.bus);
            let (list_file, mask_file) = ("cpulistaffinity", "cpuaffinity");
            self.set(
                format!("{bus}/{list_file}"),
                format!("{bus}/{mask_file}"),
                &cpus,
            );
        }
        if declared.bridges.is_empty() && !declared.has(Quirk::NoBusFolder) {
            self.tree.folder("sys/bus/pci/devices");
        }
    }

    fn function(&mut self, function: &Function) {
        let (folder, model) = (&function.folder, function.model);
        let (vendor, device) = model.ids;
        self.line(format!("{folder}/class"), format!("{:#08x}", model.class));
        self.line(format!("{folder}/vendor"), format!("{vendor:#06x}"));
        self.line(format!("{folder}/device"), format!("{device:#06x}"));
        self.line(format!("{folder}/numa_node"), function.node);
        if let Some(cpus) = &function.local_cpulist {
            let (list_file, mask_file) = ("local_cpulist", "local_cpus");
            self.set(
                format!("{folder}/{list_file}"),
                format!("{folder}/{mask_file}"),
                cpus,
            );
        }
        if let Some(link) = function.link {
            let speed = |speed: f64| format!("{speed:.1} GT/s PCIe");
            let best = link.best.map(|(gts, width)| (speed(gts), width));
            let (best_speed, best_width) =
                best.unwrap_or_else(|| ("Unknown speed".to_owned(), 255));
            self.line(format!("{folder}/max_link_speed"), best_speed);
            self.line(format!("{folder}/max_link_width"), best_width);
            self.line(format!("{folder}/current_link_speed"), speed(link.now.0));
            self.line(format!("{folder}/current_link_width"), link.now.1);
        }
        // Configuration space without capabilities: nothing redirects traffic between devices.
        self.tree.bytes(format!("{folder}/config"), vec![0; 4096]);
        if let Some(device) = &function.device {
            for name in &device.names {
                let kind = if is_rdma(name) { "infiniband" } else { "net" };
                self.tree.folder(&format!("{folder}/{kind}/{name}"));
            }
            if let Some(physical) = device.virtual_of {
                self.tree
                    .link(format!("{folder}/physfn"), format!("../{physical}"));
            }
        }
        if !self.declared.has(Quirk::NoBusFolder) {
            let below = folder.strip_prefix("sys/").unwrap_or(folder);
            let link = format!("sys/bus/pci/devices/{}", function.address);
            self.tree.link(link, format!("../../../{below}"));
        }
    }

    fn driver(&mut self) {
        let Some(driver) = &self.declared.driver else {
            return;
        };
        self.line("sys/module/nvidia/version".to_owned(), &driver.version);
        self.tree.bytes("dev/nvidiactl".to_owned(), Vec::new());
        if !driver.files_only {
            let text = format!(
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}",
                driver.version
            );
            self.line("proc/driver/nvidia/version".to_owned(), text);
            self.tree.folder(GPUS);
        }
        for (gpu, minor) in self.declared.driver_gpus() {
            self.tree.bytes(format!("dev/nvidia{minor}"), Vec::new());
            if driver.files_only {
                continue;
            }
            let folder = format!("{GPUS}/{}", gpu.address);
            let text = format!(
                "Model: \t\t {}\nIRQ:   \t\t 18\nGPU UUID: \t {}\nBus Type: \t PCIe\nBus Location: \t {}\nDevice Minor: \t {minor}\nGPU Excluded:\t No",
                gpu.model.product,
                uuid(&gpu),
                gpu.address
            );
            self.line(format!("{folder}/information"), text);
            let own = self
                .declared
                .nodes
                .iter()
                .find(|node| node.of_gpu == Some(gpu.address));
            if let Some(node) = own {
                let text = format!(
                    "Node:                 {}\nNuma status:          online",
                    node.id
                );
                self.line(format!("{folder}/numa_status"), text);
            }
        }
    }

    /// Each GPU's render node; the driver tells no name, id or version.
    fn xe(&mut self) {
        for (gpu, number) in self.declared.xe_gpus() {
            self.tree
                .bytes(format!("dev/dri/renderD{number}"), Vec::new());
            self.tree
                .folder(&format!("{}/drm/renderD{number}", gpu.folder));
        }
    }

    fn amdgpu(&mut self) {
        let declared = self.declared;
        let Some(amdgpu) = &declared.amdgpu else {
            return;
        };
        self.tree.bytes("dev/kfd".to_owned(), Vec::new());
        let kfd = "sys/class/kfd/kfd/topology";
        let topology = format!("{kfd}/nodes");
        // It grows with each node that KFD adds (kfd_topology.c, `generation_count`).
        let generation = declared.cpu_nodes().len() + declared.kfd_parts().len();
        self.line(format!("{kfd}/generation_id"), generation.to_string());
        for (index, node) in declared.cpu_nodes().into_iter().enumerate() {
            let count = declared.cpus_of_node(node).len();
            let text = format!(
                "cpu_cores_count {count}\nsimd_count 0\nvendor_id 0\nlocation_id 0\ndomain 0\ndrm_render_minor 0"
            );
            self.line(format!("{topology}/{index}/properties"), text);
        }
        let parts = declared.kfd_parts();
        for part in &parts {
            let (folder, at) = (&part.gpu.folder, part.gpu.address);
            self.tree
                .bytes(format!("dev/dri/renderD{}", part.minor), Vec::new());
            let number = part.number;
            if number == 0 {
                // The parts that it might have are devices of their own, which none of it is behind (amdgpu_xcp_drv.c).
                for file in part.minor + 1..part.minor + amdgpu.files_each() {
                    self.tree
                        .bytes(format!("dev/dri/renderD{file}"), Vec::new());
                    let index = file - 129 - (part.minor - 128) / 8;
                    self.tree.folder(&format!(
                        "sys/devices/platform/amdgpu_xcp_{index}/drm/renderD{file}"
                    ));
                }
                self.tree
                    .folder(&format!("{folder}/drm/renderD{}", part.minor));
                self.line(
                    format!("{folder}/unique_id"),
                    format!("{:016x}", unique_id(&part.gpu)),
                );
                if !part.gpu.model.product.is_empty() {
                    self.line(format!("{folder}/product_name"), part.gpu.model.product);
                }
                let modes = [("compute", &amdgpu.compute), ("memory", &amdgpu.memory)];
                for (kind, mode) in modes {
                    if let Some(mode) = mode {
                        self.line(format!("{folder}/current_{kind}_partition"), mode);
                    }
                }
            }
            let node = format!("{topology}/{}", part.node);
            let location = u32::from(at.bus) << 8
                | u32::from(at.device) << 3
                | u32::from(at.function)
                | number << if amdgpu.numbers_above { 28 } else { 0 };
            let text = format!(
                "cpu_cores_count 0\nsimd_count 304\nvendor_id 4098\nlocation_id {location}\ndomain {}\ndrm_render_minor {}\nhive_id 0\nunique_id {}",
                at.domain,
                part.minor,
                unique_id_of_part(amdgpu, part)
            );
            self.line(format!("{node}/properties"), text);
            let link = |kind: u32, to: u32, weight: u32, (least, most): (u32, u32)| {
                format!(
                    "type {kind}\nversion_major 0\nversion_minor 0\nnode_from {}\nnode_to {to}\nweight {weight}\nmin_latency 0\n\
                     max_latency 0\nmin_bandwidth {least}\nmax_bandwidth {most}\nrecommended_transfer_size 0\nflags 1",
                    part.node
                )
            };
            // Where Linux knows no node it writes 0.
            let near = u32::try_from(part.gpu.node).unwrap_or(0);
            let mut links = vec![link(2, near, 20, (312, 32000))];
            for other in parts.iter().filter(|other| other.node != part.node) {
                let is_own = other.gpu.address == at;
                let count = if is_own {
                    Some(1)
                } else {
                    declared.xgmi_links(at, other.gpu.address)
                };
                links.extend(count.map(|count| match count {
                    _ if is_own => link(11, other.node, 13, (819_200, 819_200)),
                    _ if amdgpu.parts > 1 => link(11, other.node, 41, (0, 0)),
                    0 => link(11, other.node, 30, (0, 0)),
                    count => link(11, other.node, 15, (50_000, 50_000 * count)),
                }));
            }
            for (index, text) in links.into_iter().enumerate() {
                self.line(format!("{node}/io_links/{index}/properties"), text);
            }
        }
    }

    fn firmware(&mut self) {
        if let Some(srat) = &self.declared.srat {
            let table = firmware::srat(srat);
            self.tree
                .bytes("sys/firmware/acpi/tables/SRAT".to_owned(), table);
        }
        let Some(dmi) = &self.declared.dmi else {
            return;
        };
        let structures = firmware::dmi(dmi);
        if !self.declared.has(Quirk::DmiEntries) {
            self.tree.bytes(
                "sys/firmware/dmi/tables/DMI".to_owned(),
                structures.concat(),
            );
            return;
        }
        for (index, structure) in structures.into_iter().enumerate() {
            let kind = structure[0];
            let entry = format!("sys/firmware/dmi/entries/{kind}-{index}/raw");
            self.tree.bytes(entry, structure);
        }
    }
}

/// Whether the interface with this name is an RDMA device.
pub(crate) fn is_rdma(name: &str) -> bool {
    let kinds = ["mlx", "rdmap", "cxi", "bnxt_re"];
    kinds.iter().any(|kind| name.starts_with(kind))
}

/// Made of the address, so that it differs and stays.
fn unique_id(gpu: &Function) -> u64 {
    let at = gpu.address;
    let address = u64::from(at.domain & 0xffff) << 16
        | u64::from(at.bus) << 8
        | u64::from(at.device) << 3
        | u64::from(at.function);
    0x7a3d_0000_0000_0000 | address
}

/// What KFD says of a part.
fn unique_id_of_part(amdgpu: &Amdgpu, part: &Part) -> u64 {
    let number = if amdgpu.part_ids {
        u64::from(part.number) + 1
    } else {
        0
    };
    unique_id(&part.gpu) | number << 32
}

/// As AMD's runtime writes it.
pub(crate) fn amd_uuid(gpu: &Function) -> String {
    format!("GPU-{:016x}", unique_id(gpu))
}

/// The part's, as AMD's runtime writes it.
pub(crate) fn amd_part_uuid(amdgpu: &Amdgpu, part: &Part) -> String {
    format!("GPU-{:016x}", unique_id_of_part(amdgpu, part))
}

/// Made of the address, so that it differs and stays.
pub(crate) fn uuid(gpu: &Function) -> String {
    let at = gpu.address;
    format!(
        "GPU-{:04x}{:02x}{:02x}-0000-4000-8000-00000000000{}",
        at.domain & 0xffff,
        at.bus,
        at.device,
        at.function
    )
}
