#!/usr/bin/env python3
"""Have a framework's own code place a worker, and print the CPUs that the worker may use then.

    module.py FOLDER CASE [VALUE]

FOLDER holds the modules as their wheels have them.  What they ask of CUDA, NVML and their own packages is answered by
stand-ins: the GPUs of /sys, by address, of which a program sees those that the variable GPUS numbers.  Everything that
reads or sets a mask is the framework's own code, and the mask that is printed is the kernel's.
"""

import glob
import importlib.util
import multiprocessing
import multiprocessing.spawn
import os
import pathlib
import subprocess
import sys
import types

FOLDER = pathlib.Path(sys.argv[1])
SHOW = "import os; print(','.join(map(str, sorted(os.sched_getaffinity(0)))))"


def stand_in(name, **members):
    """A module of this name, below packages of the names before its last dot."""
    module = types.ModuleType(name)
    module.__path__ = []
    module.__dict__.update(members)
    sys.modules[name] = module
    if "." in name:
        parent, own = name.rsplit(".", 1)
        if parent not in sys.modules:
            stand_in(parent)
        setattr(sys.modules[parent], own, module)
    return module


def load(path, name):
    """A module of FOLDER."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def text(path):
    return pathlib.Path(path).read_text(encoding="utf-8").strip()


def cpus_of(text_list):
    cpus = set()
    for part in filter(None, text_list.split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


class Gpu:
    """A GPU as CUDA and NVML tell of it."""

    def __init__(self, folder):
        self.address = os.path.basename(folder)
        self.node = int(text(f"{folder}/numa_node"))
        domain, bus, device = self.address.split(":")
        self.pci_domain_id, self.pci_bus_id = int(domain, 16), int(bus, 16)
        self.pci_device_id = int(device.split(".")[0], 16)


FOLDERS = sorted(glob.glob("/sys/bus/pci/devices/*"))
ALL = [Gpu(own) for own in FOLDERS if text(f"{own}/vendor") == "0x10de" and text(f"{own}/class").startswith("0x03")]
SEEN = [ALL[int(number)] for number in os.environ["GPUS"].split(",")]


def words(bits):
    """A bitmask in words of 64."""
    number = sum(1 << bit for bit in bits)
    return [number >> shift & (1 << 64) - 1 for shift in (0, 64)]


stand_in(
    "pynvml",
    NVML_AFFINITY_SCOPE_NODE=0,
    NVMLError=RuntimeError,
    nvmlInit=lambda: None,
    nvmlShutdown=lambda: None,
    nvmlDeviceGetHandleByIndex=lambda index: SEEN[index],
    nvmlDeviceGetMemoryAffinity=lambda gpu, _size, _scope: words([gpu.node]),
    nvmlDeviceGetCpuAffinity=lambda gpu, _size: words(cpus_of(text(f"/sys/devices/system/node/node{gpu.node}/cpulist"))),
)
stand_in(
    "torch",
    accelerator=types.SimpleNamespace(
        is_available=lambda: True, current_accelerator=lambda: "cuda", device_count=lambda: len(SEEN)
    ),
    cuda=types.SimpleNamespace(is_available=lambda: True, _get_nvml_device_index=lambda index: index),
    get_device_module=lambda _: types.SimpleNamespace(get_device_properties=lambda index: SEEN[index]),
)


def spawn_below(context):
    """The mask of a worker that a framework starts by another executable."""
    multiprocessing.set_start_method("spawn")
    with context:
        executable = os.fsdecode(multiprocessing.spawn.get_executable())
        return subprocess.run([executable, "-c", SHOW], check=True, capture_output=True, text=True).stdout.strip()


def torchrun(mode):
    stand_in("torch._utils_internal", signpost_event=lambda *_, **__: None)
    numa = load("torch/numa/binding.py", "torch.numa.binding")
    options = numa.NumaOptions(affinity_mode=numa.AffinityMode(mode))
    command = numa._maybe_wrap_command_args_with_numa_binding(
        (sys.executable, "-c", SHOW), device_index=0, numa_options=options
    )
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def vllm(nodes=None, cpus=None):
    envs = types.SimpleNamespace(VLLM_WORKER_MULTIPROC_METHOD="spawn")
    stand_in("vllm", envs=envs)
    stand_in(
        "vllm.platforms",
        current_platform=types.SimpleNamespace(
            is_cuda_alike=lambda: True, get_all_device_numa_nodes=lambda: [gpu.node for gpu in SEEN]
        ),
    )
    process = types.SimpleNamespace(cpu_affinity=lambda: sorted(os.sched_getaffinity(0)))
    stand_in("psutil", Process=lambda _: process, cpu_count=os.cpu_count, Error=OSError)
    numa = load("vllm/utils/numa_utils.py", "vllm.utils.numa_utils")
    (FOLDER / "vllm/utils/numa_wrapper.sh").chmod(0o755)
    config = types.SimpleNamespace(
        parallel_config=types.SimpleNamespace(
            numa_bind=True,
            numa_bind_nodes=nodes and [int(nodes)],
            numa_bind_cpus=cpus and [cpus],
            get_local_gpu_index=lambda local_rank, _: local_rank,
        )
    )
    try:
        return spawn_below(numa.configure_subprocess(config, 0))
    except RuntimeError as error:
        return f"RuntimeError: {error}"


def sglang(node=None):
    load("sglang/srt/environ.py", "sglang.srt.environ")
    stand_in("sglang.srt.server_args", ServerArgs=object)
    stand_in("sglang.srt.utils", is_cuda=lambda: True, is_xpu=lambda: False, get_cpu_ids_by_node=lambda: [])
    numa = load("sglang/srt/utils/numa_utils.py", "sglang.srt.utils.numa_utils")
    arguments = types.SimpleNamespace(numa_node=node and [int(node)])
    return spawn_below(numa.configure_subprocess(arguments, 0))


def accelerate():
    stand_in("packaging.version", parse=str)
    stand_in("accelerate")
    stand_in(
        "accelerate.utils",
        is_amdsmi_available=lambda: False,
        is_pynvml_available=lambda: True,
        is_rocm_available=lambda: False,
    )
    own = load("accelerate/utils/environment.py", "accelerate.utils.environment")
    own.override_numa_affinity(0)
    return ",".join(map(str, sorted(os.sched_getaffinity(0))))


CASES = {"torchrun": torchrun, "vllm": vllm, "sglang": sglang, "accelerate": accelerate}
print(CASES[sys.argv[2]](*sys.argv[3:]))
