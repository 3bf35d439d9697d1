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

-- DefCpuPerGPU where slurm.conf is not beside these files; 0 where it is read from there.
M.cpus_per_gpu = 0

-- For types of gres.conf that are no part of the GPU's product name: what to look for in that name, such as { big = "h100" }.
M.types = {}

-- The files in which the plugin's line may be; `folder` is where slurm.conf is.
M.plugstack = { "plugstack.conf", "plugstack.conf.d/gpu-numa-bind.conf" }

local STRICT = { ["restricted"] = true, ["single-numa-node"] = true }
local POLICY = { ["off"] = true, ["none"] = true, ["best-effort"] = true }

-- The policy that a text such as "restricted,mem=bind" names, the first as for the plugin; nil where it names none.
local function policy_in(text)
    if type(text) ~= "string" then return nil end
    for item in text:gmatch("[^,%s]+") do
        if STRICT[item] or POLICY[item] then return item end
    end
    return nil
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

-- The largest DefCpuPerGPU of a file of slurm.conf's language and of those that it includes; 0 where they have none.
local function cpus_per_gpu_in(folder, name, depth)
    local most = 0
    for _, line in ipairs(lines_of(name:match("^/") and name or folder .. name)) do
        line = line:gsub("#.*$", "")
        for count in line:lower():gmatch("defcpupergpu%s*=%s*(%d+)") do most = math.max(most, tonumber(count)) end
        local other = line:match("^%s*[Ii][Nn][Cc][Ll][Uu][Dd][Ee]%s+(%S+)")
        if other and depth < 4 then most = math.max(most, cpus_per_gpu_in(folder, other, depth + 1)) end
    end
    return most
end

--[[
  How many CPUs Slurm gives a job with each GPU where the job names none (DefCpuPerGPU, of the cluster or of the partition
  that has most); nil where it is not set.
]]
function M.default_cpus_per_gpu(folder)
    for _, own in ipairs(folders_of(folder)) do
        local count = math.max(M.cpus_per_gpu, cpus_per_gpu_in(own, "slurm.conf", 0))
        if count > 0 then return count end
    end
    return nil
end

--[[
  Whether srun, sbatch and salloc weigh jobs by cli_filter.lua of ours: slurm.conf has the Lua filter on, and the file has our part,
  as far as it can be read here.
]]
function M.commands_weigh(folder)
    for _, own in ipairs(folders_of(folder)) do
        for _, line in ipairs(lines_of(own .. "slurm.conf")) do
            local plugins = line:gsub("#.*$", ""):lower():match("^%s*clifilterplugins%s*=%s*(%S+)")
            if plugins and ("," .. plugins .. ","):gsub("cli_filter/", ""):find(",lua,", 1, true) then
                local filter = table.concat(lines_of(own .. "cli_filter.lua"), "\n")
                return filter == "" or filter:find("gpu_numa_bind", 1, true) ~= nil
            end
        end
    end
    return false
end

-- Rounds `count` CPUs up to whole cores.
local function whole_cores(count, threads)
    return math.ceil(count / threads) * threads
end

-- How many GPUs of a type are among `types` of the table, which has a number for each name; a GPU without a name may be of any type.
local function of_type(types, wanted)
    local sum = 0
    for name, count in pairs(types or {}) do
        if name == "" or name:find(wanted, 1, true) then sum = sum + count end
    end
    return sum
end

-- The areas of `kind` as far as they have GPUs of a type (nil for any), and how many GPUs that are.
local function areas_of(kind, wanted)
    local areas, sum = {}, 0
    for _, area in ipairs(kind.areas or {}) do
        local gpus = wanted and of_type(area.types, wanted) or area.gpus
        if gpus > 0 then
            areas[#areas + 1] = { gpus = gpus, cpus = math.max(0, area.cpus - M.reserved_cpus) }
        end
        sum = sum + gpus
    end
    -- Where no place is known the kind counts with all its GPUs, of whatever type.
    if #(kind.areas or {}) == 0 then sum = kind.gpus or 0 end
    return areas, sum
end

-- What to look for in the names of the table for a job's type; nil where no name has it, so that any GPU may be meant.
local function wanted_in(hosts, own)
    if own == nil then return nil end
    local wanted = tostring(M.types[own] or own):lower()
    for _, kind in ipairs(hosts) do
        for _, area in ipairs(kind.areas or {}) do
            for name in pairs(area.types or {}) do
                if name ~= "" and name:find(wanted, 1, true) then return wanted end
            end
        end
    end
    return nil
end

-- So many GPUs, of a type that has a blank behind it.
local function gpus_named(count, named)
    return string.format("%d %sGPU%s", count, named, count == 1 and "" or "s")
end

--[[
  Whether `need` fits on `areas` of `kind` beside its GPUs, as few areas as hold the GPUs; and, where it does not, whether that is
  because Slurm takes no such job on several areas.  A kind with a GPU whose place is not known has no areas.
]]
local function fits_on(kind, areas, need)
    local threads = kind.threads or 1
    local each = need.cpus_per_task
    if need.whole_cores then each = each * threads end
    local cpus = math.max(need.tasks * whole_cores(each, threads), whole_cores(need.least_cpus, threads))
    -- All GPUs in one area where one has enough: then each such area must do, for others may be busy.
    local enough, least = false, nil
    for _, area in ipairs(areas) do
        if area.gpus >= need.gpus then
            enough = true
            least = math.min(least or area.cpus, area.cpus)
        end
    end
    if enough then return cpus <= least end
    -- Slurm 22.05 refuses enforce-binding with --gpus, --cpus-per-gpu and --ntasks-per-core where no area has all the GPUs.
    if not need.may_spread then return false, #areas > 0 end
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
  `cpus_per_task`, `least_cpus`, `type` where it names one, and `whole_cores` where no two tasks or CPUs may share a
  core; nil where the request says something that is not weighed here.
]]
function M.can_enforce(hosts, need)
    if need == nil then return false, "the request has words that are not weighed" end
    if need.gpus < 1 then return false, nil end
    local cpus = math.max(need.tasks * need.cpus_per_task, need.least_cpus)
    if hosts == nil then
        if cpus <= need.gpus and not need.whole_cores then return true end
        return false, "no table of hosts (gpu-numa fleet --lua-table)"
    end
    local could, wanted = false, wanted_in(hosts, need.type)
    local named = wanted and need.type .. " " or ""
    for _, kind in ipairs(hosts) do
        local areas, gpus = areas_of(kind, wanted)
        if gpus >= need.gpus then
            could = true
            local fits, is_refused = fits_on(kind, areas, need)
            if not fits and is_refused then
                return false, string.format("no socket of %s has %s, and Slurm may refuse --gpus, --cpus-per-gpu and " ..
                    "--ntasks-per-core on several", tostring(kind.hosts), gpus_named(need.gpus, named))
            elseif not fits then
                return false, string.format("%d CPU%s not fit beside %s on %s", cpus, cpus == 1 and " does" or "s do",
                    gpus_named(need.gpus, named), tostring(kind.hosts))
            end
        end
    end
    if not could then return false, string.format("no host of the table has %s", gpus_named(need.gpus, named)) end
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

-- The CPUs that a list such as "cpu=4,gres/gpu=1" (--tres-per-task, 23.11 on) names; nil where it names none.
function M.cpus_in(text)
    if type(text) ~= "string" then return nil end
    return tonumber((("," .. text):match(",%s*cpu[:=](%d+)")))
end

-- The GPUs of "2", "h100:2", "h100" or "a100:1,h100:1", as --gpus and its like have them; nil where there is none.
function M.count_in(text)
    if type(text) ~= "string" then return nil end
    local sum
    for item in text:gmatch("[^,]+") do
        local last = item:gsub("%s", ""):match("([^:=]*)$")
        if last ~= "" then sum = (sum or 0) + (tonumber(last:match("^%d+$")) or 1) end
    end
    return sum
end

--[[
  The types of GPUs that a job names, of `lists` such as "gpu:h100:2,nic:1" and "gres/gpu:h100=2" and `counts` such as
  "h100:2": the one that all its GPUs have, nil where it names none; and whether there are several, or some of its GPUs have none.
]]
function M.type_of(lists, counts)
    local seen, number, bare = {}, 0, false
    local function take(rest)
        local own = rest:gsub("^[:=]", "")
        if own:match("^%d*$") then
            bare = true
            return
        end
        own = own:gsub("[:=]%d+$", "")
        if not seen[own] then seen[own], number = true, number + 1 end
    end
    for _, text in pairs(lists) do
        for item in tostring(text):gmatch("[^,]+") do
            item = item:gsub("%(.*$", ""):gsub("^%s*gres[:/]", ""):gsub("%s", "")
            local rest = item:match("^gpu(.*)$")
            if rest and (rest == "" or rest:match("^[:=]")) then take(rest) end
        end
    end
    for _, text in pairs(counts) do
        for item in tostring(text):gmatch("[^,]+") do take((item:gsub("%s", ""))) end
    end
    return next(seen), number > 1 or (number == 1 and bare)
end

-- Whether a text such as "gpu:a100_1g.10gb:2" has a type that ends in a MIG profile: where the parts of a GPU are, and how many there
-- are beside how many CPUs, the table does not say.
function M.has_mig(text)
    return type(text) == "string" and text:lower():match("%d+g%.%d+gb") ~= nil
end

--[[
  What a job asks of one host, of numbers that are nil where not given: `nodes` (the fewest), `tasks`,
  `tasks_per_node`, `tasks_per_gpu`, `cpus_per_task`, `cpus_per_gpu`, `least_cpus`, `gpus_per_node`, `gpus_per_task`,
  `gpus` (of the job), `default_cpus_per_gpu` (of the site) and `type`; `is_by_core` where it says how many tasks a core may have.
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
    -- One CPU for each task is what srun and sbatch say where nothing was typed, too.
    local by_gpu = job.cpus_per_gpu or ((job.cpus_per_task or 1) == 1 and job.default_cpus_per_gpu) or nil
    return {
        gpus = gpus,
        type = job.type,
        tasks = tasks,
        cpus_per_task = job.cpus_per_task or 1,
        least_cpus = math.max(job.least_cpus or 0, (by_gpu or 0) * gpus),
        whole_cores = job.whole_cores,
        has_own_gpus = job.gpus_per_task ~= nil,
        may_spread = (job.gpus_per_node or job.gpus_per_task) and not job.gpus and not by_gpu
            and not job.is_by_core,
    }
end

return M
