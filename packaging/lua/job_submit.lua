--[[
  Slurm's job_submit for --gpu-numa-bind: the same as cli_filter.lua, for jobs that cli_filter does not see, such as
  those that slurmrestd submits.  It asks for enforce-binding where a strict policy holds and the job fits; it changes
  nothing that the user has set, and leaves the jobs of srun, sbatch and salloc to cli_filter.lua where slurm.conf has that on.

  The option comes in the job's environment (SLURM_SPANK__SLURM_SPANK_OPTION_gpu_numa_bind_gpu_numa_bind, as sbatch
  writes it), GPU_NUMA_BIND too, and the site's line from plugstack.conf beside slurm.conf on this host: put the line of
  the compute hosts there, or what is asked by `always=` is not known here.

  To install: copy this, gpu_numa_bind.lua and the table (gpu_numa_hosts.lua) to the folder of slurm.conf on the host of
  slurmctld, or take the functions below into the site's own, and set JobSubmitPlugins=lua in slurm.conf.
]]

local FOLDER = debug and debug.getinfo(1, "S").source:match("^@(.*/)") or "/etc/slurm/"
local OPTION = "_SLURM_SPANK_OPTION_gpu_numa_bind_gpu_numa_bind"

-- A field that holds a number; nil where Slurm says that there is none.
local function number(job, name)
    local value = tonumber(job[name])
    if value == nil or value == 0 then return nil end
    -- NO_VAL and INFINITE of 16, 32 and 64 bits.
    for _, bits in ipairs({ 0x10000, 0x100000000 }) do
        if value >= bits - 16 and value < bits then return nil end
    end
    if value > 0x100000000 then return nil end
    return value
end

local function variable(job, name)
    local environment = job["environment"]
    if type(environment) ~= "table" then return nil end
    return environment[name]
end

-- What the user typed; nil when the option was not given, "" without a value.
local function asked(job)
    local value = variable(job, "SLURM_SPANK_" .. OPTION) or variable(job, OPTION)
    local list = job["spank_job_env"]
    if value == nil and type(list) == "table" then
        for _, line in pairs(list) do
            local name, rest = tostring(line):match("^([^=]*)=(.*)$")
            if name == OPTION then value = rest end
        end
    end
    if value == "(null)" then return "" end
    return value
end

local function need_of(ours, job)
    for _, name in ipairs({ "tres_per_node", "tres_per_task", "tres_per_job" }) do
        if ours.has_mig(job[name]) then return nil end
    end
    if job["tres_per_socket"] or number(job, "sockets_per_node") or number(job, "cores_per_socket")
        or number(job, "ntasks_per_socket") then
        return nil
    end
    local lists = {}
    for _, name in ipairs({ "tres_per_node", "tres_per_task", "tres_per_job" }) do
        if job[name] then lists[#lists + 1] = job[name] end
    end
    local kind, several = ours.type_of(lists, {})
    if several then return nil end
    return ours.need_of({
        nodes = number(job, "min_nodes"),
        tasks = number(job, "num_tasks"),
        tasks_per_node = number(job, "ntasks_per_node"),
        tasks_per_gpu = number(job, "ntasks_per_tres"),
        cpus_per_task = number(job, "cpus_per_task") or ours.cpus_in(job["tres_per_task"]),
        cpus_per_gpu = ours.gpus_in(job["cpus_per_tres"]),
        least_cpus = number(job, "pn_min_cpus"),
        gpus_per_node = ours.gpus_in(job["tres_per_node"]),
        gpus_per_task = ours.gpus_in(job["tres_per_task"]),
        gpus = ours.gpus_in(job["tres_per_job"]),
        default_cpus_per_gpu = ours.default_cpus_per_gpu(FOLDER),
        type = kind,
        is_by_core = number(job, "ntasks_per_core") ~= nil,
        whole_cores = number(job, "threads_per_core") == 1 or number(job, "ntasks_per_core") == 1,
    })
end

-- Whether srun, sbatch or salloc submitted the job: srun and salloc have no script, and sbatch says its host.
local function is_of_command(job)
    return job["script"] == nil or variable(job, "SLURM_SUBMIT_HOST") ~= nil
end

-- Whether a number has a flag; Lua 5.1 has no operator for that.
local function has(flags, flag)
    return flags % (2 * flag) >= flag
end

local function ask(job)
    -- slurmctld serves none of our files to hosts that have no configuration of their own ("configless").
    local chunk, why_not = loadfile(FOLDER .. "gpu_numa_bind.lua")
    chunk = chunk or loadfile("/etc/slurm/gpu_numa_bind.lua")
    if not chunk then error(why_not) end
    local ours = chunk()
    -- That filter has said what it adds, or why it adds nothing, and a second answer would only repeat that.
    if is_of_command(job) and ours.commands_weigh(FOLDER) then return end
    local policy = ours.policy(ours.site(FOLDER), asked(job), variable(job, "GPU_NUMA_BIND"))
    local enforce, disable = slurm.GRES_ENFORCE_BIND, slurm.GRES_DISABLE_BIND
    if not ours.is_strict(policy) or not enforce or not disable then return end
    local flags = tonumber(job["bitflags"])
    -- Lua has the flags as a number of 53 bits: others would be lost where they are written.
    if not flags or flags >= 2 ^ 53 then return end
    -- `shared` is 0 where the job asks for a whole host.
    if has(flags, enforce) or has(flags, disable) or tonumber(job["shared"]) == 0 then return end
    local can, why = ours.can_enforce(ours.hosts(FOLDER), need_of(ours, job))
    if can then
        job["bitflags"] = flags + enforce
        slurm.log_user("gpu-numa-bind: %s: added --gres-flags=enforce-binding", policy)
    elseif why then
        slurm.log_user("gpu-numa-bind: %s: no --gres-flags=enforce-binding: %s", policy, why)
    end
end

function slurm_job_submit(job_desc, part_list, submit_uid)
    local fine, why = pcall(ask, job_desc)
    if not fine then slurm.log_info("gpu-numa-bind: job_submit.lua: %s", tostring(why)) end
    return slurm.SUCCESS
end

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
    return slurm.SUCCESS
end
