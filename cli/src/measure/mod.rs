//! `gpu-numa measure`: what memory really costs from every NUMA node, beside firmware's figures.

mod copies;
mod kernels;
mod verdict;

use std::fs;
use std::sync::Barrier;
use std::time::Duration;

use clap::Args;
use discovery::Source;
use ffi::linux::mempolicy::{self, Mode};
use ffi::linux::{affinity, pages::Pages};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use topology::machine::{Machine, NodeKind, NumaNode};
use topology::set::{CpuSet, NodeSet};

use crate::command::{CommandError, Format, Outcome};
use crate::out::{self, Out};
pub(crate) use copies::Copies;
use copies::Copy;
use verdict::{Pair, disagreements, relate};

/// Words of a thread's buffer: 64 MiB, more than its share of any last-level cache of 2026.
const BUFFER_WORDS: usize = 8 << 20;
/// Threads that read at the same time, at most; few more saturate no more.
const MAX_THREADS: usize = 8;
/// What all pairs together may take, buffers aside.
const BUDGET: Duration = Duration::from_secs(4);

/// Measures.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa measure
  srun -N1 --exclusive gpu-numa measure
  gpu-numa measure --json > $(hostname).json

Threads are bound to a node's CPUs and memory by the code that binds jobs.  Read it on an idle host: \
whatever else runs takes bandwidth away.  Bandwidth is of reads by up to 8 cores of a node, latency is of \
one thread that waits for each access to a random cache line.")]
pub(crate) struct Measure {
    #[command(flatten)]
    format: Format,
}

/// The JSON document.
#[derive(Debug, Serialize)]
struct Document {
    schema: &'static str,
    host: Option<String>,
    /// Threads that read at the same time, by node.
    threads: Vec<(u32, usize)>,
    buffer_bytes: usize,
    pairs: Vec<Pair>,
    disagreements: Vec<String>,
    /// Between host and GPUs; empty without CUDA.
    copies: Vec<Copy>,
    /// Lines for the override file.
    localities: Vec<String>,
    remarks: Vec<String>,
}

/// The CPUs of a node that take part, a core each.
struct Reader {
    node: u32,
    cpus: Vec<CpuSet>,
}

impl Measure {
    pub(crate) fn run(&self, out: &mut Out) -> Result<Outcome, CommandError> {
        let machine = discovery::read_machine(&Source::ThisMachine)?;
        let mut remarks = Vec::new();
        let readers = readers(&machine, &mut remarks)?;
        let sources: Vec<&NumaNode> = machine
            .numa_nodes
            .iter()
            .filter(|node| node.has_memory() && node.kind != NodeKind::Gpu)
            .collect();
        let bar = progress(sources.len() * (readers.len() + 1));
        let (mut pairs, buffer_words) =
            measure_all(&machine, &readers, &sources, &bar, &mut remarks);
        bar.set_message("copies to GPUs");
        let homes: Vec<(u32, CpuSet)> = readers
            .iter()
            .map(|reader| {
                (
                    reader.node,
                    reader
                        .cpus
                        .iter()
                        .fold(CpuSet::new(), |all, cpu| all.union(cpu)),
                )
            })
            .collect();
        let copies = copies::ask(&homes, &mut remarks);
        bar.finish_and_clear();
        relate(&mut pairs);
        let document = Document {
            schema: "gpu-numa/measure/1",
            host: machine.hostname.clone(),
            threads: readers
                .iter()
                .map(|reader| (reader.node, reader.cpus.len()))
                .collect(),
            buffer_bytes: buffer_words * size_of::<u64>(),
            disagreements: disagreements(&pairs),
            pairs,
            localities: copies::offers(&machine, &copies),
            copies,
            remarks,
        };
        if self.format.json {
            out.json(&document)?;
        } else {
            print(out, &document)?;
        }
        for line in document.disagreements.iter().chain(&document.remarks) {
            out::message(line);
        }
        Ok(Outcome::Done)
    }
}

/// Every memory from every node's CPUs, and how long the shortest buffer was, in words.
fn measure_all(
    machine: &Machine,
    readers: &[Reader],
    sources: &[&NumaNode],
    bar: &ProgressBar,
    remarks: &mut Vec<String>,
) -> (Vec<Pair>, usize) {
    let most = readers
        .iter()
        .map(|reader| reader.cpus.len())
        .max()
        .unwrap_or(1);
    let count = u32::try_from((sources.len() * readers.len()).max(1)).unwrap_or(u32::MAX);
    let time = (BUDGET / count / 2).clamp(Duration::from_millis(10), Duration::from_millis(100));
    let mut pairs = Vec::new();
    let mut buffer_words = BUFFER_WORDS;
    for source in sources {
        bar.set_message(format!("memory of node {}", source.id));
        match fill(source, most) {
            Ok(buffers) => {
                bar.inc(1);
                let words = buffers.first().map_or(0, |buffer| buffer.words().len());
                buffer_words = buffer_words.min(words);
                for reader in readers {
                    pairs.extend(measure(machine, reader, source.id, &buffers, time, remarks));
                    bar.inc(1);
                }
            }
            Err(why) => {
                remarks.push(format!("memory of node {}: {why}", source.id));
                bar.inc(1 + readers.len() as u64);
            }
        }
    }
    (pairs, buffer_words)
}

/// A bar on a terminal, nothing elsewhere.
fn progress(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Each node's cores that this process may use, a CPU of each.
fn readers(machine: &Machine, remarks: &mut Vec<String>) -> Result<Vec<Reader>, CommandError> {
    let allowed = affinity::read_cpuset()
        .map(|words| CpuSet::from_words(&words))
        .map_err(|error| CommandError::Argument(format!("own CPUs cannot be read: {error}")))?;
    let mut readers = Vec::new();
    for node in machine
        .numa_nodes
        .iter()
        .filter(|node| !node.cpus.is_empty())
    {
        let own = node.cpus.intersection(&allowed);
        let first_of = |core: &CpuSet| core.intersection(&own).first().map(CpuSet::single);
        let cpus: Vec<CpuSet> = machine
            .cores
            .iter()
            .filter_map(first_of)
            .take(MAX_THREADS)
            .collect();
        if cpus.is_empty() {
            remarks.push(format!(
                "node {}: this process may use none of its CPUs ({})",
                node.id, node.cpus
            ));
        } else {
            readers.push(Reader {
                node: node.id,
                cpus,
            });
        }
    }
    Ok(readers)
}

/// Buffers in a node's memory, each a chain.
fn fill(source: &NumaNode, count: usize) -> Result<Vec<Pages>, String> {
    // A bound thread on a full node is killed, so a quarter of what is free is the most.
    let free = free_bytes(source.id).ok_or("how much is free cannot be read")?;
    let fitting = usize::try_from(free / 4).unwrap_or(usize::MAX) / size_of::<u64>() / count.max(1);
    let words = fitting.min(BUFFER_WORDS);
    if words < 1 << 17 {
        return Err(format!("{} MiB free are too few", free >> 20));
    }
    std::thread::scope(|scope| {
        let filled = scope.spawn(move || {
            let node = NodeSet::single(source.id);
            mempolicy::apply_policy(Mode::Bind, node.words())
                .map_err(|error| format!("refused by the kernel ({error})"))?;
            if !source.cpus.is_empty() {
                // Its own CPUs fill it fastest; others do as well.
                let _ = affinity::apply_affinity(0, source.cpus.words());
            }
            let mut buffers = Vec::new();
            for index in 0..count {
                let mut buffer = Pages::map(words).map_err(|error| error.to_string())?;
                if index == 0 {
                    kernels::write_chain(buffer.words_mut());
                } else {
                    buffer
                        .words_mut()
                        .iter_mut()
                        .step_by(64)
                        .for_each(|word| *word = 1);
                }
                buffers.push(buffer);
            }
            Ok(buffers)
        });
        filled
            .join()
            .unwrap_or_else(|_| Err("its thread stopped".to_owned()))
    })
}

fn free_bytes(node: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/sys/devices/system/node/node{node}/meminfo"))
        .or_else(|_| fs::read_to_string("/proc/meminfo"))
        .ok()?;
    let line = text.lines().find(|line| line.contains("MemFree:"))?;
    let kib: u64 = line.split_whitespace().rev().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Bandwidth with all threads, then latency with the first.
fn measure(
    machine: &Machine,
    reader: &Reader,
    memory_node: u32,
    buffers: &[Pages],
    time: Duration,
    remarks: &mut Vec<String>,
) -> Option<Pair> {
    let barrier = Barrier::new(reader.cpus.len());
    let bandwidths: Vec<Option<f64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = reader
            .cpus
            .iter()
            .zip(buffers)
            .map(|(cpu, buffer)| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let bound = affinity::apply_affinity(0, cpu.words());
                    barrier.wait();
                    bound.ok()?;
                    let (bytes, took) = kernels::read_for(buffer.words(), time);
                    Some(gigabytes(bytes) / took.as_secs_f64())
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().ok().flatten())
            .collect()
    });
    let bandwidth: Option<f64> = bandwidths.into_iter().sum();
    let (cpu, chain) = (reader.cpus.first()?, buffers.first()?);
    let latency = std::thread::scope(|scope| {
        let follow = move || {
            affinity::apply_affinity(0, cpu.words()).ok()?;
            let (steps, took) = kernels::follow_for(chain.words(), time);
            Some(nanoseconds(took) / gigabytes(steps) / 1e9)
        };
        scope.spawn(follow).join().ok().flatten()
    });
    let (Some(bandwidth_gb_s), Some(latency_ns)) = (bandwidth, latency) else {
        remarks.push(format!(
            "node {}: its CPUs were refused by the kernel",
            reader.node
        ));
        return None;
    };
    Some(Pair {
        cpu_node: reader.node,
        memory_node,
        bandwidth_gb_s,
        latency_ns,
        times_local: None,
        slit: machine.distance(reader.node, memory_node),
    })
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a figure for a person, to a tenth"
)]
fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

/// GPUs by node, and what may be written into the override file.
fn print_copies(out: &mut Out, document: &Document) -> Result<(), CommandError> {
    let mut gpus: Vec<_> = document.copies.iter().map(|copy| copy.pci).collect();
    gpus.dedup();
    if gpus.is_empty() {
        return Ok(());
    }
    let mut nodes: Vec<u32> = document.copies.iter().map(|copy| copy.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let heads: String = nodes
        .iter()
        .map(|node| format!("{:>14}", format!("memory {node}")))
        .collect();
    out.line(format_args!(
        "\ncopies to a GPU / from it, GB/s\n{:<13}{heads}",
        ""
    ))?;
    for gpu in gpus {
        let cells = nodes.iter().map(|node| {
            let copy = document
                .copies
                .iter()
                .find(|copy| copy.pci == gpu && copy.node == *node);
            let words =
                copy.map(|copy| format!("{:.1} / {:.1}", copy.to_gpu_gb_s, copy.from_gpu_gb_s));
            format!("{:>14}", words.unwrap_or_else(|| "-".to_owned()))
        });
        out.line(format_args!(
            "{:<13}{}",
            gpu.to_string(),
            cells.collect::<String>()
        ))?;
    }
    if !document.localities.is_empty() {
        out.line(format_args!("\nfor /{}:", topology::sysfs::OVERRIDE_FILE))?;
    }
    for line in &document.localities {
        out.line(line)?;
    }
    Ok(())
}

fn print(out: &mut Out, document: &Document) -> Result<(), CommandError> {
    let host = document.host.as_deref().unwrap_or("this host");
    let most = document
        .threads
        .iter()
        .map(|(_, count)| *count)
        .max()
        .unwrap_or(0);
    out.line(format_args!(
        "{host}: memory from each node's CPUs, measured ({}, {} MiB each)",
        crate::show::count(most, "thread"),
        document.buffer_bytes >> 20
    ))?;
    let mut memories: Vec<u32> = document.pairs.iter().map(|pair| pair.memory_node).collect();
    memories.dedup();
    let mut cpus: Vec<u32> = document.threads.iter().map(|(node, _)| *node).collect();
    cpus.dedup();
    type Cell<'a> = &'a dyn Fn(&Pair) -> String;
    let tables: [(&str, Cell<'_>); 3] = [
        ("read bandwidth, GB/s", &|pair| {
            format!("{:.1}", pair.bandwidth_gb_s)
        }),
        ("latency, ns", &|pair| format!("{:.0}", pair.latency_ns)),
        ("times local, measured (firmware's)", &|pair| {
            let slit = pair.slit.map_or_else(
                || "?".to_owned(),
                |slit| format!("{:.1}", f64::from(slit) / 10.0),
            );
            pair.times_local
                .map_or_else(|| "?".to_owned(), |times| format!("{times:.1} ({slit})"))
        }),
    ];
    for (title, cell) in tables {
        out.line("")?;
        let heads: String = memories
            .iter()
            .map(|node| format!("{:>11}", format!("memory {node}")))
            .collect();
        out.line(format_args!("{title}\n{:<9}{heads}", ""))?;
        for cpu in &cpus {
            let cells = memories.iter().map(|memory| {
                let pair = document
                    .pairs
                    .iter()
                    .find(|pair| (pair.cpu_node, pair.memory_node) == (*cpu, *memory));
                format!("{:>11}", pair.map_or_else(|| "-".to_owned(), cell))
            });
            out.line(format_args!(
                "{:<9}{}",
                format!("CPUs {cpu}"),
                cells.collect::<String>()
            ))?;
        }
    }
    print_copies(out, document)
}
