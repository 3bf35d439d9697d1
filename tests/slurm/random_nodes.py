"""Nodes that nobody thought of: machines, node lines and gres.conf put together at random, the same for the same seed.

`node(seed, series)` gives a `Node`; tests/slurm/gres asks doctor and a real Slurm of each.  Slurm's core numbers are counted here
again, from the declaration alone: by package, then by NUMA node, each by its lowest CPU.
"""
import random
from dataclasses import dataclass, field

MODELS = {"l40s": "NVIDIA L40S", "h100-sxm": "NVIDIA H100 80GB HBM3", "a100-sxm4": "NVIDIA A100-SXM4-40GB"}
TYPES = {"l40s": ["l40s", "L40S", "L40", "nvidia_l40s", "l4"], "h100-sxm": ["h100", "H100", "80gb_hbm3", "nvidia_h100_80gb_hbm3"],
         "a100-sxm4": ["a100", "a100-sxm4", "A100-SXM4-40GB", "sxm"]}


@dataclass
class Node:
    """A host and what its site wrote."""
    about: str
    machine: str                    # tests/machines' form
    names: list                     # the driver's, in the order of the device files
    node: str                       # words of the node's line
    gres: str                       # gres.conf; the host is gpu1
    parameters: str = ""            # SlurmdParameters
    found: str = ""                 # what AutoDetect finds (fake_gpus.conf); nothing where it does not look


@dataclass
class Machine:
    sockets: int
    nodes_per_socket: int
    cores_per_node: int
    threads: int
    model: str
    gpu_nodes: list = field(default_factory=list)
    is_interleaved: bool = False
    is_together: bool = False
    offline: str = ""
    cores_per_l3: int = 0           # none: one cache for each node
    slit: str = "packages"          # which nodes are near each other: "flat", "pairs" of nodes, "halves" of the machine; "none": not recorded
    # Of machines whose parts differ, for each node: cores, threads of each, cores below one cache of the third level (0: no such cache).
    sizes: list = field(default_factory=list)
    threads_of: list = field(default_factory=list)
    l3_of: list = field(default_factory=list)
    cores_per_die: int = 0          # none where 0
    cores_per_cluster: int = 0      # none where 0
    bare_nodes: int = 0             # nodes of memory alone

    @property
    def nodes(self):
        return self.sockets * self.nodes_per_socket

    def size(self, node):
        """A node's cores."""
        return self.sizes[node] if self.sizes else self.cores_per_node

    def threads_on(self, node):
        """The threads of each of a node's cores."""
        return self.threads_of[node] if self.threads_of else self.threads

    @property
    def cores(self):
        return sum(self.size(node) for node in range(self.nodes))

    @property
    def cores_per_socket(self):
        return self.cores // self.sockets

    @property
    def caches(self):
        """How many caches of the third level there are."""
        per = [self.l3_of[node] if self.l3_of else self.cores_per_l3 or self.size(node) for node in range(self.nodes)]
        return sum(-(-self.size(node) // own) for node, own in enumerate(per) if own)

    def cpus(self, node):
        """The first threads of a node's cores, then the second ones; with `is_together` one core after the other."""
        if self.is_interleaved:
            most = max(self.size(other) for other in range(self.nodes))
            order = [other for core in range(most) for other in range(self.nodes) if core < self.size(other)]
        else:
            order = [other for other in range(self.nodes) for _ in range(self.size(other))]
        threads = [(place, thread) for place, other in enumerate(order) for thread in range(self.threads_on(other))]
        if not self.is_together:
            threads.sort(key=lambda own: (own[1], own[0]))
        return [cpu for cpu, (place, _) in enumerate(threads) if order[place] == node]

    def slurm_cores(self, node):
        """Slurm's numbers of a node's cores."""
        first = [min(self.cpus(other)) for other in range(self.nodes)]
        packages = range(self.sockets)
        of = [list(range(p * self.nodes_per_socket, (p + 1) * self.nodes_per_socket)) for p in packages]
        order = [n for p in sorted(packages, key=lambda p: min(first[n] for n in of[p])) for n in sorted(of[p], key=lambda n: first[n])]
        at = sum(self.size(before) for before in order[:order.index(node)])
        return list(range(at, at + self.size(node)))

    def parts(self, node):
        """What a node's cores share."""
        keys = []
        if self.l3_of and self.l3_of[node] != self.size(node):
            keys.append(f"cores_per_l3 = {self.l3_of[node]}")
        elif self.cores_per_l3 and not self.l3_of:
            keys.append(f"cores_per_l3 = {self.cores_per_l3}")
        if self.cores_per_die:
            keys.append(f"cores_per_die = {min(self.cores_per_die, self.size(node))}")
        if self.cores_per_cluster:
            keys.append(f"cores_per_cluster = {self.cores_per_cluster}")
        return "".join(f"{key}, " for key in keys)

    def declare(self):
        cores = "\n".join(
            f"  {{ package = {n // self.nodes_per_socket}, node = {n}, cpus = \"{','.join(map(str, sorted(self.cpus(n))))}\", "
            f"threads = {self.threads_on(n)}, {self.parts(n)}siblings = \"{'together' if self.is_together else 'apart'}\" }},"
            for n in range(self.nodes))
        everyone = range(self.nodes + self.bare_nodes)
        memory = "\n".join(f"  {{ id = {n}, memory = \"8G\" }}," for n in everyone)

        def distance(a, b):
            if a == b:
                return 10
            if max(a, b) >= self.nodes:
                return 25
            if self.slit == "pairs" and a // 2 == b // 2:
                return 11
            if self.slit == "flat":
                return 20
            if a // self.nodes_per_socket == b // self.nodes_per_socket:
                return 12
            return 17 if self.slit == "halves" and 2 * a // self.nodes == 2 * b // self.nodes else 21
        slit = "" if self.slit == "none" else "\n".join(f"  {[distance(a, b) for b in everyone]}," for a in everyone)
        bridges, places = [], []
        for number, node in enumerate(self.gpu_nodes):
            bus = 0x10 + 8 * number
            bridges.append(f"[[bridge]]\nbus = \"{bus:02x}\"\nnode = {node}\ngpus = [{{ at = \"{bus:02x}:01.0 {bus + 1:02x}:00.0\", minor = {number} }}]\n")
            places.append(f"  {{ at = \"0000:{bus + 1:02x}:00.0\", nodes = \"{node}\", by = \"numa_node\" }},")
        pairs = [f"  \"{' '.join('X' if a == b else '-' for b in range(len(self.gpu_nodes)))}\"," for a in range(len(self.gpu_nodes))]
        offline = f"offline = \"{self.offline}\"\n" if self.offline else ""
        return (f"about = \"made at random\"\n{offline}"
                "processor = { arch = \"x86_64\", vendor = \"GenuineIntel\", family = 6, model = 143 }\n"
                f"cores = [\n{cores}\n]\nnodes = [\n{memory}\n]\nslit = [\n{slit}\n]\n"
                f"models = {{ gpu = \"{self.model}\", port = \"port-spr\" }}\n\n[driver]\nversion = \"570.86.15\"\n\n"
                + "\n".join(bridges) + f"\n[truth]\ngpus = [\n" + "\n".join(places) + "\n]\npairs = [\n" + "\n".join(pairs) + "\n]\nnccl = \"package\"\n")


def ranges(numbers):
    """0,1,2,5 as 0-2,5, in the order given."""
    parts = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


def members(text):
    """0-2,5 as 0, 1, 2, 5."""
    parts = [part.split("-") for part in text.split(",") if part]
    return [number for part in parts for number in range(int(part[0]), int(part[-1]) + 1)]


class Maker:
    """The choices of one node."""

    def __init__(self, seed, series):
        self.series = series
        self.random = random.Random(seed)
        # Its own, so that what was made of a seed stays the same but for this.
        self.shape = random.Random(f"shape {seed}")
        # So is this, for machines whose parts differ.
        self.unequal = random.Random(f"unequal {seed}")
        self.is_unequal = self.unequal.randrange(2) == 0
        self.about = []

    def one_of(self, *choices):
        return self.random.choice(choices)

    def chance(self, of):
        return self.random.randrange(of) == 0

    def say(self, word):
        self.about.append(word)
        return word

    def make_machine(self):
        own = Machine(self.one_of(1, 2, 2, 2, 4), self.one_of(1, 1, 2, 4), self.one_of(1, 2, 3, 4), self.one_of(1, 2),
                      self.one_of(*MODELS))
        own.is_interleaved, own.is_together = self.chance(4), self.chance(4)
        count = self.one_of(1, 2, 4, 4, 8)
        own.gpu_nodes = sorted(self.random.randrange(own.nodes) for _ in range(count))
        if self.chance(4):
            self.random.shuffle(own.gpu_nodes)
        if own.cores_per_node % 2 == 0 and self.chance(4):
            own.cores_per_l3 = own.cores_per_node // 2
        if self.chance(12) and own.cores > 2:
            own.offline = str(self.random.choice([cpu for n in range(own.nodes) for cpu in own.cpus(n) if cpu]))
            self.say("offline")
        own.slit = self.shape.choice(["packages", "packages", "packages", "flat", "pairs", "halves"])
        if own.slit != "packages":
            self.say(own.slit)
        # A node without any CPU left; Linux never takes CPU 0 away.
        bare = [own.cpus(node) for node in range(own.nodes) if 0 not in own.cpus(node)]
        if bare and not own.offline and self.shape.randrange(12) == 0:
            own.offline = ",".join(map(str, self.shape.choice(bare)))
            self.say("a node offline")
        if self.is_unequal:
            self.make_unequal(own)
        return own

    def make_unequal(self, own):
        """Makes parts of the machine differ, or takes from it what most machines have."""
        choose = self.unequal
        kinds = choose.sample(["sockets", "nodes", "threads", "caches", "caches of sockets", "no caches", "dies", "clusters",
                               "memory alone", "no distances", "offline CPUs"], choose.choice([1, 1, 2, 2, 3]))
        each = range(own.nodes)
        for kind in sorted(kinds):
            self.say(f"unequal: {kind}")
            if kind == "sockets":
                of = [choose.choice([1, 2, 3, 4]) for _ in range(own.sockets)]
                own.sizes = [of[node // own.nodes_per_socket] for node in each]
            elif kind == "nodes":
                own.sizes = [choose.choice([1, 2, 3, 4]) for _ in each]
            elif kind == "threads":
                own.threads_of = [choose.choice([1, 2]) for _ in each]
        for kind in sorted(kinds):
            sizes = [own.size(node) for node in each]
            if kind == "caches":
                own.l3_of = [choose.choice([0, 1, 2, size]) for size in sizes]
            elif kind == "caches of sockets":
                of = [choose.choice([0, 1, 2, 8]) for _ in range(own.sockets)]
                own.l3_of = [min(sizes[node], of[node // own.nodes_per_socket]) for node in each]
            elif kind == "no caches":
                own.l3_of = [0 for _ in each]
            elif kind == "dies":
                own.cores_per_die = choose.choice([1, 2, 8])
            elif kind == "clusters":
                own.cores_per_cluster = choose.choice([1, 2, 3, 8])
            elif kind == "memory alone":
                own.bare_nodes = choose.choice([1, 2])
            elif kind == "no distances":
                own.slit = "none"
            elif kind == "offline CPUs":
                cpus = [cpu for node in each for cpu in own.cpus(node) if cpu]
                if cpus:
                    own.offline = ",".join(map(str, sorted(choose.sample(cpus, choose.randrange(1, len(cpus) // 2 + 2)))))
            elif kind in ("sockets", "nodes", "threads") and "offline CPUs" not in kinds:
                # Chosen before the numbers were others.
                own.offline = ""

    def make_geometry(self, own):
        """The words for sockets and cores, and SlurmdParameters."""
        exact = (own.sockets, own.cores_per_socket)
        nodes = (own.nodes, own.cores_per_node)
        caches = (own.caches or 1, own.cores // (own.caches or 1))
        kind = self.say(self.one_of("exact", "exact", "exact", "exact", "nodes", "nodes", "nodes", "nodes-not-told", "packages-of-nodes",
                                    "caches", "boards", "cpus-alone", "cpus-alone", "no-sockets", "one-socket", "fewer-sockets", "fewer-cores", "more-cores",
                                    "fewer-threads", "more-threads", "overrides", "cores-for-cpus", "wrong-cpus"))
        if self.is_unequal and self.unequal.randrange(2) == 0:
            kind = self.say(self.unequal.choice(["nodes", "caches", "caches", "exact"]))
        sockets, cores = nodes if kind in ("nodes", "nodes-not-told") else caches if kind == "caches" else exact
        threads = own.threads
        parameters = {"nodes": "numa_node_as_socket", "packages-of-nodes": "numa_node_as_socket", "overrides": "config_overrides", "caches": "l3cache_as_socket"}.get(kind, "")
        cpus = ""
        if kind == "boards" and sockets % 2 == 0:
            return f"Boards=2 SocketsPerBoard={sockets // 2} CoresPerSocket={cores} ThreadsPerCore={threads}", parameters
        if kind == "cpus-alone":
            return f"CPUs={self.one_of(sockets * cores * threads, sockets * cores)}", parameters
        if kind == "no-sockets":
            return f"CPUs={sockets * cores * threads} CoresPerSocket={cores} ThreadsPerCore={threads}", parameters
        if kind == "one-socket":
            sockets, cores = 1, sockets * cores
        elif kind == "fewer-sockets":
            sockets = max(1, sockets // 2)
        elif kind == "fewer-cores":
            cores = max(1, cores - 1)
        elif kind == "more-cores":
            cores += 1
        elif kind == "fewer-threads":
            threads = 1
        elif kind == "more-threads":
            threads += 1
        elif kind == "overrides":
            sockets, cores = self.one_of((sockets * 2, cores), (sockets, cores * 2), (sockets, cores))
        elif kind == "cores-for-cpus":
            cpus = f"CPUs={sockets * cores} "
        elif kind == "wrong-cpus":
            cpus = f"CPUs={max(1, sockets * cores * threads - 1)} "
        if not cpus and self.chance(3):
            cpus = f"CPUs={sockets * cores * threads} "
        return f"{cpus}Sockets={sockets} CoresPerSocket={cores} ThreadsPerCore={threads}", parameters

    def make_gres_item(self, own, kinds):
        count = len(own.gpu_nodes)
        if self.chance(8):
            count = max(1, count + self.say(self.one_of(-1, 1, 2)))
        kind = self.one_of(None, *kinds)
        if kind and self.chance(5) and count > 1:
            other = self.one_of(*TYPES[own.model], "t4")
            self.say("two types")
            item = f"gpu:{kind}:{count // 2},gpu:{other}:{count - count // 2}"
        elif kind:
            item = f"gpu:{kind}:{'no_consume:' if self.chance(12) else ''}{count}"
        else:
            item = self.one_of("gpu", "gpu") + f":{count}"
        if self.chance(10):
            item += f"(S:0-{max(0, own.sockets - 1)})"
        if self.chance(8):
            item += ",shard:" + str(2 * count)
        return item, kind

    def make_cores(self, own, node):
        """The cores of a line for a GPU on `node`, None for no key."""
        near = own.slurm_cores(node)
        of_socket = [core for n in range(own.nodes) if n // own.nodes_per_socket == node // own.nodes_per_socket for core in own.slurm_cores(n)]
        of_socket.sort()
        every = list(range(own.cores))
        kind = self.one_of("near", "near", "socket", "socket", "socket", "socket", "none", "all", "part", "two-sockets", "beyond", "last", "backwards", "shuffled", "singles")
        if kind not in ("near", "socket", "none"):
            self.say(kind)
        if kind == "none":
            return None
        if kind == "near":
            return ranges(near)
        if kind == "all":
            return ranges(every)
        if kind == "part":
            return ranges(sorted(self.random.sample(every, self.random.randrange(1, len(every) + 1))))
        if kind == "two-sockets":
            return ranges(every[:min(len(every), 2 * own.cores_per_socket)])
        if kind == "beyond":
            return ranges([core + own.cores for core in of_socket])
        if kind == "last":
            return str(own.cores - 1)
        if kind == "backwards":
            return ranges(of_socket[::-1])
        if kind == "shuffled":
            return ranges(self.random.sample(of_socket, len(of_socket)))
        if kind == "singles":
            return ",".join(map(str, of_socket))
        return ranges(of_socket)

    def make_lines(self, own, kinds, declared):
        """Lines by hand, in groups of neighbours on the same node."""
        count = len(own.gpu_nodes)
        groups = []
        how = self.one_of("node", "node", "each", "all")
        for number, node in enumerate(own.gpu_nodes):
            if groups and (how == "all" or how == "node" and groups[-1][1] == node):
                groups[-1][0].append(number)
            else:
                groups.append([[number], node])
        if self.chance(8):
            self.random.shuffle(groups)
            self.say("lines out of order")
        if self.chance(10) and len(groups) > 1:
            groups.pop()
            self.say("a line missing")
        if self.chance(14):
            groups.append(groups[0])
            self.say("a line twice")
        kind = declared if self.chance(2) else self.one_of(None, *kinds)
        lines = []
        flags = self.one_of("", "", "", "", "nvidia_gpu_env", "env_uuid", "nvidia_gpu_env,opencl_env")
        if flags:
            self.say(flags)
        cores_of = {}
        for numbers, node in groups:
            if node not in cores_of or self.chance(6):
                cores_of[node] = self.make_cores(own, node)
            cores = cores_of[node]
            word = self.one_of("Name=gpu", "Name=gpu", "name=gpu", "NAME=gpu")
            if kind and not self.chance(20):
                word += f" Type={kind}"
            files = f"/dev/nvidia[{numbers[0]}-{numbers[-1]}]" if numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) > 1 else \
                ",".join(f"/dev/nvidia{n}" for n in numbers) if self.chance(2) else f"/dev/nvidia[{','.join(map(str, numbers))}]"
            if self.chance(25):
                files = "/dev/nvidia77"
                self.say("no such file")
            word += f" {self.one_of('File', 'File', 'file', 'Files')}={files}"
            if cores and self.has_cores:
                word += f" {self.one_of('Cores', 'Cores', 'COREs', 'CPUs')}={cores}"
            if self.chance(8):
                word += f" Count={len(numbers) + (self.say('wrong count') and 1 if self.chance(3) else 0)}"
            if self.chance(10) and len(numbers) == 1:
                links = ["0"] * (count + self.one_of(0, 0, 0, 1))
                links[numbers[0]] = "-1"
                word += f" Links={','.join(links)}"
                self.say("links")
            if flags and not self.chance(4):
                word += f" Flags={flags}"
            if self.chance(8):
                word = "NodeName=gpu[1-3] " + word
            elif self.chance(10):
                word = word.replace(" File", " \\\n   File")
            if self.chance(10):
                word += "   # a comment"
            lines.append(word)
        if self.chance(8):
            lines.append("NodeName=gpu[8-9] Name=gpu File=/dev/nvidia[0-7] Cores=0-999")
        return lines

    def as_people_write(self, words):
        """The same with other letters and blanks."""
        kind = self.one_of("", "", "", "lower", "upper", "blanks", "tabs")
        if kind in ("lower", "upper"):
            pairs = (pair.split("=", 1) for pair in words.split(" "))
            words = " ".join(f"{key.lower() if kind == 'lower' else key.upper()}={value}" for key, value in pairs)
        elif kind:
            words = words.replace(" ", "   " if kind == "blanks" else "\t")
        return words

    def make(self):
        own = self.make_machine()
        kinds = TYPES[own.model]
        geometry, parameters = self.make_geometry(own)
        item, declared = self.make_gres_item(own, kinds)
        words = f"{geometry} Gres={item}"
        if self.chance(8) and own.cores > 1:
            words += f" CoreSpecCount={self.say('kept') and 1}"
        elif self.chance(8):
            last = own.cores * own.threads - 1
            words += f" CpuSpecList={self.say('list kept') and self.one_of('0', str(last), f'0,{last}')}"
        # slurmctld of an older series reads no line that has it.
        if self.chance(8) and self.series >= (24, 5):
            words += f" RestrictedCoresPerGPU={self.say('cores for GPUs') and self.one_of(1, 1, 2)}"
        if self.chance(10):
            words += f" MemSpecLimit={self.one_of(1, 500)} RealMemory=900"
        if self.chance(10):
            words += " Feature=a,b Weight=7"
        # slurmctld reads gres.conf for cloud nodes, has none in this check, and stops where shards have no GPU.
        if self.chance(20) and "shard" not in item:
            words += " State=CLOUD"
            self.say("cloud")
        if self.is_unequal and parameters and self.series >= (25, 11) and self.unequal.randrange(3) == 0:
            words += f" Parameters={parameters}"
            parameters = ""
            self.say("of the line")
        words = self.as_people_write(words)
        detection = self.one_of("", "", "", "nvml", "nvml", "nvml", "off", "beside", "beside")
        # Slurm's fake_gpus.conf has cores in its own numbers, where a line's have become the machine's.
        self.has_cores = detection != "beside" or (own.threads == 1 and not own.is_interleaved)
        lines = []
        if detection in ("nvml", "beside"):
            lines.append(self.one_of("AutoDetect=nvml", "AutoDetect=nvml", "autodetect=NVML"))
        elif detection == "off":
            lines.append("AutoDetect=off")
        if detection == "nvml" and self.chance(4):
            lines += self.one_of([f"Name=gpu Type={declared or kinds[0]}"], ["Name=gpu"], ["Name=gpu Count=2"], ["NodeName=gpu[1-3] AutoDetect=nvml"], ["NodeName=gpu2 AutoDetect=off"])
            self.say("a line without files")
        elif detection != "nvml":
            lines += self.make_lines(own, kinds, declared)
        if "shard" in item:
            gpus = len(own.gpu_nodes)
            lines += self.one_of([f"Name=shard Count={2 * gpus}"], [f"Name=shard Count={2 * gpus}"], [f"Name=shard Count={3 * gpus}"], [],
                                 [f"Name=shard Count={gpus}"], [f"Name=shard Count={2 * gpus} File=/dev/nvidia[0-{gpus - 1}]"],
                                 [f"Name=shard Count=2 File=/dev/nvidia{n}" for n in range(gpus)], [f"Name=shard Count={2 * gpus} File=/dev/nvidia0"])
        self.say(detection or "by hand")
        names = [MODELS[own.model]] * len(own.gpu_nodes)
        if self.chance(6):
            other = self.one_of(*MODELS.values())
            names = [other if self.chance(2) else own_name for own_name in names]
            self.say("several models")
        links = [["-1" if a == b else "0" for b in range(len(own.gpu_nodes))] for a in range(len(own.gpu_nodes))]
        found = "".join(f"{names[number].lower().replace(' ', '_')}|{own.cores}|{ranges(own.slurm_cores(node))}|{','.join(links[number])}|/dev/nvidia{number}\n"
                        for number, node in enumerate(own.gpu_nodes))
        return Node(", ".join(map(str, self.about)), own.declare(), names, words, "\n".join(lines) + "\n", parameters,
                    found if detection in ("nvml", "beside") else "")


def node(seed, series):
    """The node of a seed for a series of Slurm, such as (24, 11)."""
    return Maker(seed, series).make()
