//! `gpu-numa gres-conf`: gres.conf for this machine, and the line of slurm.conf that fits.

use clap::Args;
use serde::Serialize;
use slurm_config::cores::{CoreMap, CoreSet, Counts, SocketKind, stops_slurmd};
use slurm_config::node::{Node, real_memory_to_write};
use slurm_config::parameters::SocketWord;
use slurm_config::rules::{CoresRule, first_with_node_parameters};
use topology::machine::{Gpu, Machine};
use topology::option::printable;
use topology::path::nvlinks;
use topology::pci::PciAddress;
use topology::text::host_name;
use topology::vendor::GpuVendor;
use topology::visible::counted_order;

use crate::command::{CommandError, Format, From, Outcome};
use crate::doctor::world::{Choice, World};
use crate::doctor::{devices, kinds};
use crate::hardware::{self, gpu_label};
use crate::out::Out;

/// Prints gres.conf for this host, and the node's line of slurm.conf.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(crate) struct GresConf {
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    choice: Choice,
    /// Write for SlurmdParameters=numa_node_as_socket (default: what slurm.conf says)
    #[arg(long)]
    numa_node_as_socket: bool,
    /// Write gres/shard lines too: this many shards per GPU
    #[arg(long, value_name = "COUNT", value_parser = crate::usage::whole(1..=1024))]
    shards: Option<u32>,
}

/// The end of the command's long help.
fn help() -> String {
    let (whole, one) = (CoresRule::WholeSockets, CoresRule::OneSocketOrAll);
    format!(
        "Examples:
  gpu-numa gres-conf > gres.conf
  gpu-numa gres-conf --numa-node-as-socket --slurm-release 24.11.7
  gpu-numa gres-conf --shards 8
  gpu-numa gres-conf --from /srv/recorded/node7 --json

Cores= are Slurm's own core numbers, not CPUs.  From Slurm {} on they must be {whole}, from {} on {one}; where the \
release is unknown, they are written so that every release takes them.  Lines are in PCI order, in which CUDA counts \
under CUDA_DEVICE_ORDER=PCI_BUS_ID; those of AMD's GPUs are in the order of KFD's topology, in which ROCm counts.  The lines for slurm.conf follow as comments.",
        whole.since(),
        one.since()
    )
}

/// The JSON document.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct GresConfDocument {
    schema: &'static str,
    slurm_release: Option<String>,
    gres: Vec<GpuLine>,
    /// The word of the `AutoDetect=` line for GPUs that have no lines here; null where all have.
    autodetect: Option<&'static str>,
    /// `Count=` of each GPU's gres/shard line; null without `--shards`.
    shards: Option<u32>,
    /// The whole line for slurm.conf.
    node_line: String,
    /// What else slurm.conf needs.
    parameters: Vec<String>,
    remarks: Vec<String>,
}

/// A line of gres.conf.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct GpuLine {
    pci: PciAddress,
    #[serde(rename = "type")]
    kind: Option<String>,
    /// `File=`, or the files of `MultipleFiles=` with commas between them.
    file: String,
    /// Whether the files are one device, as those of a MIG instance.
    is_of_several_files: bool,
    cores: Option<String>,
    links: Option<String>,
    /// `Flags=`: the word for the vendor's variable; null where the line needs none.
    flags: Option<&'static str>,
    /// The comment behind the line.
    note: String,
}

impl GresConf {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let machine = self.from.read()?;
        let world = World::read(&machine, &self.from.source(), &self.choice)?;
        let kind = if self.numa_node_as_socket {
            SocketKind::NumaNode
        } else {
            world.socket_kind()
        };
        if machine.packages.is_empty() && world.tree.is_none() {
            return Err(CommandError::Argument(
                "sockets and cores are not recorded there; expected this machine, a directory holding sys/, \
                 an hwloc XML or a snapshot"
                    .to_owned(),
            ));
        }
        let map = world.core_map(kind);
        let counts = world.counts_with(kind).ok_or_else(|| {
            CommandError::Argument(if stops_slurmd(&machine, kind) {
                "--numa-node-as-socket: hwloc has groups of several kinds on this machine, so slurmd cannot count its NUMA nodes as \
                 sockets and does not start; expected packages"
                    .to_owned()
            } else {
                "the machine has no core that Slurm counts, or how it counts them is not known".to_owned()
            })
        })?;
        // Slurm may know the host by another name than its own.
        let node = world.slurm.as_ref().and_then(|slurm| slurm.node.as_ref());
        let hostname = machine.hostname.as_deref();
        let name = node.map(|node| node.name.as_str()).or(hostname);
        // A configuration that somebody sent may call it anything, and the lines begin with it.
        if let Some(odd) = name.filter(|name| host_name(name).is_none()) {
            let odd = printable(odd);
            return Err(CommandError::Argument(format!(
                "NodeName \"{odd}\"; expected letters, digits, '.', '-' and '_'"
            )));
        }
        let name = name.map_or("NODE", |name| name.split('.').next().unwrap_or(name));
        let host = Host::new(&world, map.as_ref(), counts)?;
        if (host.has_mig() || host.hides_mig) && self.shards.is_some() {
            return Err(CommandError::Argument(
                "--shards: gres/shard cannot share MIG instances; expected GPUs without MIG"
                    .to_owned(),
            ));
        }
        let document = host.document(&world, name, kind, self.shards);
        if self.format.json {
            out.json(&document)?;
        } else {
            let copies = world.slurm.as_ref().and_then(|own| own.copies.as_deref());
            print(out, name, &document, copies)?;
        }
        Ok(Outcome::Done)
    }
}

/// A GPU that is written.
struct Written<'a> {
    /// Its number, in the order of PCI addresses.
    index: usize,
    gpu: &'a Gpu,
    /// Its device file.
    file: String,
    /// The files of each MIG instance; None for a GPU without.
    instances: Option<Vec<String>>,
    /// What the site calls it; None where it has no type or the site is not known.
    kind: Option<String>,
}

/// What the lines are made of.
struct Host<'a> {
    machine: &'a Machine,
    /// None where the machine's sockets differ, so that Slurm's core numbers are not known.
    map: Option<&'a CoreMap>,
    counts: Counts,
    /// The GPUs that Slurm can give to jobs and that jobs are bound to.
    gpus: Vec<Written<'a>>,
    /// GPUs that AutoDetect finds and that have no lines here, each with what the site calls it.
    detected: Vec<(&'static GpuVendor, Option<String>)>,
    /// GPUs that another kernel driver has, with its name.
    taken: Vec<String>,
    /// Which `Cores=` the Slurm takes.
    rule: CoresRule,
    /// Whether there may be NVLink that could not be seen.
    hides_nvlink: bool,
    /// What slurmd reports; None where the host's memory is not recorded.
    memory_mib: Option<u64>,
    /// Whether MIG instances have device files that are not recorded, so that the GPUs are left to AutoDetect.
    hides_mig: bool,
    /// The word of `Flags=`, which must be the same on all lines; None where the GPUs are of several vendors.
    flag: Option<&'static str>,
}

/// Whether a GPU that has no lines of instances may have some all the same: it is known to, or the site gives its GPUs out in MIG
/// profiles and the driver's own list is not recorded.
fn may_hide_mig(world: &World<'_>, gpu: &Gpu) -> bool {
    let mut trees = world.tree.iter();
    let is_listed = trees.any(|tree| tree.exists("/proc/driver/nvidia/capabilities"));
    let slurm = world.slurm.as_ref();
    let node = slurm.and_then(|slurm| slurm.node.as_ref());
    let gives_mig = node.is_some_and(|node: &Node| node.counts_mig("gpu"));
    !gpu.mig.is_empty() || gives_mig && !is_listed
}

/// The device files of a GPU's MIG instances, as AutoDetect=nvml writes them
/// (`_handle_mig`, plugins/gpu/nvml/gpu_nvml.c): the GPU's own, the GPU instance's and the compute instance's.
/// None where the driver shows no instance.
fn instances(world: &World<'_>, gpu: &Gpu, file: &str) -> Option<Vec<String>> {
    let tree = world.tree.as_ref()?;
    let folder = format!("/proc/driver/nvidia/capabilities/gpu{}/mig", gpu.minor?);
    let cap = |path: &str| {
        let text = tree.text(&format!("{path}/access"))?;
        let number = text
            .lines()
            .find_map(|line| line.strip_prefix("DeviceFileMinor:"))?;
        Some(format!("/dev/nvidia-caps/nvidia-cap{}", number.trim()))
    };
    let parts = |folder: &str, prefix: &str| -> Vec<String> {
        let names = tree.entries(folder).into_iter();
        let own = names.filter(|name| {
            let digits = name.strip_prefix(prefix);
            digits.is_some_and(|digits| digits.parse::<u32>().is_ok())
        });
        let mut own: Vec<String> = own.collect();
        own.sort_by_key(|name| (name.len(), name.clone()));
        own
    };
    let mut all = Vec::new();
    for instance in parts(&folder, "gi") {
        let outer = format!("{folder}/{instance}");
        for inner in parts(&outer, "ci") {
            let files = [
                Some(file.to_owned()),
                cap(&outer),
                cap(&format!("{outer}/{inner}")),
            ];
            let files: Option<Vec<String>> = files.into_iter().collect();
            all.push(files?.join(","));
        }
    }
    (!all.is_empty()).then_some(all)
}

impl<'a> Host<'a> {
    /// # Errors
    /// There are MIG instances, and neither their device files nor their number is known.
    fn new(
        world: &World<'a>,
        map: Option<&'a CoreMap>,
        counts: Counts,
    ) -> Result<Self, CommandError> {
        let machine = world.machine;
        let numbered = machine.gpus.iter().enumerate();
        let mut gpus: Vec<Written<'a>> = numbered
            .filter(|(_, gpu)| world.other_driver(gpu).is_none())
            .filter_map(|(index, gpu)| {
                let file = devices::file_of(machine, gpu)?;
                let instances =
                    instances(world, gpu, &file).or_else(|| kinds::instances(world, &file));
                Some(Written {
                    index,
                    gpu,
                    kind: kinds::of_gpu(world, gpu),
                    file,
                    instances,
                })
            })
            .collect();
        // Slurm numbers GPUs in the order of the lines, and gives a job these numbers where devices are not fenced.
        let order = counted_order(machine);
        gpus.sort_by_key(|own| order.iter().position(|gpu| gpu.pci == own.gpu.pci));
        let others = world.given().filter(|gpu| !gpu.is_bound_at_launch());
        let finds = |gpu: &&Gpu| gpu.maker().filter(|maker| !maker.autodetect.is_empty());
        let detected = others.filter_map(|gpu| Some((finds(&gpu)?, kinds::of_gpu(world, gpu))));
        let mut detected: Vec<_> = detected.collect();
        let taken = machine.gpus.iter().filter_map(|gpu| {
            let driver = world.other_driver(gpu)?;
            Some(format!("{} ({driver})", gpu_label(machine, gpu.pci)))
        });
        let hides_links = gpus.iter().any(|own| machine.hides_links_of(own.gpu));
        // Where the site's own lines have instances, the GPUs without are whole ones.
        let has_instances = gpus.iter().any(|own| own.instances.is_some());
        let hiding: Vec<&Written<'_>> = gpus
            .iter()
            .filter(|own| own.instances.is_none() && may_hide_mig(world, own.gpu))
            .filter(|own| !has_instances || !own.gpu.mig.is_empty())
            .collect();
        let hides_mig = !hiding.is_empty();
        if hiding.iter().any(|own| own.gpu.mig.is_empty()) {
            let names: Vec<String> = hiding
                .iter()
                .map(|own| format!("GPU{}", own.index))
                .collect();
            return Err(CommandError::Argument(format!(
                "the MIG instances of {} are not recorded, so no line can be written for them; run this on the host itself, where \
                 /proc/driver/nvidia/capabilities lists them, or write AutoDetect=nvml",
                names.join(", ")
            )));
        }
        if hides_mig {
            // slurmd drops a line whose cores differ from what it detects, so it detects them all.
            for own in gpus.drain(..) {
                let parts = own.instances.map_or(own.gpu.mig.len(), |all| all.len());
                let kind = own.kind.filter(|_| parts == 0);
                if let Some(maker) = finds(&own.gpu) {
                    detected.extend(vec![(maker, kind); parts.max(1)]);
                }
            }
        }
        let mut makers: Vec<_> = gpus.iter().filter_map(|own| own.gpu.maker()).collect();
        makers.dedup();
        let flag = match makers.as_slice() {
            [only] => only.gres_flag,
            _ => None,
        };
        Ok(Self {
            flag,
            machine,
            map,
            counts,
            detected,
            taken: taken.collect(),
            rule: CoresRule::of(world.release),
            hides_nvlink: hides_links && gpus.len() > 1,
            gpus,
            memory_mib: world.real_memory_mib(),
            hides_mig,
        })
    }

    fn document(
        &self,
        world: &World<'_>,
        name: &str,
        kind: SocketKind,
        shards: Option<u32>,
    ) -> GresConfDocument {
        let lines = self.gpus.iter().flat_map(|own| self.lines(world, own));
        let mut gres: Vec<GpuLine> = lines.collect();
        // slurmd does not start where some lines have a type and others do not.
        let lines = gres.iter().map(|line| line.kind.clone());
        let found = self.detected.iter().map(|(_, kind)| kind.clone());
        let mut kinds: Vec<Option<String>> = lines.chain(found).collect();
        if kinds.iter().any(Option::is_none) {
            gres.iter_mut().for_each(|line| line.kind = None);
            kinds.fill(None);
        }
        let word = world.socket_word(kind);
        let mut node_line = self.node_line(name, &kinds, shards);
        let mut remarks = self.remarks(kind, &gres);
        if let Some(SocketWord::OfNode(words)) = &word {
            node_line.push_str(&format!(" Parameters={words}"));
            remarks.extend(first_with_node_parameters().map(|series| {
                let since = series.release();
                format!(
                    "Parameters= is a key of Slurm {since} and later, and before it the daemons do not start with it: for an upgrade \
                     take --slurm-release of today's Slurm, and add the word after it"
                )
            }));
        }
        GresConfDocument {
            schema: "gpu-numa/gres-conf/1",
            slurm_release: world.release.map(|release| release.to_string()),
            remarks,
            node_line,
            autodetect: self.autodetect(),
            gres,
            shards,
            parameters: match word {
                Some(SocketWord::OfCluster(words)) => vec![format!("SlurmdParameters={words}")],
                Some(SocketWord::OfNode(_)) | None => Vec::new(),
            },
        }
    }

    /// The word of AutoDetect= that finds the GPUs without lines; None where there are none.
    fn autodetect(&self) -> Option<&'static str> {
        let (maker, _) = self.detected.first()?;
        maker.autodetect.first().copied()
    }

    /// Its cores as the release takes them.
    fn legal(&self, gpu: &Gpu) -> Option<CoreSet> {
        self.rule.cores_to_write(self.map, &gpu.locality)
    }

    /// Whether these are more than those near it.
    fn is_widened(&self, gpu: &Gpu) -> bool {
        let near = self.map.zip(gpu.locality.near_cpus());
        let near = near.map(|(map, cpus)| map.cores_of(cpus));
        let both = self.legal(gpu).zip(near);
        both.is_some_and(|(legal, near)| !legal.is_subset(&near))
    }

    /// The lines of a GPU: one, or one for each MIG instance.
    fn lines(&self, world: &World<'_>, own: &Written<'_>) -> Vec<GpuLine> {
        let (index, gpu) = (own.index, own.gpu);
        let node = gpu.locality.numa_nodes.as_ref().map_or_else(
            || format!("NUMA node unknown (see `gpu-numa show --explain GPU{index}`)"),
            |nodes| format!("node {nodes}"),
        );
        let has_mig = own.instances.is_some();
        let is_divided = self.gpus.iter().any(|own| own.gpu.parts() > 1);
        let shows_links =
            !self.hides_nvlink && self.gpus.len() > 1 && !self.has_mig() && !is_divided;
        let kind = |file: &str| {
            if has_mig {
                return kinds::of_instance(world, file);
            }
            let named = gpu.name.as_deref().and_then(type_of);
            own.kind.clone().or(named)
        };
        let line = |file: &String| GpuLine {
            pci: gpu.pci,
            kind: kind(file),
            file: file.clone(),
            is_of_several_files: has_mig,
            cores: self.legal(gpu).map(|cores| cores.to_string()),
            links: shows_links.then(|| self.links(gpu)),
            flags: self.flag,
            note: format!("{}, {node}", gpu_label(world.machine, gpu.pci)),
        };
        match &own.instances {
            Some(instances) => instances.iter().map(line).collect(),
            None if gpu.parts() > 1 => devices::files_of(self.machine, gpu)
                .map(|file| line(&file))
                .collect(),
            None => vec![line(&own.file)],
        }
    }

    /// Whether a GPU is written as MIG instances.
    fn has_mig(&self) -> bool {
        self.gpus.iter().any(|own| own.instances.is_some())
    }

    /// The number of NVLinks to each GPU of the list, and -1 for the GPU itself.
    fn links(&self, gpu: &Gpu) -> String {
        let counts = self.gpus.iter().map(|other| {
            if other.gpu.pci == gpu.pci {
                "-1".to_owned()
            } else {
                nvlinks(self.machine, gpu.pci, other.gpu.pci).to_string()
            }
        });
        counts.collect::<Vec<_>>().join(",")
    }

    /// What the reader should know about the lines.
    fn remarks(&self, kind: SocketKind, gres: &[GpuLine]) -> Vec<String> {
        let is_typed = gres.iter().all(|line| line.kind.is_some());
        let grew = self.gpus.iter().any(|own| self.is_widened(own.gpu));
        let (rule, since) = (self.rule, self.rule.since());
        let has_nodes_cores = kind == SocketKind::Package
            && CoreMap::new(self.machine, SocketKind::NumaNode).is_some();
        let bound = self.machine.gpus.iter();
        let bound = bound.filter(|gpu| gpu.is_bound_at_launch()).count();
        let mut own = self.gpus.iter();
        let unnumbered = own.find(|own| own.gpu.minor.is_none());
        let remarks = [
            (
                !self.detected.is_empty() && !self.hides_mig,
                self.detected.first().map_or_else(String::new, |(maker, _)| {
                    format!(
                        "{}'s GPUs have no lines here: slurmd finds them and their cores by AutoDetect={}",
                        maker.name,
                        self.autodetect().unwrap_or_default()
                    )
                }),
            ),
            (
                self.gpus.len() + self.taken.len() < bound && !self.hides_mig,
                "GPUs without a device file of the driver are left out".to_owned(),
            ),
            (
                !self.taken.is_empty(),
                format!(
                    "left out, because another kernel driver has them: {}",
                    self.taken.join(", ")
                ),
            ),
            (
                self.map.is_none(),
                "the machine's sockets or cores differ: Slurm counts them in whole numbers, and which of its core numbers are \
                 near a GPU is unknown, so Cores= is left out; every release takes lines without it"
                    .to_owned(),
            ),
            (
                self.has_mig() && !is_typed,
                "MIG profiles are left out of Type=; AutoDetect=nvml names them".to_owned(),
            ),
            (
                self.hides_mig,
                "the device files of the MIG instances are not recorded, so the GPUs have no lines here: slurmd finds the instances and \
                 their types by AutoDetect=nvml"
                    .to_owned(),
            ),
            (
                unnumbered.is_some(),
                unnumbered.map_or_else(String::new, |own| {
                    devices::assumption(self.machine, own.gpu)
                }),
            ),
            (
                self.flag.is_none() && self.gpus.iter().any(|own| own.gpu.maker().is_some_and(|maker| maker.gres_flag.is_some())),
                "GPUs of several vendors in one GRES: Flags= must be the same on all lines, so Slurm sets the variables of all \
                 vendors to the same numbers; with ConstrainDevices=yes they count among the job's own GPUs"
                    .to_owned(),
            ),
            (
                self.hides_nvlink,
                format!(
                    "{} is not visible here, so Links= is left out",
                    hardware::hidden_link(self.machine).unwrap_or_default()
                ),
            ),
            (
                self.memory_mib.is_some(),
                format!(
                    "RealMemory= is {} MiB less than slurmd reports: where the next kernel keeps more to itself, slurmctld would drain the \
                     node (\"Low RealMemory\")",
                    self.memory_mib.map_or(0, |there| there - real_memory_to_write(there))
                ),
            ),
            (
                self.memory_mib.is_none(),
                "/proc/meminfo is not recorded, so RealMemory= is left out".to_owned(),
            ),
            (
                grew && has_nodes_cores,
                format!(
                    "the GPUs' NUMA nodes are smaller than a socket, and Slurm {since} and later take only {rule}: \
                     --numa-node-as-socket gives each GPU its own node's cores"
                ),
            ),
            (
                grew && !has_nodes_cores,
                format!(
                    "some GPUs are near a part of a socket or near several, and Slurm {since} and later take only {rule}: \
                     their Cores= hold more than their own"
                ),
            ),
        ];
        let holding = remarks.into_iter().filter(|(holds, _)| *holds);
        holding.map(|(_, remark)| remark).collect()
    }

    /// The line of slurm.conf, as `slurmd -C` prints it, with the GPUs.
    fn node_line(&self, name: &str, gpus: &[Option<String>], shards: Option<u32>) -> String {
        let Counts {
            cpus,
            boards,
            sockets,
            cores_per_socket,
            threads_per_core,
        } = self.counts;
        let sockets = match boards {
            Some(boards) => format!(
                "Boards={boards} SocketsPerBoard={}",
                sockets / boards.max(1)
            ),
            None => format!("Sockets={sockets}"),
        };
        let mut line = format!(
            "NodeName={name} CPUs={cpus} {sockets} CoresPerSocket={cores_per_socket} ThreadsPerCore={threads_per_core}"
        );
        if let Some(memory) = self.memory_mib {
            line.push_str(&format!(" RealMemory={}", real_memory_to_write(memory)));
        }
        let mut items = kinds::gres_items(gpus).join(",");
        if let Some(shards) = shards.filter(|_| !gpus.is_empty()) {
            items.push_str(&format!(",shard:{}", shards as usize * gpus.len()));
        }
        if !items.is_empty() {
            line.push_str(&format!(" Gres={items}"));
        }
        line
    }
}

/// `h100` of "NVIDIA H100 80GB HBM3", `rtx_4090` of "NVIDIA GeForce RTX 4090"; Slurm matches a type
/// against the driver's name in lower case, blanks as underscores.
fn type_of(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let mut words = lower
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| {
            !word.is_empty()
                && !["nvidia", "tesla", "geforce", "quadro", "graphics", "device"].contains(word)
        });
    let first = words.next()?;
    Some(match (first, words.next()) {
        ("rtx" | "gtx" | "titan", Some(second)) => format!("{first}_{second}"),
        _ => first.to_owned(),
    })
}

fn print(
    out: &mut Out,
    name: &str,
    document: &GresConfDocument,
    copies: Option<&str>,
) -> Result<(), CommandError> {
    let release = document.slurm_release.as_deref().map_or_else(
        || "a Slurm of unknown release".to_owned(),
        |release| format!("Slurm {release}"),
    );
    out.comment(&format!("gres.conf for {name}, {release}"))?;
    for remark in &document.remarks {
        out.comment(remark)?;
    }
    if let Some(word) = document.autodetect {
        out.line(format_args!("NodeName={name} AutoDetect={word}"))?;
    }
    for gres in &document.gres {
        let mut line = format!("NodeName={name} Name=gpu");
        let parts = [
            ("Type", gres.kind.as_deref()),
            (
                if gres.is_of_several_files {
                    "MultipleFiles"
                } else {
                    "File"
                },
                Some(gres.file.as_str()),
            ),
            ("Cores", gres.cores.as_deref()),
            ("Links", gres.links.as_deref()),
            ("Flags", gres.flags),
        ];
        for (key, value) in parts {
            if let Some(value) = value {
                line.push_str(&format!(" {key}={value}"));
            }
        }
        out.line(format_args!("{line}   # {}", gres.note))?;
    }
    if let Some(shards) = document.shards {
        for gres in &document.gres {
            let file = &gres.file;
            out.line(format_args!(
                "NodeName={name} Name=shard Count={shards} File={file}"
            ))?;
        }
    }
    out.line("")?;
    // Comments, so that what is printed is a gres.conf as it is.
    match copies {
        Some(folder) => out.comment(&format!(
            "on slurmctld's host, for slurmd overwrites its copies in {folder}: the lines above in gres.conf, and in slurm.conf:"
        ))?,
        None => out.comment("and in slurm.conf:")?,
    }
    if !document.gres.is_empty() || document.autodetect.is_some() {
        let shard = if document.shards.is_some() {
            ",shard"
        } else {
            ""
        };
        out.line(format_args!("# GresTypes=gpu{shard}"))?;
    }
    for parameter in &document.parameters {
        out.line(format_args!("# {parameter}"))?;
    }
    out.line(format_args!("# {}", document.node_line))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_the_models_own_word() {
        for (name, kind) in [
            ("NVIDIA H100 80GB HBM3", "h100"),
            ("Tesla V100-SXM2-16GB", "v100"),
            ("NVIDIA GeForce RTX 4090", "rtx_4090"),
            ("NVIDIA L40S", "l40s"),
        ] {
            assert_eq!(type_of(name).as_deref(), Some(kind));
        }
        assert_eq!(type_of("NVIDIA"), None);
    }
}
