//! The lines about all tasks of a host, and about a host's GPUs.

use super::{Verb, phrases};
use crate::binding::{Advice, CpusLeft, FasterCpus, SocketLink, Spanning, SpanningOver, Summary};
use crate::names::GpuNames;
use crate::set::NodeSet;

/// How to launch so that no task is short of local CPUs; none where nothing is known to help.
pub fn near_cpus_advice(advice: &Advice, verb: Verb) -> Option<String> {
    let ways = phrases::ways(advice, verb)?;
    Some(format!("would have local CPUs for every task: {ways}"))
}

/// The one line of a host and step.
pub fn summary_line(host: &str, summary: &Summary) -> String {
    match summary {
        Summary::NoGpu => format!("{host}: no task has a GPU; each is left as Slurm made it"),
        Summary::CpusLeft {
            why,
            nodes,
            memory,
            is_dry_run,
        } => cpus_left(host, *why, nodes, *memory, *is_dry_run),
        Summary::Unbound { nodes } => unbound(host, nodes),
        Summary::Bound {
            nodes,
            local,
            is_by_socket,
            far,
            partial,
            memory,
            fewest_cpus,
            most_cpus,
            known_cpus,
            are_shared,
            at_memory,
            is_mapped,
            is_dry_run,
        } => {
            let tasks = nodes.len();
            let width = phrases::widths(*known_cpus, *fewest_cpus, *most_cpus);
            let width = match *known_cpus {
                0 => "CPUs as Slurm gives them".to_owned(),
                known if known < tasks => format!("{width} where bound"),
                _ => width,
            };
            let width = if *are_shared {
                format!("{width}, which tasks share")
            } else {
                width
            };
            let width = match at_memory {
                0 => width,
                1 => format!("{width}; 1 task stays near the memory that --mem-bind names"),
                more => {
                    format!("{width}; {more} tasks stay near the memory that --mem-bind names")
                }
            };
            let width = if *is_mapped {
                format!("{width}; task k is taken to use the k-th share of the GPUs it sees")
            } else {
                width
            };
            let width = short_of(width, far, partial);
            let counts = Counts {
                tasks,
                local: *local,
                memory: *memory,
                cpus: if *is_by_socket { "sockets" } else { "CPUs" },
            };
            let nodes = phrases::nodes_of_tasks(nodes);
            if *is_dry_run {
                would_be_bound(host, counts, &nodes, &width)
            } else {
                bound(host, counts, &nodes, &width)
            }
        }
    }
}

/// How many of a host's tasks have what.
#[derive(Debug, Clone, Copy)]
struct Counts {
    /// Tasks with GPUs.
    tasks: usize,
    /// Those that have local CPUs only.
    local: usize,
    /// Those that get a memory policy.
    memory: usize,
    /// What of their GPUs they are on: CPUs or sockets.
    cpus: &'static str,
}

/// `line`, and which tasks no CPU, or only some, was left for.
fn short_of(line: String, far: &[(usize, NodeSet)], partial: &[(usize, NodeSet)]) -> String {
    let far = phrases::tasks_by_nodes(far).into_iter();
    let far = far.map(|(tasks, nodes)| format!("{tasks}: no CPU left on {nodes}"));
    let partial = phrases::tasks_by_nodes(partial).into_iter();
    let partial = partial.map(|(tasks, nodes)| format!("{tasks}: too few CPUs left on {nodes}"));
    far.chain(partial)
        .fold(line, |line, short| format!("{line}; {short}"))
}

fn cpus_left(
    host: &str,
    why: CpusLeft,
    nodes: &[NodeSet],
    memory: usize,
    is_dry_run: bool,
) -> String {
    let nodes = phrases::nodes_of_tasks(nodes);
    let left = match why {
        CpusLeft::UserCpus => "CPUs left to the user's --cpu-bind",
        CpusLeft::UserMemory => "CPUs left near the memory that --mem-bind names",
        CpusLeft::NotOwned => {
            "CPUs left as Slurm made them (Slurm bound no task, and which CPUs are the step's is unknown)"
        }
    };
    match (memory, is_dry_run) {
        (0, _) => format!("{host}: {left}; memory left as it is"),
        (1, false) => format!("{host}: {left}; memory of 1 task on its GPUs' {nodes}"),
        (1, true) => format!("{host}: {left}; memory of 1 task would be on its GPUs' {nodes}"),
        (_, false) => format!("{host}: {left}; memory of {memory} tasks on their GPUs' {nodes}"),
        (_, true) => {
            format!("{host}: {left}; memory of {memory} tasks would be on their GPUs' {nodes}")
        }
    }
}

fn unbound(host: &str, nodes: &[NodeSet]) -> String {
    let tasks = nodes.len();
    let is_unknown = nodes.iter().all(NodeSet::is_empty);
    let nodes = phrases::nodes_of_tasks(nodes);
    match (tasks, is_unknown) {
        (1, true) => format!(
            "{host}: the task is left as Slurm made it (the NUMA node of its GPUs is unknown)"
        ),
        (1, false) => format!("{host}: the task is left as Slurm made it (its GPUs: {nodes})"),
        (_, true) => format!(
            "{host}: none of {tasks} tasks is bound; each is left as Slurm made it (the NUMA nodes of their GPUs are unknown)"
        ),
        (_, false) => format!(
            "{host}: none of {tasks} tasks is bound; each is left as Slurm made it (their GPUs: {nodes})"
        ),
    }
}

fn bound(host: &str, counts: Counts, nodes: &str, width: &str) -> String {
    let Counts {
        tasks,
        local,
        memory,
        cpus,
    } = counts;
    match (tasks, local == tasks, memory) {
        (1, true, 0) => format!("{host}: 1 task on its GPUs' {cpus} ({nodes}), {width}"),
        (1, true, _) => format!("{host}: 1 task on its GPUs' {cpus} and memory ({nodes}), {width}"),
        (1, false, 0) => {
            format!("{host}: 1 task not wholly on its GPUs' {cpus} ({nodes}), {width}")
        }
        (1, false, _) => format!(
            "{host}: 1 task on its GPUs' memory, but not wholly on their {cpus} ({nodes}), {width}"
        ),
        (_, true, 0) => format!("{host}: {tasks} tasks on their GPUs' {cpus} ({nodes}), {width}"),
        (_, true, _) if memory == tasks => {
            format!("{host}: {tasks} tasks on their GPUs' {cpus} and memory ({nodes}), {width}")
        }
        (_, true, _) => format!(
            "{host}: {tasks} tasks on their GPUs' {cpus} and {memory} on their memory ({nodes}), {width}"
        ),
        (_, false, 0) => {
            format!("{host}: {local} of {tasks} tasks on their GPUs' {cpus} ({nodes}), {width}")
        }
        (_, false, _) => format!(
            "{host}: {local} of {tasks} tasks on their GPUs' {cpus} and {memory} on their memory ({nodes}), {width}"
        ),
    }
}

/// [`bound`] under the policy `none`.
fn would_be_bound(host: &str, counts: Counts, nodes: &str, width: &str) -> String {
    let Counts {
        tasks,
        local,
        memory,
        cpus,
    } = counts;
    match (tasks, local == tasks, memory) {
        (1, true, 0) => format!("{host}: 1 task would be on its GPUs' {cpus} ({nodes}), {width}"),
        (1, true, _) => {
            format!("{host}: 1 task would be on its GPUs' {cpus} and memory ({nodes}), {width}")
        }
        (1, false, 0) => {
            format!("{host}: 1 task would not be wholly on its GPUs' {cpus} ({nodes}), {width}")
        }
        (1, false, _) => format!(
            "{host}: 1 task would be on its GPUs' memory, but not wholly on their {cpus} ({nodes}), {width}"
        ),
        (_, true, 0) => {
            format!("{host}: {tasks} tasks would be on their GPUs' {cpus} ({nodes}), {width}")
        }
        (_, true, _) if memory == tasks => format!(
            "{host}: {tasks} tasks would be on their GPUs' {cpus} and memory ({nodes}), {width}"
        ),
        (_, true, _) => format!(
            "{host}: {tasks} tasks would be on their GPUs' {cpus} and {memory} on their memory ({nodes}), {width}"
        ),
        (_, false, 0) => {
            format!(
                "{host}: {local} of {tasks} tasks would be on their GPUs' {cpus} ({nodes}), {width}"
            )
        }
        (_, false, _) => format!(
            "{host}: {local} of {tasks} tasks would be on their GPUs' {cpus} and {memory} on their memory ({nodes}), {width}"
        ),
    }
}

/// The line about GPUs of a job that only the socket link joins.
pub fn socket_link_line(host: &str, link: &SocketLink, gpus: GpuNames<'_>) -> String {
    let pair = [link.a, link.b];
    let pair = phrases::gpus(&pair, gpus);
    let rating = link.rating.map(phrases::rating);
    let rating = rating.map_or_else(String::new, |rating| format!(" ({rating})"));
    let maker = link.maker;
    let Some((library, links)) =
        maker.and_then(|own| Some((own.collectives_name()?, own.link_name)))
    else {
        return format!("{host}: {pair} have no path but the socket link{rating}");
    };
    match link.crossings {
        0 => format!(
            "{host}: {pair} have no path but the socket link{rating}; {library}'s ring can go round it over {links}"
        ),
        1 => format!(
            "{host}: {pair} have no path but the socket link{rating}; {library}'s ring will cross it once"
        ),
        2 => format!(
            "{host}: {pair} have no path but the socket link{rating}; {library}'s ring will cross it twice"
        ),
        more => format!(
            "{host}: {pair} have no path but the socket link{rating}; {library}'s ring will cross such links {more} times"
        ),
    }
}

/// The line about a task whose GPUs are on several nodes.
pub fn spanning_line(host: &str, spanning: &Spanning) -> String {
    let Spanning {
        task,
        gpus,
        is_share,
        over,
        is_dry_run,
    } = spanning;
    let has = if *is_share { "uses" } else { "sees" };
    let place = match over {
        SpanningOver::Nodes(nodes) => format!("nodes {nodes}"),
        SpanningOver::Sockets(sockets) => format!("{sockets} sockets"),
    };
    let bound = if *is_dry_run {
        "would be bound to"
    } else {
        "is bound to"
    };
    format!(
        "{host} task {task} {has} {gpus} GPUs on {place} and {bound} CPUs of all of them; start its workers with `gpu-numa run --per-rank -- ...`"
    )
}

/// The line about CPUs that are faster than others; none for a plan without tasks.
pub fn faster_cpus_line(host: &str, faster: &FasterCpus) -> Option<String> {
    let FasterCpus { cpus, held } = faster;
    let (fewest, most) = (held.iter().min()?, held.iter().max()?);
    Some(if fewest == most {
        format!(
            "{host} CPUs {cpus} are faster than the step's others; each task has {most} of them"
        )
    } else {
        format!(
            "{host} CPUs {cpus} are faster than the step's others; tasks have {fewest} to {most} of them"
        )
    })
}

/// A page or a plan of a machine without a GPU, which may be a login node, or a step that asked for none.
pub fn no_gpu_on_host(host: &str) -> String {
    format!(
        "{host} has no GPU; nothing to bind. A step sees the GPUs that it asks for (srun --gpus=1 gpu-numa show); --from reads another machine's recording."
    )
}

/// `gpu-numa run` for a command that sees no GPU, of a machine that has some or none.
pub fn no_gpu_seen(host: &str, machine_has_gpus: bool) -> String {
    if machine_has_gpus {
        format!("{host}: your command sees no GPU (name some with --gpus), so it runs unbound")
    } else {
        format!("{host}: this machine has no GPU, so your command runs unbound")
    }
}
