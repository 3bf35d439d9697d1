//! `NodeName=` lines: which is a host's own, the machine that it declares, and its memory.

use std::collections::BTreeSet;

use crate::config::Line;
use crate::hostlist;
use crate::mig::is_mig_type;
use crate::values::{self, count_of};

/// A host's own line, with the defaults of the `NodeName=DEFAULT` lines before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The line that names the host.
    pub line: Line,
    /// That line with the defaults.
    pub whole: Line,
    /// Its name in the configuration.
    pub name: String,
}

impl Node {
    /// The keys, in lower case, and values that declare sockets, the cores of each and their threads: sockets of a board where the line
    /// says `SocketsPerBoard=`, which goes before `Sockets=`.
    pub fn pairs_of(&self, sockets: usize, cores: usize, threads: usize) -> Vec<(String, String)> {
        let boards = self
            .geometry()
            .boards
            .and_then(|own| usize::try_from(own).ok());
        let boards = boards.filter(|own| *own > 0 && sockets.is_multiple_of(*own));
        let has_boards = self.whole.get("socketsperboard").is_some();
        let (key, sockets) = match boards.unwrap_or(1) {
            boards if has_boards => ("socketsperboard", sockets / boards),
            _ => ("sockets", sockets),
        };
        let pairs = [
            (key, sockets),
            ("corespersocket", cores),
            ("threadspercore", threads),
        ];
        let pairs = pairs.into_iter();
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_string()))
            .collect()
    }
}

/// What a line declares; None where neither it nor a default before it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Geometry {
    /// `Boards=` times `SocketsPerBoard=`, which goes before `Sockets=`.
    pub sockets: Option<u64>,
    /// `Boards=`.
    pub boards: Option<u64>,
    /// `CoresPerSocket=`.
    pub cores_per_socket: Option<u64>,
    /// `ThreadsPerCore=`.
    pub threads_per_core: Option<u64>,
    /// `CPUs=` (`Procs=`).
    pub cpus: Option<u64>,
}

/// The shape that slurmctld holds of a node: what a line declares, with what Slurm makes of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// All CPUs.
    pub cpus: u64,
    /// All sockets.
    pub sockets: u64,
    /// Cores of a socket.
    pub cores_per_socket: u64,
    /// Threads of a core.
    pub threads_per_core: u64,
}

impl Geometry {
    /// What slurmctld makes of it (`_parse_nodename`, common/read_config.c): cores and threads are one
    /// where they are not said, sockets are as many as the CPUs then need, or as there are boards where the CPUs do not come out
    /// even, and CPUs that fit none of these numbers are set to their product.
    pub fn shape(self) -> Shape {
        let at_least_one = |value: Option<u64>| value.unwrap_or(1).max(1);
        let cores_per_socket = at_least_one(self.cores_per_socket);
        let threads_per_core = at_least_one(self.threads_per_core);
        let of_socket = cores_per_socket.saturating_mul(threads_per_core);
        let sockets = match (self.sockets, self.cpus) {
            (Some(sockets), _) => sockets.max(1),
            (None, Some(cpus)) if cpus >= of_socket && cpus.is_multiple_of(of_socket) => {
                cpus / of_socket
            }
            (None, _) => at_least_one(self.boards),
        };
        let cores = sockets.saturating_mul(cores_per_socket);
        let all = cores.saturating_mul(threads_per_core);
        let fits = |cpus: &u64| [sockets, cores, all].contains(cpus);
        Shape {
            cpus: self.cpus.filter(fits).unwrap_or(all),
            sockets,
            cores_per_socket,
            threads_per_core,
        }
    }
}

impl Shape {
    /// Whether it is that of a line that has CPUs= alone, as many as the machine has: slurmd then takes each CPU for a socket, also of
    /// the machine (`_read_config`, slurmd/slurmd.c).
    pub fn is_cpus_alone(self, cpus_of_machine: u64) -> bool {
        self.sockets == cpus_of_machine
            && self.cpus == self.sockets
            && (self.cores_per_socket, self.threads_per_core) == (1, 1)
    }

    /// All cores.
    pub fn cores(self) -> u64 {
        self.sockets.saturating_mul(self.cores_per_socket)
    }

    /// All threads.
    pub fn threads(self) -> u64 {
        self.cores().saturating_mul(self.threads_per_core)
    }
}

impl Node {
    /// Whether `hostname` is one of its kind, as gpu12 is beside gpu20: what the line does not name of these is another node.
    pub fn is_kin_of(&self, hostname: &str) -> bool {
        let stem = |name: &str| {
            let short = name.split('.').next().unwrap_or(name);
            short.trim_end_matches(|c: char| c.is_ascii_digit()).len()
        };
        let is_numbered = stem(hostname) < hostname.split('.').next().unwrap_or(hostname).len();
        is_numbered && hostname.get(..stem(hostname)) == self.name.get(..stem(&self.name))
    }
}

/// The line of the host called `hostname`.  Without a name, the only node line of the file, for the first host that it
/// names.
pub fn find(lines: &[Line], hostname: Option<&str>) -> Option<Node> {
    let Some(full) = hostname else {
        let mut nodes = with_defaults(lines).into_iter();
        let (line, whole) = nodes.next().filter(|_| nodes.next().is_none())?;
        let names = line.get("nodename").unwrap_or_default();
        let name = hostlist::expand(names, 1).pop().unwrap_or_default();
        return Some(Node { name, line, whole });
    };
    let short = full.split('.').next().unwrap_or(full);
    let hosts = |line: &Line| {
        let hosts = line.get("nodehostname").or_else(|| line.get("nodename"));
        hosts.unwrap_or_default().to_owned()
    };
    let mut nodes = with_defaults(lines).into_iter();
    let (line, whole) = nodes.find(|(line, _)| {
        hostlist::contains(&hosts(line), short) || hostlist::contains(&hosts(line), full)
    })?;
    let name = match line.get("nodehostname") {
        None => short.to_owned(),
        // The k-th host is the k-th node (`expand_nodeline_info`, common/node_conf.c).
        Some(hosts) => {
            let hosts = hostlist::expand(hosts, MOST_NAMES);
            let own = hosts
                .iter()
                .position(|host| host == short || host == full)?;
            let names = line.get("nodename").unwrap_or_default();
            hostlist::expand(names, own.saturating_add(1))
                .get(own)?
                .clone()
        }
    };
    Some(Node { name, line, whole })
}

/// The line of the node called `name`, whatever its host is called (`slurmd -N`).
pub fn called(lines: &[Line], name: &str) -> Option<Node> {
    let is_it = |line: &Line| hostlist::contains(line.get("nodename").unwrap_or_default(), name);
    let mut nodes = with_defaults(lines).into_iter();
    let (line, whole) = nodes.find(|(line, _)| is_it(line))?;
    Some(Node {
        name: name.to_owned(),
        line,
        whole,
    })
}

/// The most node names that are compared with each other.
pub(crate) const MOST_NAMES: usize = 100_000;

/// Names of lists, no more in all than any cluster has ([`MOST_NAMES`]).
pub(crate) struct NamesLeft(usize);

impl NamesLeft {
    pub(crate) fn all() -> Self {
        Self(MOST_NAMES)
    }

    /// The names of a list; none from the one on that has more than are left.
    pub(crate) fn of(&mut self, list: &str) -> Option<Vec<String>> {
        let names = hostlist::expand(list, self.0);
        self.0 -= names.len();
        (self.0 > 0).then_some(names)
    }
}

/// The first node that two lines name, and the second of them: slurmctld and slurmd stop at it (`_check_callback`,
/// common/node_conf.c; "Duplicated NodeHostName").
pub fn named_twice(lines: &[Line]) -> Option<(String, &Line)> {
    let mut seen = BTreeSet::new();
    for line in lines {
        let names = line.get("nodename").unwrap_or_default();
        // Of a line that names none or stands for all, nothing is compared.
        if names.eq_ignore_ascii_case("DEFAULT") || seen.len() >= MOST_NAMES {
            continue;
        }
        for name in hostlist::expand(names, MOST_NAMES) {
            if !seen.insert(name.clone()) {
                return Some((name, line));
            }
        }
    }
    None
}

/// Keys of `NodeName=DEFAULT` that are kept; no release of Slurm has half as many.
const MOST_DEFAULTS: usize = 128;

/// The lines that name hosts, each also with the defaults before it.
pub(crate) fn with_defaults(lines: &[Line]) -> Vec<(Line, Line)> {
    let mut defaults: Vec<(String, String)> = Vec::new();
    let mut nodes = Vec::new();
    for line in lines {
        let Some(names) = line.get("nodename") else {
            continue;
        };
        if names.eq_ignore_ascii_case("DEFAULT") {
            let own = line.pairs.iter().filter(|(key, _)| key != "nodename");
            for (key, value) in own {
                // The last of a key counts, and each line below gets them all.
                let known = defaults.iter().position(|(known, _)| known == key);
                if let Some((_, old)) = known.and_then(|at| defaults.get_mut(at)) {
                    old.clone_from(value);
                } else if defaults.len() < MOST_DEFAULTS {
                    defaults.push((key.clone(), value.clone()));
                }
            }
            continue;
        }
        let mut whole = line.clone();
        whole.pairs = defaults.iter().chain(&line.pairs).cloned().collect();
        nodes.push((line.clone(), whole));
    }
    nodes
}

/// The state that [`dynamic`] gives a node.
const DYNAMIC: &str = "DYNAMIC";

/// The node called `name` that registers itself with the words of `conf`, those of `slurmd -Z --conf`; `place` is where they were
/// read.
pub fn dynamic(name: &str, conf: &str, place: &str) -> Option<Node> {
    let text = format!("NodeName={name} State={DYNAMIC} {conf}");
    let lines = crate::config::of_text(&text, place);
    find(&lines, Some(name))
}

impl Node {
    /// What it declares.
    pub fn geometry(&self) -> Geometry {
        let number = |key: &str| self.whole.get(key).and_then(values::number);
        let boards = number("boards");
        let of_boards = number("socketsperboard").map(|sockets| {
            let boards = boards.unwrap_or(1).max(1);
            sockets.max(1).saturating_mul(boards)
        });
        Geometry {
            sockets: of_boards.or_else(|| number("sockets")),
            boards,
            cores_per_socket: number("corespersocket"),
            threads_per_core: number("threadspercore"),
            cpus: number("cpus").or_else(|| number("procs")),
        }
    }

    /// `RealMemory=`, in MiB; None where it is missing or no number.
    pub fn real_memory_mib(&self) -> Option<u64> {
        self.whole.get("realmemory").and_then(values::number)
    }

    /// `TmpDisk=`, in MiB; None where it is missing, zero or no number.
    pub fn tmp_disk_mib(&self) -> Option<u64> {
        let given = self.whole.get("tmpdisk").and_then(values::number);
        given.filter(|given| *given > 0)
    }

    /// `RestrictedCoresPerGPU=`, cores that are kept for jobs with GPUs; None where there are none.
    pub fn restricted_cores_per_gpu(&self) -> Option<u64> {
        let value = self.whole.get("restrictedcorespergpu")?;
        values::number(value).filter(|cores| *cores > 0)
    }

    /// `CoreSpecCount=`, cores that are kept from jobs; None where it is missing or no number.  As many as the line has are set to one
    /// (`_parse_nodename`, common/read_config.c).
    pub fn core_spec_count(&self) -> Option<u64> {
        let count = self.whole.get("corespeccount").and_then(values::number)?;
        let cores = self.geometry().shape().cores();
        Some(if count >= cores { 1 } else { count })
    }

    /// `MemSpecLimit=`, in MiB; None where it is missing, zero or no number.
    pub fn mem_spec_limit_mib(&self) -> Option<u64> {
        let given = self.whole.get("memspeclimit").and_then(values::number);
        given.filter(|given| *given > 0)
    }

    /// Whether it is started when it is needed (`State=CLOUD`): slurmctld then reads gres.conf for it and refuses AutoDetect there
    /// (`_gres_reconfig`, slurmctld/read_config.c; `gres_g_node_config_load`).
    pub fn is_cloud(&self) -> bool {
        let state = self.whole.get("state");
        state.is_some_and(|state| state.eq_ignore_ascii_case("CLOUD"))
    }

    /// Whether the node registers itself (`slurmd -Z`), with no line in slurm.conf.  slurmctld then reads no gres.conf for it
    /// (`create_dynamic_reg_node`, slurmctld/node_mgr.c), so that AutoDetect is as good there as elsewhere.
    pub fn is_dynamic(&self) -> bool {
        self.whole.get("state") == Some(DYNAMIC)
    }

    /// The words of a node that registers itself, as a NodeName line.
    pub fn words(&self) -> Line {
        let mut line = self.line.clone();
        let spelled = std::mem::take(&mut line.spelled).into_iter();
        let pairs = std::mem::take(&mut line.pairs).into_iter().zip(spelled);
        let is_ours = |key: &str, value: &str| key == "state" && value == DYNAMIC;
        (line.pairs, line.spelled) = pairs
            .filter(|((key, value), _)| !is_ours(key, value))
            .unzip();
        line
    }

    /// Whether slurmd puts the machine's own CPUs, sockets, cores and threads into the line of a node that registers itself, because
    /// that names none of them (`_dynamic_init`, slurmd/slurmd.c).
    pub fn takes_machines_shape(&self) -> bool {
        const KEYS: [&str; 5] = [
            "cpus",
            "boards",
            "socketsperboard",
            "corespersocket",
            "threadspercore",
        ];
        self.is_dynamic() && KEYS.iter().all(|key| self.whole.get(key).is_none())
    }

    /// How many of GRES `name` `Gres=` declares: the sum over items, whatever types they have; None where it has none.
    pub fn gres_count(&self, name: &str) -> Option<u64> {
        let items = self.gres_by_item(name).into_iter();
        let counts = items.map(|(_, count)| count);
        counts.reduce(u64::saturating_add)
    }

    /// Whether an item of GRES `name` (in lower case) in `Gres=` has the type of a MIG profile, so that their number is
    /// not the number of cards.
    pub fn counts_mig(&self, name: &str) -> bool {
        let mut types = self.gres(name).into_iter().filter_map(|(kind, _)| kind);
        types.any(|kind| is_mig_type(&kind))
    }

    /// The items of `Gres=`, as they are written.
    pub fn gres_items(&self) -> Vec<String> {
        let gres = self.whole.get("gres").unwrap_or_default();
        let items = split_gres(gres).into_iter().map(str::trim);
        items
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// The types of GRES `name` in `Gres=`, None where an item names none, and how many of each: items of one type add up
    /// (`gres_add_type`, interfaces/gres.c).
    pub fn gres(&self, name: &str) -> Vec<(Option<String>, u64)> {
        let mut all: Vec<(Option<String>, u64)> = Vec::new();
        for (types, count) in self.gres_by_item(name) {
            let untyped = types.is_empty().then_some(None);
            for kind in types.into_iter().map(Some).chain(untyped) {
                match all.iter_mut().find(|(own, _)| *own == kind) {
                    Some((_, sum)) => *sum = sum.saturating_add(count),
                    None => all.push((kind, count)),
                }
            }
        }
        all
    }

    /// The items of GRES `name` in `Gres=`: their types, and how many.
    ///
    /// As Slurm reads them (`_get_gres_cnt`, interfaces/gres.c): names in this very case; the last part is the number where it begins
    /// with a digit, else there is one; every other part is a type that there are as many of; and behind the bare name, or a number
    /// with something else in it, nothing is read.
    fn gres_by_item(&self, name: &str) -> Vec<(Vec<String>, u64)> {
        let gres = self.whole.get("gres").unwrap_or_default();
        let mut found = Vec::new();
        for item in split_gres(gres) {
            // Sockets and the like stand in brackets behind.
            let item = item.split('(').next().unwrap_or_default();
            let Some((own, rest)) = item.split_once(':') else {
                if item == name {
                    return vec![(Vec::new(), 1)];
                }
                continue;
            };
            if own != name {
                continue;
            }
            let (before, last) = rest.rsplit_once(':').unwrap_or(("", rest));
            let (types, count) = if last.starts_with(|c: char| c.is_ascii_digit()) {
                let Some(count) = count_of(last) else { break };
                (before, count)
            } else {
                (rest, 1)
            };
            let types = types.split(':').filter(|own| !own.is_empty());
            let types = types.filter(|own| !own.eq_ignore_ascii_case("no_consume"));
            found.push((types.map(str::to_owned).collect(), count));
        }
        found
    }
}

/// The memory in MiB that slurmd reports and `RealMemory=` must not exceed: the host's physical pages
/// (`sysconf(_SC_PHYS_PAGES)`, slurmd/get_mach_stat.c), which is the MemTotal of a `/proc/meminfo`.
///
/// The sum of the NUMA nodes' memory is another number: memory plugged in later may be in one and not in the other.
pub fn real_memory_mib(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let total = lines.find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib = total.trim().strip_suffix("kB")?.trim().parse::<u64>();
    kib.ok().map(as_slurmd_rounds)
}

/// What to write for `RealMemory=`, in MiB, on a host of which slurmd reports `there`: less by a 256th part, at least 256 MiB.
///
/// slurmctld drains a node that reports one MiB less than its line says, and what the kernel keeps to itself before it counts MemTotal
/// changes with its version, its command line (`crashkernel=`) and the firmware.  A host of less than 4 GiB gives up a 16th part.
pub fn real_memory_to_write(there: u64) -> u64 {
    there - (there / 256).max(256).min(there / 16)
}

/// MiB of KiB as slurmd counts them: through a `float`, so that a host of terabytes may get one more than it has.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the loss is slurmd's own, and is copied"
)]
fn as_slurmd_rounds(kib: u64) -> u64 {
    (f64::from(kib as f32) / 1024.0) as u64
}

/// Splits at commas outside round brackets.
fn split_gres(value: &str) -> Vec<&str> {
    let mut depth = 0u32;
    value
        .split(|c: char| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::of_text;

    #[test]
    fn counts_beyond_counting_are_very_many() {
        let text = format!("NodeName=n1 Gres=gpu:{},gpu:2", u64::MAX);
        let node = find(&lines(&text), None).unwrap();
        assert_eq!(node.gres_count("gpu"), Some(u64::MAX));
        assert_eq!(node.gres_count("nic"), None);
    }

    fn lines(text: &str) -> Vec<Line> {
        of_text(text, "slurm.conf")
    }

    const CONF: &str = "NodeName=DEFAULT ThreadsPerCore=2 Sockets=1\nnodename=gpu[01-04] \
                        Sockets=2 CoresPerSocket=32 Gres=gpu:h100:4(S:0-1),gpu:a30:2,nic:2\n\
                        NodeName=login NodeHostname=head\n";

    #[test]
    fn the_hosts_own_line_counts_with_the_defaults_before_it() {
        let node = find(&lines(CONF), Some("gpu03.cluster")).unwrap();
        assert_eq!((node.name.as_str(), node.line.number), ("gpu03", 2));
        let geometry = node.geometry();
        assert_eq!(
            (geometry.sockets, geometry.cores_per_socket),
            (Some(2), Some(32))
        );
        assert_eq!(geometry.threads_per_core, Some(2));
        assert_eq!(
            (node.gres_count("gpu"), node.gres_count("fpga")),
            (Some(6), None)
        );
        assert!(!node.counts_mig("gpu"));
        let mig = find(&lines("NodeName=n1 Gres=gpu:a100:1,gpu:1g.10gb:7"), None).unwrap();
        assert!(mig.counts_mig("gpu") && !mig.counts_mig("nic"));
        assert_eq!(find(&lines(CONF), Some("head")).unwrap().name, "login");
        assert_eq!(find(&lines(CONF), Some("other")), None);
    }

    #[test]
    fn real_memory_is_the_kernels_total_in_whole_mib() {
        let text = "MemTotal:       131980288 kB\nMemFree:        4549632 kB\n";
        assert_eq!(real_memory_mib(text), Some(128_887));
        assert_eq!(real_memory_mib("MemTotal: 1023 kB"), Some(0));
        assert_eq!(real_memory_mib("MemFree: 1024 kB"), None);
    }

    #[test]
    fn the_written_memory_leaves_room_for_the_next_kernel() {
        for (there, written) in [
            (0, 0),
            (1024, 960),
            (64_000, 63_744),
            (128_000, 127_500),
            (2_063_424, 2_055_364),
        ] {
            assert_eq!(real_memory_to_write(there), written);
        }
    }

    #[test]
    fn real_memory_of_terabytes_is_rounded_as_slurmd_rounds_it() {
        // 2 TiB and almost one MiB more: a float has steps of 256 KiB there.
        let total = (2_u64 << 30) + 1000;
        let text = format!("MemTotal: {total} kB");
        assert_eq!(real_memory_mib(&text), Some(2_097_153));
    }

    #[test]
    fn slurmctld_fills_in_what_a_line_does_not_say() {
        for (words, shape) in [
            ("CPUs=192", (192, 192, 1, 1)),
            ("CPUs=64 CoresPerSocket=16 ThreadsPerCore=2", (64, 2, 16, 2)),
            (
                "Sockets=2 CoresPerSocket=16 ThreadsPerCore=2",
                (64, 2, 16, 2),
            ),
            (
                "CPUs=32 Sockets=2 CoresPerSocket=16 ThreadsPerCore=2",
                (32, 2, 16, 2),
            ),
            ("CPUs=7 Sockets=2 CoresPerSocket=16", (32, 2, 16, 1)),
            ("Boards=2 SocketsPerBoard=2 CoresPerSocket=4", (16, 4, 4, 1)),
            ("Sockets=8 SocketsPerBoard=2 CoresPerSocket=4", (8, 2, 4, 1)),
            ("Boards=2 CoresPerSocket=4", (8, 2, 4, 1)),
            ("CPUs=10 CoresPerSocket=4", (4, 1, 4, 1)),
            ("CPUs=10 Boards=2 CoresPerSocket=4", (8, 2, 4, 1)),
            ("Boards=0 SocketsPerBoard=0 CoresPerSocket=4", (4, 1, 4, 1)),
            ("Gres=gpu:1", (1, 1, 1, 1)),
        ] {
            let text = format!("NodeName=n1 {words}");
            let shape_of = find(&lines(&text), None).unwrap().geometry().shape();
            let got = (
                shape_of.cpus,
                shape_of.sockets,
                shape_of.cores_per_socket,
                shape_of.threads_per_core,
            );
            assert_eq!(got, shape, "{words}");
        }
    }

    /// As a real slurmd counted them (`make test-gres`, rows `a-number-for-a-type`, `a-colon-at-the-end` and their neighbours).
    #[test]
    fn items_of_gres_are_read_as_slurm_reads_them() {
        for (value, expected) in [
            ("gpu", &[(None, 1)][..]),
            ("gpu:4", &[(None, 4)]),
            ("gpu:", &[(None, 1)]),
            ("gpu::4", &[(None, 4)]),
            ("gpu:4:", &[(Some("4"), 1)]),
            ("gpu:8:4", &[(Some("8"), 4)]),
            ("gpu:l40s", &[(Some("l40s"), 1)]),
            ("gpu:4:l40s", &[(Some("4"), 1), (Some("l40s"), 1)]),
            ("gpu:1K", &[(None, 1024)]),
            ("gpu:4x,gpu:2", &[]),
            ("gpu,gpu:a:2", &[(None, 1)]),
            ("GPU:4", &[]),
            (
                "nic:1,gpu:a:no_consume:2(S:0,1),gpu:b:1",
                &[(Some("a"), 2), (Some("b"), 1)],
            ),
            (
                "gpu:a:2,gpu:b:1,gpu:a:2,gpu:A:1",
                &[(Some("a"), 4), (Some("b"), 1), (Some("A"), 1)],
            ),
            ("gpu:1,gpu:2", &[(None, 3)]),
        ] {
            let text = format!("NodeName=n1 Gres={value}");
            let node = find(&lines(&text), None).unwrap();
            let found = node.gres("gpu");
            let found: Vec<(Option<&str>, u64)> = found
                .iter()
                .map(|(kind, count)| (kind.as_deref(), *count))
                .collect();
            assert_eq!(found, expected, "{value}");
        }
        let node = find(&lines("NodeName=n1 Gres=gpu:4:l40s,gpu:2"), None).unwrap();
        assert_eq!(node.gres_count("gpu"), Some(3));
    }

    #[test]
    fn a_node_that_two_lines_name_is_found() {
        for (text, expected) in [
            (
                "NodeName=DEFAULT CPUs=2\nNodeName=DEFAULT CPUs=3\nNodeName=n[1-3]\n",
                None,
            ),
            (
                "NodeName=n[1-3]\nNodeName=n[4-5],n2 CPUs=2\n",
                Some(("n2", 2)),
            ),
            ("NodeName=n1,n1\n", Some(("n1", 1))),
            ("NodeName=n1\nNodeName=n01\n", None),
        ] {
            let lines = lines(text);
            let got = named_twice(&lines).map(|(name, line)| (name, line.number));
            let expected = expected.map(|(name, line): (&str, usize)| (name.to_owned(), line));
            assert_eq!(got, expected, "{text}");
        }
    }

    #[test]
    fn of_an_unknown_host_the_only_line_is_taken() {
        assert_eq!(find(&lines(CONF), None), None);
        assert!(find(&lines("NodeName=n1 CPUs=4\n"), None).is_some());
        let first = find(&lines("NodeName=n[1-2] CPUs=4\n"), None).unwrap();
        assert_eq!(first.name, "n1");
    }
}
