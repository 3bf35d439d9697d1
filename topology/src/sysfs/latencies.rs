//! What `gpu-numa measure --save` wrote.

use super::files::Root;
use super::site::lines;
use crate::machine::MeasuredLatency;

/// Where the latencies of a host are kept, below the root: `CPU-NODE MEMORY-NODE NANOSECONDS` lines; `#` starts a comment.
pub const LATENCY_FILE: &str = "etc/gpu-numa-bind/latencies";
/// More pairs than any machine has nodes for that are worth it.
const MOST: usize = 4096;

/// The file's text for these latencies.
pub fn write_latencies(latencies: &[MeasuredLatency]) -> String {
    let head = "# by gpu-numa measure --save: node of the CPUs, node of the memory, nanoseconds\n";
    let lines = latencies
        .iter()
        .map(|own| format!("{} {} {}\n", own.cpu_node, own.memory_node, own.nanoseconds));
    head.to_owned() + &lines.collect::<String>()
}

/// Reads [`LATENCY_FILE`]; a line of another form says nothing.
pub(super) fn read(root: Root<'_>) -> Vec<MeasuredLatency> {
    let text = root.text(LATENCY_FILE).unwrap_or_default();
    let read = lines(&text).filter_map(|(_, line)| parse_line(line));
    read.take(MOST).collect()
}

fn parse_line(line: &str) -> Option<MeasuredLatency> {
    let words: Option<Vec<u32>> = line
        .split_whitespace()
        .map(|word| word.parse().ok())
        .collect();
    match words?.as_slice() {
        [cpu_node, memory_node, nanoseconds] if *nanoseconds > 0 => Some(MeasuredLatency {
            cpu_node: *cpu_node,
            memory_node: *memory_node,
            nanoseconds: *nanoseconds,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_other_lines_say_nothing() {
        let root = tempfile::tempdir().unwrap();
        let own = |cpu_node, memory_node, nanoseconds| MeasuredLatency {
            cpu_node,
            memory_node,
            nanoseconds,
        };
        let latencies = vec![own(0, 0, 84), own(0, 1, 141)];
        let file = root.path().join(LATENCY_FILE);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let odd = "0 2 0\n1 1\nx y z\n1 2 3 4\n";
        std::fs::write(&file, write_latencies(&latencies) + odd).unwrap();
        assert_eq!(read(Root(root.path())), latencies);
    }
}
