"""The cores that slurmd finds near a GPU by AutoDetect, from the map of CPUs that a real one makes of a machine.

slurmd says its map at its highest level of debugging, before it asks for anything, and HWLOC_FSROOT makes it the machine's; what is left
to us is what it then asks of the map (`xcpuinfo_mac_to_abs`, slurmd/common/xcpuinfo.c).
"""
import os
import re
import subprocess

CONF = """ClusterName=near
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
SlurmdSpoolDir={folder}/spool
SlurmdPidFile={folder}/slurmd.pid
TaskPlugin=task/none
ProctrackType=proctrack/linuxproc
{parameters}
NodeName=n1 NodeHostname={host} CPUs=1
"""


class Map:
    def __init__(self, lines):
        counts = next(re.search(r"CPUs:(\d+) Boards:\d+ Sockets:(\d+) CoresPerSocket:(\d+) ThreadsPerCore:(\d+)", line) for line in lines if "CPUs:" in line)
        self.cpus, self.sockets, self.cores, self.threads = map(int, counts.groups())
        self.forward, self.inverse = list(range(self.cpus)), list(range(self.cpus))
        for line in lines:
            pair = re.search(r"CPU map\[(\d+)\]=>(\d+)", line)
            if pair:
                own, cpu = map(int, pair.groups())
                self.forward[own], self.inverse[cpu] = cpu, own

    def near(self, cpus, words, overrides, series):
        """The cores with `cpus` on a node with these words, as NVML's GPUs get them; None where slurmd leaves the GPU out."""
        sockets, cores, threads, all_cpus = shape_of(words)
        per_core = self.threads if series >= (23, 11) else None
        if sockets == all_cpus == self.cpus and cores == threads == 1:
            per_core = 1
        elif all_cpus > self.cpus and not overrides:
            sockets, cores, threads = self.sockets, self.cores, self.threads
        per_core = per_core or threads
        # E-cores are left out by this, and what else has no place.
        cpus = [cpu for cpu in cpus if series < (23, 2) or cpu in self.forward]
        if any(cpu >= self.cpus for cpu in cpus):
            return None
        places = [(core, (core * per_core + thread) % self.cpus) for core in range(sockets * cores) for thread in range(threads)]
        own = {self.inverse[cpu] for _, cpu in places if cpu in cpus}
        return sorted({core for core, place in places if place in own})


def shape_of(words):
    """Sockets, cores of one, threads of a core and CPUs, as slurmctld takes a line's words."""
    pairs = {key.lower(): int(value) for key, value in re.findall(r"(\w+)=(\d+)(?=\s|$)", words)}
    cores, threads = pairs.get("corespersocket", 1), pairs.get("threadspercore", 1)
    sockets = pairs.get("sockets") or pairs.get("boards", 1) * pairs.get("socketsperboard", 0)
    sockets = sockets or max(1, pairs.get("cpus", 1) // (cores * threads))
    every = sockets * cores * threads
    cpus = pairs.get("cpus", every)
    return sockets, cores, threads, cpus if cpus in (sockets, sockets * cores, every) else every


def map_of(root, parameters, folder):
    """The map that the slurmd of this host makes of the machine at `root`; None where it makes none."""
    os.makedirs(f"{folder}/spool", exist_ok=True)
    saved = f"{folder}/spool/hwloc_topo_whole.xml"
    if os.path.exists(saved):
        os.remove(saved)
    with open(f"{folder}/slurm.conf", "w", encoding="utf-8") as file:
        file.write(CONF.format(folder=folder, parameters=parameters, host=os.uname().nodename.split(".")[0]))
    with open(f"{folder}/cgroup.conf", "w", encoding="utf-8") as file:
        file.write("ConstrainCores=no\n")
    environment = {**os.environ, "HWLOC_FSROOT": root, "HWLOC_COMPONENTS": "-x86", "SLURM_CONF": f"{folder}/slurm.conf"}
    lines = []
    # One that is told to end while it starts may not heed it.
    with subprocess.Popen(["timeout", "-k", "1", "20", "slurmd", "-D", "-vvvvvv", "-N", "n1"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", env=environment) as slurmd:
        for line in slurmd.stdout:
            is_of_map = "CPU map[" in line or "CPUs:" in line
            if lines and not is_of_map:
                break
            if is_of_map:
                lines.append(line)
        slurmd.terminate()
        slurmd.stdout.read()
    return Map(lines) if lines else None
