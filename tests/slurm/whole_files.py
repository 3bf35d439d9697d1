"""Whole files of slurm.conf for tests/slurm/gres: what Slurm demands of them together, row by row.

A line of a row that begins with `-` takes the lines of that key away, `+` is a line of cgroup.conf; all others stand at the end of BASE.
"""
BASE = """ClusterName=c
SlurmctldHost=@HOST@(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=@MUNGE@
SlurmctldPort=@CTLD@
SlurmctldPidFile=@LAB@/slurmctld.pid
SlurmdPidFile=@LAB@/slurmd.pid
StateSaveLocation=@LAB@/state
SlurmdSpoolDir=@LAB@/spool
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
TaskPlugin=task/none
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
MpiDefault=none
NodeName=n1 NodeHostname=@HOST@ NodeAddr=127.0.0.1 Port=@SLURMD@ CPUs=1
PartitionName=p Nodes=n1
"""
CGROUP = "ConstrainCores=no\nCgroupPlugin=disabled\n"
ROWS = {
    "right": "",
    "no-cluster": "-ClusterName",
    "no-host": "-SlurmctldHost",
    "control-machine": "-SlurmctldHost\nControlMachine=@HOST@\nControlAddr=127.0.0.1",
    "no-select-parameters": "-SelectTypeParameters",
    "fast0": "FastSchedule=0",
    "fast1": "FastSchedule=1",
    "fast2": "FastSchedule=2",
    "tmpfs": "JobContainerType=job_container/tmpfs",
    "container-none": "JobContainerType=job_container/none",
    "tmpfs-x11": "JobContainerType=job_container/tmpfs\nPrologFlags=X11",
    "x11-linuxproc": "PrologFlags=X11",
    "x11-pgid": "-ProctrackType\nProctrackType=proctrack/pgid\nPrologFlags=X11",
    "preempt-mode-alone": "PreemptMode=REQUEUE",
    "preempt-gang-alone": "PreemptMode=GANG",
    "preempt-off-gang": "PreemptMode=OFF,GANG",
    "preempt-type-alone": "PreemptType=preempt/partition_prio",
    "preempt-qos-alone": "PreemptType=preempt/qos",
    "preempt-type-gang": "PreemptType=preempt/partition_prio\nPreemptMode=GANG",
    "preempt-type-suspend": "PreemptType=preempt/partition_prio\nPreemptMode=SUSPEND",
    "preempt-type-suspend-gang": "PreemptType=preempt/partition_prio\nPreemptMode=SUSPEND,GANG",
    "preempt-type-cancel": "PreemptType=preempt/qos\nPreemptMode=CANCEL",
    "preempt-none-cancel": "PreemptType=preempt/none\nPreemptMode=CANCEL",
    "preempt-none": "PreemptType=preempt/none",
    "preempt-cluster": "PreemptMode=CLUSTER",
    "preempt-within": "PreemptType=preempt/qos\nPreemptMode=WITHIN",
    "preempt-unknown": "PreemptType=preempt/job_prio\nPreemptMode=CANCEL",
    "preempt-unknown-2": "PreemptType=preempt/partition_priority\nPreemptMode=CANCEL",
    "max-node-linear": "-SelectType\nSelectType=select/linear\n-SelectTypeParameters\nMaxNodeCount=8",
    "linear-shard": "-SelectType\nSelectType=select/linear\n-SelectTypeParameters\n-GresTypes\nGresTypes=gpu,shard",
    "linear-gpu": "-SelectType\nSelectType=select/linear\n-SelectTypeParameters",
    "shard-alone": "-GresTypes\nGresTypes=shard",
    "mps-alone": "-GresTypes\nGresTypes=mps",
    "shard-gpu": "-GresTypes\nGresTypes=shard,gpu",
    "no-gres-types": "-GresTypes",
    "gres-tres": "AccountingStorageTRES=gres/gpu",
    "tres-unknown": "AccountingStorageTRES=gress/gpu",
    "tres-gres": "AccountingStorageTRES=gres",
    "tres-license": "AccountingStorageTRES=license/x",
    "tres-cpu": "AccountingStorageTRES=cpu,mem,node",
    "tres-energy": "AccountingStorageTRES=energy,billing,fs/disk,vmem,pages",
    "storage-mysql": "AccountingStorageType=accounting_storage/mysql",
    "storage-filetxt": "AccountingStorageType=accounting_storage/filetxt",
    "storage-none": "AccountingStorageType=accounting_storage/none",
    "enforce": "AccountingStorageEnforce=limits,associations",
    "enforce-bad": "AccountingStorageEnforce=limit",
    "mcs-parameters": "MCSParameters=ondemand",
    "mcs-group": "MCSPlugin=mcs/group",
    "mcs-unknown": "MCSPlugin=mcs/grp",
    "mcs-none": "MCSPlugin=mcs/none\nMCSParameters=x",
    "first-job": "FirstJobId=0",
    "first-max": "FirstJobId=10\nMaxJobId=5",
    "job-count": "MaxJobCount=0",
    "step-count": "MaxStepCount=0",
    "dbd-msgs": "MaxDBDMsgs=100",
    "decay": "PriorityDecayHalfLife=0",
    "decay-reset": "PriorityDecayHalfLife=0\nPriorityUsageResetPeriod=MONTHLY",
    "reset-bad": "PriorityUsageResetPeriod=FORTNIGHTLY",
    "decay-bad": "PriorityDecayHalfLife=week",
    "calc-bad": "PriorityCalcPeriod=0",
    "maxage-bad": "PriorityMaxAge=x",
    "sched-log": "SlurmSchedLogLevel=1",
    "level-bad": "SlurmctldDebug=debug6",
    "level-d-bad": "SlurmdDebug=11",
    "level-number": "SlurmdDebug=3",
    "syslog-bad": "SlurmdSyslogDebug=loud",
    "debugflags": "DebugFlags=Gres,NoSuch",
    "debugflags-cray": "DebugFlags=TimeCray",
    "debugflags-fe": "DebugFlags=FrontEnd",
    "debugflags-metrics": "DebugFlags=Metrics",
    "debugflags-minus": "DebugFlags=NO_CONF_HASH,CPU_Bind",
    "ports-bad": "-SlurmctldPort\nSlurmctldPort=x",
    "part-limits-bad": "EnforcePartLimits=SOME",
    "part-limits": "EnforcePartLimits=ALL",
    "prio-process": "PropagatePrioProcess=3",
    "reconfig-bad": "ReconfigFlags=KeepAll",
    "reconfig-future": "ReconfigFlags=KeepNodeStateFuture",
    "reconfig-power": "ReconfigFlags=KeepPowerSaveSettings",
    "ip": "-CommunicationParameters\nCommunicationParameters=DisableIPv4",
    "nss": "LaunchParameters=enable_nss_slurm,disable_send_gids",
    "pss": "JobAcctGatherType=jobacct_gather/linux\nJobAcctGatherParams=UsePSS,NoShared",
    "suspend-time-word": "SuspendTime=never",
    "oomkillstep": "TaskPluginParam=OOMKillStep",
    "specoverride": "TaskPluginParam=SlurmdSpecOverride",
    "stepmgr": "SlurmctldParameters=enable_stepmgr",
    "stepmgr-contain": "SlurmctldParameters=enable_stepmgr\nPrologFlags=Contain",
    "oom-ram": "JobAcctGatherType=jobacct_gather/linux\nJobAcctGatherParams=OverMemoryKill\n-TaskPlugin\nTaskPlugin=task/cgroup\n+ConstrainRAMSpace=yes",
    "oom": "JobAcctGatherType=jobacct_gather/linux\nJobAcctGatherParams=OverMemoryKill",
    "part-twice": "PartitionName=p Nodes=n1",
    "part-none": "-PartitionName",
    "licenses": "Licenses=matlab:5,ansys",
    "licenses-bad": "Licenses=matlab:x",
    "licenses-blank": "Licenses=\"matlab:5, ansys:2\"",
    "sched-type": "SchedulerType=sched/backfil",
    "sched-wiki": "SchedulerType=sched/wiki",
    "sched-builtin": "SchedulerType=sched/builtin",
    "prio-type": "PriorityType=priority/multi",
    "prio-basic": "PriorityType=priority/basic",
    "topology-none": "TopologyPlugin=topology/none",
    "topology-default": "TopologyPlugin=topology/default",
    "topology-flat": "TopologyPlugin=topology/flat",
    "topology-block": "TopologyPlugin=topology/blocks",
    "switch": "SwitchType=switch/generic",
    "switch-none": "SwitchType=switch/none",
    "switch-cray": "SwitchType=switch/cray_aries",
    "jobcomp": "JobCompType=jobcomp/filetex",
    "jobcomp-none": "JobCompType=jobcomp/none",
    "energy": "AcctGatherEnergyType=acct_gather_energy/nosuch",
    "energy-none": "AcctGatherEnergyType=acct_gather_energy/none",
    "profile": "AcctGatherProfileType=acct_gather_profile/nosuch",
    "interconnect": "AcctGatherInterconnectType=acct_gather_interconnect/nosuch",
    "filesystem": "AcctGatherFilesystemType=acct_gather_filesystem/nosuch",
    "container-unknown": "JobContainerType=job_container/tmpf\nPrologFlags=Contain",
    "auth": "-AuthType\nAuthType=auth/mung",
    "cred": "-CredType\nCredType=cred/nosuch",
    "route": "RoutePlugin=route/topology",
    "node-addr-count": "NodeName=x[1-3] NodeAddr=10.0.0.[1-2] CPUs=1",
    "node-port-count": "NodeName=x[1-3] Port=[7001-7002] CPUs=1",
    "node-host-count": "NodeName=x[1-3] NodeHostname=y[1-2] CPUs=1",
    "cr-socket-spec": "-SelectTypeParameters\nSelectTypeParameters=CR_Socket\nNodeName=x1 Sockets=2 CoresPerSocket=2 CoreSpecCount=3",
    "cr-socket-list": "-SelectTypeParameters\nSelectTypeParameters=CR_Socket\nNodeName=x1 Sockets=2 CoresPerSocket=2 CpuSpecList=0,2",
    "cr-core-spec": "NodeName=x1 Sockets=2 CoresPerSocket=2 CoreSpecCount=3",
    "select-linear": "-SelectType\n-SelectTypeParameters",
    "cons-res": "-SelectType\nSelectType=select/cons_res",
    "select-linear-params": "-SelectType\n-SelectTypeParameters\nSelectTypeParameters=CR_Core",
    "namespace-nocontain": "NamespaceType=namespace/linux",
    "part-preempt": "PartitionName=q Nodes=n1 PreemptMode=CANCEL",
    "part-preempt-bad": "PartitionName=q Nodes=n1 PreemptMode=KILL",
    "part-susp": "PartitionName=q Nodes=n1 PreemptMode=SUSPEND",
    "nodeset-node": "NodeSet=n1 Feature=x",
    "nodeset": "NodeSet=s Nodes=n1\nPartitionName=q Nodes=s",
    "task-dup": "-TaskPlugin\nTaskPlugin=task/affinity,task/affinity",
    "task-cgroup-affinity": "-TaskPlugin\nTaskPlugin=task/cgroup,task/affinity",
    "proctrack-cgroup-tasknone": "-ProctrackType\nProctrackType=proctrack/cgroup",
    "jag-cgroup-linuxproc": "JobAcctGatherType=jobacct_gather/cgroup",
    "contain-linuxproc": "PrologFlags=Contain",
}


def files(name):
    """slurm.conf and cgroup.conf of a row."""
    lines, cgroup = BASE.splitlines(), CGROUP
    for line in ROWS[name].split("\n"):
        if line.startswith("-"):
            lines = [own for own in lines if not own.startswith(line[1:] + "=")]
        elif line.startswith("+"):
            cgroup += line[1:] + "\n"
        elif line:
            lines.append(line)
    return "\n".join(lines) + "\n", cgroup
