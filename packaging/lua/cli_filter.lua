--[[
  Slurm's cli_filter for --gpu-numa-bind: asks for what a strict policy needs.

  `restricted` and `single-numa-node` refuse a step whose GPUs have no local CPU in it.  Slurm hands out such
  steps unless it is told not to, so this adds, on srun, sbatch and salloc:
    --gres-flags=enforce-binding   allocate only CPUs by the GPUs
    --kill-on-bad-exit=1           (srun) end the whole step when one host refuses it
  Neither replaces what the user typed.  enforce-binding is left out where a job asks for a whole host, which
  has the CPUs anyway.

  To install: copy to /etc/slurm/cli_filter.lua, or take the functions below into the site's own, and set
  CliFilterPlugins=cli_filter/lua in slurm.conf.  It must be on every submit host.  A filter that fails stops
  every submission, so nothing here can raise an error: each access is checked, and pre_submit is called in pcall.
]]

local STRICT = { ["restricted"] = true, ["single-numa-node"] = true }
-- Slurm keeps options of SPANK plugins under "name:plugin_name", by the plugin's own name.
local OPTION, PLUGIN = "gpu-numa-bind", "gpu_numa_bind"

-- The items of a text such as "restricted,mem=bind".
local function has_strict(text)
    if type(text) ~= "string" then return false end
    for item in text:gmatch("[^,%s]+") do
        if STRICT[item] then return true end
    end
    return false
end

-- Whether a text names any policy, so that the next source is not asked for one.
local function has_policy(text)
    if type(text) ~= "string" then return false end
    for item in text:gmatch("[^,%s]+") do
        if STRICT[item] or item == "none" or item == "best-effort" or item == "off" then return true end
    end
    return false
end

-- What the user typed; nil when the option was not given.
local function asked(options)
    local spank = options["spank"]
    if type(spank) ~= "table" then return nil end
    local plugin = spank[PLUGIN]
    if type(plugin) ~= "table" then return nil end
    return plugin[OPTION]
end

local function is_strict(options)
    local value = asked(options)
    if value == nil then return false end
    if has_policy(value) then return has_strict(value) end
    return has_strict(os.getenv("GPU_NUMA_BIND"))
end

local function is_unset(value)
    return value == nil or value == "" or value == "(null)" or value == "unset" or value == "-2"
end

local function ask(options)
    if not is_strict(options) then return end
    if is_unset(options["gres-flags"]) and is_unset(options["exclusive"]) then
        options["gres-flags"] = "enforce-binding"
    end
    if options["type"] == "srun" and is_unset(options["kill-on-bad-exit"]) then
        options["kill-on-bad-exit"] = "1"
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
