//! The CPUs that Slurm gives a step of those that its job has, and each of the step's tasks, where nobody asks for another
//! binding or distribution: slurmctld counts the step's cores and deals them, slurmd's task/affinity binds the tasks.
//!
//! Read in `_pick_step_cores` and `_handle_core_select` (stepmgr/stepmgr.c, slurmctld/step_mgr.c before 24.05), and in
//! `lllp_distribution`, `_alloc_mask` and `_task_layout_lllp_cyclic` (plugins/task/affinity/dist_tasks.c, the same in all series).
//! What slurm.conf may change is left at its default: sockets are packages, `CPUs=` counts threads, TaskPluginParam= and CR_CORE_DEFAULT_DIST_BLOCK are
//! not there.

use topology::machine::Machine;
use topology::set::CpuSet;

use crate::cores::{SocketKind, sockets_of_machine};
use crate::release::Release;
use crate::rules::{self, CoresRule};

/// The releases in which slurmctld began to give steps other CPUs, as [`Sockets::pick`] knows them or because `Cores=` may be written
/// in another way, the newest first.
pub fn other_cpus_since() -> [Release; 5] {
    [
        CoresRule::OneSocketOrAll.since(),
        CoresRule::WholeSockets.since(),
        rules::COUNTS_CORES_OF_WHOLE_JOB,
        rules::ROUNDS_CORES_UP,
        rules::COUNTS_CORES_OF_ALL_TASKS,
    ]
}

/// A step of one host, as srun asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Tasks on the host.
    pub tasks: usize,
    /// CPUs (threads) that each task asks for.
    pub cpus_per_task: usize,
}

/// What slurmctld gives a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked {
    /// The step's CPUs: those of its cores.
    pub cpus: CpuSet,
    /// How many cores more it asks for than there are; srun starts it only with `--overcommit` unless 0.
    pub missing: usize,
}

/// The sockets of a host as Slurm counts them, each with its cores in Slurm's order.
#[derive(Debug)]
pub struct Sockets {
    cores: Vec<Vec<CpuSet>>,
    /// Of the socket with the most.
    cores_per_socket: usize,
    /// Of the core with the most.
    threads_per_core: usize,
}

/// What task/affinity binds a task to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Socket,
    Core,
    Thread,
}

impl Sockets {
    /// The packages of a machine, all cores on one where none is known.
    pub fn of(machine: &Machine) -> Self {
        let cores =
            sockets_of_machine(machine, SocketKind::Package, &CpuSet::new()).unwrap_or_default();
        let threads = cores.iter().flatten().map(CpuSet::len).max();
        Self {
            cores_per_socket: cores.iter().map(Vec::len).max().unwrap_or(0),
            threads_per_core: threads.unwrap_or(0).max(1),
            cores,
        }
    }

    /// The CPUs of a step, of which slurmctld looks at those of `turns` one after the other: a task's worth of cores of each socket in
    /// turn, as long as there are any of the first of them, then of the next.
    pub fn pick(&self, turns: &[CpuSet], request: Request, release: Release) -> Picked {
        let (tasks, asked) = (request.tasks, request.cpus_per_task);
        let job = union(turns);
        let threads = self.threads_per_core_of(&job);
        let of_tasks = tasks.saturating_mul(asked);
        // As many tasks as the host has cores take all that their job has.
        let takes_all = tasks == self.cores.len().saturating_mul(self.cores_per_socket);
        if takes_all && of_tasks >= job.len() {
            return Picked {
                cpus: job,
                missing: 0,
            };
        }
        let wanted = if takes_all && !rules::counts_cores_of_whole_job(release) {
            job.len()
        } else if takes_all {
            job.len().div_ceil(threads)
        } else if asked > threads && rules::counts_cores_of_each_task(release) {
            tasks.saturating_mul(asked.div_ceil(threads))
        } else {
            of_tasks.div_ceil(threads)
        };
        let each = if rules::rounds_cores_up(release) {
            wanted.div_ceil(tasks.max(1))
        } else {
            wanted.checked_div(tasks).unwrap_or(0)
        };
        // The count of a turn goes up before it is compared: it never comes to none.
        let each = if each == 0 { usize::MAX } else { each };
        // A step that takes all looks in each turn at the cores of those before, too, and counts them again: it may end with fewer
        // cores than there are (`_pick_step_core`, `use_all_cores`).
        let turns = if takes_all {
            with_those_before(turns)
        } else {
            turns.to_vec()
        };
        let mut missing = wanted;
        let mut cpus = CpuSet::new();
        for turn in &turns {
            let mut free: Vec<Vec<CpuSet>> =
                self.cores.iter().map(|cores| parts(cores, turn)).collect();
            let mut owed = each;
            while missing > 0 && free.iter().any(|cores| !cores.is_empty()) {
                for cores in &mut free {
                    let taken = owed.min(missing).min(cores.len());
                    for core in cores.drain(..taken) {
                        cpus.extend_with(&core);
                    }
                    missing -= taken;
                    owed = if taken == owed { each } else { owed - taken };
                }
            }
        }
        Picked {
            cpus,
            missing: if takes_all { 0 } else { missing },
        }
    }

    /// How many CPUs slurmctld counts in a core for a job with these CPUs: 1 where it has one thread of each core alone, as by
    /// `CPUs=` that counts cores, `--threads-per-core=1` and `--hint=nomultithread` (`_step_alloc_lps`, `cpus_per_core`).
    fn threads_per_core_of(&self, job: &CpuSet) -> usize {
        let cores = self.cores.iter().flatten();
        let threads = cores.map(|core| core.intersection(job).len()).max();
        threads.unwrap_or(0).max(1)
    }

    /// The CPUs of each task of a step that has `step`; None where Slurm binds none of them, so that each may use all of it.
    ///
    /// Slurm binds tasks by itself only where they ask for as many CPUs as the step has sockets, cores or threads.
    pub fn bind(&self, step: &CpuSet, request: Request) -> Option<Vec<CpuSet>> {
        let unit = self.unit(step, request)?;
        let mut masks = self.lay_out(step, request, unit)?;
        for mask in &mut masks {
            let homes: Vec<CpuSet> = match unit {
                Unit::Thread => break,
                Unit::Core => self.cores.iter().flatten().cloned().collect(),
                Unit::Socket => self.cores.iter().map(union).collect(),
            };
            let own = homes.iter().filter(|home| home.intersects(mask));
            *mask = union(own).intersection(step);
        }
        Some(masks)
    }

    /// What as many CPUs as the tasks ask for are in the step (`lllp_distribution`).
    fn unit(&self, step: &CpuSet, request: Request) -> Option<Unit> {
        let wanted = request.tasks.saturating_mul(request.cpus_per_task);
        let is_whole = |sets: &mut dyn Iterator<Item = CpuSet>| {
            let mut number = 0;
            let all = sets.filter(|set| set.intersects(step)).all(|set| {
                number += 1;
                set.is_subset(step)
            });
            all && number == wanted
        };
        if is_whole(&mut self.cores.iter().map(union)) {
            Some(Unit::Socket)
        } else if is_whole(&mut self.cores.iter().flatten().cloned()) {
            Some(Unit::Core)
        } else {
            (step.len() == wanted).then_some(Unit::Thread)
        }
    }

    /// One thread after the other, each task's on one socket, the next task's on the next, on any with room where that one is full
    /// (`_task_layout_lllp_cyclic`); None where Slurm finds no place for a task.
    fn lay_out(&self, step: &CpuSet, request: Request, unit: Unit) -> Option<Vec<CpuSet>> {
        let threads = self.threads_per_core;
        let places: Vec<Vec<Option<u32>>> = self
            .cores
            .iter()
            .map(|cores| self.places(cores, step))
            .collect();
        let of_socket = self.cores_per_socket.saturating_mul(threads);
        let asked = request.cpus_per_task.max(1);
        // Of the last core of a task that is bound to cores.
        let left_over = match unit {
            Unit::Core if asked < threads => threads - asked,
            Unit::Core => asked % threads,
            Unit::Socket | Unit::Thread => 0,
        };
        let mut masks: Vec<CpuSet> = Vec::new();
        let (mut own, mut next, mut socket) = (CpuSet::new(), vec![0; places.len()], 0);
        let mut taken = 0;
        while masks.len() < request.tasks {
            let before = masks.len();
            for _ in 0..places.len().saturating_mul(of_socket) {
                let first = socket;
                while next.get(socket).is_some_and(|place| *place >= of_socket) {
                    socket = (socket + 1) % places.len();
                    if socket == first {
                        next.fill(0);
                    }
                }
                let place = next.get_mut(socket)?;
                let cpu = places
                    .get(socket)
                    .and_then(|places| places.get(*place))
                    .copied()
                    .flatten();
                *place += 1;
                let Some(cpu) = cpu else { continue };
                own.insert(cpu);
                taken += 1;
                if taken < asked {
                    continue;
                }
                taken = 0;
                *place += left_over;
                masks.push(std::mem::take(&mut own));
                socket = (socket + 1) % places.len();
                if masks.len() == request.tasks {
                    break;
                }
            }
            if masks.len() == before {
                return None;
            }
        }
        Some(masks)
    }

    /// The threads of a socket by their number in it, none where the step does not have one.
    fn places(&self, cores: &[CpuSet], step: &CpuSet) -> Vec<Option<u32>> {
        let threads = |core: &CpuSet| {
            let own: Vec<u32> = core.iter().collect();
            let step = step.clone();
            (0..self.threads_per_core)
                .map(move |thread| own.get(thread).copied().filter(|cpu| step.contains(*cpu)))
        };
        cores.iter().flat_map(threads).collect()
    }
}

/// What of each core is among `cpus`, without those that have none there.
fn parts(cores: &[CpuSet], cpus: &CpuSet) -> Vec<CpuSet> {
    let cores = cores.iter().map(|core| core.intersection(cpus));
    cores.filter(|core| !core.is_empty()).collect()
}

/// Each turn with the CPUs of those before it; none that adds nothing.
fn with_those_before(turns: &[CpuSet]) -> Vec<CpuSet> {
    let mut all = CpuSet::new();
    let new = turns.iter().filter_map(|turn| {
        let before = all.len();
        all.extend_with(turn);
        (all.len() > before).then(|| all.clone())
    });
    new.collect()
}

fn union<'s>(sets: impl IntoIterator<Item = &'s CpuSet>) -> CpuSet {
    let sets = sets.into_iter();
    sets.fold(CpuSet::new(), |all, set| all.union(set))
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::machine::Package;
    use topology::set::NodeSet;

    fn set(list: &str) -> CpuSet {
        list.parse().unwrap()
    }

    fn release(text: &str) -> Release {
        Release::find(text).unwrap()
    }

    /// Sockets of so many cores; the second threads of all cores are numbered after the first of all.
    fn machine(sockets: u32, cores: u32, threads: u32) -> Machine {
        let all = sockets * cores;
        let core = |core: u32| (0..threads).map(|thread| core + thread * all).collect();
        let cpus = |socket: u32| {
            let own = (socket * cores..(socket + 1) * cores).map(core);
            own.fold(CpuSet::new(), |all, core: CpuSet| all.union(&core))
        };
        Machine {
            packages: (0..sockets)
                .map(|socket| Package {
                    id: socket,
                    cpus: cpus(socket),
                    numa_nodes: NodeSet::single(socket),
                })
                .collect(),
            cores: (0..all).map(core).collect(),
            ..Machine::default()
        }
    }

    fn masks(sockets: &Sockets, step: &CpuSet, request: Request) -> String {
        let masks = sockets.bind(step, request).unwrap_or_default();
        let masks = masks.iter().map(ToString::to_string);
        masks.collect::<Vec<_>>().join(" | ")
    }

    /// Two sockets of two cores of two threads, whose step may be anywhere; nothing where tasks are not bound.
    #[test]
    fn tasks_that_share_cores_are_placed_as_slurm_does() {
        let sockets = Sockets::of(&machine(2, 2, 2));
        for (tasks, cpus_per_task, old, middle, new, bound) in [
            (1, 1, "0,4", "0,4", "0,4", "0,4"),
            (2, 1, "0,4", "0,4", "0,4", "0 | 4"),
            (3, 1, "0-1,4-5", "0-1,4-5", "0,2,4,6", ""),
            // As many tasks as the host has cores have all of it.
            (4, 1, "0-7", "0-7", "0-7", "0,4 | 2,6 | 1,5 | 3,7"),
            (5, 1, "0-2,4-6", "0-2,4-6", "0-2,4-6", ""),
            (
                6,
                1,
                "0-2,4-6",
                "0-2,4-6",
                "0-2,4-6",
                "0 | 2 | 4 | 6 | 1 | 5",
            ),
            (8, 1, "0-7", "0-7", "0-7", "0 | 2 | 4 | 6 | 1 | 3 | 5 | 7"),
            (1, 2, "0,4", "0,4", "0,4", "0,4"),
            (2, 2, "0,2,4,6", "0,2,4,6", "0,2,4,6", "0,4 | 2,6"),
            (1, 3, "0-1,4-5", "0-1,4-5", "0-1,4-5", ""),
            (2, 3, "0-7", "0-2,4-6", "0-2,4-6", "0-1,4 | 2,5-6"),
            (2, 4, "0-7", "0-7", "0-7", "0-1,4-5 | 2-3,6-7"),
        ] {
            let request = Request {
                tasks,
                cpus_per_task,
            };
            let all = [set("0-7")];
            let pick = |of: &str| sockets.pick(&all, request, release(of));
            let picked = ["22.05.8", "23.02.4", "23.02"].map(pick);
            assert_eq!(
                picked.each_ref().map(|step| step.cpus.to_string()),
                [old, middle, new],
                "{request:?}"
            );
            assert!(picked.iter().all(|step| step.missing == 0), "{request:?}");
            assert_eq!(
                masks(&sockets, &picked[2].cpus, request),
                bound,
                "{request:?}"
            );
        }
    }

    #[test]
    fn a_step_may_be_short_of_whole_cores() {
        let sockets = Sockets::of(&machine(2, 2, 2));
        let (three, request) = (
            [set("0-2,4-6")],
            Request {
                tasks: 2,
                cpus_per_task: 3,
            },
        );
        let missing = |of: &str| sockets.pick(&three, request, release(of)).missing;
        assert_eq!((missing("22.05.8"), missing("24.11")), (1, 0));
    }

    #[test]
    fn a_job_without_the_cores_other_threads_has_a_core_for_each_cpu() {
        let sockets = Sockets::of(&machine(2, 4, 2));
        for (tasks, cpus_per_task, step) in [(2, 3, "0-2,4-6"), (2, 4, "0-7"), (1, 3, "0-2")] {
            let request = Request {
                tasks,
                cpus_per_task,
            };
            let picked = sockets.pick(&[set("0-7")], request, release("24.11"));
            assert_eq!((picked.cpus, picked.missing), (set(step), 0), "{request:?}");
        }
    }

    /// A task that asks for as many CPUs as there are whole sockets is bound to that of its first thread.
    #[test]
    fn whole_sockets_come_before_cores_and_threads() {
        let sockets = Sockets::of(&machine(2, 2, 2));
        let bound = |step: &str, tasks, cpus_per_task| {
            let request = Request {
                tasks,
                cpus_per_task,
            };
            masks(&sockets, &set(step), request)
        };
        assert_eq!(bound("0-7", 2, 1), "0-1,4-5 | 2-3,6-7");
        assert_eq!(bound("0-7", 1, 2), "0-1,4-5");
        assert_eq!(bound("0-1,4-5", 1, 1), "0-1,4-5");
        // Three of four cores are no whole sockets.
        assert_eq!(bound("0-2,4-6", 3, 1), "0,4 | 2,6 | 1,5");
        assert_eq!(bound("0-7", 3, 1), "");
    }

    #[test]
    fn a_step_that_takes_all_counts_cores_near_its_gpus_twice() {
        let sockets = Sockets::of(&machine(2, 2, 2));
        let turns = [set("0-1,4-5"), CpuSet::new(), set("2-3,6-7")];
        let picked = |tasks, cpus_per_task, of: &str| {
            let request = Request {
                tasks,
                cpus_per_task,
            };
            let picked = sockets.pick(&turns, request, release(of));
            assert_eq!(picked.missing, 0);
            picked.cpus.to_string()
        };
        // Of four cores the two near the GPUs, one of these again, and one more; CPUs were counted for cores before.
        assert_eq!(picked(4, 1, "24.11"), "0-2,4-6");
        assert_eq!(picked(4, 1, "23.02"), "0-7");
        // All CPUs are asked for.
        assert_eq!(picked(4, 2, "24.11"), "0-7");
    }

    #[test]
    fn cores_of_the_first_turn_come_first_and_a_host_without_packages_has_one_socket() {
        let sockets = Sockets::of(&machine(2, 4, 1));
        let request = Request {
            tasks: 3,
            cpus_per_task: 2,
        };
        let picked = sockets.pick(&[set("4-7"), set("0-3")], request, release("24.11"));
        assert_eq!(picked.cpus, set("0-1,4-7"));
        let mut flat = machine(2, 4, 1);
        flat.packages.clear();
        let picked = Sockets::of(&flat).pick(&[set("0-7")], request, release("24.11"));
        assert_eq!(picked.cpus, set("0-5"));
    }
}
