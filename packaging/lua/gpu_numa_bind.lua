--[[
  What cli_filter.lua and job_submit.lua of gpu-numa-bind share: which policy holds for a job, and whether
  --gres-flags=enforce-binding can be asked for.

  enforce-binding makes Slurm allocate only CPUs of the sockets of a job's GPUs.  A job whose CPUs do not fit there
  would be refused with "Requested node configuration is not available", so it is asked for only where the job fits on
  every kind of host that has GPUs enough, by the table that `gpu-numa fleet --lua-table FILE` writes.  Without that
  table it is asked for only by jobs with one CPU for each GPU at most.

  Nothing here raises an error by itself; the callers call it in pcall all the same.
]]

local M = {}

-- CPUs of each host that Slurm does not give to jobs (CoreSpecCount, CpuSpecList): as many are left out of every area.
M.reserved_cpus = 0

-- The files in which the plugin's line may be; `folder` is where slurm.conf is.
M.plugstack = { "plugstack.conf", "plugstack.conf.d/gpu-numa-bind.conf" }

local STRICT = { ["restricted"] = true, ["single-numa-node"] = true }
local POLICY = { ["off"] = true, ["none"] = true, ["best-effort"] = true }

-- The policy that a text such as "restricted,mem=bind" names; nil where it names none.
local function policy_in(text)
    if type(text) ~= "string" then return nil end
    local found
    for item in text:gmatch("[^,%s]+") do
        item = item:match("^policy=(.*)$") or item
        if STRICT[item] or POLICY[item] then found = item end
    end
    return found
end

-- Lines of a file; none where it cannot be read.
local function lines_of(path)
    local file = io.open(path, "r")
    if not file then return {} end
    local lines = {}
    for line in file:lines() do lines[#lines + 1] = line end
    file:close()
    return lines
end

-- The folders of our files: slurm.conf's, and where a host has its own under configless, for slurmctld serves none of ours.
local function folders_of(folder)
    if folder == "/etc/slurm/" then return { folder } end
    return { folder, "/etc/slurm/" }
end

--[[
  What plugstack.conf says: nil where no line loads the plugin, else `always` and `default` (nil where not given) and
  `locked`, whether users may not choose the policy.
]]
local function site_in(folder)
    for _, name in ipairs(M.plugstack) do
        for _, line in ipairs(lines_of(folder .. name)) do
            local rest = line:match("^%s*%a+%s+%S*gpu_numa_bind[^%s/]*%.so(.*)$")
            if rest and not line:match("^%s*#") then
                rest = rest:gsub("#.*$", "")
                local site = {}
                for word in rest:gmatch("%S+") do
                    local key, value = word:match("^(%a+)=(.*)$")
                    if key == "always" or key == "default" then
                        site[key] = value
                    elseif key == "lock" then
                        for kind in value:gmatch("[^,]+") do
                            if kind == "policy" then site.locked = true end
                        end
                    end
                end
                return site
            end
        end
    end
    return nil
end

function M.site(folder)
    for _, own in ipairs(folders_of(folder)) do
        local site = site_in(own)
        if site then return site end
    end
    return nil
end

--[[
  The policy that holds for a job: `option` is what the user typed (nil where the option was not given, "" without a
  value), `variable` the value of GPU_NUMA_BIND.  nil where binding is asked for by neither user nor site.
]]
function M.policy(site, option, variable)
    if site == nil or (option == nil and site.always == nil) then return nil end
    local own
    if not site.locked then own = policy_in(option) or policy_in(variable) end
    return own or policy_in(site.always) or policy_in(site.default) or "best-effort"
end

function M.is_strict(policy)
    return STRICT[policy] == true
end

-- The kinds of hosts that `gpu-numa fleet --lua-table` wrote; nil where there is no such file or it is none.
function M.hosts(folder)
    for _, own in ipairs(folders_of(folder)) do
        local chunk = loadfile(own .. "gpu_numa_hosts.lua")
        if chunk then
            local fine, hosts = pcall(chunk)
            if not fine or type(hosts) ~= "table" then return nil end
            return hosts
        end
    end
    return nil
end

-- Rounds `count` CPUs up to whole cores.
local function whole_cores(count, threads)
    return math.ceil(count / threads) * threads
end

--[[
  Whether `need` fits on the areas of `kind` beside its GPUs, as few areas as hold the GPUs.  A kind with a GPU whose
  place is not known has no areas.
]]
local function fits_on(kind, need)
    local threads = kind.threads or 1
    local each = need.cpus_per_task
    if need.whole_cores then each = each * threads end
    local cpus = math.max(need.tasks * whole_cores(each, threads), whole_cores(need.least_cpus, threads))
    local areas = {}
    for _, area in ipairs(kind.areas or {}) do
        areas[#areas + 1] = { gpus = area.gpus, cpus = math.max(0, area.cpus - M.reserved_cpus) }
    end
    -- All GPUs in one area where one has enough: then each such area must do, for others may be busy.
    local enough, least = false, nil
    for _, area in ipairs(areas) do
        if area.gpus >= need.gpus then
            enough = true
            least = math.min(least or area.cpus, area.cpus)
        end
    end
    if enough then return cpus <= least end
    -- Slurm 22.05 refuses enforce-binding with --gpus and with --cpus-per-gpu where no area has all the GPUs.
    if not need.may_spread then return false end
    -- Else the areas with most GPUs and fewest CPUs, until there are GPUs enough.
    table.sort(areas, function(a, b)
        if a.gpus ~= b.gpus then return a.gpus > b.gpus end
        return a.cpus < b.cpus
    end)
    local gpus, sum, widest = 0, 0, nil
    for _, area in ipairs(areas) do
        if gpus >= need.gpus then break end
        gpus, sum = gpus + area.gpus, sum + area.cpus
        widest = math.min(widest or area.cpus, area.cpus)
    end
    -- A task with GPUs of its own has its CPUs beside them.
    local is_apart = need.has_own_gpus and whole_cores(each, threads) > (widest or 0)
    return gpus >= need.gpus and cpus <= sum and not is_apart
end

--[[
  Whether enforce-binding can be asked for, and why not.  `need` is what the job asks of one host: `gpus`, `tasks`,
  `cpus_per_task`, `least_cpus`, and `whole_cores` where no two tasks or CPUs may share a core; nil where the request
  says something that is not weighed here.
]]
function M.can_enforce(hosts, need)
    if need == nil then return false, "the request has words that are not weighed" end
    if need.gpus < 1 then return false, nil end
    local cpus = math.max(need.tasks * need.cpus_per_task, need.least_cpus)
    if hosts == nil then
        if cpus <= need.gpus and not need.whole_cores then return true end
        return false, "no table of hosts (gpu-numa fleet --lua-table)"
    end
    local could = false
    for _, kind in ipairs(hosts) do
        if (kind.gpus or 0) >= need.gpus then
            could = true
            if not fits_on(kind, need) then
                return false, string.format("%d CPUs do not fit beside %d GPUs on %s", cpus, need.gpus,
                    tostring(kind.hosts))
            end
        end
    end
    if not could then return false, string.format("no host of the table has %d GPUs", need.gpus) end
    return true
end

-- The GPUs that a list such as "gpu:h100:2,nic:1" or "gres/gpu=4" names; nil where it names none.
function M.gpus_in(text)
    if type(text) ~= "string" then return nil end
    local sum
    for item in text:gmatch("[^,]+") do
        item = item:gsub("%(.*$", ""):gsub("^%s*gres[:/]", ""):gsub("%s", "")
        local rest = item:match("^gpu(.*)$")
        if rest == "" then
            sum = (sum or 0) + 1
        elseif rest and rest:match("^[:=]") then
            sum = (sum or 0) + (tonumber(rest:match("[:=](%d+)$")) or 1)
        end
    end
    return sum
end

-- The GPUs of "2", "h100:2" or "a100:1,h100:1", as --gpus and its like have them; nil where there is none.
function M.count_in(text)
    if type(text) ~= "string" then return nil end
    local sum
    for item in text:gmatch("[^,]+") do
        local number = tonumber(item:match("(%d+)%s*$"))
        if number then sum = (sum or 0) + number end
    end
    return sum
end

-- Whether a text such as "gpu:a100_1g.10gb:2" has a type that ends in a MIG profile: where the parts of a GPU are, and how many there
-- are beside how many CPUs, the table does not say.
function M.has_mig(text)
    return type(text) == "string" and text:lower():match("%d+g%.%d+gb") ~= nil
end

--[[
  What a job asks of one host, of numbers that are nil where not given: `nodes` (the fewest), `tasks`,
  `tasks_per_node`, `tasks_per_gpu`, `cpus_per_task`, `cpus_per_gpu`, `least_cpus`, `gpus_per_node`, `gpus_per_task`
  and `gpus` (of the job).
]]
function M.need_of(job)
    local nodes = job.nodes or 1
    local gpus = job.gpus_per_node
    if not gpus and job.gpus then gpus = math.ceil(job.gpus / nodes) end
    local tasks = job.tasks_per_node
    if not tasks and job.tasks then tasks = math.ceil(job.tasks / nodes) end
    if not tasks and job.tasks_per_gpu and gpus then tasks = job.tasks_per_gpu * gpus end
    if not tasks and job.gpus_per_task and gpus then tasks = math.ceil(gpus / job.gpus_per_task) end
    tasks = tasks or 1
    if not gpus and job.gpus_per_task then gpus = job.gpus_per_task * tasks end
    if not gpus and job.tasks_per_gpu then gpus = math.ceil(tasks / job.tasks_per_gpu) end
    gpus = gpus or 0
    return {
        gpus = gpus,
        tasks = tasks,
        cpus_per_task = job.cpus_per_task or 1,
        least_cpus = math.max(job.least_cpus or 0, (job.cpus_per_gpu or 0) * gpus),
        whole_cores = job.whole_cores,
        has_own_gpus = job.gpus_per_task ~= nil,
        may_spread = (job.gpus_per_node or job.gpus_per_task) and not job.gpus and not job.cpus_per_gpu,
    }
end

return M
