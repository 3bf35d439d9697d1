--[[
  Slurm's cli_filter for --gpu-numa-bind: asks for what a strict policy needs.

  `restricted` and `single-numa-node` refuse a step whose GPUs have no local CPU in it.  Slurm hands out such
  steps unless it is told not to, so this adds, on srun, sbatch and salloc:
    --gres-flags=enforce-binding   allocate only CPUs by the GPUs; only where the job fits there (gpu_numa_bind.lua)
    --kill-on-bad-exit=1           (srun) end the whole step when one host refuses it
  Neither replaces what the user typed, and what is added is said.  enforce-binding is left out where a job asks for a
  whole host, which has the CPUs anyway, and for a step of a job that runs already.

  The policy is the one that the plugin goes by: the option, GPU_NUMA_BIND, and `always=`, `default=` and `lock=` of the
  plugin's line in plugstack.conf on this host.  Where no line loads the plugin, nothing is added.

  To install: copy this, gpu_numa_bind.lua and the table (gpu_numa_hosts.lua) to the folder of slurm.conf, or take the
  functions below into the site's own, and set CliFilterPlugins=cli_filter/lua in slurm.conf.  It must be on every
  submit host.  A filter that fails stops every submission, so nothing here can raise an error: each access is checked,
  and pre_submit is called in pcall.
]]

local FOLDER = debug and debug.getinfo(1, "S").source:match("^@(.*/)") or "/etc/slurm/"
-- Slurm keeps options of SPANK plugins under "name:plugin_name", by the plugin's own name.
local OPTION, PLUGIN = "gpu-numa-bind", "gpu_numa_bind"

-- What the user typed; nil when the option was not given, "" without a value.
local function asked(options)
    local spank = options["spank"]
    if type(spank) ~= "table" then return nil end
    local plugin = spank[PLUGIN]
    if type(plugin) ~= "table" then return nil end
    local value = plugin[OPTION]
    -- Slurm says "set" for an option without a value.
    if value == "set" or value == "(null)" then return "" end
    return value
end

local function is_unset(value)
    return value == nil or value == "" or value == "(null)" or value == "unset" or value == "-2"
end

local function number(options, name)
    local value = options[name]
    if is_unset(value) then return nil end
    local found = tonumber((tostring(value):match("^(%d+)")))
    -- Slurm gives 0 for several that were not given.
    if found == 0 then return nil end
    return found
end

-- What the job asks of one host; nil where it has words that say more than is weighed.
local function need_of(ours, options)
    for _, name in ipairs({ "gres", "gpus", "gpus-per-node", "gpus-per-task", "tres-per-task" }) do
        if ours.has_mig(options[name]) then return nil end
    end
    for _, name in ipairs({ "gpus-per-socket", "sockets-per-node", "cores-per-socket", "extra-node-info",
                            "ntasks-per-socket" }) do
        if not is_unset(options[name]) and options[name] ~= "0" then return nil end
    end
    -- One core of each socket.
    if options["hint"] == "memory_bound" then return nil end
    local counts = {}
    for _, name in ipairs({ "gpus", "gpus-per-node", "gpus-per-task" }) do
        if not is_unset(options[name]) then counts[#counts + 1] = options[name] end
    end
    local lists = {}
    for _, name in ipairs({ "gres", "tres-per-task" }) do
        if not is_unset(options[name]) then lists[#lists + 1] = options[name] end
    end
    local kind, several = ours.type_of(lists, counts)
    if several then return nil end
    local whole = number(options, "threads-per-core") == 1 or number(options, "ntasks-per-core") == 1
        or options["hint"] == "nomultithread"
    -- sbatch says one task where nobody typed a number, and slurmctld then counts them by the GPUs.
    local tasks = number(options, "ntasks")
    local by_gpus = number(options, "ntasks-per-gpu") or not is_unset(options["gpus-per-task"])
        or ours.gpus_in(options["tres-per-task"]) ~= nil
    if tasks == 1 and by_gpus then tasks = nil end
    return ours.need_of({
        nodes = number(options, "nodes"),
        tasks = tasks,
        tasks_per_node = number(options, "ntasks-per-node"),
        tasks_per_gpu = number(options, "ntasks-per-gpu"),
        cpus_per_task = number(options, "cpus-per-task") or ours.cpus_in(options["tres-per-task"]),
        cpus_per_gpu = number(options, "cpus-per-gpu"),
        least_cpus = number(options, "mincpus"),
        gpus_per_node = ours.gpus_in(options["gres"]) or ours.count_in(options["gpus-per-node"]),
        gpus_per_task = ours.count_in(options["gpus-per-task"]) or ours.gpus_in(options["tres-per-task"]),
        gpus = ours.count_in(options["gpus"]),
        default_cpus_per_gpu = ours.default_cpus_per_gpu(FOLDER),
        type = kind,
        whole_cores = whole,
        is_by_core = number(options, "ntasks-per-core") ~= nil,
    })
end

-- Whether the job asks for a whole host; "exclusive" is also where Slurm says of whose jobs it may have company.
local function has_whole_host(options)
    local value = options["exclusive"]
    return not (is_unset(value) or value == "oversubscribe" or value == "user" or value == "mcs")
end

local function ask(options)
    -- slurmctld serves none of our files to hosts that have no configuration of their own ("configless").
    local chunk, why_not = loadfile(FOLDER .. "gpu_numa_bind.lua")
    chunk = chunk or loadfile("/etc/slurm/gpu_numa_bind.lua")
    if not chunk then error(why_not) end
    local ours = chunk()
    local policy = ours.policy(ours.site(FOLDER), asked(options), os.getenv("GPU_NUMA_BIND"))
    if not ours.is_strict(policy) then return end
    local added = {}
    local is_step = options["type"] == "srun" and os.getenv("SLURM_JOB_ID") ~= nil
    if is_unset(options["gres-flags"]) and not has_whole_host(options) and not is_step then
        local hosts = ours.hosts(FOLDER)
        local can, why = ours.can_enforce(hosts, need_of(ours, options))
        if can then
            options["gres-flags"] = "enforce-binding"
            added[#added + 1] = "--gres-flags=enforce-binding"
        elseif why then
            slurm.log_info("gpu-numa-bind: %s: no --gres-flags=enforce-binding: %s", policy, why)
        end
    end
    if options["type"] == "srun" and is_unset(options["kill-on-bad-exit"]) then
        options["kill-on-bad-exit"] = "1"
        added[#added + 1] = "--kill-on-bad-exit=1"
    end
    if #added > 0 then
        slurm.log_info("gpu-numa-bind: %s: added %s", policy, table.concat(added, " "))
    end
end

function slurm_cli_setup_defaults(options, early)
    return slurm.SUCCESS
end

function slurm_cli_pre_submit(options, pack_offset)
    local fine, why = pcall(ask, options)
    if not fine then slurm.log_info("gpu-numa-bind: cli_filter.lua: %s", tostring(why)) end
    return slurm.SUCCESS
end

function slurm_cli_post_submit(offset, job_id, step_id)
    return slurm.SUCCESS
end
