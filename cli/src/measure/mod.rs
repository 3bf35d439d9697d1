//! `gpu-numa measure`: the latency and bandwidth of memory between NUMA nodes, beside firmware's figures.

mod copies;
mod kernels;
mod verdict;

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use clap::Args;
use discovery::Source;
use ffi::errno::Errno;
use ffi::linux::mempolicy::{self, Mode};
use ffi::linux::{affinity, pages::Pages};
use indicatif::ProgressBar;
use serde::Serialize;
use topology::machine::{Machine, MeasuredLatency, NodeKind, NumaNode};
use topology::pci::PciAddress;
use topology::quantity::{count, size, volume};
use topology::set::{CpuSet, NodeSet};
use topology::sysfs::{LATENCY_FILE, write_latencies};

use crate::command::{CommandError, Format, Outcome};
use crate::hardware::{gpu_label, times_local};
use crate::out::{self, Out, WriteError};
use crate::progress::steps_bar;
use crate::snapshot::make_folder;
use crate::table::{Cell, Column, Table};
pub(crate) use copies::Copies;
use copies::GpuCopy;
use verdict::{NodePair, disagreements, relate};

/// Words of a thread's buffer: 64 MiB, more than its share of any last-level cache of 2026.
const BUFFER_WORDS: usize = 8 << 20;
/// Threads that read at the same time, at most; more read no faster.
const MAX_THREADS: usize = 8;
/// What all pairs together may take, buffers aside.
const BUDGET: Duration = Duration::from_secs(4);

/// Measure memory latency and bandwidth between NUMA nodes
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gpu-numa measure
  srun -N1 --exclusive gpu-numa measure
  gpu-numa measure --json > $(hostname).json
  gpu-numa measure --save && gpu-numa snapshot

Threads are bound to a node's CPUs and memory as jobs are.  Run it on an idle host: other programs take \
bandwidth away.  Bandwidth is that of reads by up to 8 cores of a node; latency is that of one thread that \
waits for each access to a random cache line.")]
pub(crate) struct Measure {
    #[command(flatten)]
    format: Format,
    /// Keep the latencies in /etc/gpu-numa-bind/latencies, where show and the snapshot take them from (root)
    #[arg(long)]
    save: bool,
}

/// The figures.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MeasureDocument {
    /// `gpu-numa/measure/1`.
    schema: &'static str,
    /// Its name.
    host: Option<String>,
    /// Threads that read at the same time, by node.
    threads: Vec<(u32, usize)>,
    /// The memory that each thread reads, in bytes.
    buffer_bytes: usize,
    /// Every node's memory from every node's CPUs.
    pairs: Vec<NodePair>,
    /// Where firmware's figures and the measured ones differ clearly, in words.
    disagreements: Vec<String>,
    /// Copies between host and GPUs, by CUDA or HIP; of a GPU that neither shows there are none, and `remarks` says so.
    copies: Vec<GpuCopy>,
    /// Lines for the override file.
    localities: Vec<String>,
    /// What could not be measured, and why.
    remarks: Vec<String>,
}

/// The CPUs of a node that take part, one per core.
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
        let bar = steps_bar(sources.len() * (readers.len() + 1));
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
        let copies = copies::ask(&machine, &homes, &mut remarks);
        bar.finish_and_clear();
        relate(&mut pairs);
        let document = MeasureDocument {
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
        if self.save {
            save(Path::new("/"), &document.pairs)?;
        }
        if self.format.json {
            out.json(&document)?;
        } else {
            print(out, &machine, &document)?;
        }
        for line in document.disagreements.iter().chain(&document.remarks) {
            out::message(line);
        }
        Ok(Outcome::Done)
    }
}

/// Keeps the latencies for `show` and the snapshot, below `root`.
fn save(root: &Path, pairs: &[NodePair]) -> Result<(), WriteError> {
    let path = root.join(LATENCY_FILE);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let latencies: Vec<MeasuredLatency> = pairs.iter().map(NodePair::kept).collect();
    make_folder(folder)?
        .replace(name, write_latencies(&latencies).as_bytes())
        .map_err(|error| WriteError::refused("write", error))?;
    out::message(&format!(
        "{} written; gpu-numa snapshot takes it over",
        path.display()
    ));
    Ok(())
}

/// Every memory from every node's CPUs, and how long the shortest buffer was, in words.
fn measure_all(
    machine: &Machine,
    readers: &[Reader],
    sources: &[&NumaNode],
    bar: &ProgressBar,
    remarks: &mut Vec<String>,
) -> (Vec<NodePair>, usize) {
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

/// Each node's cores that this process may use, a CPU of each.
fn readers(machine: &Machine, remarks: &mut Vec<String>) -> Result<Vec<Reader>, CommandError> {
    let allowed = affinity::read_cpuset()
        .map(|words| CpuSet::from_words(&words))
        .map_err(|error| {
            CommandError::Argument(format!(
                "cannot read which CPUs this process may use: {error}"
            ))
        })?;
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
                "node {}: this process may not use any of its CPUs ({})",
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

/// Why a node's memory cannot be measured.
#[derive(Debug, thiserror::Error)]
enum FillError {
    #[error("cannot read how much of it is free")]
    UnknownFree,
    #[error("only {} free, too little to measure", volume(*.0))]
    TooLittleFree(u64),
    #[error("the kernel refuses to bind to it ({0})")]
    Policy(Errno),
    #[error("cannot map a buffer: {0}")]
    Map(Errno),
    #[error("the thread that fills it stopped")]
    Stopped,
}

/// Buffers in a node's memory; the first is written as a chain.
fn fill(source: &NumaNode, count: usize) -> Result<Vec<Pages>, FillError> {
    // A bound thread on a full node is killed, so a quarter of what is free is the most.
    let free = free_bytes(source.id).ok_or(FillError::UnknownFree)?;
    let fitting = usize::try_from(free / 4).unwrap_or(usize::MAX) / size_of::<u64>() / count.max(1);
    let words = fitting.min(BUFFER_WORDS);
    if words < 1 << 17 {
        return Err(FillError::TooLittleFree(free));
    }
    std::thread::scope(|scope| {
        let filled = scope.spawn(move || {
            let node = NodeSet::single(source.id);
            mempolicy::apply_policy(Mode::Bind, node.words()).map_err(FillError::Policy)?;
            if !source.cpus.is_empty() {
                // Its own CPUs fill it fastest; others do as well.
                let _ = affinity::apply_affinity(0, source.cpus.words());
            }
            let mut buffers = Vec::new();
            for index in 0..count {
                let mut buffer = Pages::map(words).map_err(FillError::Map)?;
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
        filled.join().unwrap_or(Err(FillError::Stopped))
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
) -> Option<NodePair> {
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
                    Some(kernels::gigabytes(bytes) / took.as_secs_f64())
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
            Some(nanoseconds(took) / kernels::gigabytes(steps) / 1e9)
        };
        scope.spawn(follow).join().ok().flatten()
    });
    let (Some(bandwidth_gb_s), Some(latency_ns)) = (bandwidth, latency) else {
        remarks.push(format!(
            "node {}: the kernel refuses to run threads on its CPUs",
            reader.node
        ));
        return None;
    };
    Some(NodePair {
        cpu_node: reader.node,
        memory_node,
        bandwidth_gb_s,
        latency_ns,
        times_local: None,
        slit: machine.distance(reader.node, memory_node),
    })
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

/// One row per `rows`, one column per node whose memory is read.
fn figures<R>(
    rows: &[(String, R)],
    memories: &[u32],
    figure: impl Fn(&R, u32) -> Option<String>,
) -> Table {
    let heads = memories.iter().map(|node| format!("memory {node}"));
    let mut table = Table::new(std::iter::once(Column::left("")).chain(heads.map(Column::right)));
    for (name, row) in rows {
        let cells = memories.iter().map(|memory| {
            let text = figure(row, *memory);
            Cell::plain(text.unwrap_or_else(|| "-".to_owned()))
        });
        table.row(std::iter::once(Cell::plain(name.clone())).chain(cells));
    }
    table
}

/// Copies of every GPU, and what may be written into the override file.
fn print_copies(
    out: &mut Out,
    machine: &Machine,
    document: &MeasureDocument,
) -> Result<(), CommandError> {
    let mut gpus: Vec<_> = document.copies.iter().map(|copy| copy.pci).collect();
    gpus.dedup();
    if gpus.is_empty() {
        return Ok(());
    }
    let mut nodes: Vec<u32> = document.copies.iter().map(|copy| copy.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let label = |gpu: &PciAddress| (gpu_label(machine, *gpu), *gpu);
    let rows: Vec<_> = gpus.iter().map(label).collect();
    let table = figures(&rows, &nodes, |gpu, node| {
        let mut copies = document.copies.iter();
        let copy = copies.find(|copy| copy.pci == *gpu && copy.node == node)?;
        Some(format!(
            "{:.1} / {:.1}",
            copy.to_gpu_gb_s, copy.from_gpu_gb_s
        ))
    });
    out.line("\ncopies to a GPU / from it, GB/s")?;
    out.lines(&table)?;
    if !document.localities.is_empty() {
        out.line(format_args!("\nfor /{}:", topology::sysfs::OVERRIDE_FILE))?;
    }
    for line in &document.localities {
        out.line(line)?;
    }
    Ok(())
}

fn print(out: &mut Out, machine: &Machine, document: &MeasureDocument) -> Result<(), CommandError> {
    let host = document.host.as_deref().unwrap_or("this host");
    let most = document
        .threads
        .iter()
        .map(|(_, count)| *count)
        .max()
        .unwrap_or(0);
    out.line(format_args!(
        "{host}: memory measured from each node's CPUs ({}, {} each)",
        count(most, "thread"),
        size(document.buffer_bytes as u64)
    ))?;
    let mut memories: Vec<u32> = document.pairs.iter().map(|pair| pair.memory_node).collect();
    memories.dedup();
    let mut rows: Vec<_> = document
        .threads
        .iter()
        .map(|(node, _)| (format!("CPUs {node}"), *node))
        .collect();
    rows.dedup();
    type Figure<'a> = &'a dyn Fn(&NodePair) -> String;
    let tables: [(&str, Figure<'_>); 3] = [
        ("read bandwidth, GB/s", &|pair| {
            format!("{:.1}", pair.bandwidth_gb_s)
        }),
        ("latency, ns", &|pair| format!("{:.0}", pair.latency_ns)),
        (
            "latency relative to local memory (firmware's SLIT says)",
            &|pair| {
                let slit = pair.slit.map_or_else(|| "?".to_owned(), times_local);
                pair.times_local
                    .map_or_else(|| "?".to_owned(), |times| format!("{times:.1} ({slit})"))
            },
        ),
    ];
    for (title, figure) in tables {
        let table = figures(&rows, &memories, |cpu, memory| {
            let mut pairs = document.pairs.iter();
            pairs
                .find(|pair| (pair.cpu_node, pair.memory_node) == (*cpu, memory))
                .map(figure)
        });
        out.line(format_args!("\n{title}"))?;
        out.lines(&table)?;
    }
    print_copies(out, machine, document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::locality::Overrides;
    use topology::sysfs::read_machine;

    #[test]
    fn what_was_measured_takes_the_place_of_firmwares_figure_once_it_is_saved() {
        let recording = machines::named("dgx-h100").record();
        let read = || read_machine(recording.root(), &Overrides::new()).unwrap();
        let said = |machine: &Machine| crate::show::distances(machine).concat();
        assert!(
            said(&read()).starts_with("Firmware rates memory access from node 0 to node 1 at 2.1x"),
            "{}",
            said(&read())
        );
        let pair = |cpu_node, memory_node, latency_ns| NodePair {
            cpu_node,
            memory_node,
            bandwidth_gb_s: 200.0,
            latency_ns,
            times_local: None,
            slit: None,
        };
        let pairs = [
            pair(0, 0, 90.4),
            pair(0, 1, 152.6),
            pair(1, 0, 150.0),
            pair(1, 1, 90.0),
        ];
        save(recording.root(), &pairs).unwrap();
        let machine = read();
        assert_eq!(machine.latency_pair(0, 1), Some((90, 153)));
        assert!(
            said(&machine).starts_with(
                "Memory of node 1 takes 1.7 times as long as local memory from node 0, as measured here (153 ns, 90 ns)"
            ),
            "{}",
            said(&machine)
        );
    }
}
