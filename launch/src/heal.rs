//! Moving memory that a process has on other nodes than its GPUs'.
//!
//! Pages stay where the thread that first wrote them put them; a process that is bound later, or was moved, keeps them there.
//! The kernel moves them on request (`move_pages(2)`), page by page, without stopping the process; a thread that touches a page
//! meanwhile waits for that page.  So they are moved in slices that take milliseconds.

use std::fs;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ffi::errno::Errno;
use ffi::linux::migrate::{Page, locate_pages, move_pages, page_bytes as page_size};
use topology::set::NodeSet;

use crate::numa_maps::mappings;
use crate::processes::Folder;

/// How many pages the kernel is asked about at once: 16 MiB of small ones.
const LOOK: usize = 4096;
/// How long a slice is to take beside what each call takes whatever its size: a quarter of the 20 ms that a thread may wait.
const SLICE_TIME: Duration = Duration::from_millis(5);
/// The first slice, in bytes: so few that what it takes is what each call takes whatever its size.
const FIRST_SLICE: usize = 16 << 10;
/// The longest one: two huge pages of x86, 1,024 small ones.
const MOST_SLICE: usize = 4 << 20;
/// A slice where the kernel must first drop cached files to have room: it takes its time for that, between the pages of a slice.
const TIGHT_SLICE: usize = 64 << 10;
/// Pages above this are left alone, because a single one takes longer than a slice may (1 GiB: about 100 ms).
const LARGEST_PAGE: usize = 64 << 20;
/// How often memory is looked at again.
const PASSES: usize = 3;
/// What is left free on a node at least.
const KEPT_BYTES: u64 = 64 << 20;
/// Between two slices, so that others get at the process's memory map too.
const REST: Duration = Duration::from_millis(1);

/// Memory of a process that one mapping has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: usize,
    end: usize,
    page_bytes: usize,
}

/// What of a process's memory is on other nodes than it should be.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Misplaced {
    /// Mappings that have some of it.
    pub spans: Vec<Span>,
    /// How much that is, in bytes.
    pub bytes: u64,
    /// How much more of it is locked (`mlock`) and left where it is, in bytes.
    pub locked_bytes: u64,
    /// How much more of it is in pages that are too large to be moved while others wait, in bytes.
    pub large_pages_bytes: u64,
}

/// Looks for the memory of process `pid` of this host that is not on `nodes`: its own, not what is a file's cache.
///
/// # Errors
/// The process has ended, or may not be read.
pub fn find_misplaced(pid: u32, nodes: &NodeSet) -> io::Result<Misplaced> {
    let folder = Folder::of(Path::new("/"), pid);
    let read = |name: &str| folder.text(name);
    let status = read("status")?;
    let has_locked =
        crate::observe::status_list(&status, "VmLck").is_some_and(|text| !text.starts_with("0 "));
    // smaps has the kernel walk all memory once more.
    let locked = if has_locked {
        locked_starts(&read("smaps")?)
    } else {
        Vec::new()
    };
    let ends = ends_of(&read("maps")?);
    Ok(sum_misplaced(&read("numa_maps")?, &ends, &locked, nodes))
}

fn sum_misplaced(
    numa_maps: &str,
    ends: &[(usize, usize)],
    locked: &[usize],
    nodes: &NodeSet,
) -> Misplaced {
    let mut misplaced = Misplaced::default();
    for mapping in mappings(numa_maps).filter(|mapping| mapping.is_own) {
        let far = mapping.bytes().filter(|(node, _)| !nodes.contains(*node));
        let bytes: u64 = far.map(|(_, bytes)| bytes).sum();
        let Ok(start) = usize::try_from(mapping.start) else {
            continue;
        };
        if bytes == 0 {
            continue;
        }
        if locked.contains(&start) {
            misplaced.locked_bytes += bytes;
            continue;
        }
        if mapping.page_bytes > LARGEST_PAGE as u64 {
            misplaced.large_pages_bytes += bytes;
            continue;
        }
        let end = ends.iter().find(|(own, _)| *own == start);
        if let (Some((_, end)), Ok(page_bytes)) = (end, usize::try_from(mapping.page_bytes)) {
            misplaced.bytes += bytes;
            misplaced.spans.push(Span {
                start,
                end: *end,
                page_bytes: page_bytes.max(1),
            });
        }
    }
    misplaced
}

/// Start and end of each mapping, of `maps` (proc_pid_maps(5)).
fn ends_of(maps: &str) -> Vec<(usize, usize)> {
    maps.lines().filter_map(range_of).collect()
}

fn range_of(line: &str) -> Option<(usize, usize)> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some((number(start)?, number(end)?))
}

/// The mappings that are locked, of `smaps` (`lo` among VmFlags, proc_pid_smaps(5)).
fn locked_starts(smaps: &str) -> Vec<usize> {
    let mut start = None;
    let mut locked = Vec::new();
    for line in smaps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let is_locked = flags.split_whitespace().any(|flag| flag == "lo");
            locked.extend(start.filter(|_| is_locked));
        } else if let Some((own, _)) = range_of(line) {
            start = Some(own);
        }
    }
    locked
}

/// What became of misplaced memory, in bytes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Healed {
    /// It was moved.
    pub moved: u64,
    /// Other processes have it too.
    pub shared: u64,
    /// It is pinned (registered with CUDA or an RDMA device) or was in use each time.
    pub busy: u64,
    /// No node that it belongs to had room.
    pub no_room: u64,
    /// For another reason.
    pub other: u64,
    /// How long the longest slice took.
    pub longest_slice: Duration,
}

impl Healed {
    /// Has the sums agree with what is elsewhere now, in bytes: a huge page moves whole, also what of it was not asked for yet.
    fn settle(&mut self, before: u64, now: u64) {
        self.moved = self.moved.max(before.saturating_sub(now));
        self.no_room = self.no_room.saturating_sub(self.left().saturating_sub(now));
        // What the kernel did not say a word of, or what came meanwhile.
        self.other += now.saturating_sub(self.left());
    }

    /// All that stayed where it was.
    pub fn left(&self) -> u64 {
        self.shared + self.busy + self.no_room + self.other
    }
}

/// How memory is moved.
pub struct Mover<'f> {
    /// The process.
    pub pid: u32,
    /// Where its memory belongs.
    pub nodes: &'f NodeSet,
    /// Where it is as well, and stays: these and nodes without CPUs that are as near.
    pub kept: &'f NodeSet,
    /// Of two nodes, how far the second is from the first.
    pub nearness: &'f dyn Fn(u32, u32) -> u32,
    /// At most so many bytes a second; none for no limit.
    pub limit: Option<u64>,
    /// Is given the bytes that were looked at so far, after each slice.
    pub progress: &'f dyn Fn(u64),
}

impl std::fmt::Debug for Mover<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            pid,
            nodes,
            kept,
            limit,
            ..
        } = self;
        f.debug_struct("Mover")
            .field("pid", pid)
            .field("nodes", nodes)
            .field("kept", kept)
            .field("limit", limit)
            .finish_non_exhaustive()
    }
}

/// A page that is on the wrong node.
#[derive(Clone, Copy)]
struct Far {
    address: usize,
    target: u32,
}

/// How far a mover has come.
struct Run {
    healed: Healed,
    pace: Pace,
    seen: u64,
    began: Instant,
}

/// How much is moved at once, by what it took so far.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// The next slice, in bytes.
    slice: usize,
    /// The shortest call: what each takes whatever its size, since the kernel asks all CPUs for the pages that they hold
    /// back (`lru_cache_disable`, mm/swap.c).
    shortest: Duration,
    /// What a byte takes beyond that, in picoseconds: the most of late.
    cost_ps: u64,
}

impl Pace {
    const FIRST: Self = Self {
        slice: FIRST_SLICE,
        shortest: Duration::MAX,
        cost_ps: 0,
    };

    /// After a slice of `bytes` that took so long.
    fn adapt(&mut self, bytes: usize, took: Duration) {
        self.shortest = self.shortest.min(took);
        let beyond = took.saturating_sub(self.shortest).as_nanos();
        let cost = beyond.saturating_mul(1000) / u128::try_from(bytes.max(1)).unwrap_or(1);
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        // Memory of one kind may take ten times as long as that of another, so what took long is forgotten slowly.
        self.cost_ps = cost.max(self.cost_ps - self.cost_ps / 8);
        let aim = SLICE_TIME.as_nanos() * 1000 / u128::from(self.cost_ps.max(1));
        let aim = usize::try_from(aim).unwrap_or(usize::MAX);
        self.slice = aim.min(self.slice.saturating_mul(2)).clamp(1, MOST_SLICE);
    }
}

impl Mover<'_> {
    /// Moves misplaced memory, and looks again as long as that brings it further: what was in use, or on its way, is not the next time.
    ///
    /// # Errors
    /// What was done before the kernel refused, and its word: `ESRCH` where the process has ended, `EPERM` under a seccomp
    /// filter, `EACCES` where the process's cpuset does not allow a node.
    pub fn heal(&self, misplaced: &Misplaced) -> Result<Healed, (Healed, Errno)> {
        let mut all = Healed::default();
        let mut rest = misplaced.clone();
        for _ in 0..PASSES {
            let (pass, why) = match self.run(&rest.spans) {
                Ok(pass) => (pass, None),
                Err((pass, why)) => (pass, Some(why)),
            };
            let has_moved = pass.moved > 0;
            all = Healed {
                moved: all.moved + pass.moved,
                longest_slice: all.longest_slice.max(pass.longest_slice),
                ..pass
            };
            if let Some(why) = why {
                return Err((all, why));
            }
            let Ok(found) = find_misplaced(self.pid, self.kept) else {
                return Err((all, Errno::NO_PROCESS));
            };
            rest = found;
            if rest.bytes == 0 || !has_moved {
                break;
            }
        }
        all.settle(misplaced.bytes, rest.bytes);
        Ok(all)
    }

    fn run(&self, spans: &[Span]) -> Result<Healed, (Healed, Errno)> {
        let mut run = Run {
            healed: Healed::default(),
            pace: Pace::FIRST,
            seen: 0,
            began: Instant::now(),
        };
        for span in spans {
            if let Err(why) = self.run_span(&mut run, *span) {
                return Err((run.healed, why));
            }
        }
        Ok(run.healed)
    }

    fn run_span(&self, run: &mut Run, span: Span) -> Result<(), Errno> {
        let mut start = span.start;
        while start < span.end {
            let addresses: Vec<usize> = (start..span.end)
                .step_by(span.page_bytes)
                .take(LOOK)
                .collect();
            start = start.saturating_add(addresses.len().saturating_mul(span.page_bytes));
            let pages = locate_pages(self.pid, &addresses)?;
            let far = addresses
                .iter()
                .zip(pages)
                .filter_map(|(address, page)| match page {
                    Page::On(node) if !self.kept.contains(node) => Some(Far {
                        address: *address,
                        target: self.target(node)?,
                    }),
                    Page::On(_)
                    | Page::Nowhere
                    | Page::Shared
                    | Page::Busy
                    | Page::NoRoom
                    | Page::Left(_) => None,
                });
            let mut far: Vec<Far> = far.collect();
            // Each call has one target.
            far.sort_by_key(|page| (page.target, page.address));
            for pages in far.chunk_by(|a, b| a.target == b.target) {
                self.move_all(run, pages, span.page_bytes)?;
            }
        }
        Ok(())
    }

    /// The nearest of its nodes, seen from `from`.
    fn target(&self, from: u32) -> Option<u32> {
        self.nodes
            .iter()
            .min_by_key(|node| ((self.nearness)(from, *node), *node))
    }

    fn move_all(&self, run: &mut Run, pages: &[Far], page_bytes: usize) -> Result<(), Errno> {
        let mut rest = pages;
        while let Some(first) = rest.first() {
            let pages_in = |bytes: usize| (bytes / page_bytes).clamp(1, rest.len());
            let mut count = pages_in(run.pace.slice);
            match room_on(first.target, count, page_bytes) {
                Room::Free => {}
                Room::Cached => count = count.min(pages_in(TIGHT_SLICE)),
                Room::None => {
                    run.healed.no_room += rest.len() as u64 * page_bytes as u64;
                    break;
                }
            }
            let (slice, others) = rest.split_at(count);
            rest = others;
            let addresses: Vec<usize> = slice.iter().map(|page| page.address).collect();
            let start = Instant::now();
            let became = move_pages(self.pid, &addresses, first.target)?;
            let took = start.elapsed();
            run.count(&became, page_bytes as u64);
            run.healed.longest_slice = run.healed.longest_slice.max(took);
            run.pace.adapt(slice.len().saturating_mul(page_bytes), took);
            (self.progress)(run.seen);
            sleep(REST.max(self.owed(run)));
        }
        Ok(())
    }

    /// How long to wait so as not to exceed the limit.
    fn owed(&self, run: &Run) -> Duration {
        let limit = self.limit.filter(|limit| *limit > 0);
        let due = limit.map_or(Duration::ZERO, |limit| {
            let micros = u128::from(run.healed.moved) * 1_000_000 / u128::from(limit);
            Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
        });
        due.saturating_sub(run.began.elapsed())
    }
}

/// Whether a node has room for pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// As much is free.
    Free,
    /// The kernel must first drop files that it has cached.
    Cached,
    /// There is not.
    None,
}

/// Whether a node has room for so many pages, without pushing out what processes have: only what is free, and what is cached of files
/// and not in use, is taken, and some is left.  Where that cannot be read it is taken to be free, and for huge pages, which
/// come from elsewhere.
fn room_on(node: u32, pages: usize, page_bytes: usize) -> Room {
    if page_bytes > page_size() {
        return Room::Free;
    }
    let path = format!("/sys/devices/system/node/node{node}/meminfo");
    let room = fs::read_to_string(path)
        .ok()
        .and_then(|text| room_of(&text));
    let wanted = pages as u64 * page_bytes as u64;
    match room {
        None => Room::Free,
        Some((free, _)) if free > wanted => Room::Free,
        Some((_, all)) if all > wanted => Room::Cached,
        Some(_) => Room::None,
    }
}

/// What may be taken of a node, in bytes, by its `meminfo`: of what is free, and with cached files; none where that lacks a line.
fn room_of(meminfo: &str) -> Option<(u64, u64)> {
    let value = |name: &str| -> Option<u64> {
        let mut lines = meminfo.lines().filter_map(|line| line.split_once(name));
        let kib = lines.next()?.1.split_whitespace().next()?;
        kib.parse::<u64>().ok()?.checked_mul(1024)
    };
    let (total, free) = (value(" MemTotal:")?, value(" MemFree:")?);
    let cached = value(" Inactive(file):").unwrap_or(0);
    let dirty = value(" Dirty:").unwrap_or(0);
    let kept = KEPT_BYTES.max(total / 64);
    let all = (free + cached.saturating_sub(dirty)).saturating_sub(kept);
    Some((free.saturating_sub(kept), all))
}

impl Run {
    fn count(&mut self, pages: &[Page], page_bytes: u64) {
        let healed = &mut self.healed;
        for page in pages {
            self.seen += page_bytes;
            let sum = match page {
                Page::On(_) => &mut healed.moved,
                // The process gave it up meanwhile.
                Page::Nowhere => continue,
                Page::Shared => &mut healed.shared,
                Page::Busy => &mut healed.busy,
                Page::NoRoom => &mut healed.no_room,
                Page::Left(_) => &mut healed.other,
            };
            *sum += page_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMA_MAPS: &str = "1000 default heap anon=3 N0=1 N1=2 kernelpagesize_kB=4\n\
                             9000 default file=/lib mapped=3 N1=3 kernelpagesize_kB=4\n\
                             f000 default anon=1 N1=1 kernelpagesize_kB=4\n\
                             400000 default huge anon=2 N1=2 kernelpagesize_kB=2048\n";
    const MAPS: &str = "1000-4000 rw-p 00000000 00:00 0 [heap]\n9000-c000 r--p 0 08:01 7 /lib\nf000-10000 rw-p 0 00:00 0\n\
                        400000-800000 rw-p 0 00:00 0\n";

    #[test]
    fn own_memory_on_other_nodes_is_misplaced_and_locked_memory_is_left() {
        let smaps = "1000-4000 rw-p 00000000 00:00 0 [heap]\nVmFlags: rd wr\nf000-10000 rw-p 0 00:00 0\nRss: 4 kB\n\
                     VmFlags: rd wr lo\n";
        let locked = locked_starts(smaps);
        let right = NodeSet::single(0);
        let misplaced = sum_misplaced(NUMA_MAPS, &ends_of(MAPS), &locked, &right);
        assert_eq!(
            (misplaced.bytes, misplaced.locked_bytes),
            ((2 << 12) + (4 << 20), 1 << 12)
        );
        let spans: Vec<_> = misplaced
            .spans
            .iter()
            .map(|span| (span.start, span.end, span.page_bytes))
            .collect();
        assert_eq!(
            spans,
            [(0x1000, 0x4000, 4096), (0x40_0000, 0x80_0000, 2 << 20)]
        );
        let all = sum_misplaced(
            NUMA_MAPS,
            &ends_of(MAPS),
            &locked,
            &[0, 1].into_iter().collect(),
        );
        assert_eq!(all, Misplaced::default());
    }

    #[test]
    fn the_sums_agree_with_what_is_elsewhere_at_the_end() {
        let settled = |moved, busy, no_room, before, now| {
            let mut healed = Healed {
                moved,
                busy,
                no_room,
                ..Healed::default()
            };
            healed.settle(before, now);
            (healed.moved, healed.busy, healed.no_room, healed.other)
        };
        assert_eq!(settled(30, 8, 0, 40, 8), (32, 8, 0, 0));
        assert_eq!(settled(30, 0, 12, 40, 8), (32, 0, 8, 0));
        assert_eq!(settled(30, 8, 0, 40, 11), (30, 8, 0, 3));
    }

    #[test]
    fn a_node_keeps_some_of_its_memory_free() {
        let text = "Node 0 MemTotal: 1048576 kB\nNode 0 MemFree: 131072 kB\nNode 0 Inactive(file): 8192 kB\nNode 0 Dirty: 4096 kB\n";
        let (free, all) = (131_072 - 65_536, 131_072 + 8192 - 4096 - 65_536);
        assert_eq!(room_of(text), Some((free << 10, all << 10)));
        assert_eq!(
            room_of("Node 0 MemTotal: 1048576 kB\nNode 0 MemFree: 1 kB\n"),
            Some((0, 0))
        );
        assert_eq!(room_of(""), None);
    }

    #[test]
    fn this_process_has_memory_on_other_nodes_than_one_that_is_not_there() {
        let elsewhere = NodeSet::single(1000);
        let pid = std::process::id();
        let misplaced = find_misplaced(pid, &elsewhere).unwrap();
        assert!(misplaced.bytes > 0);
        let mover = Mover {
            pid,
            nodes: &elsewhere,
            kept: &elsewhere,
            nearness: &|_, _| 10,
            limit: None,
            progress: &|_| {},
        };
        let (healed, why) = mover.heal(&misplaced).unwrap_err();
        assert_eq!(healed, Healed::default(), "{why}");
        assert!(find_misplaced(u32::MAX, &elsewhere).is_err());
    }

    /// The bytes of the slices that are moved, and what the last hundred of a thousand took at most, where a call takes
    /// `fixed` and each 4 KiB of it `cost`.
    fn paced(fixed: Duration, cost: impl Fn(u32) -> Duration) -> (usize, Duration) {
        let mut pace = Pace::FIRST;
        let mut longest = Duration::ZERO;
        for number in 0..1000 {
            let bytes = pace.slice;
            let took = fixed + cost(number) * u32::try_from(bytes / 4096).unwrap();
            if number >= 900 {
                longest = longest.max(took);
            }
            pace.adapt(bytes, took);
        }
        (pace.slice, longest)
    }

    #[test]
    fn slices_fit_the_time_that_they_took() {
        let micros = Duration::from_micros;
        let (slice, longest) = paced(micros(50), |_| micros(1));
        assert_eq!(slice, MOST_SLICE);
        assert!(longest <= micros(2000));
        let (slice, longest) = paced(micros(50), |_| micros(40));
        assert!((256 << 10..MOST_SLICE).contains(&slice), "{slice}");
        assert!(longest <= micros(20_000), "{longest:?}");
        // What each call takes whatever its size does not make it smaller and smaller.
        let (slice, _) = paced(micros(12_000), |_| micros(1));
        assert!(slice >= 1 << 20, "{slice}");
        // Huge pages take little for each 4 KiB, small ones between them much.
        let (_, longest) = paced(micros(50), |number| {
            micros(if number % 7 == 0 { 12 } else { 1 })
        });
        assert!(longest <= micros(20_000), "{longest:?}");
        let mut pace = Pace::FIRST;
        pace.adapt(FIRST_SLICE, Duration::MAX);
        pace.adapt(0, Duration::ZERO);
        pace.adapt(usize::MAX, Duration::MAX);
        assert!((1..=MOST_SLICE).contains(&pace.slice));
    }

    #[test]
    fn no_slice_takes_longer_than_a_thread_may_wait() {
        let micros = Duration::from_micros;
        // From the first one on: of 4 KiB by the clock of fast and of slow memory, and what each call takes for few and many CPUs.
        for fixed in [10, 50, 500, 2000] {
            for cost in [1, 2, 5, 10, 20, 40, 80, 100] {
                let mut pace = Pace::FIRST;
                for number in 0..2000 {
                    let pages = u32::try_from(pace.slice.div_ceil(4096)).unwrap();
                    // Every so often one takes twice as long.
                    let cost = if number % 50 == 49 { 2 * cost } else { cost };
                    let took = micros(fixed) + micros(cost) * pages;
                    assert!(
                        took < micros(20_000),
                        "{number} of {fixed} and {cost} us a page: {took:?} for {pages} pages"
                    );
                    pace.adapt(pace.slice, took);
                }
            }
        }
    }

    #[test]
    fn the_limit_is_waited_for_and_no_longer() {
        let second = Duration::from_secs(1);
        let nodes = NodeSet::single(0);
        let owed = |limit: Option<u64>, moved: u64, ago: Duration| {
            let mover = Mover {
                pid: 1,
                nodes: &nodes,
                kept: &nodes,
                nearness: &|_, _| 10,
                limit,
                progress: &|_| {},
            };
            let began = Instant::now().checked_sub(ago).unwrap();
            mover.owed(&Run {
                healed: Healed {
                    moved,
                    ..Healed::default()
                },
                pace: Pace::FIRST,
                seen: 0,
                began,
            })
        };
        let nearly = |wait: Duration, due: Duration| wait <= due && wait > due - second / 2;
        assert!(nearly(
            owed(Some(4 << 20), 8 << 20, Duration::ZERO),
            second * 2
        ));
        assert!(nearly(owed(Some(4 << 20), 8 << 20, second), second));
        for (limit, moved, ago) in [
            (None, u64::MAX, Duration::ZERO),
            (Some(0), u64::MAX, Duration::ZERO),
            (Some(4 << 20), 8 << 20, second * 3),
            (Some(4 << 20), 0, Duration::ZERO),
        ] {
            assert_eq!(owed(limit, moved, ago), Duration::ZERO, "{limit:?} {moved}");
        }
        // No figure makes it end before its time.
        assert!(owed(Some(1), u64::MAX, second) > second);
    }

    #[test]
    fn pages_of_a_gibibyte_are_left() {
        let maps = "40000000 default huge anon=1 N1=1 kernelpagesize_kB=1048576\n";
        let misplaced = sum_misplaced(
            maps,
            &[(0x4000_0000, 0x8000_0000)],
            &[],
            &NodeSet::single(0),
        );
        assert_eq!((misplaced.bytes, misplaced.large_pages_bytes), (0, 1 << 30));
        assert!(misplaced.spans.is_empty());
    }

    #[test]
    fn what_is_left_is_counted_by_reason() {
        let mut run = Run {
            healed: Healed::default(),
            pace: Pace::FIRST,
            seen: 0,
            began: Instant::now(),
        };
        let other = Page::Left(Errno(5));
        let pages = [
            Page::On(0),
            Page::Nowhere,
            Page::Shared,
            Page::Busy,
            Page::NoRoom,
            other,
        ];
        run.count(&pages, 4096);
        let healed = &run.healed;
        assert_eq!(
            (healed.moved, healed.left(), run.seen),
            (4096, 4 * 4096, 6 * 4096)
        );
        assert_eq!(
            (healed.shared, healed.busy, healed.no_room, healed.other),
            (4096, 4096, 4096, 4096)
        );
    }
}
