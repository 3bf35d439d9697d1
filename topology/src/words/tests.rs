//! Every line as people read it, in both voices.

use super::*;
use crate::binding::{
    Advice, Cost, CpusLeft, MemoryLeft, MemoryPlan, MemoryPolicy, Misfit, Place, Refusal,
    SocketLink, Spanning, SpanningOver, Summary, TaskCase, TaskPlan, Verdict, WholeHost,
};
use crate::machine::{Gpu, Machine, MemoryRating};
use crate::names::GpuNames;
use crate::nics::NicDocument;
use crate::option::Policy;
use crate::pci::{PciAddress, PciDevice};
use crate::set::NodeSet;
use crate::vendor::GpuVendor;

const ADDRESSES: GpuNames<'_> = GpuNames::ADDRESSES;

const VOICES: [Voice; 2] = [Voice::Step, Voice::Process];

fn gpu(bus: u8) -> PciAddress {
    format!("0000:{bus:02x}:00.0").parse().unwrap()
}

fn nodes(list: &str) -> NodeSet {
    list.parse().unwrap()
}

fn each(lists: &[&str]) -> Vec<NodeSet> {
    lists.iter().map(|list| nodes(list)).collect()
}

fn memory(policy: MemoryPolicy, list: &str) -> MemoryPlan {
    MemoryPlan {
        policy,
        nodes: nodes(list),
        left: None,
        follows_cpus: false,
        is_far: false,
    }
}

/// Task 2 with GPU 21 on node 0, CPUs 0-3 and memory preferred there.
fn plan(case: TaskCase, verdict: Verdict) -> TaskPlan {
    TaskPlan {
        task: 2,
        gpus: vec![gpu(0x21)],
        is_share: false,
        cpus: "0-3".parse().unwrap(),
        memory: memory(MemoryPolicy::PreferredMany, "0"),
        verdict,
        case,
        is_dry_run: false,
        lacks_local_cpus: false,
        is_trouble: false,
        bind_cpus: true,
        bind_memory: true,
    }
}

fn placed(local_cpus: usize, verdict: Verdict) -> TaskPlan {
    let gpu_nodes = nodes("0");
    plan(
        TaskCase::Placed {
            gpu_nodes,
            local_cpus,
            far_gpus: Vec::new(),
        },
        verdict,
    )
}

/// One line for both voices.
fn both(plan: &TaskPlan, line: &str) {
    for voice in VOICES {
        assert_eq!(task_message(plan, ADDRESSES, voice), line);
    }
}

/// The line of each voice; that of a process knows neither Slurm nor a step.
fn two(plan: &TaskPlan, step: &str, process: &str) {
    assert_eq!(task_message(plan, ADDRESSES, Voice::Step), step);
    assert_eq!(task_message(plan, ADDRESSES, Voice::Process), process);
    assert!(!process.contains("Slurm") && !process.contains("step"));
}

#[test]
fn a_placed_task_has_its_gpus_cpus_memory_and_verdict() {
    let local = placed(4, Verdict::Local);
    both(
        &local,
        "GPU 0000:21:00.0 node 0, CPUs 0-3, memory prefers node 0: local",
    );
    assert_eq!(
        task_line("gpunode", &local, ADDRESSES, Voice::Step),
        "gpunode task 2: GPU 0000:21:00.0 node 0, CPUs 0-3, memory prefers node 0: local"
    );
    both(
        &placed(3, Verdict::Partial),
        "GPU 0000:21:00.0 node 0, CPUs 0-3, memory prefers node 0: partial (3 of 4 CPUs local)",
    );
    both(
        &placed(0, Verdict::Remote),
        "GPU 0000:21:00.0 node 0, CPUs 0-3, memory prefers node 0: remote (0 of 4 CPUs local)",
    );
    let gpu_nodes = nodes("0-1");
    let case = TaskCase::Placed {
        gpu_nodes,
        local_cpus: 4,
        far_gpus: Vec::new(),
    };
    let spanning = TaskPlan {
        gpus: vec![gpu(0x21), gpu(0x22), gpu(0x83)],
        memory: memory(MemoryPolicy::PreferredMany, "0-1"),
        ..plan(case, Verdict::Spanning)
    };
    both(
        &spanning,
        "GPUs 0000:21:00.0, 0000:22:00.0 and 0000:83:00.0 nodes 0-1, CPUs 0-3, memory prefers nodes 0-1: \
         spanning (its GPUs are on several nodes)",
    );
    let share = TaskPlan {
        is_share: true,
        cpus: "1".parse().unwrap(),
        ..placed(1, Verdict::Local)
    };
    both(
        &share,
        "GPU 0000:21:00.0 (its share by local id) node 0, CPU 1, memory prefers node 0: local",
    );
}

#[test]
fn the_policy_none_says_that_nothing_is_changed() {
    for (local, verdict, end) in [
        (4, Verdict::Local, "local (policy none changes nothing)"),
        (
            3,
            Verdict::Partial,
            "partial (3 of 4 CPUs local; policy none changes nothing)",
        ),
        (
            0,
            Verdict::Remote,
            "remote (0 of 4 CPUs local; policy none changes nothing)",
        ),
        (
            4,
            Verdict::Spanning,
            "spanning (its GPUs are on several nodes; policy none changes nothing)",
        ),
    ] {
        let dry = TaskPlan {
            is_dry_run: true,
            ..placed(local, verdict)
        };
        both(
            &dry,
            &format!("GPU 0000:21:00.0 node 0, CPUs 0-3, memory prefers node 0: {end}"),
        );
    }
}

#[test]
fn every_kind_of_memory_policy_has_its_words() {
    for (memory, words) in [
        (
            memory(MemoryPolicy::Preferred, "0"),
            "memory prefers node 0",
        ),
        (
            memory(MemoryPolicy::PreferredMany, "0-1"),
            "memory prefers nodes 0-1",
        ),
        (memory(MemoryPolicy::Bind, "0"), "memory bound to node 0"),
        (
            memory(MemoryPolicy::Interleave, "0-1"),
            "memory interleaved over nodes 0-1",
        ),
        (
            MemoryPlan::left(MemoryLeft::UserBound),
            "memory left to the user's --mem-bind",
        ),
        (
            MemoryPlan {
                left: Some(MemoryLeft::UserBound),
                ..memory(MemoryPolicy::Bind, "1")
            },
            "memory bound to node 1 by the user's --mem-bind",
        ),
        (
            MemoryPlan {
                left: Some(MemoryLeft::UserBound),
                ..memory(MemoryPolicy::Preferred, "1")
            },
            "memory prefers node 1 by the user's --mem-bind",
        ),
        (
            MemoryPlan {
                follows_cpus: true,
                ..memory(MemoryPolicy::Bind, "0")
            },
            "memory bound to node 0 (the user's --mem-bind=local)",
        ),
        (
            MemoryPlan {
                follows_cpus: true,
                ..memory(MemoryPolicy::Preferred, "0")
            },
            "memory prefers node 0 (the user's --mem-bind=local)",
        ),
        (MemoryPlan::unchanged(), "memory left as it is"),
        (
            MemoryPlan::left(MemoryLeft::DefaultFits),
            "memory by the default policy",
        ),
    ] {
        let task = TaskPlan {
            memory,
            ..placed(4, Verdict::Local)
        };
        both(
            &task,
            &format!("GPU 0000:21:00.0 node 0, CPUs 0-3, {words}: local"),
        );
    }
}

#[test]
fn memory_of_another_node_than_the_gpus_is_said() {
    for (policy, words) in [
        (MemoryPolicy::Preferred, "memory prefers node 1"),
        (MemoryPolicy::PreferredMany, "memory prefers node 1"),
        (MemoryPolicy::Bind, "memory bound to node 1"),
        (MemoryPolicy::Interleave, "memory interleaved over node 1"),
    ] {
        let task = TaskPlan {
            memory: memory(policy, "1"),
            ..placed(4, Verdict::Local)
        };
        both(
            &task,
            &format!("GPU 0000:21:00.0 node 0, CPUs 0-3, {words} (none for it on node 0): local"),
        );
    }
}

#[test]
fn a_task_that_is_left_says_why() {
    let left = |case| TaskPlan {
        bind_cpus: false,
        ..plan(case, Verdict::Unbound)
    };
    two(
        &left(TaskCase::Off),
        "off: left as Slurm made it",
        "off: left as it is",
    );
    two(
        &left(TaskCase::NoGpu),
        "sees no GPU; left as Slurm made it",
        "sees no GPU; left as it is",
    );
    let unknown = left(TaskCase::UnknownNode {
        gpu: gpu(0x21),
        can_be_named: true,
    });
    two(
        &unknown,
        "the NUMA node of GPU 0000:21:00.0 is unknown; left as Slurm made it \
         (name the node in /etc/gpu-numa-bind/localities)",
        "the NUMA node of GPU 0000:21:00.0 is unknown; left as it is \
         (name the node in /etc/gpu-numa-bind/localities)",
    );
    let moved = TaskPlan {
        bind_cpus: true,
        ..unknown
    };
    both(
        &moved,
        "the NUMA node of GPU 0000:21:00.0 is unknown; moved to CPUs 0-3 \
         (name the node in /etc/gpu-numa-bind/localities)",
    );
    let dry = TaskPlan {
        is_dry_run: true,
        ..moved
    };
    both(
        &dry,
        "the NUMA node of GPU 0000:21:00.0 is unknown; would be moved to CPUs 0-3 \
         (name the node in /etc/gpu-numa-bind/localities)",
    );
    for (why, line) in [
        (
            CpusLeft::UserCpus,
            "CPUs 0-3 left to the user's --cpu-bind, memory prefers node 0",
        ),
        (
            CpusLeft::UserMemory,
            "CPUs 0-3 left near the user's memory, memory prefers node 0",
        ),
        (
            CpusLeft::NotOwned,
            "CPUs 0-3 left as Slurm made it (which of them are the step's is unknown), memory prefers node 0",
        ),
    ] {
        let gpu_nodes = nodes("0");
        both(
            &left(TaskCase::CpusLeft { gpu_nodes, why }),
            &format!("GPU 0000:21:00.0 node 0, {line}"),
        );
    }
    let gpu_nodes = nodes("0");
    two(
        &left(TaskCase::Crowded { gpu_nodes }),
        "GPU 0000:21:00.0 node 0: other tasks have all of the step's CPUs there; left as Slurm made it, \
         memory prefers node 0",
        "GPU 0000:21:00.0 node 0: other ranks have all the CPUs there; left as it is, memory prefers node 0",
    );
}

fn far(crosses_socket: bool, slit: Option<u32>) -> TaskPlan {
    let case = TaskCase::Far {
        gpu_nodes: nodes("1"),
        step: Place {
            cpus: "1".parse().unwrap(),
            nodes: nodes("0"),
        },
        cost: Cost {
            crosses_socket,
            rating: slit.map(|slit| MemoryRating::Firmware { slit }),
        },
    };
    TaskPlan {
        bind_cpus: false,
        ..plan(case, Verdict::Unbound)
    }
}

#[test]
fn a_far_task_says_where_its_gpu_is_what_it_has_and_what_it_pays() {
    let left = far(true, Some(21));
    two(
        &left,
        "GPU 0000:21:00.0 is on node 1, but the step only has CPU 1, on node 0; left as Slurm made it \
         (every copy crosses the socket link; memory across it: SLIT 21, by firmware 2.1x local latency)",
        "GPU 0000:21:00.0 is on node 1, but this process may only use CPU 1, on node 0; left as it is \
         (every copy crosses the socket link; memory across it: SLIT 21, by firmware 2.1x local latency)",
    );
    let moved = TaskPlan {
        bind_cpus: true,
        ..left.clone()
    };
    two(
        &moved,
        "GPU 0000:21:00.0 is on node 1, but the step only has CPU 1, on node 0; moved to CPUs 0-3 \
         (every copy crosses the socket link; memory across it: SLIT 21, by firmware 2.1x local latency)",
        "GPU 0000:21:00.0 is on node 1, but this process may only use CPU 1, on node 0; moved to CPUs 0-3 \
         (every copy crosses the socket link; memory across it: SLIT 21, by firmware 2.1x local latency)",
    );
    let dry = TaskPlan {
        is_dry_run: true,
        ..moved.clone()
    };
    two(
        &dry,
        "GPU 0000:21:00.0 is on node 1, but the step only has CPU 1, on node 0; would be moved to CPUs 0-3 \
         (every copy crosses the socket link; memory across it: SLIT 21, by firmware 2.1x local latency)",
        "GPU 0000:21:00.0 is on node 1, but this process may only use CPU 1, on node 0; would be moved to CPUs 0-3 \
         (every copy crosses the socket link; memory across it: SLIT 21, by firmware 2.1x local latency)",
    );
    let gpus = vec![gpu(0x21), gpu(0x22)];
    let several = |plan: &TaskPlan| TaskPlan {
        gpus: gpus.clone(),
        ..plan.clone()
    };
    two(
        &several(&left),
        "GPUs 0000:21:00.0 and 0000:22:00.0 are on node 1, but the step only has CPU 1, on node 0; \
         left as Slurm made it (every copy crosses the socket link; memory across it: SLIT 21, by firmware 2.1x local latency)",
        "GPUs 0000:21:00.0 and 0000:22:00.0 are on node 1, but this process may only use CPU 1, on node 0; \
         left as it is (every copy crosses the socket link; memory across it: SLIT 21, by firmware 2.1x local latency)",
    );
    two(
        &several(&moved),
        "GPUs 0000:21:00.0 and 0000:22:00.0 are on node 1, but the step only has CPU 1, on node 0; \
         moved to CPUs 0-3 (every copy crosses the socket link; memory across it: SLIT 21, by firmware 2.1x local latency)",
        "GPUs 0000:21:00.0 and 0000:22:00.0 are on node 1, but this process may only use CPU 1, on node 0; \
         moved to CPUs 0-3 (every copy crosses the socket link; memory across it: SLIT 21, by firmware 2.1x local latency)",
    );
    two(
        &several(&dry),
        "GPUs 0000:21:00.0 and 0000:22:00.0 are on node 1, but the step only has CPU 1, on node 0; \
         would be moved to CPUs 0-3 (every copy crosses the socket link; memory across it: SLIT 21, by firmware 2.1x local latency)",
        "GPUs 0000:21:00.0 and 0000:22:00.0 are on node 1, but this process may only use CPU 1, on node 0; \
         would be moved to CPUs 0-3 (every copy crosses the socket link; memory across it: SLIT 21, by firmware 2.1x local latency)",
    );
    for (crosses, slit, cost) in [
        (true, None, "(every copy crosses the socket link)"),
        (
            false,
            Some(12),
            "(every copy leaves the node; memory beyond it: SLIT 12, by firmware 1.2x local latency)",
        ),
        (false, None, "(every copy leaves the node)"),
    ] {
        let said = task_message(&far(crosses, slit), ADDRESSES, Voice::Step);
        assert!(said.ends_with(cost), "{said}");
    }
}

fn refusal(misfit: Misfit) -> Refusal {
    Refusal {
        task: 1,
        misfit,
        step: Place {
            cpus: "0-3".parse().unwrap(),
            nodes: nodes("0"),
        },
    }
}

#[test]
fn every_refusal_says_what_does_not_fit_and_what_would() {
    let gpus = || vec![gpu(0x21)];
    for (misfit, step, process, fits) in [
        (
            Misfit::UnknownNode {
                gpu: gpu(0x21),
                can_be_named: true,
            },
            "the NUMA node of task 1's GPU 0000:21:00.0 is unknown; the step has CPUs 0-3, on node 0",
            "the NUMA node of GPU 0000:21:00.0 is unknown; this process may use CPUs 0-3, on node 0",
            "its NUMA node named in /etc/gpu-numa-bind/localities (\"0000:21:00.0 N\", N the node's number)",
        ),
        (
            Misfit::NoLocalCpu {
                gpu: gpu(0x83),
                nodes: nodes("1"),
            },
            "task 1's GPU 0000:83:00.0 is on node 1, but the step only has CPUs 0-3, on node 0",
            "GPU 0000:83:00.0 is on node 1, but this process may only use CPUs 0-3, on node 0",
            "sbatch --gres-flags=enforce-binding, or sbatch --exclusive, if Cores= in gres.conf is right",
        ),
        (
            Misfit::NoSharedNode {
                gpus: vec![(gpu(0x21), nodes("0")), (gpu(0x83), nodes("1"))],
            },
            "task 1's GPUs 0000:21:00.0 (node 0) and 0000:83:00.0 (node 1) share no node; \
             the step has CPUs 0-3, on node 0",
            "GPUs 0000:21:00.0 (node 0) and 0000:83:00.0 (node 1) share no node; \
             this process may use CPUs 0-3, on node 0",
            "--gpus-per-task=1, if Cores= in gres.conf is right",
        ),
        (
            Misfit::TooFewLocal {
                gpus: gpus(),
                nodes: nodes("0"),
                asked: 2,
                local: 1,
            },
            "task 1 asked for 2 CPUs, but the step (CPUs 0-3) has only 1 CPU on node 0 of GPU 0000:21:00.0",
            "2 CPUs are asked for, but this process (CPUs 0-3) may use only 1 CPU on node 0 of GPU 0000:21:00.0",
            "--cpus-per-task=1, or sbatch --exclusive, if Cores= in gres.conf is right",
        ),
        (
            Misfit::TooFewLeft {
                gpus: gpus(),
                nodes: nodes("0"),
                asked: 3,
                local: 2,
            },
            "task 1 asked for 3 CPUs, but the other tasks leave it 2 CPUs of what the step (CPUs 0-3) has on node 0 of \
             GPU 0000:21:00.0",
            "rank 1 needs 3 CPUs, but the other ranks leave it 2 CPUs (of CPUs 0-3) on node 0 of GPU 0000:21:00.0",
            "--cpus-per-task=2, or sbatch --exclusive, if Cores= in gres.conf is right",
        ),
        (
            Misfit::TooFewLeft {
                gpus: gpus(),
                nodes: nodes("0"),
                asked: 1,
                local: 0,
            },
            "task 1 asked for 1 CPU, but the other tasks need all that the step (CPUs 0-3) has on node 0 of \
             GPU 0000:21:00.0",
            "rank 1 needs 1 CPU, but the other ranks need all CPUs (of CPUs 0-3) on node 0 of GPU 0000:21:00.0",
            "--cpus-per-task=1, or sbatch --exclusive, if Cores= in gres.conf is right",
        ),
    ] {
        let refused = refusal(misfit);
        let advice = Advice {
            whole_host: fits.contains("--exclusive").then_some(WholeHost::Shell),
            enforce_binding: fits.contains("enforce-binding"),
            cpus_per_task: fits
                .split_once("--cpus-per-task=")
                .and_then(|(_, rest)| rest.split(',').next()?.parse().ok()),
            one_gpu: fits.contains("--gpus-per-task=1"),
        };
        assert_eq!(
            advice_line(&refused, &advice, Verb::Sbatch),
            format!(
                "would fit: {fits}; to run as it is: --gpu-numa-bind=best-effort; \
                 add --kill-on-bad-exit=1 so that a refused host ends the whole step"
            )
        );
        assert_eq!(
            step_refused_line(
                "12.0",
                "gpunode",
                Policy::Restricted,
                1,
                &refused,
                ADDRESSES
            ),
            format!("step 12.0 refused on gpunode (restricted): {step}")
        );
        assert_eq!(
            step_refused_line(
                "12.0",
                "gpunode",
                Policy::SingleNumaNode,
                4,
                &refused,
                ADDRESSES
            ),
            format!("step 12.0 refused on gpunode (single-numa-node, all 4 tasks here): {step}")
        );
        assert_eq!(
            refused_line(Policy::Restricted, &refused, ADDRESSES, Voice::Process),
            format!("refused (restricted): {process}")
        );
        two(
            &plan(TaskCase::Refused(refused), Verdict::Refused),
            step,
            process,
        );
    }
}

fn bound(lists: &[&str], local: usize, memory: usize) -> Summary {
    Summary::Bound {
        nodes: each(lists),
        local,
        is_by_socket: false,
        far: Vec::new(),
        partial: Vec::new(),
        memory,
        fewest_cpus: 2,
        most_cpus: 2,
        known_cpus: lists.len(),
        are_shared: false,
        at_memory: 0,
        is_mapped: false,
        is_dry_run: false,
    }
}

#[test]
fn a_host_in_which_tasks_are_bound_says_how_many_are_on_what() {
    for (lists, local, memory, done, would) in [
        (
            &["0", "0", "1", "1"][..],
            4,
            4,
            "4 tasks on their GPUs' CPUs and memory (nodes 0 0 1 1), 2 CPUs each",
            "4 tasks would be on their GPUs' CPUs and memory (nodes 0 0 1 1), 2 CPUs each",
        ),
        (
            &["0", "1"],
            2,
            0,
            "2 tasks on their GPUs' CPUs (nodes 0 1), 2 CPUs each",
            "2 tasks would be on their GPUs' CPUs (nodes 0 1), 2 CPUs each",
        ),
        (
            &["0", "1"],
            2,
            1,
            "2 tasks on their GPUs' CPUs and 1 on their memory (nodes 0 1), 2 CPUs each",
            "2 tasks would be on their GPUs' CPUs and 1 on their memory (nodes 0 1), 2 CPUs each",
        ),
        (
            &["0", ""],
            1,
            1,
            "1 of 2 tasks on their GPUs' CPUs and 1 on their memory (nodes 0 ?), 2 CPUs each",
            "1 of 2 tasks would be on their GPUs' CPUs and 1 on their memory (nodes 0 ?), 2 CPUs each",
        ),
        (
            &["0", "1"],
            1,
            0,
            "1 of 2 tasks on their GPUs' CPUs (nodes 0 1), 2 CPUs each",
            "1 of 2 tasks would be on their GPUs' CPUs (nodes 0 1), 2 CPUs each",
        ),
        (
            &["0"],
            1,
            1,
            "1 task on its GPUs' CPUs and memory (node 0), 2 CPUs",
            "1 task would be on its GPUs' CPUs and memory (node 0), 2 CPUs",
        ),
        (
            &["0-1"],
            1,
            0,
            "1 task on its GPUs' CPUs (nodes 0-1), 2 CPUs",
            "1 task would be on its GPUs' CPUs (nodes 0-1), 2 CPUs",
        ),
        (
            &["0"],
            0,
            1,
            "1 task on its GPUs' memory, but not wholly on their CPUs (node 0), 2 CPUs",
            "1 task would be on its GPUs' memory, but not wholly on their CPUs (node 0), 2 CPUs",
        ),
        (
            &["0"],
            0,
            0,
            "1 task not wholly on its GPUs' CPUs (node 0), 2 CPUs",
            "1 task would not be wholly on its GPUs' CPUs (node 0), 2 CPUs",
        ),
    ] {
        let summary = bound(lists, local, memory);
        assert_eq!(summary_line("h", &summary), format!("h: {done}"));
        let Summary::Bound {
            nodes,
            fewest_cpus,
            most_cpus,
            known_cpus,
            ..
        } = summary
        else {
            unreachable!()
        };
        let dry = Summary::Bound {
            nodes,
            local,
            is_by_socket: false,
            far: Vec::new(),
            partial: Vec::new(),
            memory,
            fewest_cpus,
            most_cpus,
            known_cpus,
            are_shared: false,
            at_memory: 0,
            is_mapped: false,
            is_dry_run: true,
        };
        assert_eq!(summary_line("h", &dry), format!("h: {would}"));
    }
}

#[test]
fn a_summary_gives_widths_and_shares_and_cuts_a_long_list() {
    let many = vec!["0"; 17];
    let summary = Summary::Bound {
        nodes: each(&many),
        local: 17,
        is_by_socket: false,
        far: Vec::new(),
        partial: Vec::new(),
        memory: 17,
        fewest_cpus: 1,
        most_cpus: 3,
        known_cpus: 17,
        are_shared: false,
        at_memory: 0,
        is_mapped: true,
        is_dry_run: false,
    };
    assert_eq!(
        summary_line("h", &summary),
        "h: 17 tasks on their GPUs' CPUs and memory (nodes 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 ...), 1 to 3 CPUs; \
         task k is taken to use the k-th share of the GPUs it sees"
    );
}

#[test]
fn a_width_is_said_of_tasks_whose_cpus_are_known() {
    let line = |known: usize| {
        let mut summary = bound(&["0", "0", "", ""], 2, 2);
        let Summary::Bound { known_cpus, .. } = &mut summary else {
            unreachable!()
        };
        *known_cpus = known;
        summary_line("h", &summary)
    };
    let begin = "h: 2 of 4 tasks on their GPUs' CPUs and 2 on their memory (nodes 0 0 ? ?)";
    assert_eq!(line(4), format!("{begin}, 2 CPUs each"));
    assert_eq!(line(2), format!("{begin}, 2 CPUs each where bound"));
    assert_eq!(line(0), format!("{begin}, CPUs as Slurm gives them"));
}

#[test]
fn cpus_that_tasks_share_are_said_to_be_shared() {
    let line = |known: usize| {
        let mut summary = bound(&["0", "0", "1"], 3, 0);
        let Summary::Bound {
            known_cpus,
            are_shared,
            ..
        } = &mut summary
        else {
            unreachable!()
        };
        (*known_cpus, *are_shared) = (known, true);
        summary_line("h", &summary)
    };
    let begin = "h: 3 tasks on their GPUs' CPUs (nodes 0 0 1), 2 CPUs each";
    assert_eq!(line(3), format!("{begin}, which tasks share"));
    assert_eq!(line(2), format!("{begin} where bound, which tasks share"));
}

#[test]
fn a_summary_names_the_tasks_that_local_cpus_were_too_few_for() {
    let summary = |tasks: &[(usize, &str)], some: &[(usize, &str)], is_by_socket| {
        let of = |tasks: &[(usize, &str)]| {
            let tasks = tasks.iter();
            tasks
                .map(|(task, nodes)| (*task, nodes.parse().unwrap()))
                .collect()
        };
        Summary::Bound {
            nodes: each(&["0", "0", "0", "0"]),
            local: 4 - tasks.len() - some.len(),
            is_by_socket,
            far: of(tasks),
            partial: of(some),
            memory: 4,
            fewest_cpus: 2,
            most_cpus: 2,
            known_cpus: 4,
            are_shared: false,
            at_memory: 0,
            is_mapped: false,
            is_dry_run: false,
        }
    };
    assert_eq!(
        summary_line("h", &summary(&[(2, "0"), (3, "0")], &[], false)),
        "h: 2 of 4 tasks on their GPUs' CPUs and 4 on their memory (nodes 0 0 0 0), 2 CPUs each; \
         tasks 2 and 3: no CPU left on node 0"
    );
    assert_eq!(
        summary_line("h", &summary(&[(3, "0")], &[(2, "0-1")], false)),
        "h: 2 of 4 tasks on their GPUs' CPUs and 4 on their memory (nodes 0 0 0 0), 2 CPUs each; \
         task 3: no CPU left on node 0; task 2: too few CPUs left on nodes 0-1"
    );
    assert_eq!(
        summary_line("h", &summary(&[], &[], true)),
        "h: 4 tasks on their GPUs' sockets and memory (nodes 0 0 0 0), 2 CPUs each"
    );
}

#[test]
fn a_host_in_which_no_task_is_bound_says_why() {
    let said = |summary| summary_line("h", &summary);
    assert_eq!(
        said(Summary::NoGpu),
        "h: no task has a GPU; each is left as Slurm made it"
    );
    for (lists, line) in [
        (
            &["1"][..],
            "h: the task is left as Slurm made it (its GPUs: node 1)",
        ),
        (
            &[""],
            "h: the task is left as Slurm made it (the NUMA node of its GPUs is unknown)",
        ),
        (
            &["1", ""],
            "h: none of 2 tasks is bound; each is left as Slurm made it (their GPUs: nodes 1 ?)",
        ),
        (
            &["", ""],
            "h: none of 2 tasks is bound; each is left as Slurm made it (the NUMA nodes of their GPUs are unknown)",
        ),
    ] {
        let nodes = each(lists);
        assert_eq!(said(Summary::Unbound { nodes }), line);
    }
    for (memory, is_dry_run, line) in [
        (
            0,
            false,
            "h: CPUs left to the user's --cpu-bind; memory left as it is",
        ),
        (
            1,
            false,
            "h: CPUs left to the user's --cpu-bind; memory of 1 task on its GPUs' nodes 0 1",
        ),
        (
            2,
            false,
            "h: CPUs left to the user's --cpu-bind; memory of 2 tasks on their GPUs' nodes 0 1",
        ),
        (
            1,
            true,
            "h: CPUs left to the user's --cpu-bind; memory of 1 task would be on its GPUs' nodes 0 1",
        ),
        (
            2,
            true,
            "h: CPUs left to the user's --cpu-bind; memory of 2 tasks would be on their GPUs' nodes 0 1",
        ),
    ] {
        let nodes = each(&["0", "1"]);
        let summary = Summary::CpusLeft {
            why: CpusLeft::UserCpus,
            nodes,
            memory,
            is_dry_run,
        };
        assert_eq!(said(summary), line);
    }
}

#[test]
fn gpus_that_only_the_socket_link_joins_are_named_with_what_a_ring_pays() {
    for (vendor, crossings, ring) in [
        (0x10de, 0, "; NCCL's ring can go round it over NVLink"),
        (0x10de, 1, "; NCCL's ring will cross it once"),
        (0x10de, 2, "; NCCL's ring will cross it twice"),
        (0x10de, 4, "; NCCL's ring will cross such links 4 times"),
        (0x1002, 0, "; RCCL's ring can go round it over xGMI"),
        (0x1002, 2, "; RCCL's ring will cross it twice"),
        (0x8086, 2, ""),
        (0x1234, 2, ""),
    ] {
        for (rating, cost) in [
            (None, ""),
            (
                Some(MemoryRating::Firmware { slit: 32 }),
                " (SLIT 32, by firmware 3.2x local latency)",
            ),
            (
                Some(MemoryRating::Measured { tenths: 17 }),
                " (1.7x local latency, as measured)",
            ),
        ] {
            let link = SocketLink {
                a: gpu(0x21),
                b: gpu(0x83),
                maker: GpuVendor::of(vendor),
                rating,
                crossings,
            };
            assert_eq!(
                socket_link_line("h", &link, ADDRESSES),
                format!(
                    "h: GPUs 0000:21:00.0 and 0000:83:00.0 have no path but the socket link{cost}{ring}"
                )
            );
        }
    }
}

#[test]
fn a_task_whose_gpus_are_apart_is_told_how_to_start_its_workers() {
    for (over, place) in [
        (SpanningOver::Nodes(nodes("0-1")), "nodes 0-1"),
        (SpanningOver::Sockets(2), "2 sockets"),
    ] {
        for (is_dry_run, bound) in [(false, "is bound"), (true, "would be bound")] {
            let spanning = Spanning {
                task: 0,
                gpus: 8,
                is_share: false,
                over: over.clone(),
                is_dry_run,
            };
            let line = |has: &str| {
                format!(
                    "h task 0 {has} 8 GPUs on {place} and {bound} to CPUs of all of them; \
                     start its workers with `gpu-numa run --per-rank -- ...`"
                )
            };
            assert_eq!(spanning_line("h", &spanning), line("sees"));
            let share = Spanning {
                is_share: true,
                ..spanning
            };
            assert_eq!(spanning_line("h", &share), line("uses"));
        }
    }
    for (verb, whole_host, line) in [
        (Verb::Sbatch, WholeHost::Shell, "sbatch --exclusive"),
        (Verb::Salloc, WholeHost::Shell, "salloc --exclusive"),
        (
            Verb::Sbatch,
            WholeHost::Step,
            "sbatch --exclusive and srun, both without --cpus-per-task, --cpus-per-gpu or --exact, if Cores= in gres.conf is right",
        ),
        (
            Verb::Earlier,
            WholeHost::Shell,
            "sbatch or salloc --exclusive",
        ),
        (
            Verb::Srun,
            WholeHost::Step,
            "salloc --exclusive and srun, both without --cpus-per-task, --cpus-per-gpu or --exact, if Cores= in gres.conf is right",
        ),
    ] {
        let advice = Advice {
            whole_host: Some(whole_host),
            ..Advice::default()
        };
        assert_eq!(
            near_cpus_advice(&advice, verb).unwrap(),
            format!("would have local CPUs for every task: {line}")
        );
    }
    for (verb, way) in [
        (Verb::Srun, "srun --gres-flags"),
        (Verb::Sbatch, "sbatch --gres-flags"),
        (Verb::Salloc, "salloc --gres-flags"),
        (Verb::Earlier, "sbatch or salloc --gres-flags"),
        (Verb::Any, "--gres-flags"),
    ] {
        let advice = Advice {
            enforce_binding: true,
            ..Advice::default()
        };
        let line = near_cpus_advice(&advice, verb).unwrap();
        let want = format!("every task: {way}=enforce-binding, if Cores= in gres.conf is right");
        assert!(line.ends_with(&want), "{line}");
    }
    assert_eq!(near_cpus_advice(&Advice::default(), Verb::Srun), None);
}

#[test]
fn gpus_of_slurms_that_nobody_sees_are_said() {
    assert_eq!(
        unseen_gpus_line("h", None, None),
        "h: Slurm gave the step GPUs, but none of them is seen here; left as Slurm made it (gpu-numa doctor)"
    );
    assert_eq!(
        unseen_gpus_line("h", None, Some(("12.0", Policy::Restricted))),
        "step 12.0 refused on h (restricted): Slurm gave the step GPUs, but none of them is seen here (gpu-numa doctor)"
    );
    assert_eq!(
        unseen_gpus_line("h", Some("Intel"), None),
        "h: Intel's GPUs are not bound at launch; left as Slurm made it"
    );
    assert_eq!(
        unseen_gpus_line("h", Some("Intel"), Some(("12.0", Policy::Restricted))),
        "step 12.0 refused on h (restricted): Intel's GPUs are not bound at launch"
    );
    assert_eq!(host_and_step("h", "12.3"), "h step 12.3");
}

#[test]
fn what_a_launch_brings_with_it_is_said() {
    let cpus = "0-3".parse().unwrap();
    let refused = |voice| {
        (
            cpus_refused(&cpus, &"EPERM", voice),
            memory_refused(&nodes("1"), &"EPERM", voice),
        )
    };
    let (cpus_line, memory_line) = refused(Voice::Step);
    assert_eq!(
        of_task("h", 3, &cpus_line),
        "h task 3: CPUs 0-3 refused by the kernel (EPERM); left as Slurm made it"
    );
    assert_eq!(
        memory_line,
        "memory on node 1 refused by the kernel (EPERM); left as Slurm made it"
    );
    let (cpus_line, memory_line) = refused(Voice::Process);
    assert_eq!(
        cpus_line,
        "CPUs 0-3 refused by the kernel (EPERM); left as it is"
    );
    assert_eq!(
        memory_line,
        "memory on node 1 refused by the kernel (EPERM); left as it is"
    );
    for (said, line) in [
        (
            unknown_host_line("h", &"no /sys"),
            "h: no /sys; left as Slurm made it",
        ),
        (
            no_profiler("h"),
            "h: nccl=log: libnccl-profiler-gpu-numa.so is not beside the plugin, or not root's; NCCL's log gets no line about the socket link",
        ),
        (
            policy_turned_off("h", Policy::Restricted),
            "h: restricted does not hold, because this site has turned binding off; left as Slurm made it",
        ),
        (
            no_snapshot(&"node.json: stale"),
            "node.json: stale; reading /sys instead, NCCL_TOPO_FILE is not set (gpu-numa snapshot writes it)",
        ),
        (on_host("h", "a line"), "h: a line"),
        (
            no_option_line(&"refused"),
            "refused; --gpu-numa-bind is not available",
        ),
        (argument_left_out(&"x"), "plugstack: x; left out"),
        (
            variable_left_out(&"x"),
            "GPU_NUMA_BIND: x; that item is left out",
        ),
        (
            internal_fault("task_init"),
            "internal fault in task_init; the job goes on as Slurm made it",
        ),
        (
            internal_fault("task_exit"),
            "internal fault in task_exit; the job goes on without it",
        ),
        (
            no_page_line(&"ENOMEM"),
            "no shared page (ENOMEM); each task is bound on its own",
        ),
        (
            no_gpu_in_step("h"),
            "h: the step has no GPU; left as Slurm made it",
        ),
        (
            alone_line("h"),
            "h: not all tasks came in time; each is bound on its own",
        ),
        (
            batch_line("h"),
            "h: a batch script's own step is never refused; bound as best-effort",
        ),
        (
            more_trouble_line("h", 1),
            "h: 1 more task is unbound or short of local CPUs",
        ),
        (
            more_trouble_line("h", 4),
            "h: 4 more tasks are unbound or short of local CPUs",
        ),
        (
            no_gpu_on_host("h"),
            "h has no GPU; nothing to bind. A step sees the GPUs that it asks for (srun --gpus=1 gpu-numa show); --from reads another machine's recording.",
        ),
        (
            no_gpu_seen("h", true),
            "h: your command sees no GPU (name some with --gpus), so it runs unbound",
        ),
        (
            no_gpu_seen("h", false),
            "h: this machine has no GPU, so your command runs unbound",
        ),
    ] {
        assert_eq!(said, line);
    }
}

#[test]
fn a_document_has_the_verdict_and_the_message() {
    let task = placed(4, Verdict::Local);
    let document = serde_json::to_value(TaskDocument::new(&task, ADDRESSES, Voice::Step)).unwrap();
    assert_eq!(
        document,
        serde_json::json!({
            "task": 2,
            "gpus": ["0000:21:00.0"],
            "cpus": "0-3",
            "memory": {"policy": "preferred-many", "nodes": "0"},
            "verdict": "local",
            "message": "GPU 0000:21:00.0 node 0, CPUs 0-3, memory prefers node 0: local",
        })
    );
}

#[test]
fn a_tasks_line_names_its_nics_where_they_are_known() {
    let task = placed(4, Verdict::Local);
    let line = task_line("h", &task, ADDRESSES, Voice::Step);
    let with = |names: &[&str], path| {
        let nics = NicDocument {
            nics: Vec::new(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            path,
            sharing: 1,
        };
        task_line_with_nics("h", &task, ADDRESSES, Some(&nics), Voice::Step)
    };
    assert_eq!(
        task_line_with_nics("h", &task, ADDRESSES, None, Voice::Step),
        line
    );
    assert_eq!(with(&[], None), line);
    assert_eq!(
        with(&["mlx5_0"], Some("one-switch")),
        format!("{line}; NIC mlx5_0")
    );
    assert_eq!(
        with(&["mlx5_0", "mlx5_1"], Some("socket-link")),
        format!("{line}; NICs mlx5_0 and mlx5_1 (over the socket link)")
    );
}

#[test]
fn a_gpus_number_stands_beside_its_address_where_programs_count_alike() {
    let gpus =
        [0x21, 0x22, 0x83].map(|bus| Gpu::of(&PciDevice::new(gpu(bus), 0x03_0200, 0x10de, 0x2330)));
    let machine = Machine {
        gpus: gpus.to_vec(),
        ..Machine::default()
    };
    let names = GpuNames::of_programs(&machine, true);
    let own = TaskPlan {
        gpus: vec![gpu(0x83)],
        ..placed(4, Verdict::Local)
    };
    assert_eq!(
        task_line("h", &own, names, Voice::Step),
        "h task 2: GPU2 0000:83:00.0 node 0, CPUs 0-3, memory prefers node 0: local"
    );
    let several = TaskPlan {
        gpus: vec![gpu(0x21), gpu(0x83)],
        ..own.clone()
    };
    assert_eq!(
        task_message(&several, names, Voice::Step),
        "GPU0 0000:21:00.0 and GPU2 0000:83:00.0 node 0, CPUs 0-3, memory prefers node 0: local"
    );
    let place = Place {
        cpus: "0-3".parse().unwrap(),
        nodes: nodes("0"),
    };
    let refusal = |misfit| Refusal {
        task: 1,
        step: place.clone(),
        misfit,
    };
    let far = refusal(Misfit::NoLocalCpu {
        gpu: gpu(0x83),
        nodes: nodes("1"),
    });
    assert_eq!(
        refusal_reason(&far, names, Voice::Step),
        "task 1's GPU2 0000:83:00.0 is on node 1, but the step only has CPUs 0-3, on node 0"
    );
    let apart = refusal(Misfit::NoSharedNode {
        gpus: vec![(gpu(0x21), nodes("0")), (gpu(0x83), nodes("1"))],
    });
    assert_eq!(
        refusal_reason(&apart, names, Voice::Process),
        "GPU0 0000:21:00.0 (node 0) and GPU2 0000:83:00.0 (node 1) share no node; this process may use CPUs 0-3, on node 0"
    );
    // In a step from whose tasks a device cgroup hides one.
    let hidden = GpuNames::of_programs(&machine, false);
    assert_eq!(
        task_message(&own, hidden, Voice::Step),
        "GPU 0000:83:00.0 node 0, CPUs 0-3, memory prefers node 0: local"
    );
}
