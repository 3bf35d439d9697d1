//! The demands, by release.

use super::{CONTAIN, Demand, Rule, found, has};

/// Each of them; those of slurmd and slurmctld alone come last.
pub(super) const DEMANDS: &[Demand] = &[
    Demand::all(Rule::Key(&["ClusterName"])),
    Demand::all(Rule::Key(&["SlurmctldHost", "ControlMachine"])),
    Demand::all(Rule::Needs(
        has("JobContainerType", "tmpfs"),
        has("PrologFlags", CONTAIN),
    ))
    .before(25, 11),
    Demand::all(Rule::Needs(
        has("JobContainerType", ""),
        has("PrologFlags", CONTAIN),
    ))
    .since(25, 11),
    Demand::all(Rule::Needs(
        has("NamespaceType", ""),
        has("PrologFlags", CONTAIN),
    ))
    .since(25, 11),
    Demand::all(Rule::Excludes(
        has("PrologFlags", "X11"),
        has("ProctrackType", "proctrack/linuxproc"),
    )),
    Demand::all(Rule::Of(found::preemption)),
    Demand::all(Rule::Excludes(
        has("LaunchParameters", "enable_nss_slurm"),
        has("LaunchParameters", "disable_send_gids"),
    )),
    Demand::all(Rule::Excludes(
        has("JobAcctGatherParams", "UsePSS"),
        has("JobAcctGatherParams", "NoShared"),
    )),
    Demand::all(Rule::Needs(
        has("CommunicationParameters", "DisableIPv4"),
        has("CommunicationParameters", "EnableIPv6"),
    )),
    Demand::all(Rule::Of(found::accounting_by_mysql)),
    Demand::all(Rule::Of(found::compartments)),
    Demand::all(Rule::Of(found::first_and_last_job)),
    Demand::all(Rule::Of(found::usage_for_ever)),
    Demand::all(Rule::Of(found::level_of_scheduling)),
    Demand::all(Rule::Needs(
        has("MaxNodeCount", ""),
        has("SelectType", "cons_tres"),
    )),
    Demand::all(Rule::Needs(
        has("TaskPluginParam", "OOMKillStep"),
        has("TaskPlugin", "task/cgroup"),
    ))
    .since(24, 11),
    Demand::all(Rule::Needs(
        has("TaskPluginParam", "SlurmdSpecOverride"),
        has("TaskPlugin", "task/cgroup"),
    ))
    .since(25, 5),
    Demand::all(Rule::Needs(
        has("TaskPluginParam", "SlurmdSpecOverride"),
        has("SelectType", "cons_tres"),
    ))
    .since(25, 5),
    Demand::all(Rule::Excludes(
        has("TopologyPlugin", "topology/tree"),
        has("SelectType", "select/linear"),
    ))
    .since(24, 5),
    Demand::all(Rule::Needs(
        has("RoutePlugin", "route/topology"),
        has("TopologyPlugin", "topology/tree"),
    ))
    .before(23, 11),
    Demand::all(Rule::Of(found::set_called_as_a_node)).since(24, 11),
    Demand::all(Rule::Of(found::lists_that_differ)),
    Demand::all(Rule::Of(found::sharing_without_gpus)),
    Demand::all(Rule::Of(found::memory_fenced_twice)),
    Demand::all(Rule::Of(found::script_too_long)),
    Demand::all(Rule::Of(found::suspended_too_late)),
    Demand::all(Rule::Of(found::too_many_nodes)).since(24, 11),
    Demand::all(Rule::Of(found::health_states)).since(26, 5),
    Demand::all(Rule::Of(found::node_called_all)),
    Demand::of_slurmctld(Rule::Of(found::weights)),
    Demand::of_slurmctld(Rule::Of(found::torus)).before(25, 5),
    Demand::of_slurmctld(Rule::Of(found::qos_without_database)).since(25, 11),
    Demand::of_slurmctld(Rule::Of(found::sharing_without_cores)),
    Demand::of_slurmctld(Rule::Of(found::fast_schedule)),
    Demand::of_slurmctld(Rule::Needs(
        has("SlurmctldParameters", "enable_stepmgr"),
        has("PrologFlags", CONTAIN),
    ))
    .since(24, 5),
    Demand::of_slurmctld(Rule::Of(found::counted_without_database)),
    Demand::of_slurmctld(Rule::Of(found::partition_twice)),
    Demand::of_slurmctld(Rule::Of(found::licenses)),
    Demand::of_slurmctld(Rule::Of(found::sockets_kept)),
    Demand::of_slurmctld(Rule::Key(&["PartitionName"])).before(23, 2),
    Demand::of_slurmd(Rule::Of(found::cgroups_without_plugin)),
];
