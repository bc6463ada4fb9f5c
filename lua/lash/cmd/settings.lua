--- Options and environment variables that run, ask and call share, made effective.
local failure = require "lash.failure"
local options = require "lash.options"

local M = {}

local function variable(name)
    local value = os.getenv(name)
    return value ~= "" and value or nil
end

--- The total deadline in seconds of --timeout or LASH_TIMEOUT; 0 = none.
function M.timeout(opts)
    local text = variable "LASH_TIMEOUT"
    return opts.timeout or (text and options.duration(text, "LASH_TIMEOUT")) or 0
end

-- The request that would be sent, as on the wire but for its key; then the program ends.
local function show_request(request, format)
    local output = require "lash.cmd.output"
    local json = require "lash.json"
    if format == "json" or format == "jsonl" then
        local body = json.verbatim(request.body) or request.body
        output.write(assert(json.encode({ method = request.method, url = request.url, headers = request.headers,
            body = body }, { lossy = true })) .. "\n")
    else
        local lines, names = { request.method .. " " .. request.url }, {}
        for name in pairs(request.headers) do
            names[#names + 1] = name
        end
        table.sort(names)
        for _, name in ipairs(names) do
            lines[#lines + 1] = name .. ": " .. tostring(request.headers[name])
        end
        output.answer(table.concat(lines, "\n") .. "\n\n" .. request.body)
    end
    require("lash.core.system").exit(0)
end

-- A request is shown without a key, too; that there is none is said.
local function show_without_key()
    require("lash.provider.registry").without_key = function(message)
        if require("lash.core.system").verbosity() > 0 then
            require("lash.script").say("the key is missing in this request: " .. message)
        end
    end
end

-- -m and limits hold for every agent of the process.
local function override(opts, format)
    local limits = { turns = opts["max-turns"], tokens = opts["max-tokens"] }
    if not opts.model and not opts["dry-run"] and not opts["no-stream"] and next(limits) == nil then
        return -- nothing to load for
    end
    local overrides = require("lash.run").overrides
    if opts["no-stream"] then
        overrides.stream = false
    end
    if opts["dry-run"] then
        show_without_key()
        overrides.dry_run = function(request)
            show_request(request, format)
        end
    end
    overrides.model = opts.model
    for name, value in pairs(limits) do
        overrides.limits[name] = value
    end
    require("lash.overrides").publish(overrides)
end

--- Makes the options of a command effective: model, limits, workers, dry run.
-- @param format of the output, "text" unless given
function M.apply(opts, format)
    local color = variable "LASH_COLOR"
    if color then
        options.color(color, "LASH_COLOR")
    end
    local watchdog = variable "LASH_WATCHDOG"
    if watchdog then
        require("lash.core.signals").watchdog(options.watchdog(watchdog, "LASH_WATCHDOG"))
    end
    local jobs = variable "LASH_JOBS"
    jobs = opts.jobs or (jobs and options.jobs(jobs, "LASH_JOBS"))
    if jobs then
        require("lash.core.engine").jobs(jobs)
    end
    local memory = variable "LASH_MEMORY"
    memory = opts.memory or (memory and options.memory(memory, "LASH_MEMORY"))
    if memory then
        require("lash.core.engine").memory_limit(memory)
    end
    override(opts, format)
end

--- What is wrong at the end of the program with the turns of -m script:FILE, or nil: one that nobody
-- asked for means that the program did not do what the script expects.
function M.script_fault()
    local player = package.loaded["lash.provider.script"]
    for _, left in ipairs(player and player.unused() or {}) do
        return ("script:%s has %d turns, but only %d were asked for"):format(left.file, left.total, left.used)
    end
    return nil
end

--- The format of the output: "text", "json" or "jsonl"; two different ones are an error.
function M.format(opts)
    local found = opts.output
    for _, name in ipairs { "json", "jsonl" } do
        if opts[name] then
            if found and found ~= name then
                failure.raise(64, "the output cannot be %s and %s at once: keep one", found, name)
            end
            found = name
        end
    end
    return found or "text"
end

return M
