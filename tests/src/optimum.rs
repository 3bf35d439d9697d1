//! What makes one split of a step's CPUs better than another, and the best that there is, by trying all: the judge of
//! the decision, which shares no code with it.
//!
//! The order is ARCHITECTURE.md's ("The decision").

use std::collections::{BTreeSet, HashMap};

/// How good a split is: tasks with a CPU near each of their GPUs where each must have one, CPUs asked for, local CPUs, tasks
/// wholly local with a CPU near each of their GPUs, tasks on one node, on one package, CPUs asked for that are local or on
/// a package of the task's GPUs, how near the farthest CPU of each task is, local CPUs up to an even share, tasks below one
/// last-level cache, tasks with whole cores, evenness in cores' worth of CPUs, caches that tasks have CPUs below, evenness in
/// CPUs.
///
/// Evenness is less the sum of squares, and distances and caches are counted less than zero: more is worse.
pub type Merit = [i64; 14];

/// What each part of a [`Merit`] is, the first of the order first.
pub const PARTS: [&str; 14] = [
    "tasks with a CPU near each of their GPUs",
    "CPUs as asked",
    "local CPUs",
    "tasks wholly local",
    "tasks on one node",
    "tasks on one package",
    "CPUs on the packages of the GPUs",
    "CPUs as near to the GPUs as can be",
    "local CPUs up to an even share",
    "tasks below one cache",
    "tasks with whole cores",
    "as many cores' worth of CPUs for each",
    "few caches for each",
    "as many CPUs for each",
];

/// One CPU of a step, by what it is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// Its NUMA node.
    pub node: usize,
    /// Its package.
    pub package: usize,
    /// Its last-level cache; any one number where caches are not known or a core's own.
    pub cache: usize,
    /// Its core.
    pub core: usize,
}

/// One task of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The nodes near each of its GPUs.
    pub gpus: Vec<BTreeSet<usize>>,
}

impl Task {
    fn is_near(&self, node: usize) -> bool {
        self.gpus.iter().any(|nodes| nodes.contains(&node))
    }

    /// Whether its GPUs are on different nodes.
    fn is_spanning(&self) -> bool {
        self.gpus.windows(2).any(|pair| pair.first() != pair.last())
    }
}

/// How the machine's nodes lie.
#[derive(Debug, Clone, Default)]
pub struct Nodes {
    /// The package of each; a node that is not here is on one that is not known.
    pub packages: HashMap<usize, usize>,
    /// From a GPU's node, the first, to a CPU's.
    pub distances: HashMap<(usize, usize), i64>,
}

/// A step whose CPUs are split over its tasks.
#[derive(Debug, Clone)]
pub struct Step {
    /// How the machine's nodes lie.
    pub nodes: Nodes,
    /// Its CPUs.
    pub cpus: Vec<Cpu>,
    /// The tasks that take part, each with GPUs whose nodes are known.
    pub tasks: Vec<Task>,
    /// CPUs that each task asked for.
    pub asked: usize,
    /// Whether each must have a CPU near each of its GPUs that the step has one near to (a strict policy).
    pub must_reach: bool,
}

/// Farther than firmware says of any node.
const UNKNOWN: i64 = 255;

/// What the order looks at in one task's CPUs.
#[derive(Default)]
struct Facts {
    held: usize,
    local: usize,
    nodes: BTreeSet<usize>,
    packages: BTreeSet<usize>,
    /// Local or on a package of its GPUs.
    at_home: usize,
    /// From its GPUs to the farthest; 0 where all are local.
    farthest: i64,
    caches: usize,
    shares_core: bool,
}

impl Step {
    /// The fewest CPUs that a task may get: what it asked for, or an even share where there are too few for all.
    pub fn least(&self) -> usize {
        let share = self.cpus.len().checked_div(self.tasks.len());
        self.asked.min(share.unwrap_or(0))
    }

    /// The merit of a split: for each task, which of the step's CPUs it has.  One that several have is local once.
    pub fn merit(&self, split: &[Vec<usize>]) -> Merit {
        let mut merit = [0; 14];
        let mut counted = BTreeSet::new();
        let (threads, shares) = (self.threads(), self.even_shares());
        for (task, (wants, mine)) in self.tasks.iter().zip(split).enumerate() {
            let mut facts = Facts::default();
            let mut caches = BTreeSet::new();
            let mut local = 0;
            for (index, cpu) in mine
                .iter()
                .filter_map(|one| Some((*one, self.cpus.get(*one)?)))
            {
                facts.held += 1;
                if wants.is_near(cpu.node) {
                    facts.local += 1;
                    local += i64::from(counted.insert(index));
                }
                self.see(wants, cpu.node, 1, &mut facts);
                facts.nodes.insert(cpu.node);
                facts.packages.insert(cpu.package);
                caches.insert((cpu.node, cpu.cache));
                let has_of = |other: &Vec<usize>| {
                    let mut cpus = other.iter().filter_map(|one| self.cpus.get(*one));
                    cpus.any(|other| other.core == cpu.core)
                };
                let mut others = split.iter().enumerate().filter(|(other, _)| *other != task);
                facts.shares_core |= others.any(|(_, other)| has_of(other));
            }
            facts.caches = caches.len();
            let share = shares.get(task).copied().unwrap_or(0);
            add(&mut merit, self.merit_of(wants, &facts, share, threads));
            // What a task is near to it has, though another has it too.
            merit[2] += local - number(facts.local);
        }
        merit
    }

    /// Notes where `cpus` CPUs of a node are, seen from a task's GPUs.
    fn see(&self, task: &Task, node: usize, cpus: usize, facts: &mut Facts) {
        if task.is_near(node) {
            facts.at_home += cpus;
            return;
        }
        let homes = task.gpus.iter().flatten();
        let package = |node| self.nodes.packages.get(node);
        if package(&node).is_some() && homes.clone().any(|home| package(home) == package(&node)) {
            facts.at_home += cpus;
        }
        let distance = |home: &usize| self.nodes.distances.get(&(*home, node)).copied();
        let nearest = homes.map(|home| distance(home).unwrap_or(UNKNOWN)).min();
        facts.farthest = facts.farthest.max(nearest.unwrap_or(UNKNOWN));
    }

    /// CPUs of the largest core.
    fn threads(&self) -> usize {
        let on = |core| self.cpus.iter().filter(|cpu| cpu.core == core).count();
        let sizes = self.cpus.iter().map(|cpu| on(cpu.core));
        sizes.max().unwrap_or(1)
    }

    /// The CPUs of as many whole cores as each task has where what is local to those who meet on some node, or meet
    /// others who do, is dealt evenly.
    fn even_shares(&self) -> Vec<usize> {
        let threads = self.threads();
        let share = |task: &Task| {
            let mut nodes: BTreeSet<usize> = task.gpus.iter().flatten().copied().collect();
            let meets = |task: &&Task, nodes: &BTreeSet<usize>| {
                nodes.iter().any(|node| task.is_near(*node))
            };
            loop {
                let met = self.tasks.iter().filter(|task| meets(task, &nodes));
                let wider: BTreeSet<usize> = met
                    .flat_map(|task| task.gpus.iter().flatten().copied())
                    .collect();
                if wider.len() <= nodes.len() {
                    break;
                }
                nodes = wider;
            }
            let local = self
                .cpus
                .iter()
                .filter(|cpu| nodes.contains(&cpu.node))
                .count();
            let tasks = self.tasks.iter().filter(|task| meets(task, &nodes)).count();
            (local / threads).checked_div(tasks).unwrap_or(0) * threads
        };
        self.tasks.iter().map(share).collect()
    }

    fn merit_of(&self, task: &Task, facts: &Facts, share: usize, threads: usize) -> Merit {
        if facts.held == 0 {
            return [0; 14];
        }
        let is_there =
            |nodes: &BTreeSet<usize>| self.cpus.iter().any(|cpu| nodes.contains(&cpu.node));
        let touches_all = task
            .gpus
            .iter()
            .all(|nodes| !is_there(nodes) || !nodes.is_disjoint(&facts.nodes));
        let is_together = !task.is_spanning();
        [
            i64::from(self.must_reach && facts.local > 0 && touches_all),
            number(facts.held.min(self.asked)),
            number(facts.local),
            i64::from(facts.local == facts.held && touches_all),
            i64::from(is_together && facts.nodes.len() == 1),
            i64::from(is_together && facts.packages.len() == 1),
            number(facts.at_home.min(self.asked)),
            -facts.farthest,
            number(facts.local.min(share)),
            i64::from(is_together && facts.caches == 1),
            i64::from(!facts.shares_core),
            -number(facts.held.div_ceil(threads)).pow(2),
            -number(facts.caches),
            -number(facts.held).pow(2),
        ]
    }

    /// A merit that no split exceeds, for steps that are too large to try all: a split that has it is the best.
    ///
    /// Each part is the most that a split can have of it that has what is said here of the parts before.  In the order of
    /// [`PARTS`]: no task has more than what it asks for, no CPU is local twice.  Where all local CPUs are dealt and every
    /// task is wholly local, those that meet on some node have that node's CPUs and no others, so what follows is reckoned
    /// for each such group by itself.
    pub fn bound(&self) -> Merit {
        let all = number(self.tasks.len());
        let asked = number(self.tasks.len() * self.asked);
        let mut bound = [0; 14];
        bound[0] = if self.must_reach { all } else { 0 };
        bound[1] = asked;
        bound[3] = all;
        bound[6] = asked;
        let shares = self.even_shares();
        bound[8] = number(shares.iter().sum());
        for group in self.groups() {
            add(&mut bound, self.bound_of(&group, &shares));
        }
        bound
    }

    /// Tasks that meet on some node of the step, or meet others who do.
    fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups: Vec<(BTreeSet<usize>, Vec<usize>)> = Vec::new();
        for (index, task) in self.tasks.iter().enumerate() {
            let here = |cpu: &&Cpu| task.is_near(cpu.node);
            let nodes: BTreeSet<usize> =
                self.cpus.iter().filter(here).map(|cpu| cpu.node).collect();
            let (met, apart): (Vec<_>, Vec<_>) = groups
                .into_iter()
                .partition(|(others, _)| !others.is_disjoint(&nodes));
            let mut joined = (nodes, vec![index]);
            for (nodes, tasks) in met {
                joined.0.extend(nodes);
                joined.1.extend(tasks);
            }
            groups = apart;
            groups.push(joined);
        }
        groups.into_iter().map(|(_, tasks)| tasks).collect()
    }

    /// What one group adds to the [bound](Step::bound).
    fn bound_of(&self, group: &[usize], shares: &[usize]) -> Merit {
        let tasks: Vec<&Task> = group
            .iter()
            .filter_map(|index| self.tasks.get(*index))
            .collect();
        let is_local = |cpu: &&Cpu| tasks.iter().any(|task| task.is_near(cpu.node));
        let local: Vec<&Cpu> = self.cpus.iter().filter(is_local).collect();
        let mut caches: HashMap<(usize, usize), usize> = HashMap::new();
        for cpu in &local {
            *caches.entry((cpu.node, cpu.cache)).or_default() += 1;
        }
        let cores: BTreeSet<usize> = local.iter().map(|cpu| cpu.core).collect();
        let (threads, count) = (self.threads(), tasks.len());
        let together = tasks.iter().filter(|task| !task.is_spanning()).count();

        // Each has its share by now, and where there are fewer tasks than caches somebody has CPUs below two.
        let share = group.iter().filter_map(|index| shares.get(*index)).min();
        let least = share.copied().unwrap_or(0).max(self.asked).max(1);
        let places: usize = caches.values().map(|cpus| cpus / least).sum();
        let mut below_one = together.min(places);
        if count < caches.len() {
            below_one = below_one.min(count.saturating_sub(1));
        }
        // Those with whole cores of their own have as many as what they asked for fills, the others no fewer CPUs than that.
        let are_alike = local.len() == cores.len() * threads;
        let whole = self.asked.div_ceil(threads).max(1);
        let mut apart = count.min(cores.len());
        if are_alike {
            let more = (whole * threads).saturating_sub(least);
            let room = local.len().saturating_sub(count * least);
            apart = apart
                .min(cores.len() / whole)
                .min(room.checked_div(more).unwrap_or(count));
        }
        let has_whole = are_alike && apart == count;
        let worth = local.len().div_ceil(threads).max(count * whole);
        // Where no cache takes another task whole, the rest make do with what is left below each.
        let mut left: Vec<usize> = caches.values().map(|cpus| cpus % least).collect();
        left.sort_unstable_by(|a, b| b.cmp(a));
        let mut sums = left.iter().scan(0, |sum, cpus| {
            *sum += cpus;
            Some(*sum)
        });
        let each = sums.position(|sum| sum >= least).map_or(2, |at| at + 1);
        let each = if below_one == places { each.max(2) } else { 2 };
        // Tasks whose GPUs are on different nodes are not counted below one cache, but one may be all that they need.
        let of_one = tasks.iter().filter(|task| task.is_spanning());
        let of_one = of_one.filter(|task| self.has_one_for_all(task)).count();
        let few_caches =
            (below_one + of_one + (count - below_one - of_one) * each).max(caches.len());
        // Where all are below one cache with cores of their own, what is below each is dealt to those there.
        let whole_squares = if below_one == count {
            let below = |cache: &(usize, usize)| {
                let here = |cpu: &&&Cpu| (cpu.node, cpu.cache) == *cache;
                let cores = local.iter().filter(here).map(|cpu| cpu.core);
                cores.collect::<BTreeSet<usize>>().len()
            };
            squares_apart(&caches.keys().map(below).collect::<Vec<_>>(), count)
        } else {
            squares(cores.len(), count)
        };
        let mut bound = [0; 14];
        bound[2] = number(local.len());
        bound[4] = number(together);
        bound[5] = number(together);
        bound[9] = number(below_one);
        bound[10] = number(apart);
        bound[11] = if has_whole {
            -whole_squares
        } else {
            -squares(worth, count)
        };
        bound[12] = -number(few_caches);
        bound[13] = if has_whole {
            -whole_squares * number(threads).pow(2)
        } else {
            -squares(local.len(), count)
        };
        bound
    }

    /// Whether one node with CPUs is near all GPUs of a task that any is near to.
    fn has_one_for_all(&self, task: &Task) -> bool {
        let is_there = |node: &usize| self.cpus.iter().any(|cpu| cpu.node == *node);
        let mut nodes = task.gpus.iter().filter(|nodes| nodes.iter().any(is_there));
        let Some(first) = nodes.next() else {
            return false;
        };
        let is_common = |node: &usize| nodes.clone().all(|others| others.contains(node));
        first.iter().any(|node| is_there(node) && is_common(node))
    }

    /// The merit of the best of all splits that give each task the [least](Step::least); none where no split does.
    pub fn best(&self) -> Option<Merit> {
        let mut nodes: Vec<usize> = self.cpus.iter().map(|cpu| cpu.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let package_of = |node: &usize| {
            let cpu = self.cpus.iter().find(|cpu| cpu.node == *node);
            cpu.map_or(0, |cpu| cpu.package)
        };
        let mut search = Search {
            step: self,
            packages: nodes.iter().map(package_of).collect(),
            threads: self.threads(),
            shares: self.even_shares(),
            known: HashMap::new(),
            choices: HashMap::new(),
            nodes,
        };
        let whole: Vec<NodeLeft> = search
            .nodes
            .iter()
            .map(|node| self.left_of(*node))
            .collect();
        search.best_from(0, &whole)
    }

    /// All of a node.
    fn left_of(&self, node: usize) -> NodeLeft {
        let mut caches: HashMap<usize, HashMap<usize, u8>> = HashMap::new();
        for cpu in self.cpus.iter().filter(|cpu| cpu.node == node) {
            *caches
                .entry(cpu.cache)
                .or_default()
                .entry(cpu.core)
                .or_default() += 1;
        }
        let cache = |cores: HashMap<usize, u8>| -> CacheLeft {
            let mut cores: CacheLeft = cores.into_values().map(|free| (free, false)).collect();
            cores.sort_unstable();
            cores
        };
        let mut caches: NodeLeft = caches.into_values().map(cache).collect();
        caches.sort();
        caches
    }
}

/// What is free of each core below one cache, and whether a task has CPUs of the core and leaves the rest to others.
type CacheLeft = Vec<(u8, bool)>;

/// What is free of a node, by cache.
type NodeLeft = Vec<CacheLeft>;

/// What a task may take below one cache or of one node.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Choice<Left> {
    cpus: usize,
    caches: usize,
    shares_core: bool,
    left: Left,
}

struct Search<'a> {
    step: &'a Step,
    nodes: Vec<usize>,
    packages: Vec<usize>,
    threads: usize,
    shares: Vec<usize>,
    /// What the tasks from one on make of what is left.
    known: HashMap<(usize, Vec<NodeLeft>), Option<Merit>>,
    choices: HashMap<NodeLeft, Vec<Choice<NodeLeft>>>,
}

impl Search<'_> {
    fn best_from(&mut self, task: usize, left: &[NodeLeft]) -> Option<Merit> {
        if task == self.step.tasks.len() {
            return Some([0; 14]);
        }
        let key = (task, left.to_vec());
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let mut best = None;
        self.try_from(task, left, &mut Vec::new(), &mut best);
        self.known.insert(key, best);
        best
    }

    /// Tries what a task may take of the nodes after those that `taken` is of.
    fn try_from(
        &mut self,
        task: usize,
        left: &[NodeLeft],
        taken: &mut Vec<Choice<NodeLeft>>,
        best: &mut Option<Merit>,
    ) {
        let step = self.step;
        let Some(wants) = step.tasks.get(task) else {
            return;
        };
        let at = taken.len();
        let (Some(node), Some(free)) = (self.nodes.get(at).copied(), left.get(at)) else {
            let mut facts = Facts::default();
            for (choice, (node, package)) in taken.iter().zip(self.nodes.iter().zip(&self.packages))
            {
                if choice.cpus > 0 {
                    facts.held += choice.cpus;
                    facts.local += if wants.is_near(*node) { choice.cpus } else { 0 };
                    step.see(wants, *node, choice.cpus, &mut facts);
                    facts.nodes.insert(*node);
                    facts.packages.insert(*package);
                    facts.caches += choice.caches;
                    facts.shares_core |= choice.shares_core;
                }
            }
            if facts.held < step.least() {
                return;
            }
            let share = self.shares.get(task).copied().unwrap_or(0);
            let mut merit = step.merit_of(wants, &facts, share, self.threads);
            let rest: Vec<NodeLeft> = taken.iter().map(|choice| choice.left.clone()).collect();
            if let Some(others) = self.best_from(task + 1, &rest) {
                add(&mut merit, others);
                *best = (*best).max(Some(merit));
            }
            return;
        };
        let most = if wants.is_near(node) {
            usize::MAX
        } else {
            step.asked
        };
        let choices = match self.choices.get(free) {
            Some(choices) => choices.clone(),
            None => {
                let choices = of_node(free);
                self.choices.insert(free.clone(), choices.clone());
                choices
            }
        };
        for choice in choices.into_iter().filter(|choice| choice.cpus <= most) {
            taken.push(choice);
            self.try_from(task, left, taken, best);
            taken.pop();
        }
    }
}

/// All that one task can take of a node.
fn of_node(node: &NodeLeft) -> Vec<Choice<NodeLeft>> {
    let mut all = BTreeSet::from([Choice::default()]);
    for cache in node {
        let here = of_cache(cache);
        let with_more = |so_far: &Choice<NodeLeft>| {
            let so_far = so_far.clone();
            here.iter().map(move |choice| {
                let mut left = so_far.left.clone();
                left.push(choice.left.clone());
                left.sort();
                Choice {
                    cpus: so_far.cpus + choice.cpus,
                    caches: so_far.caches + choice.caches,
                    shares_core: so_far.shares_core || choice.shares_core,
                    left,
                }
            })
        };
        all = all.iter().flat_map(with_more).collect();
    }
    all.into_iter().collect()
}

/// All that one task can take below one cache.
fn of_cache(cache: &CacheLeft) -> Vec<Choice<CacheLeft>> {
    let mut all = BTreeSet::from([Choice::default()]);
    for (free, is_shared) in cache {
        // How many, whether with others on the core, and what is left of it for them.
        let mut ways = vec![(0, false, Some((*free, *is_shared)))];
        for some in 1..=*free {
            let rest = free - some;
            if *is_shared || rest > 0 {
                ways.push((some, true, (rest > 0).then_some((rest, true))));
            }
            if !*is_shared {
                ways.push((some, false, None));
            }
        }
        let with_more = |so_far: &Choice<CacheLeft>| {
            let so_far = so_far.clone();
            ways.clone()
                .into_iter()
                .map(move |(some, shares_core, rest)| {
                    let mut left = so_far.left.clone();
                    left.extend(rest);
                    left.sort_unstable();
                    Choice {
                        cpus: so_far.cpus + usize::from(some),
                        caches: usize::from(so_far.cpus > 0 || some > 0),
                        shares_core: so_far.shares_core || shares_core,
                        left,
                    }
                })
        };
        all = all.iter().flat_map(with_more).collect();
    }
    all.into_iter().collect()
}

/// The least sum of squares of so many numbers that add up to `total`.
fn squares(total: usize, numbers: usize) -> i64 {
    let each = total.checked_div(numbers).unwrap_or(0);
    let more = total - each * numbers;
    number(more) * number(each + 1).pow(2) + number(numbers - more) * number(each).pow(2)
}

/// The least sum of squares where each of `count` numbers, at least one for each of `totals`, is a part of one of these.
fn squares_apart(totals: &[usize], count: usize) -> i64 {
    let mut parts: Vec<(usize, usize)> = totals.iter().map(|total| (*total, 1)).collect();
    // A further part makes less of a difference than the one before it.
    let gain = |(total, numbers): &(usize, usize)| {
        squares(*total, *numbers) - squares(*total, numbers + 1)
    };
    for _ in totals.len()..count {
        if let Some((_, numbers)) = parts.iter_mut().max_by_key(|part| gain(part)) {
            *numbers += 1;
        }
    }
    let sums = parts
        .into_iter()
        .map(|(total, numbers)| squares(total, numbers));
    sums.sum()
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn add(merit: &mut Merit, more: Merit) {
    for (mine, more) in merit.iter_mut().zip(more) {
        *mine += more;
    }
}
