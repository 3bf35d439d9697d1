//! The transportation problem behind `exclusive`: units of CPUs in cells, dealt to tasks at least cost.
//!
//! A cell is a NUMA node's share of the step, a unit a core (or a CPU).  Successive shortest paths keep
//! the assignment optimal after every unit: a task that needs one may displace another that has an
//! equally good place elsewhere.

/// What a unit costs a task, by where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    /// Whether the cell is local to the task.
    pub(super) local: bool,
    /// Cost of the first unit: 0 when local, growing with distance.
    pub(super) cost: u32,
    /// What each unit already held here adds, so that a task spreads over its GPUs' nodes.
    pub(super) step: u32,
}

/// A remote unit costs more than any number of steps and distances between local ones.
const REMOTE: i64 = 1 << 40;
/// A unit already held weighs more than spreading, so that tasks stay even.
const HELD: i64 = 1 << 20;

/// Units of each cell, and what each task holds of them.
#[derive(Debug)]
pub(super) struct Transport<'a> {
    edges: &'a [Vec<Edge>],
    left: Vec<u32>,
    held: Vec<Vec<u32>>,
    /// Units that each task holds.
    total: Vec<u32>,
    /// Whether every local unit costs the same and nobody holds a remote one: then no chain is cheaper
    /// than taking a local unit directly.
    is_flat: bool,
}

impl<'a> Transport<'a> {
    /// Starts with `units` in each cell; `edges` has one row per task with one entry per cell.
    pub(super) fn new(units: Vec<u32>, edges: &'a [Vec<Edge>]) -> Self {
        Self {
            edges,
            left: units,
            held: edges.iter().map(|row| vec![0; row.len()]).collect(),
            total: vec![0; edges.len()],
            is_flat: edges
                .iter()
                .flatten()
                .all(|edge| !edge.local || edge.step == 0),
        }
    }

    /// What each task holds of each cell, one row per task.
    pub(super) fn into_held(self) -> Vec<Vec<u32>> {
        self.held
    }

    /// Gives `task` one more unit, from wherever the whole costs least; false when none is left.
    pub(super) fn take(&mut self, task: usize) -> bool {
        if self.take_directly(task) {
            return true;
        }
        let mut start = vec![None; self.edges.len()];
        if let Some(slot) = start.get_mut(task) {
            *slot = Some(0);
        }
        self.augment(&start, false)
    }

    /// Gives one more local unit to the task of `takers` that holds least; false when none is left that
    /// is local to any of them.
    pub(super) fn take_local(&mut self, takers: &[bool]) -> bool {
        let least = (0..takers.len())
            .filter(|task| takers.get(*task) == Some(&true))
            .min_by_key(|task| self.total.get(*task).copied().unwrap_or(u32::MAX));
        if least.is_some_and(|task| self.take_directly(task)) {
            return true;
        }
        let start: Vec<Option<i64>> = self
            .total
            .iter()
            .zip(takers)
            .map(|(total, takes)| takes.then(|| i64::from(*total) * HELD))
            .collect();
        self.augment(&start, true)
    }

    /// Gives `task` a local unit from its first cell with one left, where nothing can be cheaper.
    fn take_directly(&mut self, task: usize) -> bool {
        let (true, Some(row)) = (self.is_flat, self.edges.get(task)) else {
            return false;
        };
        let local = row
            .iter()
            .zip(&self.left)
            .position(|(edge, left)| edge.local && *left > 0);
        local.is_some_and(|cell| {
            self.hold(task, cell, None);
            if let Some(left) = self.left.get_mut(cell) {
                *left -= 1;
            }
            true
        })
    }

    /// Counts a unit of cell `to` for `task`, given up in `from` or new.
    fn hold(&mut self, task: usize, to: usize, from: Option<usize>) {
        let Some(row) = self.held.get_mut(task) else {
            return;
        };
        if let Some(gained) = row.get_mut(to) {
            *gained += 1;
        }
        match from.and_then(|from| row.get_mut(from)) {
            Some(lost) => *lost -= 1,
            None => {
                if let Some(total) = self.total.get_mut(task) {
                    *total += 1;
                }
            }
        }
        let is_local = self
            .edges
            .get(task)
            .and_then(|row| row.get(to))
            .is_some_and(|edge| edge.local);
        self.is_flat &= is_local;
    }

    /// Finds the cheapest chain from a starting task to a cell with a unit left, and shifts along it.
    fn augment(&mut self, start: &[Option<i64>], local_only: bool) -> bool {
        let mut task_cost = start.to_vec();
        // For each cell, who takes from it; for each task, which cell it was displaced from.
        let mut taker: Vec<Option<usize>> = vec![None; self.left.len()];
        let mut cell_cost: Vec<Option<i64>> = vec![None; self.left.len()];
        let mut displaced: Vec<Option<usize>> = vec![None; start.len()];
        // Bellman-Ford: a chain visits each task at most once.
        for _ in 0..=start.len() {
            if !self.relax_cells(&task_cost, &mut cell_cost, &mut taker, local_only) {
                break;
            }
            self.relax_tasks(&cell_cost, &mut task_cost, &mut displaced);
        }
        let best = (0..self.left.len())
            .filter(|cell| self.left.get(*cell).is_some_and(|left| *left > 0))
            .filter_map(|cell| Some((cell_cost.get(cell).copied()??, cell)))
            .min();
        match best {
            Some((_, cell)) => self.shift(cell, &taker, &displaced),
            None => false,
        }
    }

    fn relax_cells(
        &self,
        task_cost: &[Option<i64>],
        cell_cost: &mut [Option<i64>],
        taker: &mut [Option<usize>],
        local_only: bool,
    ) -> bool {
        let mut changed = false;
        for (task, cost) in task_cost.iter().enumerate() {
            let (Some(cost), Some(row), Some(held)) =
                (cost, self.edges.get(task), self.held.get(task))
            else {
                continue;
            };
            for (cell, (edge, held)) in row.iter().zip(held).enumerate() {
                let (Some(known), Some(from)) = (cell_cost.get_mut(cell), taker.get_mut(cell))
                else {
                    continue;
                };
                let reached = cost + price(*edge, *held);
                if (edge.local || !local_only) && known.is_none_or(|known| reached < known) {
                    *known = Some(reached);
                    *from = Some(task);
                    changed = true;
                }
            }
        }
        changed
    }

    fn relax_tasks(
        &self,
        cell_cost: &[Option<i64>],
        task_cost: &mut [Option<i64>],
        displaced: &mut [Option<usize>],
    ) {
        for (task, (cost, from)) in task_cost.iter_mut().zip(displaced).enumerate() {
            let (Some(row), Some(held)) = (self.edges.get(task), self.held.get(task)) else {
                continue;
            };
            for (cell, ((edge, held), reached)) in row.iter().zip(held).zip(cell_cost).enumerate() {
                let (Some(reached), true) = (reached, *held > 0) else {
                    continue;
                };
                let refunded = reached - price(*edge, held - 1);
                if cost.is_none_or(|cost| refunded < cost) {
                    *cost = Some(refunded);
                    *from = Some(cell);
                }
            }
        }
    }

    /// Walks the chain back from `cell` to the task that started it.
    fn shift(&mut self, cell: usize, taker: &[Option<usize>], displaced: &[Option<usize>]) -> bool {
        let mut chain = Vec::new();
        let mut cell = cell;
        loop {
            let Some(task) = taker.get(cell).copied().flatten() else {
                return false;
            };
            let from = displaced.get(task).copied().flatten();
            chain.push((task, cell, from));
            match from {
                // A chain longer than the tasks would be a cycle, which optimal costs exclude.
                Some(_) if chain.len() > taker.len() + displaced.len() => return false,
                Some(earlier) => cell = earlier,
                None => break,
            }
        }
        if let Some(left) = chain
            .first()
            .and_then(|(_, cell, _)| self.left.get_mut(*cell))
        {
            *left -= 1;
        }
        for (task, to, from) in chain {
            self.hold(task, to, from);
        }
        true
    }
}

/// What one more unit costs a task that holds `held` of that cell.
fn price(edge: Edge, held: u32) -> i64 {
    let remote = if edge.local { 0 } else { REMOTE };
    remote + i64::from(edge.cost) * 1024 + i64::from(edge.step) * i64::from(held)
}
