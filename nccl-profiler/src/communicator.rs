//! A communicator, from its rank's `init` to its `finalize`.
//!
//! Which GPUs the ranks of this host hold is known once all have written (NCCL passes a barrier between the
//! plugin's `init` and the first collective: init.cc `initTransportsRank`, 2.30).  Until then everything is
//! counted; then the communicator falls silent where nothing crosses, and the lowest rank speaks elsewhere.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, c_int};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use ffi::linux::process::coarse_millis;
use ffi::loaded::cuda::read_current_device;
use ffi::loaded::nvml::{read_denied_p2p, read_nvlinks};
use ffi::nccl::{
    ApiCall, Collective, Event, NcclLog, Peer as PeerEvent, SpecialWay, is_rccl_loaded, sys,
};
use launch::shared::duty::{Duty, Role};
use launch::shared::listening::Listening;
use launch::shared::peers::{FOLDER, Peers, RankOnHost};
use launch::shared::totals::{self, Totals};
use nccl_topo::graph::Reach;
use nccl_topo::model::COMPUTE_CAPABILITY;
use nccl_topo::rules::NEWEST;
use nccl_topo::traffic::{Crossing, Forecast, Members, Unknown, crossing};
use once_cell::sync::OnceCell;
use topology::machine::Machine;
use topology::nvlink::{Links, SOME_SWITCH, add_link, set_nvlinks};
use topology::path::crosses_socket;
use topology::pci::PciAddress;

use crate::counts::{Algo, Counts, Func, Uncounted, element_bytes};
use crate::journal::Journal;
use crate::kinds::{self, Membership};
use crate::release::Release;
use crate::report::{LinkReport, Moment, Who};
use crate::{cure, env, host, network};

/// How long everything is counted while peers have not written, in milliseconds.
const PATIENCE_MILLIS: u64 = 1_000;
/// Between two lines of a communicator, in milliseconds.
const MINUTE_MILLIS: u64 = 60_000;
/// The clock is looked at again after so many events of a communicator where they come faster than these milliseconds.
const EVENTS_A_LOOK: u32 = 16;
const LOOK_MILLIS: u64 = 1_000;

/// Sets of ranks whose forecast is kept.
const MOST_FORECASTS: usize = 64;

/// The communicators of this process that want events.
static LISTENING: Listening = Listening::over(AtomicU64::new(0), AtomicU64::new(0));

/// NCCL's mask of events, kept as long as a communicator.
pub(crate) type Mask = &'static AtomicI32;

/// Writes the events that this process wants where NCCL reads them.
pub(crate) fn set_event_mask(mask: &AtomicI32) {
    LISTENING.write(mask);
}

/// What NCCL says when a communicator begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    /// Its id.
    pub(crate) id: u64,
    /// What its maker calls it; none where it has no name.
    pub(crate) name: Option<&'a CStr>,
    /// Its hosts.
    pub(crate) hosts: c_int,
    /// Its ranks.
    pub(crate) ranks: c_int,
    /// This process's rank.
    pub(crate) rank: c_int,
    /// NCCL's logger.
    pub(crate) log: NcclLog,
    /// The events that this version of the interface has and we want.
    pub(crate) wanted: u64,
    /// The number of the interface.
    pub(crate) interface: u8,
    /// NCCL's mask of events.
    pub(crate) mask: Option<Mask>,
}

/// A communicator in one rank.
#[derive(Debug)]
pub(crate) struct Communicator {
    id: u64,
    name: Option<String>,
    ranks: usize,
    hosts: usize,
    rank: usize,
    log: NcclLog,
    mask: Option<Mask>,
    release: Release,
    settings: ProcessSettings,
    /// Whether a call and what NCCL makes of it are two events (v5 and later).
    has_calls: bool,
    process: u32,
    machine: &'static Machine,
    peers: Peers,
    own: RankOnHost,
    duty: Duty,
    began_millis: u64,
    /// When the next line may be said; 0 before the first.
    next_millis: AtomicU64,
    looks: Looks,
    counts: Counts,
    /// The ranks that only the socket link leads to, with whether it leads to a package of a higher number.
    far: OnceCell<Vec<(usize, bool)>>,
    /// Of the speaker.
    subject: OnceCell<Subject>,
}

/// When the clock is looked at, which costs as much as to count an event: for each one where they are rare, else for one of
/// some.  Threads that look at once may look once too often or too seldom.
#[derive(Debug, Default)]
struct Looks {
    /// Events until the next look.
    left: AtomicU32,
    last_millis: AtomicU64,
}

impl Looks {
    /// The time, where an event is to look at it.
    fn take(&self) -> Option<u64> {
        let left = self.left.load(Ordering::Relaxed);
        if left > 0 {
            self.left.store(left - 1, Ordering::Relaxed);
            return None;
        }
        let now = coarse_millis();
        let last = self.last_millis.load(Ordering::Relaxed);
        self.last_millis.store(now, Ordering::Relaxed);
        let is_fast = now.saturating_sub(last) < LOOK_MILLIS;
        let next = if is_fast { EVENTS_A_LOOK - 1 } else { 0 };
        self.left.store(next, Ordering::Relaxed);
        Some(now)
    }
}

/// What the environment says, read when a communicator begins: later another thread may be changing it.
#[derive(Debug)]
struct ProcessSettings {
    journal: Journal,
    /// Where Slurm's plugin wants to hear what the step moved; none where it does not.
    totals: Option<PathBuf>,
    topology_file: Option<PathBuf>,
    reach: Reach,
    /// Whether NCCL heeds what NVML says of P2P.
    minds_denied_p2p: bool,
}

impl ProcessSettings {
    fn read() -> Self {
        Self {
            journal: Journal::read(),
            totals: std::env::var_os(totals::VARIABLE).map(PathBuf::from),
            topology_file: env::topology_path(),
            reach: network::reach(),
            minds_denied_p2p: network::minds_denied_p2p(),
        }
    }
}

/// Why nothing is said, or no more than lower bounds, each once in a process.
#[derive(Debug, Clone, Copy)]
enum Silence {
    OnePackage,
    Never,
    OverNetwork,
    UnknownPlace,
    UnknownNetwork,
    TooNew,
    SharedGpu,
}

impl Silence {
    /// Whether it was not said before.
    fn is_first(self) -> bool {
        static SAID: AtomicU32 = AtomicU32::new(0);
        let bit = 1 << self as u32;
        SAID.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}

/// What the speaker reports on.
#[derive(Debug)]
struct Subject {
    who: Who,
    forecast: Forecast,
    /// Whether its collectives cross.
    crosses: bool,
    /// The sums of its step, and how many bytes of this communicator are in them.
    totals: Option<(Totals, AtomicU64)>,
    /// Those of its kind; none where it has no name, or crosses nothing by itself.
    kind: Option<Membership>,
    /// Whether it is the one of its kind that says lines before the end.
    speaks_for_kind: AtomicBool,
}

impl Subject {
    /// What is said: of all communicators of its kind by the first of them and, at the end, by the last.
    fn line(
        &self,
        report: &LinkReport<'_>,
        cure: impl FnOnce(&str) -> Option<String>,
    ) -> Option<String> {
        let is_worth_a_line = report.is_worth_a_line();
        let Some(kind) = &self.kind else {
            return is_worth_a_line.then(|| report.line(None));
        };
        let pattern = kinds::pattern(self.who.name.as_deref().unwrap_or_default());
        match report.moment {
            Moment::Crossing => {
                let speaks = is_worth_a_line && kind.claim();
                self.speaks_for_kind.store(speaks, Ordering::Relaxed);
                speaks.then(|| report.line(Some((kind.count(), &pattern))))
            }
            Moment::Progress => {
                let speaks = is_worth_a_line && self.speaks_for_kind.load(Ordering::Relaxed);
                speaks.then(|| report.line(Some((kind.count(), &pattern))))
            }
            Moment::Summary => match kind.end(report)? {
                (1, _) => is_worth_a_line.then(|| report.line(None)),
                (count, all) => {
                    // Nothing waits for this one: a communicator ends when its ranks have no more to do.
                    let others = (kinds::silent_line(), cure(&pattern));
                    report.line_of_kind((count, &pattern), &all, others)
                }
            },
        }
    }

    /// Adds to the step's sums what was moved since the last time.
    fn add_to_step(&self, report: &LinkReport<'_>) {
        if let Some((totals, told)) = &self.totals {
            let bytes = report.bytes_over_link();
            let before = told.fetch_max(bytes, Ordering::Relaxed);
            totals.moved(bytes.saturating_sub(before), !report.is_all());
        }
    }
}

impl Communicator {
    /// Begins; none where nothing can cross, or nothing can be known.
    pub(crate) fn begin(start: &Start<'_>) -> Option<Box<Self>> {
        let number = |value: c_int| usize::try_from(value).ok();
        let (ranks, rank) = (number(start.ranks)?, number(start.rank)?);
        let hosts = number(start.hosts)?.max(1);
        // RCCL calls the same interfaces, and its rings are not those that are worked out here.
        if ranks < 2 || is_rccl_loaded() {
            return None;
        }
        let machine = host::machine()?;
        if is_one_package(machine) {
            if Silence::OnePackage.is_first() {
                start
                    .log
                    .info("gpu-numa: nothing to report: all GPUs of this host are on one socket");
            }
            return None;
        }
        let device = read_current_device()?;
        let own = RankOnHost {
            rank,
            gpu: device.pci.parse().ok(),
            capability: device.capability,
            links: read_links(machine, &device.pci),
        };
        let joined = Peers::join(
            Path::new(FOLDER),
            host::boot_number(),
            start.id,
            ranks,
            &own,
        );
        let peers = match joined {
            Ok(peers) => peers,
            Err(error) => {
                start.log.info(&format!(
                    "gpu-numa: communicator {:#x}: {error}; socket crossings are not watched",
                    start.id
                ));
                return None;
            }
        };
        LISTENING.begin(start.wanted);
        let communicator = Box::new(Self {
            id: start.id,
            name: start.name.and_then(kinds::printable),
            ranks,
            hosts,
            rank,
            log: start.log,
            mask: start.mask,
            release: Release::read(start.log, start.interface),
            settings: ProcessSettings::read(),
            has_calls: start.wanted & sys::COLL_API != 0,
            process: std::process::id(),
            machine,
            peers,
            own,
            duty: Duty::new(),
            began_millis: coarse_millis(),
            next_millis: AtomicU64::new(0),
            looks: Looks::default(),
            counts: Counts::new(ranks),
            far: OnceCell::new(),
            subject: OnceCell::new(),
        });
        if communicator.peers.count() >= ranks {
            // The last of a host that has them all: it works out the way here, and not inside a collective, which the
            // others cannot begin before NCCL's barrier.
            communicator.decide();
        }
        Some(communicator)
    }

    /// Whether events are looked at.
    pub(crate) fn listens(&self) -> bool {
        self.duty.listens()
    }

    /// Looks at nothing from here on, and holds nothing that it shared; where no other communicator listens, NCCL need
    /// not tell anything any more.
    pub(crate) fn silence(&self) {
        let ours = LISTENING.wanted();
        if self.duty.silence() {
            LISTENING.end();
            // From 2.31.2 on an administrator may have put another there (`ncclProfilerSetRasOverride`): that stays.
            if let Some(mask) = self.mask
                && mask.load(Ordering::Relaxed) == ours
            {
                set_event_mask(mask);
            }
            self.peers.close();
            self.peers.give_back();
        }
    }

    fn is(&self, role: Role) -> bool {
        self.duty.is(role)
    }

    /// Whether nothing else of an event of this kind need be read: a member counts its own sends alone.
    #[inline]
    pub(crate) fn passes_over(&self, kind: u64) -> bool {
        matches!(kind, sys::COLL | sys::CE_COLL) && self.is(Role::Member)
    }

    /// Takes one event.
    pub(crate) fn on_event(&self, event: &Event<'_>) {
        let mut role = self.duty.role();
        if role == Role::Undecided && self.may_decide() {
            self.decide();
            role = self.duty.role();
        }
        let counts_all = matches!(role, Role::Undecided | Role::Speaker);
        let counted = match event {
            Event::Collective(collective) if counts_all => self.on_collective(collective),
            Event::Call(call) if counts_all => self.on_call(call),
            Event::Peer(peer) if role != Role::Silent => return self.on_peer(peer),
            Event::Special(special) if counts_all => {
                // A captured one was counted with its call.
                if !special.captured {
                    self.counts.add_uncounted(match special.way {
                        SpecialWay::CopyEngines => Uncounted::CopyEngines,
                        SpecialWay::SymmetricMemory => Uncounted::SymmetricMemory,
                    });
                }
                false
            }
            Event::Collective(_)
            | Event::Call(_)
            | Event::Special(_)
            | Event::Peer(_)
            | Event::PeerCall { .. }
            | Event::Other => false,
        };
        if counted && self.subject.get().is_some_and(|subject| subject.crosses) {
            self.speak_in_time();
        }
    }

    /// Counts a collective whose way the event says; false where it does not.
    fn on_collective(&self, collective: &Collective<'_>) -> bool {
        if collective.captured {
            // It was counted with its call.
            return false;
        }
        let Some(func) = Func::of(collective.func) else {
            self.counts.add_uncounted(Uncounted::Other);
            return false;
        };
        if func == Func::Broadcast && self.has_calls {
            // So was every Broadcast: since 2.29.2 NCCL plans most of them without an event of their own (enqueue.cc
            // `collTaskAppend`).
            return false;
        }
        let algo = match Algo::of(collective.algo) {
            Ok(algo) => algo,
            Err(reason) => {
                self.counts.add_uncounted(reason);
                return false;
            }
        };
        let Some(size) = element_bytes(collective.datatype) else {
            self.counts.add_uncounted(Uncounted::Other);
            return false;
        };
        let bytes = size.saturating_mul(collective.count as u64);
        self.counts
            .add(func, algo, bytes, number_of(collective.root));
        true
    }

    /// Counts a call, and a Broadcast with it; false where another event says what it becomes.
    fn on_call(&self, call: &ApiCall<'_>) -> bool {
        if call.captured {
            self.counts.add_captured();
            return true;
        }
        // Of every function: one that is made of sends is called as a collective only where copy engines carry it
        // (enqueue.cc `ceCollTaskAppend`).
        self.counts.add_call();
        let Some(func) = Func::of(call.func).filter(|func| *func == Func::Broadcast) else {
            return false;
        };
        let size = element_bytes(call.datatype);
        if let Some(size) = size {
            // NCCL has no other way for it than a ring.
            let bytes = size.saturating_mul(call.count as u64);
            self.counts
                .add(func, Algo::Ring, bytes, number_of(call.root));
        }
        size.is_some()
    }

    fn on_peer(&self, peer: &PeerEvent<'_>) {
        let Some(size) = element_bytes(peer.datatype).filter(|_| peer.func.is(b"Send")) else {
            return;
        };
        let rank = number_of(peer.peer);
        let upward = |far: &[(usize, bool)]| {
            let found = far.iter().find(|(other, _)| *other == rank);
            found.map(|(_, upward)| *upward)
        };
        let upward = match self.far.get() {
            Some(far) => upward(far),
            None => {
                let peers = self.peers.read();
                upward(&self.far_ranks(&with_links(self.machine, &peers), &peers))
            }
        };
        if let Some(upward) = upward {
            if peer.captured {
                self.counts.add_captured();
            } else {
                let bytes = size.saturating_mul(peer.count as u64);
                self.peers.count_send(bytes, upward);
            }
            if self.is(Role::Speaker) {
                self.speak_in_time();
            }
        }
    }

    /// Whether all peers that will write have written.  Of several hosts it is not known how many are here, so NCCL's
    /// barrier is relied upon.
    fn may_decide(&self) -> bool {
        let complete = self.hosts > 1 || self.peers.count() >= self.ranks;
        complete || coarse_millis().saturating_sub(self.began_millis) >= PATIENCE_MILLIS
    }

    /// Settles what this rank does.
    fn decide(&self) {
        if !self.duty.may_decide() {
            return;
        }
        // A job that is killed leaves no file behind, whatever it is killed in.
        self.peers.close();
        let peers = self.peers.read();
        let members = self.members(&peers);
        let lowest = peers.first().map_or(self.rank, |peer| peer.rank);
        let is_last_of_all = members.others == 0 && self.next_millis.load(Ordering::Relaxed) == 0;
        let speaks = (is_last_of_all || lowest == self.rank) && self.peers.claim(self.rank);
        let machine = with_links(self.machine, &peers);
        let found = crossing(&machine, &members);
        self.note_for_cure(&members, &found);
        match found {
            Crossing::Some => {}
            other @ (Crossing::Never | Crossing::OverNetwork | Crossing::Unknown(_)) => {
                if matches!(other, Crossing::Never) {
                    kinds::note_silent(self.name.as_deref());
                }
                if speaks {
                    self.say_why_silent(other);
                }
                return self.silence();
            }
        }
        let far = self.far.get_or_init(|| {
            let carrying = self.settings.reach.carrying(&machine);
            self.far_ranks(&carrying, &peers)
        });
        if speaks {
            self.say_what_is_not_modelled(&peers);
            let _ = self.subject.set(self.make_subject(&machine, members));
            self.duty.take(Role::Speaker);
        } else if far.is_empty() {
            self.silence();
        } else {
            self.duty.take(Role::Member);
        }
    }

    /// Its ranks on this host, as `peers` told.
    fn members(&self, peers: &[RankOnHost]) -> Members {
        Members {
            gpus: peers.iter().map(|peer| peer.gpu).collect(),
            ranks: peers.iter().map(|peer| peer.rank).collect(),
            others: self.ranks.saturating_sub(peers.len()),
            hosts: self.hosts,
            reach: self.settings.reach,
            denied_p2p: BTreeSet::new(),
            nets: network::candidates(self.machine),
            rules: self.release.rules,
            capability: peers
                .iter()
                .find_map(|peer| peer.capability)
                .unwrap_or(COMPUTE_CAPABILITY),
        }
    }

    /// Says once at level INFO why figures are lower bounds.
    fn say_what_is_not_modelled(&self, peers: &[RankOnHost]) {
        if self.release.is_too_new() && Silence::TooNew.is_first() {
            let version = self.release.version.map(|version| version.to_string());
            self.log.info(&format!(
                "gpu-numa: NCCL {} is newer than {NEWEST}, the newest whose rules are known here: crossings are \
                 lower bounds",
                version.unwrap_or_default()
            ));
        }
        if let Some(gpu) = shared_gpu(peers)
            && Silence::SharedGpu.is_first()
        {
            self.log.info(&format!(
                "gpu-numa: communicator {:#x}: several ranks hold GPU {gpu}, its MIG instances or its parts (MLOPart), \
                 which are not modelled: crossings are lower bounds",
                self.id
            ));
        }
    }

    /// What the rank that speaks tells of: who they are, what to expect, and which of their kind speaks for all.
    fn make_subject(&self, machine: &Machine, mut members: Members) -> Subject {
        let who = Who {
            id: self.id,
            name: self.name.clone(),
            ranks: self.ranks,
            // One that NCCL cuts in parts is one all the same.
            hosts: if members.others == 0 { 1 } else { self.hosts },
            nodes: self.hosts,
            local: members.ranks.clone(),
        };
        let file = self.settings.topology_file.as_deref();
        let file = file.filter(|_| !self.release.is_too_new());
        // Without a file nothing is modelled, and nothing need be asked.
        if file.is_some() {
            members.denied_p2p = self.denied_p2p(&members);
        }
        let forecast = forecast(machine, &members, file);
        let crosses = forecast.ring().both + forecast.tree().both > 0;
        let kind = self.name.as_deref().filter(|_| crosses);
        let kind = kind.and_then(|name| {
            let shape = [
                who.ranks,
                who.hosts,
                who.nodes,
                forecast.ring().both as usize,
                forecast.tree().both as usize,
                usize::from(forecast.is_even()),
            ];
            Membership::begin(&kinds::pattern(name), &shape)
        });
        let totals = self.settings.totals.as_deref().and_then(Totals::open);
        if let Some(totals) = &totals {
            totals.begin();
        }
        Subject {
            who,
            forecast,
            crosses,
            totals: totals.map(|totals| (totals, AtomicU64::new(0))),
            kind,
            speaks_for_kind: AtomicBool::new(false),
        }
    }

    /// Remembers its GPUs, where all its ranks are here and each has one of its own.
    fn note_for_cure(&self, members: &Members, found: &Crossing) {
        let gpus: Option<Vec<PciAddress>> = members.gpus.iter().copied().collect();
        let crosses = match found {
            Crossing::Some => true,
            Crossing::Never => false,
            Crossing::OverNetwork | Crossing::Unknown(_) => return,
        };
        if let Some(gpus) = gpus.filter(|gpus| members.others == 0 && gpus.len() == self.ranks) {
            cure::note(self.name.as_deref().map(kinds::pattern), gpus, crosses);
        }
    }

    /// The pairs of its GPUs here between which the driver denies P2P, where NCCL asks for that.
    fn denied_p2p(&self, members: &Members) -> BTreeSet<(PciAddress, PciAddress)> {
        if self.settings.reach.leaves_nvlinks() || !self.settings.minds_denied_p2p {
            return BTreeSet::new();
        }
        let gpus: Vec<PciAddress> = members.gpus.iter().flatten().copied().collect();
        let names: Vec<String> = gpus.iter().map(ToString::to_string).collect();
        let denied = read_denied_p2p(&names).unwrap_or_default();
        let pairs = denied.into_iter();
        let pairs = pairs.filter_map(|(a, b)| Some((*gpus.get(a)?, *gpus.get(b)?)));
        pairs.collect()
    }

    /// Says once at level INFO why nothing will be said.
    fn say_why_silent(&self, why: Crossing) {
        let id = self.id;
        let (kind, line) = match why {
            Crossing::Some => return,
            Crossing::Never => (
                Silence::Never,
                "nothing to report: its GPUs here share a socket, or NVLink connects them".to_owned(),
            ),
            Crossing::OverNetwork => (
                Silence::OverNetwork,
                format!(
                    "nothing to report: NICs near GPUs of several sockets make NCCL count this host as {}, and this \
                     version of NCCL uses the network between them",
                    self.hosts
                ),
            ),
            Crossing::Unknown(Unknown::Place) => (
                Silence::UnknownPlace,
                "unknown whether it crosses the socket link (the place or the NVLinks of a GPU are not known)"
                    .to_owned(),
            ),
            Crossing::Unknown(Unknown::Network) => (
                Silence::UnknownNetwork,
                "unknown whether it crosses the socket link (NCCL may use the network between the sockets of one \
                 host)"
                    .to_owned(),
            ),
        };
        if kind.is_first() {
            self.log
                .info(&format!("gpu-numa: communicator {id:#x}: {line}"));
        }
    }

    /// The ranks that only the socket link leads to, and whether upward.
    fn far_ranks(&self, machine: &Machine, peers: &[RankOnHost]) -> Vec<(usize, bool)> {
        let package = |gpu| machine.gpu(gpu)?.locality.package;
        let Some(own) = self.own.gpu else {
            return Vec::new();
        };
        let far = peers.iter().filter_map(|peer| {
            let gpu = peer.gpu?;
            let upward = package(own)? < package(gpu)?;
            let crosses = crosses_socket(machine, own, gpu) == Some(true);
            crosses.then_some((peer.rank, upward))
        });
        far.collect()
    }

    /// A line where one is due: at the first thing that crosses, and then a minute apart.
    fn speak_in_time(&self) {
        let next = self.next_millis.load(Ordering::Relaxed);
        // The first line waits for nothing.
        let now = if next == 0 {
            Some(coarse_millis())
        } else {
            self.looks.take()
        };
        let Some(now) = now.filter(|now| *now >= next) else {
            return;
        };
        let moment = if next == 0 {
            Moment::Crossing
        } else {
            Moment::Progress
        };
        let later = now + MINUTE_MILLIS;
        let order = Ordering::Relaxed;
        if self
            .next_millis
            .compare_exchange(next, later, order, order)
            .is_ok()
            && !self.speak(moment)
        {
            // Nothing crossed so far: the next event asks again.
            self.next_millis.store(next, order);
        }
    }

    /// Says a line; false where nothing crossed.
    fn speak(&self, moment: Moment) -> bool {
        let Some(subject) = self.subject.get() else {
            return false;
        };
        let Subject { who, forecast, .. } = subject;
        let report = LinkReport::new(who, forecast, moment, &self.counts, self.peers.sent());
        subject.add_to_step(&report);
        let said = subject.line(&report, |pattern| {
            let machine = with_links(self.machine, &self.peers.read());
            cure::cure_line(&self.settings.reach.carrying(&machine), pattern)
        });
        if let Some(line) = &said {
            self.settings.journal.say(self.log, line);
        }
        let is_worth_a_line = report.is_worth_a_line();
        if is_worth_a_line {
            let own = said.unwrap_or_else(|| report.line(None));
            self.settings.journal.record(&report, &own);
        }
        is_worth_a_line
    }

    /// Ends: a summary where something crossed.
    pub(crate) fn end(self) {
        if std::process::id() != self.process {
            // A forked child's copy: the communicator is its parent's.
            std::mem::forget(self);
            return;
        }
        if self.is(Role::Undecided) {
            self.decide();
        }
        if self.is(Role::Speaker) {
            self.speak(Moment::Summary);
            let subject = self.subject.get();
            if let Some((totals, _)) = subject.and_then(|subject| subject.totals.as_ref()) {
                totals.end();
            }
        }
        self.peers.leave();
        self.silence();
    }
}

/// What is known of the way; worked out once for each set of ranks, for frameworks make many communicators of
/// the same GPUs.
fn forecast(machine: &Machine, members: &Members, file: Option<&Path>) -> Forecast {
    static KNOWN: Mutex<Vec<(Members, Forecast)>> = Mutex::new(Vec::new());
    let known = |known: &Vec<(Members, Forecast)>| {
        let found = known.iter().find(|(of, _)| of == members);
        found.map(|(_, forecast)| forecast.clone())
    };
    // A lock that is held, or was when its process forked, is not waited for.
    if let Some(forecast) = KNOWN.try_lock().ok().and_then(|list| known(&list)) {
        return forecast;
    }
    let file = file.and_then(host::read_topology);
    let forecast = Forecast::of(machine, members, file.as_ref());
    if let Ok(mut list) = KNOWN.try_lock()
        && list.len() < MOST_FORECASTS
    {
        list.push((members.clone(), forecast.clone()));
    }
    forecast
}

/// The NVLinks of a GPU, from the NVML that NCCL has loaded; none where the snapshot knows them all, and
/// where NVML does not say.
fn read_links(machine: &Machine, pci: &str) -> Option<Links> {
    if machine.nvlink_visible {
        return None;
    }
    let mut links = Links::new();
    for end in read_nvlinks(pci)? {
        let to = end.and_then(|end| end.parse().ok());
        add_link(&mut links, to.unwrap_or(SOME_SWITCH));
    }
    Some(links)
}

/// The machine with the NVLinks that its ranks found; all are known where each rank found its own.
fn with_links(machine: &'static Machine, peers: &[RankOnHost]) -> Cow<'static, Machine> {
    let said: BTreeMap<_, _> = peers
        .iter()
        .filter_map(|peer| Some((peer.gpu?, peer.links.clone()?)))
        .collect();
    if machine.nvlink_visible || said.is_empty() {
        return Cow::Borrowed(machine);
    }
    let mut machine = machine.clone();
    machine.nvlink_visible = peers.iter().all(|peer| peer.links.is_some());
    set_nvlinks(&mut machine, &said);
    Cow::Owned(machine)
}

/// A GPU that several ranks hold.
fn shared_gpu(peers: &[RankOnHost]) -> Option<PciAddress> {
    let mut gpus: Vec<PciAddress> = peers.iter().filter_map(|peer| peer.gpu).collect();
    gpus.sort_unstable();
    let twice = gpus.windows(2).find(|two| two.first() == two.last());
    twice.and_then(|two| two.first().copied())
}

/// A rank from NCCL's number; none of a communicator's where it is negative.
fn number_of(rank: c_int) -> usize {
    usize::try_from(rank).unwrap_or(usize::MAX)
}

/// Whether all GPUs are known to be at one package.
fn is_one_package(machine: &Machine) -> bool {
    let mut packages = machine.gpus.iter().map(|gpu| gpu.locality.package);
    match packages.next() {
        Some(Some(first)) => packages.all(|package| package == Some(first)),
        Some(None) => machine.packages.len() == 1,
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_events_that_come_fast_one_of_some_looks_at_the_clock() {
        let looks = Looks::default();
        // Of the time before the first nothing is known.
        assert!(looks.take().is_some());
        assert!(looks.take().is_some());
        let events = 10 * EVENTS_A_LOOK;
        let taken = (0..events).filter(|_| looks.take().is_some()).count();
        assert_eq!(taken, 10);
        // An event a minute looks each time, after those that were left.
        let later = Looks::default();
        for _ in 0..3 {
            assert!(later.take().is_some());
            later.left.store(0, Ordering::Relaxed);
            later.last_millis.store(0, Ordering::Relaxed);
        }
    }
}
