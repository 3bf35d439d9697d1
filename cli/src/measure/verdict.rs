//! What was measured against what firmware says.

use serde::Serialize;
use topology::machine::MeasuredLatency;

/// A pair of nodes as measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NodePair {
    /// The node whose CPUs read.
    pub(crate) cpu_node: u32,
    /// The node whose memory is read.
    pub(crate) memory_node: u32,
    /// All threads together.
    pub(crate) bandwidth_gb_s: f64,
    /// Of one thread that waits for each access.
    pub(crate) latency_ns: f64,
    /// The latency over that of the CPUs' own node, or of the nearest where that has no memory.
    pub(crate) times_local: Option<f64>,
    /// Firmware's SLIT figure, 10 being local; null where it gives none.
    pub(crate) slit: Option<u32>,
}

/// A difference in latency that is more than noise.
const CLEAR: f64 = 1.2;
/// How far a ratio may be from firmware's: its figures are rough by design.
const ROUGH: f64 = 1.7;

impl NodePair {
    /// What is kept of it.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rounded and kept within u32; a cast takes what is none to 0"
    )]
    pub(super) fn kept(&self) -> MeasuredLatency {
        MeasuredLatency {
            cpu_node: self.cpu_node,
            memory_node: self.memory_node,
            nanoseconds: self.latency_ns.round().clamp(1.0, f64::from(u32::MAX)) as u32,
        }
    }
}

/// Fills in the ratios.
pub(super) fn relate(pairs: &mut [NodePair]) {
    let local: Vec<NodePair> = pairs.to_vec();
    for pair in pairs {
        let own = local.iter().filter(|other| other.cpu_node == pair.cpu_node);
        let nearest = own
            .clone()
            .map(|other| other.latency_ns)
            .fold(f64::INFINITY, f64::min);
        let home = own
            .clone()
            .find(|other| other.memory_node == pair.cpu_node)
            .map(|other| other.latency_ns);
        let base = home.unwrap_or(nearest);
        pair.times_local = (base.is_finite() && base > 0.0).then(|| pair.latency_ns / base);
    }
}

/// Where firmware and measurement disagree, one line each.
pub(super) fn disagreements(pairs: &[NodePair]) -> Vec<String> {
    let mut lines = Vec::new();
    for pair in pairs
        .iter()
        .filter(|pair| pair.cpu_node != pair.memory_node)
    {
        let (Some(times), Some(slit)) = (pair.times_local, pair.slit) else {
            continue;
        };
        let said = f64::from(slit) / 10.0;
        if times > said * ROUGH || said > times * ROUGH {
            lines.push(format!(
                "node {} to {}: firmware rates latency at {said:.1}x local, measured {times:.1}x",
                pair.cpu_node, pair.memory_node
            ));
        }
    }
    for near in pairs {
        for far in pairs.iter().filter(|far| far.cpu_node == near.cpu_node) {
            let (Some(low), Some(high)) = (near.slit, far.slit) else {
                continue;
            };
            let is_wrong_way = low < high && near.latency_ns > far.latency_ns * CLEAR;
            let is_no_difference = low == high
                && near.memory_node != far.memory_node
                && near.latency_ns * CLEAR * CLEAR < far.latency_ns;
            let words = if is_wrong_way {
                "nearer than"
            } else if is_no_difference {
                "as near as"
            } else {
                continue;
            };
            lines.push(format!(
                "from node {}: firmware says that node {} is {words} node {} ({low} and {high}), measured {:.0} and {:.0} ns",
                near.cpu_node, near.memory_node, far.memory_node, near.latency_ns, far.latency_ns
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(cpu_node: u32, memory_node: u32, latency_ns: f64, slit: u32) -> NodePair {
        NodePair {
            cpu_node,
            memory_node,
            bandwidth_gb_s: 1.0,
            latency_ns,
            times_local: None,
            slit: Some(slit),
        }
    }

    fn judge(mut pairs: Vec<NodePair>) -> Vec<String> {
        relate(&mut pairs);
        disagreements(&pairs)
    }

    #[test]
    fn firmware_that_is_roughly_right_is_not_accused() {
        let lines = judge(vec![
            pair(0, 0, 90.0, 10),
            pair(0, 1, 150.0, 21),
            pair(1, 0, 155.0, 21),
            pair(1, 1, 92.0, 10),
        ]);
        assert!(lines.is_empty(), "{lines:?}");
    }

    #[test]
    fn an_invented_table_is_found() {
        let lines = judge(vec![pair(0, 0, 90.0, 10), pair(0, 1, 91.0, 21)]);
        assert_eq!(
            lines,
            ["node 0 to 1: firmware rates latency at 2.1x local, measured 1.0x"]
        );
        let lines = judge(vec![
            pair(0, 0, 90.0, 10),
            pair(0, 1, 120.0, 20),
            pair(0, 2, 200.0, 20),
        ]);
        assert!(
            lines[0].contains("node 1 is as near as node 2"),
            "{lines:?}"
        );
        let lines = judge(vec![
            pair(0, 0, 90.0, 10),
            pair(0, 1, 200.0, 16),
            pair(0, 2, 150.0, 22),
        ]);
        assert!(
            lines
                .iter()
                .any(|line| line.contains("node 1 is nearer than node 2")),
            "{lines:?}"
        );
    }
}
