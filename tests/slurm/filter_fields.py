#!/usr/bin/env python3
"""Run packaging/lua/job_submit.lua and cli_filter.lua in a plain Lua, with a job as each release of Slurm gives it.

    filter_fields.py

A job has the fields that job_submit_lua.c has in every release from 22.05 to 26.05 (read by tag), and to ask for another is an
error; numbers are Lua's own, and those that nobody gave are NO_VAL.  Takes each liblua that is here, of which Slurm's Lua plugins
need one.  Prints a line for each case, and the last line is `N passed, N failed`.
"""
import ctypes, ctypes.util, os, sys, tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
LIBRARIES = ["liblua5.4.so.0", "liblua5.3.so.0", "liblua5.2.so.0", "liblua5.1.so.0", "liblua-5.4.so", "liblua-5.3.so", "liblua-5.1.so"]

# _get_job_req_field of job_submit_lua.c: what 22.05.8, 23.02.7, 23.11.10, 24.05.8, 24.11.7, 25.05.8, 25.11.7 and 26.05.3 all have.
FIELDS = """account acctg_freq admin_comment alloc_node argc argv array_inx batch_features begin_time bitflags boards_per_node
burst_buffer clusters comment container contiguous cores_per_socket cpu_freq_gov cpu_freq_max cpu_freq_min cpus_per_task
cpus_per_tres cron_job default_account default_qos delay_boot dependency end_time environment exc_nodes extra features gres group_id
het_job_offset immediate licenses mail_type mail_user max_cpus max_nodes mem_per_tres min_cpus min_mem_per_cpu min_mem_per_node
min_nodes name network nice ntasks_per_board ntasks_per_core ntasks_per_gpu ntasks_per_node ntasks_per_socket ntasks_per_tres
num_tasks oversubscribe pack_job_offset partition pn_min_cpus pn_min_memory pn_min_tmp_disk prefer priority qos reboot req_context
req_nodes req_switch requeue reservation script shared site_factor sockets_per_board sockets_per_node spank_job_env
spank_job_env_size std_err std_in std_out threads_per_core time_limit time_min tres_bind tres_freq tres_per_job tres_per_node
tres_per_socket tres_per_task user_id user_name wait4switch wckey work_dir""".split()

# Numbers that nobody gave, by their width (slurm_init_job_desc_msg).
NO_VAL16 = ["cores_per_socket", "cpus_per_task", "ntasks_per_board", "ntasks_per_core", "ntasks_per_node", "ntasks_per_socket",
            "ntasks_per_tres", "pn_min_cpus", "shared", "sockets_per_node", "threads_per_core"]
NO_VAL = ["max_nodes", "min_nodes", "num_tasks"]
OPTION = "SLURM_SPANK__SLURM_SPANK_OPTION_gpu_numa_bind_gpu_numa_bind"
STRICT = {OPTION: "restricted"}
HERE = {"SLURM_SUBMIT_HOST": "login"}
REST = {"script": "#!/bin/sh"}

# name: fields and environment of the job, whether slurm.conf has the Lua filter on, whether enforce-binding is added, and the lines to the user.
JOBS = {
    "slurmrestd: fits": (REST | {"tres_per_node": "gres/gpu:1", "cpus_per_task": 8}, STRICT, True, True, 1),
    "slurmrestd: fits not": (REST | {"tres_per_node": "gres/gpu:1", "cpus_per_task": 9}, STRICT, True, False, 1),
    "slurmrestd: as 22.05 writes it": (REST | {"tres_per_node": "gres:gpu:1", "cpus_per_task": 8}, STRICT, True, True, 1),
    "CPUs of --tres-per-task": (REST | {"tres_per_task": "cpu=9,gres/gpu:1", "num_tasks": 1}, STRICT, True, False, 1),
    "CPUs of --tres-per-task that fit": (REST | {"tres_per_task": "cpu=8,gres/gpu:1", "num_tasks": 1}, STRICT, True, True, 1),
    "sbatch, the filter is on": (REST | {"tres_per_node": "gres/gpu:1", "cpus_per_task": 9}, STRICT | HERE, True, False, 0),
    "sbatch, the filter is off": (REST | {"tres_per_node": "gres/gpu:1", "cpus_per_task": 8}, STRICT | HERE, False, True, 1),
    "srun, the filter is on": ({"tres_per_node": "gres/gpu:1", "cpus_per_task": 9}, STRICT, True, False, 0),
    "srun, the filter is off": ({"tres_per_node": "gres/gpu:1", "cpus_per_task": 9}, STRICT, False, False, 1),
    "flags that a number of Lua does not hold": (REST | {"tres_per_node": "gres/gpu:1", "bitflags": 2.0**60}, STRICT, True, False, 0),
    "a whole host": (REST | {"tres_per_node": "gres/gpu:1", "shared": 0}, STRICT, True, False, 0),
    "no option": (REST | {"tres_per_node": "gres/gpu:1"}, {}, True, False, 0),
}
# name: options as srun and sbatch have them (slurm_option_get; of an unknown one nil), whether enforce-binding is added.
OPTIONS = {
    "--gres": ({"gres": "gres:gpu:1", "cpus-per-task": "8"}, True),
    "--gres that fits not": ({"gres": "gres/gpu:1", "cpus-per-task": "9"}, False),
    "--tres-per-task": ({"tres-per-task": "cpu=8,gres/gpu:1"}, True),
    "--tres-per-task that fits not": ({"tres-per-task": "cpu:9,gres/gpu:1", "ntasks": "1"}, False),
    "--tres-per-task of a MIG instance": ({"tres-per-task": "gres/gpu:1g.10gb:1"}, False),
}
TABLE = "return { { hosts = 'h', gpus = 4, threads = 2, areas = { { gpus = 2, cpus = 8 }, { gpus = 2, cpus = 8 } } } }"
DRIVER = """
local added, lines, faults = nil, {}, {}
local function say(to) return function(...) to[#to + 1] = string.format(...) end end
slurm = setmetatable({ SUCCESS = 0, GRES_DISABLE_BIND = 4.0, GRES_ENFORCE_BIND = 8.0, log_user = say(lines), log_info = say(%(infos)s) },
    { __index = function(_, name) error("slurm has no " .. name) end })
dofile("%(file)s")
local fields = %(fields)s
local job = setmetatable({}, {
    __index = function(_, name)
        if fields.known and not fields.known[name] then error("a job has no " .. name) end
        return fields.values[name]
    end,
    __newindex = function(_, name, value) added = tostring(name) .. "=" .. tostring(value) end })
%(call)s
return tostring(added) .. "\\n" .. #lines .. "\\n" .. table.concat(faults, "; ") .. "\\n" .. table.concat(lines, "; ")
"""


class Lua:
    def __init__(self, library):
        self.library = ctypes.CDLL(library)
        self.library.luaL_newstate.restype = ctypes.c_void_p
        self.library.lua_tolstring.restype = ctypes.c_char_p

    def run(self, text):
        """What the chunk `text` returns, as text; raises its error."""
        library = self.library
        state = ctypes.c_void_p(library.luaL_newstate())
        library.luaL_openlibs(state)
        failed = library.luaL_loadstring(state, text.encode())
        if not failed and hasattr(library, "lua_pcallk"):
            failed = library.lua_pcallk(state, 0, 1, 0, ctypes.c_void_p(0), None)
        elif not failed:
            failed = library.lua_pcall(state, 0, 1, 0)
        said = library.lua_tolstring(state, -1, None)
        said = said.decode() if said else ""
        library.lua_close(state)
        if failed:
            raise RuntimeError(said)
        return said


def quoted(value):
    """A Python value in Lua's words."""
    if isinstance(value, dict):
        return "{ %s }" % ", ".join(f"[{quoted(name)}] = {quoted(own)}" for name, own in value.items())
    if isinstance(value, str):
        return '"%s"' % value.replace("\n", "\\n")
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(float(value))


def job_answer(lua, folder, fields, environment):
    values = dict.fromkeys(NO_VAL16, 0xFFFE) | dict.fromkeys(NO_VAL, 0xFFFFFFFE) | {"bitflags": 0} | fields
    values["environment"] = environment
    known = dict.fromkeys(FIELDS, True)
    return lua.run(DRIVER % {"file": f"{folder}/job_submit.lua", "fields": quoted({"values": values, "known": known}),
                             "infos": "faults", "call": "slurm_job_submit(job, {}, 0)"})


def options_answer(lua, folder, options):
    values = {"type": "sbatch", "spank": {"gpu_numa_bind": {"gpu-numa-bind": "restricted"}}} | options
    return lua.run(DRIVER % {"file": f"{folder}/cli_filter.lua", "fields": quoted({"values": values}),
                             "infos": "lines", "call": "slurm_cli_pre_submit(job, 0)"})


def main():
    libraries = []
    for name in LIBRARIES:
        try:
            libraries.append((name, Lua(name)))
        except OSError:
            continue
    if not libraries:
        sys.exit("filter_fields: no liblua is here, which Slurm's Lua plugins need")
    counts = {True: 0, False: 0}

    def verdict(fine, sentence, answer):
        counts[fine] += 1
        print("ok   " if fine else "FAIL ", sentence, "" if fine else answer.replace("\n", " | "))

    with tempfile.TemporaryDirectory() as folder:
        for name in ["job_submit", "cli_filter", "gpu_numa_bind"]:
            with open(f"{ROOT}/packaging/lua/{name}.lua") as script, open(f"{folder}/{name}.lua", "w") as copy:
                copy.write(script.read())
        with open(f"{folder}/gpu_numa_hosts.lua", "w") as table:
            table.write(TABLE)
        with open(f"{folder}/plugstack.conf", "w") as plugstack:
            plugstack.write("optional gpu_numa_bind.so\n")
        for library, lua in libraries:
            for name, (fields, environment, is_on, is_added, lines) in JOBS.items():
                with open(f"{folder}/slurm.conf", "w") as conf:
                    conf.write("CliFilterPlugins=user_defaults,cli_filter/lua # ours\n" if is_on else "# CliFilterPlugins=lua\n")
                answer = job_answer(lua, folder, fields, environment)
                added, count, faults, _ = answer.split("\n")
                fine = (added != "nil") == is_added and count == str(lines) and not faults
                verdict(fine, f"{library}: {name}", answer)
            for name, (options, is_added) in OPTIONS.items():
                answer = options_answer(lua, folder, options)
                added, count, faults, _ = answer.split("\n")
                verdict((added != "nil") == is_added and count == "1" and not faults, f"{library}: {name}", answer)
    print(f"{counts[True]} passed, {counts[False]} failed")
    return 1 if counts[False] else 0


sys.exit(main())
