//! NVIDIA's own NCCL on a real GPU that stands for all GPUs of a machine (`one-gpu.c`): with our file its rings and trees
//! cross no more than they must, and the plugin's hops and bytes are those of its rings and trees.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use nccl_topo::emit::{Form, emit};
use topology::pci::PciAddress;

use crate::env::libraries;
use crate::setup::{Run, World, host, plugin};

/// Servers with PCI Express alone, of two to four packages.
const MACHINES: [&str; 7] = [
    "nccl-2s2g",
    "nccl-3s3g",
    "nccl-2s4g",
    "icx-2s-8g",
    "clx-4s-8g",
    "genoa-2s-nps2-busmix",
    "spr-2s-8g-snc2-idle-links",
];
const FLOATS: usize = 1 << 20;

/// What NCCL says of itself in its log: by channel the ranks in the order of the ring, and each rank's parent.
#[derive(Default)]
struct Said {
    rings: BTreeMap<u32, Vec<usize>>,
    trees: BTreeMap<u32, Vec<(usize, usize)>>,
}

impl Said {
    /// `... NCCL INFO Channel 01/04 : 0 2 3 1` and `... NCCL INFO Trees [0] 2/-1/-1->1->0 [1] ...`.
    fn read(text: &str) -> Self {
        let mut said = Self::default();
        for line in text.lines() {
            if let Some((_, rest)) = line.split_once(" Channel ")
                && let Some((channel, ranks)) = rest.split_once(" : ")
                && let Some((channel, _)) = channel.split_once('/')
                && let Ok(channel) = channel.trim().parse()
            {
                let ranks: Result<_, _> = ranks.split_whitespace().map(str::parse).collect();
                said.rings
                    .entry(channel)
                    .or_insert(ranks.unwrap_or_default());
            }
            if let Some((_, rest)) = line.split_once(" Trees ") {
                for part in rest.split('[').skip(1) {
                    let (channel, edges) = part.split_once("] ").unwrap();
                    let edges: Vec<_> = edges.split("->").map(str::trim).collect();
                    let of = said.trees.entry(channel.parse().unwrap()).or_default();
                    if let (Ok(rank), Ok(parent)) = (edges[1].parse(), edges[2].parse()) {
                        of.push((rank, parent));
                    }
                }
            }
        }
        said
    }
}

/// The hops of a ring.
fn hops(ring: &[usize]) -> Vec<(usize, usize)> {
    let next = ring.iter().cycle().skip(1);
    ring.iter().copied().zip(next.copied()).collect()
}

#[derive(Clone, Copy)]
enum Algorithm {
    Ring,
    Tree,
}

struct Job<'w> {
    world: &'w World,
    /// Whether the driver says that P2P works.
    p2p_works: bool,
    /// By rank.
    gpus: Vec<PciAddress>,
}

impl Job<'_> {
    fn package(&self, rank: usize) -> u32 {
        let gpu = self.world.machine.gpu(self.gpus[rank]).unwrap();
        gpu.locality.package.unwrap()
    }

    fn crosses(&self, (from, to): (usize, usize)) -> bool {
        self.package(from) != self.package(to)
    }

    fn run(&self, library: &Path, algorithm: Algorithm) -> (Run, Said) {
        let gpus: Vec<_> = self.gpus.iter().map(ToString::to_string).collect();
        let folder = self.world.path("");
        let p2p = if self.p2p_works { "works" } else { "denied" };
        let mut command = Command::new(host("one-gpu"));
        command
            .arg(library)
            .args([&FLOATS.to_string(), p2p, &gpus.join(",")])
            .env(
                "NCCL_TOPO_FILE",
                self.world.path(Form::SingleHost.file_name()),
            )
            .env("NCCL_PROFILER_PLUGIN", plugin())
            .env("GPU_NUMA_BIND_LOG", folder.join("log.%h.%p.jsonl"))
            .env("NCCL_DEBUG", "INFO")
            .env("NCCL_DEBUG_SUBSYS", "INIT,GRAPH,ENV")
            .env("NCCL_DEBUG_FILE", folder.join("nccl.%p.log"))
            .env("NCCL_PROTO", "Simple")
            // One GPU cannot be in a multicast group several times.
            .env("NCCL_NVLS_ENABLE", "0")
            .env("NCCL_MNNVL_ENABLE", "0")
            .env(
                "NCCL_ALGO",
                match algorithm {
                    Algorithm::Ring => "Ring",
                    Algorithm::Tree => "Tree",
                },
            );
        let run = self.world.profile_by(&mut command);
        let right = run.stdout().matches(" right\n").count();
        assert_eq!(right, self.gpus.len(), "{}", run.stdout());
        let mut said = Said::default();
        for file in std::fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let of = Said::read(&std::fs::read_to_string(&path).unwrap());
                said.rings.extend(of.rings);
                for (channel, edges) in of.trees {
                    said.trees.entry(channel).or_default().extend(edges);
                }
                std::fs::remove_file(path).unwrap();
            }
        }
        assert!(!said.rings.is_empty() && !said.trees.is_empty());
        (run, said)
    }

    /// What differs between the plugin's record and NCCL's rings and trees, and how often these cross, by channel.
    fn differences(&self, library: &Path, algorithm: Algorithm) -> (Vec<String>, String) {
        let (run, said) = self.run(library, algorithm);
        let crossing = |hops: Vec<(usize, usize)>| -> Vec<(usize, usize)> {
            hops.into_iter().filter(|hop| self.crosses(*hop)).collect()
        };
        let rings: Vec<_> = said
            .rings
            .values()
            .map(|ring| crossing(hops(ring)))
            .collect();
        let trees: Vec<_> = said
            .trees
            .values()
            .map(|tree| crossing(tree.clone()))
            .collect();
        let summary = run.summary();
        let number = |value: &serde_json::Value| usize::try_from(value.as_u64().unwrap()).unwrap();
        let mut wrong = Vec::new();
        let ranks = 0..self.gpus.len();
        let packages: BTreeSet<_> = ranks.map(|rank| self.package(rank)).collect();
        for ring in &rings {
            // Without P2P no file helps everywhere: what NCCL does then, the log says.
            if self.p2p_works && ring.len() > packages.len() {
                wrong.push(format!("a ring crosses {} times", ring.len()));
            }
        }
        for tree in &trees {
            if self.p2p_works && tree.len() + 1 > packages.len() {
                wrong.push(format!("a tree crosses {} times", tree.len()));
            }
        }
        let ring = number(&summary["ring"]["both"]);
        if rings.iter().any(|crossing| crossing.len() != ring) {
            wrong.push(format!("the log says {ring} hops of the ring"));
        }
        let bytes = FLOATS * size_of::<f32>();
        let ranks = self.gpus.len();
        let over = match algorithm {
            Algorithm::Ring => {
                let crossing: usize = rings.iter().map(Vec::len).sum();
                crossing * 2 * (ranks - 1) * bytes / ranks / rings.len()
            }
            // Up the tree and down again.
            Algorithm::Tree => {
                let crossing: usize = trees.iter().map(Vec::len).sum();
                crossing * 2 * bytes / trees.len()
            }
        };
        let told_bytes = number(&summary["over_link"]["both_bytes"]);
        // Each hop's share is rounded down.
        if told_bytes.abs_diff(over) > 2 * ranks {
            wrong.push(format!(
                "the log says {told_bytes} bytes over the link, {over} went"
            ));
        }
        let told: BTreeSet<(String, String)> = summary["crossing_hops"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|hop| {
                let end = |at: usize| hop[at].as_str().unwrap().to_owned();
                (end(0), end(1))
            })
            .collect();
        let real: BTreeSet<(String, String)> = rings
            .iter()
            .flatten()
            .map(|(from, to)| (self.gpus[*from].to_string(), self.gpus[*to].to_string()))
            .collect();
        // With several networks that NCCL may have, whose rings differ, none is named.
        if summary["hops_known"] == true && told != real {
            wrong.push(format!("the log names {told:?}, NCCL has {real:?}"));
        }
        let stdout = run.stdout();
        let version = stdout
            .lines()
            .find_map(|line| line.strip_prefix("version "));
        let counts = |of: &[Vec<(usize, usize)>]| {
            let counts: Vec<_> = of.iter().map(|hops| hops.len().to_string()).collect();
            counts.join(",")
        };
        let words = format!(
            "NCCL {}: rings {}, trees {}, {told_bytes} bytes",
            version.unwrap_or("?"),
            counts(&rings),
            counts(&trees),
        );
        (wrong, words)
    }
}

/// The GPUs of each package in turn.
fn interleaved(world: &World) -> Vec<PciAddress> {
    let mut by_package: BTreeMap<_, Vec<PciAddress>> = BTreeMap::new();
    for gpu in &world.machine.gpus {
        by_package
            .entry(gpu.locality.package)
            .or_default()
            .push(gpu.pci);
    }
    let most = by_package.values().map(Vec::len).max().unwrap();
    (0..most)
        .flat_map(|at| {
            by_package
                .values()
                .filter_map(move |gpus| gpus.get(at).copied())
        })
        .collect()
}

#[test]
#[ignore = "needs a GPU with its driver: make test-gpu"]
fn nccl_on_a_real_gpu_crosses_as_often_as_it_must_and_as_the_log_says() {
    let mut wrong = Vec::new();
    for name in MACHINES {
        let world = World::of(machines::named(name).machine_by_nvml());
        let emitted = emit(&world.machine, Form::SingleHost).unwrap();
        world.write(Form::SingleHost.file_name(), &emitted.xml);
        let in_order: Vec<_> = world.machine.gpus.iter().map(|gpu| gpu.pci).collect();
        for (order, gpus) in [("in order", in_order), ("interleaved", interleaved(&world))] {
            for p2p_works in [true, false] {
                let job = Job {
                    world: &world,
                    p2p_works,
                    gpus: gpus.clone(),
                };
                let p2p = if p2p_works { "" } else { ", P2P denied" };
                for library in libraries() {
                    for (algorithm, word) in [(Algorithm::Ring, "ring"), (Algorithm::Tree, "tree")]
                    {
                        let (differs, crossings) = job.differences(&library, algorithm);
                        let what = format!("{name}, {order}{p2p}, {word}");
                        println!("{what}, {crossings}");
                        wrong.extend(differs.into_iter().map(|line| format!("{what}: {line}")));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
