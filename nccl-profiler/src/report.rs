//! What a communicator's collectives carried over the socket link, in numbers and in one line.

use launch::shared::kinds::FunctionSum;
use launch::shared::peers::Sent;
use nccl_topo::traffic::{Forecast, Hops};
use serde::Serialize;
use topology::quantity::{count, size, volume};

use crate::counts::{Algo, Counts, Func, SizeSum, Sum, Uncounted};
use crate::words::{span, times};

/// Which line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Moment {
    /// The first collective that crosses.
    Crossing,
    /// A minute later, and so on.
    Progress,
    /// The communicator ends.
    Summary,
}

/// A communicator, as its lines name it.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    /// NCCL's id of it.
    pub(crate) id: u64,
    /// What its maker calls it; none where it has no name.
    pub(crate) name: Option<String>,
    /// Its ranks.
    pub(crate) ranks: usize,
    /// Its hosts.
    pub(crate) hosts: usize,
    /// What NCCL counts as its hosts: more, where it counts one as several.
    pub(crate) nodes: usize,
    /// Its ranks whose GPUs on this host are known, by place; a root is looked up here.
    pub(crate) local: Vec<usize>,
}

/// Bytes over the link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Load {
    /// Toward packages of a higher number, at least.
    pub(crate) up_bytes: u64,
    /// Toward packages of a lower number, at least.
    pub(crate) down_bytes: u64,
    /// Both ways together: more than the two where it is not known which way some went.
    pub(crate) both_bytes: u64,
    /// Whether both ways together may be more.
    #[serde(skip)]
    is_bound: bool,
}

impl Load {
    /// Of several communicators.
    pub(crate) fn of_all(up_bytes: u64, down_bytes: u64, both_bytes: u64) -> Self {
        Self {
            up_bytes,
            down_bytes,
            both_bytes,
            is_bound: false,
        }
    }

    fn add(&mut self, bytes: u64, hops: Hops) {
        let more = |sum: u64, hops: u32| sum.saturating_add(bytes.saturating_mul(u64::from(hops)));
        self.up_bytes = more(self.up_bytes, hops.up);
        self.down_bytes = more(self.down_bytes, hops.down);
        self.both_bytes = more(self.both_bytes, hops.both);
        self.is_bound |= bytes > 0 && !hops.is_exact;
    }
}

/// What all communicators of a kind moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KindReport {
    /// By collectives.
    pub(crate) load: Load,
    /// By sends.
    pub(crate) sent: Sent,
    /// Recorded into CUDA graphs.
    pub(crate) captured: u64,
    /// Calls that are not counted.
    pub(crate) uncounted: u64,
    /// Whether the figures are NCCL's, and not only lower bounds.
    pub(crate) is_exact: bool,
    /// Each function that was called: how often, with which buffers.
    pub(crate) functions: Vec<(Func, FunctionSum)>,
    /// Calls by the size of their buffers.
    pub(crate) sizes: Vec<SizeSum>,
}

/// All that is said of a communicator.
#[derive(Debug)]
pub(crate) struct LinkReport<'a> {
    /// Which communicator.
    pub(crate) who: &'a Who,
    /// The way of its collectives.
    pub(crate) forecast: &'a Forecast,
    /// Which line.
    pub(crate) moment: Moment,
    /// Collectives so far.
    pub(crate) sums: Vec<Sum>,
    /// The same by the size of their buffers.
    pub(crate) sizes: Vec<SizeSum>,
    /// What they carried over the link.
    pub(crate) load: Load,
    /// What sends carried over it.
    pub(crate) sent: Sent,
    /// Collectives recorded into CUDA graphs.
    pub(crate) captured: u64,
    /// Collectives that are not counted, by reason.
    pub(crate) uncounted: Vec<(Uncounted, u64)>,
}

impl<'a> LinkReport<'a> {
    /// Adds up.
    pub(crate) fn new(
        who: &'a Who,
        forecast: &'a Forecast,
        moment: Moment,
        counts: &Counts,
        sent: Sent,
    ) -> Self {
        let sums = counts.sums();
        let mut uncounted = counts.uncounted();
        let by_tree = sums.iter().filter(|sum| sum.algo == Algo::Tree);
        let by_tree: u64 = by_tree.map(|sum| sum.amount.calls).sum();
        if by_tree > 0 && forecast.tree().both == 0 && forecast.ring().both > 0 {
            uncounted.push((Uncounted::TreeBetweenHosts, by_tree));
        }
        let mut load = Load::default();
        for sum in &sums {
            let hops = hops_of(forecast, sum.algo);
            match (sum.func, sum.algo) {
                (Func::Broadcast | Func::Reduce, _) => {
                    load_rooted(&mut load, who, forecast, sum, counts);
                }
                // Every rank's part goes up the tree and the sum down it.
                (_, Algo::Tree) => load.add(sum.amount.bytes, hops),
                (func, Algo::Ring) => load.add(hop_bytes(func, sum.amount.bytes, who.ranks), hops),
            }
        }
        Self {
            who,
            forecast,
            moment,
            sums,
            sizes: counts.sizes(),
            load,
            sent,
            captured: counts.captured(),
            uncounted,
        }
    }

    /// Whether anything crossed, or may have without being counted.
    pub(crate) fn is_worth_a_line(&self) -> bool {
        let may_cross = self.forecast.ring().both > 0;
        let recorded = self.captured > 0 && may_cross;
        // What is not counted may have crossed too; at the end that is better said than left out.
        let uncounted = self.moment == Moment::Summary && self.uncounted_calls() > 0 && may_cross;
        self.load.both_bytes > 0 || self.sent.sends > 0 || recorded || uncounted
    }

    /// Whether the figures are NCCL's, and not only lower bounds.
    pub(crate) fn is_exact(&self) -> bool {
        self.forecast.is_even() && !self.load.is_bound
    }

    /// Whether it is known that nothing moved but what is counted.
    pub(crate) fn is_all(&self) -> bool {
        let may_cross = self.forecast.ring().both > 0;
        self.is_exact() && !(may_cross && (self.captured > 0 || self.uncounted_calls() > 0))
    }

    /// Bytes over the link by collectives and sends, both ways together.
    pub(crate) fn bytes_over_link(&self) -> u64 {
        let sent = self.sent_load().both_bytes;
        self.load.both_bytes.saturating_add(sent)
    }

    /// What sends carried.
    pub(crate) fn sent_load(&self) -> Load {
        load_of(self.sent)
    }

    /// The line, without a prefix; `of_kind` says how many communicators there are of its kind so far, and
    /// what their names have in common.
    pub(crate) fn line(&self, of_kind: Option<(u64, &str)>) -> String {
        let Who {
            id,
            name,
            ranks,
            hosts,
            ..
        } = self.who;
        let mut parts = self.ways();
        if self.moment != Moment::Crossing {
            parts.extend(self.collectives());
        }
        parts.extend(self.sends());
        if self.moment == Moment::Summary {
            parts.extend(by_size(&self.sizes));
        }
        parts.extend(self.others());
        parts.extend(self.limit());
        let label = match name {
            Some(name) => format!("communicator \"{name}\" {id:#x}"),
            None => format!("communicator {id:#x}"),
        };
        let (ranks, hosts) = (count(*ranks, "rank"), count(*hosts, "host"));
        let parts = parts.join("; ");
        match of_kind {
            Some((of_kind @ 2.., pattern)) => format!(
                "{label} ({ranks}, {hosts}), the first of {of_kind} \"{pattern}\" so far: {parts}"
            ),
            Some(_) | None => format!("{label} ({ranks}, {hosts}): {parts}"),
        }
    }

    /// The line at the end about all communicators of its kind; none where nothing is worth one.
    pub(crate) fn line_of_kind(
        &self,
        (communicators, pattern): (u64, &str),
        all: &KindReport,
        (silent, cure): (Option<String>, Option<String>),
    ) -> Option<String> {
        let ring = self.forecast.ring().both;
        let is_unknown = (all.captured > 0 || all.uncounted > 0) && ring > 0;
        if all.load.both_bytes == 0 && all.sent.sends == 0 && !is_unknown {
            return None;
        }
        let mut parts = Vec::new();
        if ring > 0 {
            parts.push(format!(
                "each ring crosses the {} {}{} per channel",
                self.link(),
                self.least(),
                times(ring)
            ));
        }
        if all.load.both_bytes > 0 {
            let each = all.functions.iter();
            let each: Vec<String> = each.map(|(func, sum)| calls_of(*func, *sum)).collect();
            let about = if all.is_exact { "about" } else { "at least" };
            let amount = self.amount(all.load);
            parts.push(format!("{} moved {about} {amount} in all", each.join(", ")));
        }
        parts.extend(self.sends_of(all.sent, all.load.both_bytes));
        parts.extend(by_size(&all.sizes));
        if all.captured > 0 {
            parts.push(captured(all.captured));
        }
        if all.uncounted > 0 {
            parts.push(format!("not counted: {}", count_calls(all.uncounted)));
        }
        parts.extend(self.limit());
        let has_layout = silent.is_some();
        parts.extend(silent);
        if cure.is_some() {
            parts.extend(cure);
        } else if has_layout {
            // So another order of its ranks may cross less.
            parts.push(
                "gpu-numa nccl ranks looks for an order of GPUs in which a layout crosses less"
                    .to_owned(),
            );
        }
        Some(format!(
            "{communicators} communicators \"{pattern}\" ({}, {} each): {}",
            count(self.who.ranks, "rank"),
            count(self.who.hosts, "host"),
            parts.join("; ")
        ))
    }

    /// Which way its ring takes.
    fn ways(&self) -> Vec<String> {
        let mut parts = Vec::new();
        let ring = self.forecast.ring().both;
        if ring > 0 {
            let (hops, are_all) = self.forecast.first_crossing_hops();
            let which = if are_all { "" } else { "channel 0: " };
            let listed: Vec<String> = hops
                .iter()
                .take(4)
                .map(|(from, to)| format!("{from} -> {to}"))
                .collect();
            let more = if hops.len() > 4 { ", ..." } else { "" };
            let list = if listed.is_empty() {
                String::new()
            } else {
                format!(" ({which}{}{more})", listed.join(", "))
            };
            let link = self.link();
            let times = times(ring);
            parts.push(format!(
                "its ring crosses the {link} {}{times} per channel{list}",
                self.least()
            ));
        }
        if self.who.hosts == 1 && self.who.nodes > 1 {
            parts.push(format!(
                "NCCL counts this host as {} because of NICs near GPUs of several sockets; NCCL_NET_DISABLE_INTRA=1 \
                 keeps it whole",
                self.who.nodes
            ));
        }
        parts
    }

    fn limit(&self) -> Option<String> {
        let (crossing, inside) = (self.forecast.crossing_gb_s?, self.forecast.inside_gb_s?);
        (self.forecast.ring().both > 0).then(|| {
            format!("modelled limit {crossing} GB/s against {inside} GB/s inside a socket")
        })
    }

    /// The calls of a function, and their buffers; none where it was not called.
    pub(crate) fn of_function(&self, func: Func) -> Option<FunctionSum> {
        let sums = || self.sums.iter().filter(move |sum| sum.func == func);
        let buffer = |bytes| func.buffer_bytes(bytes, self.who.ranks);
        Some(FunctionSum {
            calls: sums().map(|sum| sum.amount.calls).sum(),
            least: buffer(sums().map(|sum| sum.amount.least).min()?),
            most: buffer(sums().map(|sum| sum.amount.most).max()?),
        })
    }

    fn link(&self) -> &'static str {
        if self.forecast.packages > 2 {
            "socket links"
        } else {
            "socket link"
        }
    }

    /// Before a figure that is a bound.
    fn least(&self) -> &'static str {
        if self.forecast.is_even() {
            ""
        } else {
            "at least "
        }
    }

    /// `40 AllReduce of 512 MiB moved about 35.0 GiB over it each way`.
    fn collectives(&self) -> Option<String> {
        if self.load.both_bytes == 0 {
            return None;
        }
        let each: Vec<String> = Func::ALL
            .into_iter()
            .filter_map(|func| Some(calls_of(func, self.of_function(func)?)))
            .collect();
        let about = if self.is_exact() { "about" } else { "at least" };
        Some(format!(
            "{} moved {about} {}",
            each.join(", "),
            self.amount(self.load)
        ))
    }

    /// `12 sends moved 3.0 GiB over it one way, 1.0 GiB the other`.
    fn sends(&self) -> Option<String> {
        let is_due = self.moment != Moment::Crossing;
        is_due.then(|| self.sends_of(self.sent, self.load.both_bytes))?
    }

    fn sends_of(&self, sent: Sent, collective_bytes: u64) -> Option<String> {
        let (sends, load) = (sent.sends, load_of(sent));
        let noun = if sends == 1 { "send" } else { "sends" };
        (sends > 0).then(|| {
            let amount = self.amount(load);
            let link = if collective_bytes == 0 && self.forecast.ring().both == 0 {
                amount.replacen("over it", &format!("over the {}", self.link()), 1)
            } else {
                amount
            };
            format!("{sends} {noun} between GPUs of different sockets moved {link}")
        })
    }

    fn others(&self) -> Option<String> {
        if self.moment != Moment::Summary {
            return None;
        }
        let captured = (self.captured > 0).then(|| captured(self.captured));
        let calls = self.uncounted_calls();
        let uncounted = (calls > 0).then(|| {
            let each = self.uncounted.iter();
            let each: Vec<String> = each
                .map(|(reason, calls)| format!("{calls} {}", reason.words()))
                .collect();
            format!("not counted: {} ({})", count_calls(calls), each.join(", "))
        });
        let both: Vec<String> = [captured, uncounted].into_iter().flatten().collect();
        (!both.is_empty()).then(|| both.join("; "))
    }

    /// Collectives that are not counted.
    pub(crate) fn uncounted_calls(&self) -> u64 {
        self.uncounted.iter().map(|(_, calls)| calls).sum()
    }

    fn amount(&self, load: Load) -> String {
        let Load {
            up_bytes,
            down_bytes,
            both_bytes,
            ..
        } = load;
        if self.forecast.packages > 2 {
            return format!("{} over them", volume(both_bytes));
        }
        match (up_bytes, down_bytes) {
            (up, down) if both_bytes > up.saturating_add(down) => {
                format!("{} over it", volume(both_bytes))
            }
            (up, down) if volume(up) == volume(down) => {
                format!("{} over it each way", volume(up))
            }
            (one, 0) | (0, one) => format!("{} over it one way", volume(one)),
            (up, down) => format!(
                "{} over it one way and {} the other",
                volume(up.max(down)),
                volume(up.min(down))
            ),
        }
    }
}

fn load_of(sent: Sent) -> Load {
    let Sent {
        up_bytes,
        down_bytes,
        ..
    } = sent;
    Load::of_all(up_bytes, down_bytes, up_bytes.saturating_add(down_bytes))
}

/// `40 AllReduce of 512 MiB`.
fn calls_of(func: Func, sum: FunctionSum) -> String {
    format!(
        "{} {} {}",
        sum.calls,
        func.word(),
        span(sum.least, sum.most)
    )
}

/// `by size: 320 below 64 KiB (12.0 MiB), 40 above that (20.0 GiB)`, each bucket without those before; none where all are of one bucket.
fn by_size(sizes: &[SizeSum]) -> Option<String> {
    let each = sizes.iter().map(|sum| {
        let bytes = volume(sum.bytes);
        match sum.below_bytes {
            Some(below) => format!("{} below {} ({bytes})", sum.calls, size(below)),
            None => format!("{} above that ({bytes})", sum.calls),
        }
    });
    (sizes.len() > 1).then(|| format!("by size: {}", each.collect::<Vec<_>>().join(", ")))
}

fn captured(calls: u64) -> String {
    format!("{calls} recorded into CUDA graphs, whose replays are not counted")
}

fn count_calls(calls: u64) -> String {
    let noun = if calls == 1 { "call" } else { "calls" };
    format!("{calls} {noun}")
}

fn hops_of(forecast: &Forecast, algo: Algo) -> Hops {
    match algo {
        Algo::Ring => forecast.ring(),
        Algo::Tree => forecast.tree(),
    }
}

/// What each hop of a ring carries, for a collective of `bytes` as NCCL gives them.
fn hop_bytes(func: Func, bytes: u64, ranks: usize) -> u64 {
    let ranks = ranks.max(1) as u64;
    match func {
        Func::AllReduce => {
            let twice = u128::from(bytes) * 2 * u128::from(ranks - 1) / u128::from(ranks);
            u64::try_from(twice).unwrap_or(u64::MAX)
        }
        Func::AllGather | Func::ReduceScatter => bytes.saturating_mul(ranks - 1),
        Func::Broadcast | Func::Reduce => bytes,
    }
}

/// A Broadcast does not use the hop into its root, a Reduce not the one out of it.
fn load_rooted(load: &mut Load, who: &Who, forecast: &Forecast, sum: &Sum, counts: &Counts) {
    let into = sum.func == Func::Broadcast;
    let mut rest = sum.amount.bytes;
    for (root, bytes) in counts.by_root(sum.func) {
        let place = who.local.iter().position(|rank| *rank == root);
        load.add(bytes, forecast.rooted_ring(place, into));
        rest = rest.saturating_sub(bytes);
    }
    load.add(rest, forecast.rooted_ring(None, into));
}

#[cfg(test)]
mod tests {
    use super::*;
    use nccl_topo::graph::Reach;
    use nccl_topo::traffic::Members;
    use topology::machine::{Gpu, Machine, Package};
    use topology::pci::{PciAddress, PciDevice};
    use topology::set::{CpuSet, NodeSet};
    use topology::vendor::VENDORS;

    /// Two packages with a GPU each, which only the socket link joins.
    fn forecast() -> Forecast {
        let gpus: [PciAddress; 2] = ["0000:21:00.0", "0000:81:00.0"].map(|at| at.parse().unwrap());
        let mut machine = Machine {
            nvlink_visible: true,
            ..Machine::default()
        };
        for (id, at) in (0..).zip(gpus) {
            let mut gpu = Gpu::of(&PciDevice::new(at, 0x03_0200, VENDORS[0].id, 0x2330));
            gpu.locality.package = Some(id);
            gpu.locality.numa_nodes = Some(NodeSet::single(id));
            machine.gpus.push(gpu);
            machine.packages.push(Package {
                id,
                cpus: CpuSet::single(id),
                numa_nodes: NodeSet::single(id),
            });
        }
        let members = Members {
            denied_p2p: std::collections::BTreeSet::new(),
            gpus: gpus.map(Some).to_vec(),
            others: 0,
            hosts: 1,
            ranks: vec![0, 1],
            reach: Reach::default(),
            nets: Vec::new(),
            rules: None,
            capability: 90,
        };
        Forecast::of(&machine, &members, None)
    }

    fn who() -> Who {
        Who {
            id: 0x1f,
            name: None,
            ranks: 2,
            hosts: 1,
            nodes: 1,
            local: vec![0, 1],
        }
    }

    fn line(moment: Moment, counts: &Counts, sent: Sent) -> Option<String> {
        let (who, forecast) = (who(), forecast());
        let report = LinkReport::new(&who, &forecast, moment, counts, sent);
        report.is_worth_a_line().then(|| report.line(None))
    }

    #[test]
    fn nothing_is_said_before_anything_crossed() {
        assert_eq!(
            line(Moment::Crossing, &Counts::new(2), Sent::default()),
            None
        );
    }

    #[test]
    fn all_of_a_kind_have_one_line_which_names_those_that_do_not_cross() {
        let mut who = who();
        who.name = Some("dp_3".to_owned());
        let forecast = forecast();
        let counts = Counts::new(2);
        let report = LinkReport::new(&who, &forecast, Moment::Summary, &counts, Sent::default());
        let mut all = KindReport {
            load: Load::of_all(1 << 30, 1 << 30, 2 << 30),
            sent: Sent::default(),
            captured: 0,
            uncounted: 2,
            is_exact: false,
            functions: vec![(
                Func::AllReduce,
                FunctionSum {
                    calls: 9,
                    least: 1 << 20,
                    most: 1 << 20,
                },
            )],
            sizes: SizeSum::of_all(&[[4, 4096], [0, 0], [5, 5 << 20]]),
        };
        let silent = Some("communicators \"tp_*\" do not cross".to_owned());
        let line = report
            .line_of_kind((8, "dp_*"), &all, (silent.clone(), None))
            .unwrap();
        let begins =
            "8 communicators \"dp_*\" (2 ranks, 1 host each): each ring crosses the socket link";
        assert!(line.starts_with(begins), "{line}");
        assert!(line.contains("; 9 AllReduce of 1 MiB moved at least 1.0 GiB over it each way in all; by size: 4 below 64 KiB (4.0 KiB), 5 below 16 MiB (5.0 MiB); not counted: 2 calls;"), "{line}");
        assert!(
            line.contains("; communicators \"tp_*\" do not cross; gpu-numa nccl ranks looks for"),
            "{line}"
        );
        let cure = Some("with CUDA_VISIBLE_DEVICES=1,0".to_owned());
        let line = report
            .line_of_kind((8, "dp_*"), &all, (silent, cure))
            .unwrap();
        assert!(
            line.ends_with("communicators \"tp_*\" do not cross; with CUDA_VISIBLE_DEVICES=1,0"),
            "{line}"
        );
        all.load = Load::default();
        all.uncounted = 0;
        assert_eq!(report.line_of_kind((8, "dp_*"), &all, (None, None)), None);
    }

    #[test]
    fn a_ring_of_two_sockets_carries_each_all_reduce_once_each_way() {
        let counts = Counts::new(2);
        for _ in 0..4 {
            counts.add_call();
            counts.add(Func::AllReduce, Algo::Ring, 1 << 30, 0);
        }
        let said = line(Moment::Summary, &counts, Sent::default()).unwrap();
        assert!(
            said.starts_with("communicator 0x1f (2 ranks, 1 host): its ring crosses"),
            "{said}"
        );
        // Of two ranks each sends half of the buffer twice.
        assert!(
            said.contains("4 AllReduce of 1 GiB moved")
                && said.contains("4.0 GiB over it each way"),
            "{said}"
        );
        assert!(!said.contains("not counted"), "{said}");
    }

    #[test]
    fn sends_graphs_and_unknown_ways_are_said_at_the_end() {
        let counts = Counts::new(2);
        counts.add_captured();
        counts.add_uncounted(Uncounted::Nvls);
        let sent = Sent {
            sends: 12,
            up_bytes: 3 << 30,
            down_bytes: 1 << 30,
        };
        let said = line(Moment::Summary, &counts, sent).unwrap();
        for part in [
            "12 sends between GPUs of different sockets moved 3.0 GiB",
            "1.0 GiB the other",
            "1 recorded into CUDA graphs",
            "not counted: 1 call (1 by NVLS)",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn a_broadcast_does_not_use_the_hop_into_its_root() {
        assert_eq!(hop_bytes(Func::Broadcast, 10, 4), 10);
        assert_eq!(hop_bytes(Func::AllReduce, 8, 4), 12);
        assert_eq!(hop_bytes(Func::AllGather, 10, 4), 30);
        let counts = Counts::new(2);
        counts.add(Func::Broadcast, Algo::Ring, 1 << 20, 0);
        let (who, forecast) = (who(), forecast());
        let report = LinkReport::new(&who, &forecast, Moment::Summary, &counts, Sent::default());
        assert_eq!(report.load.both_bytes, 1 << 20);
    }
}
